"""train(recipe) -> Run: on `keras.Model.fit`, repeatable, and able to go on where it was stopped."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from lightcnn.backends import describe_environment, set_seed
from lightcnn.errors import ExportError, RunError
from lightcnn.evaluation import evaluate_splits
from lightcnn.exporting import examples_of, export
from lightcnn.models import describe_layers, read_metadata
from lightcnn.progress import ProgressBar
from lightcnn.runs import FACES, IMAGES, SPEECH, Recipe, Run, default_run_folder, load_data
from lightcnn.training import faces, images, speech
from lightcnn.training.checkpoint import has_checkpoint
from lightcnn.training.fitting import fit
from lightcnn.training.networks import Networks, resolve

__all__ = ["build_networks", "train"]

# how a task builds its networks and makes its batches
_TASKS: dict[str, Any] = {IMAGES: images, SPEECH: speech, FACES: faces}


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
    """Trains a model, measures its best epoch, exports it, and writes all of it into a run folder.

    One seed on one machine always gives the same weights, and a training that was killed and resumed gives those of
    one that was not: what an epoch does depends on the recipe, the epoch and the checkpoint alone. (On GPUs this was
    not tested; JAX and PyTorch have operations there that do not repeat themselves.)

    Args:
        recipe: What to train.
        run_dir: The run folder; None for `runs/<recipe>/<time>`.
        data_dir: Where the data are; the published sets are found or downloaded without.
        resume: Go on with the run in `run_dir` after its last finished epoch; without one, it begins again.
        overwrite: Delete the run in `run_dir` first.
        validation_only: Leave the test split untouched.
        skip_bad_files: Train without the pictures that cannot be read, or the recordings that are missing
            or empty.
        quiet: Whether to show no progress.
        command: What to note as the command that made the run.

    Returns:
        The finished run.

    Raises:
        BadFilesError: If pictures or recordings cannot be read. Of recordings of the test split it is raised when the
            run is finished, and lacks only the figures of that split.
        DataError: If the data cannot be used.
        MissingDependencyError: If what reads the data, or runs the teacher, is not installed.
        ModelFileError: If `initial_weights` or `teacher` are damaged or missing.
        RecipeError: If the recipe does not fit the data, `initial_weights` or `teacher`, or these saw its test split.
        RunError: If the folder is in use, or cannot be resumed.
        DivergedError: If the loss becomes NaN or infinite; the best epoch before stays.
        StorageError: If the disk is full; the last checkpoint stays.

    Example:
    >>> run = train(get_recipe("mnist", epochs=2))
    >>> run.metrics["test"]["accuracy"]
    0.989
    """
    recipe = resolve(recipe)
    set_seed(recipe.seed)
    folder = run_dir or default_run_folder(recipe.name)
    with ProgressBar(quiet) as bar, Run.claim(folder, recipe, resume=resume, overwrite=overwrite) as run:
        bar.say(str(run.folder))
        if resume:
            Run.open(run.folder)  # which the folder of all rounds of bootstrapping is not
            if run.history and not has_checkpoint(run):
                raise RunError(
                    f"{run.folder} has finished epochs, but its checkpoint is gone, so it cannot go on. Use it as it "
                    "is, or delete it and train again."
                )
        data = load_data(recipe, data_dir, skip_bad_files=skip_bad_files, bar=bar)
        _tell_of_data(data, bar)
        # Without a finished epoch there is nothing to go on with: the run begins again.
        first = _first_environment(run, data) if resume and has_checkpoint(run) else None
        task = _TASKS[recipe.task]
        networks, notes = build_networks(recipe, data, None if first is None else first["preprocessing"])
        if first is not None and first.get("teacher", "") != networks.teacher:
            raise RunError(f"{recipe.teacher} is not the model that {run.folder} was taught by until now.")
        for note in notes:
            bar.say(note)
        environment = _environment(data, data_dir, networks, command, notes)
        if first is None:
            run.start(recipe)  # only now: what stood there is not given up for data that cannot be used
        else:
            resumed = _resumed(first, environment["started"])
            environment = {**first, "data": environment["data"], "notes": [*first["notes"], resumed]}
        run.write_environment(environment)
        state = fit(run, recipe, data, networks, task, bar)
        # Figures are written after the last epoch only, so those of other splits are of this very model.
        known = run.metrics if first is not None and run.has_metrics else {}
        known |= {"train_seconds": state.train_seconds, "parameters": networks.saved.count_params()}
        measured = ("calibration", "validation", *(() if validation_only else ("test",)))  # the threshold comes first
        failure = evaluate_splits(run, data, tuple(name for name in measured if name in data.splits), bar, known)
        _export(run, data, networks, bar)
        bar.tell(f"Report: {run.report}")
        if failure is not None:
            raise failure
    return run


def build_networks(recipe: Recipe, data: Any, preprocessing: list[Any] | None = None) -> tuple[Networks, list[str]]:
    """Builds both networks of any task, or raises what keeps a training from beginning: see the task's own."""
    data.split("validation")  # what has none cannot be trained on
    networks, notes = _TASKS[recipe.task].build_networks(recipe, data, preprocessing)
    return networks, notes


