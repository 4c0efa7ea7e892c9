"""What each trick of fast CIFAR-10 training gives a Light CNN: alone on top of a recipe, and together.

    python benchmarks/ablations.py cifar10 --seeds 1,2,3 --data-dir FOLDER

Trains a fifth of the recipe's epochs. Accuracy on validation pictures (a tenth of the training pictures, the same for
all) after the last epoch, and what it is above or below the baseline's of the same seed; a trick is recorded once its
seeds are through. Test pictures are never read. `--only NAME,NAME` trains the baseline and these alone, `NAME + NAME`
joins several into one, and `--set KEY=VALUE` changes the recipe below all of them. `--layers` takes the tricks that
change layers or parameters instead. Sources: airbench (https://github.com/KellerJordan/cifar10-airbench) for batches
of 1,024; the rates here are for 256. Its SGD lets batch norm's biases decay too, which recipes here never do.
"""

import argparse
import os
import sys
from dataclasses import dataclass, fields, replace

import numpy as np

SHARE = 0.1


@dataclass(frozen=True)
class Extras:
    """What is no setting of a recipe."""

    nesterov: bool = False
    newton_schulz_steps: int = 5
    rate: float = 1.0
    triangle: bool = False
    norm_epsilon: float = 1e-3
    norm_bias_rate: float = 1.0
    identity: bool = False
    logits_scale: float = 1.0
    alternating: bool = False
    average: float = 0.0
    lookahead: bool = False
    norm_scale: bool = True
    whitening: bool = False
    both_signs: bool = False
    pooling: bool = False


# airbench's rate x decay is 0.002 a step of 1,024, so 0.0005 of 256
_SGD_1 = {"optimizer": "sgd", "momentum": 0.85, "learning_rate": 0.1, "weight_decay": 5e-3, "nesterov": True}
_SGD_3 = {**_SGD_1, "learning_rate": 0.3, "weight_decay": 5e-4 / 0.3}

