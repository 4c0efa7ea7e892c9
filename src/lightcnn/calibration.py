"""Scores -> log-likelihood ratios (LLRs), and several systems -> one score. NumPy and SciPy only.

An LLR says how many times (as a natural logarithm) more likely a score is from bona fide than from spoofed speech.
Unlike a raw score, it has a threshold that follows from priors and costs alone (`bayes_threshold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.errors import ModelFileError
from lightcnn.metrics import bayes_threshold, effective_prior

__all__ = ["Calibration", "bayes_threshold", "effective_prior", "fit_calibration"]

_RIDGE = 1e-8  # too little to change a fit, enough to share the weight between systems that say the same


@dataclass(frozen=True)
class Calibration:
    """The map from scores to an LLR: `llr = weights @ scores + offset`.

    Attributes:
        weights: One factor a system.
        offset: What is added, in nats.

    Example:
    >>> Calibration(weights=(2.0,), offset=-1.0).llr([0.0, 0.5, 1.0]).tolist()
    [-1.0, 0.0, 1.0]
    """

    weights: tuple[float, ...]
    offset: float

    def llr(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns LLRs (nats), `(trials,)`.

        Args:
            scores: `(trials,)` of one system, or `(trials, systems)`, with the systems in the order of `weights`.

        Raises:
            ValueError: If the number of systems is another one.
        """
        values = np.asarray(scores, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(self.weights):
            raise ValueError(
                f"Expected scores of shape (trials, {len(self.weights)}), a column a system. "
                f"Received: scores.shape={np.shape(scores)}"
            )
        return np.asarray(values @ np.asarray(self.weights) + self.offset)

    def to_json(self) -> dict[str, Any]:
        """Returns plain types to store with a model."""
        return {"weights": list(self.weights), "offset": self.offset}

    @classmethod
    def from_json(cls, content: Any) -> Calibration:
        """Returns what `to_json` stored.

        Raises:
            ModelFileError: If the content is not one of a calibration.
        """
        try:
            weights, offset = tuple(float(weight) for weight in content["weights"]), float(content["offset"])
            if not weights or not np.isfinite([*weights, offset]).all():
                raise ValueError
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ModelFileError(
                "A stored calibration must be an object with finite `weights` and `offset`. "
                f"Received: {str(content)[:200]}. Calibrate the model again."
            ) from None
        return cls(weights, offset)


def fit_calibration(positives: ArrayLike, negatives: ArrayLike, *, prior: float = 0.5) -> Calibration:
    """Fits the map from scores to LLRs by prior-weighted logistic regression; with several systems, their fusion too.

    With `t = llr + log(prior / (1 - prior))`, it minimises `prior` times the mean of `log(1 + exp(-t))` over positives
    plus `1 - prior` times the mean of `log(1 + exp(t))` over negatives: at 0.5, the Cllr. Every positive counts as
    negative to a part of 1 / (positives + 2), and a negative likewise (Platt's targets). So scores that tell all trials
    apart give finite LLRs, no bolder than their number supports; with thousands of trials it changes little.

    A weight below zero turns a system's sign: with one system, check that higher scores mean bona fide.

    Reference:
        Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the NIST speaker
        recognition evaluation 2006", 2007; Platt, "Probabilistic outputs for support vector machines", 1999.

    Args:
        positives: Scores of bona fide trials, `(positives,)`, or `(positives, systems)` to fuse several.
        negatives: Scores of spoofed trials, `(negatives,)` or `(negatives, systems)`, with the same systems.
        prior: The prior of a bona fide trial where the fit shall be best (`effective_prior`), between 0 and 1.

    Returns:
        The map.

    Raises:
        ValueError: If a set has no trial, shapes do not fit, a score is NaN or infinite, a system gives equal scores
            only, or the prior is out of its range.

    Example:
    >>> calibration = fit_calibration([2.0, 3.0, 4.0], [0.0, 1.0, 2.5])
    >>> calibration.llr([0.0, 4.0]).round(2).tolist()
    [-1.56, 1.41]
    """
    # Imported here: it takes 0.3 s, which those who only apply a calibration need not wait.
    from scipy.optimize import minimize

    positive, negative = (
        values[:, None] if values.ndim == 1 else values
        for values in (np.asarray(positives, np.float64), np.asarray(negatives, np.float64))
    )
    if positive.ndim != 2 or negative.ndim != 2 or positive.shape[1] != negative.shape[1] or not positive.shape[1]:
        raise ValueError(
            "Expected scores of shape (trials,) or (trials, systems) with the same systems in both sets. "
            f"Received: positives.shape={np.shape(positives)}, negatives.shape={np.shape(negatives)}"
        )
    if not len(positive) or not len(negative):
        raise ValueError(
            "Expected trials of both kinds. "
            f"Received: {len(positive)} positives (bona fide), {len(negative)} negatives (spoofed)"
        )
    if not 0 < prior < 1:
        raise ValueError(f"`prior` must be between 0 and 1. Received: prior={prior}")
    scores = np.concatenate([positive, negative])
    if not np.isfinite(scores).all():
        raise ValueError("Expected finite scores. Received: NaN or infinite values")
    equal = np.ptp(scores, axis=0) == 0  # their deviation can be a rounding above 0
    if equal.any():
        raise ValueError(
            "A system that gives every trial the same score cannot be calibrated. "
            f"Received: equal scores of system {int(np.argmax(equal))}"
        )
    center, spread = scores.mean(axis=0), scores.std(axis=0)
    # Scaled, so that the search is the same whatever the scores' units; the last column is the offset.
    design = np.column_stack([(scores - center) / spread, np.ones(len(scores))])
    bona_fide = np.repeat([True, False], [len(positive), len(negative)])
    target = np.where(bona_fide, (len(positive) + 1) / (len(positive) + 2), 1 / (len(negative) + 2))
    weight = np.where(bona_fide, prior / len(positive), (1 - prior) / len(negative))
    log_odds = np.log(prior) - np.log1p(-prior)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        t = design @ values + log_odds
        # log(1 + exp(t)) - target * t is the cost of both kinds in one; its derivative is sigmoid(t) - target.
        error = np.exp(-np.logaddexp(0, -t)) - target
        cost = weight @ (np.logaddexp(0, t) - target * t) + _RIDGE / 2 * values @ values
        return float(cost), design.T @ (weight * error) + _RIDGE * values

    def curvature(values: NDArray[np.float64]) -> NDArray[np.float64]:
        t = design @ values + log_odds
        variance = np.exp(-np.logaddexp(0, t) - np.logaddexp(0, -t))
        return np.asarray(design.T @ (design * (weight * variance)[:, None]) + _RIDGE * np.eye(len(values)))

    start = np.zeros(design.shape[1])
    found = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}).x
    weights = found[:-1] / spread
    return Calibration(tuple(weights.tolist()), float(found[-1] - center @ weights))
