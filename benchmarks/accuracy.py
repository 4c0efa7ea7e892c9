"""Accuracy and time of recipes, each seed in a process of its own, as a user runs it.

    python benchmarks/accuracy.py mnist cifar10 --seeds 1,2,3 --data-dir FOLDER

With several recipes, they alternate: seed 1 of each, then seed 2 of each, so that a noisy machine is noisy for all.
The seconds are those of `metrics.json`, from the first step, which traces the graph, until the last epoch ends.

Runs that `--keep` has in its folder already are not trained again but gone on with or only reported, without their
times and commit: so one process a core can train some seeds, and one that was stopped can go on. A recipe that mirrors
pictures in training is measured with mirrored views besides: the product of what the model gives a picture and its
mirror image, which is the sum of their logits. One that only shifts them is measured with five views, of which four are
moved by a pixel.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record

TIME = "training time", "s"  # recorded of what this process trained


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
        try:
            for seed in arguments.seeds.split(","):
                for recipe, those_before in results.items():
                    run, wall = trained(recipe, seed, folder / f"{recipe}-{seed}", arguments)
                    check_comparable([*(other for other, _ in those_before), run])
                    those_before.append((run, figures_of(run, wall, arguments.data_dir)))
        finally:  # hours of work are not lost with the last seed
            for recipe, those_through in results.items():
                report(recipe, those_through, arguments.set)


def trained(recipe, seed, path, arguments):
    """Returns a run that is finished, and the seconds of the command; None of one that was begun before."""
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import Run, parse_settings
    from lightcnn.training.networks import resolve

    known = (path / "recipe.json").exists()
    command = [sys.executable, "-m", "lightcnn", "train", recipe, "--seed", seed, "--run-dir", str(path)]
    command += [part for setting in arguments.set for part in ("--set", setting)]
    command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    command += ["--resume"] * known
    start = time.perf_counter()
    if not (path / "metrics.json").exists():
        subprocess.run(command, check=True)
    wall = time.perf_counter() - start
    run = Run.open(path)
    expected = resolve(get_recipe(recipe, **{**parse_settings(arguments.set), "seed": int(seed)}))
    if run.recipe != expected or "test" not in run.metrics:
        raise SystemExit(f"{path} is another training than {expected}")
    return run, None if known else wall


def check_comparable(runs):
    from lightcnn.runs import compare

    if len(compare(runs)) > 1:
        raise SystemExit(f"{runs[-1].folder} is a training on other data or another backend than the seeds before")


def report(recipe, results, settings):
    """Records the seeds of a recipe that are through: runs and their figures."""
    if not results:
        return
    first, figures = results[0]
    name = " ".join([recipe, f"on {first.environment['data']['name']}", *settings])
    commit = {} if all(TIME in row for _, row in results) else {"commit": ""}
    for figure, unit in figures:
        if all((figure, unit) in row for _, row in results):
            values = [row[figure, unit] for _, row in results]
            record("accuracy", name, figure, unit, values, first.recipe.precision, first.environment, **commit)


def figures_of(run, wall, data_dir):
    """Returns what is recorded of a run; no times of one that this process did not train alone."""
    metrics = run.metrics
    figures = {
        ("test accuracy", "%"): 100 * metrics["test"]["accuracy"],
        ("test loss", "nats"): metrics["test"]["loss"],
        ("validation accuracy", "%"): 100 * metrics["validation"]["accuracy"],
        ("parameters", ""): metrics["parameters"],
    }
    if run.recipe.flip:
        figures["test accuracy with mirrored views", "%"] = accuracy_of_views(run, data_dir, mirrored)
    elif run.recipe.max_shift:
        figures["test accuracy with five views", "%"] = accuracy_of_views(run, data_dir, shifted)
    if wall is not None:
        figures[TIME] = metrics["train_seconds"]
        figures["time of the whole command", "s"] = wall
    return figures


def mirrored(pictures):
    return pictures, pictures[:, :, ::-1]


def shifted(pictures):
    """Returns pictures in their place and moved by a pixel four ways, black at the edge that is left open."""
    around = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = pictures.shape[1:3]
    corners = ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0))
    return [around[:, top : top + height, left : left + width] for top, left in corners]


def accuracy_of_views(run, data_dir, views):
    """Returns the test accuracy, in %, of the product of what the model gives a picture's views."""
    from lightcnn.inference import Predictor
    from lightcnn.metrics import accuracy
    from lightcnn.runs import load_data

    predictor = Predictor.load(run.folder)
    data = load_data(run.recipe, data_dir, skip_bad_files=False)
    if data.digest != run.environment["data"]["digest"]:
        raise SystemExit(f"{data.source} is not the data that {run.folder} was trained on")
    test = data.split("test")
    products = [
        np.prod([predictor.predict_arrays(view) for view in views(pictures)], axis=0)
        for pictures in (test.take(slice(start, start + 256)) for start in range(0, len(test), 256))
    ]
    return 100 * accuracy(np.concatenate(products), test.labels)


if __name__ == "__main__":
    main()
