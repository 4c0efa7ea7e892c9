"""What bootstrapping gains on MNIST with wrong labels, and which of them it finds.

    python benchmarks/bootstrapping.py --data-dir FOLDER --seeds 1,2,3

A seed chooses some training pictures, and gives a share of them (of the held-out ones too) another label, each of the
nine equally often; the test labels stay clean. Beside it, the same recipe is trained on the same pictures with their
right labels. One setting was tried, and looked at with --validation-only, by the accuracy on wrong labels.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from record import record

from lightcnn.backends import has_fast_bfloat16

SETTINGS = ("epochs=12", "label_smoothing=0", "monitor=loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with mnist.npz")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--wrong", type=float, default=0.3, help="share of wrong labels")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="besides the script's settings")
    parser.add_argument("--validation-only", action="store_true", help="print validation accuracies, record nothing")
    parser.add_argument("--keep", type=Path, help="keep the run folders here, and go on with those that are there")
    arguments = parser.parse_args()
    with np.load(arguments.data_dir / "mnist.npz") as arrays:
        mnist = dict(arrays)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in map(int, arguments.seeds.split(",")):
            folder = (arguments.keep or Path(temporary)) / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            right = write_arrays(folder, mnist, seed, arguments)
            for key, value in measure(folder, right, seed, arguments).items():
                results.setdefault(key, []).append(value)
                print(f"seed {seed}: {key}: {value:.2f}", file=sys.stderr, flush=True)
    if arguments.validation_only:
        return
    name = f"MNIST, {arguments.pictures:,} pictures, {arguments.wrong:.0%} of labels wrong"
    precision = "bfloat16" if has_fast_bfloat16() else "float32"
    settings = " ".join([f"arrays threshold={arguments.threshold:g}", *SETTINGS, *arguments.set])
    for (system, figure), values in results.items():
        record("bootstrapping", f"{name}: {system}, {settings}", figure, "%", values, precision)


def write_arrays(folder, mnist, seed, arguments):
    """Writes `noisy.npz` and `clean.npz`; returns the right labels."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(mnist["x_train"]), arguments.pictures, replace=False)
    right = mnist["y_train"][chosen].astype(np.int64)
    wrong = generator.permutation(len(right)) < arguments.wrong * len(right)
    others = (right + generator.integers(1, 10, len(right))) % 10
    test = {key: mnist[key] for key in ("x_test", "y_test")}
    for name, labels in (("noisy", np.where(wrong, others, right)), ("clean", right)):
        np.savez(folder / f"{name}.npz", x_train=mnist["x_train"][chosen], y_train=labels, **test)
    return right


def measure(folder, right, seed, arguments):
    """Returns per cent by system and figure."""
    common = ["--seed", str(seed), "--quiet", *(part for one in (*SETTINGS, *arguments.set) for part in ("--set", one))]
    common += ["--validation-only"] if arguments.validation_only else []
    rounds = ["--rounds", str(arguments.rounds), "--threshold", str(arguments.threshold)]
    lightcnn(["bootstrap", "arrays", *rounds], folder / "noisy", common)
    split = "validation" if arguments.validation_only else "test"
    figures = {}
    for row in json.loads((folder / "noisy" / "bootstrap.json").read_text())["rounds"]:
        system = f"bootstrapped, round {row['round']}" if row["round"] else "trained on the wrong labels"
        figures[system, f"{split} accuracy"] = 100 * row[f"{split}_accuracy"]
        if row["round"]:
            found = decided(folder / "noisy" / f"decisions-{row['round']}.csv", right)
            figures |= {(system, figure): value for figure, value in found.items()}
    if not arguments.validation_only:
        lightcnn(["train", "arrays"], folder / "clean", common)
        metrics = json.loads((folder / "clean" / "metrics.json").read_text())
        figures["trained on the right labels", "test accuracy"] = 100 * metrics["test"]["accuracy"]
    return figures


def lightcnn(command, run, options):
    """Runs a command in a process of its own, as a user does, on the file beside its folder."""
    command = [sys.executable, "-m", "lightcnn", *command, "--data-dir", f"{run}.npz", "--run-dir", str(run), *options]
    subprocess.run(command + ["--resume"] * (run / "recipe.json").exists(), check=True)


def decided(path, right):
    """Returns what a table of decisions found, per cent."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = right[[int(row["file"]) for row in rows]]
    label, predicted = (np.array([int(row[key]) for row in rows]) for key in ("label", "predicted"))
    decision = np.array([row["decision"] for row in rows])
    wrong, touched, relabelled = label != truth, decision != "keep", decision == "relabel"
    after = np.where(relabelled, predicted, label) != truth
    return {
        "wrong labels relabelled or dropped": 100 * np.mean(touched[wrong]),
        "wrong labels relabelled": 100 * np.mean(relabelled[wrong]),
        "relabelled or dropped that were wrong": 100 * np.mean(wrong[touched]),
        "right labels relabelled or dropped": 100 * np.mean(touched[~wrong]),
        "relabelled that became right": 100 * np.mean(predicted[relabelled] == truth[relabelled]),
        "wrong labels left": 100 * np.mean(after[decision != "drop"]),
    }


if __name__ == "__main__":
    main()
