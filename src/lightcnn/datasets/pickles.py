"""NumPy arrays out of other people's pickles, without running what else a pickle can run."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from lightcnn.errors import DataError

__all__ = ["read_pickled_arrays"]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


_reconstruct = np.empty(0).__reduce__()[0]
# All that a pickle of dictionaries, lists, text, bytes and numeric arrays needs; NumPy 1 and 2 name it differently.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None


def read_pickled_arrays(content: bytes) -> Any:
    """Reads a pickle of plain containers and numeric arrays; anything else is refused before it is made.

    Python 2's strings come out as Latin-1 text.

    Args:
        content: The bytes of the pickle.

    Returns:
        What was pickled.

    Raises:
        DataError: If the pickle is damaged, or asks for anything but containers and numeric arrays.

    Example:
    >>> read_pickled_arrays(pickle.dumps({"labels": [1, 2]}))
    {'labels': [1, 2]}
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"the pickle is refused: {error}. Only numeric arrays in plain containers are read.") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise DataError(f"the pickle is damaged: {type(error).__name__}: {error}") from error
