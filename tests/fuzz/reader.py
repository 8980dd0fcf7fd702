"""A process that reads what it is told to, and says how it went: one JSON line for each path.

It opens a file as users do: `converters.formats.read`, and for ONNX what
`netvlad-verify` opens artifacts with. Should it die, that is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters import formats, sandbox
from converters.errors import ConversionError
from verify.formats import open_artifact

__all__ = ["look"]

_MEMORY = 8 << 30
_SECONDS = 5  # half of what the sandbox gives a small file: HDF5 can be sent round in circles


def look(path: Path) -> dict[str, Any]:
    """How reading went, as plain data.

    outcome  `read`, `refused` (a typed error of ours) or `raised` (anything else).
    weights  of what was read, a hash of every tensor's name, type, shape and bytes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = _weights(path)
            return {"outcome": "read", "weights": _digest(weights)}
    except ConversionError as error:
        said = str(error).replace(str(path.parent), "")[:300]
        return {"outcome": "refused", "error": type(error).__name__, "said": said}
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{error} ({Path(where.filename).name}:{where.lineno})"[:300]
        return {"outcome": "raised", "error": type(error).__name__, "said": said}


def _weights(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".onnx":
        return open_artifact(path).weights()
    return formats.read(path).tensors


def _digest(weights: Mapping[str, Any]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        values = np.asarray(weights[name])
        found.update(f"{name} {values.dtype} {values.shape}".encode("utf-8", "backslashreplace"))
        found.update(values.tobytes())
    return found.hexdigest()


def _limit() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    with sandbox.believing(sandbox.Reading(seconds=_SECONDS)):
        for line in sys.stdin:
            print(json.dumps(look(Path(line.rstrip("\n")))), file=answers, flush=True)
