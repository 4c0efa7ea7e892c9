"""Model files: whole or not at all, with what the model is for, and never a reason to run code."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import example

from lightcnn.errors import LightCNNError, ModelFileError, StorageError
from lightcnn.layers import MFMDense
from lightcnn.models import lcnn, load_model, read_metadata, save_model
from lightcnn.optimizers import CoupledSGD, Muon
from lightcnn.schedules import OneCycle

NOISE = np.random.default_rng(0).bytes(5000)
METADATA = {
    "task": "image classification",
    "labels": ["Straße", "猫", "caf\udce9"],
    "threshold": 0.25,
    "calibration": None,
}


def small_model():
    return keras.Sequential([keras.Input((4,)), MFMDense(3), keras.layers.Dense(2, activation="relu", name="last")])


@pytest.fixture
def model_file(tmp_path) -> Path:
    path = tmp_path / "small.keras"
    save_model(small_model(), path, METADATA)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def with_member(path: Path, name: str, content: bytes | None) -> Path:
    """Writes the zip file again with one member replaced, or left out if `content` is None."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, old in {**members, name: content}.items():
            if member != name or content is not None:
                archive.writestr(member, old if member != name else content)
    return path


def with_last_layer(path: Path, **changes) -> Path:
    """Changes what the configuration says about the last layer of `small_model`."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][-1].update(changes)
    return with_member(path, "config.json", json.dumps(config).encode())


def test_a_model_comes_back_with_its_weights_and_what_it_is_for(tmp_path):
    path = tmp_path / "new" / "folder" / "model.keras"
    model = lcnn((16, 16, 3), 2, scale=1 / 255, offset=-0.5)
    model.set_weights([example(weight.shape, 1)[0] ** 2 + 0.1 for weight in model.get_weights()])
    save_model(model, path, METADATA)
    loaded = load_model(path)
    assert names_in(path.parent) == ["model.keras"]
    assert read_metadata(path) == METADATA
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    images = 255 * np.abs(example((16, 16, 3), batch_size=2))
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(images)), ops.convert_to_numpy(model(images)))


def test_saving_again_replaces_the_file(model_file):
    save_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), model_file, {"labels": []})
    assert read_metadata(model_file) == {"labels": []}
    assert load_model(model_file).input_shape == (None, 1)
    assert names_in(model_file.parent) == ["small.keras"]


def test_a_path_may_be_a_string(tmp_path):
    path = str(tmp_path / "small.keras")
    save_model(small_model(), path, METADATA)
    assert load_model(path).output_shape == (None, 2)
    assert read_metadata(path) == METADATA


def test_a_compiled_model_comes_back_uncompiled(tmp_path):
    def mean_output(_, outputs):
        return ops.mean(outputs)

    model = small_model()
    model.compile(keras.optimizers.Adam(OneCycle(0.1, 5)), mean_output, metrics=["mae"])
    model.train_on_batch(example((4,)), example((2,)))
    save_model(model, tmp_path / "trained.keras", METADATA)
    loaded = load_model(tmp_path / "trained.keras")
    assert not loaded.compiled
    inputs = example((4,))
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(inputs)), ops.convert_to_numpy(model(inputs)))


def test_keras_itself_reads_the_file(model_file):
    assert keras.models.load_model(model_file).output_shape == (None, 2)


@pytest.mark.parametrize("name", ["model", "model.h5", "model.keras.zip", "model.KERAS"])
def test_a_model_file_ends_in_keras(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.keras\. Received: path="):
        save_model(small_model(), tmp_path / name, METADATA)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("function", [load_model, read_metadata])
@pytest.mark.parametrize("name", ["missing.keras", "missing/model.keras"])
def test_a_missing_file_is_named(tmp_path, function, name):
    with pytest.raises(ModelFileError, match="does not exist") as caught:
        function(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert isinstance(caught.value, LightCNNError)


@pytest.mark.parametrize("function", [load_model, read_metadata])
@pytest.mark.parametrize("content", [b"", b"PK", NOISE], ids=["empty", "start", "random"])
def test_a_file_that_is_no_zip_is_refused(tmp_path, function, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.keras is not a \.keras file"):
        function(path)


@pytest.mark.parametrize("function", [load_model, read_metadata])
def test_a_truncated_file_is_refused(model_file, function):
    whole = model_file.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.9, 0.99):
        model_file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelFileError, match="truncated"):
            function(model_file)
    model_file.write_bytes(whole[:-1])
    with pytest.raises(ModelFileError):
        function(model_file)


@pytest.mark.parametrize("function", [load_model, read_metadata])
def test_a_zip_that_is_no_model_is_refused(tmp_path, function):
    path = tmp_path / "photos.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "not a model")
    with pytest.raises(ModelFileError, match=r"not a Keras model: it has no config\.json"):
        function(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\xfa", b"null", b"[]", b"5", b"{}", b"[" * 100_000],
    ids=["empty", "half", "binary", "null", "list", "number", "object", "deep"],
)
def test_a_damaged_configuration_is_refused(model_file, content):
    with pytest.raises(ModelFileError, match=r"small\.keras"):
        load_model(with_member(model_file, "config.json", content))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\xfa", b"null", b"[]", b"5"],
    ids=["empty", "half", "binary", "null", "list", "number"],
)
def test_damaged_metadata_are_refused(model_file, content):
    with pytest.raises(ModelFileError, match=r"small\.keras.*lightcnn\.json"):
        read_metadata(with_member(model_file, "lightcnn.json", content))


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_missing_or_damaged_weights_are_refused(model_file, content):
    with pytest.raises(ModelFileError, match=r"small\.keras could not be loaded"):
        load_model(with_member(model_file, "model.weights.h5", content))


def test_whichever_byte_is_damaged_no_other_error_comes_out(model_file):
    whole, generator = model_file.read_bytes(), np.random.default_rng(0)
    # The last bytes are the zip's directory, where the reader itself trips over what it does not support.
    positions = [*generator.integers(len(whole), size=20), *range(len(whole) - 300, len(whole), 2)]
    refused = 0
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        model_file.write_bytes(damaged)
        for function in (read_metadata, load_model):
            try:
                function(model_file)
            except ModelFileError:
                refused += 1
    assert refused > len(positions) / 2


def test_a_damaged_compressed_member_is_refused(tmp_path):
    path = tmp_path / "compressed.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(list(range(1000))))
    damaged = bytearray(path.read_bytes())
    damaged[60:90] = b"\xff" * 30
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"compressed\.keras"):
        load_model(path)


def test_a_keras_file_without_metadata_is_a_model_without_labels(tmp_path):
    path = tmp_path / "plain.keras"
    small_model().save(path)
    assert load_model(path).output_shape == (None, 2)
    with pytest.raises(ModelFileError, match=r"without lightcnn\.json.*save_model"):
        read_metadata(path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_lambda_layer_is_refused(tmp_path, wrapped):
    layer = keras.layers.Lambda(lambda x: 2 * x)
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.TimeDistributed(layer) if wrapped else layer])
    save_model(model, tmp_path / "lambda.keras", METADATA)
    with pytest.raises(ModelFileError, match=r"needs code.*Lambda"):
        load_model(tmp_path / "lambda.keras")


@pytest.mark.parametrize("registered_name", [None, "system", "os>system", "lightcnn>system", "lightcnn>Missing"])
@pytest.mark.parametrize(("module", "class_name"), [("os", "system"), ("subprocess", "Popen")])
def test_a_class_from_elsewhere_is_refused(model_file, module, class_name, registered_name):
    with_last_layer(
        model_file, module=module, class_name=class_name, registered_name=registered_name, config={"args": "true"}
    )
    with pytest.raises(ModelFileError, match=f"needs code.*{module}.{class_name}"):
        load_model(model_file)


def test_a_function_from_elsewhere_is_refused(model_file):
    function = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    with_last_layer(model_file, config={"name": "last", "units": 2, "activation": function})
    with pytest.raises(ModelFileError, match=r"needs code"):
        load_model(model_file)


def test_nothing_is_imported_for_a_file(model_file, tmp_path, monkeypatch):
    (tmp_path / "lightcnn_test_intruder.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "keras_test_intruder.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("lightcnn_test_intruder", "keras_test_intruder"):
        for registered_name in (None, "Intruder", "lightcnn>Intruder"):
            with_last_layer(model_file, module=module, class_name="Intruder", registered_name=registered_name)
            with pytest.raises(ModelFileError):
                load_model(model_file)
        assert module not in sys.modules


def test_a_class_of_another_package_is_refused_though_it_is_registered(tmp_path):
    @keras.saving.register_keras_serializable(package="elsewhere")
    class Doubling(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    save_model(keras.Sequential([keras.Input((4,)), Doubling()]), tmp_path / "doubling.keras", METADATA)
    with pytest.raises(ModelFileError, match=r"needs code.*Doubling"):
        load_model(tmp_path / "doubling.keras")


@pytest.mark.parametrize("half_written", [False, True])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(model_file, monkeypatch, half_written):
    def save_until_the_disk_is_full(path, *args, **kwargs):
        if half_written:
            Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    old, model = model_file.read_bytes(), small_model()
    monkeypatch.setattr(model, "save", save_until_the_disk_is_full)
    with pytest.raises(StorageError, match=r"small\.keras could not be written: No space left on device"):
        save_model(model, model_file, METADATA)
    assert model_file.read_bytes() == old
    assert names_in(model_file.parent) == ["small.keras"]


def test_a_file_that_grows_too_large_leaves_the_old_file_and_nothing_else(model_file):
    resource = pytest.importorskip("resource")
    old, limits = model_file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    large = keras.Sequential([keras.Input((300,)), keras.layers.Dense(3000)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"small\.keras could not be written"):
            save_model(large, model_file, METADATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert model_file.read_bytes() == old
    assert names_in(model_file.parent) == ["small.keras"]


def test_metadata_that_are_not_json_leave_the_old_file_and_nothing_else(model_file):
    old = model_file.read_bytes()
    with pytest.raises(TypeError, match="JSON"):
        save_model(small_model(), model_file, {"labels": {1, 2}})
    assert model_file.read_bytes() == old
    assert names_in(model_file.parent) == ["small.keras"]


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model", "."])
def test_a_file_of_another_format_is_refused(tmp_path, name):
    save_model(lcnn((16, 16, 1), 2), tmp_path / "model.keras", {})
    if name != ".":
        (tmp_path / "model.keras").rename(tmp_path / name)  # a whole model, under a name that Keras reads otherwise
    with pytest.raises(ModelFileError, match=r"is not a \.keras file"):
        load_model(tmp_path / name)


def test_a_model_compiled_with_our_optimizers_is_opened_by_another_program(tmp_path):
    for optimizer in (Muon(0.01), CoupledSGD(0.01)):
        model = small_model()
        model.compile(optimizer, "mse")
        save_model(model, tmp_path / f"{optimizer.name}.keras", METADATA)
    code = "import sys; from lightcnn.models import load_model; [load_model(path) for path in sys.argv[1:]]"
    files = [str(path) for path in tmp_path.iterdir()]
    result = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, timeout=300)
    assert (len(files), result.returncode) == (2, 0), result.stderr
