"""Arrays out of PyTorch's checkpoint files, without PyTorch and without running what a pickle can run."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import ModelFileError
from lightcnn.files import fits_memory
from lightcnn.importing.array_files import without_parallel

__all__ = ["read_torch_checkpoint"]

# Name of the storage class -> what its bytes are. bfloat16 is the upper half of a float32.
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# The first three pickles of a file from before PyTorch 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Where training scripts put the weights, beside the epoch, the optimizer and so on.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state")

_Storage = NDArray[Any]
_FindStorage = Callable[[str, str, int], _Storage]


class _Mapping(dict[Any, Any]):
    """What an OrderedDict becomes: its extra attributes, such as PyTorch's `_metadata`, are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Knows containers, numbers, text and tensors, and nothing else."""

    def __init__(self, file: io.BytesIO, find_storage: _FindStorage) -> None:
        super().__init__(file, encoding="latin1")
        self._find_storage = find_storage

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name == "collections.OrderedDict":
            return _Mapping
        if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return lambda *arguments: _tensor(*arguments[:4])
        if name == "torch._utils._rebuild_parameter":
            return lambda tensor, *_: tensor
        if module_name == "torch" and global_name in _STORAGES:
            return _STORAGES[global_name]
        raise pickle.UnpicklingError(f"it asks for {name}")

    def persistent_load(self, identifier: Any, /) -> Any:
        kind, code, key, _location, count, *view = identifier
        if kind != "storage" or code not in _STORAGES.values() or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError("it has a part that is not the storage of a tensor")
        storage = self._find_storage(code, str(key), count)
        if view and view[0] is not None:  # a storage that is a part of another: PyTorch before 1.0
            _, start, size = view[0]
            storage = _view(storage, start, (size,), (1,))
        return storage


def _view(storage: Any, offset: Any, size: Any, stride: Any) -> _Storage:
    """Returns a view of a storage whose every element lies in it; NumPy itself would read other memory."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, np.ndarray) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("it has a tensor that is described wrongly")
    count = 1
    for extent in size:
        count *= extent
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if count > storage.size or (count and last >= storage.size):
        raise pickle.UnpicklingError(f"it has a tensor of {tuple(size)} in a storage of {storage.size} numbers")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides, writeable=False)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> _Storage:
    return _view(storage, offset, size, stride)


def _numbers(code: str, content: bytes) -> _Storage:
    if code == "bfloat16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, code)


def _itemsize(code: str) -> int:
    return 2 if code == "bfloat16" else np.dtype(code).itemsize


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        if not fits_memory(archive):
            raise pickle.UnpicklingError("it unpacks to more than this machine's memory")
        pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise pickle.UnpicklingError("it is a zip file without one data.pkl, or a TorchScript program")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise pickle.UnpicklingError("it was written on a big-endian machine")
        read: dict[tuple[str, str], _Storage] = {}

        def find_storage(code: str, key: str, count: int) -> _Storage:
            if (code, key) not in read:
                content = archive.read(f"{folder}data/{key}")
                if len(content) < count * _itemsize(code):
                    raise pickle.UnpicklingError(f"storage {key} is too short")
                read[code, key] = _numbers(code, content[: count * _itemsize(code)])
            return read[code, key]

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), find_storage).load()


def _read_legacy(path: Path) -> Any:
    """Reads the format from before PyTorch 1.6: pickles, then the storages one after another."""
    content = path.read_bytes()
    file = io.BytesIO(content)
    # The storages come after the tensors that need them, so the tensors are first views of empty storages.
    raw: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    read: dict[str, _Storage] = {}

    def no_storage(code: str, key: str, count: int) -> _Storage:
        raise pickle.UnpicklingError("it has a tensor where its format has none")

    def empty_storage(code: str, key: str, count: int) -> _Storage:
        if key not in raw:
            if count * _itemsize(code) > len(content):
                raise pickle.UnpicklingError(f"storage {key} claims to be larger than the file")
            raw[key] = code, np.zeros(count * _itemsize(code), "u1")
            read[key] = np.zeros(count, "<f4") if code == "bfloat16" else raw[key][1].view(code)
        return read[key]

    header = [_Unpickler(file, no_storage).load() for _ in range(3)]
    if header[0] != _LEGACY_MAGIC or header[1] != _LEGACY_PROTOCOL:
        raise pickle.UnpicklingError("it does not begin as PyTorch's files do")
    if not isinstance(header[2], Mapping) or header[2].get("little_endian") is not True:
        raise pickle.UnpicklingError("it was written on a big-endian machine")
    loaded = _Unpickler(file, empty_storage).load()
    for key in _Unpickler(file, no_storage).load():
        if key not in raw:
            raise pickle.UnpicklingError(f"it has a storage {key} that no tensor needs")
        code, target = raw[key]
        count = int.from_bytes(file.read(8), "little")
        chunk = file.read(target.nbytes)
        if count * _itemsize(code) != target.nbytes or len(chunk) != target.nbytes:
            raise pickle.UnpicklingError(f"storage {key} is cut off")
        target[:] = np.frombuffer(chunk, "u1")
        if code == "bfloat16":
            read[key][:] = _numbers(code, chunk)
        del raw[key]
    if raw:
        raise pickle.UnpicklingError(f"storage {next(iter(raw))} is missing")
    return loaded


def _weights(loaded: Any) -> dict[str, NDArray[Any]]:
    """Returns the named arrays of a checkpoint, without what wraps them."""
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise pickle.UnpicklingError("it holds no dictionary of weights")
    weights = {name: value for name, value in loaded.items() if isinstance(value, np.ndarray)}
    if not weights or not all(isinstance(name, str) for name in weights):
        raise pickle.UnpicklingError("it holds no named weights")
    # Copies, which end where they claim to, in one piece each.
    return {name: np.array(value, order="C") for name, value in without_parallel(weights).items()}


def read_torch_checkpoint(path: Path | str) -> dict[str, NDArray[Any]]:
    """Reads the weights in a PyTorch checkpoint: the zip format, and the one from before PyTorch 1.6.

    PyTorch is not needed, and nothing in the file is run: its pickle may ask for tensors and plain containers only.
    Weights inside `"state_dict"` (or `"model_state_dict"`, `"model"`, `"state"`) are found, and `"module."` before
    every name is dropped. What is not a tensor (the epoch, say) is left out.

    Args:
        path: The file that `torch.save` made.

    Returns:
        The arrays by name, as PyTorch has them: convolutions are `(out, in, height, width)`, dense layers `(out, in)`.
        bfloat16 becomes float32.

    Raises:
        ModelFileError: If the file is missing, damaged, no checkpoint, or asks for anything but tensors.

    Example:
    >>> read_torch_checkpoint("trained_network.pt")["m_output_act.0.weight"].shape
    (1, 96)
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist or is not a file. A checkpoint is a file that torch.save made.")
    try:
        loaded = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _weights(loaded)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path} is refused as a PyTorch checkpoint: {error}. Only tensors in plain containers are read: save "
            "the model's state_dict() alone with torch.save."
        ) from error
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise ModelFileError(f"{path} could not be read: {error}. Copy it again.") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ModelFileError(
            f"{path} is no PyTorch checkpoint, or a damaged one: {type(error).__name__}: {error}. Copy it again."
        ) from error
