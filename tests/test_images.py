"""Pictures with labels from arrays and folders: what is loaded, how it is split, what is refused."""

import errno
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcnn.datasets import DATASETS, ImageDataset, load_images
from lightcnn.errors import BadFilesError, DataError, StorageError

NO_HOLD_OUT = {"validation_fraction": 0, "test_fraction": 0}


def save_arrays(folder: Path, name="data.npz", **changes) -> Path:
    """30 training pictures of three classes and 6 test pictures; `changes` replace arrays."""
    arrays = {
        "x_train": np.arange(30 * 4 * 5).reshape(30, 4, 5).astype(np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": np.arange(6 * 4 * 5).reshape(6, 4, 5).astype(np.uint8) + 1,
        "y_test": np.array([2, 1, 0, 0, 1, 2]),
    }
    np.savez(folder / name, **{**arrays, **changes})
    return folder / name


def save_picture(path: Path, shade: int, colour=False, size=(8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if colour else "L", size, (shade, 0, 255 - shade) if colour else shade).save(path)
    return path


def save_classes(folder: Path, colour=False, **counts: int) -> Path:
    """One sub-folder a class; picture n of class c is filled with shade 40 c + n + 1."""
    for index, (label, count) in enumerate(counts.items()):
        for number in range(count):
            save_picture(folder / label / f"{number:03}.png", 40 * index + number + 1, colour)
    return folder


def rows_of(data: ImageDataset) -> list[list[int]]:
    return [split.rows.tolist() for split in (data.train, data.validation, data.test) if split is not None]


# ------------------------------------------------------------------------------------------------------------ arrays


def test_arrays_are_loaded_as_they_are(tmp_path):
    path = save_arrays(tmp_path)
    data = load_images("arrays", tmp_path, **NO_HOLD_OUT)
    stored = np.load(path)
    np.testing.assert_array_equal(data.train.take(slice(None)), stored["x_train"][..., None])
    np.testing.assert_array_equal(data.test.take(slice(None)), stored["x_test"][..., None])
    assert data.train.labels.tolist() == [0, 1, 2] * 10
    assert data.test.labels.tolist() == [2, 1, 0, 0, 1, 2]
    assert data.train.labels.dtype == np.int64
    assert data.labels == ("0", "1", "2")
    assert data.validation is None
    assert (data.source, data.skipped) == (path, ())
    assert len(data.train) == 30


def test_the_file_itself_may_be_named(tmp_path):
    save_arrays(tmp_path, "other.npz")
    path = save_arrays(tmp_path)
    assert load_images("arrays", path).source == path
    assert load_images("arrays", str(path)).source == path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint16, np.float16, np.float32, np.float64])
