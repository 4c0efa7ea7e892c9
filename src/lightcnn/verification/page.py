"""One HTML file that shows a verification: figures, curves, scores and the worst pairs."""

from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.datasets import FacePairs, PackedPairs
from lightcnn.decoding import decode_picture, find_pictures, ignore_picture_warnings
from lightcnn.reporting.faces import acceptance_rows, error_rates, scores_of_pairs, worst_pairs
from lightcnn.reporting.page import section, table, tiles, write_page
from lightcnn.verification.pairs import pair_positions, picture_names

__all__ = ["figure_rows", "write_verification_report"]

_SHOWN = (96, 96)  # pixels


def figure_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what `verification_figures` measured as rows of a table for people, rates in per cent."""
    counts = f"{figures['pairs']:,} ({figures['genuine']:,} of one person, {figures['impostors']:,} of two)"
    rows = [("pairs", counts)]
    if figures["accuracy"] is not None:
        value = f"{figures['accuracy']:.2%} ± {figures['standard_error']:.2%}"
        rows.append((f"accuracy, {figures['folds']} folds", value))
    rows += [("EER", f"{figures['eer']:.2%}"), ("100 % - EER", f"{figures['accuracy_at_eer']:.2%}")]
    return [*rows, *acceptance_rows(figures), ("threshold at EER", f"{figures['eer_threshold']:.4f}")]


def write_verification_report(
    path: Path | str,
    title: str,
    pairs: FacePairs | PackedPairs,
    scores: ArrayLike,
    figures: dict[str, Any],
    threshold: float | None = None,
) -> None:
    """Writes a report of a verification.

    Args:
        path: Where to write.
        title: The headline: what was verified with what.
        pairs: The pairs.
        scores: `(pairs,)`, what `score_pairs` gave.
        figures: What `verification_figures` gave.
        threshold: The model's, or None. Without it, the worst pairs are those farthest from that of the EER.

    Raises:
        StorageError: If the file cannot be written; the old one is whole.
    """
    score = np.asarray(scores, np.float64)
    headline = [(f"{figures['eer']:.2%}", "equal error rate"), (f"{figures['accuracy_at_eer']:.2%}", "100 % - EER")]
    parts = [
        section("Figures", table(("", ""), figure_rows(figures)) + _paragraphs(figures["notes"])),
        section("Error rates", error_rates(score, pairs.same, figures)),
        section("Scores", scores_of_pairs(score, pairs.same, threshold)),
        section("Worst pairs", _worst(pairs, score, figures["eer_threshold"] if threshold is None else threshold)),
    ]
    if figures["accuracy"] is not None:
        told = f"accuracy over {figures['folds']} folds, ± {figures['standard_error']:.2%}"
        headline.insert(0, (f"{figures['accuracy']:.2%}", told))
        lists = figures["fold_accuracies"], figures["fold_thresholds"]
        rows = [(str(n), f"{a:.2%}", f"{t:.4f}") for n, (a, t) in enumerate(zip(*lists, strict=True), 1)]
        note = "<p>The threshold of a fold is the most accurate one on the others.</p>"
        parts.insert(1, section("Folds", table(("fold", "accuracy", "threshold"), rows) + note))
    lead = f"{pairs.source}: {figures['pairs']:,} pairs. A score is a cosine: higher for more alike."
    top = f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>'
    write_page(Path(path), title, [top, tiles(headline), *parts])


def _paragraphs(texts: list[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _worst(pairs: FacePairs | PackedPairs, scores: NDArray[np.float64], threshold: float) -> str:
    names = picture_names(pairs)

    def pixels(position: int) -> NDArray[np.uint8]:
        if isinstance(pairs, PackedPairs):
            shown: NDArray[np.uint8] = pairs.pictures(_SHOWN, 3, position, position + 1)[0]
            return shown
        return decode_picture(find_pictures([pairs.files[position]])[0], _SHOWN, 3).pixels

    first, second = pair_positions(pairs)
    scored = SimpleNamespace(first=first, second=second, same=pairs.same, scores=scores)
    with ignore_picture_warnings():
        return worst_pairs(scored, threshold, pixels, names.__getitem__)
