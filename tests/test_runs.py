"""Recipes check their values, and a run folder is only what it should be."""

import dataclasses
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from conftest import begin, environment_of
from hypothesis import given
from hypothesis import strategies as st

from lightcnn.errors import RecipeError, RunError, StorageError
from lightcnn.files import write_json
from lightcnn.recipes import get_recipe
from lightcnn.runs import FACES, IMAGES, Recipe, Run, compare, default_run_folder, parse_settings
from lightcnn.training import train

KINDS = get_type_hints(Recipe)
FOR_PICTURES = {key.name for key in dataclasses.fields(Recipe) if IMAGES in key.metadata.get("tasks", (IMAGES,))}
SETTABLE = FOR_PICTURES - {"name", "dataset", "model", "average_epochs"}  # the last depends on two others
BOUNDS = {
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "seed": (0, 2**32 - 1),
    "learning_rate": (0, 1_000),
    "step_epochs": (1, 100_000),
    "step_factor": (0, 1),
    "momentum": (0, 1),
    "weight_decay": (0, 100),
    "label_smoothing": (0, 0.99),
    "dropout": (0, 0.99),
    "width": (1 / 32, 64),
    "batch_norm_momentum": (0, 1),
    "max_shift": (0, 10_000),
    "max_rotation_degrees": (0, 180),
    "max_zoom": (0, 10),
    "elastic_distortion": (0, 100),
    "cutout": (0, 10_000),
    "cutmix": (0, 1),
    "validation_fraction": (0.001, 0.9),
    "test_fraction": (0, 0.9),
    "patience": (0, 100_000),
    "image_size": (16, 4096),
}
SPEECH_BOUNDS = {
    "duration_s": (0.2, 600),
    "room": (0, 1),
    "noise": (0, 1),
    "convolutive": (0, 1),
    "impulsive": (0, 1),
    "stationary": (0, 1),
    "codec": (0, 1),
    "max_gain_db": (0, 60),
    "max_masked_frames": (0, 10_000),
    "max_masked_bins": (0, 10_000),
}
FACE_BOUNDS = {
    "crop_size": (16, 4096),
    "calibration_fraction": (0, 0.9),
    "classifier_multiplier": (0, 1_000),
    "bias_multiplier": (0, 1_000),
    "clip_norm": (0, 1e9),
    "margin": (0, 1.5),
    "head_scale": (0.01, 1_000),
}
# what a key needs to have an effect
NEEDED = {
    "step_epochs": {"schedule": "steps"},
    "step_factor": {"schedule": "steps"},
    "weight_decay": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd"},
    "classifier_multiplier": {"optimizer": "sgd"},
    "bias_multiplier": {"optimizer": "sgd"},
    "margin": {"head": "arc_softmax"},
    "head_scale": {"head": "arc_softmax"},
}


def recipe(**values):
    return Recipe(name="mine", dataset="images", **values)


def face_recipe(**values):
    return Recipe(**{"name": "mine", "dataset": "faces", "model": "light_cnn_9", "head": "softmax", "image_size": 144,
                     **values})  # fmt: skip


def values_of(key):
    kind = KINDS[key]
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if key == "channels":
        return st.sampled_from([0, 1, 3])
    if kind is int:
        return st.integers(*BOUNDS[key])
    if kind is float:
        return st.floats(*BOUNDS[key])
    text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=","), min_size=1)
    return st.lists(text, max_size=3).map(tuple) if get_origin(kind) is tuple else text


def settings_of(keys):
    every = st.fixed_dictionaries({}, optional={key: values_of(key) for key in keys})
    return every.map(lambda values: {**values, **{k: v for key in values for k, v in NEEDED.get(key, {}).items()}})


# --------------------------------------------------------------------------------------------------------- recipes


@given(settings_of(SETTABLE))
def test_a_recipe_survives_json(values):
    made = recipe(**values)
    assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


@given(settings_of(SETTABLE - {"freeze", "kernel_initializer", "initial_weights", "teacher"}))
def test_a_value_that_is_printed_can_be_set(values):
    assert parse_settings(f"{key}={value}" for key, value in values.items()) == values


