"""Whether a Keras model's configuration names only classes that are known to be harmless.

Read as JSON, before Keras sees it: Keras imports what a configuration names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters.errors import ReadError
from verify.names.keras_classes import CLASSES, MARKS, MODULES, OURS

__all__ = ["check"]

_PACKAGE = "netvlad_keras>"
_ADVICE = (
    "Only models of Keras's own layers and of netvlad_keras's are run; what would run code from "
    "the file itself is refused. Convert the model where you trust it, to ONNX for example."
)


def check(path: Path, text: str | bytes) -> None:
    """Raise `ReadError`, naming every class or function that a configuration must not name."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ReadError(path, f"its configuration is not JSON: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ReadError(path, "its configuration is not a model's")
    # Of the model itself it is not used: it is loaded without its optimizer and losses.
    config.pop("compile_config", None)
    refused = dict.fromkeys(fault for item in _dicts(config) if (fault := _fault(item)))
    if refused:
        raise ReadError(path, f"refused: {', '.join(refused)}", advice=_ADVICE)


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    """Every table in a configuration; without recursion, which a file could exhaust."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += reversed(item.values())
        elif isinstance(item, list):
            waiting += reversed(item)


def _fault(item: dict[str, Any]) -> str:
    """What is wrong with a table that names a class, in words, or nothing."""
    if "class_name" not in item:
        stray = {"registered_name", "compile_config", "spec_name"} & item.keys()
        return f"{', '.join(sorted(stray))} without a class" if stray else ""
    name, module = item["class_name"], item.get("module")
    registered = item.get("registered_name")
    if not isinstance(name, str) or item.get("compile_config"):
        return f"{name!r} with a compile_config" if isinstance(name, str) else f"class {name!r}"
    shown = name if name != "function" else f"function {item.get('config')!r}"
    if name in MARKS:
        return ""
    # An `.h5` writes the registered name in the class's place.
    name = name.removeprefix(_PACKAGE) if name.removeprefix(_PACKAGE) in OURS else name
    if name not in CLASSES | OURS:
        return f"{shown} ({module})" if module else shown
    if module is not None and module not in MODULES:
        return f"{name} of {module}"
    if registered not in (None, name, f"{_PACKAGE}{name}" if name in OURS else name):
        return f"{name}, registered as {registered!r}"
    return ""
