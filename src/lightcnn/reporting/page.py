"""The parts of a page: sections, tables, plots. All in one file, nothing from a network."""

from __future__ import annotations

import base64
import html
import io
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcnn.files import write_text

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "draw_det",
    "histogram",
    "new_figure",
    "picture",
    "plot",
    "plotted",
    "quiet_axes",
    "section",
    "table",
    "tiles",
    "write_page",
]

BLUE, ORANGE, GREY = "#2563a8", "#c2571a", "#8a8f98"
_DET_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)

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
td:first-child { overflow-wrap: normal; }
th { border-bottom: 1px solid #d9dde2; font-weight: 600; }
td.number, th.number { text-align: right; }
img.plot { max-width: 100%; height: auto; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem; }
.mistakes figure { margin: 0; font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; }
.mistakes img { width: 100%; image-rendering: pixelated; border: 1px solid #d9dde2; border-radius: 4px; }
.mistakes figcaption span { color: #555c66; }
"""


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Writes a page made of sections."""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(sections)
        + "</body></html>\n"
    )
    write_text(path, page)


def section(title: str, content: str) -> str:
    """Makes a section with its heading."""
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Shows `(value, what it is)` pairs side by side."""
    cells = "".join(
        f'<div class="figure"><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>'
        for value, text in figures
    )
    return f'<div class="figures">{cells}</div>'


def new_figure(width: float, height: float) -> Any:
    """Returns an empty Matplotlib figure of so many inches."""
    from matplotlib.figure import Figure  # a third of a second, which who writes no report need not wait

    return Figure(figsize=(width, height))


def plotted(text: str) -> str:
    """Returns a text that a plot can hold: no surrogates for Matplotlib, no control characters for SVG."""
    whole = text.encode(errors="backslashreplace").decode()
    return "".join(one.encode("unicode_escape").decode() if unicodedata.category(one) == "Cc" else one for one in whole)


def plot(figure: Any, description: str) -> str:
    """Embeds a Matplotlib figure."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text stays text: the browser has the letters that Matplotlib's own font lacks. What is laid out without them is
    # a little off, which is no news for the user.
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    picture = buffer.getvalue().replace(b"'DejaVu Sans'", b"'DejaVu Sans', 'Verdana', sans-serif")
    encoded = base64.b64encode(picture).decode()
    return f'<img class="plot" alt="{html.escape(description)}" src="data:image/svg+xml;base64,{encoded}">'


def quiet_axes(axes: Any) -> None:
    """Takes away what is no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ed", linewidth=0.8)
    axes.set_axisbelow(True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a table; a column whose cells are all numbers is aligned right. An empty head is left out."""
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

    top = line("th", head) if any(head) else ""
    return f'<div class="scroll"><table>{top}{"".join(line("td", row) for row in cells)}</table></div>'


def picture(pixels: NDArray[Any]) -> str:
    """Returns pixels `(height, width, 1 or 3)` as the address of an embedded picture."""
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    shown = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def draw_det(axes: Any, misses: NDArray[Any], acceptances: NDArray[Any], *, missed: str, accepted: str) -> None:
    """Plots misses against false acceptances on the axes of a normal distribution, where equal steps are equally hard.

    Args:
        axes: Matplotlib's.
        misses: `(thresholds,)`, fractions.
        acceptances: `(thresholds,)`, fractions.
        missed: What a miss is, for the label of its axis.
        accepted: What a false acceptance is.
    """
    from scipy.special import ndtri

    low, high = ndtri(_DET_TICKS[0]), ndtri(0.5)
    with np.errstate(divide="ignore"):
        axes.plot(ndtri(acceptances), ndtri(misses), color=BLUE)
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle="--", label="equal error rates")
    ticks, names = ndtri(_DET_TICKS), [f"{100 * tick:g}" for tick in _DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{accepted}, %", ylabel=f"{missed}, %", aspect="equal")
    axes.legend(frameon=False, loc="lower right")
    quiet_axes(axes)


def histogram(
    scores: NDArray[Any],
    accepted: NDArray[np.bool_],
    threshold: float | None,
    *,
    labels: tuple[str, str],
    score: str,
    share: str,
    legend: Literal["upper left", "upper center"],
) -> str:
    """Shows how the scores of two classes are spread, each as shares of its own number.

    Args:
        scores: `(scores,)`.
        accepted: `(scores,)`, whether a score belongs to the class that should be accepted.
        threshold: The model's, or None.
        labels: The names of that class and of the other.
        score: What a score is.
        share: What a share is of.
        legend: Where the legend stands.
    """
    figure = new_figure(7.5, 3.0)
    axes = figure.subplots()
    bins = np.histogram_bin_edges(scores, 50).tolist()
    for inside, color, label in zip((accepted, ~accepted), (BLUE, ORANGE), labels, strict=True):
        if inside.any():
            weights = np.full(inside.sum(), 100 / inside.sum())
            axes.hist(scores[inside], bins, weights=weights, color=color, alpha=0.6, label=label)
    if threshold is not None:
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1, label="the model's threshold")
    axes.set(xlabel=score, ylabel=share)
    axes.legend(frameon=False, loc=legend)
    quiet_axes(axes)
    return plot(figure, "histogram of scores")