def test_a_recipe_is_frozen_and_made_of_plain_types():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe().epochs = 3
    assert {type(value) for value in recipe().to_json().values()} <= {str, int, float, bool, list}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"),
        ("epochs", 3.0),
        ("epochs", True),
        ("learning_rate", "fast"),
        ("learning_rate", False),
        ("flip", 1),
        ("flip", "true"),
        ("optimizer", "lion"),
        ("optimizer", None),
        ("kernel_initializer", 3),
        ("freeze", "conv_1"),
        ("freeze", ("conv_1", 2)),
        ("initial_weights", None),
    ],
)
def test_a_value_of_the_wrong_type_is_named(key, value):
    with pytest.raises(RecipeError, match=re.escape(f"Received: {key}={value!r}")) as caught:
        recipe(**{key: value})
    assert f"{key} must be" in str(caught.value)


def test_what_is_expected_is_said():
    with pytest.raises(RecipeError, match="one of adam, adamw, muon, sgd"):
        recipe(optimizer="lion")
    with pytest.raises(RecipeError, match="true or false"):
        recipe(flip=1)
    with pytest.raises(RecipeError, match="a whole number"):
        recipe(epochs=1.5)
    with pytest.raises(RecipeError, match="a tuple of texts"):
        recipe(freeze="conv_1,conv_2")


def test_a_whole_number_is_a_number_too():
    assert recipe(learning_rate=1).learning_rate == 1.0
    assert isinstance(recipe(learning_rate=1).learning_rate, float)


def test_numpys_numbers_are_numbers():
    own = recipe(learning_rate=np.float32(0.5), epochs=np.int64(3))
    assert (own.learning_rate, own.epochs) == (0.5, 3)
    assert (type(own.learning_rate), type(own.epochs)) == (float, int)


def recipe_with(key, value):
    values = {**NEEDED.get(key, {}), key: value}
    if key in FACE_BOUNDS:
        return face_recipe(**{"image_size": 4096, **values})
    dataset, model = ("images", "lcnn") if key in BOUNDS else ("csv", "lcnn_lstm_sum")
    return Recipe(name="mine", dataset=dataset, model=model, **values)


@pytest.mark.parametrize("key", [*BOUNDS, *SPEECH_BOUNDS, *FACE_BOUNDS])
def test_bounds_belong_to_the_range_and_nothing_beyond(key):
    low, high = {**BOUNDS, **SPEECH_BOUNDS, **FACE_BOUNDS}[key]
    for value in (low, high):
        assert getattr(recipe_with(key, value), key) == value
    step = 1 if KINDS[key] is int else 1e-4
    for value in (low - step, high + step):
        with pytest.raises(RecipeError, match=f"{key} must be from"):
            recipe_with(key, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_is_finite(value):
    with pytest.raises(RecipeError, match="learning_rate must be from"):
        recipe(learning_rate=value)


def test_every_number_of_a_recipe_has_a_range():
    assert {key for key, kind in KINDS.items() if kind in (int, float)} == {
        *(*BOUNDS, *SPEECH_BOUNDS, *FACE_BOUNDS),
        "channels",
        "average_epochs",
    }


def test_a_recipe_of_faces():
    made = face_recipe(head="arc_softmax", margin=0.5, flip=True, channels=3, test_fraction=0.2)
    assert made.task == FACES
    assert {"crop_size", "margin", "flip", "head"} <= set(made.to_json())
    assert not {"front_end", "max_shift", "normalization", "batch_norm_momentum"} & set(made.to_json())
    assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": "sigmoid"}, "head must be one of softmax, am_softmax, arc_softmax for face representation"),
        ({"model": "lcnn"}, "model must be one of light_cnn_4, light_cnn_9"),
        ({"max_shift": 3}, "max_shift belongs to image classification, and mine is a recipe of face representation"),
        ({"noise": 0.5}, "noise belongs to voice anti-spoofing, and"),
        ({"margin": 0.2}, "margin has no effect with head=softmax: it needs am_softmax or arc_softmax"),
        ({"head_scale": 2.0}, "head_scale has no effect with head=softmax"),
        ({"momentum": 0.5}, "momentum has no effect with optimizer=adamw: it needs sgd; without it, set momentum=0.9"),
        ({"bias_multiplier": 1.0}, "bias_multiplier has no effect with optimizer=adamw"),
        ({"average_epochs": -1}, "average_epochs must be from 0"),
        ({"average_epochs": 10}, "average_epochs must be less than epochs.* Received: average_epochs=10, epochs=10"),
        ({"average_epochs": 2, "patience": 3}, "set patience=0. Received: average_epochs=2, patience=3"),
        ({"average_epochs": 2, "schedule": "constant"}, "no effect with schedule=constant: it needs one_cycle"),
        ({"step_epochs": 5}, "step_epochs has no effect with schedule=one_cycle: it needs steps"),
        (
            {"optimizer": "adam", "weight_decay": 0.1},
            "weight_decay has no effect with optimizer=adam: it needs adamw or",
        ),
        ({"crop_size": 160}, "crop_size must be at most image_size.*Received: crop_size=160, image_size=144"),
    ],
)
def test_a_key_that_does_not_fit_faces_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        face_recipe(**values)


