"""Embeddings of many pictures, kept in a file and searched."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.datasets.faces import find_landmarks
from lightcnn.datasets.published import Track, read_npz, untracked
from lightcnn.errors import DataError
from lightcnn.files import atomic_write
from lightcnn.inference.faces import FacePredictor
from lightcnn.metrics import l2_normalize, search

__all__ = ["Gallery", "embed", "load_gallery", "rank_identities", "save_gallery", "unit_rows"]

_KEYS = ["embeddings", "files", "identities", "model", "flip"]
# a list of landmarks, as `landmarks_of` takes it; landmarks; or a function that finds them in a picture
Landmarks = Path | str | ArrayLike | Callable[[Any], ArrayLike]


@dataclass(frozen=True)
class Gallery:
    """Embeddings of pictures, and what they show.

    Attributes:
        embeddings: `(pictures, features)` float32 of length 1, so that a product of two is their cosine. It may be
            mapped from a file.
        files: `(pictures,)` text.
        identities: `(pictures,)` text: who is shown, or an empty one where nobody said.
        model: `FacePredictor.digest` of the model that made them.
        flip: Whether the embeddings of mirror images were added.
        failures: `(file, cause)` of pictures that could not be embedded. Not kept in the file.
        changes: How often what was converted. Not kept in the file.
    """

    embeddings: NDArray[np.float32]
    files: NDArray[np.str_]
    identities: NDArray[np.str_]
    model: str
    flip: bool = False
    failures: tuple[tuple[str, str], ...] = ()
    changes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.embeddings)


def unit_rows(
    predictor: FacePredictor,
    files: Sequence[Path | str],
    landmarks: Landmarks | None,
    data_dir: Path | str | None,
    flip: bool,
    track: Track,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `FacePredictor.predict`, with embeddings of length 1."""
    if isinstance(landmarks, Path | str):
        rows = _listed_rows(predictor, files, landmarks, data_dir, flip)
    else:
        rows = predictor.predict(files, landmarks, flip)  # type: ignore[arg-type]
    for row in track(rows, len(files), "Embedding"):
        yield row if "error" in row else {**row, "embedding": l2_normalize(row["embedding"])}


def _listed_rows(
    predictor: FacePredictor, files: Sequence[Path | str], source: Path | str, data_dir: Path | str | None, flip: bool
) -> Iterator[dict[str, Any]]:
    """Yields the rows of pictures whose landmarks a list has; one that it lacks is that picture's error."""
    found = find_landmarks(files, source, data_dir)
    known = [(file, points) for file, points in zip(files, found, strict=True) if points is not None]
    landmarks = np.array([points for _, points in known], np.float64).reshape(-1, 5, 2)
    rows = iter(predictor.predict([file for file, _ in known], landmarks, flip) if known else [])
    for file, points in zip(files, found, strict=True):
        yield {"file": str(file), "error": f"no landmarks in {source}"} if points is None else next(rows)


def embed(
    predictor: FacePredictor,
    files: Sequence[Path | str],
    identities: Sequence[str] | None = None,
    *,
    landmarks: Landmarks | None = None,
    data_dir: Path | str | None = None,
    flip: bool = False,
    track: Track = untracked,
) -> Gallery:
    """Embeds picture files, in batches.

    Args:
        predictor: The model, from `Predictor.load`.
        files: The pictures.
        identities: `(files,)`, who is shown; by default nobody says.
        landmarks: A list of landmarks as `lightcnn.datasets.landmarks_of` takes it, the landmarks `(files, 5, 2)`, or a
            function that finds them in a Pillow image. Without, the pictures are taken for aligned.
        data_dir: The folder that a list of landmarks is relative to.
        flip: Whether to add the embedding of the mirror image.
        track: Shows progress; `ProgressBar.track`.

    Returns:
        A `Gallery` in the order of the files, without those in its `failures`.

    Raises:
        DataError: As `landmarks_of`.

    Example:
    >>> gallery = embed(Predictor.load("light_cnn_29.keras"), ["ann.png", "bob.png"])
    >>> gallery.embeddings.shape
    (2, 256)
    """
    names = [str(file) for file in files]
    persons = [""] * len(names) if identities is None else list(identities)
    embeddings = np.empty((len(names), predictor.features), np.float32)
    kept: list[int] = []
    failures: list[tuple[str, str]] = []
    changes = Counter[str]()
    for number, row in enumerate(unit_rows(predictor, files, landmarks, data_dir, flip, track)):
        if "error" in row:
            failures.append((row["file"], row["error"]))
            continue
        embeddings[len(kept)] = row["embedding"]
        kept.append(number)
        changes.update([row["changes"]])
    del changes[""]
    return Gallery(
        embeddings[: len(kept)],
        np.array([names[number] for number in kept], np.str_),
        np.array([persons[number] for number in kept], np.str_),
        predictor.digest,
        flip,
        tuple(failures),
        changes,
    )