def test_numbers_keep_their_dtype_and_range(tmp_path, dtype):
    x_train = (np.arange(30 * 4 * 5 * 2).reshape(30, 4, 5, 2) % 200).astype(dtype)
    save_arrays(tmp_path, x_train=x_train, x_test=x_train[:6])
    pictures = load_images("arrays", tmp_path, **NO_HOLD_OUT).train.take(slice(None))
    np.testing.assert_array_equal(pictures, x_train, strict=True)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda y: y * 5 - 3, ("-3", "2", "7")),
        (lambda y: y.astype(np.uint8)[:, None], ("0", "1", "2")),
        (lambda y: np.array(["wolf", "ant", "猫"])[y], ("ant", "wolf", "猫")),
        (lambda y: np.array([b"wolf", b"ant", b"cat"])[y], ("ant", "cat", "wolf")),
    ],
    ids=["numbers", "column", "text", "bytes"],
)
def test_labels_become_positions_in_the_sorted_names(tmp_path, make, names):
    y_train, y_test = make(np.arange(30) % 3), make(np.array([2, 1, 0, 0, 1, 2]))
    save_arrays(tmp_path, y_train=y_train, y_test=y_test)
    data = load_images("arrays", tmp_path, **NO_HOLD_OUT)
    assert data.labels == names

    def text(value):
        return value.decode() if isinstance(value, bytes) else str(value)

    assert [data.labels[label] for label in data.train.labels] == [text(value) for value in y_train.ravel()]
    assert [data.labels[label] for label in data.test.labels] == [text(value) for value in y_test.ravel()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((30, 20))}, r"x_train must be \(images, height, width\).*Received: shape \(30, 20\)"),
        ({"x_test": np.zeros((6, 4, 5, 1, 1))}, r"x_test must be .*Received: shape \(6, 4, 5, 1, 1\)"),
        ({"x_train": np.zeros((0, 4, 5))}, r"x_train must be .*at least one picture\. Received: shape \(0, 4, 5\)"),
        ({"x_test": np.zeros((0, 4, 5), np.uint8)}, r"x_test must be .*at least one picture"),
        ({"x_train": np.full((30, 4, 5), "a")}, r"x_train must hold integers or floats\. Received: dtype <U1"),
        ({"x_train": np.zeros((30, 4, 5), complex)}, r"x_train must hold integers or floats\. Received: dtype complex"),
        ({"x_train": np.full((30, 4, 5), np.nan)}, "x_train holds NaN or infinite values"),
        ({"x_test": np.full((6, 4, 5), np.inf)}, "x_test holds NaN or infinite values"),
        ({"x_test": np.zeros((6, 5, 4), np.uint8)}, r"of one shape.*Received: \(4, 5, 1\) uint8 and \(5, 4, 1\) uint8"),
        ({"x_test": np.zeros((6, 4, 5, 3), np.uint8)}, r"of one shape.*\(4, 5, 1\) uint8 and \(4, 5, 3\) uint8"),
        ({"x_test": np.zeros((6, 4, 5), np.float32)}, r"dtype\. Received: .*uint8 and .*float32"),
        ({"y_train": np.eye(3)[np.arange(30) % 3]}, r"y_train must have one label a picture.*argmax.*\(30, 3\)"),
        ({"y_train": np.zeros(29, int)}, r"y_train must have one label a picture, shape \(30,\).*\(29,\)"),
        ({"y_test": np.array(1)}, r"y_test must have one label a picture, shape \(6,\)"),
        ({"y_train": np.zeros(30)}, r"y_train must hold whole numbers or text\. Received: dtype float64"),
        ({"y_train": np.zeros(30, int)}, "y_train has one class only"),
        ({"y_test": np.array([2, 1, 0, 0, 1, 9])}, r"y_test has classes that y_train lacks: \[9\]"),
        ({"y_test": np.array(list("abcdef"))}, "y_test has classes that y_train lacks: .*'a'"),
        ({"y_train": np.array([b"caf\xe9", b"tea", b"milk"] * 10)}, "y_train"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changes, message):
    path = save_arrays(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_images("arrays", tmp_path)
    assert str(path) in str(caught.value)


def test_a_one_hot_mistake_is_caught_where_classes_equal_pictures(tmp_path):
    save_arrays(tmp_path, x_train=np.zeros((3, 4, 5), np.uint8), y_train=np.eye(3, dtype=int))
    with pytest.raises(DataError, match="y_train must have one label a picture"):
        load_images("arrays", tmp_path)


def test_missing_keys_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 3)), labels=np.arange(2))
    with pytest.raises(DataError, match=r"a\.npz lacks .*'x_train'.*Received: \['images', 'labels'\]"):
        load_images("arrays", tmp_path)


def test_a_folder_must_have_exactly_one_npz(tmp_path):
    with pytest.raises(DataError, match=r"exactly one.*Received: none"):
        load_images("arrays", tmp_path)
    save_arrays(tmp_path, "a.npz")
    save_arrays(tmp_path, "b.npz")
    with pytest.raises(DataError, match=r"exactly one.*Received: a\.npz, b\.npz"):
        load_images("arrays", tmp_path)
    with pytest.raises(DataError, match=r"missing does not exist"):
        load_images("arrays", tmp_path / "missing")


def test_the_digest_tells_arrays_apart(tmp_path):
    first = load_images("arrays", save_arrays(tmp_path)).digest
    assert load_images("arrays", save_arrays(tmp_path), seed=3).digest == first
    changed = np.load(tmp_path / "data.npz")["x_test"].copy()
    changed[5, 3, 4] ^= 1
    assert load_images("arrays", save_arrays(tmp_path, x_test=changed)).digest != first
    assert load_images("arrays", save_arrays(tmp_path, y_train=(np.arange(30) + 1) % 3)).digest != first


