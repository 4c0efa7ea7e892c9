"""Cosine transforms: LFCC with deltas and energy, and the DCT of frames."""

import keras
import numpy as np
from keras import ops

from lightcnn.frontends.filter_banks import FilterBank
from lightcnn.frontends.framing import ShortTimeFrontEnd, check_integer, check_number

__all__ = ["DCTFrames", "LFCC", "check_deltas", "cosine_transform", "with_deltas"]


def cosine_transform(length, num_coefficients=None):
    """Returns the orthonormal DCT-II as a float64 matrix `(length, num_coefficients)`: `values @ matrix`.

    Args:
        length: Integer. How many values are transformed.
        num_coefficients: Integer. How many coefficients are kept, from the 0th on. None: all.

    Example:
    >>> lightcnn.frontends.cosine_transform(4, 2).round(3).T
    array([[ 0.5  ,  0.5  ,  0.5  ,  0.5  ],
           [ 0.653,  0.271, -0.271, -0.653]])
    """
    orders = np.arange(num_coefficients or length)
    waves = np.cos(np.pi / length * np.outer(np.arange(length) + 0.5, orders))
    return waves * np.where(orders == 0, np.sqrt(1 / length), np.sqrt(2 / length))


def check_deltas(delta_orders, delta_half_width, delta_scale):
    """Raises ValueError where the arguments of deltas do not fit."""
    check_integer("delta_orders", delta_orders, 0)
    check_integer("delta_half_width", delta_half_width)
    check_number("delta_scale", delta_scale)


def with_deltas(features, orders, half_width, scale, num_frames):
    """Returns features followed by their `orders` deltas, `(batch, frames, (1 + orders) * features)`."""
    parts = [features]
    for _ in range(orders):
        parts.append(_deltas(parts[-1], half_width, scale, num_frames))
    return ops.concatenate(parts, axis=-1)


def _deltas(features, half_width, scale, num_frames):
    last = features[:, -1:]
    if num_frames is not None:  # a row ends where its own last frame is, and that one is repeated
        steps = ops.arange(ops.shape(features)[1], dtype="int32")[None, :, None]
        ends = num_frames[:, None, None] - 1
        last = ops.sum(ops.where(steps == ends, features, ops.zeros_like(features)), axis=1, keepdims=True)
        features = ops.where(steps <= ends, features, last)
    before, behind = (ops.repeat(edge, half_width, axis=1) for edge in (features[:, :1], last))
    padded = ops.concatenate([before, features, behind], axis=1)
    count = 2 * half_width

    def shifted(by):
        start = half_width + by
        return padded[:, start : start - count or None]

    return scale * sum(by * (shifted(by) - shifted(-by)) for by in range(1, half_width + 1))


