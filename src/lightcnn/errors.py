"""Everything that can go wrong, as one tree.

    LightCNNError
    ├── RecipeError (ValueError)          an unknown recipe or key, or a value that does not fit
    ├── DataError (ValueError)            a file, folder or array that cannot be used as data
    │   ├── DigestError                   data that is not what its name says
    │   └── BadFilesError                 some files of many could not be read; `failures` names them
    ├── ModelFileError (ValueError)       a model file that is damaged, foreign or unsafe
    ├── RunError (ValueError)             a run folder that is not one, or does not fit the request
    ├── ExportError (ValueError)          a model that a format cannot hold, or an artifact that differs from its model
    ├── DivergedError (ArithmeticError)   the loss became NaN or infinite
    ├── StorageError (OSError)            a file could not be written; the old one is whole
    └── MissingDependencyError (ImportError)   an extra that is not installed

A message says what happened, what was expected, what was received and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

__all__ = [
    "BadFilesError",
    "DataError",
    "DigestError",
    "DivergedError",
    "ExportError",
    "LightCNNError",
    "MissingDependencyError",
    "ModelFileError",
    "RecipeError",
    "RunError",
    "StorageError",
    "nearest",
]


class LightCNNError(Exception):
    """The root: `except LightCNNError` catches whatever this package raises on purpose."""


class RecipeError(LightCNNError, ValueError):
    """An unknown recipe or key, or a value of the wrong type or range."""


class DataError(LightCNNError, ValueError):
    """A file, folder or array that cannot be used as data."""


class DigestError(DataError):
    """Data whose digest is not the published one."""


class BadFilesError(DataError):
    """Some files of many could not be read.

    Args:
        failures: `(path, cause)` pairs, one a bad file. The message names them all.
        hint: What the user can do about it.
    """

    def __init__(self, failures: Sequence[tuple[Path, str]], hint: str) -> None:
        self.failures = list(failures)
        shown = "\n".join(f"  {path}: {cause}" for path, cause in self.failures)
        noun = "file" if len(self.failures) == 1 else "files"
        super().__init__(f"{len(self.failures)} {noun} could not be read:\n{shown}\n{hint}")


class ModelFileError(LightCNNError, ValueError):
    """A model file that is damaged, foreign or unsafe."""


class RunError(LightCNNError, ValueError):
    """A run folder that is not one, or that does not fit the request."""


class ExportError(LightCNNError, ValueError):
    """A model that cannot be exported in the form that is asked for, or whose artifact does not agree with it."""


class DivergedError(LightCNNError, ArithmeticError):
    """The training loss became NaN or infinite."""


class StorageError(LightCNNError, OSError):
    """A file could not be written. What stood there before is untouched."""


class MissingDependencyError(LightCNNError, ImportError):
    """An optional package is needed and not installed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the known name closest to `name`, or an empty string."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""
