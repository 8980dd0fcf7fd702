"""NetVLAD's own dataset files: the `dbStruct` of a .mat, by its fields' names.

The fields are those of `datasets/dbBase.m` and of the files published beside it (pitts30k,
pitts250k, tokyo247). scipy's reader is not made for hostile files and can crash the process,
so `read` calls this module as a program: it prints an .npz of plain arrays.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from netvlad_keras.errors import DatasetError

__all__ = ["read"]

FIELDS = ("dbImageFns", "utmDb", "qImageFns", "utmQ", "posDistThr")

_OPTIONAL = "nonTrivPosDistSqThr"
_SECONDS = 120
_MEMORY = 4 << 30  # bytes of address space


def read(path: Path) -> dict[str, NDArray[Any]]:
    """`dbImageFns` [M], `utmDb` [M, 2], `qImageFns` [Q], `utmQ` [Q, 2], and two numbers.

    Positions and the radius `posDistThr` are metres, `nonTrivPosDistSqThr` is square metres: NaN
    where it is missing; float64. Raises `DatasetError`.
    """
    try:
        finished = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetError(path, f"takes more than {_SECONDS} s to read") from error
    if finished.returncode:
        last = finished.stderr.decode(errors="replace").strip().splitlines()[-1:]
        said = last[0] if last else f"the reader ended with {finished.returncode}"
        raise DatasetError(path, f"holds no dbStruct that can be read: {said}")
    with np.load(io.BytesIO(finished.stdout), allow_pickle=False) as file:
        return {name: file[name] for name in (*FIELDS, _OPTIONAL)}


def _fields(path: str) -> dict[str, NDArray[Any]]:
    found = scipy.io.loadmat(path, variable_names=["dbStruct"])
    if "dbStruct" not in found:
        raise ValueError("no variable dbStruct")
    struct = found["dbStruct"].reshape(-1)[0]
    if missing := [name for name in FIELDS if name not in (struct.dtype.names or ())]:
        raise ValueError(f"dbStruct lacks {', '.join(missing)}")
    names = {
        key: np.array([str(cell.reshape(-1)[0]) for cell in struct[key].reshape(-1)], np.str_)
        for key in ("dbImageFns", "qImageFns")
    }
    # posDistThr is a uint8 there: its square would not fit.
    numbers: dict[str, NDArray[Any]] = {
        "utmDb": np.array(struct["utmDb"], np.float64).T,
        "utmQ": np.array(struct["utmQ"], np.float64).T,
        "posDistThr": np.array(struct["posDistThr"].reshape(-1)[0], np.float64),
        _OPTIONAL: np.array(np.nan),
    }
    if _OPTIONAL in struct.dtype.names:
        numbers[_OPTIONAL] = np.array(struct[_OPTIONAL].reshape(-1)[0], np.float64)
    for key, positions in (("dbImageFns", "utmDb"), ("qImageFns", "utmQ")):
        if numbers[positions].shape != (len(names[key]), 2):
            shape = numbers[positions].T.shape
            raise ValueError(f"{len(names[key])} {key} and {positions} {shape}")
    return {**names, **numbers}


def _main(path: str) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    np.savez(sys.stdout.buffer, allow_pickle=False, **_fields(path))


if __name__ == "__main__":
    _main(sys.argv[1])
