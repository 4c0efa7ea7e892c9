"""Photographs of faces in, aligned crops out: what a network for faces looks at, or is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image

from lightcnn.alignment import align, as_picture
from lightcnn.datasets.faces import find_landmarks
from lightcnn.decoding import open_picture
from lightcnn.errors import DataError
from lightcnn.files import atomic_write
from lightcnn.inference import look_at

__all__ = ["align_files", "cut_out"]

_GROUP = 64  # files that are worked on between two reports of progress


def cut_out(
    image: Image, landmarks: ArrayLike | Callable[[Image], ArrayLike], channels: int, **frame: Any
) -> NDArray[np.uint8]:
    """Cuts a face out of a picture, grey or in colour; the same whether it is embedded or written.

    Args:
        image: A Pillow image of mode `L` or `RGB`.
        landmarks: `(5, 2)`, x and y in pixels; or a function that finds them in the picture.
        channels: 1 (grey) or 3 (RGB).
        **frame: `size`, `eye_mouth_distance` and `eye_row` of `lightcnn.alignment.align`.

    Returns:
        `(size, size, channels)` uint8.

    Raises:
        DataError: As `align`.

    Example:
    >>> cut_out(open_picture("ann.jpg"), landmarks, 1, size=144).shape
    (144, 144, 1)
    """
    points = landmarks(image) if callable(landmarks) else landmarks
    return align(image.convert("L" if channels == 1 else "RGB"), points, **frame)


def align_files(
    files: Sequence[Path | str],
    crops: Sequence[Path | str],
    landmarks: Path | str | Callable[[Image], ArrayLike],
    *,
    data_dir: Path | str | None = None,
    size: int = 144,
    eye_mouth_distance: float = 48.0,
    eye_row: float = 48.0,
    channels: int = 1,
) -> Iterator[dict[str, str]]:
    """Cuts the faces out of picture files and writes them as PNG; memory does not grow with their number.

    Args:
        files: Picture files of any size and colour.
        crops: `(files,)`, where to write the face of each. A file that stands there is replaced, whole or not at all.
        landmarks: A list of landmarks as `lightcnn.datasets.landmarks_of` takes it; or a function that finds them in a
            Pillow image; it is called for one at a time.
        data_dir: The folder that a list of landmarks is relative to.
        size: Height and width of a crop in pixels: 144 for training, 128 for comparing.
        eye_mouth_distance: In pixels (the authors' `ec_mc_y`).
        eye_row: The row of the eyes (the authors' `ec_y`): 48 of 144, 40 of 128.
        channels: 1 (grey) or 3 (RGB, for `light_cnn_v4`).

    Yields:
        A dictionary a file, in order: `file` and `crop`, both paths as given. A file that cannot be read, has no
        landmarks or none that fit, or whose crop another file has, gives `file` and `error`.

    Raises:
        DataError: As `landmarks_of`, but for pictures without landmarks.
        StorageError: If a crop cannot be written.
        ValueError: If there is not one crop a file.

    Example:
    >>> list(align_files(["photos/ann/1.jpg"], ["faces/ann/1.png"], "points.csv", data_dir="photos"))
    [{'file': 'photos/ann/1.jpg', 'crop': 'faces/ann/1.png'}]
    """
    frame = {"size": size, "eye_mouth_distance": eye_mouth_distance, "eye_row": eye_row}
    found: Any = repeat(landmarks) if callable(landmarks) else find_landmarks(files, landmarks, data_dir)
    owners: dict[Path, int] = {}
    items = [
        (number, str(file), Path(crop), owners.setdefault(Path(crop), number))
        for number, (file, crop) in enumerate(zip(files, crops, strict=True))
    ]

    def write(item: tuple[tuple[int, str, Path, int], Any]) -> dict[str, str]:
        (number, file, crop, owner), points = item
        try:
            if owner != number:
                raise DataError(f"{files[owner]} would be written to {crop} too. Rename one of them")
            if points is None:
                raise DataError(f"no landmarks in {landmarks}")
            face = as_picture(cut_out(open_picture(Path(file)), points, channels, **frame))
        except DataError as error:
            return {"file": file, "error": str(error)}
        with atomic_write(crop) as output:
            face.save(output, "PNG")
        return {"file": file, "crop": str(crop)}

    threads = 1 if callable(landmarks) else None
    yield from look_at(zip(items, found, strict=False), _GROUP, write, lambda rows: rows, threads)
