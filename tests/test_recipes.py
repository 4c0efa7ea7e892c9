"""Every recipe is complete, and a recipe is found by its name alone."""

import dataclasses
import json

import pytest
from conftest import begin

from lightcnn.errors import RecipeError
from lightcnn.recipes import describe_recipe, get_recipe, recipe_names
from lightcnn.runs import FACES, IMAGES, SPEECH, Recipe, Run


def test_the_recipes():
    pictures = {
        "arrays",
        "cifar10",
        "cifar10_article",
        "cifar10_long",
        "cifar10_wide",
        "images",
        "mnist",
        "mnist_article",
        "mnist_long",
    }
    speech = {"asvspoof2017", "asvspoof2017_v1", "asvspoof2019_la", "asvspoof2019_pa", "speech"}
    assert {name for name in recipe_names() if get_recipe(name).task == IMAGES} == pictures
    assert {name for name in recipe_names() if get_recipe(name).task == SPEECH} == speech
    assert {name for name in recipe_names() if get_recipe(name).task == FACES} == {"faces"}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_named_as_its_file(name):
    assert get_recipe(name).name == name


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_its_run_folder(name, tmp_path):
    recipe = get_recipe(name, seed=5)
    run = begin(tmp_path, recipe)
    assert Run.open(tmp_path).recipe == recipe
    stored = json.loads((run.folder / "recipe.json").read_text())
    other = {IMAGES: {"front_end", "head", "noise"}, SPEECH: {"flip", "cutout", "image_size"},
             FACES: {"front_end", "noise", "max_shift", "batch_norm_momentum"}}[recipe.task]  # fmt: skip
    known = {field.name for field in dataclasses.fields(Recipe)}
    assert set(stored) <= known - other, "a recipe is stored with its task's keys"
    assert {key: getattr(recipe, key) for key in stored} == {**stored, "freeze": tuple(stored["freeze"])}
    assert all(getattr(recipe, field.name) == field.default for field in dataclasses.fields(Recipe)
               if field.name not in stored)  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_source_cost_result_and_command(name):
    facts = describe_recipe(name)
    assert {"summary", "source", "cost", "result", "command"} <= set(facts)
    assert all(facts.values())
    assert facts["command"].startswith(f"lightcnn train {name}")


@pytest.mark.parametrize("name", recipe_names())
def test_no_fact_is_left_open(name):
    assert [key for key, text in describe_recipe(name).items() if "@@" in text] == []


def test_the_articles_settings():
    for name, batch_size, epochs, patience in (("mnist_article", 256, 10, 3), ("cifar10_article", 64, 100, 5)):
        recipe = get_recipe(name)
        assert (recipe.batch_size, recipe.epochs, recipe.patience) == (batch_size, epochs, patience)
        assert (recipe.optimizer, recipe.schedule, recipe.learning_rate) == ("adam", "constant", 1e-3)
        assert (recipe.dropout, recipe.normalization, recipe.validation_fraction) == (0.75, "unit", 0.2)
        assert (recipe.max_shift, recipe.flip, recipe.cutout, recipe.label_smoothing) == (0, False, 0, 0.0)
        assert recipe.precision == "float32"


def test_the_settings_of_the_light_cnns_authors():
    recipe = get_recipe("faces")
    assert (recipe.model, recipe.epochs, recipe.batch_size, recipe.dropout) == ("light_cnn_9", 80, 128, 0.5)
    assert (recipe.optimizer, recipe.momentum, recipe.learning_rate, recipe.weight_decay) == ("sgd", 0.9, 0.01, 1e-4)
    assert (recipe.schedule, recipe.step_epochs, recipe.step_factor) == ("steps", 10, 0.457305051927326)
    assert (recipe.classifier_multiplier, recipe.bias_multiplier, recipe.clip_norm) == (10, 2, 0)
    assert (recipe.image_size, recipe.crop_size, recipe.channels, recipe.flip) == (144, 128, 0, True)
    assert (recipe.head, recipe.label_smoothing) == ("softmax", 0)


def test_digits_are_not_mirrored():
    assert not get_recipe("mnist").flip
    assert not get_recipe("arrays").flip


def test_values_are_changed_in_a_copy():
    before = get_recipe("mnist")
    assert get_recipe("mnist", epochs=2, flip=True) == dataclasses.replace(before, epochs=2, flip=True)
    assert get_recipe("mnist") == before


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe 'mnst'. Did you mean 'mnist'\? Known: arrays, asvspoof2017"):
        get_recipe("mnst")
    with pytest.raises(RecipeError, match="no recipe"):
        describe_recipe("os")


@pytest.mark.parametrize("key", ["epoch", "to_json", "__class__"])
def test_an_unknown_key_is_refused(key):
    with pytest.raises(RecipeError, match=f"no key '{key}'"):
        get_recipe("mnist", **{key: 1})


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(RecipeError, match=r"Did you mean 'epochs'\?"):
        get_recipe("mnist", epoch=1)


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(RecipeError, match="epochs must be a whole number"):
        get_recipe("mnist", epochs="2")


def test_a_key_of_another_task_is_refused():
    with pytest.raises(
        RecipeError,
        match=r"flip belongs to image classification and face representation, and speech is a recipe of voice",
    ):
        get_recipe("speech", flip=True)
    with pytest.raises(RecipeError, match="front_end belongs to voice anti-spoofing"):
        get_recipe("mnist", front_end="lfcc_asvspoof2019")
    with pytest.raises(RecipeError, match="model must be one of lcnn for image classification"):
        get_recipe("mnist", model="stc2019")


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        ("mnist_article", {"weight_decay": 0.1}),
        ("mnist", {"image_size": 32}),
        ("cifar10", {"channels": 1}),
        ("mnist", {"test_fraction": 0.2}),
        ("asvspoof2019_la", {"pad": "zero"}),
        ("asvspoof2019_la", {"balanced": True, "head": "oc_softmax"}),
    ],
)
def test_a_key_without_effect_is_refused(recipe, values):
    with pytest.raises(RecipeError, match="has no effect with"):
        get_recipe(recipe, **values)
