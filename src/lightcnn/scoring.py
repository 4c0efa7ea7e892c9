"""What a score file is worth, by the metrics of the ASVspoof challenges: files in, fractions out. No Keras."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lightcnn.datasets.scores import Trials, eval_subset, read_asv_scores, read_key, read_scores, with_key
from lightcnn.errors import DataError
from lightcnn.metrics import (
    ASVErrorRates,
    act_dcf,
    asv_error_rates,
    cllr,
    eer,
    eer_per_group,
    min_cllr,
    min_dcf,
    min_t_dcf,
)

__all__ = ["score", "score_rows", "score_trials"]

_TANDEM = {"min_tdcf_legacy": "legacy", "min_tdcf": "revised"}
_LLR = "takes the scores for log-likelihood ratios"
# key: (name for people, factor, format, remark)
_ROWS = {
    "eer": ("EER, %", 100, ".4f", "equal error rate"),
    "min_tdcf_legacy": ("min t-DCF, legacy", 1, ".5f", "ASVspoof 2019"),
    "min_tdcf": ("min t-DCF", 1, ".5f", "ASVspoof 2021"),
    "min_dcf": ("min DCF", 1, ".5f", "ASVspoof 5"),
    "act_dcf": ("act DCF", 1, ".5f", f"ASVspoof 5; {_LLR}"),
    "cllr": ("Cllr, bits", 1, ".5f", _LLR),
    "min_cllr": ("min Cllr, bits", 1, ".5f", "after the best calibration"),
}


def _silent(message: str) -> None:
    """Says nothing: a script finds what is missing as None in the result."""


def score(
    scores: Path | str,
    key: Path | str | None = None,
    asv_scores: Path | str | None = None,
    *,
    note: Callable[[str], None] = _silent,
    warn: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Measures a score file with the metrics of the ASVspoof challenges.

    A score is higher for bona fide speech. Cllr and actual DCF take the scores as they are for log-likelihood ratios
    (nats, natural logarithm).

    Args:
        scores: The score file; `lightcnn.datasets.scores.read_scores` says which forms there are.
        key: The file that says which trial is what, for scores that don't. All its trials must have a score; of an
            ASVspoof 2021 key (or of scores with its columns), only the subset eval counts, as in the official figures.
        asv_scores: The scores of a speaker verification system, for the t-DCFs.
        note: Called with what columns were taken for, what was left out and what is None.
        warn: Called when the sign of the scores looks inverted (EER above 0.5).

    Returns:
        `eer`, `min_tdcf_legacy`, `min_tdcf`, `min_dcf`, `act_dcf`, `cllr`, `min_cllr` as floats, `per_attack` as EER by
        name of the attack, against all bona fide trials. EERs are fractions; what lacks its input is None.

    Raises:
        DataError: If a file cannot be read or is none of these, a score is NaN or infinite, a trial is missing or
            there twice, there is no bona fide or no spoofed trial, or nothing says which is which.

    Example:
    >>> _ = Path("scores.txt").write_text("a A07 spoof -3.1\\nb A08 spoof 0.2\\nc - bonafide 2.5\\n")
    >>> figures = score("scores.txt")
    >>> figures["eer"], figures["min_tdcf"], figures["per_attack"]
    (0.0, None, {'A07': 0.0, 'A08': 0.0})
    """
    trials = read_scores(scores)
    note(f"{trials.source}: columns taken for {', '.join(trials.columns)}.")
    if key is not None:
        listed = read_key(key)
        note(f"{listed.source}: columns taken for {', '.join(listed.columns)}.")
        trials = with_key(trials, eval_subset(listed))
    else:
        trials = eval_subset(trials)
    for message in trials.notes:
        note(message)
    asv = None
    if asv_scores is not None:
        asv = asv_error_rates(*read_asv_scores(asv_scores))
        note(f"{asv_scores}: of the columns, the last two taken for key, score.")
    try:
        figures = score_trials(trials, asv)
    except DataError:
        raise
    except ValueError as error:  # an ASV system that makes the t-DCF undefined
        raise DataError(f"{asv_scores}: {error}") from None
    if asv is None:
        note("min_tdcf_legacy and min_tdcf are null: they need ASV scores (--asv-scores).")
    if figures["per_attack"] is None:
        note("per_attack is null: nothing says which attack a trial is (a key does, --key).")
    if trials.scores is not None and not np.ptp(trials.scores):
        warn(f"{trials.source}: all scores are the same, so they tell nothing apart.")
    elif figures["eer"] > 0.5:
        warn(
            f"{trials.source}: the EER is {figures['eer']:.2%}, so the sign of the scores looks inverted. "
            "A score must be higher for bona fide speech; negate them if they are not."
        )
    return figures


def score_trials(trials: Trials, asv: ASVErrorRates | None = None) -> dict[str, Any]:
    """Measures trials that are in memory; see `score` for what is returned.

    Args:
        trials: With `scores` and `bonafide`, `(trials,)` each.
        asv: The errors of a speaker verification system, for the t-DCFs.

    Raises:
        DataError: If there is no bona fide or no spoofed trial, or nothing says which is which.
        ValueError: If the t-DCF is undefined with this ASV system.

    Example:
    >>> trials = Trials(Path("-"), (), ("a", "b"), np.array([1.5, -2.0]), np.array([True, False]))
    >>> score_trials(trials)["eer"]
    0.0
    """
    if trials.scores is None or trials.bonafide is None:
        raise DataError(
            f"{trials.source} does not say which trials are bona fide. Its columns were taken for: "
            f"{', '.join(trials.columns)}. Name the key of these trials (--key)."
        )
    positives, negatives = trials.scores[trials.bonafide], trials.scores[~trials.bonafide]
    for kind, found in (("bona fide", positives), ("spoofed", negatives)):
        if not found.size:
            raise DataError(
                f"{trials.source} has no {kind} trial among {len(trials.scores):,}: there is no error rate to measure. "
                "Score trials of both kinds."
            )
    attacks = None if trials.attacks is None else np.asarray(trials.attacks, object)[~trials.bonafide]
    return {
        "eer": eer(positives, negatives)[0],
        **{
            name: None if asv is None else min_t_dcf(positives, negatives, asv, form=form)[0]
            for name, form in _TANDEM.items()
        },
        "min_dcf": min_dcf(positives, negatives)[0],
        "act_dcf": act_dcf(positives, negatives),
        "cllr": cllr(positives, negatives),
        "min_cllr": min_cllr(positives, negatives),
        "per_attack": None if attacks is None else eer_per_group(positives, negatives, attacks),
    }


def score_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the figures of `score` as rows of text for people: name, value (EERs in per cent), remark.

    Example:
    >>> figures = score("scores.txt")
    >>> score_rows(figures)[0]
    ('EER, %', '0.0000', 'equal error rate')
    """
    rows = []
    for key, (name, factor, form, remark) in _ROWS.items():
        value = figures[key]
        rows.append((name, "-", "needs ASV scores") if value is None else (name, f"{factor * value:{form}}", remark))
    return rows + [
        (f"EER of {attack}, %", f"{100 * value:.4f}", "against all bona fide trials")
        for attack, value in (figures["per_attack"] or {}).items()
    ]
