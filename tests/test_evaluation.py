"""The figures of a run are true: against Keras' own, and against its own scores.csv."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import begin

from lightcnn.datasets import load_images
from lightcnn.errors import DataError, LightCNNError, RunError
from lightcnn.evaluation import evaluate
from lightcnn.evaluation.images import classification_figures
from lightcnn.models import load_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Run
from lightcnn.training import train

PICTURES = 300  # more than one batch of the evaluation, and its last batch is smaller


def write_arrays(path, mnist, count=PICTURES, invert=False, classes=10):
    chosen = mnist["y_train"] < classes
    arrays = {"x_train": mnist["x_train"][chosen][:512], "y_train": mnist["y_train"][chosen][:512]}
    chosen = mnist["y_test"] < classes
    arrays |= {"x_test": mnist["x_test"][chosen][:count], "y_test": mnist["y_test"][chosen][:count]}
    if invert:
        arrays = {key: 255 - value if key.startswith("x") else value for key, value in arrays.items()}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def data(mnist, tmp_path_factory):
    return write_arrays(tmp_path_factory.mktemp("data") / "digits.npz", mnist)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    recipe = get_recipe("arrays", epochs=4, batch_size=64, batch_norm_momentum=0.5, precision="float32")
    return train(recipe, tmp_path_factory.mktemp("runs") / "run", data, quiet=True)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def probabilities_of(row):
    return [float(value) for key, value in row.items() if key.startswith("probability_")]


def test_metrics_have_the_documented_shape(run):
    content = json.loads((run.folder / "metrics.json").read_text())
    assert set(content) == {"train_seconds", "parameters", "validation", "test"}
    assert content["train_seconds"] > 0
    assert content["parameters"] == 164_938
    pictures = run.environment["data"]["sizes"]
    assert pictures["test"] == PICTURES
    for split in ("validation", "test"):
        figures, images = content[split], pictures[split]
        assert {"accuracy", "loss", "expected_calibration_error", "top_2_accuracy", "top_5_accuracy"} <= set(figures)
        assert figures["images"] == images
        assert 0 <= figures["accuracy"] <= figures["top_2_accuracy"] <= figures["top_5_accuracy"] <= 1
        assert [row["label"] for row in figures["per_class"]] == [str(digit) for digit in range(10)]
        matrix = np.array(figures["confusion_matrix"])
        assert matrix.shape == (10, 10)
        assert matrix.sum() == images
        assert np.trace(matrix) / images == pytest.approx(figures["accuracy"])


def test_the_model_learned_something_to_measure(run):
    assert 0.15 < run.metrics["test"]["accuracy"] < 1


def test_scores_belong_to_the_test_pictures(run, mnist):
    rows = rows_of(run.scores)
    assert [row["label"] for row in rows] == [str(label) for label in mnist["y_test"][:PICTURES]]
    assert [row["file"] for row in rows] == [str(position) for position in range(PICTURES)]
    assert list(rows[0]) == ["file", "label", "prediction", *(f"probability_{digit}" for digit in range(10))]
    for row in rows:
        scores = probabilities_of(row)
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == str(int(np.argmax(scores)))


def test_the_figures_follow_from_the_scores(run):
    rows = rows_of(run.scores)
    figures = run.metrics["test"]
    right = [row["label"] == row["prediction"] for row in rows]
    assert sum(right) / len(right) == pytest.approx(figures["accuracy"])
    own = [float(row[f"probability_{row['label']}"]) for row in rows]
    assert -np.mean(np.log(np.maximum(own, 1e-7))) == pytest.approx(figures["loss"], rel=1e-4)
    second = [sum(p >= mine for p in probabilities_of(row)) <= 2 for row, mine in zip(rows, own, strict=True)]
    assert np.mean(second) == pytest.approx(figures["top_2_accuracy"])
    for row in figures["per_class"]:
        predicted = [r for r in rows if r["prediction"] == row["label"]]
        labelled = [r for r in rows if r["label"] == row["label"]]
        assert row["images"] == len(labelled)
        assert row["recall"] == pytest.approx(sum(r["prediction"] == r["label"] for r in labelled) / len(labelled))
        if predicted:
            hits = sum(r["prediction"] == r["label"] for r in predicted)
            assert row["precision"] == pytest.approx(hits / len(predicted))
        else:
            assert row["precision"] is None


def test_the_figures_are_kerass_own(run, mnist):
    model = load_model(run.best_model)
    model.compile(loss=keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    pictures = mnist["x_test"][:PICTURES, ..., None].astype(np.float32)
    loss, accuracy = model.evaluate(pictures, np.eye(10)[mnist["y_test"][:PICTURES]], verbose=0)
    assert accuracy == pytest.approx(run.metrics["test"]["accuracy"], abs=1e-6)
    assert loss == pytest.approx(run.metrics["test"]["loss"], rel=1e-4)


def test_evaluating_again_gives_the_same(run):
    before = {name: (run.folder / name).read_bytes() for name in ("metrics.json", "scores.csv", "best.keras")}
    assert evaluate(run, quiet=True) == run.metrics["test"]
    assert evaluate(str(run.folder), quiet=True) == run.metrics["test"]
    assert {name: (run.folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("split", ["validation", "train"])
def test_other_splits_have_scores_of_their_own(run, split, tmp_path):
    run = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    test_scores = run.scores.read_bytes()
    images = run.environment["data"]["sizes"][split]
    figures = evaluate(run, split, quiet=True)
    assert figures["images"] == images
    assert run.metrics[split] == figures
    assert "test" in run.metrics
    assert run.scores.read_bytes() == test_scores
    rows = rows_of(run.folder / f"scores-{split}.csv")
    assert len(rows) == images
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(figures["accuracy"])
    assert f"accuracy on {split}" in run.report.read_text()


def test_the_validation_split_is_the_one_that_chose_the_epoch(run, tmp_path):
    run = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    best = max(row["val_accuracy"] for row in run.history)
    assert evaluate(run, "validation", quiet=True)["accuracy"] == pytest.approx(best, abs=1e-6)


def test_an_unknown_split_is_named(run):
    with pytest.raises(DataError, match=r"no split 'dev'. It has: train, validation, test"):
        evaluate(run, "dev", quiet=True)


def test_other_data_can_only_be_a_test(run, mnist, tmp_path, capsys):
    other = write_arrays(tmp_path / "other.npz", mnist, invert=True)
    before = run.metrics["test"], run.scores.read_bytes(), run.report.read_bytes()
    for split in ("train", "validation"):
        with pytest.raises(RunError, match=rf"was trained on, and its {split} split could hold"):
            evaluate(run, split, other, quiet=True)
    figures = evaluate(run, "test", other)
    assert "other.npz is not the data that the run was trained on" in capsys.readouterr().err
    assert figures["loss"] != before[0]["loss"]
    assert (run.metrics["test"], run.scores.read_bytes(), run.report.read_bytes()) == before
    assert (run.folder / "scores-other.csv").exists()
    assert (run.folder / "report-other.html").exists()


def test_other_classes_are_refused(run, mnist, tmp_path):
    few = write_arrays(tmp_path / "few.npz", mnist, classes=5)
    with pytest.raises(RunError, match="has other classes than the run was trained on: 0, 1, 2, 3, 4"):
        evaluate(run, "test", few, quiet=True)


def test_data_that_went_away_are_named(run, tmp_path):
    with pytest.raises(LightCNNError, match=r"gone.npz"):
        evaluate(run, "test", tmp_path / "gone.npz", quiet=True)


def test_a_run_without_a_model_cannot_be_measured(run, tmp_path):
    begun = begin(tmp_path / "begun", run.recipe)
    with pytest.raises(RunError):
        evaluate(begun, quiet=True)
    begun.write_environment(run.environment)
    with pytest.raises(LightCNNError, match="--resume"):
        evaluate(begun, quiet=True)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        evaluate(tmp_path, quiet=True)


# -------------------------------------------------------------------------------------------------- figures by hand


def test_figures_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]])
    figures = classification_figures(probabilities, np.array([0, 1, 1, 2]), ("a", "b", "c"))
    assert figures["accuracy"] == 0.5
    assert figures["top_2_accuracy"] == 0.75
    assert "top_5_accuracy" not in figures
    assert figures["loss"] == pytest.approx(-np.log([0.7, 0.6, 0.3, 0.25]).mean())
    assert figures["images"] == 4
    assert figures["confusion_matrix"] == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert figures["per_class"] == [
        {"label": "a", "images": 1, "precision": pytest.approx(1 / 3), "recall": 1.0},
        {"label": "b", "images": 2, "precision": 1.0, "recall": 0.5},
        {"label": "c", "images": 1, "precision": None, "recall": 0.0},
    ]


def test_a_class_without_pictures_has_no_recall():
    figures = classification_figures(np.array([[0.9, 0.1]]), np.array([0]), ("a", "b"))
    assert [row["recall"] for row in figures["per_class"]] == [1.0, None]
    assert "top_2_accuracy" not in figures
    json.dumps(figures, allow_nan=False)


def test_the_splits_of_the_data_are_those_of_the_run(run, data):
    loaded = load_images("arrays", data, validation_fraction=0.1, seed=0)
    assert run.environment["data"]["digest"] == loaded.digest
    sizes = {"train": len(loaded.train), "validation": len(loaded.validation), "test": len(loaded.test)}
    assert run.environment["data"]["sizes"] == sizes
    assert sum(sizes.values()) == 512 + PICTURES
