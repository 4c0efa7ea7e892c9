"""Noise for recordings: coloured, at a given level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

__all__ = ["add_noise", "coloured_noise", "power"]

Samples = NDArray[np.float32]


def power(samples: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the mean power of `(..., samples)` as `(..., 1)` float64."""
    mean: NDArray[np.float64] = np.mean(np.square(samples, dtype=np.float64), axis=-1, keepdims=True)
    return mean


def add_noise(samples: Samples, noise: Samples, snr_db: NDArray[np.float64] | float) -> Samples:
    """Adds noise to recordings at a ratio of their mean powers.

    Args:
        samples: `(batch, samples)` float32.
        noise: The same shape, of any level. A silent row adds nothing.
        snr_db: `(batch,)` or a number: ten times the decimal logarithm of speech's power over noise's.

    Returns:
        `(batch, samples)` float32. A silent recording stays silent.

    Example:
    >>> add_noise(np.ones((1, 4), np.float32), np.float32([[2, -2, 2, -2]]), 20.0)
    array([[1.1, 0.9, 1.1, 0.9]], dtype=float32)
    """
    ratio = 10 ** (np.reshape(np.asarray(snr_db, np.float64), (-1, 1)) / 10)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(power(samples) / (power(noise) * ratio))
    noisy: Samples = samples + noise * np.where(np.isfinite(scale), scale, 0.0).astype(np.float32)
    return noisy


def coloured_noise(shape: tuple[int, ...], generator: np.random.Generator, colour: float = 0.0) -> Samples:
    """Makes Gaussian noise whose power falls as `frequency ** -colour`, without a constant part.

    Args:
        shape: `(..., samples)`.
        generator: NumPy's random generator.
        colour: 0 white, 1 pink, 2 brown.

    Returns:
        float32 of mean power 1 (0 for a single sample).

    Example:
    >>> coloured_noise((2, 16000), np.random.default_rng(0), 1.0).shape
    (2, 16000)
    """
    spectrum = rfft(generator.standard_normal(shape, np.float32))
    frequency = np.arange(spectrum.shape[-1], dtype=np.float32)
    spectrum *= np.where(frequency > 0, np.maximum(frequency, 1) ** (-colour / 2), 0).astype(np.float32)
    noise = irfft(spectrum, shape[-1]) if shape[-1] > 1 else np.zeros(shape, np.float32)
    made: Samples = (noise / np.sqrt(np.maximum(power(noise), 1e-20))).astype(np.float32)
    return made