@pytest.mark.parametrize("name", ["fashion", "", "MNIST"])
def test_an_unknown_data_set_is_named_with_the_known(name):
    with pytest.raises(DataError, match=f"Unknown data set '{name}'. Expected one of {', '.join(DATASETS)}"):
        load_images(name)


@pytest.mark.parametrize("name", ["arrays", "images"])
def test_own_data_need_a_folder(name):
    with pytest.raises(DataError, match=f"'{name}' is your own: name its folder with --data-dir"):
        load_images(name)


def test_mnist_has_its_own_test_split_and_a_held_out_validation_split(mnist_folder):
    data = load_images("mnist", mnist_folder)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [54_001, 5_999, 10_000]
    assert data.labels == tuple("0123456789")
    assert data.train.images.shape == (60_000, 28, 28, 1)
    assert np.shares_memory(data.train.images, data.validation.images)
    # A tenth of the 5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851 and 5949 of each digit.
    assert np.bincount(data.validation.labels).tolist() == [592, 674, 596, 613, 584, 542, 592, 626, 585, 595]


# ------------------------------------------------------------------------------------------------------- holding out


def test_held_out_pictures_are_disjoint_whole_and_stratified(tmp_path):
    data = load_images("images", save_classes(tmp_path, cat=30, dog=20, eel=10), image_size=4)
    rows = rows_of(data)
    assert sorted(row for part in rows for row in part) == list(range(60))
    assert [len(part) for part in rows] == [48, 6, 6]
    # Test: a tenth of each class. Validation: a tenth of the 27, 18 and 9 that are left.
    assert Counter(data.test.labels.tolist()) == {0: 3, 1: 2, 2: 1}
    assert Counter(data.validation.labels.tolist()) == {0: 3, 1: 2, 2: 1}
    for split in (data.train, data.validation, data.test):
        assert (np.diff(split.rows) > 0).all()
        for picture, label, row in zip(split.take(slice(None)), split.labels, split.rows, strict=True):
            assert (label, picture.max()) == (
                0 if row < 30 else 1 if row < 50 else 2,
                40 * label + number_in_class(row),
            )
            assert split.names[row] == str(tmp_path / data.labels[label] / f"{number_in_class(row) - 1:03}.png")


def number_in_class(row: int) -> int:
    return 1 + (row if row < 30 else row - 30 if row < 50 else row - 50)


