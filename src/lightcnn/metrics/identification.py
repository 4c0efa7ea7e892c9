"""Who is it: closed-set and open-set identification from scores, and the search in a gallery of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.errors import DataError
from lightcnn.metrics.verification import highest_refused

__all__ = ["dir_at_far", "identification_rates", "search"]

_MOST_SCORES = 1 << 24  # in memory at once: 64 MiB as float32
_MOST_QUERIES = 1024  # at once; with more, the pieces of the gallery would become narrow


def identification_rates(
    scores: ArrayLike, gallery_labels: ArrayLike, probe_labels: ArrayLike, k: int = 1
) -> NDArray[np.float64]:
    """Returns the closed-set identification rates at ranks 1 to `k` (the cumulative match characteristic).

    A person's score is that of their best picture in the gallery. A tie counts against the probe: it has rank `r` if
    `r - 1` others are at least as alike.

    Args:
        scores: `(probes, gallery)`, similarity of each probe to each picture of the gallery.
        gallery_labels: `(gallery,)`, who is shown.
        probe_labels: `(probes,)`; everyone must be in the gallery.
        k: The highest rank.

    Returns:
        `(k,)` fractions; the first is rank-1.

    Raises:
        ValueError: If the shapes differ, a score is NaN or infinite, `k` is below 1, or a probe shows somebody who is
            not in the gallery.

    Example:
    >>> identification_rates([[0.9, 0.1], [0.8, 0.3]], ["ann", "bob"], ["ann", "bob"], k=2).tolist()
    [0.5, 1.0]
    """
    best, place, known = _best_of_persons(scores, gallery_labels, probe_labels)
    if k < 1 or not known.all():
        raise ValueError(
            "Expected k of at least 1, and probes of people who are in the gallery (`dir_at_far` takes others too). "
            f"Received: k={k}, {np.sum(~known):,} of {known.size:,} probes of others"
        )
    counts = np.bincount(_ranks(best, place)[1], minlength=k + 1)
    return np.asarray(np.cumsum(counts[1 : k + 1]) / known.size, np.float64)


def dir_at_far(
    scores: ArrayLike, gallery_labels: ArrayLike, probe_labels: ArrayLike, far: float, *, rank: int = 1
) -> tuple[float, float]:
    """Returns the open-set detection and identification rate (DIR) at a false acceptance rate.

    A probe of somebody in the gallery counts if their own score is at or above the threshold and their rank is at most
    `rank`. A probe of anybody else is falsely accepted if its highest score is at or above the threshold. The threshold
    is the lowest at which that happens to at most `far` of them; nothing is interpolated.

    Reference:
        Phillips, Grother, Micheals, "Evaluation Methods in Face Recognition", Handbook of Face Recognition, 2011; the
        protocol of BLUFR and of LFW's open set (rank 1, FAR 1 %).

    Args:
        scores: `(probes, gallery)`, similarity of each probe to each picture of the gallery.
        gallery_labels: `(gallery,)`, who is shown.
        probe_labels: `(probes,)`. Those of people who are not in the gallery are the impostors.
        far: The share of impostor probes that may be accepted, a fraction; 0 for none.
        rank: The highest rank that counts.

    Returns:
        The rate, a fraction of the probes of people in the gallery, and the threshold, in units of the scores.

    Raises:
        DataError: If there are fewer than `1 / far` impostor probes, or none of either kind.
        ValueError: If the shapes differ, a score is NaN or infinite, or `far` or `rank` is out of its range.

    Example:
    >>> dir_at_far([[0.9, 0.1], [0.4, 0.6], [0.5, 0.2]], ["ann", "bob"], ["ann", "bob", "eve"], far=0)[0]
    1.0
    """
    best, place, known = _best_of_persons(scores, gallery_labels, probe_labels)
    if rank < 1:
        raise ValueError(f"Expected a rank of at least 1. Received: rank={rank}")
    if known.all() or not known.any():
        raise DataError(
            "Expected some probes of people in the gallery and some of others. "
            f"Received: {np.sum(known):,} and {np.sum(~known):,}"
        )
    refused = highest_refused(best[~known].max(axis=1), far, "probes of people outside the gallery")
    own, ranks = _ranks(best[known], place[known])
    return float(np.mean((own > refused) & (ranks <= rank))), float(np.nextafter(refused, np.inf))


def _best_of_persons(
    scores: ArrayLike, gallery_labels: ArrayLike, probe_labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the scores `(probes, people)`, the column of each probe's own person, and whether there is one."""
    table, gallery, probes = np.asarray(scores, np.float64), np.asarray(gallery_labels), np.asarray(probe_labels)
    if table.ndim != 2 or not table.size or (*probes.shape, *gallery.shape) != table.shape:
        raise ValueError(
            "Expected scores of shape (probes, gallery), at least one of each, and a label for every probe and every "
            f"picture of the gallery. Received: scores.shape={table.shape}, probe_labels.shape={probes.shape}, "
            f"gallery_labels.shape={gallery.shape}"
        )
    if not np.isfinite(table).all():
        raise ValueError("Expected finite scores. Received: scores with NaN or infinite values")
    order = np.argsort(gallery, kind="stable")
    people, starts = np.unique(gallery[order], return_index=True)
    best = np.maximum.reduceat(table[:, order], starts, axis=1)
    place = np.minimum(np.searchsorted(people, probes), len(people) - 1)
    return best, place, people[place] == probes


