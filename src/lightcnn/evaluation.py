"""A run and a split in; scores, metrics and the report out."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn import metrics
from lightcnn.datasets import ImageDataset, Split, load_images
from lightcnn.errors import RunError
from lightcnn.files import write_text
from lightcnn.inference import Predictor
from lightcnn.progress import ProgressBar
from lightcnn.reporting import write_report
from lightcnn.runs import Recipe, Run

__all__ = ["classification_figures", "evaluate", "evaluate_splits", "load_data"]

_BATCH = 256


def evaluate(
    run: Run | Path | str, split: str = "test", data_dir: Path | str | None = None, *, quiet: bool = False
) -> dict[str, Any]:
    """Measures a run's best model on a split, and writes its scores and the report anew.

    Args:
        run: A run or its folder.
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: Where the data are; None for where they were in training.
        quiet: Whether to show no progress.

    Returns:
        The figures of the split, as they stand in `metrics.json`.

    Raises:
        RunError: If the run has no model yet, or the data are not those of the run.
        DataError: If the data cannot be used, or have no such split.

    Example:
    >>> evaluate("runs/mnist/20261124-120000")["accuracy"]
    0.9963
    """
    run = run if isinstance(run, Run) else Run.open(run)
    environment, known = run.environment, run.metrics
    try:
        trained_on = environment["data"]
        skipped, folder, labels, digest = (trained_on[key] for key in ("skipped", "data_dir", "labels", "digest"))
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.folder}/environment.json is damaged: it lacks {error}.") from error
    with ProgressBar(quiet) as bar:
        data = load_data(run.recipe, data_dir or folder, skip_bad_files=bool(skipped), bar=bar)
        if data.labels != tuple(labels):
            raise RunError(f"{data.source} has other classes than the run was trained on: {', '.join(data.labels)}")
        if data.digest == digest:
            return dict(evaluate_splits(run, data, (split,), bar, known)[split])
        if split in data.held_out or split != "test":
            raise RunError(
                f"{data.source} is not the data that {run.folder} was trained on, and its {split} split could hold "
                "pictures that were. Put new pictures into a `test` folder beside `train`."
            )
        bar.say(f"Note: {data.source} is not the data that the run was trained on; its own figures stay as they are.")
        figures, probabilities = _measure(Predictor.load(run.folder), data, split, bar)
        _write_scores(run.folder / "scores-other.csv", data.split(split), probabilities, data.labels)
        report = run.folder / "report-other.html"
        write_report(report, run, data, split, probabilities, {**known, split: figures})
        bar.tell(f"Report: {report}")
    return figures


def load_data(recipe: Recipe, data_dir: Path | str | None, *, skip_bad_files: bool, bar: ProgressBar) -> ImageDataset:
    """Loads a recipe's data and splits them as its seed says."""
    return load_images(
        recipe.dataset,
        data_dir,
        validation_fraction=recipe.validation_fraction,
        test_fraction=recipe.test_fraction,
        seed=recipe.seed,
        image_size=recipe.image_size,
        channels=recipe.channels,
        skip_bad_files=skip_bad_files,
        track=bar.track,
    )


def evaluate_splits(
    run: Run, data: ImageDataset, splits: tuple[str, ...], bar: ProgressBar, known: dict[str, Any]
) -> dict[str, Any]:
    """Measures a run's best model on splits of loaded data; the last split's scores go to file and report.

    Args:
        run: The run.
        data: Its data.
        splits: The names of the splits.
        bar: Shows the progress.
        known: What `metrics.json` shall hold besides.

    Returns:
        The figures by split.
    """
    predictor, figures = Predictor.load(run.folder), dict[str, Any]()
    for name in splits:
        figures[name], probabilities = _measure(predictor, data, name, bar)
    metrics_of_run = {**known, **figures}
    run.write_metrics(metrics_of_run)
    # The test split's scores are the run's; those of other splits get a name of their own.
    path = run.scores if name == "test" else run.scores.with_name(f"scores-{name}.csv")
    _write_scores(path, data.split(name), probabilities, data.labels)
    write_report(run.report, run, data, name, probabilities, metrics_of_run)
    return figures


def _measure(
    predictor: Predictor, data: ImageDataset, name: str, bar: ProgressBar
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    split = data.split(name)
    probabilities = _probabilities(predictor, split, bar, name)
    return classification_figures(probabilities, split.labels, data.labels), probabilities


def _probabilities(predictor: Predictor, split: Split, bar: ProgressBar, name: str) -> NDArray[np.float32]:
    starts = range(0, len(split), _BATCH)
    return np.concatenate(
        [
            predictor.predict_arrays(split.take(slice(start, start + _BATCH)))
            for start in bar.track(starts, len(starts), f"Evaluating on {name}")
        ]
    )


def classification_figures(
    probabilities: NDArray[Any], labels: NDArray[np.int64], names: tuple[str, ...]
) -> dict[str, Any]:
    """Returns all figures of one split as plain JSON types; fractions, never per cent."""
    matrix = metrics.confusion_matrix(probabilities, labels)
    precision, recall = metrics.precision_recall(matrix)
    figures: dict[str, Any] = {
        "accuracy": metrics.accuracy(probabilities, labels),
        "loss": metrics.cross_entropy(probabilities, labels),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "images": len(labels),
    }
    for k in (2, 5):
        if len(names) > k:
            figures[f"top_{k}_accuracy"] = metrics.top_k_accuracy(probabilities, labels, k)
    figures["per_class"] = [
        {"label": name, "images": int(count), "precision": _json_number(p), "recall": _json_number(r)}
        for name, count, p, r in zip(names, matrix.sum(axis=1), precision, recall, strict=True)
    ]
    figures["confusion_matrix"] = matrix.tolist()
    return figures


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write_scores(path: Path, split: Split, probabilities: NDArray[np.float32], labels: tuple[str, ...]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "prediction", *(f"probability_{label}" for label in labels)])
    predictions = probabilities.argmax(axis=1)
    for row, label, prediction, scores in zip(split.rows, split.labels, predictions, probabilities, strict=True):
        writer.writerow([split.names[row], labels[label], labels[prediction], *(f"{score:.6g}" for score in scores)])
    write_text(path, text.getvalue())
