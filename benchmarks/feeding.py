"""Seconds of an epoch of a recipe: batches fed as `lightcnn.training` does, as Keras does, or one repeated.

    python benchmarks/feeding.py mnist
    python benchmarks/feeding.py cifar10 --data-dir FOLDER

With one batch, made once and repeated, nothing is decoded, augmented or copied: what our feeding takes longer than that
is its share of the time. On processors that train as well, that is the work of making batches, not of waiting for them:
how long steps wait is measured in epochs of their own, by TensorFlow's profiler. One network in one process is trained
with each in turn, an epoch each; the first round, which builds the graph, is left out. There is no validation, and
nothing is saved.
"""

import argparse
import tempfile
import time
from pathlib import Path

from record import record

WAIT = "IteratorGetNext"  # the operation of a step that takes the next batch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="of pictures")
    parser.add_argument("--data-dir")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    from lightcnn.backends import set_seed
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import load_data, parse_settings
    from lightcnn.training import fitting, images
    from lightcnn.training.networks import resolve

    recipe = resolve(get_recipe(arguments.recipe, **parse_settings(arguments.set)))
    set_seed(recipe.seed)
    data = load_data(recipe, arguments.data_dir, skip_bad_files=False)
    networks, _ = images.build_networks(recipe, data)
    batches = fitting.Batches(len(data.train), recipe, lambda *chosen: images.training_batch(recipe, data, *chosen))
    model = networks.trained
    model.compile(fitting._optimizer(recipe, len(batches)), networks.loss, metrics=[networks.accuracy])
    ways = {
        "ours": fitting._feed(batches),
        "Keras": batches,
        "one batch repeated": fitting._feed([batches[len(batches) // 2]] * len(batches)),
    }
    seconds = {way: [] for way in ways}
    waiting = {way: [] for way in ("ours", "one batch repeated")}
    for epoch in range(arguments.rounds + 1):
        batches.epoch = epoch
        for way, feed in ways.items():
            start = time.perf_counter()
            model.fit(feed, shuffle=False, verbose=0)
            if epoch:
                seconds[way].append(time.perf_counter() - start)
        for way, values in waiting.items():
            share = share_of_waiting(model, ways[way])
            values += [share] if epoch else []
    name = " ".join([arguments.recipe, *arguments.set])
    for way, values in seconds.items():
        record("feeding", f"{name}, batches fed by {way}", "time of an epoch", "s", values, recipe.precision)
    shares = [
        100 * (1 - least / ours) for ours, least in zip(seconds["ours"], seconds["one batch repeated"], strict=True)
    ]
    record("feeding", name, "share of the time that feeding takes", "%", shares, recipe.precision)
    for way, values in waiting.items():
        figure = "share of the time that steps wait for their batch"
        record("feeding", f"{name}, batches fed by {way}", figure, "%", values, recipe.precision)


def share_of_waiting(model, feed):
    """Trains an epoch under TensorFlow's profiler; returns which share of the time, in %, steps waited for batches."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with tf.profiler.experimental.Profile(folder, options):
            model.fit(feed, shuffle=False, verbose=0)
            seconds = time.perf_counter() - start
        space = xplane_pb2.XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    waits = [
        event.duration_ps * 1e-12
        for plane in space.planes
        for line in plane.lines
        for event in line.events
        if plane.event_metadata[event.metadata_id].name.startswith(WAIT)
    ]
    if len(waits) < len(feed):
        raise SystemExit(f"The profile of {len(feed)} steps has only {len(waits)} operations named {WAIT}.")
    return 100 * sum(waits) / seconds


if __name__ == "__main__":
    main()
