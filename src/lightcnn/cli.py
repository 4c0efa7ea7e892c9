"""The command `lightcnn`: every command calls a public function of the same name."""

from __future__ import annotations

import functools
import os
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lightcnn import __version__
from lightcnn.errors import LightCNNError, RecipeError

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
_MOST_CHANGES = 5  # kinds of conversion that are told one by one


class _Commands(click.Group):
    """Turns what goes wrong into a message and an exit code; a traceback only with --debug."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            kwargs["standalone_mode"] = False
            sys.exit(super().main(*args, **kwargs) or 0)
        except click.exceptions.Abort as error:  # click's name for Ctrl-C, and for an EOFError
            if not isinstance(error.__cause__, KeyboardInterrupt):
                sys.exit(_failed(error.__cause__ or error))
            click.echo("Interrupted.", err=True)
            sys.exit(130)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except BrokenPipeError:  # the reader of our output went away: `lightcnn predict ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:
            sys.exit(_failed(error))


def _failed(error: BaseException) -> int:
    """Says what went wrong and returns the exit code."""
    if "--debug" in sys.argv[1:]:
        traceback.print_exception(error)
    elif isinstance(error, LightCNNError):
        click.echo(f"Error: {error}", err=True)
    else:
        click.echo(f"Error: {type(error).__name__}: {error}\nRun it again with --debug to see where.", err=True)
    return 2 if isinstance(error, RecipeError) else 1


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --quiet and --debug, which every command has."""

    @click.option("--quiet", is_flag=True, help="Show no progress, only what needs attention.")
    @click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
    @functools.wraps(command)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> Any:
        del debug  # read from the command line by `_failed`, since it counts before it is parsed too
        return command(*args, **kwargs)

    return wrapped


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lightcnn")
def main() -> None:
    """Light CNNs: train, evaluate and use small networks with the Max-Feature-Map activation."""


@main.command()
@click.argument("recipe")
@click.option("--data-dir", type=_PATH, help="Folder (or .npz file) with the data.")
@click.option("--run-dir", type=_PATH, help="Folder for the run.  [default: runs/RECIPE/TIME]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--seeds", metavar="1,2,3", help="Train once with each of these seeds and compare.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir.")
@click.option("--overwrite", is_flag=True, help="Delete the run in --run-dir first.")
@click.option("--validation-only", is_flag=True, help="Leave the test split untouched.")
@click.option("--skip-bad-files", is_flag=True, help="Train without the files that cannot be read.")
@_common
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
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import Run, default_run_folder, parse_settings

    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run and --overwrite deletes it: choose one.")
    if resume and run_dir is None:
        raise click.UsageError("--resume needs --run-dir: the folder of the run to go on with.")
    if seed is not None and seeds is not None:
        raise click.UsageError("--seed and --seeds exclude each other.")
    values = parse_settings(settings)
    if seed is not None:
        values["seed"] = seed
    several = [] if seeds is None else _parse_seeds(seeds)
    first = get_recipe(recipe, **values)
    recipes = [replace(first, seed=one) for one in several] or [first]

    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.training import train as train_recipe

    folder, command = run_dir or default_run_folder(recipe), shlex.join(["lightcnn", *sys.argv[1:]])
    runs = []
    folders = [folder / f"seed-{one}" for one in several] or [folder]
    if not resume:
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
            begun = resume or _began(own_folder, command)
            click.echo(
                f"Interrupted. {'Go on with: ' + _resuming(folder) if begun else 'Nothing was begun.'}", err=True
            )
            sys.exit(130)
        runs.append(run)
    if several:
        _print_comparison(runs)


def _began(folder: Path, command: str) -> bool:
    """Tells whether this command got as far as training; before that, an older run may stand in the folder."""
    from lightcnn.errors import RunError
    from lightcnn.runs import Run

    try:
        return bool(Run(folder).environment["command"] == command)
    except (RunError, KeyError):
        return False


