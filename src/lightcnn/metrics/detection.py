"""How well scores tell two kinds of trials apart: DET curve, EER, detection costs, Cllr.

Everywhere a score is higher for what shall be accepted (`positives`: bona fide speech, target speakers) than for what
shall be rejected (`negatives`: spoofed speech, other speakers). A threshold that is returned is the highest score
that is rejected: trials above it are accepted. The definitions are those of the ASVspoof challenges' own evaluation
packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DetectionCosts",
    "act_dcf",
    "bayes_threshold",
    "check_scores",
    "cllr",
    "det_curve",
    "eer",
    "eer_per_group",
    "effective_prior",
    "min_cllr",
    "min_dcf",
]


@dataclass(frozen=True)
class DetectionCosts:
    """What is expected and what errors cost; the defaults are those of ASVspoof 5, track 1.

    Attributes:
        spoof_prior: The share of trials that are expected to be negatives (spoofed), above 0 and below 1.
        miss: The cost of rejecting a positive, above 0.
        false_acceptance: The cost of accepting a negative, above 0.

    Raises:
        ValueError: If a value is out of its range.
    """

    spoof_prior: float = 0.05
    miss: float = 1.0
    false_acceptance: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.spoof_prior < 1 and self.miss > 0 and self.false_acceptance > 0):
            raise ValueError(f"Expected a spoof_prior between 0 and 1 and costs above 0. Received: {self}")

    @property
    def weights(self) -> tuple[float, float]:
        """What a miss rate of 1 and a false acceptance rate of 1 cost."""
        return self.miss * (1 - self.spoof_prior), self.false_acceptance * self.spoof_prior


def check_scores(**scores: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Returns each set of scores as a float64 array `(trials,)`.

    Raises:
        ValueError: If a set has no trial, more than one axis, or a score that is NaN or infinite.
    """
    arrays = tuple(np.asarray(values, np.float64) for values in scores.values())
    for name, array in zip(scores, arrays, strict=True):
        if array.ndim != 1 or not array.size:
            raise ValueError(
                f"Expected `{name}` of shape (trials,), at least one trial. Received: {name}.shape={array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"Expected finite scores. Received: {name} with NaN or infinite values")
    return arrays


def det_curve(
    positives: ArrayLike, negatives: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the errors at every threshold, one step a trial (the ASVspoof challenges' `compute_det_curve`).

    Trials are passed in the order of their scores, and positives before negatives where scores are equal. So a point
    inside a tie is one that no threshold can reach; the official figures are made with these steps.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.

    Returns:
        Three arrays `(1 + positives + negatives,)`: the false rejection rate (from 0 to 1), the false acceptance rate
        (from 1 to 0), and the score of the last trial that was passed (before the first: 0.001 below it).

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> rejected, accepted, thresholds = det_curve([2.0, 3.0], [1.0, 2.5])
    >>> rejected.tolist(), accepted.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0, 0.0])
    """
    positive, negative = check_scores(positives=positives, negatives=negatives)
    scores = np.concatenate([positive, negative])
    order = np.argsort(scores, kind="stable")
    missed = np.cumsum(order < positive.size)
    passed = np.arange(1, scores.size + 1)
    rejected = np.concatenate([[0.0], missed / positive.size])
    accepted = np.concatenate([[1.0], (negative.size - (passed - missed)) / negative.size])
    return rejected, accepted, np.concatenate([[scores[order[0]] - 0.001], scores[order]])


def eer(positives: ArrayLike, negatives: ArrayLike) -> tuple[float, float]:
    """Returns the equal error rate and its threshold, by the stepped definition of the ASVspoof challenges.

    It is the mean of the two error rates at the first point of the DET curve where they are closest. Interpolated
    definitions differ in the third or fourth digit.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.

    Returns:
        The EER, a fraction, and the threshold, in units of the scores: the highest that is rejected. An EER above 0.5
        means that the scores' sign is likely inverted.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> eer([2.0, 3.0], [1.0, 2.5])
    (0.5, 2.0)
    """
    rejected, accepted, thresholds = det_curve(positives, negatives)
    index = np.argmin(np.abs(rejected - accepted))
    return float((rejected[index] + accepted[index]) / 2), float(thresholds[index])


def eer_per_group(
    positives: ArrayLike,
    negatives: ArrayLike,
    negative_groups: Sequence[str] | NDArray[Any],
    positive_groups: Sequence[str] | NDArray[Any] | None = None,
) -> dict[str, float]:
    """Returns the EER of each group of negatives: an attack against all positives, or a condition within itself.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.
        negative_groups: `(negatives,)`, a name a trial: its attack, or its condition.
        positive_groups: `(positives,)`, a name a trial. Without it, each group is held against all positives, as the
            challenges do for attacks.

    Returns:
        Fractions by name, sorted by name; NaN for a group without positives or without negatives.

    Raises:
        ValueError: If there is not one name a trial, or a score is NaN or infinite.

    Example:
    >>> eer_per_group([2.0, 3.0], [1.0, 2.5], ["A01", "A02"])
    {'A01': 0.0, 'A02': 0.75}
    """
    positive, negative = check_scores(positives=positives, negatives=negatives)
    of_negatives = np.asarray(negative_groups, object)
    of_positives = None if positive_groups is None else np.asarray(positive_groups, object)
    if len(of_negatives) != len(negative) or (of_positives is not None and len(of_positives) != len(positive)):
        raise ValueError(
            "Expected the name of a group for every trial. "
            f"Received: {len(negative)} negatives with {len(of_negatives)} names, {len(positive)} positives with "
            f"{'none' if of_positives is None else len(of_positives)}"
        )
    rejected = _by_group(negative, of_negatives)
    accepted = dict.fromkeys(rejected, positive) if of_positives is None else _by_group(positive, of_positives)
    rates = dict.fromkeys(sorted({*rejected, *accepted}), float("nan"))
    for name in rejected.keys() & accepted.keys():
        if accepted[name].size:
            rates[name] = eer(accepted[name], rejected[name])[0]
    return rates


def _by_group(scores: NDArray[np.float64], groups: NDArray[Any]) -> dict[Any, NDArray[np.float64]]:
    """Returns the scores of every group, sorted once: there may be thousands of groups."""
    names, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
    parts = np.split(scores[np.argsort(places, kind="stable")], np.cumsum(counts))
    return dict(zip(names, parts, strict=False))  # nothing is after the last


def effective_prior(costs: DetectionCosts | None = None) -> float:
    """Returns the prior of a positive at which equal costs lead to the same decisions as `costs`.

    Reference:
        Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.

    Example:
    >>> round(effective_prior(), 4)
    0.6552
    """
    missing, accepting = (costs or DetectionCosts()).weights
    return missing / (missing + accepting)


def bayes_threshold(costs: DetectionCosts | None = None) -> float:
    """Returns the threshold for log-likelihood ratios (nats) with the least expected cost: ASVspoof 5's -ln(beta).

    Example:
    >>> round(bayes_threshold(), 6)
    -0.641854
    """
    missing, accepting = (costs or DetectionCosts()).weights
    return float(np.log(accepting) - np.log(missing))


def min_dcf(positives: ArrayLike, negatives: ArrayLike, costs: DetectionCosts | None = None) -> tuple[float, float]:
    """Returns the least normalised detection cost of all thresholds, and that threshold.

    The cost is `miss * (1 - spoof_prior) * P_miss + false_acceptance * spoof_prior * P_fa`, divided by the cost of the
    better of accepting all and rejecting all: 1 is worth nothing, 0 is perfect.

    Reference:
        ASVspoof 5 evaluation plan, track 1.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.
        costs: Prior and costs; ASVspoof 5's by default.

    Returns:
        The cost, from 0 to 1, and the threshold, in units of the scores: the highest that is rejected.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> min_dcf([2.0, 3.0, 4.0], [1.0, 2.5])
    (0.5, 1.0)
    """
    rejected, accepted, thresholds = det_curve(positives, negatives)
    missing, accepting = (costs or DetectionCosts()).weights
    cost = missing * rejected + accepting * accepted
    index = np.argmin(cost)
    return float(cost[index] / min(missing, accepting)), float(thresholds[index])


def act_dcf(positives: ArrayLike, negatives: ArrayLike, costs: DetectionCosts | None = None) -> float:
    """Returns the normalised detection cost at the Bayes threshold: what decisions on the scores as they are cost.

    The scores must be log-likelihood ratios (nats); `lightcnn.calibration` makes them.

    Reference:
        ASVspoof 5 evaluation plan, track 1 (actual DCF).

    Args:
        positives: `(positives,)`, log-likelihood ratios of what shall be accepted.
        negatives: `(negatives,)`, log-likelihood ratios of what shall be rejected.
        costs: Prior and costs; ASVspoof 5's by default.

    Returns:
        The cost, 0 or more; above 1 it is worse than deciding without listening.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> act_dcf([2.0, 3.0], [-1.0, -0.5])
    0.5
    """
    positive, negative = check_scores(positives=positives, negatives=negatives)
    costs = costs or DetectionCosts()
    missing, accepting = costs.weights
    threshold = bayes_threshold(costs)
    cost = missing * np.mean(positive < threshold) + accepting * np.mean(negative >= threshold)
    return float(cost / min(missing, accepting))


def cllr(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Returns the cost of log-likelihood ratios in bits, averaged over all priors and costs.

    Half the mean of `log2(1 + exp(-score))` over positives and half the mean of `log2(1 + exp(score))` over
    negatives: 0 is perfect, 1 is what scores of 0 cost, and wrong scores can cost more.

    Reference:
        Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.

    Args:
        positives: `(positives,)`, log-likelihood ratios (nats) of what shall be accepted.
        negatives: `(negatives,)`, log-likelihood ratios (nats) of what shall be rejected.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> cllr([0.0], [0.0])
    1.0
    """
    positive, negative = check_scores(positives=positives, negatives=negatives)
    return float((np.logaddexp(0, -positive).mean() + np.logaddexp(0, negative).mean()) / 2 / np.log(2))


def min_cllr(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Returns the least Cllr, in bits, that any map keeping the order of the scores can reach.

    The best map is the isotonic regression of the trials' kinds (pool adjacent violators); equal scores stay equal.

    Reference:
        Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> min_cllr([2.0, 3.0], [0.0, 1.0])
    0.0
    """
    # Imported here: it takes 0.3 s, and nothing else in the metrics needs it.
    from scipy.optimize import isotonic_regression

    positive, negative = check_scores(positives=positives, negatives=negatives)
    values, place = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    positive_count = np.bincount(place[: positive.size], minlength=values.size)
    count = np.bincount(place)
    probability = isotonic_regression(positive_count / count, weights=count.astype(np.float64)).x
    with np.errstate(divide="ignore"):
        odds = probability / (1 - probability) * (negative.size / positive.size)  # exp of the log-likelihood ratio
        missing = np.log2(1 + 1 / odds)[positive_count > 0] @ positive_count[positive_count > 0] / positive.size
    negative_count = count - positive_count
    accepting = np.log2(1 + odds)[negative_count > 0] @ negative_count[negative_count > 0] / negative.size
    return float((missing + accepting) / 2)
