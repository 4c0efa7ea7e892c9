"""A face goes in as the network was trained on it: size, colour order, alignment; what was done is said."""

import threading
import time
import warnings

import keras
import numpy as np
import pytest
from conftest import begin
from PIL import Image

from lightcnn.alignment import align
from lightcnn.errors import DataError, ModelFileError
from lightcnn.exporting import export
from lightcnn.inference import Predictor
from lightcnn.inference.faces import FacePredictor, insightface_landmarks
from lightcnn.models import light_cnn_9, load_model, read_metadata, save_model, write_metadata
from lightcnn.recipes import get_recipe
from lightcnn.runtimes import keras_artifact

SIZE = 32
ALIGNMENT = {"size": SIZE, "eye_mouth_distance": 12.0, "eye_row": 10.0}
POINTS = [[30.0, 40.0], [62.0, 41.0], [46.0, 60.0], [34.0, 80.0], [58.0, 80.0]]
# float32 sums of other batch sizes: a share of the largest value
TOLERANCE = 1e-4


def metadata(colour="grey", **values):
    return {
        "format": 1,
        "task": "face representation",
        "input": {"shape": [SIZE, SIZE, 1 if colour == "grey" else 3], "dtype": "uint8", "colour": colour},
        "alignment": ALIGNMENT,
        **values,
    }


def face_network(colour="grey", seed=3, num_classes=None):
    """A small untrained network whose embeddings differ from picture to picture."""
    keras.utils.set_random_seed(seed)
    shape = (SIZE, SIZE, 1 if colour == "grey" else 3)
    return light_cnn_9(shape, num_classes, scale=1 / 255, kernel_initializer="he_normal")


def write_face_model(path, colour="grey", seed=3, **values):
    save_model(face_network(colour, seed), path, metadata(colour, **values))
    return path


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def close(one, other):
    return np.abs(one - other).max() <= TOLERANCE * np.abs(other).max()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return write_face_model(tmp_path_factory.mktemp("faces") / "grey.keras", threshold=0.4)


@pytest.fixture(scope="module")
def grey(model_file):
    return Predictor.load(model_file)


@pytest.fixture(scope="module")
def bgr():
    return predictor_of(face_network("BGR"), metadata("BGR"))


def predictor_of(model, described):
    return FacePredictor(keras_artifact(model, described))


def embedding_of(predictor, file, **options):
    (row,) = predictor.predict([file], **options)
    return row["embedding"]


# ------------------------------------------------------------------------------------------------------------- loading


def test_loading_gives_what_the_file_says(grey):
    assert isinstance(grey, FacePredictor)
    assert (grey.height, grey.width, grey.channels, grey.colour) == (SIZE, SIZE, 1, "grey")
    assert (grey.features, grey.threshold) == (256, 0.4)
    assert predictor_of(face_network(), metadata()).threshold is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": None},
        {"input": {"shape": [SIZE, SIZE, 1]}},
        {"input": {"colour": "BGR"}},
        {"input": {"colour": "blue"}},
        {"alignment": {"size": SIZE}},
        {"alignment": {**ALIGNMENT, "size": 128}},
        {"alignment": "ArcFace"},
        {"threshold": "low"},
    ],
    ids=str,
)
def test_a_file_that_does_not_say_enough_is_refused(wrong):
    with pytest.raises(ModelFileError, match="Received: "):
        predictor_of(face_network(), {**metadata(), **wrong})


def test_a_model_without_an_embedding_is_refused():
    inputs = keras.Input((SIZE, SIZE, 1))
    outputs = keras.layers.Dense(4)(keras.layers.Flatten()(inputs))
    with pytest.raises(ModelFileError, match='a layer "embedding"'):
        predictor_of(keras.Model(inputs, outputs), metadata())


