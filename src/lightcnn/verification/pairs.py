"""Do two pictures show the same person: one pair, and the protocols of many."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.datasets import FacePairs, PackedPairs
from lightcnn.datasets.published import Track, untracked
from lightcnn.decoding import find_pictures
from lightcnn.errors import BadFilesError, DataError
from lightcnn.files import write_rows
from lightcnn.inference.faces import FacePredictor
from lightcnn.metrics import eer, tar_at_far, verification_accuracy
from lightcnn.verification.gallery import Landmarks, embed, unit_rows

__all__ = ["FARS", "pair_positions", "picture_names", "score_pairs", "verification_figures", "verify", "write_scores"]

FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6", "0")


def verify(
    predictor: FacePredictor,
    first: Path | str,
    second: Path | str,
    *,
    landmarks: Landmarks | None = None,
    flip: bool = False,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Tells whether two pictures show one person.

    Args:
        predictor: The model, from `Predictor.load`.
        first: A picture file.
        second: Another one.
        landmarks: As in `embed`.
        flip: Whether to add the embeddings of the mirror images.
        threshold: Scores at or above it are taken for one person; by default the model file's.

    Returns:
        `files` (both), `score` (the cosine similarity), `threshold` and `same`, which are None if there is no
        threshold, and `changes`, how often what was converted.

    Raises:
        BadFilesError: If a picture could not be read or aligned.

    Example:
    >>> verify(Predictor.load("light_cnn_29.keras"), "ann-1.png", "ann-2.png", threshold=0.35)["same"]
    True
    """
    gallery = embed(predictor, [first, second], landmarks=landmarks, flip=flip)
    if gallery.failures:
        raise _bad_files(gallery.failures, "Both pictures are needed.")
    score = float(np.clip(np.dot(*gallery.embeddings.astype(np.float64)), -1, 1))
    limit = predictor.threshold if threshold is None else threshold
    same = None if limit is None else score >= limit
    files = [str(first), str(second)]
    return {"files": files, "score": score, "threshold": limit, "same": same, "changes": gallery.changes}


def score_pairs(
    predictor: FacePredictor,
    pairs: FacePairs | PackedPairs,
    *,
    landmarks: Landmarks | None = None,
    data_dir: Path | str | None = None,
    flip: bool = False,
    changes: Counter[str] | None = None,
    track: Track = untracked,
) -> NDArray[np.float64]:
    """Scores every pair of a list; a picture is embedded once, however many pairs it is in.

    The score of two pictures is their cosine similarity, that of two folders of frames (YTF) the mean over all pairs of
    frames. Frames are not kept, so memory does not grow with their number.

    Args:
        predictor: The model, from `Predictor.load`.
        pairs: What `lightcnn.datasets.read_pairs` or `read_insightface_bin` gives.
        landmarks: As in `embed`, of all pictures (or frames) in the order of `pairs.files`.
        data_dir: The folder that a list of landmarks is relative to; by default the pairs' own.
        flip: Whether to add the embeddings of the mirror images.
        changes: Counts what was converted, by kind.
        track: Shows progress; `ProgressBar.track`.

    Returns:
        `(pairs,)` float64, from -1 to 1; higher for more alike.

    Raises:
        BadFilesError: If pictures could not be read or aligned: a figure on fewer pairs is another figure. All are
            named.
        DataError: If a folder holds no picture, or a list of landmarks is given for pictures without names.

    Example:
    >>> pairs = read_pairs("pairs.txt", "lfw")
    >>> scores = score_pairs(Predictor.load("light_cnn_29.keras"), pairs)
    >>> verification_figures(scores, pairs.same, pairs.folds)["accuracy"]
    0.9938333333333333
    """
    if isinstance(pairs, PackedPairs) and isinstance(landmarks, Path | str):
        raise DataError(
            f"{pairs.source} has pictures without names, so no list of landmarks can name them. Detect them, or, if "
            f"insightface cut the pictures, use `insightface_landmarks` (--insightface-crops). Received: {landmarks}"
        )
    with _unpacked(pairs) as (listed, names):
        data_dir = listed.root if data_dir is None else data_dir
        sets = [find_pictures([file]) for file in listed.files]  # a folder stands for its frames
        sizes = np.array([len(pictures) for pictures in sets])
        means = np.zeros((len(sets), predictor.features))
        failures, converted = [], Counter[str]()
        frames = list(chain.from_iterable(sets))
        rows = unit_rows(predictor, frames, landmarks, data_dir, flip, track)
        for owner, row in zip(np.repeat(np.arange(len(sets)), sizes), rows, strict=True):
            if "error" in row:
                failures.append((names.get(row["file"], row["file"]), row["error"]))
            else:
                means[owner] += row["embedding"]
                converted.update([row["changes"]])
    if failures:
        raise _bad_files(failures, f"{pairs.source} needs them: a figure without their pairs would be another figure.")
    if changes is not None:
        changes.update({change: count for change, count in converted.items() if change})
    means /= sizes[:, None]
    products: NDArray[np.float64] = np.einsum("ij,ij->i", means[listed.first], means[listed.second])
    return np.clip(products, -1, 1)


@contextmanager
def _unpacked(pairs: FacePairs | PackedPairs) -> Iterator[tuple[FacePairs, dict[str, str]]]:
    """Gives pictures that are packed in one file as files, each once, and what to call these for people."""
    if isinstance(pairs, FacePairs):
        yield pairs, {}
        return
    with tempfile.TemporaryDirectory(prefix="lightcnn-") as folder:
        places: dict[bytes, int] = {}
        numbers: list[int] = []
        names: dict[str, str] = {}
        for number, content in enumerate(pairs.encoded):
            if content not in places:
                places[content] = len(places)
                file = Path(folder, str(number))
                file.write_bytes(content)
                names[str(file)] = f"{pairs.source}, picture {number}"
            numbers.append(places[content])
        first, second = np.array(numbers, np.int64).reshape(-1, 2).T
        yield FacePairs(pairs.source, tuple(map(Path, names)), first, second, pairs.same, pairs.folds), names


