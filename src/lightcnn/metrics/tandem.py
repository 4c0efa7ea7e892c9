"""How well a countermeasure and speaker verification (ASV) do together: t-DCF, a-DCF, t-EER.

Reference:
    Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing countermeasures and
    automatic speaker verification", 2018: https://arxiv.org/abs/1804.09618; and "Tandem assessment of spoofing
    countermeasures and automatic speaker verification: fundamentals", 2020: https://arxiv.org/abs/2007.05979
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.metrics.detection import check_scores, det_curve, eer

__all__ = ["ASVErrorRates", "TandemCosts", "a_dcf", "asv_error_rates", "min_t_dcf", "t_eer"]


@dataclass(frozen=True)
class TandemCosts:
    """What is expected and what errors cost; the defaults are those of ASVspoof 2019, 2021 and 5.

    Attributes:
        target_prior: The share of trials that are expected to be the speaker, 0.95 * 0.99.
        nontarget_prior: The share of trials by another speaker, 0.95 * 0.01.
        spoof_prior: The share of spoofed trials. The three shares add up to 1.
        miss: The cost of rejecting the speaker.
        nontarget_acceptance: The cost of accepting another speaker.
        spoof_acceptance: The cost of accepting spoofed speech.

    Raises:
        ValueError: If a value is negative, a miss costs nothing, or the shares do not add up to 1.
    """

    target_prior: float = 0.9405
    nontarget_prior: float = 0.0095
    spoof_prior: float = 0.05
    miss: float = 1.0
    nontarget_acceptance: float = 10.0
    spoof_acceptance: float = 10.0

    def __post_init__(self) -> None:
        priors = self.target_prior, self.nontarget_prior, self.spoof_prior
        if min(priors) < 0 or abs(sum(priors) - 1) > 1e-9 or min(self.weights) < 0 or not self.miss > 0:
            raise ValueError(
                f"Expected three priors that add up to 1, costs of 0 or more and a miss that costs. Received: {self}"
            )

    @property
    def weights(self) -> tuple[float, float, float]:
        """What rates of 1 cost: missed targets, accepted nontargets, accepted spoofs."""
        return (
            self.miss * self.target_prior,
            self.nontarget_acceptance * self.nontarget_prior,
            self.spoof_acceptance * self.spoof_prior,
        )


@dataclass(frozen=True)
class ASVErrorRates:
    """The errors of a speaker verification system at a fixed threshold, as fractions.

    Attributes:
        miss: The share of targets that it rejects.
        nontarget_acceptance: The share of other speakers that it accepts.
        spoof_acceptance: The share of spoofed trials that it accepts.
        threshold: Where it decides, in units of its scores.
    """

    miss: float
    nontarget_acceptance: float
    spoof_acceptance: float
    threshold: float


def asv_error_rates(
    targets: ArrayLike, nontargets: ArrayLike, spoofs: ArrayLike, threshold: float | None = None
) -> ASVErrorRates:
    """Returns the errors of speaker verification at a threshold.

    Args:
        targets: `(targets,)`, its scores of the speaker.
        nontargets: `(nontargets,)`, its scores of other speakers.
        spoofs: `(spoofs,)`, its scores of spoofed speech.
        threshold: Where it decides; by default at the EER of targets and nontargets, as in the challenges.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> asv_error_rates([2.0, 3.0], [0.0, 1.0], [1.0, 4.0], threshold=1.5)
    ASVErrorRates(miss=0.0, nontarget_acceptance=0.0, spoof_acceptance=0.5, threshold=1.5)
    """
    target, nontarget, spoof = check_scores(targets=targets, nontargets=nontargets, spoofs=spoofs)
    at = eer(target, nontarget)[1] if threshold is None else threshold
    return ASVErrorRates(
        float(np.mean(target < at)), float(np.mean(nontarget >= at)), float(np.mean(spoof >= at)), float(at)
    )


def _legacy_constants(asv: ASVErrorRates, costs: TandemCosts) -> tuple[float, float, float]:
    missing, other, spoofed = costs.weights
    return 0.0, missing * (1 - asv.miss) - other * asv.nontarget_acceptance, spoofed * asv.spoof_acceptance


def _revised_constants(asv: ASVErrorRates, costs: TandemCosts) -> tuple[float, float, float]:
    missing, other, spoofed = costs.weights
    without_spoofs = missing * asv.miss + other * asv.nontarget_acceptance
    return without_spoofs, missing - without_spoofs, spoofed * asv.spoof_acceptance


_FORMS: dict[str, Callable[[ASVErrorRates, TandemCosts], tuple[float, float, float]]] = {
    "legacy": _legacy_constants,
    "revised": _revised_constants,
}


def min_t_dcf(
    bonafide: ArrayLike,
    spoofs: ArrayLike,
    asv: ASVErrorRates,
    *,
    form: str = "revised",
    costs: TandemCosts | None = None,
) -> tuple[float, float]:
    """Returns the least normalised tandem detection cost of all thresholds of the countermeasure, and that threshold.

    With the countermeasure's `P_miss` and `P_fa`, the cost is `C0 + C1 * P_miss + C2 * P_fa` divided by
    `C0 + min(C1, C2)`. C0 is what the ASV system's own errors cost, C2 the spoofs that it would accept. In the legacy
    form (ASVspoof 2019), C0 is left out; the revised form (2021) is at least the ASV floor `C0 / (C0 + min(C1, C2))`.

    Reference:
        Kinnunen et al. 2018 (legacy), https://arxiv.org/abs/1804.09618; Kinnunen et al. 2020 (revised),
        https://arxiv.org/abs/2007.05979

    Args:
        bonafide: `(bonafide,)`, the countermeasure's scores of bona fide speech.
        spoofs: `(spoofs,)`, its scores of spoofed speech.
        asv: The errors of the ASV system (`asv_error_rates`).
        form: `"revised"` or `"legacy"`.
        costs: Priors and costs; the challenges' by default.

    Returns:
        The cost, from 0 (revised: from the ASV floor) to 1, and the threshold, in units of the scores: the highest that
        is rejected.

    Raises:
        ValueError: If a set has no trial, a score is NaN or infinite, the form is unknown, or the ASV system makes
            the cost undefined: it accepts nearly no target, or (legacy) no spoof, so that nothing is left to do.

    Example:
    >>> asv = ASVErrorRates(miss=0.02, nontarget_acceptance=0.02, spoof_acceptance=0.5, threshold=0.0)
    >>> value, threshold = min_t_dcf([2.0, 3.0], [0.0, 1.0], asv)
    >>> round(value, 4), threshold
    (0.0765, 1.0)
    """
    if form not in _FORMS:
        raise ValueError(f"`form` must be one of {', '.join(map(repr, _FORMS))}. Received: form={form!r}")
    rejected, accepted, thresholds = det_curve(bonafide, spoofs)
    floor, missing, accepting = _FORMS[form](asv, costs or TandemCosts())
    worst = floor + min(missing, accepting)
    if min(missing, accepting) < 0 or worst <= 0:
        raise ValueError(
            f"The {form} t-DCF is undefined with this ASV system: it must accept some spoofs and most targets. "
            f"Received: asv={asv}. Check that its scores are higher for targets."
        )
    cost = floor + missing * rejected + accepting * accepted
    index = np.argmin(cost)
    return float(cost[index] / worst), float(thresholds[index])


def a_dcf(
    targets: ArrayLike, nontargets: ArrayLike, spoofs: ArrayLike, costs: TandemCosts | None = None
) -> tuple[float, float]:
    """Returns the least architecture-agnostic detection cost of all thresholds, and that threshold.

    It is for one score that must reject other speakers and spoofed speech alike: the weighted sum of three error
    rates, divided by the cost of the better of accepting all and rejecting all.

    Reference:
        Shim et al., "a-DCF: an architecture agnostic metric with application to spoofing-robust speaker
        verification", 2024: https://arxiv.org/abs/2403.01355

    Args:
        targets: `(targets,)`, scores of the speaker.
        nontargets: `(nontargets,)`, scores of other speakers.
        spoofs: `(spoofs,)`, scores of spoofed speech.
        costs: Priors and costs; those of the t-DCF by default. The ASVspoof 5 package's own `a_dcf.py`, called
            without any, takes `TandemCosts(0.9, 0.05, 0.05, 1, 10, 20)`.

    Returns:
        The cost, from 0 to 1, and the threshold, in units of the scores: the highest that is rejected.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite, or to accept or reject all costs nothing.

    Example:
    >>> a_dcf([2.0, 3.0], [0.0, 1.0], [-1.0, 1.5])
    (0.0, 1.5)
    """
    missed, accepted, spoofed, thresholds = _three_error_rates(targets, nontargets, spoofs)
    missing, other, spoof = (costs or TandemCosts()).weights
    worst = min(missing, other + spoof)
    if not worst > 0:
        raise ValueError(f"The a-DCF is undefined where accepting or rejecting all costs nothing. Received: {costs}")
    cost = missing * missed + other * accepted + spoof * spoofed
    index = np.argmin(cost)
    return float(cost[index] / worst), float(thresholds[index])


def _three_error_rates(targets: ArrayLike, nontargets: ArrayLike, spoofs: ArrayLike) -> list[NDArray[np.float64]]:
    """Returns the share of rejected targets, of accepted nontargets and spoofs, and the threshold, one step a trial."""
    kinds = check_scores(targets=targets, nontargets=nontargets, spoofs=spoofs)
    scores = np.concatenate(kinds)
    order = np.argsort(scores, kind="stable")
    kind = np.repeat(np.arange(3), [len(k) for k in kinds])[order]
    missed, nontarget, spoof = (np.concatenate([[0.0], np.cumsum(kind == k) / len(kinds[k])]) for k in range(3))
    return [missed, 1 - nontarget, 1 - spoof, np.concatenate([[scores[order[0]] - 0.001], scores[order]])]


def t_eer(
    bonafide: ArrayLike,
    spoofs: ArrayLike,
    asv_targets: ArrayLike,
    asv_nontargets: ArrayLike,
    asv_spoofs: ArrayLike,
) -> float:
    """Returns the concurrent tandem EER: the one error rate at which missed targets, nontargets and spoofs all meet.

    For every ASV threshold where ASV misses fewer targets than it accepts nontargets and spoofs (half of each), the
    countermeasure's threshold is set where the tandem's misses come closest to what it accepts of this mixture. Of
    these pairs of thresholds, the one counts where accepted nontargets and accepted spoofs are closest; its share of
    accepted spoofs is the figure. It needs neither priors nor costs. These are the steps of the ASVspoof 5 package.

    Reference:
        Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and biometric comparators", 2023:
        https://arxiv.org/abs/2309.12237

    Args:
        bonafide: `(bonafide,)`, the countermeasure's scores of bona fide speech, by targets and nontargets.
        spoofs: `(spoofs,)`, its scores of spoofed speech.
        asv_targets: `(targets,)`, the ASV system's scores of the speaker.
        asv_nontargets: `(nontargets,)`, its scores of other speakers.
        asv_spoofs: `(asv_spoofs,)`, its scores of spoofed speech.

    Returns:
        A fraction.

    Raises:
        ValueError: If a set has no trial or a score that is NaN or infinite.

    Example:
    >>> t_eer([2.0, 3.0], [0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [2.5, 1.0])
    0.0
    """
    rejected, accepted, _ = det_curve(bonafide, spoofs)
    missed, nontarget, spoofed, _ = _three_error_rates(asv_targets, asv_nontargets, asv_spoofs)
    usable = (missed < (nontarget + spoofed) / 2) & (spoofed > 0)
    missed, nontarget, spoofed = missed[usable], nontarget[usable], spoofed[usable]

    def gap(at: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far the tandem's misses exceed what it accepts, for each ASV threshold at a point of the DET curve."""
        passed = 1 - rejected[at]
        return np.asarray(rejected[at] + passed * missed - (passed * nontarget + accepted[at] * spoofed) / 2)

    # The gap grows along the DET curve, so halving finds where it changes its sign, for all ASV thresholds at once.
    low, high = np.zeros(missed.size, np.int64), np.full(missed.size, rejected.size - 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        beyond = gap(middle) >= 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    at = np.where(np.abs(gap(low)) <= np.abs(gap(high)), low, high)
    passed = 1 - rejected[at]
    spoofs_passed = np.divide(accepted[at], passed, out=np.full(passed.shape, np.inf), where=passed > 0)
    index = np.argmin(np.abs(nontarget / spoofed - spoofs_passed))
    return float(spoofed[index] * accepted[at][index])
