"""One file a task. Each is a `Recipe` whose docstring says where it comes from, what it costs and what it gave."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

from lightcnn.errors import RecipeError, nearest
from lightcnn.runs import Recipe

__all__ = ["describe_recipe", "get_recipe", "recipe_names"]


def recipe_names() -> list[str]:
    """Returns the names of all recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get_recipe(name: str, **values: Any) -> Recipe:
    """Returns a recipe, with some values changed.

    Args:
        name: Its name, as `lightcnn train` takes it.
        **values: New values of its keys.

    Raises:
        RecipeError: If there is no such recipe (the nearest is named) or key, or a value does not fit.

    Example:
    >>> get_recipe("mnist", epochs=2).epochs
    2
    """
    return Recipe.from_json({**_module(name).RECIPE.to_json(), **values})


def describe_recipe(name: str) -> dict[str, str]:
    """Returns what a recipe's docstring says: `summary`, and the paragraphs `source`, `cost`, `result`, `command`."""
    text = inspect.getdoc(_module(name)) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    facts = {"summary": paragraphs[0]}
    for paragraph in paragraphs[1:]:
        key, colon, value = paragraph.partition(": ")
        if colon:
            facts[key.lower()] = value
    return facts


def _module(name: str) -> Any:
    if name not in recipe_names():
        raise RecipeError(
            f"There is no recipe {name!r}.{nearest(name, recipe_names())} Known: {', '.join(recipe_names())}."
        )
    return import_module(f"{__name__}.{name}")
