"""LiteRT runs `.tflite` files."""

from __future__ import annotations

import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.backends import num_processors
from lightcnn.errors import ModelFileError
from lightcnn.runtimes.artifact import TensorInfo, sizes
from lightcnn.runtimes.checking import METADATA, damaged, parsed_metadata

__all__ = ["open_litert"]

_LARGEST_METADATA = 1 << 24  # a few bytes can claim to unpack to gigabytes


def _metadata(path: Path) -> dict[str, Any]:
    """Reads what a file says of itself: a zip archive behind the model, as all metadata of such files."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = f"{METADATA}.json"
            if archive.getinfo(name).file_size > _LARGEST_METADATA:
                raise ModelFileError(f"{path} has metadata of more than {_LARGEST_METADATA:,} bytes. Export it again.")
            return parsed_metadata(path, archive.read(name).decode())
    except KeyError:
        return parsed_metadata(path, None)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        if path.read_bytes()[4:8] == b"TFL3":
            raise ModelFileError(
                f"{path} has no metadata of lightcnn, which stand at its end: it is truncated, or another program "
                "wrote it. Copy it again or export it again."
            ) from error
        raise damaged(path, error) from error


def open_litert(path: Path, streams: int) -> Any:
    """Opens a `.tflite` file: what it says of itself, what it takes and gives, and the function that runs it."""
    metadata = _metadata(path)
    from ai_edge_litert.interpreter import Interpreter

    content, threads = path.read_bytes(), 1 if streams > 1 else num_processors()

    def new() -> Any:
        return Interpreter(model_content=content, num_threads=threads)

    try:
        first = new()
        given, (made,) = first.get_input_details(), first.get_output_details()
    except Exception as error:
        raise damaged(path, error) from error
    # The converter orders inputs by itself; the artifact says how they are ordered in the model.
    names = metadata["artifact"].get("inputs") or [one["name"] for one in given]
    given = sorted(given, key=lambda one: next((i for i, name in enumerate(names) if name in one["name"]), 0))
    inputs = tuple(
        TensorInfo(name, sizes(one["shape_signature"]), np.dtype(one["dtype"]).name)
        for name, one in zip(names, given, strict=True)
    )
    output = TensorInfo(made["name"], sizes(made["shape_signature"]), np.dtype(made["dtype"]).name)
    own = threading.local()  # an interpreter serves one thread

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        shapes = [array.shape for array in arrays]
        if not hasattr(own, "interpreter"):
            own.interpreter, own.shapes = new(), None
        if own.shapes != shapes:
            own.shapes = None  # until these have their memory
            for one, shape in zip(given, shapes, strict=True):
                own.interpreter.resize_tensor_input(one["index"], shape)
            own.interpreter.allocate_tensors()
            own.shapes = shapes
        for one, array in zip(given, arrays, strict=True):
            own.interpreter.set_tensor(one["index"], array)
        own.interpreter.invoke()
        return own.interpreter.get_tensor(made["index"])  # type: ignore[no-any-return]

    return metadata, inputs, output, run
