"""Reading a net's .mat file: wall time and peak memory beside scipy, mat-io and h5py.

Writes a seeded SimpleNN net as files of version 5, plain and compressed, and of
version 7.3, and a DagNN of 300 layers that share 17 parameters; then reads each
with this project's reader and with the libraries, every time in a process of its
own that has imported what it needs before the clock starts. All of the libraries
only read: this project's reader also checks every value and makes layers of them. In the sandbox it
does so in a child process; `first` is the first file of a process, which starts the one that
children are forked from. Of a sandbox's memory only the parent's part is counted.
The file is in the page cache. Memory is what the peak of the resident set rose by,
which holds the arrays themselves. Linux only.

    python benchmarks/read.py [--work DIR] [--megabytes 300] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from rich.console import Console
from rich.table import Table

from benchmarks.floors import compress, machine, measured
from converters import sandbox
from converters.errors import ReadError

_MATCONVNET = "converters.readers.matconvnet"
_WIDTH, _SHARED, _DEEP = 512, 17, 300
_HEADER = b"MATLAB 7.3 MAT-file, made by a benchmark".ljust(124) + b"\x00\x02IM"


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_read_once(options.one, options.file)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(machine(measured(options.work, 1 << 28)), highlight=False, soft_wrap=True)
    for name, write in _FILES.items():
        path = options.work / f"{name}_{options.megabytes}.mat"
        if not path.is_file():
            write(path, options.megabytes)
        console.print(_table(name, path, options.repeats))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What reading a .mat file costs.")
    folder = Path(tempfile.gettempdir()) / "netvlad-read-benchmark"
    add = parser.add_argument
    add("--work", type=Path, default=folder, metavar="DIR", help=f"default: {folder}")
    add("--megabytes", type=int, default=300, help="of weights, default: 300")
    add("--repeats", type=int, default=5, help="the median counts, default: 5")
    add("--one", choices=_READERS, help=argparse.SUPPRESS)
    add("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _table(name: str, path: Path, repeats: int) -> Table:
    size = path.stat().st_size
    table = Table(title=f"{name}, {size / 1e6:,.0f} MB on disk", title_justify="left")
    table.add_column("reader", no_wrap=True)
    for column in ("wall s", "of the first", "peak MB", "of the file"):
        table.add_column(column, justify="right")
    readers = [reader for reader, files in _READERS.items() if name in files]
    runs: dict[str, list[tuple[float, int]]] = {reader: [] for reader in readers}
    for _ in range(repeats):  # in turns, so that a busy moment meets all of them
        for reader in readers:
            runs[reader].append(_child(reader, path))
    times = {reader: statistics.median(seconds for seconds, _ in runs[reader]) for reader in runs}
    for reader, seconds in times.items():
        peak = statistics.median(memory for _, memory in runs[reader])
        ratios = (f"{seconds / times[readers[0]]:.2f}", f"{peak / size:.2f}")
        table.add_row(reader, f"{seconds:.3f}", ratios[0], f"{peak / 1e6:,.1f}", ratios[1])
    return table


def _child(reader: str, path: Path) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.read", "--one", reader, "--file", str(path)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    seconds, memory = json.loads(done.stdout)
    return float(seconds), int(memory)


def _read_once(reader: str, path: Path) -> tuple[float, int]:
    """Seconds, and bytes by which the peak of the resident set exceeds what it was before."""
    work = _prepared(reader)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    started = time.perf_counter()
    result = work(path)
    seconds = time.perf_counter() - started
    assert result is not None
    return seconds, _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def _prepared(reader: str) -> Callable[[Path], Any]:
    """The reader, with all that it imports imported."""
    if reader == "scipy":
        loadmat: Callable[[Path], Any] = scipy.io.loadmat
        return loadmat
    if reader == "mat-io":
        load: Callable[..., Any] = import_module("matio").load_from_mat
        return lambda path: load(str(path), raw_data=True)
    if reader == "h5py":
        return _walk
    for module in ("mat_v5", "mat_v73"):
        import_module(f"converters.readers.{module}")
    if reader == "sandbox":
        with suppress(ReadError):  # starts the process that children are forked from
            sandbox.read(Path("nothing.mat"), _MATCONVNET)
    if reader in ("sandbox", "sandbox, first"):
        return lambda path: sandbox.read(path, _MATCONVNET)
    read: Callable[[Path], Any] = import_module(_MATCONVNET).read
    return read


def _walk(path: Path) -> list[Any]:
    """Every dataset's array as h5py gives it: the least that a reader of 7.3 must do."""
    found: list[Any] = []
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda _, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return found


