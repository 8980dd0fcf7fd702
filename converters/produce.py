"""What runs in a writer's process: the model is built, then written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from converters import formats, handoff, plugins
from converters.writers.options import WriteOptions

__all__ = ["check_onnx", "write"]


def write(
    paths: Mapping[str, Path], weights: Path, options: WriteOptions, files: Sequence[Path] = ()
) -> Iterator[str]:
    """Write formats (name -> path) of the net whose weights `handoff.save` left in a folder.

    `files` are plugins. Yields what is about to be done, in words.
    """
    for file in files:
        for kind, factory in plugins.load(file).keras.items():
            import_module("netvlad_keras.graph").register(kind, factory)
    writers = {name: formats.load(formats.ARTIFACTS[name]) for name in paths}
    model = import_module("converters.build").build(*handoff.load(weights))
    for name, path in paths.items():
        yield f"write {path.name}"
        writers[name].write(model, path, options)


def check_onnx(path: Path) -> None:
    """The full check needs twice the file in memory, but no TensorFlow."""
    import_module("converters.writers.onnx_check").check(path)
