"""Latency, throughput and memory of models in every format, beside Keras and PyTorch, and the share of the peak.

    python benchmarks/deployment.py
    python benchmarks/deployment.py --models lcnn_28 --ways keras,onnx,onnx-int8 --batches 1,16 --repeats 1

Weights are random, since they do not change the time; only the accuracy lost (`--runs`) needs trained runs. Every way
runs in a process of its own, which opens the model, warms up, and measures on made-up data: seconds a batch for
`--seconds` s, one batch after the other (latency: median and 99th percentile), then as many batches as there are
processors at a time (throughput), and the peak of its memory. The ways of one model and batch alternate,
`--repeats` times. `torch` is the same network in PyTorch, channels_last. A batch that would take more than 4 s is left
out. Needs the extras tensorflow, torch, litert and openvino, or `--ways` without them.

    python benchmarks/deployment.py --runs MNIST_RUN,CIFAR10_RUN

measures the accuracy of each format on the runs' whole test sets instead, and how far each is from Keras.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from record import backend_of, record

FACES = ("light_cnn_4", "light_cnn_9", "light_cnn_29", "light_cnn_29v2", "light_cnn_v4")
MODELS = ("lcnn_28", "lcnn_32", "lfcc_lcnn", "stc2019", *FACES)
ARTIFACTS = {
    f"{form}{'-' + quantize if quantize else ''}": (form, quantize)
    for form, precisions in (
        ("onnx", (None, "int8", "float16")),
        ("litert", (None, "int8", "float16")),
        ("openvino", (None, "int8", "float16", "bfloat16")),
    )
    for quantize in precisions
}
TORCH = ("torch", "torch-bfloat16", "torch-compile", "torch-compile-bfloat16")
WAYS = ("keras", "keras-predict", *TORCH, *ARTIFACTS)
_SAMPLING_RATE = 16000
_LONGEST_MS = 4000  # for a batch


def build(name):
    """Returns a model and what its file says."""
    from lightcnn import frontends, models

    if name.startswith("lcnn_"):
        side = int(name.removeprefix("lcnn_"))
        shape = (side, side, 1 if side == 28 else 3)
        about = {"task": "image classification", "labels": [str(label) for label in range(10)]}
        return models.lcnn(shape, 10, scale=1 / 64, offset=-1.0), about
    if name in FACES:
        shape = (128, 128, 3 if name == "light_cnn_v4" else 1)
        return getattr(models, name)(shape, scale=1 / 255), {"task": "face representation"}
    front_end = frontends.lfcc_nii() if name == "lfcc_lcnn" else frontends.stc2019_fft()
    frames = 401 if name == "lfcc_lcnn" else 600
    network = models.lcnn_fixed if name == "lfcc_lcnn" else models.stc2019
    model = models.from_samples(front_end, network((frames, front_end.num_features), output="score"))
    return model, {"task": "voice anti-spoofing", "sampling_rate": 16000}


def made_up(shape, count):
    generator = np.random.default_rng(0)
    if len(shape) == 3:
        return generator.integers(0, 256, (count, *shape)).astype(np.float32)
    return generator.normal(0, 0.1, (count, *shape)).astype(np.float32)


def randomize(model):
    rng = np.random.default_rng(0)
    weights = []
    for variable in model.weights:
        if variable.name == "kernel" and len(variable.shape) > 1:
            weights.append(rng.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
        else:
            weights.append(np.asarray(variable) + 0.01)
    model.set_weights(weights)


def prepare(folder, name, ways):
    """Saves a model and its artifacts; prints the ways that there are, FLOPs and seconds of one example."""
    from lightcnn.errors import LightCNNError
    from lightcnn.exporting import Examples, export
    from lightcnn.models import save_model

    model, about = build(name)
    randomize(model)
    save_model(model, folder / "model.keras", {"format": 1, **about})
    (folder / "shape.json").write_text(json.dumps(model.input_shape[1:]))
    examples = Examples([(made_up(model.input_shape[1:], 4),)] * 2, "made-up data")
    done = [way for way in ways if way not in ARTIFACTS]
    for way in (way for way in ways if way in ARTIFACTS):
        form, quantize = ARTIFACTS[way]
        output = folder / way if form == "openvino" else folder / f"{way}{'.onnx' if form == 'onnx' else '.tflite'}"
        try:
            export(folder / "model.keras", output, form, quantize, examples=examples)
            done.append(way)
        except (LightCNNError, RuntimeError) as error:
            print(f"{name}: no {way}: {error}", file=sys.stderr)
    is_sound = len(model.input_shape) == 2
    seconds_of_sound = model.input_shape[1] / _SAMPLING_RATE if is_sound else None
    print(json.dumps({"ways": done, "flops": sum(flops(model).values()), "seconds_of_sound": seconds_of_sound}))


def flops(model):
    """Counts two operations a multiplication, for each layer that has a convolution or a dense layer."""
    import keras

    counted = {}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            outer = next((one for one in model.layers if layer in one._flatten_layers()), layer)
            shape = outer.output.shape if isinstance(layer, keras.layers.Conv2D) else (1, 1)
            count = 2 * int(np.prod(layer.kernel.shape)) * int(np.prod(shape[1:-1]))
            counted[outer.name] = counted.get(outer.name, 0) + count
    return counted


def opened(folder, way, streams):
    """Returns a function from a batch to scores."""
    if way in TORCH:
        return torch_function(folder, way, streams)
    if way.startswith("keras"):
        from lightcnn.models import load_model

        model = load_model(folder / "model.keras")
        if way == "keras":
            return model.predict_on_batch
        return lambda batch: model.predict(batch, verbose=0)
    from lightcnn.runtimes import open_artifact

    form = ARTIFACTS[way][0]
    path = folder / way / "model.xml" if form == "openvino" else next(folder.glob(f"{way}.*"))
    return open_artifact(path, streams=streams)


def torch_function(folder, way, streams):
    """Returns the network in PyTorch; the process has Keras on PyTorch, which the weights are read with."""
    import torch
    from torch_networks import torch_twin

    from lightcnn.models import load_model

    if streams > 1:
        torch.set_num_threads(1)
    network = torch_twin(load_model(folder / "model.keras"))
    if "compile" in way:
        network = torch.compile(network)

    def run(batch):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=way.endswith("bfloat16")):
            return network(torch.from_numpy(batch)).float().numpy()

    return run


def measure(folder, way, batch_size, seconds):
    """Prints latencies, throughput and peak memory of one way."""
    shape = json.loads((folder / "shape.json").read_text())
    batch, processors = made_up(shape, batch_size), len(os.sched_getaffinity(0))
    run = opened(folder, way, 1)
    run(batch), run(batch)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - start)
    alone = batch_size / np.median(times)
    together = 0.0
    if way in ARTIFACTS or way in TORCH:  # Keras' own functions are not made for several threads
        run = opened(folder, way, processors)
        with ThreadPoolExecutor(processors) as pool:
            pool.submit(run, batch).result()  # alone: two threads that compile in PyTorch can wait for each other
            list(pool.map(run, [batch] * 2 * processors))
            count = max(2 * processors, int(seconds * alone / batch_size))
            start = time.perf_counter()
            list(islice(pool.map(run, [batch] * count), count))
            together = count * batch_size / (time.perf_counter() - start)
    # Not getrusage's figure, which begins with the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    p50, p99 = np.percentile(times, (50, 99)) * 1e3
    print(json.dumps({"p50": p50, "p99": p99, "throughput": max(alone, together), "memory": peak}))


def matmul_peak(opened):
    """Returns the most GFLOP/s of products of square matrices, the second of which is constant, as weights are.

    Large ones do not fit into the caches, small ones cannot be shared among cores, so several sizes are tried.
    `opened` makes a function of the first matrix from an ONNX model.
    """
    from onnx import TensorProto, helper, numpy_helper

    speeds = []
    for side in (512, 1024, 2048, 4096):
        matrix = np.random.default_rng(0).random((side, side), np.float32)
        given, made = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (side, side)) for name in ("a", "product")
        )
        node = helper.make_node("MatMul", ["a", "b"], ["product"])
        graph = helper.make_graph([node], "product", [given], [made], [numpy_helper.from_array(matrix, "b")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        product = opened(model.SerializeToString())
        end = time.perf_counter() + 0.5
        while (start := time.perf_counter()) < end:
            product(matrix)
            speeds.append(2 * side**3 / (time.perf_counter() - start) / 1e9)
    return max(speeds)


def matmul_session(content):
    """Opens a product in ONNX Runtime: nearly twice as fast as NumPy's with AVX-512."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    return lambda matrix: session.run(None, {"a": matrix})


