"""What training costs as the work grows: 1, 4 and 16 times the pictures, width 1, 2 and 4, one thread and two.

    python benchmarks/scaling.py --repeats 2

Each training is a process of its own that trains the article's LCNN for two epochs (the first compiles, the second is
timed) on random pictures in an `.npz` file, 28 x 28 x 1, in batches of 256; they alternate. An epoch's time is all of
it: augmentation, validation on 256 pictures, and half a second or so for the checkpoint, which weighs more in the short
epoch of 15,000 pictures. The peak of memory is that of the whole command, whose test is on 256 pictures. One thread
means that the process may use one core only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from record import record

from lightcnn.runs import Run

# pictures, width, threads
CASES = (
    (15_000, 1, 2),
    (60_000, 1, 2),
    (240_000, 1, 2),
    (60_000, 2, 2),
    (60_000, 4, 2),
    (60_000, 1, 1),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    speeds, peaks = ({case: [] for case in CASES} for _ in range(2))
    precision = ""
    with tempfile.TemporaryDirectory() as temporary:
        files = {count: Path(temporary) / f"{count}.npz" for count, *_ in CASES}
        generator = np.random.default_rng(0)
        for count, path in files.items():
            np.savez(
                path,
                x_train=generator.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
                y_train=generator.integers(0, 10, count),
                x_test=generator.integers(0, 256, (256, 28, 28, 1), dtype=np.uint8),
                y_test=generator.integers(0, 10, 256),
            )
        cores = sorted(os.sched_getaffinity(0))
        for repeat in range(arguments.repeats):
            for case in CASES:
                count, width, threads = case
                run = Path(temporary) / f"run-{repeat}-{count}-{width}-{threads}"
                command = [sys.executable, "-m", "lightcnn", "train", "arrays", "--data-dir", str(files[count])]
                command += ["--run-dir", str(run), "--validation-only", "--quiet"]
                settings = {"epochs": 2, "batch_size": 256, "width": width, "validation_fraction": 256 / count}
                command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
                process = subprocess.Popen(
                    command, preexec_fn=lambda threads=threads: os.sched_setaffinity(0, cores[:threads])
                )
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    raise SystemExit(f"{command} failed")
                precision = json.loads((run / "recipe.json").read_text())["precision"]
                seconds = Run.open(run).history[-1]["seconds"]
                speeds[case].append((count - 256) / seconds)
                peaks[case].append(usage.ru_maxrss / 1024)
                print(case, speeds[case][-1], peaks[case][-1], file=sys.stderr, flush=True)
    for case in CASES:
        name = "lcnn 28x28x1, {:,} pictures, width {}, {} threads".format(*case)
        record("scaling", name, "speed", "images/s", speeds[case], precision, threads=case[2])
        record("scaling", name, "peak memory", "MiB", peaks[case], precision, threads=case[2])


if __name__ == "__main__":
    main()
