"""The data that a recipe is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcnn.datasets import load_faces, load_images, load_speech
from lightcnn.datasets.faces.loading import colour_of
from lightcnn.datasets.published import untracked
from lightcnn.errors import DataError
from lightcnn.runs.recipe import FACES, SPEECH, Recipe

if TYPE_CHECKING:  # it needs rich, which takes a part of the second in which one file is predicted
    from lightcnn.progress import ProgressBar

__all__ = ["load_data"]

# what a task's data are, where there is no set that could be downloaded
_NEEDED = {SPEECH: "a corpus: name its folder", FACES: "pictures of people: name their folder or list"}


def load_data(
    recipe: Recipe, data_dir: Path | str | None, *, skip_bad_files: bool, bar: ProgressBar | None = None
) -> Any:
    """Loads a recipe's data and splits them as its seed says; of speech the lists, no recording is decoded yet.

    Args:
        recipe: The recipe.
        data_dir: Where the data are; None for published pictures that are downloaded.
        skip_bad_files: Whether files that cannot be read are left out.
        bar: Shows the progress.

    Returns:
        An `ImageDataset`, a `SpeechDataset` or a `FaceDataset`.

    Raises:
        DataError: If the data are missing or cannot be used.

    Example:
    >>> len(load_data(get_recipe("mnist"), None, skip_bad_files=False).split("test"))
    10000
    """
    if data_dir is None and recipe.task in _NEEDED:
        raise DataError(f"{recipe.name} needs {_NEEDED[recipe.task]} with --data-dir.")
    source: Any = data_dir
    shared: dict[str, Any] = {
        "validation_fraction": recipe.validation_fraction,
        "test_fraction": recipe.test_fraction,
        "seed": recipe.seed,
        "skip_bad_files": skip_bad_files,
        "track": untracked if bar is None else bar.track,
    }
    if recipe.task == SPEECH:
        return load_speech(recipe.dataset, source, **shared)
    if recipe.task == FACES:
        return load_faces(
            source,
            **shared,
            calibration_fraction=recipe.calibration_fraction,
            image_size=recipe.image_size,
            colour=colour_of(recipe.model, recipe.channels),
        )
    return load_images(recipe.dataset, data_dir, **shared, image_size=recipe.image_size, channels=recipe.channels)
