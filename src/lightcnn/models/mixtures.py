"""Gaussian mixtures as a back-end: embeddings in, log-likelihood ratios out, as STC's system of 2017 had it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.errors import DataError, MissingDependencyError, ModelFileError
from lightcnn.files import atomic_write

__all__ = ["GaussianMixtures", "fit_gaussian_mixtures", "load_gaussian_mixtures"]


@dataclass(frozen=True)
class GaussianMixtures:
    """One mixture of Gaussians with diagonal covariances a class: row 0 spoofed, row 1 bona fide.

    Args:
        weights: `(2, components)`; each row sums to 1.
        means: `(2, components, channels)`.
        variances: `(2, components, channels)`, positive.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    def score(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """Returns log-likelihood ratios, higher for bona fide speech.

        Args:
            embeddings: `(files, channels)`.

        Returns:
            `(files,)`, float64, in nats.

        Raises:
            DataError: If the embeddings have another number of channels.
        """
        x = np.asarray(embeddings, "float64")
        if x.ndim != 2 or x.shape[1] != self.means.shape[-1]:
            raise DataError(
                f"Embeddings must be of shape (files, {self.means.shape[-1]}), as those that the mixtures were fitted "
                f"to. Received: embeddings.shape={x.shape}"
            )
        # (x - mean)^2 / variance, multiplied out: three matrix products instead of an array of all differences.
        precisions = 1 / self.variances
        distances = (
            np.square(x) @ precisions.transpose(0, 2, 1)
            - 2 * x @ (self.means * precisions).transpose(0, 2, 1)
            + np.sum(np.square(self.means) * precisions, axis=2)[:, None]
        )
        log_scale = np.log(self.weights) - np.sum(np.log(2 * np.pi * self.variances), axis=2) / 2
        spoofed, bona_fide = np.logaddexp.reduce(log_scale[:, None] - distances / 2, axis=2)
        ratios: NDArray[np.float64] = bona_fide - spoofed
        return ratios

    def save(self, path: Path | str) -> None:
        """Saves the mixtures as arrays in an `.npz` file, whole or not at all.

        Raises:
            StorageError: If the file cannot be written.
        """
        with atomic_write(Path(path)) as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})


def load_gaussian_mixtures(path: Path | str) -> GaussianMixtures:
    """Loads what `GaussianMixtures.save` wrote; no code in the file is run.

    Raises:
        ModelFileError: If the file is missing, damaged or another.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return GaussianMixtures(**{field.name: arrays[field.name] for field in fields(GaussianMixtures)})
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path} holds no Gaussian mixtures: {error}. Fit and save them again.") from error


def fit_gaussian_mixtures(
    embeddings: ArrayLike, labels: ArrayLike, num_components: int = 4, seed: int = 0
) -> GaussianMixtures:
    """Fits a mixture of Gaussians with diagonal covariances to the embeddings of each class.

    It needs scikit-learn; scoring does not. Variances get scikit-learn's 1e-6 more, so that none is zero.

    Args:
        embeddings: `(files, channels)`, as the layer `"embedding"` gives them.
        labels: `(files,)`, 1 for bona fide speech and 0 for spoofed.
        num_components: Integer. Gaussians a class, at most its files.
        seed: Integer. Equal seeds give equal mixtures.

    Returns:
        The mixtures.

    Raises:
        DataError: If shapes or labels do not fit, a value is not finite, or a class has too few files.
        MissingDependencyError: Without scikit-learn.

    Example:
    >>> mixtures = lightcnn.models.fit_gaussian_mixtures(embedder.predict(features), labels)
    >>> scores = mixtures.score(embedder.predict(others))
    """
    try:
        mixture_class = import_module("sklearn.mixture").GaussianMixture
    except ImportError as error:
        raise MissingDependencyError(
            "Fitting Gaussian mixtures needs scikit-learn. Install it: pip install scikit-learn"
        ) from error
    x, y = np.asarray(embeddings, "float64"), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isin(y, (0, 1)).all() or not np.isfinite(x).all():
        raise DataError(
            "Expected finite embeddings of shape (files, channels) and as many labels, 1 for bona fide and 0 for "
            f"spoofed. Received: embeddings.shape={x.shape}, labels.shape={y.shape}"
        )
    counts = [int(np.sum(y == label)) for label in (0, 1)]
    if not 1 <= num_components <= min(counts):
        raise DataError(
            f"Each class needs at least `num_components`={num_components} files, and that at least 1. "
            f"Received: {counts[0]} spoofed and {counts[1]} bona fide files"
        )
    fitted = [
        mixture_class(num_components, covariance_type="diag", random_state=seed).fit(x[y == label]) for label in (0, 1)
    ]
    return GaussianMixtures(
        np.stack([mixture.weights_ for mixture in fitted]),
        np.stack([mixture.means_ for mixture in fitted]),
        np.stack([mixture.covariances_ for mixture in fitted]),
    )