def _export(run: Run, data: Any, networks: Networks, bar: ProgressBar) -> None:
    """Writes `model.onnx`; last, since it carries what evaluation wrote into `best.keras`."""
    examples = examples_of(data, networks.saved, read_metadata(run.best_model))
    try:
        export(run, run.artifact, examples=examples)
    except ExportError as error:
        run.artifact.unlink(missing_ok=True)
        bar.say(f"Note: there is no {run.artifact.name}, so the run is used with Keras, which is slower. {error}")


def _tell_of_data(data: Any, bar: ProgressBar) -> None:
    for path, cause in data.skipped:
        bar.say(f"Skipped {path}: {cause}")
    if data.skipped:
        bar.say(f"Skipped {len(data.skipped)} files that could not be read.")
    for note in data.notes:
        bar.say(note)
    splits = ", ".join(f"{len(split):,} to {name}" for name, split in data.splits.items())
    bar.tell(f"{data.name} from {data.source}: {splits}")


def _first_environment(run: Run, data: Any) -> dict[str, Any]:
    """Returns what was noted when the run began.

    Raises:
        RunError: If the run cannot go on here as it began.
    """
    first = run.environment
    if first["data"]["digest"] != data.digest:
        raise RunError(f"{data.source} is not the data that {run.folder} was started on. Name the same --data-dir.")
    if first["backend"] != keras.backend.backend():
        raise RunError(
            f"{run.folder} was started on {first['backend']}. Received: {keras.backend.backend()}. "
            f"Go on with KERAS_BACKEND={first['backend']}."
        )
    return first


def _resumed(first: dict[str, Any], when: str) -> str:
    """Returns a note that a run goes on, and with what that it did not begin with."""
    now = describe_environment()
    keys = [key for key in now if key not in ("backend", "versions")]  # the backend is the same, or it would not go on
    before, after = ({**{key: one.get(key) for key in keys}, **one["versions"]} for one in (first, now))
    changes = [
        f"{key} {after.get(key)} instead of {before.get(key)}"
        for key in before | after
        if after.get(key) != before.get(key)
    ]
    return f"Resumed at {when}{' with ' if changes else ''}{', '.join(changes)}."


def _environment(
    data: Any, data_dir: Path | str | None, networks: Networks, command: str, notes: list[str]
) -> dict[str, Any]:
    return {
        **describe_environment(),
        "backend": keras.backend.backend(),
        "preprocessing": networks.preprocessing,
        **({"teacher": networks.teacher} if networks.teacher else {}),
        "command": command,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "source": str(data.source),
            "data_dir": str(Path(data_dir).absolute()) if data_dir is not None else None,
            "digest": data.digest,
            "labels": list(data.labels),
            "sizes": {name: len(split) for name, split in data.splits.items()},
            "skipped": [{"file": str(path), "cause": cause} for path, cause in data.skipped],
        },
        "layers": describe_layers(networks.saved),
        "notes": notes,
    }
