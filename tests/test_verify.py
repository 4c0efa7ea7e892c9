"""`embed` and `verify`: the same figures as scikit-learn's and by hand, every way to be wrong, files as documented."""

import csv
import io
import json
import pickle
import re
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_curve
from test_architecture import loaded_by
from test_face_importing import random_checkpoint
from test_face_inference import POINTS, SIZE, noise, save, write_face_model

from lightcnn import verification
from lightcnn.datasets import read_insightface_bin, read_pairs
from lightcnn.errors import BadFilesError, DataError
from lightcnn.inference import Predictor
from lightcnn.inference.faces import FacePredictor
from lightcnn.models import read_metadata
from lightcnn.verification import (
    Gallery,
    identities,
    load_gallery,
    open_set_figures,
    rank_identities,
    save_gallery,
    score_pairs,
    verification_figures,
    verify,
)

TOLERANCE = 1e-4  # of a cosine: float32 sums of batches of other sizes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_face_model(tmp_path_factory.mktemp("model") / "faces.keras", threshold=0.4)


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor.load(model)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A folder of four people with three pictures each: a pattern a person, with some noise."""
    folder = tmp_path_factory.mktemp("people")
    for person, name in enumerate(("ann", "bob", "cid", "dee")):
        pattern = noise(person, SIZE, SIZE)
        for number in range(3):
            change = noise(100 + 10 * person + number, SIZE, SIZE) // 8
            save(folder / name / f"{name}_{number + 1:04}.png", (pattern * 0.75).astype(np.uint8) + change)
    return folder


def names_in(folder):
    return sorted(str(path) for path in folder.rglob("*.png"))


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def shifted(number):
    """Landmarks of its own for each picture, so that those of another give another embedding."""
    return [(x + 3 * number, y - 2 * number) for x, y in POINTS]


def landmark_row(name, points):
    return ",".join([name, *(f"{value}" for point in points for value in point)])


def embeddings_of(predictor, files, flip=False):
    return {row["file"]: row["embedding"] for row in predictor.predict(files, flip=flip)}


@pytest.fixture(scope="module")
def pairs_file(people, tmp_path_factory):
    """LFW's form: two folds of two pairs of one person and two of two."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    path.write_text(
        "2\t2\n"
        "ann\t1\t2\nbob\t1\t3\nann\t1\tbob\t2\nann\t3\tcid\t1\n"
        "cid\t1\t2\ndee\t2\t3\ncid\t1\tdee\t2\nbob\t1\tdee\t3\n"
    )
    return path


# --------------------------------------------------------------------------------------------------------- two pictures


def test_two_pictures(call, model, predictor, people):
    files = names_in(people)[:2]
    known = embeddings_of(predictor, files)
    result = call("verify", model, *files, "--format", "json")
    assert (result.code, result.err) == (0, "")
    row = json.loads(result.out)
    assert list(row) == ["files", "score", "threshold", "same"]
    assert (row["files"], row["threshold"], row["same"]) == (files, 0.4, row["score"] >= 0.4)
    assert row["score"] == pytest.approx(cosine(*known.values()), abs=TOLERANCE)
    table = call("verify", model, *files).out.splitlines()
    assert table[0].split() == ["cosine", "threshold", "same", "person"]
    assert table[1].split() == [f"{row['score']:.4f}", "0.4000", "yes"]


@pytest.mark.parametrize(("threshold", "answer"), [("-1", "yes"), ("1.1", "no")])
def test_a_threshold_of_ones_own(call, model, people, threshold, answer):
    result = call("verify", model, *names_in(people)[:2], "--threshold", threshold)
    assert result.out.split()[-1] == answer


def test_without_a_threshold_there_is_the_score_alone(call, people, tmp_path):
    model = write_face_model(tmp_path / "faces.keras")
    result = call("verify", model, *names_in(people)[:2])
    assert result.code == 0
    assert result.out.splitlines()[1].split()[1:] == ["-", "no", "threshold"]
    assert "has no threshold" in result.err
    row = json.loads(call("verify", model, *names_in(people)[:2], "--format", "json").out)
    assert row["threshold"] is row["same"] is None


def test_a_picture_is_most_alike_to_itself_and_its_mirror_image(predictor, people, tmp_path):
    file = names_in(people)[0]
    assert verify(predictor, file, file)["score"] == pytest.approx(1, abs=1e-6)
    with Image.open(file) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    assert verify(predictor, file, tmp_path / "mirrored.png", flip=True)["score"] == pytest.approx(1, abs=TOLERANCE)
    assert verify(predictor, file, tmp_path / "mirrored.png")["score"] < 0.999


def test_what_was_converted_is_said(call, model, people, tmp_path):
    save(tmp_path / "large.png", noise(0, 60, 50, 3))
    result = call("verify", model, tmp_path / "large.png", names_in(people)[0])
    assert result.err == "Converted 1 file: 50x60 colour -> 32x32 grey, not aligned\n"
    assert call("verify", model, tmp_path / "large.png", names_in(people)[0], "--quiet").err == ""


