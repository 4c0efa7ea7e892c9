"""train(recipe) -> Run: on `keras.Model.fit`, repeatable, and able to go on where it was stopped."""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lightcnn.augmentation import augment_images
from lightcnn.backends import describe_environment, has_fast_bfloat16, set_seed
from lightcnn.datasets import ImageDataset, Split
from lightcnn.errors import DivergedError, RecipeError, RunError, nearest
from lightcnn.evaluation import evaluate_splits, load_data
from lightcnn.files import atomic_write, write_json
from lightcnn.models import lcnn, load_model, save_model
from lightcnn.progress import ProgressBar
from lightcnn.runs import Recipe, Run, default_run_folder
from lightcnn.schedules import OneCycle

__all__ = ["train"]

_MODELS = {"lcnn": lcnn}


def train(
    recipe: Recipe,
    run_dir: Path | str | None = None,
    data_dir: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    validation_only: bool = False,
    skip_bad_files: bool = False,
    quiet: bool = False,
    command: str = "lightcnn.train",
) -> Run:
    """Trains a model, measures its best epoch, and writes all of it into a run folder.

    One seed on one machine always gives the same weights, and a training that was killed and resumed gives those of
    one that was not: what an epoch does depends on the recipe, the epoch and the checkpoint alone.

    Args:
        recipe: What to train.
        run_dir: The run folder; None for `runs/<recipe>/<time>`.
        data_dir: Where the data are; the published sets are found or downloaded without.
        resume: Go on with the run in `run_dir` after its last finished epoch.
        overwrite: Delete the run in `run_dir` first.
        validation_only: Leave the test split untouched.
        skip_bad_files: Train without the pictures that cannot be read.
        quiet: Whether to show no progress.
        command: What to note as the command that made the run.

    Returns:
        The finished run.

    Raises:
        DataError: If the data cannot be used.
        RecipeError: If the recipe does not fit the data or `initial_weights`.
        RunError: If the folder is in use, or cannot be resumed.
        DivergedError: If the loss becomes NaN or infinite; the best epoch before stays.
        StorageError: If the disk is full; the last checkpoint stays.

    Example:
    >>> run = train(get_recipe("mnist", epochs=2))
    >>> run.metrics["test"]["accuracy"]
    0.989
    """
    run = Run.create(run_dir or default_run_folder(recipe.name), recipe, resume=resume, overwrite=overwrite)
    set_seed(recipe.seed)
    with ProgressBar(quiet) as bar:
        bar.say(str(run.folder))
        data = load_data(recipe, data_dir, skip_bad_files=skip_bad_files, bar=bar)
        for path, cause in data.skipped:
            bar.say(f"Skipped {path}: {cause}")
        bar.say(f"{data.name} from {data.source}: {_count_pictures(data)}")
        if resume:
            _check_same_data(run, data)
        precision = _resolve_precision(recipe)
        models, notes = _build(recipe, data, precision)
        for note in notes:
            bar.say(note)
        run.write_environment(_environment(data, data_dir, models.saved, precision, command, notes))
        state = _fit(run, recipe, data, models, bar)
        run.write_metrics({"train_seconds": state.train_seconds, "parameters": models.saved.count_params()})
        splits = ("validation",) if validation_only or data.test is None else ("validation", "test")
        figures = evaluate_splits(run, data, splits, bar)
        for name in splits:
            bar.say(f"{name}: accuracy {figures[name]['accuracy']:.2%}, loss {figures[name]['loss']:.4f}")
        bar.say(f"Report: {run.report}")
    return run


def _count_pictures(data: ImageDataset) -> str:
    return ", ".join(f"{count:,} to {use}" for use, count in _pictures(data).items())


def _pictures(data: ImageDataset) -> dict[str, int]:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: len(split) for name, split in splits.items() if split is not None}


def _check_same_data(run: Run, data: ImageDataset) -> None:
    try:
        digest = run.environment["data"]["digest"]
    except RunError:
        return  # killed before it got that far
    if digest != data.digest:
        raise RunError(f"{data.source} is not the data that {run.folder} was started on. Name the same --data-dir.")


# ----------------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class _Models:
    """Two networks with the same weights: what is trained (logits, maybe bfloat16) and what is kept (float32)."""

    trained: Any
    saved: Any
    metadata: dict[str, Any]


def _resolve_precision(recipe: Recipe) -> str:
    if recipe.precision == "auto":
        return "bfloat16" if has_fast_bfloat16() else "float32"
    return recipe.precision


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(recipe: Recipe, data: ImageDataset, precision: str) -> tuple[_Models, list[str]]:
    initial = _load_initial(recipe)
    scale, offset = _normalization(recipe, data.train) if initial is None else _preprocessing_of(initial)
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
        with _dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32"):
            trained = _MODELS[recipe.model](**arguments, classifier_activation=None)
        with _dtype_policy("float32"):
            saved = _MODELS[recipe.model](**arguments)
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
    return _Models(trained, saved, metadata), notes


