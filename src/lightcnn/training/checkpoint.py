"""What a finished epoch leaves behind, and how a training takes it up again."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lightcnn.errors import RunError
from lightcnn.files import atomic_write, write_json
from lightcnn.runs import Recipe, Run

__all__ = ["State", "has_checkpoint", "keep", "restore"]


@dataclass
class State:
    """What a finished epoch leaves behind.

    Attributes:
        history: A row an epoch.
        train_seconds: What they took.
        mean: The mean of the weights, in the epochs whose weights are averaged.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0
    mean: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.history)

    def best_epoch(self, recipe: Recipe) -> int:
        """The best epoch, counted from 1; one without a finite validation loss is the worst.

        Few validation examples make many epochs equally accurate: of those the one of the lowest loss is the best.
        Where weights are averaged, an epoch before that would be chosen by the chance of few examples, so none is.
        """

        def badness(row: dict[str, float]) -> tuple[float, float]:
            if not math.isfinite(row["val_loss"]):
                return math.inf, math.inf
            return -row["val_accuracy"] if recipe.monitor == "accuracy" else 0.0, row["val_loss"]

        before = recipe.epochs - recipe.average_epochs
        first = before if self.epochs > before else 0
        return 1 + min(range(first, self.epochs), key=lambda index: badness(self.history[index]))


def _variables(model: Any) -> dict[str, Any]:
    """Everything that changes in training: weights, moving statistics, dropout's random state, the optimizer."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{name}/{index}": variable for name, group in groups.items() for index, variable in enumerate(group)}


def keep(run: Run, model: Any, state: State) -> None:
    """Writes a checkpoint. `state.json` names the file of weights that belongs to it, so the pair changes at once."""
    name = f"epoch-{state.epochs:05}.npz"
    values: dict[str, Any] = {key: keras.ops.convert_to_numpy(value) for key, value in _variables(model).items()}
    values |= {f"mean/{index}": array for index, array in enumerate(state.mean)}
    with atomic_write(run.checkpoint / name) as file:
        np.savez(file, **values)
    content = {"weights": name, "train_seconds": state.train_seconds, "history": state.history}
    write_json(run.checkpoint / "state.json", content)
    for path in run.checkpoint.iterdir():
        if path.name not in (name, "state.json"):
            path.unlink()  # the checkpoint before this one, or what a kill left half written


def has_checkpoint(run: Run) -> bool:
    """Tells whether a run has finished an epoch that it can go on from."""
    return (run.checkpoint / "state.json").exists()


def restore(run: Run, model: Any) -> State:
    """Gives a built and compiled model the values of the run's checkpoint.

    Returns:
        The state after the checkpoint's epoch; a new one if the run has no checkpoint yet.

    Raises:
        RunError: If the checkpoint is damaged or belongs to another model.
    """
    if not has_checkpoint(run):
        return State()
    path = run.checkpoint / "state.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        with np.load(io.BytesIO((run.checkpoint / content["weights"]).read_bytes()), allow_pickle=False) as arrays:
            values = dict(arrays)
        means = sum(key.startswith("mean/") for key in values)
        mean = [values.pop(f"mean/{index}") for index in range(means)]
        state = State(content["history"], content["train_seconds"], mean)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(
            f"The checkpoint in {run.checkpoint} is damaged: {error}. Start again with --overwrite."
        ) from error
    variables = _variables(model)
    if {key: value.shape for key, value in values.items()} != {key: one.shape for key, one in variables.items()}:
        raise RunError(
            f"The checkpoint in {run.checkpoint} belongs to another network or optimizer than lightcnn and Keras build "
            f"now. Go on with the versions in {run.folder}/environment.json, or start again with --overwrite."
        )
    for key, variable in variables.items():
        variable.assign(values[key])
    return state
