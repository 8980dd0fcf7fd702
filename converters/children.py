"""Runs one function in a fresh process: its memory is given back, its bytes are repeatable."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from converters.errors import EnvironmentFailure

__all__ = ["run"]

P = ParamSpec("P")
T = TypeVar("T")

_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",  # tf2onnx walks sets of strings
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels round differently
}
_PR_SET_PDEATHSIG = 1


def run(log: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args, **kwargs)` in a new process; errors come back as they are.

    The function and what it takes and gives must be picklable. What the
    process prints goes into the file `log`. Raises `EnvironmentFailure` with
    the end of it when the process dies, as one does that the system kills for
    its memory.
    """
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__, str(os.getpid())]
    with log.open("ab") as voice:
        done = subprocess.run(
            command,
            input=pickle.dumps((function, args, kwargs)),
            stdout=subprocess.PIPE,
            stderr=voice,
            env=environment,
            check=False,
        )
    if done.returncode:
        said = log.read_text(errors="replace")[-2000:]
        raise EnvironmentFailure(
            f"the process that ran {function.__name__} died ({done.returncode})\n{said}".rstrip(),
            advice="most often memory ran out; close other programs and run it again",
        )
    value, error = pickle.loads(done.stdout)
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _serve(parent: int) -> None:
    """In the new process: its end with its parent's, its voice into the log, its answer back."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    function, args, kwargs = pickle.load(sys.stdin.buffer)
    outcome: tuple[Any, BaseException | None]
    try:
        outcome = function(*args, **kwargs), None
    except Exception as error:
        outcome = None, error
    with answer:
        pickle.dump(outcome, answer)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