def test_the_digest_is_that_of_the_embedding(model_file, grey, tmp_path):
    path = tmp_path / "copy.keras"
    path.write_bytes(model_file.read_bytes())
    write_metadata(path, {**read_metadata(path), "threshold": 0.9})
    assert Predictor.load(path).digest == grey.digest
    assert len(grey.digest) == 64
    assert predictor_of(face_network(seed=4), metadata()).digest != grey.digest


def test_the_artifact_of_a_run_or_a_file_has_the_same_digest_and_embeddings(tmp_path):
    run = begin(tmp_path / "run", get_recipe("faces"))
    save_model(face_network(num_classes=5), run.best_model, metadata(threshold=0.4))
    whole = Predictor.load(run.best_model)
    files = [save(tmp_path / f"{seed}.png", noise(seed, 40, 40)) for seed in range(70)]
    expected = list(whole.predict(files, flip=True))
    for predictor in (Predictor.load(run.folder), Predictor.load(run.artifact, streams=2)):
        assert predictor._artifact.path == run.artifact
        assert (predictor.digest, predictor.threshold, predictor.features) == (whole.digest, 0.4, 256)
        rows = list(predictor.predict(files, flip=True))
        assert [row["changes"] for row in rows] == [row["changes"] for row in expected]
        assert close(*(np.stack([row["embedding"] for row in one]) for one in (rows, expected)))


def test_the_onnx_file_beside_a_keras_file_is_used_if_it_was_made_of_it(tmp_path):
    model = write_face_model(tmp_path / "faces.keras", threshold=0.4)
    photo = save(tmp_path / "a.png", noise(0, 40, 40))
    whole = Predictor.load(model)
    (expected,) = whole.predict([photo])
    exported = export(model).path
    assert exported == tmp_path / "faces.onnx"
    quick = Predictor.load(model)
    assert quick._artifact.path == exported
    assert (quick.digest, quick.threshold) == (whole.digest, 0.4)
    assert close(next(quick.predict([photo]))["embedding"], expected["embedding"])
    write_metadata(model, {**read_metadata(model), "threshold": 0.3})  # now it is another file's
    with pytest.warns(UserWarning, match=r"faces.onnx was made of another faces.keras: export it again"):
        changed = Predictor.load(model)
    assert (changed._artifact.path, changed.threshold) == (model, 0.3)
    exported.write_bytes(exported.read_bytes()[:99])
    with pytest.warns(UserWarning, match=r"faces.onnx is not an ONNX model, or a truncated one"):
        assert Predictor.load(model)._artifact.path == model


def test_a_classifier_changes_neither_embedding_nor_digest():
    model = face_network(num_classes=5)
    without = keras.Model(model.input, model.get_layer("embedding").output)
    pair = [predictor_of(one, metadata()) for one in (model, without)]
    assert pair[0].digest == pair[1].digest
    pictures = noise(0, 2, SIZE, SIZE, 1)
    assert close(*(predictor.embed_arrays(pictures) for predictor in pair))


# ------------------------------------------------------------------------------------------------------------ pictures


def test_a_picture_of_the_right_size_is_taken_as_it_is(model_file, grey, tmp_path):
    pixels = noise(0, SIZE, SIZE)
    (row,) = grey.predict([save(tmp_path / "a.png", pixels)])
    model = load_model(model_file)
    expected = np.asarray(model.predict_on_batch(pixels[None, :, :, None].astype("float32")))[0]
    assert list(row) == ["file", "changes", "embedding"]
    assert (row["file"], row["changes"], row["embedding"].dtype) == (str(tmp_path / "a.png"), "", np.float32)
    assert close(row["embedding"], expected)


