"""Peak memory of a training when a corpus has ten times the files: the same files, listed again under other names.

    python benchmarks/memory.py asvspoof2019_la --data-dir FOLDER

Each size trains one epoch in a process of its own; they alternate. FOLDER holds `LA/` or `PA/` of ASVspoof 2019.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from record import record

SIZES = (1, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["asvspoof2019_la", "asvspoof2019_pa"])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    track = arguments.recipe[-2:].upper()
    peaks = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory() as temporary:
        for size in SIZES:
            multiply(arguments.data_dir / track, Path(temporary) / str(size) / track, track, size)
        for repeat in range(arguments.repeats):
            for size in SIZES:
                run = Path(temporary) / f"run-{size}-{repeat}"
                command = [sys.executable, "-m", "lightcnn", "train", arguments.recipe, "--run-dir", str(run)]
                command += ["--data-dir", f"{temporary}/{size}", "--set", "epochs=1", "--validation-only", "--quiet"]
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    raise SystemExit(f"{command} failed")
                peaks[size].append(usage.ru_maxrss / 1024)
    for size, values in peaks.items():
        record("memory", f"{arguments.recipe}, {size} x the files", "peak of a training", "MiB", values)


def multiply(source, target, track, size):
    """Lists every file `size` times, under names of its own."""
    protocols = f"ASVspoof2019_{track}_cm_protocols"
    (target / protocols).mkdir(parents=True)
    for split, name in (("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")):
        folder = Path(f"ASVspoof2019_{track}_{split}", "flac")
        (target / folder).mkdir(parents=True)
        protocol = Path(protocols, f"ASVspoof2019.{track}.cm.{name}.txt")
        lines = []
        for line in (source / protocol).read_text().splitlines():
            speaker, utterance, *rest = line.split()
            for copy in range(size):
                (target / folder / f"{utterance}_{copy}.flac").symlink_to(
                    (source / folder / f"{utterance}.flac").absolute()
                )
                lines.append(" ".join([speaker, f"{utterance}_{copy}", *rest]))
        (target / protocol).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