@keras.saving.register_keras_serializable(package="lightcnn")
class LFCC(FilterBank):
    """Linear-frequency cepstral coefficients, with their deltas.

    The DCT-II (orthonormal) of the logarithm of a linear filter bank. With `scale="mel"` they are mel-frequency
    cepstral coefficients. Computed in float32 whatever the dtype policy; it has no weights. The 'baseline LFCCs' of
    the ASVspoof challenges differ in nearly every argument: see `lightcnn.frontends.PRESETS`.

    Reference:
        Sahidullah, Kinnunen, Hanilci, "A Comparison of Features for Synthetic Speech Detection", Interspeech 2015:
        https://www.isca-archive.org/interspeech_2015/sahidullah15_interspeech.html

    Args:
        num_filters: Integer.
        num_coefficients: Integer of at most `num_filters`, from the 0th coefficient on. None: `num_filters`.
        energy: Boolean. Whether the 0th coefficient is replaced by the logarithm of the frame's energy, the sum of the
            kept bins of the spectrum divided by `fft_length`.
        delta_orders: Integer. 2: deltas and their deltas follow the coefficients. 0: none.
        delta_half_width: Integer `h`: a delta is `sum of i (c[t + i] - c[t - i])` over `i` from 1 to `h`. Before the
            first frame that one is repeated, and behind the last frame the last.
        delta_scale: Float that every delta is multiplied with; HTK's regression has `1 / (2 * sum of i^2)`.
        **kwargs: The other arguments of `FilterBank` and `Spectrum`.

    Call arguments:
        samples, lengths: As in `Spectrum`.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, frames, (1 + delta_orders) * num_coefficients)`; float32.

    Raises:
        ValueError: As `FilterBank`.

    Attributes:
        filters: The float32 matrix `(bins, num_filters)` that a spectrum is multiplied with.
        cosines: The float32 matrix `(num_filters, num_coefficients)` that its logarithm is multiplied with.

    Example:
    >>> front_end = lightcnn.frontends.LFCC(20, fft_length=512)
    >>> front_end(np.zeros((2, 16000), "float32")).shape
    TensorShape([2, 99, 60])
    """

    def __init__(
        self,
        num_filters,
        num_coefficients=None,
        energy=False,
        delta_orders=2,
        delta_half_width=1,
        delta_scale=1.0,
        **kwargs,
    ):
        check_deltas(delta_orders, delta_half_width, delta_scale)
        super().__init__(num_filters, **kwargs)
        if num_coefficients is not None:
            check_integer("num_coefficients", num_coefficients)
            if num_coefficients > num_filters:
                raise ValueError(
                    f"`num_coefficients` must be at most `num_filters`={num_filters}. "
                    f"Received: num_coefficients={num_coefficients}"
                )
        self.num_coefficients = num_coefficients
        self.energy = energy
        self.delta_orders = delta_orders
        self.delta_half_width = delta_half_width
        self.delta_scale = delta_scale
        self.cosines = cosine_transform(num_filters, num_coefficients).astype("float32")

    @property
    def num_features(self):
        return (1 + self.delta_orders) * self.cosines.shape[1]

    def get_config(self):
        return {
            **super().get_config(),
            "num_coefficients": self.num_coefficients,
            "energy": self.energy,
            "delta_orders": self.delta_orders,
            "delta_half_width": self.delta_half_width,
            "delta_scale": self.delta_scale,
        }

    def _features(self, samples, lengths, num_frames):
        spectrum = self._spectrum(samples, lengths)
        coefficients = ops.matmul(self._log(ops.matmul(spectrum, self.filters)), self.cosines)
        if self.energy:
            energy = ops.sum(spectrum, axis=-1, keepdims=True) / self._fft_length
            coefficients = ops.concatenate([self._log(energy), coefficients[..., 1:]], axis=-1)
        return with_deltas(coefficients, self.delta_orders, self.delta_half_width, self.delta_scale, num_frames)


@keras.saving.register_keras_serializable(package="lightcnn")
class DCTFrames(ShortTimeFrontEnd):
    """The cosine transform of every windowed frame (DCT-II, orthonormal), with its signs.

    Computed in float32 whatever the dtype policy; it has no weights.

    Reference:
        Lavrentyeva et al., "STC Antispoofing Systems for the ASVspoof2019 Challenge": https://arxiv.org/abs/1904.05576

    Args:
        sampling_rate, frame_length, frame_step, window, periodic_window, pre_emphasis, framing: As in `Spectrum`.
        num_coefficients: Integer of at most `frame_length`, from the 0th coefficient on. None: `frame_length`.

    Call arguments:
        samples, lengths: As in `Spectrum`.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, frames, num_coefficients)`; float32.

    Raises:
        ValueError: As `Spectrum`.

    Example:
    >>> lightcnn.frontends.DCTFrames(frame_length=863, frame_step=128)(np.zeros((1, 77535), "float32")).shape
    TensorShape([1, 600, 863])
    """

    def __init__(
        self,
        sampling_rate=16000,
        frame_length=320,
        frame_step=160,
        window="hamming",
        periodic_window=False,
        pre_emphasis=0.0,
        framing="drop_tail",
        num_coefficients=None,
        **kwargs,
    ):
        super().__init__(
            sampling_rate=sampling_rate,
            frame_length=frame_length,
            frame_step=frame_step,
            window=window,
            periodic_window=periodic_window,
            pre_emphasis=pre_emphasis,
            framing=framing,
            **kwargs,
        )
        if num_coefficients is not None:
            check_integer("num_coefficients", num_coefficients)
            if num_coefficients > frame_length:
                raise ValueError(
                    f"`num_coefficients` must be at most `frame_length`={frame_length}. "
                    f"Received: num_coefficients={num_coefficients}"
                )
        self.num_coefficients = num_coefficients
        self._kernel = self._windowed(cosine_transform(frame_length, num_coefficients))

    @property
    def num_features(self):
        """The number of features of a frame."""
        return self._kernel.shape[-1]

    def get_config(self):
        return {**super().get_config(), "num_coefficients": self.num_coefficients}

    def _features(self, samples, lengths, num_frames):
        return self._projected(self._emphasized(samples, lengths), self._kernel)
