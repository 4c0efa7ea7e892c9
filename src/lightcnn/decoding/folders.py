"""A folder -> the files in it that can be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightcnn.errors import DataError

__all__ = ["files_below", "list_files"]


def list_files(folder: Path, suffixes: Sequence[str], kind: str) -> tuple[list[Path], list[Path]]:
    """Lists the files in and below a folder, sorted: those whose names end in one of `suffixes`, and the others.

    Hidden files and folders are passed over, links are followed.

    Raises:
        DataError: If the folder holds none of the first, `kind` is what it is called then; or a folder cannot be read.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(files_below(folder)):
        (found if path.suffix.lower() in suffixes else others).append(path)
    if not found:
        raise DataError(f"{folder} holds no {kind}. Expected files ending in {', '.join(suffixes)}.")
    return found, others


def files_below(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yields files in any order, but for hidden ones; through links to folders too, unless one lies in itself by one.

    Args:
        folder: Where to look.
        above: For the function itself: the folders that lead to this one.

    Raises:
        DataError: If a folder cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = [Path(folder, name) for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError as error:
        raise DataError(f"{folder} could not be read: {error.strerror or error}") from error
    for path in entries:
        if path.is_dir():
            yield from files_below(path, above | {real})
        elif path.is_file():
            yield path
