"""How far a figure can be trusted: bootstrap confidence intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.metrics.detection import check_scores

__all__ = ["eer_interval"]

_MOST_COUNTS = 2**21  # counts of trials in memory at once: 16 MiB


def eer_interval(
    positives: ArrayLike, negatives: ArrayLike, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns a bootstrap confidence interval of the EER (percentiles; trials are drawn anew, each kind by itself).

    Trials count as independent. They are not where one speaker or one attack gave many, so read it as a lower limit
    of the uncertainty: it says nothing about other speakers or attacks.

    Args:
        positives: `(positives,)`, scores of what shall be accepted.
        negatives: `(negatives,)`, scores of what shall be rejected.
        level: The share of resamples inside, between 0 and 1.
        num_resamples: How many times the trials are drawn anew. 1,000 take about a second for 72,000 trials.
        seed: The same seed gives the same interval.

    Returns:
        The lower and upper limit, fractions.

    Raises:
        ValueError: If a set has no trial, a score is NaN or infinite, or an argument is out of its range.

    Example:
    >>> low, high = eer_interval(np.arange(1.0, 100.0), -np.arange(-3.0, 96.0))
    >>> round(low, 3), round(high, 3)
    (0.0, 0.03)
    """
    positive, negative = check_scores(positives=positives, negatives=negatives)
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            "Expected a level between 0 and 1 and at least one resample. "
            f"Received: level={level}, num_resamples={num_resamples}"
        )
    order = np.argsort(np.concatenate([positive, negative]), kind="stable")
    generator = np.random.default_rng(seed)
    rows = max(1, _MOST_COUNTS // order.size)
    rates = [
        _resampled_eers(order < positive.size, min(rows, num_resamples - done), generator)
        for done in range(0, num_resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(rates), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_eers(is_positive: NDArray[np.bool_], rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Returns the stepped EER of `rows` resamples of trials in the order of their scores."""
    trials, kinds = is_positive.size, (np.flatnonzero(is_positive), np.flatnonzero(~is_positive))
    start = np.arange(0, rows * trials, trials)[:, None]
    drawn = [kind[generator.integers(kind.size, size=(rows, kind.size))] + start for kind in kinds]
    counts = np.bincount(np.concatenate([d.ravel() for d in drawn]), minlength=rows * trials).reshape(rows, trials)
    positives, negatives = (kind.size for kind in kinds)
    missed = np.cumsum(counts * is_positive, axis=1)
    passed = np.cumsum(counts * ~is_positive, axis=1)
    # The rates meet within the copies of the first trial at whose end the rejected share is no longer the smaller one.
    # In whole numbers, so that nothing is rounded; a copy is a step, and of two steps as close the first counts.
    crossing = np.argmax(missed * negatives + passed * positives >= positives * negatives, axis=1)
    at = (np.arange(rows), crossing)
    ends_in_positive = is_positive[crossing]
    before_missed = missed[at] - counts[at] * ends_in_positive
    before_passed = passed[at] - counts[at] * ~ends_in_positive
    gap = positives * negatives - before_missed * negatives - before_passed * positives
    step = np.where(ends_in_positive, negatives, positives)
    steps = (gap + (step - 1) // 2) // step
    rejected = (before_missed + steps * ends_in_positive) / positives
    accepted = 1 - (before_passed + steps * ~ends_in_positive) / negatives
    return np.asarray((rejected + accepted) / 2)
