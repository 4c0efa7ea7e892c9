"""NumPy arrays out of other people's pickles, without running what else a pickle can run."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import DataError

__all__ = ["read_pickled_arrays"]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


class _DType:
    """A pickled dtype, of which only the name and the byte order are believed.

    The rest of its state can claim that the bytes of an array are addresses of objects, and NumPy would follow them.
    """

    def __init__(self, name: Any, align: bool = False, copy: bool = False) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufc":
            raise pickle.UnpicklingError(f"an array of {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """A pickled array whose dtype is a `_DType`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, fortran_order, content = state
        super().__setstate__((version, shape, dtype.dtype, fortran_order, content))


def _reconstruct(kind: Any, shape: tuple[int, ...], code: bytes) -> _Array:
    return np.empty(0).view(_Array)


def _frombuffer(buffer: Any, dtype: _DType, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype.dtype).reshape(shape, order=order)


# All that a pickle of dictionaries, lists, text, bytes and numeric arrays needs; NumPy 1 and 2 name it differently.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): None,  # is named only; called, it would take bytes for the addresses of objects
    ("numpy", "dtype"): _DType,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): bytes,  # an empty one, in protocols 0 to 2
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
