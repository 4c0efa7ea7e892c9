"""How long the command line takes to say anything.

python benchmarks/startup.py
"""

import subprocess
import sys
import time

from record import record


def main():
    for arguments in (["--help"], ["info"]):
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "lightcnn", *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        record("start-up", f"lightcnn {' '.join(arguments)}", "time", "s", seconds)


if __name__ == "__main__":
    main()
