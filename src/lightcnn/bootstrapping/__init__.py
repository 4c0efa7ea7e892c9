"""Semantic bootstrapping: a network cleans the labels that it was trained on, and another is trained on the result."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.bootstrapping import faces, images
from lightcnn.errors import DataError, RecipeError, RunError
from lightcnn.files import file_digest, write_json, write_rows
from lightcnn.progress import ProgressBar
from lightcnn.runs import FACES, IMAGES, Recipe, Run, default_run_folder, load_data
from lightcnn.training import build_networks, train
from lightcnn.training.networks import resolve

__all__ = ["bootstrap", "check_recipe", "decide"]

# how a task's pictures are classified and what is cleaned of them is written
_TASKS: dict[str, Any] = {IMAGES: images, FACES: faces}

_SUMMARY = "bootstrap.json"
_COLUMNS = ("file", "label", "predicted", "probability", "decision")
_PAST = {"keep": "kept", "relabel": "relabelled", "drop": "dropped"}


def decide(
    labels: ArrayLike,
    predicted: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float = 0.7,
    agreeing: Literal["keep", "drop"] = "keep",
    disagreeing: Literal["keep", "drop"] = "drop",
) -> NDArray[np.str_]:
    """Decides what becomes of labels that may be wrong.

    A prediction that is the label keeps it; another one replaces it if its probability is above the threshold;
    otherwise the example is dropped.

    Reference:
        Wu, He, Sun, Tan: A Light CNN for Deep Face Representation with Noisy Labels (arXiv 1511.02683), figure 4. Its
        authors tried thresholds of 0.6, 0.7, 0.8 and 0.9, and 0.7 was the best.

    Args:
        labels: `(examples,)`, the labels as they are.
        predicted: `(examples,)`, the most probable labels.
        probabilities: `(examples,)`, the probabilities of `predicted`, 0 to 1.
        threshold: The probability that a prediction must exceed to count as sure.
        agreeing: What becomes of examples whose label is predicted, but not surely. `keep` is how readers of the paper
            understand it; it does not say.
        disagreeing: What becomes of examples for which another label is predicted, but not surely. `drop` is how
            readers understand it; `keep` leaves them with their labels.

    Returns:
        `(examples,)`: `keep`, `relabel` or `drop`.

    Raises:
        ValueError: If `threshold` or a choice is none, or shapes differ.

    Example:
    >>> decide([0, 0, 0], [0, 1, 1], [0.4, 0.9, 0.6]).tolist()
    ['keep', 'relabel', 'drop']
    """
    labels, predicted, probabilities = np.asarray(labels), np.asarray(predicted), np.asarray(probabilities)
    if not (labels.ndim == 1 and labels.shape == predicted.shape == probabilities.shape):
        raise ValueError(
            "labels, predicted and probabilities must have one value an example. "
            f"Received: shapes {labels.shape}, {predicted.shape} and {probabilities.shape}"
        )
    _check_rules(threshold, agreeing, disagreeing)
    sure = probabilities > threshold
    agreed = np.where(sure, "keep", agreeing)
    return np.where(predicted == labels, agreed, np.where(sure, "relabel", disagreeing))


def _check_rules(threshold: float, agreeing: str, disagreeing: str) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability, from 0 to 1. Received: threshold={threshold!r}")
    for name, choice in (("agreeing", agreeing), ("disagreeing", disagreeing)):
        if choice not in ("keep", "drop"):
            raise ValueError(f"{name} must be keep or drop. Received: {name}={choice!r}")


def check_recipe(recipe: Recipe) -> None:
    """Raises `RecipeError` if a recipe is of a task whose labels cannot be cleaned."""
    if recipe.task not in _TASKS:
        raise RecipeError(
            f"Bootstrapping is for {' and '.join(_TASKS)}. Received: {recipe.name}, a recipe of {recipe.task}"
        )


def bootstrap(
    recipe: Recipe,
    run_dir: Path | str | None = None,
    data_dir: Path | str | None = None,
    *,
    threshold: float = 0.7,
    rounds: int = 1,
    agreeing: Literal["keep", "drop"] = "keep",
    disagreeing: Literal["keep", "drop"] = "drop",
    from_original: bool = True,
    new_weights: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    validation_only: bool = False,
    skip_bad_files: bool = False,
    quiet: bool = False,
    command: str = "lightcnn.bootstrap",
) -> list[dict[str, Any]]:
    """Trains on labels of which some are wrong, lets the network clean them, and trains on the cleaned ones.

    Round 0 trains the recipe on the data as they are. In every later round the network of the round before predicts
    all training examples, `decide` keeps, changes or drops their labels, and the recipe is trained on the result.

    The validation split of round 0 is never cleaned and never trained on, in no round. Its labels are as wrong as the
    others, so a perfect network does not reach 100 % there; but all rounds are measured on the same examples, and
    rounds can be compared by it. What a later round chooses its best epoch on is held out of its own cleaned data, so
    those figures, in its own folder, look better than they are. A published data set with wrong labels is none any
    more, so give it as `arrays`.

    Models for faces get no threshold: on wrong labels it would be wrong.

    Wrong labels make a network unsure: with a share q of them, label smoothing s and the right capacity, it gives the
    right class little more than (1 - q)(1 - s). A threshold above that relabels next to nothing, and drops instead.

    Reference:
        Wu, He, Sun, Tan: A Light CNN for Deep Face Representation with Noisy Labels (arXiv 1511.02683), figure 4. The
        paper does one or two rounds at 0.7. Its code was never published; what is unknown of it is an argument here.

    Args:
        recipe: What to train: pictures or faces. `freeze` holds in every round; `initial_weights` too, unless
            `new_weights` is false.
        run_dir: The folder of all rounds; None for `runs/<recipe>-bootstrap/<time>`. It gets `round-0`, `round-1` ...
            (a run each), `decisions-1.csv` ... (`file, label, predicted, probability, decision`, a row a training
            example), `cleaned-1.npz` ... (pictures: what `train arrays` takes) or `cleaned-1.txt` ... (faces: the list
            `path label` that `train faces` takes) and `bootstrap.json` (the settings, the SHA-256 of each table of
            decisions, and what is returned).
        data_dir: Where the data are, as for `train`.
        threshold: The probability that a prediction must exceed to replace a label.
        rounds: How often to clean and train again.
        agreeing: As in `decide`.
        disagreeing: As in `decide`.
        from_original: Whether every round decides on all training examples with their first labels. Otherwise it
            decides on what the round before has left.
        new_weights: Whether a round trains from the beginning. Otherwise it goes on from the weights of the one before.
        resume: Go on in `run_dir`; finished rounds are not trained again, and `rounds` may be larger than before.
        overwrite: Delete what is in `run_dir` first.
        validation_only: Leave the test split untouched.
        skip_bad_files: Train without the pictures that cannot be read.
        quiet: Whether to show no progress.
        command: What to note as the command that made the runs.

    Returns:
        A dictionary a round: `round`; `run`, its folder in `run_dir`; `examples`, what of round 0's training examples
        it was given; `kept`, `relabelled` and `dropped` (None in round 0); `lost`, the classes that are gone; and its
        figures on round 0's splits, fractions: `validation_accuracy` and `test_accuracy`, or for faces `test_eer`.

    Raises:
        DataError: If the data cannot be used, or fewer than two classes are left.
        RecipeError: If the recipe is for another task, or does not fit the data.
        RunError: If the folder is in use, or was begun with other settings.
        ValueError: If an argument is out of range.

    Example:
    >>> rounds = bootstrap(get_recipe("arrays", label_smoothing=0.0), "runs/cleaned", "noisy.npz")
    >>> [round(row["test_accuracy"], 3) for row in rounds]
    [0.942, 0.974]
    """
    _check_rules(threshold, agreeing, disagreeing)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1. Received: rounds={rounds!r}")
    check_recipe(recipe)
    # A threshold that was measured on wrong labels would be wrong, so nobody is held out for one.
    task, recipe = _TASKS[recipe.task], replace(resolve(recipe), calibration_fraction=0.0)
    rules = {"threshold": threshold, "agreeing": agreeing, "disagreeing": disagreeing}
    settings = {**rules, "from_original": from_original, "new_weights": new_weights}
    splits = ("validation",) if validation_only else ("validation", "test")
    folder = run_dir or default_run_folder(f"{recipe.name}-bootstrap")
    # The folder of all rounds is claimed as a run's is: locked, not empty only where that is asked for.
    with Run.claim(folder, recipe, resume=resume, overwrite=overwrite) as whole:
        with ProgressBar(quiet) as bar:
            bar.say(str(whole.folder))
            digests = _resumed(whole.folder, settings) if resume else {}
            data = load_data(recipe, data_dir, skip_bad_files=skip_bad_files, bar=bar)
            task.check(data)
            build_networks(recipe, data)  # nothing is given up for what cannot be trained
        if not resume:
            whole.start(recipe)
        summary = whole.folder / _SUMMARY
        rows: list[dict[str, Any]] = []
        run, state, own, source = whole, _all_of(data), recipe, data_dir
        counts: dict[str, int | None] = dict.fromkeys(_PAST.values())
        for number in range(rounds + 1):
            name = f"round-{number}"
            if number:
                own, source = task.cleaned_recipe(recipe), whole.folder / f"cleaned-{number}{task.SUFFIX}"
                own = own if new_weights else replace(own, initial_weights=str(run.folder))
                state = _all_of(data) if from_original else state
                table = whole.folder / f"decisions-{number}.csv"
                with ProgressBar(quiet) as bar:
                    state, counts = _clean(task, run, data, state, table, digests.get(table.name), rules, bar)
                digests[table.name] = file_digest(table)
                write_json(summary, {"settings": settings, "decisions": digests, "rounds": rows})
                if not source.exists():
                    task.write_cleaned(source, data, *state)
            run = train(
                own,
                whole.folder / name,
                source,
                resume=(whole.folder / name / "recipe.json").exists(),
                validation_only=validation_only,
                skip_bad_files=skip_bad_files,
                quiet=quiet,
                command=command,
            )
            with ProgressBar(quiet) as bar:
                figures = task.figures(run, data, splits, bar)
            gone = np.setdiff1d(np.arange(len(data.labels)), state.labels)
            row = {"round": number, "run": name, "examples": len(state.labels), **counts}
            rows.append({**row, "lost": [data.labels[index] for index in gone], **figures})
            write_json(summary, {"settings": settings, "decisions": digests, "rounds": rows})
    return rows


def _resumed(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Checks that rounds that stand in a folder were made with the same settings; returns their tables' digests."""
    path = folder / _SUMMARY
    if not path.exists():
        return {}  # killed in round 0, which they have no effect on
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        before, digests = dict(content["settings"]), dict(content.get("decisions", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}. Start again with --overwrite.") from error
    if changed := [key for key in settings if before.get(key) != settings[key]]:
        told = ", ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
        raise RunError(
            f"{folder} was begun with other settings: {told}. Resume it with its own, or use another folder."
        )
    return digests


class _State(NamedTuple):
    """The training examples that are left, and their labels."""

    positions: NDArray[np.int64]
    labels: NDArray[np.int64]


def _all_of(data: Any) -> _State:
    return _State(np.arange(len(data.train)), data.train.labels)


def _clean(
    task: Any,
    run: Run,
    data: Any,
    state: _State,
    table: Path,
    digest: str | None,
    rules: dict[str, Any],
    bar: ProgressBar,
) -> tuple[_State, dict[str, int | None]]:
    """Decides on the examples of `state` with the network of `run`, and writes the table of the decisions.

    If its digest is known, they were made before, and are read.
    """
    if digest is not None:
        predicted, decisions = _read_decisions(table, digest, data.labels)
    else:
        predicted, probabilities = task.classify(run, data, data.train, state.positions, bar)
        decisions = decide(state.labels, predicted, probabilities, **rules)
        left = np.where(decisions == "relabel", predicted, state.labels)
        # what training cannot hold out of would stop it
        scarce = np.bincount(left[decisions != "drop"], minlength=len(data.labels)) < task.FEWEST
        decisions[scarce[left]] = "drop"
        _write_decisions(table, data, state, predicted, probabilities, decisions)
    labels = np.where(decisions == "relabel", predicted, state.labels)[decisions != "drop"]
    cleaner = _State(state.positions[decisions != "drop"], labels)
    counts: dict[str, int | None] = {past: int(np.sum(decisions == one)) for one, past in _PAST.items()}
    bar.tell(f"{table}: " + ", ".join(f"{past} {count:,}" for past, count in counts.items()))
    if gone := sorted(set(state.labels.tolist()) - set(labels.tolist())):
        names = ", ".join(data.labels[index] for index in gone[:10])
        bar.say(f"{len(gone)} classes have no examples left: {names}{', ...' * (len(gone) > 10)}")
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"Fewer than two classes have examples left, so there is nothing to train ({table} tells why). Choose a "
            "lower threshold, or train better: more epochs, no label smoothing. "
            f"Received: threshold={rules['threshold']}"
        )
    return cleaner, counts


def _write_decisions(
    path: Path,
    data: Any,
    state: _State,
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    decisions: NDArray[np.str_],
) -> None:
    """Writes a row an example, with the names of files and labels."""
    names, split = np.array(data.labels, object), data.train
    files = (split.names[row] for row in split.rows[state.positions])
    columns = files, names[state.labels], names[predicted], map("{:.9g}".format, probabilities), decisions
    write_rows(path, _COLUMNS, zip(*columns, strict=True), errors="surrogateescape")  # what is read again


def _read_decisions(path: Path, digest: str, labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Returns the predicted labels and the decisions of a table that was written before."""
    found = file_digest(path) if path.is_file() else "no file"
    if found != digest:
        raise RunError(
            f"{path} was changed after it was written, and the rounds after it would not be those of its decisions. "
            f"Expected: SHA-256 {digest[:12]}... Received: {found[:12]}... Put the file back, or start again with "
            "--overwrite; to train on labels of your own, use `lightcnn train` on a list or array file."
        )
    places = {name: place for place, name in enumerate(labels)}
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = [(places[row["predicted"]], row["decision"]) for row in csv.DictReader(file)]
    predicted, decisions = zip(*table, strict=True)
    return np.array(predicted, np.int64), np.array(decisions)
