"""What bootstrapping needs for pictures: predictions, and cleaned data that `train arrays` takes."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.bootstrapping.predictions import predict_labels
from lightcnn.datasets import ImageDataset, Split
from lightcnn.errors import DataError
from lightcnn.files import atomic_write
from lightcnn.inference import predictor_of
from lightcnn.progress import ProgressBar
from lightcnn.runs import Recipe, Run
from lightcnn.runtimes import open_artifact

__all__ = ["FEWEST", "SUFFIX", "check", "classify", "cleaned_recipe", "figures", "write_cleaned"]

SUFFIX = ".npz"
FEWEST = 2  # one to train on and one to hold out

_BATCH = 256


def check(data: ImageDataset) -> None:
    """Checks that data can be cleaned.

    Raises:
        DataError: If there is no test split, which cleaned arrays must have.
    """
    if data.test is None:
        raise DataError(
            f"{data.source} has no test split, and cleaned data need one. Received: test_fraction=0. Set it above 0."
        )


def cleaned_recipe(recipe: Recipe) -> Recipe:
    """Returns the recipe that trains on what `write_cleaned` writes; the keys of folders have no effect there."""
    folders = {key: getattr(Recipe, key) for key in ("image_size", "channels", "test_fraction")}
    return replace(recipe, dataset="arrays", **folders)


def classify(
    run: Run, data: ImageDataset, split: Split, positions: NDArray[np.int64], bar: ProgressBar
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Predicts what pictures show.

    Args:
        run: The run whose best model predicts. It may know fewer classes than `data` has.
        data: Gives labels their names.
        split: The pictures.
        positions: `(pictures,)`, which of the split's.
        bar: Shows the progress.

    Returns:
        The most probable labels, `(pictures,)` int64, positions in `data.labels`, and their probabilities, float32.
    """
    predictor: Any = predictor_of(open_artifact(run.best_model))
    places = {name: place for place, name in enumerate(data.labels)}
    known = np.array([places[name] for name in predictor.labels])
    return predict_labels(predictor.predict_arrays, known, split, positions, bar)


def figures(run: Run, data: ImageDataset, splits: tuple[str, ...], bar: ProgressBar) -> dict[str, float]:
    """Returns the accuracy of a run's best model on splits of `data`, by the names of their classes."""
    measured = {}
    for name in splits:
        split = data.split(name)
        predicted, _ = classify(run, data, split, np.arange(len(split)), bar)
        measured[f"{name}_accuracy"] = float(np.mean(predicted == split.labels))
    return measured


def write_cleaned(path: Path, data: ImageDataset, positions: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Writes training pictures with new labels, and the test pictures of the same classes, as an `.npz` file.

    Args:
        path: The file; it is written a batch of pictures at a time, whole or not at all.
        data: The pictures.
        positions: `(pictures,)`, the training pictures that stay.
        labels: `(pictures,)`, their new labels, positions in `data.labels`.

    Raises:
        StorageError: If the file cannot be written.
    """
    test = data.split("test")
    known = np.flatnonzero(np.isin(test.labels, labels))  # `train` refuses a test class that nobody trained on
    names = _whole_numbers(data.labels)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for kind, split, rows, own in (
            ("train", data.train, positions, labels),
            ("test", test, known, test.labels[known]),
        ):
            _add_pictures(archive, f"x_{kind}.npy", split, rows)
            with _member(archive, f"y_{kind}.npy") as member:
                np.lib.format.write_array(member, names[own], allow_pickle=False)


def _whole_numbers(names: tuple[str, ...]) -> NDArray[Any]:
    """Returns the classes' names as whole numbers if they were sorted as such, so that they will be again."""
    try:
        numbers = np.array([int(name) for name in names])
    except ValueError:
        return np.array(names)
    same = [str(number) for number in numbers] == list(names) and (np.diff(numbers) > 0).all()
    return numbers if same else np.array(names)


def _add_pictures(archive: zipfile.ZipFile, name: str, split: Split, positions: NDArray[np.int64]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(split.images.dtype),
        "fortran_order": False,
        "shape": (len(positions), *split.images.shape[1:]),
    }
    with _member(archive, name) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for start in range(0, len(positions), _BATCH):
            member.write(split.take(positions[start : start + _BATCH]).tobytes())


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Opens a member without a date: the same arrays give the same file."""
    return archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)
