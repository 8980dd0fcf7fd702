"""Fixtures that every test may use."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# TensorFlow reads these at import; oneDNN's kernels round differently.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

#: Where Debian puts it; elsewhere it goes by other names.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_FAINT = """
const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const known = new Map();
const behind = element => {
  if (!known.has(element)) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    const solid = colour.length === 3 || colour[3] > 0;
    known.set(element, solid ? colour : behind(element.parentElement));
  }
  return known.get(element);
};
const faint = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const element = node.parentElement;
  if (!node.data.trim() || !element.checkVisibility() || element.closest("script, title")) continue;
  const style = getComputedStyle(element);
  const ink = parse(element.ownerSVGElement ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${node.data.trim()}: ${(a + 0.05) / (b + 0.05)}`);
}
return faint;
"""

_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def mini_mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded small net as a MatConvNet file."""
    from converters.mini import mini
    from converters.writers.sources import matconvnet

    path = tmp_path_factory.mktemp("mini") / "mini.mat"
    matconvnet.write(mini(), path)
    return path


@pytest.fixture(scope="session")
def mini_artifacts(mini_mat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a conversion made of `mini_mat`, all formats; not to be changed."""
    pytest.importorskip("tensorflow", reason="it makes the artifacts")
    from converters.convert import DEFAULT_FORMATS, Request, convert
    from converters.sources import SourceFiles

    source = SourceFiles("mini", (mini_mat,), "MIT", "cite it", "a notice")
    output = tmp_path_factory.mktemp("artifacts")
    return convert(Request(source, output, (*DEFAULT_FORMATS, "weights")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real nets and MatConvNet's own outputs, if it lies beside the project."""
    if not _DATA.is_dir():
        pytest.skip("../shared/data is not here: it holds the real nets and reference outputs")
    return _DATA.resolve()


class Browser:
    """One window of a headless Chromium, spoken to in WebDriver's own protocol.

    That is JSON over HTTP, to chromedriver.
    """

    def __init__(self, address: str, binary: str, profile: Path) -> None:
        self._session = f"{address}/session"
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        started = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._session += f"/{started['sessionId']}"

    def open(
        self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Show a file or an address, at a size in CSS pixels, in the light or the dark scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._post("/url", {"url": "about:blank"})
        self.problems(), self.requests()  # what came before is not this page's
        self._post("/url", {"url": page.as_uri() if isinstance(page, Path) else page})

    def run(self, script: str, *arguments: object) -> Any:
        """What a function body returns."""
        return self._post("/execute/sync", {"script": script, "args": arguments})

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def press(self, key: str) -> None:
        """A key, wherever the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def choose(self, selector: str, *files: Path) -> None:
        """Files, for an input of that type."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def faint(self) -> list[str]:
        """Texts that can be seen, with a contrast below 4.5."""
        found: list[str] = self.run(_FAINT)
        return found

    def problems(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        messages = (json.loads(entry["message"])["message"] for entry in self._log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot, of the window or of the whole page."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the session, and with it the browser."""
        self._send("DELETE", "", None)

    def _log(self, kind: str) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = self._post("/se/log", {"type": kind})
        return entries

    def _post(self, path: str, body: object) -> Any:
        return self._send("POST", path, json.dumps(body).encode())

    def _send(self, method: str, path: str, data: bytes | None) -> Any:
        request = urllib.request.Request(self._session + path, data, method=method)
        with _DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)["value"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium with a new profile; skips where there is none."""
    driver = shutil.which("chromedriver")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not driver or not binary:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    folder = tmp_path_factory.mktemp("profile")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        lines = iter(process.stdout.readline, "") if process.stdout else iter(())
        ports = (re.search(r"successfully on port (\d+)", line) for line in lines)
        port = next(filter(None, ports))[1]
        opened = Browser(f"http://127.0.0.1:{port}", binary, folder)
        yield opened
        opened.close()
    finally:
        process.terminate()
        process.wait(10)
