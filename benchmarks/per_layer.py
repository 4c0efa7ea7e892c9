"""Where a training step of the article's LCNN goes: each layer forward and backward, beside the matrix-multiply peak.

    python benchmarks/per_layer.py

Each layer runs alone, compiled, on a batch of the shape that it has in the network. "Backward" is the time of forward
and backward together less that of forward, which alternate; a layer's share of the peak is what its convolution or
matrix product needs (forward once, backward twice, but for the first layer, whose input needs no gradient) over what
the best of the repeated products of 4096 x 4096 matrices, in the layer's precision, would give in that time. The whole
step (with Muon, as recipes train) stands below, and the sum of the layers.
"""

import argparse
import statistics
import time

from record import record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16"], default="mixed_bfloat16")
    arguments = parser.parse_args()
    for side, channels in ((28, 1), (32, 3)):
        profile((side, side, channels), arguments)


def profile(shape, arguments):
    import keras
    import numpy as np
    import tensorflow as tf

    from lightcnn.models import lcnn
    from lightcnn.optimizers import Muon

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(arguments.precision)
    policy = "bfloat16" if arguments.precision == "mixed_bfloat16" else "float32"
    size = arguments.batch_size
    model = lcnn(shape, 10, classifier_activation=None, scale=1 / 255)
    name = f"lcnn {'x'.join(map(str, shape))}, batch {size}"
    peaks = {}
    for precision in dict.fromkeys((policy, "float32")):
        speeds = matrix_peak(tf, precision, arguments.repeats)
        peaks[precision] = max(speeds)
        record("per_layer", "matrix product, 4096 x 4096", "speed", "GFLOP/s", speeds, precision)
        record("per_layer", "matrix product, 4096 x 4096", "best speed", "GFLOP/s", [peaks[precision]], precision)
    generator = np.random.default_rng(0)
    total = 0.0
    for layer in model.layers[1:]:
        precision = layer.compute_dtype
        x = tf.cast(generator.standard_normal((size, *layer.input.shape[1:]), np.float32), precision)

        @tf.function
        def forward(x, layer=layer):
            return layer(x, training=True)

        @tf.function
        def both(x, upstream, layer=layer):
            first = layer.name in ("preprocessing", "conv_1")
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            sources = layer.trainable_variables + ([] if first else [x])
            # With y among the results, nothing of forward is left out because no gradient needs it.
            return [y, *tape.gradient(y, sources, upstream)] if sources else [y]

        upstream = tf.ones_like(forward(x))
        ahead, together = clock(
            arguments.repeats,
            lambda x=x, forward=forward: forward(x),
            lambda x=x, both=both, upstream=upstream: both(x, upstream),
        )
        behind = [b - a for a, b in zip(ahead, together, strict=True)]
        total += statistics.fmean(together)
        for what, values in (("forward", ahead), ("backward", behind)):
            record("per_layer", f"{name}, {layer.name}", what, "ms", [1e3 * value for value in values], precision)
        work = operations(layer, size)
        if work:
            passes = 2 if layer.name == "conv_1" else 3
            share = [100 * passes * work / value / 1e9 / peaks[precision] for value in together]
            record("per_layer", f"{name}, {layer.name}", "share of the peak", "%", share, precision)

    optimizer = Muon(0.02)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        optimizer.apply(tape.gradient(value, model.trainable_variables))

    x = tf.constant(generator.integers(0, 256, (size, *shape)), "float32")
    y = tf.one_hot(generator.integers(0, 10, size), 10)
    (seconds,) = clock(arguments.repeats, lambda: step(x, y))
    work = sum(operations(layer, size) * (2 if layer.name == "conv_1" else 3) for layer in model.layers)
    record("per_layer", f"{name}, whole step", "time", "ms", [1e3 * value for value in seconds], policy)
    record("per_layer", f"{name}, sum of the layers", "time", "ms", [1e3 * total], policy)
    shares = [100 * work / value / 1e9 / peaks[policy] for value in seconds]
    record("per_layer", f"{name}, whole step", "share of the peak", "%", shares, policy)


def operations(layer, size):
    """Returns the floating-point operations of a layer's product on a batch, two for a multiplication with addition."""
    kernels = [weight for weight in layer.weights if weight.path.endswith("kernel")]
    if not kernels:
        return 0
    positions = layer.output.shape[1] * layer.output.shape[2] if len(layer.output.shape) == 4 else 1
    count = 1
    for axis in kernels[0].shape:
        count *= axis
    return 2 * size * positions * count


def matrix_peak(tf, precision, repeats):
    """Returns GFLOP/s of products of two square matrices of 4,096."""
    matrix = tf.cast(tf.random.normal((4096, 4096)), precision)
    product = tf.function(tf.linalg.matmul)
    (all_seconds,) = clock(repeats, lambda: product(matrix, matrix))
    return [2 * 4096**3 / seconds / 1e9 for seconds in all_seconds]


def clock(repeats, *calls):
    """Returns seconds of each call, a mean of at least 0.2 s of them a repetition; the calls alternate.

    TensorFlow's functions return on a CPU when they are done.
    """
    counts = []
    for call in calls:
        for _ in range(3):
            call()
        start = time.perf_counter()
        call()
        counts.append(max(1, round(0.2 / (time.perf_counter() - start))))
    seconds = [[] for _ in calls]
    for _ in range(repeats):
        for call, count, own in zip(calls, counts, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                call()
            own.append((time.perf_counter() - start) / count)
    return seconds


if __name__ == "__main__":
    main()
