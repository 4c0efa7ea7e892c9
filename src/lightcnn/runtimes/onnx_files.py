"""ONNX Runtime runs `.onnx` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lightcnn.backends import num_processors
from lightcnn.runtimes.artifact import TensorInfo, sizes
from lightcnn.runtimes.checking import METADATA, damaged, parsed_metadata

__all__ = ["open_onnx"]

_ONNX_TYPES = {"float": "float32", "double": "float64"}  # the others are called as in NumPy


def open_onnx(path: Path, streams: int) -> Any:
    """Opens a `.onnx` file: what it says of itself, what it takes and gives, and the function that runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # By itself it takes a thread for every processor of the machine, and ties each to one, those that others use too.
    options.intra_op_num_threads = 1 if streams > 1 else num_processors()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for every cause
        raise damaged(path, error) from error
    metadata = parsed_metadata(path, session.get_modelmeta().custom_metadata_map.get(METADATA))
    inputs, outputs = (
        tuple(TensorInfo(one.name, sizes(one.shape), _dtype(one.type)) for one in tensors)
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    names = [one.name for one in inputs]

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]  # type: ignore[no-any-return]

    return metadata, inputs, outputs[0], run


def _dtype(text: str) -> str:
    """Returns NumPy's name of what ONNX Runtime calls `tensor(float)`."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return _ONNX_TYPES.get(name, name)
