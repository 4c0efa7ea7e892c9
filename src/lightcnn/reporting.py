"""One HTML file that shows a run: no other file and no network is needed to open it."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lightcnn import metrics
from lightcnn.datasets import ImageDataset, Split
from lightcnn.files import write_text
from lightcnn.runs import Run

__all__ = ["write_report"]

_BLUE, _ORANGE, _GREY = "#2563a8", "#c2571a", "#8a8f98"
_WORST = 24
_MOST_CLASSES_WITH_NUMBERS = 20

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2025; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid #d9dde2; padding-bottom: .2rem; }
p.lead { color: #555c66; margin-top: 0; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.figure { border: 1px solid #d9dde2; border-radius: 6px; padding: .5rem .9rem; }
.figure b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figure span { color: #555c66; font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { border-bottom: 1px solid #d9dde2; font-weight: 600; }
td.number, th.number { text-align: right; }
img.plot { max-width: 100%; height: auto; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem; }
.mistakes figure { margin: 0; font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; }
.mistakes img { width: 100%; image-rendering: pixelated; border: 1px solid #d9dde2; border-radius: 4px; }
.mistakes figcaption span { color: #555c66; }
"""


def write_report(
    path: Path,
    run: Run,
    data: ImageDataset,
    split_name: str,
    probabilities: NDArray[np.float32],
    figures: dict[str, Any],
) -> None:
    """Writes a report: figures, curves, confusions, worst mistakes, layers, and how the run was made.

    Args:
        path: Where to write.
        run: The run.
        data: The data that it was evaluated on.
        split_name: The split that `probabilities` belong to.
        probabilities: `(images, classes)`.
        figures: What `metrics.json` holds, with the figures of that split.
    """
    split, recipe = data.split(split_name), run.recipe
    sections = [
        _headline(run, data, split_name, figures),
        _section("Learning curves", _curves(run.history)),
        _section(f"Confusion matrix ({split_name})", _confusion(figures[split_name]["confusion_matrix"], data.labels)),
        _section("Per class", _per_class(figures[split_name]["per_class"])),
        _section("Calibration", _calibration(probabilities, split.labels)),
        _section(f"Worst mistakes ({split_name})", _mistakes(split, probabilities, data.labels)),
        _section("Layers", _layers(run.environment["layers"], figures["parameters"])),
        _section("How it was made", _origin(run)),
    ]
    title = html.escape(f"{recipe.name}: {run.folder.name}")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(sections)
        + "</body></html>\n"
    )
    write_text(path, page)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def _headline(run: Run, data: ImageDataset, split_name: str, figures: dict[str, Any]) -> str:
    own = figures[split_name]
    shown = [
        (f"{own['accuracy']:.2%}", f"accuracy on {split_name}, {own['images']:,} pictures"),
        (f"{own['loss']:.4f}", f"loss on {split_name}"),
        (f"{own['expected_calibration_error']:.2%}", "calibration error"),
        *((f"{own[f'top_{k}_accuracy']:.2%}", f"top-{k} accuracy") for k in (2, 5) if f"top_{k}_accuracy" in own),
        (f"{figures['parameters']:,}", "parameters"),
        (f"{figures['train_seconds']:.0f} s", f"training, {len(run.history)} epochs"),
    ]
    if split_name != "validation" and "validation" in figures:
        shown.insert(1, (f"{figures['validation']['accuracy']:.2%}", "accuracy on validation, which chose the epoch"))
    cells = "".join(
        f'<div class="figure"><b>{value}</b><span>{html.escape(text)}</span></div>' for value, text in shown
    )
    lead = f"{data.name}, from {data.source}. Run folder: {run.folder}"
    return (
        f'<h1>{html.escape(run.recipe.name)}, seed {run.recipe.seed}</h1><p class="lead">{html.escape(lead)}</p>'
        f'<div class="figures">{cells}</div>'
    )


# ----------------------------------------------------------------------------------------------------------- plots


