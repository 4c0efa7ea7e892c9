"""Verification and open-set identification on a collection of identities, repeated as BLUFR does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.datasets import open_set_split
from lightcnn.errors import DataError
from lightcnn.metrics import dir_at_far, identification_rates, l2_normalize, mean_minus_std, pair_scores, tar_at_far

__all__ = ["open_set_figures"]

_MOST_PICTURES = 10_000  # of a trial, as in BLUFR; their pairs are 50 million scores
_RATES = ("rank_1", "dir_at_far", "vr_at_far")


def open_set_figures(
    embeddings: ArrayLike,
    identities: ArrayLike,
    *,
    repeats: int = 10,
    share: float = 0.75,
    dir_far: float = 0.01,
    vr_far: float = 0.001,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures embeddings of people by repeated trials, each on a part of the people drawn anew.

    Of a trial's people, half of those with at least two pictures are in the gallery, with one picture each; the rest of
    their pictures and all pictures of the others ask who they show. VR is on all pairs of the trial's pictures.

    Reference:
        Liao, Lei, Yi, Li, "A Benchmark Study of Large-scale Unconstrained Face Recognition" (BLUFR), 2014. Its ten
        trials draw 4,249 of LFW's 5,749 people from lists of its own, so figures on LFW are alike, not the same.

    Args:
        embeddings: `(pictures, features)`, of any length.
        identities: `(pictures,)`, who is shown.
        repeats: How many trials, at least 2.
        share: The share of people in a trial, a fraction. Fewer are drawn where they have over 10,000 pictures.
        dir_far: The false acceptance rate of the open-set identification, a fraction.
        vr_far: The false acceptance rate of the verification, a fraction.
        seed: Decides the trials.

    Returns:
        `pictures`, `identities`, `repeats`, `seed`; `rank_1` (closed set), `dir_at_far` (open set, rank 1) and
        `vr_at_far`, each a dictionary with `mean`, `std` (n - 1) and `mean_minus_std`, fractions, or None if there are
        too few impostors for the rate; `dir_far` and `vr_far`; and `notes`, a list of texts.

    Raises:
        DataError: If there are fewer than three people, or not two with two pictures.
        ValueError: If the shapes differ, there are fewer than two trials, the share is not in (0, 1], the seed is
            negative, or an embedding has no direction.

    Example:
    >>> figures = open_set_figures(gallery.embeddings, gallery.identities)
    >>> figures["vr_at_far"]["mean_minus_std"]
    0.9871
    """
    unit, persons = l2_normalize(embeddings), np.asarray(identities)
    if unit.ndim != 2 or persons.shape != unit.shape[:1]:
        raise ValueError(
            "Expected embeddings of shape (pictures, features) and who is shown, (pictures,). "
            f"Received: {unit.shape} and {persons.shape}"
        )
    if repeats < 2 or not 0 < share <= 1 or seed < 0:
        raise ValueError(
            "Expected at least two trials, a share in (0, 1] and a seed from 0 on. "
            f"Received: repeats={repeats}, share={share}, seed={seed}"
        )
    names, counts = np.unique(persons, return_counts=True)
    if len(names) < 3 or np.sum(counts > 1) < 2:
        raise DataError(
            "an open set needs at least three people, two of them with two pictures. "
            f"Received: {len(names)} people, {np.sum(counts > 1)} with two"
        )
    notes: dict[str, str] = {}
    trials = [
        _trial(unit, persons, share, dir_far, vr_far, np.random.default_rng([seed, repeat]), notes)
        for repeat in range(repeats)
    ]
    rates: dict[str, dict[str, float] | None] = {}
    for key, values in zip(_RATES, zip(*trials, strict=True), strict=True):
        rates[key] = None
        if None not in values:
            mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
            rates[key] = {"mean": mean, "std": std, "mean_minus_std": mean_minus_std(values)}
    return {
        "pictures": len(unit),
        "identities": len(names),
        "repeats": repeats,
        "seed": seed,
        **rates,
        "dir_far": dir_far,
        "vr_far": vr_far,
        "notes": list(notes.values()),
    }


def _trial(
    unit: NDArray[Any],
    persons: NDArray[Any],
    share: float,
    dir_far: float,
    vr_far: float,
    generator: np.random.Generator,
    notes: dict[str, str],
) -> tuple[float | None, ...]:
    """Returns the rates of one trial, in the order of `_RATES`."""
    chosen = _drawn(persons, share, generator)
    unit, persons = unit[chosen], persons[chosen]
    with_two = int(np.sum(np.unique(persons, return_counts=True)[1] > 1))
    gallery, probes = open_set_split(persons, max(1, with_two // 2), generator)
    scores = unit[probes] @ unit[gallery].T
    labels = persons[gallery], persons[probes]
    known = np.isin(labels[1], labels[0])
    rank_1 = float(identification_rates(scores[known], labels[0], labels[1][known])[0])

    def measured(what: str, rate: Any, *arguments: Any) -> float | None:
        try:
            return float(rate(*arguments)[0])
        except DataError as error:
            notes.setdefault(what, f"{what} cannot be measured: {error}")
            return None

    return (
        rank_1,
        measured(f"DIR at FAR {dir_far:g}", dir_at_far, scores, *labels, dir_far),
        measured(f"VR at FAR {vr_far:g}", tar_at_far, *pair_scores(unit, persons), vr_far),
    )


def _drawn(persons: NDArray[Any], share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draws the pictures of a trial: all of its people's. Two people with two pictures, and one more, are in it."""
    numbers, counts = np.unique(persons, return_inverse=True, return_counts=True)[1:]
    order = generator.permutation(len(counts))
    order = order[np.argsort(~_first_two(counts[order] > 1), kind="stable")]
    wanted = max(3, math.ceil(share * len(counts)))
    fitting = max(3, int(np.sum(np.cumsum(counts[order]) <= _MOST_PICTURES)))
    return np.flatnonzero(np.isin(numbers, order[: min(wanted, fitting)]))


def _first_two(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keeps the first two of the true ones."""
    return flags & (np.cumsum(flags) <= 2)
