"""The loop on every backend: trains compiled, goes on after an interruption, and keeps to the backend it began with."""

import shutil

import keras
import numpy as np
import pytest

from lightcnn.datasets import load_images
from lightcnn.errors import RunError
from lightcnn.models import lcnn_attention, load_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Run
from lightcnn.training import fitting, train
from lightcnn.training.averaging import averaged, mean_with

as_numpy = keras.ops.convert_to_numpy

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


AVERAGED = {"epochs": 5, "average_epochs": 3, "cutout": 3, "max_shift": 0}


@pytest.fixture(
    scope="module",
    params=[{"optimizer": "muon"}, {"optimizer": "sgd"}, {"optimizer": "adamw"}, AVERAGED],
    ids=["muon", "sgd", "adamw", "averaged"],
)
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    own = get_recipe("arrays", **{**OWN, "learning_rate": 0.01, **request.param})
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
        if len(self._state.history) == whole.recipe.epochs - 2:
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


def test_the_mean_of_the_last_epochs_is_kept(tmp_path, monkeypatch):
    data, ends = write_stripes(tmp_path / "stripes.npz"), []

    def keep(run, model, state):
        ends.append([np.asarray(as_numpy(one)) for one in model.trainable_variables])

    monkeypatch.setattr(fitting, "keep", keep)
    # no epoch but the last has a finite loss: that is the one which is kept
    epochs = fitting.Recorder.on_epoch_end
    monkeypatch.setattr(
        fitting.Recorder,
        "on_epoch_end",
        lambda self, epoch, logs: epochs(self, epoch, {**logs, "val_loss": logs["val_loss"] if epoch == 4 else np.inf}),
    )
    mixed = {"learning_rate": 0.01, "cutmix": 0.5, "label_smoothing": 0.0}
    run = train(get_recipe("arrays", **{**OWN, **AVERAGED, **mixed}), tmp_path / "run", data, quiet=True)
    model = load_model(run.best_model)
    assert len(ends) == 5
    for variable, *values in zip(model.trainable_variables, *ends, strict=True):
        np.testing.assert_allclose(as_numpy(variable), np.mean(values[2:], axis=0), rtol=1e-5, atol=1e-7)
        assert np.ptp(values[2:], axis=0).max() > 0
    assert run.history[-1]["val_loss"] == pytest.approx(run.metrics["validation"]["loss"], rel=1e-4)
    norm = model.get_layer("norm_2")
    before = keras.Model(model.input, norm.input)
    pictures = load_images("arrays", data, validation_fraction=0.1).train.take(slice(None))
    assert len(pictures) == 180  # six batches of 30, without what cutout and CutMix do
    outputs = as_numpy(before(pictures.astype("float32"))).astype("float64")
    np.testing.assert_allclose(as_numpy(norm.moving_mean), outputs.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    batches = fitting.Batches(180, run.recipe, lambda positions, generator: (outputs[positions], None))
    batches.epoch = 4
    variances = [batches[index][0].var(axis=(0, 1, 2)) for index in range(len(batches))]
    np.testing.assert_allclose(as_numpy(norm.moving_variance), np.mean(variances, axis=0), rtol=1e-3)


def test_averaging_a_network_of_speech_moves_nothing_but_weights_and_statistics():
    model = lcnn_attention(16, head="a_softmax", output="raw", dropout=0.5)
    generator = np.random.default_rng(0)
    batches = [(generator.normal(size=(3, 40, 16)).astype("float32"), np.array([40, 30, 20])) for _ in range(2)]
    model(batches[0], training=True)
    mean = mean_with([], 0, model)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1)
    mean = mean_with(mean, 1, model)
    before = [as_numpy(one) for one in model.variables]
    with averaged(model, mean, batches):
        for variable, value in zip(model.variables, before, strict=True):
            moved = variable.trainable or "moving_" in variable.path
            assert np.array_equal(as_numpy(variable), value) != moved, variable.path
        weights = [as_numpy(one) for one in model.trainable_variables]
    for variable, weight in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_allclose(weight, as_numpy(variable) - 0.05, atol=1e-6)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(as_numpy(variable), value)
    assert {layer.momentum for layer in model.layers if "norm" in layer.name} == {0.9}


def test_the_rate_of_averaged_epochs_is_constant(whole):
    rates = np.array([row["learning_rate"] for row in whole.history])
    last = whole.recipe.average_epochs
    assert (rates[len(rates) - last :] == pytest.approx(0.2 * whole.recipe.learning_rate)) if last else rates[-1] < 0.01


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
