"""A recipe says what to train; a run is the folder that holds what came of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np

from lightcnn.datasets import CORPORA, DATASETS
from lightcnn.errors import RecipeError, RunError, StorageError, nearest
from lightcnn.files import write_json, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FACES",
    "FIXED_SIZE",
    "IMAGES",
    "SPEECH",
    "TASKS",
    "Recipe",
    "Run",
    "compare",
    "default_run_folder",
    "parse_settings",
]

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
        dropout: Share of the embedding dropped.
        monitor: Validation figure that chooses the best epoch: `loss` (lowest) or `accuracy` (highest).
        patience: Epochs without a better one after which training stops; 0 for never.
        precision: `float32`, `bfloat16` (mixed), or `auto`: bfloat16 where the processor gains from it.
        initial_weights: A run folder or `.keras` file whose weights (and preprocessing) to start from; empty for none.
        freeze: Names of layers (patterns such as `conv_*` too) that are not trained.
        width: Pictures: what the channels of every convolution are multiplied by.
        batch_norm_momentum: Pictures: momentum of the moving statistics.
        label_smoothing: Pictures, faces: share of the target spread over all classes.
        kernel_initializer: Pictures, faces: Keras' name of the initializer of all kernels but the last.
        normalization: Pictures: `standard` (mean 0 and deviation 1 a channel over the training data) or `unit`
            (8-bit pictures divided by 255, others as they are).
        max_shift: Pictures: largest random shift in pixels.
        max_rotation_degrees: Pictures, faces: largest random turn, either way.
        max_zoom: Pictures, faces: largest random change of size, as a share.
        flip: Pictures, faces: whether training pictures are mirrored at random.
        cutout: Pictures, faces: side in pixels of a square that is blanked at random; 0 for none.
        validation_fraction: Share held out of the training data, where it has no validation split.
        test_fraction: The same for the test split; of faces, the share of the people, whom training does not see.
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
    patience: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    initial_weights: str = ""
    freeze: tuple[str, ...] = field(default=())
    width: float = _of(IMAGES, default=1.0)
    batch_norm_momentum: float = _of(IMAGES, default=0.9)
    label_smoothing: float = _of(IMAGES, FACES, default=0.1)
    kernel_initializer: str = _of(IMAGES, FACES, default="he_normal")
    normalization: Literal["standard", "unit"] = _of(IMAGES, default="standard")
    max_shift: int = _of(IMAGES, default=0)
    max_rotation_degrees: float = _of(IMAGES, FACES, default=0.0)
    max_zoom: float = _of(IMAGES, FACES, default=0.0)
    flip: bool = _of(IMAGES, FACES, default=False)
    cutout: int = _of(IMAGES, FACES, default=0)
    image_size: int = _of(IMAGES, FACES, default=64)
    channels: int = _of(IMAGES, FACES, default=0)
    crop_size: int = _of(FACES, default=128)
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
            if kind is float and type(value) is int:
                object.__setattr__(self, key, float(value))
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
                    f"{key} has no effect with {other}={getattr(self, other)}: it needs {' or '.join(needed)}. "
                    f"Received: {key}={getattr(self, key)!r}"
                )
        for one in dataclasses.fields(self):
            if self.task not in _tasks(one) and self._is_set(one.name):
                raise RecipeError(
                    f"{one.name} belongs to {' and '.join(_tasks(one))}, and {self.name} is a recipe of {self.task}. "
                    f"Keys: {', '.join(self.to_json())}."
                )
        if self.task == FACES and self.crop_size > self.image_size:
            raise RecipeError(
                f"crop_size must be at most image_size, since it is a piece of the picture. "
                f"Received: crop_size={self.crop_size}, image_size={self.image_size}"
            )

    def _is_set(self, key: str) -> bool:
        return bool(getattr(self, key) != next(one.default for one in dataclasses.fields(self) if one.name == key))

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
    "cutout": (0, 10_000),
    "validation_fraction": (0.001, 0.9),
    "test_fraction": (0, 0.9),
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
    "margin": ("head", _MARGIN_HEADS),
    "head_scale": ("head", _MARGIN_HEADS),
    "image_size": ("dataset", ("images", "faces")),
    "channels": ("dataset", ("images", "faces")),
    "test_fraction": ("dataset", ("images", "csv", "faces")),
    "pad": ("model", FIXED_SIZE),
    "balanced": ("head", ("softmax", "sigmoid")),
}

# what `environment.json` always holds
_ENVIRONMENT_KEYS = (
    "backend",
    "command",
    "data",
    "layers",
    "notes",
    "preprocessing",
    "processor",
    "started",
    "versions",
)
_DATA_KEYS = ("data_dir", "digest", "labels", "name", "sizes", "skipped", "source")


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
    return names.get(kind, "names separated by commas")


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


def default_run_folder(recipe: str) -> Path:
    """Returns `runs/<recipe>/<YYYYMMDD-HHMMSS>`, with `-2`, `-3` ... behind it if that is taken."""
    first = Path("runs") / recipe / datetime.now().strftime("%Y%m%d-%H%M%S")
    names = chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2)))
    return next(folder for folder in names if not folder.exists())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks a folder against other trainings, where the system can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Another training is at work in {folder}. Wait for it, or choose another --run-dir."
            ) from None
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Run:
    """The folder of one training.

    It holds `recipe.json` (fully resolved), `environment.json`, `history.csv` (one row a finished epoch),
    `checkpoint/` (all that resuming needs), `best.keras`, `metrics.json`, `scores.csv`, `report.html` and
    `model.onnx` (what `best.keras` is used as, without Keras).

    Args:
        folder: The folder.

    Example:
    >>> run = Run.open("runs/mnist/20261124-120000")
    >>> run.metrics["test"]["accuracy"]
    0.9963
    """

    folder: Path

    @classmethod
    @contextmanager
    def claim(
        cls, folder: Path | str, recipe: Recipe, *, resume: bool = False, overwrite: bool = False
    ) -> Iterator[Run]:
        """Keeps a folder for one training and checks that it may stand there; nothing in it is touched.

        The lock is one of the operating system, so it ends with the process, however that ends.

        Raises:
            RunError: If another training is at work there; if the folder is not empty and neither `resume` nor
                `overwrite` is asked for; if `resume` finds no run, or another recipe.
        """
        run = cls(Path(folder).absolute())
        if run.folder.exists() and not run.folder.is_dir():
            raise RunError(f"{run.folder} is a file. A run needs a folder: choose another --run-dir.")
        if resume and not run._path("recipe.json").exists():
            raise RunError(f"{run.folder} holds no run that could be resumed: it has no recipe.json.")
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{run.folder} could not be made: {error.strerror}. Choose another --run-dir."
            ) from error
        try:
            with _locked(run.folder):
                run._check_free(recipe, resume, overwrite)
                if resume:
                    run._remove([path for path in run.folder.iterdir() if not _lasting(path)])
                yield run
        finally:
            if run.folder.is_dir() and not any(run.folder.iterdir()):
                run.folder.rmdir()

    def _check_free(self, recipe: Recipe, resume: bool, overwrite: bool) -> None:
        if resume:
            if changed := _differences(self.recipe, recipe):
                raise RunError(
                    f"{self.folder} was trained with another recipe: {changed}. Resume it with its own settings, or "
                    "start another run in another folder."
                )
        elif any(_lasting(path) for path in self.folder.iterdir()):
            if not overwrite:
                raise RunError(
                    f"{self.folder} is not empty. Pass --resume to go on with it, --overwrite to delete what is in "
                    "it, or choose another --run-dir."
                )
            if not self._path("recipe.json").exists():
                raise RunError(f"{self.folder} holds something that is no run, so --overwrite does not delete it.")

    def start(self, recipe: Recipe) -> None:
        """Empties the claimed folder and writes `recipe.json`."""
        self._remove(list(self.folder.iterdir()))
        write_json(self._path("recipe.json"), recipe.to_json())

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Opens the folder of a run.

        Raises:
            RunError: If the folder is not a run's.
        """
        run = cls(Path(folder).absolute())
        if not run._path("recipe.json").is_file():
            what = "is not a run folder: it has no recipe.json" if run.folder.is_dir() else "does not exist"
            raise RunError(f"{folder} {what}. A run folder is made by `lightcnn train`.")
        return run

    def _path(self, name: str) -> Path:
        return self.folder / name

    @property
    def best_model(self) -> Path:
        """The model of the best epoch, `best.keras`."""
        return self._path("best.keras")

    @property
    def artifact(self) -> Path:
        """The best model as an artifact that runs without Keras, `model.onnx`."""
        return self._path("model.onnx")

    @property
    def checkpoint(self) -> Path:
        """The folder with all that resuming needs."""
        return self._path("checkpoint")

    @property
    def report(self) -> Path:
        """The report, `report.html`."""
        return self._path("report.html")

    @property
    def scores(self) -> Path:
        """The probabilities of every test image, `scores.csv`."""
        return self._path("scores.csv")

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            RunError: If `recipe.json` is damaged.
        """
        try:
            return Recipe.from_json(self._read_json("recipe.json"))
        except RecipeError as error:
            raise RunError(f"{self._path('recipe.json')}: {error}") from error

    @property
    def has_environment(self) -> bool:
        """Whether the training got as far as its first step."""
        return self._path("environment.json").exists()

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, processor, data and command of the training.

        Raises:
            RunError: If `environment.json` is missing or damaged.
        """
        content = self._read_json("environment.json")
        data = content.get("data")
        lacking = [f"data.{key}" for key in _DATA_KEYS if not isinstance(data, dict) or key not in data]
        if lacking := [key for key in _ENVIRONMENT_KEYS if key not in content] + lacking:
            raise RunError(f"{self.folder}/environment.json is damaged: it lacks {', '.join(lacking)}. Train again.")
        return content

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures: `train_seconds`, `parameters`, `validation` and `test`."""
        return self._read_json("metrics.json")

    @property
    def history(self) -> list[dict[str, float]]:
        """One dictionary a finished epoch, from `history.csv`."""
        path = self._path("history.csv")
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def write_environment(self, content: dict[str, Any]) -> None:
        """Writes `environment.json`."""
        write_json(self._path("environment.json"), content)

    def write_metrics(self, content: dict[str, Any]) -> None:
        """Writes `metrics.json`."""
        write_json(self._path("metrics.json"), content)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes `history.csv`: one header, one row an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path("history.csv"), text.getvalue())

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.folder} has no {name}: the run is not finished. Go on with it: --resume.") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{path} must hold a JSON object. Received: {type(content).__name__}")
        return content


def _lasting(path: Path) -> bool:
    """Tells a file from one that a kill left half written."""
    return not (path.name.startswith(".") and path.suffix == ".tmp")


def _differences(old: Recipe, new: Recipe) -> str:
    before, after = old.to_json(), new.to_json()
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in changed)


def compare(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Groups finished runs by recipe, whatever their seeds, and averages their figures.

    Args:
        runs: Finished runs.

    Returns:
        A dictionary a configuration: `recipe`; `settings`, where configurations differ; `seeds`; and for each figure
        (`validation_accuracy`, `test_accuracy`, `test_loss`, `train_seconds`, ...) its `mean` and `std` over seeds
        (the sample's, with n - 1; None for a single seed).

    Raises:
        RunError: If a run is not finished.

    Example:
    >>> compare([Run.open("runs/mnist/seed-1"), Run.open("runs/mnist/seed-2")])[0]["test_accuracy"]
    {'mean': 0.9962, 'std': 0.0003}
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        # What a figure depends on besides the seed: the recipe, the data, and how exactly it was computed.
        trained_on = run.environment["data"]
        data = {"data": f"{trained_on['name']} {trained_on['digest'][:12]}"}
        settings = {key: value for key, value in run.recipe.to_json().items() if key != "seed"} | data
        group = groups.setdefault(json.dumps(settings, sort_keys=True), [])
        if twin := next((other for other in group if other.recipe.seed == run.recipe.seed), None):
            raise RunError(f"{twin.folder} and {run.folder} are one run: recipe, data and seed are the same.")
        group.append(run)
    configurations = [json.loads(key) for key in groups]
    differing = (
        [key for key in configurations[0] if len({json.dumps(settings[key]) for settings in configurations}) > 1]
        if configurations
        else []
    )
    rows = []
    for settings, group in zip(configurations, groups.values(), strict=True):
        row: dict[str, Any] = {
            "recipe": settings["name"],
            "settings": {key: settings[key] for key in differing if key != "name"},
            "seeds": sorted(run.recipe.seed for run in group),
        }
        figures = [_figures(run) for run in group]
        for key in figures[0]:
            if all(key in figure for figure in figures):
                values = [figure[key] for figure in figures]
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                row[key] = {"mean": float(np.mean(values)), "std": deviation}
        rows.append(row)
    return rows


# the figures of a split that are averaged over seeds
_COMPARED = ("accuracy", "loss", "eer", "min_dcf", "min_tdcf")


def _figures(run: Run) -> dict[str, float]:
    metrics = run.metrics
    try:
        figures = {
            f"{split}_{key}": metrics[split][key]
            for split in ("validation", "test")
            for key in _COMPARED
            if split in metrics and metrics[split].get(key) is not None
        }
        if not figures:
            raise KeyError("validation")
        return {**figures, "train_seconds": metrics["train_seconds"], "parameters": metrics["parameters"]}
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{run.folder} is not finished, or its metrics.json is damaged: it lacks {error}. Go on with it: --resume."
        ) from error
