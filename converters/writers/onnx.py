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

from converters.writers.layers import computing
from converters.writers.onnx_graph import name_values, split_initializers
from converters.writers.onnx_layouts import head_layouts
from converters.writers.onnx_stream import save
from converters.writers.options import WriteOptions
from netvlad_keras.spec import source_name

__all__ = ["write"]

#: `reshape_optimizer` loses the Squeeze that it puts behind a graph's output, which a map of one
#: channel has: in some runs and not in others, as its sets happen to be ordered.
_OPTIMIZERS = {
    name: made
    for name, made in tf2onnx.optimizer._get_optimizers().items()
    if name != "reshape_optimizer"
}


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Write `model` as one ONNX file, its inputs and outputs by the spec's names.

    Initializers and inner values carry the canonical names; how the values
    lie in memory stands in `metadata_props["layouts"]`, what they are called,
    where that is not the layer's own name, in `metadata_props["values"]`.
    Raises `ConversionError` if tf2onnx has lost a layer.
    """
    spec = model.spec
    weights = {name: _view(variable) for name, variable in model.canonical_weights.items()}
    proto, shapes = _weightless(model, list(weights), options)
    scopes = {layer.name: source_name(layer.name) for layer in computing(model)}
    inputs = dict.fromkeys(dict(spec.inputs), options.layout.upper())
    values = name_values(proto.graph, scopes, inputs, dict(spec.outputs))
    initializers = split_initializers(proto.graph, weights)
    _state_axes(proto.graph)
    _declare(proto, spec, shapes, options)
    metadata = {
        **options.metadata,
        "layouts": json.dumps(
            {layer: axes for layer, (_, axes) in values.items()} | head_layouts(spec, values)
        ),
        "values": json.dumps({layer: name for layer, (name, _) in values.items() if name != layer}),
    }
    onnx.helper.set_model_props(proto, metadata)
    save(proto, initializers, path)


def _view(variable: Any) -> NDArray[np.float32]:
    """A variable's values where they lie; TensorFlow's `numpy()` would copy them."""
    return np.asarray(memoryview(tf.convert_to_tensor(variable.value)))


def _weightless(model: Any, names: list[str], options: WriteOptions) -> tuple[Any, list[Any]]:
    """The net as a ModelProto whose weights are inputs, under their canonical names.

    With the shape of each of its outputs, None for what depends on the input.
    """
    variables = model.canonical_weights
    place = {id(variable): index for index, variable in enumerate(variables.values())}
    inputs, outputs = model.spec.inputs, model.spec.outputs

    def compute(*arguments: Any) -> dict[str, Any]:
        images = [_channels_last(image, options) for image in arguments[: len(inputs)]]
        weights = arguments[len(inputs) :]
        found, _ = model.stateless_call(
            [weights[place[id(v)]] for v in model.trainable_variables],
            [weights[place[id(v)]] for v in model.non_trainable_variables],
            dict(zip(dict(inputs), images, strict=True)) if len(images) > 1 else images[0],
        )
        found = found if isinstance(found, dict) else {outputs[0][1]: found}
        laid = [_as_asked(found[name], options) for _, name in outputs]
        return {f"output_{index}": tf.identity(value) for index, value in enumerate(laid)}

    specs = [
        tf.TensorSpec(_shape(channels, options), options.input_dtype, name=f"input_{index}")
        for index, (_, channels) in enumerate(inputs)
    ]
    specs += [
        tf.TensorSpec(variable.shape, tf.float32, name=f"weight_{index}")
        for index, variable in enumerate(variables.values())
    ]
    traced = tf.function(compute, autograph=False).get_concrete_function(*specs)
    made = [traced.outputs[index] for index in _order(len(outputs))]
    proto = _converted(traced, options.opset)
    renamed = {f"weight_{index}:0": name for index, name in enumerate(names)}
    renamed |= {f"input_{index}:0": name for index, (name, _) in enumerate(inputs)}
    renamed |= {value.name: name for value, (_, name) in zip(made, outputs, strict=True)}
    _rename(proto.graph, renamed)
    return proto, [value.shape.as_list() for value in made]


def _order(count: int) -> list[int]:
    """Where TensorFlow, which sorts a table's keys, has put `output_0`, `output_1`, ..."""
    keys = sorted(f"output_{index}" for index in range(count))
    return [keys.index(f"output_{index}") for index in range(count)]


def _channels_last(image: Any, options: WriteOptions) -> Any:
    image = tf.cast(image, tf.float32)
    return tf.transpose(image, (0, 2, 3, 1)) if options.layout == "nchw" else image


def _as_asked(value: Any, options: WriteOptions) -> Any:
    """A map comes out in the layout in which images go in; a vector has none."""
    turned = options.layout == "nchw" and value.shape.rank == 4
    return tf.transpose(value, (0, 3, 1, 2)) if turned else value


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
            converted = tf2onnx.optimizer.optimize_graph(converted, optimizers=_OPTIMIZERS)
    return converted.make_model("NetVLAD", producer_name="netvlad-keras", producer_version="")


def _state_axes(graph: Any) -> None:
    """Every softmax says its axis, the last: OpenCV 4.8 takes one that does not for axis 1."""
    for node in graph.node:
        if node.op_type == "Softmax" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("axis", -1))


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*graph.input, *graph.output]:
        value.name = names.get(value.name, value.name)


def _shape(channels: int, options: WriteOptions) -> tuple[int | None, ...]:
    height, width = options.size or (None, None)
    if options.layout == "nchw":
        return (options.batch, channels, height, width)
    return (options.batch, height, width, channels)


def _declare(proto: Any, spec: Any, shapes: list[Any], options: WriteOptions) -> None:
    """Inputs and outputs with named dimensions, and nothing else among them."""
    axes = ["batch", "height", "width", "channels"]
    if options.layout == "nchw":
        axes = ["batch", "channels", "height", "width"]
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(options.input_dtype))
    graph = proto.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    for name, channels in spec.inputs:
        own = "" if len(spec.inputs) == 1 else f"{name}_"
        called = [axis if axis == "batch" else own + axis for axis in axes]
        dims = [size or axis for size, axis in zip(_shape(channels, options), called, strict=True)]
        graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, dims))
    for (_, name), shape in zip(spec.outputs, shapes, strict=True):
        called = ["batch", *(f"{name}_{axis}" for axis in axes[1:])]
        dims = [size or axis for size, axis in zip(shape, called, strict=False)]
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
