"""What training needs for speech: networks from samples to scores, and batches decoded from the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from lightcnn import models
from lightcnn.augmentation import augment_audio
from lightcnn.datasets import SpeechDataset, SpeechSplit
from lightcnn.decoding import decode_audio, decode_piece, fit_length
from lightcnn.errors import DataError, RecipeError, nearest
from lightcnn.frontends import PRESETS
from lightcnn.layers import FeatureMask
from lightcnn.losses import loss_for
from lightcnn.models import from_samples
from lightcnn.runs import FIXED_SIZE, Recipe
from lightcnn.training.networks import Networks, build_pair, load_initial

__all__ = ["VALIDATION_BATCH", "build_networks", "training_batch", "validation_batch"]

VALIDATION_BATCH = 32
# of heads whose two sides do not meet at 0: halfway between OC-softmax's margins, and between P2SGrad's targets
_DECISIONS = {"oc_softmax": 0.55, "p2sgrad": 0.5}


def build_networks(
    recipe: Recipe, data: SpeechDataset, preprocessing: list[Any] | None = None
) -> tuple[Networks, list[str]]:
    """Builds both networks for a recipe and its data.

    Args:
        recipe: What to train.
        data: Decides the classes' weights.
        preprocessing: An empty list for a training that goes on, whose weights come from the checkpoint.

    Returns:
        The networks, and notes on what `initial_weights` brought.

    Raises:
        DataError: If the training data have only one class.
        RecipeError: If a name is unknown, or front end, network, `initial_weights` and `freeze` do not fit.
    """
    if recipe.front_end not in PRESETS:
        raise RecipeError(
            f"front_end must be one of {', '.join(PRESETS)}.{nearest(recipe.front_end, PRESETS)} "
            f"Received: front_end={recipe.front_end!r}"
        )
    if not data.train:
        raise RecipeError(f"{data.name} at {data.source} has nothing to train on. It has: {', '.join(data.splits)}.")
    try:
        _augmented(recipe, np.zeros((0, 1), np.float32), np.random.default_rng(0))  # of no recording: are names right?
    except ValueError as error:
        raise RecipeError(str(error)) from error
    counts = np.bincount(data.train.labels, minlength=2)
    if not counts.all():
        raise DataError(
            f"{data.name} at {data.source} has no {data.labels[int(counts.argmin())]} recording to train on, and a "
            f"countermeasure needs both classes. Received: {len(data.train):,} recordings of one class"
        )
    initial = load_initial(recipe) if preprocessing is None else None
    trained, saved, notes = build_pair(
        recipe, data, initial, partial(_network, recipe, "raw"), partial(_network, recipe, "score")
    )
    metadata = {
        "format": 1,
        "task": recipe.task,
        "recipe": recipe.name,
        "dataset": data.name,
        "labels": list(data.labels),
        "sampling_rate": _sampling_rate(recipe),
        "score": "higher = more bona fide",
        # until calibration measures one, which a training that was stopped does not come to
        "threshold": _DECISIONS.get(recipe.head, 0.0),
        "threshold_from": "the head's own, not measured",
        "input": {"window_samples": _num_samples(recipe), "pad": recipe.pad},
    }
    settings: dict[str, Any] = {}
    if recipe.balanced:
        settings["class_weights"] = (len(data.train) / (2 * counts)).tolist()
    return Networks(trained, saved, loss_for(recipe.head, **settings), _accuracy(recipe.head), metadata, []), notes


def _network(recipe: Recipe, output: str) -> Any:
    front_end = PRESETS[recipe.front_end](name="front_end")
    shape: Any = front_end.num_features
    if _is_fixed(recipe):
        shape = (front_end.num_frames(_num_samples(recipe)), front_end.num_features)
    network = getattr(models, recipe.model)(shape, head=recipe.head, output=output, dropout=recipe.dropout)
    if output == "raw" and (recipe.max_masked_frames or recipe.max_masked_bins):
        network = _masked(network, recipe)
    return from_samples(front_end, network)


def _masked(network: Any, recipe: Recipe) -> Any:
    """Hides some of the features before a network that trains; what is kept of it has no such layer."""
    mask = FeatureMask(recipe.max_masked_frames, recipe.max_masked_bins, seed=recipe.seed, name="mask")
    features, *lengths = network.inputs
    inputs = keras.Input(features.shape[1:], name="features")
    masked = network.call([mask(inputs, *lengths), *lengths] if lengths else mask(inputs))
    return keras.Model([inputs, *lengths] if lengths else inputs, masked, name=network.name)


def _is_fixed(recipe: Recipe) -> bool:
    return recipe.model in FIXED_SIZE


@cache  # a front end is made to be asked, and every batch asks
def _sampling_rate(recipe: Recipe) -> int:
    return int(PRESETS[recipe.front_end]().sampling_rate)


@cache
def _num_samples(recipe: Recipe) -> int:
    """Returns the samples that a training step sees: the fewest that give the frames of `duration_s`."""
    front_end = PRESETS[recipe.front_end]()
    asked = round(recipe.duration_s * front_end.sampling_rate)
    return int(front_end.samples_for(front_end.num_frames(asked)))


def _accuracy(head: str) -> Callable[[Any, Any], Any]:
    """Returns the share of right decisions at the head's own threshold, as a Keras metric."""

    def accuracy(y_true: Any, outputs: Any) -> Any:
        if len(outputs.shape) == 3:  # A-softmax: logits without and with the margin
            outputs = outputs[..., 0]
        decision = ops.argmax(outputs, axis=-1) if outputs.shape[-1] == 2 else outputs[:, 0] > _DECISIONS.get(head, 0.0)
        return ops.cast(
            ops.equal(ops.cast(decision, "int32"), ops.cast(ops.reshape(y_true, (-1,)), "int32")), "float32"
        )

    return accuracy


