"""Reads safetensors of hloc's and pytorch-NetVlad's modules: weights to compare, nothing to run."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from converters.errors import ConversionError
from verify.names.given import Names
from verify.reference import source, weights_of
from verify.runners.layered import Layered, weights_only

__all__ = ["open"]

_NOTE = "the file holds weights alone: there is nothing to run"


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a `.safetensors` file of one of the two modules.

    Raises the reader's typed errors, and `ConversionError` for a table of names: which of the
    modules it is the parameters' own names tell.
    """
    if names:
        raise ConversionError(
            f"{path}: takes no table of names", advice="Its parameters go by the module's own."
        )
    checkpoint = source(path)
    return weights_only("safetensors", path, lambda: weights_of(checkpoint), (_NOTE,))
