"""Five landmarks -> an aligned face, as the Light CNNs for faces were trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lightcnn.errors import DataError

__all__ = ["align", "as_picture", "similarity_transform"]

_SMALLEST = 1.0  # pixels between the eyes, and from them to the mouth; below, a pixel's error turns the face


def similarity_transform(
    landmarks: ArrayLike, *, size: int = 144, eye_mouth_distance: float = 48.0, eye_row: float = 48.0
) -> NDArray[np.float64]:
    """Returns the turn, scale and shift that bring a face into the frame of the Light CNNs.

    The eyes become level, the middle between them comes to column `size // 2` and row `eye_row`, and the middle between
    the corners of the mouth lies `eye_mouth_distance` rows below. How far apart the eyes are decides nothing. The mouth
    says what is below, so a head may be turned by any angle, and it is never mirrored.

    Coordinates are those of pixels' centres: (0, 0) is the centre of the first pixel, in the picture and in the frame.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (https://arxiv.org/abs/1511.02683)
        and the authors' alignment: size 144, `ec_mc_y` 48, `ec_y` 48 to train; 128, 48, 40 to test, which is the same
        without the outer 8 pixels. Theirs rounds both middles to whole pixels on the way, this one rounds nothing.

    Args:
        landmarks: `(5, 2)`, x and y in pixels: the eyes, the nose (not used), the corners of the mouth. Which eye and
            which corner comes first does not matter.
        size: Height and width of the frame in pixels.
        eye_mouth_distance: From the eyes to the mouth in pixels of the frame (the authors' `ec_mc_y`).
        eye_row: The row of the eyes in the frame (the authors' `ec_y`).

    Returns:
        `(2, 3)`: `matrix @ [x, y, 1]` is the place in the frame of a point in the picture.

    Raises:
        DataError: If the landmarks are not five finite points, the eyes are in one place, or the mouth is level with
            them.
        ValueError: If the frame is not at least one pixel in size, or the distance not above 0.

    Example:
    >>> matrix = similarity_transform([[60, 50], [84, 50], [72, 60], [62, 74], [82, 74]])
    >>> (matrix @ [72, 50, 1]).tolist(), (matrix @ [72, 74, 1]).tolist()
    ([72.0, 48.0], [72.0, 96.0])
    """
    points = _check_landmarks(landmarks)
    if size < 1 or not 0 < eye_mouth_distance < np.inf or not np.isfinite(eye_row):
        raise ValueError(
            "Expected a `size` of at least 1, an `eye_mouth_distance` above 0 and a finite `eye_row`. "
            f"Received: size={size}, eye_mouth_distance={eye_mouth_distance}, eye_row={eye_row}"
        )
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across = points[1] - points[0]
    between_eyes = np.hypot(*across)
    if between_eyes < _SMALLEST:
        raise DataError(
            f"degenerate landmarks: the two eyes (the first two points) must be at least {_SMALLEST:g} pixel apart. "
            f"Received: {_shown(points)}"
        )
    across = across / between_eyes
    down = np.array([-across[1], across[0]])
    drop = down @ (mouth - eyes)
    if abs(drop) < _SMALLEST:
        raise DataError(
            "degenerate landmarks: the mouth (the last two points) is level with the eyes (the first two). Are the "
            f"points in the order eyes, nose, corners of the mouth? Received: {_shown(points)}"
        )
    turn = eye_mouth_distance / drop * np.stack([across, down])  # a mouth above turns it by 180 degrees
    return np.column_stack([turn, (size // 2, eye_row) - turn @ eyes])


def align(
    image: Image.Image | NDArray[np.uint8],
    landmarks: ArrayLike,
    *,
    size: int = 144,
    eye_mouth_distance: float = 48.0,
    eye_row: float = 48.0,
) -> NDArray[np.uint8]:
    """Cuts an aligned face out of a picture: `similarity_transform`, sampled once (bicubic), black outside the picture.

    A picture at least twice as fine as the frame is first averaged over squares of whole pixels, so that nothing
    flickers between the samples. 144/48/48 without its outer 8 pixels is 128/48/40, pixel by pixel.

    For the grey networks convert the picture before, with `image.convert("L")` (ITU-R 601 luma).

    Args:
        image: A Pillow image of mode `L` or `RGB` (`lightcnn.decoding.open_picture`), or `(height, width)` or
            `(height, width, channels)` uint8 with 1 or 3 channels.
        landmarks: `(5, 2)`, x and y in pixels, as in `similarity_transform`.
        size: Height and width of the result in pixels.
        eye_mouth_distance: From the eyes to the mouth in pixels of the result (the authors' `ec_mc_y`).
        eye_row: The row of the eyes in the result (the authors' `ec_y`).

    Returns:
        `(size, size, channels)` uint8.

    Raises:
        DataError: As `similarity_transform`; or if a landmark is more than a pixel outside the picture. The message is
            the cause alone; the caller knows the file.
        ValueError: If `image` is something else, or as `similarity_transform`.

    Example:
    >>> picture = np.full((200, 160), 128, np.uint8)
    >>> align(picture, [[60, 80], [100, 80], [80, 100], [65, 130], [95, 130]], size=128, eye_row=40).shape
    (128, 128, 1)
    """
    picture = as_picture(image)
    points = _check_landmarks(landmarks)
    # A pixel of tolerance: some count pixels from 1, some from their corners.
    if (points < -1).any() or (points > picture.size).any():
        raise DataError(
            f"landmarks outside the picture: it has {picture.width} x {picture.height} pixels. Are they of this "
            f"picture, before it was made smaller, and is x before y? Received: {_shown(points)}"
        )
    matrix = similarity_transform(points, size=size, eye_mouth_distance=eye_mouth_distance, eye_row=eye_row)
    turn, shift = matrix[:, :2], matrix[:, 2]
    factor = max(1, int(1 / np.hypot(*turn[0]) + 1e-9))  # 1 / (1 / 49) is below 49
    if factor > 1:
        picture = picture.reduce(factor)
    # Pillow wants the way back, between coordinates that count from the corner of the first pixel.
    back = np.linalg.inv(turn)
    coefficients = np.column_stack([back, 0.5 - back @ (shift + 0.5)]) / factor
    wanted = ((size, size), Image.Transform.AFFINE, tuple(coefficients.ravel().tolist()), Image.Resampling.BICUBIC)
    # In floating point: of a pixel of 8 bits Pillow would cut off the fraction, half a level on average.
    face = np.stack([np.asarray(band.convert("F").transform(*wanted)) for band in picture.split()], axis=-1)
    return np.array(np.clip(np.rint(face), 0, 255), np.uint8)


def as_picture(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Returns a Pillow image of what `align` takes.

    Raises:
        ValueError: If it is neither an image of mode `L` or `RGB` nor uint8 pixels with 1 or 3 channels.
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise ValueError(f'Expected a Pillow image of mode L or RGB; use `convert("RGB")`. Received: {image.mode}')
        return image
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not pixels.size or (pixels.ndim != 2 and pixels.shape[2:] not in ((1,), (3,))):
        raise ValueError(
            "Expected uint8 pixels of shape (height, width) or (height, width, channels) with 1 or 3 channels. "
            f"Received: {pixels.dtype} {pixels.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))


def _check_landmarks(landmarks: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2):
        raise DataError(
            "expected five landmarks of x and y, shape (5, 2): the eyes, the nose, the corners of the mouth. "
            f"Received: shape {points.shape}"
        )
    if not np.isfinite(points).all():
        raise DataError(f"expected finite landmarks. Received: {_shown(points)}")
    return points


def _shown(points: NDArray[np.float64]) -> str:
    return ", ".join(f"({x:g}, {y:g})" for x, y in points)
