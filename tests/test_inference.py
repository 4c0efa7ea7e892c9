"""A model looks at pictures of any size and colour, in order, and one bad file stops nothing."""

import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import begin
from PIL import Image

from lightcnn import exporting
from lightcnn import inference as inference_room
from lightcnn.errors import (
    DataError,
    ExportError,
    MissingDependencyError,
    ModelFileError,
    RunError,
    StorageError,
)
from lightcnn.exporting import export, made_up_examples
from lightcnn.files import file_digest
from lightcnn.inference import Predictor
from lightcnn.inference import images as inference
from lightcnn.inference.images import PicturePredictor
from lightcnn.models import lcnn, load_model, save_model
from lightcnn.recipes import get_recipe
from lightcnn.runtimes import Artifact, TensorInfo, checking, keras_artifact, open_artifact

LABELS = ["zero", "one", "two", "three"]


def metadata(shape=(28, 28, 1), dtype="uint8"):
    return {
        "task": "image classification",
        "labels": LABELS,
        "input": {"shape": list(shape), "dtype": dtype},
    }


def model_file(path, shape=(28, 28, 1), dtype="uint8"):
    """Writes an untrained model whose scores differ from picture to picture."""
    keras.utils.set_random_seed(3)
    model = lcnn(shape, len(LABELS), scale=1 / 64, offset=-1.0)
    save_model(model, path, metadata(shape, dtype))
    return path


@pytest.fixture(scope="module")
def grey_model(tmp_path_factory):
    return model_file(tmp_path_factory.mktemp("grey") / "grey.keras")


