"""Training speed of the article's LCNN: the article's own code, ours, each of its parts undone, and PyTorch.

    python benchmarks/throughput.py

Each way runs in a process of its own; they alternate, `--repeats` times. One process trains on 40 batches of random
pictures after 4 to warm up, and reports the best of 3 passes in images per second. PyTorch has channels-last tensors,
in float32 or with bfloat16 autocast (it needs torch). "article" is always float32, as its code is.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from record import record

WAYS = ("article", "ours", "one convolution", "keras batch norm", "maximum", "where", "torch")


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


def measure(way, precision, deterministic, batch_size, side, channels):
    if way == "torch":
        return measure_torch(precision, batch_size, side, channels)
    import keras
    import numpy as np
    from article_lcnn import article_lcnn

    from lightcnn.models import lcnn

    keras.utils.set_random_seed(0)
    if deterministic:
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(precision)
    if way == "article":
        model = article_lcnn((side, side, channels))
        model.compile("adam", "categorical_crossentropy")
    else:
        undo(way)
        model = lcnn((side, side, channels), 10, classifier_activation=None)
        model.compile("adamw", keras.losses.CategoricalCrossentropy(from_logits=True))
    count = 40 * batch_size
    generator = np.random.default_rng(0)
    pictures = generator.random((count, side, side, channels), np.float32)
    labels = np.eye(10, dtype=np.float32)[generator.integers(0, 10, count)]
    model.fit(pictures[: 4 * batch_size], labels[: 4 * batch_size], batch_size=batch_size, verbose=0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.fit(pictures, labels, batch_size=batch_size, verbose=0)
        seconds.append(time.perf_counter() - start)
    return count / min(seconds)


def measure_torch(precision, batch_size, side, channels):
    import torch
    from torch_networks import torch_twin

    from lightcnn.models import lcnn

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = torch_twin(lcnn((side, side, channels), 10, classifier_activation=None)).train()
    optimizer, loss = torch.optim.AdamW(model.parameters()), torch.nn.CrossEntropyLoss()
    pictures = torch.rand(40, batch_size, side, side, channels)
    labels = torch.randint(0, 10, (40, batch_size))

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
        train(40)
        seconds.append(time.perf_counter() - start)
    return 40 * batch_size / min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--shapes", default="28x28x1,32x32x3", help="of the pictures")
    parser.add_argument("--precisions", default="float32,mixed_bfloat16")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(*json.loads(arguments.one)))
        return
    cases = [
        (way, precision, deterministic, arguments.batch_size, side, channels)
        for side, _, channels in ([int(size) for size in shape.split("x")] for shape in arguments.shapes.split(","))
        for precision in arguments.precisions.split(",")
        for way, deterministic in (*((way, False) for way in WAYS), ("ours", True))
        if way != "article" or precision == "float32"
    ]
    speeds = {case: [] for case in cases}
    for _ in range(arguments.repeats):
        for case in cases:
            command = [sys.executable, __file__, "--one", json.dumps(case)]
            backend = "torch" if case[0] == "torch" else "tensorflow"
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            speeds[case].append(float(output.split()[-1]))
    for (way, precision, deterministic, batch_size, side, channels), values in speeds.items():
        what = "PyTorch" if way == "torch" else way
        name = f"lcnn {side}x{side}x{channels} batch {batch_size}, {what}{', deterministic' * deterministic}"
        record("training throughput", name, "speed", "images/s", values, precision)


if __name__ == "__main__":
    main()
