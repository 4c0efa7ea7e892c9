"""Accuracy and time of recipes, each seed in a process of its own, as a user runs it.

    python benchmarks/accuracy.py mnist cifar10 --seeds 1,2,3 --data-dir FOLDER

With several recipes, they alternate: seed 1 of each, then seed 2 of each, so that a noisy machine is noisy for all.
The seconds are those of `metrics.json`: building the graph, training and validation, until the last epoch ends.
Runs that `--keep` finds finished in its folder are not trained again, so one process a core may train some seeds before
this reports them all. A recipe that mirrors pictures in training is measured with mirrored views besides: the product
of what the model gives a picture and its mirror image, which is the sum of their logits.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from record import record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--data-dir")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        results = {recipe: [] for recipe in arguments.recipes}
        for seed in arguments.seeds.split(","):
            for recipe in arguments.recipes:
                run = folder / f"{recipe}-{seed}"
                command = [sys.executable, "-m", "lightcnn", "train", recipe, "--seed", seed, "--run-dir", str(run)]
                command += [part for setting in arguments.set for part in ("--set", setting)]
                command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
                if not (run / "metrics.json").exists():
                    subprocess.run(command, check=True)
                metrics = json.loads((run / "metrics.json").read_text())
                environment = json.loads((run / "environment.json").read_text())
                environment |= json.loads((run / "recipe.json").read_text())
                results[recipe].append((metrics, environment, mirrored_accuracy(run, arguments.data_dir)))

    for recipe, runs in results.items():
        environment = runs[0][1]
        name = " ".join([recipe, f"on {environment['data']['name']}", *arguments.set])
        figures = {
            ("test accuracy", "%"): [100 * metrics["test"]["accuracy"] for metrics, _, _ in runs],
            ("test loss", "nats"): [metrics["test"]["loss"] for metrics, _, _ in runs],
            ("validation accuracy", "%"): [100 * metrics["validation"]["accuracy"] for metrics, _, _ in runs],
            ("training time", "s"): [metrics["train_seconds"] for metrics, _, _ in runs],
        }
        if None not in (mirrored := [accuracy for _, _, accuracy in runs]):
            figures["test accuracy with mirrored views", "%"] = mirrored
        for (figure, unit), values in figures.items():
            record("accuracy", name, figure, unit, values, environment["precision"])


def mirrored_accuracy(folder, data_dir):
    """Returns the test accuracy of pictures together with their mirror images, in %, if the recipe mirrors."""
    from lightcnn.inference import Predictor
    from lightcnn.metrics import accuracy
    from lightcnn.runs import Run, load_data

    run = Run.open(folder)
    if not run.recipe.flip:
        return None
    predictor, test = Predictor.load(folder), load_data(run.recipe, data_dir, skip_bad_files=False).split("test")
    both = [
        predictor.predict_arrays(pictures) * predictor.predict_arrays(pictures[:, :, ::-1])
        for pictures in (test.take(slice(start, start + 256)) for start in range(0, len(test), 256))
    ]
    return 100 * accuracy(np.concatenate(both), test.labels)


if __name__ == "__main__":
    main()
