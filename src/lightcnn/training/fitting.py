"""Batches in, finished epochs out: the loop, and what is done after every epoch."""

from __future__ import annotations

import contextlib
import gc
import math
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import keras
import numpy as np

from lightcnn.backends import random_stream
from lightcnn.errors import DivergedError, RunError
from lightcnn.models import save_model
from lightcnn.optimizers import CoupledSGD, Muon
from lightcnn.progress import ProgressBar
from lightcnn.runs import FACES, Recipe, Run
from lightcnn.schedules import OneCycle
from lightcnn.training.averaging import averaged, mean_with
from lightcnn.training.checkpoint import State, keep, restore
from lightcnn.training.networks import Networks

__all__ = ["Batches", "Recorder", "ValidationBatches", "fit"]

_AVERAGED_RATE = 0.2  # of the peak, in the epochs whose weights are averaged
_MEASURED = 60  # batches that batch norm's statistics of averaged weights are measured on


class Batches(keras.utils.PyDataset):
    """Training batches of nearly equal size; a batch depends on the seed, the epoch and its index alone.

    With one example left over, a last batch of one would give batch norm nothing to normalize, so sizes are evened out.
    """

    def __init__(self, count: int, recipe: Recipe, make: Callable[..., tuple[Any, Any]]) -> None:
        super().__init__()
        self.epoch = 0
        self._count, self._recipe, self._make = count, recipe, make
        self._order: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return math.ceil(self._count / self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        epoch, order = self._order
        if epoch != self.epoch:
            epoch = self.epoch
            shuffled = random_stream(self._recipe.seed, "order", epoch).permutation(self._count)
            order = np.array_split(shuffled, len(self))
            self._order = (epoch, order)
        return self._make(order[index], random_stream(self._recipe.seed, "augmentation", epoch, index))


class ValidationBatches(keras.utils.PyDataset):
    """The examples of a split as they are, each batch from all of it.

    A split that is sorted by class would have batches of one class else, in which the weights of classes cancel.
    """

    def __init__(self, count: int, batch_size: int, make: Callable[..., tuple[Any, Any]]) -> None:
        super().__init__()
        self._count, self._batch_size, self._make = count, batch_size, make

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._make(np.arange(index, self._count, len(self)))


def _feed(batches: Any) -> Any:
    """Returns batches in the form that the backend iterates fastest; the caller keeps `batches` alive meanwhile.

    Keras would wrap them for TensorFlow with tf.data's autotuning, whose thread takes seconds to end, once an epoch
    (measured: 3 s of 19). Here it is off; two batches are made ahead, and the order stays.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    signature = keras.tree.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), batches[0])
    feeding = weakref.ref(batches)  # TensorFlow keeps the function until the process ends, and with it the data

    def generate() -> Iterator[Any]:
        fed: Any = feeding()
        return (fed[index] for index in range(len(fed)))

    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2).with_options(options)


def _noting(make: Callable[..., Any], failures: list[Exception]) -> Callable[..., Any]:
    """Returns `make`, adding its errors to `failures`: TensorFlow makes an error of its own of one in a batch."""

    def noting(*arguments: Any) -> Any:
        try:
            return make(*arguments)
        except Exception as error:
            failures.append(error)
            raise

    return noting


def _clear(frame: FrameType | None) -> None:
    """Clears a frame and those that called it, which it holds even where a filtered traceback does not show them."""
    with contextlib.suppress(RuntimeError):  # at the first that is still running
        while frame is not None:
            frame.clear()
            frame = frame.f_back


def _was_interrupted(error: BaseException | None) -> bool:
    """Tells Ctrl-C, for which TensorFlow raises an error of its own where it hits the entry of one of its scopes."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


@contextlib.contextmanager
def _ending(model: Any, failures: list[Exception]) -> Iterator[None]:
    """Ends the feeding of a training that an error or Ctrl-C stops, and raises the first of `failures`.

    Iterators of tf.data call Python from threads of their own. The error's traceback and the model would keep them
    until the interpreter ends, and a thread that calls Python while it ends can abort the process.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        vars(model).pop("_eval_epoch_iterator", None)
        gc.collect()  # Keras' own iterators stand in a circle
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        if failures and isinstance(error, Exception):
            for frame, _ in traceback.walk_tb(error.__traceback__):
                _clear(frame)
            gc.collect()
            failure = failures.pop(0)  # the feeding holds what remains in the list
            raise failure from failure.__cause__
        raise


def fit(run: Run, recipe: Recipe, data: Any, networks: Networks, task: Any, bar: ProgressBar) -> State:
    """Trains until the last epoch or the end of patience, from the run's checkpoint if it has one.

    Args:
        run: The run; after every epoch its folder is true.
        recipe: What to train.
        data: What to train on.
        networks: What is trained and what is kept.
        task: Makes the batches.
        bar: Shows the progress.

    Returns:
        The state after the last epoch.

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
        RunError: If the checkpoint is damaged, or the best model of a finished run is gone.
        StorageError: If the disk is full.
    """

    def make(positions: Any, generator: np.random.Generator) -> tuple[Any, Any]:
        examples, targets = task.training_batch(recipe, data, positions, generator)
        return examples, targets if networks.teach is None else networks.teach(examples, targets)

    failures: list[Exception] = []
    batches = Batches(len(data.train), recipe, _noting(make, failures))
    optimizer = _optimizer(recipe, steps_per_epoch=len(batches))
    networks.trained.compile(
        optimizer=optimizer,
        loss=networks.loss,
        metrics=[networks.accuracy],
    )
    optimizer.build(networks.trained.trainable_variables)
    state = restore(run, networks.trained)
    if state.epochs:
        bar.tell(f"Going on after epoch {state.epochs}.")
    if state.epochs < recipe.epochs and not _out_of_patience(state, recipe):
        held_out = _noting(partial(task.validation_batch, recipe, data), failures)
        # no larger than training's: whoever chose small ones did so for the memory
        size = min(recipe.batch_size, task.VALIDATION_BATCH)
        validation = ValidationBatches(len(data.split("validation")), size, held_out)
        # for batch norm's statistics of averaged weights: pieces that are cut out of pictures would be in them
        plain = partial(task.training_batch, replace(recipe, cutout=0, cutmix=0.0), data)
        measured = Batches(len(data.train), recipe, _noting(plain, failures))
        remaining = (recipe.epochs - state.epochs) * len(batches)
        with bar.task(f"Training {recipe.name}", remaining) as progress, _ending(networks.trained, failures):
            networks.trained.fit(
                _feed(batches),
                validation_data=_feed(validation),
                initial_epoch=state.epochs,
                epochs=recipe.epochs,
                callbacks=[Recorder(run, recipe, networks, batches, measured, state, bar, progress)],
                shuffle=False,
                verbose=0,
            )
    if state.epochs:
        run.write_history(state.history)
    if not run.best_model.exists():
        if any(math.isfinite(row["val_loss"]) for row in state.history):
            raise RunError(f"{run.folder} has no best.keras any more. Train again with --overwrite.")
        losses = ", ".join(str(row.get("val_loss")) for row in state.history[-3:])
        raise DivergedError(
            f"{run.folder} has no best.keras: no epoch gave a finite validation loss. Choose a smaller "
            f"learning_rate, such as {recipe.learning_rate / 10:g}; for faces, clip_norm=150 helps too. "
            f"Received: learning_rate={recipe.learning_rate:g}, validation losses {losses}"
        )
    return state


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> Any:
    rate: Any = recipe.learning_rate
    if recipe.schedule == "one_cycle":
        steps = steps_per_epoch * (recipe.epochs - recipe.average_epochs)
        rate = OneCycle(recipe.learning_rate, steps, final_fraction=_AVERAGED_RATE)
    elif recipe.schedule == "steps":
        step = steps_per_epoch * recipe.step_epochs
        rate = keras.optimizers.schedules.ExponentialDecay(rate, step, recipe.step_factor, staircase=True)
    clip = {"global_clipnorm": recipe.clip_norm or None}
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **clip)
    decay = {"weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        multipliers = {"logits/*": recipe.classifier_multiplier, "bias": recipe.bias_multiplier}
        multipliers = multipliers if recipe.task == FACES else {}
        optimizer: Any = CoupledSGD(rate, recipe.momentum, rate_multipliers=multipliers, **decay, **clip)
    else:
        optimizer = (Muon if recipe.optimizer == "muon" else keras.optimizers.AdamW)(rate, **decay, **clip)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def _out_of_patience(state: State, recipe: Recipe) -> bool:
    if not (recipe.patience and state.epochs):
        return False
    return state.epochs - state.best_epoch(recipe) >= recipe.patience


class Recorder(keras.callbacks.Callback):
    """Keeps the run folder true after every epoch, stops what does not get better, and shows where it is.

    The order makes a kill at any moment harmless: the best model first, then the checkpoint, then the history. Killed
    in between, the run goes on from the older checkpoint and the same epoch gives the same files again.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        networks: Networks,
        batches: Batches,
        measured: Batches,
        state: State,
        bar: ProgressBar,
        progress: Any,
    ) -> None:
        super().__init__()
        self._run, self._recipe, self._networks = run, recipe, networks
        self._batches, self._measured = batches, measured
        self._state, self._bar, self._progress = state, bar, progress
        self._averaged = contextlib.ExitStack()
        self._started, self._rate = time.perf_counter(), 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._rate = self._learning_rate()

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batches.epoch = self._measured.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        epoch = self._state.epochs + 1
        if not math.isfinite(loss):
            kept = ""
            if self._run.best_model.exists():
                kept = f", best.keras of epoch {self._state.best_epoch(self._recipe)} is kept"
            raise DivergedError(
                f"The loss became {loss} at step {batch + 1} of epoch {epoch}; training stopped{kept}. "
                f"Try a smaller learning_rate. Received: learning_rate={self._recipe.learning_rate}"
            )
        self._progress.advance(
            description=f"Epoch {epoch}/{self._recipe.epochs}", figures=f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        )

    def on_test_begin(self, logs: Any = None) -> None:
        state, recipe = self._state, self._recipe
        count = state.epochs - (recipe.epochs - recipe.average_epochs)  # of epochs whose weights are in the mean
        if count >= 0:
            state.mean = mean_with(state.mean, count, self.model)
            inputs = (self._measured[index][0] for index in range(min(_MEASURED, len(self._measured))))
            self._averaged.enter_context(averaged(self.model, state.mean, inputs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        row = {
            "epoch": epoch + 1,
            **{key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "learning_rate": self._rate,
            "seconds": round(seconds, 3),
        }
        self._rate = self._learning_rate()  # of the next epoch's first step
        state = self._state
        state.history.append(row)
        state.train_seconds += seconds
        best = state.best_epoch(self._recipe) == state.epochs and math.isfinite(row["val_loss"])
        if best:
            self._networks.saved.set_weights(self.model.get_weights())
            save_model(self._networks.saved, self._run.best_model, {**self._networks.metadata, "epoch": epoch + 1})
        self._averaged.close()  # what goes on is not the mean
        keep(self._run, self.model, state)
        self._run.write_history(state.history)
        self._bar.tell(
            f"epoch {epoch + 1}/{self._recipe.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.2%}  {seconds:.1f} s"
            f"{'  best' if best else ''}"
        )
        if _out_of_patience(state, self._recipe):
            self._bar.tell(f"No better val_{self._recipe.monitor} for {self._recipe.patience} epochs: stopped.")
            self.model.stop_training = True
