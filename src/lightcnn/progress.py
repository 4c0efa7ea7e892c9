"""What a person sees while work goes on: one bar with the time left, on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["ProgressBar", "Task"]


class ProgressBar:
    """A bar on stderr: what is done, how far it is, the time left, and figures that change.

    On a terminal it is redrawn in place. Elsewhere (a log file, a pipe) only lines appear: of progress (`tell`) and
    what a user must know (`say`).

    Args:
        quiet: Whether to show no progress, only what `say` says.

    Example:
    >>> with ProgressBar() as bar:
    ...     for item in bar.track(items, len(items), "Reading"):
    ...         ...
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away, before an answer is printed; lines can still be said."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bar that must be seen: what was found, changed or left out."""
        self._console.print(text, markup=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """Prints a line of progress above the bar, unless it is quiet."""
        if not self._quiet:
            self.say(text)

    def track(self, items: Iterable[Any], total: int | None, description: str) -> Iterator[Any]:
        """Yields `items` and moves a bar of its own; a `total` of None is not known before."""
        with self.task(description, total) as task:
            for item in items:
                yield item
                task.advance()

    @contextmanager
    def task(self, description: str, total: int | None, completed: int = 0) -> Iterator[Task]:
        """Shows a bar for a piece of work and takes it away at the end."""
        identifier = self._progress.add_task(description, total=total, completed=completed, figures="")
        try:
            yield Task(self._progress, identifier)
        finally:
            self._progress.remove_task(identifier)


class Task:
    """One piece of work on a bar; made by `ProgressBar.task`."""

    def __init__(self, progress: Progress, identifier: Any) -> None:
        self._progress = progress
        self._identifier = identifier

    def advance(self, **changes: str) -> None:
        """Moves the bar by one. `description` and `figures` are the texts before and behind it."""
        self._progress.update(self._identifier, advance=1, **changes)  # type: ignore[arg-type]
