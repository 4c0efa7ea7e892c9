"""What a report shows of a classifier of pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn import metrics
from lightcnn.datasets import ImageDataset, Split
from lightcnn.reporting.page import BLUE, GREY, new_figure, picture, plot, plotted, quiet_axes, section, table

__all__ = ["CURVES_NOTE", "headline", "sections"]

CURVES_NOTE = (
    "Training figures are taken while the epoch runs, on augmented pictures and with dropout; validation figures "
    "after it, without either. The losses of the curves include the recipe's label smoothing."
)

_WORST = 24
_MOST_CLASSES_WITH_NUMBERS = 20


def headline(figures: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """Returns the figures of a split that a reader wants first."""
    return [
        (f"{figures['accuracy']:.2%}", f"accuracy on {split}, {figures['images']:,} images"),
        (f"{figures['loss']:.4f}", f"loss on {split}"),
        (f"{figures['expected_calibration_error']:.2%}", "calibration error"),
        *(
            (f"{figures[f'top_{k}_accuracy']:.2%}", f"top-{k} accuracy")
            for k in (2, 5)
            if f"top_{k}_accuracy" in figures
        ),
    ]


def sections(
    data: ImageDataset, split_name: str, probabilities: NDArray[np.float32], figures: dict[str, Any]
) -> list[str]:
    """Returns the sections on confusions, classes, calibration and the worst mistakes."""
    split = data.split(split_name)
    return [
        section(f"Confusion matrix ({split_name})", _confusion(figures["confusion_matrix"], data.labels)),
        section("Per class", _per_class(figures["per_class"])),
        section("Calibration", _calibration(probabilities, split.labels)),
        section(f"Worst mistakes ({split_name})", _mistakes(split, probabilities, data.labels)),
    ]


def _confusion(matrix: list[list[int]], labels: Sequence[str]) -> str:
    counts = np.asarray(matrix)
    classes = len(labels)
    with_numbers = classes <= _MOST_CLASSES_WITH_NUMBERS
    side = min(9.0, 1.8 + 0.46 * classes) if with_numbers else 6.5
    figure = new_figure(side, side)
    axes = figure.subplots()
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(counts / counts.sum(axis=1, keepdims=True))
    # Mistakes are a few per cent of a row: the square root keeps them visible beside the diagonal.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if with_numbers:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.4 else "#1c2025"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=color)
        names = [plotted(_short(label)) for label in labels]
        axes.set_xticks(range(classes), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(classes), names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="label")
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [(position // classes, position % classes) for position in order if wrong.flat[position]]
    rows = [(labels[label], labels[guess], f"{wrong[label, guess]:,}") for label, guess in pairs]
    most = "<h3>Confused most</h3>" + table(("label", "predicted as", "pictures"), rows) if rows else ""
    return plot(figure, "confusion matrix") + most


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"


def _calibration(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    bins = metrics.calibration_bins(probabilities, labels)
    used = bins["count"] > 0
    figure = new_figure(4.6, 3.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    sizes = 15 + 150 * np.sqrt(bins["count"][used] / bins["count"].max())
    axes.scatter(bins["confidence"][used], bins["accuracy"][used], s=sizes, color=BLUE, alpha=0.8, label="15 bins")
    axes.set(xlabel="probability of the prediction", ylabel="share that is right", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(frameon=False, loc="upper left")
    quiet_axes(axes)
    return plot(figure, "calibration") + "<p>Below the line the model is too sure, above it too careful.</p>"


def _per_class(rows: list[dict[str, Any]]) -> str:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.2%}"

    return table(
        ("class", "pictures", "precision", "recall"),
        [(row["label"], f"{row['images']:,}", share(row["precision"]), share(row["recall"])) for row in rows],
    )


def _mistakes(split: Split, probabilities: NDArray[np.float32], labels: Sequence[str]) -> str:
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != split.labels)
    if not len(wrong):
        return "<p>None: every picture was classified correctly.</p>"
    # The worst: those to whose own label the model gave the least.
    worst = wrong[np.argsort(probabilities[wrong, split.labels[wrong]], kind="stable")[:_WORST]]
    cells = []
    for position in worst:
        label, prediction = split.labels[position], predictions[position]
        name = split.names[split.rows[position]].rpartition("/")[2]
        cells.append(
            f'<figure><img alt="" src="{picture(split.take(slice(position, position + 1))[0])}"><figcaption>'
            f"<b>{html.escape(labels[label])}</b> taken for <b>{html.escape(labels[prediction])}</b><br>"
            f"<span>{probabilities[position, label]:.2%} against {probabilities[position, prediction]:.2%}<br>"
            f"{html.escape(name)}</span></figcaption></figure>"
        )
    return f'<p>{len(wrong):,} of {len(split):,} are wrong.</p><div class="mistakes">{"".join(cells)}</div>'
