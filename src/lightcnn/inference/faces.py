"""Pictures of faces in, embeddings out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image

from lightcnn.decoding import find_pictures, fitted_picture, is_grey, open_picture
from lightcnn.errors import DataError, ModelFileError
from lightcnn.inference import Item, Predictor, group_size, look_at, named, run_in_batches
from lightcnn.inference.crops import cut_out
from lightcnn.runtimes import Artifact

__all__ = ["FacePredictor", "insightface_landmarks"]

_FRAME = ("size", "eye_mouth_distance", "eye_row")  # what `alignment` says in a model file
_CHANNELS = {"grey": 1, "RGB": 3, "BGR": 3}
_TRAINING_SIZE = 144 / 128  # the authors' crops are taken out of pictures that much larger
_ALIGNED = (144, 144)  # pixels of the pictures that training takes for aligned, whatever it fits them into
_LOOKS_SCALED = 1.5  # the largest value of a picture whose pixels were divided by 255 before
# Where insightface puts the eyes, the nose and the corners of the mouth in its pictures of 112 x 112 pixels.
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_TEMPLATE_SIZE = 112

_Landmarks = Iterable[ArrayLike] | Callable[[Image], ArrayLike]


class FacePredictor(Predictor):
    """A Light CNN for faces with all it needs to look at pictures: size, colour order, alignment, threshold.

    Args:
        artifact: A model from pixels `(batch, height, width, channels)`, 0 to 255, to embeddings. Its metadata are
            what `train` or `convert` writes: `input` with its `colour`, maybe `alignment` and `threshold`.

    Attributes:
        height: Of the pictures that it takes, in pixels.
        width: The same.
        channels: 1 or 3.
        colour: `"grey"`, `"RGB"` or `"BGR"`: the order of the channels.
        features: The length of an embedding.
        threshold: Cosine similarities at or above it are taken for one person; None if the model file has none.
        digest: The SHA-256 of the embedding's weights: embeddings of models with the same one can be compared. It is
            the same for a run, its model file and its artifacts, with or without the classifier.

    Example:
    >>> predictor = Predictor.load("light_cnn_29.keras")
    >>> [row["embedding"].shape for row in predictor.predict(["ann.png"])]
    [(256,)]
    """

    def __init__(self, artifact: Artifact) -> None:
        metadata = artifact.metadata
        described: Any = metadata.get("input")
        alignment: Any = metadata.get("alignment")
        try:
            self.colour = str(described["colour"])
            self._frame = {} if alignment is None else {key: alignment[key] for key in _FRAME}
            threshold = metadata.get("threshold")
            self.threshold = None if threshold is None else float(threshold)
            training_size = {**described, **(alignment or {})}.get("training_size")
            training_size = None if training_size is None else int(training_size)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"A model file for faces must have `input` with `colour`, and in `alignment` {', '.join(_FRAME)}. "
                f"Received: {str(metadata)[:200]}"
            ) from error
        shape, embedding = artifact.inputs[0].shape, artifact.output.shape
        if len(artifact.inputs) != 1 or len(shape) != 4 or None in shape[1:] or len(embedding) != 2:
            raise ModelFileError(
                "Expected a model from (batch, height, width, channels) to embeddings (batch, features). "
                f"Received: input {shape}, embedding {embedding}"
            )
        self.height, self.width, self.channels = (size or 0 for size in shape[1:])
        if _CHANNELS.get(self.colour) != self.channels:
            raise ModelFileError(
                f"A model of {self.channels} channels must say their colour: {_CHANNELS}. "
                f"Received: colour={self.colour!r}"
            )
        if self._frame and (self.height, self.width) != (self._frame["size"],) * 2:
            raise ModelFileError(
                f"The alignment's size must be the input's. Received: {self._frame}, input {self.height} x {self.width}"
            )
        self.metadata, self.features, self.digest = metadata, embedding[-1] or 0, artifact.weights_digest

        def fitted(side: int) -> int:
            growth = _TRAINING_SIZE if self._frame else 1
            return round(side * growth) if training_size is None else max(side, training_size)

        self._fitted = fitted(self.height), fitted(self.width)
        self._artifact = artifact
        self._warned = False

    def predict(
        self, files: Iterable[Item], landmarks: _Landmarks | None = None, flip: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Looks at picture files some at a time; memory does not grow with their number.

        With landmarks, a face is cut out as the model was trained on (`lightcnn.alignment.align`). Without, a picture
        is taken for aligned: one of the model's size is taken as it is, and any other is treated as in training, fitted
        into the larger frame that crops are taken from (144 x 144 for 128 x 128) and cut at its centre. Unless it has
        that size already, or 144 x 144 as aligned pictures have, `changes` says so, and that it was not aligned.

        Args:
            files: Picture files of any size and colour, or arrays as `embed_arrays` takes them, in one or one by one.
            landmarks: `(files, 5, 2)`, x and y in pixels of the upright picture, one set a file (`landmarks_of`); or a
                function that finds them in a picture, a Pillow image; it is called for one at a time.
            flip: Whether to add the embedding of the mirror image.

        Yields:
            A dictionary a file, in order: `file`, `embedding` (`(features,)` float32, of any length) and `changes`
            (what was converted, or an empty string). A file that could not be read or aligned, or whose embedding has
            no direction, gives `file` and `error`. An array's `file` is `"array 0"`, by its position.

        Raises:
            DataError: If there are landmarks and the model's file has no `alignment` to use them, or landmarks of an
                array, or an array does not fit.
            ValueError: If there is not one set of landmarks a file.
        """
        if landmarks is not None and not self._frame:
            raise DataError(
                "This model's file has no `alignment`: it was trained on pictures as they were, so landmarks are of no "
                "use. Leave them out, or train on aligned pictures (`lightcnn align`)."
            )
        remaining = (
            zip(named(files), repeat(landmarks), strict=False)
            if landmarks is None or callable(landmarks)
            else zip(named(files), landmarks, strict=True)
        )
        threads = 1 if callable(landmarks) else None
        yield from look_at(
            remaining, group_size(self._artifact), self._row, lambda rows: self._embedded(rows, flip), threads
        )

    def _row(self, item: tuple[tuple[str, Item], Any]) -> dict[str, Any]:
        """Returns the row of a file, with its pixels instead of their embedding."""
        (name, file), points = item
        if isinstance(file, np.ndarray):
            if points is not None:
                raise DataError("Landmarks are for files: align an array first (`lightcnn.alignment.align`).")
            self._check_shape(file[np.newaxis])
            return {"file": name, "changes": "", "pixels": file}
        try:
            pixels, changes = self._decoded(Path(file), points)
        except DataError as error:
            return {"file": name, "error": str(error)}
        return {"file": name, "changes": changes, "pixels": pixels}

    def _embedded(self, rows: list[dict[str, Any]], flip: bool) -> list[dict[str, Any]]:
        good = [row for row in rows if "error" not in row]
        pictures = [row.pop("pixels") for row in good]
        for row, embedding in zip(good, self.embed_arrays(np.stack(pictures), flip) if good else (), strict=True):
            if np.isfinite(embedding).all() and embedding.any():
                row["embedding"] = embedding
            else:
                del row["changes"]
                row["error"] = "the model's embedding is zero or not finite: a blank picture?"
        return rows

    def _decoded(self, path: Path, landmarks: Any) -> tuple[NDArray[np.uint8], str]:
        """Returns the pixels of a file as the model takes them, and what was converted."""
        size, image = (self.height, self.width), open_picture(path)
        if landmarks is not None:
            pixels = cut_out(image, landmarks, self.channels, **self._frame)
            before, grey, note = image.size, is_grey(image), ", aligned"
        else:
            picture = fitted_picture(image, size if image.size == size[::-1] else self._fitted, self.channels)
            height, width = picture.pixels.shape[:2]
            top, left = (height - size[0]) // 2, (width - size[1]) // 2
            pixels = picture.pixels[top : top + size[0], left : left + size[1]]
            before, grey = picture.original_size, picture.grey
            is_aligned = before == (width, height) or (self._frame and before == _ALIGNED)
            note = "" if is_aligned else ", not aligned"
        colours = ["grey" if grey else "colour", "grey" if self.channels == 1 else "colour"]
        converted = note or colours[0] != colours[1]
        changes = f"{before[0]}x{before[1]} {colours[0]} -> {size[1]}x{size[0]} {colours[1]}{note}" if converted else ""
        return (pixels[..., ::-1] if self.colour == "BGR" else pixels), changes

    def embed_arrays(self, pictures: NDArray[Any], flip: bool = False) -> NDArray[np.float32]:
        """Returns the embeddings of pictures that are arrays already.

        Warns once if values lie outside 0 to 255, or look as if they were scaled already: the model scales.

        Args:
            pictures: `(pictures, height, width, channels)` from 0 to 255, in the model's size and order of colours.
            flip: Whether to add the embedding of the mirror image. The direction of the sum is that of the mean.

        Returns:
            `(pictures, features)` float32, of any length. Compare them by their cosine.

        Raises:
            DataError: If the shape does not fit, or a value is NaN or infinite.
        """
        array = np.asarray(pictures)
        self._check_shape(array)
        self._check_range(array)
        embeddings = run_in_batches(self._artifact, array)
        return embeddings + run_in_batches(self._artifact, array[:, :, ::-1]) if flip else embeddings

    def _check_shape(self, array: NDArray[Any]) -> None:
        expected = self.height, self.width, self.channels
        if array.ndim != 4 or array.shape[1:] != expected:
            hint = ""
            if array.shape == expected:
                hint = " Add the first axis: pictures[None]."
            elif array.shape[1:] == (self.channels, self.height, self.width):
                hint = " The channels come last."
            elif array.shape[1:3] == expected[:2]:
                hint = f" The model takes {self.colour}."
            raise DataError(f"Expected pictures of shape (batch, {expected}). Received: {array.shape}.{hint}")

    def _check_range(self, pictures: NDArray[Any]) -> None:
        if not pictures.size or pictures.dtype == np.uint8:
            return
        low, high = float(pictures.min()), float(pictures.max())
        if not np.isfinite((low, high)).all():
            raise DataError("Expected finite pixels. Received: pictures with NaN or infinite values")
        scaled = pictures.dtype.kind == "f" and high <= _LOOKS_SCALED
        if (scaled or low < 0 or high > 255) and not self._warned:
            self._warned = True
            warnings.warn(
                f"Expected pixels from 0 to 255, which the model scales itself. Received: {low:g} to {high:g}. "
                + (
                    "They look as if they were scaled already: multiply them by 255." if scaled else "Were they scaled?"
                ),
                stacklevel=3,
            )

    def files_in(self, folder: Path) -> list[Path]:
        """Lists the pictures in and below a folder, sorted.

        Raises:
            DataError: If there is none.
        """
        return find_pictures([folder])


def insightface_landmarks(picture: Image) -> NDArray[np.float64]:
    """Returns where the landmarks are in a picture that insightface cut out: 112 x 112 pixels, all alike.

    Its frame is not the Light CNNs': the eyes are lower and the face is a little smaller. With these landmarks such a
    picture comes into the model's frame; what it does not show below the chin stays black.

    Source:
        The template of insightface's `face_align.py`.

    Args:
        picture: A square Pillow image; one of another size than 112 x 112 is taken for a resized one.

    Returns:
        `(5, 2)` float64, x and y in pixels.

    Raises:
        DataError: If the picture is not square.

    Example:
    >>> insightface_landmarks(PIL.Image.new("RGB", (112, 112)))[2].tolist()
    [56.0252, 71.7366]
    """
    if picture.width != picture.height:
        raise DataError(
            f"not cut out by insightface: expected a square picture, it has {picture.width}x{picture.height}"
        )
    # Coordinates count from the centre of the first pixel.
    return (np.array(_TEMPLATE) + 0.5) * (picture.width / _TEMPLATE_SIZE) - 0.5
