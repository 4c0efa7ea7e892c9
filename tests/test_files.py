"""Files that are written whole or not at all."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lightcnn.errors import LightCNNError, StorageError
from lightcnn.files import atomic_write, cache_folder, file_digest, write_json, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_atomic_write_makes_the_file_and_its_folders(tmp_path):
    path = tmp_path / "new" / "deeper" / "scores.csv"
    with atomic_write(path) as file:
        file.write(b"file,score\n")
    assert path.read_bytes() == b"file,score\n"
    assert names_in(path.parent) == ["scores.csv"]


def test_atomic_write_replaces_what_stood_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"something much longer than what follows")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_inside_leaves_the_old_file_and_passes_through(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught, atomic_write(path) as file:
        file.write(b"half of the new")
        raise error
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_of_the_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(StorageError, match=r"a\.txt could not be written: No space left on device") as caught:
        write_text(path, "new")
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert "untouched" in str(caught.value)
    assert isinstance(caught.value, LightCNNError)
    assert isinstance(caught.value, OSError)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_new_file_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError):
        write_text(tmp_path / "a.txt", "new")
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(StorageError, match=r"taken/a\.txt could not be written"):
        write_text(tmp_path / "taken" / "a.txt", "new")
    assert (tmp_path / "taken").read_text() == "a file, no folder"


def test_a_folder_in_the_way_is_named_and_kept(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "inside").write_text("kept")
    with pytest.raises(StorageError, match=r"a\.txt could not be written"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt" / "inside").read_text() == "kept"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "new")
        after = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert after == umask


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_device_are_written_to_and_stay(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_text(pipe, "through")
    reader.join()
    assert received == [b"through"]
    write_text(Path("/dev/null"), "away")
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()
    assert names_in(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system names no open files")
@pytest.mark.parametrize("name", ["stdout", "fd/1"])
def test_what_stands_before_in_standard_output_stays(tmp_path, name):
    (tmp_path / "all.csv").write_text("old\n")
    code = "import sys, pathlib, lightcnn.files as files; files.write_text(pathlib.Path(sys.argv[1]), 'new')"
    with (tmp_path / "all.csv").open("a") as output:
        subprocess.run([sys.executable, "-c", code, f"/dev/{name}"], check=True, stdout=output)
    assert (tmp_path / "all.csv").read_text() == "old\nnew"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    name = "n" * 255
    write_text(tmp_path / name, "content")
    assert names_in(tmp_path) == [name]
    with pytest.raises(StorageError, match="could not be written"):
        write_text(tmp_path / (name + "n"), "content")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_one(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    path, target = tmp_path / "a.txt", tmp_path / "elsewhere" / "b.txt"
    if exists:
        target.write_text("old")
    path.symlink_to(target)
    write_text(path, "new")
    assert path.is_symlink()
    assert target.read_text() == "new"
    assert names_in(tmp_path) == ["a.txt", "elsewhere"]


def test_nothing_of_the_new_file_is_seen_before_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" * 100_000


def test_a_reader_at_the_same_time_never_sees_half_a_file(tmp_path):
    path = tmp_path / "a.bin"
    versions = [bytes([number]) * 200_000 for number in range(5)]
    path.write_bytes(versions[0])
    done, torn, reads = threading.Event(), [], []

    def read():
        while not done.is_set():
            content = path.read_bytes()
            reads.append(1)
            if content not in versions:
                torn.append(content)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(40):
            with atomic_write(path) as file:
                for start in range(0, 200_000, 20_000):
                    file.write(versions[turn % 5][start : start + 20_000])
                    file.flush()
    finally:
        done.set()
        reader.join()
    assert len(reads) > 10
    assert not torn


# A file size limit is a full disk that needs no root: a write beyond it fails in the kernel, half-way through.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from lightcnn.errors import StorageError
from lightcnn.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with atomic_write(Path(sys.argv[1])) as file:
        for _ in range(100):
            file.write(b"x" * 10_000)
except StorageError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_really_full_disk_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old" * 1000)
    child = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60)
    assert child.returncode == 7, child.stderr
    assert f"{path} could not be written: File too large" in child.stdout
    assert path.read_bytes() == b"old" * 1000
    assert names_in(tmp_path) == ["model.keras"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from lightcnn.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new' * 100_000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=60)
    assert child.returncode == -9
    assert path.read_bytes() == b"old"


def test_write_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "Größe 猫\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe \xe7\x8c\xab\n"


def test_write_json_can_be_read_by_people_and_machines(tmp_path):
    content = {"labels": ["Katze", "猫"], "epochs": 3, "share": 0.5, "none": None}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "猫" in text
    assert text.count("\n") > 4
    assert text.endswith("}\n")


def test_json_that_cannot_be_made_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert names_in(tmp_path) == ["a.json"]


def test_a_file_name_that_is_no_utf_8_can_be_written_as_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")  # what Linux gives for a name out of an old archive
    write_json(tmp_path / "a.json", {"file": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": name}


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * 3_000_000])
def test_file_digest_is_the_sha_256_of_the_bytes(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_file_digest_of_a_known_text(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_cache_folder_is_the_chosen_one_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTCNN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LIGHTCNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lightcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "lightcnn"
