"""Front ends as ONNX nodes: convolutions with cosines and sines, and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lightcnn import frontends
from lightcnn.exporting.graph import Value, channels_first, concatenate, where
from lightcnn.frontends.constant_q import _HALF_WIDTH, _LOW_PASS
from lightcnn.frontends.spectra import _LOGARITHMS

__all__ = ["FRONT_ENDS", "front_end"]


class _Library:
    """What a front end counts its frames with, on values."""

    @staticmethod
    def maximum(one: Value, other: Any) -> Value:
        return one.maximum(other)


def _zero_after(x: Value, lengths: Value) -> Value:
    inside = x.positions(1) < lengths.expanded(1)
    return where(inside if x.rank == 2 else inside.expanded(2).arranged(x.order), x, 0.0)


def front_end(layer: Any, samples: Value, lengths: Value | None = None) -> Value:
    """Returns the features of samples `(batch, samples)`, as the layer's own `call` does."""
    num_frames = None
    if lengths is not None:
        lengths = lengths.cast("int32").minimum(samples.size(1).cast("int32"))
        samples = _zero_after(samples, lengths)
        num_frames = where(lengths > 0, layer._count_frames(lengths, _Library), 0)
    features: Value = FRONT_ENDS[type(layer)](layer, samples, lengths, num_frames)
    return features if num_frames is None else _zero_after(features, num_frames)


def _convolved(samples: Value, kernel: Any, step: int, before: int = 0, behind: int = 0) -> Value:
    """Returns samples times a kernel `(length, columns)` every `step` samples, `(batch, frames, columns)`."""
    weights = samples.graph.constant(np.ascontiguousarray(kernel.T[:, None]), kind="kernel")
    image = samples.expanded(1)
    name = image.graph.node(
        "Conv", image.name, weights, kernel_shape=kernel.shape[:1], strides=[step], pads=[before, behind]
    )
    return Value(samples.graph, name, channels_first(3))


def _projected(layer: Any, samples: Value, lengths: Value | None, kernel: Any) -> Value:
    """Returns the frames of a `ShortTimeFrontEnd` times a matrix that has the window in it."""
    if layer.pre_emphasis:
        taps = np.array([[-layer.pre_emphasis], [1.0]], "float32")
        samples = _convolved(samples, taps, 1, before=1).reshaped((0, -1))
        if lengths is not None:
            samples = _zero_after(samples, lengths)  # one sample past a row's end the filter still rings
    products = _convolved(samples, kernel, layer.frame_step, layer._before, layer._behind)
    if layer.framing != "pad_tail":
        return products
    return products.sliced(1, 0, layer._count_frames(samples.size(1), _Library))


def _squares(layer: Any, samples: Value, lengths: Value | None) -> Value:
    """Returns the squares of real parts, then those of imaginary parts, `(batch, frames, 2 * bins)`."""
    if layer.transform != "matrix":
        layer = type(layer).from_config({**layer.get_config(), "transform": "matrix"})
    products = _projected(layer, samples, lengths, layer._kernel[:, 0])
    return products * products


def _magnitude(power: Value) -> Value:
    return where(power > 0.0, power.maximum(1e-30).apply("Sqrt"), 0.0)


def _measured(layer: Any, power: Value) -> Value:
    return power if layer.quantity == "power" else _magnitude(power)


def _log(layer: Any, values: Value) -> Value:
    if layer.log is None:
        return values
    if layer.minimum:
        values = values.maximum(layer.minimum)
    logarithm = (values + layer.epsilon if layer.epsilon else values).apply("Log")
    factor = _LOGARITHMS[layer.log]
    return logarithm if factor == 1.0 else logarithm * factor


def _sum_of_parts(squares: Value) -> Value:
    real, imaginary = squares.split(2)
    return real + imaginary


