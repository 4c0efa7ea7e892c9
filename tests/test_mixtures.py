"""Gaussian mixtures on embeddings against scikit-learn's and SciPy's densities."""

import sys

import numpy as np
import pytest
from scipy.stats import norm

from lightcnn.errors import DataError, MissingDependencyError, ModelFileError
from lightcnn.models import GaussianMixtures, fit_gaussian_mixtures, load_gaussian_mixtures

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(200) % 2
EMBEDDINGS = GENERATOR.normal(size=(200, 3)) + 2 * LABELS[:, None]
# Two Gaussians a class in one dimension, by hand.
BY_HAND = GaussianMixtures(
    np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[[0.0], [1.0]], [[2.0], [3.0]]]), np.array([[[1.0], [4.0]]] * 2)
)


def test_scores_are_ratios_of_densities():
    x = np.linspace(-3, 6, 10)
    spoofed = 0.25 * norm.pdf(x, 0, 1) + 0.75 * norm.pdf(x, 1, 2)
    bona_fide = 0.5 * norm.pdf(x, 2, 1) + 0.5 * norm.pdf(x, 3, 2)
    np.testing.assert_allclose(BY_HAND.score(x[:, None]), np.log(bona_fide / spoofed), rtol=1e-9)


def test_far_away_scores_stay_finite():
    assert np.isfinite(BY_HAND.score([[1e6], [-1e6]])).all()


def test_fitting_is_scikit_learns_a_class():
    mixture = pytest.importorskip("sklearn.mixture").GaussianMixture
    mixtures = fit_gaussian_mixtures(EMBEDDINGS, LABELS, num_components=2, seed=3)
    spoofed, bona_fide = (
        mixture(2, covariance_type="diag", random_state=3).fit(EMBEDDINGS[label == LABELS]).score_samples(EMBEDDINGS)
        for label in (0, 1)
    )
    np.testing.assert_allclose(mixtures.score(EMBEDDINGS), bona_fide - spoofed, rtol=1e-8, atol=1e-8)
    scores = mixtures.score(EMBEDDINGS)
    assert scores[LABELS == 1].mean() > scores[LABELS == 0].mean() + 5


def test_mixtures_are_saved_as_arrays(tmp_path):
    BY_HAND.save(tmp_path / "mixtures.npz")
    loaded = load_gaussian_mixtures(tmp_path / "mixtures.npz")
    np.testing.assert_array_equal(loaded.score([[0.5]]), BY_HAND.score([[0.5]]))


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no")
    for name in ("other.npz", "pickle.npy", "text.npz", "missing.npz"):
        with pytest.raises(ModelFileError, match=f"{name} holds no Gaussian mixtures"):
            load_gaussian_mixtures(tmp_path / name)


@pytest.mark.parametrize(
    ("embeddings", "labels", "num_components", "message"),
    [
        (EMBEDDINGS, LABELS[:-1], 1, r"Received: embeddings.shape=\(200, 3\), labels.shape=\(199,\)"),
        (EMBEDDINGS, LABELS + 1, 1, "as many labels, 1 for bona fide and 0 for spoofed"),
        (EMBEDDINGS * np.nan, LABELS, 1, "Expected finite embeddings"),
        (EMBEDDINGS, LABELS, 101, "Received: 100 spoofed and 100 bona fide files"),
        (EMBEDDINGS, np.ones(200), 1, "Received: 0 spoofed and 200 bona fide files"),
    ],
)
def test_bad_data_are_refused(embeddings, labels, num_components, message):
    pytest.importorskip("sklearn")
    with pytest.raises(DataError, match=message):
        fit_gaussian_mixtures(embeddings, labels, num_components)


def test_other_embeddings_are_refused():
    with pytest.raises(DataError, match=r"must be of shape \(files, 1\).*Received: embeddings.shape=\(2, 3\)"):
        BY_HAND.score(np.zeros((2, 3)))


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        fit_gaussian_mixtures(EMBEDDINGS, LABELS)