def _normalization(recipe: Recipe, split: Split) -> tuple[Any, Any]:
    """Returns the scale and offset of the network's first layer: for all channels, or one each."""
    if recipe.normalization == "unit":
        return (1 / 255 if split.images.dtype == np.uint8 else 1.0), 0.0
    total = np.zeros(split.images.shape[-1])
    squares, count = np.zeros_like(total), 0
    for start in range(0, len(split), 1024):
        pictures = split.take(slice(start, start + 1024)).astype(np.float64)
        total += pictures.sum(axis=(0, 1, 2))
        squares += np.square(pictures).sum(axis=(0, 1, 2))
        count += pictures[..., 0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation == 0] = 1.0  # a channel that never changes
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


def _environment(
    data: ImageDataset, data_dir: Path | str | None, model: Any, precision: str, command: str, notes: list[str]
) -> dict[str, Any]:
    return {
        **describe_environment(),
        "backend": keras.backend.backend(),
        "precision": precision,
        "command": command,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "source": str(data.source),
            "data_dir": str(Path(data_dir).absolute()) if data_dir is not None else None,
            "digest": data.digest,
            "labels": list(data.labels),
            "pictures": _pictures(data),
            "skipped": [{"file": str(path), "cause": cause} for path, cause in data.skipped],
        },
        "layers": [
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "output": str(tuple(layer.output.shape[1:])),
                "parameters": layer.count_params(),
            }
            for layer in model.layers
        ],
        "notes": notes,
    }


# -------------------------------------------------------------------------------------------------------- training


class _Batches(keras.utils.PyDataset):
    """Augmented batches of nearly equal size; a batch depends on the seed, the epoch and its index alone.

    With one picture left over, a last batch of one would give batch norm nothing to normalize, so sizes are evened out.
    """

    def __init__(self, split: Split, recipe: Recipe, num_classes: int) -> None:
        super().__init__()
        self.epoch = 0
        self._split, self._recipe, self._num_classes = split, recipe, num_classes
        self._order: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        epoch, order = self._order
        if epoch != self.epoch:
            epoch = self.epoch
            shuffled = np.random.default_rng((self._recipe.seed, epoch)).permutation(len(self._split))
            order = np.array_split(shuffled, len(self))
            self._order = (epoch, order)
        positions = order[index]
        pictures = augment_images(
            self._split.take(positions),
            np.random.default_rng((self._recipe.seed, epoch, index)),
            max_shift=self._recipe.max_shift,
            flip=self._recipe.flip,
            cutout=self._recipe.cutout,
        )
        return pictures.astype(np.float32), _one_hot(self._split.labels[positions], self._num_classes)


class _ValidationBatches(keras.utils.PyDataset):
    def __init__(self, split: Split, num_classes: int) -> None:
        super().__init__()
        self._split, self._num_classes = split, num_classes

    def __len__(self) -> int:
        return math.ceil(len(self._split) / 256)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        part = slice(index * 256, (index + 1) * 256)
        return self._split.take(part).astype(np.float32), _one_hot(self._split.labels[part], self._num_classes)


def _one_hot(labels: Any, num_classes: int) -> Any:
    return np.eye(num_classes, dtype=np.float32)[labels]