def _resuming(folder: Path) -> str:
    """Returns the command that goes on with the run that this command began."""
    arguments, kept = iter(sys.argv[1:]), []
    for argument in arguments:
        if argument == "--run-dir":
            next(arguments, None)
        elif argument not in ("--resume", "--overwrite") and not argument.startswith("--run-dir="):
            kept.append(argument)
    return shlex.join(["lightcnn", *kept, "--run-dir", str(folder), "--resume"])


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
@click.argument("run", type=_PATH)
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--data-dir", type=_PATH, help="Where the data are.  [default: where they were in training]")
@_common
def evaluate(run: Path, split: str, data_dir: Path | None, quiet: bool) -> None:
    """Measure a run's best model on a split.

    Writes the scores and the report of RUN anew.
    """
    from lightcnn.runs import Run

    opened = Run.open(run)
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.evaluation import evaluate as evaluate_run

    figures = evaluate_run(opened, split, data_dir, quiet=quiet)
    single = {key: value for key, value in figures.items() if not isinstance(value, list)}
    rows = [(key.replace("_", " "), _figure(key, value)) for key, value in single.items()]
    _print_table((split, ""), rows)
    if not quiet:
        click.echo(f"Report: {opened.report}", err=True)


def _figure(key: str, value: float) -> str:
    if key == "loss":
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"


@main.command()
@click.argument("runs", nargs=-1, required=True, type=_PATH)
@_common
def compare(runs: tuple[Path, ...], quiet: bool) -> None:
    """Average runs over their seeds, a row a configuration."""
    from lightcnn.runs import Run

    _print_comparison([Run.open(folder) for folder in runs])


def _print_comparison(runs: list[Any]) -> None:
    from lightcnn.runs import compare as compare_runs

    rows = []
    for row in compare_runs(runs):
        settings = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
        cells = [f"{row['recipe']} {settings}".strip(), str(len(row["seeds"]))]
        for key, factor, digits in (
            ("validation_accuracy", 100, 2),
            ("test_accuracy", 100, 2),
            ("test_loss", 1, 4),
            ("train_seconds", 1, 0),
        ):
            value = row.get(key)
            cells.append("" if value is None else _mean_and_deviation(value, factor, digits))
        rows.append(cells)
    _print_table(("configuration", "seeds", "validation accuracy, %", "test accuracy, %", "test loss", "seconds"), rows)


def _mean_and_deviation(value: dict[str, Any], factor: float, digits: int) -> str:
    deviation = "" if value["std"] is None else f" ± {factor * value['std']:.{digits}f}"
    return f"{factor * value['mean']:.{digits}f}{deviation}"


@main.command()
@click.argument("model", type=_PATH)
@click.argument("files", nargs=-1)
@click.option("--files-from", type=click.File(encoding="utf-8"), help="List with one file a line; - for stdin.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--output", type=_PATH, help="Write to this file instead of stdout.")
@_common
def predict(model: Path, files: tuple[str, ...], files_from: Any, form: str, output: Path | None, quiet: bool) -> None:
    """Name what is in pictures.

    MODEL is a run folder or a .keras file, FILES are pictures or folders of pictures.
    """
    listed = [line.rstrip("\n") for line in files_from if line.strip()] if files_from else []
    if not (files or listed):
        raise click.UsageError("Name at least one picture, a folder, or a list with --files-from.")
    pictures, failures = _find_pictures([*files, *listed])

    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.inference import Predictor
    from lightcnn.progress import ProgressBar

    predictor = Predictor.load(model)
    rows, changes = [], Counter[str]()
    with ProgressBar(quiet) as bar:
        for row in bar.track(predictor.predict(pictures), len(pictures), "Looking"):
            if "error" in row:
                failures += 1
                click.echo(f"{row['file']}: {row['error']}", err=True)
                continue
            changes.update([row.pop("changes")])
            rows.append(row)
        del changes[""]
        for change, count in changes.most_common(_MOST_CHANGES):
            bar.tell(f"Converted {count} picture{'s' * (count > 1)}: {change}")
        if len(changes) > _MOST_CHANGES:
            bar.tell(f"... and pictures of {len(changes) - _MOST_CHANGES} other sizes")
    text = _FORMATS[form](rows)
    if output is None:
        click.echo(text, nl=False)
    else:
        from lightcnn.files import write_text

        write_text(output, text)
    if failures:
        click.echo(f"{failures} of {failures + len(rows)} files could not be read.", err=True)
        sys.exit(1)


def _find_pictures(names: list[str]) -> tuple[list[str], int]:
    """Lists the pictures in folders, and other names as they were given; counts the folders that hold none."""
    from lightcnn.decoding import find_pictures

    pictures, failures = [], 0
    for name in names:
        if not Path(name).is_dir():
            pictures.append(name)
            continue
        try:
            pictures += [f"{name.rstrip('/')}/{path.relative_to(name)}" for path in find_pictures([Path(name)])]
        except LightCNNError as error:
            failures += 1
            click.echo(str(error), err=True)
    return pictures, failures


