"""Spectra seen through triangular filters, on a linear or a mel axis."""

import keras
import numpy as np
from keras import ops

from lightcnn.frontends.framing import check_choice, check_integer, check_number
from lightcnn.frontends.spectra import Spectrum

__all__ = ["FilterBank", "triangular_filters"]

# Hz -> scale, scale -> Hz
_SCALES = {
    "linear": (lambda frequency: frequency, lambda value: value),
    "mel": (
        lambda frequency: 2595.0 * np.log10(1.0 + frequency / 700.0),
        lambda value: 700.0 * (10.0 ** (value / 2595.0) - 1.0),
    ),
}


def triangular_filters(bin_frequencies, num_filters, low_frequency, high_frequency, scale="linear", rounded=None):
    """Returns triangles whose feet stand under the neighbours' tops, as a float64 array `(bins, num_filters)`.

    The corners have equal distances on the scale from `low_frequency` to `high_frequency`; the slopes are straight in
    Hz, and the tops are 1.

    Args:
        bin_frequencies: Array of shape `(bins,)`, in Hz.
        num_filters: Integer.
        low_frequency: Float, in Hz: the left foot of the first triangle.
        high_frequency: Float, in Hz: the right foot of the last triangle.
        scale: `"linear"`, or `"mel"` as HTK has it: `2595 log10(1 + f / 700)`.
        rounded: What the corners, an array in Hz, are rounded by; None for nothing.

    Raises:
        ValueError: A filter without a bin: its logarithm would be that of the floor, for any audio.

    Example:
    >>> lightcnn.frontends.triangular_filters(np.array([0.0, 500, 1000, 1500, 2000]), 1, 0.0, 2000.0)[:, 0]
    array([0. , 0.5, 1. , 0.5, 0. ])
    """
    to_scale, to_hertz = _SCALES[scale]
    corners = to_hertz(np.linspace(to_scale(low_frequency), to_scale(high_frequency), num_filters + 2))
    corners = corners if rounded is None else rounded(corners)
    left, top, right = corners[:-2], corners[1:-1], corners[2:]
    frequencies = np.asarray(bin_frequencies, "float64")[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # of corners that were rounded to the same
        rising, falling = (frequencies - left) / (top - left), (right - frequencies) / (right - top)
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    empty = np.flatnonzero(~(filters.max(axis=0) > 0))  # NaN too: a slope between equal corners
    if empty.size:
        raise ValueError(
            f"{empty.size} of {num_filters} filters, the first at {top[empty[0]]:.0f} Hz, are narrower than the "
            "distance of the spectrum's bins and see none. Take fewer filters, a wider band or a longer `fft_length`. "
            f"Received: num_filters={num_filters}, low_frequency={low_frequency}, high_frequency={high_frequency}"
        )
    return filters


@keras.saving.register_keras_serializable(package="lightcnn")
class FilterBank(Spectrum):
    """A spectrum through triangular filters, and its logarithm (LFB on a linear axis; mel filter bank on a mel axis).

    Computed in float32 whatever the dtype policy; it has no weights.

    Reference:
        Chen et al., "Generalization of Audio Deepfake Detection", Odyssey 2020 (linear filter banks):
        https://www.isca-archive.org/odyssey_2020/chen20_odyssey.html

    Args:
        num_filters: Integer.
        low_frequency: Float, in Hz: the left foot of the first triangle.
        high_frequency: Float, in Hz: the right foot of the last triangle. None: half the sampling rate.
        scale: `"linear"`, or `"mel"` as HTK has it.
        stretch_bins: Boolean. False: every bin has its own frequency. True: the kept bins are taken to lie evenly from
            `low_frequency` to `high_frequency`, both included, as NII's baseline of ASVspoof 2021 does it.
        whole_bins: Boolean. True: the corners are moved down to whole bins, `floor((fft_length + 1) * corner /
            sampling_rate)`, as spafe 0.1 and the GMM baseline of ASVspoof 2021 do it.
        log: None, `"ln"`, `"log10"` or `"decibel"`, of what the filters let through.
        epsilon: Float that is added before the logarithm.
        **kwargs: The other arguments of `Spectrum`.

    Call arguments:
        samples, lengths: As in `Spectrum`.

    Input shape:
        `(batch, samples)`.

    Output shape:
        `(batch, frames, num_filters)`; float32.

    Raises:
        ValueError: As `Spectrum` and `triangular_filters`.

    Attributes:
        filters: The float32 matrix `(bins, num_filters)` that a spectrum is multiplied with.

    Example:
    >>> front_end = lightcnn.frontends.FilterBank(40, scale="mel", fft_length=512)
    >>> front_end(np.zeros((2, 16000), "float32")).shape
    TensorShape([2, 99, 40])
    """

    def __init__(
        self,
        num_filters,
        low_frequency=0.0,
        high_frequency=None,
        scale="linear",
        stretch_bins=False,
        whole_bins=False,
        log="log10",
        epsilon=2.0**-23,
        **kwargs,
    ):
        check_integer("num_filters", num_filters)
        check_choice("scale", scale, _SCALES)
        super().__init__(log=log, epsilon=epsilon, **kwargs)
        nyquist = self.sampling_rate / 2
        check_number("low_frequency", low_frequency, 0, nyquist)
        high = nyquist if high_frequency is None else high_frequency
        check_number("high_frequency", high, 0, nyquist)
        if low_frequency >= high:
            raise ValueError(
                "`high_frequency` must be above `low_frequency`. "
                f"Received: low_frequency={low_frequency}, high_frequency={high}"
            )
        self.num_filters = num_filters
        self.low_frequency = low_frequency
        self.high_frequency = high_frequency
        self.scale = scale
        self.stretch_bins = stretch_bins
        self.whole_bins = whole_bins
        distance = self.sampling_rate / self._fft_length
        frequencies = np.arange(self._num_bins) * distance
        if stretch_bins:
            frequencies = np.linspace(low_frequency, high, self._num_bins)

        def down(corners):
            return distance * np.floor((self._fft_length + 1) * corners / self.sampling_rate)

        rounded = down if whole_bins else None
        filters = triangular_filters(frequencies, num_filters, low_frequency, high, scale, rounded)
        self.filters = filters.astype("float32")

    @property
    def num_features(self):
        return self.num_filters

    def get_config(self):
        return {
            **super().get_config(),
            "num_filters": self.num_filters,
            "low_frequency": self.low_frequency,
            "high_frequency": self.high_frequency,
            "scale": self.scale,
            "stretch_bins": self.stretch_bins,
            "whole_bins": self.whole_bins,
        }

    def _features(self, samples, lengths, num_frames):
        return self._log(ops.matmul(self._spectrum(samples, lengths), self.filters))
