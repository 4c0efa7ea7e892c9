"""One function a layer: what ONNX nodes it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lightcnn import layers
from lightcnn.errors import ExportError
from lightcnn.exporting.graph import Value, channels_first, concatenate, plain, where
from lightcnn.exporting.sequences import SEQUENCE_LAYERS, weight_array
from lightcnn.layers.heads import _BONA_FIDE, _SPOOF, _TINY

__all__ = ["LAYERS", "OPERATIONS"]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _padding(kernel: Any, strides: Any, padding: str) -> dict[str, Any]:
    """Returns the attribute that pads as Keras does: with `"same"`, what is odd comes behind."""
    if padding == "valid":
        return {}
    if max(strides) > 1:
        return {"auto_pad": "SAME_UPPER"}  # it depends on the size, which a runtime knows
    totals = [extent - 1 for extent in kernel]
    return {"pads": [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]}


def _check_channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ExportError(
            f"The layer {layer.name!r} has its channels first; only channels_last, Keras' default and what all "
            f"networks of this package have, can be exported. Received: data_format={layer.data_format!r}"
        )


def _convolved(layer: Any, x: Value, kernel: Any, bias: Any) -> Value:
    """Returns a 2-D convolution with a kernel `(height, width, in, out)`."""
    strides = _pair(layer.strides)
    weights = [x.graph.constant(kernel.transpose(3, 2, 0, 1), kind="kernel"), x.graph.constant(bias, kind="bias")]
    attributes = _padding(kernel.shape[:2], strides, layer.padding)
    x = x.arranged(channels_first(4))
    return x.apply("Conv", *weights, kernel_shape=kernel.shape[:2], strides=strides, **attributes)


def _multiplied(x: Value, kernel: Any, bias: Any) -> Value:
    """Returns the product of the last axis with a matrix, and a bias."""
    if x.rank == 2:
        names = (x.graph.constant(kernel, kind="kernel"), x.graph.constant(bias, kind="bias"))
        return x.apply("Gemm", *names)
    return x.matmul(kernel).arranged() + x.graph.value(bias)


def _weights(layer: Any) -> tuple[Any, Any]:
    kernel = weight_array(layer.kernel)
    return kernel, weight_array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], "float32")


def _conv(layer: Any, x: Value) -> Value:
    _check_channels_last(layer)
    if layer.dilation_rate != (1, 1) or layer.groups != 1:
        raise ExportError(f"The convolution {layer.name!r} has a dilation or groups, which cannot be exported.")
    return _activated(layer.activation, _convolved(layer, x, *_weights(layer)))


def _dense(layer: Any, x: Value) -> Value:
    return _activated(layer.activation, _multiplied(x, *_weights(layer)))


def _competed(x: Value, num_groups: int) -> Value:
    if num_groups == 2:
        first, second = x.split(2)
        return first.maximum(second)
    first, second, third = x.split(3)
    larger, smaller = first.maximum(second), first.minimum(second)
    return concatenate([larger.maximum(third), smaller.maximum(larger.minimum(third))], -1)


def _mfm_conv(layer: Any, x: Value) -> Value:
    kernel, bias = _weights(layer.convolution)
    if next(x.graph.mfm) == "split" or layer.num_groups != 2:
        whole = _convolved(layer.convolution, x, kernel, bias)
        competed = _competed(whole, layer.num_groups)
        if layer.num_groups == 2:
            x.graph.scalable[competed.name] = ((*_weight_names(whole), True),)
        return competed
    # max(a, b) = b + relu(a - b), and a - b is a convolution too. Runtimes put the relu and the sum into the
    # convolutions themselves, so that MFM costs no pass over memory; Split + Max is one that none of them saves.
    (first, second), (bias_1, bias_2) = np.split(kernel, 2, axis=-1), np.split(bias, 2)
    x = x.arranged(channels_first(4))
    difference = _convolved(layer.convolution, x, first - second, bias_1 - bias_2)
    other = _convolved(layer.convolution, x, second, bias_2)
    total = difference.apply("Relu") + other
    x.graph.scalable[total.name] = ((*_weight_names(difference), False), (*_weight_names(other), True))
    return total


def _weight_names(convolved: Value) -> tuple[str, str]:
    (node,) = (node for node in convolved.graph.nodes if node.output[0] == convolved.name)
    kernel, bias = node.input[1:]
    return kernel, bias


def _mfm_dense(layer: Any, x: Value) -> Value:
    return _competed(_multiplied(x, *_weights(layer.dense)), layer.num_groups)


def _residual(layer: Any, x: Value) -> Value:
    x = x.arranged(channels_first(4))
    return _mfm_conv(layer.second, _mfm_conv(layer.first, x)) + x


def _maxout(layer: Any, x: Value) -> Value:
    axis = layer.axis % x.rank
    count = layer.input.shape[axis] // layer.num_units
    names = x.graph.node("Split", x.name, outputs=count, axis=x.axis(axis), num_outputs=count)
    return x._with(name=x.graph.node("Max", *names)) if count > 1 else x


def _pooled(operator: str, **attributes: Any) -> Callable[[Any, Value], Value]:
    def emit(layer: Any, x: Value) -> Value:
        _check_channels_last(layer)
        sizes, strides = _pair(layer.pool_size), _pair(layer.strides)
        padding = _padding(sizes, strides, layer.padding)
        return x.arranged(channels_first(4)).apply(
            operator, kernel_shape=sizes, strides=strides, **padding, **attributes
        )

    return emit


def _global_pooled(operator: str) -> Callable[[Any, Value], Value]:
    def emit(layer: Any, x: Value) -> Value:
        _check_channels_last(layer)
        return x.reduce(operator, (1, 2), keepdims=layer.keepdims)

    return emit


def _normalized(layer: Any, x: Value, is_valid: Value | None = None) -> Value:
    del is_valid  # it counts in training only
    if layer.axis not in (-1, x.rank - 1):
        raise ExportError(f"The batch norm {layer.name!r} is not over the last axis, and cannot be exported.")
    size = layer.moving_mean.shape[0]
    gamma = weight_array(layer.gamma) if layer.scale else np.ones(size, "float32")
    beta = weight_array(layer.beta) if layer.center else np.zeros(size, "float32")
    arrays = (gamma, beta, weight_array(layer.moving_mean), weight_array(layer.moving_variance))
    names = [x.graph.name("statistic") for _ in arrays]  # names of their own: folding may change them
    x.graph.constants |= dict(zip(names, arrays, strict=True))
    return x.arranged(channels_first(x.rank)).apply("BatchNormalization", *names, epsilon=float(layer.epsilon))


def _rescaled(layer: Any, x: Value) -> Value:
    scale, offset = (np.asarray(value, "float32") for value in (layer.scale, layer.offset))
    # one a channel may come with axes of one before
    scale, offset = (value[0, 0] if value.shape[:-1] == (1, 1) else value for value in (scale, offset))
    if max(scale.ndim, offset.ndim) > 1 or not scale.all():
        return x * x.graph.value(scale) + x.graph.value(offset)
    # Channels first, since runtimes work along the last axis: with one or three channels there, each pixel costs a
    # call. The scale comes last, where it can be folded into a convolution.
    x = x.arranged(channels_first(x.rank))
    scale, offset = (value.reshape(-1, *[1] * (x.rank - 2)) for value in (scale, offset))
    moved = x.apply("Add", x.graph.constant(offset / scale)) if np.any(offset != 0) else x
    return moved.apply("Mul", x.graph.constant(scale, kind="scale")) if np.any(scale != 1) else moved


def _flattened(layer: Any, x: Value) -> Value:
    _check_channels_last(layer)
    return x.reshaped((0, -1))


def _reshaped(layer: Any, x: Value) -> Value:
    return x.reshaped((0, *layer.target_shape))


def _permuted(layer: Any, x: Value) -> Value:
    moved = (0, *layer.dims)  # axis j of the result is axis moved[j] of what comes in
    return x._with(order=tuple(moved.index(axis) for axis in x.order))


def _activation(layer: Any, x: Value) -> Value:
    return _activated(layer.activation, x)


# Keras' name of an activation -> ONNX's operator and its attributes
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}


def _activated(activation: Any, x: Value) -> Value:
    name = getattr(activation, "__name__", str(activation))
    if name == "linear" or activation is None:
        return x
    if name not in _ACTIVATIONS:
        raise ExportError(f"The activation {name!r} cannot be exported. Known: linear, {', '.join(_ACTIVATIONS)}.")
    operator, attributes = _ACTIVATIONS[name]
    return (x.arranged() if attributes else x).apply(operator, **attributes)


def _added(layer: Any, values: list[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _concatenated(layer: Any, values: list[Value]) -> Value:
    return concatenate(values, layer.axis)


def _unchanged(layer: Any, x: Value) -> Value:
    return x


def _mfm(layer: Any, x: Value) -> Value:
    return _competed(x, layer.num_groups)


def _length(x: Value) -> Value:
    return (x * x).reduce("ReduceSum", -1, keepdims=True).maximum(_TINY).apply("Sqrt")


def _cosines(layer: Any, x: Value, length: Value) -> Value:
    directions = keras.ops.convert_to_numpy(layer.directions())
    return (x / length).matmul(directions).maximum(-1.0).minimum(1.0)


def _cosine_head(layer: Any, x: Value) -> Value:
    return _cosines(layer, x, _length(x))


def _a_softmax_head(layer: Any, x: Value) -> Value:
    length = _length(x)
    cosines = _cosines(layer, x, length)
    weight = layer.lambda_min
    before, multiple = cosines * 0.0 + 1.0, cosines
    for _ in range(layer.margin - 1):
        before, multiple = multiple, 2.0 * cosines * multiple - before
    borders = np.cos(np.arange(1, layer.margin) * (np.pi / layer.margin)).astype("float32")
    passed = (cosines.expanded(2) <= x.graph.value(borders)).cast("int32").reduce("ReduceSum", -1)
    odd, k = (passed % 2).cast("float32"), passed.cast("float32")
    psi = (1.0 - 2.0 * odd) * multiple - 2.0 * k
    with_margin = (weight * cosines + psi) / (1 + weight)
    return length.expanded(2) * concatenate([cosines.expanded(2), with_margin.expanded(2)], -1)


def _column(x: Value, column: int) -> Value:
    return x.apply("Gather", x.graph.constant(column, "int64"), axis=1)._with(order=plain(x.rank - 1))


# head -> how its output becomes the score
_SCORES: dict[str, Callable[[Value], Value]] = {
    "softmax": lambda logits: _column(logits, _BONA_FIDE) - _column(logits, _SPOOF),
    "sigmoid": lambda logits: _column(logits, 0),
    "a_softmax": lambda logits: _column(_column(logits, _BONA_FIDE), 0),
    "am_softmax": lambda cosines: _column(cosines, _BONA_FIDE),
    "oc_softmax": lambda cosines: _column(cosines, 0),
    "p2sgrad": lambda cosines: _column(cosines, _BONA_FIDE),
}


def _score(layer: Any, x: Value) -> Value:
    return _SCORES[layer.head](x.arranged())


# A layer's class -> the function that emits it, which takes the layer and what the layer is called with.
LAYERS: dict[type, Callable[..., Any]] = SEQUENCE_LAYERS | {
    keras.layers.Activation: _activation,
    keras.layers.Add: _added,
    keras.layers.AveragePooling2D: _pooled("AveragePool", count_include_pad=0),
    keras.layers.BatchNormalization: _normalized,
    keras.layers.Concatenate: _concatenated,
    keras.layers.Conv2D: _conv,
    keras.layers.Dense: _dense,
    keras.layers.Dropout: _unchanged,
    keras.layers.Flatten: _flattened,
    keras.layers.GlobalAveragePooling2D: _global_pooled("ReduceMean"),
    keras.layers.GlobalMaxPooling2D: _global_pooled("ReduceMax"),
    keras.layers.Identity: _unchanged,
    keras.layers.MaxPooling2D: _pooled("MaxPool"),
    keras.layers.Permute: _permuted,
    keras.layers.Rescaling: _rescaled,
    keras.layers.Reshape: _reshaped,
    layers.ASoftmaxHead: _a_softmax_head,
    layers.BatchNormalization: _normalized,
    layers.BonaFideScore: _score,
    layers.CosineHead: _cosine_head,
    layers.FeatureMask: _unchanged,
    layers.MFMConv2D: _mfm_conv,
    layers.MFMDense: _mfm_dense,
    layers.MaskedBatchNormalization: _normalized,
    layers.MaxFeatureMap: _mfm,
    layers.Maxout: _maxout,
    layers.ResidualMFMBlock: _residual,
}

# Operations of `keras.ops` that a functional model holds where its function computes with symbolic tensors.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": lambda _, one, other: one + other,
    "Cast": lambda operation, x: x.cast(operation.dtype),
    "ConvertToTensor": lambda operation, x: x.cast(operation.dtype or x.dtype),
    "Divide": lambda _, one, other: one / other,
    "FloorDivide": lambda _, one, other: one // other,
    "Greater": lambda _, one, other: one > other,
    "Maximum": lambda _, one, other: one.maximum(other),
    "Minimum": lambda _, one, other: one.minimum(other),
    "Multiply": lambda _, one, other: one * other,
    "Subtract": lambda _, one, other: one - other,
    "Where": lambda _, *values: where(*values),
}
