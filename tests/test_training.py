"""Training repeats itself, survives kills, full disks and NaN, and learns MNIST."""

import csv
import errno
import gc
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import begin

from lightcnn import files, training
from lightcnn.datasets import ImageDataset, Split, load_images
from lightcnn.errors import (
    DataError,
    DivergedError,
    ExportError,
    LightCNNError,
    ModelFileError,
    RecipeError,
    RunError,
    StorageError,
)
from lightcnn.evaluation import evaluate
from lightcnn.inference import Predictor
from lightcnn.models import lcnn, load_model, read_metadata, save_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Run
from lightcnn.runtimes import open_artifact
from lightcnn.training import checkpoint, fitting, images, networks, train

TEST_PICTURES = 100


class Killed(BaseException):
    """Stands for `kill -9`: no code of ours catches it."""


def recipe(**values):
    small = {"epochs": 3, "batch_size": 64, "precision": "float32", "dropout": 0.2, "batch_norm_momentum": 0.5}
    return get_recipe("arrays", **{**small, **values})


def write_arrays(path, mnist, change=lambda pictures, labels: (pictures, labels), count=256):
    arrays = {}
    for kind, number in (("train", count), ("test", TEST_PICTURES)):
        arrays[f"x_{kind}"], arrays[f"y_{kind}"] = change(mnist[f"x_{kind}"][:number], mnist[f"y_{kind}"][:number])
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def data(mnist, tmp_path_factory):
    return write_arrays(tmp_path_factory.mktemp("data") / "digits.npz", mnist)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing happened to."""
    return train(recipe(), tmp_path_factory.mktemp("runs") / "whole", data, quiet=True)


def weights(run):
    return load_model(run.best_model).get_weights()


def same_weights(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def history(run):
    with (run.folder / "history.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def figures(run):
    return {key: value for key, value in run.metrics.items() if key != "train_seconds"}


def assert_same_run(run, other):
    assert history(run) == history(other)
    assert same_weights(weights(run), weights(other))
    assert figures(run) == figures(other)
    assert run.scores.read_bytes() == other.scores.read_bytes()


def assert_tidy(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "recipe.json",
        "environment.json",
        "history.csv",
        "checkpoint",
        "best.keras",
        "metrics.json",
        "scores.csv",
        "report.html",
        "model.onnx",
    }
    assert sorted(path.name for path in run.checkpoint.iterdir()) == ["epoch-00003.npz", "state.json"]


def kill_at(monkeypatch, name, occurrence=1, before=False):
    """Lets the process die when the file called `name` is renamed into place; before that, or just after."""
    real, seen = os.replace, []

    def replace(source, target, **options):
        hit = os.fspath(target).endswith(os.sep + name)
        seen.extend([name] * hit)
        if hit and before and len(seen) == occurrence:
            raise Killed
        real(source, target, **options)
        if hit and len(seen) == occurrence:
            raise Killed

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files, "_discard", lambda temporary: None)  # the dead tidy nothing up


def interrupt_in_epoch(monkeypatch, epoch, batch=1, error=KeyboardInterrupt):
    real = fitting.Recorder.on_train_batch_end

    def on_train_batch_end(self, index, logs=None):
        real(self, index, logs)
        if self._state.epochs + 1 == epoch and index == batch:
            raise error

    monkeypatch.setattr(fitting.Recorder, "on_train_batch_end", on_train_batch_end)


# ------------------------------------------------------------------------------------------------------- repetition


def test_a_finished_run_folder(whole):
    assert_tidy(whole)
    assert whole.recipe == recipe()
    assert [row["epoch"] for row in history(whole)] == ["1", "2", "3"]
    environment = whole.environment
    assert environment["data"]["sizes"] == {"train": 230, "validation": 26, "test": TEST_PICTURES}
    assert environment["backend"] == keras.backend.backend()
    assert environment["versions"]["keras"] == keras.__version__
    assert whole.metrics["parameters"] == 164_938
    assert whole.metrics["train_seconds"] == pytest.approx(sum(row["seconds"] for row in whole.history), abs=0.1)


def test_pictures_that_are_not_square(mnist, tmp_path):
    flat = write_arrays(tmp_path / "flat.npz", mnist, lambda x, y: (x[:, 4:24], y))
    run = train(recipe(epochs=1), tmp_path / "run", flat, quiet=True)
    pictures = mnist["x_test"][:20, 4:24, :, None]
    artifact = open_artifact(run.artifact)
    expected = load_model(run.best_model).predict(pictures, verbose=0)
    np.testing.assert_allclose(artifact(pictures.astype(np.float32)), expected, atol=1e-5)


def test_a_run_ends_with_its_artifact(whole, mnist):
    said = open_artifact(whole.artifact).metadata
    assert said["artifact"]["source_digest"] == files.file_digest(whole.best_model)
    pictures = mnist["x_test"][:TEST_PICTURES, ..., None]
    with whole.scores.open(newline="") as file:
        predictions = [row["prediction"] for row in csv.DictReader(file)]
    predictor = Predictor.load(whole.folder)
    assert predictor._artifact.path == whole.artifact
    assert [predictor.labels[place] for place in predictor.predict_arrays(pictures).argmax(axis=1)] == predictions


def test_a_network_that_cannot_be_exported_does_not_end_a_finished_run(data, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise ExportError("no such layer")

    monkeypatch.setattr(training, "export", fail)
    run = train(recipe(epochs=1), tmp_path / "run", data, quiet=True)
    assert "Note: there is no model.onnx, so the run is used with Keras, which is slower. no such" in told(capsys)
    assert run.metrics["test"]["images"] == TEST_PICTURES
    assert not run.artifact.exists()


def told(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_one_seed_gives_one_model(whole, data, tmp_path):
    keras.utils.set_random_seed(99)  # what happened before in the process does not matter
    assert_same_run(train(recipe(), tmp_path / "again", data, quiet=True), whole)


def test_another_seed_gives_another_model(whole, data, tmp_path):
    other = train(recipe(seed=1), tmp_path / "other", data, quiet=True)
    assert not same_weights(weights(other), weights(whole))
    assert history(other) != history(whole)


def test_the_best_epoch_is_chosen_on_validation(whole):
    best = max(whole.history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert whole.metrics["validation"]["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert read_metadata(whole.best_model)["epoch"] == best["epoch"]


def test_the_learning_rate_follows_one_cycle(whole):
    rates = [row["learning_rate"] for row in whole.history]
    # That of each epoch's first step, of 12 in all: 0, 4 and 8.
    assert rates[0] == pytest.approx(recipe().learning_rate * 0.1, rel=1e-4)
    assert rates[2] == pytest.approx(recipe().learning_rate * (1 - 8 / 12) / 0.7, rel=1e-4)


@pytest.mark.parametrize(
    ("history_", "monitor", "best"),
    [
        ([(3.0, 0.5), (1.0, 0.4), (1.0, 0.6)], "loss", 2),
        ([(3.0, 0.5), (2.0, 0.6), (1.0, 0.6), (1.0, 0.6)], "accuracy", 3),
        ([(math.nan, 0.6), (2.0, 0.6), (0.1, 0.5)], "accuracy", 2),
        ([(math.nan, 0.5), (9.0, 0.4)], "loss", 2),
        ([(math.nan, 0.9), (9.0, 0.4)], "accuracy", 2),
        ([(math.inf, 0.9), (9.0, 0.4)], "accuracy", 2),
    ],
)
def test_the_best_epoch_of_equal_ones_and_of_those_without_a_finite_loss(history_, monitor, best):
    rows = [{"val_loss": loss, "val_accuracy": accuracy} for loss, accuracy in history_]
    assert checkpoint.State(rows).best_epoch(recipe(epochs=4, monitor=monitor)) == best


@pytest.mark.parametrize(("finished", "best"), [(1, 1), (3, 2), (4, 4), (5, 5), (6, 5)])
def test_where_weights_are_averaged_the_best_is_a_mean(finished, best):
    losses = [(9.0, 0.5), (1.0, 0.9), (2.0, 0.8), (5.0, 0.6), (3.0, 0.7), (3.0, 0.6)]
    rows = [{"val_loss": loss, "val_accuracy": accuracy} for loss, accuracy in losses[:finished]]
    assert checkpoint.State(rows).best_epoch(recipe(epochs=6, average_epochs=3)) == best


# ----------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_goes_on(whole, data, tmp_path, monkeypatch, precision):
    own = recipe(precision=precision)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, epoch=3)
        with pytest.raises(KeyboardInterrupt):
            train(own, tmp_path / "run", data, quiet=True)
    run = Run.open(tmp_path / "run")
    assert len(history(run)) == 2
    assert run.best_model.exists()
    train(own, run.folder, data, resume=True, quiet=True)
    unbroken = whole if precision == "float32" else train(own, tmp_path / "unbroken", data, quiet=True)
    assert_same_run(run, unbroken)
    assert_tidy(run)


def num_iterators():
    tensorflow = pytest.importorskip("tensorflow")
    gc.collect()
    return sum(issubclass(type(one), tensorflow.data.Iterator) for one in gc.get_objects())


@pytest.mark.parametrize("moment", ["on_train_batch_end", "on_test_begin", "on_test_batch_end"])
def test_a_stopped_training_is_fed_no_more(data, tmp_path, monkeypatch, moment):
    """Threads that call Python while the interpreter ends abort the process: -6 instead of 130 after Ctrl-C."""
    before, seen = num_iterators(), []

    def stop(self, *arguments, **named):
        seen.append(num_iterators())
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Recorder, moment, stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(recipe(), tmp_path / "run", data, quiet=True)
    assert seen[0] > before
    assert num_iterators() <= before, caught.value


@pytest.mark.parametrize(
    ("name", "occurrence", "before"),
    [
        ("best.keras", 1, False),
        ("epoch-00002.npz", 1, True),
        ("state.json", 2, False),
        ("metrics.json", 1, False),
        pytest.param("environment.json", 1, False, marks=pytest.mark.slow),
        pytest.param("best.keras", 1, True, marks=pytest.mark.slow),
        pytest.param("epoch-00002.npz", 1, False, marks=pytest.mark.slow),
        pytest.param("history.csv", 2, False, marks=pytest.mark.slow),
        pytest.param("scores.csv", 1, False, marks=pytest.mark.slow),
        pytest.param("model.onnx", 1, True, marks=pytest.mark.slow),
    ],
)
def test_a_kill_between_two_writes_is_harmless(whole, data, tmp_path, monkeypatch, name, occurrence, before):
    with monkeypatch.context() as patch:
        kill_at(patch, name, occurrence, before)
        with pytest.raises(Killed):
            train(recipe(), tmp_path / "run", data, quiet=True)
    run = train(recipe(), tmp_path / "run", data, resume=True, quiet=True)
    assert_same_run(run, whole)
    assert sorted(path.name for path in run.checkpoint.iterdir()) == ["epoch-00003.npz", "state.json"]


def test_a_kill_before_the_first_file_is_harmless(whole, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, "recipe.json", before=True)
        with pytest.raises(Killed):
            train(recipe(), tmp_path / "run", data, quiet=True)
    run = begin(tmp_path / "run", recipe(), overwrite=True)
    assert run.recipe == recipe()


def lightcnn(*arguments, **options):
    command = [sys.executable, "-m", "lightcnn", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def settings(own):
    keys = ("epochs", "batch_size", "precision", "dropout", "batch_norm_momentum")
    values = {key: getattr(own, key) for key in keys}
    return [text for key, value in values.items() for text in ("--set", f"{key}={value}")]


def test_a_real_kill_at_a_random_time_is_harmless(data, tmp_path):
    own, delay = recipe(epochs=12), random.SystemRandom().uniform(0, 1.0)
    process = lightcnn("train", "arrays", "--data-dir", data, "--run-dir", tmp_path / "killed", *settings(own))
    with process:
        while process.poll() is None and not (tmp_path / "killed" / "history.csv").exists():
            time.sleep(0.02)
        time.sleep(delay)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    killed = Run.open(tmp_path / "killed")
    finished = len(killed.history)
    train(own, killed.folder, data, resume=True, quiet=True)
    unbroken = train(own, tmp_path / "unbroken", data, quiet=True)
    assert history(killed) == history(unbroken), f"killed {delay:.3f} s after epoch 1, {finished} epochs done"
    assert_same_run(killed, unbroken)


def test_resuming_a_finished_run_changes_nothing(data, tmp_path, whole):
    run = train(recipe(), tmp_path / "run", data, quiet=True)
    kept = ("best.keras", "history.csv", "metrics.json", "scores.csv", "recipe.json", "checkpoint/state.json")
    before = {name: (run.folder / name).read_bytes() for name in kept}
    train(recipe(), run.folder, data, resume=True, quiet=True)
    assert {name: (run.folder / name).read_bytes() for name in kept} == before
    assert_same_run(run, whole)


def test_a_resumed_run_remembers_what_it_began_with(data, tmp_path, checkpointed):
    run = checkpointed(tmp_path / "run")
    first = run.environment
    (run.folder / "environment.json").write_text(json.dumps(first | {"versions": first["versions"] | {"keras": "3.0"}}))
    train(recipe(), run.folder, data, resume=True, quiet=True)
    resumed = run.environment
    assert resumed["versions"]["keras"] == "3.0"
    assert {key: resumed[key] for key in ("started", "command", "layers")} == {
        key: first[key] for key in ("started", "command", "layers")
    }
    assert resumed["notes"][:-1] == first["notes"]
    assert resumed["notes"][-1].startswith("Resumed at ")
    assert resumed["notes"][-1].endswith(f" with keras {keras.__version__} instead of 3.0.")


def test_without_a_finished_epoch_a_run_begins_again(data, mnist, whole, tmp_path, monkeypatch):
    interrupt_in_epoch(monkeypatch, epoch=1)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run", data, quiet=True)
    monkeypatch.undo()
    path = tmp_path / "run" / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preprocessing": [7.0, 7.0]}))
    run = train(recipe(), tmp_path / "run", data, resume=True, quiet=True)
    assert_same_run(run, whole)
    assert run.environment["preprocessing"] == whole.environment["preprocessing"]
    assert not any(note.startswith("Resumed") for note in run.environment["notes"])


def test_a_run_whose_checkpoint_was_deleted_is_kept(whole, data, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(RunError, match=r"its checkpoint is gone, so it cannot go on.*delete it"):
        train(recipe(), tmp_path / "run", data, resume=True, quiet=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_training_leaves_no_data_in_memory(data, tmp_path, monkeypatch):
    kept = []

    def loading(*arguments, **options):
        loaded = load_images("arrays", data, seed=1)
        kept.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(training, "load_data", loading)
    train(recipe(epochs=1), tmp_path / "run", data, quiet=True)
    gc.collect()
    assert [one() for one in kept] == [None]


def test_a_finished_run_is_not_overwritten_by_accident(whole, data):
    before = whole.best_model.read_bytes()
    with pytest.raises(RunError, match="not empty"):
        train(recipe(), whole.folder, data, quiet=True)
    assert whole.best_model.read_bytes() == before


def test_resuming_with_another_recipe_is_refused(whole, data):
    with pytest.raises(RunError, match=r"dropout was 0.2, now 0.3"):
        train(recipe(dropout=0.3), whole.folder, data, resume=True, quiet=True)


def test_resuming_on_other_data_is_refused(whole, mnist, tmp_path):
    other = write_arrays(tmp_path / "other.npz", mnist, lambda pictures, labels: (255 - pictures, labels))
    with pytest.raises(RunError, match=r"other.npz is not the data that .* was started on"):
        train(recipe(), whole.folder, other, resume=True, quiet=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04"),
        lambda path: path.unlink(),
        lambda path: (path.parent / "state.json").write_text("{"),
        lambda path: (path.parent / "state.json").write_text("[]"),
        lambda path: (path.parent / "state.json").write_bytes(b"\xff"),
    ],
    ids=["truncated", "empty", "header only", "gone", "half a state", "a list", "no text"],
)
def test_a_damaged_checkpoint_is_named(data, tmp_path, monkeypatch, damage, checkpointed):
    run = checkpointed(tmp_path / "run")
    damage(run.checkpoint / "epoch-00001.npz")
    with pytest.raises(RunError, match=r"The checkpoint in .* is damaged: .*--overwrite"):
        train(recipe(), run.folder, data, resume=True, quiet=True)


def test_a_checkpoint_of_another_network_is_not_called_damaged(data, tmp_path, checkpointed):
    run = checkpointed(tmp_path / "run")
    np.savez(run.checkpoint / "epoch-00001.npz", **{"model/0": np.zeros(3)})
    with pytest.raises(RunError, match=r"belongs to another network .* with the versions in .*environment.json"):
        train(recipe(), run.folder, data, resume=True, quiet=True)


@pytest.fixture(scope="module")
def checkpointed(data, tmp_path_factory):
    """Makes copies of a run that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_epoch(patch, epoch=2)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), folder, data, quiet=True)

    def copy(target):
        shutil.copytree(folder, target)
        return Run.open(target)

    return copy


