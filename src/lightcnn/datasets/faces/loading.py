"""Faces to train on: pictures by person, decoded once, with the people who are kept for the test."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcnn.backends import random_stream
from lightcnn.datasets.faces.identities import FaceFiles, read_identities
from lightcnn.datasets.faces.orl import load_orl
from lightcnn.datasets.images import ImageDataset, Split, decode_all, stack_on_disk
from lightcnn.datasets.published import Track, array_digest, untracked
from lightcnn.decoding.images import fit_picture
from lightcnn.errors import BadFilesError, DataError

__all__ = ["FaceDataset", "centre_of", "colour_of", "load_faces"]

_ALIGNED = 144  # height and width of the authors' aligned training pictures
_COLOURS = {"grey": 1, "RGB": 3, "BGR": 3}
# People whom training does not see, for the threshold. On the AT&T faces, thresholds of five people were 0.06 to 0.23
# too high for others, those of ten 0.04 to 0.07. Twice as many people must be left to learn from.
_FEWEST_STRANGERS = 10


@dataclass(frozen=True)
class FaceDataset(ImageDataset):
    """Splits of faces; everybody is in one of them alone, but for those of `train`, who are in `validation` too.

    Attributes:
        calibration: People whom training does not see, to measure the threshold on; None if there are too few.
        name, train, validation, test, source, digest, skipped, passed_over, held_out: As in `ImageDataset`.
        labels: The people of the training split, whom a classifier tells apart.
        identities: All people, those of `labels` first, then those of `calibration` and those of `test`; a label of a
            split is a position in them.
        colour: `"grey"`, `"RGB"` or `"BGR"`: the order of the pictures' channels.
        aligned: Whether all pictures have 144 x 144 pixels, the size of the authors' aligned pictures.
        changes: What was done to pictures of other sizes and what is missing, for people.
    """

    identities: tuple[str, ...] = ()
    colour: str = "grey"
    aligned: bool = False
    changes: tuple[str, ...] = ()
    calibration: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        return super().splits | ({} if self.calibration is None else {"calibration": self.calibration})

    @property
    def notes(self) -> list[str]:
        """What a user must know of the data."""
        return [*super().notes, *self.changes]

    def all_to_test(self) -> FaceDataset:
        """Returns the data with all their pictures in the test split: what a model that saw none of them is tested on.

        People keep their place in `identities`.
        """
        rows = np.concatenate([split.rows for split in self.splits.values()])
        labels = np.concatenate([split.labels for split in self.splits.values()])
        order = np.argsort(rows, kind="stable")
        test = replace(self.train, rows=rows[order], labels=labels[order])
        return replace(self, test=test, held_out=self.held_out - {"test"})


def load_faces(
    source: Path | str,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    calibration_fraction: float = 0.0,
    seed: int = 0,
    image_size: int = _ALIGNED,
    colour: str = "grey",
    skip_bad_files: bool = False,
    track: Track = untracked,
) -> FaceDataset:
    """Loads pictures by person and splits them; the same arguments always give the same splits.

    Args:
        source: One of

            - a folder with a sub-folder a person;
            - a folder with `train` and `test`, and people in each of them, nobody in both;
            - a list, UTF-8, of lines `path label`, paths relative to its folder;
            - the AT&T (ORL) faces, an `.npz` file with `images` and `subjects` or a folder with `orl_faces.npz`:
              the subjects 0 to 29 train, 30 to 39 are the test.
        validation_fraction: Share of each person's training pictures that are held out, at least one; none of a person
            with a single picture.
        test_fraction: Share of the people who are held out, at least two, where the data have no test split.
        calibration_fraction: Share of the other people who are held out too, at least ten. Of fewer than 30 there are
            none, and a note says so.
        seed: Decides who and what is held out.
        image_size: Height and width that the pictures are fitted into, in pixels.
        colour: `"grey"`, `"RGB"` or `"BGR"`.
        skip_bad_files: Leave unreadable files out instead of stopping.
        track: Wraps a long loop to show its progress: `track(items, total, description)` yields the items.

    Returns:
        A `FaceDataset`. The pictures are in a file on the disk that goes away with the process, so memory does not grow
        with their number.

    Raises:
        DataError: If the data cannot be used: a single person, people of the test in training, nobody with two
            pictures. The message says what to mend.
        BadFilesError: If pictures cannot be read, or a list names missing ones.

    Example:
    >>> data = load_faces("orl_faces.npz", validation_fraction=0.2)
    >>> len(data.train), len(data.validation), len(data.test), len(data.labels)
    (240, 60, 100, 30)
    """
    if colour not in _COLOURS:
        raise DataError(f"The colour of pictures must be one of {', '.join(_COLOURS)}. Received: {colour!r}")
    source = Path(source)
    if source.suffix == ".npz" or (source / "orl_faces.npz").is_file():
        data = _from_orl(source, image_size, _COLOURS[colour])
    else:
        data = _from_files(source, image_size, _COLOURS[colour], skip_bad_files, track)
    if colour == "BGR":  # a view: nothing is copied
        every = data.splits.items()
        splits: dict[str, Any] = {name: replace(split, images=split.images[..., ::-1]) for name, split in every}
        data = replace(data, **splits)
    data = replace(data, colour=colour)
    if data.test is None and test_fraction:
        count = max(2, round(len(data.labels) * test_fraction))  # one alone could not be taken for another
        data = _hold_out_people(data, "test", count, random_stream(seed, "test"))
    if calibration_fraction:
        data = _hold_out_strangers(data, calibration_fraction, random_stream(seed, "calibration"))
    return _hold_out_pictures(data, validation_fraction, random_stream(seed, "validation"))


def colour_of(model: str, channels: int) -> str:
    """Returns the colour of a recipe's pictures: of so many channels, or with 0 what the released network takes."""
    is_bgr = model == "light_cnn_v4"
    if (channels or (3 if is_bgr else 1)) == 1:
        return "grey"
    return "BGR" if is_bgr else "RGB"


