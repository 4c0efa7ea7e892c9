"""Lists of faces: pairs, people, landmarks, the AT&T faces and insightface's pickles; every way to be wrong."""

import io
import json
import os
import pickle
import re

import numpy as np
import pytest
from conftest import real_file
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightcnn.datasets import (
    all_pairs,
    landmarks_of,
    load_orl,
    open_set_split,
    read_identities,
    read_insightface_bin,
    read_landmarks,
    read_pairs,
)
from lightcnn.errors import BadFilesError, DataError, LightCNNError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ------------------------------------------------------------------------------------------------------- LFW's pairs

LFW = (
    "2\t2\n"
    "Ann\t1\t2\nBob\t1\t3\nAnn\t1\tBob\t2\nBob\t3\tCid\t1\n"
    "Cid\t1\t2\nAnn\t2\t10\nAnn\t1\tCid\t2\nCid\t1\tBob\t1\n"
)
LFW_FILES = [
    f"{name}/{name}_{number:04}.jpg"
    for name, number in (
        *(("Ann", number) for number in (1, 2, 10)),
        *(("Bob", number) for number in (1, 2, 3)),
        ("Cid", 1),
        ("Cid", 2),
    )
]


def test_lfw_pairs(tmp_path):
    touch(tmp_path / "images", *LFW_FILES)
    pairs = read_pairs(write(tmp_path / "pairs.txt", LFW), tmp_path / "images")
    assert len(pairs) == 8
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.folds.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(pairs.files) == len(set(pairs.files)) == 8  # of 16 names
    named = [(pairs.files[a].name, pairs.files[b].name) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert named[:3] == [
        ("Ann_0001.jpg", "Ann_0002.jpg"),
        ("Bob_0001.jpg", "Bob_0003.jpg"),
        ("Ann_0001.jpg", "Bob_0002.jpg"),
    ]
    assert named[5] == ("Ann_0002.jpg", "Ann_0010.jpg")
    assert pairs.files[0] == tmp_path / "images" / "Ann" / "Ann_0001.jpg"


def test_lfw_in_full_size(tmp_path):
    people = [f"Person_{number}" for number in range(40)]
    touch(tmp_path, *(f"{name}/{name}_{number:04}.jpg" for name in people for number in range(1, 11)))
    generator = np.random.default_rng(0)
    lines = ["10\t300"]
    for _ in range(10):
        lines += [f"{people[generator.integers(40)]}\t{generator.integers(1, 6)}\t{generator.integers(6, 11)}"] * 300
        one, other = generator.choice(40, 2, replace=False)
        lines += [f"{people[one]}\t{generator.integers(1, 11)}\t{people[other]}\t{generator.integers(1, 11)}"] * 300
    pairs = read_pairs(write(tmp_path / "pairs.txt", "\n".join(lines)))
    assert len(lines) == 6001
    assert np.bincount(pairs.folds).tolist() == [600] * 10
    np.testing.assert_array_equal(pairs.same, np.tile(np.repeat([True, False], 300), 10))


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".jpeg"])
def test_lfw_with_other_pictures(tmp_path, suffix):
    touch(tmp_path, *(name.replace(".jpg", suffix) for name in LFW_FILES))
    assert {file.suffix for file in read_pairs(write(tmp_path / "pairs.txt", LFW)).files} == {suffix}


@pytest.mark.parametrize("change", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t + "\n\n"])
def test_line_ends_and_byte_order_mark(tmp_path, change):
    touch(tmp_path, *LFW_FILES)
    assert len(read_pairs(write(tmp_path / "pairs.txt", change(LFW)))) == 8


def test_blanks_separate_names_that_have_none(tmp_path):
    touch(tmp_path, *LFW_FILES)
    assert len(read_pairs(write(tmp_path / "pairs.txt", LFW.replace("\t", " ")))) == 8


def test_names_with_blanks_between_tabs(tmp_path):
    touch(tmp_path, *(name.replace("Ann", "Ann Li") for name in LFW_FILES))
    pairs = read_pairs(write(tmp_path / "pairs.txt", LFW.replace("Ann", "Ann Li")))
    assert pairs.files[0] == tmp_path / "Ann Li" / "Ann Li_0001.jpg"


