"""The two networks of a training: the one that trains and the one that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lightcnn.backends import has_fast_bfloat16
from lightcnn.datasets import ImageDataset, Split
from lightcnn.errors import RecipeError, nearest
from lightcnn.models import lcnn, load_model
from lightcnn.runs import Recipe, Run

__all__ = ["MODELS", "Networks", "build_networks", "resolve"]

MODELS = {"lcnn": lcnn}


@dataclass(frozen=True)
class Networks:
    """Two networks with the same weights: what is trained (logits, maybe bfloat16) and what is kept (float32)."""

    trained: Any
    saved: Any
    metadata: dict[str, Any]
    preprocessing: tuple[Any, Any]


def resolve(recipe: Recipe) -> Recipe:
    """Replaces what depends on the machine or the folder of the moment: the precision, a relative path."""
    precision = recipe.precision
    if precision == "auto":
        precision = "bfloat16" if has_fast_bfloat16() else "float32"
    initial = str(Path(recipe.initial_weights).absolute()) if recipe.initial_weights else ""
    return replace(recipe, precision=precision, initial_weights=initial)


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_networks(
    recipe: Recipe, data: ImageDataset, preprocessing: tuple[Any, Any] | None = None
) -> tuple[Networks, list[str]]:
    """Builds both networks for a recipe and its data.

    Args:
        recipe: What to train.
        data: Decides the shape, the classes and the scaling.
        preprocessing: Scale and offset of a training that goes on; its weights come from the checkpoint then.

    Returns:
        The networks, and notes on what `initial_weights` brought.

    Raises:
        RecipeError: If the pictures, `initial_weights` or `freeze` do not fit the network.
    """
    initial = None
    if preprocessing is None:
        initial = _load_initial(recipe)
        preprocessing = _normalization(recipe, data.train) if initial is None else _preprocessing_of(initial)
    scale, offset = preprocessing
    arguments: dict[str, Any] = {
        "input_shape": tuple(int(size) for size in data.train.images.shape[1:]),
        "num_classes": len(data.labels),
        "dropout": recipe.dropout,
        "batch_norm_momentum": recipe.batch_norm_momentum,
        "kernel_initializer": recipe.kernel_initializer,
        "scale": scale,
        "offset": offset,
        "name": recipe.model,
    }
    try:
        with _dtype_policy("mixed_bfloat16" if recipe.precision == "bfloat16" else "float32"):
            trained = MODELS[recipe.model](**arguments, classifier_activation=None)
        with _dtype_policy("float32"):
            saved = MODELS[recipe.model](**arguments)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    notes = [] if initial is None else _take_weights(initial, trained, recipe.initial_weights)
    _freeze(trained, recipe.freeze)
    metadata = {
        "format": 1,
        "task": "image classification",
        "recipe": recipe.name,
        "dataset": data.name,
        "labels": list(data.labels),
        "input": {
            "shape": list(arguments["input_shape"]),
            "dtype": str(data.train.images.dtype),
        },
    }
    return Networks(trained, saved, metadata, (scale, offset)), notes


def _normalization(recipe: Recipe, split: Split) -> tuple[Any, Any]:
    """Returns the scale and offset of the network's first layer: for all channels, or one each."""
    if recipe.normalization == "unit":
        return (1 / 255 if split.images.dtype == np.uint8 else 1.0), 0.0
    first = split.take(slice(0, 1))[0, 0, 0].astype(np.float64)
    total = np.zeros(split.images.shape[-1])
    squares, count = np.zeros_like(total), 0
    for start in range(0, len(split), 1024):
        # Measured from the first pixel, a channel that never changes has a variance of exactly 0.
        pictures = split.take(slice(start, start + 1024)) - first
        total += pictures.sum(axis=(0, 1, 2))
        squares += np.square(pictures).sum(axis=(0, 1, 2))
        count += pictures[..., 0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation == 0] = 1.0
    mean += first
    return (1 / deviation).tolist(), (-mean / deviation).tolist()


def _load_initial(recipe: Recipe) -> Any:
    if not recipe.initial_weights:
        return None
    path = Path(recipe.initial_weights)
    return load_model(Run.open(path).best_model if path.is_dir() else path)


def _preprocessing_of(model: Any) -> tuple[Any, Any]:
    """Weights only fit the scale of the pictures that they were trained on, so it comes along."""
    layers = [layer for layer in model.layers if layer.name == "preprocessing"]
    return (layers[0].scale, layers[0].offset) if layers else (1.0, 0.0)


def _take_weights(initial: Any, model: Any, origin: str) -> list[str]:
    old = {layer.name: layer for layer in initial.layers}
    notes = [f"Weights and preprocessing start from {origin}."]
    for layer in model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        if layer.name not in old:
            raise RecipeError(f"initial_weights={origin} has no layer {layer.name!r}: it is another network.")
        before = old[layer.name].get_weights()
        if [w.shape for w in before] == [w.shape for w in weights]:
            layer.set_weights(before)
        elif layer.name == "logits":
            notes.append(f"The layer 'logits' is new: {before[-1].size} classes there, {weights[-1].size} here.")
        else:
            raise RecipeError(
                f"initial_weights={origin} does not fit: the layer {layer.name!r} has weights of shape "
                f"{[w.shape for w in before]}, expected {[w.shape for w in weights]}. "
                "Pictures must have the size and the channels of the first training (image_size, channels)."
            )
    return notes


def _freeze(model: Any, patterns: tuple[str, ...]) -> None:
    names = [layer.name for layer in model.layers if layer.weights]
    for pattern in patterns:
        matching = [layer for layer in model.layers if layer.weights and fnmatchcase(layer.name, pattern)]
        if not matching:
            raise RecipeError(f"freeze={pattern} names no layer.{nearest(pattern, names)} Layers: {', '.join(names)}.")
        for layer in matching:
            layer.trainable = False
    if not model.trainable_weights:
        raise RecipeError(f"freeze={','.join(patterns)} leaves nothing to train.")
