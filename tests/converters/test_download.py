"""Downloads and the zip, against a server of our own that misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from converters import archive, cache, download
from converters.catalogue import NamedSource, Remote
from converters.errors import EnvironmentFailure, SourceError

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()
Seen = list[tuple[str, int, int | None]]


@dataclass
class Served:
    """What a path of the server gives.

    cuts     after how many bytes of the answer it hangs up, request by request.
    ranges   `honest`, `ignored` (always the whole file), or `blind` (a part,
             whatever If-Range says).
    length   the Content-Length that it claims.
    after    what it gives from the second request on.
    """

    body: bytes = BODY
    status: int = 200
    tag: str | None = '"one"'
    ranges: str = "honest"
    cuts: list[int] = field(default_factory=list)
    kind: str = "application/octet-stream"
    length: int | None = None
    delay: float = 0.0
    after: Served | None = None


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    def handle_error(self, *_: object) -> None:
        pass


class Site:
    """A server on this machine; `seen` holds each request's path, Range and If-Range."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.seen: list[tuple[str, str | None, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path: str = "/net.mat") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        span, condition = request.headers.get("Range"), request.headers.get("If-Range")
        self.seen.append((request.path, span, condition))
        served = self.files.get(request.path, Served(b"not here", status=404))
        time.sleep(served.delay)
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        changed = served.ranges == "honest" and condition not in (None, served.tag)
        if served.status != 200 or served.ranges == "ignored" or changed:
            start = 0
        if start > len(served.body):
            request.send_error(416)
            return
        request.send_response(206 if start else served.status)
        request.send_header("Content-Type", served.kind)
        request.send_header("Content-Length", str(served.length or len(served.body) - start))
        if start:
            whole = len(served.body)
            request.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if served.tag:
            request.send_header("ETag", served.tag)
        request.end_headers()
        end = start + served.cuts.pop(0) if served.cuts else len(served.body)
        request.wfile.write(served.body[start:end])
        if served.after:
            self.files[request.path] = served.after

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def seen() -> Seen:
    return []


def _fetch(folder: Path, *remotes: Remote, seen: Seen | None = None) -> Path:
    noted: Seen = [] if seen is None else seen
    path, _ = download.fetch(remotes, folder, lambda *moved: noted.append(moved))
    return path


def _remote(site: Site, sha256: str | None = DIGEST, size: int | None = None) -> Remote:
    return Remote(site.url(), "net.mat", sha256, size)


def _nobody_listens() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}/net.mat"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what must not happen -------------------------------------------------------------------


def test_a_wrong_hash_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served()
    with pytest.raises(SourceError, match="not " + "0" * 64) as caught:
        _fetch(tmp_path, _remote(site, "0" * 64))
    assert DIGEST in str(caught.value)
    assert site.url() in str(caught.value)
    assert "--source PATH" in str(caught.value)
    assert _names(tmp_path) == set()


def test_every_mirror_is_named_with_what_it_said(site: Site, tmp_path: Path) -> None:
    site.files["/busy.mat"] = Served(b"", status=503)
    remotes = [Remote(site.url(path), "net.mat") for path in ("/gone.mat", "/busy.mat")]
    with pytest.raises(SourceError) as caught:
        _fetch(tmp_path, *remotes)
    assert f"{site.url('/gone.mat')}: 404 Not Found" in str(caught.value)
    assert f"{site.url('/busy.mat')}: 503 Service Unavailable" in str(caught.value)
    assert _names(tmp_path) == set()


