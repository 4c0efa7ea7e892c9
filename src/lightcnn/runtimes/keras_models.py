"""Keras runs `.keras` files, and models that are in memory."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import ModelFileError
from lightcnn.runs import FACES
from lightcnn.runtimes.artifact import Artifact, TensorInfo, sizes

__all__ = ["keras_artifact", "open_keras", "served_model", "weights_digest"]

_KERAS_BATCH = 64  # a call takes milliseconds, whatever it computes


def keras_artifact(model: Any, metadata: dict[str, Any], path: Path = Path("the model"), streams: int = 1) -> Artifact:
    """Returns a Keras model as an artifact, so that whatever takes artifacts takes it too.

    Args:
        model: A functional `keras.Model`; of a network for faces, the part up to the embedding is run.
        metadata: What its file says, or would say.
        path: Its file, for messages.
        streams: As in `open_artifact`. Keras runs one batch at a time, whatever they are.

    Returns:
        The artifact.

    Raises:
        ModelFileError: As `served_model`.

    Example:
    >>> keras_artifact(lcnn((28, 28, 1), 2), {"labels": ["0", "1"]})(np.zeros((1, 28, 28, 1))).shape
    (1, 2)
    """
    import keras

    served = served_model(model, metadata)
    inputs, outputs = (
        tuple(TensorInfo(one.name, sizes(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in tensors)
        for tensors in (served.inputs, served.outputs)
    )
    lock = threading.Lock()  # Keras does not say that two threads may share a model

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        with lock:
            return np.asarray(served.predict_on_batch(arrays if len(arrays) > 1 else arrays[0]))

    return Artifact(path, metadata, inputs, outputs[0], weights_digest(served), streams, run, _KERAS_BATCH)


def weights_digest(model: Any) -> str:
    """Returns the SHA-256 of a Keras model's weights, 64 hexadecimal digits.

    Of a network for faces it is that of the embedding's (`served_model`): it stays the same when the classifier is
    dropped, the file's metadata change, or the model is exported.
    """
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def served_model(model: Any, metadata: dict[str, Any]) -> Any:
    """Returns the part of a Keras model that is used after training: of a network for faces, up to the embedding.

    Raises:
        ModelFileError: If a network for faces has no layer `"embedding"`.
    """
    if metadata.get("task") != FACES:
        return model
    import keras

    try:
        return keras.Model(model.input, model.get_layer("embedding").output, name=model.name)
    except ValueError as error:
        raise ModelFileError(f'A network for faces must have a layer "embedding": {error}') from error


def open_keras(path: Path, streams: int) -> Artifact:
    """Opens a `.keras` file, with the backend that is installed."""
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.models import load_model, read_metadata

    metadata = read_metadata(path)
    return keras_artifact(load_model(path), metadata, path, streams)
