"""Downloads that are whole and right, or no file at all."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from lightcnn.datasets.published.arrays import Track
from lightcnn.errors import DataError, DigestError
from lightcnn.files import atomic_write

__all__ = ["CONNECT_TIMEOUT_S", "UnreachableError", "download"]

CONNECT_TIMEOUT_S = 10
_CHUNK = 1 << 20


class UnreachableError(DataError):
    """The host of a data set did not answer, or stopped answering."""


def download(url: str, path: Path, sha256: str, track: Track) -> None:
    """Downloads a file whole or not at all, and only if its digest is right."""
    digest = hashlib.sha256()
    with atomic_write(path) as file:
        for chunk in _chunks(url, track):
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            raise DigestError(f"{url} gave another file. Expected SHA-256 {sha256}. Received: {digest.hexdigest()}")


def _chunks(url: str, track: Track) -> Iterator[bytes]:
    try:
        with _connect(url) as answer:
            chunks = iter(lambda: answer.read(_CHUNK), b"")
            yield from track(chunks, -(-(answer.length or 0) // _CHUNK), f"Downloading {url.rpartition('/')[2]}, MiB")
            if answer.length:
                raise OSError(f"the connection ended {answer.length:,} bytes early")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise UnreachableError(f"{url} ({error})") from error


def _connect(url: str) -> Any:
    """Opens a URL within the time limit: looking up the name and trying every address of the host together.

    `urlopen`'s own timeout is one of each address, and does not count the look-up.
    """
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            outcome.put(urlopen(url, timeout=CONNECT_TIMEOUT_S))  # noqa: S310
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = outcome.get(timeout=CONNECT_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_S} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