def test_arrays_give_rows_as_files_do(grey, tmp_path):
    pictures = noise(7, 3, SIZE, SIZE, 1)
    files = [save(tmp_path / f"{index}.png", one[..., 0]) for index, one in enumerate(pictures)]
    for row, one in zip(grey.predict(files, flip=True), grey.predict(pictures, flip=True), strict=True):
        assert close(one["embedding"], row["embedding"])
    assert [row["file"] for row in grey.predict(list(pictures))] == ["array 0", "array 1", "array 2"]
    with pytest.raises(DataError, match="Landmarks are for files"):
        list(grey.predict(pictures[:1], landmarks=[POINTS]))
    with pytest.raises(DataError, match=r"Expected pictures of shape .*Received"):
        list(grey.predict(pictures[:, :5]))


def test_one_of_the_training_size_is_cut_at_its_centre(grey, tmp_path):
    pixels = noise(1, 36, 36)  # 144 / 128 * 32
    (row,) = grey.predict([save(tmp_path / "a.png", pixels)])
    assert row["changes"] == ""
    assert close(row["embedding"], embedding_of(grey, save(tmp_path / "b.png", pixels[2:-2, 2:-2])))


def test_others_are_resized_as_in_training_and_it_is_said(grey, tmp_path):
    # Smooth, so that any good resampling of twice the size gives nearly the same.
    smooth = np.add.outer(np.linspace(20, 200, 36), np.linspace(0, 50, 36))
    twice = np.asarray(Image.fromarray(smooth.astype(np.uint8)).resize((72, 72), Image.Resampling.BICUBIC))
    (row,) = grey.predict([save(tmp_path / "twice.png", twice)])
    assert row["changes"] == "72x72 grey -> 32x32 grey, not aligned"
    expected = embedding_of(grey, save(tmp_path / "once.png", smooth.astype(np.uint8)))
    cosine = row["embedding"] @ expected / np.linalg.norm(row["embedding"]) / np.linalg.norm(expected)
    assert cosine > 0.999


def test_aligned_pictures_are_aligned_for_smaller_networks_too(grey, tmp_path):
    photo = save(tmp_path / "a.png", noise(1, 144, 144))
    (row,) = grey.predict([photo])
    assert row["changes"] == ""
    described = metadata()
    del described["alignment"]  # trained on pictures as they were
    (row,) = predictor_of(face_network(), described).predict([photo])
    assert row["changes"] == "144x144 grey -> 32x32 grey, not aligned"


@pytest.mark.parametrize("where", ["alignment", "input"])
def test_the_model_file_may_name_another_training_size(where, tmp_path):
    described = metadata()
    described[where] = {**described[where], "training_size": 40}
    predictor = predictor_of(face_network(), described)
    pixels = noise(1, 40, 40)
    (row,) = predictor.predict([save(tmp_path / "a.png", pixels)])
    assert row["changes"] == ""
    assert close(row["embedding"], embedding_of(predictor, save(tmp_path / "b.png", pixels[4:-4, 4:-4])))


