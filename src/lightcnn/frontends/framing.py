"""Samples -> frames: windows, padding, and what every front end promises about lengths."""

import keras
import numpy as np
from keras import ops

__all__ = [
    "FrontEnd",
    "ShortTimeFrontEnd",
    "check_choice",
    "check_integer",
    "check_number",
    "window_values",
    "zero_after",
]

# Coefficients of a sum of cosines: w[n] = a0 - a1 cos(2 pi n / period) + a2 cos(4 pi n / period)
_WINDOWS = {
    "rectangular": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
}
_FRAMINGS = ("drop_tail", "pad_tail", "centered")


def check_choice(name, value, choices):
    """Raises ValueError where an argument is none of the known values."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")


def check_integer(name, value, least=1):
    """Raises ValueError where an argument is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}")


def check_number(name, value, low=0.0, high=float("inf")):
    """Raises ValueError where an argument is not a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"`{name}` must be a number from {low:g} to {high:g}. Received: {name}={value!r}")


def window_values(name, length, periodic=False):
    """Returns a window as a float64 array of shape `(length,)`.

    Args:
        name: `"rectangular"`, `"hann"`, `"hamming"` (0.54 and 0.46) or `"blackman"` (0.42, 0.5 and 0.08).
        length: Integer, in samples. A window of one sample is 1.
        periodic: Boolean. False: the last sample equals the first (Matlab's and NumPy's default). True: one sample
            after the last equals the first (PyTorch's default, and librosa's).

    Raises:
        ValueError: An unknown name.

    Example:
    >>> lightcnn.frontends.window_values("hann", 5).round(3)
    array([0. , 0.5, 1. , 0.5, 0. ])
    """
    check_choice("window", name, _WINDOWS)
    if length == 1:
        return np.ones(1)
    phase = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    return sum((-1) ** order * value * np.cos(order * phase) for order, value in enumerate(_WINDOWS[name]))


def zero_after(values, lengths):
    """Returns `values` of shape `(batch, steps, ...)` with zeros from step `lengths[row]` on."""
    steps = ops.arange(ops.shape(values)[1], dtype="int32")
    inside = steps[None, :] < lengths[:, None]
    if len(values.shape) == 3:
        inside = inside[..., None]
    return ops.where(inside, values, ops.zeros_like(values))  # not a product: NaN in the padding must not pass


class FrontEnd(keras.layers.Layer):
    """What every front end is: samples in, `(batch, frames, features)` in float32 out.

    A front end has no weights: what it multiplies with follows from its arguments. A subclass states
    `num_features`, how many frames there are (`_count_frames`, `samples_for`) and `_features`.

    Args:
        sampling_rate: Integer, in Hz.

    Call arguments:
        samples: Tensor of shape `(batch, samples)`, floating point, in [-1, 1].
        lengths: Optional integer tensor of shape `(batch,)`: how many samples of each row are audio. What stands
            behind them is not looked at, and the frames of a row are those of the row alone, followed by zeros.
    """

    def __init__(self, sampling_rate=16000, **kwargs):
        check_integer("sampling_rate", sampling_rate)
        # float32 whatever the policy: eight bits of precision are too few for a spectrum's logarithm.
        super().__init__(autocast=False, **kwargs)
        self.sampling_rate = sampling_rate

    def build(self, samples_shape, lengths_shape=None):
        self._check_shape(samples_shape)

    def _check_shape(self, samples_shape):
        if len(samples_shape) != 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of shape (batch, samples), one channel. Give one file as "
                f"`samples[None]`, and mix channels down before. Received: samples.shape={tuple(samples_shape)}"
            )
        if samples_shape[1] is not None and self.num_frames(samples_shape[1]) == 0:
            raise ValueError(
                f"{type(self).__name__} makes no frame of {samples_shape[1]} samples: the shortest audio is "
                f"{self.samples_for(1)} samples. Repeat it or pad it. Received: samples.shape={tuple(samples_shape)}"
            )

    def num_frames(self, lengths):
        """Returns how many frames come out of `lengths` samples; audio that is too short for a frame has 0.

        Args:
            lengths: Integer, NumPy array or tensor of integers, in samples.

        Returns:
            The like of `lengths`, in frames.
        """
        if isinstance(lengths, int | np.integer):
            return int(self._count_frames(int(lengths), np)) if lengths > 0 else 0
        if isinstance(lengths, np.ndarray):
            return np.where(lengths > 0, self._count_frames(lengths, np), 0)
        return ops.where(lengths > 0, self._count_frames(lengths, ops), 0)

    def compute_output_shape(self, samples_shape, lengths_shape=None):
        self._check_shape(samples_shape)
        batch_size, num_samples = samples_shape
        return (batch_size, None if num_samples is None else self.num_frames(num_samples), self.num_features)

    def compute_output_spec(self, samples, lengths=None):
        return keras.KerasTensor(self.compute_output_shape(samples.shape), dtype="float32")

    def call(self, samples, lengths=None):
        samples = ops.convert_to_tensor(samples)
        self._check_shape(samples.shape)
        dtype = keras.backend.standardize_dtype(samples.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"{type(self).__name__} needs floating-point samples in [-1, 1]; divide 16-bit integers by 32768. "
                f"Received: samples.dtype={dtype}"
            )
        samples, num_frames = ops.cast(samples, "float32"), None
        if lengths is not None:
            lengths = ops.minimum(ops.cast(lengths, "int32"), ops.cast(ops.shape(samples)[1], "int32"))
            samples, num_frames = zero_after(samples, lengths), self.num_frames(lengths)
        features = self._features(samples, lengths, num_frames)
        return features if num_frames is None else zero_after(features, num_frames)

    def get_config(self):
        return {**super().get_config(), "sampling_rate": self.sampling_rate}

    def _frames_in(self, samples):
        num_samples = samples.shape[1]
        return self.num_frames(ops.shape(samples)[1] if num_samples is None else num_samples)


class ShortTimeFrontEnd(FrontEnd):
    """A front end whose frames all have one length.

    Args:
        frame_length: Integer, in samples.
        frame_step: Integer, in samples.
        window: Name of a window, as in `window_values`.
        periodic_window: Boolean, as `periodic` in `window_values`.
        pre_emphasis: Float `a` in `x[n] - a x[n - 1]`; the first sample stays. 0 is none.
        framing: `"drop_tail"`: frame `t` starts at `t * frame_step`, and samples that fill no frame are dropped
            (audio shorter than a frame has none). `"pad_tail"`: as before, and zeros complete the last frame (Matlab's
            `buffer(..., "nodelay")`; any audio has a frame). `"centered"`: frame `t` has its middle at
            `t * frame_step`, with zeros before the first and behind the last sample (any audio has a frame).
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
        **kwargs,
    ):
        check_integer("frame_length", frame_length)
        check_integer("frame_step", frame_step)
        check_choice("window", window, _WINDOWS)
        check_number("pre_emphasis", pre_emphasis, 0, 1)
        check_choice("framing", framing, _FRAMINGS)
        super().__init__(sampling_rate=sampling_rate, **kwargs)
        self.frame_length = frame_length
        self.frame_step = frame_step
        self.window = window
        self.periodic_window = periodic_window
        self.pre_emphasis = pre_emphasis
        self.framing = framing
        self._window = window_values(window, frame_length, periodic_window)
        self._set_padding(frame_length)

    def _set_padding(self, span):
        """Sets the zeros on both sides; `span` is the frame or, with longer transforms, the transform in whose middle
        the frame stands."""
        self._before = self._behind = 0
        if self.framing == "centered":
            self._before = span // 2 - (span - self.frame_length) // 2
            self._behind = 2 * (span // 2) - span + self.frame_length - self._before
        elif self.framing == "pad_tail":
            # Enough for any audio; the frames that this makes too many are cut off.
            self._behind = max(self.frame_length, self.frame_step) - 1

    def _count_frames(self, lengths, library):
        if self.framing == "pad_tail":
            return (library.maximum(lengths - self.frame_length, 0) + self.frame_step - 1) // self.frame_step + 1
        beyond_one = lengths + self._before + self._behind - self.frame_length
        return library.maximum(beyond_one, -self.frame_step) // self.frame_step + 1

    def samples_for(self, frames):
        """Returns the fewest samples that give so many frames.

        Args:
            frames: Integer of at least 1.

        Raises:
            ValueError: Not an integer of at least 1.
        """
        check_integer("frames", frames)
        if self.framing == "pad_tail":
            return 1 if frames == 1 else self.frame_length + (frames - 2) * self.frame_step + 1
        return max(self.frame_length - self._before - self._behind + (frames - 1) * self.frame_step, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "frame_length": self.frame_length,
            "frame_step": self.frame_step,
            "window": self.window,
            "periodic_window": self.periodic_window,
            "pre_emphasis": self.pre_emphasis,
            "framing": self.framing,
        }

    def _emphasized(self, samples, lengths):
        if not self.pre_emphasis:
            return samples
        emphasized = samples - self.pre_emphasis * ops.pad(samples[:, :-1], [[0, 0], [1, 0]])
        # One sample past a row's end the filter still rings.
        return emphasized if lengths is None else zero_after(emphasized, lengths)

    def _framed(self, samples):
        """Returns windowed frames, `(batch, frames, frame_length)`.

        They are put together from hops of `frame_step` samples by slicing, the same on every backend: JAX's own
        framing multiplies with an identity matrix.
        """
        num_frames, step = self._frames_in(samples), self.frame_step
        hops_a_frame = -(-self.frame_length // step)
        padded = ops.pad(samples, [[0, 0], [self._before, self._behind + hops_a_frame * step]])
        num_hops = num_frames + hops_a_frame - 1
        hops = ops.reshape(padded[:, : num_hops * step], (-1, num_hops, step))
        parts = [
            hops[:, hop : hop + num_frames, : min(step, self.frame_length - hop * step)] for hop in range(hops_a_frame)
        ]
        return ops.multiply(ops.concatenate(parts, axis=-1), self._window.astype("float32"))

    def _windowed(self, matrix):
        """Returns the kernel for `_projected` that multiplies windowed frames with `(frame_length, columns)`."""
        return (self._window[:, None] * matrix).astype("float32")[:, None, :]

    def _projected(self, samples, kernel):
        """Returns the frames times a matrix, as one convolution with strides: every runtime knows that."""
        padded = ops.pad(samples, [[0, 0], [self._before, self._behind]])[..., None]
        products = ops.conv(padded, kernel, strides=self.frame_step, padding="valid", data_format="channels_last")
        return products[:, : self._frames_in(samples)]
