"""The group of all commands: options that each has, exit codes, and what is said when something goes wrong."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from lightcnn import __version__
from lightcnn.errors import LightCNNError, RecipeError

__all__ = ["OUTPUT", "OUTPUT_FILE", "PATH", "common", "main", "named_files"]

PATH = click.Path(path_type=Path)
# Names of files need not be text; a byte order mark is no part of the first.
_NAME_LIST = click.File(encoding="utf-8-sig", errors="surrogateescape")


class _Output(click.Path):
    """What is written. What cannot be written is found before the work, not after it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)  # a Path, by `path_type`
        if path.exists() and not path.is_file():
            return path  # a device, a pipe or a folder
        # What a link leads to is written, such as the file behind /dev/stdout.
        folder = next(parent for parent in Path(os.path.realpath(path)).parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            self.fail(f"{path} cannot be written: {folder} is no folder, or not yours to write in.", param, ctx)
        return path


OUTPUT = _Output(writable=True, path_type=Path)
OUTPUT_FILE = _Output(dir_okay=False, writable=True, path_type=Path)


class _Commands(click.Group):
    """Turns what goes wrong into a message and an exit code; a traceback only with --debug."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a file's name may hold what the terminal cannot show
                stream.reconfigure(errors="backslashreplace", encoding=None if stream.isatty() else "utf-8")
        try:
            kwargs["standalone_mode"] = False
            with warnings.catch_warnings(), _ending_as_by_ctrl_c():
                warnings.showwarning = _note
                sys.exit(super().main(*args, **kwargs) or 0)
        except (click.exceptions.Abort, KeyboardInterrupt) as error:
            if isinstance(error, click.exceptions.Abort) and not isinstance(error.__cause__, KeyboardInterrupt):
                sys.exit(_failed(error.__cause__ or error))  # click's name for an EOFError too
            click.echo("Interrupted.", err=True)
            sys.exit(130)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except Exception as error:
            sys.exit(_failed(error))


@contextlib.contextmanager
def _ending_as_by_ctrl_c() -> Iterator[None]:
    """Lets what ends a process from outside (a queue, a supervisor, a closed terminal) leave nothing half done."""
    endings = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = threading.current_thread() is threading.main_thread()  # only it may set what a signal does
    taken = [number for number in endings if ours and signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores one

    def end(number: int, frame: Any) -> None:
        for one in taken:  # who ends processes often says so twice, and tidying up shall not be ended too
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _note(message: Warning | str, *place: Any, **more: Any) -> None:
    """Says what a warning says, without the line of code that it comes from."""
    click.echo(f"Note: {message}", err=True)


def _failed(error: BaseException) -> int:
    """Says what went wrong and returns the exit code."""
    if "--debug" in sys.argv[1:]:
        traceback.print_exception(error)
    elif isinstance(error, LightCNNError):
        click.echo(f"Error: {error}", err=True)
    else:
        click.echo(f"Error: {type(error).__name__}: {error}\nRun it again with --debug to see where.", err=True)
    return 2 if isinstance(error, RecipeError) else 1


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --quiet and --debug, which every command has."""

    @click.option("--quiet", is_flag=True, help="Show no progress, only what needs attention.")
    @click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
    @functools.wraps(command)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> Any:
        del debug  # read from the command line by `_failed`, since it counts before it is parsed too
        return command(*args, **kwargs)

    return wrapped


def named_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FILES and --files-from, and gives the command the `names` of both, at least one."""

    @click.argument("files", nargs=-1)
    @click.option("--files-from", type=_NAME_LIST, help="List with one file a line; - for stdin.")
    @functools.wraps(command)
    def wrapped(*args: Any, files: tuple[str, ...], files_from: Any, **kwargs: Any) -> Any:
        listed = [line.rstrip("\n") for line in files_from if line.strip()] if files_from else []
        if not (files or listed):
            raise click.UsageError("Name at least one file, a folder, or a list with --files-from.")
        return command(*args, names=[*files, *listed], **kwargs)

    return wrapped


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lightcnn")
def main() -> None:
    """Light CNNs: train, evaluate and use small networks with the Max-Feature-Map activation."""
