"""`netvlad-verify reference`: the oracle's run, kept in a file for those without the source."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint
from converters.errors import ConversionError
from verify import compare, oracle, plugins
from verify.arithmetic import FLOAT16, UNIT
from verify.capture import Images
from verify.declared import as_declared
from verify.folder import open_folder
from verify.inputs import Inputs
from verify.proof_file import FILENAME, Cost, Kept, Proof, fingerprint, save
from verify.reference import declared_crop, reference, subtracts, weights_of
from verify.rounding import rounded
from verify.sizes import smallest_size, takes

__all__ = ["make", "run"]

#: Up to so many numbers the outputs are kept in float64 (4 MB), and no more than so many at all.
_EXACT, _MOST = 2**19, 2**22
_INPUT = "photograph"


def run(options: argparse.Namespace) -> bool:
    """The command. Raises `ConversionError` for a source that cannot be executed."""
    if (options.folder is None) == (options.source is None):
        raise ConversionError("one of DIR and --source is needed, a folder that convert made or "
                              "a file of weights")  # fmt: skip
    if options.folder and options.dim is not None:
        raise ConversionError("--dim goes with --source", advice="Of a folder its manifest says it")
    manifest: Mapping[str, Any] = {}
    source, crop = options.source, options.dim
    if options.folder:
        made = open_folder(options.folder)
        if made.hashes:
            words = "; ".join(f"{name} {fault}" for name, fault in made.hashes.items())
            raise ConversionError(f"{options.folder}: {words}", advice="convert it again")
        manifest, source = made.manifest, made.sources[0]
        crop = declared_crop(manifest)
    with plugins.used(tuple(options.plugin)) as custom:
        checkpoint = as_declared(plugins.with_inputs(reference(source, crop), custom), manifest)
        proof = make(checkpoint, _images(checkpoint, manifest))
    target = options.output or (options.folder or Path()) / FILENAME
    save(proof, target)
    numbers = sum(kept.values.size for kept in proof.layers.values())
    print(f"{target}: {len(proof.layers)} layers, {numbers:,} numbers, "
          f"{len(proof.weights)} tensors, {target.stat().st_size:,} bytes")  # fmt: skip
    return True


def make(checkpoint: Checkpoint, images: Images) -> Proof:
    """Run the oracle on `images` and keep every layer.

    What is kept takes 16 MB at most: of a net of a large fixed size the largest layers are left
    out, and the artifacts' are then judged by the others and by their weights.
    """
    outputs = oracle.run(checkpoint, images)
    if not subtracts(checkpoint):
        made = {layer.name for layer in checkpoint.layers}
        given = {name: values for name, values in outputs.items() if name not in made}
        outputs = {name: values for name, values in outputs.items() if name in made}
    else:
        given = {}
    total = sum(values.size for values in outputs.values())
    for name in sorted(outputs, key=lambda each: -outputs[each].size):
        if total > _MOST:
            total -= outputs.pop(name).size
    if total > _EXACT:
        outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    narrow = oracle.run(checkpoint, images, np.float32), dict(FLOAT16.execute(checkpoint, images))
    return Proof(
        checkpoint=_bare(checkpoint),
        files={file.name: _sha256(file) for file in checkpoint.origin.files if file.is_file()},
        images=images,
        layers={name: _kept(checkpoint, name, {**given, **outputs}, narrow) for name in outputs},
        weights={name: fingerprint(values) for name, values in weights_of(checkpoint).items()},
    )


def _kept(
    checkpoint: Checkpoint,
    name: str,
    outputs: Mapping[str, Array],
    narrow: tuple[Mapping[str, Array], Mapping[str, Array]],
) -> Kept:
    """`narrow` are the runs in float32 and float16."""
    values = outputs[name]
    own, halved = None, None
    layer = next((each for each in checkpoint.layers if each.name == name), None)
    if layer and all(each in outputs for each in layer.inputs):
        inputs = [outputs[each].astype(np.float32) for each in layer.inputs]
        own = compare.reference(values, *rounded(checkpoint, name, inputs))
        # Whoever has the file alone can hand a layer nothing but these: what it costs to round
        # them is part of it.
        halved = compare.reference(values, FLOAT16.narrow(checkpoint, layer, inputs), unit=UNIT)
    single, half = narrow
    whole = compare.reference(values, single[name], least=own)
    whole_half = compare.reference(values, half[name], least=halved or whole)
    return Kept(values, _cost(own), Cost(whole.rounding, whole.peak),
                (_cost(halved), Cost(whole_half.rounding, whole_half.peak)))  # fmt: skip


def _cost(found: compare.Reference | None) -> Cost | None:
    return Cost(found.rounding, found.peak) if found else None


def _bare(checkpoint: Checkpoint) -> Checkpoint:
    """Without the weights; of the mean its first pixel."""
    mean = checkpoint.tensors.get(MEAN)
    return replace(checkpoint, tensors={} if mean is None else {MEAN: mean[:1, :1]})


def _images(checkpoint: Checkpoint, manifest: Mapping[str, Any]) -> Images:
    """A photograph, as small as leaves several positions at the last layer."""
    fixed = manifest.get("onnx", {}).get("size")
    least = smallest_size(checkpoint)
    size = max(2 * least[0], 32), max(3 * least[1], 48)
    stated = dict(manifest)
    if not fixed:
        size = size if takes(checkpoint, *size) else least
        stated["onnx"] = {**manifest.get("onnx", {}), "size": list(size)}
    (images,) = Inputs((_INPUT,), chosen=True).made(stated, checkpoint).values()
    return images


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
