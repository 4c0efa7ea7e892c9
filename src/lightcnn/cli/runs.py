"""The commands that make runs and measure them."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from lightcnn.cli.group import OUTPUT_FILE, PATH, common, main
from lightcnn.cli.tables import print_table

__all__ = ["began", "check_start", "compare", "end_interrupted", "evaluate", "train", "training_options", "values_of"]


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that all commands have which train."""
    for option in (
        click.option(
            "--skip-bad-files", is_flag=True, help="Train without bad files; of speech, missing or empty ones."
        ),
        click.option("--validation-only", is_flag=True, help="Leave the test split untouched."),
        click.option("--overwrite", is_flag=True, help="Delete what is in --run-dir first."),
        click.option("--resume", is_flag=True, help="Go on in --run-dir with what is not finished."),
        click.option("--seed", type=int, help="Seed of everything random."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."),
        click.option("--data-dir", type=PATH, help="Folder, file or list with the data."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("recipe")
@click.option("--run-dir", type=PATH, help="Folder for the run.  [default: runs/RECIPE/TIME]")
@click.option("--seeds", metavar="1,2,3", help="Train once with each of these seeds and compare.")
@training_options
@common
def train(
    recipe: str,
    data_dir: Path | None,
    run_dir: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    seeds: str | None,
    resume: bool,
    overwrite: bool,
    validation_only: bool,
    skip_bad_files: bool,
    quiet: bool,
) -> None:
    """Train a recipe into a run folder with its report.

    RECIPE is one of those that `lightcnn info` lists.
    """
    from lightcnn.errors import BadFilesError
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import Run, default_run_folder

    check_start(run_dir, resume, overwrite)
    if seed is not None and seeds is not None:
        raise click.UsageError("--seed and --seeds exclude each other.")
    values = values_of(settings, seed)
    if "seed" in values and seeds is not None:
        raise click.UsageError("--set seed=... and --seeds exclude each other.")
    several = [] if seeds is None else _parse_seeds(seeds)
    first = get_recipe(recipe, **values)
    recipes = [replace(first, seed=one) for one in several] or [first]

    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.training import train as train_recipe

    folder, command = run_dir or default_run_folder(recipe), shlex.join(["lightcnn", *sys.argv[1:]])
    runs: list[Run] = []
    failure: Exception | None = None
    now = datetime.now().astimezone()
    folders = [folder / f"seed-{one}" for one in several] or [folder]
    try:
        if several and not resume:
            for own_folder, resolved in zip(folders, recipes, strict=True):
                with Run.claim(own_folder, resolved, overwrite=overwrite):
                    pass  # the third seed's folder is not found in use after two trainings
        for own_folder, resolved in zip(folders, recipes, strict=True):
            try:
                run = train_recipe(
                    resolved,
                    own_folder,
                    data_dir,
                    # of several seeds, the one that was interrupted goes on and the later ones start
                    resume=resume and (not several or (own_folder / "recipe.json").exists()),
                    overwrite=overwrite,
                    validation_only=validation_only,
                    skip_bad_files=skip_bad_files,
                    quiet=quiet,
                    command=command,
                )
            except KeyboardInterrupt:
                end_interrupted(folder, resume or bool(runs) or began(own_folder, now))
            except BadFilesError as error:
                run = Run(own_folder)
                finished = run.has_metrics and (resume or began(own_folder, now))
                if not finished or "test" in run.metrics:
                    raise
                failure = failure or error  # it kept only the test split from being measured: the next seed's turn
            runs.append(run)
    finally:
        if several:
            with contextlib.suppress(OSError):  # unless it holds a run
                folder.rmdir()
    if several:
        _print_comparison(runs)
    if failure is not None:
        raise failure


def check_start(run_dir: Path | None, resume: bool, overwrite: bool) -> None:
    """Raises `UsageError` for options of a training's folder that exclude each other."""
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run and --overwrite deletes it: choose one.")
    if resume and run_dir is None:
        raise click.UsageError("--resume needs --run-dir: the folder of the run to go on with.")


def values_of(settings: tuple[str, ...], seed: int | None) -> dict[str, Any]:
    """Returns what `--set` and `--seed` change of a recipe."""
    from lightcnn.runs import parse_settings

    values = parse_settings(settings)
    if "seed" in values and seed is not None:
        raise click.UsageError("--set seed=... and --seed exclude each other.")
    return values if seed is None else values | {"seed": seed}


def began(folder: Path, since: datetime) -> bool:
    """Tells whether a training began in a folder since then; before, an older one may stand there."""
    from lightcnn.errors import RunError
    from lightcnn.runs import Run

    try:
        return datetime.fromisoformat(Run(folder).environment["started"]) >= since.replace(microsecond=0)
    except (RunError, KeyError, TypeError, ValueError):
        return False


def end_interrupted(folder: Path, begun: bool) -> NoReturn:
    """Ends the process after Ctrl-C, with the command that goes on with what this one has begun."""
    if not begun:
        click.echo("Interrupted. Nothing was begun.", err=True)
        sys.exit(130)
    arguments, kept = iter(sys.argv[1:]), []
    for argument in arguments:
        if argument == "--run-dir":
            next(arguments, None)
        elif argument not in ("--resume", "--overwrite") and not argument.startswith("--run-dir="):
            kept.append(argument)
    going_on = shlex.join(["lightcnn", *kept, "--run-dir", str(folder), "--resume"])
    click.echo(f"Interrupted. Go on with: {going_on}", err=True)
    sys.exit(130)


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"whole numbers separated by commas expected, received {text!r}.", param_hint="--seeds"
        ) from None
    if len(set(seeds)) != len(seeds):
        raise click.BadParameter(f"a seed stands twice in {text!r}.", param_hint="--seeds")
    return seeds


@main.command()
@click.argument("run", type=PATH)
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--data-dir", type=PATH, help="Where the data are.  [default: where they were in training]")
@click.option("--submission", type=OUTPUT_FILE, help="Speech: write the scores as the corpus' challenge asks for them.")
@common
def evaluate(run: Path, split: str, data_dir: Path | None, submission: Path | None, quiet: bool) -> None:
    """Measure a run's best model on a split.

    Writes the scores and the report of RUN anew.
    """
    from lightcnn.runs import Run

    opened = Run.open(run)
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.evaluation import evaluate as evaluate_run

    figures = evaluate_run(opened, split, data_dir, submission=submission, quiet=quiet)
    rows = []
    for key, value in figures.items():
        if isinstance(value, dict):  # rates of groups
            rows += [(f"EER {key.replace('_', ' ')} {group}", _figure("eer", rate)) for group, rate in value.items()]
        elif not isinstance(value, list):
            rows.append((key.replace("_", " "), _figure(key, value)))
    print_table((split, ""), rows)


# figures that are no shares
_NO_SHARES = ("loss", "cllr", "min_cllr", "min_dcf", "act_dcf", "min_tdcf", "min_tdcf_legacy", "threshold")


def _figure(key: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if key in _NO_SHARES or key.endswith("threshold"):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@common
def compare(runs: tuple[Path, ...], quiet: bool) -> None:
    """Average runs over their seeds, a row a configuration."""
    from lightcnn.runs import Run

    _print_comparison([Run.open(folder) for folder in runs])


def _print_comparison(runs: list[Any]) -> None:
    from lightcnn.runs import compare as compare_runs

    compared = compare_runs(runs)
    columns = [column for column in _COLUMNS if any(column[0] in row for row in compared)]
    rows = []
    for row in compared:
        settings = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
        cells = [f"{row['recipe']} {settings}".strip(), str(len(row["seeds"]))]
        for key, _, factor, digits in columns:
            cells.append(_mean_and_deviation(row[key], factor, digits) if key in row else "")
        rows.append(cells)
    print_table(("configuration", "seeds", *(name for _, name, _, _ in columns)), rows)


# figure, heading, factor, digits
_COLUMNS = (
    ("validation_accuracy", "validation accuracy, %", 100, 2),
    ("test_accuracy", "test accuracy, %", 100, 2),
    ("test_loss", "test loss", 1, 4),
    ("validation_eer", "validation EER, %", 100, 2),
    ("test_eer", "test EER, %", 100, 2),
    ("test_tar_at_far_1e-2", "test TAR, % (FAR 1 %)", 100, 2),
    ("test_min_dcf", "test min DCF", 1, 4),
    ("test_min_tdcf", "test min t-DCF", 1, 4),
    ("train_seconds", "seconds", 1, 0),
)


def _mean_and_deviation(value: dict[str, Any], factor: float, digits: int) -> str:
    deviation = "" if value["std"] is None else f" ± {factor * value['std']:.{digits}f}"
    return f"{factor * value['mean']:.{digits}f}{deviation}"