def test_both_pictures_are_needed(call, model, people, tmp_path):
    (tmp_path / "empty.png").touch()
    result = call("verify", model, tmp_path / "nowhere.png", tmp_path / "empty.png")
    assert (result.code, result.out) == (1, "")
    assert f"{tmp_path / 'nowhere.png'}: no such file" in result.err
    assert f"{tmp_path / 'empty.png'}: the file is empty" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "m.keras"],
        ["verify", "m.keras", "a.png"],
        ["verify", "m.keras", "a.png", "b.png", "c.png"],
        ["verify", "m.keras", "a.png", "--pairs", "p.txt"],
        ["verify", "m.keras", "--pairs", "p.txt", "--gallery", "g.npz"],
        ["verify", "m.keras", "--gallery", "g.npz"],
        ["verify", "m.keras", "--gallery", "g.npz", "a.png", "--top", "0"],
        ["verify", "m.keras", "--pairs", "p.txt", "--threshold", "0.5"],
        ["verify", "m.keras", "--identities", "x", "--threshold", "0.5"],
        ["verify", "m.keras", "a.png", "b.png", "--top", "5"],
        ["verify", "m.keras", "--pairs", "p.txt", "--repeats", "10"],
        ["verify", "m.keras", "--gallery", "g.npz", "a.png", "--seed", "0"],
        ["verify", "m.keras", "a.png", "b.png", "--output", "s.csv"],
        ["verify", "m.keras", "a.png", "b.png", "--report", "r.html"],
        ["verify", "m.keras", "--pairs", "pairs.txt", "--report", "."],
        ["embed", "m.keras", "a.png", "--output", "/dev/null/a.npz"],
        ["verify", "m.keras", "a.png", "b.png", "--data-dir", "x"],
        ["verify", "m.keras", "--pairs", "lfw.bin", "--data-dir", "x"],
        ["verify", "m.keras", "--identities", "/", "--data-dir", "x"],
        ["verify", "m.keras", "a.png", "b.png", "--threshold", "nan"],
        ["verify", "m.keras", "a.png", "b.png", "--detect", "--landmarks", "l.csv"],
        ["verify", "m.keras", "--identities", "x", "--repeats", "1"],
        ["verify", "m.keras", "--identities", "x", "--seed", "-1"],
        ["verify", "m.keras", "a.png", "b.png", "--format", "csv"],
        ["embed", "m.keras"],
        ["embed", "m.keras", "a.png"],
        ["embed", "m.keras", "--output", "e.npz"],
        ["embed", "m.keras", "a.png", "--output", "e.csv"],
        ["embed", "m.keras", "a.png", "--output", "e.npz", "--detect", "--insightface-crops"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(call, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["align", "embed", "verify", "convert"])
def test_every_command_has_help(call, command):
    result = call(command, "--help")
    assert (result.code, result.err) == (0, "")


def test_predict_sends_faces_elsewhere(call, model, people):
    result = call("predict", model, people)
    assert (result.code, result.out) == (2, "")
    assert f"lightcnn verify {model} A B" in result.err
    assert f"lightcnn embed {model}" in result.err


def test_verify_takes_no_other_model(call, tmp_path, people):
    from lightcnn.models import lcnn, save_model

    save_model(lcnn((28, 28, 1), 2), tmp_path / "digits.keras", {"task": "image classification", "labels": ["0", "1"]})
    result = call("verify", tmp_path / "digits.keras", *names_in(people)[:2])
    assert (result.code, result.out) == (1, "")
    assert "is no model for faces. Use `lightcnn predict`" in result.err


def test_info_tells_of_a_model_for_faces(call, model):
    out = call("info", model).out
    assert "32 x 32 x 1 uint8 grey" in out
    assert "eye mouth distance" in out


# ----------------------------------------------------------------------------------------------------------- many pairs


def test_pairs_are_scored_and_measured(call, model, predictor, people, pairs_file, tmp_path):
    scores_file, report = tmp_path / "scores.csv", tmp_path / "report.html"
    arguments = ("--pairs", pairs_file, "--data-dir", people, "--output", scores_file, "--report", report)
    result = call("verify", model, *arguments, "--format", "json")
    assert result.code == 0
    assert result.err.splitlines() == [f"Scores: {scores_file}", f"Report: {report}"]
    rows = list(csv.reader(io.StringIO(scores_file.read_text())))
    assert rows[0] == ["file_a", "file_b", "same", "fold", "score (higher = more alike)"]
    assert [row[:2] for row in rows[1:3]] == [
        [str(people / "ann/ann_0001.png"), str(people / "ann/ann_0002.png")],
        [str(people / "bob/bob_0001.png"), str(people / "bob/bob_0003.png")],
    ]
    assert [row[2] for row in rows[1:]] == list("11001100")
    assert [row[3] for row in rows[1:]] == list("00001111")
    known = embeddings_of(predictor, names_in(people))
    for first, second, _, _, score in rows[1:]:
        assert float(score) == pytest.approx(cosine(known[first], known[second]), abs=TOLERANCE)
    figures = json.loads(result.out)
    assert (figures["pairs"], figures["genuine"], figures["impostors"], figures["folds"]) == (8, 4, 4, 2)
    assert figures["accuracy_at_eer"] == 1 - figures["eer"]
    page = report.read_text()
    assert "faces.keras on pairs.txt" in page
    assert page.count('<img class="plot"') == 2
    assert page.count("TAR at FAR 10 %<") == 1
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_table_has_what_the_authors_print(call, model, people, pairs_file):
    result = call("verify", model, "--pairs", pairs_file, "--data-dir", people)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "pairs.txt"
    titles = [line.split("  ")[0] for line in lines[1:]]
    assert titles[:4] == ["pairs", "accuracy, 2 folds", "EER", "100 % - EER"]
    assert "TAR at FAR 0.1 %" in titles
    assert "too few pairs of two people" in result.out
    assert result.err.count("Note: ") == 1
    assert "10 pairs of two people are needed for the first of them, there are 4" in result.err


def test_flip_is_the_sum_of_both(predictor, people, pairs_file):
    pairs = read_pairs(pairs_file, people)
    known = embeddings_of(predictor, names_in(people), flip=True)
    expected = [
        cosine(known[str(pairs.files[a])], known[str(pairs.files[b])])
        for a, b in zip(pairs.first, pairs.second, strict=True)
    ]
    assert score_pairs(predictor, pairs, flip=True) == pytest.approx(expected, abs=TOLERANCE)


def test_a_picture_is_embedded_once(predictor, people, pairs_file, monkeypatch):
    seen = []
    original = FacePredictor.predict
    monkeypatch.setattr(
        FacePredictor, "predict", lambda self, files, *rest: original(self, (seen.append(f) or f for f in files), *rest)
    )
    pairs = read_pairs(pairs_file, people)
    score_pairs(predictor, pairs)
    assert sorted(seen) == sorted(pairs.files)
    assert len(set(seen)) == len(seen) < 2 * len(pairs)


def test_landmarks_are_looked_up_for_pairs(call, model, predictor, tmp_path):
    for number in (1, 2, 3):
        save(tmp_path / f"{number}.png", noise(number, 120, 100))
    (tmp_path / "pairs.csv").write_text("1.png,2.png,1\n1.png,3.png,0\n")
    points = {number: shifted(number) for number in (1, 2, 3)}
    rows = [landmark_row(f"{number}.png", points[number]) for number in (1, 2, 3)]
    (tmp_path / "points.csv").write_text("\n".join(rows))
    options = (
        "--pairs",
        tmp_path / "pairs.csv",
        "--landmarks",
        tmp_path / "points.csv",
        "--output",
        tmp_path / "s.csv",
    )
    result = call("verify", model, *options)
    assert result.code == 0
    assert "Converted 3 files: 100x120 grey -> 32x32 grey, aligned" in result.err
    files = [tmp_path / f"{number}.png" for number in points]
    aligned = [row["embedding"] for row in predictor.predict(files, list(points.values()))]
    scores = [float(row["score (higher = more alike)"]) for row in rows_of(tmp_path / "s.csv")]
    expected = [cosine(aligned[0], aligned[1]), cosine(aligned[0], aligned[2])]
    assert scores == pytest.approx(expected, abs=TOLERANCE)
    (tmp_path / "points.csv").write_text("\n".join(rows[:1]))
    result = call("verify", model, *options)
    assert (result.code, result.out) == (1, "")
    assert "2 files could not be read" in result.err
    assert "no landmarks in" in result.err


def test_pairs_know_the_folder_of_their_names(predictor, tmp_path):
    (tmp_path / "lfw").mkdir()
    points = {name: shifted(number) for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png"))}
    for number, name in enumerate(points):
        (tmp_path / "lfw" / name).parent.mkdir(exist_ok=True)
        save(tmp_path / "lfw" / name, noise(number, 120, 100))
    (tmp_path / "pairs.csv").write_text("b/1.png,b/2.png,1\na/1.png,b/1.png,0\n")
    (tmp_path / "points.csv").write_text("\n".join(landmark_row(name, points[name]) for name in points))
    pairs = read_pairs(tmp_path / "pairs.csv", tmp_path / "lfw")
    files = [tmp_path / "lfw" / name for name in points]
    a1, b1, b2 = (row["embedding"] for row in predictor.predict(files, list(points.values())))
    scores = score_pairs(predictor, pairs, landmarks=tmp_path / "points.csv")
    assert scores == pytest.approx([cosine(b1, b2), cosine(a1, b1)], abs=TOLERANCE)


def test_a_picture_without_landmarks_stops_no_other(call, model, predictor, tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        save(tmp_path / f"{name}.png", noise(number, 120, 100))
    points = [shifted(1), shifted(2)]
    (tmp_path / "points.csv").write_text(f"{landmark_row('a.png', points[0])}\n{landmark_row('c.png', points[1])}\n")
    names = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    result = call("embed", model, *names, "--landmarks", tmp_path / "points.csv", "--output", tmp_path / "g.npz")
    assert result.code == 1
    assert f"b.png: no landmarks in {tmp_path / 'points.csv'}" in result.err
    assert "1 of 3 files could not be embedded" in result.err
    gallery = load_gallery(tmp_path / "g.npz")
    assert gallery.files.tolist() == [str(names[0]), str(names[2])]
    for embedding, row in zip(gallery.embeddings, predictor.predict(names[::2], points), strict=True):
        assert cosine(embedding, row["embedding"]) == pytest.approx(1, abs=TOLERANCE)


def test_missing_and_damaged_files_are_all_listed(call, model, people, tmp_path):
    (tmp_path / "pairs.csv").write_text("a.png,b.png,1\na.png,c.png,0\n")
    result = call("verify", model, "--pairs", tmp_path / "pairs.csv")
    assert (result.code, result.out) == (1, "")
    assert all(f"{tmp_path / name}: no such file" in result.err for name in ("a.png", "b.png", "c.png"))
    save(tmp_path / "a.png", noise(0, SIZE, SIZE))
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "c.png").touch()
    result = call("verify", model, "--pairs", tmp_path / "pairs.csv", "--output", tmp_path / "scores.csv")
    assert (result.code, result.out) == (1, "")
    assert "2 files could not be read" in result.err
    assert "b.png: not a PNG" in result.err
    assert "c.png: the file is empty" in result.err
    assert not (tmp_path / "scores.csv").exists()


def test_ytf_scores_sets_of_frames(predictor, tmp_path):
    counts = {"ann/0": 3, "ann/1": 2, "bob/0": 1}
    for place, (video, count) in enumerate(counts.items()):
        for frame in range(count):
            save(tmp_path / video / f"{frame}.png", noise(10 * place + frame, SIZE, SIZE))
    (tmp_path / "splits.txt").write_text("1, 1, ann/0, ann/1, 1\n1, 2, ann/0, bob/0, 0\n")
    scores = score_pairs(predictor, read_pairs(tmp_path / "splits.txt"))
    known = embeddings_of(predictor, names_in(tmp_path))
    sets = {video: [known[str(tmp_path / video / f"{n}.png")] for n in range(count)] for video, count in counts.items()}
    expected = [
        np.mean([cosine(one, other) for one in sets["ann/0"] for other in sets[second]])
        for second in ("ann/1", "bob/0")
    ]
    assert scores == pytest.approx(expected, abs=TOLERANCE)


def packed(path, people):
    names = ("ann/ann_0001", "ann/ann_0002", "ann/ann_0001", "bob/bob_0001", "cid/cid_0001", "bob/bob_0001")
    files = [people / f"{name}.png" for name in names]
    path.write_bytes(pickle.dumps(([file.read_bytes() for file in files], [True, False, False])))
    return files


def test_insightface_bin(call, model, predictor, people, tmp_path):
    files = packed(tmp_path / "lfw.bin", people)
    known = [embeddings_of(predictor, files)[str(file)] for file in files]
    options = ("--pairs", tmp_path / "lfw.bin", "--output", tmp_path / "s.csv", "--report", tmp_path / "r.html")
    assert call("verify", model, *options, "--quiet").code == 0
    rows = rows_of(tmp_path / "s.csv")
    assert [(row["file_a"], row["file_b"]) for row in rows] == [
        (f"picture {number}", f"picture {number + 1}") for number in (0, 2, 4)
    ]
    expected = [cosine(known[number], known[number + 1]) for number in (0, 2, 4)]
    assert [float(row["score (higher = more alike)"]) for row in rows] == pytest.approx(expected, abs=TOLERANCE)
    assert (tmp_path / "r.html").exists()


def test_a_damaged_picture_in_a_bin_is_called_by_its_number(predictor, people, tmp_path):
    content = [(people / "ann/ann_0001.png").read_bytes(), b"damaged", b"damaged", b"\xff\xd8 worse"]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((content, [True, False])))
    with pytest.raises(BadFilesError) as error:
        score_pairs(predictor, read_insightface_bin(tmp_path / "lfw.bin"))
    assert [str(path) for path, _ in error.value.failures] == [f"{tmp_path}/lfw.bin, picture {n}" for n in (1, 3)]


def test_pictures_without_names_have_no_list_of_landmarks(predictor, people, tmp_path):
    packed(tmp_path / "lfw.bin", people)
    with pytest.raises(DataError, match="pictures without names"):
        score_pairs(predictor, read_insightface_bin(tmp_path / "lfw.bin"), landmarks=tmp_path / "points.csv")


def test_insightface_crops_are_aligned(call, model, tmp_path):
    for number in (1, 2):
        save(tmp_path / f"{number}.png", noise(number, 112, 112))
    files = (tmp_path / "1.png", tmp_path / "2.png")
    assert "not aligned" in call("verify", model, *files).err
    assert "112x112 grey -> 32x32 grey, aligned" in call("verify", model, *files, "--insightface-crops").err


# -------------------------------------------------------------------------------------------------------------- figures


def test_figures_by_hand():
    # Of equally good thresholds the lowest counts, in the middle between two scores.
    scores = [0.9, 0.8, 0.2, 0.1, 0.7, 0.35, 0.3, 0.6]
    same = [True, True, False, False, True, True, False, False]
    figures = verification_figures(scores, same, [0, 0, 0, 0, 1, 1, 1, 1])
    # Fold 1 chooses between 0.3 and 0.35 (3 of 4 right), which is right for all of fold 0; fold 0 chooses 0.5.
    assert figures["fold_accuracies"] == [1.0, 0.5]
    assert figures["fold_thresholds"] == pytest.approx([0.325, 0.5])
    assert figures["accuracy"] == 0.75
    assert figures["standard_error"] == pytest.approx(0.25)
    assert figures["eer"] == 0.25
    assert figures["accuracy_at_eer"] == 0.75
    assert figures["tar_at_far_0"] == 0.75
    assert figures["tar_at_far_1e-1"] is None
    assert len(figures["notes"]) == 1


def test_tar_at_far_is_a_point_of_scikit_learns_roc():
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(0.5, 0.2, 500), generator.normal(0, 0.2, 2000)])
    same = np.arange(2500) < 500
    figures = verification_figures(scores, same)
    accepted, rates, _ = roc_curve(same, scores, drop_intermediate=False)
    for far in ("1e-1", "1e-2", "1e-3", "0"):
        assert figures[f"tar_at_far_{far}"] == rates[accepted <= float(far)].max()
    assert [figures[f"tar_at_far_{far}"] for far in ("1e-4", "1e-5", "1e-6")] == [None] * 3
    assert figures["eer"] == pytest.approx(np.min(np.maximum(accepted, 1 - rates)), abs=2e-3)
    assert "TAR at FAR 0.01, 0.001, 0.0001 % cannot" in figures["notes"][0]
    assert figures["accuracy"] is figures["folds"] is None


