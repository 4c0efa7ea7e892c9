"""The short-time power spectrum and its logarithm."""

import math

import keras
import numpy as np
from keras import ops

from lightcnn.frontends.framing import ShortTimeFrontEnd, check_choice, check_integer, check_number

__all__ = ["Spectrum", "check_measure", "log_of", "magnitude_of"]

_LOGARITHMS = {None: None, "ln": 1.0, "log10": 1 / math.log(10), "decibel": 10 / math.log(10)}
_QUANTITIES = ("power", "magnitude")
_TRANSFORMS = ("fft", "matrix")


def check_measure(quantity, log, epsilon, minimum):
    """Raises ValueError where power, logarithm and floors do not fit together."""
    check_choice("quantity", quantity, _QUANTITIES)
    check_choice("log", log, _LOGARITHMS)
    check_number("epsilon", epsilon)
    check_number("minimum", minimum)
    if log is not None and epsilon == minimum == 0:
        raise ValueError(
            "The logarithm of digital silence is minus infinity; set `epsilon` (added) or `minimum` (replaces what is "
            f"smaller). Received: log={log!r}, epsilon={epsilon!r}, minimum={minimum!r}"
        )


def magnitude_of(power):
    """Returns the square root; its gradient is finite at 0, where that of `sqrt` is not."""
    return ops.sqrt(ops.maximum(power, 1e-30)) * ops.cast(power > 0, "float32")


def log_of(values, log, epsilon, minimum):
    """Returns `log(max(values, minimum) + epsilon)` in the unit `log`, or the values as they are with None."""
    if log is None:
        return values
    floored = ops.maximum(values, minimum) if minimum else values
    return ops.log(floored + epsilon if epsilon else floored) * _LOGARITHMS[log]


@keras.saving.register_keras_serializable(package="lightcnn")
class Spectrum(ShortTimeFrontEnd):
    """The short-time power spectrum, or its logarithm.

    Nothing is scaled: a frame `x` of windowed samples gives `|sum x[n] exp(-2 pi i k n / fft_length)|^2`, one side of
    the spectrum. Computed in float32 whatever the dtype policy; it has no weights.

    Reference:
        Lavrentyeva et al., "STC Antispoofing Systems for the ASVspoof2019 Challenge": https://arxiv.org/abs/1904.05576

    Args:
        sampling_rate: Integer, in Hz.
        frame_length: Integer, in samples.
        frame_step: Integer, in samples.
        fft_length: Integer of at least `frame_length`, in samples: zeros complete a frame to it. None: `frame_length`.
        window: `"rectangular"`, `"hann"`, `"hamming"` or `"blackman"`.
        periodic_window: Boolean. Whether the window is periodic (PyTorch, librosa) or symmetric (Matlab, NumPy).
        pre_emphasis: Float `a` in `x[n] - a x[n - 1]`; the first sample stays. 0 is none.
        framing: `"drop_tail"`, `"pad_tail"` or `"centered"`, as in `ShortTimeFrontEnd`.
        num_bins: Integer. The first bins that are kept. None: all `fft_length // 2 + 1`.
        quantity: `"power"` (`|X|^2`) or `"magnitude"` (`|X|`).
        log: None, `"ln"`, `"log10"` or `"decibel"` (`10 log10`, also of magnitudes).
        epsilon: Float that is added before the logarithm.
        minimum: Float that smaller values are raised to before the logarithm.
        transform: `"fft"`, the faster, or `"matrix"`: one convolution with cosines and sines, which every runtime
            knows, and which rounds less where `fft_length` has a large prime factor.

    Call arguments:
        samples: Tensor of shape `(batch, samples)`, floating point, in [-1, 1].
        lengths: Optional integer tensor of shape `(batch,)`: how many samples of each row are audio. What stands
            behind them is not looked at, and the frames of a row are those of the row alone, followed by zeros.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, frames, num_bins)`, time first; float32.

    Raises:
        ValueError: Arguments that do not fit; samples that are not floating point, not `(batch, samples)`, or, where
            the shape is known, too short for one frame. (With `lengths`, a row too short for a frame is all zeros.)

    Example:
    >>> front_end = lightcnn.frontends.Spectrum(frame_length=400, fft_length=512, log="ln", epsilon=1e-8)
    >>> front_end(np.zeros((2, 16000), "float32")).shape
    TensorShape([2, 98, 257])
    """

    def __init__(
        self,
        sampling_rate=16000,
        frame_length=320,
        frame_step=160,
        fft_length=None,
        window="hamming",
        periodic_window=False,
        pre_emphasis=0.0,
        framing="drop_tail",
        num_bins=None,
        quantity="power",
        log=None,
        epsilon=0.0,
        minimum=0.0,
        transform="fft",
        **kwargs,
    ):
        check_measure(quantity, log, epsilon, minimum)
        check_choice("transform", transform, _TRANSFORMS)
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
        if fft_length is not None:
            check_integer("fft_length", fft_length, frame_length)
        self._fft_length = fft_length or frame_length
        if num_bins is not None and not (isinstance(num_bins, int) and 1 <= num_bins <= self._fft_length // 2 + 1):
            raise ValueError(
                f"`num_bins` must be from 1 to the {self._fft_length // 2 + 1} bins that a transform of "
                f"{self._fft_length} samples has. Received: num_bins={num_bins!r}"
            )
        self.fft_length = fft_length
        self.num_bins = num_bins
        self.quantity = quantity
        self.log = log
        self.epsilon = epsilon
        self.minimum = minimum
        self.transform = transform
        self._num_bins = num_bins or self._fft_length // 2 + 1
        self._set_padding(self._fft_length)
        if transform == "matrix":
            # The product n k is reduced first: the cosine of a large float64 is less exact than that of a small one.
            turns = np.outer(np.arange(frame_length), np.arange(self._num_bins)) % self._fft_length / self._fft_length
            waves = np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)], axis=1)
            self._kernel = self._windowed(waves)

    @property
    def num_features(self):
        """The number of features of a frame."""
        return self._num_bins

    def get_config(self):
        return {
            **super().get_config(),
            "fft_length": self.fft_length,
            "num_bins": self.num_bins,
            "quantity": self.quantity,
            "log": self.log,
            "epsilon": self.epsilon,
            "minimum": self.minimum,
            "transform": self.transform,
        }

    def _spectrum(self, samples, lengths):
        samples = self._emphasized(samples, lengths)
        if self.transform == "matrix":
            real, imaginary = ops.split(self._projected(samples, self._kernel), 2, axis=-1)
        else:
            real, imaginary = ops.rfft(self._framed(samples), fft_length=self._fft_length)
            real, imaginary = real[..., : self._num_bins], imaginary[..., : self._num_bins]
        power = ops.square(real) + ops.square(imaginary)
        return power if self.quantity == "power" else magnitude_of(power)

    def _log(self, values):
        return log_of(values, self.log, self.epsilon, self.minimum)

    def _features(self, samples, lengths, num_frames):
        return self._log(self._spectrum(samples, lengths))
