"""One failing layer as a folder that others can run, in ONNX's own layout for test data.

model.onnx                      the layer alone
test_data_set_0/input_N.pb      what it was fed with, in the order of its inputs
test_data_set_0/output_0.pb     what the source gives
test_data_set_0/found_0.pb      what the artifact gave
README.txt                      how to run it
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from converters.errors import EnvironmentFailure
from verify.capture import Array
from verify.report.words import plain

__all__ = ["folder_name", "write"]

_RUN = (
    "import glob, numpy, onnx, onnxruntime; "
    "load = lambda path: onnx.numpy_helper.to_array(onnx.load_tensor(path)); "
    "run = onnxruntime.InferenceSession('model.onnx', providers=['CPUExecutionProvider']); "
    "data = 'test_data_set_0/'; "
    "feed = {put.name: load(f'{data}input_{n}.pb') for n, put in enumerate(run.get_inputs())}; "
    "out = run.run(None, feed)[0]; "
    "print(*(f'{name}: max |d| {numpy.abs(out - load(path)).max():.3g}' "
    "for name in ('output_0', 'found_0') for path in glob.glob(f'{data}{name}.pb')), sep='; ')"
)


def folder_name(artifact: str, layer: str) -> str:
    """`<artifact>-<layer>`, and `.XX` in hex for what a file's name may not have: `vlad.3Acore`."""
    return "-".join(
        re.sub(
            r"[^\w.-]",
            lambda found: "".join(f".{b:02X}" for b in found[0].encode("utf-8", "surrogatepass")),
            name,
        )
        for name in (artifact, layer)
    )


def write(
    folder: Path,
    model: onnx.ModelProto | None,
    inputs: Sequence[Array],
    expected: Array,
    found: Array | None,
) -> None:
    """Write the bundle as `folder`, which it replaces whole.

    model     the layer alone, with as many graph inputs as `inputs` and one output;
              None where it could not be made: the tensors are kept all the same.
    inputs    with their axes in the model's order; they are written in the model's types.
    expected  what the source gives, `found` what the artifact gave if it gave anything.

    Raises `EnvironmentFailure` where the disk refuses.
    """
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        building.chmod(0o755)
        _fill(building, model, {**_named("input", inputs), "output_0": expected}, found)
        (building / "README.txt").write_text(_readme(folder.name, model is not None), "utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    except OSError as error:
        raise EnvironmentFailure(
            f"{folder}: the repro cannot be written: {error.strerror or error}",
            advice="make room, or name a folder that may be written to",
        ) from error
    finally:
        if building:
            shutil.rmtree(building, ignore_errors=True)


def _named(stem: str, arrays: Sequence[Array]) -> dict[str, Array]:
    return {f"{stem}_{place}": array for place, array in enumerate(arrays)}


def _fill(
    folder: Path, model: onnx.ModelProto | None, arrays: dict[str, Array], found: Array | None
) -> None:
    data = folder / "test_data_set_0"
    data.mkdir()
    types = _input_types(model) if model is not None else {}
    if found is not None:
        arrays["found_0"] = found
    for name, array in arrays.items():
        array = np.ascontiguousarray(array, types.get(name))
        tensor = numpy_helper.from_array(array, name)
        onnx.save_tensor(tensor, str(data / f"{name}.pb"))
    if model is not None:
        onnx.save(model, str(folder / "model.onnx"))


def _input_types(model: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    """File -> what the model takes, which need not be float32."""
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    return {
        f"input_{place}": onnx.helper.tensor_dtype_to_np_dtype(kind)
        for place, kind in enumerate(kinds)
    }


def _readme(title: str, runnable: bool) -> str:
    """Three lines."""
    data = "output_0.pb is what the source gives, found_0.pb what the artifact gave."
    if not runnable:
        how = "There is no model.onnx: this layer could not be cut out of its net."
        return f"{plain(title)}\nIn test_data_set_0, {data}\n{how}\n"
    how = "Run it in this folder, where onnx and onnxruntime are installed"
    return f'{plain(title)}: in test_data_set_0, {data}\n{how}:\npython -c "{_RUN}"\n'
