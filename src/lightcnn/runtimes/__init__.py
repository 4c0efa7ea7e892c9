"""Open and run one artifact: a `.keras` file, ONNX Runtime's `.onnx`, LiteRT's `.tflite` or OpenVINO's `.xml`."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import DataError, MissingDependencyError, ModelFileError
from lightcnn.runs import FACES

__all__ = [
    "ARTIFACT_FORMAT",
    "METADATA",
    "SUFFIXES",
    "Artifact",
    "TensorInfo",
    "has_runtime",
    "keras_artifact",
    "num_processors",
    "open_artifact",
    "read_artifact_metadata",
    "served_model",
    "weights_digest",
]

METADATA = "lightcnn"  # the key, in every format, of what an artifact says of itself: JSON
ARTIFACT_FORMAT = 1
# suffix -> what it is, the packages of which one must be installed, the extra that brings it
_RUNTIMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    ".onnx": ("an ONNX model", ("onnxruntime",), "lightcnn"),
    ".tflite": ("a LiteRT model", ("ai_edge_litert", "tensorflow"), "lightcnn[litert]"),
    ".xml": ("an OpenVINO model", ("openvino",), "lightcnn[openvino]"),
    ".keras": ("a Keras model", ("tensorflow", "jax", "torch"), "lightcnn[tensorflow]"),
}
SUFFIXES = tuple(_RUNTIMES)
_KERAS_BATCH = 64  # a call takes milliseconds, whatever it computes

_Run = Callable[[list[NDArray[Any]]], NDArray[Any]]


@dataclass(frozen=True)
class TensorInfo:
    """What an artifact takes or gives.

    Attributes:
        name: Its name.
        shape: A size an axis, None where it is free.
        dtype: Name of NumPy's type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tells whether an array of this shape can be given."""
        return len(shape) == len(self.shape) and all(
            ours in (None, theirs) for ours, theirs in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Artifact:
    """A model that is ready to run, whatever runs it. `open_artifact` makes one.

    Attributes:
        path: Its file.
        metadata: What it says of itself: task, labels, threshold, and where it comes from (`artifact`).
        inputs: What it takes.
        output: What it gives.
        weights_digest: That of the Keras model that it was made of (`weights_digest`): outputs of artifacts with the
            same one can be compared.
        streams: How many batches `map` runs at a time.
        batch_size: How many pictures a batch are computed fastest: few of them stay in the processor's caches, where
            the runtime needs little time for a call.

    Example:
    >>> artifact = open_artifact("digits.onnx")
    >>> artifact(np.zeros((1, 28, 28, 1), "float32")).shape
    (1, 10)
    """

    path: Path
    metadata: dict[str, Any]
    inputs: tuple[TensorInfo, ...]
    output: TensorInfo
    weights_digest: str
    streams: int
    run: _Run
    batch_size: int = 16

    def __call__(self, *arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Runs the model on one batch. It may be called from several threads at once.

        Args:
            *arrays: An array an input, in the order of `inputs`; types are converted.

        Returns:
            The output, float32.

        Raises:
            DataError: If a shape does not fit, or the arrays' batches differ.
        """
        wanted = [f"{one.name} {_shape_text(one.shape)}" for one in self.inputs]
        shapes = [np.shape(array) for array in arrays]
        fits = len(arrays) == len(self.inputs) and all(
            one.fits(shape) for one, shape in zip(self.inputs, shapes, strict=True)
        )
        if not fits or len({shape[0] for shape in shapes}) != 1:
            raise DataError(f"{self.path} takes {', '.join(wanted)}. Received: {', '.join(map(str, shapes))}")
        fitted = [np.ascontiguousarray(array, one.dtype) for one, array in zip(self.inputs, arrays, strict=True)]
        if shapes[0][0] == 0:
            return np.zeros((0, *(size or 0 for size in self.output.shape[1:])), np.float32)
        try:
            return np.asarray(self.run(fitted), np.float32)
        except Exception as error:
            raise DataError(f"{self.path} could not be run on {', '.join(map(str, shapes))}: {error}") from error

    def map(self, batches: Iterable[tuple[NDArray[Any], ...]]) -> Iterator[NDArray[np.float32]]:
        """Runs the model on batch after batch, `streams` of them at a time, and keeps their order.

        The batches are taken as they are needed, so memory does not grow with their number, and they are made by the
        caller's thread while others run the model.
        """
        remaining = iter(batches)
        with ThreadPoolExecutor(self.streams) as pool:
            waiting: deque[Future[NDArray[np.float32]]] = deque()
            try:
                for batch in islice(remaining, 2 * self.streams):
                    waiting.append(pool.submit(self, *batch))
                while waiting:
                    done = waiting.popleft().result()
                    for batch in islice(remaining, 1):
                        waiting.append(pool.submit(self, *batch))
                    yield done
            finally:
                for future in waiting:
                    future.cancel()


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def has_runtime(suffix: str) -> bool:
    """Tells whether an artifact of this suffix can be run here; nothing is imported."""
    return any(find_spec(package) for package in _RUNTIMES[suffix][1])


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

    Example:
    >>> open_artifact("digits.onnx").metadata["labels"]
    ['0', '1']
    """
    path = Path(path)
    if streams < 1:
        raise ValueError(f"`streams` must be at least 1. Received: streams={streams}")
    _check(path)
    if path.suffix == ".keras":
        return _open_keras(path, streams)
    metadata, inputs, output, run = _OPENERS[path.suffix](path, streams)
    return Artifact(path, metadata, inputs, output, metadata["artifact"]["weights_digest"], streams, run)


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
        tuple(TensorInfo(one.name, _sizes(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in tensors)
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


def read_artifact_metadata(path: Path | str) -> dict[str, Any]:
    """Reads what an artifact says of itself.

    Args:
        path: As in `open_artifact`.

    Returns:
        The metadata of the model that was exported, and `artifact`: `format`, `form`, `quantize`, `lightcnn` (the
        version that wrote it), `source_digest` (the `.keras` file's) and `weights_digest`. A `.keras` file has
        no `artifact`.

    Raises:
        ModelFileError: As `open_artifact`.
        MissingDependencyError: As `open_artifact`.

    Example:
    >>> read_artifact_metadata("digits.onnx")["artifact"]["form"]
    'onnx'
    """
    path = Path(path)
    _check(path)
    if path.suffix == ".tflite":
        return _tflite_metadata(path)
    if path.suffix == ".keras":
        from lightcnn.models import read_metadata

        return read_metadata(path)
    return open_artifact(path).metadata


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


def _check(path: Path) -> None:
    if path.suffix not in _RUNTIMES:
        raise ModelFileError(f"{path} is no model file. Expected one that ends in {', '.join(_RUNTIMES)}.")
    what, packages, extra = _RUNTIMES[path.suffix]
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist or is not a file. Expected {what}.")
    if not has_runtime(path.suffix):
        raise MissingDependencyError(
            f"{path} is {what}, and no runtime for it is installed ({' or '.join(packages)}). "
            f"Install it: pip install '{extra}'"
        )


def _damaged(path: Path, error: Exception) -> ModelFileError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelFileError(
        f"{path} is not {_RUNTIMES[path.suffix][0]}, or a truncated one: {reason}. Copy it again or export it again."
    )


def _parsed(path: Path, text: str | None) -> dict[str, Any]:
    """Returns the metadata from their JSON, None if there is none."""
    again = "Export it again: lightcnn export RUN."
    if not text:
        raise ModelFileError(f"{path} has no metadata of lightcnn, so nobody knows what its numbers mean. {again}")
    try:
        metadata = json.loads(text)
        version, writer = int(metadata["artifact"]["format"]), metadata["artifact"]["lightcnn"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} has damaged metadata: {error!r}. {again}") from error
    if version != ARTIFACT_FORMAT:
        raise ModelFileError(
            f"{path} was written by lightcnn {writer} in another version of the format. Expected: {ARTIFACT_FORMAT}. "
            f"Received: {version}. Use that version of lightcnn, or export it again."
        )
    if "weights_digest" not in metadata["artifact"]:
        raise ModelFileError(f"{path} has damaged metadata: it lacks weights_digest. {again}")
    return dict(metadata)


def _sizes(shape: Iterable[Any]) -> tuple[int | None, ...]:
    return tuple(int(size) if isinstance(size, int | np.integer) and size > 0 else None for size in shape)


_ONNX_TYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}


def _open_onnx(path: Path, streams: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if streams > 1:
        options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for every cause
        raise _damaged(path, error) from error
    metadata = _parsed(path, session.get_modelmeta().custom_metadata_map.get(METADATA))
    inputs, outputs = (
        tuple(TensorInfo(one.name, _sizes(one.shape), _ONNX_TYPES[one.type]) for one in tensors)
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    names = [one.name for one in inputs]

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]  # type: ignore[no-any-return]

    return metadata, inputs, outputs[0], run


def _tflite_metadata(path: Path) -> dict[str, Any]:
    # As all metadata of such files, it is a zip archive behind the model.
    try:
        with zipfile.ZipFile(path) as archive:
            return _parsed(path, archive.read(f"{METADATA}.json").decode())
    except KeyError:
        return _parsed(path, None)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        if path.read_bytes()[4:8] == b"TFL3" and isinstance(error, zipfile.BadZipFile):
            return _parsed(path, None)
        raise _damaged(path, error) from error


def _open_tflite(path: Path, streams: int) -> Any:
    metadata = _tflite_metadata(path)
    if find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tensorflow.lite import Interpreter
    content, threads = path.read_bytes(), 1 if streams > 1 else num_processors()

    def new() -> Any:
        return Interpreter(model_content=content, num_threads=threads)

    try:
        first = new()
        given, (made,) = first.get_input_details(), first.get_output_details()
    except Exception as error:
        raise _damaged(path, error) from error
    # The converter orders inputs by itself; the artifact says how they are ordered in the model.
    names = metadata["artifact"].get("inputs") or [one["name"] for one in given]
    given = sorted(given, key=lambda one: next((i for i, name in enumerate(names) if name in one["name"]), 0))
    inputs = tuple(
        TensorInfo(name, _sizes(one["shape_signature"]), np.dtype(one["dtype"]).name)
        for name, one in zip(names, given, strict=True)
    )
    output = TensorInfo(made["name"], _sizes(made["shape_signature"]), np.dtype(made["dtype"]).name)
    own = threading.local()  # an interpreter serves one thread

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        shapes = [array.shape for array in arrays]
        if not hasattr(own, "interpreter"):
            own.interpreter, own.shapes = new(), None
        if own.shapes != shapes:
            for one, shape in zip(given, shapes, strict=True):
                own.interpreter.resize_tensor_input(one["index"], shape)
            own.interpreter.allocate_tensors()
            own.shapes = shapes
        for one, array in zip(given, arrays, strict=True):
            own.interpreter.set_tensor(one["index"], array)
        own.interpreter.invoke()
        return own.interpreter.get_tensor(made["index"])  # type: ignore[no-any-return]

    return metadata, inputs, output, run


def num_processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_openvino(path: Path, streams: int) -> Any:
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
    except Exception as error:
        raise _damaged(path, error) from error
    text = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else None
    metadata = _parsed(path, text)
    hint = (
        {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    )
    # Without it OpenVINO computes in bfloat16 where the processor can, past the tolerance of float32.
    precision = "bf16" if metadata["artifact"].get("quantize") == "bfloat16" else "f32"
    compiled = core.compile_model(model, "CPU", {**hint, "INFERENCE_PRECISION_HINT": precision})
    inputs, outputs = (
        tuple(
            TensorInfo(
                one.any_name,
                tuple(None if size.is_dynamic else size.get_length() for size in one.partial_shape),
                one.element_type.to_dtype().name,
            )
            for one in tensors
        )
        for tensors in (model.inputs, model.outputs)
    )
    own = threading.local()

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer(arrays)[0].copy()  # type: ignore[no-any-return]

    return metadata, inputs, outputs[0], run


def _open_keras(path: Path, streams: int) -> Artifact:
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.models import load_model, read_metadata

    metadata = read_metadata(path)
    return keras_artifact(load_model(path), metadata, path, streams)


_OPENERS: dict[str, Callable[[Path, int], Any]] = {
    ".onnx": _open_onnx,
    ".tflite": _open_tflite,
    ".xml": _open_openvino,
}