# name -> settings of the recipe, and extras
TRICKS = {
    "baseline": {},
    "AdamW": {"optimizer": "adamw", "learning_rate": 4e-3},
    "Nesterov SGD with rate 0.1": _SGD_1,
    "Nesterov SGD with rate 0.3": _SGD_3,
    "Nesterov SGD with rate 0.3 and batch norm's bias 64 times as fast": {**_SGD_3, "norm_bias_rate": 64.0},
    "batch norm's bias 4 times as fast": {"norm_bias_rate": 4.0},
    "3 Newton-Schulz steps instead of 5": {"newton_schulz_steps": 3},
    "identity initialisation": {"identity": True},
    "batch norm: momentum 0.6 and epsilon 1e-12": {"batch_norm_momentum": 0.6, "norm_epsilon": 1e-12},
    "logits / 9": {"logits_scale": 1 / 9},
    "no label smoothing": {"label_smoothing": 0.0},
    "label smoothing 0.2": {"label_smoothing": 0.2},
    "learning rate from 0.2 to 1 at 23 % to 0.07": {"triangle": True},
    "lookahead every 5 steps": {"lookahead": True},
    "average of weights (0.99)": {"average": 0.99},
    "no mirror images": {"flip": False},
    "alternating mirror images": {"flip": False, "alternating": True},
    "shifts of 2 pixels": {"max_shift": 2},
    "cutout of 8": {"cutout": 8},
    "cutout of 12": {"cutout": 12},
    "CutMix in half of the batches": {"cutmix": 0.5},
    "dropout of 0.2": {"dropout": 0.2},
    "batches of 128": {"batch_size": 128, "rate": 0.7},
    "batches of 512": {"batch_size": 512, "rate": 1.4},
    "batches of 1024": {"batch_size": 1024, "rate": 2.0},
}
LAYERS = {
    "baseline": {},
    "batch norm without scale": {"norm_scale": False},
    "frozen whitening of 2 x 2 pixels in front": {"whitening": True},
    "frozen whitening in both signs with a bias that learns at first and GELU": {"whitening": True, "both_signs": True},
    "mean over the last picture instead of flattening": {"pooling": True},
}
_AIRBENCH = (
    "identity initialisation",
    "batch norm: momentum 0.6 and epsilon 1e-12",
    "logits / 9",
    "label smoothing 0.2",
    "learning rate from 0.2 to 1 at 23 % to 0.07",
    "lookahead every 5 steps",
    "alternating mirror images",
    "shifts of 2 pixels",
)
TOGETHER = {
    "airbench's tricks together with its SGD": (
        "Nesterov SGD with rate 0.3 and batch norm's bias 64 times as fast",
        *_AIRBENCH,
    ),
    "airbench's tricks together with Muon": _AIRBENCH,
}
LAYERS_TOGETHER = {
    "airbench's batch norm and whitening together": (
        "batch norm without scale",
        "batch norm: momentum 0.6 and epsilon 1e-12",
        "frozen whitening in both signs with a bias that learns at first and GELU",
    )
}
# what a trick is measured against besides the baseline, since it is one upon another
UPON = {"Nesterov SGD with rate 0.3 and batch norm's bias 64 times as fast": "Nesterov SGD with rate 0.3"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", help="names of tricks, comma between them; a + between blanks joins several into one")
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    from record import record

    from lightcnn.recipes import get_recipe
    from lightcnn.runs import load_data, parse_settings
    from lightcnn.training.networks import resolve

    # the one mean of weights that this script takes is a trick
    schedule = {"epochs": max(1, round(get_recipe(arguments.recipe).epochs / 5)), "average_epochs": 0}
    baseline = resolve(get_recipe(arguments.recipe, **{**schedule, **parse_settings(arguments.set)}))
    if baseline.average_epochs:
        raise SystemExit("This script keeps the last weights: leave average_epochs out of --set")
    known = {**LAYERS, **LAYERS_TOGETHER} if arguments.layers else {**TRICKS, **TOGETHER}
    names = arguments.only.split(",") if arguments.only else known
    names = dict.fromkeys(["baseline", *names])  # the others are measured against it
    changes = {name: changes_of(name, baseline) for name in names}  # before hours of training: all names are right
    held_out = replace(baseline, validation_fraction=SHARE, seed=0)  # the same pictures for every seed
    data = load_data(held_out, arguments.data_dir, skip_bad_files=False)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    results = {}
    for name, (recipe, extras) in changes.items():
        results[name] = []
        for seed in seeds:
            results[name].append(train(replace(recipe, seed=seed), extras, data))
            print(f"{name}, seed {seed}: {results[name][-1]}", file=sys.stderr, flush=True)
        configuration = " ".join([f"{baseline.name}: {name}, {recipe.epochs} epochs", *arguments.set])
        for figure in results[name][0]:
            record("ablations", configuration, figure, "%", [one[figure] for one in results[name]], baseline.precision)
        for other in ("baseline", UPON.get(name)):
            if other in results and other != name:
                pairs = zip(results[name], results[other], strict=True)
                above = [one["validation accuracy"] - its["validation accuracy"] for one, its in pairs]
                whose = "the baseline's" if other == "baseline" else f"that of {other}"
                record("ablations", configuration, f"validation accuracy above {whose}", "%", above, baseline.precision)


def changes_of(name, baseline):
    """Returns the recipe and the extras of a trick, or of several with + between them."""
    known = {**TRICKS, **LAYERS}
    together = {}
    for one in {**TOGETHER, **LAYERS_TOGETHER}.get(name) or name.split(" + "):
        if one not in known:
            raise SystemExit(f"There is no trick {one!r}. Known: {', '.join([*known, *TOGETHER, *LAYERS_TOGETHER])}")
        if clash := together.keys() & known[one].keys():
            raise SystemExit(f"{name!r}: two tricks set {', '.join(clash)}")
        together |= known[one]
    extra = {field.name for field in fields(Extras)}
    recipe = replace(baseline, **{key: value for key, value in together.items() if key not in extra})
    extras = Extras(**{key: value for key, value in together.items() if key in extra})
    if (recipe, extras) == (baseline, Extras()) and name != "baseline":
        raise SystemExit(f"{name!r} is what {baseline.name} does already: leave it out with --only")
    return replace(recipe, learning_rate=recipe.learning_rate * extras.rate), extras


def train(recipe, extras, data):
    """Trains one network and returns its figures."""
    import keras

    from lightcnn.backends import set_seed
    from lightcnn.training import fitting, images

    keras.backend.clear_session()
    set_seed(recipe.seed)
    networks, _ = images.build_networks(recipe, data)
    model = with_extras(networks.trained, extras, data.train)
    batches = fitting.Batches(
        len(data.train), recipe, lambda *chosen: make_batch(recipe, extras, data, batches.epoch, *chosen)
    )
    optimizer = make_optimizer(recipe, extras, len(batches))
    model.compile(optimizer, networks.loss, metrics=[networks.accuracy])
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))]
    if extras.lookahead:
        callbacks.append(lookahead_callback(len(batches) * recipe.epochs))
    feed = fitting._feed(batches)
    history = model.fit(feed, epochs=recipe.epochs, callbacks=callbacks, shuffle=False, verbose=0)
    if extras.average:
        # Batch norm's statistics are still those of the last weights: these are the means over some batches.
        norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        for index in range(min(40, len(batches))):
            for layer in norms:
                layer.momentum = index / (index + 1)
            model(batches[index][0], training=True)
    held_out = data.validation
    pictures = held_out.take(slice(None)).astype(np.float32)
    around = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    # as airbench: the picture in its place weighs half, shifted by a pixel to either corner a quarter each
    views = [(0.5, pictures), (0.25, around[:, :-2, :-2]), (0.25, around[:, 2:, 2:])]
    plain, mirrored = (
        [weight * model.predict(view[:, :, ::side], batch_size=256, verbose=0) for weight, view in views]
        for side in (1, -1)
    )
    logits = {
        "validation accuracy": plain[0],
        "with mirror images": plain[0] + mirrored[0],
        "with six views": sum(plain) + sum(mirrored),
    }
    accuracies = {name: 100 * float(np.mean(one.argmax(1) == held_out.labels)) for name, one in logits.items()}
    return {**accuracies, "training accuracy": 100 * history.history["accuracy"][-1]}


