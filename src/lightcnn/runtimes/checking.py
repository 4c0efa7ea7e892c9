"""What a model file must be and say of itself before it is run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightcnn.errors import ExportError, MissingDependencyError, ModelFileError

__all__ = [
    "ARTIFACT_FORMAT",
    "FORMS",
    "METADATA",
    "check_file",
    "check_precision",
    "check_runtime",
    "damaged",
    "has_runtime",
    "parsed_metadata",
]

METADATA = "lightcnn"  # the key, in every format, of what an artifact says of itself: JSON
ARTIFACT_FORMAT = 1
# suffix -> what it is, the packages of which one must be installed, the extra that brings it
_RUNTIMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    ".onnx": ("an ONNX model", ("onnxruntime",), "lightcnn"),
    ".tflite": ("a LiteRT model", ("ai_edge_litert",), "lightcnn[litert]"),
    ".xml": ("an OpenVINO model", ("openvino",), "lightcnn[openvino]"),
    ".keras": ("a Keras model", ("tensorflow", "jax", "torch"), "lightcnn[tensorflow]"),
}
# form -> suffix of what is opened, the precisions that it has
FORMS: dict[str, tuple[str, tuple[str | None, ...]]] = {
    "onnx": (".onnx", (None, "int8", "float16")),
    "litert": (".tflite", (None, "int8", "float16")),
    "openvino": (".xml", (None, "int8", "float16", "bfloat16")),
}
_KEYS = ("form", "quantize", "source_digest", "weights_digest")  # of `artifact`, besides its format and who wrote it


def has_runtime(suffix: str) -> bool:
    """Tells whether an artifact of this suffix can be run here; nothing is imported."""
    return any(find_spec(package) for package in _RUNTIMES[suffix][1])


def check_precision(form: str, quantize: str | None) -> None:
    """Refuses a format that there is not, and a precision that the format does not have."""
    if form not in FORMS:
        raise ExportError(f"`form` must be one of {', '.join(FORMS)}. Received: form={form!r}")
    if quantize not in FORMS[form][1]:
        having = [name for name, (_, precisions) in FORMS.items() if quantize in precisions]
        hint = f" {quantize} is for {' and '.join(having)}." if having else ""
        known = ", ".join("float32 (without it)" if one is None else one for one in FORMS[form][1])
        raise ExportError(f"The format {form} has {known}.{hint} Received: quantize={quantize!r}")


def check_file(path: Path) -> None:
    """Refuses a file that is missing or of no known kind, and one whose runtime is not installed."""
    known = ", ".join(_RUNTIMES)
    if not path.exists():
        raise ModelFileError(f"{path} does not exist. Expected a run folder, or a file that ends in {known}.")
    if path.suffix not in _RUNTIMES or not path.is_file():
        received = " Received: a folder" if path.is_dir() else ""
        raise ModelFileError(f"{path} is no model file. Expected one that ends in {known}.{received}")
    check_runtime(path)


def check_runtime(path: Path) -> None:
    """Refuses what cannot be run here, whether it stands there already or not."""
    what, packages, extra = _RUNTIMES[path.suffix]
    if not has_runtime(path.suffix):
        raise MissingDependencyError(
            f"{path} is {what}, and no runtime for it is installed ({' or '.join(packages)}). "
            f"Install it: pip install '{extra}'"
        )


def damaged(path: Path, error: Exception) -> ModelFileError:
    """Returns what is raised where a runtime cannot read a file."""
    # OpenVINO begins with the line of its own source that failed.
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Exception from")]
    reason = next(filter(None, lines), type(error).__name__)
    return ModelFileError(
        f"{path} is not {_RUNTIMES[path.suffix][0]}, or a truncated one: {reason}. Copy it again or export it again."
    )


def parsed_metadata(path: Path, text: str | None) -> dict[str, Any]:
    """Returns the metadata from their JSON, which is None in a file without."""
    again = "Export it again: lightcnn export RUN."
    if not text:
        raise ModelFileError(f"{path} has no metadata of lightcnn, so nobody knows what its numbers mean. {again}")
    try:
        metadata = json.loads(text)
        version, writer = int(metadata["artifact"]["format"]), metadata["artifact"]["lightcnn"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{path} has damaged metadata: {error!r}. {again}") from error
    if version != ARTIFACT_FORMAT:
        raise ModelFileError(
            f"{path} was written by lightcnn {writer} in another version of the format. Expected: {ARTIFACT_FORMAT}. "
            f"Received: {version}. Use that version of lightcnn, or export it again."
        )
    if missing := [key for key in _KEYS if key not in metadata["artifact"]]:
        raise ModelFileError(f"{path} has damaged metadata: it lacks {', '.join(missing)}. {again}")
    return dict(metadata)
