"""MFM layers of an ONNX model in 8 bits, calibrated on data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from lightcnn.errors import ExportError
from lightcnn.exporting.examples import Batch

__all__ = ["mfm_chains", "quantize_onnx"]

_MAXIMA = ("Split", "Max", "MaxPool")


def quantize_onnx(model: onnx.ModelProto, path: Path, batches: list[Batch]) -> None:
    """Writes a model with its MFM layers in 8 bits; all others (front end, LSTM, head) keep 32.

    What an MFM or max-pooling throws away needs no bits: a convolution gets the range of what is left after the maxima
    behind it, and all of them share its scale. So the losing halves' large negative numbers do not make the steps
    coarse, and nothing is rounded twice: two roundings to unlike steps shift a network's numbers all one way.

    Args:
        model: What `to_onnx(..., mfm="split")` gives.
        path: Where to write.
        batches: An array an input of the model, in order: what ranges are measured on.

    Raises:
        ExportError: If the model has no MFM layer.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    chains = mfm_chains(model.graph)
    if not chains:
        raise ExportError(f"{model.graph.name!r} has no layer with a Max-Feature-Map, which is what 8 bits are for.")
    names = [one.name for one in model.graph.input]
    feeds = [dict(zip(names, batch, strict=True)) for batch in batches]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, Any]] = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    ranges = _ranges(model, [chain[-1].output[0] for chain in chains], feeds)
    shared = {
        output: [{"quant_type": QuantType.QUInt8, "rmin": low, "rmax": high}]
        for chain, (low, high) in zip(chains, ranges, strict=True)
        for node in chain
        for output in node.output
    }
    # Says that shapes and constants need no work before; without it the quantiser asks for that on stderr.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    quantize_static(
        model,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for chain in chains for node in chain],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"TensorQuantOverrides": shared},
    )


def mfm_chains(graph: onnx.GraphProto) -> list[list[onnx.NodeProto]]:
    """Returns, for each convolution or product with an MFM, the nodes from it to the last maximum in a row.

    A mask that zeroes what is behind a recording's end changes no range, so it is passed.
    """
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    zeros = {one.name for one in graph.initializer if not np.any(numpy_helper.to_array(one))}
    chains = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        chain = [node]
        while True:
            following = {id(user): user for output in chain[-1].output for user in users.get(output, [])}
            (user, *others) = following.values() or [None]
            passes = user is not None and (
                user.op_type in _MAXIMA or (user.op_type == "Where" and user.input[2] in zeros)
            )
            if others or not passes:
                break
            chain.append(user)
        if any(one.op_type == "Max" for one in chain):
            chains.append(chain)
    return chains


def _ranges(
    model: onnx.ModelProto, names: list[str], feeds: list[dict[str, Any]]
) -> list[tuple[np.float32, np.float32]]:
    """Returns the smallest and the largest number of each tensor, zero included."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    extremes = np.zeros((2, len(names)), np.float32)
    for feed in feeds:
        arrays = session.run(names, feed)
        extremes[0] = np.minimum(extremes[0], [array.min() for array in arrays])
        extremes[1] = np.maximum(extremes[1], [array.max() for array in arrays])
    return list(zip(*extremes, strict=True))
