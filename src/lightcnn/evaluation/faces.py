"""Figures of a face model: does it tell its own identities apart, and does it verify people whom it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.backends import random_stream
from lightcnn.datasets import Split
from lightcnn.datasets.faces.loading import FaceDataset, centre_of
from lightcnn.files import write_rows
from lightcnn.inference.faces import FacePredictor
from lightcnn.metrics import cosine_similarity, identification_rates, l2_normalize
from lightcnn.models import load_model, read_metadata
from lightcnn.progress import ProgressBar
from lightcnn.runs import Run
from lightcnn.runtimes import keras_artifact
from lightcnn.verification import verification_figures
from lightcnn.verification.pairs import FARS

__all__ = [
    "IdentityPredictor",
    "PairScores",
    "calibrate",
    "draw_pairs",
    "figures_of",
    "measure",
    "open_run",
    "pair_figures",
    "told",
    "write_scores",
]

_RATES = ("eer", "eer_threshold", "accuracy_at_eer", *(f"tar_at_far_{far}" for far in FARS if far != "0"))
_BATCH = 64
_MOST_PAIRS = 2_000_000  # of them at least 1,000,000 impostors, which show a FAR of 1e-6
_MOST_ROWS = 1_000_000  # of scores.csv, some 100 MB
_PAIRS_AT_ONCE = 1 << 15  # two embeddings each: 64 MiB
_PROBES_AT_ONCE = 1024
_SCORES_AT_ONCE = 1 << 24  # 64 MiB


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs of a split's pictures, and what else was measured.

    Attributes:
        first: `(pairs,)` int64, positions in the split.
        second: `(pairs,)` int64, positions in the split.
        same: `(pairs,)` bool, whether a pair shows one person.
        scores: `(pairs,)` float64, cosines of the embeddings.
        known: The figures that do not come from pairs: `rank_1`, and of people of the training `accuracy` and `loss`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    scores: NDArray[np.float64]
    known: dict[str, Any]


class IdentityPredictor(FacePredictor):
    """A `FacePredictor` that also tells the people of its training apart.

    Args:
        model: A `keras.Model` with its classifier, which artifacts do not have, and a layer `"embedding"`.
        metadata: What its file says.
    """

    def __init__(self, model: Any, metadata: dict[str, Any]) -> None:
        super().__init__(keras_artifact(model, metadata))
        self._classifier = model

    def identify_arrays(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """Returns logits, `(batch, identities)`, of pictures as `embed_arrays` takes them."""
        outputs = np.asarray(self._classifier.predict_on_batch(np.asarray(pictures, np.float32)), np.float32)
        return outputs * np.float32(self.metadata.get("head_scale", 1.0))


def open_run(run: Run) -> IdentityPredictor:
    """Opens the best model of a run with its classifier."""
    return IdentityPredictor(load_model(run.best_model), read_metadata(run.best_model))


def measure(predictor: IdentityPredictor, data: FaceDataset, name: str, bar: ProgressBar) -> PairScores:
    """Returns the scores of a split's pairs, and what is known besides.

    Up to 2,000,000 pairs, all are scored. Of more, all genuine pairs (or a million of them) and a million drawn
    impostor pairs, always the same.
    """
    split = data.split(name)
    embeddings = np.empty((len(split), predictor.features), np.float32)
    losses, right = np.empty(len(split)), np.empty(len(split), bool)
    is_known = name in ("train", "validation")
    starts = range(0, len(split), _BATCH)
    for start in bar.track(starts, len(starts), f"Evaluating on {name}"):
        rows = slice(start, start + _BATCH)
        pictures = centre_of(split.take(rows), predictor.height)
        embeddings[rows] = predictor.embed_arrays(pictures)
        if is_known:
            logits = predictor.identify_arrays(pictures).astype(np.float64)
            own = np.take_along_axis(logits, split.labels[rows, None], axis=1)[:, 0]
            losses[rows] = np.logaddexp.reduce(logits, axis=1) - own
            right[rows] = logits.argmax(axis=1) == split.labels[rows]
    known: dict[str, Any] = {"images": len(split), "identities": len(np.unique(split.labels))}
    if is_known:
        known |= {"accuracy": float(right.mean()), "loss": float(losses.mean())}
    known["rank_1"] = _rank_1(embeddings, split.labels)
    first, second = draw_pairs(split.labels)
    if len(first) > _MOST_ROWS:
        bar.say(f"{len(first):,} pairs are scored; the file of scores has {_MOST_ROWS:,} of them.")
    scores = np.empty(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        scores[pairs] = cosine_similarity(embeddings[first[pairs]], embeddings[second[pairs]])
    return PairScores(first, second, split.labels[first] == split.labels[second], scores, known)


def draw_pairs(labels: NDArray[np.int64], most: int = _MOST_PAIRS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns every pair of pictures once; of more than `most`, half as many of either kind, drawn once and for all.

    Args:
        labels: `(pictures,)`, who is shown.
        most: The largest number of pairs.

    Returns:
        `first` and `second`, `(pairs,)`, positions of the two pictures. Drawn pairs stand in random order.

    Example:
    >>> [column.tolist() for column in draw_pairs(np.array([0, 0, 1]))]
    [[0, 0, 1], [1, 2, 2]]
    """
    count = len(labels)
    total = count * (count - 1) // 2
    if total <= most:
        return _pair(np.arange(total))
    generator = random_stream(0, "test")
    # Genuine pairs are counted through person by person, so that any of them can be named by one number.
    order = np.argsort(labels, kind="stable")
    starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)[1:]
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    numbers = _drawn(generator, int(ends[-1]), most // 2)
    person = np.searchsorted(ends, numbers, side="right")
    inside = _pair(numbers - (ends - sizes * (sizes - 1) // 2)[person])
    genuine = [order[starts[person] + column] for column in inside]
    # So are impostor pairs, picture by picture: each goes with all pictures of the people before its own.
    before = np.repeat(starts, sizes)
    ends = np.cumsum(before)
    numbers = _drawn(generator, int(ends[-1]), most // 2)
    later = np.searchsorted(ends, numbers, side="right")
    impostor = [order[numbers - (ends - before)[later]], order[later]]
    shuffled = generator.permutation(len(genuine[0]) + len(numbers))
    first, second = (np.concatenate(both)[shuffled] for both in zip(genuine, impostor, strict=True))
    return first, second


def _drawn(generator: np.random.Generator, total: int, most: int) -> NDArray[np.int64]:
    """Returns up to `most` different numbers below `total`, in random order; memory does not grow with `total`."""
    if total <= most:
        return generator.permutation(total)
    numbers = np.zeros(0, np.int64)
    while len(numbers) < most:
        numbers = np.unique(np.concatenate([numbers, generator.integers(0, total, most)]))
    return generator.permutation(numbers)[:most]


def _pair(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the pairs (0, 1), (0, 2), (1, 2), (0, 3), ... of these numbers."""
    second = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) // 2).astype(np.int64)
    return numbers - second * (second - 1) // 2, second


def _rank_1(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """Returns the closed-set rate: the first picture of everybody is the gallery, the others are the probes."""
    people, gallery = np.unique(labels, return_index=True)
    probes = np.setdiff1d(np.arange(len(labels)), gallery)
    if len(people) < 2 or not len(probes):
        return None
    unit = l2_normalize(embeddings)
    at_once = max(1, min(_PROBES_AT_ONCE, _SCORES_AT_ONCE // len(people)))
    parts = np.array_split(probes, range(at_once, len(probes), at_once))
    rates = [identification_rates(unit[part] @ unit[gallery].T, people, labels[part])[0] for part in parts]
    return float(np.average(rates, weights=[len(part) for part in parts]))


def figures_of(predictor: FacePredictor, data: FaceDataset, name: str, scored: PairScores) -> dict[str, Any]:
    """Returns the figures of a split from its scores, with the predictor's threshold."""
    return {**scored.known, **pair_figures(scored, predictor.threshold)}


def pair_figures(scored: PairScores, threshold: float | None) -> dict[str, Any]:
    """Returns the figures of verification as plain JSON types; fractions, never per cent.

    Args:
        scored: The scores.
        threshold: The model's; pairs at or above it are taken for one person.

    Returns:
        `genuine` and `impostors` (numbers of pairs); `eer`, `eer_threshold`, and `accuracy_at_eer`, the authors'
        "100 % - EER"; `tar_at_far_1e-1` to `tar_at_far_1e-6`; `threshold`, and what it gives here, `far` and `frr`, the
        shares of impostors that it accepts and of genuine pairs that it refuses. What cannot be measured is None.
    """
    measured: dict[str, Any] = dict.fromkeys(_RATES)
    if scored.same.any() and not scored.same.all():
        measured = verification_figures(scored.scores, scored.same)
    genuine, impostors = scored.scores[scored.same], scored.scores[~scored.same]
    return {
        "genuine": len(genuine),
        "impostors": len(impostors),
        **{key: measured[key] for key in _RATES},
        "threshold": threshold,
        "far": float((impostors >= threshold).mean()) if threshold is not None and len(impostors) else None,
        "frr": float((genuine < threshold).mean()) if threshold is not None and len(genuine) else None,
    }


def calibrate(split: Split, scored: PairScores) -> dict[str, Any]:
    """Returns what a model file keeps of the pairs of people whom training did not see: where both errors are equal."""
    figures = pair_figures(scored, None)
    if figures["eer_threshold"] is None:
        return {}
    people = f"{len(np.unique(split.labels))} people whom training did not see"
    pairs = f"{figures['genuine']:,} pairs of one of them and {figures['impostors']:,} of two"
    return {"threshold": figures["eer_threshold"], "threshold_from": f"equal error rate of {people}, {pairs}"}


def told(figures: dict[str, Any]) -> str:
    """Returns the figures that a line of progress has room for."""
    shown = (
        ("accuracy", "accuracy"),
        ("eer", "EER"),
        ("tar_at_far_1e-2", "TAR at FAR 1 %"),
        ("rank_1", "rank-1"),
        ("far", "FAR at the threshold"),
        ("frr", "FRR"),
    )
    told = ", ".join(f"{text} {figures[key]:.2%}" for key, text in shown if figures.get(key) is not None)
    return told or "no figure: it needs two pictures of one person, and two people"


def write_scores(path: Path, split: Split, scored: PairScores, labels: tuple[str, ...]) -> None:
    """Writes the scores of at most 1,000,000 pairs as CSV, a row a pair."""
    header = ["file_a", "file_b", "same", "score (higher = more alike)"]
    names = [split.names[row] for row in split.rows]
    columns = (column[:_MOST_ROWS].tolist() for column in (scored.first, scored.second, scored.same, scored.scores))
    rows = (
        [names[first], names[second], int(same), f"{score:.9g}"]
        for first, second, same, score in zip(*columns, strict=True)
    )
    write_rows(path, header, rows)