#: Reader -> the files that it can read; the first of those that can is what others are held to.
_READERS = {
    "scipy": ("plain", "compressed", "dagnn"),
    "h5py": ("v7.3",),
    "mat-io": ("plain", "compressed", "v7.3", "dagnn"),
    "netvlad-keras": ("plain", "compressed", "v7.3", "dagnn"),
    "sandbox": ("plain", "compressed", "v7.3", "dagnn"),
    "sandbox, first": ("plain",),
}


def _layers(megabytes: int) -> list[dict[str, Any]]:
    """Convolutions of 3×3×512×512 and what stands between them."""
    generator = np.random.default_rng(1)
    layers: list[dict[str, Any]] = []
    for index in range(max(1, round(megabytes * 1e6 / (4 * 9 * _WIDTH**2)))):
        filters = _filters(generator, _WIDTH)
        weights = np.empty((1, 2), dtype=object)
        weights[0] = filters, np.zeros((1, _WIDTH), np.float32)
        layers.append({"type": "conv", "name": f"conv{index}", "weights": weights, "pad": 1.0})
        layers.append({"type": "relu", "name": f"relu{index}"})
    return layers


def _filters(generator: np.random.Generator, width: int) -> Any:
    return np.asfortranarray(generator.standard_normal((3, 3, width, width), dtype=np.float32))


def _write_plain(path: Path, megabytes: int) -> None:
    scipy.io.savemat(path, {"net": {"layers": _cell(_layers(megabytes)), "meta": {"a": 1.0}}})


def _cell(items: list[Any]) -> Any:
    cell = np.empty((1, len(items)), dtype=object)
    cell[0] = items
    return cell


def _write_compressed(path: Path, megabytes: int) -> None:
    plain = path.with_name("draft.mat")
    _write_plain(plain, megabytes)
    compress(plain, path)
    plain.unlink()


def _write_dagnn(path: Path, megabytes: int) -> None:
    """A recursive net, as super-resolution has them: 300 layers, 17 parameters."""
    generator = np.random.default_rng(1)
    width = max(8, round((megabytes * 1e6 / (_SHARED * 36)) ** 0.5))
    params = [{"name": f"p{n}", "value": _filters(generator, width)} for n in range(_SHARED)]
    layers = []
    for index in range(_DEEP):
        kind, names = ("Conv", [f"p{index // 2 % _SHARED}"]) if index % 2 == 0 else ("ReLU", [])
        block = {"hasBias": 0.0, "pad": 1.0} if names else {"leak": 0.2}
        layers.append(
            {
                "name": f"layer{index}",
                "type": f"dagnn.{kind}",
                "inputs": _cell([f"v{index}"]),
                "outputs": _cell([f"v{index + 1}"]),
                "params": _cell(names) if names else np.empty((0, 0)),
                "block": block,
            }
        )
    scipy.io.savemat(path, {"net": {"layers": _cell(layers), "params": _cell(params)}})


def _write_v73(path: Path, megabytes: int) -> None:
    """As MATLAB lays it out: cells are references, axes are reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        net, refs = file.create_group("net"), file.create_group("#refs#")
        net.attrs["MATLAB_class"] = np.bytes_("struct")
        layers = [_stored(file, refs, layer) for layer in _layers(megabytes)]
        net["layers"] = np.array([[each] for each in layers], dtype=h5py.ref_dtype)
        net["layers"].attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as raw:
        raw.write(_HEADER)


def _stored(file: h5py.File, refs: h5py.Group, value: Any) -> h5py.Reference:
    name, kind = f"r{len(refs)}", "struct"
    if isinstance(value, dict):
        item = refs.create_group(name)
        for field, inside in value.items():
            file.move(file[_stored(file, refs, inside)].name, f"{item.name}/{field}")
    else:
        if isinstance(value, str):
            data, kind = np.array([[ord(letter)] for letter in value], np.uint16), "char"
        elif isinstance(value, float):
            data, kind = np.array([[value]]), "double"
        elif value.dtype == object:
            inside = [[_stored(file, refs, each)] for each in value.ravel()]
            data, kind = np.array(inside, dtype=h5py.ref_dtype), "cell"
        else:
            data, kind = value.T, "single"
        item = refs.create_dataset(f"d{len(refs)}", data=data)
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    reference: h5py.Reference = item.ref
    return reference


_FILES: dict[str, Callable[[Path, int], None]] = {
    "plain": _write_plain,
    "compressed": _write_compressed,
    "v7.3": _write_v73,
    "dagnn": _write_dagnn,
}

if __name__ == "__main__":
    main()
