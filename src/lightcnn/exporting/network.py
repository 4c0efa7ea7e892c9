"""A functional Keras model -> an ONNX model, layer by layer."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import keras
import onnx
from onnx import helper

from lightcnn.errors import ExportError
from lightcnn.exporting.folding import fold_batch_norms, fold_scales
from lightcnn.exporting.front_ends import FRONT_ENDS, front_end
from lightcnn.exporting.graph import DTYPES, Graph, Value, plain
from lightcnn.exporting.layers import LAYERS, OPERATIONS

__all__ = ["to_onnx"]

# What a dynamic axis of an input is called, by the input's name; axis 0 is always the batch.
_AXES = {"samples": "samples", "features": "frames"}


def to_onnx(model: Any, mfm: str = "sum") -> onnx.ModelProto:
    """Writes a functional model as an ONNX model of opset 18, with the same inputs and outputs as in Keras.

    It works on every backend, since it looks at layers and weights only. Inside, images are channels-first, an MFM is
    `b + relu(a - b)`, whose parts runtimes merge into the convolutions, batch norms stand in the convolutions before
    them where their scales are positive, the scale of pixels in those behind it, and front ends are convolutions with
    cosines and sines.

    Args:
        model: A functional `keras.Model` of this package's layers and the common ones of Keras; float32.
        mfm: How the MFM of a convolution is written: `"sum"`, the fastest in float32, or `"split"`, two halves and
            their maximum, which is for 8 bits. The first behind a front end is a sum in any case: features differ
            in size from one to the next, and 8 bits for all of them cost more accuracy than all other layers.

    Returns:
        The ONNX model. Its inputs have the names of the model's; the size of the batch and what is `None` in Keras
        are free.

    Raises:
        ExportError: If the model holds a layer that has no counterpart here, which is named.

    Example:
    >>> to_onnx(lightcnn.models.lcnn((28, 28, 1), 10)).graph.output[0].name
    'probabilities'
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ExportError(
            f"Only functional models can be exported, and this is none: build it with keras.Model(inputs, outputs). "
            f"Received: {type(model).__name__}"
        )
    first = ["sum"] if any(type(layer) in FRONT_ENDS for layer in model.layers) else []
    graph = Graph(mfm=chain(first, repeat(mfm)))
    values, inputs = [], []
    for tensor in model.inputs:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        axes = [size if size is not None else _AXES.get(tensor.name, tensor.name) for size in tensor.shape[1:]]
        inputs.append(helper.make_tensor_value_info(graph.name(tensor.name), DTYPES[dtype], ["batch", *axes]))
        values.append(Value(graph, tensor.name, plain(len(tensor.shape)), dtype))
    results = _emit(graph, model, values)
    outputs = []
    for tensor, value in zip(model.outputs, results, strict=True):
        name = graph.name(tensor._keras_history.operation.name)
        graph.nodes.append(helper.make_node("Identity", [value.arranged().name], [name], name=f"{name}/Identity"))
        shape = [
            "batch",
            *(size if size is not None else f"{name}_{axis}" for axis, size in enumerate(tensor.shape[1:])),
        ]
        outputs.append(helper.make_tensor_value_info(name, DTYPES[value.dtype], shape))
    fold_batch_norms(graph)
    fold_scales(graph)
    finished = graph.model(inputs, outputs, model.name)
    onnx.checker.check_model(finished)
    return finished


def _emit(graph: Graph, model: Any, inputs: list[Value]) -> list[Value]:
    """Walks through a functional model as Keras does, and returns its outputs."""
    values = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    scope = graph.scope
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args, kwargs = node.arguments.fill_in(values)
            graph.scope = f"{scope}/{node.operation.name}".lstrip("/")
            results = _emit_one(graph, node.operation, args, kwargs)
            values |= {id(tensor): value for tensor, value in zip(node.outputs, results, strict=True)}
    graph.scope = scope
    return [values[id(tensor)] for tensor in model.outputs]


def _emit_one(graph: Graph, operation: Any, args: Any, kwargs: Any) -> list[Value]:
    kind = type(operation)
    kwargs = {key: value for key, value in kwargs.items() if key != "training" and value is not None}
    if hasattr(operation, "_nodes_by_depth"):  # a model within the model
        return _emit(graph, operation, [value for value in keras.tree.flatten((args, kwargs)) if value is not None])
    if kind in FRONT_ENDS:
        results = front_end(operation, *args, **kwargs)
    elif kind in LAYERS:
        results = LAYERS[kind](operation, *args, **kwargs)
    elif kind.__module__.startswith("keras.") and kind.__name__ in OPERATIONS:
        results = OPERATIONS[kind.__name__](operation, *args)
    else:
        known = ", ".join(sorted(one.__name__ for one in (*LAYERS, *FRONT_ENDS)))
        raise ExportError(
            f"The layer {operation.name!r} is a {kind.__name__}, which cannot be exported. Build the network without "
            f"it. Known layers: {known}."
        )
    return list(results) if isinstance(results, tuple) else [results]
