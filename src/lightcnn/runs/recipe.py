"""A recipe says what to train."""

from __future__ import annotations

import dataclasses
import numbers
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_origin

from lightcnn.datasets import CORPORA, DATASETS
from lightcnn.errors import RecipeError, nearest

__all__ = ["FACES", "FIXED_SIZE", "IMAGES", "SPEECH", "TASKS", "Recipe", "parse_settings"]

IMAGES, SPEECH, FACES = "image classification", "voice anti-spoofing", "face representation"
TASKS = (IMAGES, SPEECH, FACES)
# the data sets, the networks and the heads of each task
_DATASETS = {IMAGES: DATASETS, SPEECH: tuple(CORPORA), FACES: ("faces",)}
FIXED_SIZE = ("stc2019", "stc2017", "lcnn_fixed")
_MODELS = {
    IMAGES: ("lcnn",),
    SPEECH: (*FIXED_SIZE, "lcnn_attention", "lcnn_lstm_sum"),
    FACES: ("light_cnn_4", "light_cnn_9", "light_cnn_29", "light_cnn_29v2", "light_cnn_v4"),
}
_MARGIN_HEADS = ("am_softmax", "arc_softmax")
_HEADS = {
    SPEECH: ("softmax", "sigmoid", "a_softmax", "am_softmax", "oc_softmax", "p2sgrad"),
    FACES: ("softmax", *_MARGIN_HEADS),
}


def _of(*tasks: str, default: Any) -> Any:
    """Declares a key that only the recipes of some tasks have."""
    return field(default=default, metadata={"tasks": tasks})