def test_a_header_with_one_number_is_one_fold(tmp_path):
    touch(tmp_path, *LFW_FILES)
    pairs = read_pairs(write(tmp_path / "pairsDevTest.txt", "2\n" + "\n".join(LFW.split("\n")[1:5])))
    assert pairs.folds.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (
            LFW[: LFW.rindex("Cid")],
            r"line 1 promises 2 folds of 2 pairs.*8 in all\. Received: 7\. Is the file cut short",
        ),
        (LFW + "Ann\t1\t2\n", "Received: 9"),
        (LFW.replace("Bob\t1\t3", "Bob\t1\tAnn\t3"), r"line 3: expected a pair of one person.*'Bob\\t1\\tAnn\\t3'"),
        (LFW.replace("Ann\t1\tBob\t2", "Ann\t1\t2"), r"line 4: expected a pair of two: name, i, name, j"),
        (LFW.replace("Ann\t2\t10", "Ann\t2\tten"), r"line 7: expected a pair of one person"),
        (LFW.replace("Ann\t2\t10", "Ann Li 2 10"), r"line 7: expected a pair of one person"),
        (LFW.replace("Ann\t2\t10", f"Ann\t2\t{'9' * 5000}"), r"line 7"),
        ("0\t0\n", "must have pairs of one person and pairs of two. Received: 0 pairs"),
        (b"10\t300\nJos\xe9\t1\t2\n", "no text in UTF-8"),
    ],
)
def test_lists_that_make_no_sense_name_the_line(tmp_path, text, message):
    touch(tmp_path, *LFW_FILES)
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(write(tmp_path / "pairs.txt", text))
    assert "pairs.txt" in str(caught.value)


def test_missing_files_are_all_named(tmp_path):
    touch(tmp_path, *LFW_FILES[2:])
    with pytest.raises(BadFilesError, match=r"^2 files could not be read:") as caught:
        read_pairs(write(tmp_path / "pairs.txt", LFW))
    assert [path.name for path, _ in caught.value.failures] == ["Ann_0001.jpg", "Ann_0002.jpg"]
    assert f"looked for in {tmp_path}" in str(caught.value)
    rows = "".join(f"a{number}.jpg,b{number}.jpg,{number % 2}\n" for number in range(50))
    with pytest.raises(BadFilesError, match=r"^100 files could not be read:") as caught:
        read_pairs(write(tmp_path / "pairs.csv", rows))
    assert str(caught.value).count("no such file") == 100


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt could not be read: No such file"):
        read_pairs(tmp_path / "none.txt")


# ------------------------------------------------------------------------------------------------------ other pairs

TABLES = {
    "three columns": "a.png,b.png,1\na.png,c d.png,0\n",
    "a header": "file1,file2,same\na.png,b.png,true\na.png,c d.png,False\n",
    "quotes and blanks": '"a.png", b.png, yes\n\n"a.png", "c d.png", NO\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_pairs(tmp_path, name):
    touch(tmp_path, "a.png", "b.png", "c d.png")
    pairs = read_pairs(write(tmp_path / "pairs.csv", TABLES[name]))
    assert [file.name for file in pairs.files] == ["a.png", "b.png", "c d.png"]
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()) == ([0, 0], [1, 2], [True, False])


