"""Time of a search in a gallery of a million faces, for one query and for sixteen at once.

    python benchmarks/gallery.py

The gallery is a million float32 embeddings of 256 random numbers: 1 GB, which no processor's cache holds. The five most
alike are asked for. After one search to warm up, `--repeats` searches ask for other queries each; searches for one and
for sixteen alternate. A figure is the time of a search divided by the number of its queries.
"""

import argparse
import time

import numpy as np
from record import record

from lightcnn.metrics import search

FEATURES, FOUND = 256, 5
QUERIES = (1, 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--size", type=int, default=1_000_000, help="of the gallery")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    gallery = generator.standard_normal((arguments.size, FEATURES), np.float32)
    seconds = {count: [] for count in QUERIES}
    for repeat in range(arguments.repeats + 1):
        for count in QUERIES:
            asked = generator.choice(arguments.size, count, replace=False)
            queries = gallery[asked] + generator.standard_normal((count, FEATURES), np.float32) / 4
            start = time.perf_counter()
            rows, _ = search(gallery, queries, k=FOUND)
            taken = time.perf_counter() - start
            assert (rows[:, 0] == asked).all(), "a picture that was changed a little finds itself first"
            if repeat:
                seconds[count].append(taken / count)
    for count, values in seconds.items():
        name = f"{arguments.size:,} x {FEATURES}, {count} quer{'y' if count == 1 else 'ies at once'}, {FOUND} found"
        record("gallery search", name, "time a query", "s", values, "float32")


if __name__ == "__main__":
    main()
