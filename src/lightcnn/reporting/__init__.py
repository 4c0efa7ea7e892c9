"""One HTML file that shows a run: no other file and no network is needed to open it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from lightcnn.reporting import faces, images, speech
from lightcnn.reporting.page import BLUE, ORANGE, new_figure, plot, quiet_axes, section, table, tiles, write_page
from lightcnn.runs import FACES, IMAGES, SPEECH, Run

__all__ = ["write_report"]

# what a task shows: its headline, its pictures, and what its learning curves mean
_TASKS: dict[str, Any] = {IMAGES: images, SPEECH: speech, FACES: faces}


def write_report(path: Path, run: Run, data: Any, split: str, scores: Any, figures: dict[str, Any]) -> None:
    """Writes a report: figures, curves, what the task has to show, layers, and how the run was made.

    Args:
        path: Where to write.
        run: The run.
        data: The data that it was evaluated on.
        split: The name of the split that `scores` belong to.
        scores: Pictures: probabilities `(images, classes)`. Speech: scores `(utterances,)`.
            Faces: `lightcnn.evaluation.faces.PairScores`.
        figures: What `metrics.json` holds, with the figures of that split.
    """
    task = _TASKS[run.recipe.task]
    shown = task.headline(figures[split], split)
    if split != "validation" and "validation" in figures:
        shown[1:1] = task.headline(figures["validation"], "validation, which chose the epoch")[:1]
    shown += [
        (f"{figures['parameters']:,}", "parameters"),
        (f"{figures['train_seconds']:.0f} s", f"training, {len(run.history)} epochs"),
    ]
    lead = f"{data.name}, from {data.source}. Run folder: {run.folder}"
    sections = [
        f'<h1>{html.escape(run.recipe.name)}, seed {run.recipe.seed}</h1><p class="lead">{html.escape(lead)}</p>',
        tiles(shown),
        section("Learning curves", _curves(run.history, task.CURVES_NOTE)),
        *task.sections(data, split, scores, figures[split]),
        section("Layers", _layers(run.environment["layers"], figures["parameters"])),
        section("How it was made", _origin(run)),
    ]
    write_page(path, f"{run.recipe.name}: {run.folder.name}", sections)


def _curves(history: list[dict[str, float]], note: str) -> str:
    epochs = [row["epoch"] for row in history]
    figure = new_figure(9.5, 3.2)
    for axes, key, title, factor in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy, %"), (1, 100), strict=True
    ):
        marker = "o" if len(epochs) < 40 else None
        for name, color, label in ((f"val_{key}", BLUE, "validation"), (key, ORANGE, "training")):
            axes.plot(epochs, [factor * row[name] for row in history], color=color, marker=marker, ms=3.5, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, loc="upper right" if key == "loss" else "lower right")
        quiet_axes(axes)
    figure.tight_layout()
    return plot(figure, "loss and accuracy by epoch") + f"<p>{html.escape(note)}</p>"


def _layers(layers: list[dict[str, Any]], parameters: int) -> str:
    rows = [(layer["name"], layer["class"], layer["output"], f"{layer['parameters']:,}") for layer in layers]
    return table(("layer", "kind", "output shape", "parameters"), [*rows, ("total", "", "", f"{parameters:,}")])


def _origin(run: Run) -> str:
    environment = run.environment
    data = environment["data"]
    facts = [
        ("command", environment["command"]),
        ("started", environment["started"]),
        ("data", f"{data['name']}: {data['source']}"),
        ("sizes", ", ".join(f"{name} {count:,}" for name, count in data["sizes"].items())),
        ("skipped files", str(len(data["skipped"]))),
        ("processor", f"{environment['processor']}, {environment['threads']} threads"),
        ("software", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())),
        ("python", environment["python"]),
        *((f"note {index}", note) for index, note in enumerate(environment["notes"], start=1)),
    ]
    recipe = [(key, str(value)) for key, value in run.recipe.to_json().items()]
    return table(("", ""), facts) + "<h3>Recipe</h3>" + table(("key", "value"), recipe)
