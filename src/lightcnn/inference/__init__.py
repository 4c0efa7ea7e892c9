"""Files in, scores out."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcnn.decoding import ignore_picture_warnings
from lightcnn.errors import DataError, LightCNNError, MissingDependencyError, ModelFileError
from lightcnn.files import file_digest
from lightcnn.runs import FACES, IMAGES, SPEECH, Run
from lightcnn.runtimes import Artifact, has_runtime, num_processors, open_artifact

__all__ = ["Item", "Predictor", "group_size", "look_at", "named", "predictor_of", "run_in_batches"]

Item = Path | str | NDArray[Any]  # what a predictor looks at
_File = TypeVar("_File")
_Decoded = TypeVar("_Decoded")

_PREDICTORS = {
    IMAGES: ("lightcnn.inference.images", "PicturePredictor"),
    SPEECH: ("lightcnn.inference.speech", "SpeechPredictor"),
    FACES: ("lightcnn.inference.faces", "FacePredictor"),
}

# Form -> its file in a run folder, where `export` writes it; the fastest first. Measured in float32 on two cores with
# the article's LCNN, in batches of 16 and one picture at a time: ONNX Runtime 9,550 pictures/s and 0.21 ms, OpenVINO
# 8,660 and 0.34 ms, LiteRT 7,220 and 0.18 ms, fixed sizes only. All give what Keras gives within 1e-4.
_FASTEST_FIRST = {"onnx": "model.onnx", "openvino": "model-openvino/model.xml", "litert": "model.tflite"}

_GROUP = 64  # pictures that are decoded while those before are computed, a stream
_GROUP_BYTES = 1 << 28


class Predictor(ABC):
    """A trained model with all it needs to look at files; `Predictor.load` opens any.

    Files are decoded on other threads while the model computes; what is an array already can stand among them.

    Attributes:
        metadata: What the model file says of the model: its task, its labels, what it takes.

    Example:
    >>> predictor = Predictor.load("runs/mnist/20261124-120000")
    >>> [row["label"] for row in predictor.predict([Path("seven.png")])]
    ['7']
    """

    metadata: dict[str, Any]

    @staticmethod
    def load(model: Path | str, streams: int = 1) -> Predictor:
        """Opens a run folder or a model file of any format.

        Of a run, the artifact is used that was measured to be the fastest of those whose runtime is installed: ONNX
        Runtime's `model.onnx`, then OpenVINO's `model-openvino`, then LiteRT's `model.tflite`, all in float32, so Keras
        is not imported. Where it is missing or belongs to another `best.keras`, it is made first, once. Where it
        cannot be made, the next that stands in the folder is used, and where there is none Keras, with a warning.
        An artifact of fewer bits is used only by its own name. Of a `.keras` file, the `.onnx` file of the same name
        beside it is used, if it was made of it (`lightcnn export`); else Keras, with a warning where one
        stands there that does not fit.

        A predictor has threads, which a fork leaves behind: a server that forks its workers opens it in each of them.

        Args:
            model: A run folder, a `.keras`, `.onnx`, `.tflite` or OpenVINO `.xml` file, or OpenVINO's folder.
            streams: How many batches are run at a time. With one, each has all processors: best for a few files. As
                many as processors (`lightcnn.runtimes.num_processors`) are best for very many.

        Returns:
            A `PicturePredictor`, a `SpeechPredictor` or a `FacePredictor`, as the model's task needs.

        Raises:
            ModelFileError: If the file is damaged, unsafe or does not say what it is for.
            MissingDependencyError: If the format's runtime is not installed.
            RunError: If the folder is not a run's.
        """
        path = Path(model)
        if (path / "model.xml").is_file():
            path /= "model.xml"
        return predictor_of(_open_run(Run.open(path), streams) if path.is_dir() else _open_file(path, streams))

    @abstractmethod
    def predict(self, files: Iterable[Item]) -> Iterator[dict[str, Any]]:
        """Looks at files one batch at a time; memory does not grow with their number.

        Args:
            files: Files of any number, or arrays, or one array of them all.

        Yields:
            A dictionary a file, in order, with `file` (of an array, `"array 0"` by its position) and what was found,
            or `file` and `error`.

        Raises:
            DataError: If an array does not fit.
        """

    @abstractmethod
    def files_in(self, folder: Path) -> list[Path]:
        """Lists the files in and below a folder that it can look at, sorted.

        Raises:
            DataError: If there is none.
        """


def predictor_of(artifact: Artifact) -> Predictor:
    """Returns the predictor for an artifact that is open, as its task needs.

    Raises:
        ModelFileError: If it is for another task, or does not say what its task needs.

    Example:
    >>> predictor_of(open_artifact("faces.keras")).threshold
    0.41
    """
    # A model that somebody saved with labels alone takes pictures.
    task = artifact.metadata.get("task", IMAGES)
    if task not in _PREDICTORS:
        raise ModelFileError(
            f"{artifact.path} is for another task. Expected {', '.join(_PREDICTORS)}. Received: {task!r}"
        )
    module, name = _PREDICTORS[task]
    predictor: Predictor = getattr(import_module(module), name)(artifact)
    return predictor


def _open_file(path: Path, streams: int) -> Artifact:
    """Opens a file; instead of a `.keras` file the artifact that was made of it, if it stands beside."""
    exported = path.with_suffix(".onnx")
    if path.suffix != ".keras" or not (path.is_file() and exported.is_file()):
        return open_artifact(path, streams)
    found = _fitting(path, exported, streams)
    return _with_keras(path, streams, found) if isinstance(found, str) else found


def _open_run(run: Run, streams: int) -> Artifact:
    """Opens the fastest artifact of a run, and makes it first if it is missing or not that of `best.keras`."""
    if not run.best_model.exists():
        raise ModelFileError(f"{run.best_model} does not exist: the run has not finished an epoch. Go on: --resume.")
    usable = {form: run.folder / name for form, name in _FASTEST_FIRST.items() if has_runtime(Path(name).suffix)}
    reasons = [] if usable else ["No runtime of an artifact is installed: pip install onnxruntime"]
    for form, path in usable.items():
        found = _fitting(run.best_model, path, streams)
        if not isinstance(found, str):
            return found
        reasons.append(found)
        if form == next(iter(usable)):
            try:
                return open_artifact(_made(run, form, path), streams)
            except LightCNNError as error:
                reasons.append(str(error))
    return _with_keras(run.best_model, streams, *reasons)


def _with_keras(path: Path, streams: int, *reasons: str) -> Artifact:
    """Opens a `.keras` file, and says why it is no artifact."""
    reason = " ".join(filter(None, reasons))
    try:
        artifact = open_artifact(path, streams)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{error}. It would be needed for this reason: {reason}") from error
    warnings.warn(f"{path} is run with Keras, which is slower. {reason}", stacklevel=4)
    return artifact


def _fitting(model: Path, path: Path, streams: int) -> Artifact | str:
    """Opens an artifact if it is whole and exactly what a `.keras` file is, or says why not; nothing of none."""
    if not path.is_file():
        return ""
    try:
        artifact = open_artifact(path, streams)
    except (ModelFileError, MissingDependencyError) as error:
        return str(error)
    made_of = artifact.metadata["artifact"]
    if made_of["source_digest"] != file_digest(model):
        return f"{path} was made of another {model.name}: export it again."
    return f"{path} has fewer bits: name it to use it." if made_of["quantize"] else artifact


def _made(run: Run, form: str, path: Path) -> Path:
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.exporting import export

    return export(run.best_model, path.parent if form == "openvino" else path, form).path


def look_at(
    files: Iterable[_File],
    size: int,
    decode: Callable[[_File], _Decoded],
    compute: Callable[[list[_Decoded]], Iterable[dict[str, Any]]],
    threads: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Decodes files on other threads while the model computes those before, and keeps their order.

    Args:
        files: Files of any number; two groups of them are held at a time.
        size: How many make a group.
        decode: From a file to what `compute` takes. Runs on several threads at once.
        compute: From a decoded group to its rows.
        threads: How many decode; None for one a processor.

    Yields:
        The rows of group after group.
    """
    remaining = iter(files)
    pool = ThreadPoolExecutor(threads or num_processors())
    try:
        # The filter of warnings is the process's: no thread decodes before it is set, or while the caller has a row.
        with ignore_picture_warnings():
            group = [pool.submit(decode, file) for file in islice(remaining, size)]
            wait(group)
        while group:
            with ignore_picture_warnings():
                decoded = [one.result() for one in group]
                group = [pool.submit(decode, file) for file in islice(remaining, size)]
                rows = compute(decoded)
                wait(group)
            yield from rows
    finally:
        pool.shutdown(cancel_futures=True)


