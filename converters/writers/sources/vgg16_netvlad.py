"""VGG-16 with NetVLAD, the one net that three of the programs have, and what each leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.checkpoint import MEAN, Checkpoint, Layer
from converters.errors import LayerError

__all__ = ["CONVOLUTIONS", "PROGRAMS", "Program", "refuse", "unbuilt"]

_TRUNK = (
    *("conv1_1", "relu1_1", "conv1_2", "pool1", "relu1_2"),
    *("conv2_1", "relu2_1", "conv2_2", "pool2", "relu2_2"),
    *("conv3_1", "relu3_1", "conv3_2", "relu3_2", "conv3_3", "pool3", "relu3_3"),
    *("conv4_1", "relu4_1", "conv4_2", "relu4_2", "conv4_3", "pool4", "relu4_3"),
    *("conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3"),
)
#: A convolution -> its place. A pool and the relu beside it change places in torchvision's
#: `vgg16().features`, which gives the convolutions the same numbers.
CONVOLUTIONS = {name: place for place, name in enumerate(_TRUNK) if name.startswith("conv")}
_WIDTHS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}

#: (name, kind) of the layers behind the trunk.
Head = tuple[tuple[str, str], ...]


def _vlad(core: str) -> Head:
    norms = ("preL2", "normalize"), ("vlad:intranorm", "normalize")
    return norms[0], ("vlad:core", core), norms[1], ("postL2", "layerWholeL2Normalize")


_VLAD, _VLAD_V2 = _vlad("layerVLAD"), _vlad("layerVLADv2")
_MAX: Head = (("max:core", "layerTotalMaxPool"), ("postL2", "layerWholeL2Normalize"))
_AVG: Head = (("avg:core", "layerTotalAvgPool"), ("postL2", "layerWholeL2Normalize"))
_WHITE: Head = (("WPCA", "conv"), ("finalL2", "layerWholeL2Normalize"))


@dataclass(frozen=True, slots=True)
class Program:
    """What a program's code can run.

    name       in messages.
    heads      those that it has.
    clusters   K; 0: any.
    whitening  outputs of WPCA; 0: any. `always`: it builds no net without.
    """

    name: str
    heads: tuple[Head, ...]
    clusters: int = 0
    whitening: int = 0
    always: bool = False


#: By the name of the format. netvlad_tf_open: python/netvlad_tf/nets.py. hloc:
#: hloc/extractors/netvlad.py. pytorch-NetVlad: main.py, any number of clusters; it has no
#: whitening, that of Patch-NetVLAD's get_model (patchnetvlad/models/models_generic.py) has any
#: size, and raises an AttributeError on `avg`.
PROGRAMS = {
    "tf": Program("netvlad_tf_open's net", (_VLAD, (*_VLAD, *_WHITE)), 64, 4096, always=True),
    "hloc": Program("hloc's NetVLAD", (_VLAD, (*_VLAD, *_WHITE)), 64, 4096),
    "pytorch-netvlad": Program(
        "pytorch-NetVlad's model",
        (
            *(_VLAD, _VLAD_V2, _MAX, _AVG),
            *((*_VLAD, *_WHITE), (*_VLAD_V2, *_WHITE), (*_MAX, *_WHITE)),
        ),
    ),
}


def refuse(checkpoint: Checkpoint, path: Path, program: Program) -> None:
    """Raise `LayerError` with all that the program's format has no words for."""
    faults = dict(_structure(checkpoint.layers, program))
    if not faults:
        faults = dict(_settings(checkpoint)) | dict(_tensors(checkpoint, program))
    if faults:
        raise LayerError(path, faults, advice="write this net as a .mat file")


def unbuilt(checkpoint: Checkpoint, program: Program) -> dict[str, str]:
    """Layer -> how its size is not what the program's own code builds."""
    built = {name: _WIDTHS[name[4]] for name in CONVOLUTIONS}
    built |= {"vlad:core": program.clusters, "WPCA": program.whitening}
    found = {
        layer.name: checkpoint.tensors[layer.params[0]].shape[-1]
        for layer in checkpoint.layers
        if layer.params
    }
    faults = {
        name: f"has {found[name]} outputs, {program.name} builds {size}"
        for name, size in built.items()
        if size and found.get(name, size) != size
    }
    if program.always and "WPCA" not in found:
        faults["WPCA"] = f"this net lacks it, {program.name} always builds it"
    return faults