def _plot(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    # Text stays text: the browser has the letters that Matplotlib's own font lacks. What is laid out without them is
    # a little off, which is no news for the user.
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    picture = buffer.getvalue().replace(b"'DejaVu Sans'", b"'DejaVu Sans', 'Verdana', sans-serif")
    encoded = base64.b64encode(picture).decode()
    return f'<img class="plot" alt="{html.escape(description)}" src="data:image/svg+xml;base64,{encoded}">'


def _quiet_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ed", linewidth=0.8)
    axes.set_axisbelow(True)


def _curves(history: list[dict[str, float]]) -> str:
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9.5, 3.2))
    for axes, key, title, factor in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy, %"), (1, 100), strict=True
    ):
        marker = "o" if len(epochs) < 40 else None
        for name, color, label in ((f"val_{key}", _BLUE, "validation"), (key, _ORANGE, "training")):
            axes.plot(epochs, [factor * row[name] for row in history], color=color, marker=marker, ms=3.5, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        _quiet_axes(axes)
    figure.tight_layout()
    note = (
        "<p>Training figures are taken while the epoch runs, on augmented pictures and with dropout; validation "
        "figures after it, without either. The losses of the curves include the recipe's label smoothing.</p>"
    )
    return _plot(figure, "loss and accuracy by epoch") + note


def _confusion(matrix: list[list[int]], labels: Sequence[str]) -> str:
    counts = np.asarray(matrix)
    classes = len(labels)
    with_numbers = classes <= _MOST_CLASSES_WITH_NUMBERS
    side = min(9.0, 1.8 + 0.46 * classes) if with_numbers else 6.5
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(counts / counts.sum(axis=1, keepdims=True))
    # Mistakes are a few per cent of a row: the square root keeps them visible beside the diagonal.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if with_numbers:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.4 else "#1c2025"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=color)
        names = [_short(label) for label in labels]
        axes.set_xticks(range(classes), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(classes), names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="label")
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [(position // classes, position % classes) for position in order if wrong.flat[position]]
    rows = [(labels[label], labels[guess], f"{wrong[label, guess]:,}") for label, guess in pairs]
    most = "<h3>Confused most</h3>" + _table(("label", "predicted as", "pictures"), rows) if rows else ""
    return _plot(figure, "confusion matrix") + most


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"


def _calibration(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    bins = metrics.calibration_bins(probabilities, labels)
    used = bins["count"] > 0
    figure = Figure(figsize=(4.6, 3.6))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="perfect")
    sizes = 15 + 150 * np.sqrt(bins["count"][used] / bins["count"].max())
    axes.scatter(bins["confidence"][used], bins["accuracy"][used], s=sizes, color=_BLUE, alpha=0.8, label="15 bins")
    axes.set(xlabel="probability of the prediction", ylabel="share that is right", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(frameon=False, loc="upper left")
    _quiet_axes(axes)
    return _plot(figure, "calibration") + "<p>Below the line the model is too sure, above it too careful.</p>"


# ---------------------------------------------------------------------------------------------------------- tables


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a table; a column whose cells are all numbers is aligned right."""
    cells = [[str(cell) for cell in row] for row in rows]
    numeric = [
        bool(cells) and all(row[column].replace(",", "").replace(".", "").rstrip(" %").isdigit() for row in cells)
        for column in range(len(head))
    ]

    def line(tag: str, row: Sequence[str]) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=number' if number else ''}>{html.escape(cell)}</{tag}>"
                for cell, number in zip(row, numeric, strict=True)
            )
            + "</tr>"
        )

    return f'<div class="scroll"><table>{line("th", head)}{"".join(line("td", row) for row in cells)}</table></div>'


def _per_class(rows: list[dict[str, Any]]) -> str:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.2%}"

    return _table(
        ("class", "pictures", "precision", "recall"),
        [(row["label"], f"{row['images']:,}", share(row["precision"]), share(row["recall"])) for row in rows],
    )


def _layers(layers: list[dict[str, Any]], parameters: int) -> str:
    rows = [(layer["name"], layer["class"], layer["output"], f"{layer['parameters']:,}") for layer in layers]
    return _table(("layer", "kind", "output shape", "parameters"), [*rows, ("total", "", "", f"{parameters:,}")])


def _origin(run: Run) -> str:
    environment = run.environment
    data = environment["data"]
    facts = [
        ("command", environment["command"]),
        ("started", environment["started"]),
        ("data", f"{data['name']}: {data['source']}"),
        ("pictures", ", ".join(f"{name} {count:,}" for name, count in data["pictures"].items())),
        ("skipped files", str(len(data["skipped"]))),
        ("processor", f"{environment['processor']}, {environment['threads']} threads"),
        ("software", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())),
        ("python", environment["python"]),
        *((f"note {index}", note) for index, note in enumerate(environment["notes"], start=1)),
    ]
    recipe = [(key, str(value)) for key, value in run.recipe.to_json().items()]
    return _table(("", ""), facts) + "<h3>Recipe</h3>" + _table(("key", "value"), recipe)


# -------------------------------------------------------------------------------------------------------- mistakes


def _mistakes(split: Split, probabilities: NDArray[np.float32], labels: Sequence[str]) -> str:
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != split.labels)
    if not len(wrong):
        return "<p>None: every picture was classified correctly.</p>"
    # The worst: those to whose own label the model gave the least.
    worst = wrong[np.argsort(probabilities[wrong, split.labels[wrong]], kind="stable")[:_WORST]]
    cells = []
    for position in worst:
        label, prediction = split.labels[position], predictions[position]
        name = split.names[split.rows[position]].rpartition("/")[2]
        cells.append(
            f'<figure><img alt="" src="{_picture(split.take(slice(position, position + 1))[0])}"><figcaption>'
            f"<b>{html.escape(labels[label])}</b> taken for <b>{html.escape(labels[prediction])}</b><br>"
            f"<span>{probabilities[position, label]:.2%} against {probabilities[position, prediction]:.2%}<br>"
            f"{html.escape(name)}</span></figcaption></figure>"
        )
    return f'<p>{len(wrong):,} of {len(split):,} are wrong.</p><div class="mistakes">{"".join(cells)}</div>'


def _picture(pixels: NDArray[Any]) -> str:
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    shown = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
