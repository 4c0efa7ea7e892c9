"""What each trick of fast CIFAR-10 training gives a Light CNN: alone on top of a baseline, and together.

    python benchmarks/ablations.py cifar10 --epochs 20 --seeds 1,2,3 --data-dir FOLDER

Accuracy on validation pictures (a tenth of the training pictures, the same for all) after the
last epoch, each seed of every trick in turn. Test pictures are never read. `--only NAME,NAME` trains these alone, and
`--set KEY=VALUE` changes the baseline itself.
"""

import argparse
import ast
import os
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

SHARE = 0.1


@dataclass(frozen=True)
class Settings:
    epochs: int = 20
    batch_size: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 4e-3
    warmup: float = 0.3
    weight_decay: float = 0.02
    momentum: float = 0.9
    dropout: float = 0.2
    label_smoothing: float = 0.1
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-3
    norm_bias_rate: float = 1.0
    initial: str = "he_normal"
    logits_scale: float = 1.0
    flip: str = "random"
    shift: int = 3
    cutout: int = 0
    cutmix: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    average: float = 0.0
    lookahead: bool = False
    width: float = 1.0


TRICKS = {
    "baseline": {},
    "Nesterov SGD": {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4},
    "Muon": {"optimizer": "muon", "learning_rate": 0.02, "weight_decay": 0.02},
    "identity initialisation": {"initial": "identity"},
    "batch norm: momentum 0.6, epsilon 1e-12": {"norm_momentum": 0.6, "norm_epsilon": 1e-12},
    "batch norm's bias learns 64 times as fast": {"norm_bias_rate": 64.0},
    "logits / 9": {"logits_scale": 1 / 9},
    "no label smoothing": {"label_smoothing": 0.0},
    "label smoothing 0.2": {"label_smoothing": 0.2},
    "peak at 23 % of the steps": {"warmup": 0.23},
    "lookahead every 5 steps": {"lookahead": True},
    "average of weights, 0.99": {"average": 0.99},
    "alternating mirror images": {"flip": "alternating"},
    "shifts of 2 pixels": {"shift": 2},
    "shifts of 4 pixels, cutout of 12": {"shift": 4, "cutout": 12},
    "cutout of 8": {"cutout": 8},
    "CutMix in half of the batches": {"cutmix": 0.5},
    "no dropout": {"dropout": 0.0},
    "batches of 128": {"batch_size": 128, "learning_rate": 3e-3},
    "batches of 512": {"batch_size": 512, "learning_rate": 6e-3},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["mnist", "cifar10"])
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", help="names of tricks, comma between them; + joins several into one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    from record import record

    changes = {"epochs": arguments.epochs, "flip": "random" if arguments.dataset == "cifar10" else ""}
    baseline = replace(Settings(), **changes, **dict(_setting(one) for one in arguments.set))
    names = arguments.only.split(",") if arguments.only else list(TRICKS)
    results = {name: [] for name in names}
    data = load(arguments.dataset, arguments.data_dir)
    for seed in map(int, arguments.seeds.split(",")):
        for name, values in results.items():
            together = {key: value for one in name.split("+") for key, value in TRICKS[one].items()}
            figures = train(data, replace(baseline, **together), seed)
            values.append(figures)
            print(f"{name}, seed {seed}: {figures}", file=sys.stderr, flush=True)
    for name, values in results.items():
        configuration = " ".join([f"{arguments.dataset}: {name}, {arguments.epochs} epochs", *arguments.set])
        for figure, unit in (("validation accuracy", "%"), ("with mirror images", "%"), ("training time", "s")):
            record("ablations", configuration, figure, unit, [one[figure] for one in values], "bfloat16")


def _setting(text):
    key, _, value = text.partition("=")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def load(dataset, folder):
    """Returns training and validation pictures and labels."""
    from lightcnn.datasets import load_images

    split = load_images(dataset, folder, validation_fraction=0).train
    order = np.random.default_rng(0).permutation(len(split))
    first = round(len(order) * (1 - SHARE))
    return [(split.images[rows], split.labels[rows]) for rows in (order[:first], order[first:])]


