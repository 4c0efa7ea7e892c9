"""Faces to train on: who is held out, what is decoded, and what a user is told."""

import numpy as np
import pytest
from conftest import real_file
from PIL import Image

from lightcnn.datasets import images
from lightcnn.datasets.faces.loading import centre_of, load_faces
from lightcnn.errors import BadFilesError, DataError


def write_people(root, people, size=(20, 20), mode="L", seed=0):
    """Writes pictures of noise, `people` by name with their number of pictures; a person's name is in the noise."""
    generator = np.random.default_rng(seed)
    for name, count in people.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
            Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(root / name / f"{number}.png")
    return root


def people(count=10, pictures=4):
    return {f"person{number:02}": pictures for number in range(count)}


def names_of(split):
    return [split.names[row] for row in split.rows]


def persons_of(data, split):
    return {data.identities[label] for label in split.labels}


def test_a_folder_of_people(tmp_path):
    data = load_faces(write_people(tmp_path, people()), test_fraction=0.3, validation_fraction=0.25, image_size=24)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 21, "validation": 7, "test": 12}
    assert data.held_out == {"validation", "test"}
    assert persons_of(data, data.train) == persons_of(data, data.validation) == set(data.labels)
    assert persons_of(data, data.test) == set(data.identities) - set(data.labels)
    assert len(persons_of(data, data.test)) == 3
    assert sorted(data.identities) == sorted(people())
    assert np.unique(data.train.labels).tolist() == list(range(7))  # no gaps for a classifier
    every = [name for split in data.splits.values() for name in names_of(split)]
    assert len(set(every)) == len(every) == 40
    for split in data.splits.values():
        assert all(
            f"/{data.identities[label]}/" in name for label, name in zip(split.labels, names_of(split), strict=True)
        )
    assert data.train.images.shape == (40, 24, 24, 1)
    assert data.train.images.dtype == np.uint8


def test_a_picture_is_in_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_WAITING", 3)
    data = load_faces(write_people(tmp_path, people(5)), image_size=20)
    for split in data.splits.values():
        for position, name in enumerate(names_of(split)):
            np.testing.assert_array_equal(split.take(slice(position, position + 1))[0, ..., 0], Image.open(name))


def test_the_seed_decides_who_is_held_out(tmp_path):
    root = write_people(tmp_path, people())
    first, again, other = (load_faces(root, image_size=20, seed=seed) for seed in (1, 1, 2))
    assert first.identities == again.identities
    assert names_of(first.validation) == names_of(again.validation)
    assert first.digest == again.digest == other.digest
    assert persons_of(first, first.test) != persons_of(other, other.test)
    assert names_of(first.train) != names_of(other.train)


def test_a_person_with_one_picture_stays_in_training(tmp_path):
    counts = {"ann": 1, "bob": 2, "eve": 7, "zoe": 21}
    data = load_faces(write_people(tmp_path, counts), test_fraction=0, validation_fraction=0.1, image_size=20)
    held_out = [data.identities[label] for label in data.validation.labels]
    assert {name: held_out.count(name) for name in counts} == {"ann": 0, "bob": 1, "eve": 1, "zoe": 2}
    assert persons_of(data, data.train) == set(counts)
    assert data.test is None


def test_train_and_test_folders(tmp_path):
    write_people(tmp_path / "train", {"ann": 3, "bob": 3})
    write_people(tmp_path / "test", {"abe": 2, "zoe": 2}, seed=1)
    data = load_faces(tmp_path, image_size=20)
    assert data.labels == ("ann", "bob")
    assert data.identities == ("ann", "bob", "abe", "zoe")
    assert data.held_out == {"validation"}
    assert persons_of(data, data.test) == {"abe", "zoe"}


def test_people_in_both_folders_are_refused(tmp_path):
    write_people(tmp_path / "train", {"ann": 3, "bob": 3})
    write_people(tmp_path / "test", {"bob": 2, "zoe": 2})
    with pytest.raises(
        DataError, match=r"people of the test must not be in training.*Received: 1 in both, such as bob"
    ):
        load_faces(tmp_path, image_size=20)
    (tmp_path / "tset").mkdir()
    with pytest.raises(DataError, match=r"folders train and test, so others are not expected.*'tset'"):
        load_faces(tmp_path, image_size=20)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_folders_of_splits_are_no_people(tmp_path, name):
    write_people(tmp_path / "train", {"ann": 3, "bob": 3})
    write_people(tmp_path / name, {"abe": 2, "zoe": 2})
    with pytest.raises(DataError, match=rf"folders train and {name}, which are no people"):
        load_faces(tmp_path, image_size=20)