def with_extras(model, extras, split):
    import keras

    if extras.pooling or not extras.norm_scale:
        before = model
        model = keras.models.clone_model(before, clone_function=lambda layer: changed(layer, extras))
        for layer in model.layers:
            first = before.get_layer(layer.name).get_weights()
            if [one.shape for one in first] == [one.shape for one in layer.get_weights()]:
                layer.set_weights(first)
    if extras.whitening:
        model = whitened(model, split.take(slice(0, 5000)).astype(np.float32), extras.both_signs)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = extras.norm_epsilon
        if extras.identity and layer.name.startswith("conv_"):
            kernel, *rest = layer.convolution.get_weights()
            height, width, channels, filters = kernel.shape
            # The first of MFM's two halves passes the channels on, the second stays random.
            kept = min(channels, filters // 2)
            kernel[:, :, :, :kept] = 0
            kernel[height // 2, width // 2, range(kept), range(kept)] = 1
            layer.convolution.set_weights([kernel, *rest])
    if extras.logits_scale == 1:
        return model
    scaled = keras.layers.Rescaling(extras.logits_scale, dtype="float32", name="scaled")(model.output)
    return keras.Model(model.input, scaled)


def changed(layer, extras):
    """Returns a new layer as `layer` is, or what a trick puts in its place."""
    import keras

    config = layer.get_config()
    if extras.pooling and isinstance(layer, keras.layers.Flatten):
        return keras.layers.GlobalAveragePooling2D(name=layer.name, dtype=layer.dtype_policy)
    if not extras.norm_scale and isinstance(layer, keras.layers.BatchNormalization):
        config["scale"] = False
    return type(layer).from_config(config)


def whitened(model, pictures, both_signs):
    """Returns the network behind a frozen convolution whose outputs are uncorrelated over all pieces of 2 x 2 pixels.

    As in airbench, filters in both signs have a bias, which learns at first (`make_optimizer`), and GELU after it.
    """
    import keras

    inputs, scaling = keras.Input(model.input_shape[1:], dtype=model.input.dtype), model.get_layer("preprocessing")
    scaled = np.asarray(scaling(pictures))
    pieces = np.lib.stride_tricks.sliding_window_view(scaled, (2, 2), axis=(1, 2))  # channels before the two new axes
    pieces = np.moveaxis(pieces, 3, -1).reshape(-1, 4 * pictures.shape[-1])
    values, vectors = np.linalg.eigh(np.cov(pieces, rowvar=False))
    kernel = (vectors / np.sqrt(values + 5e-4)).reshape(2, 2, pictures.shape[-1], -1)
    first = model.get_layer("conv_1")
    policy = first.dtype_policy
    kernel = np.concatenate([kernel, -kernel], axis=-1) if both_signs else kernel
    settings = {"activation": "gelu", "use_bias": True} if both_signs else {"use_bias": False}
    whitening = keras.layers.Conv2D(kernel.shape[-1], 2, padding="same", dtype=policy, name="whitening", **settings)
    x = whitening(scaling(inputs))
    whitening.kernel.assign(kernel)
    whitening.kernel.trainable = False
    behind = model.layers[model.layers.index(first) + 1 :]
    # `first` gets other channels, so a new one is built
    for layer in (type(first).from_config(first.get_config()), *behind):
        x = layer(x)
    return keras.Model(inputs, x)


def make_optimizer(recipe, extras, steps):
    from keras import ops

    from lightcnn.training import fitting

    optimizer = fitting._optimizer(recipe, steps)
    if extras.triangle:
        optimizer.learning_rate = triangle(recipe.learning_rate, steps * recipe.epochs)
    if extras.nesterov:
        optimizer.nesterov = True
    optimizer.ns_steps = extras.newton_schulz_steps  # only Muon reads it
    if extras.average:
        optimizer.use_ema, optimizer.ema_momentum = True, extras.average
    step = optimizer.update_step

    def at_own_rate(gradient, variable, learning_rate):
        path = optimizer._trainable_variables[optimizer._get_variable_index(variable)].path
        if path.endswith("beta"):
            learning_rate = learning_rate * extras.norm_bias_rate
        elif path.endswith("whitening/bias"):  # airbench: in the first 3 of 9.9 epochs
            learning_rate = learning_rate * ops.cast(optimizer.iterations < 0.3 * steps * recipe.epochs, "float32")
        step(gradient, variable, learning_rate)

    if extras.norm_bias_rate != 1 or extras.both_signs:
        optimizer.update_step = at_own_rate
    return optimizer


def triangle(peak, steps):
    """Returns airbench's learning rate: from 0.2 of the peak to the peak at 23 % of the steps, and down to 0.07."""
    import keras
    from keras import ops

    class Triangle(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            progress = ops.cast(step, "float32") / steps
            rise, fall = 0.2 + 0.8 * progress / 0.23, 0.07 + 0.93 * (1 - progress) / 0.77
            return peak * ops.minimum(rise, fall)

    return Triangle()


def lookahead_callback(total):
    """Every 5 steps the weights go back towards their slow average, less and less (airbench's schedule)."""
    import keras

    class Lookahead(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.variables = [
                one for one in self.model.variables if "float" in one.dtype
            ]  # batch norm's statistics too
            self.step, self.slow = 0, [variable.numpy() for variable in self.variables]

        def on_train_batch_end(self, batch, logs=None):
            self.step += 1
            decay = 0.95**5 * (self.step / total) ** 3
            for index, variable in enumerate(self.variables):
                if self.step % 5 == 0:
                    self.slow[index] = decay * self.slow[index] + (1 - decay) * variable.numpy()
                if self.step % 5 == 0 or self.step == total:  # at the end the slow ones stay
                    variable.assign(self.slow[index])

    return Lookahead()


def make_batch(recipe, extras, data, epoch, positions, generator):
    """Returns the recipe's batch; mirror images may alternate from epoch to epoch."""
    from lightcnn.training import images

    pictures, targets = images.training_batch(recipe, data, positions, generator)
    if extras.alternating:
        side = np.random.default_rng(recipe.seed).random(len(data.train)) < 0.5
        mirrored = side[positions] ^ bool(epoch % 2)
        pictures = np.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)
    return pictures, targets


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
