"""Seeded changes to training pictures, in NumPy on whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment_images", "cut_and_mix"]


def augment_images(
    images: NDArray[Any],
    generator: np.random.Generator,
    *,
    max_shift: int = 0,
    max_rotation_degrees: float = 0.0,
    max_zoom: float = 0.0,
    elastic_distortion: float = 0.0,
    flip: bool = False,
    cutout: int = 0,
) -> NDArray[Any]:
    """Shifts, turns, zooms, distorts, mirrors and cuts a batch of pictures at random, each picture by itself.

    What a shift or a turn uncovers repeats the picture's edge, so that the padding is no feature of its own.

    Reference:
        Simard et al., "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", 2003
        (elastic distortions: there 34 times uniform noise smoothed over 4 pixels, which is 1.4 in pictures of 28).

    Args:
        images: `(batch, height, width, channels)`, any dtype. It is not changed.
        generator: NumPy's random generator: the same state gives the same pictures.
        max_shift: Largest shift in pixels, in each direction.
        max_rotation_degrees: Largest turn about the centre, either way.
        max_zoom: Largest change of size, as a share: 0.1 for 1 / 1.1 to 1.1 times, height and width apart.
        elastic_distortion: Standard deviation, in pixels, of the random displacement of every point, which is smooth
            over a seventh of the picture.
        flip: Whether to mirror half of the pictures left to right.
        cutout: Side in pixels of a square that is set to the picture's mean; its centre is anywhere in the picture.

    Returns:
        A new array of the same shape and dtype (`images` itself if nothing is asked for).

    Example:
    >>> batch = np.zeros((2, 28, 28, 1), np.uint8)
    >>> augment_images(batch, np.random.default_rng(0), max_shift=2).shape
    (2, 28, 28, 1)
    """
    turned = images
    if max_rotation_degrees or max_zoom or elastic_distortion:
        turned = _turn_and_zoom(images, generator, max_rotation_degrees, max_zoom, elastic_distortion)
    moved = _moved(turned, generator, max_shift, flip) if max_shift or flip else turned
    return _cut_out(moved, _mean_colours(turned), generator, cutout) if cutout else moved


def _moved(images: NDArray[Any], generator: np.random.Generator, max_shift: int, flip: bool) -> NDArray[Any]:
    count, height, width = images.shape[:3]
    rows = np.broadcast_to(np.arange(height), (count, height))
    columns = np.broadcast_to(np.arange(width), (count, width))
    if max_shift:
        shift = generator.integers(-max_shift, max_shift + 1, (2, count, 1))
        rows, columns = np.clip(rows + shift[0], 0, height - 1), np.clip(columns + shift[1], 0, width - 1)
    if flip:
        mirrored = np.asarray(generator.random(count) < 0.5)
        columns = np.where(mirrored[:, np.newaxis], columns[:, ::-1], columns)
    # One flat list of pixels, each with all its channels: five times as fast as an index for every axis.
    places = (np.arange(count)[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    result: NDArray[Any] = images.reshape(-1, images.shape[3]).take(places, axis=0)
    return result


def _mean_colours(images: NDArray[Any]) -> NDArray[Any]:
    # one axis after the other: eight times as fast as both at once
    mean: NDArray[Any] = images.sum(axis=1, dtype=np.float64).sum(axis=1) / (images.shape[1] * images.shape[2])
    return mean.astype(images.dtype)


def _cut_out(images: NDArray[Any], colours: NDArray[Any], generator: np.random.Generator, side: int) -> NDArray[Any]:
    count, height, width = images.shape[:3]
    side = min(side, 2 * max(height, width))  # which blanks all, wherever its centre is
    corner = generator.integers(0, (height, width), (count, 2)) - side // 2
    # what lies outside falls on the edge, which is in the square then
    rows = np.clip(corner[:, :1] + np.arange(side), 0, height - 1)
    columns = np.clip(corner[:, 1:] + np.arange(side), 0, width - 1)
    result = images.copy()
    result[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None]] = colours[:, None, None]
    return result


def cut_and_mix(
    images: NDArray[Any], targets: NDArray[Any], generator: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Puts a rectangle of another picture of the batch into each, and mixes their targets by area (CutMix).

    The last picture's goes into the first and so on, so the middle one of an odd batch stays as it is.

    Reference:
        Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019:
        https://arxiv.org/abs/1905.04899, with one rectangle a batch and its area uniform.

    Args:
        images: `(batch, height, width, channels)`, any dtype. It is not changed.
        targets: `(batch, classes)`, probabilities.
        generator: NumPy's random generator: the same state gives the same pictures.

    Returns:
        New arrays of the same shapes and dtypes.

    Example:
    >>> pictures, targets = np.zeros((2, 28, 28, 1), np.uint8), np.eye(2, dtype=np.float32)
    >>> cut_and_mix(pictures, targets, np.random.default_rng(0))[1].sum(axis=1)
    array([1., 1.], dtype=float32)
    """
    height, width = images.shape[1:3]
    side = generator.random() ** 0.5
    tall, wide = int(side * height), int(side * width)
    top, left = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
    mixed = images.copy()
    mixed[:, top : top + tall, left : left + wide] = images[::-1, top : top + tall, left : left + wide]
    share = np.asarray(tall * wide / (height * width), targets.dtype)
    return mixed, (1 - share) * targets + share * targets[::-1]


