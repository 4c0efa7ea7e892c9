"""Finished runs, averaged over their seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from lightcnn.errors import RunError
from lightcnn.runs.folder import Run

__all__ = ["compare"]


def compare(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Groups finished runs by recipe, whatever their seeds, and averages their figures.

    Args:
        runs: Finished runs.

    Returns:
        A dictionary a configuration: `recipe`; `settings`, where configurations differ; `seeds`; and for each figure
        (`validation_accuracy`, `test_accuracy`, `test_loss`, `train_seconds`, ...) its `mean` and `std` over seeds
        (the sample's, with n - 1; None for a single seed).

    Raises:
        RunError: If a run is not finished, or two are one: recipe, data, backend and seed are the same.

    Example:
    >>> compare([Run.open("runs/mnist/seed-1"), Run.open("runs/mnist/seed-2")])[0]["test_accuracy"]
    {'mean': 0.9962, 'std': 0.0003}
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        # What a figure depends on besides the seed: the recipe, the data, and how exactly it was computed.
        trained_on = run.environment["data"]
        data = {"data": f"{trained_on['name']} {trained_on['digest'][:12]}"}
        settings = {key: value for key, value in run.recipe.to_json().items() if key != "seed"} | data
        settings["backend"] = run.environment["backend"]
        group = groups.setdefault(json.dumps(settings, sort_keys=True), [])
        if twin := next((other for other in group if other.recipe.seed == run.recipe.seed), None):
            raise RunError(f"{twin.folder} and {run.folder} are one run: recipe, data, backend and seed are the same.")
        group.append(run)
    configurations = [json.loads(key) for key in groups]
    keys = dict.fromkeys(key for settings in configurations for key in settings)  # those of several tasks
    differing = [key for key in keys if len({json.dumps(settings.get(key)) for settings in configurations}) > 1]
    rows = []
    for settings, group in zip(configurations, groups.values(), strict=True):
        row: dict[str, Any] = {
            "recipe": settings["name"],
            "settings": {key: settings[key] for key in differing if key != "name" and key in settings},
            "seeds": sorted(run.recipe.seed for run in group),
        }
        figures = [_figures(run) for run in group]
        for key in figures[0]:
            if all(key in figure for figure in figures):
                values = [figure[key] for figure in figures]
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                row[key] = {"mean": float(np.mean(values)), "std": deviation}
        rows.append(row)
    return rows


# the figures of a split that are averaged over seeds
_COMPARED = ("accuracy", "loss", "eer", "tar_at_far_1e-2", "min_dcf", "min_tdcf")


def _figures(run: Run) -> dict[str, float]:
    metrics = run.metrics
    try:
        figures = {
            f"{split}_{key}": metrics[split][key]
            for split in ("validation", "test")
            for key in _COMPARED
            if split in metrics and metrics[split].get(key) is not None
        }
        if not figures:
            raise KeyError("validation")
        return {**figures, "train_seconds": metrics["train_seconds"], "parameters": metrics["parameters"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.folder} is not finished, or its metrics.json is damaged: it lacks {error}. Go on with it: --resume."
        ) from error