# ---------------------------------------------------------------------------------------------- what can go wrong


def without_labels(batch):
    pictures, labels = batch
    return pictures, labels * np.float32(np.nan)


def poison(monkeypatch, epoch, step):
    real = fitting.Batches.__getitem__

    def poisoned(self, index):
        batch = real(self, index)
        return without_labels(batch) if (self.epoch + 1, index + 1) == (epoch, step) else batch

    monkeypatch.setattr(fitting.Batches, "__getitem__", poisoned)


def test_a_loss_that_becomes_nan_stops_and_keeps_the_best(whole, data, tmp_path, monkeypatch):
    poison(monkeypatch, epoch=2, step=3)
    with pytest.raises(DivergedError, match=r"became nan at step 3 of epoch 2; .*best.keras of epoch 1 is kept"):
        train(recipe(), tmp_path / "run", data, quiet=True)
    run = Run.open(tmp_path / "run")
    assert history(run) == history(whole)[:1]
    assert all(np.isfinite(array).all() for array in weights(run))
    assert not (run.folder / "metrics.json").exists()


def test_nothing_is_promised_when_the_first_epoch_diverges(mnist, tmp_path):
    huge = write_arrays(
        tmp_path / "huge.npz", mnist, lambda pictures, labels: (pictures.astype(np.float32) * 1e36, labels)
    )
    with pytest.raises(DivergedError, match=r"at step 1 of epoch 1; .*learning_rate=0.004") as caught:
        train(recipe(normalization="unit"), tmp_path / "run", huge, quiet=True)
    assert "kept" not in str(caught.value)
    assert not (tmp_path / "run" / "best.keras").exists()


