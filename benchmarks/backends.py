"""One short recipe on Keras' three backends: a fifth of `mnist`'s epochs, the same seeds, alternating.

    python benchmarks/backends.py --seeds 1,2,3

All in float32, and TensorFlow in bfloat16 besides, which recipes choose there. Needs TensorFlow, JAX and PyTorch. The
times include the compilation of the graphs.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from record import record, through

WAYS = (("tensorflow", "float32"), ("jax", "float32"), ("torch", "float32"), ("tensorflow", "bfloat16"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    from lightcnn.recipes import get_recipe

    epochs = max(1, round(get_recipe("mnist").epochs / 5))
    results = {way: [] for way in WAYS}
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for seed in arguments.seeds.split(","):
                for (backend, precision), runs in results.items():
                    run = Path(temporary) / f"{backend}-{precision}-{seed}"
                    command = [
                        sys.executable,
                        "-m",
                        "lightcnn",
                        "train",
                        "mnist",
                        "--seed",
                        seed,
                        "--run-dir",
                        str(run),
                    ]
                    command += ["--set", f"epochs={epochs}", "--set", f"precision={precision}"]
                    command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
                    subprocess.run([*command, "--quiet"], check=True, env={**os.environ, "KERAS_BACKEND": backend})
                    runs.append(json.loads((run / "metrics.json").read_text()))
                    print(run.name, runs[-1]["test"], runs[-1]["train_seconds"], file=sys.stderr, flush=True)
    finally:  # an hour of work is not lost with its last process
        report(epochs, through(results))


def report(epochs, results):
    if not results:
        return
    accuracies = {way: [100 * metrics["test"]["accuracy"] for metrics in runs] for way, runs in results.items()}
    first = accuracies[WAYS[0]]
    whole = len(first)
    for (backend, precision), values in accuracies.items():
        name = f"mnist, {epochs} epochs, {backend}"
        seconds = [metrics["train_seconds"] for metrics in results[backend, precision]]
        record("backends", name, "test accuracy", "%", values, precision, backend=backend)
        record("backends", name, "training time", "s", seconds, precision, backend=backend)
        if values is not first and whole > 1:
            apart = statistics.fmean(values) - statistics.fmean(first)
            error = math.sqrt((statistics.variance(values) + statistics.variance(first)) / whole)
            name = f"{name} - tensorflow in float32, {whole} seeds of each"
            record("backends", name, "difference of the means", "%", [apart], precision, backend=backend)
            record("backends", name, "standard error of the difference", "%", [error], precision, backend=backend)


if __name__ == "__main__":
    main()
