"""CIFAR-10 from `cifar10.npz`, the python or binary batches, a download, or its copy as JPEG."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcnn.backends import num_processors
from lightcnn.datasets.pickles import read_pickled_arrays
from lightcnn.datasets.published.arrays import (
    Arrays,
    Track,
    array_digest,
    download_folder,
    first_of,
    keras_cache,
    read_npz,
    untracked,
)
from lightcnn.datasets.published.downloading import UnreachableError, download
from lightcnn.errors import DataError, DigestError, StorageError
from lightcnn.files import cache_folder

__all__ = ["CIFAR10_LABELS", "cifar10"]

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_DOWNLOADED = "cifar-10-batches-py-target"  # Keras' name
_CIFAR10_FILE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
_CIFAR10_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_CIFAR10_BATCH_SHA256 = (
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
)
# of train_bytes, train_sizes, train_labels, test_bytes, test_sizes, test_labels, one after another
_CIFAR10_JPEG_SHA256 = "9bff8313f266c6f9efad462be28a94c5b238d4d3deec87ccd7488bd0a37ebfb0"
_LAYOUTS = "cifar10.npz, data_batch_1 to 5 and test_batch (with or without .bin), or cifar10_jpeg.npz"


def cifar10(data_dir: Path | None = None, track: Track = untracked) -> tuple[Arrays, str, Path]:
    """Finds CIFAR-10 in `data_dir`, else in Keras' cache, else downloads it.

    Args:
        data_dir: A folder with `cifar10.npz`, the python batches, the binary batches (in it, or in
            `cifar-10-batches-py` or `cifar-10-batches-bin` below it), or `cifar10_jpeg.npz`; tried in this order.
        track: Wraps a download to show its progress, as in `load_images`.

    Returns:
        The arrays `x_train` (50000, 32, 32, 3), `y_train`, `x_test` (10000, 32, 32, 3), `y_test`, all uint8; the
        data set's name, `"CIFAR-10"` or `"CIFAR-10 (JPEG copy)"`; and the file or folder they came from.

    Raises:
        DataError: If `data_dir` holds no CIFAR-10, or it cannot be had from anywhere.
        DigestError: If the pixels are not CIFAR-10's.
    """
    readers: dict[Any, Callable[[Path], Arrays]] = {
        "cifar10.npz": read_npz,
        _python_batches: _read_python_batches,
        _binary_batches: _read_binary_batches,
        "cifar10_jpeg.npz": _read_jpeg_copy,
    }
    if data_dir is not None:
        source, arrays = first_of(data_dir, "CIFAR-10", readers, _LAYOUTS)
    else:
        places = (folder / name for folder in (keras_cache(), cache_folder()) for name in ("", _DOWNLOADED))
        source = next(filter(None, map(_python_batches, places)), None) or _download_cifar10(track)
        arrays = _read_python_batches(source)
    if source.name == "cifar10_jpeg.npz":
        return arrays, "CIFAR-10 (JPEG copy)", source
    return _check_cifar10(arrays, source), "CIFAR-10", source


def _download_cifar10(track: Track) -> Path:
    folder = download_folder() / _DOWNLOADED
    archive = folder.with_suffix(".tar.gz")
    try:
        download(_CIFAR10_URL, archive, _CIFAR10_FILE_SHA256, track)
    except UnreachableError as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded: {error}. Put its python or binary batches, "
            "cifar10.npz or cifar10_jpeg.npz into a folder and name it with --data-dir."
        ) from error
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unpacked = Path(temporary) / folder.name
            unpacked.mkdir()
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            if not _python_batches(folder):  # another process can have been faster
                shutil.rmtree(folder, ignore_errors=True)
                unpacked.rename(folder)
    except OSError as error:
        raise StorageError(
            f"CIFAR-10 could not be unpacked into {folder}: {error.strerror or error}. Free some space (180 MB)."
        ) from error
    finally:
        archive.unlink(missing_ok=True)
    return folder / "cifar-10-batches-py"


def _batches_folder(folder: Path, subfolder: str, suffix: str) -> Path | None:
    for candidate in (folder, folder / subfolder):
        if (candidate / f"{_CIFAR10_BATCHES[0]}{suffix}").is_file():
            return candidate
    return None


def _python_batches(folder: Path) -> Path | None:
    return _batches_folder(folder, "cifar-10-batches-py", "")


def _binary_batches(folder: Path) -> Path | None:
    return _batches_folder(folder, "cifar-10-batches-bin", ".bin")


def _read_python_batches(folder: Path) -> Arrays:
    images, labels = [], []
    for name in _CIFAR10_BATCHES:
        try:
            batch = read_pickled_arrays(_read_bytes(folder / name))
            images.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch["labels"], np.uint8))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(f"{folder / name} is not a python batch of CIFAR-10: {error}") from error
    return _from_batches(images, labels)


def _read_binary_batches(folder: Path) -> Arrays:
    images, labels = [], []
    for name in _CIFAR10_BATCHES:
        path = folder / f"{name}.bin"
        content = np.frombuffer(_read_bytes(path), np.uint8)
        if content.size != 10_000 * 3073:
            raise DataError(f"{path} must have 30,730,000 bytes. Received: {content.size:,}. It is truncated.")
        rows = content.reshape(-1, 3073)
        images.append(rows[:, 1:].reshape(-1, 3, 32, 32))
        labels.append(rows[:, 0])
    return _from_batches(images, labels)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}. Six batches make CIFAR-10.") from error


def _from_batches(images: list[NDArray[np.uint8]], labels: list[NDArray[np.uint8]]) -> Arrays:
    return {
        "x_train": np.concatenate(images[:5]).transpose(0, 2, 3, 1),
        "y_train": np.concatenate(labels[:5]),
        "x_test": images[5].transpose(0, 2, 3, 1),
        "y_test": labels[5],
    }


def _read_jpeg_copy(path: Path) -> Arrays:
    """Decodes `cifar10_jpeg.npz`: all JPEG files of a split one after another, their sizes, and the labels."""
    keys = [f"{split}_{kind}" for split in ("train", "test") for kind in ("bytes", "sizes", "labels")]
    packed = read_npz(path, keys)
    received = array_digest(*packed.values())
    if received != _CIFAR10_JPEG_SHA256:
        raise DigestError(
            f"{path} is not the JPEG copy of CIFAR-10. Expected SHA-256 {_CIFAR10_JPEG_SHA256} over its arrays. "
            f"Received: {received}. Get the file again."
        )
    arrays = {}
    with ThreadPoolExecutor(num_processors()) as pool:
        for split in ("train", "test"):
            ends = np.cumsum(packed[f"{split}_sizes"], dtype=np.int64)
            pieces = np.split(packed[f"{split}_bytes"], ends[:-1])
            arrays[f"x_{split}"] = np.stack(list(pool.map(_decode_jpeg, pieces)))
            arrays[f"y_{split}"] = packed[f"{split}_labels"]
    return arrays


def _decode_jpeg(piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(piece.tobytes()), formats=("JPEG",)))


def _check_cifar10(arrays: Arrays, source: Path) -> Arrays:
    for kind, count in (("train", 50_000), ("test", 10_000)):
        images, labels = arrays[f"x_{kind}"], arrays[f"y_{kind}"]
        if (
            images.shape != (count, 32, 32, 3)
            or images.dtype != np.uint8
            or labels.shape not in ((count,), (count, 1))
            or labels.dtype.kind not in "ui"
        ):
            raise DigestError(
                f"{source} is not CIFAR-10. Expected x_{kind} uint8 ({count}, 32, 32, 3) and y_{kind} ({count},). "
                f"Received: {images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            )
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    labels = np.concatenate([arrays["y_train"].reshape(-1, 1), arrays["y_test"].reshape(-1, 1)])
    rows = np.hstack([labels.astype(np.uint8), images.transpose(0, 3, 1, 2).reshape(60_000, 3072)])
    for index, (name, expected) in enumerate(zip(_CIFAR10_BATCHES, _CIFAR10_BATCH_SHA256, strict=True)):
        received = array_digest(rows[index * 10_000 : (index + 1) * 10_000])
        if received != expected:
            raise DigestError(
                f"{source}: {name} is not CIFAR-10's. Expected SHA-256 {expected} of labels and pixels in the binary "
                f"layout. Received: {received}. Get the file again."
            )
    return {**arrays, "y_train": labels[:50_000, 0].astype(np.uint8), "y_test": labels[50_000:, 0].astype(np.uint8)}
