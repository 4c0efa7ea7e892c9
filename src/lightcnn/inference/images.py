"""Picture files in, labels and their probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.decoding import Picture, decode_picture, find_pictures
from lightcnn.errors import DataError, ModelFileError
from lightcnn.inference import Item, Predictor, group_size, look_at, named, run_in_batches
from lightcnn.runtimes import Artifact

__all__ = ["PicturePredictor"]


class PicturePredictor(Predictor):
    """A trained classifier with all it needs to look at pictures: labels, size, colour.

    Args:
        artifact: A model that gives probabilities; its metadata have `labels` and, as `train` writes them, `input`.

    Example:
    >>> predictor = PicturePredictor(open_artifact("pets.onnx"))
    >>> predictor.predict_arrays(np.zeros((1, 64, 64, 3))).shape
    (1, 2)
    """

    def __init__(self, artifact: Artifact) -> None:
        metadata = artifact.metadata
        labels = metadata.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ModelFileError(f"A model file must have `labels`, a list of texts. Received: labels={labels!r}")
        self.labels: list[str] = labels
        self.metadata = metadata
        # A model that somebody saved with labels alone takes pictures.
        described = metadata.get("input")
        self.dtype: str = described.get("dtype", "uint8") if isinstance(described, dict) else "uint8"
        shapes = artifact.inputs[0].shape, artifact.output.shape
        if [len(shape) for shape in shapes] != [4, 2] or None in shapes[0][1:] or len(artifact.inputs) != 1:
            raise ModelFileError(
                "Expected a model from (batch, height, width, channels) to (batch, classes). "
                f"Received: input {shapes[0]}, output {shapes[1]}"
            )
        said = described.get("shape") if isinstance(described, dict) else None
        if said is not None and list(shapes[0][1:]) != said:
            raise ModelFileError(
                f"The model's file says that it takes pictures of {said}, and it takes {list(shapes[0][1:])}. "
                "It was changed: export it again."
            )
        self._artifact, self.digest = artifact, artifact.weights_digest
        self.height, self.width, self.channels = (size or 0 for size in shapes[0][1:])
        if len(self.labels) != shapes[1][-1]:
            raise ModelFileError(
                f"The model gives {shapes[1][-1]} scores for {len(self.labels)} labels. Train it again."
            )

    def predict(self, files: Iterable[Item], top: int = 5) -> Iterator[dict[str, Any]]:
        """Looks at picture files some at a time; memory does not grow with their number.

        Args:
            files: Picture files of any size and colour, or arrays as `predict_arrays` takes them, in one or one by one.
            top: How many labels to name.

        Yields:
            A dictionary a file, in order: `file`, `label`, `probability`, `top` (a list of `label` and `probability`,
            the most probable first) and `changes` (what was converted, or an empty string). A file that could not be
            read gives `file` and `error`. An array's `file` is `"array 0"`, by its position.

        Raises:
            DataError: If there are files and the model was not trained on pictures of 8 bits a channel, or an array
                does not fit.
            ValueError: If `top` is below 1.
        """
        if top < 1:
            raise ValueError(f"Expected a `top` of at least 1. Received: top={top}")

        def compute(decoded: list[tuple[str, Picture | DataError]]) -> Iterator[dict[str, Any]]:
            pictures = [one.pixels for _, one in decoded if not isinstance(one, DataError)]
            probabilities = iter(run_in_batches(self._artifact, np.stack(pictures)) if pictures else ())
            return iter(
                [
                    {"file": file, "error": str(one)}
                    if isinstance(one, DataError)
                    else {"file": file, "changes": one.changes, **self._named(next(probabilities), top)}
                    for file, one in decoded
                ]
            )

        yield from look_at(named(files), group_size(self._artifact), self._decoded, compute)

    def _decoded(self, item: tuple[str, Item]) -> tuple[str, Picture | DataError]:
        name, file = item
        if isinstance(file, np.ndarray):
            self._check(file[np.newaxis])
            return name, Picture(file, (self.width, self.height), grey=self.channels == 1)
        if self.channels not in (1, 3) or self.dtype != "uint8":
            raise DataError(
                "This model was trained on arrays that are no pictures "
                f"({self.dtype}, {self.channels} channels), so picture files do not fit it. "
                "Give it arrays: predict, predict_arrays."
            )
        try:
            return name, decode_picture(Path(file), (self.height, self.width), self.channels)
        except DataError as error:
            return name, error

    def _named(self, probabilities: NDArray[np.float32], top: int) -> dict[str, Any]:
        best = np.argsort(-probabilities, kind="stable")[:top]
        named = [{"label": self.labels[index], "probability": float(probabilities[index])} for index in best]
        return {**named[0], "top": named}

    def predict_arrays(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the probabilities of pictures that are arrays already.

        Args:
            pictures: `(pictures, height, width, channels)`, in the range of the training data (pictures: 0 to 255).

        Returns:
            `(pictures, classes)` float32.

        Raises:
            DataError: If the shape does not fit.
        """
        self._check(pictures)
        return run_in_batches(self._artifact, pictures)

    def _check(self, pictures: NDArray[Any]) -> None:
        expected = (self.height, self.width, self.channels)
        if pictures.ndim != 4 or pictures.shape[1:] != expected:
            raise DataError(f"Expected pictures of shape (batch, {expected}). Received: {pictures.shape}")
        if pictures.dtype.kind == "f" and not np.isfinite(pictures).all():
            raise DataError("Expected pictures of finite numbers. Received: NaN or infinity")

    def files_in(self, folder: Path) -> list[Path]:
        """Lists the pictures in and below a folder, sorted.

        Raises:
            DataError: If there is none.
        """
        return find_pictures([folder])