def _turn_and_zoom(
    images: NDArray[Any],
    generator: np.random.Generator,
    max_rotation_degrees: float,
    max_zoom: float,
    elastic_distortion: float,
) -> NDArray[Any]:
    """Samples each picture, bilinearly, where its turned, zoomed and distorted grid lies."""
    count, height, width, channels = images.shape
    angle = np.deg2rad(generator.uniform(-max_rotation_degrees, max_rotation_degrees, (count, 1, 1)))
    shrink = (1 + max_zoom) ** generator.uniform(-1, 1, (2, count, 1, 1))
    sine, cosine, (tall, wide) = (value.astype(np.float32) for value in (np.sin(angle), np.cos(angle), shrink))
    down = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    right = np.arange(width, dtype=np.float32) - (width - 1) / 2
    row = tall * (cosine * down - sine * right) + (height - 1) / 2
    column = wide * (sine * down + cosine * right) + (width - 1) / 2
    if elastic_distortion:
        fields = _smooth_noise(generator, (2, count, height, width))
        row += elastic_distortion * fields[0]
        column += elastic_distortion * fields[1]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top = np.minimum(row.astype(np.int32), height - 2)
    left = np.minimum(column.astype(np.int32), width - 2)
    below, beside = (row - top)[..., None], (column - left)[..., None]
    # The four neighbours of every point, found in one flat list of pixels.
    pixels = images.reshape(-1, channels).astype(np.float32)
    corner = (np.arange(count, dtype=np.int32)[:, None, None] * height + top) * width + left
    first, second, third, fourth = (pixels.take(corner + step, axis=0) for step in (0, 1, width, width + 1))
    upper = first + (second - first) * beside
    lower = third + (fourth - third) * beside
    sampled = upper + (lower - upper) * below
    if np.issubdtype(images.dtype, np.integer):
        np.rint(sampled, out=sampled)
    turned: NDArray[Any] = sampled.astype(images.dtype)
    return turned


def _smooth_noise(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns noise smoothed by a Gaussian of a seventh of either of the last two axes; of deviation 1 everywhere."""
    smoothers = []
    for size in shape[-2:]:
        spread = size / 7
        points = spread * np.arange(-3, 11)  # noise at these places is enough for a Gaussian as wide as their distance
        weights = np.exp(-(((np.arange(size)[:, None] - points) / spread) ** 2) / 2)
        smoothers.append((weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32))
    noise = generator.standard_normal((*shape[:-2], 14, 14), dtype=np.float32)
    smooth: NDArray[np.float32] = smoothers[0] @ noise @ smoothers[1].T
    return smooth
