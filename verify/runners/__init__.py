"""One module per artifact format, each with `open(path, names=None) -> Runner`.

oneDNN's kernels round differently, and TensorFlow decides on them when it is imported: they are
turned off here, before any runner imports it.
"""

from __future__ import annotations

import os
import sys

__all__ = ["NOTES"]

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
_TOO_LATE = "tensorflow" in sys.modules and os.environ.get(_VARIABLE) != "0"

#: What a report must say of every artifact that TensorFlow runs.
NOTES: tuple[str, ...] = (
    (f"TensorFlow was imported before {_VARIABLE}=0 was set: its kernels may be oneDNN's",)
    if _TOO_LATE
    else ()
)

os.environ[_VARIABLE] = "0"
