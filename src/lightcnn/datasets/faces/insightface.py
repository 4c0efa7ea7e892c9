"""The verification sets of insightface (`lfw.bin`, `agedb_30.bin`, ...): pickles, read without running them."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.pairs import folds_in_order
from lightcnn.datasets.pickles import read_pickled_arrays
from lightcnn.decoding import decode_picture, ignore_picture_warnings
from lightcnn.errors import BadFilesError, DataError

__all__ = ["PackedPairs", "read_insightface_bin"]


@dataclass(frozen=True)
class PackedPairs:
    """Pairs of encoded pictures and whether a pair shows one person. Pictures `2 i` and `2 i + 1` are pair `i`.

    Attributes:
        source: The file.
        encoded: `(2 * pairs,)`, pictures as JPEG or PNG files.
        same: `(pairs,)` bool.
        folds: `(pairs,)` int64: ten, in the order of the pairs.
    """

    source: Path
    encoded: tuple[bytes, ...]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.same)

    def pictures(
        self, size: tuple[int, int], channels: int, start: int = 0, stop: int | None = None
    ) -> NDArray[np.uint8]:
        """Decodes pictures as `lightcnn.decoding.decode_picture` does.

        insightface's faces are aligned to its own 112 x 112 template, which is not the frame of the Light CNNs: figures
        of a Light CNN on them are lower than on faces that `lightcnn.alignment` cut.

        Args:
            size: `(height, width)` in pixels.
            channels: 1 (grey) or 3 (RGB).
            start: The first picture wanted.
            stop: The one after the last, or None for all.

        Returns:
            `(pictures, height, width, channels)` uint8.

        Raises:
            BadFilesError: If pictures are damaged. They are named by their number, from 0.
        """
        encoded = self.encoded[start:stop]
        decoded = np.zeros((len(encoded), *size, channels), np.uint8)
        failures: list[tuple[Path, str]] = []
        with ignore_picture_warnings(), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "picture")
            for place, content in enumerate(encoded):
                file.write_bytes(content)
                try:
                    decoded[place] = decode_picture(file, size, channels).pixels
                except DataError as error:
                    failures.append((Path(f"{self.source}, picture {start + place}"), str(error)))
        if failures:
            raise BadFilesError(failures, "Get the file again.")
        return decoded


def read_insightface_bin(path: Path | str) -> PackedPairs:
    """Reads a verification set of insightface: a pickle of encoded pictures and of what is the same.

    Nothing but bytes, numeric arrays and plain containers comes out of the pickle; anything else is refused before it
    is made, so no code of the file runs.

    Args:
        path: The `.bin` file, written by Python 2 or 3.

    Returns:
        A `PackedPairs`.

    Raises:
        DataError: If the file cannot be read, is damaged, holds anything else, or all pairs are of one kind.

    Example:
    >>> pairs = read_insightface_bin("lfw.bin")
    >>> pairs.pictures((128, 128), 1, stop=2).shape
    (2, 128, 128, 1)
    """
    path = Path(path)
    try:
        content = read_pickled_arrays(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    expected = "Expected (list of encoded pictures, list of booleans), two pictures for each boolean."
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise DataError(f"{path} is no verification set of insightface. {expected} Received: {type(content).__name__}")
    pictures, booleans = content
    same = _booleans(booleans)
    if same is None or not isinstance(pictures, list | tuple) or len(pictures) != 2 * len(same):
        received = f"{_length(pictures)} and {_length(booleans)}"
        raise DataError(f"{path} is no verification set of insightface. {expected} Received: {received}")
    if same.all() or not same.any():
        raise DataError(
            f"{path} must have pairs of one person and pairs of two. Received: {len(same):,}, {same.sum():,} of one"
        )
    encoded = tuple(_encoded(picture, f"{path}, picture {number}") for number, picture in enumerate(pictures))
    return PackedPairs(path, encoded, same, folds_in_order(len(same)))


def _booleans(things: Any) -> NDArray[np.bool_] | None:
    if isinstance(things, np.ndarray) and things.dtype == bool and things.ndim == 1:
        return np.array(things)
    if isinstance(things, list) and all(isinstance(thing, bool) for thing in things):
        return np.array(things, bool)
    return None


def _encoded(picture: Any, place: str) -> bytes:
    """Returns the bytes of a picture: Python 2's come as Latin-1 text, some were stored as arrays."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 1:
        return picture.tobytes()
    if isinstance(picture, str):
        with suppress(UnicodeEncodeError):
            return picture.encode("latin1")
    raise DataError(f"{place}: expected the bytes of a picture file. Received: {_length(picture)}")


def _length(things: Any) -> str:
    kind = type(things).__name__
    return f"{kind} of {len(things):,}" if isinstance(things, list | tuple | np.ndarray) else kind
