"""Faces train with the authors' settings, repeat themselves, and every network and head learns people."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import keras
import numpy as np
import pytest
from conftest import without_compiling
from PIL import Image

from lightcnn.datasets.faces import loading
from lightcnn.datasets.faces.loading import load_faces
from lightcnn.errors import DataError, RecipeError
from lightcnn.inference import Predictor
from lightcnn.layers import CosineHead
from lightcnn.models import FACE_PRESETS, light_cnn_9, load_model, read_metadata, save_model
from lightcnn.recipes import get_recipe
from lightcnn.runs import Recipe, Run
from lightcnn.training import faces, fitting, train

FILES = {
    *("recipe.json", "environment.json", "history.csv", "checkpoint", "best.keras", "metrics.json"),
    *("scores.csv", "report.html", "model.onnx"),
}
SIDE = 16  # of the crops; the network leaves one pixel of them
# of 12 people six are trained on, with four pictures each and two for validation
SHARES = {"validation_fraction": 0.34, "test_fraction": 0.34, "calibration_fraction": 0.25}


def recipe(**values):
    small = {"epochs": 2, "batch_size": 12, "image_size": 18, "crop_size": SIDE, "precision": "float32"}
    small |= {"step_epochs": 1, "step_factor": 0.5}
    return get_recipe("faces", **{**small, **SHARES, **values})


def write_faces(root, people=12, pictures=6, size=18, seed=0):
    """Writes people whom a network can tell apart: the same blurred noise in each picture, with other noise on it."""
    generator = np.random.default_rng(seed)
    for person in range(people):
        face = np.kron(generator.uniform(40, 215, (4, 4, 3)), np.ones((size // 4 + 1, size // 4 + 1, 1)))
        (root / f"person{person}").mkdir(parents=True)
        for number in range(pictures):
            picture = face[:size, :size] + generator.normal(0, 12, (size, size, 3))
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / f"person{person}" / f"{number}.png")
    return root


def small_run(tmp_path_factory):
    """Returns a finished run on made-up faces, and their folder; one for all test files of a session."""
    return _small_run(tmp_path_factory.getbasetemp())


@cache
def _small_run(place):
    folder = Path(mkdtemp(prefix="faces-", dir=place))
    people = write_faces(folder / "people")
    with pytest.MonkeyPatch.context() as patch:
        without_compiling(patch)
        few_strangers(patch)
        return train(recipe(), folder / "run", people, quiet=True), people


def few_strangers(monkeypatch):
    """Lets two people of eight be enough to measure a threshold."""
    monkeypatch.setattr(loading, "_FEWEST_STRANGERS", 1)


def load_small(people):
    """Returns the data of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        few_strangers(patch)
        return load_faces(people, image_size=18, **SHARES)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    without_compiling(monkeypatch)
    few_strangers(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return small_run(tmp_path_factory)[1]


@pytest.fixture(scope="module")
def data(people):
    return load_small(people)


def history(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]


def weights(run):
    return load_model(run.best_model).get_weights()


def same_weights(run, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(run), weights(other), strict=True))


# ------------------------------------------------------------------------------------------------------------- runs


def test_a_finished_run(whole, people):
    assert {path.name for path in whole.folder.iterdir()} >= FILES  # other test files evaluate the same run
    assert whole.environment["data"]["sizes"] == {"train": 24, "validation": 12, "test": 24, "calibration": 12}
    metadata = read_metadata(whole.best_model)
    assert metadata["task"] == "face representation"
    assert metadata["network"] == "light_cnn_9"
    assert metadata["labels"] == whole.environment["data"]["labels"]
    assert len(metadata["labels"]) == 6
    assert metadata["input"]["shape"] == [SIDE, SIDE, 1]
    assert metadata["input"]["colour"] == "grey"
    assert metadata["embedding"] == {"layer": "embedding", "size": 256}
    assert -1 <= metadata["threshold"] <= 1
    assert "alignment" not in metadata  # the pictures are not of the authors' size
    model = load_model(whole.best_model)
    assert model.get_layer("preprocessing").scale == pytest.approx(1 / 255)
    assert model.output_shape == (None, 6)


def test_files_and_arrays_have_the_same_embedding(whole, data):
    predictor = Predictor.load(whole.folder)
    names = [data.test.names[row] for row in data.test.rows[:3]]
    from_files = [row["embedding"] for row in predictor.predict(names)]
    from_arrays = predictor.embed_arrays(data.test.take(slice(0, 3))[:, 1:17, 1:17])
    np.testing.assert_allclose(from_files, from_arrays, rtol=1e-5, atol=1e-7)


