"""The AT&T faces (ORL): 40 people, ten pictures each, and a protocol that keeps people apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.identities import all_pairs
from lightcnn.datasets.published import read_npz
from lightcnn.errors import DataError

__all__ = ["OrlFaces", "load_orl"]

_TRAIN_SUBJECTS = 30


@dataclass(frozen=True)
class OrlFaces:
    """The pictures, who learns and who is verified. Nobody is in both.

    Attributes:
        images: `(400, 112, 92)` uint8.
        subjects: `(400,)` int64, 0 to 39.
        train: `(300,)` int64, the pictures of the subjects 0 to 29.
        first: `(4950,)` int64, the first picture of every pair of the subjects 30 to 39, a position in `images`.
        second: `(4950,)` int64, the second one.
        same: `(4950,)` bool; 450 are genuine and 4,500 impostor pairs, which show error rates of 1 % and above.
    """

    images: NDArray[np.uint8]
    subjects: NDArray[np.int64]
    train: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]


def load_orl(path: Path | str) -> OrlFaces:
    """Loads the AT&T faces with an identity-disjoint protocol: 30 subjects to train on, 10 to verify.

    Reference:
        Samaria and Harter, "Parameterisation of a Stochastic Model for Human Face Identification", 1994. Credit the
        Olivetti Research Laboratory when you use them.

    Args:
        path: An `.npz` file with `images` and `subjects`, or the folder with `orl_faces.npz`.

    Returns:
        An `OrlFaces`.

    Raises:
        DataError: If the file cannot be read, or holds something else.

    Example:
    >>> faces = load_orl("data/orl_faces.npz")
    >>> faces.images.shape, int(faces.same.sum()), int((~faces.same).sum())
    ((400, 112, 92), 450, 4500)
    """
    path = Path(path)
    if path.is_dir():
        path = path / "orl_faces.npz"
    arrays = read_npz(path, ["images", "subjects"])
    images, subjects = arrays["images"], arrays["subjects"]
    if (
        images.shape != (400, 112, 92)
        or images.dtype != np.uint8
        or subjects.shape != (400,)
        or not np.array_equal(np.sort(subjects), np.repeat(np.arange(40), 10))
    ):
        raise DataError(
            f"{path} is not the set of AT&T faces. Expected images (400, 112, 92) uint8 and subjects (400,), ten of "
            f"each of 0 to 39. Received: {images.dtype} {images.shape} and {subjects.dtype} {subjects.shape}"
        )
    held_out = np.flatnonzero(subjects >= _TRAIN_SUBJECTS)
    first, second, same = all_pairs(subjects[held_out])
    train = np.flatnonzero(subjects < _TRAIN_SUBJECTS)
    return OrlFaces(images, subjects.astype(np.int64), train, held_out[first], held_out[second], same)