def test_no_network_is_not_the_inputs_fault(tmp_path: Path) -> None:
    url = _nobody_listens()
    with pytest.raises(EnvironmentFailure, match=f"{url}: Connection refused"):
        _fetch(tmp_path, Remote(url, "net.mat"))
    assert _names(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_not_the_inputs_fault(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served()
    (tmp_path / "net.mat.part").symlink_to("/dev/full")
    with pytest.raises(EnvironmentFailure, match="No space left on device"):
        _fetch(tmp_path, _remote(site))
    assert not (tmp_path / "net.mat").exists()


def test_a_file_that_cannot_fit_is_not_begun(site: Site, tmp_path: Path, seen: Seen) -> None:
    site.files["/net.mat"] = Served(length=1 << 60)
    with pytest.raises(EnvironmentFailure, match="MB are to come"):
        _fetch(tmp_path, _remote(site), seen=seen)
    assert seen == []
    assert not (tmp_path / "net.mat").exists()


@pytest.mark.parametrize(
    ("served", "size", "said"),
    [
        (Served(kind="text/html; charset=utf-8"), None, "web page"),
        (Served(), 12, "1,024,000 bytes, the file has 12"),
    ],
    ids=["a login page", "another size"],
)
def test_what_is_not_the_file_is_refused(
    site: Site, tmp_path: Path, served: Served, size: int | None, said: str
) -> None:
    site.files["/net.mat"] = served
    with pytest.raises(SourceError, match=said):
        _fetch(tmp_path, _remote(site, None, size))
    assert "net.mat" not in _names(tmp_path)


def test_a_server_that_hangs_up_at_once_is_given_up(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served(cuts=[0, 0, 0])
    with pytest.raises(EnvironmentFailure, match=f"{site.url()}: "):
        _fetch(tmp_path, _remote(site))
    assert len(site.seen) == 1


# --- broken transfers -----------------------------------------------------------------------


def test_a_cut_is_mended_in_the_same_run(site: Site, tmp_path: Path, seen: Seen) -> None:
    site.files["/net.mat"] = Served(cuts=[400_000, 300_000])
    path = _fetch(tmp_path, _remote(site, None), seen=seen)
    assert path.read_bytes() == BODY
    spans = [(span, condition) for _, span, condition in site.seen]
    assert spans[0] == (None, None)
    assert [condition for _, condition in spans[1:]] == ['"one"', '"one"']
    starts = [int(str(span).removeprefix("bytes=").removesuffix("-")) for span, _ in spans[1:]]
    assert 0 < starts[0] <= 400_000 < starts[1] <= 700_000
    done = [moved[1] for moved in seen]
    assert done == sorted(done)
    assert seen[-1] == ("net.mat", len(BODY), len(BODY))
    assert _names(tmp_path) == {"net.mat", "net.mat.sha256"}


def _break_off(site: Site, folder: Path, served: Served, remote: Remote) -> int:
    """Let a run end with a part of the file, and say how long the part is."""
    site.files["/net.mat"] = replace(served, cuts=[500_000], after=Served(b"", status=503))
    with pytest.raises(SourceError, match="503 Service Unavailable"):
        _fetch(folder, remote)
    site.files["/net.mat"] = served
    site.seen.clear()
    arrived = (folder / "net.mat.part").stat().st_size
    assert 0 < arrived <= 500_000
    return arrived


@pytest.mark.parametrize("sha256", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_the_next_run_goes_on(site: Site, tmp_path: Path, sha256: str | None) -> None:
    arrived = _break_off(site, tmp_path, Served(), _remote(site, sha256))
    assert _fetch(tmp_path, _remote(site, sha256)).read_bytes() == BODY
    assert site.seen == [("/net.mat", f"bytes={arrived}-", '"one"')]


NEWER = BODY[::-1]


@pytest.mark.parametrize(
    ("first", "then", "requests"),
    [
        (Served(), Served(NEWER, tag='"two"'), 1),
        (Served(), Served(NEWER, tag='"two"', ranges="blind"), 2),
        (Served(), Served(NEWER[:1000], tag='"two"', ranges="blind"), 2),
        (Served(), Served(NEWER, ranges="ignored"), 1),
        (Served(tag=None), Served(NEWER, tag=None), 1),
        (Served(tag='W/"weak"'), Served(NEWER, tag='W/"weak"'), 1),
    ],
    ids=["changed", "changed, If-Range unheard", "shorter", "no ranges", "no validator", "weak"],
)
def test_another_file_is_never_added_to_a_part(
    site: Site, tmp_path: Path, first: Served, then: Served, requests: int
) -> None:
    remote = _remote(site, None)
    _break_off(site, tmp_path, first, remote)
    site.files["/net.mat"] = then
    assert _fetch(tmp_path, remote).read_bytes() == then.body
    assert len(site.seen) == requests


def test_a_known_hash_replaces_the_validator(site: Site, tmp_path: Path) -> None:
    served = Served(tag=None)
    arrived = _break_off(site, tmp_path, served, _remote(site))
    assert _fetch(tmp_path, _remote(site)).read_bytes() == BODY
    assert site.seen == [("/net.mat", f"bytes={arrived}-", None)]


def test_a_spoilt_part_is_fetched_again_in_whole(site: Site, tmp_path: Path) -> None:
    _break_off(site, tmp_path, Served(), _remote(site))
    part = tmp_path / "net.mat.part"
    part.write_bytes(bytes(part.stat().st_size))
    assert _fetch(tmp_path, _remote(site)).read_bytes() == BODY
    assert [span is None for _, span, _ in site.seen] == [False, True]


def test_a_part_goes_on_at_another_mirror(site: Site, tmp_path: Path) -> None:
    arrived = _break_off(site, tmp_path, Served(), _remote(site))
    del site.files["/net.mat"]
    site.files["/mirror.mat"] = Served(tag='"mirror"')
    mirror = Remote(site.url("/mirror.mat"), "net.mat", DIGEST)
    assert _fetch(tmp_path, _remote(site), mirror).read_bytes() == BODY
    assert site.seen[1:] == [("/mirror.mat", f"bytes={arrived}-", None)]


# --- mirrors, cache, checksums --------------------------------------------------------------


@pytest.mark.parametrize("broken", ["404", "refused", "wrong hash"])
def test_the_second_mirror_steps_in(site: Site, tmp_path: Path, broken: str) -> None:
    site.files["/good.mat"] = Served()
    site.files["/wrong.mat"] = Served(b"wrong")
    url = {"404": site.url("/gone.mat"), "wrong hash": site.url("/wrong.mat")}.get(broken)
    first = Remote(url or _nobody_listens(), "net.mat", DIGEST)
    path = _fetch(tmp_path, first, Remote(site.url("/good.mat"), "struct.mat", DIGEST))
    assert path == tmp_path / "struct.mat"
    assert path.read_bytes() == BODY
    site.seen.clear()
    assert _fetch(tmp_path, first, Remote(site.url("/good.mat"), "struct.mat", DIGEST)) == path
    assert site.seen == []


@pytest.mark.parametrize("sha256", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_spoilt_file_in_the_cache_is_fetched_again(
    site: Site, tmp_path: Path, sha256: str | None
) -> None:
    site.files["/net.mat"] = Served()
    path = _fetch(tmp_path, _remote(site, sha256))
    path.write_bytes(b"spoilt")
    assert _fetch(tmp_path, _remote(site, sha256)).read_bytes() == BODY
    assert len(site.seen) == 2


def test_the_first_downloads_hash_is_kept_shown_and_compared(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served()
    path, remark = download.fetch([_remote(site, None)], tmp_path, lambda *moved: None)
    assert f"sha256 {DIGEST}" in remark
    assert (tmp_path / "net.mat.sha256").read_text() == f"{DIGEST}  net.mat\n"
    path.unlink()
    site.files["/net.mat"] = Served(NEWER)
    with pytest.raises(SourceError, match=r"as first downloaded; .* delete net\.mat\.sha256"):
        _fetch(tmp_path, _remote(site, None))
    assert _names(tmp_path) == {"net.mat.sha256"}


def test_a_published_hash_needs_no_remark(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served()
    assert download.fetch([_remote(site)], tmp_path, lambda *moved: None)[1] == ""
    assert _names(tmp_path) == {"net.mat"}


_WORKER = """
import sys
from pathlib import Path
from converters import cache, download
from converters.catalogue import Remote
folder = Path(sys.argv[1])
with cache.locked(folder, print):
    path, _ = download.fetch([Remote(sys.argv[2], "net.mat", sys.argv[3])], folder, print)
print(path.stat().st_size)
"""


def test_two_processes_share_a_cache(site: Site, tmp_path: Path) -> None:
    site.files["/net.mat"] = Served(delay=1.0)
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "cache"), site.url(), DIGEST]
    root = Path(download.__file__).parents[1]
    workers = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [worker.communicate(timeout=60)[0].split()[-1] for worker in workers]
    assert said == [str(len(BODY))] * 2
    assert len(site.seen) == 1


# --- the zip of the TensorFlow checkpoint ---------------------------------------------------

DATA = b"weights" * 9000
INDEX = b"index"
STEM = "vd16_pitts30k/vd16_pitts30k"


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


WHOLE = {
    f"{STEM}.index": INDEX,
    f"{STEM}.data-00000-of-00001": DATA,
    f"{STEM}.meta": b"graph",
    "__MACOSX/._x.index": b"litter",
}


def _claiming(size: int, archive: bytes) -> bytes:
    """The same zip, each member of which claims another size in the directory."""
    parts = archive.split(b"PK\x01\x02")
    return parts[0] + b"".join(
        b"PK\x01\x02" + part[:20] + struct.pack("<I", size) + part[24:] for part in parts[1:]
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_zip({f"{STEM}.index": INDEX}), r"one \*\.data-00000-of-00001 is needed, it holds none"),
        (_zip(WHOLE | {"other.index": INDEX}), r"one \*\.index is needed, it holds .*other\.index"),
        (_zip(WHOLE)[:-40], "cannot be unpacked"),
        (_zip(WHOLE, zipfile.ZIP_STORED).replace(b"weights", b"weighty", 1), "cannot be unpacked"),
        (_zip(WHOLE)[:200] + b"\0" * 20 + _zip(WHOLE)[220:], "cannot be unpacked"),
        (_claiming(3 << 30, _zip(WHOLE)), r"3,221,225,472 bytes"),
        (_claiming(10, _zip(WHOLE)), "cannot be unpacked"),
        (b"no zip at all", "cannot be unpacked"),
    ],
)
def test_a_bad_zip_is_refused_and_leaves_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "net.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        archive.extract(path, tmp_path / "net", lambda *moved: None)
    assert _names(tmp_path) == {"net.zip"}


@pytest.mark.parametrize("stem", ["../../evil", "/evil", "..\\evil", "a/../../evil"])
def test_names_in_a_zip_lead_nowhere(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = folder / "net.zip"
    path.write_bytes(
        _zip({f"{stem}.index": INDEX, f"{stem}.data-00000-of-00001": DATA, "/etc/x": b"x"})
    )
    archive.extract(path, folder / "net", lambda *moved: None)
    found = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"a/b/net.zip", "a/b/net.index", "a/b/net.data-00000-of-00001"}


def test_the_checkpoint_is_unpacked_once_and_checked_each_time(site: Site, tmp_path: Path) -> None:
    content = _zip(WHOLE)
    site.files["/net.zip"] = Served(content)
    remote = Remote(site.url("/net.zip"), "net.zip", hashlib.sha256(content).hexdigest())
    source = NamedSource("tf", "net", "zip", "", 0, "", "", (remote,))
    seen: Seen = []
    for _ in range(2):
        provided = archive.provide(source, tmp_path, lambda *moved: seen.append(moved))
        assert provided.paths == (tmp_path / "net",)
        assert (tmp_path / "net.index").read_bytes() == INDEX
        assert (tmp_path / "net.data-00000-of-00001").read_bytes() == DATA
    assert _names(tmp_path) == {"net.index", "net.data-00000-of-00001", "contents.json"}
    assert len(site.seen) == 1
    assert ("net.data-00000-of-00001", len(DATA), len(DATA)) in seen
    (tmp_path / "net.index").write_bytes(b"spoilt")
    archive.provide(source, tmp_path, lambda *moved: None)
    assert (tmp_path / "net.index").read_bytes() == INDEX


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{", b'{"inputs": "x"}', b'{"inputs": "x", "sha256": 3}', b"\xff"],
)
def test_a_spoilt_record_means_that_nothing_is_held(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "contents.json").write_bytes(record)
    assert not cache.holds(tmp_path, "x")


def test_a_record_holds_for_its_inputs_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    cache.keep(tmp_path, "one", [file])
    assert cache.holds(tmp_path, "one")
    assert not cache.holds(tmp_path, "two")
    assert json.loads((tmp_path / "contents.json").read_text())["sha256"] == {
        "file": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    }
    os.truncate(file, 3)
    assert not cache.holds(tmp_path, "one")
