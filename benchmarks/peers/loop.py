"""One peer in a process of its own: `python -m benchmarks.peers.loop NAME ARTIFACTS FOLDER OUT`.

Prints how long it took, as JSON, and leaves the descriptors in the order of the paths.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

#: Exit code: a library of this peer is not installed.
ABSENT = 3


def main(name: str, artifacts: str, folder: str, out: str) -> int:
    try:
        module = importlib.import_module(f"benchmarks.peers.{name}")
    except ModuleNotFoundError as error:
        print(json.dumps({"absent": error.name}))
        return ABSENT
    started = time.perf_counter()
    describe = module.open(Path(artifacts))
    opened = time.perf_counter()
    vectors = [np.asarray(vector) for vector in describe(sorted(Path(folder).iterdir()))]
    seconds = time.perf_counter() - opened
    np.save(out, np.stack(vectors))
    print(json.dumps({"open": opened - started, "describe": seconds, "images": len(vectors)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
