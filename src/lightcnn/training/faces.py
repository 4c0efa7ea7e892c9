"""What training needs for faces: a network that tells identities apart, and random crops."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lightcnn import models
from lightcnn.augmentation import augment_images
from lightcnn.datasets.faces.loading import FaceDataset, centre_of
from lightcnn.layers import CosineHead
from lightcnn.losses import loss_for
from lightcnn.models import FACE_PRESETS
from lightcnn.runs import Recipe
from lightcnn.training.networks import Networks, build_pair, load_initial

__all__ = ["VALIDATION_BATCH", "build_networks", "training_batch", "validation_batch"]

VALIDATION_BATCH = 64


def build_networks(
    recipe: Recipe, data: FaceDataset, preprocessing: list[Any] | None = None
) -> tuple[Networks, list[str]]:
    """Builds both networks for a recipe and its data; both give logits, or cosines, of the identities.

    Args:
        recipe: What to train.
        data: Decides the identities and the colour.
        preprocessing: An empty list for a training that goes on, whose weights come from the checkpoint.

    Returns:
        The networks, and notes on what `initial_weights` brought.

    Raises:
        RecipeError: If `crop_size`, `initial_weights` or `freeze` do not fit the network.
    """
    initial = load_initial(recipe) if preprocessing is None else None
    shape = (recipe.crop_size, recipe.crop_size, int(data.train.images.shape[-1]))
    build = partial(_network, recipe, shape, len(data.labels))
    trained, saved, notes = build_pair(recipe, data, initial, build, build)
    settings: dict[str, Any] = {"label_smoothing": recipe.label_smoothing}
    if recipe.head != "softmax":
        settings |= {"margin": recipe.margin, "scale": recipe.head_scale}
    metadata = {
        "format": 1,
        "task": recipe.task,
        "network": recipe.model,
        "recipe": recipe.name,
        "dataset": data.name,
        "embedding": {"layer": "embedding", "size": int(saved.get_layer("embedding").output.shape[-1])},
        "labels": list(data.labels),
        "head": recipe.head,
        # What the outputs are multiplied by before the softmax that tells identities apart.
        "head_scale": 1.0 if recipe.head == "softmax" else recipe.head_scale,
        "input": {
            "shape": list(shape),
            "dtype": "uint8",
            "range": [0, 255],
            "colour": data.colour,
            "training_size": recipe.image_size,
        },
        **({"alignment": _alignment(recipe)} if data.aligned else {}),
    }
    return Networks(trained, saved, loss_for(recipe.head, **settings), "accuracy", metadata, []), notes


def _network(recipe: Recipe, shape: tuple[int, int, int], num_identities: int) -> Any:
    build, scale = getattr(models, recipe.model), FACE_PRESETS[recipe.model].scale
    arguments = {"kernel_initializer": recipe.kernel_initializer, "scale": scale}
    if recipe.head == "softmax":
        return build(shape, num_identities, dropout=recipe.dropout, **arguments)
    network = build(shape, **arguments)
    # In float32 whatever the policy, as the classifier with logits.
    dropped = keras.layers.Dropout(recipe.dropout, dtype="float32", name="dropout")(network.output)
    cosines = CosineHead(num_identities, dtype="float32", name="logits")(dropped)
    return keras.Model(network.input, cosines, name=recipe.model)


def _alignment(recipe: Recipe) -> dict[str, Any]:
    """Returns where a face is in what the network takes, the centre of an aligned picture in its size here."""
    preset = FACE_PRESETS[recipe.model]
    zoom = recipe.image_size / preset.training_size
    return {
        "size": recipe.crop_size,
        "eye_mouth_distance": preset.eye_mouth_distance * zoom,
        "eye_row": preset.training_eye_row * zoom - (recipe.image_size - recipe.crop_size) // 2,
        "training_size": recipe.image_size,
    }


def training_batch(
    recipe: Recipe, data: FaceDataset, positions: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Returns random pieces `(batch, crop_size, crop_size, channels)` of changed pictures, and labels `(batch,)`."""
    pictures = augment_images(
        data.train.take(positions),
        generator,
        max_rotation_degrees=recipe.max_rotation_degrees,
        max_zoom=recipe.max_zoom,
        elastic_distortion=recipe.elastic_distortion,
        flip=recipe.flip,
    )
    size = recipe.crop_size
    tops, lefts = generator.integers(0, pictures.shape[1] - size + 1, (2, len(pictures))).tolist()
    corners = zip(pictures, tops, lefts, strict=True)
    pieces = np.stack([picture[top : top + size, left : left + size] for picture, top, left in corners])
    pieces = augment_images(pieces, generator, cutout=recipe.cutout)
    return pieces.astype(np.float32), data.train.labels[positions].astype(np.int32)


def validation_batch(
    recipe: Recipe, data: FaceDataset, positions: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Returns the centres of the validation pictures, and their labels."""
    split = data.split("validation")
    pictures = centre_of(split.take(positions), recipe.crop_size)
    return pictures.astype(np.float32), split.labels[positions].astype(np.int32)