@dataclass
class _State:
    """What a finished epoch leaves behind."""

    history: list[dict[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0

    @property
    def epochs(self) -> int:
        return len(self.history)

    def best_epoch(self, monitor: str) -> int:
        """The first of the best epochs, counted from 1; a NaN is worse than anything."""
        sign = 1.0 if monitor == "loss" else -1.0
        values = [sign * row[f"val_{monitor}"] for row in self.history]
        return int(np.argmin([math.inf if math.isnan(value) else value for value in values])) + 1


def _fit(run: Run, recipe: Recipe, data: ImageDataset, models: _Models, bar: ProgressBar) -> _State:
    batches = _Batches(data.train, recipe, len(data.labels))
    optimizer = _optimizer(recipe, num_steps=len(batches) * recipe.epochs)
    models.trained.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    optimizer.build(models.trained.trainable_variables)
    state = _restore(run, models.trained)
    if state.epochs:
        bar.say(f"Going on after epoch {state.epochs}.")
    if state.epochs < recipe.epochs and not _out_of_patience(state, recipe):
        validation = _ValidationBatches(data.split("validation"), len(data.labels))
        remaining = (recipe.epochs - state.epochs) * len(batches)
        with bar.task(f"Training {recipe.name}", remaining) as task:
            models.trained.fit(
                batches,
                validation_data=validation,
                initial_epoch=state.epochs,
                epochs=recipe.epochs,
                callbacks=[_Recorder(run, recipe, models, batches, state, bar, task)],
                shuffle=False,
                verbose=0,
            )
    if state.epochs:
        run.write_history(state.history)
    if not run.best_model.exists():
        raise DivergedError(f"{run.folder} has no best.keras: no epoch gave a finite validation loss.")
    return state


def _optimizer(recipe: Recipe, num_steps: int) -> Any:
    rate: Any = recipe.learning_rate
    if recipe.schedule == "one_cycle":
        rate = OneCycle(recipe.learning_rate, num_steps)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def _out_of_patience(state: _State, recipe: Recipe) -> bool:
    return bool(recipe.patience and state.epochs - state.best_epoch(recipe.monitor) >= recipe.patience)


class _Recorder(keras.callbacks.Callback):
    """Keeps the run folder true after every epoch, stops what does not get better, and shows where it is.

    The order makes a kill at any moment harmless: the best model first, then the checkpoint, then the history. Killed
    in between, the run goes on from the older checkpoint and the same epoch gives the same files again.
    """

    def __init__(
        self, run: Run, recipe: Recipe, models: _Models, batches: _Batches, state: _State, bar: ProgressBar, task: Any
    ) -> None:
        super().__init__()
        self._run, self._recipe, self._models, self._batches = run, recipe, models, batches
        self._state, self._bar, self._task = state, bar, task
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batches.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        epoch = self._state.epochs + 1
        if not math.isfinite(loss):
            kept = f"best.keras of epoch {self._state.best_epoch(self._recipe.monitor)} is kept" if epoch > 1 else ""
            raise DivergedError(
                f"The loss became {loss} at step {batch + 1} of epoch {epoch}; training stopped"
                f"{', ' + kept if kept else ''}. "
                f"Try a smaller learning_rate. Received: learning_rate={self._recipe.learning_rate}"
            )
        self._task.advance(
            description=f"Epoch {epoch}/{self._recipe.epochs}", figures=f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        row = {
            "epoch": epoch + 1,
            **{key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(seconds, 3),
        }
        state = self._state
        state.history.append(row)
        state.train_seconds += seconds
        best = state.best_epoch(self._recipe.monitor) == state.epochs and math.isfinite(row["val_loss"])
        if best:
            self._models.saved.set_weights(self.model.get_weights())
            save_model(self._models.saved, self._run.best_model, {**self._models.metadata, "epoch": epoch + 1})
        _keep(self._run, self.model, state)
        self._run.write_history(state.history)
        self._bar.say(
            f"epoch {epoch + 1}/{self._recipe.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.2%}  {seconds:.1f} s"
            f"{'  best' if best else ''}"
        )
        if _out_of_patience(state, self._recipe):
            self._bar.say(f"No better val_{self._recipe.monitor} for {self._recipe.patience} epochs: stopped.")
            self.model.stop_training = True


# ------------------------------------------------------------------------------------------------------ checkpoint


def _variables(model: Any) -> dict[str, Any]:
    """Everything that changes in training: weights, moving statistics, dropout's random state, the optimizer."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{name}/{index}": variable for name, group in groups.items() for index, variable in enumerate(group)}


def _keep(run: Run, model: Any, state: _State) -> None:
    """Writes a checkpoint. `state.json` names the file of weights that belongs to it, so the pair changes at once."""
    name = f"epoch-{state.epochs:05}.npz"
    with atomic_write(run.checkpoint / name) as file:
        np.savez(file, **{key: keras.ops.convert_to_numpy(value) for key, value in _variables(model).items()})
    content = {"weights": name, "train_seconds": state.train_seconds, "history": state.history}
    write_json(run.checkpoint / "state.json", content)
    for path in run.checkpoint.iterdir():
        if path.name not in (name, "state.json"):
            path.unlink()  # the checkpoint before this one, or what a kill left half written


def _restore(run: Run, model: Any) -> _State:
    path = run.checkpoint / "state.json"
    if not path.exists():
        return _State()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        with np.load(io.BytesIO((run.checkpoint / content["weights"]).read_bytes()), allow_pickle=False) as arrays:
            variables = _variables(model)
            if set(arrays.files) != set(variables):
                raise ValueError("its variables are not the model's")
            for key, variable in variables.items():
                variable.assign(arrays[key])
        return _State(content["history"], content["train_seconds"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(
            f"The checkpoint in {run.checkpoint} is damaged: {error}. Start again with --overwrite."
        ) from error
