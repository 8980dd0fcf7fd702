"""ONNX Runtime for the release's page: npm's package, fetched once, repacked so that it needs no
server.

A page that was opened from the disk may load scripts, but may read no file: so the WebAssembly
lies in a script, as text. The package is Microsoft's, under the MIT licence, and is not kept in
this project; its checksum is.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
import tarfile
from importlib import resources
from pathlib import Path

from converters import cache, download
from converters.catalogue import Progress, Remote
from converters.errors import EnvironmentFailure, ReadError, SourceError
from converters.sources import cache_folder

__all__ = ["LICENCE", "PACKAGE", "SCRIPT", "VERSION", "fetch", "pack", "registry"]

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
#: The least that runs a net: no WebGL, no WebGPU, WebAssembly alone, one thread or more.
_TEXT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_SIZE = 33_106_585
#: What `pack` writes.
SCRIPT, LICENCE = f"{PACKAGE}.js", f"{PACKAGE}-LICENSE.txt"


def fetch(cache_dir: Path | None = None, progress: Progress = lambda *transferred: None) -> Path:
    """The package as npm has it, 33 MB, out of the cache or from npm's registry.

    Raises `EnvironmentFailure` where it cannot be had here, and `SourceError` where something
    else came in its place.
    """
    folder = (cache_dir or cache_folder()) / PACKAGE
    filename = f"{PACKAGE}-{VERSION}.tgz"
    try:
        with cache.locked(folder, progress):
            if (folder / filename).is_file() and cache.sha256(folder / filename) == _SHA256:
                return folder / filename
            address = f"{registry()}/{PACKAGE}/-/{filename}"
            remote = Remote(address, filename, _SHA256, _SIZE)
            return download.fetch((remote,), folder, progress)[0]
    except SourceError as error:
        raise SourceError(error.message, advice="To do without it: --no-try-out") from error
    except OSError as error:
        raise EnvironmentFailure(f"{folder} cannot be used: {error.strerror or error}") from error


def registry() -> str:
    """As npm has it: from the environment, or from npm's own settings.

    Raises `EnvironmentFailure` where neither says one.
    """
    named = {name.lower(): value for name, value in os.environ.items()}
    found = named.get("npm_config_registry", "")
    npm = shutil.which("npm")
    if not found and npm:
        command = [npm, "config", "get", "registry"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        found = told.stdout.strip()
    if not found.startswith(("https://", "http://")):
        raise EnvironmentFailure(
            f"nothing says where npm's packages are, and {PACKAGE} is one",
            advice="Install npm, or set NPM_CONFIG_REGISTRY to a registry.",
        )
    return found.rstrip("/")


def pack(package: Path, folder: Path) -> None:
    """Write `SCRIPT` and `LICENCE` into `folder`; the same package gives the same bytes.

    Raises `ReadError` where `package` is no package of it.
    """
    folder.mkdir()
    held = {}
    try:
        with tarfile.open(package) as archive:
            for name in (_TEXT, _WASM):
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise ReadError(package, f"dist/{name} is not a file")
                held[name] = _text(member.read())
    except (KeyError, tarfile.TarError, EOFError) as error:
        raise ReadError(package, f"not the package {PACKAGE}: {error}") from error
    contents = {"version": VERSION, "text": held[_TEXT], "wasm": held[_WASM]}
    script = f"/* {PACKAGE} {VERSION}, MIT, see {LICENCE}; gzip, base64 */\n"
    script += f"globalThis.onnxruntimeWeb = {json.dumps(contents)};\n"
    (folder / SCRIPT).write_text(script, "ascii")
    licence = resources.files("converters").joinpath("page", LICENCE).read_text("utf-8")
    (folder / LICENCE).write_text(licence, "utf-8")


def _text(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")
