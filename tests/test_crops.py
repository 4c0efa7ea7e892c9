"""Photographs become crops to train on: the pixels that `embed` sees, where they belong, and every bad file named."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_face_inference import POINTS, noise, save

from lightcnn.datasets import load_faces
from lightcnn.inference.crops import align_files
from lightcnn.inference.faces import FacePredictor
from lightcnn.models import FACE_PRESETS
from lightcnn.runtimes import Artifact, TensorInfo

LEVEL = [[30.0, 40.0], [62.0, 40.0], [46.0, 40.0], [34.0, 40.0], [58.0, 40.0]]  # the mouth at the height of the eyes
OUTSIDE = [[30.0, 40.0], [162.0, 41.0], [46.0, 60.0], [34.0, 80.0], [58.0, 80.0]]


def pixels_that_are_embedded(preset, photo):
    """Returns what a model of a preset is given of a photograph with its landmarks."""
    seen = []

    def run(arrays):
        seen.append(arrays[0].copy())
        return np.ones((len(arrays[0]), 4), np.float32)

    shape = preset.input_shape
    alignment = {"size": shape[0], "eye_mouth_distance": preset.eye_mouth_distance, "eye_row": preset.eye_row}
    metadata = {"input": {"colour": preset.colour}, "alignment": alignment}
    given, made = TensorInfo("pixels", (None, *shape), "float32"), TensorInfo("embedding", (None, 4), "float32")
    predictor = FacePredictor(Artifact(Path("m.onnx"), metadata, (given,), made, "", 1, run))
    assert "error" not in next(predictor.predict([photo], [POINTS]))
    return seen[0][0]


@pytest.mark.parametrize("name", ["light_cnn_29", "light_cnn_v4"])
def test_crops_are_what_embed_sees(call, tmp_path, name):
    preset = FACE_PRESETS[name]
    photo = save(tmp_path / "photos" / "ann.png", noise(7, 120, 100, 3))
    (tmp_path / "points.json").write_text(json.dumps({"ann.png": POINTS}))
    crops = []
    for size in ("128", "144"):
        options = ("--size", size, "--channels", preset.input_shape[2], "--landmarks", tmp_path / "points.json")
        assert call("align", tmp_path / "photos", "--output", tmp_path / size, *options).code == 0
        with Image.open(tmp_path / size / "ann.png") as image:
            assert image.mode == ("L" if preset.colour == "grey" else "RGB")
            crops.append(np.asarray(image).reshape(int(size), int(size), -1))
    expected = pixels_that_are_embedded(preset, photo)[..., :: -1 if preset.colour == "BGR" else 1]
    np.testing.assert_array_equal(crops[0], expected)
    np.testing.assert_array_equal(crops[1][8:-8, 8:-8], expected)


@pytest.fixture
def photos(tmp_path):
    """Two people of whom one picture each is good, every kind of bad file, and a list of their landmarks."""
    folder, points = tmp_path / "photos", {}
    for name, landmarks in {
        "ann/1.png": POINTS,
        "ann/level.png": LEVEL,
        "ann/outside.png": OUTSIDE,
        "bob/1.png": POINTS,
        "bob/unknown.png": None,
        "bob/1.jpg": POINTS,
        "bob/no picture.png": POINTS,
    }.items():
        save(folder / name, noise(len(points), 120, 100))
        if landmarks is not None:
            points[name] = landmarks
    (folder / "bob" / "no picture.png").write_text("text")
    (tmp_path / "points.json").write_text(json.dumps(points))
    return folder


def test_bad_files_are_named_and_counted_and_the_rest_can_be_trained_on(call, photos, tmp_path):
    output = tmp_path / "crops"
    result = call("align", photos, "--output", output, "--landmarks", tmp_path / "points.json")
    assert result.code == 1
    for name, cause in {
        "ann/level.png": "degenerate landmarks",
        "ann/outside.png": "landmarks outside the picture",
        "bob/unknown.png": "no landmarks in",
        "bob/1.png": f"{photos}/bob/1.jpg would be written to {output}/bob/1.png too",
        "bob/no picture.png": "not a PNG",
    }.items():
        assert f"{photos}/{name}: {cause}" in result.err
    assert "5 of 7 files could not be aligned." in result.err
    assert [line.split() for line in result.out.splitlines()[1:3]] == [["pictures", "2"], ["identities", "2"]]
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert files == ["ann/1.png", "bob/1.png"]
    save(output / "ann" / "2.png", np.zeros((144, 144), np.uint8))  # training needs two pictures of somebody
    data = load_faces(output, test_fraction=0)
    assert (data.aligned, data.identities) == (True, ("ann", "bob"))


def test_files_go_straight_into_the_folder(call, tmp_path, monkeypatch):
    photo, empty = save(tmp_path / "in" / "a.jpg", noise(1, 120, 100)), save(tmp_path / "b.png", noise(2, 64, 64))
    found = SimpleNamespace(detect_landmarks=lambda picture: np.array([POINTS] if picture.width == 100 else []))
    monkeypatch.setitem(sys.modules, "lightcnn.detection", found)
    result = call("align", photo, empty, "--detect", "--output", tmp_path / "out")
    assert (result.code, "b.png: no face was found" in result.err) == (1, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_five_points_lie_beside_the_pictures(call, tmp_path):
    save(tmp_path / "photos" / "ann" / "1.png", noise(1, 120, 100))
    (tmp_path / "photos" / "ann" / "1.5pt").write_text("".join(f"{x} {y}\n" for x, y in POINTS))
    options = ("--landmarks", tmp_path / "photos", "--output", tmp_path / "out")
    assert call("align", tmp_path / "photos", *options).code == 0
    assert (tmp_path / "out" / "ann" / "1.png").is_file()


def test_what_stands_in_the_folder_is_kept(call, photos, tmp_path):
    kept = save(tmp_path / "crops" / "old.png", noise(1, 4, 4))
    before = kept.read_bytes()
    for output in (kept.parent, kept):
        result = call("align", photos, "--output", output, "--landmarks", tmp_path / "points.json")
        assert (result.code, "is not an empty folder" in result.err) == (1, True)
    assert list(kept.parent.iterdir()) == [kept]
    assert kept.read_bytes() == before


def test_without_a_face_nothing_is_written(call, tmp_path):
    save(tmp_path / "photos" / "a.png", noise(1, 120, 100))
    (tmp_path / "points.csv").write_text("b.png" + ",1" * 10)
    options = ("--landmarks", tmp_path / "points.csv", "--output", tmp_path / "out")
    result = call("align", tmp_path / "photos", *options)
    assert (result.code, "No face could be cut out" in result.err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "out", "--detect"],
        ["a.png", "--detect"],
        ["a.png", "--output", "out"],
        ["a.png", "--output", "out", "--detect", "--landmarks", "points.csv"],
        ["a.png", "--output", "out", "--detect", "--size", "112"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(call, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("align", *arguments)
    assert (result.code, result.out, list(tmp_path.iterdir())) == (2, "", [])


def test_there_is_a_crop_for_every_file(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        list(align_files(["a.png", "b.png"], ["c.png"], lambda picture: POINTS))