@pytest.fixture(scope="module")
def grey(grey_model):
    return Predictor.load(grey_model)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return Predictor.load(model_file(tmp_path_factory.mktemp("colour") / "colour.keras", (32, 48, 3)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten pictures of the grey model's own size."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(10)]
    for index, path in enumerate(paths):
        pixels = np.random.default_rng(index).integers(0, 256, (28, 28), np.uint8) // (1 + index)
        Image.fromarray(pixels).save(path)
    return paths


def array_of(path):
    return np.asarray(Image.open(path))[None, ..., None]


def test_a_row_has_the_documented_shape(grey, pictures):
    (row,) = grey.predict(pictures[:1])
    assert set(row) == {"file", "label", "probability", "top", "changes"}
    assert row["file"] == str(pictures[0])
    assert row["changes"] == ""
    assert type(row["probability"]) is float
    assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
    assert {entry["label"] for entry in row["top"]} == set(LABELS)
    probabilities = [entry["probability"] for entry in row["top"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_a_file_scores_as_its_array(grey, pictures):
    for row, path in zip(grey.predict(pictures), pictures, strict=True):
        own = grey.predict_arrays(array_of(path))[0]
        assert row["label"] == LABELS[own.argmax()]
        assert row["probability"] == pytest.approx(own.max(), abs=1e-5)


def test_the_pictures_are_told_apart(grey, pictures):
    assert len({row["probability"] for row in grey.predict(pictures)}) == len(pictures)


@pytest.mark.parametrize("top", [1, 2, 4, 9])
def test_as_many_labels_as_asked_for(grey, pictures, top):
    (row,) = grey.predict(pictures[:1], top=top)
    assert len(row["top"]) == min(top, 4)


def test_no_label_is_too_few(grey, pictures):
    with pytest.raises(ValueError, match=r"`top` of at least 1. Received: top=0"):
        list(grey.predict(pictures[:1], top=0))


def test_order_and_repeats_are_kept_over_batches(grey, pictures):
    files = [pictures[index % 10] for index in (*range(0, 140, 7), *range(150, 0, -1))]
    rows = list(grey.predict(files))
    assert len(files) > 2 * inference_room._GROUP
    assert [row["file"] for row in rows] == [str(path) for path in files]
    alone = {str(path): next(grey.predict([path]))["probability"] for path in pictures}
    for row in rows:
        assert row["probability"] == pytest.approx(alone[row["file"]], abs=1e-5)


def test_files_are_read_batch_by_batch(grey, pictures):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield pictures[0]

    rows = grey.predict(endless())
    next(rows)
    assert len(taken) == 2 * inference_room._GROUP  # one is computed, one is decoded


def test_no_files_give_no_rows(grey):
    assert list(grey.predict([])) == []


def test_a_path_may_be_text(grey, pictures):
    assert next(grey.predict([str(pictures[0])])) == next(grey.predict([pictures[0]]))


@pytest.mark.parametrize(
    ("size", "mode", "changes"),
    [
        ((56, 56), "L", "56x56 grey -> 28x28 grey"),
        ((28, 28), "RGB", "28x28 colour -> 28x28 grey"),
        ((90, 30), "RGB", "90x30 colour -> 28x28 grey"),
        ((28, 28), "RGBA", "28x28 colour -> 28x28 grey"),
        ((1, 1), "L", "1x1 grey -> 28x28 grey"),
    ],
)
def test_other_sizes_and_colours_are_converted_and_named(grey, tmp_path, size, mode, changes):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels).save(tmp_path / "picture.png")
    (row,) = grey.predict([tmp_path / "picture.png"])
    assert row["changes"] == changes


def test_grey_pictures_fit_a_model_for_colour(colour, pictures):
    assert (colour.height, colour.width, colour.channels) == (32, 48, 3)
    (row,) = colour.predict(pictures[:1])
    assert row["changes"] == "28x28 grey -> 48x32 colour"


def test_a_bad_file_is_named_and_the_others_done(grey, pictures, tmp_path):
    empty, text, truncated = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "half.png"
    empty.touch()
    text.write_text("no picture")
    truncated.write_bytes(pictures[1].read_bytes()[:100])
    files = [empty, pictures[0], text, truncated, tmp_path / "nowhere.png", pictures[1], tmp_path]
    rows = list(grey.predict(files))
    assert [row["file"] for row in rows] == [str(path) for path in files]
    assert ["error" in row for row in rows] == [True, False, True, True, True, False, True]
    assert rows[0] == {"file": str(empty), "error": "the file is empty"}
    assert rows[4]["error"] == "no such file"
    expected = [next(grey.predict([path]))["probability"] for path in pictures[:2]]
    assert [rows[1]["probability"], rows[5]["probability"]] == pytest.approx(expected, abs=1e-5)


def test_only_bad_files_give_only_errors(grey, tmp_path):
    rows = list(grey.predict([tmp_path / f"{index}.png" for index in range(inference_room._GROUP + 1)]))
    assert len(rows) == inference_room._GROUP + 1
    assert {row["error"] for row in rows} == {"no such file"}


# ----------------------------------------------------------------------------------------------------------- arrays


def test_arrays_give_probabilities(grey):
    arrays = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    probabilities = grey.predict_arrays(arrays)
    assert probabilities.shape == (5, 4)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert np.allclose(probabilities, grey.predict_arrays(arrays.astype(np.float64)), atol=1e-6)


def test_arrays_give_rows_as_files_do(grey, pictures):
    expected = [{**row, "file": f"array {index}"} for index, row in enumerate(grey.predict(pictures))]
    arrays = np.concatenate([array_of(path) for path in pictures])
    assert_same(grey.predict(arrays), expected)
    assert_same(grey.predict(list(arrays.astype(np.float32))), expected)
    mixed = [pictures[0], arrays[1], str(pictures[2])]
    named = [str(pictures[0]), "array 1", str(pictures[2])]
    assert_same(grey.predict(mixed), [{**row, "file": name} for row, name in zip(expected, named, strict=False)])


@pytest.mark.parametrize(
    "wrong", [np.zeros((28, 28, 1)), np.zeros((2, 14, 28, 1)), np.full((2, 28, 28, 1), np.nan), [None], [3]]
)
def test_what_is_no_file_and_no_picture_is_refused(grey, wrong):
    with pytest.raises(DataError, match=r"Expected (pictures of (shape|finite)|files or arrays).*Received"):
        list(grey.predict(wrong))


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_is_no_list_of_files(grey, pictures, kind):
    with pytest.raises(DataError, match=rf"in a list: \['{pictures[0]}'\]. Received: "):
        next(grey.predict(kind(pictures[0])))


def test_groups_of_pictures_fit_the_memory():
    def size(shape, streams):
        info = TensorInfo("pictures", (None, *shape), "float32")
        return inference_room.group_size(Artifact(Path("a"), {}, (info,), info, "0" * 64, streams, None))

    assert [size((28, 28, 1), streams) for streams in (1, 4)] == [64, 256]
    assert 1 < size((1024, 1024, 3), 64) * 1024 * 1024 * 3 <= 2**28
    assert size((40_000, 40_000, 3), 1) == 1


def test_a_row_does_not_depend_on_its_batch(grey):
    arrays = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1), np.uint8)
    alone = np.concatenate([grey.predict_arrays(arrays[index : index + 1]) for index in range(7)])
    assert np.allclose(grey.predict_arrays(arrays), alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (2, 28, 28), (2, 28, 28, 3), (2, 14, 28, 1), (0,)])