def test_other_tasks_have_no_key_of_faces():
    with pytest.raises(RecipeError, match="crop_size belongs to face representation, and mine is a recipe of image"):
        recipe(crop_size=32)
    with pytest.raises(RecipeError, match="head belongs to voice anti-spoofing and face representation"):
        recipe(head="softmax")
    with pytest.raises(RecipeError, match=r"head must be one of .*oc_softmax, p2sgrad for voice anti-spoofing"):
        Recipe(name="mine", dataset="csv", model="lcnn_lstm_sum", head="arc_softmax")


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(RecipeError, match=r"no key 'epoch'. Did you mean 'epochs'\?"):
        Recipe.from_json({**recipe().to_json(), "epoch": 3})
    with pytest.raises(RecipeError, match=r"Did you mean 'learning_rate'\?"):
        parse_settings(["lerning_rate=1"])
    with pytest.raises(RecipeError, match=r"Known: .*batch_size"):
        parse_settings(["zzz=1"])


@pytest.mark.parametrize("missing", ["name", "dataset"])
def test_a_recipe_needs_a_name_and_data(missing):
    content = recipe().to_json()
    del content[missing]
    with pytest.raises(RecipeError, match=missing):
        Recipe.from_json(content)


# -------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=3", {"epochs": 3}),
        ("learning_rate=1e-3", {"learning_rate": 0.001}),
        ("learning_rate=1", {"learning_rate": 1.0}),
        ("flip=true", {"flip": True}),
        ("flip=Yes", {"flip": True}),
        ("flip=1", {"flip": True}),
        ("flip=False", {"flip": False}),
        ("flip=no", {"flip": False}),
        ("flip=0", {"flip": False}),
        ("optimizer=adam", {"optimizer": "adam"}),
        ("freeze=conv_1", {"freeze": ("conv_1",)}),
        ("freeze=conv_1, conv_2,", {"freeze": ("conv_1", "conv_2")}),
        ("freeze=", {"freeze": ()}),
        ("initial_weights=runs/a=b/best.keras", {"initial_weights": "runs/a=b/best.keras"}),
        ("initial_weights=", {"initial_weights": ""}),
    ],
)
def test_a_setting_gets_the_type_of_its_key(text, expected):
    parsed = parse_settings([text])
    assert parsed == expected
    assert [type(value) for value in parsed.values()] == [type(value) for value in expected.values()]


