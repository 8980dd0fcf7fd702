"""Runs one function in a fresh process: its memory is given back, its bytes are repeatable."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from converters.errors import EnvironmentFailure

__all__ = ["run"]

P = ParamSpec("P")
T = TypeVar("T")

#: TensorFlow reads these when it is imported. oneDNN's kernels round differently.
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
}
_PR_SET_PDEATHSIG = 1


def run(log: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args, **kwargs)` in a spawned process; errors come back as they are.

    What the process prints goes into the file `log`. Raises
    `EnvironmentFailure` with the end of it when the process dies, as one does
    that the system kills for its memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _settle, (os.getpid(), str(log))) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise EnvironmentFailure(
                f"the process that ran {function.__name__} died\n{said}".rstrip(),
                advice="most often memory ran out; close other programs and run it again",
            ) from error


def _settle(parent: int, log: str) -> None:
    """In the new process: its settings, its voice, and its end with its parent's."""
    os.environ.update(_ENVIRONMENT)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
