"""Seeded changes to training pictures, in NumPy on whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment_images"]


def augment_images(
    images: NDArray[Any],
    generator: np.random.Generator,
    *,
    max_shift: int = 0,
    flip: bool = False,
    cutout: int = 0,
) -> NDArray[Any]:
    """Shifts, mirrors and cuts a batch of pictures at random, each picture by itself.

    What a shift uncovers repeats the picture's edge, so that the padding is no feature of its own.

    Args:
        images: `(batch, height, width, channels)`, any dtype. It is not changed.
        generator: NumPy's random generator: the same state gives the same pictures.
        max_shift: Largest shift in pixels, in each direction.
        flip: Whether to mirror half of the pictures left to right.
        cutout: Side in pixels of a square that is set to the batch's mean; its centre is anywhere in the picture.

    Returns:
        A new array of the same shape and dtype (`images` itself if nothing is asked for).

    Example:
    >>> batch = np.zeros((2, 28, 28, 1), np.uint8)
    >>> augment_images(batch, np.random.default_rng(0), max_shift=2).shape
    (2, 28, 28, 1)
    """
    if not (max_shift or flip or cutout):
        return images
    count, height, width = images.shape[:3]
    rows = np.broadcast_to(np.arange(height), (count, height))
    columns = np.broadcast_to(np.arange(width), (count, width))
    if max_shift:
        shift = generator.integers(-max_shift, max_shift + 1, (2, count, 1))
        rows, columns = np.clip(rows + shift[0], 0, height - 1), np.clip(columns + shift[1], 0, width - 1)
    if flip:
        mirrored = np.asarray(generator.random(count) < 0.5)
        columns = np.where(mirrored[:, np.newaxis], columns[:, ::-1], columns)
    result = images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if cutout:
        mean = images.mean(axis=(0, 1, 2)).astype(images.dtype)
        corner = generator.integers(0, (height, width), (count, 2)) - cutout // 2
        in_rows = (np.arange(height) >= corner[:, :1]) & (np.arange(height) < corner[:, :1] + cutout)
        in_columns = (np.arange(width) >= corner[:, 1:]) & (np.arange(width) < corner[:, 1:] + cutout)
        result[in_rows[:, :, None] & in_columns[:, None, :]] = mean
    return result
