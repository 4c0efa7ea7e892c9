"""Lists of faces: text that is read whole, and files that must be there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lightcnn.errors import BadFilesError, DataError

__all__ = ["is_there", "read_text", "refuse_missing", "shown"]


def read_text(path: Path) -> str:
    """Reads UTF-8, with or without byte order mark; any line ends come out as one line feed.

    Raises:
        DataError: If the file cannot be read or is something else.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}.") from None
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}.") from error


def is_there(path: Path) -> bool:
    """Tells whether there is a file or folder; a name that none can have is one that is not there."""
    return os.path.exists(path)  # noqa: PTH110  (Path's own raises on names that are too long)


def refuse_missing(files: Iterable[Path], source: Path, hint: str) -> None:
    """Checks that all files (or folders) of a list are there.

    Raises:
        BadFilesError: If some are not. It names all of them, and says `hint`.
    """
    if missing := [(path, "no such file") for path in files if not is_there(path)]:
        raise BadFilesError(missing, f"{source} names them. {hint}")


def shown(line: str) -> str:
    """Returns a line as a message quotes it."""
    return repr(line if len(line) <= 100 else line[:100] + "...")
