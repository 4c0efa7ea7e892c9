"""Layers of sequences as ONNX nodes: LSTMs, masks, poolings over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lightcnn import layers
from lightcnn.errors import ExportError
from lightcnn.exporting.graph import Value, concatenate, where
from lightcnn.layers.pooling import _NOISE_VARIANCE

__all__ = ["SEQUENCE_LAYERS", "weight_array"]


def weight_array(weight: Any) -> Any:
    """Returns a weight of any backend as a float32 array."""
    return keras.ops.convert_to_numpy(weight).astype("float32")


def _lstm_weights(layer: Any) -> list[Any]:
    """Returns both kernels and the biases as ONNX has them, with the gates in the order input, output, forget, cell."""
    cell = layer.cell
    if cell.activation.__name__ != "tanh" or cell.recurrent_activation.__name__ != "sigmoid":
        raise ExportError(
            f"The LSTM {layer.name!r} has other activations than tanh and sigmoid: it cannot be exported."
        )
    kernel, recurrent = weight_array(cell.kernel), weight_array(cell.recurrent_kernel)
    bias = weight_array(cell.bias) if cell.use_bias else np.zeros(kernel.shape[-1], "float32")

    def ordered(weight: Any) -> Any:
        gates = np.split(weight, 4, axis=-1)  # Keras': input, forget, cell, output
        return np.concatenate([gates[0], gates[3], gates[1], gates[2]], axis=-1).T

    return [ordered(kernel), ordered(recurrent), np.concatenate([ordered(bias), np.zeros_like(bias)])]


def _recurrent(lstm: Any, sequences: Value) -> Value:
    """Returns what an LSTM makes of `(frames, batch, channels)` in this order, `(frames, batch, units)`."""
    if not lstm.return_sequences or lstm.return_state or lstm.stateful:
        raise ExportError(
            f"The LSTM {lstm.name!r} cannot be exported: only those with return_sequences=True and without state can."
        )
    graph = sequences.graph
    names = [graph.constant(weight[None], kind="kernel") for weight in _lstm_weights(lstm)]
    output = sequences.apply("LSTM", *names, hidden_size=lstm.units).name  # (frames, 1, batch, units)
    return sequences._with(name=graph.node("Squeeze", output, graph.constant([1], "int64")))


def _lstm(layer: Any, x: Value, mask: Value | None = None) -> Value:
    del mask  # what comes behind the end of a file changes nothing before it
    if layer.go_backwards:
        raise ExportError(f"The LSTM {layer.name!r} goes backwards and cannot be exported.")
    return _recurrent(layer, x.arranged((1, 0, 2)))


def _bidirectional(layer: Any, x: Value, mask: Value | None = None) -> Value:
    if not isinstance(layer.forward_layer, keras.layers.LSTM) or layer.merge_mode != "concat":
        raise ExportError(
            f"The layer {layer.name!r} cannot be exported: only concatenated LSTMs of both directions can."
        )
    # Two plain LSTMs, one on sequences that are turned round within their lengths: OpenVINO's own bidirectional LSTM
    # gives other numbers where a row is shorter than its batch.
    x = x.arranged((1, 0, 2))
    if mask is None:
        count, batch = x.size(1).cast("int32"), x.size(0)
        lengths = count._with(name=x.graph.node("Expand", count.name, batch.name))
    else:
        lengths = mask.cast("int32").reduce("ReduceSum", 1)
    lengths = lengths.cast("int64")

    def turned(sequences: Value) -> Value:
        return sequences.apply("ReverseSequence", lengths.name, time_axis=0, batch_axis=1)

    backwards = turned(_recurrent(layer.backward_layer, turned(x)))
    return concatenate([_recurrent(layer.forward_layer, x), backwards], -1)


def _frame_mask(layer: Any, features: Value, lengths: Value) -> Value:
    own: Value = lengths.cast("int32") // layer.stride
    return features.positions(1) < own.expanded(1)


def _zero_padding(layer: Any, features: Value, is_valid: Value) -> Value:
    mask = is_valid.expanded(*range(2, features.rank))
    # The mask's other axes have size one, so that it can stand in any order of the features.
    return where(mask.arranged(features.order), features, 0.0)


def _repeat_short(layer: Any, features: Value, lengths: Value) -> tuple[Value, Value]:
    graph, minimum = features.graph, layer.minimum
    lengths = lengths.cast("int32").maximum(1).minimum(features.size(1).cast("int32"))
    frames = graph.value(np.arange(minimum)[None], "int32")
    column = lengths.expanded(1)
    source = where(column < minimum, frames % column, frames)
    start = features.padded(1, 0, minimum).sliced(1, 0, minimum)
    gathered = start.arranged().apply("GatherND", source.expanded(2).cast("int64").name, batch_dims=1)
    return concatenate([gathered, features.arranged().sliced(1, minimum)], 1), lengths.maximum(minimum)


def _masked(x: Value, mask: Value | None) -> Value:
    return x if mask is None else where(mask.expanded(2), x, 0.0)


def _num_valid(x: Value, mask: Value | None) -> Value:
    """Returns the frames that count, `(batch, 1)` or `(1,)` float32."""
    return x.size(1).cast("float32") if mask is None else mask.cast("float32").reduce("ReduceSum", 1, keepdims=True)


def _frame_pooling(layer: Any, x: Value, mask: Value | None = None) -> Value:
    total = _masked(x, mask).reduce("ReduceSum", 1)
    return total if layer.mode == "sum" else total / _num_valid(x, mask).maximum(1.0)


def _attentive_pooling(layer: Any, x: Value, mask: Value | None = None) -> Value:
    frames = _masked(x, mask)
    attention = _masked(frames.matmul(weight_array(layer.kernel)).apply("Tanh").apply("Exp"), mask)
    weighted = frames * attention / attention.reduce("ReduceSum", 1, keepdims=True).maximum(1e-6)
    count = _num_valid(x, mask)
    total = weighted.reduce("ReduceSum", 1)
    deviations = _masked(weighted - (total / count.maximum(1.0)).expanded(1), mask)
    squares = (deviations * deviations).reduce("ReduceSum", 1)
    deviation = (squares / (count - 1.0).maximum(1.0) + _NOISE_VARIANCE).apply("Sqrt")
    return concatenate([total, deviation], -1)


SEQUENCE_LAYERS: dict[type, Callable[..., Any]] = {
    keras.layers.Bidirectional: _bidirectional,
    keras.layers.LSTM: _lstm,
    layers.AttentivePooling: _attentive_pooling,
    layers.FrameMask: _frame_mask,
    layers.FramePooling: _frame_pooling,
    layers.RepeatShort: _repeat_short,
    layers.ZeroPadding: _zero_padding,
}
