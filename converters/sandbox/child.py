"""What one child does: it raises its walls, reads one file, and leaves an answer."""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from converters.readers import memory
from converters.sandbox import walls, wire
from converters.sandbox.arena import Arena

__all__ = ["run"]


def run(job: dict[str, Any], arena: int) -> None:
    """Answer a job: `checkpoint`, `error` (one of ours), or `fault` (any other)."""
    gc.disable()  # it would touch, and so copy, every page that the fork shares
    os.chdir(job["folder"])
    place = Arena(arena, job["files"])
    place.at("start")
    lacking = walls.put_up(job["files"], job["folders"], job["computing"], job["memory"])
    memory.use(place)
    answer: dict[str, Any] = {"lacking": lacking}
    try:
        found = import_module(job["module"]).read(Path(job["path"]))
        place.at("hand over")
        answer["checkpoint"] = wire.checkpoint_to(found, place.lay)
        answer["stamps"] = list(place.stamps.items())
    except ConversionError as error:
        answer["error"] = wire.error_to(error)
    except ModuleNotFoundError as error:
        answer["missing"] = error.name or "a library"
    except Exception as error:
        answer["fault"] = [type(error).__name__, str(error)[:500]]
    answer["objects"] = "converters.readers.mat_objects" in sys.modules
    place.answer(json.dumps(answer).encode())
