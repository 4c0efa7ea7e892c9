"""The formats: a Keras model in, a file (OpenVINO: two in a folder) out, with its metadata inside."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lightcnn.errors import ExportError, LightCNNError
from lightcnn.exporting.examples import Examples
from lightcnn.exporting.front_ends import FRONT_ENDS
from lightcnn.exporting.network import to_onnx
from lightcnn.exporting.quantizing import quantize_onnx
from lightcnn.files import file_digest
from lightcnn.runtimes import METADATA

__all__ = ["write_form"]


def write_form(
    form: str, model: Any, path: Path, quantize: str | None, examples: Examples, metadata: dict[str, Any]
) -> None:
    """Writes a model in a format.

    Args:
        form: A key of `lightcnn.runtimes.FORMS`.
        model: A functional Keras model.
        path: Where to write; OpenVINO writes the weights beside it.
        quantize: One of the form's precisions.
        examples: What 8-bit numbers are calibrated on.
        metadata: What the artifact says of itself.

    Raises:
        ExportError: If the model cannot be written in this format.
    """
    try:
        _WRITERS[form](model, path, quantize, examples, json.dumps(metadata))
    except (LightCNNError, OSError):
        raise
    except Exception as error:  # converters raise whatever their parts raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "The format onnx has every model." if form != "onnx" else "Please report this."
        hint = "Export it without --quantize." if quantize else hint
        raise ExportError(f"The converter to {form} failed on {model.name!r}: {reason}. {hint}") from error


def _write_onnx(model: Any, path: Path, quantize: str | None, examples: Examples, metadata: str) -> None:
    import onnx

    if quantize == "int8":
        quantize_onnx(to_onnx(model, mfm="split"), path, examples.batches)
        finished = onnx.load(path)
    else:
        finished = to_onnx(model)
    if quantize == "float16":
        _halve(finished, _front_end_names(model))
    entry = finished.metadata_props.add()
    entry.key, entry.value = METADATA, metadata
    onnx.save(finished, path)


def _front_end_names(model: Any) -> tuple[str, ...]:
    """Returns what the names of a front end's nodes begin with: the logarithm of a spectrum needs all its bits."""
    return tuple(f"{layer.name}/" for layer in model.layers if type(layer) in FRONT_ENDS)


def _halve(model: Any, kept: tuple[str, ...]) -> None:
    """Stores weights in 16 bits; they become 32 again when the file is opened, so that nothing is slower."""
    import onnx
    from onnx import helper

    casts = []
    for constant in model.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if array.dtype == np.float32 and array.size > 16 and not constant.name.startswith(kept):
            name = constant.name
            constant.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}/half"))
            casts.append(helper.make_node("Cast", [constant.name], [name], f"{name}/Cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _write_litert(model: Any, path: Path, quantize: str | None, examples: Examples, metadata: str) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "LiteRT's converter reads TensorFlow functions, so it needs that backend: KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()!r}. The ONNX format is written on every backend."
        )
    import tensorflow

    if any(None in tensor.shape[1:] for tensor in model.inputs):
        raise ExportError(
            "This network takes recordings of any length, which LiteRT cannot: its LSTMs and masks need lengths that "
            "are known. Export it with --format onnx, which takes any length, or train a network of fixed length."
        )
    if quantize == "int8" and _front_end_names(model):
        raise ExportError(
            "LiteRT's converter would write the front end in 8 bits too, and a logarithm of a spectrum needs 32. "
            "Export it with --format onnx --quantize int8, or with --format litert --quantize float16."
        )
    model = _with_matrices(model)
    signature = [
        tensorflow.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name) for tensor in model.inputs
    ]

    # As constants, weights are part of the graph; the converter would leave variables to be set by the caller.
    weights = [(one, keras.ops.convert_to_numpy(one)) for one in model.variables]

    @tensorflow.function(input_signature=signature)
    def served(*inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=[(one, tensorflow.constant(array)) for one, array in weights]):
            return model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)

    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([served.get_concrete_function()], model)
    if quantize:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tensorflow.float16]
    elif quantize == "int8":
        converter.representative_dataset = lambda: (
            [array[row : row + 1] for array in batch] for batch in examples.batches for row in range(len(batch[0]))
        )
    path.write_bytes(_quietly(converter.convert))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{METADATA}.json", metadata)


def _with_matrices(model: Any) -> Any:
    """Returns a model whose front ends multiply by cosines and sines, as in the other formats, instead of an FFT."""

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "transform": "matrix"} if "transform" in config else config)

    if not _front_end_names(model):
        return model
    cloned = keras.models.clone_model(model, clone_function=clone)
    cloned.set_weights(model.get_weights())
    return cloned


_DESCRIPTORS = threading.Lock()  # they are the process', so two threads must not both hold the real ones


def _quietly(work: Callable[[], Any]) -> Any:
    """Runs a converter that writes notes on itself to file descriptors 1 and 2; they are shown if it fails."""
    with _DESCRIPTORS, tempfile.TemporaryFile() as held_back:
        kept = [os.dup(1), os.dup(2)]
        for descriptor in (1, 2):
            os.dup2(held_back.fileno(), descriptor)
        try:
            return work()
        except BaseException:
            held_back.seek(0)
            os.write(kept[1], held_back.read())
            raise
        finally:
            for descriptor, old in zip((1, 2), kept, strict=True):
                os.dup2(old, descriptor)
                os.close(old)


def _write_openvino(model: Any, path: Path, quantize: str | None, examples: Examples, metadata: str) -> None:
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        source = Path(folder) / "model.onnx"
        if quantize == "int8":  # the quantiser of the ONNX format: one way to 8 bits, and as fast as OpenVINO's own
            quantize_onnx(to_onnx(model, mfm="split"), source, examples.batches)
        else:
            source.write_bytes(to_onnx(model).SerializeToString())
        converted = openvino.Core().read_model(source)

    def save() -> None:
        try:
            openvino.save_model(converted, path, compress_to_fp16=quantize == "float16")
        except RuntimeError as error:
            if "iostream" in str(error):  # all that it says of a full disk
                raise OSError(errno.EIO, "OpenVINO could not write its files") from error
            raise

    # The model names its weights by their digest, and they are known when they are written.
    save()
    said = {**json.loads(metadata), "weights_file_digest": file_digest(path.with_suffix(".bin"))}
    converted.set_rt_info(json.dumps(said), METADATA)
    save()


_WRITERS: dict[str, Callable[[Any, Path, str | None, Examples, str], None]] = {
    "onnx": _write_onnx,
    "litert": _write_litert,
    "openvino": _write_openvino,
}
