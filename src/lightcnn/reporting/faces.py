"""What a report shows of a face model."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.loading import FaceDataset
from lightcnn.metrics import det_curve
from lightcnn.reporting.page import BLUE, draw_det, histogram, new_figure, picture, plot, quiet_axes, section, table

__all__ = ["CURVES_NOTE", "acceptance_rows", "error_rates", "headline", "scores_of_pairs", "sections", "worst_pairs"]

CURVES_NOTE = (
    "Loss and accuracy of telling the people of the training apart. Training figures are taken while the epoch runs, "
    "on random pieces of pictures and with dropout; validation figures after it, on the centres of other pictures of "
    "the same people. The losses of the curves include margin and label smoothing."
)
_WORST = 6
_POINTS = 1000  # of a curve


def headline(figures: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """Returns the figures of a split that a reader wants first."""
    pairs = f"{figures['genuine']:,} genuine and {figures['impostors']:,} impostor pairs"
    shown = (
        ("accuracy", f"accuracy on {split}, {figures['identities']:,} identities"),
        ("eer", f"equal error rate on {split}, {pairs}"),
        ("accuracy_at_eer", "100 % - EER, as the authors print it"),
        ("tar_at_far_1e-2", "TAR at FAR 1 %: genuine pairs accepted"),
        ("far", "impostors accepted at the model's threshold"),
        ("frr", "genuine pairs refused at that threshold"),
        ("rank_1", f"rank-1 identification, {figures['identities']:,} identities"),
    )
    return [(f"{figures[key]:.2%}", text) for key, text in shown if figures.get(key) is not None]


def sections(data: FaceDataset, split_name: str, scores: Any, figures: dict[str, Any]) -> list[str]:
    """Returns the sections on error rates, scores and the worst pairs."""
    split = data.split(split_name)

    def pixels(position: int) -> NDArray[Any]:
        shown: NDArray[Any] = split.take(slice(position, position + 1))[0]
        return shown[..., ::-1] if data.colour == "BGR" else shown

    def name(position: int) -> str:
        return str(split.names[split.rows[position]])

    parts = []
    if figures["eer"] is not None:
        curves = error_rates(scores.scores, scores.same, figures)
        rates = table(("", "genuine pairs accepted"), acceptance_rows(figures))
        parts.append(section(f"Error rates ({split_name})", curves + rates))
    if len(scores.scores):
        parts.append(section("Scores", scores_of_pairs(scores.scores, scores.same, figures["threshold"])))
        threshold = figures["eer_threshold"] if figures["threshold"] is None else figures["threshold"]
        worst = worst_pairs(scores, threshold, pixels, name)
        parts.append(section(f"Worst pairs ({split_name})", worst))
    return parts


def error_rates(scores: NDArray[Any], same: NDArray[np.bool_], figures: dict[str, Any]) -> str:
    """Shows the DET curve and the ROC curve, the latter with the false acceptance rate by powers of ten.

    Args:
        scores: `(pairs,)`, higher for more alike.
        same: `(pairs,)`, whether a pair shows one person; some do and some do not.
        figures: With `eer` and `eer_threshold`.
    """
    misses, acceptances, _ = det_curve(scores[same], scores[~same])
    lowest = 1 / np.count_nonzero(~same)
    shown = np.unique(
        np.searchsorted(-acceptances, -np.geomspace(1, lowest, _POINTS))
    )  # a million points are no clearer
    misses, acceptances = misses[shown], acceptances[shown]
    figure = new_figure(9.6, 4.4)
    det, roc = figure.subplots(1, 2)
    draw_det(det, misses, acceptances, missed="genuine refused", accepted="impostors accepted")
    roc.plot(acceptances, 100 * (1 - misses), color=BLUE, label="ROC")
    roc.set_xscale("log")
    roc.set(xlim=(min(lowest, 0.5), 1), xlabel="impostors accepted, share", ylabel="genuine accepted, %")
    roc.legend(frameon=False, loc="lower right")
    quiet_axes(roc)
    figure.tight_layout()
    note = f"<p>EER {figures['eer']:.2%} at a cosine of {figures['eer_threshold']:.4f}.</p>"
    return plot(figure, "error rates of verification") + note


def acceptance_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns `tar_at_far_...` of figures as rows of a table for people: at which FAR, and the share in per cent."""
    prefix, unknown = "tar_at_far_", "too few pairs of two people"
    return [
        (f"TAR at FAR {100 * float(key.removeprefix(prefix)):g} %", unknown if rate is None else f"{rate:.2%}")
        for key, rate in figures.items()
        if key.startswith(prefix)
    ]


def scores_of_pairs(scores: NDArray[Any], same: NDArray[np.bool_], threshold: float | None) -> str:
    """Shows how scores of genuine and of impostor pairs are spread."""
    return histogram(
        scores,
        same,
        threshold,
        labels=("one person", "two people"),
        score="cosine (higher = more alike)",
        share="share of the pairs, %",
        legend="upper left",
    )


def worst_pairs(
    scored: Any, threshold: float | None, pixels: Callable[[int], NDArray[Any]], name: Callable[[int], str]
) -> str:
    """Shows the pairs that are farthest on the wrong side of a threshold, their pictures side by side.

    Args:
        scored: Has `first`, `second` (positions), `same` and `scores`, all `(pairs,)`.
        threshold: Pairs at or above it are taken for one person; None to show nothing.
        pixels: Gives the picture `(height, width, 1 or 3)` at a position, grey or RGB.
        name: Gives its name.
    """
    if threshold is None:
        return "<p>All pairs are of one kind, so that none is wrong.</p>"
    margins = np.where(scored.same, scored.scores - threshold, threshold - scored.scores)
    wrong = np.count_nonzero((scored.scores >= threshold) != scored.same)
    if not wrong:
        return "<p>None: every pair is on its side of the threshold.</p>"
    cells = []
    for kind, told in ((scored.same, "one person, taken for two"), (~scored.same, "two people, taken for one")):
        rows = np.flatnonzero(kind & ((scored.scores >= threshold) != scored.same))
        for row in rows[np.argsort(margins[rows], kind="stable")[:_WORST]]:
            both = [int(scored.first[row]), int(scored.second[row])]
            side_by_side = picture(np.concatenate([pixels(position) for position in both], axis=1))
            names = " and ".join(html.escape("/".join(name(position).rsplit("/", 2)[-2:])) for position in both)
            cells.append(
                f'<figure><img alt="" src="{side_by_side}"><figcaption><b>{told}</b><br>'
                f"<span>{scored.scores[row]:.3f} against {threshold:.3f}<br>{names}</span></figcaption></figure>"
            )
    share = f"<p>{wrong:,} of {len(scored.scores):,} pairs are on the wrong side of the threshold.</p>"
    return f'{share}<div class="mistakes">{"".join(cells)}</div>'