def test_folds_of_a_table_may_have_names_and_any_size(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    rows = "file1,file2,same,fold\na.png,b.png,1,x\na.png,b.png,0,y\na.png,b.png,1,x\na.png,b.png,0,x\n"
    assert read_pairs(write(tmp_path / "pairs.csv", rows)).folds.tolist() == [0, 1, 0, 0]


def test_without_folds_each_tenth_of_both_kinds_makes_one(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    rows = "a.png,b.png,1\n" * 40 + "a.png,b.png,0\n" * 60
    pairs = read_pairs(write(tmp_path / "pairs.csv", rows))
    assert np.bincount(pairs.folds[:40]).tolist() == [4] * 10
    assert np.bincount(pairs.folds[40:]).tolist() == [6] * 10
    assert pairs.folds[:40].tolist() == sorted(pairs.folds[:40].tolist())


@pytest.mark.parametrize(
    "lines",
    [
        ["1, 1, Ann/0, Ann/1, 1", "1, 2, Ann/0, Bob/2, 0", "2, 3, Bob/2, Bob/3, 1"],
        ["1, 1, Ann/0, Ann/1, 0, 1", "1, 2, Ann/0, Bob/2, 1, 0", "2, 3, Bob/2, Bob/3, 0, 1"],
    ],
    ids=["published", "corrected"],
)
def test_splits_of_videos(tmp_path, lines):
    touch(tmp_path, "Ann/0/1.jpg", "Ann/1/1.jpg", "Bob/2/1.jpg", "Bob/3/1.jpg")
    header = ", ".join(f"column {letter}" for letter in "abcdef"[: lines[0].count(",") + 1])
    pairs = read_pairs(write(tmp_path / "splits.txt", "\n".join([header, *lines])))
    assert pairs.same.tolist() == [True, False, True]
    assert pairs.folds.tolist() == [0, 0, 1]
    assert [file.relative_to(tmp_path).as_posix() for file in pairs.files] == ["Ann/0", "Ann/1", "Bob/2", "Bob/3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,b.png,1\na.png,b.png,maybe\n", r"line 2: expected two files and whether they are the same.*maybe"),
        ("a.png,b.png,maybe\na.png,b.png,0\n", r"line 1: expected two files"),
        ("a.png,b.png,1\na.png,,0\n", r"line 2: expected two files"),
        ("a.png,b.png,1\na.png,b.png,0,1\n", r"line 2: expected 3 columns, as before"),
        ("a.png b.png 1\n", r"line 1: expected columns between commas.*or LFW's list"),
        ("a.png,b.png,1\na.png,b.png,1\n", r"2 pairs, 2 of one person"),
        ("file1,file2,same\n", r"0 pairs"),
        ('a.png,"b.png,1\n' * 3, r"pairs\.csv"),
        ("a.png,b.png,1\n" + "x" * 200_000 + ",b.png,0\n", r"line 2 is no line of a table"),
    ],
)
def test_tables_that_make_no_sense_name_the_line(tmp_path, text, message):
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path / "pairs.csv", text))


@given(st.binary(max_size=120) | st.text(alphabet="0123456789\t ,\nab./\"'", max_size=120).map(str.encode))
def test_no_list_gives_another_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    for reader in (read_pairs, read_identities):
        try:
            reader(write(folder / "list.txt", content))
        except LightCNNError as error:
            assert "list.txt" in str(error)


# ------------------------------------------------------------------------------------------------------------ people


def test_a_folder_of_people(tmp_path):
    touch(tmp_path, "bob/1.png", "ann/2.jpg", "ann/deep/1.jpg", "ann/notes.txt", ".hidden/1.png")
    faces = read_identities(tmp_path)
    assert faces.identities == ("ann", "bob")
    assert [file.relative_to(tmp_path).as_posix() for file in faces.files] == [
        "ann/2.jpg",
        "ann/deep/1.jpg",
        "bob/1.png",
    ]
    assert faces.labels.tolist() == [0, 0, 1]
    assert [file.name for file in faces.passed_over] == ["notes.txt"]
    assert len(faces) == 3


def test_a_list_of_people(tmp_path):
    touch(tmp_path / "images", "b/my face.png", "a/1.png", "c.png")
    text = "b/my face.png 10\na/1.png 2\n\nc.png 10\n"
    faces = read_identities(write(tmp_path / "list.txt", text), tmp_path / "images")
    assert faces.identities == ("2", "10")  # by number
    assert faces.labels.tolist() == [1, 0, 1]
    assert faces.files[0] == tmp_path / "images" / "b" / "my face.png"
    touch(tmp_path, "x.png", "y.png")
    assert read_identities(write(tmp_path / "list.txt", "x.png 0\ny.png 1\n")).files[0] == tmp_path / "x.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 0\nb.png\n", r"line 2: expected `path label`.*'b\.png'"),
        ("a.png 0\nb.png one\n", r"line 2: expected `path label`"),
        ("a.png 0\n 1\n", r"line 2: expected `path label`"),
        ("a.png -1\n", r"line 1: expected `path label`"),
        ("a.png 0\nb.png 0\n", r"at least two people.*Received: 0$"),
        ("", r"at least two people.*Received: none"),
    ],
)
def test_lists_of_people_that_make_no_sense_name_the_line(tmp_path, text, message):
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match=message):
        read_identities(write(tmp_path / "list.txt", text))