def accuracy_lost(folders, ways):
    """Records the accuracy of each format on a run's test set, and what Keras has there."""
    from lightcnn.exporting import export
    from lightcnn.models import load_model
    from lightcnn.runs import Run, load_data
    from lightcnn.runtimes import open_artifact

    for folder in folders:
        run = Run.open(folder)
        data = load_data(run.recipe, run.environment["data"]["data_dir"], skip_bad_files=False)
        split = data.split("test")
        starts = range(0, len(split), 64)

        def accuracy(function, split=split, starts=starts):
            rows = [
                function(split.take(slice(start, start + 64)).astype(np.float32)).argmax(axis=1) for start in starts
            ]
            return float(np.mean(np.concatenate(rows) == split.labels))

        configuration = f"{run.recipe.name}, {len(split):,} test pictures"
        model = load_model(run.best_model)
        record("deployment accuracy", f"{configuration}, keras", "accuracy", "", [accuracy(model.predict_on_batch)])
        for way in (way for way in ways if way in ARTIFACTS):
            form, quantize = ARTIFACTS[way]
            with tempfile.TemporaryDirectory() as temporary:
                name = {"onnx": "model.onnx", "litert": "model.tflite", "openvino": "model"}[form]
                exported = export(run, Path(temporary) / name, form, quantize)
                figures = {
                    "accuracy": accuracy(open_artifact(exported.path)),
                    "largest difference on validation data": exported.proof.difference,
                    "equal clear decisions on validation data": exported.proof.agreement,
                }
                for figure, value in figures.items():
                    record("deployment accuracy", f"{configuration}, {way}", figure, "", [value])