def centre_of(pictures: NDArray[Any], size: int) -> NDArray[Any]:
    """Returns the centre of pictures, a view.

    Args:
        pictures: `(batch, height, width, channels)`.
        size: Height and width of the centre in pixels. Of an odd rest, the smaller half is above and on the left.

    Returns:
        `(batch, size, size, channels)`.

    Example:
    >>> centre_of(np.zeros((2, 144, 144, 1), np.uint8), 128).shape
    (2, 128, 128, 1)
    """
    top, left = ((side - size) // 2 for side in pictures.shape[1:3])
    return pictures[:, top : top + size, left : left + size]


# ---------------------------------------------------------------------------------------------------------- splits


def _hold_out_strangers(data: FaceDataset, fraction: float, generator: np.random.Generator) -> FaceDataset:
    people = len(data.labels)
    needed = 3 * _FEWEST_STRANGERS
    if people < needed:
        note = (
            f"No threshold will be measured: it needs people whom training does not see, and {people} are too few to "
            f"hold some out: {needed} are needed."
        )
        return replace(data, changes=(*data.changes, note))
    return _hold_out_people(data, "calibration", max(_FEWEST_STRANGERS, round(people * fraction)), generator)


def _hold_out_people(data: FaceDataset, name: str, count: int, generator: np.random.Generator) -> FaceDataset:
    people = len(data.labels)
    if people - count < 2:
        note = f"{people} people are too few to hold some out for a {name}: there is none."
        return replace(data, changes=(*data.changes, note))
    # The people of the training come first, in their old order, so that a classifier's labels have no gaps.
    held_out = np.zeros(people, bool)
    held_out[generator.choice(people, count, replace=False)] = True
    order = np.argsort(held_out, kind="stable")
    labels = np.argsort(order)[data.train.labels]
    everything = replace(data.train, labels=labels)
    names = tuple(data.labels[place] for place in order)
    split: Any = {name: everything.subset(np.flatnonzero(labels >= people - count))}
    return replace(
        data,
        identities=names + data.identities[people:],
        labels=names[: people - count],
        train=everything.subset(np.flatnonzero(labels < people - count)),
        held_out=data.held_out | {name},
        **split,
    )


def _hold_out_pictures(data: FaceDataset, fraction: float, generator: np.random.Generator) -> FaceDataset:
    """Holds out `fraction` of everybody's training pictures, rounded, at least one and never all."""
    labels = data.train.labels
    shuffled = generator.permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels, minlength=len(data.labels))
    first = np.cumsum(counts) - counts
    places = np.arange(len(labels)) - np.repeat(first, counts)  # of a picture among those of its person
    held_out = np.minimum(np.maximum(1, np.rint(counts * fraction).astype(int)), counts - 1)
    is_held_out = places < np.repeat(held_out, counts)
    if not is_held_out.any():
        raise DataError(
            f"{data.source}: everybody in training has one picture, so none can be held out for validation. "
            "Add pictures of the same people."
        )
    return replace(
        data,
        train=data.train.subset(np.sort(shuffled[~is_held_out])),
        validation=data.train.subset(np.sort(shuffled[is_held_out])),
        held_out=data.held_out | {"validation"},
    )


# --------------------------------------------------------------------------------------------------------- sources


def _from_orl(source: Path, image_size: int, channels: int) -> FaceDataset:
    faces = load_orl(source)
    height, width = faces.images.shape[1:]
    mode = "L" if channels == 1 else "RGB"
    stack = stack_on_disk((len(faces.images), image_size, image_size, channels))
    for row, picture in enumerate(faces.images):
        fitted = fit_picture(Image.fromarray(picture).convert(mode), image_size, image_size)
        stack[row] = np.asarray(fitted).reshape(stack.shape[1:])
    everything = Split(stack, faces.subjects, np.arange(len(stack)), _numbered(faces.subjects))
    is_train = np.isin(everything.rows, faces.train)
    people = tuple(str(subject) for subject in range(faces.subjects.max() + 1))
    return FaceDataset(
        name="AT&T faces (ORL)",
        labels=people[: faces.subjects[faces.train].max() + 1],
        identities=people,
        train=everything.subset(np.flatnonzero(is_train)),
        validation=None,
        test=everything.subset(np.flatnonzero(~is_train)),
        source=source,
        digest=array_digest(faces.images, faces.subjects),
        changes=_resized(Counter({(width, height): len(stack)}), image_size),
    )