def test_missing_pictures_of_a_list_are_all_named(tmp_path):
    text = "".join(f"{number}.png {number % 3}\n" for number in range(30))
    with pytest.raises(BadFilesError, match=r"^30 files could not be read") as caught:
        read_identities(write(tmp_path / "list.txt", text))
    assert str(caught.value).count("no such file") == 30
    assert f"relative to the list's own folder, {tmp_path}" in str(caught.value)
    assert "--data-dir" not in str(caught.value)  # in `train` that is the list
    with pytest.raises(BadFilesError, match=r"looked for in .*there: name another folder with --data-dir"):
        read_identities(tmp_path / "list.txt", tmp_path / "there")


def test_one_person_is_not_enough(tmp_path):
    with pytest.raises(DataError, match=r"at least two people.*Received: ann"):
        read_identities(touch(tmp_path, "ann/1.png", "ann/2.png"))


def test_a_picture_that_belongs_to_nobody(tmp_path):
    with pytest.raises(DataError, match=r"1 pictures beside them, the first is stray\.png"):
        read_identities(touch(tmp_path, "ann/1.png", "bob/1.png", "stray.png"))


def test_every_pair_once():
    first, second, same = all_pairs([3, 5, 3, 5, 5])
    assert len(first) == 10
    assert {(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a < b} == {
        (a, b) for b in range(5) for a in range(b)
    }
    assert same.sum() == 1 + 3
    with pytest.raises(DataError, match=r"Received: 3 pictures of 1"):
        all_pairs([1, 1, 1])
    with pytest.raises(DataError, match=r"Received: 3 pictures of 3"):
        all_pairs([1, 2, 3])


@given(st.integers(1, 9), st.integers(0, 100))
def test_an_open_set_has_strangers_and_one_picture_of_each_friend(num_gallery, seed):
    labels = np.repeat(np.arange(12), [1, 1, *[4] * 10])
    gallery, probes = open_set_split(labels, num_gallery, np.random.default_rng(seed))
    assert len(set(labels[gallery])) == len(gallery) == num_gallery
    assert sorted([*gallery, *probes]) == list(range(42))
    assert set(labels[gallery]) <= set(labels[probes])  # each friend asks too
    assert set(labels[probes]) - set(labels[gallery])  # so do strangers


def test_open_sets_differ_by_seed_and_not_by_run():
    labels = np.repeat(np.arange(20), 5)
    drawn = [open_set_split(labels, 5, np.random.default_rng(seed))[0].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("labels", "count"), [([0, 0, 1, 1], 2), ([0, 0, 1, 2], 2), ([0, 0, 1], 0)])
def test_an_open_set_needs_friends_and_strangers(labels, count):
    with pytest.raises(DataError, match=f"Received: num_gallery={count}"):
        open_set_split(labels, count, np.random.default_rng(0))


# --------------------------------------------------------------------------------------------------------- landmarks

POINTS = [[30.0, 40.5], [62.0, 41.0], [46.0, 60.0], [34.0, 80.0], [58.0, 80.25]]
FIVE = "".join(f"{x} {y}\n" for x, y in POINTS)
ROW = ",".join(str(value) for point in POINTS for value in point)


def test_five_lines(tmp_path):
    table = read_landmarks(write(tmp_path / "ann.5pt", FIVE))
    assert list(table) == ["ann"]
    assert table["ann"].tolist() == POINTS
    assert read_landmarks(write(tmp_path / "ann.5pt", FIVE.replace(" ", "\t\t") + "\n"))["ann"].tolist() == POINTS


def test_a_folder_of_five_lines(tmp_path):
    (tmp_path / "bob").mkdir()
    write(tmp_path / "ann.5pt", FIVE)
    write(tmp_path / "bob" / "1.5pt", FIVE.replace("30.0", "31.0"))
    table = read_landmarks(tmp_path)
    assert list(table) == ["ann", "bob/1"]
    assert table["bob/1"][0, 0] == 31


@pytest.mark.parametrize("header", ["", "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"])
def test_a_table_of_landmarks(tmp_path, header):
    table = read_landmarks(write(tmp_path / "faces.csv", f'{header}ann.jpg,{ROW}\n\n"bob, jr.png", {ROW}\n'))
    assert list(table) == ["ann.jpg", "bob, jr.png"]
    assert table["bob, jr.png"].tolist() == POINTS


def test_landmarks_in_json(tmp_path):
    table = read_landmarks(write(tmp_path / "faces.json", json.dumps({"ann.jpg": POINTS, "é.png": POINTS})))
    assert list(table) == ["ann.jpg", "é.png"]
    assert table["ann.jpg"].tolist() == POINTS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.5pt", FIVE[: FIVE.rindex("58")], r"a\.5pt, line 4: expected five lines.*Received: 4"),
        ("a.5pt", FIVE + "1 2\n", r"a\.5pt, line 6: expected five lines.*Received: 6"),
        ("a.5pt", FIVE.replace("46.0 60.0", "46.0"), r"a\.5pt, line 3: expected `x y`.*'46\.0'"),
        ("a.5pt", FIVE.replace("46.0", "nan"), r"a\.5pt, line 3: expected `x y`"),
        ("a.5pt", "", r"Received: 0"),
        ("a.csv", f"x.png,{ROW}\ny.png,{ROW},1\n", r"a\.csv, line 2: expected a file and ten numbers"),
        ("a.csv", f"x.png,{ROW}\ny.png,{ROW}\nx.png,{ROW}\n", r"a\.csv, line 3: 'x\.png' is there a second time"),
        ("a.csv", f"x.png,{ROW}\nfile,{'x,' * 9}x\n", r"a\.csv, line 2: expected a file and ten numbers"),
        ("a.csv", f"x.png,{ROW.replace('30.0', 'inf')}\n", r"a\.csv, line 1: expected five points.*finite"),
        ("a.csv", "", "has no landmarks"),
        ("a.json", '{"x.png":\n [[1, 2], [3, 4]]}', r"a\.json, line 1 \('x\.png'\): expected five points"),
        ("a.json", '{\n"x.png": "text",\n"y.png": 1}', r"a\.json, line 2 \('x\.png'\): expected five points"),
        ("a.json", json.dumps({"x": POINTS})[:-1] + f', "x": {POINTS}}}', "'x' is there a second time"),
        ("a.json", f'{{"é": {POINTS},\n\n"ü": 1}}', r"a\.json, line 3 \('ü'\): expected five points"),
        ("a.json", f'{{"\\u00e9": {POINTS},\n"\\u00fc": 1}}', r"a\.json, line 2 \('ü'\): expected five points"),
        ("a.json", '{"x.png":\n', r"a\.json, line 2 is no JSON"),
        ("a.json", "[1, 2]", r"a\.json, line 1: expected \{file: \[\[x, y\]"),
        (
            "a.json",
            '{"x": [[1, 2], [1, 2], [1, 2], [1, 2], {"x": 1, "y": 2}]}',
            r"line 1 \('x'\): expected five points",
        ),
        ("a.json", '{"x": [[1, 2], [1, 2], [1, 2], [1, 2], [1, NaN]]}', r"line 1 \('x'\): expected five points"),
        ("a.json", "[" * 100_000, r"a\.json"),
        ("a.json", '{"x": ' + "9" * 5000 + "}", r"a\.json"),
        ("a.txt", FIVE, r"no list of landmarks by its name.*\.csv, \.json, \.5pt"),
    ],
)
def test_landmarks_that_make_no_sense_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_landmarks(write(tmp_path / name, text))