def _as_json(rows: list[dict[str, Any]]) -> str:
    import json

    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _as_csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "probability"])
    writer.writerows([row["file"], row["label"], f"{row['probability']:.6g}"] for row in rows)
    return text.getvalue()


def _as_table(rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        others = ", ".join(f"{other['label']} {other['probability']:.1%}" for other in row["top"][1:3])
        cells.append((row["file"], row["label"], f"{row['probability']:.1%}", others))
    return _aligned(("file", "label", "probability", "next"), cells)


_FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}


@main.command()
@click.argument("target", required=False)
@_common
def info(target: str | None, quiet: bool) -> None:
    """Show recipes and versions, or a recipe, run or model.

    TARGET is the name of a recipe, a run folder or a .keras file.
    """
    from lightcnn.recipes import recipe_names

    if target is None:
        _print_overview(recipe_names())
    elif target in recipe_names():
        _print_recipe(target)
    elif Path(target).is_dir():
        _print_run(Path(target))
    elif Path(target).exists() or target.endswith(".keras"):
        _print_model(Path(target))
    else:
        from lightcnn.errors import nearest

        raise click.UsageError(f"{target!r} is no recipe, run folder or model file.{nearest(target, recipe_names())}")


def _print_overview(names: list[str]) -> None:
    from lightcnn.backends import describe_environment
    from lightcnn.recipes import describe_recipe

    for name in names:
        facts = describe_recipe(name)
        click.echo(f"{name}: {facts['summary']}")
        for key in ("source", "cost", "result"):
            click.echo(f"    {key:<7} {facts[key]}")
    environment = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in environment.pop("versions").items())
    click.echo()
    rows = [(key.replace("_", " "), value) for key, value in environment.items()]
    _print_table(("", ""), [*rows, ("versions", versions)])


def _print_recipe(name: str) -> None:
    from lightcnn.recipes import describe_recipe, get_recipe

    for key, text in describe_recipe(name).items():
        click.echo(f"{key:<8} {text}")
    click.echo()
    _print_table(("key", "value"), list(get_recipe(name).to_json().items()))


def _print_run(folder: Path) -> None:
    from lightcnn.errors import RunError
    from lightcnn.runs import Run

    run = Run.open(folder)
    recipe, history = run.recipe, run.history
    rows: list[tuple[str, Any]] = [
        ("recipe", recipe.name),
        ("seed", recipe.seed),
        ("epochs", f"{len(history)} of {recipe.epochs}"),
    ]
    try:
        environment, metrics = run.environment, run.metrics
    except RunError:
        rows.append(("state", "not finished; go on with --resume"))
    else:
        rows += [("data", environment["data"]["name"]), ("labels", ", ".join(environment["data"]["labels"]))]
        rows += [("parameters", f"{metrics['parameters']:,}"), ("seconds", f"{metrics['train_seconds']:.0f}")]
        for split in ("validation", "test"):
            if split in metrics:
                rows.append((f"{split} accuracy", f"{metrics[split]['accuracy']:.2%}"))
        rows += [("processor", environment["processor"]), ("command", environment["command"])]
    _print_table((str(run.folder), ""), rows)


def _print_model(path: Path) -> None:
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.models import load_model, read_metadata

    metadata, model = read_metadata(path), load_model(path)
    facts = [
        ("task", metadata.get("task")),
        ("recipe", metadata.get("recipe")),
        ("data", metadata.get("dataset")),
        ("labels", ", ".join(map(str, metadata.get("labels") or []))),
        ("input", " x ".join(map(str, model.input_shape[1:])) + f" {metadata.get('input', {}).get('dtype', '')}"),
        ("parameters", f"{model.count_params():,}"),
    ]
    _print_table((str(path), ""), facts)
    click.echo()
    rows = [
        (layer.name, type(layer).__name__, " x ".join(map(str, layer.output.shape[1:])), f"{layer.count_params():,}")
        for layer in model.layers
    ]
    _print_table(("layer", "kind", "output", "parameters"), rows)


def _print_table(head: tuple[str, ...], rows: list[Any]) -> None:
    click.echo(_aligned(head, rows), nl=False)


def _aligned(head: tuple[str, ...], rows: list[Any]) -> str:
    """Sets cells in columns as wide as their widest."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
