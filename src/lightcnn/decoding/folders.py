"""A folder -> the files in it that can be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightcnn.errors import DataError

__all__ = ["list_files"]


def list_files(folder: Path, suffixes: Sequence[str], kind: str) -> tuple[list[Path], list[Path]]:
    """Lists the files in and below a folder, sorted: those whose names end in one of `suffixes`, and the others.

    Hidden files and folders are passed over.

    Raises:
        DataError: If the folder holds none of the first; `kind` is what it is called then.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if not _is_hidden(path.relative_to(folder)) and path.is_file():
            (found if path.suffix.lower() in suffixes else others).append(path)
    if not found:
        raise DataError(f"{folder} holds no {kind}. Expected files ending in {', '.join(suffixes)}.")
    return found, others


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