def child(*arguments, backend="tensorflow"):
    command = [sys.executable, __file__, "--child", json.dumps([str(argument) for argument in arguments])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--batches", default="1,16,64,256")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", default="", help="measure the accuracy of these run folders instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, folder, *rest = json.loads(arguments.child)
        if what == "prepare":
            prepare(Path(folder), rest[0], rest[1].split(","))
        else:
            measure(Path(folder), rest[0], int(rest[1]), float(rest[2]))
        return
    ways = arguments.ways.split(",")
    if arguments.runs:
        accuracy_lost(arguments.runs.split(","), ways)
        return
    peak = matmul_peak(matmul_session)
    record("deployment", "float32 matrix product", "speed", "GFLOP/s", [peak])
    for name in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            prepared = child("prepare", folder, name, ",".join(ways))
            for_one = dict.fromkeys(prepared["ways"], 0.0)  # milliseconds in the batch before
            for batch_size in map(int, arguments.batches.split(",")):
                found = {way: [] for way, time_ms in for_one.items() if batch_size * time_ms <= _LONGEST_MS}
                for _ in range(arguments.repeats):
                    for way, results in found.items():
                        task = "measure", folder, way, batch_size, arguments.seconds
                        results.append(child(*task, backend=backend_of(way)))
                for way, results in found.items():
                    for_one[way] = results[0]["p50"] / batch_size
                    tell(f"{name}, batch {batch_size}, {way}", way, results, prepared, peak)


def tell(configuration, way, results, prepared, peak):
    precision = ARTIFACTS[way][1] if way in ARTIFACTS else "bfloat16" if way.endswith("bfloat16") else None
    where = {"precision": precision or "float32", "backend": backend_of(way)}
    for key, unit in (("p50", "ms"), ("p99", "ms"), ("throughput", "examples/s"), ("memory", "MiB")):
        record("deployment", configuration, key, unit, [result[key] for result in results], **where)
    speeds = [result["throughput"] for result in results]
    shares = [100 * speed * prepared["flops"] / 1e9 / peak for speed in speeds]
    record("deployment", configuration, "share of the float32 peak", "%", shares, **where)
    if prepared["seconds_of_sound"]:
        times = [speed * prepared["seconds_of_sound"] for speed in speeds]
        record("deployment", configuration, "times real time", "", times, **where)


if __name__ == "__main__":
    main()