def test_the_last_setting_of_a_key_counts():
    assert parse_settings(["epochs=3", "epochs=4"]) == {"epochs": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs=three", "epochs must be a whole number. Received: epochs='three'"),
        ("epochs=3.0", "epochs must be a whole number. Received: epochs='3.0'"),
        ("epochs=", "epochs must be a whole number. Received: epochs=''"),
        ("dropout=much", "dropout must be a number. Received: dropout='much'"),
        ("flip=maybe", "flip must be true or false. Received: flip='maybe'"),
        ("schedule=cosine", "schedule must be one of constant, one_cycle, steps. Received: schedule='cosine'"),
        ("epochs", "A setting is KEY=VALUE. Received: 'epochs'"),
        ("name=other", "name makes another recipe"),
        ("dataset=mnist", "dataset makes another recipe"),
    ],
)
def test_a_bad_setting_is_named(text, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse_settings([text])


# ------------------------------------------------------------------------------------------------------- run folder


def test_a_new_run_holds_its_recipe(tmp_path):
    made = recipe(epochs=3, freeze=("conv_*",))
    run = begin(tmp_path / "a" / "b", made)
    assert run.recipe == made
    assert json.loads((tmp_path / "a" / "b" / "recipe.json").read_text()) == made.to_json()
    assert Run.open(tmp_path / "a" / "b") == run
    assert run.history == []


def test_a_run_folder_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = begin("here", recipe())
    monkeypatch.chdir("/")
    assert run.folder == tmp_path / "here"
    assert run.recipe == recipe()


def test_the_default_folder_is_the_recipe_and_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(r"runs/mnist/\d{8}-\d{6}", default_run_folder("mnist").as_posix())


def test_an_empty_folder_can_become_a_run(tmp_path):
    assert begin(tmp_path, recipe()).recipe == recipe()


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty.*--resume.*--overwrite.*--run-dir"):
        begin(tmp_path, recipe())
    with pytest.raises(RunError, match="something that is no run"):
        begin(tmp_path, recipe(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_deletes_a_run(tmp_path):
    begin(tmp_path / "run", recipe()).write_metrics({})
    assert begin(tmp_path / "run", recipe(epochs=5), overwrite=True).recipe.epochs == 5
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.json"]


def test_overwrite_of_nothing_is_a_new_run(tmp_path):
    assert begin(tmp_path / "run", recipe(), overwrite=True).recipe == recipe()


def test_a_run_is_resumed_with_its_own_recipe(tmp_path):
    run = begin(tmp_path, recipe(epochs=3))
    assert begin(tmp_path, recipe(epochs=3), resume=True) == run


def test_resuming_with_another_recipe_names_what_changed(tmp_path):
    begin(tmp_path, recipe(epochs=3, seed=1))
    with pytest.raises(RunError) as caught:
        begin(tmp_path, recipe(epochs=4, seed=1, optimizer="adam"), resume=True)
    assert "epochs was 3, now 4" in str(caught.value)
    assert "optimizer was 'adamw', now 'adam'" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_there_must_be_a_run_to_resume(tmp_path):
    with pytest.raises(RunError, match="no run that could be resumed"):
        begin(tmp_path / "nowhere", recipe(), resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="nowhere does not exist"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is not a run folder: it has no recipe.json"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"name": "mine", ',
        b"[1, 2]",
        b"\xff\xfe\x00",
        b"{}",
        b'{"name": "mine", "dataset": "arrays", "epocs": 3}',
        b'{"name": "mine", "dataset": "arrays", "epochs": "many"}',
        b'{"name": "mine", "dataset": "arrays", "epochs": 0}',
    ],
)
def test_a_damaged_recipe_is_an_error_that_names_the_file(tmp_path, content):
    begin(tmp_path, recipe())
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(RunError, match=re.escape(str(tmp_path / "recipe.json"))):
        _ = Run.open(tmp_path).recipe


@pytest.mark.parametrize("name", ["environment", "metrics"])
def test_a_run_without_results_is_not_finished(tmp_path, name):
    run = begin(tmp_path, recipe())
    with pytest.raises(RunError, match=rf"no {name}.json: the run is not finished.*--resume"):
        getattr(run, name)
    (tmp_path / f"{name}.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        getattr(run, name)


def test_history_keeps_every_digit(tmp_path):
    run = begin(tmp_path, recipe())
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": float("nan")}]
    run.write_history(rows)
    assert run.history[0] == rows[0]
    assert run.history[1]["loss"] != run.history[1]["loss"]
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,loss"


# --------------------------------------------------------------------------------------------------------- compare


def finished(folder, validation=0.5, test=None, seconds=1.0, data="mine", **values):
    run = begin(folder, recipe(**values))
    run.write_environment(environment_of(data))
    figures = {"validation": {"accuracy": validation, "loss": 1.0}}
    if test is not None:
        figures["test"] = {"accuracy": test, "loss": 2.0}
    run.write_metrics({"train_seconds": seconds, "parameters": 7, **figures})
    return run


def test_seeds_are_averaged(tmp_path):
    runs = [finished(tmp_path / str(seed), test=test, seed=seed) for seed, test in ((3, 0.5), (1, 0.6), (2, 0.7))]
    (row,) = compare(runs)
    assert row["recipe"] == "mine"
    assert row["seeds"] == [1, 2, 3]
    assert row["settings"] == {}
    assert row["test_accuracy"] == {"mean": pytest.approx(0.6), "std": pytest.approx(0.1)}  # sqrt(2 * 0.1**2 / (3 - 1))
    assert row["validation_accuracy"] == {"mean": 0.5, "std": 0.0}
    assert row["test_loss"]["mean"] == 2.0
    assert row["parameters"]["mean"] == 7


def test_one_seed_has_no_deviation(tmp_path):
    (row,) = compare([finished(tmp_path, test=0.5, seconds=12.0)])
    assert row["test_accuracy"] == {"mean": 0.5, "std": None}
    assert row["train_seconds"] == {"mean": 12.0, "std": None}


def test_configurations_are_kept_apart_and_told_apart(tmp_path):
    runs = [
        finished(tmp_path / "a", test=0.5, seed=1, dropout=0.2),
        finished(tmp_path / "b", test=0.9, seed=1, dropout=0.4, freeze=("conv_1",)),
        finished(tmp_path / "c", test=0.7, seed=2, dropout=0.2),
    ]
    first, second = compare(runs)
    assert (first["settings"], first["seeds"]) == ({"dropout": 0.2, "freeze": []}, [1, 2])
    assert (second["settings"], second["seeds"]) == ({"dropout": 0.4, "freeze": ["conv_1"]}, [1])
    assert first["test_accuracy"]["mean"] == pytest.approx(0.6)
    assert second["test_accuracy"]["mean"] == 0.9


def test_other_data_are_another_configuration(tmp_path):
    rows = compare([finished(tmp_path / "a", data="cats", seed=1), finished(tmp_path / "b", data="dogs", seed=2)])
    assert [row["settings"]["data"] for row in rows] == ["cats 000000000000", "dogs 000000000000"]


def test_backends_are_told_apart(tmp_path):
    one, other = finished(tmp_path / "a", seed=1), finished(tmp_path / "b", seed=1)
    other.write_environment(environment_of("mine") | {"backend": "jax"})
    assert [row["settings"] for row in compare([one, other])] == [{"backend": "tensorflow"}, {"backend": "jax"}]


def test_runs_of_two_tasks_are_compared(tmp_path):
    speech = get_recipe("speech", seed=1)
    other = finished(tmp_path / "b")
    write_json(other.folder / "recipe.json", speech.to_json())
    pictures, voices = compare([finished(tmp_path / "a", seed=1), other])
    assert "front_end" in voices["settings"]
    assert "front_end" not in pictures["settings"]
    assert "normalization" in pictures["settings"]


def test_one_run_does_not_count_twice(tmp_path):
    run = finished(tmp_path / "a", seed=1)
    with pytest.raises(RunError, match="are one run"):
        compare([run, run])
    with pytest.raises(RunError, match=r"a and .*b are one run: recipe, data, backend and seed are the same"):
        compare([run, finished(tmp_path / "b", seed=1)])


def test_two_trainings_do_not_share_a_folder(tmp_path):
    with Run.claim(tmp_path / "run", recipe()) as run:
        with pytest.raises(RunError, match="Another training is at work"), Run.claim(run.folder, recipe()):
            pass
        assert run.folder.exists(), "the folder belongs to the first"
    assert not run.folder.exists()  # what was claimed and not started leaves nothing


def test_a_folder_is_a_runs_when_its_emptying_is_killed(tmp_path, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    run = begin(tmp_path / "run", recipe())
    run.checkpoint.mkdir()
    (run.checkpoint / "state.json").write_text("{}")
    run.write_history([{"epoch": 1.0}])
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(run.folder, recipe(), overwrite=True)
    assert not (run.checkpoint / "state.json").exists(), "else --resume would take it for that of the new run"
    assert not run.history, "else --resume would take the checkpoint for one that somebody deleted"
    monkeypatch.undo()
    begin(run.folder, recipe(), overwrite=True)
    assert [path.name for path in run.folder.iterdir()] == ["recipe.json"]


def test_a_default_folder_is_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(default_run_folder, ["mnist"] * 20))
    assert len(set(folders)) == 20
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("taken", [lambda path: path.write_text("a file"), lambda path: path.symlink_to("nowhere")])
def test_a_default_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, taken):
    monkeypatch.chdir(tmp_path)
    taken(Path("runs"))
    with pytest.raises(StorageError, match=r"runs/mnist/.* could not be made: .*--run-dir"):
        default_run_folder("mnist")


def test_two_channels_are_refused():
    with pytest.raises(RecipeError, match="channels must be 1, 3, or 0"):
        recipe(channels=2)


def test_runs_on_validation_only_have_no_test_figures(tmp_path):
    (row,) = compare([finished(tmp_path / "a", seed=1), finished(tmp_path / "b", seed=2)])
    assert "test_accuracy" not in row
    assert row["validation_accuracy"]["mean"] == 0.5


def test_a_mean_is_over_the_seeds_that_are_named_or_absent(tmp_path):
    with_test, without = finished(tmp_path / "a", test=0.6, seed=1), finished(tmp_path / "b", seed=2)
    assert "test_accuracy" not in compare([without, with_test])[0]
    assert "test_accuracy" not in compare([with_test, without])[0]


def test_the_folder_of_all_rounds_of_bootstrapping_is_no_run(tmp_path):
    own = recipe(precision="float32")
    begin(tmp_path, own)
    (tmp_path / "round-table.txt").touch()
    (tmp_path / "round-up").mkdir()
    assert Run.open(tmp_path).recipe == own
    for number in (0, 2, 10):
        begin(tmp_path / f"round-{number}", own)
    with pytest.raises(RunError, match=r"holds the rounds of `lightcnn bootstrap`\. Name one, such as .*round-10\."):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="holds the rounds"):
        train(own, tmp_path, resume=True, quiet=True)
    assert Run.open(tmp_path / "round-2").recipe == own


def test_a_run_needs_a_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match=r"run is a file\. A run needs a folder"):
        begin(tmp_path / "run", recipe())