def test_folds_of_different_size_count_once_each_and_it_is_said():
    scores = [0.9, 0.1, 0.9, 0.1, 0.1, 0.9]
    figures = verification_figures(scores, [True, False] * 3, [0, 0, 0, 0, 1, 1])
    assert figures["fold_accuracies"] == [0.5, 0.0]
    assert figures["accuracy"] == 0.25  # of all pairs a third is right
    assert any("2 to 4 pairs; each counts once" in note for note in figures["notes"])


@pytest.mark.parametrize("folds", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_folds_that_cannot_choose_a_threshold_give_no_accuracy(folds):
    figures = verification_figures([0.9, 0.1, 0.8, 0.2], [True, False] * 2, folds)
    assert figures["accuracy"] is None
    assert any("There is no accuracy over folds" in note for note in figures["notes"])
    assert figures["eer"] == 0


@pytest.mark.parametrize(
    ("scores", "same"), [([0.5], [True]), ([0.5, 0.1], [True]), ([np.nan, 0.1], [True, False]), ([[0.5, 0.1]], [True])]
)
def test_figures_need_finite_scores_of_both_kinds(scores, same):
    with pytest.raises(ValueError, match="Expected"):
        verification_figures(scores, same)


# ------------------------------------------------------------------------------------------------------------- open set


def clusters(people=40, pictures=6, spread=0.1, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([f"person {number}" for number in range(people)], pictures)
    centres = np.repeat(generator.normal(size=(people, 64)), pictures, axis=0)
    return centres + spread * generator.normal(size=centres.shape), labels


def test_people_who_lie_apart_are_all_found():
    figures = open_set_figures(*clusters(people=50))  # a false alarm in a hundred needs 100 probes of strangers
    assert (figures["pictures"], figures["identities"], figures["repeats"]) == (300, 50, 10)
    for key in ("rank_1", "dir_at_far", "vr_at_far"):
        assert figures[key] == {"mean": 1.0, "std": 0.0, "mean_minus_std": 1.0}


def test_people_who_do_not_are_found_by_chance():
    figures = open_set_figures(*clusters(spread=1000.0))
    assert figures["rank_1"]["mean"] < 0.25  # 15 people in the gallery: 1 / 15 by chance
    assert figures["vr_at_far"]["mean"] < 0.02
    assert figures["vr_at_far"]["mean_minus_std"] < figures["vr_at_far"]["mean"]


def test_the_seed_decides_the_trials():
    data = clusters(spread=1.5)
    with pytest.raises(ValueError, match=r"a seed from 0 on.*seed=-1"):
        open_set_figures(*data, seed=-1)
    assert open_set_figures(*data) == open_set_figures(*data)
    assert open_set_figures(*data)["rank_1"] != open_set_figures(*data, seed=1)["rank_1"]


def test_too_few_impostors_are_said_once():
    figures = open_set_figures(*clusters(people=4, pictures=3))
    assert figures["dir_at_far"] is figures["vr_at_far"] is None
    assert sorted(note.split(" cannot")[0] for note in figures["notes"]) == ["DIR at FAR 0.01", "VR at FAR 0.001"]


def test_a_trial_has_no_more_pictures_than_fit(monkeypatch):
    seen = []
    monkeypatch.setattr(identities, "_MOST_PICTURES", 60)
    monkeypatch.setattr(identities, "pair_scores", lambda unit, persons: seen.append(len(persons)) or ([1.0], [0.0]))
    open_set_figures(*clusters(), vr_far=0)
    assert set(seen) == {60}


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "a", "a", "a"], "1 people"), (["a", "a", "b", "b"], "2 people"), (["a", "a", "b", "c"], "1 with two")],
)
def test_an_open_set_needs_people_inside_and_outside(labels, message):
    with pytest.raises(DataError, match=message):
        open_set_figures(np.eye(4), labels)


