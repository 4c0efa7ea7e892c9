"""train(recipe) -> Run: on `keras.Model.fit`, repeatable, and able to go on where it was stopped."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from lightcnn.backends import describe_environment, set_seed
from lightcnn.datasets import ImageDataset
from lightcnn.errors import RunError
from lightcnn.evaluation import evaluate_splits, load_data
from lightcnn.progress import ProgressBar
from lightcnn.runs import Recipe, Run, default_run_folder
from lightcnn.training.fitting import fit
from lightcnn.training.networks import build_networks, resolve_precision

__all__ = ["train"]


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
    run = Run.claim(run_dir or default_run_folder(recipe.name), recipe, resume=resume, overwrite=overwrite)
    set_seed(recipe.seed)
    with ProgressBar(quiet) as bar:
        bar.say(str(run.folder))
        data = load_data(recipe, data_dir, skip_bad_files=skip_bad_files, bar=bar)
        for path, cause in data.skipped:
            bar.say(f"Skipped {path}: {cause}")
        bar.say(f"{data.name} from {data.source}: {_count_pictures(data)}")
        if resume:
            _check_same_data(run, data)
        precision = resolve_precision(recipe)
        networks, notes = build_networks(recipe, data, precision)
        for note in notes:
            bar.say(note)
        if not resume:
            run.start(recipe)  # only now: what stood there is not given up for data that cannot be used
        environment = _environment(data, data_dir, networks.saved, precision, command, notes)
        run.write_environment(_resumed(run, environment) if resume else environment)
        state = fit(run, recipe, data, networks, bar)
        known = {"train_seconds": state.train_seconds, "parameters": networks.saved.count_params()}
        splits = ("validation",) if validation_only or data.test is None else ("validation", "test")
        figures = evaluate_splits(run, data, splits, bar, known)
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


def _resumed(run: Run, environment: dict[str, Any]) -> dict[str, Any]:
    """Keeps the first command and start of a run that goes on."""
    try:
        first = run.environment
    except RunError:
        return environment  # killed before it got that far
    notes = [*first["notes"], f"Resumed at {environment['started']}."]
    return {**environment, "command": first["command"], "started": first["started"], "notes": notes}


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
