"""The loop on every backend: trains compiled, goes on after an interruption, and keeps to the backend it began with."""

import shutil

import numpy as np
import pytest

from lightcnn.errors import RunError
from lightcnn.models import load_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Run
from lightcnn.training import fitting, train

OWN = {"epochs": 3, "batch_size": 32, "precision": "float32", "batch_norm_momentum": 0.5, "dropout": 0.0}


def write_stripes(path):
    """Writes noise with a bright stripe, upright for one class and level for the other."""
    generator = np.random.default_rng(0)
    arrays = {}
    for kind, count in (("train", 200), ("test", 50)):
        labels = np.arange(count) % 2
        pictures = generator.integers(0, 120, (count, 16, 16, 1), dtype=np.uint8)
        for picture, label, place in zip(pictures, labels, generator.integers(0, 16, count), strict=True):
            picture[(place, slice(None)) if label else (slice(None), place)] = 255
        arrays |= {f"x_{kind}": pictures, f"y_{kind}": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module", params=["muon", "sgd", "adamw"])
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    own = get_recipe("arrays", optimizer=request.param, learning_rate=0.01, **OWN)
    return train(own, folder / "run", write_stripes(folder / "stripes.npz"), quiet=True)


def test_it_learns(whole):
    losses = [row["loss"] for row in whole.history]
    assert losses[-1] < losses[0]
    assert whole.metrics["test"]["accuracy"] >= 0.9


@pytest.mark.parametrize("count", [1, 31, 100, 128])
def test_validation_batches_of_sorted_examples_have_all_classes(count):
    batches = fitting.ValidationBatches(count, 32, lambda positions: positions)
    parts = [batches[index] for index in range(len(batches))]
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert max(map(len, parts)) <= 32
    bona_fide = np.arange(count) < count / 5
    assert all(abs(bona_fide[part].mean() - bona_fide.mean()) < 0.05 for part in parts)


def test_an_interrupted_training_goes_on_to_the_same_end(whole, tmp_path, monkeypatch):
    def interrupted(self, batch, logs=None):
        if len(self._state.history) == 1:
            raise KeyboardInterrupt

    data = whole.folder.parent / "stripes.npz"
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Recorder, "on_train_batch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(whole.recipe, tmp_path / "run", data, quiet=True)
    run = train(whole.recipe, tmp_path / "run", data, resume=True, quiet=True)
    for row, other in zip(run.history, whole.history, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    for one, other in zip(*(load_model(each.best_model).get_weights() for each in (run, whole)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_without_its_model_did_not_diverge(whole, tmp_path):
    run = Run.open(shutil.copytree(whole.folder, tmp_path / "run"))
    run.best_model.unlink()
    with pytest.raises(RunError, match=r"no best\.keras any more.*--overwrite"):
        train(whole.recipe, run.folder, whole.folder.parent / "stripes.npz", resume=True, quiet=True)


def test_a_run_of_another_backend_does_not_go_on(whole, tmp_path):
    run = Run.open(shutil.copytree(whole.folder, tmp_path / "run"))
    run.write_environment(run.environment | {"backend": "mxnet"})
    with pytest.raises(RunError, match="was started on mxnet"):
        train(whole.recipe, run.folder, whole.folder.parent / "stripes.npz", resume=True, quiet=True)
