"""A run and a split in; scores, metrics and the report out.

Figures are always those of `best.keras`, run by Keras: they are the same whenever a run is measured, and do not depend
on whether it could be exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightcnn.errors import BadFilesError, RunError
from lightcnn.evaluation import faces, images, speech
from lightcnn.inference import predictor_of
from lightcnn.models import write_metadata
from lightcnn.progress import ProgressBar
from lightcnn.reporting import write_report
from lightcnn.runs import FACES, IMAGES, SPEECH, Recipe, Run, load_data
from lightcnn.runtimes import open_artifact

__all__ = ["evaluate", "evaluate_splits"]

# how a task measures a split and writes the scores
_TASKS: dict[str, Any] = {IMAGES: images, SPEECH: speech, FACES: faces}
# the split that something is measured on that the model file keeps, and its key there
_CALIBRATED = {SPEECH: ("validation", "calibration"), FACES: ("calibration", "threshold")}


def evaluate(
    run: Run | Path | str,
    split: str = "test",
    data_dir: Path | str | None = None,
    *,
    submission: Path | str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measures a run's best model on a split, and writes its scores and the report anew.

    Args:
        run: A run or its folder.
        split: `"train"`, `"validation"` or `"test"`, or another of the run's own data (`"calibration"` of faces). Of
            other data, only `"test"`.
        data_dir: Where the data are; None for where they were in training. A countermeasure can be measured on any
            corpus of `lightcnn.datasets.CORPORA`, a face model on any people.
        submission: Speech: where to write the scores in the form of the corpus' challenge.
        quiet: Whether to show no progress.

    Returns:
        The figures of the split, as they stand in `metrics.json`. Those of other data than the run's stand nowhere
        else: their scores go to `scores-other.csv` in the run folder and their report to `report-other.html`.

    Raises:
        RunError: If the run has no model yet, or the data are not those of the run.
        BadFilesError: If pictures or recordings cannot be read.
        DataError: If the data cannot be used, or have no such split.
        ModelFileError: If the model is damaged.
        StorageError: If the disk is full.

    Example:
    >>> evaluate("runs/mnist/20261124-120000")["accuracy"]
    0.9963
    """
    run = run if isinstance(run, Run) else Run.open(run)
    recipe, trained_on, known = run.recipe, run.environment["data"], run.metrics
    task = _TASKS[recipe.task]
    if submission is not None and recipe.task != SPEECH:
        raise RunError(f"{run.folder} is for {recipe.task}, which has no form of submission. Leave --submission out.")
    with ProgressBar(quiet) as bar:
        folder = data_dir or trained_on["data_dir"]
        if recipe.task == SPEECH and (found := speech.dataset_in(recipe, folder)) != recipe.dataset:
            # What was held out of the run's own recordings says nothing of another corpus, which refuses the keys.
            fractions = {key: getattr(Recipe, key) for key in ("validation_fraction", "test_fraction")}
            recipe = replace(recipe, dataset=found, **fractions)
        data = load_data(recipe, folder, skip_bad_files=bool(trained_on["skipped"]), bar=bar)
        own = data.digest == trained_on["digest"]
        if recipe.task == FACES:
            if not own and (data.test is None or "test" in data.held_out):
                data = data.all_to_test()  # the model saw none of these people, so nobody must be left out
        elif list(data.labels) != trained_on["labels"]:
            raise RunError(f"{data.source} has other classes than the run was trained on: {', '.join(data.labels)}")
        if not own and (split in data.held_out or split != "test"):
            raise RunError(
                f"{data.source} is not the data that {run.folder} was trained on, and its {split} split could hold "
                "examples that were. Evaluate the test split of other data."
            )
        if own:
            ((_, figures, scores),) = _measured(run, data, (split,), bar)
            _write(run, data, {split: figures}, scores, known)
            bar.tell(f"Report: {run.report}")
        else:
            bar.say(
                f"Note: {data.source} is not the data that the run was trained on; its own figures stay as they are."
            )
            predictor = _opened(run)
            scores = task.measure(predictor, data, split, bar)
            figures = task.figures_of(predictor, data, split, scores)
            task.write_scores(run.folder / "scores-other.csv", data.split(split), scores, data.labels)
            report = run.folder / "report-other.html"
            write_report(report, run, data, split, scores, {**known, split: figures})
            bar.tell(f"Report: {report}")
        if submission is not None:
            speech.write_submission(Path(submission), data.split(split), scores, recipe.dataset)
    return figures


def _opened(run: Run) -> Any:
    """Opens a run's best model; one for faces with its classifier, which only its own people need."""
    return faces.open_run(run) if run.recipe.task == FACES else predictor_of(open_artifact(run.best_model))


def evaluate_splits(
    run: Run, data: Any, splits: tuple[str, ...], bar: ProgressBar, known: dict[str, Any]
) -> BadFilesError | None:
    """Measures a run's best model on splits of loaded data; the last split's scores go to file and report.

    Args:
        run: The run.
        data: Its data.
        splits: The names of the splits, the test split last.
        bar: Shows the progress.
        known: What `metrics.json` shall hold besides.

    Returns:
        None, or what kept the test split from being measured: one bad recording there costs no more than its figures.

    Raises:
        BadFilesError: If examples of another split cannot be read.
    """
    figures, scores, failure = dict[str, Any](), None, None
    try:
        for name, found, scores in _measured(run, data, splits, bar):  # noqa: B007  the last scores are written
            figures[name] = found
            bar.tell(f"{name}: {_TASKS[run.recipe.task].told(found)}")
    except BadFilesError as error:
        if "validation" not in figures:
            raise
        failure = error
    _write(run, data, figures, scores, known)
    return failure


def _measured(
    run: Run, data: Any, splits: tuple[str, ...], bar: ProgressBar
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yields the name, the figures and the scores of each split."""
    task, predictor = _TASKS[run.recipe.task], _opened(run)
    calibrated_on, kept = _CALIBRATED.get(run.recipe.task, ("", ""))
    for name in splits:
        scores = task.measure(predictor, data, name, bar)
        if name == calibrated_on and kept not in predictor.metadata:
            run.artifact.unlink(missing_ok=True)  # it would be another model's; it is made anew when it is asked for
            write_metadata(run.best_model, {**predictor.metadata, **task.calibrate(data.split(name), scores)})
            predictor = _opened(run)
        figures = task.figures_of(predictor, data, name, scores)
        if name == calibrated_on and (figures["eer"] or 0) > 0.5:
            bar.say(f"Note: an EER above 50 % on {name}: the model learned nothing that holds there.")
        yield name, figures, scores


def _write(run: Run, data: Any, figures: dict[str, Any], scores: Any, known: dict[str, Any]) -> None:
    """Writes the figures of splits, and the scores and the report of the last of them."""
    metrics, name = {**known, **figures}, list(figures)[-1]
    run.write_metrics(metrics)
    # The test split's scores are the run's; those of other splits get a name of their own.
    path = run.scores if name == "test" else run.scores.with_name(f"scores-{name}.csv")
    _TASKS[run.recipe.task].write_scores(path, data.split(name), scores, data.labels)
    write_report(run.report, run, data, name, scores, metrics)
