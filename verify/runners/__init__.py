"""One module per artifact format, each with `open(path, names=None) -> Runner`.

oneDNN's kernels round differently, and TensorFlow decides on them when it is imported: they are
turned off here, before any runner imports it, unless the environment asks for them.
"""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["NOTES", "ONEDNN"]

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
_ASKED = os.environ.get(_VARIABLE, "").lower() in ("1", "true")
_TOO_LATE = "tensorflow" in sys.modules and os.environ.get(_VARIABLE) not in ("0", "false")

#: What a report says of an artifact that oneDNN's kernels may have run; its own error may be
#: twice as large.
ONEDNN = (
    f"oneDNN's kernels may have run ({_VARIABLE} was not 0 when TensorFlow was imported): "
    "a layer's own error may be twice as large as without them"
)
#: What a report must say of every artifact that TensorFlow runs.
NOTES: tuple[str, ...] = (ONEDNN,) if _ASKED or _TOO_LATE else ()

if not _ASKED:
    os.environ[_VARIABLE] = "0"

# What TensorFlow says of devices and of traces is not part of a verdict.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
