"""Seconds of an epoch of a recipe: batches fed as `lightcnn.training` does, as Keras does, or one repeated.

    python benchmarks/feeding.py --recipe mnist
    python benchmarks/feeding.py --recipe cifar10 --data-dir FOLDER

With one batch, made once and repeated, nothing is decoded, augmented or copied: what our feeding takes longer than that
is its share of the time. Each way runs in a process of its own; they alternate. The first epoch, which builds the
graph, is left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile

from record import record

WAYS = ("ours", "keras", "repeated")
EPOCHS = 4


def repeated(batches):
    import tensorflow as tf

    batch = tf.data.Dataset.from_tensors(batches[0])
    return batch.repeat(len(batches)).apply(tf.data.experimental.assert_cardinality(len(batches)))


def measure(way, name, data_dir):
    from lightcnn.recipes import get_recipe
    from lightcnn.training import fitting, train

    if way != "ours":
        fitting._feed = {"keras": lambda batches: batches, "repeated": repeated}[way]
    with tempfile.TemporaryDirectory() as folder:
        run = train(get_recipe(name, epochs=EPOCHS), f"{folder}/run", data_dir, validation_only=True, quiet=True)
        print(json.dumps([row["seconds"] for row in run.history][1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=["mnist", "cifar10"], default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="measure one way and print its seconds")
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.recipe, arguments.data_dir)
        return
    seconds = {way: [] for way in WAYS}
    for _ in range(arguments.repeats):
        for way, values in seconds.items():
            command = [sys.executable, __file__, "--way", way, "--recipe", arguments.recipe]
            command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
            values += json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    for way, values in seconds.items():
        record("feeding", f"{arguments.recipe}, batches fed by {way}", "time of an epoch", "s", values)
    shares = [100 * (1 - least / ours) for ours, least in zip(seconds["ours"], seconds["repeated"], strict=True)]
    record("feeding", arguments.recipe, "share of the time that feeding takes", "%", shares)


if __name__ == "__main__":
    main()
