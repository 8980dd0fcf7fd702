"""Named sources that are made here, written as the files in which NetVLAD is published.

Each becomes a MatConvNet `.mat` and a TensorFlow checkpoint in the cache, which
are then read like anyone's.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from converters import cache, children, imagenet_vgg16, mini, offtheshelf
from converters.catalogue import NamedSource, Progress, Provided
from converters.checkpoint import Checkpoint
from converters.errors import EnvironmentFailure

__all__ = ["RECIPE", "provide"]

#: Raised when what is written of the same inputs changes, so that old files are made again.
RECIPE = 1


def provide(source: NamedSource, folder: Path, progress: Progress) -> Provided:
    """The net's `.mat` and its checkpoint's prefix, made where they are absent or changed.

    Raises `EnvironmentFailure` where TensorFlow, which writes the checkpoint,
    is missing.
    """
    make, inputs = _MAKERS[source.name]
    prefix = folder / source.netvlad_name
    mat = folder / f"{source.netvlad_name}.mat"
    made_of = f"{source.name} {RECIPE} {inputs()}"
    if not cache.holds(folder, made_of, progress):
        if find_spec("tensorflow") is None:
            raise EnvironmentFailure(
                f"making {source.name} needs tensorflow, which is not installed",
                advice="pip install 'netvlad-keras[convert]'",
            )
        checkpoint = make(folder, progress)
        with TemporaryDirectory() as scratch:
            for writer, path in (("matconvnet", mat), ("netvlad_tf", prefix)):
                progress(f"write {path.name}", 0, None)
                children.run(Path(scratch) / "log", _write, writer, checkpoint, path)
        cache.keep(folder, made_of, sorted(folder.glob(f"{source.netvlad_name}.*")))
    return Provided((mat, prefix))


def _write(name: str, checkpoint: Checkpoint, path: Path) -> None:
    """In a process of its own: TensorFlow's memory is given back."""
    import_module(f"converters.writers.sources.{name}").write(checkpoint, path)


def _offtheshelf(folder: Path, progress: Progress) -> Checkpoint:
    tarball = folder / imagenet_vgg16.FILENAME
    if not tarball.is_file() or cache.sha256(tarball) != imagenet_vgg16.SHA256:
        imagenet_vgg16.download(
            tarball, lambda done, total: progress(imagenet_vgg16.FILENAME, done, total)
        )
    return offtheshelf.offtheshelf(tarball)


def _clusters() -> str:
    return f"{imagenet_vgg16.SHA256} {cache.sha256(offtheshelf.CLUSTERS)}"


#: By name: what makes the net, and what it is made of.
_MAKERS: dict[str, tuple[Callable[[Path, Progress], Checkpoint], Callable[[], str]]] = {
    "offtheshelf": (_offtheshelf, _clusters),
    "mini": (lambda folder, progress: mini.mini(), lambda: str(mini.SEED)),
}
