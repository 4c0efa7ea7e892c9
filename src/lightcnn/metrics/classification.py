"""What the probabilities of a classifier are worth: accuracy tables and calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "accuracy",
    "calibration_bins",
    "confusion_matrix",
    "cross_entropy",
    "expected_calibration_error",
    "precision_recall",
    "top_k_accuracy",
]


def _check(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(y):
        raise ValueError(
            "Expected probabilities of shape (images, classes) and labels of shape (images,), at least one image. "
            f"Received: probabilities.shape={p.shape}, labels.shape={y.shape}"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(
            f"Labels must be integers from 0 to {p.shape[1] - 1}. "
            f"Received: dtype={y.dtype}, among them {np.unique(y)[:10].tolist()}"
        )
    if not np.isfinite(p).all():
        raise ValueError("Expected finite probabilities. Received: NaN or infinite values")
    return p, y.astype(np.int64)


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Returns the share of images whose largest probability is their label's.

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.

    Returns:
        A fraction.

    Raises:
        ValueError: As in all functions here that take probabilities: if shapes or labels do not fit, or a probability
            is not finite.

    Example:
    >>> accuracy([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]], [0, 1, 1, 1])
    0.75
    """
    p, y = _check(probabilities, labels)
    return float(np.mean(p.argmax(axis=1) == y))


def top_k_accuracy(probabilities: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Returns the share of images whose label is among the `k` largest probabilities.

    A tie counts against the image: a label counts as found only if fewer than `k` other classes are as probable.

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.
        k: How many classes count.

    Returns:
        A fraction.

    Example:
    >>> top_k_accuracy([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [1, 0], k=2)
    0.5
    """
    p, y = _check(probabilities, labels)
    own = p[np.arange(len(y)), y]
    as_probable = np.sum(p >= own[:, None], axis=1) - 1
    return float(np.mean(as_probable < k))


def cross_entropy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Returns the mean negative log probability (nats) of the labels, with probabilities floored at 1e-7.

    The floor is Keras' own, so the figure compares with Keras' `loss`.

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.

    Example:
    >>> round(cross_entropy([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 4)
    0.4904
    """
    p, y = _check(probabilities, labels)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-7)).mean())


def confusion_matrix(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Counts images by label (rows) and predicted class (columns).

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.

    Returns:
        `(classes, classes)`, int64.

    Example:
    >>> confusion_matrix([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]], [0, 1, 1])
    array([[1, 0],
           [1, 1]])
    """
    p, y = _check(probabilities, labels)
    classes = p.shape[1]
    return np.bincount(y * classes + p.argmax(axis=1), minlength=classes**2).reshape(classes, classes)


def precision_recall(matrix: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns each class's precision and recall from a confusion matrix.

    Precision is NaN for a class that was never predicted, recall for a class without images.

    Args:
        matrix: `(classes, classes)`, rows are labels.

    Returns:
        Two arrays `(classes,)` of fractions.

    Example:
    >>> precision, recall = precision_recall([[1, 0], [1, 1]])
    >>> precision.tolist(), recall.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    counts = np.asarray(matrix, np.float64)
    correct = np.diag(counts)
    with np.errstate(invalid="ignore"):
        return correct / counts.sum(axis=0), correct / counts.sum(axis=1)


def calibration_bins(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Sorts images by the probability of their predicted class into bins of equal width.

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.
        num_bins: Number of bins between 0 and 1; a bin includes its upper edge.

    Returns:
        `count`, and for the bins with images `confidence` and `accuracy` (NaN for the empty), each `(num_bins,)`.

    Example:
    >>> bins = calibration_bins([[0.9, 0.1], [0.2, 0.8]], [0, 0], num_bins=2)
    >>> bins["count"], bins["accuracy"]
    (array([0, 2]), array([nan, 0.5]))
    """
    p, y = _check(probabilities, labels)
    confidence = p.max(axis=1)
    bins = np.searchsorted(np.arange(1, num_bins) / num_bins, confidence)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, num_bins) / count
        mean_accuracy = np.bincount(bins, p.argmax(axis=1) == y, num_bins) / count
    return {"count": count, "confidence": mean_confidence, "accuracy": mean_accuracy}


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """Returns the mean distance between confidence and accuracy over bins of equal width.

    Args:
        probabilities: `(images, classes)`.
        labels: `(images,)`, integers.
        num_bins: Number of bins between 0 and 1; a bin includes its upper edge.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", equation 3: https://arxiv.org/abs/1706.04599

    Example:
    >>> round(expected_calibration_error([[0.9, 0.1], [0.2, 0.8]], [0, 0]), 2)
    0.45
    """
    bins = calibration_bins(probabilities, labels, num_bins)
    gap = np.nan_to_num(np.abs(bins["accuracy"] - bins["confidence"]))
    return float(np.sum(bins["count"] * gap) / np.sum(bins["count"]))
