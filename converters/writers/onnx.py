"""Writes `model.onnx`: tf2onnx on the net without its weights, then the weights.

tf2onnx's memory grows with the weights by a factor of thirty or so; here the
net is traced with the weights as arguments, converted empty, and the weights
are streamed into the file as initializers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from tf2onnx.tfonnx import process_tf_graph

from converters.writers.onnx_graph import name_values, split_initializers
from converters.writers.onnx_stream import save
from converters.writers.options import WriteOptions
from netvlad_keras.spec import keras_name

__all__ = ["write"]

#: Behind the trunk no axis is a place in the image.
_HEAD_LAYOUTS = {
    **dict.fromkeys(("vlad:core", "vlad:intranorm"), "N1KD"),
    **dict.fromkeys(("max:core", "avg:core", "postL2", "WPCA", "finalL2"), "ND"),
}


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Write `model` as one ONNX file, `image` to `descriptor`.

    Initializers and inner values carry the canonical names; how the values
    lie in memory stands in `metadata_props["layouts"]`, what they are called,
    where that is not the layer's own name, in `metadata_props["values"]`.
    Raises `ConversionError` if tf2onnx has lost a layer.
    """
    weights = {name: _view(variable) for name, variable in model.canonical_weights.items()}
    proto = _weightless(model, list(weights), options)
    layers = [name for name, _ in model.spec.layers]
    scopes = {keras_name(name): name for name in ["input", *layers]}
    layouts = name_values(proto.graph, scopes, options.layout)
    initializers = split_initializers(proto.graph, weights)
    _declare(proto, model.spec.dimension, options)
    metadata = {
        **options.metadata,
        "layouts": json.dumps(
            {**layouts, **{n: v for n, v in _HEAD_LAYOUTS.items() if n in layouts}}
        ),
        "values": json.dumps({layers[-1]: "descriptor"}),
    }
    onnx.helper.set_model_props(proto, metadata)
    save(proto, initializers, path)


def _view(variable: Any) -> NDArray[np.float32]:
    """A variable's values where they lie; TensorFlow's `numpy()` would copy them."""
    return np.asarray(memoryview(tf.convert_to_tensor(variable.value)))


def _weightless(model: Any, names: list[str], options: WriteOptions) -> Any:
    """The net as a ModelProto whose weights are inputs, under their canonical names."""
    variables = model.canonical_weights
    place = {id(variable): index for index, variable in enumerate(variables.values())}

    def describe(image: Any, *weights: Any) -> dict[str, Any]:
        image = tf.cast(image, tf.float32)
        if options.layout == "nchw":
            image = tf.transpose(image, (0, 2, 3, 1))
        outputs, _ = model.stateless_call(
            [weights[place[id(v)]] for v in model.trainable_variables],
            [weights[place[id(v)]] for v in model.non_trainable_variables],
            image,
        )
        return {"descriptor": outputs}

    specs = [tf.TensorSpec(_shape(options), options.input_dtype, name="image")]
    specs += [
        tf.TensorSpec(variable.shape, tf.float32, name=f"weight_{index}")
        for index, variable in enumerate(variables.values())
    ]
    traced = tf.function(describe, autograph=False).get_concrete_function(*specs)
    proto = _converted(traced, options.opset)
    renamed = {f"weight_{index}:0": name for index, name in enumerate(names)}
    renamed |= {"image:0": "image", traced.outputs[0].name: "descriptor"}
    _rename(proto.graph, renamed)
    return proto


def _converted(traced: Any, opset: int) -> Any:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(traced.graph.as_graph_def(), name="")
        with tf.compat.v1.Session(graph=graph):
            converted = process_tf_graph(
                graph,
                opset=opset,
                input_names=[tensor.name for tensor in traced.inputs],
                output_names=[tensor.name for tensor in traced.outputs],
            )
            converted = tf2onnx.optimizer.optimize_graph(converted)
    return converted.make_model("NetVLAD", producer_name="netvlad-keras", producer_version="")


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*graph.input, *graph.output]:
        value.name = names.get(value.name, value.name)


def _shape(options: WriteOptions) -> tuple[int | None, ...]:
    height, width = options.size or (None, None)
    if options.layout == "nchw":
        return (options.batch, 3, height, width)
    return (options.batch, height, width, 3)


def _declare(proto: Any, dimension: int, options: WriteOptions) -> None:
    """Inputs and outputs with named dimensions, and nothing else among them."""
    names = ("batch", "height", "width", "channels")
    if options.layout == "nchw":
        names = ("batch", "channels", "height", "width")
    shape = [size or name for size, name in zip(_shape(options), names, strict=True)]
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(options.input_dtype))
    graph = proto.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(onnx.helper.make_tensor_value_info("image", dtype, shape))
    descriptor = [options.batch or "batch", dimension]
    graph.output.append(
        onnx.helper.make_tensor_value_info("descriptor", onnx.TensorProto.FLOAT, descriptor)
    )
