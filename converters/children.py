"""Runs one function in a fresh process: its memory is given back, its bytes are repeatable."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from converters.errors import EnvironmentFailure

__all__ = ["follow", "run"]

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
    (value,) = _answers(log, function, args, kwargs)
    return value  # type: ignore[no-any-return]


def follow(
    log: Path, function: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs
) -> Iterator[T]:
    """What a generator function yields in a new process, each item as it comes; else as `run`."""
    return _answers(log, function, args, kwargs)


def _answers(
    log: Path, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}
    command = [sys.executable, "-m", __name__, str(os.getpid())]
    with (
        log.open("ab") as voice,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=voice,
            env=environment,
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError), child.stdin:
                pickle.dump((function, args, kwargs), child.stdin)
            while (answer := _next(child.stdout)) is not None:
                value, error = answer
                if error is not None:
                    raise error
                yield value
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        said = log.read_text(errors="replace")[-2000:]
        raise EnvironmentFailure(
            f"the process that ran {function.__name__} died ({child.returncode})\n{said}".rstrip(),
            advice="most often memory ran out; close other programs and run it again",
        )


def _next(answers: IO[bytes]) -> tuple[Any, BaseException | None] | None:
    try:
        return pickle.load(answers)  # type: ignore[no-any-return]
    except (EOFError, pickle.UnpicklingError):  # the end, or cut off in the middle
        return None


def _serve(parent: int) -> None:
    """In the new process: its end with its parent's, its voice into the log, its answers back."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    function, args, kwargs = pickle.load(sys.stdin.buffer)
    with answers:
        try:
            outcome = function(*args, **kwargs)
            for value in outcome if isinstance(outcome, Generator) else (outcome,):
                answers.write(pickle.dumps((value, None)))
                answers.flush()
        except Exception as error:
            answers.write(pickle.dumps((None, error)))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