def test_arrays_of_another_shape_are_refused(grey, shape):
    with pytest.raises(DataError, match=r"Expected pictures of shape .*28, 28, 1.* Received: \("):
        grey.predict_arrays(np.zeros(shape))


def test_a_batch_is_what_the_model_gives(grey_model):
    model = load_model(grey_model)
    arrays = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    expected = keras.ops.convert_to_numpy(model(arrays.astype(np.float32), training=False))
    assert np.allclose(Predictor.load(grey_model).predict_arrays(arrays), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "dtype"), [((28, 28, 1), "float32"), ((28, 28, 4), "uint8")])
def test_a_model_for_other_arrays_refuses_pictures(tmp_path, pictures, shape, dtype):
    predictor = Predictor.load(model_file(tmp_path / "model.keras", shape, dtype))
    with pytest.raises(
        DataError, match=rf"arrays that are no pictures \({dtype}, {shape[2]} channels\).*predict_arrays"
    ):
        list(predictor.predict(pictures))
    assert predictor.predict_arrays(np.zeros((2, *shape))).shape == (2, 4)
    assert len(list(predictor.predict(np.zeros((2, *shape))))) == 2


# ----------------------------------------------------------------------------------------------------------- models


def test_a_run_folder_and_its_model_file_are_the_same(grey, grey_model, pictures, tmp_path):
    run = begin(tmp_path / "run", get_recipe("arrays"))
    run.best_model.write_bytes(grey_model.read_bytes())
    assert_same(Predictor.load(run.folder).predict(pictures), grey.predict(pictures))
    assert list(Predictor.load(str(run.best_model)).predict(pictures)) == list(grey.predict(pictures))


def run_with(model_file, folder):
    run = begin(folder, get_recipe("arrays"))
    run.best_model.write_bytes(model_file.read_bytes())
    return run


def assert_same(received, expected):
    """Checks that rows are equal, but for what float32 leaves open."""
    for one, other in zip(received, expected, strict=True):
        assert {**one, "probability": 0, "top": 0} == {**other, "probability": 0, "top": 0}
        assert [entry["label"] for entry in one["top"]] == [entry["label"] for entry in other["top"]]
        probabilities = [[entry["probability"] for entry in row["top"]] for row in (one, other)]
        assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("form", ["onnx", "litert", "openvino"])
def test_every_format_gives_the_same_rows(grey, grey_model, pictures, tmp_path, form, streams):
    if form == "litert" and keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT's converter needs TensorFlow")
    if form == "openvino":
        pytest.importorskip("openvino")
    output = tmp_path / {"onnx": "model.onnx", "litert": "model.tflite", "openvino": "openvino"}[form]
    predictor = Predictor.load(export(grey_model, output, form).path, streams)
    bad = tmp_path / "nowhere.png"
    files = [*pictures * 20, bad, *pictures]
    rows = list(predictor.predict(files))
    assert rows.pop(200) == {"file": str(bad), "error": "no such file"}
    assert_same(rows, list(grey.predict(pictures)) * 21)
    arrays = np.random.default_rng(0).integers(0, 256, (150, 28, 28, 1), np.uint8)
    assert np.allclose(predictor.predict_arrays(arrays), grey.predict_arrays(arrays), atol=1e-5)
    assert predictor.predict_arrays(arrays[:0]).shape == (0, 4)


