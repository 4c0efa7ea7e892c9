"""What an artifact is compared on: validation data of a run, or made-up data where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.loading import centre_of
from lightcnn.decoding import decode_audio, fit_length
from lightcnn.errors import ExportError
from lightcnn.runs import FACES, IMAGES, SPEECH, Run, load_data

__all__ = ["Batch", "Examples", "examples_of", "made_up_examples", "validation_examples"]

Batch = tuple[NDArray[Any], ...]

_PICTURES, _RECORDINGS = 512, 64
_BATCH = {IMAGES: 64, SPEECH: 8, FACES: 16}
_LONGEST_S = 20.0  # of a recording, from its beginning


@dataclass(frozen=True)
class Examples:
    """Batches that a model takes.

    Attributes:
        batches: An array an input of the model, in order.
        origin: Where they come from, for people.
        real: Whether they are data that the model is made for.
    """

    batches: list[Batch]
    origin: str
    real: bool = True

    def __len__(self) -> int:
        return sum(len(batch[0]) for batch in self.batches)


def validation_examples(run: Run, model: Any, metadata: dict[str, Any], data_dir: Path | str | None = None) -> Examples:
    """Loads validation data of a run: up to 512 pictures or 64 recordings, evenly spread over the split.

    Args:
        run: The run.
        model: Its Keras model, which says what it takes.
        metadata: What the model file says.
        data_dir: Where the data are; None for where they were in training.

    Returns:
        The examples.

    Raises:
        DataError: If the data cannot be used.
        ExportError: If they are not those that the run was trained on.
    """
    recipe, trained_on = run.recipe, run.environment["data"]
    data = load_data(recipe, data_dir or trained_on["data_dir"], skip_bad_files=bool(trained_on["skipped"]))
    if data.digest != trained_on["digest"]:
        raise ExportError(
            f"{data.source} is not the data that {run.folder} was trained on, so its validation split could hold what "
            "the model was trained on. Name the same --data-dir."
        )
    return examples_of(data, model, metadata)


def examples_of(data: Any, model: Any, metadata: dict[str, Any]) -> Examples:
    """Returns examples from the validation split of loaded data.

    Args:
        data: An `ImageDataset`, `SpeechDataset` or `FaceDataset`.
        model: The Keras model.
        metadata: What the model file says.
    """
    split, task = data.split("validation"), metadata.get("task", IMAGES)
    most = _RECORDINGS if task == SPEECH else _PICTURES
    rows = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(int))
    if task == SPEECH:
        rate = metadata["sampling_rate"]
        size = model.inputs[0].shape[1]
        most_samples = size or round(_LONGEST_S * rate)
        recordings = [decode_audio(split.path(row), rate, num_samples=most_samples) for row in rows]
        if size:  # filled up as at use
            recordings = [fit_length(one, size, pad=metadata["input"]["pad"]) for one in recordings]
        batches = _of_recordings(recordings, len(model.inputs) == 2)
    else:
        pictures = (split.take(group) for group in _grouped(rows, task))
        if task == IMAGES:
            batches = [(one,) for one in pictures]
        else:  # faces are larger than what the network takes
            batches = [(centre_of(one, model.inputs[0].shape[1]),) for one in pictures]
    return Examples(_as_float(batches), f"{len(rows)} of the {len(split):,} validation examples of {data.name}")


def made_up_examples(model: Any, metadata: dict[str, Any]) -> Examples:
    """Returns seeded noise in the range of the model's inputs, for a model file that nobody has data of.

    Pictures get smooth noise from 0 to 255; recordings of 1, 4 and 20 s, where the length is free, noise and a tone.
    """
    generator = np.random.default_rng(0)
    shape = model.inputs[0].shape[1:]
    if len(shape) == 3:
        height, width = (64 if side is None else side for side in shape[:2])
        blocks = generator.integers(0, 256, (32, -(-height // 4), -(-width // 4), shape[2]))
        pictures = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        batches: list[Any] = [(pictures[start : start + 16],) for start in (0, 16)]
    elif len(shape) == 1:
        rate = int(metadata.get("sampling_rate", 16000))
        sizes = [round(seconds * rate) for seconds in (1, 1, 4, 4, 20)] if shape[0] is None else [shape[0]] * 8
        recordings = []
        for index, size in enumerate(sizes):
            tone = np.sin(2 * np.pi * 150 * (index + 1) / rate * np.arange(size))
            recordings.append(0.3 * tone * generator.random() + generator.normal(0, 0.05 * generator.random(), size))
        batches = _of_recordings(recordings, len(model.inputs) == 2)
    else:
        sizes = [64 if size is None else size for size in shape]
        features = generator.normal(size=(8, *sizes))
        lengths = (generator.integers(1, sizes[0] + 1, 8),) if len(model.inputs) == 2 else ()
        batches = [(features, *lengths)]
    return Examples(_as_float(batches), "seeded noise, since there are no data", real=False)


def _grouped(rows: NDArray[np.int64], task: str) -> list[NDArray[np.int64]]:
    return [rows[start : start + _BATCH[task]] for start in range(0, len(rows), _BATCH[task])]


def _of_recordings(recordings: list[NDArray[Any]], any_length: bool) -> list[Batch]:
    """Returns batches of recordings of like length, padded with zeros; with `any_length` the lengths too."""
    ordered = sorted(recordings, key=len)
    batches: list[Batch] = []
    for start in range(0, len(ordered), _BATCH[SPEECH]):
        group = ordered[start : start + _BATCH[SPEECH]]
        samples = np.zeros((len(group), len(group[-1])), np.float32)
        for row, one in enumerate(group):
            samples[row, : len(one)] = one
        batches.append((samples, np.array([len(one) for one in group], np.int32)) if any_length else (samples,))
    return batches


def _as_float(batches: list[Any]) -> list[Batch]:
    return [(first.astype(np.float32), *(one.astype(np.int32) for one in others)) for first, *others in batches]
