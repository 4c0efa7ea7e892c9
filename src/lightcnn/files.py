"""Files that are written whole or not at all, and checked before they are believed."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import secrets
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from lightcnn.errors import StorageError

__all__ = [
    "atomic_write",
    "cache_folder",
    "csv_line",
    "file_digest",
    "fits_memory",
    "json_bytes",
    "write_json",
    "write_rows",
    "write_text",
]


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file beside `path` and renames it to `path` once all is on the disk.

    A kill, a full disk or an exception at any moment leaves the old file or the new one, never half of one, and no
    temporary file behind; only what ends Python without telling it (SIGKILL; outside the command line SIGTERM too) can
    leave a hidden `.tmp` file, which nobody reads.

    Args:
        path: Where the file shall stand; of a link, where it points to. Missing parent folders are made. To a device or
            a pipe (`/dev/null`, `>(gzip)`) is written as it is, and to `/dev/stdout` where it stands.

    Yields:
        A binary file open for writing.

    Raises:
        StorageError: If the file cannot be written.

    Example:
    >>> with atomic_write(Path("scores.csv")) as file:
    ...     file.write(b"file,score\\n")
    """
    temporary = None
    try:
        if path.is_char_device() or path.is_fifo() or _is_open(path):
            with path.open("ab") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # the target's name may have no room for more
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105
    except OSError as error:
        _discard(temporary)
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}. What stood there before is untouched. "
            "Free some space or choose another folder, then run the same command again."
        ) from error
    except BaseException:
        _discard(temporary)
        raise


def _discard(temporary: Path | None) -> None:
    if temporary is not None:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_open(path: Path) -> bool:
    """Tells whether a path names what this process has open already: `/dev/stdout`, `/dev/fd/3`."""
    return re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+", str(path.absolute())) is not None


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json_bytes(content) + b"\n")


def write_rows(
    path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]], errors: str = "backslashreplace"
) -> None:
    """Writes a table as CSV in UTF-8, row by row, whole or not at all; `errors` is for names that are no text."""
    with atomic_write(path) as file:
        for row in chain([header], rows):
            file.write(csv_line(row).encode(errors=errors))


def csv_line(cells: Iterable[Any]) -> str:
    """Returns a line of a CSV file, in which a name that holds an end of lines, of whatever kind, is quoted."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # with another `lineterminator` it quotes no other ends
    return text.getvalue().removesuffix("\r\n") + "\n"


def json_bytes(content: Any) -> bytes:
    """Returns indented JSON as UTF-8; a file's name that is no text has surrogates, which stay as escapes."""
    return json.dumps(content, indent=2, ensure_ascii=False).encode(errors="backslashreplace")


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fits_memory(archive: zipfile.ZipFile) -> bool:
    """Tells whether a zip file unpacks to less than this machine's memory: a small file can claim terabytes."""
    if not hasattr(os, "sysconf"):
        return True  # Windows; there is no limit that could be asked for
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sum(member.file_size for member in archive.infolist()) < memory


def cache_folder() -> Path:
    """Returns the folder for what need not last: `$LIGHTCNN_CACHE`, or `lightcnn` in the user's cache folder."""
    if chosen := os.environ.get("LIGHTCNN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "lightcnn"  # noqa: PTH111  without a home, too
