"""Noise and room responses from a folder, a piece at a time: memory does not grow with the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.speech.unlisted import audio_below
from lightcnn.decoding import decode_audio, decode_piece, fit_length
from lightcnn.errors import DataError

__all__ = ["audio_clips"]


def audio_clips(
    folder: Path | str, sampling_rate: int, *, crop: str = "random", pad: str = "repeat"
) -> Callable[[np.random.Generator, int, int], NDArray[np.float32]]:
    """Returns a function that draws pieces of the recordings in and below a folder, for `augment_audio`.

    Args:
        folder: A folder of noise (MUSAN, for example), or of measured room responses.
        sampling_rate: In Hz, of the pieces.
        crop: Where a long recording is cut: `"random"` for noise, `"first"` for room responses.
        pad: What follows a short one, as in `fit_length`: `"repeat"` for noise, `"zero"` for room responses.

    Returns:
        `clips(generator, count, length)`, which reads `(count, length)` float32 from the disk; of an MP3 all of it.

    Raises:
        ValueError: If `crop` is neither of the two.
        DataError: If the folder holds no audio file, or, when it is drawn, one that cannot be read.

    Example:
    >>> noises = audio_clips("musan/noise", 16000)
    >>> augment_audio(batch, 16000, generator, noise=0.5, noises=noises)
    """
    if crop not in ("first", "random"):
        raise ValueError(f"`crop` must be 'first' or 'random'. Received: crop={crop!r}")
    files = list(audio_below(Path(folder)))
    if not files:
        raise DataError(f"{folder} holds no audio file.")

    def piece(file: Path, place: float, length: int) -> NDArray[np.float32]:
        if crop == "first":
            samples = decode_audio(file, sampling_rate, num_samples=length)
        else:
            # `place` is below 1, and the last sample shall be heard too
            samples = decode_piece(file, sampling_rate, length, lambda surplus: int(place * (surplus + 1)))
        return fit_length(samples, length, pad=pad)

    def clips(generator: np.random.Generator, count: int, length: int) -> NDArray[np.float32]:
        drawn, places = generator.integers(len(files), size=count), generator.random(count)
        pairs = zip(drawn.tolist(), places.tolist(), strict=True)
        return np.stack([piece(files[row], place, length) for row, place in pairs])

    return clips