def training_batch(
    recipe: Recipe, data: SpeechDataset, positions: NDArray[np.int64], generator: np.random.Generator
) -> tuple[Any, Any]:
    """Returns augmented crops `(batch, samples)`, for networks of any length with `(batch,)` lengths, and labels."""
    samples, lengths, labels = _read(recipe, data.split("train"), positions, recipe.crop, generator)
    return _inputs(recipe, _augmented(recipe, samples, generator), lengths), labels


_AUGMENTATION = ("room", "noise", "convolutive", "impulsive", "stationary", "max_gain_db", "codec", "codecs")


def _augmented(recipe: Recipe, samples: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    settings = {key: getattr(recipe, key) for key in _AUGMENTATION}
    return augment_audio(samples, _sampling_rate(recipe), generator, **settings)


def validation_batch(recipe: Recipe, data: SpeechDataset, positions: NDArray[np.int64]) -> tuple[Any, Any]:
    """Returns the beginnings of the validation recordings, and their labels."""
    samples, lengths, labels = _read(recipe, data.split("validation"), positions, "first", None)
    return _inputs(recipe, samples, lengths), labels


def _inputs(recipe: Recipe, samples: NDArray[np.float32], lengths: NDArray[np.int32]) -> Any:
    """Returns what the network takes; one of any length finds zeros after a short recording."""
    if _is_fixed(recipe):
        return samples
    return np.where(np.arange(samples.shape[1]) < lengths[:, None], samples, np.float32(0)), lengths


def _read(
    recipe: Recipe,
    split: SpeechSplit,
    positions: NDArray[np.int64],
    crop: str,
    generator: np.random.Generator | None,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    sampling_rate, num_samples = _sampling_rate(recipe), _num_samples(recipe)
    samples = np.zeros((len(positions), num_samples), np.float32)
    lengths = np.zeros(len(positions), np.int32)
    for row, position in enumerate(positions):
        piece = _piece(split.path(int(position)), sampling_rate, num_samples, crop, generator)
        lengths[row] = len(piece)
        # Repeated until the augmentation is done: noise is as strong as it shall be beside speech, not beside zeros.
        samples[row] = fit_length(piece, num_samples, pad=recipe.pad if _is_fixed(recipe) else "repeat")
    return samples, lengths, split.labels[positions].astype(np.int32)


def _piece(
    path: Path, sampling_rate: int, num_samples: int, crop: str, generator: np.random.Generator | None
) -> NDArray[np.float32]:
    """Decodes at most `num_samples` of a recording; only what is wanted is read."""
    # One number a recording whatever its length, so that a file does not move the crops of those after it.
    place = {"first": 0.0, "centre": 0.5}.get(crop, generator.random() if generator is not None else 0.0)
    if not place:
        return decode_audio(path, sampling_rate, num_samples=num_samples)
    more = 1 if crop == "random" else 0  # `place` is below 1, and the last sample shall be heard too
    return decode_piece(path, sampling_rate, num_samples, lambda surplus: int(place * (surplus + more)))
