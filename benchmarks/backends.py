"""One short recipe on Keras' three backends: a fifth of `mnist`'s epochs, the same seeds, alternating.

    python benchmarks/backends.py --seeds 1,2,3

Needs TensorFlow, JAX and PyTorch. The times include the compilation of the graphs.
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

from record import record

BACKENDS = ("tensorflow", "jax", "torch")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--data-dir")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    from lightcnn.recipes import get_recipe

    epochs = max(1, round(get_recipe("mnist").epochs / 5))
    settings = [f"epochs={epochs}", f"precision={arguments.precision}"]
    results = {backend: [] for backend in BACKENDS}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in arguments.seeds.split(","):
            for backend, runs in results.items():
                run = Path(temporary) / f"{backend}-{seed}"
                command = [sys.executable, "-m", "lightcnn", "train", "mnist", "--seed", seed, "--run-dir", str(run)]
                command += [part for setting in settings for part in ("--set", setting)]
                command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
                subprocess.run([*command, "--quiet"], check=True, env={**os.environ, "KERAS_BACKEND": backend})
                precision = json.loads((run / "recipe.json").read_text())["precision"]
                runs.append((json.loads((run / "metrics.json").read_text()), precision))
    accuracies = {}
    for backend, runs in results.items():
        name, precision = f"mnist, {epochs} epochs, {backend}", runs[0][1]
        accuracies[backend] = [100 * metrics["test"]["accuracy"] for metrics, _ in runs]
        record("backends", name, "test accuracy", "%", accuracies[backend], precision)
        record("backends", name, "training time", "s", [metrics["train_seconds"] for metrics, _ in runs], precision)
    first = accuracies["tensorflow"]
    for backend, values in accuracies.items():
        if backend != "tensorflow" and len(values) > 1:
            error = math.sqrt((statistics.variance(values) + statistics.variance(first)) / len(values))
            apart = (statistics.fmean(values) - statistics.fmean(first)) / error
            record(
                "backends", f"mnist, {epochs} epochs, {backend} - tensorflow", "difference", "standard errors", [apart]
            )


if __name__ == "__main__":
    main()
