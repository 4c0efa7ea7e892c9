"""Files in, scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from lightcnn.errors import ModelFileError
from lightcnn.runs import FACES, IMAGES, SPEECH, Run

__all__ = ["Predictor"]

_PREDICTORS = {
    IMAGES: ("lightcnn.inference.images", "PicturePredictor"),
    SPEECH: ("lightcnn.inference.speech", "SpeechPredictor"),
    FACES: ("lightcnn.inference.faces", "FacePredictor"),
}


class Predictor(ABC):
    """A trained model with all it needs to look at files; `Predictor.load` opens any.

    Attributes:
        metadata: What the model file says of the model: its task, its labels, what it takes.

    Example:
    >>> predictor = Predictor.load("runs/mnist/20261124-120000")
    >>> [row["label"] for row in predictor.predict([Path("seven.png")])]
    ['7']
    """

    metadata: dict[str, Any]

    @staticmethod
    def load(model: Path | str) -> Predictor:
        """Opens a run folder or a `.keras` file.

        Returns:
            A `PicturePredictor`, a `SpeechPredictor` or a `FacePredictor`, as the model's task needs.

        Raises:
            ModelFileError: If the file is damaged, unsafe or does not say what it is for.
            RunError: If the folder is not a run's.
        """
        from lightcnn.models import load_model, read_metadata

        path = Path(model)
        if path.is_dir():
            path = Run.open(path).best_model
            if not path.exists():
                raise ModelFileError(f"{path} does not exist: the run has not finished an epoch. Go on: --resume.")
        metadata = read_metadata(path)
        # A model that somebody saved with labels alone takes pictures.
        task = metadata.get("task", IMAGES)
        if task not in _PREDICTORS:
            raise ModelFileError(f"{path} is for another task. Expected {', '.join(_PREDICTORS)}. Received: {task!r}")
        module, name = _PREDICTORS[task]
        predictor: Predictor = getattr(import_module(module), name)(load_model(path), metadata)
        return predictor

    @abstractmethod
    def predict(self, files: Iterable[Path | str]) -> Iterator[dict[str, Any]]:
        """Looks at files one batch at a time; memory does not grow with their number.

        Args:
            files: Files of any number.

        Yields:
            A dictionary a file, in order, with `file` and what was found, or `file` and `error`.
        """

    @abstractmethod
    def files_in(self, folder: Path) -> list[Path]:
        """Lists the files in and below a folder that it can look at, sorted.

        Raises:
            DataError: If there is none.
        """