def test_a_list_of_files(tmp_path):
    write_people(tmp_path / "pictures", people(4, 2))
    lines = [f"pictures/person{n:02}/{k}.png {n + 10}" for n in range(4) for k in range(2)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    data = load_faces(tmp_path / "list.txt", test_fraction=0.5, image_size=20)
    assert set(data.identities) == {"10", "11", "12", "13"}
    assert len(data.labels) == 2


def test_too_few_people_have_no_test(tmp_path):
    data = load_faces(write_people(tmp_path, people(3)), image_size=20)
    assert data.test is None
    assert data.notes == ["3 people are too few to hold some out for a test: there is none."]


def test_one_person_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least two people"):
        load_faces(write_people(tmp_path, people(1)))


def test_pictures_that_are_alone_leave_nothing_for_validation(tmp_path):
    with pytest.raises(DataError, match="everybody in training has one picture"):
        load_faces(write_people(tmp_path, people(5, 1)), image_size=20)


def test_a_bad_picture_is_named_or_skipped(tmp_path):
    write_people(tmp_path, people(4))
    bad = tmp_path / "person01" / "0.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(BadFilesError, match="--skip-bad-files") as caught:
        load_faces(tmp_path, image_size=20)
    assert caught.value.failures[0][0] == bad
    data = load_faces(tmp_path, image_size=20, skip_bad_files=True)
    assert [path for path, _ in data.skipped] == [bad]
    assert sum(len(split) for split in data.splits.values()) == 15
    for number in range(1, 4):
        (tmp_path / "person01" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="No readable picture is left of: person01"):
        load_faces(tmp_path, image_size=20, skip_bad_files=True)


def test_colours(tmp_path):
    root = write_people(tmp_path, people(4), mode="RGB")
    grey, rgb, bgr = (load_faces(root, image_size=20, colour=colour) for colour in ("grey", "RGB", "BGR"))
    assert [data.train.images.shape[-1] for data in (grey, rgb, bgr)] == [1, 3, 3]
    name = names_of(rgb.test)[0]
    for data, expected in ((rgb, np.asarray(Image.open(name))), (bgr, np.asarray(Image.open(name))[..., ::-1])):
        np.testing.assert_array_equal(data.test.take(slice(0, 1))[0], expected)
    with pytest.raises(DataError, match=r"grey, RGB, BGR. Received: 'gray'"):
        load_faces(root, colour="gray")


@pytest.mark.parametrize(
    ("size", "image_size", "aligned", "told"),
    [
        ((144, 144), 144, True, []),
        ((144, 144), 72, True, []),
        ((72, 72), 72, False, []),
        ((92, 112), 72, False, ["16 pictures of 92x112 are fitted into 72x72, black at the sides, and not taken for "
                                "aligned, as pictures of 144x144 would be."]),
    ],
)  # fmt: skip
def test_only_the_authors_size_is_taken_for_aligned(tmp_path, size, image_size, aligned, told):
    data = load_faces(write_people(tmp_path, people(4), size=size), image_size=image_size)
    assert data.aligned is aligned
    assert data.notes == told


def test_sizes_are_those_of_upright_pictures(tmp_path):
    write_people(tmp_path, people(4), size=(112, 92))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    for path in tmp_path.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), exif=turned)
        path.unlink()
    assert load_faces(tmp_path).changes[-1].startswith("16 pictures of 92x112 are fitted into 144x144")


def test_all_pictures_can_be_the_test(tmp_path):
    data = load_faces(write_people(tmp_path, people(6)), image_size=20)
    whole = data.all_to_test()
    assert whole.held_out == {"validation"}
    assert sorted(names_of(whole.test)) == sorted(name for split in data.splits.values() for name in names_of(split))
    assert all(f"/{whole.identities[label]}/" in name
               for label, name in zip(whole.test.labels, names_of(whole.test), strict=True))  # fmt: skip


@pytest.mark.parametrize(("count", "share", "strangers"), [(30, 0.1, 10), (60, 0.2, 12), (30, 0.5, 15)])
def test_strangers_are_held_out_for_the_threshold(tmp_path, count, share, strangers):
    root = write_people(tmp_path, people(count))
    data, again, other = (
        load_faces(root, image_size=20, test_fraction=0, calibration_fraction=share, seed=seed) for seed in (0, 0, 1)
    )
    held_out = persons_of(data, data.calibration)
    assert len(held_out) == strangers
    assert data.labels == data.identities[: count - strangers]
    assert set(data.labels) == persons_of(data, data.train) == set(people(count)) - held_out
    assert persons_of(data, data.validation) <= set(data.labels)
    assert sum(len(split) for split in data.splits.values()) == 4 * count
    assert persons_of(again, again.calibration) == held_out != persons_of(other, other.calibration)


def test_too_few_people_are_told_and_all_train(tmp_path):
    data = load_faces(write_people(tmp_path, people(29)), image_size=20, test_fraction=0, calibration_fraction=0.4)
    assert (data.calibration, len(data.labels)) == (None, 29)
    assert data.notes == [
        "No threshold will be measured: it needs people whom training does not see, and 29 are too few to hold some "
        "out: 30 are needed."
    ]


def test_the_att_faces_have_a_protocol_of_their_own():
    path = real_file("data/orl_faces.npz")
    data = load_faces(path, validation_fraction=0.2, test_fraction=0.5, image_size=36)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 240, "validation": 60, "test": 100}
    assert data.labels == tuple(map(str, range(30)))
    assert persons_of(data, data.test) == set(map(str, range(30, 40)))
    assert np.bincount(data.validation.labels).tolist() == [2] * 30
    with np.load(path) as arrays:
        row = np.flatnonzero(arrays["subjects"] == 30)[0]
        picture = arrays["images"][row]
    assert names_of(data.test)[0] == "30/1"
    shown = data.test.take(slice(0, 1))[0, ..., 0]
    inner = np.asarray(Image.fromarray(picture).resize((30, 36), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(shown[:, 3:33], inner)  # 92 of 112 columns, in the middle
    assert not shown[:, :3].any()
    assert "fitted into 36x36, black at the sides" in data.notes[0]
    with_strangers = load_faces(path, calibration_fraction=0.1, image_size=36)
    assert {name: len(np.unique(split.labels)) for name, split in with_strangers.splits.items()} == {
        "train": 20,
        "validation": 20,
        "calibration": 10,
        "test": 10,
    }
    np.testing.assert_array_equal(with_strangers.test.labels, data.test.labels)
    assert persons_of(with_strangers, with_strangers.calibration) < set(data.labels)


def test_the_centre_of_an_aligned_picture():
    pictures = np.arange(2 * 144 * 144).reshape(2, 144, 144, 1)
    np.testing.assert_array_equal(centre_of(pictures, 128), pictures[:, 8:136, 8:136])
    np.testing.assert_array_equal(centre_of(pictures[:, :5, :5], 2), pictures[:, 1:3, 1:3])
