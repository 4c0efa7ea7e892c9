"""Model files: Keras' own `.keras` format with one more member that says what the model is for."""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras

import lightcnn.frontends
import lightcnn.layers
import lightcnn.losses
import lightcnn.optimizers
import lightcnn.schedules  # noqa: F401  registers every class that a model file can name
from lightcnn.backends import shape_text
from lightcnn.errors import ModelFileError
from lightcnn.files import atomic_write, fits_memory, json_bytes

__all__ = ["describe_layers", "load_model", "read_metadata", "save_model", "write_metadata"]

_METADATA = "lightcnn.json"
_CONFIG = "config.json"
# Objects that a model file may ask for. Anything else would be imported, and importing runs code.
_TRUSTED_MODULES = ("keras", "builtins")
_UNTRUSTED_CLASSES = ("Lambda",)


def save_model(model: Any, path: Path | str, metadata: dict[str, Any]) -> None:
    """Saves a model and what it is for in one `.keras` file, whole or not at all.

    Args:
        model: A built `keras.Model`.
        path: Where to write; it must end in `.keras`.
        metadata: Plain JSON: the task, the labels and whatever else the user of the file needs.

    Raises:
        StorageError: If the file cannot be written; the old one is whole.
        ValueError: If the path does not end in `.keras`.

    Example:
    >>> lightcnn.models.save_model(model, "digits.keras", {"task": "image classification", "labels": ["0", "1"]})
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"A model file ends in .keras. Received: path={path}")
    # Keras writes to a path of its own, so it writes to a folder that goes away and the result is copied as one.
    with (
        atomic_write(path) as file,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-", suffix=".tmp") as folder,
    ):
        temporary = Path(folder) / path.name
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_METADATA, json_bytes(metadata))
        file.write(temporary.read_bytes())


def write_metadata(path: Path | str, metadata: dict[str, Any]) -> None:
    """Replaces what `save_model` wrote beside the model; the model stays as it is, the file whole.

    Args:
        path: A `.keras` file of this package.
        metadata: As in `save_model`.

    Raises:
        ModelFileError: If the file is no model file of this package.
        StorageError: If the file cannot be written; the old one is whole.

    Example:
    >>> write_metadata("digits.keras", {**read_metadata("digits.keras"), "labels": ["zero", "one"]})
    """
    path = Path(path)
    read_metadata(path)
    with atomic_write(path) as file, zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            if member.filename != _METADATA:
                new.writestr(member, old.read(member))
        new.writestr(_METADATA, json_bytes(metadata))


def load_model(path: Path | str) -> Any:
    """Loads a `.keras` file made with this package's layers; no code from the file is ever run.

    Keras cannot find this package's classes by itself, so `keras.models.load_model` needs them imported first.
    Here they are. Loading is in Keras' safe mode, and a file that names a class from elsewhere is refused before.

    Args:
        path: A `.keras` file.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ModelFileError: If the file is missing, damaged, not a model, or needs code.

    Example:
    >>> model = lightcnn.load_model("runs/mnist/20261124-120000/best.keras")
    """
    path = Path(path)
    config = _read_json(path, _CONFIG)
    _refuse_foreign_classes(path, config)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds for a damaged file; each ends here with the file's name
        reason = str(error).strip().splitlines()
        raise ModelFileError(
            f"{path} could not be loaded as a Keras model: {reason[0] if reason else type(error).__name__}"
        ) from error


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Reads what `save_model` wrote beside the model: the task, the labels.

    Args:
        path: A `.keras` file.

    Returns:
        The metadata.

    Raises:
        ModelFileError: If the file is not a model file of this package.
    """
    path = Path(path)
    try:
        metadata = _read_json(path, _METADATA)
    except KeyError:
        raise ModelFileError(
            f"{path} is a Keras model without {_METADATA}, so nobody knows its labels. "
            "Save it with lightcnn.models.save_model(model, path, {'labels': [...]})."
        ) from None
    if not isinstance(metadata, dict):
        raise ModelFileError(f"{path}: {_METADATA} must be a JSON object. Received: {type(metadata).__name__}")
    return metadata


def describe_layers(model: Any) -> list[dict[str, Any]]:
    """Returns what a table of layers shows, a row a layer: `name`, `class`, `output` (its shapes) and `parameters`.

    Example:
    >>> describe_layers(lcnn((28, 28, 1), 10))[1]
    {'name': 'conv_1', 'class': 'MFMConv2D', 'output': '28 x 28 x 32', 'parameters': 1664}
    """
    return [
        {
            "name": layer.name,
            "class": type(layer).__name__,
            "output": "; ".join(map(shape_text, keras.tree.flatten(layer.output))),
            "parameters": layer.count_params(),
        }
        for layer in model.layers
    ]


def _read_json(path: Path, name: str) -> Any:
    try:
        return json.loads(_read_member(path, name))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: {name} is not JSON: {error}. Copy the file again or train again.") from error


def _read_member(path: Path, name: str) -> bytes:
    if path.suffix != ".keras":  # Keras would read another format, past the check of its classes
        raise ModelFileError(f"{path} is not a .keras file. Models of other formats are not loaded.")
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist or is not a file. A model is a .keras file or a run folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            if not fits_memory(archive):
                raise ModelFileError(f"{path} unpacks to more than this machine's memory; it is no model of this kind.")
            if _CONFIG not in archive.namelist():
                raise ModelFileError(f"{path} is a zip file, but not a Keras model: it has no {_CONFIG}.")
            return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path} is not a .keras file, or a truncated one: {error}. Copy it again or train again."
        ) from error


def _refuse_foreign_classes(path: Path, config: Any) -> None:
    if isinstance(config, list):
        for item in config:
            _refuse_foreign_classes(path, item)
    elif isinstance(config, dict):
        class_name, module = config.get("class_name"), config.get("module")
        registered = str(config.get("registered_name") or "")
        if isinstance(class_name, str):
            ours = registered.startswith("lightcnn>") and keras.saving.get_registered_object(registered) is not None
            of_keras = ">" not in registered and (module is None or str(module).split(".")[0] in _TRUSTED_MODULES)
            if not (ours or of_keras) or class_name in _UNTRUSTED_CLASSES:
                where = f"{module}.{class_name}" if module else class_name
                raise ModelFileError(
                    f"{path} needs code to be loaded: {where}. Only Keras' own layers (no Lambda) and lightcnn's "
                    "are loaded. Rebuild the model from these."
                )
        for item in config.values():
            _refuse_foreign_classes(path, item)