def test_identities_from_the_command_line(call, model, people):
    result = call("verify", model, "--identities", people)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("12 pictures of 4 people, 10 trials  mean")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "rank-1, closed set",
        "DIR at FAR 1 %, rank 1",
        "VR at FAR 0.1 %",
    ]
    assert result.err.count("Note: ") == 2
    figures = json.loads(call("verify", model, "--identities", people, "--repeats", 2, "--format", "json").out)
    assert figures["repeats"] == 2
    single = call("verify", model, "--identities", people / "ann")
    assert (single.code, single.out) == (1, "")


# ---------------------------------------------------------------------------------------------------------------- embed


def test_embed_writes_what_it_says(call, model, predictor, people, tmp_path):
    output = tmp_path / "gallery.npz"
    extra = save(tmp_path / "extra.png", noise(7, SIZE, SIZE))
    result = call("embed", model, people, extra, "--output", output)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == str(output)
    with np.load(output, allow_pickle=False) as arrays:
        content = dict(arrays)
    assert set(content) == {"embeddings", "files", "identities", "model", "flip"}
    assert content["files"].tolist() == [*names_in(people), str(extra)]
    assert content["identities"].tolist() == [name for name in ("ann", "bob", "cid", "dee") for _ in range(3)] + [""]
    assert (str(content["model"]), bool(content["flip"])) == (predictor.digest, False)
    assert content["embeddings"].dtype == np.float32
    known = embeddings_of(predictor, content["files"].tolist())
    for name, embedding in zip(content["files"], content["embeddings"], strict=True):
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
        assert cosine(embedding, known[str(name)]) == pytest.approx(1, abs=1e-6)