def _numbered(subjects: NDArray[np.int64]) -> list[str]:
    """Names pictures `subject/number`, counted from 1, as the published archive does."""
    seen: Counter[int] = Counter()
    names = []
    for subject in subjects.tolist():
        seen[subject] += 1
        names.append(f"{subject}/{seen[subject]}")
    return names


def _from_files(source: Path, image_size: int, channels: int, skip_bad_files: bool, track: Track) -> FaceDataset:
    parts = _parts(source)
    identities = tuple(chain.from_iterable(part.identities for part in parts.values()))
    files = list(chain.from_iterable(part.files for part in parts.values()))
    before = [0, len(parts["train"].identities)]  # people of the test come after those of the training
    labels = np.concatenate([count + part.labels for count, part in zip(before, parts.values(), strict=False)])
    starts = np.cumsum([0, *(len(part) for part in parts.values())])
    decoded = decode_all(files, image_size, channels, track)
    failures = decoded.failures
    if failures and not skip_bad_files:
        hint = "Mend or remove them, or pass --skip-bad-files to train without them."
        raise BadFilesError([(files[row], cause) for row, cause in failures.items()], hint)
    readable = np.ones(len(files), bool)
    readable[list(failures)] = False
    digest = hashlib.sha256()  # of the files: the same in another size are the same data
    for row, label in enumerate(labels):
        digest.update(f"{identities[label]}/{files[row].name} {row in failures}\n".encode(errors="surrogateescape"))
        digest.update(decoded.digests[row])
    everything = Split(decoded.stack, labels, np.arange(len(files)), [str(file) for file in files])
    splits: dict[str, Any] = {}
    for name, start, end in zip(parts, starts, starts[1:], strict=False):
        rows = start + np.flatnonzero(readable[start:end])
        if len(np.unique(labels[rows])) < 2:
            raise DataError(f"{parts[name].source} must have readable pictures of at least two people.")
        splits[name] = everything.subset(rows)
    empty = set(range(len(parts["train"].identities))) - set(splits["train"].labels.tolist())
    if empty:
        raise DataError(f"No readable picture is left of: {', '.join(identities[label] for label in sorted(empty))}")
    aligned = set(decoded.sizes) == {(_ALIGNED, _ALIGNED)}
    return FaceDataset(
        name=f"faces in {source.name}",
        labels=parts["train"].identities,
        identities=identities,
        train=splits["train"],
        validation=None,
        test=splits.get("test"),
        source=source,
        digest=digest.hexdigest(),
        skipped=tuple((files[row], cause) for row, cause in failures.items()),
        passed_over=tuple(chain.from_iterable(part.passed_over for part in parts.values())),
        aligned=aligned,
        changes=() if aligned else _resized(decoded.sizes, image_size),
    )


def _parts(source: Path) -> dict[str, FaceFiles]:
    """Reads a folder or a list, or the folders `train` and `test` of one."""
    parts = {name: source / name for name in ("train", "test")}
    if not all(map(_holds_folders, parts.values())):
        held_out = [name for name in ("val", "valid", "validation") if _holds_folders(source / name)]
        if held_out and _holds_folders(parts["train"]):
            raise DataError(
                f"{source} has the folders train and {held_out[0]}, which are no people. Name its folder train: what "
                "validation needs is held out of it (validation_fraction)."
            )
        return {"train": read_identities(source)}
    others = [path.name for path in source.iterdir() if path.is_dir() and path not in parts.values()]
    if others := [name for name in sorted(others) if not name.startswith(".")]:
        raise DataError(f"{source} has the folders train and test, so others are not expected. Received: {others[:5]}")
    files = {name: read_identities(path) for name, path in parts.items()}
    if both := sorted(set(files["train"].identities) & set(files["test"].identities)):
        raise DataError(
            f"{source}: people of the test must not be in training, or a model is tested on faces that it knows. "
            f"Received: {len(both)} in both, such as {', '.join(both[:5])}. Move their folders to one side."
        )
    return files


def _holds_folders(path: Path) -> bool:
    return path.is_dir() and any(inner.is_dir() for inner in path.iterdir())


def _resized(sizes: Counter[tuple[int, int]], image_size: int) -> tuple[str, ...]:
    others = {size: count for size, count in sizes.items() if size != (image_size, image_size)}
    if not others:
        return ()
    (width, height), _ = max(others.items(), key=lambda item: item[1])
    shape = f"{width}x{height}" + (" and other sizes" if len(others) > 1 else "")
    fitted = f"fitted into {image_size}x{image_size}"
    black = any(width != height for width, height in others)
    return (
        f"{sum(others.values()):,} pictures of {shape} are {fitted}{', black at the sides' if black else ''}, and not "
        f"taken for aligned, as pictures of {_ALIGNED}x{_ALIGNED} would be.",
    )
