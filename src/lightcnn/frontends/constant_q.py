"""The constant-Q transform and its cepstra."""

import keras
import numpy as np
from keras import ops
from scipy.interpolate import CubicSpline

from lightcnn.frontends.cepstra import check_deltas, cosine_transform, with_deltas
from lightcnn.frontends.framing import FrontEnd, check_integer, check_number
from lightcnn.frontends.spectra import check_measure, log_of, magnitude_of

__all__ = ["CQCC", "ConstantQ"]

# A halved sampling rate must keep what a kernel sees: its own band, and its Hann window's side lobes out to so many
# bandwidths (there they are 1e-5 of the main one).
_SIDE_LOBES = 32
# The low-pass before halving: flat to an eighth of the rate, nothing (-108 dB) beyond three eighths, which is all that
# could fold onto the first eighth. The kernels look at no more of it.
_HALF_WIDTH = 16
_LOW_PASS = 0.5 * np.sinc(np.arange(-_HALF_WIDTH, _HALF_WIDTH + 1) / 2) * np.kaiser(2 * _HALF_WIDTH + 1, 11.0)
_LOW_PASS = (_LOW_PASS / _LOW_PASS.sum()).astype("float32")[:, None]


@keras.saving.register_keras_serializable(package="lightcnn")
class ConstantQ(FrontEnd):
    """The constant-Q transform: bins at equal distances in pitch, each with a window of its own length.

    Bin `k` stands at `f[k] = min_frequency * 2^(k / bins_per_octave)`. Its bandwidth is the distance to the next bin,
    `b[k] = f[k] (2^(1 / bins_per_octave) - 1) + gamma`, its Hann window is `sampling_rate / b[k]` samples long, and

        C[t, k] = 2 b[k] / rate * sum over n of x[t frame_step + n] hann[k, n] exp(-2 pi i f[k] n / rate)

    around the middle of frame `t`, with zeros outside the audio: a sinusoid of amplitude 1 at `f[k]` has `|C| = 1/2`.
    With `gamma=0` the quotient `Q` of frequency and bandwidth is constant, and the low bins look at seconds of audio;
    `gamma > 0` shortens their windows (variable Q).

    It is this sum and no resampled short-time spectrum. Low bins are summed at halved sampling rates, behind a low-pass
    that their band cannot tell from the audio (differences below 1e-4 of the largest value); a rate is halved as often
    as `frame_step` can be, so a step with many factors 2 is much faster. Computed in float32 whatever the dtype policy;
    it has no weights.

    Reference:
        Brown, "Calculation of a constant Q spectral transform", JASA 89 (1991), equation 5. Schoerkhuber et al., "A
        Matlab Toolbox for Efficient Perfect Reconstruction Time-Frequency Transforms with Log-Frequency Resolution",
        AES 53 (2014), section 2 (gamma).

    Args:
        sampling_rate: Integer, in Hz.
        frame_step: Integer, in samples.
        num_bins: Integer.
        bins_per_octave: Integer.
        min_frequency: Float, in Hz: the first bin. The last must be below half the sampling rate.
        gamma: Float, in Hz, added to every bandwidth.
        quantity: `"power"` (`|C|^2`) or `"magnitude"` (`|C|`).
        log: None, `"ln"`, `"log10"` or `"decibel"` (`10 log10`, also of magnitudes).
        epsilon: Float that is added before the logarithm.
        minimum: Float that smaller values are raised to before the logarithm.

    Call arguments:
        samples, lengths: As in `Spectrum`.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, 1 + samples // frame_step, num_bins)`, time first; float32.

    Raises:
        ValueError: As `Spectrum`; bins above half the sampling rate.

    Attributes:
        frequencies: Float64 array `(num_bins,)`, in Hz.

    Example:
    >>> front_end = lightcnn.frontends.ConstantQ(num_bins=84, bins_per_octave=12, min_frequency=55.0)
    >>> front_end(np.zeros((2, 16000), "float32")).shape
    TensorShape([2, 126, 84])
    """

    def __init__(
        self,
        sampling_rate=16000,
        frame_step=128,
        num_bins=863,
        bins_per_octave=96,
        min_frequency=15.625,
        gamma=0.0,
        quantity="power",
        log=None,
        epsilon=0.0,
        minimum=0.0,
        **kwargs,
    ):
        check_integer("frame_step", frame_step)
        check_integer("num_bins", num_bins)
        check_integer("bins_per_octave", bins_per_octave)
        check_number("min_frequency", min_frequency, 1e-3)
        check_number("gamma", gamma)
        check_measure(quantity, log, epsilon, minimum)
        super().__init__(sampling_rate=sampling_rate, **kwargs)
        self.frequencies = min_frequency * 2 ** (np.arange(num_bins) / bins_per_octave)
        if self.frequencies[-1] >= sampling_rate / 2:
            raise ValueError(
                f"Bin {num_bins - 1} would stand at {self.frequencies[-1]:.1f} Hz, which is not below half the "
                f"sampling rate, {sampling_rate / 2:g} Hz. Take fewer bins. Received: num_bins={num_bins}, "
                f"bins_per_octave={bins_per_octave}, min_frequency={min_frequency}"
            )
        self.frame_step = frame_step
        self.num_bins = num_bins
        self.bins_per_octave = bins_per_octave
        self.min_frequency = min_frequency
        self.gamma = gamma
        self.quantity = quantity
        self.log = log
        self.epsilon = epsilon
        self.minimum = minimum
        self._kernels = []

    @property
    def num_features(self):
        """The number of features of a frame."""
        return self.num_bins

    def build(self, samples_shape, lengths_shape=None):
        super().build(samples_shape, lengths_shape)
        self._kernels = self._make_kernels()

    def _count_frames(self, lengths, library):
        return lengths // self.frame_step + 1

    def samples_for(self, frames):
        """Returns the fewest samples that give so many frames.

        Args:
            frames: Integer of at least 1.

        Raises:
            ValueError: Not an integer of at least 1.
        """
        check_integer("frames", frames)
        return max((frames - 1) * self.frame_step, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "frame_step": self.frame_step,
            "num_bins": self.num_bins,
            "bins_per_octave": self.bins_per_octave,
            "min_frequency": self.min_frequency,
            "gamma": self.gamma,
            "quantity": self.quantity,
            "log": self.log,
            "epsilon": self.epsilon,
            "minimum": self.minimum,
        }

    def _make_kernels(self):
        """Returns `(halvings, kernel)` pairs for neighbouring bins, the highest last.

        A kernel is `(2 reach + 1, 2 bins)` in samples of the halved rate: cosines, then sines.
        """
        rate = self.sampling_rate
        bandwidths = self.frequencies * (2 ** (1 / self.bins_per_octave) - 1) + self.gamma
        highest_seen = self.frequencies + _SIDE_LOBES * bandwidths
        possible = (self.frame_step & -self.frame_step).bit_length() - 1
        # The low-pass is flat to an eighth of the rate that it is given, a quarter of the rate that it leaves.
        halvings = np.clip(np.floor(np.log2(rate / 4 / highest_seen)), 0, possible).astype(int)
        # Kernels of about one length share a matrix, so that few of its numbers are zeros.
        spans = rate / bandwidths / 2.0**halvings
        sizes = np.floor(2 * np.log2(spans)).astype(int)
        breaks = np.flatnonzero((np.diff(halvings) != 0) | (np.diff(sizes) != 0)) + 1
        kernels = []
        for bins in np.split(np.arange(self.num_bins), breaks):
            level, reach = halvings[bins[0]], int(spans[bins].max() // 2)
            times = np.arange(-reach, reach + 1)[:, None] * 2.0**level / rate
            turns = times * bandwidths[bins]
            windows = np.where(np.abs(turns) <= 0.5, 1 + np.cos(2 * np.pi * turns), 0.0) / spans[bins]
            phases = 2 * np.pi * ((times * self.frequencies[bins]) % 1.0)
            kernel = np.concatenate([windows * np.cos(phases), -windows * np.sin(phases)], axis=1)
            kernels.append((int(level), kernel.astype("float32")))
        return kernels

    def _transformed(self, samples):
        num_samples = samples.shape[1]
        num_frames = self.num_frames(ops.shape(samples)[1] if num_samples is None else num_samples)
        # `rates[level]` is the audio at the rate halved so often and how many samples stand before time 0: the
        # low-pass rings.
        rates, before = [(samples, 0)], 0
        for _ in range(max(level for level, _ in self._kernels)):
            earlier, had = rates[-1]
            before = -(-(had + _HALF_WIDTH) // 2)
            padded = ops.pad(earlier, [[0, 0], [2 * before + _HALF_WIDTH - had, 2 * _HALF_WIDTH]])
            rates.append((_filtered(padded, _LOW_PASS, 2)[..., 0], before))
        parts = []
        for level, kernel in self._kernels:
            audio, before = rates[level]
            reach = kernel.shape[0] // 2
            padded = ops.pad(audio, [[0, 0], [max(reach - before, 0), reach + 1]])[:, max(before - reach, 0) :]
            products = _filtered(padded, kernel, self.frame_step >> level)[:, :num_frames]
            parts.append(ops.split(products, 2, axis=-1))
        return [ops.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]

    def _log_spectrum(self, samples):
        real, imaginary = self._transformed(samples)
        power = ops.square(real) + ops.square(imaginary)
        values = power if self.quantity == "power" else magnitude_of(power)
        return log_of(values, self.log, self.epsilon, self.minimum)

    def _features(self, samples, lengths, num_frames):
        return self._log_spectrum(samples)


def _filtered(signals, kernel, step):
    return ops.conv(
        signals[..., None],
        kernel[:, None, :],
        strides=step,
        padding="valid",
        data_format="channels_last",
    )


@keras.saving.register_keras_serializable(package="lightcnn")
class CQCC(ConstantQ):
    """Constant-Q cepstral coefficients, with their deltas.

    The logarithm of a constant-Q transform is read by a cubic spline ("not-a-knot", as Matlab's) at equal distances in
    Hz, `min_frequency / samples_in_first_octave` apart from the first to the last bin, and its DCT-II (orthonormal) is
    kept from the 0th coefficient on. Spline and DCT are one matrix. Computed in float32 whatever the dtype policy; it
    has no weights.

    Reference:
        Todisco, Delgado, Evans, "Constant Q cepstral coefficients: A spoofing countermeasure for automatic speaker
        verification", Computer Speech & Language 45 (2017), section 3.2: https://doi.org/10.1016/j.csl.2017.01.001

    Args:
        num_coefficients: Integer, the 0th among them.
        samples_in_first_octave: Integer. How many values the spline reads in the first octave.
        delta_orders, delta_half_width, delta_scale: As in `LFCC`.
        log: None, `"ln"`, `"log10"` or `"decibel"`.
        epsilon: Float that is added before the logarithm.
        **kwargs: The other arguments of `ConstantQ`.

    Call arguments:
        samples, lengths: As in `Spectrum`.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, 1 + samples // frame_step, (1 + delta_orders) * num_coefficients)`; float32.

    Raises:
        ValueError: As `ConstantQ`.

    Attributes:
        frequencies: Float64 array `(num_bins,)`, in Hz: the bins of the constant-Q transform.
        cosines: The float32 matrix `(num_bins, num_coefficients)` that its logarithm is multiplied with.

    Example:
    >>> lightcnn.frontends.CQCC(30)(np.zeros((2, 16000), "float32")).shape
    TensorShape([2, 126, 90])
    """

    def __init__(
        self,
        num_coefficients,
        samples_in_first_octave=16,
        delta_orders=2,
        delta_half_width=3,
        delta_scale=1 / 28,
        log="ln",
        epsilon=2.0**-52,
        **kwargs,
    ):
        check_integer("num_coefficients", num_coefficients)
        check_integer("samples_in_first_octave", samples_in_first_octave)
        check_deltas(delta_orders, delta_half_width, delta_scale)
        super().__init__(log=log, epsilon=epsilon, **kwargs)
        distance = self.min_frequency / samples_in_first_octave
        evenly = np.arange(self.min_frequency, self.frequencies[-1], distance)
        if len(self.frequencies) < 4 or num_coefficients > len(evenly):
            raise ValueError(
                f"A spline needs 4 bins, and at most as many coefficients can be kept as it reads values, "
                f"{len(evenly)}. Received: num_bins={self.num_bins}, num_coefficients={num_coefficients}"
            )
        self.num_coefficients = num_coefficients
        self.samples_in_first_octave = samples_in_first_octave
        self.delta_orders = delta_orders
        self.delta_half_width = delta_half_width
        self.delta_scale = delta_scale
        cosines = cosine_transform(len(evenly), num_coefficients)
        # A spline is linear in the values that it goes through: those of the unit vectors make its matrix.
        spline = CubicSpline(self.frequencies, np.eye(self.num_bins))(evenly)
        self.cosines = (spline.T @ cosines).astype("float32")

    @property
    def num_features(self):
        return (1 + self.delta_orders) * self.num_coefficients

    def get_config(self):
        return {
            **super().get_config(),
            "num_coefficients": self.num_coefficients,
            "samples_in_first_octave": self.samples_in_first_octave,
            "delta_orders": self.delta_orders,
            "delta_half_width": self.delta_half_width,
            "delta_scale": self.delta_scale,
        }

    def _features(self, samples, lengths, num_frames):
        coefficients = ops.matmul(self._log_spectrum(samples), self.cosines)
        return with_deltas(coefficients, self.delta_orders, self.delta_half_width, self.delta_scale, num_frames)