def test_embed_keeps_order_and_repeats_and_reads_lists(call, model, people, tmp_path):
    files = names_in(people)
    (tmp_path / "list.txt").write_text(f"{files[3]}\n\n{files[0]}\n")
    output = tmp_path / "some.npz"
    assert call("embed", model, files[5], "--files-from", tmp_path / "list.txt", "--output", output, "--flip").code == 0
    gallery = load_gallery(output)
    assert gallery.files.tolist() == [files[5], files[3], files[0]]
    assert gallery.identities.tolist() == ["", "", ""]
    assert gallery.flip


def test_embed_names_bad_files_and_does_the_rest(call, model, people, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_text("no picture")
    output = tmp_path / "gallery.npz"
    result = call("embed", model, tmp_path / "bad.png", people, tmp_path / "empty", "--output", output)
    assert result.code == 1
    assert f"{tmp_path / 'bad.png'}: not a PNG" in result.err
    assert f"{tmp_path / 'empty'} holds no picture" in result.err
    assert "2 of 14 files could not be embedded." in result.err
    assert len(load_gallery(output)) == 12


@pytest.mark.parametrize("content", ["bad.png", "empty"])
def test_embed_writes_nothing_if_there_is_nothing(call, model, tmp_path, content):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_text("no picture")
    result = call("embed", model, tmp_path / content, "--output", tmp_path / "gallery.npz")
    assert (result.code, result.out) == (1, "")
    assert "Error: " in result.err
    assert not (tmp_path / "gallery.npz").exists()


def test_an_interrupted_embed_leaves_the_old_file(call, model, people, tmp_path, monkeypatch):
    (tmp_path / "gallery.npz").write_text("the old one")

    def interrupted(self, pictures, flip=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(FacePredictor, "embed_arrays", interrupted)
    result = call("embed", model, people, "--output", tmp_path / "gallery.npz")
    assert result.code == 130
    assert result.err.strip() == "Interrupted."
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.npz"]
    assert (tmp_path / "gallery.npz").read_text() == "the old one"


def test_embed_with_landmarks_relative_to_its_folder(call, model, predictor, tmp_path):
    photo = save(tmp_path / "faces" / "ann" / "1.png", noise(1, 120, 100))
    save(tmp_path / "faces" / "bob" / "1.png", noise(2, 120, 100))
    (tmp_path / "points.json").write_text(json.dumps({"bob/1.png": shifted(5), "ann/1.png": POINTS}))
    options = ("--landmarks", tmp_path / "points.json", "--output", tmp_path / "g.npz")
    assert call("embed", model, tmp_path / "faces", *options).code == 0
    (row,) = predictor.predict([photo], [POINTS])
    assert cosine(load_gallery(tmp_path / "g.npz").embeddings[0], row["embedding"]) == pytest.approx(1, abs=1e-6)


def test_the_largest_face_is_taken(call, model, predictor, tmp_path, monkeypatch):
    photo, empty = save(tmp_path / "a.png", noise(1, 120, 100)), save(tmp_path / "b.png", noise(2, 64, 64))
    found = SimpleNamespace(
        detect_landmarks=lambda picture: np.array([POINTS, np.array(POINTS) / 2] if picture.width == 100 else [])
    )
    monkeypatch.setitem(sys.modules, "lightcnn.detection", found)
    result = call("embed", model, photo, empty, "--detect", "--output", tmp_path / "g.npz")
    assert result.code == 1
    assert "b.png: no face was found" in result.err
    (row,) = predictor.predict([photo], [POINTS])
    assert cosine(load_gallery(tmp_path / "g.npz").embeddings[0], row["embedding"]) == pytest.approx(1, abs=1e-6)


# -------------------------------------------------------------------------------------------------------------- gallery


def unit(seed, count, features=16):
    vectors = np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gallery_of(embeddings, names):
    files = np.array([f"{number}.png" for number in range(len(embeddings))])
    return Gallery(embeddings, files, np.array(names, np.str_), "a model")


def test_a_gallery_of_nobody_is_not_written(tmp_path):
    with pytest.raises(DataError, match="without embeddings is not written"):
        save_gallery(tmp_path / "g.npz", gallery_of(np.zeros((0, 4), np.float32), []))
    assert not (tmp_path / "g.npz").exists()


def test_a_gallery_comes_back_mapped(tmp_path):
    gallery = gallery_of(unit(0, 50), [f"é {number % 7}" for number in range(50)])
    save_gallery(tmp_path / "g.npz", gallery)
    loaded = load_gallery(tmp_path / "g.npz")
    assert isinstance(loaded.embeddings, np.memmap)
    assert loaded.embeddings.ctypes.data % 64 == 0  # a matrix product needs no copy
    for key in ("embeddings", "files", "identities"):
        assert np.array_equal(getattr(loaded, key), getattr(gallery, key))
    assert (loaded.model, loaded.flip) == ("a model", False)


def test_a_compressed_gallery_is_read(tmp_path):
    gallery = gallery_of(unit(0, 5), ["a"] * 5)
    arrays = {key: np.asarray(getattr(gallery, key)) for key in ("embeddings", "files", "identities", "model", "flip")}
    np.savez_compressed(tmp_path / "g.npz", **arrays)
    assert np.array_equal(load_gallery(tmp_path / "g.npz").embeddings, gallery.embeddings)


def test_what_is_no_gallery_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"g\.npz does not exist"):
        load_gallery(tmp_path / "g.npz")
    gallery = gallery_of(unit(0, 5), ["a"] * 5)
    whole = {key: np.asarray(getattr(gallery, key)) for key in ("embeddings", "files", "identities", "model", "flip")}
    for wrong in (
        {"embeddings": whole["embeddings"].astype(np.float64)},
        {"embeddings": whole["embeddings"][:4]},
        {"embeddings": whole["embeddings"][0]},
        {"embeddings": whole["embeddings"][:0], "files": whole["files"][:0], "identities": whole["identities"][:0]},
        {"files": np.arange(5)},
        {"identities": np.array([["a"]] * 5)},
        {"files": np.array([{}] * 5)},
    ):
        np.savez(tmp_path / "g.npz", **{**whole, **wrong})
        with pytest.raises(DataError, match=r"g\.npz"):
            load_gallery(tmp_path / "g.npz")
    np.savez(tmp_path / "g.npz", embeddings=whole["embeddings"])
    with pytest.raises(DataError, match="lacks"):
        load_gallery(tmp_path / "g.npz")
    save_gallery(tmp_path / "g.npz", gallery)
    content = (tmp_path / "g.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text"):
        (tmp_path / "g.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"g\.npz"):
            load_gallery(tmp_path / "g.npz")
    with pytest.raises(DataError, match="nowhere"):
        load_gallery(tmp_path / "nowhere.npz")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("embeddings.npy", b"\x93NUMPY")
    with pytest.raises(DataError, match=r"z\.npz"):
        load_gallery(tmp_path / "z.npz")


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 12), st.integers(1, 6))
def test_people_are_ranked_by_their_best_picture(seed, pictures, names, top):
    generator = np.random.default_rng(seed)
    owners = generator.integers(0, names, pictures)
    gallery = gallery_of(unit(seed, pictures), [f"p{owner}" for owner in owners])
    query = unit(seed + 1, 1)
    ((*found,),) = rank_identities(gallery, 3 * query, top)
    scores = (gallery.embeddings.astype(np.float64) @ query[0].astype(np.float64)).tolist()
    best = {
        owner: max(score for score, own in zip(scores, owners, strict=True) if own == owner) for owner in set(owners)
    }
    expected = sorted(best.values(), reverse=True)[:top]
    assert [person["score"] for person in found] == pytest.approx(expected, abs=1e-5)
    for person in found:
        assert person["score"] == pytest.approx(best[int(person["identity"][1:])], abs=1e-5)
        assert person["score"] == pytest.approx(scores[int(person["file"].removesuffix(".png"))], abs=1e-5)