def test_an_empty_folder_has_no_landmarks(tmp_path):
    with pytest.raises(DataError, match=r"holds no landmarks.*\.5pt"):
        read_landmarks(tmp_path)


@pytest.mark.parametrize("names", [("ann/1.jpg", "bob/2.jpg"), ("{}/ann/1.jpg", "{}/bob/2.jpg"), ("1.jpg", "2.jpg")])
def test_landmarks_find_their_pictures(tmp_path, names):
    rows = "".join(
        f"{name.format(tmp_path)},{place}{ROW[2:]}\n" for name, place in zip(names, ("11", "22"), strict=True)
    )
    source = write(tmp_path / "faces.csv", rows)
    files = [tmp_path / "bob" / "2.jpg", tmp_path / "ann" / "1.jpg"]
    for data_dir in (None, tmp_path):
        found = landmarks_of(files, source, data_dir)
        assert found.shape == (2, 5, 2)
        assert found[:, 0, 0].tolist() == [22, 11]


def test_a_name_that_two_pictures_share_is_nobodys(tmp_path):
    source = write(tmp_path / "faces.csv", f"1.jpg,{ROW}\n")
    with pytest.raises(BadFilesError, match="2 files could not be read") as caught:
        landmarks_of([tmp_path / "ann" / "1.jpg", tmp_path / "bob" / "1.jpg"], source)
    assert str(caught.value).count(f"no landmarks in {source}") == 2
    assert landmarks_of([tmp_path / "ann" / "1.jpg"] * 2, source).shape == (2, 5, 2)  # one picture, twice