def test_colour_becomes_grey_by_itu_r_601(grey, tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[8:, :, 0] = 255
    luma = np.zeros((SIZE, SIZE), np.uint8)
    luma[8:] = 76  # 0.299 * 255
    (row,) = grey.predict([save(tmp_path / "red.png", red)])
    assert row["changes"] == "32x32 colour -> 32x32 grey"
    assert close(row["embedding"], embedding_of(grey, save(tmp_path / "luma.png", luma)))


def test_the_channels_come_in_the_order_of_the_model(bgr, tmp_path):
    rgb = noise(2, SIZE, SIZE, 3)
    embedding = embedding_of(bgr, save(tmp_path / "a.png", rgb))
    assert close(embedding, bgr.embed_arrays(rgb[None, :, :, ::-1])[0])
    assert not close(embedding, bgr.embed_arrays(rgb[None])[0])


@pytest.mark.parametrize("colour", ["grey", "BGR"])
def test_landmarks_cut_the_face_out(colour, grey, bgr, tmp_path):
    predictor = grey if colour == "grey" else bgr
    photo = Image.fromarray(noise(3, 120, 100, 3))
    photo.save(tmp_path / "photo.png")
    face = align(photo.convert("L" if colour == "grey" else "RGB"), POINTS, size=32, eye_mouth_distance=12, eye_row=10)
    Image.fromarray(face.squeeze()).save(tmp_path / "face.png")
    rows = [
        *predictor.predict([tmp_path / "photo.png"], [POINTS]),
        *predictor.predict([tmp_path / "photo.png"], lambda picture: np.array(POINTS) * picture.width / 100),
    ]
    assert {row["changes"] for row in rows} == {
        f"100x120 colour -> 32x32 {'grey' if colour == 'grey' else 'colour'}, aligned"
    }
    expected = embedding_of(predictor, tmp_path / "face.png")
    assert all(close(row["embedding"], expected) for row in rows)


def test_bad_files_and_landmarks_are_named_and_the_rest_is_done(grey, tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    photo = save(tmp_path / "photo.png", noise(3, 120, 100))
    files = [tmp_path / "nowhere.png", tmp_path / "empty.png", photo, tmp_path / "text.png", photo, photo, photo]
    level = [[30, 40], [62, 40], [46, 60], [34, 40], [58, 40]]
    outside = [[300, 40], [362, 41], [346, 60], [334, 80], [358, 80]]
    rows = list(grey.predict(files, [POINTS] * 4 + [level, outside, POINTS]))
    assert [row["file"] for row in rows] == [str(file) for file in files]
    messages = [row.get("error", "") for row in rows]
    for message, expected in zip(
        messages, ["no such file", "is empty", "", "not a PNG", "degenerate", "outside the picture", ""], strict=True
    ):
        assert bool(message) == bool(expected)
        assert expected in message
    assert close(rows[2]["embedding"], rows[6]["embedding"])


def test_a_model_without_a_frame_takes_no_landmarks(tmp_path):
    described = {key: value for key, value in metadata().items() if key != "alignment"}
    predictor = predictor_of(face_network(), described)
    photo = save(tmp_path / "photo.png", noise(3, 60, 60))
    with pytest.raises(DataError, match="no `alignment`"):
        list(predictor.predict([photo], [POINTS]))
    (row,) = predictor.predict([photo])
    assert row["changes"] == "60x60 grey -> 32x32 grey, not aligned"


def test_there_must_be_landmarks_for_every_file(grey, tmp_path):
    photo = save(tmp_path / "photo.png", noise(3, 120, 100))
    with pytest.raises(ValueError, match="shorter"):
        list(grey.predict([photo, photo], [POINTS]))


def test_a_blank_picture_has_no_direction(grey, tmp_path):
    blank, other = (
        save(tmp_path / "a.png", np.zeros((SIZE, SIZE), np.uint8)),
        save(tmp_path / "b.png", noise(0, SIZE, SIZE)),
    )
    rows = list(grey.predict([blank, other]))  # biases are zero at first
    assert "zero or not finite" in rows[0]["error"]
    assert "embedding" in rows[1]


def test_files_are_read_a_batch_at_a_time_and_come_in_order(grey, tmp_path, monkeypatch):
    monkeypatch.setattr("lightcnn.inference._GROUP", 4)
    files = [save(tmp_path / f"{place}.png", noise(place, SIZE, SIZE)) for place in range(10)]
    taken = []
    rows = grey.predict(taken.append(file) or file for file in files)
    first = next(rows)
    assert len(taken) == 8  # one group is computed, one is decoded
    found = [first, *rows]
    assert [row["file"] for row in found] == [str(file) for file in files]
    pictures = np.stack([noise(place, SIZE, SIZE, 1) for place in range(10)])
    assert close(np.stack([row["embedding"] for row in found]), grey.embed_arrays(pictures))


def test_a_function_that_finds_landmarks_is_called_for_one_picture_at_a_time(grey, tmp_path):
    busy = threading.Lock()

    def find(picture):
        assert busy.acquire(blocking=False)  # detectors need not be safe on several threads
        time.sleep(0.002)
        busy.release()
        return POINTS

    files = [save(tmp_path / f"{place}.png", noise(place, 120, 100)) for place in range(8)]
    assert all("embedding" in row for row in grey.predict(files, find))


def test_files_in_a_folder(grey, tmp_path):
    save(tmp_path / "bob" / "1.png", noise(0, 4, 4))
    save(tmp_path / "ann" / "1.png", noise(0, 4, 4))
    assert grey.files_in(tmp_path) == [tmp_path / "ann" / "1.png", tmp_path / "bob" / "1.png"]


# -------------------------------------------------------------------------------------------------------------- arrays


def test_flip_adds_the_mirror_image(grey):
    pictures = noise(5, 3, SIZE, SIZE, 1)
    both = grey.embed_arrays(pictures, flip=True)
    mirrored = np.stack([np.fliplr(picture) for picture in pictures])
    assert close(both, grey.embed_arrays(pictures) + grey.embed_arrays(mirrored))
    assert close(both, grey.embed_arrays(mirrored, flip=True))
    assert not close(both, 2 * grey.embed_arrays(pictures))


def test_no_picture_gives_no_embedding(grey):
    assert grey.embed_arrays(np.zeros((0, SIZE, SIZE, 1), np.uint8)).shape == (0, 256)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((SIZE, SIZE, 1), "Add the first axis"),
        ((2, 1, SIZE, SIZE), "The channels come last"),
        ((2, SIZE, SIZE, 3), "The model takes grey"),
        ((2, SIZE, SIZE), r"Received: \(2, 32, 32\)"),
        ((2, 40, SIZE, 1), r"Received: \(2, 40, 32, 1\)"),
    ],
)
def test_another_shape_is_refused(grey, shape, hint):
    with pytest.raises(DataError, match=rf"\(batch, \(32, 32, 1\)\).*{hint}"):
        grey.embed_arrays(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((1, SIZE, SIZE, 1), 0.5), "Received: 0.5 to 0.5. They look as if they were scaled already"),
        (np.full((1, SIZE, SIZE, 1), -1.0), "Received: -1 to -1"),
        (np.full((1, SIZE, SIZE, 1), 300), "Received: 300 to 300"),
    ],
)
def test_an_odd_range_is_warned_about_once(pixels, message):
    predictor = predictor_of(face_network(), metadata())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        predictor.embed_arrays(pixels)
        predictor.embed_arrays(pixels)
    (warning,) = [one for one in seen if one.category is UserWarning]
    assert message in str(warning.message)