@dataclass(frozen=True)
class Recipe:
    """All that decides a training: one level, plain types, frozen.

    Some keys belong to one task or two (pictures, speech, faces); the other tasks' recipes do not have them.

    Attributes:
        name: What `lightcnn train` calls it.
        dataset: Pictures: `mnist`, `cifar10`, `arrays` or `images`. Speech: a name of `lightcnn.datasets.CORPORA`.
            Faces: `faces`.
        model: The network, one of `lightcnn.models`.
        epochs: Most passes over the training data.
        batch_size: Pictures or recordings a step.
        seed: Decides everything random: the first weights, the order, augmentation, dropout, the held-out data.
        optimizer: `adam`, `adamw` (weight decay apart from the gradient), `muon` (kernels by Muon, the rest by AdamW at
            a fifth of the rate) or `sgd` (with momentum; weight decay in the gradient). No weight decay is on biases
            and batch norm.
        schedule: `constant`, `one_cycle` or `steps`.
        learning_rate: The constant, the peak of the cycle, or that of the first step.
        step_epochs: Of `steps`: after so many epochs the learning rate is multiplied by `step_factor`, again and again.
        step_factor: Of `steps`.
        momentum: Of `sgd`.
        weight_decay: Of `adamw`, `muon` and `sgd`. For `sgd`, x is what `keras.regularizers.L2(x / 2)` does.
        dropout: Share that is dropped: of the embedding; of `lcnn_fixed`, of what enters its first dense layer; of
            `lcnn_attention` and `lcnn_lstm_sum`, of the frames' features.
        monitor: Validation figure that chooses the best epoch: `loss` (lowest) or `accuracy` (highest; of equal ones
            the one of the lowest loss).
        average_epochs: Of `one_cycle`, which ends so many epochs earlier: these go on at a fifth of the peak, each is
            validated as the mean of the weights at their ends so far (stochastic weight averaging), and the best of
            them is kept.
        patience: Epochs without a better one after which training stops; 0 for never.
        precision: `float32`, `bfloat16` (mixed), or `auto`: bfloat16 where the processor gains from it.
        initial_weights: A run folder or `.keras` file whose weights (and preprocessing) to start from; empty for none.
        freeze: Names of layers (patterns such as `conv_*` too) that are not trained.
        teacher: Pictures: a run folder or model file whose probabilities make seven tenths of the targets
            (distillation); empty for none.
        width: Pictures: what the channels of every convolution are multiplied by.
        batch_norm_momentum: Pictures: momentum of the moving statistics.
        label_smoothing: Pictures, faces: share of the target spread over all classes.
        kernel_initializer: Pictures, faces: Keras' name of the initializer of all kernels but the last.
        normalization: Pictures: `standard` (mean 0 and deviation 1 a channel over the training data) or `unit`
            (8-bit pictures divided by 255, others as they are).
        max_shift: Pictures: largest random shift in pixels.
        max_rotation_degrees: Pictures, faces: largest random turn, either way.
        max_zoom: Pictures, faces: largest random change of size, as a share.
        elastic_distortion: Pictures, faces: standard deviation in pixels of a smooth random displacement.
        flip: Pictures, faces: whether training pictures are mirrored at random.
        cutout: Pictures, faces: side in pixels of a square that is blanked at random; 0 for none.
        cutmix: Pictures: share of the batches whose pictures get a piece of each other, and of each other's targets.
        validation_fraction: Share held out of the training data, where it has no validation split.
        test_fraction: The same for the test split; of faces, the share of the people, whom training does not see.
        calibration_fraction: Faces: share of the training's people who are held out to measure the threshold, at least
            ten; 0 for none, and no threshold.
        image_size: Pictures in folders, faces: height and width in pixels.
        channels: Pictures in folders: 1, 3, or 0 to decide by the pictures. Faces: 1 (grey), 3 (RGB; for
            `light_cnn_v4` BGR), or 0 for those that the released network takes.
        crop_size: Faces: height and width in pixels of what the network takes: in training a piece of the picture at
            random, else its centre.
        classifier_multiplier: Faces, `sgd`: what the learning rate of the classifier is multiplied by.
        bias_multiplier: Faces, `sgd`: what that of all biases is multiplied by, the classifier's besides.
        clip_norm: Faces: the largest norm of all gradients together; 0 for no limit.
        margin: Faces, `am_softmax` (in cosines) and `arc_softmax` (in radians): by how much an identity must win.
        head_scale: Faces, the same heads: what cosines are multiplied by.
        front_end: Speech: a name of `lightcnn.frontends.PRESETS`.
        head: Speech, faces: what the network ends in, with its loss. Speech: `softmax`, `sigmoid`, `a_softmax`,
            `am_softmax`, `oc_softmax` or `p2sgrad`. Faces: `softmax`, `am_softmax` or `arc_softmax`.
        duration_s: Speech: how much of a recording a training step sees, in seconds; networks of fixed size see as
            much of every file.
        crop: Speech: where a longer recording is cut in training: `first`, `centre` or `random`. Files are scored from
            their beginning.
        pad: Speech, networks of fixed size: what a shorter recording is filled with: `repeat`, `zero` or `edge`.
        balanced: Speech: whether the two classes weigh the same in the loss (`softmax` and `sigmoid`).
        room: Speech: share of training recordings that are heard in a simulated room. This key and the next seven
            are those of `lightcnn.augmentation.augment_audio`.
        noise: Speech: share that noise is added to.
        convolutive: Speech: share that passes RawBoost's linear and non-linear convolutive noise.
        impulsive: Speech: share that passes RawBoost's impulsive noise.
        stationary: Speech: share that passes RawBoost's stationary noise.
        max_gain_db: Speech: largest change of level, either way, in dB.
        codec: Speech: share that passes a codec.
        codecs: Speech: the codecs to draw from, separated by commas.
        max_masked_frames: Speech: the longest of two stretches of time that are hidden in training (SpecAugment).
        max_masked_bins: Speech: the widest of two bands of frequency (or of coefficients) that are hidden in training.
    """

    name: str
    dataset: str
    model: str = "lcnn"
    epochs: int = 10
    batch_size: int = 128
    seed: int = 0
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = "adamw"
    schedule: Literal["constant", "one_cycle", "steps"] = "one_cycle"
    learning_rate: float = 4e-3
    step_epochs: int = 10
    step_factor: float = 0.457305051927326
    momentum: float = 0.9
    weight_decay: float = 0.0
    dropout: float = 0.5
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    monitor: Literal["loss", "accuracy"] = "accuracy"
    average_epochs: int = 0
    patience: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    initial_weights: str = ""
    freeze: tuple[str, ...] = field(default=())
    teacher: str = _of(IMAGES, default="")
    width: float = _of(IMAGES, default=1.0)
    batch_norm_momentum: float = _of(IMAGES, default=0.9)
    label_smoothing: float = _of(IMAGES, FACES, default=0.1)
    kernel_initializer: str = _of(IMAGES, FACES, default="he_normal")
    normalization: Literal["standard", "unit"] = _of(IMAGES, default="standard")
    max_shift: int = _of(IMAGES, default=0)
    max_rotation_degrees: float = _of(IMAGES, FACES, default=0.0)
    max_zoom: float = _of(IMAGES, FACES, default=0.0)
    elastic_distortion: float = _of(IMAGES, FACES, default=0.0)
    flip: bool = _of(IMAGES, FACES, default=False)
    cutout: int = _of(IMAGES, FACES, default=0)
    cutmix: float = _of(IMAGES, default=0.0)
    image_size: int = _of(IMAGES, FACES, default=64)
    channels: int = _of(IMAGES, FACES, default=0)
    crop_size: int = _of(FACES, default=128)
    calibration_fraction: float = _of(FACES, default=0.0)
    classifier_multiplier: float = _of(FACES, default=10.0)
    bias_multiplier: float = _of(FACES, default=2.0)
    clip_norm: float = _of(FACES, default=0.0)
    margin: float = _of(FACES, default=0.35)
    head_scale: float = _of(FACES, default=30.0)
    front_end: str = _of(SPEECH, default="lfcc_nii")
    head: Literal["softmax", "sigmoid", "a_softmax", "am_softmax", "arc_softmax", "oc_softmax", "p2sgrad"] = _of(
        SPEECH, FACES, default="sigmoid"
    )
    duration_s: float = _of(SPEECH, default=4.0)
    crop: Literal["first", "centre", "random"] = _of(SPEECH, default="random")
    pad: Literal["repeat", "zero", "edge"] = _of(SPEECH, default="repeat")
    balanced: bool = _of(SPEECH, default=False)
    room: float = _of(SPEECH, default=0.0)
    noise: float = _of(SPEECH, default=0.0)
    convolutive: float = _of(SPEECH, default=0.0)
    impulsive: float = _of(SPEECH, default=0.0)
    stationary: float = _of(SPEECH, default=0.0)
    max_gain_db: float = _of(SPEECH, default=0.0)
    codec: float = _of(SPEECH, default=0.0)
    codecs: str = _of(SPEECH, default="mulaw,alaw,mp3,ogg,opus")
    max_masked_frames: int = _of(SPEECH, default=0)
    max_masked_bins: int = _of(SPEECH, default=0)

    def __post_init__(self) -> None:
        for key, kind in _field_types().items():
            value = getattr(self, key)
            if kind in _NUMBERS and isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool):
                object.__setattr__(self, key, kind(value))
            elif not _fits(value, kind):
                raise RecipeError(f"{key} must be {_kind_name(kind)}. Received: {key}={value!r}")
        if all(self.dataset not in datasets for datasets in _DATASETS.values()):
            known = [name for names in _DATASETS.values() for name in names]
            raise RecipeError(f"dataset must be one of {', '.join(known)}. Received: dataset={self.dataset!r}")
        for key, values in (("model", _MODELS), ("head", _HEADS)):
            value = getattr(self, key)
            if value not in (fitting := values.get(self.task, (value,))):
                listed = ", ".join(fitting)
                raise RecipeError(f"{key} must be one of {listed} for {self.task}. Received: {key}={value!r}")
        for key, (low, high) in _RANGES.items():
            if not low <= getattr(self, key) <= high:
                raise RecipeError(f"{key} must be from {low} to {high}. Received: {key}={getattr(self, key)!r}")
        if self.channels not in (0, 1, 3):
            raise RecipeError(f"channels must be 1, 3, or 0 to decide by the pictures. Received: {self.channels}")
        for key, (other, needed) in _NEEDS.items():
            if self._is_set(key) and getattr(self, other) not in needed:
                raise RecipeError(
                    f"{key} has no effect with {other}={getattr(self, other)}: it needs {' or '.join(needed)}; "
                    f"without it, set {key}={_defaults()[key]}. Received: {key}={getattr(self, key)!r}"
                )
        for one in dataclasses.fields(self):
            if self.task not in _tasks(one) and self._is_set(one.name):
                raise RecipeError(
                    f"{one.name} belongs to {' and '.join(_tasks(one))}, and {self.name} is a recipe of {self.task}. "
                    f"Keys: {', '.join(self.to_json())}."
                )
        if self.average_epochs >= self.epochs:
            raise RecipeError(
                f"average_epochs must be less than epochs, of which they are the last. "
                f"Received: average_epochs={self.average_epochs}, epochs={self.epochs}"
            )
        if self.average_epochs and self.patience:
            raise RecipeError(
                "patience would end a training before the weights of its last epochs are averaged: set patience=0. "
                f"Received: average_epochs={self.average_epochs}, patience={self.patience}"
            )
        if self.task == FACES and self.crop_size > self.image_size:
            raise RecipeError(
                f"crop_size must be at most image_size, since it is a piece of the picture. "
                f"Received: crop_size={self.crop_size}, image_size={self.image_size}"
            )

    def _is_set(self, key: str) -> bool:
        return bool(getattr(self, key) != _defaults()[key])

    @property
    def task(self) -> str:
        """What the recipe's network does: one of `TASKS`."""
        return next(task for task, datasets in _DATASETS.items() if self.dataset in datasets)

    def to_json(self) -> dict[str, Any]:
        """Returns the keys of the recipe's task as plain JSON types."""
        keys = [key.name for key in dataclasses.fields(self) if self.task in _tasks(key)]
        return {key: list(value) if isinstance(value := getattr(self, key), tuple) else value for key in keys}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Makes a recipe from `to_json`'s result.

        Raises:
            RecipeError: If a key is unknown or missing, or a value does not fit.
        """
        _check_keys(content)
        if missing := [key for key in ("name", "dataset") if key not in content]:
            raise RecipeError(f"A recipe needs {missing}.")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
        }
        return cls(**values)


def _tasks(key: Any) -> tuple[str, ...]:
    """Returns the tasks whose recipes have a key, a field of `Recipe`."""
    tasks: tuple[str, ...] = key.metadata.get("tasks", TASKS)
    return tasks


# what fits a key beside its type; a share below one leaves something
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "seed": (0, 2**32 - 1),
    "learning_rate": (0, 1_000),
    "step_epochs": (1, 100_000),
    "average_epochs": (0, 100_000),
    "step_factor": (0, 1),
    "momentum": (0, 1),
    "weight_decay": (0, 100),
    "label_smoothing": (0, 0.99),
    "dropout": (0, 0.99),
    "width": (1 / 32, 64),
    "batch_norm_momentum": (0, 1),
    "max_shift": (0, 10_000),
    "max_rotation_degrees": (0, 180),
    "max_zoom": (0, 10),
    "elastic_distortion": (0, 100),
    "cutout": (0, 10_000),
    "cutmix": (0, 1),
    "validation_fraction": (0.001, 0.9),
    "test_fraction": (0, 0.9),
    "calibration_fraction": (0, 0.9),
    "patience": (0, 100_000),
    "image_size": (16, 4096),
    "crop_size": (16, 4096),
    "classifier_multiplier": (0, 1_000),
    "bias_multiplier": (0, 1_000),
    "clip_norm": (0, 1e9),
    "margin": (0, 1.5),
    "head_scale": (0.01, 1_000),
    "duration_s": (0.2, 600),
    **dict.fromkeys(("room", "noise", "convolutive", "impulsive", "stationary", "codec"), (0, 1)),
    "max_gain_db": (0, 60),
    "max_masked_frames": (0, 10_000),
    "max_masked_bins": (0, 10_000),
}


# a key that has an effect only with certain values of another
_NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "weight_decay": ("optimizer", ("adamw", "muon", "sgd")),
    "momentum": ("optimizer", ("sgd",)),
    "classifier_multiplier": ("optimizer", ("sgd",)),
    "bias_multiplier": ("optimizer", ("sgd",)),
    "step_epochs": ("schedule", ("steps",)),
    "step_factor": ("schedule", ("steps",)),
    "average_epochs": ("schedule", ("one_cycle",)),
    "margin": ("head", _MARGIN_HEADS),
    "head_scale": ("head", _MARGIN_HEADS),
    "image_size": ("dataset", ("images", "faces")),
    "channels": ("dataset", ("images", "faces")),
    "validation_fraction": ("dataset", (*DATASETS, "csv", "faces")),
    "test_fraction": ("dataset", ("images", "csv", "faces")),
    "pad": ("model", FIXED_SIZE),
    "balanced": ("head", ("softmax", "sigmoid")),
}


_NUMBERS: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real}  # NumPy's too


@cache
def _defaults() -> dict[str, Any]:
    return {one.name: one.default for one in dataclasses.fields(Recipe)}


@cache  # every value that is set asks
def _field_types() -> dict[str, Any]:
    return typing.get_type_hints(Recipe)


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return type(value) is kind


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "a tuple of texts")


def _check_keys(keys: Iterable[str]) -> None:
    known = _field_types()
    for key in keys:
        if key not in known:
            raise RecipeError(f"A recipe has no key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Turns `KEY=VALUE` texts into a recipe's values.

    Args:
        settings: For example `["epochs=3", "flip=true", "freeze=conv_1,conv_2"]`.

    Returns:
        Values of the keys' types, for `dataclasses.replace(recipe, **values)`.

    Raises:
        RecipeError: If a key is unknown (the nearest is named) or a value does not fit.

    Example:
    >>> parse_settings(["epochs=3", "flip=yes"])
    {'epochs': 3, 'flip': True}
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"A setting is KEY=VALUE. Received: {setting!r}")
        _check_keys([key])
        if key in ("name", "dataset"):
            raise RecipeError(f"{key} makes another recipe: name that one instead of setting {setting!r}.")
        values[key] = _parse(key, text, _field_types()[key])
    return values


def _parse(key: str, text: str, kind: Any) -> Any:
    switches = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool:
            return switches[text.lower()]
        if get_origin(kind) is tuple:
            return tuple(name.strip() for name in text.split(",") if name.strip())
        value = kind(text) if kind in (int, float) else text
    except (ValueError, KeyError):
        value = text
    if not _fits(value, kind):
        raise RecipeError(f"{key} must be {_kind_name(kind)}. Received: {key}={text!r}")
    return value
