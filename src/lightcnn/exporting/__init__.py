"""A trained model -> an artifact that runs without Keras, with the proof that it gives the same."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightcnn.errors import ExportError, ModelFileError, StorageError
from lightcnn.exporting.examples import Examples, examples_of, made_up_examples, validation_examples
from lightcnn.exporting.forms import write_form
from lightcnn.exporting.network import to_onnx
from lightcnn.exporting.proof import TOLERANCES, Proof, prove
from lightcnn.files import file_digest
from lightcnn.models import load_model, read_metadata
from lightcnn.runs import Run
from lightcnn.runtimes import (
    ARTIFACT_FORMAT,
    FORMS,
    check_precision,
    check_runtime,
    open_artifact,
    served_model,
    weights_digest,
)

__all__ = [
    "TOLERANCES",
    "Examples",
    "Export",
    "Proof",
    "examples_of",
    "export",
    "made_up_examples",
    "to_onnx",
    "validation_examples",
]


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: The file to open: `.onnx`, `.tflite`, or the `.xml` in OpenVINO's folder.
        form: `"onnx"`, `"litert"` or `"openvino"`.
        quantize: None (float32), `"int8"`, `"float16"` or `"bfloat16"`.
        size: Bytes of the artifact.
        source_size: Bytes of the `.keras` file.
        proof: How it compares with Keras.
    """

    path: Path
    form: str
    quantize: str | None
    size: int
    source_size: int
    proof: Proof


def export(
    source: Run | Path | str,
    output: Path | str | None = None,
    form: str = "onnx",
    quantize: str | None = None,
    *,
    examples: Examples | None = None,
    data_dir: Path | str | None = None,
) -> Export:
    """Writes a run's best model, or a `.keras` file, as an artifact that its runtime runs without Keras.

    The artifact takes what the Keras model takes (raw pixels; 16 kHz samples, with their lengths where any length is
    taken) and gives what it gives: probabilities, scores; of networks for faces, the embedding. It carries the model
    file's metadata. Before it is put in place it is opened and compared with Keras on validation data of the run; if it
    differs by more than `TOLERANCES` allows, nothing is written. It appears whole or not at all, and replaces what
    stood there before; between two folders of OpenVINO's there is none for a moment.

    | form | precisions | notes |
    |---|---|---|
    | `"onnx"` | float32, `"int8"` (MFM layers), `"float16"` (weights) | every model; any batch and length |
    | `"litert"` | float32, `"int8"` (no front ends), `"float16"` (weights) | fixed lengths only; TensorFlow |
    | `"openvino"` | float32, `"int8"` (MFM layers), `"float16"` (weights), `"bfloat16"` | every model; a folder |

    Args:
        source: A run, its folder, or a `.keras` file.
        output: Where to write: a file; for OpenVINO a folder. None: beside the model, `model.onnx`, `model-int8.onnx`,
            `model.tflite`, `model-openvino` and so on; for a `.keras` file, its own name instead of `model`.
        form: `"onnx"`, `"litert"` or `"openvino"`.
        quantize: None for float32, or a precision of the table.
        examples: What to compare and calibrate on; None for validation data of the run. A `.keras` file has none, so
            it is compared on seeded noise, and cannot be calibrated.
        data_dir: Where the run's data are; None for where they were in training.

    Returns:
        Path, sizes and the figures of the comparison.

    Raises:
        ExportError: If the format does not have the precision or cannot hold the model, or the artifact differs.
        ModelFileError: If the model file is damaged.
        RunError: If the folder is not a run's.
        DataError: If the run's data cannot be used.
        MissingDependencyError: If converter or runtime are not installed.
        StorageError: If the file cannot be written.

    Example:
    >>> export("runs/mnist/20261124-120000").proof.agreement
    1.0
    """
    check_precision(form, quantize)
    check_runtime(Path(f"model{FORMS[form][0]}"))  # nothing is written that cannot be compared with Keras
    run = source if isinstance(source, Run) else Run.open(source) if Path(source).is_dir() else None
    if run is None and data_dir is not None:
        raise ExportError(
            f"{source} is a file, so no data belong to it: name its run folder, or leave `data_dir` (--data-dir) out."
        )
    model_file = Path(str(source)) if run is None else run.best_model
    if not model_file.is_file():
        raise ModelFileError(
            f"{model_file} does not exist or is not a file. Expected a Keras model, or a run with one."
        )
    digest = file_digest(model_file)  # before it is read: a file that changes then is not taken for this one
    metadata = read_metadata(model_file)
    model = served_model(load_model(model_file), metadata)
    target = _target(model_file, run, form, quantize) if output is None else Path(output)
    _check_target(target, form)
    if examples is None:
        examples = (
            made_up_examples(model, metadata) if run is None else validation_examples(run, model, metadata, data_dir)
        )
    if quantize == "int8" and not examples.real:
        raise ExportError(
            f"8-bit numbers are calibrated on real data, and {model_file} is a file without any. Export its run "
            "folder, or give `examples`."
        )
    said = {**metadata, "artifact": _said(model, digest, form, quantize)}
    try:
        place = Path(os.path.realpath(target))  # of a link, where it points to
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".lightcnn-", suffix=".tmp") as temporary:
            folder = Path(temporary) / "artifact"
            folder.mkdir()
            written = folder / f"model{FORMS[form][0]}"
            write_form(form, model, written, quantize, examples, said)
            proof = prove(open_artifact(written), model, metadata, examples, quantize, model_file)
            size = sum(one.stat().st_size for one in folder.iterdir())
            _put_in_place(written, place, form)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{target} could not be written: {error.strerror or error}. What stood there before is untouched. Free "
            "some space, there or in the folder for temporary files (TMPDIR), or choose another --output."
        ) from error
    path = target / written.name if form == "openvino" else target
    return Export(path, form, quantize, size, model_file.stat().st_size, proof)


