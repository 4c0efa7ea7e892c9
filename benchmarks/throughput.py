"""Training speed of the article's LCNN: the article's own code, ours, each of its parts undone, and PyTorch.

    python benchmarks/throughput.py

Each way runs in a process of its own; they alternate, `--repeats` times. One process trains on 100 batches of random
pictures after 4 to warm up, and reports the best of 3 passes in images per second. Keras' ways are `fit` on arrays,
with all that it does around a step; PyTorch (it needs torch) is a loop over batches that are ready, channels-last, in
float32 or with bfloat16 autocast, with one convolution for both halves of MFM or two; the ratio is to the faster.
"article" is always float32, as its code is, and runs once beside each precision. "recipe" has the recipes' Muon,
pictures of 8 bits that the network scales, and determinism; the others have AdamW (the article Adam).
"""

import argparse
import json
import os
import subprocess
import sys
import time

from record import backend_of, record, through

TORCH = ("torch", "torch two convolutions")
WAYS = ("article", *TORCH, "ours", "recipe", "one convolution", "keras batch norm", "maximum", "where", "XLA")
BATCHES = 100


def undo(way):
    """Replaces a part of this package by what one would write without it."""
    import keras
    from keras import ops

    from lightcnn.layers import MFMConv2D, mfm
    from lightcnn.models import image

    if way == "one convolution":
        MFMConv2D.call = lambda self, x: mfm._maximum(*ops.split(self.convolution(x), 2, axis=-1))
    elif way == "keras batch norm":
        image.BatchNormalization = keras.layers.BatchNormalization
    elif way == "maximum":
        mfm._COMPETITIONS[2] = (1, ops.maximum)
    elif way == "where":
        mfm._COMPETITIONS[2] = (1, lambda first, second: ops.where(first >= second, first, second))


def measure(way, precision, batch_size, side, channels):
    if way in TORCH:
        return measure_torch(way, precision, batch_size, side, channels)
    import keras
    import numpy as np
    from article_lcnn import article_lcnn

    from lightcnn.backends import set_seed
    from lightcnn.models import lcnn
    from lightcnn.optimizers import Muon

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32" if way == "article" else precision)
    count, shape = BATCHES * batch_size, (side, side, channels)
    generator = np.random.default_rng(0)
    pictures = generator.random((count, *shape), np.float32)
    if way == "article":
        model = article_lcnn(shape)
        model.compile("adam", "categorical_crossentropy")
    else:
        undo(way)
        optimizer, scale = "adamw", 1.0
        if way == "recipe":
            set_seed(0)
            optimizer, scale, pictures = Muon(0.02), 1 / 255, (255 * pictures).astype(np.uint8)
        model = lcnn(shape, 10, scale=scale, classifier_activation=None)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=way == "XLA")
    labels = np.eye(10, dtype=np.float32)[generator.integers(0, 10, count)]
    model.fit(pictures[: 4 * batch_size], labels[: 4 * batch_size], batch_size=batch_size, verbose=0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.fit(pictures, labels, batch_size=batch_size, verbose=0)
        seconds.append(time.perf_counter() - start)
    return count / min(seconds)


def measure_torch(way, precision, batch_size, side, channels):
    import torch
    from torch_networks import split_convolutions, torch_twin

    from lightcnn.models import lcnn

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = torch_twin(lcnn((side, side, channels), 10, classifier_activation=None))
    model = (split_convolutions(model) if way == TORCH[1] else model).train()
    optimizer, loss = torch.optim.AdamW(model.parameters(), fused=True), torch.nn.CrossEntropyLoss()
    pictures = torch.rand(BATCHES, batch_size, side, side, channels)
    labels = torch.randint(0, 10, (BATCHES, batch_size))

    def train(count):
        for x, y in zip(pictures[:count], labels[:count], strict=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
                logits = model(x)
            loss(logits.float(), y).backward()
            optimizer.step()

    train(4)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        train(BATCHES)
        seconds.append(time.perf_counter() - start)
    return BATCHES * batch_size / min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--shapes", default="28x28x1,32x32x3", help="of the pictures")
    parser.add_argument("--precisions", default="mixed_bfloat16,float32")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(*json.loads(arguments.one)))
        return
    shapes = [[int(size) for size in shape.split("x")] for shape in arguments.shapes.split(",")]
    ways, precisions = arguments.ways.split(","), arguments.precisions.split(",")
    cases = [
        (way, precision, arguments.batch_size, side, channels)
        for side, _, channels in shapes
        for precision in precisions
        for way in ways
    ]
    speeds = {case: [] for case in cases}
    try:
        for _ in range(arguments.repeats):
            for case, values in speeds.items():
                command = [sys.executable, __file__, "--one", json.dumps(case)]
                environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend_of(case[0])}
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
                values.append(float(output.split()[-1]))
                print(case, values[-1], file=sys.stderr, flush=True)
    finally:  # an hour of work is not lost with its last process
        report(through(speeds))


def report(speeds):
    for (way, beside, batch_size, side, channels), values in speeds.items():
        precision = "float32" if way == "article" else beside
        network = f"lcnn {side}x{side}x{channels} batch {batch_size}"
        name = f"{network}, {way.replace('torch', 'PyTorch')}" + f" beside {beside}" * (way == "article")
        backend = backend_of(way)
        record("training throughput", name, "speed", "images/s", values, precision, backend=backend)
        for other, theirs in (("the article's", ("article",)), ("PyTorch's", TORCH)):
            peers = [
                speeds[case] for their in theirs if (case := (their, beside, batch_size, side, channels)) in speeds
            ]
            if peers and way in ("ours", "recipe"):
                ratios = [ours / max(others) for ours, *others in zip(values, *peers, strict=True)]
                record("training throughput", name, f"times {other}", "", ratios, precision, backend=backend)


if __name__ == "__main__":
    main()
