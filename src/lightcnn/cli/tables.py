"""What commands print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import click

__all__ = ["aligned", "print_json", "print_table", "tell_changes"]

_MOST_CHANGES = 5  # kinds of conversion that are told one by one


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


def print_json(content: Any) -> None:
    """Prints JSON to stdout."""
    import json

    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def tell_changes(tell: Callable[[str], None], changes: Counter[str]) -> None:
    """Says what was converted, the most frequent first; nothing of files that were as they are used."""
    told = [(change, count) for change, count in changes.most_common() if change]
    for change, count in told[:_MOST_CHANGES]:
        tell(f"Converted {count} file{'s' * (count > 1)}: {change}")
    if len(told) > _MOST_CHANGES:
        tell(f"... and files of {len(told) - _MOST_CHANGES} other kinds")
