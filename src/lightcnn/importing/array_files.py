"""Arrays out of NumPy's and safetensors' files, the formats without pickles that weights are passed on in."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import ModelFileError
from lightcnn.files import fits_memory

__all__ = ["read_npz_checkpoint", "read_safetensors_checkpoint", "without_parallel"]

# safetensors' names of numbers -> NumPy's. bfloat16 is the upper half of a float32; whole numbers are counters.
_NUMBERS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_PARALLEL = "module."  # torch.nn.DataParallel puts it before every name


def read_npz_checkpoint(path: Path | str) -> dict[str, NDArray[Any]]:
    """Reads weights that `numpy.savez` wrote under the names of a PyTorch checkpoint.

    Pickled objects are refused, so nothing in the file is run. `"module."` before every name is dropped.

    Args:
        path: The `.npz` file.

    Returns:
        The arrays by name, as they are.

    Raises:
        ModelFileError: If the file is missing, damaged, empty, or holds something else than arrays.

    Example:
    >>> numpy.savez("light_cnn_9.npz", **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
    >>> read_npz_checkpoint("light_cnn_9.npz")["fc1.filter.bias"].shape
    (512,)
    """
    path = _existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if not fits_memory(archive):
                raise ValueError("it unpacks to more than this machine's memory")
        with np.load(path, allow_pickle=False) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        if others := [name for name, value in weights.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"{', '.join(others)}: no array")
    except Exception as error:  # a damaged archive can raise almost anything
        raise ModelFileError(
            f"{path} is refused as an .npz file of weights: {error or type(error).__name__}. Only numeric arrays are "
            "read: copy it again, or save plain arrays with numpy.savez."
        ) from error
    return _named(path, weights)


def read_safetensors_checkpoint(path: Path | str) -> dict[str, NDArray[Any]]:
    """Reads the weights in a `.safetensors` file; the package safetensors is not needed.

    `"module."` before every name is dropped. The format: the length of the header as eight bytes (little-endian), the
    header (JSON: type, shape and place of every tensor), then the numbers one tensor after another.

    Args:
        path: The `.safetensors` file. Its tensors may be float16, bfloat16, float32, float64 or whole numbers.

    Returns:
        The arrays by name. bfloat16 becomes float32.

    Raises:
        ModelFileError: If the file is missing, damaged, empty, or holds other numbers.

    Example:
    >>> read_safetensors_checkpoint("light_cnn_9.safetensors")["fc1.filter.weight"].shape
    (512, 8192)
    """
    path = _existing(path)
    try:
        return _named(path, _tensors(path.read_bytes()))
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path} is no .safetensors file of weights, or a damaged one: {error}. Copy it again."
        ) from error


def _tensors(content: bytes) -> dict[str, NDArray[Any]]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _LONGEST_HEADER):
        raise ValueError(f"its header would have {length} bytes, the file has {len(content)}")
    header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    data = memoryview(content)[8 + length :]
    tensors, places = {}, []
    for name, entry in header.items():
        match entry:
            case {"dtype": str() as code, "shape": [*shape], "data_offsets": [int() as start, int() as end]}:
                pass
            case _:
                raise ValueError(f"its header has no dtype, shape and data_offsets for {name}")
        if code not in _NUMBERS:
            raise ValueError(f"{name} is {code}, expected {', '.join(_NUMBERS)}")
        if not all(type(size) is int and size >= 0 for size in shape) or not 0 <= start <= end <= len(data):
            raise ValueError(f"{name} of shape {shape} at {start} to {end} does not lie in {len(data)} bytes")
        if end - start != math.prod(shape) * np.dtype(_NUMBERS[code]).itemsize:
            raise ValueError(f"{name} of shape {shape} and dtype {code} has {end - start} bytes")
        values = np.frombuffer(data[start:end], _NUMBERS[code])
        if code == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        tensors[name] = np.array(values).reshape(shape)
        places.append((start, end))
    places.sort()
    starts, ends = [start for start, _ in places] + [len(data)], [0] + [end for _, end in places]
    if starts != ends:
        raise ValueError("its tensors overlap or leave bytes between them")
    return tensors


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands in its header twice")
    return content


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist or is not a file. A checkpoint is a file of weights.")
    return path


def _named(path: Path, weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if not weights:
        raise ModelFileError(f"{path} holds no weights. Save the network's state_dict() under its own names.")
    return without_parallel(weights)


def without_parallel(weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Returns weights under the names that the network alone gives them."""
    if all(name.startswith(_PARALLEL) for name in weights):
        return {name.removeprefix(_PARALLEL): value for name, value in weights.items()}
    return weights
