"""Is it the same person: the protocols of face verification, scores in, fractions out.

A score is higher for more alike; two pictures are taken for one person if their score is at or above the threshold.
Nothing is interpolated: accuracies and acceptance rates are ones that a threshold reaches. The equal error rate is
`lightcnn.metrics.eer` of genuine and impostor scores, the mean of both error rates where they are nearest; the
authors of Light CNN print 100 % - EER for LFW, which is not the ten-fold accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.errors import DataError
from lightcnn.metrics.detection import check_scores

__all__ = [
    "FoldAccuracy",
    "accuracy_threshold",
    "cosine_similarity",
    "highest_refused",
    "l2_normalize",
    "mean_minus_std",
    "pair_scores",
    "tar_at_far",
    "verification_accuracy",
]

_MOST_SCORES = 1 << 24  # in memory at once: 64 MiB as float32


# ------------------------------------------------------------------------------------------------------- similarity


def l2_normalize(embeddings: ArrayLike) -> NDArray[Any]:
    """Scales every embedding to length 1, so that a product of two is their cosine similarity.

    Args:
        embeddings: `(..., features)`.

    Returns:
        `(..., features)`, float32 for float32 and float16, else float64.

    Raises:
        ValueError: If an embedding is zero, NaN or infinite, so that it has no direction.

    Example:
    >>> l2_normalize([[3.0, 4.0]]).tolist()
    [[0.6, 0.8]]
    """
    vectors = np.asarray(embeddings)
    vectors = vectors.astype(np.float32 if vectors.dtype in (np.float32, np.float16) else np.float64, copy=False)
    # In float64, since squares of float32 can vanish or overflow where the vector does not.
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)).astype(vectors.dtype)
    if (bad := np.flatnonzero(~((lengths > 0) & (lengths < np.inf)))).size:
        raise ValueError(
            "Expected embeddings that are finite and not zero: others have no direction. "
            f"Received: {bad.size:,} of {lengths.size:,} without one, the first at row {bad[0]}"
        )
    unit: NDArray[Any] = vectors / lengths[..., None]
    return unit


def cosine_similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Returns the cosine of the angle between the two embeddings of each pair.

    To average over a picture and its mirror image, add the embeddings of both before.

    Args:
        first: `(pairs, features)`, one embedding a pair.
        second: `(pairs, features)`, the other one.

    Returns:
        `(pairs,)` float64, from -1 to 1.

    Raises:
        ValueError: If the shapes differ, or an embedding is zero, NaN or infinite.

    Example:
    >>> cosine_similarity([[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, -1.0]]).tolist()
    [1.0, 0.0]
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 2 or one.shape != other.shape:
        raise ValueError(
            "Expected two arrays of shape (pairs, features). "
            f"Received: first.shape={one.shape}, second.shape={other.shape}"
        )
    products = np.einsum("ij,ij->i", l2_normalize(one), l2_normalize(other), dtype=np.float64)
    return np.asarray(np.clip(products, -1, 1), np.float64)


def pair_scores(embeddings: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores every pair of pictures once, as BLUFR does: genuine pairs show one person, impostor pairs show two.

    Args:
        embeddings: `(pictures, features)`. They are scaled to length 1.
        labels: `(pictures,)`, who is shown.

    Returns:
        Genuine and impostor scores, together `pictures * (pictures - 1) / 2` cosines of the embeddings' precision.

    Raises:
        ValueError: If there is not one label a picture, or an embedding is zero, NaN or infinite.

    Example:
    >>> [scores.tolist() for scores in pair_scores([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], ["a", "a", "b"])]
    [[1.0], [0.0, 0.0]]
    """
    unit, persons = np.asarray(embeddings), np.asarray(labels)
    if unit.ndim != 2 or persons.shape != unit.shape[:1]:
        raise ValueError(
            "Expected embeddings of shape (pictures, features) and labels of shape (pictures,). "
            f"Received: embeddings.shape={unit.shape}, labels.shape={persons.shape}"
        )
    unit = l2_normalize(unit)
    columns = np.arange(len(unit))
    genuine, impostor = [np.zeros(0, unit.dtype)], [np.zeros(0, unit.dtype)]
    step = max(1, _MOST_SCORES // max(1, len(unit)))
    for start in range(0, len(unit), step):
        rows = columns[start : start + step, None]
        scores = unit[start : start + step] @ unit.T
        later, same = columns > rows, persons == persons[start : start + step, None]
        genuine.append(scores[later & same])
        impostor.append(scores[later & ~same])
    return np.concatenate(genuine), np.concatenate(impostor)


# ----------------------------------------------------------------------------------------------------- verification


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy of verification over folds, each with the threshold of the others.

    Attributes:
        mean: The mean of the folds' accuracies, each fold counted once whatever its size. A fraction.
        standard_error: Their standard deviation (n - 1) divided by the root of their number. A fraction.
        accuracies: `(folds,)`, fractions.
        thresholds: `(folds,)`, in units of the scores.
        sizes: `(folds,)`, pairs of each fold.
    """

    mean: float
    standard_error: float
    accuracies: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    sizes: NDArray[np.int64]


def verification_accuracy(scores: ArrayLike, same: ArrayLike, folds: int | ArrayLike = 10) -> FoldAccuracy:
    """Returns the accuracy of verification by LFW's view 2: the threshold is chosen on nine folds and tested on one.

    Reference:
        Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007: view 2, the estimated mean accuracy and
        the standard error of the mean.

    Args:
        scores: `(pairs,)`, higher for more alike.
        same: `(pairs,)` boolean (or 0 and 1): whether a pair shows one person.
        folds: `(pairs,)`, the fold of each pair; or a number of folds, which are taken in the order of the pairs and
            differ by at most one pair. LFW's list is in that order.

    Returns:
        A `FoldAccuracy`.

    Raises:
        ValueError: If the shapes differ, a score is NaN or infinite, there are fewer than two folds, or all pairs
            outside a fold are of one kind.

    Example:
    >>> result = verification_accuracy([0.9, 0.1, 0.8, 0.3, 0.2, 0.7], [1, 0, 1, 0, 1, 0], folds=3)
    >>> result.accuracies.tolist(), result.mean, round(result.standard_error, 4)
    ([1.0, 0.5, 0.0], 0.5, 0.2887)
    """
    score, is_same = _check_pairs(scores, same)
    fold, sizes = _fold_numbers(folds, len(score))
    accuracies, thresholds = np.empty(len(sizes)), np.empty(len(sizes))
    for number in range(len(sizes)):
        own = fold == number
        if is_same[~own].all() or not is_same[~own].any():
            raise ValueError(
                "Expected pairs of one person and of two outside each fold, to choose the threshold on. "
                f"Received: all {np.sum(~own):,} outside fold {number} are of one kind"
            )
        thresholds[number] = accuracy_threshold(score[~own], is_same[~own])[1]
        accuracies[number] = np.mean((score[own] >= thresholds[number]) == is_same[own])
    error = accuracies.std(ddof=1) / math.sqrt(len(sizes))
    return FoldAccuracy(float(accuracies.mean()), float(error), accuracies, thresholds, sizes)


def accuracy_threshold(scores: ArrayLike, same: ArrayLike) -> tuple[float, float]:
    """Returns the highest accuracy that a threshold reaches on pairs, and that threshold.

    It lies in the middle between two scores; of thresholds that are equally good, it is the lowest.

    Args:
        scores: `(pairs,)`, higher for more alike.
        same: `(pairs,)` boolean (or 0 and 1): whether a pair shows one person.

    Returns:
        The accuracy, a fraction, and the threshold, in units of the scores.

    Raises:
        ValueError: If the shapes differ or a score is NaN or infinite.

    Example:
    >>> accuracy_threshold([0.1, 0.25, 0.75, 0.9], [False, False, True, True])
    (1.0, 0.5)
    """
    score, is_same = _check_pairs(scores, same)
    order = np.argsort(score, kind="stable")
    ordered, kinds = score[order], is_same[order]
    # Accepting from place i on is right for the different pairs before it and for the same pairs from it on.
    right = np.cumsum(np.concatenate([[kinds.sum()], np.where(kinds, -1, 1)]))
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    place = int(np.argmax(np.where(possible, right, -1)))
    if place == 0:
        threshold = ordered[0]
    elif place == len(ordered):
        threshold = np.nextafter(ordered[-1], np.inf)
    else:
        middle = ordered[place - 1] + (ordered[place] - ordered[place - 1]) / 2
        threshold = middle if middle > ordered[place - 1] else ordered[place]
    return float(right[place] / len(ordered)), float(threshold)


def tar_at_far(genuine: ArrayLike, impostor: ArrayLike, far: float) -> tuple[float, float]:
    """Returns the share of genuine pairs accepted at the lowest threshold whose false acceptance rate is at most `far`.

    The figure of the authors of Light CNN (TPR at FAR), without interpolation. `far=0` asks for no false acceptance at
    all (VR@FAR=0); that figure depends on how many impostor pairs there are.

    Args:
        genuine: `(genuine,)`, scores of pairs that show one person.
        impostor: `(impostors,)`, scores of pairs that show two.
        far: The false acceptance rate, a fraction: 1e-1 to 1e-6, or 0.

    Returns:
        The true acceptance rate, a fraction, and the threshold, in units of the scores.

    Raises:
        DataError: If there are fewer than `1 / far` impostor scores, so that one false acceptance is already too many.
        ValueError: If a set has no score or one that is NaN or infinite, or `far` is not in [0, 1).

    Example:
    >>> impostor = np.arange(100) / 100
    >>> tar_at_far([0.5, 0.985, 2.0], impostor, 0.01)[0], tar_at_far([0.5, 0.985, 2.0], impostor, 0)[0]
    (0.6666666666666666, 0.3333333333333333)
    """
    positive, negative = check_scores(genuine=genuine, impostor=impostor)
    refused = highest_refused(negative, far, "impostor scores")
    return float(np.mean(positive > refused)), float(np.nextafter(refused, np.inf))


def mean_minus_std(rates: ArrayLike) -> float:
    """Returns the mean minus the standard deviation (n - 1) of a figure over repeated trials, as BLUFR reports it.

    Reference:
        Liao, Lei, Yi, Li, "A Benchmark Study of Large-scale Unconstrained Face Recognition" (BLUFR), 2014: 10 trials,
        TAR at FAR 0.1 % (`pair_scores`, `tar_at_far`) and open-set DIR at FAR 1 % (`dir_at_far`).

    Args:
        rates: `(trials,)`, the figure of each trial, a fraction. At least two.

    Returns:
        A fraction.

    Raises:
        ValueError: If there are fewer than two trials, or one is NaN or infinite.

    Example:
    >>> round(mean_minus_std([0.90, 0.92, 0.94]), 4)
    0.9
    """
    (figures,) = check_scores(rates=rates)
    if figures.size < 2:
        raise ValueError(f"Expected the figures of at least two trials. Received: {figures.size}")
    return float(figures.mean() - figures.std(ddof=1))


def _check_pairs(scores: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    (score,) = check_scores(scores=scores)
    kinds = np.asarray(same)
    if kinds.shape != score.shape:
        raise ValueError(
            "Expected whether a pair shows one person, for every score. "
            f"Received: scores.shape={score.shape}, same.shape={kinds.shape}"
        )
    if kinds.dtype.kind not in "biuf" or not np.isin(kinds, (0, 1)).all():
        raise ValueError(f"Expected `same` to be boolean, or 0 and 1. Received: {kinds.dtype}, {kinds[:10].tolist()}")
    return score, kinds.astype(bool)


def _fold_numbers(folds: int | ArrayLike, pairs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the fold of each pair, counted from 0, and the number of pairs of each fold."""
    if isinstance(folds, int | np.integer):
        if not 2 <= folds <= pairs:
            raise ValueError(f"Expected from 2 folds to one a pair. Received: folds={folds}, {pairs:,} pairs")
        parts = np.array_split(np.arange(pairs), folds)
        folds = np.repeat(np.arange(folds), [len(part) for part in parts])
    named = np.asarray(folds)
    if named.shape != (pairs,):
        raise ValueError(
            "Expected a number of folds, or the fold of every pair. "
            f"Received: {pairs:,} pairs, folds of shape {named.shape} and {named.dtype}"
        )
    _, numbers, sizes = np.unique(named, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise ValueError(
            "Expected at least two folds: the threshold of each is chosen on the others. Received: "
            f"{len(sizes)}. Use `accuracy_threshold` to choose one on all pairs."
        )
    return numbers.astype(np.int64), sizes.astype(np.int64)


def highest_refused(impostor: NDArray[np.float64], far: float, what: str) -> float:
    """Returns the score of the impostor that would be one too many: scores at or below it must be refused.

    Raises:
        DataError: If there are fewer than `1 / far` scores; `what` is what they are called then.
        ValueError: If `far` is not in [0, 1).
    """
    if not 0 <= far < 1:
        raise ValueError(f"Expected a false acceptance rate from 0 to below 1, a fraction. Received: far={far}")
    allowed = math.floor(far * impostor.size * (1 + 1e-12))  # 0.29 * 100 is 28.999999999999996
    if far and not allowed:
        raise DataError(
            f"A false acceptance rate of {far:g} needs at least {math.ceil(1 / far - 1e-6):,} {what}: with fewer, one "
            f"false acceptance is more. Received: {impostor.size:,}, which can show {1 / impostor.size:.2g} and above"
        )
    place = max(0, impostor.size - 1 - allowed)
    return float(np.partition(impostor, place)[place])
