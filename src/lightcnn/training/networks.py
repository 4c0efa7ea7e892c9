"""The two networks of a training: the one that trains and the one that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras

from lightcnn.backends import has_fast_bfloat16
from lightcnn.errors import RecipeError, nearest
from lightcnn.models import load_model
from lightcnn.runs import Recipe, Run

__all__ = ["Networks", "build_pair", "freeze", "initial_file", "leaks", "load_initial", "resolve", "take_weights"]


@dataclass(frozen=True)
class Networks:
    """Two networks with the same weights: what is trained (maybe in bfloat16) and what is kept (float32).

    Attributes:
        trained: A `keras.Model` that gives what the loss takes.
        saved: A `keras.Model` that gives what a user wants: probabilities or scores.
        loss: The loss of `trained`.
        accuracy: Its metric, called `accuracy`.
        metadata: What the model file says of the model.
        preprocessing: What was measured on the training data and resuming must not measure again.
        teach: Returns the targets of a batch from its pictures and labels, where a teacher has a say in them.
        teacher: The digest of the teacher's weights.
    """

    trained: Any
    saved: Any
    loss: Any
    accuracy: Any
    metadata: dict[str, Any]
    preprocessing: list[Any]
    teach: Callable[[Any, Any], Any] | None = None
    teacher: str = ""


def resolve(recipe: Recipe) -> Recipe:
    """Replaces what depends on the machine or the folder of the moment: the precision, a relative path."""
    precision = recipe.precision
    if precision == "auto":
        precision = "bfloat16" if has_fast_bfloat16() else "float32"
    initial, teacher = (str(Path(path).absolute()) if path else "" for path in (recipe.initial_weights, recipe.teacher))
    return replace(recipe, precision=precision, initial_weights=initial, teacher=teacher)


def build_pair(
    recipe: Recipe, data: Any, initial: Any, trained: Callable[[], Any], saved: Callable[[], Any]
) -> tuple[Any, Any, list[str]]:
    """Builds the network that trains, in the recipe's precision, and the one that is kept, in float32.

    Args:
        recipe: What to train.
        data: What to train on.
        initial: The model to take weights from, None for none.
        trained: Builds the first.
        saved: Builds the second.

    Returns:
        Both, and notes on what `initial_weights` brought.

    Raises:
        RecipeError: If the recipe, `initial_weights` or `freeze` do not fit the network.
    """
    try:
        with _dtype_policy(recipe.precision):
            network = trained()
        with _dtype_policy("float32"):
            kept = saved()
    except ValueError as error:
        raise RecipeError(str(error)) from error
    notes = []
    if initial is not None:
        notes = leaks(recipe, data, "initial_weights") + take_weights(initial, network, recipe.initial_weights)
    freeze(network, recipe.freeze)
    return network, kept, notes


@contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    """Sets Keras' policy for a recipe's precision, and the old one again at the end."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def leaks(recipe: Recipe, data: Any, key: str) -> list[str]:
    """Notes where another training saw what is held out here, as one of the same data with another seed did.

    Args:
        recipe: What to train.
        data: What to train on.
        key: `initial_weights` or `teacher`. Of a run folder it is known what it saw, of a file it is not.

    Raises:
        RecipeError: If it saw the test split.
    """
    folder = Path(getattr(recipe, key))
    if not (folder / "recipe.json").is_file():
        return []
    other = Run.open(folder)
    if other.environment["data"]["digest"] != data.digest:
        return []
    notes, deciding = [], ["seed"]
    for split in ("test", "calibration", "validation"):  # in this order they are drawn, each from what is left
        if split in data.held_out or split == "calibration":  # the other may have held out people where this does not
            deciding.append(f"{split}_fraction")
        others = {name: getattr(other.recipe, name) for name in deciding}
        differing = ", ".join(f"{name}={value}" for name, value in others.items() if value != getattr(recipe, name))
        if split not in data.held_out or not differing:
            continue
        if split == "test":
            raise RecipeError(
                f"{key}={folder} was trained on examples of this test split, whose figures would be too good. "
                f"Hold out the same ones, with {differing}, or keep the test examples apart from the training data."
            )
        notes.append(
            f"Note: {folder} was trained on examples of {split}, whose figures are too good; with {differing} they are "
            "not."
        )
    return notes


def load_initial(recipe: Recipe) -> Any:
    """Returns the model that `initial_weights` names, None if it names none."""
    if not recipe.initial_weights:
        return None
    return load_model(initial_file(recipe))


def initial_file(recipe: Recipe) -> Path:
    """Returns the model file of `initial_weights`."""
    path = Path(recipe.initial_weights)
    return Run.open(path).best_model if path.is_dir() else path


def take_weights(initial: Any, model: Any, origin: str) -> list[str]:
    """Copies weights layer by layer, and returns notes; a head of another kind or size is left new, and named there.

    Raises:
        RecipeError: If the networks differ elsewhere.
    """
    old = {layer.name: layer for layer in initial.layers}
    notes = [f"Weights and preprocessing start from {origin}."]
    for layer in model.layers:
        if layer.name == "front_end" and "front_end" in old and _settings(layer) != _settings(old["front_end"]):
            raise RecipeError(
                f"initial_weights={origin} does not fit: its front end is {_settings(old['front_end'])}. "
                f"Received: {_settings(layer)}. Choose the front_end of the first training."
            )
        weights = layer.get_weights()
        if not weights:
            continue
        before = old[layer.name].get_weights() if layer.name in old else None
        if before is not None and [w.shape for w in before] == [w.shape for w in weights]:
            layer.set_weights(before)
        elif layer.name in ("logits", "head"):
            there = "none" if before is None else _shapes(before)
            notes.append(f"The layer {layer.name!r} is new: {there} there, {_shapes(weights)} here.")
        elif before is None:
            raise RecipeError(f"initial_weights={origin} has no layer {layer.name!r}: it is another network.")
        else:
            raise RecipeError(
                f"initial_weights={origin} does not fit: the layer {layer.name!r} has {_shapes(before)}, "
                f"expected {_shapes(weights)}. What the network sees (image_size and channels, or front_end and "
                "duration_s), its width and its embedding must be those of the first training."
            )
    return notes


def _settings(layer: Any) -> str:
    """Returns a layer's class and what decides its outputs, for people too: no name, no policy."""
    config = {key: value for key, value in layer.get_config().items() if key not in ("name", "dtype", "trainable")}
    return f"{type(layer).__name__}({', '.join(f'{key}={value!r}' for key, value in config.items())})"


def _shapes(weights: list[Any]) -> str:
    return "weights of " + " and ".join(" x ".join(map(str, array.shape)) for array in weights)


def freeze(model: Any, patterns: tuple[str, ...]) -> None:
    """Keeps layers from training.

    Raises:
        RecipeError: If a pattern names no layer, or nothing is left to train.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for pattern in patterns:
        matching = [layer for layer in model.layers if layer.weights and fnmatchcase(layer.name, pattern)]
        if not matching:
            raise RecipeError(f"freeze={pattern} names no layer.{nearest(pattern, names)} Layers: {', '.join(names)}.")
        for layer in matching:
            layer.trainable = False
    if not model.trainable_weights:
        raise RecipeError(f"freeze={','.join(patterns)} leaves nothing to train.")
