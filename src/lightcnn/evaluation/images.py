"""Figures of a classifier of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn import metrics
from lightcnn.datasets import ImageDataset, Split
from lightcnn.files import write_rows
from lightcnn.inference.images import PicturePredictor
from lightcnn.progress import ProgressBar

__all__ = ["classification_figures", "figures_of", "measure", "told", "write_scores"]

_BATCH = 256


def measure(predictor: PicturePredictor, data: ImageDataset, name: str, bar: ProgressBar) -> NDArray[np.float32]:
    """Returns the probabilities of a split's pictures, `(images, classes)`."""
    split = data.split(name)
    starts = range(0, len(split), _BATCH)
    return np.concatenate(
        [
            predictor.predict_arrays(split.take(slice(start, start + _BATCH)))
            for start in bar.track(starts, len(starts), f"Evaluating on {name}")
        ]
    )


def figures_of(
    predictor: PicturePredictor, data: ImageDataset, name: str, probabilities: NDArray[np.float32]
) -> dict[str, Any]:
    """Returns the figures of a split from its probabilities."""
    return classification_figures(probabilities, data.split(name).labels, data.labels)


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


def told(figures: dict[str, Any]) -> str:
    """Returns the figures that a line of progress has room for."""
    return f"accuracy {figures['accuracy']:.2%}, loss {figures['loss']:.4f}"


def write_scores(path: Path, split: Split, probabilities: NDArray[np.float32], labels: tuple[str, ...]) -> None:
    """Writes every picture's label, prediction and probabilities as CSV."""
    header = ["file", "label", "prediction", *(f"probability_{label}" for label in labels)]
    columns = split.rows, split.labels, probabilities.argmax(axis=1), probabilities
    rows = (
        [split.names[row], labels[label], labels[prediction], *map("{:.6g}".format, scores)]
        for row, label, prediction, scores in zip(*columns, strict=True)
    )
    write_rows(path, header, rows)
