"""Pictures with labels: the published sets, one's own arrays, one's own folders."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.backends import num_processors, random_stream
from lightcnn.datasets.published import CIFAR10_LABELS, Track, array_digest, cifar10, mnist, read_npz, untracked
from lightcnn.decoding import decode_picture, ignore_picture_warnings, list_pictures
from lightcnn.errors import BadFilesError, DataError, StorageError, nearest
from lightcnn.files import cache_folder, file_digest

__all__ = ["DATASETS", "Decoded", "ImageDataset", "Split", "decode_all", "load_images", "stack_on_disk"]

DATASETS = ("mnist", "cifar10", "arrays", "images")
_WAITING = 4096  # files that are read next


@dataclass(frozen=True)
class Split:
    """Some rows of a stack of pictures. Splits share the stack, so none is a copy.

    Attributes:
        images: `(stack, height, width, channels)`, the whole stack.
        labels: `(rows,)` int64, from 0.
        rows: `(rows,)`, the positions in the stack that belong to this split.
        names: One name a row of the stack: the file's path, or its position.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Returns the pictures at `positions` of this split as a new array."""
        return self.images[self.rows[positions]]

    def subset(self, positions: NDArray[np.int64]) -> Split:
        """Returns the split that holds only `positions` of this one."""
        return replace(self, labels=self.labels[positions], rows=self.rows[positions])