def test_the_end_of_a_path_is_enough_where_no_two_share_it(tmp_path):
    source = write(tmp_path / "faces.csv", f"ann/1.jpg,{ROW}\nbob/1.jpg,22{ROW[2:]}\n")
    files = ["somewhere/bob/1.jpg", "somewhere/ann/1.jpg"]
    assert landmarks_of(files, source)[:, 0, 0].tolist() == [22, 30]
    with pytest.raises(BadFilesError, match="2 files could not be read"):
        landmarks_of(["somewhere/ann/1.jpg", "elsewhere/ann/1.jpg"], source)


def test_five_lines_find_their_pictures(tmp_path):
    (tmp_path / "marks" / "ann").mkdir(parents=True)
    write(tmp_path / "marks" / "ann" / "1.5pt", FIVE)
    picture = tmp_path / "images" / "ann" / "1.jpg"
    assert landmarks_of([picture], tmp_path / "marks", tmp_path / "images").tolist() == [POINTS]
    write(picture.parent.parent.parent / "1.5pt", FIVE)
    assert landmarks_of([picture], tmp_path / "1.5pt").tolist() == [POINTS]


# -------------------------------------------------------------------------------------------------- the AT&T faces


def test_the_protocol_of_the_att_faces():
    path = real_file("data/orl_faces.npz")
    faces = load_orl(path)
    assert faces.images.shape == (400, 112, 92)
    assert (faces.same.sum(), (~faces.same).sum()) == (450, 4500)
    assert set(faces.subjects[faces.train]) == set(range(30))
    assert set(faces.subjects[faces.first]) | set(faces.subjects[faces.second]) == set(range(30, 40))
    np.testing.assert_array_equal(faces.subjects[faces.first] == faces.subjects[faces.second], faces.same)
    pairs = {frozenset(pair) for pair in zip(faces.first.tolist(), faces.second.tolist(), strict=True)}
    assert len(pairs) == 4950
    assert len(load_orl(path.parent).train) == 300


def test_other_arrays_are_not_the_att_faces(tmp_path):
    images, subjects = np.zeros((400, 112, 92), np.uint8), np.repeat(np.arange(40), 10)
    np.savez(tmp_path / "orl_faces.npz", images=images, subjects=subjects)
    assert len(load_orl(tmp_path).same) == 4950
    for wrong in ({"images": images[:399]}, {"images": images.astype(float)}, {"subjects": subjects + 1}):
        np.savez(tmp_path / "wrong.npz", **{"images": images, "subjects": subjects, **wrong})
        with pytest.raises(DataError, match="not the set of AT&T faces"):
            load_orl(tmp_path / "wrong.npz")
    with pytest.raises(DataError, match="lacks"):
        np.savez(tmp_path / "wrong.npz", images=images)
        load_orl(tmp_path / "wrong.npz")
    with pytest.raises(DataError):
        load_orl(tmp_path / "none.npz")


