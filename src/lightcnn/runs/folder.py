"""A run is the folder that holds what came of a training."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from lightcnn.errors import RecipeError, RunError, StorageError
from lightcnn.files import write_json, write_rows
from lightcnn.runs.recipe import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Run", "default_run_folder"]

# what `environment.json` always holds
_ENVIRONMENT_KEYS = (
    "backend",
    "command",
    "data",
    "layers",
    "notes",
    "preprocessing",
    "processor",
    "started",
    "versions",
)
_DATA_KEYS = ("data_dir", "digest", "labels", "name", "sizes", "skipped", "source")


def default_run_folder(recipe: str) -> Path:
    """Makes `runs/<recipe>/<YYYYMMDD-HHMMSS>`, with `-2`, `-3` ... behind it if that is taken, and returns it.

    Raises:
        StorageError: If it cannot be made.
    """
    first = Path("runs") / recipe / datetime.now().strftime("%Y%m%d-%H%M%S")
    names = chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2)))
    while True:
        folder = next(names)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            if not folder.exists():  # else it is somebody else's, even of this second
                raise _not_made(folder, error) from error
        else:
            return folder


def _not_made(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"{folder} could not be made: {error.strerror}. Choose another --run-dir.")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks a folder against other trainings, where the system can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Another training is at work in {folder}. Wait for it, or choose another --run-dir."
            ) from None
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Run:
    """The folder of one training.

    It holds `recipe.json` (fully resolved), `environment.json`, `history.csv` (one row a finished epoch),
    `checkpoint/` (all that resuming needs), `best.keras`, `metrics.json`, `scores.csv`, `report.html` and
    `model.onnx` (what `best.keras` is used as, without Keras).

    Args:
        folder: The folder.

    Example:
    >>> run = Run.open("runs/mnist/20261124-120000")
    >>> run.metrics["test"]["accuracy"]
    0.9963
    """

    folder: Path

    @classmethod
    @contextmanager
    def claim(
        cls, folder: Path | str, recipe: Recipe, *, resume: bool = False, overwrite: bool = False
    ) -> Iterator[Run]:
        """Keeps a folder for one training and checks that it may stand there; what lasts in it is not touched.

        The lock is one of the operating system, so it ends with the process, however that ends.

        Raises:
            RunError: If another training is at work there; if the folder is not empty and neither `resume` nor
                `overwrite` is asked for; if `resume` finds no run, or another recipe.
        """
        run = cls(Path(folder).absolute())
        if run.folder.exists() and not run.folder.is_dir():
            raise RunError(f"{run.folder} is a file. A run needs a folder: choose another --run-dir.")
        if resume and not run._path("recipe.json").exists():
            raise RunError(f"{run.folder} holds no run that could be resumed: it has no recipe.json.")
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(run.folder, error) from error
        with _locked(run.folder):
            try:
                run._check_free(recipe, resume, overwrite)
                if resume:
                    run._remove(path for path in run.folder.iterdir() if not _lasting(path))
                yield run
            finally:
                if run.folder.is_dir() and not any(run.folder.iterdir()):
                    run.folder.rmdir()

    def _check_free(self, recipe: Recipe, resume: bool, overwrite: bool) -> None:
        if resume:
            if changed := _differences(self.recipe, recipe):
                raise RunError(
                    f"{self.folder} was trained with another recipe: {changed}. Resume it with its own settings, or "
                    "start another run in another folder."
                )
        elif any(_lasting(path) for path in self.folder.iterdir()):
            if not overwrite:
                raise RunError(
                    f"{self.folder} is not empty. Pass --resume to go on with it, --overwrite to delete what is in "
                    "it, or choose another --run-dir."
                )
            if not self._path("recipe.json").exists():
                raise RunError(f"{self.folder} holds something that is no run, so --overwrite does not delete it.")

    def start(self, recipe: Recipe) -> None:
        """Empties the claimed folder and writes `recipe.json`; killed on the way, it is still a run's folder."""
        # The history first, then the checkpoint: a history alone is a run whose checkpoint somebody deleted, and a
        # checkpoint without what it is checked against would be taken for that of the new run.
        self._remove(self.folder.glob("history.csv"))
        self._remove(self.checkpoint.glob("state.json"))
        self._remove(path for path in self.folder.iterdir() if path.name != "recipe.json")
        write_json(self._path("recipe.json"), recipe.to_json())

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in list(paths):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Opens the folder of a run.

        Raises:
            RunError: If the folder is not a run's.
        """
        run = cls(Path(folder).absolute())
        if rounds := [path for path in run.folder.glob("round-*") if path.is_dir() and path.name[6:].isdecimal()]:
            last = max(rounds, key=lambda path: int(path.name[6:]))
            raise RunError(f"{folder} holds the rounds of `lightcnn bootstrap`. Name one, such as {last}.")
        if not run._path("recipe.json").is_file():
            what = "is not a run folder: it has no recipe.json" if run.folder.is_dir() else "does not exist"
            raise RunError(f"{folder} {what}. A run folder is made by `lightcnn train`.")
        return run

    def _path(self, name: str) -> Path:
        return self.folder / name

    @property
    def best_model(self) -> Path:
        """The model of the best epoch, `best.keras`."""
        return self._path("best.keras")

    @property
    def artifact(self) -> Path:
        """The best model as an artifact that runs without Keras, `model.onnx`."""
        return self._path("model.onnx")

    @property
    def checkpoint(self) -> Path:
        """The folder with all that resuming needs."""
        return self._path("checkpoint")

    @property
    def report(self) -> Path:
        """The report, `report.html`."""
        return self._path("report.html")

    @property
    def scores(self) -> Path:
        """What the model gave every example of the test split, `scores.csv`."""
        return self._path("scores.csv")

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            RunError: If `recipe.json` is damaged.
        """
        try:
            return Recipe.from_json(self._read_json("recipe.json"))
        except RecipeError as error:
            raise RunError(f"{self._path('recipe.json')}: {error}") from error

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, processor, data and command of the training.

        Raises:
            RunError: If `environment.json` is missing or damaged.
        """
        content = self._read_json("environment.json")
        data = content.get("data")
        lacking = [f"data.{key}" for key in _DATA_KEYS if not isinstance(data, dict) or key not in data]
        if lacking := [key for key in _ENVIRONMENT_KEYS if key not in content] + lacking:
            raise RunError(f"{self.folder}/environment.json is damaged: it lacks {', '.join(lacking)}. Train again.")
        return content

    @property
    def has_metrics(self) -> bool:
        """Whether anything was measured."""
        return self._path("metrics.json").exists()

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures: `train_seconds`, `parameters`, `validation` and `test`."""
        return self._read_json("metrics.json")

    @property
    def history(self) -> list[dict[str, float]]:
        """One dictionary a finished epoch, from `history.csv`; `learning_rate` is that of its first step."""
        path = self._path("history.csv")
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def write_environment(self, content: dict[str, Any]) -> None:
        """Writes `environment.json`."""
        write_json(self._path("environment.json"), content)

    def write_metrics(self, content: dict[str, Any]) -> None:
        """Writes `metrics.json`."""
        write_json(self._path("metrics.json"), content)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes `history.csv`: one header, one row an epoch."""
        write_rows(self._path("history.csv"), rows[0], ([row[key] for key in rows[0]] for row in rows))

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.folder} has no {name}: the run is not finished. Go on with it: --resume.") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{path} must hold a JSON object. Received: {type(content).__name__}")
        return content


def _lasting(path: Path) -> bool:
    """Tells a file from one that a kill left half written."""
    return not (path.name.startswith(".") and path.suffix == ".tmp")


def _differences(old: Recipe, new: Recipe) -> str:
    before, after = old.to_json(), new.to_json()
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in changed)