def _structure(layers: tuple[Layer, ...], program: Program) -> Iterator[tuple[str, str]]:
    """The format's code has one order of layers; its names could not say another."""
    found = {layer.name: layer.kind for layer in layers}
    head = max(program.heads, key=lambda head: _likeness(found, head))
    whole = {name: _KINDS[name[:4]] for name in _TRUNK} | dict(head)
    known = {name for each in program.heads for name, _ in each} | set(_TRUNK)
    faults = {name: f"{program.name} lacks it" for name in found if name not in known}
    core = next(name for name in dict(head) if name.endswith(":core"))
    misplaced = [name for name in found if name in known and name not in whole]
    faults |= dict.fromkeys(misplaced, f"{program.name} has none with {core}")
    faults |= {name: "this net lacks it" for name in whole if name not in found}
    for name, kind in found.items():
        if name in whole and kind != whole[name]:
            faults[name] = f"is a {kind}, {program.name} has a {whole[name]}"
    yield from faults.items()
    if not faults and [layer.name for layer in layers] != list(whole):
        yield "(net)", f"the layers stand in another order than {program.name} has them"


def _likeness(found: Mapping[str, str], head: Head) -> tuple[bool, int, int]:
    """The pooling counts most, then the layers that are there, then those that are not."""
    same = set(found.items()) & set(head)
    return any(name.endswith(":core") for name, _ in same), len(same), -len(head)


_KINDS = {"conv": "conv", "relu": "relu", "pool": "pool"}
_TRUNK_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "conv": {"pad": (1,) * 4, "stride": (1, 1), "dilate": (1, 1)},
    "pool": {"method": "max", "pool": (2, 2), "stride": (2, 2), "pad": (0,) * 4},
    "relu": {"leak": 0},
}
_WHITENING_SETTINGS = {"pad": (0,) * 4, "stride": (1, 1), "dilate": (1, 1)}


def _settings(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """These programs do not read settings: theirs are VGG-16's and NetVLAD's."""
    before = "input"
    for layer in checkpoint.layers:
        wanted = _TRUNK_SETTINGS.get(layer.kind, {})
        if layer.name == "WPCA":
            wanted = _WHITENING_SETTINGS
        wrong = [key for key, value in wanted.items() if layer.options[key] != value]
        if layer.kind == "normalize":
            width = checkpoint.tensors["conv5_3/weights/0"].shape[-1]
            window, *constants = layer.options["param"]
            if window < 2 * width or constants != [1e-12, 1, 0.5]:
                wrong = ["param"]
        if wrong:
            said = ", ".join(f"{key} {layer.options[key]}" for key in wrong)
            yield layer.name, f"{said}: the format cannot say it"
        if layer.inputs != (before,):
            yield layer.name, f"reads {', '.join(layer.inputs)}, not {before}"
        before = layer.name


def _tensors(checkpoint: Checkpoint, program: Program) -> Iterator[tuple[str, str]]:
    """Every layer has its weights, of shapes that fit together, and there are no others."""
    expected = {MEAN} | set(_shapes(checkpoint))
    for name, shape in _shapes(checkpoint).items():
        if name not in checkpoint.tensors:
            yield name.split("/")[0], f"this net has no {name}"
        elif checkpoint.tensors[name].shape != shape:
            yield (
                name.split("/")[0],
                f"{name} has shape {checkpoint.tensors[name].shape} for {shape}",
            )
    for name in checkpoint.tensors:
        if name not in expected:
            yield name.split("/")[0], f"{program.name} has no variable for {name}"
    mean = checkpoint.tensors.get(MEAN)
    if mean is None or mean.shape[-1] != 3:
        yield "(net)", "has no averageImage of three colours"


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The shape that each weight must have, by the first one of its layer."""
    tensors, channels = checkpoint.tensors, 3
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in checkpoint.layers:
        own = f"{layer.name}/weights/"
        width = tensors[own + "0"].shape[-1] if own + "0" in tensors else 0
        if layer.kind == "conv":
            size = (1, 1) if layer.name == "WPCA" else (3, 3)
            shapes |= {own + "0": (*size, channels, width), own + "1": (width,)}
            channels = width
        elif layer.kind.startswith("layerVLAD"):
            grid = (1, 1, channels, width)
            rest = ((width,), grid) if layer.kind == "layerVLADv2" else (grid,)
            shapes |= {f"{own}{n}": shape for n, shape in enumerate((grid, *rest))}
            channels *= width
    return shapes