def _target(model_file: Path, run: Run | None, form: str, quantize: str | None) -> Path:
    stem = model_file.stem if run is None else "model"
    parts = [stem, *([quantize] if quantize else []), *(["openvino"] if form == "openvino" else [])]
    return model_file.with_name("-".join(parts) + ("" if form == "openvino" else FORMS[form][0]))


def _check_target(target: Path, form: str) -> None:
    if form == "openvino":
        if target.suffix in (".xml", ".bin") or target.is_file():
            raise ExportError(f"OpenVINO's two files stand in a folder: name a folder. Received: output={target}")
        if target.is_dir() and {one.name for one in target.iterdir()} - {"model.xml", "model.bin"}:
            raise ExportError(f"{target} holds something else than an OpenVINO model, so it is not replaced.")
    elif target.suffix != FORMS[form][0] or target.is_dir():
        raise ExportError(f"An artifact of this format is a file that ends in {FORMS[form][0]}. Received: {target}")


def _said(model: Any, digest: str, form: str, quantize: str | None) -> dict[str, Any]:
    from lightcnn import __version__

    return {
        "format": ARTIFACT_FORMAT,
        "form": form,
        "quantize": quantize,
        "lightcnn": __version__,
        "source_digest": digest,
        "weights_digest": weights_digest(model),
        "inputs": [tensor.name for tensor in model.inputs],
    }


def _put_in_place(written: Path, target: Path, form: str) -> None:
    for one in written.parent.iterdir():
        with one.open("rb+") as file:
            os.fsync(file.fileno())
    if form != "openvino":
        os.replace(written, target)  # noqa: PTH105
        return
    # A folder cannot be renamed over another one that has files, so that one is moved away first. Another process may
    # put its own there in between; its is as good as this one, and the last stays.
    for attempt in range(100):
        old = written.parent.with_name(f"old-{attempt}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, old)  # noqa: PTH105
        try:
            os.replace(written.parent, target)  # noqa: PTH105
            return
        except BaseException as error:
            if old.exists() and not target.exists():
                os.replace(old, target)  # noqa: PTH105
            taken = isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if attempt == 99 or not taken:
                raise
