"""What training needs for pictures: networks and batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lightcnn.augmentation import augment_images, cut_and_mix
from lightcnn.datasets import ImageDataset, Split
from lightcnn.errors import RecipeError
from lightcnn.inference import Predictor
from lightcnn.inference.images import PicturePredictor
from lightcnn.models import lcnn, read_metadata
from lightcnn.runs import Recipe
from lightcnn.runtimes import num_processors
from lightcnn.training.networks import Networks, build_pair, initial_file, leaks, load_initial

__all__ = ["VALIDATION_BATCH", "build_networks", "training_batch", "validation_batch"]

VALIDATION_BATCH = 256

_TAUGHT = np.float32(0.7)  # share of a target that is the teacher's


def build_networks(
    recipe: Recipe, data: ImageDataset, preprocessing: list[Any] | None = None
) -> tuple[Networks, list[str]]:
    """Builds both networks for a recipe and its data.

    Args:
        recipe: What to train.
        data: Decides the shape, the classes and the scaling.
        preprocessing: Scale and offset of a training that goes on; its weights come from the checkpoint then.

    Returns:
        The networks, and notes on what `initial_weights` brought.

    Raises:
        ModelFileError: If the teacher is damaged.
        RecipeError: If the pictures, `initial_weights`, `teacher` or `freeze` do not fit the network.
    """
    initial = None
    if preprocessing is None:
        initial = load_initial(recipe)
        if initial is None:
            preprocessing = _normalization(recipe, data.train)
        else:
            _check_pixels("initial_weights", recipe, data, read_metadata(initial_file(recipe)))
            preprocessing = _preprocessing_of(initial)
    scale, offset = preprocessing
    arguments: dict[str, Any] = {
        "input_shape": tuple(int(size) for size in data.train.images.shape[1:]),
        "num_classes": len(data.labels),
        "width": recipe.width,
        "dropout": recipe.dropout,
        "batch_norm_momentum": recipe.batch_norm_momentum,
        "kernel_initializer": recipe.kernel_initializer,
        "scale": scale,
        "offset": offset,
        "name": recipe.model,
    }
    logits, probabilities = partial(lcnn, **arguments, classifier_activation=None), partial(lcnn, **arguments)
    trained, saved, notes = build_pair(recipe, data, initial, logits, probabilities)
    metadata = {
        "format": 1,
        "task": recipe.task,
        "recipe": recipe.name,
        "dataset": data.name,
        "labels": list(data.labels),
        "input": {
            "shape": list(arguments["input_shape"]),
            "dtype": str(data.train.images.dtype),
        },
    }
    teach, digest, smoothing = None, "", recipe.label_smoothing
    if recipe.teacher:
        teach, digest = _teaching(recipe, data)
        smoothing = 0.0  # `teach` smooths the labels alone
        taught = f"Taught by {recipe.teacher}: accuracy in training is agreement with it, and with the labels."
        notes += [taught, *leaks(recipe, data, "teacher")]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    return Networks(trained, saved, loss, "accuracy", metadata, [scale, offset], teach, digest), notes


def _teaching(recipe: Recipe, data: ImageDataset) -> tuple[Callable[[Any, Any], Any], str]:
    """Returns a function from augmented pictures and labels to targets, and the teacher's digest.

    A target is the teacher's probabilities of the same picture by `_TAUGHT`; the rest is the smoothed label.

    Raises:
        RecipeError: If the teacher is for other pictures or classes.
    """
    teacher = Predictor.load(recipe.teacher, streams=num_processors())
    shape = tuple(data.train.images.shape[1:])
    if not isinstance(teacher, PicturePredictor):
        raise RecipeError(f"teacher={recipe.teacher} is no classifier of pictures.")
    if (teacher.height, teacher.width, teacher.channels) != shape or tuple(teacher.labels) != tuple(data.labels):
        raise RecipeError(
            f"teacher={recipe.teacher} does not fit: expected a model of pictures of {shape} for the classes "
            f"{', '.join(data.labels)}. Received: pictures of {(teacher.height, teacher.width, teacher.channels)} for "
            f"{', '.join(teacher.labels)}"
        )

    _check_pixels("teacher", recipe, data, teacher.metadata)

    smoothing = np.float32(recipe.label_smoothing)

    def teach(pictures: Any, labels: Any) -> Any:
        smoothed = (1 - smoothing) * labels + smoothing / np.float32(labels.shape[1])
        return (1 - _TAUGHT) * smoothed + _TAUGHT * teacher.predict_arrays(pictures)

    return teach, teacher.digest


def _check_pixels(key: str, recipe: Recipe, data: ImageDataset, metadata: dict[str, Any]) -> None:
    """Raises `RecipeError` if a model was trained on 8-bit pixels and the data are others, or the other way round."""
    here, there = data.train.images.dtype, metadata.get("input", {}).get("dtype", "uint8")
    if (there == "uint8") != (here == np.uint8):
        raise RecipeError(
            f"{key}={getattr(recipe, key)} does not fit: it was trained on pixels of {there}, whose range is another. "
            f"Received: pixels of {here}"
        )


def _normalization(recipe: Recipe, split: Split) -> list[Any]:
    """Returns the scale and offset of the network's first layer: for all channels, or one each."""
    if recipe.normalization == "unit":
        return [1 / 255 if split.images.dtype == np.uint8 else 1.0, 0.0]
    first = split.take(slice(0, 1))[0, 0, 0].astype(np.float64)
    height, width, channels = split.images.shape[1:]
    sums = np.zeros((2, width, channels))
    step = min(1024, max(1, 2**24 // split.images[0].size))  # pictures, at most 128 MiB in float64
    for start in range(0, len(split), step):
        # Measured from the first pixel, a channel that never changes has a variance of exactly 0. Sums over whole rows
        # of pixels are five times as fast as sums over a few channels.
        pictures = split.take(slice(start, start + step)) - first
        sums += pictures.sum(axis=(0, 1)), np.einsum("nhwc,nhwc->wc", pictures, pictures)
    mean, mean_square = sums.sum(axis=1) / (len(split) * height * width)
    deviation = np.sqrt(np.maximum(mean_square - mean**2, 0))
    deviation[deviation == 0] = 1.0
    mean += first
    return [(1 / deviation).tolist(), (-mean / deviation).tolist()]


def _preprocessing_of(model: Any) -> list[Any]:
    """Weights only fit the scale of the pictures that they were trained on, so it comes along."""
    layers = [layer for layer in model.layers if layer.name == "preprocessing"]
    return [layers[0].scale, layers[0].offset] if layers else [1.0, 0.0]


def training_batch(
    recipe: Recipe, data: ImageDataset, positions: NDArray[np.int64], generator: np.random.Generator
) -> tuple[Any, Any]:
    """Returns augmented pictures `(batch, height, width, channels)` and one-hot labels `(batch, classes)`."""
    pictures = augment_images(
        data.train.take(positions),
        generator,
        max_shift=recipe.max_shift,
        max_rotation_degrees=recipe.max_rotation_degrees,
        max_zoom=recipe.max_zoom,
        elastic_distortion=recipe.elastic_distortion,
        flip=recipe.flip,
        cutout=recipe.cutout,
    )
    targets = _one_hot(data.train.labels[positions], len(data.labels))
    if generator.random() < recipe.cutmix:  # drawn last: without it a batch is what it was
        pictures, targets = cut_and_mix(pictures, targets, generator)
    return _fed(pictures), targets


def validation_batch(recipe: Recipe, data: ImageDataset, positions: NDArray[np.int64]) -> tuple[Any, Any]:
    """Returns the validation pictures as they are, and one-hot labels."""
    split: Split = data.split("validation")
    return _fed(split.take(positions)), _one_hot(split.labels[positions], len(data.labels))


def _fed(pictures: NDArray[Any]) -> NDArray[Any]:
    """Returns pictures in a type that every backend takes; 8 bits stay, the network makes them float32."""
    return pictures if pictures.dtype == np.uint8 else pictures.astype(np.float32)


def _one_hot(labels: Any, num_classes: int) -> Any:
    rows = np.zeros((len(labels), num_classes), np.float32)
    rows[np.arange(len(labels)), labels] = 1.0
    return rows
