"""One row a measurement: to stdout as a JSON line, and to results.csv with the machine and the command."""

import csv
import json
import shlex
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from lightcnn.backends import describe_environment

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = (
    "date", "benchmark", "configuration", "figure", "unit", "mean", "std", "n",
    "processor", "threads", "precision", "versions", "command",
)  # fmt: skip


def _without_folders(arguments):
    """Leaves the folders of this machine out of the command: they mean nothing to others."""
    kept = list(arguments)
    for flag in ("--data-dir", "--keep", "--peers", "--runs"):
        if flag in kept:
            kept[kept.index(flag) + 1] = "FOLDER"
    return kept


def _commit():
    """Returns the commit that is measured, with `.changed` if files were changed since; nothing outside of git."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--abbrev=9", "--exclude=*"]
    described = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(
        ["git", "-C", str(RESULTS.parents[1]), "status", "--porcelain", "--", "src", "benchmarks/*.py"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return described and f"+{described}{'.changed' if changed else ''}"


_COMMIT = _commit()  # files may change while a script runs


def backend_of(way):
    """Returns the Keras backend that a process needs which measures one of several ways, by the way's name."""
    return "torch" if way.startswith("torch") else "tensorflow"


def through(results):
    """Returns the results of each way as far as all are through: a script that is stopped records these."""
    rounds = min(map(len, results.values()))
    return {way: values[:rounds] for way, values in results.items()} if rounds else {}


def record(
    benchmark,
    configuration,
    figure,
    unit,
    values,
    precision="",
    environment=None,
    backend=None,
    threads=None,
    commit=_COMMIT,
):
    """Prints and appends the mean and the sample's standard deviation of `values`, one a seed or repetition.

    `environment` is that of the measured process, None for this one's; `backend` is Keras' there, where only it was
    another; `threads` are what it was left to use; `commit` is empty for what was trained before, at a commit that is
    not known.
    """
    environment = environment or describe_environment()
    versions = {"keras_backend": backend or environment["backend"], **environment["versions"]}
    versions["lightcnn"] += commit
    mean = statistics.fmean(values)
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_without_folders(sys.argv[1:])])
    row = {
        "date": date.today().isoformat(),
        "benchmark": benchmark,
        "configuration": configuration,
        "figure": figure,
        "unit": unit,
        "mean": f"{mean:.0f}" if mean.is_integer() else f"{mean:.6g}",
        "std": f"{statistics.stdev(values):.3g}" if len(values) > 1 else "",
        "n": len(values),
        "processor": environment["processor"],
        "threads": threads or environment["threads"],
        "precision": precision,
        "versions": " ".join(f"{name}={version}" for name, version in versions.items()),
        "command": command,
    }
    print(json.dumps({**row, "values": list(values)}), flush=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
