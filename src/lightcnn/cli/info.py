"""The command that tells what there is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from lightcnn.cli.group import common, main
from lightcnn.cli.tables import print_table

__all__ = ["info"]

_MOST_LABELS = 20  # a network for faces may know thousands of people
# what the model file of a countermeasure or of a network for faces says besides
_MORE_FACTS = ("network", "sampling_rate", "score", "threshold", "threshold_from")


@main.command()
@click.argument("target", required=False)
@common
def info(target: str | None, quiet: bool) -> None:
    """Show recipes and versions, or a recipe, run or model.

    TARGET is the name of a recipe, a run folder or a model file (.keras, .onnx, .tflite, .xml).
    """
    from lightcnn.recipes import recipe_names

    if target is None:
        _print_overview(recipe_names())
    elif target in recipe_names():
        _print_recipe(target)
    elif Path(target).is_dir():
        _print_run(Path(target))
    elif target.endswith((".onnx", ".tflite", ".xml")):
        _print_artifact(Path(target))
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
    print_table(("", ""), [*rows, ("versions", versions)])


def _print_recipe(name: str) -> None:
    from lightcnn.recipes import describe_recipe, get_recipe

    for key, text in describe_recipe(name).items():
        click.echo(f"{key:<8} {text}")
    click.echo()
    print_table(("key", "value"), list(get_recipe(name).to_json().items()))


def _print_run(folder: Path) -> None:
    from lightcnn.runs import Run

    run = Run.open(folder)
    recipe, history = run.recipe, run.history
    rows: list[tuple[str, Any]] = [
        ("recipe", recipe.name),
        ("seed", recipe.seed),
        ("epochs", f"{len(history)} of {recipe.epochs}"),
    ]
    if not run.has_metrics:
        rows.append(("state", "not finished; go on with --resume"))
    else:
        environment, metrics = run.environment, run.metrics
        rows += [("data", environment["data"]["name"]), ("labels", _listed(environment["data"]["labels"]))]
        rows += [("parameters", f"{metrics['parameters']:,}"), ("seconds", f"{metrics['train_seconds']:.0f}")]
        for split in ("validation", "test"):
            if split in metrics:
                rate = metrics[split].get("eer")
                rows += [(f"{split} EER", f"{rate:.2%}")] if rate is not None else []
                if "accuracy" in metrics[split]:
                    rows.append((f"{split} accuracy", f"{metrics[split]['accuracy']:.2%}"))
        rows += [("processor", environment["processor"]), ("command", environment["command"])]
    print_table((str(run.folder), ""), rows)


def _print_model(path: Path) -> None:
    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.models import describe_layers, load_model, read_metadata

    model = load_model(path)
    parameters = ("parameters", f"{model.count_params():,}")
    print_table((str(path), ""), [*_facts(read_metadata(path), model.inputs), parameters])
    click.echo()
    rows = [(row["name"], row["class"], row["output"], f"{row['parameters']:,}") for row in describe_layers(model)]
    print_table(("layer", "kind", "output", "parameters"), rows)


def _print_artifact(path: Path) -> None:
    from lightcnn.backends import shape_text
    from lightcnn.runtimes import open_artifact

    artifact = open_artifact(path)
    made = artifact.metadata["artifact"]
    files = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    rows = [
        *_facts(artifact.metadata, artifact.inputs),
        ("output", shape_text(artifact.output)),
        ("format", made["form"]),
        ("precision", made["quantize"] or "float32"),
        ("size", f"{sum(file.stat().st_size for file in (path, *files)) / 1e6:.2f} MB"),
        ("written by", f"lightcnn {made['lightcnn']}"),
        ("made of", f"a .keras file with the SHA-256 {made['source_digest']}"),
    ]
    print_table((str(path), ""), rows)


def _facts(metadata: dict[str, Any], inputs: Iterable[Any]) -> list[tuple[str, Any]]:
    """Returns what a model file says of itself, whatever its format."""
    from lightcnn.backends import shape_text

    described = metadata.get("input") or {}
    kind = [str(described[key]) for key in ("dtype", "colour") if key in described]
    return [
        ("task", metadata.get("task")),
        ("recipe", metadata.get("recipe", "-")),
        ("data", metadata.get("dataset", "-")),
        ("labels", _listed(metadata.get("labels") or [])),
        ("input", " ".join(["; ".join(map(shape_text, inputs)), *kind])),
        *((key.replace("_", " "), metadata[key]) for key in _MORE_FACTS if key in metadata),
        *((key.replace("_", " "), value) for key, value in (metadata.get("alignment") or {}).items()),
    ]


def _listed(labels: list[str]) -> str:
    more = f", ... {len(labels):,} in all" if len(labels) > _MOST_LABELS else ""
    return ", ".join(map(str, labels[:_MOST_LABELS])) + more