# --------------------------------------------------------------------------------------------------------- insightface


def encoded(shade, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (112, 112), (shade, shade, shade)).save(buffer, form)
    return buffer.getvalue()


PICTURES = [encoded(10 * number, form) for number, form in enumerate(["PNG", "JPEG"] * 11)]
SAME = [True, False] * 5 + [True]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["bytes", "arrays"])
def test_a_set_of_insightface(tmp_path, protocol, kind):
    pictures = PICTURES if kind == "bytes" else [np.frombuffer(content, np.uint8) for content in PICTURES]
    pairs = read_insightface_bin(write(tmp_path / "lfw.bin", pickle.dumps((pictures, SAME), protocol)))
    assert pairs.encoded == tuple(PICTURES)
    assert pairs.same.tolist() == SAME
    assert pairs.folds.tolist() == [0, 0, *range(1, 10)]
    decoded = pairs.pictures((64, 64), 1)
    assert decoded.shape == (22, 64, 64, 1)
    np.testing.assert_allclose(decoded[:, 32, 32, 0], np.arange(22) * 10, atol=2)  # JPEG
    np.testing.assert_array_equal(pairs.pictures((64, 64), 1, 3, 5), decoded[3:5])


def test_what_python_2_wrote_is_read(tmp_path):
    def text(content):  # opcodes BINSTRING and BINPUT-free lists, as protocol 2 of Python 2
        return b"T" + len(content).to_bytes(4, "little") + content

    content = b"\x80\x02](" + b"".join(map(text, PICTURES[:4])) + b"e](\x88\x89e\x86."
    pairs = read_insightface_bin(write(tmp_path / "lfw.bin", content))
    assert pairs.encoded == tuple(PICTURES[:4])
    assert pairs.same.tolist() == [True, False]


class Call:
    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def test_code_in_a_set_is_refused_and_does_not_run(tmp_path):
    marker = tmp_path / "marker"
    content = pickle.dumps((PICTURES, [*SAME[:-1], Call(os.system, f"touch {marker}")]))
    with pytest.raises(DataError, match=r"lfw\.bin: the pickle is refused: it asks for \w+\.system"):
        read_insightface_bin(write(tmp_path / "lfw.bin", content))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": PICTURES}, "Received: dict"),
        ((PICTURES, SAME, 1), "Received: tuple"),
        ((PICTURES[:-1], SAME), "Received: list of 21 and list of 11"),
        ((PICTURES, [int(same) for same in SAME]), "list of booleans"),
        ((PICTURES, [[True], [True, False]]), "list of booleans"),
        ((PICTURES, np.ones(11)), "list of booleans"),
        (([*PICTURES[:-1], 3], SAME), r"picture 21: expected the bytes of a picture file\. Received: int"),
        (([*PICTURES[:-1], "猫"], SAME), r"picture 21: expected the bytes"),
        ((PICTURES, [True] * 11), r"pairs of two\. Received: 11, 11 of one"),
        (([], []), r"Received: 0, 0 of one"),
    ],
)
def test_other_pickles_are_not_sets(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_insightface_bin(write(tmp_path / "lfw.bin", pickle.dumps(content)))


def test_damaged_pictures_of_a_set_are_named(tmp_path):
    damaged = [*PICTURES[:5], PICTURES[5][:100], b"", *PICTURES[7:]]
    pairs = read_insightface_bin(write(tmp_path / "lfw.bin", pickle.dumps((damaged, SAME))))
    with pytest.raises(BadFilesError, match=r"^2 files could not be read") as caught:
        pairs.pictures((64, 64), 3, start=2)
    assert re.findall(r"lfw\.bin, picture (\d+): ", str(caught.value)) == ["5", "6"]


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps((PICTURES, SAME))[:-100]])
def test_damaged_sets_are_named(tmp_path, content):
    with pytest.raises(DataError, match=r"lfw\.bin: the pickle is"):
        read_insightface_bin(write(tmp_path / "lfw.bin", content))
    with pytest.raises(DataError, match=r"none\.bin could not be read"):
        read_insightface_bin(tmp_path / "none.bin")