def train(data, settings, seed):
    """Trains one network and returns its figures."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    (pictures, labels), (held_out, held_out_labels) = data
    start = time.perf_counter()
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(pictures, settings)
    count = len(pictures)
    steps = -(-count // settings.batch_size)
    optimizer = make_optimizer(settings, steps)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"])
    dataset = tf.data.Dataset.from_generator(
        lambda: batches(pictures, labels, settings, seed, epoch[0]),
        output_signature=(
            tf.TensorSpec((None, *pictures.shape[1:]), "float32"),
            tf.TensorSpec((None, int(labels.max()) + 1), "float32"),
        ),
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2).with_options(options)
    epoch = [0]
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=lambda number, logs: epoch.__setitem__(0, number))]
    if settings.lookahead:
        callbacks.append(lookahead_callback(steps * settings.epochs))
    history = model.fit(dataset, epochs=settings.epochs, callbacks=callbacks, shuffle=False, verbose=0)
    if settings.average:
        optimizer.finalize_variable_values(model.trainable_variables)
    logits = scores(model, held_out)
    mirrored = logits + scores(model, held_out[:, :, ::-1])
    seconds = time.perf_counter() - start
    return {
        "validation accuracy": 100 * float(np.mean(logits.argmax(1) == held_out_labels)),
        "with mirror images": 100 * float(np.mean(mirrored.argmax(1) == held_out_labels)),
        "training accuracy": round(100 * history.history["accuracy"][-1], 2),
        "training time": round(seconds, 1),
    }


def scores(model, pictures):
    import keras

    parts = [model(pictures[start : start + 256].astype(np.float32)) for start in range(0, len(pictures), 256)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def build(pictures, settings):
    import keras

    from lightcnn.models import lcnn

    mean, deviation = pictures.mean((0, 1, 2)), pictures.std((0, 1, 2))
    model = lcnn(
        pictures.shape[1:],
        10,
        width=settings.width,
        dropout=settings.dropout,
        batch_norm_momentum=settings.norm_momentum,
        kernel_initializer="he_normal" if settings.initial == "identity" else settings.initial,
        classifier_activation=None,
        scale=(1 / deviation).tolist(),
        offset=(-mean / deviation).tolist(),
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = settings.norm_epsilon
        if settings.initial == "identity" and layer.name.startswith("conv_"):
            kernel = layer.convolution.get_weights()[0]
            height, width, channels, filters = kernel.shape
            # The first of MFM's two halves passes the channels on, the second stays random.
            kept = min(channels, filters // 2)
            kernel[:, :, :, :kept] = 0
            kernel[height // 2, width // 2, range(kept), range(kept)] = 1
            layer.convolution.set_weights([kernel, *layer.convolution.get_weights()[1:]])
    if settings.logits_scale != 1:
        scaled = keras.layers.Rescaling(settings.logits_scale, dtype="float32", name="scaled")(model.output)
        model = keras.Model(model.input, scaled)
    return model


def make_optimizer(settings, steps):
    import keras

    from lightcnn.optimizers import CoupledSGD, Muon
    from lightcnn.schedules import OneCycle

    rate = OneCycle(settings.learning_rate, steps * settings.epochs, warmup_fraction=settings.warmup)
    average = {"use_ema": bool(settings.average), "ema_momentum": settings.average or 0.99}
    fixed = dict.fromkeys(("bias", "beta", "gamma"), 0.0)
    if settings.optimizer == "sgd":
        return CoupledSGD(
            rate,
            settings.momentum,
            settings.weight_decay,
            rate_multipliers={"norm_*/beta": settings.norm_bias_rate},
            decay_multipliers=fixed,
            nesterov=True,
            **average,
        )
    if settings.optimizer == "muon":
        optimizer = Muon(
            rate,
            weight_decay=settings.weight_decay,
            adam_weight_decay=settings.weight_decay,
            adam_lr_ratio=0.2,
            **average,
        )
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **average)
    optimizer.exclude_from_weight_decay(var_names=list(fixed))
    if settings.norm_bias_rate != 1:
        step = optimizer.update_step

        def faster(gradient, variable, learning_rate):
            step(gradient, variable, learning_rate * (settings.norm_bias_rate if "beta" in variable.path else 1))

        optimizer.update_step = faster
    return optimizer


def lookahead_callback(total):
    """Every 5 steps the weights go back towards their slow average, less and less (airbench's schedule)."""
    import keras

    class Lookahead(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.step, self.slow = 0, [variable.numpy() for variable in self.model.trainable_variables]

        def on_train_batch_end(self, batch, logs=None):
            self.step += 1
            if self.step % 5 and self.step < total:
                return
            decay = 0.95**5 * (self.step / total) ** 3 if self.step < total else 1.0
            for index, variable in enumerate(self.model.trainable_variables):
                self.slow[index] = decay * self.slow[index] + (1 - decay) * variable.numpy()
                variable.assign(self.slow[index])

    return Lookahead()


def batches(pictures, labels, settings, seed, epoch):
    """Yields an epoch's pictures and one-hot labels; mirror images may alternate from epoch to epoch."""
    from lightcnn.augmentation import augment_images

    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(pictures))
    side = np.random.default_rng(seed).random(len(pictures)) < 0.5
    one_hot = np.eye(int(labels.max()) + 1, dtype=np.float32)
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        batch = augment_images(
            pictures[rows],
            generator,
            max_shift=settings.shift,
            max_rotation_degrees=settings.rotation,
            max_zoom=settings.zoom,
            flip=settings.flip == "random",
            cutout=settings.cutout,
        )
        if settings.flip == "alternating":
            mirrored = side[rows] ^ bool(epoch % 2)
            batch = np.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
        targets = one_hot[labels[rows]]
        if generator.random() < settings.cutmix:
            share = generator.beta(1, 1)
            height, width = batch.shape[1:3]
            tall, wide = (int(size * (1 - share) ** 0.5) for size in (height, width))
            top, left = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
            batch = batch.copy()
            batch[:, top : top + tall, left : left + wide] = batch[::-1, top : top + tall, left : left + wide]
            kept = 1 - tall * wide / (height * width)
            targets = kept * targets + (1 - kept) * targets[::-1]
        yield batch.astype(np.float32), targets


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