@pytest.mark.parametrize(
    ("changes", "lacking"), [({"backend": None}, "backend"), ({"data": {"name": "mine"}}, "data.data_dir, data.digest")]
)
def test_an_environment_that_lacks_something_is_damaged(tmp_path, changes, lacking):
    run = begin(tmp_path, recipe())
    content = environment_of() | changes
    (tmp_path / "environment.json").write_text(json.dumps({key: value for key, value in content.items() if value}))
    with pytest.raises(RunError, match=rf"environment\.json is damaged: it lacks .*{lacking}"):
        compare([run])


def test_an_unfinished_run_is_not_compared(tmp_path):
    done, begun = finished(tmp_path / "a", test=0.5), begin(tmp_path / "b", recipe())
    with pytest.raises(RunError, match=r"b has no environment.json: the run is not finished"):
        compare([done, begun])


def test_a_run_that_was_killed_before_it_was_measured_is_not_compared(tmp_path):
    run = begin(tmp_path, recipe())
    run.write_environment(environment_of())
    run.write_metrics({"train_seconds": 1.0, "parameters": 7})  # as training leaves it before the evaluation
    with pytest.raises(RunError, match=r"not finished, or its metrics.json is damaged: it lacks 'validation'"):
        compare([run])


@pytest.mark.parametrize("content", ["{}", '{"train_seconds": 1.0}', '{"validation": 3}'])
def test_damaged_metrics_are_an_error_of_ours(tmp_path, content):
    run = begin(tmp_path, recipe())
    run.write_environment(environment_of())
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"or its metrics.json is damaged: it lacks"):
        compare([run])
