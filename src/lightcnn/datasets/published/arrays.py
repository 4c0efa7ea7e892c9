"""Arrays of a data set: where they may lie, how they are read, and what tells that they are the right ones."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.backends import keras_home
from lightcnn.errors import DataError
from lightcnn.files import cache_folder, fits_memory

__all__ = [
    "KEYS",
    "Arrays",
    "Track",
    "array_digest",
    "download_folder",
    "first_of",
    "keras_cache",
    "read_npz",
    "untracked",
]

Arrays = dict[str, NDArray[Any]]
# how progress is shown: items, their number, a description -> the items
Track = Callable[[Iterable[Any], int | None, str], Iterable[Any]]

KEYS = ("x_train", "y_train", "x_test", "y_test")


def untracked(items: Iterable[Any], total: int | None, description: str) -> Iterable[Any]:
    """Shows no progress."""
    return items


def keras_cache() -> Path:
    """Returns the folder in which `keras.datasets` keeps its downloads."""
    return keras_home() / "datasets"


def download_folder() -> Path:
    """Returns where downloads go: `keras_cache`, or where that cannot be written `cache_folder`."""
    folder = keras_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return cache_folder()
    return folder if os.access(folder, os.W_OK) else cache_folder()


def read_npz(path: Path, keys: tuple[str, ...] | list[str] = KEYS) -> Arrays:
    """Reads arrays from an `.npz` file; pickled objects are refused.

    Args:
        path: The file.
        keys: The arrays that it must have.

    Returns:
        The arrays by key.

    Raises:
        DataError: If the file is damaged, lacks a key or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not fits_memory(archive):
                raise DataError(f"{path} unpacks to more than this machine's memory. Split it, or use less of it.")
        with np.load(path, allow_pickle=False) as archive:
            if missing := [key for key in keys if key not in archive.files]:
                raise DataError(f"{path} lacks {missing}. Expected the keys {list(keys)}. Received: {archive.files}")
            arrays = {key: archive[key] for key in keys}
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds pickled objects, which can run code; they are refused. "
                "Save plain numeric arrays with numpy.savez."
            ) from error
        raise DataError(f"{path} is not an .npz file, or a truncated one: {error}") from error
    if others := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path}: {others} hold something else than arrays. Save them with numpy.savez.")
    return arrays


def array_digest(*arrays: NDArray[Any]) -> str:
    """Returns the SHA-256 of arrays' bytes in C order, one after another."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def first_of(
    folder: Path, name: str, readers: dict[Any, Callable[[Path], Arrays]], layouts: str
) -> tuple[Path, Arrays]:
    """Reads the first layout that `folder` has; `layouts` names them all.

    A key of `readers` is a file name or a function that finds a path.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. --data-dir names the folder that holds the data.")
    for layout, reader in readers.items():
        path = layout(folder) if callable(layout) else folder / layout
        if path is not None and path.exists():
            return path, reader(path)
    raise DataError(
        f"{folder} holds no {name}. Expected {layouts}. "
        f"Received: {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'an empty folder'}"
    )