@pytest.mark.parametrize("pixels", [np.zeros((1, SIZE, SIZE, 1), np.uint8), np.full((1, SIZE, SIZE, 1), 254.6)])
def test_a_usual_range_is_not(grey, pixels):
    grey.embed_arrays(pixels)  # a warning would be an error


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_must_be_finite(grey, value):
    with pytest.raises(DataError, match="NaN or infinite"):
        grey.embed_arrays(np.full((1, SIZE, SIZE, 1), value))


# -------------------------------------------------------------------------------------------------------- insightface


@pytest.mark.parametrize("size", [112, 224])
def test_insightface_crops_come_into_the_frame(size):
    pixels = np.zeros((size, size), np.uint8)
    # A spot between the eyes of insightface's template, in a picture of any size: x 55.9, y 51.6 of 112.
    row, column = round(51.6 * size / 112), round(55.9 * size / 112)
    pixels[row - 2 : row + 3, column - 2 : column + 3] = 255
    face = align(pixels, insightface_landmarks(Image.fromarray(pixels)), size=128, eye_mouth_distance=48, eye_row=40)
    rows, columns = np.nonzero(face[..., 0] > 127)
    assert abs(rows.mean() - 40) < 1
    assert abs(columns.mean() - 64) < 1


def test_insightface_crops_are_square():
    with pytest.raises(DataError, match="it has 92x112"):
        insightface_landmarks(Image.new("L", (92, 112)))