def test_pictures_of_nobody_stand_for_themselves():
    gallery = gallery_of(np.eye(3, dtype=np.float32), ["", "", "ann"])
    (found,) = rank_identities(gallery, [[3, 2, 1]], top=5)
    assert [(person["identity"], person["file"]) for person in found] == [
        (None, "0.png"),
        (None, "1.png"),
        ("ann", "2.png"),
    ]


def test_a_damaged_gallery_is_told():
    with pytest.raises(DataError, match="damaged"):
        rank_identities(gallery_of(np.full((3, 2), np.nan, np.float32), ["a", "b", "c"]), [[1, 0]])


@pytest.mark.parametrize("embeddings", [[1.0, 0.0], [[1.0, 0.0, 0.0]]])
def test_queries_fit_the_gallery(embeddings):
    with pytest.raises(ValueError, match=r"\(queries, 2\)"):
        rank_identities(gallery_of(np.eye(2, dtype=np.float32), ["a", "b"]), embeddings)


def test_a_picture_is_looked_for_in_a_gallery(call, model, people, tmp_path):
    gallery = tmp_path / "gallery.npz"
    assert call("embed", model, people, "--output", gallery, "--flip").code == 0
    probe = people / "cid" / "cid_0002.png"
    result = call(
        "verify", model, "--gallery", gallery, probe, tmp_path / "nowhere.png", "--top", 2, "--format", "json"
    )
    assert result.code == 1  # one of the files is missing, the other is done
    assert "nowhere.png: no such file" in result.err
    assert "was made with --flip" in result.err
    (row,) = json.loads(result.out)
    assert row["file"] == str(probe)
    assert [list(person) for person in row["top"]] == [["identity", "file", "score"]] * 2
    assert (row["top"][0]["identity"], row["top"][0]["file"]) == ("cid", str(probe))
    assert row["top"][0]["score"] == pytest.approx(1, abs=TOLERANCE)
    table = call("verify", model, "--gallery", gallery, probe, "--quiet")
    assert (table.code, table.err) == (0, "")
    assert table.out.splitlines()[1].split()[:4] == [str(probe), "1", "cid", "1.0000"]
    assert len(table.out.splitlines()) == 5  # there are four people
    options = ("--threshold", 1.5, "--top", 1, "--quiet")
    (row,) = json.loads(call("verify", model, "--gallery", gallery, probe, *options, "--format", "json").out)
    assert [(person["identity"], person["same"]) for person in row["top"]] == [("cid", False)]
    table = call("verify", model, "--gallery", gallery, probe, *options)
    assert table.out.splitlines()[1].split()[:4] == [str(probe), "1", "nobody", "1.0000"]