def save_gallery(path: Path | str, gallery: Gallery) -> None:
    """Writes a gallery as an `.npz` file, whole or not at all.

    Its arrays, none of them pickled: `embeddings` (float32, of length 1), `files`, `identities`, `model` (the digest)
    and `flip`. They are not compressed, so that `load_gallery` can map them.

    Raises:
        DataError: If nothing is in it.
        StorageError: If the file cannot be written; the old one is whole.

    Example:
    >>> save_gallery("gallery.npz", gallery)
    >>> numpy.load("gallery.npz")["embeddings"].shape
    (2, 256)
    """
    if not len(gallery):
        raise DataError(f"A gallery without embeddings is not written. Received: {len(gallery.failures)} failures")
    # Embeddings come first: their numbers then begin at byte 192, a place that matrix products like.
    arrays = {key: np.asarray(getattr(gallery, key)) for key in _KEYS}
    with atomic_write(Path(path)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_gallery(path: Path | str) -> Gallery:
    """Opens a gallery that `save_gallery` or `lightcnn embed` wrote. Its arrays are mapped, not read, where possible.

    Args:
        path: The `.npz` file. One that was compressed is read into memory.

    Raises:
        DataError: If the file cannot be read or is something else.

    Example:
    >>> rank_identities(load_gallery("gallery.npz"), embeddings)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file. Expected what `lightcnn embed` writes.")
    arrays = _mapped(path) or read_npz(path, _KEYS)
    embeddings, files, identities = (arrays[key] for key in _KEYS[:3])
    if (
        embeddings.ndim != 2
        or embeddings.dtype != np.float32
        or not embeddings.size
        or not files.shape == identities.shape == embeddings.shape[:1]
        or any(arrays[key].dtype.kind != "U" for key in ("files", "identities", "model"))
    ):
        shapes = ", ".join(f"{key} {arrays[key].dtype} {arrays[key].shape}" for key in _KEYS)
        raise DataError(
            f"{path} is no gallery. Expected embeddings (pictures, features) float32, files and identities (pictures,) "
            f"as `lightcnn embed` writes them. Received: {shapes}"
        )
    return Gallery(embeddings, files, identities, str(arrays["model"]), bool(arrays["flip"]))


def _mapped(path: Path) -> dict[str, NDArray[Any]] | None:
    """Maps the arrays of an `.npz` file that is not compressed; None if it is no such file, or lacks some."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for key in _KEYS:
                member = archive.getinfo(f"{key}.npy")
                if member.compress_type != zipfile.ZIP_STORED:
                    return None
                # The sizes of name and extra field stand in the member's own header, which they follow.
                file.seek(member.header_offset + 26)
                sizes = np.frombuffer(file.read(4), "<u2")
                file.seek(int(sizes.sum()), 1)
                if np.lib.format.read_magic(file) != (1, 0):
                    return None
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                if fortran or dtype.hasobject:
                    return None
                start = file.tell()
                arrays[key] = np.memmap(path, dtype, "r", start, shape) if shape else np.fromfile(file, dtype, 1)[0]
    except (KeyError, OSError, ValueError, IndexError, zipfile.BadZipFile):
        return None  # the reader of other files says what is wrong
    return arrays


def rank_identities(gallery: Gallery, embeddings: ArrayLike, top: int = 5) -> list[list[dict[str, Any]]]:
    """Finds the people in a gallery who are most alike to each embedding; a person counts by their best picture.

    Pictures of which nobody said who they show stand for themselves.

    Args:
        gallery: The gallery.
        embeddings: `(queries, features)`, made by the gallery's model; of any length.
        top: How many people to name. There may be fewer in the gallery.

    Returns:
        A list a query of dictionaries, the most alike first: `identity` (None if nobody said), `file` and `score`, the
        cosine.

    Raises:
        DataError: If the gallery's embeddings are NaN or infinite.
        ValueError: If the shapes differ, `top` is below 1, or an embedding has no direction.

    Example:
    >>> gallery = Gallery(np.eye(2, dtype="float32"), np.array(["a.png", "b.png"]), np.array(["ann", "bob"]), "")
    >>> rank_identities(gallery, [[0.0, 2.0]], top=1)
    [[{'identity': 'bob', 'file': 'b.png', 'score': 1.0}]]
    """
    if top < 1:
        raise ValueError(f"Expected a `top` of at least 1. Received: top={top}")
    queries = l2_normalize(np.asarray(embeddings, np.float32))
    if queries.ndim != 2 or queries.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            f"Expected embeddings of shape (queries, {gallery.embeddings.shape[1]}). Received: {queries.shape}"
        )
    count = min(len(gallery), 4 * top)
    while True:
        try:
            rows, scores = search(gallery.embeddings, queries, count)
        except ValueError as error:
            raise DataError(f"The gallery is damaged: {error}") from error
        ranked = [_best_of_each(gallery, *found, top) for found in zip(rows, scores, strict=True)]
        # People with many pictures may fill the list.
        if count == len(gallery) or all(len(people) == top for people in ranked):
            return ranked
        count = min(len(gallery), 4 * count)


def _best_of_each(gallery: Gallery, rows: NDArray[np.int64], scores: NDArray[Any], top: int) -> list[dict[str, Any]]:
    identities, files = gallery.identities[rows], gallery.files[rows]
    # A file cannot have an empty name, so the two kinds of names do not meet.
    names = np.where(identities == "", np.char.add("\n", files), identities)
    firsts = np.sort(np.unique(names, return_index=True)[1])[:top]
    return [
        {"identity": str(identities[place]) or None, "file": str(files[place]), "score": float(scores[place])}
        for place in firsts
    ]
