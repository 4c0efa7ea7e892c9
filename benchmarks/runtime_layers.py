"""Where the time of an exported network goes: its layers in ONNX Runtime and OpenVINO, on one core, beside its peak.

    python benchmarks/runtime_layers.py
    python benchmarks/runtime_layers.py --models lcnn_28 --ways onnx --forms exported,split

The article's LCNN with random weights, as in `deployment.py`, in a batch of 16: as it is exported, and with one part of
the export undone at a time. Each is timed as a whole, then by the runtime's own profiler. The time of a convolution or
matrix product is that of its layer, with all that the runtime has merged into it; the rest is summed by operator. A
share of the peak is what the layer's products need over what the best product of two matrices, in the same precision,
does in that time; near it a convolution may be a little faster. All of it alternates, `--repeats` times, on one core.
Only what is exported, and the form with Split and Max, are recorded by layer.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from unittest import mock

from deployment import build, flops, made_up, matmul_peak, randomize
from record import record

BATCH, WARM_UP = 16, 10
PRODUCTS = ("Conv", "Convolution", "FullyConnected", "Gemm", "QGemm", "QLinearConv")
OPERATORS = {
    "BatchNormalization": "batch norm",
    "Convert": "reorders",
    "DequantizeLinear": "quantizing",
    "FakeQuantize": "quantizing",
    "Max": "max",
    "MaxPool": "pooling",
    "Maximum": "max",
    "QuantizeLinear": "quantizing",
    "Reorder": "reorders",
    "ReorderInput": "reorders",
    "ReorderOutput": "reorders",
    "Split": "split",
    "Transpose": "reorders",
}


def exported(model):
    from lightcnn.exporting.network import to_onnx

    return to_onnx(model).SerializeToString()


def split(model):
    from lightcnn.exporting.network import to_onnx

    return to_onnx(model, mfm="split").SerializeToString()


def norms_apart(model):
    with mock.patch("lightcnn.exporting.network.fold_batch_norms"):
        return exported(model)


def pixels_apart(model):
    """Scales pixels as they come, with the channels last, before the first layer."""
    import keras

    from lightcnn.exporting.layers import LAYERS

    def rescaled(layer, x):
        return x * x.graph.value(layer.scale, "float32") + x.graph.value(layer.offset, "float32")

    with mock.patch.dict(LAYERS, {keras.layers.Rescaling: rescaled}):
        return exported(model)


def batch_fixed(model):
    import onnx

    fixed = onnx.load_from_string(exported(model))
    for tensor in (*fixed.graph.input, *fixed.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = BATCH
    return fixed.SerializeToString()


def in_8_bits(model):
    from lightcnn.exporting.network import to_onnx
    from lightcnn.exporting.quantizing import quantize_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_onnx(to_onnx(model, mfm="split"), path, [(made_up(model.input_shape[1:], 4),)] * 2)
        return path.read_bytes()


FORMS = {
    "exported": exported,
    "split": split,
    "batch norms apart": norms_apart,
    "pixels scaled apart": pixels_apart,
    "batch fixed": batch_fixed,
    "int8": in_8_bits,
}


def session_of(content, folder=None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session, lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def request_of(content, precision, profiled=False):
    import openvino

    core = openvino.Core()
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": profiled}
    request = core.compile_model(core.read_model(content, b""), "CPU", options).create_infer_request()
    return request, lambda *arrays: request.infer(arrays)


def repeated(run, batch, seconds):
    """Returns ms a call, and how many there were."""
    calls, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        run(batch)
        calls += 1
    return 1e3 * passed / calls, calls


def warmed_up(run, batch):
    for _ in range(WARM_UP):
        run(batch)
    return run


def with_onnx(content, precision, batch, seconds):
    """Returns ms a call as a whole, and for each node by name and operator."""
    whole, _ = repeated(warmed_up(session_of(content)[1], batch), batch, seconds)
    with tempfile.TemporaryDirectory() as folder:
        session, run = session_of(content, folder)
        _, calls = repeated(warmed_up(run, batch), batch, seconds)
        events = json.loads(Path(session.end_profiling()).read_text())
    times = defaultdict(list)
    for event in events:
        if event["name"].endswith("_kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    return whole, {node: statistics.fmean(values[-calls:]) for node, values in times.items()}


def with_openvino(content, precision, batch, seconds):
    """Returns the same; OpenVINO gives means of all calls, of which the first ones make the kernels."""
    whole, _ = repeated(warmed_up(request_of(content, precision)[1], batch), batch, seconds)
    request, run = request_of(content, precision, profiled=True)

    def totals(calls):
        return {
            (one.node_name, one.node_type): calls * (one.real_time / timedelta(milliseconds=1))
            for one in request.get_profiling_info()
        }

    warmed_up(run, batch)
    before = totals(WARM_UP)
    _, calls = repeated(run, batch, seconds)
    return whole, {node: (total - before[node]) / calls for node, total in totals(WARM_UP + calls).items()}


WAYS = {
    "onnx": (with_onnx, "float32"),
    "openvino": (with_openvino, "float32"),
    "openvino-bfloat16": (with_openvino, "bfloat16"),
}


def part(name, operator):
    layer = name.split("/")[0]
    return OPERATORS.get(operator, layer if operator in PRODUCTS or layer == "preprocessing" else "other")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="lcnn_28,lcnn_32")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peaks = {
        "float32": matmul_peak(lambda content: session_of(content)[1]),
        "bfloat16": matmul_peak(lambda content: request_of(content, "bfloat16")[1]),
    }
    for precision, peak in peaks.items():
        record("runtime layers", "matrix product", "speed", "GFLOP/s", [peak], precision)
    for name in arguments.models.split(","):
        model, _ = build(name)
        randomize(model)
        contents = {form: FORMS[form](model) for form in arguments.forms.split(",")}
        profile(name, model, contents, arguments, peaks)


def profile(name, model, contents, arguments, peaks):
    batch = made_up(model.input_shape[1:], BATCH)
    # What stays in floating point in 8 bits is float32.
    found = {
        (way, form): defaultdict(list)
        for way in arguments.ways.split(",")
        for form in contents
        if (way, form) != ("openvino-bfloat16", "int8")
    }
    for _ in range(arguments.repeats):
        for (way, form), times in found.items():
            run, precision = WAYS[way]
            whole, nodes = run(contents[form], precision, batch, arguments.seconds)
            times["whole"].append(whole)
            sums = defaultdict(float)
            for node, time_of_node in nodes.items():
                sums[part(*node)] += time_of_node
            for key, value in sums.items():
                times[key].append(value)
    counted = flops(model)
    counted["whole"] = sum(counted.values())
    for (way, form), times in found.items():
        precision = "int8" if form == "int8" else WAYS[way][1]
        for key, values in times.items():
            if key != "whole" and form not in ("exported", "split"):
                continue  # what another form has is seen in its whole
            configuration = f"{name}, batch {BATCH}, {way}, {form}, {key}"
            record("runtime layers", configuration, "time", "ms", values, precision)
            if key in counted and form == "exported":
                shares = [100 * BATCH * counted[key] / (value * 1e6) / peaks[precision] for value in values]
                record("runtime layers", configuration, "share of the peak", "%", shares, precision)


if __name__ == "__main__":
    main()
