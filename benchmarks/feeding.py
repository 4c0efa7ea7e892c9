"""Seconds of an epoch of the mnist recipe: batches fed as `lightcnn.training` does, and as Keras feeds a PyDataset.

    python benchmarks/feeding.py --data-dir FOLDER

Each way runs in a process of its own; they alternate. The first epoch, which builds the graph, is left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile

from record import record

WAYS = ("ours", "keras")
EPOCHS = 4


def measure(way, data_dir):
    from lightcnn.recipes import get_recipe
    from lightcnn.training import fitting, train

    if way == "keras":
        fitting._feed = lambda batches: batches
    with tempfile.TemporaryDirectory() as folder:
        run = train(get_recipe("mnist", epochs=EPOCHS), f"{folder}/run", data_dir, validation_only=True, quiet=True)
        print(json.dumps([row["seconds"] for row in run.history][1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="measure one way and print its seconds")
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.data_dir)
        return
    seconds = {way: [] for way in WAYS}
    for _ in range(arguments.repeats):
        for way, values in seconds.items():
            command = [sys.executable, __file__, "--way", way]
            command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
            values += json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    for way, values in seconds.items():
        record("feeding", f"mnist, batches fed by {way}", "time of an epoch", "s", values)


if __name__ == "__main__":
    main()