def group_size(artifact: Artifact) -> int:
    """Returns how many pictures to decode while those before are computed, so many that all streams have work."""
    values = math.prod(size or 1 for size in artifact.inputs[0].shape[1:])
    return max(1, min(_GROUP * artifact.streams, _GROUP_BYTES // values))


def named(files: Iterable[Item]) -> Iterator[tuple[str, Item]]:
    """Gives every file its name, and every array one.

    Raises:
        DataError: If there is something else, such as the numbers of an array that lacks the first axis, or one file
            that is in no list.
    """
    if isinstance(files, Path | str):
        raise DataError(f"Expected files or arrays, in a list: [{str(files)!r}]. Received: {type(files).__name__}")
    for position, one in enumerate(files):
        if not isinstance(one, Path | str | np.ndarray):
            raise DataError(
                f"Expected files or arrays, in a list or with a first axis of their own (`array[None]`). "
                f"Received: {type(one).__name__}"
            )
        yield (f"array {position}" if isinstance(one, np.ndarray) else str(one)), one


def run_in_batches(artifact: Artifact, array: NDArray[Any]) -> NDArray[np.float32]:
    """Runs a model of one input on an array of any length, in batches, several at once as it has streams."""
    size = artifact.batch_size
    if len(array) <= size:
        return artifact(array)
    return np.concatenate(list(artifact.map((array[start : start + size],) for start in range(0, len(array), size))))
