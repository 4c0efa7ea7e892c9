"""The front ends stated again, file by file in float64, with SciPy's windows, filters, transforms and splines."""

import numpy as np
from scipy import fft, interpolate, ndimage, signal


def frames_of(samples, length, step, framing, span):
    """Cuts padded samples into frames of `span` (centred) or `length` samples."""
    if framing == "centered":
        samples, length = np.pad(samples, span // 2), span
    elif framing == "pad_tail":
        missing = length - len(samples) if len(samples) < length else -(len(samples) - length) % step
        samples = np.pad(samples, (0, missing))
    if len(samples) < length:
        return np.zeros((0, length))
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::step]


def windowed_frames(samples, length, step, span, window, periodic, pre_emphasis, framing):
    values = signal.get_window(window, length, fftbins=periodic)
    emphasized = signal.lfilter([1, -pre_emphasis], 1, samples) if len(samples) else samples
    frames = frames_of(emphasized, length, step, framing, span)
    before = (span - length) // 2 if framing == "centered" else 0
    return frames * np.pad(values, (before, frames.shape[1] - length - before))


def power_spectrum(samples, length, step, span, window, periodic, pre_emphasis, framing, bins=None):
    frames = windowed_frames(samples, length, step, span, window, periodic, pre_emphasis, framing)
    return np.abs(np.fft.rfft(frames, span))[:, :bins] ** 2


def triangles(frequencies, count, low, high):
    corners = np.linspace(low, high, count + 2)
    shapes = [np.interp(frequencies, corners[k : k + 3], [0, 1, 0], left=0, right=0) for k in range(count)]
    return np.transpose(shapes)


def cepstra(log_energies, count):
    return fft.dct(log_energies, type=2, norm="ortho", axis=-1)[:, :count]


def with_deltas(features, half_width=1, scale=1.0):
    def delta(values):
        return scale * ndimage.correlate1d(values, np.arange(-half_width, half_width + 1.0), axis=0, mode="nearest")

    return np.concatenate([features, delta(features), delta(delta(features))], axis=1)


def constant_q(samples, step, bins, bins_per_octave, min_frequency, gamma, rate, frames=None):
    """Sums each bin over its own window, at the full rate."""
    frames = np.arange(1 + len(samples) // step) if frames is None else np.asarray(frames)
    columns = []
    for frequency in min_frequency * 2 ** (np.arange(bins) / bins_per_octave):
        bandwidth = frequency * (2 ** (1 / bins_per_octave) - 1) + gamma
        reach = int(rate / bandwidth / 2)
        times = np.arange(-reach, reach + 1) / rate
        wave = np.cos(np.pi * times * bandwidth) ** 2 * np.exp(-2j * np.pi * frequency * times)
        padded = np.pad(samples, (reach, reach + 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
        columns.append(windows[frames * step] @ wave * (2 * bandwidth / rate))
    return np.transpose(columns)


def read_evenly(values, bins_per_octave, min_frequency, in_first_octave):
    """Reads log spectra by a spline at even distances in Hz."""
    known = min_frequency * 2 ** (np.arange(values.shape[1]) / bins_per_octave)
    wanted = np.arange(known[0], known[-1], min_frequency / in_first_octave)
    return interpolate.CubicSpline(known, values, axis=1)(wanted)
