"""OpenVINO runs `.xml` files, each with its `.bin` beside it."""

from __future__ import annotations

from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from numpy.typing import NDArray

from lightcnn.errors import ModelFileError
from lightcnn.files import file_digest
from lightcnn.runtimes.artifact import TensorInfo
from lightcnn.runtimes.checking import METADATA, damaged, parsed_metadata

__all__ = ["open_openvino"]


def open_openvino(path: Path, streams: int) -> Any:
    """Opens a `.xml` file: what it says of itself, what it takes and gives, and the function that runs it."""
    import openvino

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelFileError(f"{path} needs {weights}, which does not exist. Copy the folder with both files.")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        text = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else None
    except Exception as error:
        raise damaged(path, error) from error
    metadata = parsed_metadata(path, text)
    if metadata.get("weights_file_digest") != file_digest(weights):
        raise ModelFileError(f"{weights} is damaged, or belongs to another model than {path}. Copy the folder again.")
    hint = (
        {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    )
    # Without it OpenVINO computes in bfloat16 where the processor can, past the tolerance of float32.
    precision = "bf16" if metadata["artifact"].get("quantize") == "bfloat16" else "f32"
    try:
        compiled = core.compile_model(model, "CPU", {**hint, "INFERENCE_PRECISION_HINT": precision})
    except RuntimeError as error:
        raise damaged(path, error) from error
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
    # A request computes one input at a time. Kept for its thread, it would die with it, and OpenVINO crashes when that
    # thread is another library's, as those of tf.data are.
    idle: SimpleQueue[Any] = SimpleQueue()

    def run(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        try:
            request = idle.get_nowait()
        except Empty:
            request = compiled.create_infer_request()
        try:
            return request.infer(arrays)[0].copy()  # type: ignore[no-any-return]
        finally:
            idle.put(request)

    return metadata, inputs, outputs[0], run
