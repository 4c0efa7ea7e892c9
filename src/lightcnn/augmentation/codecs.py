"""What codecs leave of recordings: G.711 in NumPy, MP3, Vorbis and Opus through libsndfile."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import MissingDependencyError

__all__ = ["CODECS", "a_law", "mu_law", "through_codec"]

Samples = NDArray[np.float32]

_LAWS = ("mulaw", "alaw")
# name -> (format, subtype) of libsndfile
_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
CODECS = (*_LAWS, *_FORMATS)


def mu_law(samples: Samples) -> Samples:
    """Encodes and decodes recordings with the mu-law of telephony (8 bits a sample).

    Reference:
        ITU-T G.711, table 2a: 16 equal steps in each of 8 segments that double in width.

    Args:
        samples: Any shape, float32 in [-1, 1]; what is larger is clipped.

    Returns:
        The same shape, float32.

    Example:
    >>> mu_law(np.float32([0.5]))
    array([0.5115967], dtype=float32)
    """
    wide = np.rint(np.clip(samples, -1, 1) * 32768.0)
    magnitude = np.minimum(np.abs(wide), 32635) + 132
    return _quantised(wide, magnitude, np.ldexp(8.0, np.frexp(magnitude)[1] - 8), 132)


def a_law(samples: Samples) -> Samples:
    """Encodes and decodes recordings with the A-law of telephony (8 bits a sample).

    Reference:
        ITU-T G.711, table 1a: 16 equal steps in each of 8 segments; the first two are equally wide.

    Args:
        samples: Any shape, float32 in [-1, 1]; what is larger is clipped.

    Returns:
        The same shape, float32.

    Example:
    >>> a_law(np.float32([0.5]))
    array([0.515625], dtype=float32)
    """
    wide = np.rint(np.clip(samples, -1, 1) * 32768.0)
    magnitude = np.minimum(np.abs(wide), 32767)
    return _quantised(wide, magnitude, np.ldexp(16.0, np.maximum(np.frexp(magnitude)[1] - 9, 0)), 0)


def _quantised(wide: NDArray[Any], magnitude: NDArray[Any], step: NDArray[Any], bias: int) -> Samples:
    """Puts magnitudes in the middle of their steps; the sign is a bit of its own."""
    middle = (np.floor(magnitude / step) + 0.5) * step - bias
    fractions: Samples = (np.copysign(middle, wide) / 32768).astype(np.float32)
    return fractions


def through_codec(samples: Samples, sampling_rate: int, codec: str, level: float = 0.5) -> Samples:
    """Encodes and decodes one recording in memory.

    Args:
        samples: `(samples,)` float32; what is outside [-1, 1] is clipped.
        sampling_rate: In Hz.
        codec: A name of `CODECS`.
        level: Compression of mp3, ogg and opus, from 0 (best quality) to 1 (smallest file).

    Returns:
        `(samples,)` float32 of the same length.

    Raises:
        ValueError: If the codec is unknown or does not have this sampling rate.
        MissingDependencyError: If soundfile is needed and not installed.

    Example:
    >>> through_codec(np.zeros(16000, np.float32), 16000, "mp3").shape
    (16000,)
    """
    if codec not in CODECS:
        raise ValueError(f"`codec` must be one of {', '.join(CODECS)}. Received: codec={codec!r}")
    if codec in _LAWS:
        return mu_law(samples) if codec == "mulaw" else a_law(samples)
    try:
        soundfile = import_module("soundfile")
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f'The codec {codec} needs the package soundfile ({error}). Install it: pip install "lightcnn[speech]"'
        ) from error
    file, (container, subtype) = io.BytesIO(), _FORMATS[codec]
    try:
        # libsndfile 1.2 refuses MP3 at exactly 1, at every rate.
        options = {"format": container, "compression_level": min(level, 0.99)}
        soundfile.write(file, np.clip(samples, -1, 1), sampling_rate, subtype, **options)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{codec} does not take {sampling_rate} Hz (libsndfile: {error.error_string})") from error
    file.seek(0)
    decoded: Samples = soundfile.read(file, dtype="float32")[0][: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))