def test_the_seed_alone_decides_what_is_held_out(tmp_path):
    folder = save_classes(tmp_path, cat=30, dog=30)
    first, again, other = (rows_of(load_images("images", folder, image_size=4, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first[1] != other[1]
    assert first[2] != other[2]


def test_the_test_split_does_not_depend_on_the_validation_split(tmp_path):
    folder = save_classes(tmp_path, cat=30, dog=30)
    tests = [
        load_images("images", folder, image_size=4, validation_fraction=fraction).test.rows.tolist()
        for fraction in (0, 0.1, 0.5)
    ]
    assert tests[0] == tests[1] == tests[2]


def test_shares_are_followed_and_every_class_is_held_out_at_least_once(tmp_path):
    folder = save_classes(tmp_path, cat=40, dog=4)
    data = load_images("images", folder, image_size=4, validation_fraction=0.25, test_fraction=0.5)
    assert Counter(data.test.labels.tolist()) == {0: 20, 1: 2}
    assert Counter(data.validation.labels.tolist()) == {0: 5, 1: 1}
    data = load_images("images", folder, image_size=4, validation_fraction=0.01, test_fraction=0.01)
    assert Counter(data.test.labels.tolist()) == {0: 1, 1: 1}
    assert Counter(data.validation.labels.tolist()) == {0: 1, 1: 1}


def test_every_picture_can_be_held_out(tmp_path):
    folder = save_classes(tmp_path, cat=5, dog=5)
    seen = set()
    for seed in range(40):
        seen.update(load_images("images", folder, image_size=4, seed=seed).test.rows.tolist())
    assert seen == set(range(10))


def test_a_share_of_zero_holds_nothing_out(tmp_path):
    data = load_images("images", save_classes(tmp_path, cat=2, dog=2), image_size=4, **NO_HOLD_OUT)
    assert (len(data.train), data.validation, data.test) == (4, None, None)
    with pytest.raises(DataError, match=r"has no split 'test'\. It has: train"):
        data.split("test")
    with pytest.raises(DataError, match="has no split 'tset'"):
        data.split("tset")
    assert data.split("train") is data.train


@pytest.mark.parametrize(("count", "share"), [(1, 0.1), (2, 0.1), (9, 1.0), (2, 0.9)])
def test_too_few_pictures_to_hold_out_are_told_with_the_class(tmp_path, count, share):
    folder = save_classes(tmp_path, cat=count, dog=20)
    with pytest.raises(DataError, match=rf"cat.* [{count - 1}{count}] picture.*too few"):
        load_images("images", folder, image_size=4, validation_fraction=0.1, test_fraction=share)


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_flat_folder_has_one_class_a_sub_folder(tmp_path):
    save_classes(tmp_path, wolf=3, ant=2)
    save_picture(tmp_path / "ant" / "deeper" / "z.jpg", 7)
    (tmp_path / "notes.txt").write_text("no class")
    (tmp_path / "wolf" / "notes.txt").write_text("no picture")
    data = load_images("images", tmp_path, image_size=6, **NO_HOLD_OUT)
    assert data.labels == ("ant", "wolf")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [Path(name).relative_to(tmp_path).as_posix() for name in data.train.names] == [
        "ant/000.png",
        "ant/001.png",
        "ant/deeper/z.jpg",
        "wolf/000.png",
        "wolf/001.png",
        "wolf/002.png",
    ]
    assert data.name == f"pictures in {tmp_path.name}"
    assert data.source == tmp_path


@pytest.mark.parametrize("held_out", ["validation", "val"])
def test_split_folders_are_kept_as_they_are(tmp_path, held_out):
    save_classes(tmp_path / "train", cat=3, dog=2)
    save_classes(tmp_path / held_out, cat=1, dog=1)
    save_classes(tmp_path / "test", cat=2, dog=4)
    data = load_images("images", tmp_path, image_size=6)
    for name, folder, labels in (
        ("train", "train", [0, 0, 0, 1, 1]),
        ("validation", held_out, [0, 1]),
        ("test", "test", [0, 0, 1, 1, 1, 1]),
    ):
        split = data.split(name)
        assert split.labels.tolist() == labels
        assert all(Path(split.names[row]).parent.parent == tmp_path / folder for row in split.rows)
    assert len({id(split.images) for split in (data.train, data.validation, data.test)}) == 1


def test_two_validation_folders_are_one_too_many(tmp_path):
    for name in ("train", "val", "validation"):
        save_classes(tmp_path / name, cat=3, dog=3)
    with pytest.raises(DataError, match=r"val\b.*validation"):
        load_images("images", tmp_path, image_size=6)


def test_an_unknown_folder_beside_train_is_named(tmp_path):
    save_classes(tmp_path / "train", cat=3, dog=3)
    save_classes(tmp_path / "tests", cat=3, dog=3)
    with pytest.raises(DataError, match=r"a folder 'tests' beside train\. Did you mean .*test.* Expected train, "):
        load_images("images", tmp_path, image_size=6)


def test_a_split_without_a_picture_is_named(tmp_path):
    save_classes(tmp_path / "train", cat=3, dog=3)
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="test holds no readable picture"):
        load_images("images", tmp_path, image_size=6, skip_bad_files=True)


def test_what_has_no_folder_is_held_out_of_train(tmp_path):
    save_classes(tmp_path / "train", cat=10, dog=10)
    save_classes(tmp_path / "test", cat=2, dog=1)
    data = load_images("images", tmp_path, image_size=6)
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 2, 3]
    train_folder = {str(tmp_path / "train")}
    assert {str(Path(data.validation.names[row]).parent.parent) for row in data.validation.rows} == train_folder


def test_a_test_folder_may_lack_a_class_but_has_no_other(tmp_path):
    save_classes(tmp_path / "train", cat=3, dog=3)
    save_classes(tmp_path / "test", dog=2)
    assert load_images("images", tmp_path, image_size=6).test.labels.tolist() == [1, 1]
    save_classes(tmp_path / "test", fox=2)
    with pytest.raises(DataError, match=r"test has classes that .*train lacks: fox"):
        load_images("images", tmp_path, image_size=6)


def test_hidden_files_and_folders_are_ignored(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    save_picture(tmp_path / ".thumbnails" / "a.png", 1)
    save_picture(tmp_path / "cat" / ".cache" / "a.png", 1)
    (tmp_path / "cat" / "._000.png").write_bytes(b"what macOS leaves behind")
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"\0")
    data = load_images("images", tmp_path, image_size=6, **NO_HOLD_OUT)
    assert data.labels == ("cat", "dog")
    assert len(data.train) == 6


@pytest.mark.parametrize("counts", [{}, {"cat": 3}])
def test_one_class_is_not_enough(tmp_path, counts):
    with pytest.raises(DataError, match=r"one sub-folder a class, at least two\. Received: (cat|none)") as caught:
        load_images("images", save_classes(tmp_path, **counts))
    assert str(tmp_path) in str(caught.value)


def test_an_empty_class_is_named(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    (tmp_path / "eel").mkdir()
    with pytest.raises(DataError, match=r"eel holds no picture") as caught:
        load_images("images", tmp_path)
    assert str(tmp_path / "eel") in str(caught.value)


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(DataError, match=rf"{name} is not a folder\. Expected one sub-folder a class"):
            load_images("images", tmp_path / name)


def test_names_of_every_alphabet_are_classes(tmp_path):
    names = ("Straße", "naïve cat", "猫")
    for name in names:
        save_picture(tmp_path / name / "ü b.png", 5)
    assert load_images("images", tmp_path, **NO_HOLD_OUT).labels == names


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_file_names_that_are_no_utf_8_are_read(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    save_picture(tmp_path / "cat" / "plain.png", 5).rename(tmp_path / "cat" / os.fsdecode(b"caf\xe9.png"))
    assert len(load_images("images", tmp_path, **NO_HOLD_OUT).train) == 7


# ------------------------------------------------------------------------------------------------- sizes and channels


@pytest.mark.parametrize("image_size", [1, 7, 32])
def test_pictures_are_fitted_into_the_size(tmp_path, image_size):
    data = load_images("images", save_classes(tmp_path, cat=2, dog=2), image_size=image_size, **NO_HOLD_OUT)
    assert data.train.images.shape == (4, image_size, image_size, 1)
    assert data.train.images.dtype == np.uint8


def test_pictures_keep_their_pixels_at_their_own_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        path = tmp_path / "ab"[number // 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    data = load_images("images", tmp_path, image_size=9, **NO_HOLD_OUT)
    np.testing.assert_array_equal(data.train.take(slice(None)), pixels)
    np.testing.assert_array_equal(data.train.take(np.array([3, 1])), pixels[[3, 1]])


def test_grey_pictures_have_one_channel_and_the_values_of_grey_decoding(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 31)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        path = tmp_path / "ab"[number // 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image = Image.fromarray(picture)
        (image.convert("RGB") if number % 2 else image).save(path)  # some are grey pictures in colour files
    decided, asked = (load_images("images", tmp_path, image_size=9, channels=c, **NO_HOLD_OUT).train for c in (0, 1))
    assert decided.images.shape == (4, 9, 9, 1)
    np.testing.assert_array_equal(decided.take(slice(None)), asked.take(slice(None)))


def test_one_colour_picture_makes_all_three_channels(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    save_picture(tmp_path / "dog" / "colour.png", 200, colour=True)
    images = load_images("images", tmp_path, image_size=6, **NO_HOLD_OUT).train.images
    assert images.shape == (7, 6, 6, 3)
    grey, colour = images[:-1], images[-1]
    assert (grey == grey[..., :1]).all()
    assert colour[3, 3].tolist() == [200, 0, 55]


def test_a_colour_picture_that_cannot_be_read_decides_nothing(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    path = save_picture(tmp_path / "dog" / "colour.png", 200, colour=True)
    path.write_bytes(path.read_bytes()[:50])
    data = load_images("images", tmp_path, image_size=6, skip_bad_files=True, **NO_HOLD_OUT)
    assert data.train.images.shape[-1] == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_can_be_chosen(tmp_path, channels):
    save_classes(tmp_path, colour=channels == 1, cat=2, dog=2)
    data = load_images("images", tmp_path, image_size=6, channels=channels, **NO_HOLD_OUT)
    assert data.train.images.shape == (4, 6, 6, channels)


def test_the_digest_tells_folders_apart(tmp_path):
    folder = save_classes(tmp_path, cat=3, dog=3)

    def digest(**options):
        return load_images("images", folder, **{"image_size": 6, **NO_HOLD_OUT, **options}).digest

    first = digest()
    assert digest() == first
    assert digest(image_size=7) == digest(channels=3) == first, "the same files are the same data in any size"
    (folder / "cat" / "000.png").rename(folder / "cat" / "renamed.png")
    renamed = digest()
    assert renamed != first
    save_picture(folder / "cat" / "more.png", 9)
    assert digest() != renamed


def test_the_digest_tells_pictures_of_the_same_name_and_size_apart(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    sizes, digests = set(), set()
    for shade in (10, 20):
        sizes.add(save_picture(tmp_path / "cat" / "a.bmp", shade).stat().st_size)
        digests.add(load_images("images", tmp_path, image_size=6, **NO_HOLD_OUT).digest)
    assert len(sizes) == 1
    assert len(digests) == 2


def test_the_digest_does_not_depend_on_where_the_folder_is(tmp_path):
    digests = {
        load_images("images", save_classes(tmp_path / name, cat=3, dog=3), **NO_HOLD_OUT).digest for name in ("a", "b")
    }
    assert len(digests) == 1


def test_progress_is_told(tmp_path):
    seen = []

    def track(items, total, description):
        seen.append((total, description))
        for item in items:
            seen.append(1)
            yield item

    load_images("images", save_classes(tmp_path, cat=3, dog=4), image_size=6, track=track)
    assert seen[0][0] == 7
    assert seen[1:] == [1] * 7


# ---------------------------------------------------------------------------------------------------------- bad files


@pytest.fixture
def with_bad_files(tmp_path):
    """Eight good pictures and three that cannot be read, in the order they are found."""
    save_classes(tmp_path, cat=4, dog=4)
    (tmp_path / "cat" / "empty.png").touch()
    (tmp_path / "cat" / "text.jpg").write_text("no picture at all\n")
    truncated = save_picture(tmp_path / "dog" / "truncated.png", 9, size=(300, 300))
    truncated.write_bytes(truncated.read_bytes()[:-60])
    return tmp_path


BAD = [("cat/empty.png", "empty"), ("cat/text.jpg", "not a PNG, JPEG"), ("dog/truncated.png", "truncated")]


def test_bad_files_are_counted_and_named_with_their_causes(with_bad_files):
    with pytest.raises(BadFilesError, match="3 files could not be read") as caught:
        load_images("images", with_bad_files, image_size=6)
    assert [path for path, _ in caught.value.failures] == [with_bad_files / name for name, _ in BAD]
    for (_, cause), (name, word) in zip(caught.value.failures, BAD, strict=True):
        assert word in cause
        assert f"{with_bad_files / name}: {cause}" in str(caught.value)
    assert "--skip-bad-files" in str(caught.value)


def test_bad_files_can_be_left_out_and_are_reported(with_bad_files):
    data = load_images("images", with_bad_files, image_size=6, skip_bad_files=True, **NO_HOLD_OUT)
    assert [path for path, _ in data.skipped] == [with_bad_files / name for name, _ in BAD]
    assert all(word in cause for (_, cause), (_, word) in zip(data.skipped, BAD, strict=True))
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    shades = data.train.take(slice(None)).max(axis=(1, 2, 3))
    assert shades.tolist() == [1, 2, 3, 4, 41, 42, 43, 44]
    assert not any(Path(data.train.names[row]).name in ("empty.png", "text.jpg") for row in data.train.rows)


def test_the_digest_tells_whether_files_were_left_out(with_bad_files):
    first = load_images("images", with_bad_files, image_size=6, skip_bad_files=True).digest
    size = (with_bad_files / "cat" / "text.jpg").stat().st_size
    mended = save_picture(with_bad_files / "new.jpg", 7)
    content = mended.read_bytes()
    assert size != len(content)
    mended.rename(with_bad_files / "cat" / "text.jpg")
    assert load_images("images", with_bad_files, image_size=6, skip_bad_files=True).digest != first


def test_a_single_bad_file_is_one_file(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    (tmp_path / "cat" / "empty.png").touch()
    with pytest.raises(BadFilesError, match=r"^1 file could not be read:\n"):
        load_images("images", tmp_path, image_size=6)


def test_a_hundred_bad_files_are_all_named(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    for number in range(100):
        (tmp_path / "cat" / f"bad{number:03}.png").touch()
    with pytest.raises(BadFilesError, match=r"(?s)^100 files.*bad000\.png.*bad099\.png") as caught:
        load_images("images", tmp_path, image_size=6)
    assert len(caught.value.failures) == 100


def test_a_class_with_no_readable_picture_is_named(tmp_path):
    save_classes(tmp_path, cat=3, dog=3)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel" / "a.png").touch()
    with pytest.raises(DataError, match="No readable picture is left in: eel"):
        load_images("images", tmp_path, image_size=6, skip_bad_files=True)


def test_a_bad_file_in_the_test_folder_is_named_too(tmp_path):
    save_classes(tmp_path / "train", cat=3, dog=3)
    save_classes(tmp_path / "test", cat=1, dog=1)
    (tmp_path / "test" / "dog" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(BadFilesError, match=re.escape(str(tmp_path / "test" / "dog" / "a.png"))):
        load_images("images", tmp_path, image_size=6)
    data = load_images("images", tmp_path, image_size=6, skip_bad_files=True)
    assert data.test.labels.tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------- memory and the disk


def test_splits_share_one_stack(tmp_path):
    data = load_images("images", save_classes(tmp_path, cat=10, dog=10), image_size=6)
    assert np.shares_memory(data.train.images, data.validation.images)
    assert np.shares_memory(data.train.images, data.test.images)
    subset = data.train.subset(np.array([3, 0]))
    assert np.shares_memory(subset.images, data.train.images)
    assert subset.rows.tolist() == [data.train.rows[3], data.train.rows[0]]
    assert not np.shares_memory(data.train.take(slice(None)), data.train.images)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_decoded_pictures_are_on_the_disk_and_not_in_memory(tmp_path):
    save_classes(tmp_path, cat=60, dog=60)

    def memory_of_our_own() -> int:
        [line] = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("RssAnon")]
        return int(line.split()[1]) * 1024

    load_images("images", tmp_path, image_size=8)  # whatever is loaded once is loaded
    before = memory_of_our_own()
    data = load_images("images", tmp_path, image_size=640)
    assert data.train.images.base is not None
    stack_bytes = 120 * 640 * 640 * 3  # 147 MB
    assert memory_of_our_own() - before < stack_bytes / 4


def test_the_decode_file_leaves_nothing_behind(tmp_path):
    data = load_images("images", save_classes(tmp_path / "in", cat=3, dog=3), image_size=6, **NO_HOLD_OUT)
    assert list(Path(os.environ["LIGHTCNN_CACHE"]).iterdir()) == []
    assert data.train.take(slice(0, 1)).max() == 1  # though it can still be read


def test_a_full_disk_is_told_before_decoding(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    save_classes(tmp_path, cat=3, dog=3)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StorageError, match=r"cannot hold 1 MB of decoded pictures: No space left on device") as caught:
        load_images("images", tmp_path, image_size=200)
    assert os.environ["LIGHTCNN_CACHE"] in str(caught.value)
    assert "LIGHTCNN_CACHE" in str(caught.value)
    assert list(Path(os.environ["LIGHTCNN_CACHE"]).iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    save_classes(tmp_path / "in", cat=3, dog=3)
    (tmp_path / "taken").touch()
    monkeypatch.setenv("LIGHTCNN_CACHE", str(tmp_path / "taken"))
    with pytest.raises(StorageError, match="taken"):
        load_images("images", tmp_path / "in", image_size=6)