def test_one_seed_gives_one_model_and_an_interrupted_run_goes_on(whole, people, tmp_path, monkeypatch):
    real = fitting.Recorder.on_train_batch_end

    def on_train_batch_end(self, index, logs=None):
        real(self, index, logs)
        if self._state.epochs == 1 and index == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Recorder, "on_train_batch_end", on_train_batch_end)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path / "run", people, quiet=True)
    assert len(history(Run.open(tmp_path / "run"))) == 1
    run = train(recipe(), tmp_path / "run", people, resume=True, quiet=True)
    assert history(run) == history(whole)
    assert same_weights(run, whole)
    assert run.scores.read_bytes() == whole.scores.read_bytes()


def test_the_learning_rate_falls_in_steps(whole):
    assert [row["learning_rate"] for row in whole.history] == pytest.approx([0.01, 0.005])


def test_a_network_learns_people(people, tmp_path):
    steady = {"optimizer": "adamw", "weight_decay": 0.0, "schedule": "one_cycle", "kernel_initializer": "lecun_normal"}
    steps = {"step_epochs": Recipe.step_epochs, "step_factor": Recipe.step_factor}
    own = recipe(epochs=8, batch_size=8, learning_rate=1e-3, dropout=0.2, **steady, **steps)
    run = train(own, tmp_path / "run", people, quiet=True, validation_only=True)
    assert run.metrics["validation"]["accuracy"] > 0.6  # chance is 1 in 6; two seeds gave 0.83 and 1


def test_data_are_needed():
    with pytest.raises(DataError, match="name their folder or list with --data-dir"):
        train(recipe(), "nowhere", quiet=True)
    assert not Path("nowhere").exists()


# --------------------------------------------------------------------------------------------------------- networks


def outputs_of(network, generator=None, count=3):
    shape = (count, *network.input_shape[1:])
    pictures = (generator or np.random.default_rng(0)).integers(0, 256, shape).astype("float32")
    return keras.ops.convert_to_numpy(network(pictures, training=False))


@pytest.mark.parametrize("head", ["softmax", "am_softmax", "arc_softmax"])
def test_a_head_gives_logits_or_cosines(data, head):
    networks, notes = faces.build_networks(recipe(head=head), data)
    assert notes == []
    outputs = outputs_of(networks.trained)
    assert outputs.shape == (3, 6)
    kind = keras.layers.Dense if head == "softmax" else CosineHead
    assert isinstance(networks.saved.get_layer("logits"), kind)
    assert (np.abs(outputs) <= 1).all()  # the first logits are small
    assert networks.metadata["head"] == head
    assert networks.metadata["head_scale"] == (1.0 if head == "softmax" else 30.0)
    expected = {"softmax": "softmax_loss", "am_softmax": "am_softmax_loss", "arc_softmax": "arc_softmax_loss"}
    assert networks.loss.name == expected[head]
    assert networks.saved.get_layer("embedding").output.shape == (None, 256)


def test_settings_reach_the_loss(data):
    own = recipe(head="arc_softmax", margin=0.4, head_scale=20.0, label_smoothing=0.1)
    loss = faces.build_networks(own, data)[0].loss.get_config()
    assert (loss["margin"], loss["scale"], loss["label_smoothing"]) == (0.4, 20.0, 0.1)
    loss = faces.build_networks(recipe(label_smoothing=0.2), data)[0].loss.get_config()
    assert loss["label_smoothing"] == 0.2


@pytest.mark.parametrize("head", ["am_softmax", "arc_softmax"])
def test_a_margin_head_trains(people, tmp_path, head):
    own = recipe(epochs=1, head=head, label_smoothing=0.1, clip_norm=1.0)
    run = train(own, tmp_path / "run", people, quiet=True, validation_only=True)
    figures = run.metrics["validation"]
    # The loss that training minimizes has the margin in it; the figure of the report has not.
    assert 0 < figures["loss"] < run.history[0]["val_loss"]
    assert figures["accuracy"] == pytest.approx(run.history[0]["val_accuracy"], abs=1e-6)


@pytest.mark.parametrize("model", sorted(FACE_PRESETS))
def test_every_network_is_built_for_the_crops(data, people, model):
    side = 57 if model == "light_cnn_4" else 16
    own = recipe(model=model, image_size=64, crop_size=side)
    colour = FACE_PRESETS[model].colour
    chosen = load_faces(people, image_size=64, colour=colour)
    networks, _ = faces.build_networks(own, chosen)
    assert networks.trained.input_shape == (None, side, side, 3 if colour == "BGR" else 1)
    assert networks.saved.output_shape == (None, len(chosen.labels))
    assert networks.metadata["input"]["colour"] == colour


def test_a_crop_that_is_too_small_is_refused(data):
    with pytest.raises(RecipeError, match="needs at least 57 x 57 pixels"):
        faces.build_networks(recipe(model="light_cnn_4"), data)