def _spectrum(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    return _log(layer, _measured(layer, _sum_of_parts(_squares(layer, samples, lengths))))


def _filtered(layer: Any, samples: Value, lengths: Value | None, filters: Any) -> Value:
    """Returns the logarithm of a spectrum times `filters` `(bins, columns)`."""
    squares = _squares(layer, samples, lengths)
    if layer.quantity == "power":  # the matrix adds real and imaginary parts too
        return _log(layer, squares.matmul(np.concatenate([filters, filters])))
    return _log(layer, _magnitude(_sum_of_parts(squares)).matmul(filters))


def _filter_bank(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    return _filtered(layer, samples, lengths, layer.filters)


def _lfcc(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    filters, cosines = layer.filters, layer.cosines
    if layer.energy:  # one more filter that lets everything through, whose logarithm is the 0th coefficient
        filters = np.concatenate([filters, np.full((len(filters), 1), 1 / layer._fft_length, "float32")], axis=1)
        cosines = np.pad(cosines, ((0, 1), (0, 0)))
        cosines[:, 0] = 0
        cosines[-1, 0] = 1
    return _with_deltas(layer, _filtered(layer, samples, lengths, filters).matmul(cosines), num_frames)


def _with_deltas(layer: Any, coefficients: Value, num_frames: Value | None) -> Value:
    parts, half_width = [coefficients], layer.delta_half_width
    taps = layer.delta_scale * np.arange(-half_width, half_width + 1)
    for _ in range(layer.delta_orders):
        x = parts[-1]
        if num_frames is not None:  # a row ends where its own last frame is, and that one is repeated
            steps, ends = x.positions(1).expanded(0, 2), (num_frames - 1).expanded(1, 2)
            is_end, is_inside = _equal(steps, ends).arranged(x.order), (steps <= ends).arranged(x.order)
            last = where(is_end, x, 0.0).reduce("ReduceSum", 1, keepdims=True)
            x = where(is_inside, x, last)
        parts.append(_along_time(x.padded(1, half_width, half_width, mode="edge"), taps))
    return concatenate(parts, -1)


def _along_time(x: Value, taps: Any) -> Value:
    """Returns the correlation of every feature with taps over time."""
    kernel = x.graph.constant(np.asarray(taps, "float32").reshape(1, 1, 1, -1))
    x = x.arranged(channels_first(3))
    axis = x.graph.constant([1], "int64")
    return x.apply("Unsqueeze", axis).apply("Conv", kernel).apply("Squeeze", axis)


def _equal(one: Value, other: Value) -> Value:
    return one._binary("Equal", other, "bool")


def _dct_frames(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    return _projected(layer, samples, lengths, layer._kernel[:, 0])


def _log_constant_q(layer: Any, samples: Value) -> Value:
    # As `ConstantQ._transformed`: the audio at halved rates, each with what its low-pass rings before time 0.
    count = layer._count_frames(samples.size(1), _Library)
    rates = [(samples, 0)]
    for _ in range(max(level for level, _ in layer._kernels)):
        earlier, had = rates[-1]
        before = -(-(had + _HALF_WIDTH) // 2)
        halved = _convolved(earlier, _LOW_PASS, 2, 2 * before + _HALF_WIDTH - had, 2 * _HALF_WIDTH)
        rates.append((halved.reshaped((0, -1)), before))
    powers = []
    for level, kernel in layer._kernels:
        audio, before = rates[level]
        reach = kernel.shape[0] // 2
        if before > reach:
            audio = audio.sliced(1, before - reach)
        products = _convolved(audio, kernel, layer.frame_step >> level, max(reach - before, 0), reach + 1)
        products = products.sliced(1, 0, count)
        powers.append(_sum_of_parts(products * products))
    return _log(layer, _measured(layer, concatenate(powers, -1)))


def _constant_q(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    return _log_constant_q(layer, samples)


def _cqcc(layer: Any, samples: Value, lengths: Value | None, num_frames: Value | None) -> Value:
    return _with_deltas(layer, _log_constant_q(layer, samples).matmul(layer.cosines), num_frames)


# A front end's class -> the function from samples, lengths and numbers of frames to features.
FRONT_ENDS: dict[type, Callable[[Any, Value, Value | None, Value | None], Value]] = {
    frontends.CQCC: _cqcc,
    frontends.ConstantQ: _constant_q,
    frontends.DCTFrames: _dct_frames,
    frontends.FilterBank: _filter_bank,
    frontends.LFCC: _lfcc,
    frontends.Spectrum: _spectrum,
}
