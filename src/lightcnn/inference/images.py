"""Picture files in, labels and their probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.decoding import decode_picture, find_pictures, ignore_picture_warnings
from lightcnn.errors import DataError, ModelFileError
from lightcnn.inference import Predictor

__all__ = ["PicturePredictor", "predict_probabilities"]

_BATCH = 64


def predict_probabilities(model: Any, pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Runs a Keras classifier on one batch of pictures.

    Args:
        model: A `keras.Model` that gives probabilities.
        pictures: `(batch, height, width, channels)`.

    Returns:
        `(batch, classes)` float32.
    """
    return np.asarray(model.predict_on_batch(np.asarray(pictures, np.float32)), np.float32)


class PicturePredictor(Predictor):
    """A trained classifier with all it needs to look at pictures: labels, size, colour.

    Args:
        model: A `keras.Model` that gives probabilities.
        metadata: What `train` wrote beside it: `labels` and `input`.

    Example:
    >>> predictor = PicturePredictor(model, {"labels": ["cat", "dog"]})
    >>> predictor.predict_arrays(np.zeros((1, 64, 64, 3))).shape
    (1, 2)
    """

    def __init__(self, model: Any, metadata: dict[str, Any]) -> None:
        labels = metadata.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ModelFileError(f"A model file must have `labels`, a list of texts. Received: labels={labels!r}")
        self.labels: list[str] = labels
        self.metadata = metadata
        # A model that somebody saved with labels alone takes pictures.
        described = metadata.get("input")
        self.dtype: str = described.get("dtype", "uint8") if isinstance(described, dict) else "uint8"
        shapes = model.input_shape, model.output_shape
        if [len(shape) for shape in shapes] != [4, 2] or None in shapes[0][1:] or len(model.inputs) != 1:
            raise ModelFileError(
                "Expected a model from (batch, height, width, channels) to (batch, classes). "
                f"Received: input {shapes[0]}, output {shapes[1]}"
            )
        self._model = model
        self.height, self.width, self.channels = model.input_shape[1:]
        if len(self.labels) != model.output_shape[-1]:
            raise ModelFileError(
                f"The model gives {model.output_shape[-1]} scores for {len(self.labels)} labels. Train it again."
            )

    def predict(self, files: Iterable[Path | str], top: int = 5) -> Iterator[dict[str, Any]]:
        """Looks at picture files one batch at a time; memory does not grow with their number.

        Args:
            files: Picture files of any size and colour.
            top: How many labels to name.

        Yields:
            A dictionary a file, in order: `file`, `label`, `probability`, `top` (a list of `label` and `probability`,
            the most probable first) and `changes` (what was converted, or an empty string). A file that could not be
            read gives `file` and `error`.

        Raises:
            DataError: If the model was not trained on pictures of 8 bits a channel.
        """
        if self.channels not in (1, 3) or self.dtype != "uint8":
            raise DataError(
                "This model was trained on arrays that are no pictures "
                f"({self.dtype}, {self.channels} channels), so picture files do not fit it. "
                "Give it arrays: predict_arrays."
            )
        remaining = iter(files)
        while batch := list(islice(remaining, _BATCH)):
            yield from self._predict_batch(batch, top)

    def _predict_batch(self, files: list[Path | str], top: int) -> Iterator[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        pictures = []
        with ignore_picture_warnings():
            for file in files:
                try:
                    picture = decode_picture(Path(file), (self.height, self.width), self.channels)
                except DataError as error:
                    rows.append({"file": str(file), "error": str(error)})
                else:
                    rows.append({"file": str(file), "changes": picture.changes})
                    pictures.append(picture.pixels)
        probabilities = iter(self.predict_arrays(np.stack(pictures)) if pictures else ())
        for row in rows:
            yield row if "error" in row else {**row, **self._named(next(probabilities), top)}

    def _named(self, probabilities: NDArray[np.float32], top: int) -> dict[str, Any]:
        best = np.argsort(-probabilities, kind="stable")[:top]
        named = [{"label": self.labels[index], "probability": float(probabilities[index])} for index in best]
        return {**named[0], "top": named}

    def predict_arrays(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the probabilities of pictures that are arrays already.

        Args:
            pictures: `(batch, height, width, channels)`, in the range of the training data (pictures: 0 to 255).

        Returns:
            `(batch, classes)` float32.

        Raises:
            DataError: If the shape does not fit.
        """
        expected = (self.height, self.width, self.channels)
        if pictures.ndim != 4 or pictures.shape[1:] != expected:
            raise DataError(f"Expected pictures of shape (batch, {expected}). Received: {pictures.shape}")
        return predict_probabilities(self._model, pictures)

    def files_in(self, folder: Path) -> list[Path]:
        """Lists the pictures in and below a folder, sorted.

        Raises:
            DataError: If there is none.
        """
        return find_pictures([folder])