def test_a_gallery_of_another_model_is_refused(call, model, people, tmp_path):
    assert call("embed", model, people, "--output", tmp_path / "gallery.npz").code == 0
    other = write_face_model(tmp_path / "other.keras", seed=9)
    result = call("verify", other, "--gallery", tmp_path / "gallery.npz", names_in(people)[0])
    assert (result.code, result.out) == (1, "")
    assert "was made by another model" in result.err


# -------------------------------------------------------------------------------------------------------------- convert


@pytest.mark.parametrize("options", [[], ["--drop-classifier"]])
def test_convert_says_how_exact_it_was(call, tmp_path, options):
    np.savez(tmp_path / "light_cnn_9.npz", **random_checkpoint("light_cnn_9"))
    output = tmp_path / "model.keras"
    result = call("convert", tmp_path / "light_cnn_9.npz", "--output", output, *options)
    assert (result.code, result.err) == (0, "")
    (line,) = [line for line in result.out.splitlines() if line.startswith("difference from")]
    assert 0 <= float(re.search(r"\d\.\de-?\+?\d+", line)[0]) < 1e-4
    known = Predictor.load(output)
    assert known.metadata["classes"] == (None if options else 7)
    assert read_metadata(output)["alignment"]["size"] == known.height == 128


def test_comparing_two_pictures_needs_no_plots():
    assert loaded_by("import lightcnn.verification", "matplotlib", "keras", "lightcnn.reporting.page") == [
        "lightcnn.reporting.page"
    ]


def test_the_room_exports_what_it_lists():
    assert all(callable(getattr(verification, name)) for name in verification.__all__)