def test_a_validation_loss_that_is_never_finite_is_an_error(data, tmp_path, monkeypatch):
    real = fitting.ValidationBatches.__getitem__
    monkeypatch.setattr(
        fitting.ValidationBatches,
        "__getitem__",
        lambda self, index: without_labels(real(self, index)),
    )
    with pytest.raises(DivergedError, match=r"no epoch gave a finite validation loss.*learning_rate.*losses nan"):
        train(recipe(epochs=1), tmp_path / "run", data, quiet=True)


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_while_a_checkpoint_is_written(whole, data, tmp_path, monkeypatch):
    calls = []
    real = np.savez

    def savez(file, **arrays):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            no_space()
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.np, "savez", savez)
        with pytest.raises(StorageError, match=r"epoch-00002.npz could not be written: No space left on device"):
            train(recipe(), tmp_path / "run", data, quiet=True)
    run = Run.open(tmp_path / "run")
    assert sorted(path.name for path in run.checkpoint.iterdir()) == ["epoch-00001.npz", "state.json"]
    assert json.loads((run.checkpoint / "state.json").read_text())["weights"] == "epoch-00001.npz"
    train(recipe(), run.folder, data, resume=True, quiet=True)
    assert_same_run(run, whole)
    assert_tidy(run)


def test_a_disk_that_fills_while_the_best_model_is_written(whole, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", no_space)
        with pytest.raises(StorageError, match=r"best.keras could not be written: No space left on device"):
            train(recipe(), tmp_path / "run", data, quiet=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["environment.json", "recipe.json"]
    assert_same_run(train(recipe(), tmp_path / "run", data, resume=True, quiet=True), whole)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_file_that_the_system_refuses_to_grow(data, tmp_path, checkpointed):
    import resource

    run = checkpointed(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.checkpoint.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))  # best.keras fits, a checkpoint does not
    try:
        with pytest.raises(StorageError, match=r"epoch-00002.npz could not be written"):
            train(recipe(), run.folder, data, resume=True, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in run.checkpoint.iterdir()} == before


def test_data_that_cannot_be_used_leave_the_folder_free(tmp_path, data):
    with pytest.raises(LightCNNError):
        train(recipe(), tmp_path / "run", tmp_path / "nowhere.npz", quiet=True)
    begin(tmp_path / "run", recipe(seed=3))  # the same command, mended, must not meet "not empty"


def test_a_run_is_not_deleted_for_data_that_cannot_be_used(tmp_path, checkpointed):
    run = checkpointed(tmp_path / "run")
    with pytest.raises(LightCNNError):
        train(recipe(), run.folder, tmp_path / "nowhere.npz", overwrite=True, quiet=True)
    assert run.best_model.exists()


# --------------------------------------------------------------------------------------------------------- stopping


def test_training_stops_when_it_gets_no_better(data, tmp_path):
    still = recipe(epochs=10, patience=2, learning_rate=0.0, batch_norm_momentum=1.0)  # so that nothing ever changes
    run = train(still, tmp_path / "run", data, quiet=True)
    assert len(history(run)) == 3
    assert len({row["val_accuracy"] for row in history(run)}) == 1
    before = run.best_model.read_bytes()
    train(still, run.folder, data, resume=True, quiet=True)
    assert len(history(run)) == 3
    assert run.best_model.read_bytes() == before


def without_test_pictures(self, positions):
    if len(self.images) == TEST_PICTURES:
        raise AssertionError("the test split was read")
    return self.images[self.rows[positions]]


def test_a_finished_run_keeps_its_figures_when_it_is_resumed(whole, data, tmp_path):
    run = Run.open(shutil.copytree(whole.folder, tmp_path / "run"))
    evaluate(run, "train", quiet=True)
    before = run.metrics
    train(recipe(), run.folder, data, resume=True, validation_only=True, quiet=True)
    assert run.metrics == before
    assert {"train", "validation", "test"} <= set(before)


def test_validation_only_leaves_the_test_split_untouched(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Split, "take", without_test_pictures)
    run = train(recipe(epochs=1), tmp_path / "run", data, validation_only=True, quiet=True)
    assert set(run.metrics) == {"train_seconds", "parameters", "validation"}
    assert not run.scores.exists()
    assert (run.folder / "scores-validation.csv").exists()
    assert run.report.exists()
    with pytest.raises(AssertionError, match="the test split was read"):  # so the trap works
        train(recipe(epochs=1), run.folder, data, resume=True, quiet=True)


# ------------------------------------------------------------------------------------------------------ fine-tuning

STILL = {"epochs": 1, "learning_rate": 0.0, "batch_norm_momentum": 1.0}


def by_layer(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def changed_layers(before, after):
    return {name for name in before if not same_weights(before[name], after[name])}


@pytest.mark.parametrize("kind", ["run", "file"])
def test_training_starts_from_given_weights(whole, data, tmp_path, kind):
    origin = whole.folder if kind == "run" else whole.best_model
    run = train(recipe(**STILL, initial_weights=str(origin)), tmp_path / "run", data, quiet=True)
    assert same_weights(weights(run), weights(whole))
    assert figures(run)["test"] == figures(whole)["test"]
    assert any(str(origin) in note for note in run.environment["notes"])


def test_preprocessing_comes_with_the_weights(whole, mnist, tmp_path):
    dark = write_arrays(tmp_path / "dark.npz", mnist, lambda pictures, labels: (pictures // 4, labels))
    run = train(recipe(**STILL, initial_weights=str(whole.folder)), tmp_path / "run", dark, quiet=True)
    mine, its = (load_model(one.best_model).get_layer("preprocessing") for one in (run, whole))
    assert (mine.scale, mine.offset) == (its.scale, its.offset)


def test_a_head_of_another_size_is_replaced_and_named(whole, mnist, tmp_path):
    few = write_arrays(tmp_path / "few.npz", mnist, lambda x, y: (x[y < 5], y[y < 5]))
    run = train(recipe(**STILL, initial_weights=str(whole.folder)), tmp_path / "run", few, quiet=True)
    before, after = by_layer(load_model(whole.best_model)), by_layer(load_model(run.best_model))
    assert changed_layers(before, after) == {"logits"}
    assert after["logits"][1].shape == (5,)
    note = "The layer 'logits' is new: weights of 80 x 10 and 10 there, weights of 80 x 5 and 5 here."
    assert note in run.environment["notes"]
    assert "80 x 10 and 10 there" in run.report.read_text()


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (lambda x, y: (np.pad(x, ((0, 0), (2, 2), (2, 2))), y), "embedding"),
        (lambda x, y: (np.stack([x] * 3, axis=-1), y), "conv_1"),
    ],
    ids=["size", "channels"],
)
def test_pictures_of_another_shape_are_named(whole, mnist, tmp_path, change, layer):
    other = write_arrays(tmp_path / "other.npz", mnist, change)
    with pytest.raises(RecipeError, match=rf"does not fit: the layer '{layer}' has weights of "):
        train(recipe(initial_weights=str(whole.folder)), tmp_path / "run", other, quiet=True)


def test_grey_pictures_do_not_fit_weights_for_colour(data, tmp_path):
    model = lcnn((28, 28, 3), 10, scale=[1.0, 2.0, 3.0])
    save_model(model, tmp_path / "colour.keras", {"labels": [str(digit) for digit in range(10)]})
    with pytest.raises(RecipeError, match="does not fit"):
        train(recipe(initial_weights=str(tmp_path / "colour.keras")), tmp_path / "run", data, quiet=True)


def test_another_network_is_named(data, tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    save_model(model, tmp_path / "other.keras", {})
    with pytest.raises(RecipeError, match="has no layer 'conv_1': it is another network"):
        train(recipe(initial_weights=str(tmp_path / "other.keras")), tmp_path / "run", data, quiet=True)


def test_weights_that_are_not_there_are_named(data, tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere.keras does not exist"):
        train(recipe(initial_weights=str(tmp_path / "nowhere.keras")), tmp_path / "run", data, quiet=True)


# -------------------------------------------------------------------------------------------------------- a teacher


def taught_networks(own, data_file):
    data = load_images("arrays", data_file, validation_fraction=own.validation_fraction, seed=own.seed)
    return training.images.build_networks(own, data)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_teacher_has_seven_tenths_of_the_targets(whole, data, mnist, smoothing):
    pictures, labels = mnist["x_test"][:40, ..., None], np.eye(10, dtype=np.float32)[mnist["y_test"][:40]]
    said = load_model(whole.best_model).predict(pictures, verbose=0)
    own = recipe(teacher=str(whole.folder), label_smoothing=smoothing)
    networks, notes = taught_networks(own, data)
    targets = networks.teach(pictures, labels)
    smoothed = np.where(labels == 1, 1 - 0.9 * smoothing, smoothing / 10)
    np.testing.assert_allclose(targets, 0.3 * smoothed + 0.7 * said, atol=1e-5)
    # so the loss is smallest, the targets' entropy, where they are met
    entropy = -np.sum(targets * np.log(np.maximum(targets, 1e-30)), axis=1).mean()
    loss = networks.loss(targets, np.log(np.maximum(targets, 1e-30)))
    assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(entropy, rel=1e-5)
    assert targets.dtype == np.float32
    assert [note.partition(":")[0] for note in notes] == [f"Taught by {whole.folder}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_shift", 3),
        ("max_rotation_degrees", 20.0),
        ("max_zoom", 0.3),
        ("elastic_distortion", 1.0),
        ("flip", True),
        ("cutout", 8),
    ],
)
def test_every_augmentation_reaches_the_batch(data, key, value):
    def batch(**values):
        own = recipe(**{"max_shift": 0, **values})
        return training.images.training_batch(own, loaded, positions, np.random.default_rng(5))[0]

    loaded, positions = load_images("arrays", data, seed=1), np.arange(32)
    plain, changed, again = batch(), batch(**{key: value}), batch(**{key: value})
    np.testing.assert_array_equal(plain, loaded.train.take(positions))
    assert changed.shape == plain.shape
    assert (changed != plain).any(axis=(1, 2, 3)).mean() > 0.3  # a mirror changes half of the pictures
    np.testing.assert_array_equal(changed, again)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_are_scaled_by_the_mean_and_deviation_of_the_training_split(dtype):
    pictures = np.random.default_rng(0).integers(0, 200, (2500, 16, 17, 3)).astype(dtype)
    pictures[..., 1] //= 3
    pictures[..., 2] = 77  # a channel without a deviation is centred alone
    labels = np.arange(2500) % 2
    split = Split(pictures, labels[:2100], np.arange(2500)[::-1][:2100], [str(row) for row in range(2500)])
    loaded = ImageDataset("mine", ("a", "b"), split, None, None, Path("/data"), "0" * 64)
    scale, offset = training.images.build_networks(recipe(normalization="standard"), loaded)[0].preprocessing
    channels = pictures[split.rows].astype(np.float64).reshape(-1, 3)
    np.testing.assert_allclose(scale, 1 / np.where(channels.std(axis=0) > 0, channels.std(axis=0), 1), rtol=1e-9)
    np.testing.assert_allclose(-np.array(offset) / scale, channels.mean(axis=0), rtol=1e-9)
    unit = training.images.build_networks(recipe(normalization="unit"), loaded)[0].preprocessing
    assert unit == [1 / 255 if dtype == np.uint8 else 1.0, 0.0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_cutmix_is_for_a_share_of_the_batches(data, share):
    own = recipe(cutmix=share, max_shift=0)
    loaded = load_images("arrays", data, validation_fraction=own.validation_fraction, seed=own.seed)
    positions = np.arange(32)
    pictures, labels = loaded.train.take(positions), np.eye(10)[loaded.train.labels[positions]]
    mixed = 0
    for seed in range(100):
        seen, targets = training.images.training_batch(own, loaded, positions, np.random.default_rng(seed))
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        mixed += (targets != labels).any()
        assert (targets != labels).any() or (seen == pictures).all()
    assert abs(mixed - 100 * share) <= 12


def test_a_student_learns_what_its_teacher_says_where_labels_are_nonsense(whole, mnist, tmp_path):
    labels = np.random.default_rng(0).permutation(mnist["y_train"][:1000])
    nonsense = write_arrays(
        tmp_path / "nonsense.npz", mnist, lambda x, y: (x, labels if len(y) == 1000 else y), count=1000
    )
    own = recipe(epochs=6, teacher=str(whole.folder), monitor="loss")
    taught = train(own, tmp_path / "taught", nonsense, quiet=True)
    alone = train(replace(own, teacher=""), tmp_path / "alone", nonsense, quiet=True)
    pictures = mnist["x_test"][:500, ..., None]
    decisions = [load_model(run.best_model).predict(pictures, verbose=0).argmax(1) for run in (whole, taught, alone)]
    agreement = [np.mean(own == decisions[0]) for own in decisions[1:]]
    assert agreement[0] > agreement[1] + 0.2, agreement


def test_a_taught_training_repeats_itself(whole, data, tmp_path):
    first, second = (
        train(recipe(epochs=2, teacher=str(whole.folder)), tmp_path / name, data, quiet=True) for name in "ab"
    )
    assert same_weights(weights(first), weights(second))


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (np.pad(x, ((0, 0), (2, 2), (2, 2))), y),
        lambda x, y: (x[y < 5], y[y < 5]),
    ],
    ids=["size", "classes"],
)
def test_a_teacher_of_other_pictures_is_named(whole, mnist, tmp_path, change):
    other = write_arrays(tmp_path / "other.npz", mnist, change)
    with pytest.raises(RecipeError, match=r"teacher=.* does not fit: expected a model of pictures of"):
        train(recipe(teacher=str(whole.folder)), tmp_path / "run", other, quiet=True)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_resumed_training_keeps_its_teacher(whole, data, tmp_path):
    teacher = tmp_path / "teacher.keras"
    metadata = read_metadata(whole.best_model)
    save_model(load_model(whole.best_model), teacher, metadata)
    run = train(recipe(epochs=1, teacher=str(teacher)), tmp_path / "run", data, quiet=True)
    train(recipe(epochs=1, teacher=str(teacher)), run.folder, data, resume=True, quiet=True)
    save_model(lcnn((28, 28, 1), 10), teacher, metadata)
    with pytest.raises(RunError, match=r"teacher.keras is not the model that .* was taught by until now"):
        train(recipe(epochs=1, teacher=str(teacher)), run.folder, data, resume=True, quiet=True)


@pytest.mark.parametrize("key", ["initial_weights", "teacher"])
def test_pixels_of_another_range_are_refused(whole, mnist, tmp_path, key):
    scaled = write_arrays(tmp_path / "scaled.npz", mnist, lambda x, y: (x.astype("float32") / 255, y))
    with pytest.raises(RecipeError, match=rf"{key}=.* trained on pixels of uint8, .* Received: pixels of float32"):
        train(recipe(**{key: str(whole.folder)}), tmp_path / "run", scaled, quiet=True)


@pytest.mark.parametrize("key", ["initial_weights", "teacher"])
def test_a_model_that_saw_the_validation_split_is_noted(whole, data, tmp_path, key):
    run = train(recipe(**STILL, seed=5, **{key: str(whole.folder)}), tmp_path / "run", data, quiet=True)
    assert any("trained on examples of validation" in note and "seed=0" in note for note in run.environment["notes"])


def test_a_model_that_saw_the_test_split_is_refused(whole):
    digest = whole.environment["data"]["digest"]
    drawn = SimpleNamespace(digest=digest, held_out=frozenset({"validation", "test"}))
    with pytest.raises(RecipeError, match=r"trained on examples of this test split.* with seed=0, or"):
        networks.leaks(recipe(seed=5, teacher=str(whole.folder)), drawn, "teacher")
    assert networks.leaks(recipe(teacher=str(whole.folder)), drawn, "teacher") == []
    other = SimpleNamespace(digest="another", held_out=drawn.held_out)
    assert networks.leaks(recipe(seed=5, teacher=str(whole.folder)), other, "teacher") == []


@pytest.mark.parametrize(
    ("values", "held_out", "noted"),
    [
        ({"validation_fraction": 0.3}, {"validation", "test"}, ["validation"]),  # the test split was drawn before
        ({"calibration_fraction": 0.3}, {"calibration", "validation", "test"}, ["calibration", "validation"]),
        ({"test_fraction": 0.3}, {"validation"}, []),  # the test split is a part of the data
    ],
)
def test_another_share_moves_the_splits_drawn_from_it_and_after_it(whole, values, held_out, noted):
    data = SimpleNamespace(digest=whole.environment["data"]["digest"], held_out=frozenset(held_out))
    here = SimpleNamespace(**{**vars(whole.recipe), **values, "teacher": str(whole.folder)})
    notes = networks.leaks(here, data, "teacher")
    assert [note.split("examples of ")[1].split(",")[0] for note in notes] == noted
    here.test_fraction = 0.4
    if "test" in held_out:
        with pytest.raises(RecipeError, match="trained on examples of this test split"):
            networks.leaks(here, data, "teacher")


def test_validation_batches_are_no_larger_than_trainings(data, tmp_path, monkeypatch):
    sizes = []
    batch = images.validation_batch
    monkeypatch.setattr(
        images, "validation_batch", lambda recipe, data, rows: sizes.append(len(rows)) or batch(recipe, data, rows)
    )
    train(recipe(epochs=1, batch_size=16), tmp_path / "run", data, quiet=True)
    assert 0 < max(sizes) <= 16


def test_an_interruption_that_a_scope_hides_is_one(data, tmp_path, monkeypatch):
    def stop(self, epoch, logs=None):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("Exiting device scope without proper scope nesting")

    monkeypatch.setattr(fitting.Recorder, "on_epoch_begin", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run", data, quiet=True)


def test_an_error_in_a_batch_is_raised_as_it_is(data, tmp_path, monkeypatch):
    def broken(own, loaded, positions, generator, whole_batch=training.images.training_batch):
        count = next(batches)
        if count == 5:
            raise DataError("pictures/7.png is damaged")
        return whole_batch(own, loaded, positions, generator)

    batches, before = itertools.count(), num_iterators()
    monkeypatch.setattr(training.images, "training_batch", broken)
    with pytest.raises(DataError, match=r"^pictures/7.png is damaged$") as caught:
        train(recipe(), tmp_path / "run", data, quiet=True)
    assert num_iterators() <= before, caught.value


def test_a_teacher_of_speech_is_named(data, tmp_path):
    model = keras.Sequential([keras.Input((16000,)), keras.layers.Dense(1), keras.layers.Reshape(())])
    metadata = {
        "task": "voice anti-spoofing",
        "labels": ["spoof", "bonafide"],
        "sampling_rate": 16000,
        "input": {"window_samples": 16000, "pad": "repeat"},
    }
    save_model(model, tmp_path / "speech.keras", metadata)
    with pytest.raises(RecipeError, match=r"speech.keras is no classifier of pictures"):
        train(recipe(teacher=str(tmp_path / "speech.keras")), tmp_path / "run", data, quiet=True)


def test_frozen_layers_stay_as_they_are(whole, data, tmp_path):
    own = recipe(epochs=1, initial_weights=str(whole.folder), freeze=("conv_*", "norm_1?", "norm_2"))
    run = train(own, tmp_path / "run", data, quiet=True)
    before, after = by_layer(load_model(whole.best_model)), by_layer(load_model(run.best_model))
    frozen = {name for name in before if name.startswith("conv_")} | {"norm_10", "norm_2"}
    assert changed_layers(before, after) == set(before) - frozen


def test_an_unknown_layer_names_the_nearest(data, tmp_path):
    with pytest.raises(RecipeError, match=r"freeze=embeding names no layer. Did you mean 'embedding'\?"):
        train(recipe(freeze=("conv_*", "embeding")), tmp_path / "run", data, quiet=True)


def test_something_must_be_left_to_train(data, tmp_path):
    with pytest.raises(RecipeError, match=r"freeze=\* leaves nothing to train"):
        train(recipe(freeze=("*",)), tmp_path / "run", data, quiet=True)


# -------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_model_is_kept_in_float32(data, tmp_path, precision, monkeypatch):
    policies = []
    real = training.fit

    def fit(run, own, loaded, models, task, bar):
        policies.append(models.trained.get_layer("conv_1").compute_dtype)
        return real(run, own, loaded, models, task, bar)

    monkeypatch.setattr(training, "fit", fit)
    run = train(recipe(epochs=1, precision=precision), tmp_path / "run", data, quiet=True)
    assert policies == [precision]
    assert run.recipe.precision == precision
    assert keras.config.dtype_policy().name == "float32"
    model = load_model(run.best_model)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {str(variable.dtype) for variable in model.weights} == {"float32"}


def test_a_model_too_small_for_the_network_is_a_clear_error(mnist, tmp_path):
    tiny = write_arrays(tmp_path / "tiny.npz", mnist, lambda x, y: (x[:, ::2, ::2], y))
    with pytest.raises(RecipeError, match="at least 16 x 16 pixels"):
        train(recipe(), tmp_path / "run", tiny, quiet=True)


# ---------------------------------------------------------------------------------------------------- real training


def test_mnist_is_learned_in_one_epoch(mnist_folder, tmp_path):
    run = train(get_recipe("mnist", epochs=1), tmp_path / "run", mnist_folder, quiet=True)
    assert run.metrics["test"]["accuracy"] >= 0.97
    assert run.metrics["parameters"] == 164_938
    assert run.metrics["test"]["images"] == 10_000