def test_aligned_pictures_say_where_the_face_is(people, tmp_path):
    aligned = load_faces(write_faces(tmp_path, people=4, size=144), image_size=144)
    metadata = faces.build_networks(recipe(image_size=144, crop_size=128), aligned)[0].metadata
    assert metadata["alignment"] == {"size": 128, "eye_mouth_distance": 48, "eye_row": 40, "training_size": 144}
    halves = faces.build_networks(recipe(image_size=72, crop_size=64), aligned)[0].metadata
    assert halves["alignment"] == {"size": 64, "eye_mouth_distance": 24, "eye_row": 20, "training_size": 72}


def test_weights_start_from_a_network_without_classifier(data, tmp_path):
    initial = light_cnn_9((SIDE, SIDE, 1), scale=1 / 255)
    save_model(initial, tmp_path / "released.keras", {"format": 1, "task": "face representation"})
    networks, notes = faces.build_networks(recipe(initial_weights=str(tmp_path / "released.keras")), data)
    assert notes[1] == "The layer 'logits' is new: none there, weights of 256 x 6 and 6 here."
    for name in ("conv1", "embedding"):
        for ours, theirs in zip(
            networks.trained.get_layer(name).get_weights(), initial.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(RecipeError, match="'embedding' has weights of "):
        faces.build_networks(
            recipe(initial_weights=str(tmp_path / "released.keras"), image_size=40, crop_size=40), data
        )


# ---------------------------------------------------------------------------------------------------------- batches


def test_a_training_picture_is_a_piece_of_its_picture(data):
    own, positions = recipe(flip=False), np.arange(len(data.train))
    pictures, labels = faces.training_batch(own, data, positions, np.random.default_rng(0))
    assert pictures.shape == (24, SIDE, SIDE, 1)
    assert pictures.dtype == np.float32
    np.testing.assert_array_equal(labels, data.train.labels)
    corners = set()
    for picture, whole_picture in zip(pictures, data.train.take(slice(None)), strict=True):
        found = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if np.array_equal(whole_picture[top : top + SIDE, left : left + SIDE], picture)
        ]
        assert len(found) == 1
        corners.update(found)
    assert len(corners) > 4  # of 9 places


def test_half_of_the_pictures_are_mirrored(data):
    own, positions = recipe(crop_size=18), np.tile(np.arange(len(data.train)), 10)
    pictures, _ = faces.training_batch(own, data, positions, np.random.default_rng(0))
    originals = data.train.take(positions)
    straight = (pictures == originals).all(axis=(1, 2, 3))
    mirrored = (pictures == originals[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (straight ^ mirrored).all()
    assert 0.35 < mirrored.mean() < 0.65  # 240 fair coins


def test_a_validation_picture_is_the_centre(data):
    pictures, labels = faces.validation_batch(recipe(), data, np.array([3, 0]))
    np.testing.assert_array_equal(pictures, data.validation.take(np.array([3, 0]))[:, 1:17, 1:17])
    np.testing.assert_array_equal(labels, data.validation.labels[[3, 0]])


@pytest.mark.parametrize(
    ("key", "value"), [("max_rotation_degrees", 10.0), ("max_zoom", 0.1), ("elastic_distortion", 1.0), ("cutout", 4)]
)
def test_a_batch_is_changed_and_depends_on_its_place_alone(data, key, value):
    def batch(**values):
        return faces.training_batch(recipe(**values), data, np.arange(5), np.random.default_rng(7))[0]

    changed = batch(**{key: value})
    assert not np.array_equal(changed, batch())
    np.testing.assert_array_equal(changed, batch(**{key: value}))


# -------------------------------------------------------------------------------------------------------- optimizer


def test_the_authors_multipliers(data):
    networks, _ = faces.build_networks(recipe(), data)
    optimizer = fitting._optimizer(recipe(clip_norm=150.0), steps_per_epoch=5)
    optimizer.build(networks.trained.trainable_variables)
    rates = dict(zip((v.path for v in networks.trained.trainable_variables), optimizer._rates, strict=True))
    decays = dict(zip(rates, optimizer._decays, strict=True))
    assert (rates["logits/kernel"], rates["logits/bias"]) == (10, 20)
    assert {rate for path, rate in rates.items() if not path.startswith("logits")} == {1, 2}
    assert all((rate % 2 == 0) == path.endswith("bias") for path, rate in rates.items() if "logits" not in path)
    assert all(decay == (0 if path.endswith("bias") else 1e-4) for path, decay in decays.items())
    assert optimizer.global_clipnorm == 150.0
    assert (float(optimizer.learning_rate), optimizer.momentum) == (pytest.approx(0.01), 0.9)


def test_pictures_may_have_sgd_without_the_multipliers_of_faces():
    optimizer = fitting._optimizer(get_recipe("mnist", optimizer="sgd", momentum=0.5), steps_per_epoch=5)
    assert optimizer.rate_multipliers == {}
    assert optimizer.momentum == 0.5