def test_a_run_is_exported_once(grey_model, pictures, tmp_path, monkeypatch):
    run = run_with(grey_model, tmp_path / "run")
    first = list(Predictor.load(run.folder).predict(pictures))
    assert open_artifact(run.artifact).metadata["artifact"]["source_digest"] == file_digest(run.best_model)
    monkeypatch.setattr(exporting, "export", None)
    assert list(Predictor.load(run.folder).predict(pictures)) == first


def spoil(artifact, how):
    if how == "another model's":
        keras.utils.set_random_seed(4)
        save_model(lcnn((28, 28, 1), 4, scale=1 / 64, offset=-1.0), artifact.with_name("other.keras"), metadata())
        export(artifact.with_name("other.keras"), artifact)
    elif how == "fewer bits":
        export(artifact.with_name("best.keras"), artifact, quantize="float16")
    else:
        content = export(artifact.with_name("best.keras"), artifact).path.read_bytes()
        artifact.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("how", ["another model's", "fewer bits", "truncated"])
def test_an_artifact_that_is_not_the_runs_is_made_anew(grey, grey_model, pictures, tmp_path, how):
    run = run_with(grey_model, tmp_path / "run")
    spoil(run.artifact, how)
    before = run.artifact.read_bytes()
    assert_same(Predictor.load(run.folder).predict(pictures), grey.predict(pictures))
    assert run.artifact.read_bytes() != before


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def noise(run):
    return made_up_examples(load_model(run.best_model), metadata())


@pytest.mark.parametrize("error", [ExportError("no such layer"), StorageError("disk is full"), DataError("no thread")])
def test_a_run_that_cannot_be_exported_is_run_with_keras(grey, grey_model, pictures, tmp_path, monkeypatch, error):
    run = run_with(grey_model, tmp_path / "run")
    monkeypatch.setattr(exporting, "export", fail_with(error))
    with pytest.warns(UserWarning, match=f"is run with Keras, which is slower. {error}"):
        predictor = Predictor.load(run.folder)
    assert list(predictor.predict(pictures)) == list(grey.predict(pictures))
    assert not run.artifact.exists()


def without(monkeypatch, *packages):
    """Makes packages look as if they were not installed."""
    monkeypatch.setattr(checking, "find_spec", lambda name: None if name in packages else find_spec(name))


