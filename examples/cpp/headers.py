"""Fetch ONNX Runtime's C++ headers into a folder: `python examples/cpp/headers.py INCLUDE`.

Its wheel lacks them. They lie in an npm package, which is fetched with npm, pinned by its sha256,
and thrown away again. Whoever has an ONNX Runtime release or a `-dev` package needs none of this.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "com.github.asus4.onnxruntime@0.4.9"  # 1.29, MIT
SHA256 = "e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d"
INSIDE = "/ios-arm64/onnxruntime.framework/Headers/"


def fetch(include: Path) -> None:
    """Nothing is done where they are there already."""
    complete = include / SHA256
    if complete.exists():
        return
    if shutil.which("npm") is None:
        sys.exit(
            "npm fetches ONNX Runtime's headers: install it, or name the headers that you have"
        )
    shutil.rmtree(include, ignore_errors=True)
    include.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        command = ["npm", "pack", "--silent", PACKAGE, "--pack-destination", place]
        subprocess.run(command, check=True)
        (archive,) = Path(place).glob("*.tgz")
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            sys.exit(f"{PACKAGE} has the sha256 {found}, not {SHA256}")
        with tarfile.open(archive) as packed:
            for member in packed:
                content = packed.extractfile(member) if INSIDE in member.name else None
                if content:
                    (include / Path(member.name).name).write_bytes(content.read())
    complete.touch()


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