def _bad_files(failures: Any, hint: str) -> BadFilesError:
    return BadFilesError([(Path(file), cause) for file, cause in failures], hint)


def verification_figures(scores: ArrayLike, same: ArrayLike, folds: ArrayLike | None = None) -> dict[str, Any]:
    """Measures scores of pairs by the protocols of face verification.

    The accuracy is LFW's: each fold with the threshold of the others, and the mean over folds, each counted once
    whatever its size. The authors of Light CNN print another figure, 100 % - EER over all pairs.

    Args:
        scores: `(pairs,)`, higher for more alike.
        same: `(pairs,)` boolean: whether a pair shows one person.
        folds: `(pairs,)`, the fold of each pair; without, there is no accuracy over folds.

    Returns:
        `pairs`, `genuine`, `impostors` (numbers); `accuracy` and `standard_error` over `folds` (their number), with
        `fold_accuracies` and `fold_thresholds`; `eer`, `eer_threshold` (the lowest score that is accepted there) and
        `accuracy_at_eer` (1 - EER);
        `tar_at_far_1e-1` to `tar_at_far_1e-6` and `tar_at_far_0`, None where there are too few impostors; and `notes`,
        what a reader must know, a list of texts. Rates are fractions. What cannot be measured is None.

    Raises:
        ValueError: If the shapes differ, a score is NaN or infinite, or all pairs are of one kind.

    Example:
    >>> figures = verification_figures([0.9, 0.1, 0.8, 0.3], [True, False, True, False], [0, 0, 1, 1])
    >>> figures["accuracy"], figures["eer"], figures["tar_at_far_1e-1"], figures["tar_at_far_0"]
    (1.0, 0.0, None, 1.0)
    """
    score, kinds = np.asarray(scores, np.float64), np.asarray(same, bool)
    if score.ndim != 1 or score.shape != kinds.shape:
        raise ValueError(
            "Expected a score, and whether it shows one person, for every pair. "
            f"Received: scores.shape={score.shape}, same.shape={kinds.shape}"
        )
    genuine, impostor = score[kinds], score[~kinds]
    rate, highest_refused = eer(genuine, impostor)
    notes: list[str] = []
    rates: dict[str, float | None] = {}
    for far in FARS:
        try:
            rates[far] = tar_at_far(genuine, impostor, float(far))[0]
        except DataError:
            rates[far] = None
    refused = [far for far, rate in rates.items() if rate is None]
    if refused:
        notes.append(
            f"TAR at FAR {', '.join(f'{100 * float(far):g}' for far in refused)} % cannot be measured: "
            f"{round(1 / float(refused[0])):,} pairs of two people are needed for the first of them, there are "
            f"{len(impostor):,}."
        )
    return {
        "pairs": len(score),
        "genuine": len(genuine),
        "impostors": len(impostor),
        **_over_folds(score, kinds, folds, notes),
        "eer": rate,
        "eer_threshold": float(np.nextafter(highest_refused, np.inf)),
        "accuracy_at_eer": 1 - rate,
        **{f"tar_at_far_{far}": share for far, share in rates.items()},
        "notes": notes,
    }


def _over_folds(
    scores: NDArray[np.float64], same: NDArray[np.bool_], folds: ArrayLike | None, notes: list[str]
) -> dict[str, Any]:
    keys = ("folds", "accuracy", "standard_error", "fold_accuracies", "fold_thresholds")
    if folds is None:
        return dict.fromkeys(keys)
    try:
        result = verification_accuracy(scores, same, folds)
    except ValueError as error:
        notes.append(f"There is no accuracy over folds. {error}")
        return dict.fromkeys(keys)
    if np.ptp(result.sizes):
        notes.append(
            f"The folds have {result.sizes.min():,} to {result.sizes.max():,} pairs; each counts once in the mean."
        )
    lists = result.accuracies.tolist(), result.thresholds.tolist()
    values = len(result.sizes), result.mean, result.standard_error, *lists
    return dict(zip(keys, values, strict=True))


def write_scores(path: Path | str, pairs: FacePairs | PackedPairs, scores: ArrayLike) -> None:
    """Writes a row a pair as CSV: both files, whether they show one person, the fold and the score.

    Raises:
        StorageError: If the file cannot be written; the old one is whole.
    """
    header = ["file_a", "file_b", "same", "fold", "score (higher = more alike)"]
    names = picture_names(pairs)
    columns = *pair_positions(pairs), pairs.same.astype(int), pairs.folds, np.asarray(scores)
    rows = (
        [names[first], names[second], same, fold, f"{score:.9g}"]
        for first, second, same, fold, score in zip(*(column.tolist() for column in columns), strict=True)
    )
    write_rows(Path(path), header, rows)


def picture_names(pairs: FacePairs | PackedPairs) -> list[str]:
    """Returns what the pictures are called: their files, or their numbers in a packed set."""
    if isinstance(pairs, PackedPairs):
        return [f"picture {number}" for number in range(2 * len(pairs))]
    return [str(file) for file in pairs.files]


def pair_positions(pairs: FacePairs | PackedPairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the positions of the first and the second picture of each pair."""
    if isinstance(pairs, PackedPairs):
        first = 2 * np.arange(len(pairs))
        return first, first + 1
    return pairs.first, pairs.second
