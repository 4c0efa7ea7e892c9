"""RawBoost: three families of noise that telephone lines add, from the recording alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import fftconvolve

from lightcnn.augmentation.noise import add_noise

__all__ = ["convolutive_noise", "impulsive_noise", "stationary_noise"]

Samples = NDArray[np.float32]

# RawBoost's published defaults
_NUM_NOTCHES = 5
_CENTRE_HZ = (20, 8000)
_WIDTH_HZ = (100, 1000)
_TAPS = (10, 100)
_RESPONSE_SIZE = 1024  # more than five filters in a row are long


def convolutive_noise(
    samples: Samples,
    sampling_rate: int,
    generator: np.random.Generator,
    *,
    num_orders: int = 5,
    min_bias_db: float = 5.0,
    max_bias_db: float = 20.0,
) -> Samples:
    """RawBoost's linear and non-linear convolutive noise: harmonics of the recording, each with its own notches.

    Reference:
        Tak, Kamble, Patino, Todisco, Evans, "RawBoost: A Raw Data Boosting and Augmentation Method applied to
        Automatic Speaker Verification Anti-Spoofing", section 3.1: https://arxiv.org/abs/2111.04433

    Args:
        samples: `(batch, samples)` float32.
        sampling_rate: In Hz.
        generator: NumPy's random generator.
        num_orders: Highest power of the recording (the paper's N_f).
        min_bias_db: Powers above the first are at least this much weaker, in dB.
        max_bias_db: They are at most this much weaker.

    Returns:
        `(batch, samples)` float32, without a constant part; scaled down where it exceeds 1.

    Example:
    >>> convolutive_noise(np.zeros((2, 16000), np.float32), 16000, np.random.default_rng(0)).shape
    (2, 16000)
    """
    total = np.zeros_like(samples)
    for order in range(1, num_orders + 1):
        bias_db = generator.uniform(min_bias_db, max_bias_db, len(samples)) if order > 1 else np.zeros(len(samples))
        total += _notched(samples**order, sampling_rate, generator, gain_db=-bias_db)
    return _within_range(total - total.mean(axis=1, keepdims=True))


def impulsive_noise(
    samples: Samples, generator: np.random.Generator, *, max_share: float = 0.1, gain: float = 2.0
) -> Samples:
    """RawBoost's impulsive, signal-dependent noise: some samples are made larger or smaller.

    Reference:
        Tak et al., section 3.2: https://arxiv.org/abs/2111.04433. Here each sample is hit by itself, with the
        probability that the paper gives as a number of samples.

    Args:
        samples: `(batch, samples)` float32.
        generator: NumPy's random generator.
        max_share: Largest share of a recording's samples that are hit (the paper's P, in per cent: 10).
        gain: Largest change, as a multiple of the sample (the paper's g_sd).

    Returns:
        `(batch, samples)` float32; scaled down where it exceeds 1.

    Example:
    >>> impulsive_noise(np.zeros((2, 16000), np.float32), np.random.default_rng(0)).shape
    (2, 16000)
    """
    share = generator.uniform(0, max_share, (len(samples), 1))
    hit = generator.random(samples.shape, np.float32) < share
    first, second = (2 * generator.random(samples.shape, np.float32) - 1 for _ in range(2))
    return _within_range(samples * (1 + hit * (gain * first * second)))


def stationary_noise(
    samples: Samples,
    sampling_rate: int,
    generator: np.random.Generator,
    *,
    min_snr_db: float = 10.0,
    max_snr_db: float = 40.0,
) -> Samples:
    """RawBoost's stationary, signal-independent noise: white noise with notches.

    Reference:
        Tak et al., section 3.3: https://arxiv.org/abs/2111.04433

    Args:
        samples: `(batch, samples)` float32.
        sampling_rate: In Hz.
        generator: NumPy's random generator.
        min_snr_db: Smallest ratio of speech to noise, in dB.
        max_snr_db: The largest.

    Returns:
        `(batch, samples)` float32.

    Example:
    >>> stationary_noise(np.zeros((2, 16000), np.float32), 16000, np.random.default_rng(0)).shape
    (2, 16000)
    """
    noise = generator.standard_normal(samples.shape, np.float32)
    noise = _notched(noise, sampling_rate, generator, np.zeros(len(samples)))
    return add_noise(samples, noise, generator.uniform(min_snr_db, max_snr_db, len(samples)))


def _notched(
    samples: Samples, sampling_rate: int, generator: np.random.Generator, gain_db: NDArray[np.float64]
) -> Samples:
    """Filters each recording with five band-stop filters in a row (windowed sinc, no delay), then sets their gain."""
    shape = (len(samples), _NUM_NOTCHES, 1)
    centre, width = generator.uniform(*_CENTRE_HZ, shape), generator.uniform(*_WIDTH_HZ, shape)
    half_taps = generator.integers(_TAPS[0] // 2, _TAPS[1] // 2 + 1, shape)
    low, high = (np.clip(centre + edge * width / 2, 1, sampling_rate / 2 - 1) / sampling_rate for edge in (-1, 1))
    tap = np.arange(-(_TAPS[1] // 2), _TAPS[1] // 2 + 1)
    stopped = 2 * high * np.sinc(2 * high * tap) - 2 * low * np.sinc(2 * low * tap)
    window = np.where(np.abs(tap) <= half_taps, 0.54 + 0.46 * np.cos(np.pi * tap / half_taps), 0)
    kernels = ((tap == 0) - stopped) * window
    kernels /= kernels.sum(axis=-1, keepdims=True)  # no change of what is far from the notch, at 0 Hz
    # One filter instead of five. Tap 0 is in the middle, so that nothing is delayed.
    response = rfft(kernels, _RESPONSE_SIZE).prod(axis=1)
    response *= 10 ** (gain_db[:, None] / 20) / np.abs(response).max(axis=1, keepdims=True)
    kernel = irfft(response, _RESPONSE_SIZE)[:, : _NUM_NOTCHES * (len(tap) - 1) + 1].astype(np.float32)
    length = samples.shape[-1]
    filtered: Samples = fftconvolve(samples, kernel, axes=-1)[:, kernel.shape[1] // 2 :][:, :length]
    return filtered


def _within_range(samples: NDArray[Any]) -> Samples:
    scaled: Samples = (samples / np.maximum(np.abs(samples).max(axis=1, keepdims=True), 1)).astype(np.float32)
    return scaled
