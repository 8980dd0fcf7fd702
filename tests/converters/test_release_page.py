"""The release's front page: what it tells, of whom, and that it asks for nothing elsewhere."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from converters import release_page, release_page_runtime
from converters.errors import ConversionError, EnvironmentFailure, ReadError, SourceError
from converters.release_page import Laid

MEMBERS = {
    "package/dist/ort.wasm.bundle.min.mjs": b"export const env = {};",
    "package/dist/ort-wasm-simd-threaded.wasm": b"\0asm",
}
EVIL = "<img src=x onerror=alert(1)>\"' & #?%"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    @property
    def addresses(self) -> list[str]:
        """All that a browser could fetch or follow."""
        names = ("src", "href", "action", "srcset", "data", "poster")
        return [each[name] or "" for _, each in self.tags for name in names if name in each]


def package(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def manifest(**other: Any) -> dict[str, Any]:
    return {
        "name": "net",
        "notice": "for demonstrations",
        "licence": "MIT",
        "parameters": 21135,
        "inputs": [{"name": "image", "minimum_height": 16}],
        "outputs": [{"name": "descriptor", "layer": "finalL2", "shape": ["batch", 16]}],
        "files": {"model.onnx": {"sha256": "ab", "size": 3}},
        **other,
    }


def report(**other: Any) -> dict[str, Any]:
    def column(path: str, cosine: float, roundings: float) -> dict[str, Any]:
        found = {"cosine": cosine, "max_abs": 3e-7, "roundings": roundings, "limit": 16.0}
        row = {"layer": "finalL2", "inherited": found}
        return {"path": path, "layers": [{"layer": "input", "inherited": None}, row]}

    first = [column("model.onnx", 1 - 2.5e-9, 1.5), column("source.mat", 0.5, 1.0)]
    regimes = [
        {"name": "photograph", "shape": [1, 96, 128, 3], "columns": first},
        {"name": "odd", "shape": [1, 111, 143, 3], "columns": [column("model.onnx", 1.0, 2.25)]},
        {"name": "near zero", "shape": [1, 96, 128, 3], "columns": []},
    ]
    return {
        "schema": 1,
        "verdict": {"passed": True, "sentence": "1 artifact, no difference."},
        "manifest": manifest(),
        "regimes": regimes,
        **other,
    }


@pytest.fixture
def laid(tmp_path: Path) -> Callable[..., Laid]:
    """A net as a release holds it: `(manifest, report)`, either None for the usual, "" for none."""

    def make(held: dict[str, Any] | None = None, said: Any = None) -> Laid:
        held = held or manifest()
        source, folder = tmp_path / "artifacts" / "net", tmp_path / "release" / "net"
        (source / "report").mkdir(parents=True)
        folder.mkdir(parents=True)
        if said != "":
            text = said if isinstance(said, str) else json.dumps(said or report())
            (source / "report" / "report.json").write_text(text, "utf-8")
        name = f"{held['name']}-opset18.onnx"
        files = {name: b"net", "manifest.json": json.dumps(held).encode(), "reference.npz": b"npz"}
        sums = ""
        for each, data in files.items():
            (folder / each).write_bytes(data)
            sums += f"{hashlib.sha256(data).hexdigest()}  {each}\n"
        (folder / "SHA256SUMS").write_text(sums, "utf-8")
        return Laid(source, folder, {"model.onnx": name, "manifest.json": "manifest.json"})

    return make


def written(each: Laid, package: Path | None = None) -> Page:
    release_page.write(each.folder.parent, [each], package)
    return Page((each.folder.parent / "index.html").read_text("utf-8"))


def test_it_says_what_each_file_is(laid: Callable[..., Laid]) -> None:
    text = written(laid()).text
    digest = hashlib.sha256(b"net").hexdigest()
    row = rf"net-opset18\.onnx\s*ONNX: the net, with the mean inside\s*0\.0 kB\s*{digest}"
    assert re.search(row, text)
    for words in ("For demonstrations.", "Licence of the weights: MIT.", "21,135 parameters"):
        assert words in text
    assert "16 × 16 pixels" in text
    assert 'onnxruntime.InferenceSession("net-opset18.onnx")' in text
    assert "netvlad-verify net-opset18.onnx" in text


VERDICTS = {
    "none": ("", "Not verified. There is no report: nox -s verify has not been run."),
    "broken": ("{", "Not verified. The report cannot be read."),
    "another form": (report(schema=2), "Not verified. The report has form 2, not 1."),
    "without a verdict": ({"schema": 1, "manifest": manifest()}, "Not verified. The report cannot"),
    "a list": ("[]", "Not verified. The report cannot be read."),
    "of other files": (
        report(manifest=manifest(files={"model.onnx": {"sha256": "cd", "size": 3}})),
        "Not verified. The report is of other files: they were converted since.",
    ),
    "without a manifest": (report(manifest={}), "Not verified. The report is of other files"),
    "failed": (
        report(verdict={"passed": False, "sentence": "conv3_2 differs."}),
        "Verification failed. conv3_2 differs.",
    ),
    "not true, but like it": (
        report(verdict={"passed": "yes", "sentence": "?"}),
        "Verification failed. ?",
    ),
    "passed": (report(), "Verified. 1 artifact, no difference."),
}


@pytest.mark.parametrize(("said", "words"), VERDICTS.values(), ids=VERDICTS)
def test_the_verdict_is_the_report_s(laid: Callable[..., Laid], said: Any, words: str) -> None:
    text = written(laid(said=said)).text
    assert words in text
    assert ("✓ verified" in text) == words.startswith("Verified")
    assert ("? not verified" in text) == words.startswith("Not verified")


def test_the_figures_are_the_worst_of_those_inputs_that_have_some(
    laid: Callable[..., Laid],
) -> None:
    text = written(laid()).text
    assert "the worst of photograph (1×96×128×3), odd (1×111×143×3):\n" in text
    assert re.search(r"net-opset18\.onnx\s*2\.5e-09\s*3\.0e-07\s*2\.2\s*16\n", text)
    assert "source.mat" not in text


@pytest.mark.parametrize("packed", [True, False], ids=["with try-out", "without"])
def test_it_points_at_nothing_that_is_not_beside_it(
    laid: Callable[..., Laid], tmp_path: Path, packed: bool
) -> None:
    tarball = package(tmp_path / "p.tgz", MEMBERS) if packed else None
    page = written(laid(), tarball)
    assert len(page.addresses) > 6
    for address in page.addresses:
        if address in ("data:,", "#"):
            continue
        if address.startswith("#"):
            assert any(each.get("id") == address[1:] for _, each in page.tags), address
            continue
        assert re.fullmatch(r"(?![\w+.-]+:|/)\S+", address), address
        assert (tmp_path / "release" / unquote(address)).is_file(), address
    assert not [name for _, each in page.tags for name in each if name.startswith("on")]
    (policy,) = (
        each["content"] or "" for _, each in page.tags if "Content-Security-Policy" in each.values()
    )
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|\*|unsafe-inline|unsafe-eval(?<!wasm-unsafe-eval)", policy)


def test_what_is_inlined_is_what_the_policy_allows(
    laid: Callable[..., Laid], tmp_path: Path
) -> None:
    each = laid()
    written(each, package(tmp_path / "p.tgz", MEMBERS))
    text = (each.folder.parent / "index.html").read_text("utf-8")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text


def test_names_are_text_wherever_they_stand(laid: Callable[..., Laid], tmp_path: Path) -> None:
    # A slash is refused before a page is made, and no file could have it in its name.
    said = report(manifest=(held := manifest(name=EVIL, notice=f"</script>{EVIL}", licence=EVIL)))
    said["verdict"]["sentence"] = EVIL
    page = written(laid(held, said), package(tmp_path / "p.tgz", MEMBERS))
    assert [each for tag, each in page.tags if tag == "img"] == [{"alt": ""}, {"alt": ""}]
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    for words in (f"Verified. {EVIL}", f"Licence of the weights: {EVIL}.", f"{EVIL}-opset18.onnx"):
        assert words in page.text
    assert f"net/{EVIL}-opset18.onnx" in {unquote(address) for address in page.addresses}


def test_without_a_package_it_says_so_and_tries_nothing(laid: Callable[..., Laid]) -> None:
    each = laid()
    page = written(each)
    assert "This page was made without the try-out" in page.text
    assert not [tag for tag, _ in page.tags if tag in ("script", "input", "select")]
    assert not (each.folder.parent / "web").exists()


def test_without_a_reference_it_promises_no_proof(laid: Callable[..., Laid]) -> None:
    each = laid()
    sums = each.folder / "SHA256SUMS"
    lines = sums.read_text("utf-8").splitlines()
    sums.write_text("".join(f"{line}\n" for line in lines if "reference" not in line), "utf-8")
    text = written(each).text
    assert "This release has no reference.npz" in text
    assert "netvlad-verify net" not in text


@pytest.mark.parametrize("lost", ["outputs", "inputs", "licence", "parameters"])
def test_a_manifest_of_another_kind_is_refused(laid: Callable[..., Laid], lost: str) -> None:
    held = manifest()
    del held[lost]
    with pytest.raises(ConversionError, match=r"manifest\.json.*\n.*convert it again"):
        written(laid(held))


def test_the_runtime_is_packed_as_it_is_and_the_same_each_time(tmp_path: Path) -> None:
    tarball = package(tmp_path / "p.tgz", MEMBERS)
    texts = []
    for name in ("a", "b"):
        release_page_runtime.pack(tarball, tmp_path / name)
        texts.append((tmp_path / name / "onnxruntime-web.js").read_text("ascii"))
    assert texts[0] == texts[1]
    found = json.loads(texts[0].partition("onnxruntimeWeb = ")[2].rstrip(";\n"))
    held = {key: gzip.decompress(base64.b64decode(found[key])) for key in ("text", "wasm")}
    assert list(held.values()) == list(MEMBERS.values())
    licence = (tmp_path / "a" / "onnxruntime-web-LICENSE.txt").read_text("utf-8")
    assert "Copyright (c) Microsoft Corporation" in licence
    assert "Permission is hereby granted" in licence


@pytest.mark.parametrize("lost", MEMBERS)
def test_a_package_without_its_files_is_refused(tmp_path: Path, lost: str) -> None:
    members = {name: data for name, data in MEMBERS.items() if name != lost}
    with pytest.raises(ReadError, match="not the package onnxruntime-web"):
        release_page_runtime.pack(package(tmp_path / "p.tgz", members), tmp_path / "web")
    (tmp_path / "text.tgz").write_text("not a package")
    with pytest.raises(ReadError, match="not the package"):
        release_page_runtime.pack(tmp_path / "text.tgz", tmp_path / "web2")


@pytest.mark.parametrize(
    ("named", "told", "expected"),
    [
        ("https://mirror.example/npm/", "https://other.example/", "https://mirror.example/npm"),
        ("", "https://other.example/", "https://other.example"),
        ("", "undefined", ""),
        ("", None, ""),
    ],
)
def test_the_registry_is_npm_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, told: str | None, expected: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", named)
    if told is not None:
        (tmp_path / "npm").write_text(f'#!/bin/sh\necho "{told}"\n')
        (tmp_path / "npm").chmod(0o755)
    if expected:
        assert release_page_runtime.registry() == expected
    else:
        with pytest.raises(EnvironmentFailure, match="Install npm, or set NPM_CONFIG_REGISTRY"):
            release_page_runtime.registry()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """One whose package is somebody else's."""
    folder = tmp_path / "registry" / "onnxruntime-web" / "-"
    folder.mkdir(parents=True)
    (folder / f"onnxruntime-web-{release_page_runtime.VERSION}.tgz").write_bytes(b"another")
    handler = functools.partial(Silent, directory=str(tmp_path / "registry"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_another_package_is_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry: str
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry)
    with pytest.raises(SourceError, match="--no-try-out"):
        release_page_runtime.fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.tgz"))


def test_without_a_network_it_is_the_machine_s_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFailure, match="onnxruntime-web"):
        release_page_runtime.fetch(tmp_path / "cache")
