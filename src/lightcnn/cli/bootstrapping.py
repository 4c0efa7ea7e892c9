"""The command that cleans noisy labels."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from lightcnn.cli.group import PATH, common, main
from lightcnn.cli.runs import began, check_start, end_interrupted, training_options, values_of
from lightcnn.cli.tables import print_table

__all__ = ["bootstrap"]

_CHOICE = click.Choice(["keep", "drop"])


@main.command()
@click.argument("recipe")
@click.option("--run-dir", type=PATH, help="Folder for all rounds.  [default: runs/RECIPE-bootstrap/TIME]")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="What is sure.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="How often to clean and retrain.")
@click.option("--agreeing", type=_CHOICE, default="keep", show_default=True, help="Unsure, but as labelled.")
@click.option("--disagreeing", type=_CHOICE, default="drop", show_default=True, help="Unsure, and not as labelled.")
@click.option("--from-cleaned", is_flag=True, help="Later rounds decide on what the round before has left.")
@click.option("--keep-weights", is_flag=True, help="Later rounds go on from the weights of the round before.")
@training_options
@common
def bootstrap(
    recipe: str,
    data_dir: Path | None,
    run_dir: Path | None,
    from_cleaned: bool,
    keep_weights: bool,
    settings: tuple[str, ...],
    seed: int | None,
    resume: bool,
    **options: Any,
) -> None:
    """Train, let the network clean the labels, train again.

    RECIPE is one for pictures or faces. A label that is predicted stays; another one that is predicted with more than
    --threshold replaces it; other examples are dropped. With --resume, finished rounds are not trained again.
    """
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import default_run_folder

    check_start(run_dir, resume, options["overwrite"])
    resolved = get_recipe(recipe, **values_of(settings, seed))

    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.bootstrapping import bootstrap as bootstrap_recipe
    from lightcnn.bootstrapping import check_recipe

    check_recipe(resolved)  # before there is a folder
    folder, command = run_dir or default_run_folder(f"{recipe}-bootstrap"), shlex.join(["lightcnn", *sys.argv[1:]])
    now = datetime.now().astimezone()
    try:
        rows = bootstrap_recipe(
            resolved,
            folder,
            data_dir,
            from_original=not from_cleaned,
            new_weights=not keep_weights,
            resume=resume,
            command=command,
            **options,
        )
    except KeyboardInterrupt:
        # Begun, the folder has a recipe and no round of an earlier command.
        first = folder / "round-0"
        begun = resume or ((folder / "recipe.json").exists() and (not first.exists() or began(first, now)))
        end_interrupted(folder, begun)
    figures = [key for key in rows[0] if key.endswith(("_accuracy", "_eer"))]
    head = ("round", "examples", "kept", "relabelled", "dropped", *(f"{_heading(key)}, %" for key in figures))
    print_table(head, [[_cell(row[key]) for key in (*head[:5], *figures)] for row in rows])


def _heading(figure: str) -> str:
    return figure.replace("_eer", " EER").replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.2f}"
