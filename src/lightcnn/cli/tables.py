"""Tables for a terminal."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["aligned", "print_table"]


def print_table(head: tuple[str, ...], rows: list[Any]) -> None:
    """Prints a table to stdout."""
    click.echo(aligned(head, rows), nl=False)


def aligned(head: tuple[str, ...], rows: list[Any]) -> str:
    """Sets cells in columns as wide as their widest."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
