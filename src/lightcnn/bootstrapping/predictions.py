"""What a network takes the examples of a split for, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets import Split
from lightcnn.progress import ProgressBar

__all__ = ["predict_labels"]

_BATCH = 256


def predict_labels(
    probabilities_of: Callable[[NDArray[Any]], NDArray[Any]],
    places: NDArray[np.int64],
    split: Split,
    positions: NDArray[np.int64],
    bar: ProgressBar,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Predicts examples; memory does not grow with their number, but for the result.

    Args:
        probabilities_of: From pictures, `(batch, height, width, channels)`, to probabilities, `(batch, classes)`.
        places: `(classes,)`, the network's classes as positions in the data's labels. It may know fewer of them.
        split: The examples.
        positions: `(examples,)`, which of the split's.
        bar: Shows the progress.

    Returns:
        The most probable labels, `(examples,)` int64, positions in the data's labels, and their probabilities, float32.
    """
    labels, probabilities = np.zeros(len(positions), np.int64), np.zeros(len(positions), np.float32)
    starts = range(0, len(positions), _BATCH)
    for start in bar.track(starts, len(starts), "Predicting"):
        part = slice(start, start + _BATCH)
        scores = probabilities_of(split.take(positions[part]))
        labels[part], probabilities[part] = places[scores.argmax(axis=1)], scores.max(axis=1)
    return labels, probabilities
