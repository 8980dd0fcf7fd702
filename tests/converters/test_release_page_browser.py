"""The release's try-out in a real browser: what it shows is what ONNX Runtime gives in Python.

With NETVLAD_PICTURES=FOLDER in the environment that folder gets pictures of whole pages.
"""

from __future__ import annotations

import base64
import functools
import http.server
import io
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from converters import release_page_runtime
from converters.errors import ConversionError
from converters.release import lay_out
from netvlad_keras.preprocess import load_image

if TYPE_CHECKING:
    from tests.conftest import Browser

pytestmark = pytest.mark.network  # a package of npm, once

DESCRIPTORS = """
const read = link => fetch(link.href).then(answer => answer.arrayBuffer()).then(buffer =>
  btoa(Array.from(new Uint8Array(buffer), byte => String.fromCharCode(byte)).join("")));
return Promise.all([...document.querySelectorAll(".slot a")].map(read));
"""
SAID = """
const text = id => document.getElementById(id);
return [text("progress").hidden && !text("result").hidden ? text("distance").value : "",
        text("error").textContent];
"""


@pytest.fixture(scope="module")
def release(mini_artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of `mini` with its page; not to be changed."""
    try:
        package = release_page_runtime.fetch()
    except ConversionError as error:
        pytest.skip(f"the package cannot be had here: {error}")
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(mini_artifacts, folder / "mini")
    return lay_out(folder, proof=False, package=package)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small ones, one above 640 pixels, one that lies on its side, one that is not exact."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(7)

    def scene(height: int, width: int) -> Image.Image:
        coarse = random.integers(0, 256, (height // 24, width // 24, 3)).astype(np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    scene(120, 161).save(folder / "small.png")
    scene(500, 777).save(folder / "large.png")
    scene(97, 144).save(folder / "turned.jpg", exif=turned, quality=88)
    scene(130, 100).convert("L").save(folder / "grey.jpg")
    scene(48, 48).resize((15, 40)).save(folder / "narrow.png")
    (folder / "text.jpg").write_text("no picture")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def served(release: Path) -> Iterator[str]:
    """The address of a copy of the release."""
    handler = functools.partial(Silent, directory=str(release))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def described(model: Path, image: Path) -> NDArray[Any]:
    """By ONNX Runtime in Python, as the page says that it does it."""
    longest = 640 if max(load_image(image).shape) > 640 else None
    pixels = load_image(image, longer_side=longest)[None].astype(np.float32)
    (found,) = onnxruntime.InferenceSession(model).run(["descriptor"], {"image": pixels})
    return np.asarray(found, np.float64)


def outcome(browser: Browser) -> tuple[str, str]:
    """The distance, or else the error, once there is one."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        distance, error = browser.run(SAID)
        if distance or error:
            return distance, error
        time.sleep(0.05)
    pytest.fail(f"nothing came: {browser.problems()}")


def put(browser: Browser, *files: Path, into: str = "#first input") -> tuple[str, str]:
    """Choose files, and wait for what comes of it."""
    browser.run("document.getElementById('error').textContent = ''")
    browser.choose(into, *files)
    return outcome(browser)


def agrees(browser: Browser, model: Path, images: list[Path], shown: str) -> list[float]:
    """Hold the shown distance to Python's; gives each descriptor's cosine distance."""
    right = [described(model, image) for image in images]
    assert float(shown) == pytest.approx(np.linalg.norm(right[0] - right[1]), abs=1e-3)
    found = [np.load(io.BytesIO(base64.b64decode(t))) for t in browser.run(DESCRIPTORS)]
    assert [each.shape for each in found] == [(1, 16), (1, 16)]
    norms = [np.linalg.norm(a) * np.linalg.norm(b) for a, b in zip(found, right, strict=True)]
    return [1 - float(np.sum(a * b) / norm) for a, b, norm in zip(found, right, norms, strict=True)]


def test_opened_from_the_disk_it_gives_python_s_distance(
    browser: Browser, release: Path, pictures: dict[str, Path]
) -> None:
    model = release / "mini" / "mini-opset18.onnx"
    browser.open(release / "index.html")
    browser.choose("#model", model)
    exact = [pictures["small"], pictures["large"]]
    distance, error = put(browser, *exact)
    assert error == ""
    assert max(agrees(browser, model, exact, distance)) <= 1e-9
    captions = browser.run(
        "return [...document.querySelectorAll('.facts')].map(each => each.textContent)"
    )
    assert "161 × 120, as it is" in captions[0]
    assert "640 × 412, made smaller from 777 × 500" in captions[1]
    decoded = [pictures["turned"], pictures["grey"]]
    for slot, image in zip(("#first", "#second"), decoded, strict=True):
        distance, error = put(browser, image, into=f"{slot} input")
    assert error == ""
    assert max(agrees(browser, model, decoded, distance)) <= 1e-4
    asked = [address for address in browser.requests() if not address.startswith("blob:")]
    assert set(asked) == {
        (release / name).as_uri() for name in ("index.html", "web/onnxruntime-web.js")
    }
    assert browser.problems() == []


def test_served_it_takes_the_net_by_itself(
    browser: Browser, release: Path, served: str, pictures: dict[str, Path]
) -> None:
    browser.open(served)
    images = [pictures["small"], pictures["grey"]]
    distance, error = put(browser, *images)
    assert error == ""
    assert max(agrees(browser, release / "mini" / "mini-opset18.onnx", images, distance)) <= 1e-4
    notice = browser.run("return document.getElementById('notice').textContent")
    assert notice == "This net: a notice."
    assert all(address.startswith((served[:21], "blob:")) for address in browser.requests())


def test_what_cannot_be_used_is_named(
    browser: Browser, release: Path, tmp_path: Path, pictures: dict[str, Path]
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(release, folder)
    (folder / "junk.onnx").write_bytes(b"no net")
    browser.open(folder / "index.html")
    put_two = [pictures["small"], pictures["grey"]]
    browser.choose("#first input", *put_two)
    ask = "return document.getElementById('ask').textContent"
    assert "Choose the net’s file first: mini/mini-opset18.onnx" in browser.run(ask)
    (folder / "web").rename(folder / "elsewhere")
    model = folder / "mini" / "mini-opset18.onnx"
    assert "keep the folder web/ beside this page" in put(browser, model, into="#model")[1]
    (folder / "elsewhere").rename(folder / "web")
    assert "junk.onnx cannot be run" in put(browser, folder / "junk.onnx", into="#model")[1]
    assert put(browser, model, into="#model")[0] != ""
    for name, words in (
        ("text", "text.jpg: this browser cannot read it as a picture"),
        ("narrow", "narrow.png: 15 × 40 pixels; the net needs 16 on either side"),
    ):
        assert put(browser, pictures[name])[1] == words


def test_a_net_that_was_changed_or_lost_is_not_run(
    browser: Browser, release: Path, tmp_path: Path, pictures: dict[str, Path]
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(release, folder)
    model = folder / "mini" / "mini-opset18.onnx"
    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        model.write_bytes(model.read_bytes() + b"\0")
        browser.open(f"http://127.0.0.1:{server.server_port}/index.html")
        error = put(browser, pictures["small"], pictures["grey"])[1]
        assert "is not the file of this page: its sha256 is" in error
        model.unlink()
        assert "cannot be loaded: 404" in put(browser, pictures["large"])[1]
        server.shutdown()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everything_can_be_read(
    browser: Browser, release: Path, pictures: dict[str, Path], width: int, dark: bool
) -> None:
    browser.open(release / "index.html", width=width, dark=dark)
    browser.choose("#model", release / "mini" / "mini-opset18.onnx")
    assert put(browser, pictures["small"], pictures["large"])[1] == ""
    assert browser.faint() == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("NETVLAD_PICTURES"):
        name = f"release-{width}-{'dark' if dark else 'light'}.png"
        browser.picture(Path(folder) / name, whole=True)