@dataclass(frozen=True)
class ImageDataset:
    """Three splits and what is known about them.

    Attributes:
        name: The data set's name, for people.
        labels: The classes' names; a label of a split is a position in them.
        train: What is trained on.
        validation: What decides; None only if a validation share of 0 was asked for.
        test: What is looked at once; None if there is none.
        source: The file or folder that it came from.
        digest: Tells this data from other data: the name of a published set, else a SHA-256.
        skipped: The files that could not be read, with the cause.
        passed_over: The files in class folders whose names are not those of pictures.
        held_out: The splits that were taken out of the training pictures at random.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split | None
    test: Split | None
    source: Path
    digest: str
    skipped: tuple[tuple[Path, str], ...] = ()
    passed_over: tuple[Path, ...] = ()
    held_out: frozenset[str] = frozenset()

    @property
    def notes(self) -> list[str]:
        """What a user must know of the data."""
        if not self.passed_over:
            return []
        kinds = Counter(path.suffix.lower() or "no suffix" for path in self.passed_over)
        listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        return [f"Passed over {len(self.passed_over)} files that are no pictures by their names: {listed}"]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}

    def split(self, name: str) -> Split:
        """Returns the split called `name`: train, validation or test.

        Raises:
            DataError: If there is no such split.
        """
        if name not in self.splits:
            raise DataError(f"{self.name} at {self.source} has no split {name!r}. It has: {', '.join(self.splits)}.")
        return self.splits[name]


def load_images(
    dataset: str,
    data_dir: Path | str | None = None,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    image_size: int = 64,
    channels: int = 0,
    skip_bad_files: bool = False,
    track: Track = untracked,
) -> ImageDataset:
    """Loads pictures and splits them; the same arguments always give the same splits.

    Args:
        dataset: `"mnist"`, `"cifar10"`, `"arrays"` (an `.npz` file with `x_train, y_train, x_test, y_test`) or
            `"images"` (a folder of pictures, one sub-folder a class; or `train`, `validation`, `test` above these).
        data_dir: The folder (`arrays`: or the file itself). Only the published sets can do without.
        validation_fraction: Share of each class's training pictures that are held out, where the data have no
            validation split of their own.
        test_fraction: The same for the test split; it is taken first.
        seed: Decides which pictures are held out.
        image_size: `images` only: height and width that the pictures are fitted into, in pixels.
        channels: `images` only: 1, 3, or 0 for 1 if every picture is grey and 3 otherwise.
        skip_bad_files: `images` only: leave unreadable files out instead of stopping.
        track: Wraps a long loop to show its progress: `track(items, total, description)` yields the items.

    Returns:
        An `ImageDataset`. Pictures of folders are in a file on the disk that goes away with the process, so memory
        does not grow with their number.

    Raises:
        DataError: If the data cannot be used; the message says what to mend.

    Example:
    >>> data = load_images("mnist", validation_fraction=0.1)
    >>> len(data.train), len(data.validation), len(data.test)
    (54001, 5999, 10000)
    """
    folder = Path(data_dir) if data_dir is not None else None
    if dataset in ("mnist", "cifar10"):
        arrays, name, source = (mnist if dataset == "mnist" else cifar10)(folder, track)
        names = tuple(str(digit) for digit in range(10)) if dataset == "mnist" else CIFAR10_LABELS
        # Verified already, and by a digest that does not change with the version of a JPEG decoder: the name tells it.
        loaded = _from_arrays(arrays, name, source, names, digest=name)
    elif dataset not in DATASETS:
        raise DataError(f"Unknown data set {dataset!r}. Expected one of {', '.join(DATASETS)}.")
    elif folder is None:
        raise DataError(f"The data set {dataset!r} is your own: name its folder with --data-dir.")
    elif dataset == "arrays":
        source = _npz_file(folder)
        loaded = _from_arrays(read_npz(source), source.name, source)
    else:
        loaded = _from_folder(folder, image_size, channels, skip_bad_files, track)
    if loaded.test is None and test_fraction:
        train, test = _hold_out(loaded.train, test_fraction, random_stream(seed, "test"), loaded.labels)
        loaded = replace(loaded, train=train, test=test, held_out=loaded.held_out | {"test"})
    if loaded.validation is None and validation_fraction:
        train, validation = _hold_out(
            loaded.train, validation_fraction, random_stream(seed, "validation"), loaded.labels
        )
        loaded = replace(loaded, train=train, validation=validation, held_out=loaded.held_out | {"validation"})
    return loaded


def _hold_out(
    split: Split, fraction: float, generator: np.random.Generator, names: tuple[str, ...]
) -> tuple[Split, Split]:
    """Takes `fraction` of each class, at least one picture, at random; the order of the rest stays."""
    chosen = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        positions = np.flatnonzero(split.labels == label)
        count = max(1, round(len(positions) * fraction))
        if count >= len(positions):
            raise DataError(
                f"The class {names[label]!r} has {len(positions)} picture(s): too few to train on some and hold out "
                f"{fraction:.0%}. Add pictures."
            )
        chosen[generator.choice(positions, count, replace=False)] = True
    return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))


# ---------------------------------------------------------------------------------------------------------- arrays


def _npz_file(folder: Path) -> Path:
    if folder.is_file():
        return folder
    if not folder.exists():
        raise DataError(f"{folder} does not exist. --data-dir names an .npz file, or a folder with exactly one.")
    found = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if len(found) != 1:
        raise DataError(
            f"{folder} must be an .npz file or a folder with exactly one, with x_train, y_train, x_test, y_test. "
            f"Received: {', '.join(path.name for path in found) or 'none'}"
        )
    return found[0]


def _from_arrays(
    arrays: dict[str, NDArray[Any]],
    name: str,
    source: Path,
    names: tuple[str, ...] | None = None,
    digest: str | None = None,
) -> ImageDataset:
    for kind in ("train", "test"):
        images = arrays[f"x_{kind}"] = _checked_images(arrays[f"x_{kind}"], f"x_{kind}", source)
        arrays[f"y_{kind}"] = _checked_labels(arrays[f"y_{kind}"], len(images), f"y_{kind}", source)
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:] or arrays["x_train"].dtype != arrays["x_test"].dtype:
        raise DataError(
            f"{source}: x_train and x_test must have pictures of one shape and dtype. Received: "
            + " and ".join(f"{arrays[key].shape[1:]} {arrays[key].dtype}" for key in ("x_train", "x_test"))
        )
    classes = np.unique(arrays["y_train"])
    if len(classes) < 2:
        raise DataError(f"{source}: y_train has one class only ({classes}). A classifier needs at least two.")
    if unknown := sorted(set(np.unique(arrays["y_test"]).tolist()) - set(classes.tolist())):
        raise DataError(f"{source}: y_test has classes that y_train lacks: {unknown[:10]}")

    def split(kind: str) -> Split:
        labels = np.searchsorted(classes, arrays[f"y_{kind}"]).astype(np.int64)
        rows = np.arange(len(labels))
        return Split(arrays[f"x_{kind}"], labels, rows, [str(row) for row in rows])

    digest = digest or array_digest(*(arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")))
    labels = names or tuple(str(value) for value in classes)
    return ImageDataset(name, labels, split("train"), None, split("test"), source, digest)


def _checked_images(array: NDArray[Any], key: str, source: Path) -> NDArray[Any]:
    if array.ndim not in (3, 4) or not array.size:
        raise DataError(
            f"{source}: {key} must be (images, height, width) or (images, height, width, channels), with at least "
            f"one picture. Received: shape {array.shape}"
        )
    if array.dtype.kind not in "uif":
        raise DataError(f"{source}: {key} must hold integers or floats. Received: dtype {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{source}: {key} holds NaN or infinite values. Remove these pictures.")
    return array if array.ndim == 4 else array[..., None]


def _checked_labels(array: NDArray[Any], count: int, key: str, source: Path) -> NDArray[Any]:
    if array.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{source}: {key} must have one label a picture, shape ({count},); one-hot rows are turned into labels "
            f"with argmax(axis=1). Received: shape {array.shape}"
        )
    if array.dtype.kind not in "uiUS":
        raise DataError(f"{source}: {key} must hold whole numbers or text. Received: dtype {array.dtype}")
    return np.char.decode(array.reshape(-1), "latin1") if array.dtype.kind == "S" else array.reshape(-1)


# --------------------------------------------------------------------------------------------------------- folders

_SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split_folders(folder: Path) -> dict[str, Path]:
    """Finds the folders of the splits; a `train` without folders in it is a class of that name."""
    if not (folder / "train").is_dir() or not _subfolders(folder / "train"):
        return {"train": folder}
    found: dict[str, Path] = {}
    for path in _subfolders(folder):
        if path.name not in _SPLIT_FOLDERS:
            raise DataError(
                f"{folder} has a folder {path.name!r} beside train.{nearest(path.name, _SPLIT_FOLDERS)} "
                f"Expected {', '.join(_SPLIT_FOLDERS)} there, and the classes in each of them."
            )
        name = _SPLIT_FOLDERS[path.name]
        if name in found:
            raise DataError(f"{folder} has both val and validation, which mean the same. Keep one of them.")
        found[name] = path
    return found


def _from_folder(folder: Path, image_size: int, channels: int, skip_bad_files: bool, track: Track) -> ImageDataset:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected one sub-folder a class.")
    split_folders = _split_folders(folder)
    labels = tuple(path.name for path in _subfolders(split_folders["train"]))
    if len(labels) < 2:
        raise DataError(
            f"{split_folders['train']} must have one sub-folder a class, at least two. "
            f"Received: {', '.join(labels) or 'none'}"
        )
    files: dict[str, list[tuple[Path, int]]] = {}
    passed_over: list[Path] = []
    for name, root in split_folders.items():
        if unknown := [path.name for path in _subfolders(root) if path.name not in labels]:
            raise DataError(f"{root} has classes that {split_folders['train']} lacks: {', '.join(unknown[:10])}")
        classes = [(root / label, index) for index, label in enumerate(labels) if (root / label).is_dir()]
        files[name] = []
        for class_folder, index in classes:
            pictures, others = list_pictures(class_folder)
            files[name] += [(path, index) for path in pictures]
            passed_over += others

    everything = list(chain.from_iterable(files.values()))
    decoded = decode_all([path for path, _ in everything], image_size, channels, track)
    failures = decoded.failures
    if failures and not skip_bad_files:
        hint = "Mend or remove them, or pass --skip-bad-files to train without them."
        raise BadFilesError([(everything[row][0], cause) for row, cause in failures.items()], hint)

    digest = hashlib.sha256()  # of the files: the same in another size are the same data
    for row, (path, _) in enumerate(everything):
        digest.update(f"{path.relative_to(folder)} {row in failures}\n".encode(errors="surrogateescape"))
        digest.update(decoded.digests[row])
    names = [str(path) for path, _ in everything]
    classes_of_rows = np.array([index for _, index in everything], np.int64)
    readable = ~np.isin(np.arange(len(everything)), list(failures))
    splits: dict[str, Split] = {}
    start = 0
    for name, listed in files.items():
        rows = start + np.flatnonzero(readable[start : start + len(listed)])
        start += len(listed)
        own = classes_of_rows[rows]
        if not len(rows):
            raise DataError(f"{split_folders[name]} holds no readable picture. Add some, or remove the folder.")
        if name == "train" and (empty := sorted(set(range(len(labels))) - set(own.tolist()))):
            raise DataError(f"No readable picture is left in: {', '.join(labels[index] for index in empty)}")
        splits[name] = Split(decoded.stack, own, rows, names)
    return ImageDataset(
        name=f"pictures in {folder.name}",
        labels=labels,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        source=folder,
        digest=digest.hexdigest(),
        skipped=tuple((everything[row][0], cause) for row, cause in failures.items()),
        passed_over=tuple(passed_over),
    )


@dataclass(frozen=True)
class Decoded:
    """Pictures from files, a row a file.

    Attributes:
        stack: `(files, height, width, channels)`, in a file on the disk that has no name.
        sizes: How many of those that were read have which width and height in the file, upright.
        failures: The causes of those that failed, by row.
        digests: The SHA-256 of every file.
    """

    stack: NDArray[np.uint8]
    sizes: Counter[tuple[int, int]]
    failures: dict[int, str]
    digests: list[bytes]


def decode_all(paths: list[Path], image_size: int, channels: int, track: Track) -> Decoded:
    """Decodes files on several threads, each into its row of a file on the disk."""
    shape = (len(paths), image_size, image_size, channels or 3)
    stack = stack_on_disk(shape)
    grey = np.zeros(len(paths), bool)
    failures: dict[int, str] = {}
    digests = [b""] * len(paths)

    def decode(row: int) -> tuple[int, int] | None:
        try:
            digests[row] = bytes.fromhex(file_digest(paths[row]))
            picture = decode_picture(paths[row], shape[1:3], shape[3])
        except (DataError, OSError) as error:
            failures[row] = str(error)
            return None
        stack[row], grey[row] = picture.pixels, picture.grey
        return picture.original_size

    with ignore_picture_warnings(), ThreadPoolExecutor(num_processors()) as pool:
        # the pool keeps a kilobyte of every file that waits, and there may be millions
        parts = (range(len(paths))[start : start + _WAITING] for start in range(0, len(paths), _WAITING))
        done = chain.from_iterable(pool.map(decode, rows) for rows in parts)
        sizes = Counter(size for size in track(done, len(paths), "Reading pictures") if size is not None)
    readable = np.ones(len(paths), bool)
    readable[list(failures)] = False
    one_channel = channels == 0 and grey[readable].all()
    # A grey picture's three channels are equal, so one of them is the picture: a view, not a copy.
    return Decoded(stack[..., :1] if one_channel else stack, sizes, dict(sorted(failures.items())), digests)


def stack_on_disk(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Maps a file without a name, which the system removes with the process.

    Its space is taken now: a disk that fills under a mapped file ends the process without a word.
    """
    folder, size = cache_folder(), math.prod(shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.ftruncate(file.fileno(), size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot hold {size / 1e6:,.0f} MB of decoded pictures: {error.strerror}. "
            "Free some space, set LIGHTCNN_CACHE to another folder, or choose a smaller image_size."
        ) from error