def _ranks(best: NDArray[np.float64], place: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the score of each probe's own person, and how many people (itself included) are at least as alike."""
    own = best[np.arange(len(best)), place]
    return own, np.sum(best >= own[:, None], axis=1)


def search(gallery: ArrayLike, queries: ArrayLike, k: int = 1) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Finds the `k` pictures of a gallery that are most alike to each query, by one matrix product in pieces.

    A query in a million float32 embeddings of 256 features takes about 0.03 s, the time to read that 1 GB; of several
    at once each takes less (`benchmarks/gallery.py`).

    Args:
        gallery: `(pictures, features)`, of length 1 (`l2_normalize`) if the score shall be a cosine. It may be mapped
            from a file. float32 is fastest.
        queries: `(queries, features)`, the same. They are taken in the gallery's precision, single at least.
        k: How many to find.

    Returns:
        The rows of the gallery, `(queries, k)` int64, and their scores, `(queries, k)`, from the most alike on. Where
        scores are equal, earlier rows come first; of those equal to the last score, any may be there.

    Raises:
        ValueError: If the shapes differ, `k` is not from 1 to the number of pictures, or a score found is not finite.

    Example:
    >>> rows, scores = search([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], [[0.0, 1.0]], k=2)
    >>> rows.tolist(), scores.tolist()
    ([[1, 2]], [[1.0, 0.8]])
    """
    stored, asked = np.asarray(gallery), np.asarray(queries)
    if stored.ndim != 2 or asked.ndim != 2 or stored.shape[1] != asked.shape[1]:
        raise ValueError(
            "Expected a gallery of shape (pictures, features) and queries of shape (queries, features). "
            f"Received: gallery.shape={stored.shape}, queries.shape={asked.shape}"
        )
    if not 1 <= k <= len(stored):
        raise ValueError(f"Expected k from 1 to the size of the gallery. Received: k={k}, {len(stored)} pictures")
    if len(asked) > _MOST_QUERIES:
        parts = [
            search(stored, asked[start : start + _MOST_QUERIES], k) for start in range(0, len(asked), _MOST_QUERIES)
        ]
        return np.vstack([found for found, _ in parts]), np.vstack([alike for _, alike in parts])
    precision = np.result_type(stored, np.float32)
    asked = asked.astype(precision, copy=False)
    rows, best = np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0), precision)
    # A gallery of other numbers is converted, which is a copy: fewer rows at once then.
    row = len(asked) if stored.dtype == precision else max(len(asked), stored.shape[1])
    step = max(1, _MOST_SCORES // max(1, row))
    for start in range(0, len(stored), step):
        scores = asked @ stored[start : start + step].astype(precision, copy=False).T
        count = min(k, scores.shape[1])
        found = np.sort(np.argpartition(scores, -count, axis=1)[:, -count:], axis=1)
        rows = np.hstack([rows, found + start])
        best = np.hstack([best, np.take_along_axis(scores, found, axis=1)])
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        rows, best = np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)
    if not np.isfinite(best).all():  # NaN is partitioned as the largest, so it cannot hide
        raise ValueError("Expected finite embeddings. Received: a gallery or queries with NaN or infinite values")
    return rows, best
