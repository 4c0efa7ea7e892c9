"""What bootstrapping needs for faces: predictions, and a cleaned list that `train faces` takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.bootstrapping.predictions import predict_labels
from lightcnn.datasets import Split
from lightcnn.datasets.faces.loading import FaceDataset, centre_of
from lightcnn.errors import DataError
from lightcnn.evaluation import faces
from lightcnn.files import atomic_write
from lightcnn.progress import ProgressBar
from lightcnn.runs import Recipe, Run

__all__ = ["FEWEST", "SUFFIX", "check", "classify", "cleaned_recipe", "figures", "write_cleaned"]

SUFFIX = ".txt"
FEWEST = 1  # nothing is held out of a person with one picture

_LONGEST_LABEL = 9  # digits, in a list


def check(data: FaceDataset) -> None:
    """Checks that a list can name the pictures.

    Raises:
        DataError: If they have no files, or names that no line can hold.
    """
    names = [data.train.names[row] for row in data.train.rows]
    if not Path(names[0]).is_file():
        raise DataError(
            f"The pictures of {data.source} are no files, and cleaned faces are a list of files. Save them in folders, "
            "one a person."
        )
    if unlisted := [name for name in names if not _fits_a_line(name)]:
        raise DataError(
            f"A list has a line a file, UTF-8, so names with line breaks, blanks at the end or other bytes do not fit "
            f"it. Rename them. Received: {len(unlisted):,}, the first is {unlisted[0]!r}"
        )


def _fits_a_line(name: str) -> bool:
    is_text = name.encode(errors="replace").decode() == name
    return is_text and len(f"{name}.".splitlines()) == 1 and name == name.rstrip()


def cleaned_recipe(recipe: Recipe) -> Recipe:
    """Returns the recipe that trains on what `write_cleaned` writes: the people of the test are not in it."""
    return replace(recipe, test_fraction=0.0)


def _numbers(labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Returns what people are called in a list, in their order: as they were if that was one, else their positions."""
    numbered = all(label.isdecimal() and len(label) <= _LONGEST_LABEL and str(int(label)) == label for label in labels)
    numbers = np.array([int(label) for label in labels] if numbered else [])
    return numbers if numbered and (np.diff(numbers) > 0).all() else np.arange(len(labels))


def classify(
    run: Run, data: FaceDataset, split: Split, positions: NDArray[np.int64], bar: ProgressBar
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Predicts who is shown, from the centre of each picture.

    Args:
        run: The run whose best model predicts: trained on `data`, or on a list that `write_cleaned` made of it.
        data: Gives labels their names.
        split: The pictures.
        positions: `(pictures,)`, which of the split's.
        bar: Shows the progress.

    Returns:
        The most probable labels, `(pictures,)` int64, positions in `data.labels`, and their probabilities, float32. The
        probabilities are those of the softmax without a margin.
    """
    predictor = faces.open_run(run)
    is_first = run.environment["data"]["digest"] == data.digest
    names = data.labels if is_first else [str(number) for number in _numbers(data.labels)]
    places = {name: place for place, name in enumerate(names)}

    def probabilities_of(pictures: NDArray[Any]) -> NDArray[Any]:
        logits = predictor.identify_arrays(centre_of(pictures, predictor.height))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    known = np.array([places[name] for name in predictor.metadata["labels"]])
    return predict_labels(probabilities_of, known, split, positions, bar)


def figures(run: Run, data: FaceDataset, splits: tuple[str, ...], bar: ProgressBar) -> dict[str, float | None]:
    """Returns the accuracy of a run's best model on known people's pictures, and the EER on those of the test."""
    validation = data.split("validation")
    predicted, _ = classify(run, data, validation, np.arange(len(validation)), bar)
    measured: dict[str, float | None] = {"validation_accuracy": float(np.mean(predicted == validation.labels))}
    if "test" in splits and data.test is not None:
        predictor = faces.open_run(run)
        pairs = faces.measure(predictor, data, "test", bar)
        measured["test_eer"] = faces.figures_of(predictor, data, "test", pairs)["eer"]
    return measured


def write_cleaned(path: Path, data: FaceDataset, positions: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Writes training pictures with new labels as a list `path label`, the form of the authors' MS-Celeb-1M-1R.

    Paths are absolute, since the list does not stand where the pictures do. Labels are those of the list that the data
    came from; people of folders are numbered from 0 in the order of `data.labels`.

    Args:
        path: The list; it is written whole or not at all.
        data: The pictures.
        positions: `(pictures,)`, the training pictures that stay.
        labels: `(pictures,)`, their new labels, positions in `data.labels`.

    Raises:
        StorageError: If the list cannot be written.
    """
    numbers = _numbers(data.labels)
    with atomic_write(path) as file:
        for row, number in zip(data.train.rows[positions], numbers[labels], strict=True):
            file.write(f"{Path(data.train.names[row]).absolute()} {number}\n".encode())
