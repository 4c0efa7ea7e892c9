"""How long the article's code and a recipe of this package train, and to which test accuracy; they alternate.

    python benchmarks/time_to_accuracy.py mnist --set epochs=2
    python benchmarks/time_to_accuracy.py cifar10 --set epochs=8 --data-dir FOLDER_WITH_cifar10_jpeg.npz

Each training has a process of its own. The clock starts, after the imports, at the first touch of the training data,
and stops after the last evaluation; building and tracing the graph are inside. The article's time is the whole of its
recipe until it stops. Ours is `lightcnn.train` until `metrics.json` is written: it saves its best model after every
epoch, and evaluates it on validation and test; the report and the export, which follow, are in "time of the whole
training". Both look at the test split once, at the end: choose settings with `lightcnn train --validation-only`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record, through

# epochs, batch size and patience of the article
ARTICLE = {"mnist": (10, 256, 3), "cifar10": (100, 64, 5)}
UNITS = {"test accuracy": "%", "time": "s", "time of the whole training": "s", "epochs": "epochs"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(ARTICLE))
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--systems", default="article,ours")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for our recipe")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        system, seed = arguments.one.split(",")
        print(json.dumps(SYSTEMS[system](arguments.dataset, arguments.data_dir, int(seed), arguments.set)))
        return
    results = {system: [] for system in arguments.systems.split(",")}
    try:
        for seed in arguments.seeds.split(","):
            for system, values in results.items():
                command = [sys.executable, *sys.argv, "--one", f"{system},{seed}"]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                values.append(json.loads(output.splitlines()[-1]))
                print(f"{system}, seed {seed}: {values[-1]}", file=sys.stderr, flush=True)
    finally:  # hours of work are not lost with the last seed
        report(arguments.dataset, through(results), arguments.set)


def report(dataset, results, settings):
    for system, values in results.items():
        name = " ".join([f"{dataset}: {system}", *(settings if system == "ours" else ())])
        for figure, unit in UNITS.items():
            numbers = [one[figure] for one in values]
            record("time_to_accuracy", name, figure, unit, numbers, values[0]["precision"])
    if results.keys() >= {"article", "ours"}:
        pairs = zip(results["article"], results["ours"], strict=True)
        ratios = [theirs["time"] / ours["time"] for theirs, ours in pairs]
        record(
            "time_to_accuracy",
            f"{dataset}: article / ours",
            "ratio of the times",
            "",
            ratios,
            results["ours"][0]["precision"],
        )


def article(dataset, folder, seed, _):
    """The article's network and recipe as its text says them, on plain Keras."""
    import keras
    from article_lcnn import article_lcnn

    from lightcnn.datasets import load_images

    keras.utils.set_random_seed(seed)
    epochs, batch_size, patience = ARTICLE[dataset]
    start = time.perf_counter()
    data = load_images(dataset, folder, validation_fraction=0)
    pictures = [split.images.astype("float32") / 255 for split in (data.train, data.test)]
    labels = [keras.utils.to_categorical(split.labels, 10) for split in (data.train, data.test)]
    model = article_lcnn(pictures[0].shape[1:])
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        pictures[0],
        labels[0],
        batch_size=batch_size,
        epochs=epochs,
        validation_split=0.2,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=patience)],
        verbose=0,
    )
    _, accuracy = model.evaluate(pictures[1], labels[1], batch_size=batch_size, verbose=0)
    seconds = time.perf_counter() - start
    figures = (100 * accuracy, seconds, seconds, len(history.epoch))
    return {**dict(zip(UNITS, figures, strict=True)), "precision": "float32"}


def ours(dataset, folder, seed, settings):
    """The recipe with some settings, as `lightcnn train` runs it."""
    import keras  # noqa: F401  imports are outside the clock, as for the article

    from lightcnn.recipes import get_recipe
    from lightcnn.runs import parse_settings
    from lightcnn.training import train

    with tempfile.TemporaryDirectory() as temporary:
        recipe = get_recipe(dataset, **parse_settings(settings), seed=seed)
        start = time.time()
        run = train(recipe, Path(temporary) / "run", folder, quiet=True)
        whole = time.time() - start
        measured = (run.folder / "metrics.json").stat().st_mtime - start
        figures = (100 * run.metrics["test"]["accuracy"], measured, whole, len(run.history))
        return {**dict(zip(UNITS, figures, strict=True)), "precision": run.recipe.precision}


SYSTEMS = {"article": article, "ours": ours}

if __name__ == "__main__":
    main()