def test_without_the_fastest_runtime_the_next_is_made_and_used(grey, grey_model, pictures, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    run = run_with(grey_model, tmp_path / "run")
    without(monkeypatch, "onnxruntime")
    predictor = Predictor.load(run.folder)
    assert predictor._artifact.path == run.folder / "model-openvino" / "model.xml"
    assert_same(predictor.predict(pictures), grey.predict(pictures))
    without(monkeypatch)  # ONNX Runtime is faster, so its artifact is made although there is one already
    assert Predictor.load(run.folder)._artifact.path == run.artifact


def test_what_stands_in_the_folder_is_used_where_nothing_can_be_made(grey, grey_model, pictures, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    run = run_with(grey_model, tmp_path / "run")
    exact = export(run, form="openvino", examples=noise(run)).path
    without(monkeypatch, "tensorflow", "jax", "torch")
    monkeypatch.setattr(exporting, "export", fail_with(MissingDependencyError("no backend")))
    predictor = Predictor.load(run.folder)  # pytest turns a warning into an error
    assert predictor._artifact.path == exact
    assert_same(predictor.predict(pictures), grey.predict(pictures))
    export(run, form="openvino", quantize="float16", output=exact.parent, examples=noise(run))
    with pytest.raises(MissingDependencyError, match="Keras model"):  # never less exact than asked for
        Predictor.load(run.folder)


@pytest.mark.parametrize("kind", ["run", "file"])
def test_why_keras_is_used_or_needed_is_said(grey, grey_model, pictures, tmp_path, monkeypatch, kind):
    run = run_with(grey_model, tmp_path / "run")
    path = run.folder if kind == "run" else run.best_model
    exported = export(run.best_model, run.artifact if kind == "run" else None).path
    exported.write_bytes(exported.read_bytes()[:1000])
    without(monkeypatch, "openvino", "ai_edge_litert")
    monkeypatch.setattr(exporting, "export", fail_with(MissingDependencyError("no backend")))
    with pytest.warns(UserWarning, match=f"slower. {exported} is not an ONNX model, or a truncated one"):
        predictor = Predictor.load(path)
    assert list(predictor.predict(pictures)) == list(grey.predict(pictures))
    without(monkeypatch, "openvino", "ai_edge_litert", "tensorflow", "jax", "torch")
    with pytest.raises(MissingDependencyError, match=f"this reason: {exported} is not an ONNX model"):
        Predictor.load(path)


def test_a_fall_back_to_keras_is_a_sentence_of_the_command_line(grey_model, pictures, tmp_path, monkeypatch, call):
    run = run_with(grey_model, tmp_path / "run")
    monkeypatch.setattr(exporting, "export", fail_with(ExportError("No such layer.")))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = call("predict", run.folder, pictures[0])
    assert result.code == 0
    assert result.err.splitlines()[0] == f"Note: {run.best_model} is run with Keras, which is slower. No such layer."


@pytest.mark.parametrize("form", inference_room._FASTEST_FIRST)
def test_runs_are_looked_through_where_exports_are_written(tmp_path, form):
    run = begin(tmp_path / "run", get_recipe("arrays"))
    written = exporting._target(run.best_model, run, form, None)
    assert run.folder / inference_room._FASTEST_FIRST[form] == (
        written / "model.xml" if form == "openvino" else written
    )


@pytest.mark.slow
def test_two_processes_that_export_a_run_at_once_leave_one_whole_file(grey, grey_model, pictures, tmp_path):
    run = run_with(grey_model, tmp_path / "run")
    script = (
        "import sys; from lightcnn import Predictor; "
        "print(*(row['label'] for row in Predictor.load(sys.argv[1]).predict(sys.argv[2:])))"
    )
    command = [sys.executable, "-c", script, str(run.folder), *map(str, pictures)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = " ".join(row["label"] for row in grey.predict(pictures))
    assert [process.communicate(timeout=300)[0].strip() for process in processes] == [expected] * 2
    assert {path.name for path in run.folder.iterdir()} == {"best.keras", "model.onnx", "recipe.json"}


def test_a_picture_that_cannot_be_decoded_at_all_stops_the_threads(grey, pictures, monkeypatch):
    def decode(path, *args):
        raise MemoryError("too little")

    monkeypatch.setattr(inference, "decode_picture", decode)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="too little"):
        list(grey.predict(pictures * 30))
    assert threading.active_count() == before


def test_files_are_decoded_on_other_threads_while_the_model_computes(grey, pictures, monkeypatch):
    decoding, overlapped = threading.Event(), []
    real = inference.decode_picture

    def decode(path, *args):
        assert threading.current_thread() is not threading.main_thread()
        if path == pictures[1]:
            decoding.set()
        return real(path, *args)

    def run(arrays):
        overlapped.append(decoding.wait(10))  # the next batch is begun before this one is done
        return np.full((len(arrays[0]), 4), 0.25, np.float32)

    monkeypatch.setattr(inference, "decode_picture", decode)
    predictor = PicturePredictor(replace(grey._artifact, run=run))
    files = [pictures[0]] * inference_room._GROUP + [pictures[1]]
    assert [row["file"] for row in predictor.predict(files)] == [str(path) for path in files]
    assert overlapped == [True, True]


def test_a_run_with_an_artifact_needs_no_keras(grey, grey_model, pictures, tmp_path):
    run = run_with(grey_model, tmp_path / "run")
    Predictor.load(run.folder)
    script = (
        "import sys\n"
        "sys.argv = ['lightcnn', 'predict', *sys.argv[1:]]\n"
        "from lightcnn.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*(name for name in ('keras', 'tensorflow', 'jax', 'torch', 'onnx', 'scipy') if name in sys.modules))"
    )
    for model in (run.folder, run.artifact):
        command = [sys.executable, "-c", script, str(model), str(pictures[0]), "--format", "csv", "--quiet"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        (expected,) = grey.predict(pictures[:1])
        header, row, loaded = result.stdout.splitlines()
        assert row.split(",")[:2] == [str(pictures[0]), expected["label"]]
        assert (header, loaded) == ("file,label,probability", "")


def test_the_folder_of_an_openvino_model_is_opened(grey, grey_model, pictures, tmp_path):
    pytest.importorskip("openvino")
    export(grey_model, tmp_path / "exported", "openvino")
    assert_same(Predictor.load(tmp_path / "exported").predict(pictures), grey.predict(pictures))


def test_a_model_of_another_size_than_its_file_says_is_refused(tmp_path):
    save_model(lcnn((20, 28, 1), 4), tmp_path / "model.keras", metadata((28, 28, 1)))
    with pytest.raises(ModelFileError, match=r"takes pictures of \[28, 28, 1\], and it takes \[20, 28, 1\]"):
        Predictor.load(tmp_path / "model.keras")


def test_labels_come_with_the_model(grey):
    assert grey.labels == LABELS
    assert grey.metadata["task"] == "image classification"


def test_a_run_without_a_model_is_named(tmp_path):
    begin(tmp_path / "run", get_recipe("arrays"))
    with pytest.raises(ModelFileError, match=r"best.keras does not exist.*--resume"):
        Predictor.load(tmp_path / "run")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        Predictor.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere.keras does not exist"):
        Predictor.load(tmp_path / "nowhere.keras")


def test_a_model_without_labels_says_how_to_add_them(tmp_path):
    lcnn((16, 16, 1), 2).save(tmp_path / "plain.keras")
    with pytest.raises(ModelFileError, match="nobody knows its labels"):
        Predictor.load(tmp_path / "plain.keras")


def test_labels_must_fit_the_scores(tmp_path):
    save_model(lcnn((16, 16, 1), 3), tmp_path / "three.keras", {**metadata((16, 16, 1)), "labels": ["a", "b"]})
    with pytest.raises(ModelFileError, match="gives 3 scores for 2 labels"):
        Predictor.load(tmp_path / "three.keras")


@pytest.mark.parametrize("content", [{}, {"labels": None}, {"labels": 3}])
def test_metadata_without_labels_are_an_error_of_ours(tmp_path, content):
    save_model(lcnn((16, 16, 1), 2), tmp_path / "model.keras", content)
    with pytest.raises(ModelFileError, match="labels"):
        Predictor.load(tmp_path / "model.keras")


def test_labels_alone_are_enough_as_the_message_says(tmp_path, pictures):
    """`read_metadata` tells the user to save `{"labels": [...]}`."""
    save_model(lcnn((28, 28, 1), 2), tmp_path / "model.keras", {"labels": ["a", "b"]})
    predictor = Predictor.load(tmp_path / "model.keras")
    assert predictor.predict_arrays(np.zeros((1, 28, 28, 1))).shape == (1, 2)
    assert next(predictor.predict(pictures[:1]))["label"] in ("a", "b")


def test_a_large_but_allowed_picture_is_looked_at_without_a_warning(tmp_path):
    Image.new("1", (9_900, 9_900)).save(tmp_path / "large.png")  # over Pillow's own limit of 89 million pixels
    predictor = PicturePredictor(keras_artifact(lcnn((28, 28, 1), 2), {"labels": ["a", "b"]}))
    (row,) = predictor.predict([tmp_path / "large.png"])  # pytest turns a warning into an error
    assert row["label"] in ("a", "b")
