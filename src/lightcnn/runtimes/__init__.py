"""Open and run one artifact: a `.keras` file, ONNX Runtime's `.onnx`, LiteRT's `.tflite` or OpenVINO's `.xml`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightcnn.backends import num_processors
from lightcnn.runtimes.artifact import Artifact, TensorInfo
from lightcnn.runtimes.checking import (
    ARTIFACT_FORMAT,
    FORMS,
    METADATA,
    check_file,
    check_precision,
    check_runtime,
    has_runtime,
)
from lightcnn.runtimes.keras_models import keras_artifact, open_keras, served_model, weights_digest
from lightcnn.runtimes.litert_files import open_litert
from lightcnn.runtimes.onnx_files import open_onnx
from lightcnn.runtimes.openvino_files import open_openvino

__all__ = [
    "ARTIFACT_FORMAT",
    "FORMS",
    "METADATA",
    "Artifact",
    "TensorInfo",
    "check_precision",
    "check_runtime",
    "has_runtime",
    "keras_artifact",
    "num_processors",
    "open_artifact",
    "served_model",
    "weights_digest",
]

_OPENERS: dict[str, Callable[[Path, int], Any]] = {
    ".onnx": open_onnx,
    ".tflite": open_litert,
    ".xml": open_openvino,
}


def open_artifact(path: Path | str, streams: int = 1) -> Artifact:
    """Opens a model file of any of the formats that `lightcnn export` writes, or a `.keras` file.

    The runtime is imported here and not before. With one stream a call has all processors, for the answer that comes
    first; with several, each call has one thread and `map` runs so many at a time, for the most answers a second.

    Args:
        path: A `.onnx`, `.tflite`, `.xml` (its `.bin` beside it) or `.keras` file.
        streams: How many batches are run at a time.

    Returns:
        The model.

    Raises:
        ModelFileError: If the file is missing, truncated, of another kind or a later version, or has no metadata.
        MissingDependencyError: If its runtime is not installed; the message has the command.
        ValueError: If `streams` is less than 1.

    Example:
    >>> open_artifact("digits.onnx").metadata["labels"]
    ['0', '1']
    """
    path = Path(path)
    if streams < 1:
        raise ValueError(f"`streams` must be at least 1. Received: streams={streams}")
    check_file(path)
    if path.suffix == ".keras":
        return open_keras(path, streams)
    metadata, inputs, output, run = _OPENERS[path.suffix](path, streams)
    return Artifact(path, metadata, inputs, output, metadata["artifact"]["weights_digest"], streams, run)
