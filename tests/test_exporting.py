"""An exported model gives what Keras gives: every layer, every network, and a proof before a file appears."""

import errno
import inspect
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import begin, environment_of, real_file
from layer_contract import random_weights

from lightcnn import exporting, frontends, layers
from lightcnn.article import build_lcnn
from lightcnn.datasets import load_images
from lightcnn.errors import ExportError, MissingDependencyError, ModelFileError, RunError, StorageError
from lightcnn.exporting import Examples, examples_of, export, forms, made_up_examples, to_onnx
from lightcnn.exporting.front_ends import FRONT_ENDS
from lightcnn.exporting.graph import Graph
from lightcnn.exporting.layers import LAYERS
from lightcnn.exporting.proof import prove
from lightcnn.exporting.quantizing import quantize_onnx
from lightcnn.inference import Predictor
from lightcnn.models import (
    from_samples,
    lcnn,
    lcnn_attention,
    lcnn_fixed,
    lcnn_lstm_sum,
    light_cnn_4,
    light_cnn_9,
    light_cnn_29,
    light_cnn_29v2,
    light_cnn_v4,
    save_model,
    stc2017,
    stc2019,
)
from lightcnn.recipes import get_recipe
from lightcnn.runtimes import FORMS, checking, open_artifact

# The largest difference of float32, as a share of the largest value, that the package promises.
TOLERANCE = 1e-4
LABELS = [str(number) for number in range(10)]


def session_of(model, **options):
    return onnxruntime.InferenceSession(to_onnx(model, **options).SerializeToString())


def run(session, *inputs):
    return session.run(None, dict(zip([one.name for one in session.get_inputs()], inputs, strict=True)))


def assert_same(model, *inputs, session=None):
    expected = keras.ops.convert_to_numpy(model(list(inputs) if len(inputs) > 1 else inputs[0]))
    received = run(session or session_of(model), *inputs)[0]
    assert received.shape == expected.shape
    assert np.abs(received - expected).max() <= TOLERANCE * np.abs(expected).max()


def with_random_weights(model):
    model.set_weights(random_weights(model))
    return model


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def audio(samples, rows=1, seed=0):
    """Returns noise and a tone whose level differs from row to row, with a silent stretch in each."""
    generator = np.random.default_rng(seed)
    tone = np.sin(0.05 * np.arange(samples)) * generator.uniform(0.1, 0.5, (rows, 1))
    sound = tone + generator.normal(0, 0.05, (rows, samples))
    sound[:, samples // 3 : samples // 3 + 600] = 0
    return sound.astype("float32")


@pytest.mark.parametrize("mfm", ["sum", "split"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 19, 3)])
def test_the_articles_network(shape, mfm):
    model = with_random_weights(lcnn(shape, 10, scale=[1 / 64] * shape[-1], offset=[-1.0] * shape[-1]))
    for batch in (1, 3):
        assert_same(model, pictures(batch, *shape), session=session_of(model, mfm=mfm))


def test_the_articles_own_function():
    assert_same(with_random_weights(build_lcnn((28, 28, 1))), pictures(2, 28, 28, 1) / 255)


FACES = [
    (light_cnn_4, (57, 58, 1)),
    (light_cnn_9, (33, 20, 1)),  # odd: the pooling rounds up
    (light_cnn_29, (33, 20, 1)),
    (light_cnn_29v2, (33, 20, 1)),
    (light_cnn_v4, (33, 20, 3)),
]


@pytest.mark.parametrize(("network", "shape"), FACES, ids=lambda value: getattr(value, "__name__", ""))
def test_networks_for_faces(network, shape):
    assert_same(with_random_weights(network(shape, scale=1 / 255)), pictures(2, *shape))


@pytest.mark.slow
@pytest.mark.parametrize(("network", "shape"), FACES, ids=lambda value: getattr(value, "__name__", ""))
def test_networks_for_faces_at_full_size(network, shape):
    assert_same(with_random_weights(network((128, 128, shape[-1]), scale=1 / 255)), pictures(2, 128, 128, shape[-1]))


def test_only_constants_that_nothing_changes_are_shared():
    graph, zeros = Graph(), np.zeros(16, np.float32)
    bias = graph.constant(zeros, kind="bias")
    first, second = graph.constant(zeros), graph.constant(zeros.copy())
    assert bias != first == second
    assert graph.constant(np.zeros(16, np.float64)) not in (bias, first)


@pytest.mark.parametrize("preset", frontends.PRESETS)
def test_front_ends_with_and_without_lengths(preset):
    front_end = frontends.PRESETS[preset](name="front_end")
    samples, lengths = keras.Input((None,), name="samples"), keras.Input((), dtype="int32", name="lengths")
    sound = audio(8003, 3)
    assert_same(keras.Model(samples, front_end(samples)), sound[:, :7999])
    # A row that is too short for a frame, and a length beyond the samples, are among them.
    assert_same(
        keras.Model([samples, lengths], front_end(samples, lengths)), sound, np.array([9000, 5000, 100], "int32")
    )


@pytest.mark.parametrize(
    "front_end",
    [
        frontends.Spectrum(framing="pad_tail", quantity="magnitude", log="decibel", minimum=1e-5, fft_length=330),
        frontends.FilterBank(10, quantity="magnitude", frame_length=301, frame_step=400),
        frontends.LFCC(12, 5, framing="centered", delta_orders=1, delta_half_width=2, minimum=1e-6),
        frontends.LFCC(12, 5, delta_orders=0, energy=True, log=None),
        frontends.DCTFrames(frame_length=100, frame_step=33, pre_emphasis=0.9, framing="pad_tail"),
        frontends.ConstantQ(num_bins=40, bins_per_octave=12, min_frequency=55.0, quantity="magnitude"),
    ],
    ids=lambda layer: layer.name,
)
def test_front_ends_with_other_arguments(front_end):
    samples, lengths = keras.Input((None,), name="samples"), keras.Input((), dtype="int32", name="lengths")
    model = keras.Model([samples, lengths], front_end(samples, lengths))
    assert_same(model, audio(3001, 2), np.array([3001, 1234], "int32"))


@pytest.mark.parametrize("head", layers.HEADS)
@pytest.mark.parametrize("network", [lcnn_attention, lcnn_lstm_sum])
def test_networks_of_any_length(network, head):
    model = from_samples(frontends.lfcc_nii(), network(60, head=head, output="score"))
    session = session_of(with_random_weights(model))
    assert_same(model, audio(6000, 3), np.array([6000, 200, 4321], "int32"), session=session)


def test_one_session_takes_1_4_and_20_seconds_and_padding_changes_nothing():
    model = from_samples(frontends.lfcc_nii(), lcnn_lstm_sum(60, output="score"))
    session = session_of(with_random_weights(model))
    for seconds in (1, 4, 20):
        assert_same(model, audio(16000 * seconds), np.array([16000 * seconds], "int32"), session=session)
    sound = audio(32000, 2)
    alone = run(session, sound[1:, :9000], np.array([9000], "int32"))[0]
    sound[1, 9000:] = np.nan  # what stands in the padding is not looked at
    together = run(session, sound, np.array([32000, 9000], "int32"))[0]
    np.testing.assert_allclose(together[1:], alone, rtol=TOLERANCE)


@pytest.mark.parametrize("head", layers.HEADS)
def test_heads_of_networks_of_fixed_length(head):
    model = from_samples(frontends.lfcc_nii(), lcnn_fixed((40, 60), head=head, output="score"))
    assert_same(with_random_weights(model), audio(model.input_shape[1], 3))


@pytest.mark.parametrize(
    ("preset", "network"),
    [("stc2019_fft", stc2019), ("stc2019_cqt", stc2019), ("stc2019_dct", stc2019), ("cqcc_asvspoof2019", stc2019)],
)
def test_stcs_networks(preset, network):
    front_end = frontends.PRESETS[preset]()
    model = from_samples(front_end, network((16, front_end.num_features), output="score"))
    assert_same(with_random_weights(model), audio(model.input_shape[1], 3))


def test_stcs_network_of_2017():
    """The tolerance is one of the largest score of several recordings: a single score may be next to 0."""
    import soundfile

    front_end = frontends.stc2017_fft()
    model = from_samples(front_end, stc2017((32, front_end.num_features), output="score"))
    recording, _ = soundfile.read(real_file("golden/D18_1000001.wav"), dtype="float32")
    pieces = np.resize(recording, (12, model.input_shape[1]))
    assert_same(with_random_weights(model), pieces)


def test_a_logarithm_without_a_floor_is_as_exact_as_kerass():
    """Where a frame has next to nothing, float32 sums leave 1e-6 of its loudest bin, on any path to the spectrum."""
    import soundfile

    sound, _ = soundfile.read(real_file("golden/D18_1000001.wav"), dtype="float32")
    emphasized = np.append(sound[:1], sound[1:].astype(float) - 0.97 * sound[:-1].astype(float))
    frames = np.lib.stride_tricks.sliding_window_view(emphasized, 400)[::160] * np.hamming(400)
    exact = np.abs(np.fft.rfft(frames, 1728))[:, :864]
    samples = keras.Input((None,), name="samples")
    model = keras.Model(samples, frontends.stc2017_fft()(samples))
    by_keras = np.exp(keras.ops.convert_to_numpy(model(sound[None]))[0].astype(float))
    exported = np.exp(run(session_of(model), sound[None])[0][0].astype(float))
    loudest = exact.max(axis=1, keepdims=True)
    for magnitudes in (by_keras, exported):
        assert (np.abs(magnitudes - exact) / loudest).max() <= 3e-6
    # Logarithms of the quietest bins differ by 1e-2, which is no fault of the export: Keras is as far from the truth.
    errors = [np.log(magnitudes) - np.log(exact) for magnitudes in (by_keras, exported)]
    assert np.abs(errors[1]).max() <= 3 * np.abs(errors[0]).max()


@pytest.mark.parametrize("head", ["a_softmax", "softmax", "oc_softmax"])
def test_raw_outputs_of_heads(head):
    model = with_random_weights(lcnn_attention(24, head=head))
    features = np.random.default_rng(0).normal(size=(2, 40, 24)).astype("float32")
    assert_same(model, features, np.array([40, 5], "int32"))


def test_the_published_countermeasure_on_speech():
    import soundfile

    from lightcnn.importing.speech import nii_lcnn_lstm
    from lightcnn.importing.torch_files import read_torch_checkpoint

    model, _ = nii_lcnn_lstm(read_torch_checkpoint(real_file("golden/nii_lfcc_lcnn_lstm_sig.pt")))
    sound, _ = soundfile.read(real_file("golden/D18_1000001.wav"), dtype="float32")
    assert_same(model, sound[None], np.array([len(sound)], "int32"))


def classes_of(module):
    found = {item for item in vars(module).values() if inspect.isclass(item) and issubclass(item, keras.layers.Layer)}
    return found - {frontends.FrontEnd}


def test_every_layer_of_the_package_can_be_exported():
    assert classes_of(layers) == {one for one in LAYERS if one.__module__.startswith("lightcnn.")}
    assert classes_of(frontends) == set(FRONT_ENDS)


def test_other_layers():
    inputs = x = keras.Input((13, 11, 6), name="pixels")
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Concatenate()([x, layers.MFMConv2D(4, (2, 3), strides=(2, 2), num_groups=3)(inputs)])
    x = layers.Maxout(2)(x)
    x = keras.layers.Add()([x, layers.ResidualMFMBlock(2)(x)])
    x = keras.layers.AveragePooling2D(3, strides=1, padding="same")(x)
    x = keras.layers.Concatenate()(
        [
            keras.layers.GlobalAveragePooling2D()(x),
            keras.layers.GlobalMaxPooling2D()(x),
            layers.MFMDense(4, num_groups=3)(keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(x))),
        ]
    )
    x = keras.layers.Dropout(0.5)(layers.MaxFeatureMap()(x))
    x = layers.CosineHead(3)(keras.layers.Activation("tanh")(x))
    model = with_random_weights(keras.Model(inputs, keras.layers.Dense(2, activation="sigmoid")(x)))
    assert_same(model, pictures(3, 13, 11, 6) / 255)


@pytest.mark.parametrize("options", [{}, {"training": False}])
def test_a_model_within_a_model(options):
    inner = light_cnn_9((16, 16, 1))
    inputs = keras.Input((16, 16, 1), name="pixels")
    model = keras.Model(inputs, keras.layers.Dense(3)(inner(keras.layers.Rescaling(1 / 255)(inputs), **options)))
    assert_same(with_random_weights(model), pictures(2, 16, 16, 1))


def operators(model):
    return [node.op_type for node in to_onnx(model).graph.node]


def test_batch_norms_stand_in_the_convolutions_before_them():
    model = with_random_weights(lcnn((28, 28, 1), 10))
    assert operators(model).count("BatchNormalization") == 1  # the one after the dense layer
    norm = model.get_layer("norm_4")
    gamma, *others = norm.get_weights()
    norm.set_weights([-gamma, *others])  # a negative scale does not pass through a maximum
    assert operators(model).count("BatchNormalization") == 2
    assert_same(model, pictures(2, 28, 28, 1))


def test_the_scale_of_pixels_stands_in_the_convolutions_behind_it():
    scale, offset = (1 / 64, 1 / 32, -1 / 16), (-1.0, 0.0, 3.0)
    model = with_random_weights(lcnn((16, 16, 3), 10, scale=scale, offset=offset))
    assert "Mul" not in operators(model)
    assert_same(model, pictures(2, 16, 16, 3))  # borders too, which an offset in the convolution would change
    inputs = keras.Input((8, 8, 3), name="pixels")
    scaled = keras.layers.Rescaling(scale, offset)(inputs)
    model = keras.Model(inputs, keras.layers.Concatenate()([layers.MFMConv2D(2, 3, padding="same")(scaled), scaled]))
    assert operators(model).count("Mul") == 1  # something else takes the product
    assert_same(with_random_weights(model), pictures(2, 8, 8, 3))


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        ((1 / 64, 1 / 8, 1 / 64), 0.0),  # one range of 8 bits would not do for all channels
        (1 / 15_000, -2.0),  # too small for weights of 16 bits
        ((1.0, 0.5, 0.0), (0.0, 1.0, 2.0)),
        (0.5, pictures(8, 8, 3).tolist()),
    ],
    ids=["unlike", "small", "zero", "picture"],
)
def test_other_scales_of_pixels_stay_by_themselves(scale, offset):
    inputs = keras.Input((8, 8, 3), name="pixels")
    scaled = keras.layers.Rescaling(scale, offset)(inputs)
    model = with_random_weights(keras.Model(inputs, layers.MFMConv2D(2, 3, padding="same")(scaled)))
    assert operators(model).count("Mul") == 1
    assert_same(model, pictures(2, 8, 8, 3))


def test_equal_small_weights_of_two_layers_are_not_mixed_up():
    inputs = x = keras.Input((8, 8, 2), name="pixels")
    for index in (1, 2):
        x = layers.MFMConv2D(2, 1, kernel_initializer="ones", name=f"conv_{index}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{index}")(x)
    model = keras.Model(inputs, x)
    model.get_layer("norm_1").set_weights([np.full(2, value, "float32") for value in (2, 1, 3, 4)])
    assert_same(model, pictures(2, 8, 8, 2))


def test_mfm_costs_no_pass_of_its_own():
    model = lcnn((28, 28, 1), 10)
    assert operators(model).count("Max") == 1  # the dense layer's
    assert operators(model).count("Conv") == 18


@keras.saving.register_keras_serializable(package="test")
class Strange(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def test_a_layer_that_is_not_known_is_named():
    inputs = keras.Input((4,))
    with pytest.raises(ExportError, match="'odd' is a Strange"):
        to_onnx(keras.Model(inputs, Strange(name="odd")(inputs)))
    with pytest.raises(ExportError, match="functional"):
        to_onnx(Strange())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Conv2D(2, 3, dilation_rate=2), "dilation"),
        (keras.layers.Conv2D(2, 3, activation="gelu"), "gelu"),
        (keras.layers.BatchNormalization(axis=1), "last axis"),
        (keras.layers.Flatten(data_format="channels_first"), "channels_last"),
    ],
)
def test_what_a_layer_cannot_do_is_said(layer, message):
    inputs = keras.Input((8, 8, 2))
    with pytest.raises(ExportError, match=message):
        to_onnx(keras.Model(inputs, layer(inputs)))


# Files


def described(shape=(28, 28, 1)):
    return {
        "format": 1,
        "task": "image classification",
        "labels": LABELS,
        "input": {"shape": list(shape), "dtype": "uint8"},
    }


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "digits.keras"
    save_model(with_random_weights(lcnn((28, 28, 1), 10, scale=1 / 64, offset=-1.0)), path, described())
    return path


@pytest.fixture(scope="module")
def digits(mnist):
    return Examples([(mnist["x_test"][:128, ..., None].astype("float32"),)], "128 digits")


@pytest.fixture(scope="module")
def finished_run(mnist, model_file, tmp_path_factory):
    """A run folder whose model is untrained."""
    folder = tmp_path_factory.mktemp("runs")
    data = folder / "digits.npz"
    np.savez(data, **{key: array[:300] for key, array in mnist.items()})
    recipe = get_recipe("arrays")
    digest = load_images("arrays", data, validation_fraction=recipe.validation_fraction, seed=recipe.seed).digest
    run = begin(folder / "run", recipe)
    run.write_environment(environment_of(data={"data_dir": str(data), "digest": digest, "labels": LABELS}))
    run.best_model.write_bytes(model_file.read_bytes())
    return run


def test_a_run_is_compared_on_its_validation_data(finished_run, mnist):
    written = export(finished_run.folder)
    assert written.path == finished_run.folder / "model.onnx"
    assert written.proof.examples == "29 of the 29 validation examples of digits.npz"
    assert 0 < written.proof.difference <= TOLERANCE
    assert written.proof.agreement == 1
    assert written.size == pytest.approx(written.path.stat().st_size, abs=10)
    metadata = open_artifact(written.path).metadata
    assert metadata["labels"] == LABELS
    assert {"form": "onnx", "quantize": None, "format": 1}.items() <= metadata["artifact"].items()
    assert len(metadata["artifact"]["source_digest"]) == 64
    assert not [path for path in finished_run.folder.iterdir() if path.suffix == ".tmp"]


def test_data_of_another_training_are_refused(finished_run, tmp_path, mnist):
    np.savez(tmp_path / "other.npz", **{key: array[100:400] for key, array in mnist.items()})
    with pytest.raises(ExportError, match="is not the data"):
        export(finished_run, data_dir=tmp_path / "other.npz")


def test_a_model_file_is_compared_on_noise_and_says_so(model_file, tmp_path):
    written = export(model_file, tmp_path / "one.onnx")
    assert "noise" in written.proof.examples
    assert np.abs(open_artifact(tmp_path / "one.onnx")(pictures(2, 28, 28, 1)).sum(axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("task", ["speech of any length", "speech of fixed length", "faces"])
def test_noise_fits_every_kind_of_model(task, tmp_path):
    if task == "faces":
        metadata = {"task": "face representation", "input": {"shape": [20, 18, 3], "dtype": "uint8", "colour": "BGR"}}
        model = light_cnn_v4((20, 18, 3), num_classes=4, scale=1 / 255)
    else:
        metadata = {
            "task": "voice anti-spoofing",
            "sampling_rate": 1000,
            "input": {"window_samples": 640, "pad": "zero"},
        }
        front_end = frontends.LFCC(20, sampling_rate=1000, frame_length=32, frame_step=16)
        network = lcnn_attention(60, output="score") if "any" in task else lcnn_fixed((39, 60), output="score")
        model = from_samples(front_end, network)
    save_model(with_random_weights(model), tmp_path / "model.keras", metadata)
    written = export(tmp_path / "model.keras")
    artifact = open_artifact(written.path)
    assert written.proof.difference <= TOLERANCE
    if task == "faces":  # the classifier of the training stays behind
        assert artifact(pictures(2, 20, 18, 3)).shape == (2, 256)
    assert artifact.output.shape[0] is None


def test_what_stood_there_stays_when_the_proof_fails(model_file, tmp_path, monkeypatch):
    target = tmp_path / "model.onnx"
    export(model_file, target)
    before = target.read_bytes()
    other = lcnn((28, 28, 1), 10)
    monkeypatch.setattr(forms, "to_onnx", lambda model, **options: to_onnx(other, **options))
    with pytest.raises(ExportError, match="does not agree with Keras"):
        export(model_file, target)
    assert target.read_bytes() == before
    with pytest.raises(ExportError, match="Nothing was written"):
        export(model_file, tmp_path / "new.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def proof_of(scores, shift, quantize):
    """Compares made-up scores with the same ones shifted."""
    scores = np.asarray(scores, "float32")
    model = SimpleNamespace(predict_on_batch=lambda batch: batch[:, 0])
    metadata = {"task": "voice anti-spoofing", "threshold": 0.0}
    examples = Examples([(scores[:, None],)], "made-up scores")
    return prove(lambda batch: batch[:, 0] + shift, model, metadata, examples, quantize, Path("model.keras"))


def test_faces_without_a_threshold_are_compared_at_one():
    embeddings = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model = SimpleNamespace(predict_on_batch=lambda batch: batch)
    examples = Examples([(embeddings,)], "made-up embeddings")
    for metadata in ({"task": "face representation"}, {"task": "face representation", "threshold": None}):
        assert prove(lambda batch: batch, model, metadata, examples, None, Path("model.keras")).agreement == 1


def test_decisions_that_are_close_may_go_either_way():
    figures = proof_of([-1.0] * 50 + [-0.04] * 20 + [1.0] * 50, 0.05, "int8")
    assert figures.agreement == 1
    assert figures.clear == 100 / 120
    assert figures.difference == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize(("wrong", "refused"), [(1, False), (2, True)])
def test_one_clear_decision_in_a_hundred_may_differ(wrong, refused):
    scores = [-0.11] * wrong + [-1.0] * (100 - wrong)
    if refused:
        with pytest.raises(ExportError, match=r"98\.00% of the decisions that are not close"):
            proof_of(scores, 0.2, "int8")
    else:
        assert proof_of(scores, 0.2, "int8").agreement == 0.99


@pytest.mark.parametrize("quantize", exporting.TOLERANCES)
def test_a_number_may_differ_by_the_tolerance_and_not_by_more(quantize):
    most = exporting.TOLERANCES[quantize]
    scores = np.linspace(-1, 1, 64)
    scores = np.where(scores > 0, 1, -1)  # none of the decisions is close
    assert proof_of(scores, 0.9 * most, quantize).agreement == 1
    with pytest.raises(ExportError, match="differ by up to"):
        proof_of(scores, 1.1 * most, quantize)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    model = lcnn((16, 16, 1), 3)
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    save_model(model, tmp_path / "model.keras", described((16, 16, 1)))
    with pytest.raises(ExportError, match="does not agree"):
        export(tmp_path / "model.keras")


def test_a_full_disk_leaves_nothing(model_file, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("onnx.save", full)
    with pytest.raises(StorageError, match="No space left"):
        export(model_file, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_a_picture_of_any_size_exported(tmp_path):
    inputs = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(layers.MFMConv2D(4, 3)(inputs))
    save_model(keras.Model(inputs, keras.layers.Dense(2)(pooled)), tmp_path / "any.keras", {})
    (tmp_path / "current.onnx").symlink_to(tmp_path / "v1.onnx")
    export(tmp_path / "any.keras", tmp_path / "current.onnx")
    assert (tmp_path / "current.onnx").is_symlink()
    assert open_artifact(tmp_path / "v1.onnx")(pictures(2, 20, 30, 1)).shape == (2, 2)


def test_what_a_converter_says_is_held_back_in_one_thread_at_a_time():
    code = """
import os, threading
from lightcnn.exporting.forms import _quietly
barrier = threading.Barrier(2, timeout=0.3)
def work():
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        pass
    os.write(1, b"noise")
threads = [threading.Thread(target=_quietly, args=(work,)) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
os.write(1, b"heard")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "heard"


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_two_exports_at_once_leave_one_whole_artifact(model_file, tmp_path, form):
    if form == "openvino":
        pytest.importorskip("openvino")
    target, failures = tmp_path / {"onnx": "model.onnx", "openvino": "model"}[form], []

    def work():
        try:
            for _ in range(3):
                export(model_file, target, form)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    written = target / "model.xml" if form == "openvino" else target
    assert open_artifact(written)(pictures(1, 28, 28, 1)).shape == (1, 10)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"form": "coreml"}, ExportError, "onnx, litert, openvino"),
        ({"quantize": "bfloat16"}, ExportError, "bfloat16 is for openvino"),
        ({"quantize": "int4"}, ExportError, "float32"),
        ({"quantize": "int8"}, ExportError, "calibrated on real data"),
        ({"data_dir": "data"}, ExportError, "name its run folder"),
        ({"output": "model.tflite"}, ExportError, r"ends in \.onnx"),
        ({"form": "openvino", "output": "model.xml"}, ExportError, "name a folder"),
    ],
)
def test_what_does_not_fit_is_refused(model_file, tmp_path, arguments, error, message):
    source = Path(shutil.copy(model_file, tmp_path))
    if "output" in arguments:
        arguments = {**arguments, "output": tmp_path / arguments["output"]}
    with pytest.raises(error, match=message):
        export(source, **arguments)
    assert list(tmp_path.iterdir()) == [source]


def test_a_folder_that_is_no_run_and_a_file_that_is_no_model(tmp_path):
    with pytest.raises(RunError):
        export(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(ModelFileError):
        export(tmp_path / "model.keras")


def test_what_an_mfm_throws_away_costs_no_bits(tmp_path):
    inputs = keras.Input((8, 8, 1), name="pixels")
    layer = layers.MFMConv2D(2, 1)
    model = keras.Model(inputs, keras.layers.MaxPooling2D(2)(layer(inputs)))
    # Of numbers from -1 to 1, the other half is between -150 and -50: it always loses.
    layer.set_weights([np.array([[[[1, -1, 50, -50]]]]), np.array([0, 0, -100, -100])])
    sound = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)).astype("float32")
    quantize_onnx(to_onnx(model, mfm="split"), tmp_path / "small.onnx", [(sound,)])
    received = run(onnxruntime.InferenceSession(tmp_path / "small.onnx"), sound)[0]
    # Two roundings to 256 steps from -1 to 1; 256 steps from -150 to 1 would be 0.6 each.
    assert np.abs(received - model(sound)).max() <= 2 * 2 / 255
    assert np.abs(received - model(sound)).max() > 0


def test_roundings_between_two_convolutions_are_to_the_same_steps(tmp_path):
    model = with_random_weights(from_samples(frontends.lfcc_nii(), lcnn_attention(60, output="score")))
    batch = (audio(8000, 2), np.array([8000, 7000], "int32"))
    quantize_onnx(to_onnx(model, mfm="split"), tmp_path / "small.onnx", [batch])
    graph = onnx.load(tmp_path / "small.onnx").graph
    scales = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale = next(onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name == node.input[1])
            scales.setdefault(node.name.split("/")[0], set()).add(float(scale))
    assert "conv_1" not in scales  # features of a front end keep 32 bits, and so does what is no MFM
    assert not [name for name in scales if name.startswith(("front_end", "embedding", "head", "attention"))]
    assert len(scales["conv_3"]) == 1
    assert scales["zero_3"] == scales["conv_2"]


def test_the_quantiser_says_nothing(caplog, tmp_path):
    quantize_onnx(to_onnx(lcnn((28, 28, 1), 10), mfm="split"), tmp_path / "small.onnx", [(pictures(2, 28, 28, 1),)])
    assert caplog.messages == []


def test_a_network_without_mfm_is_not_for_8_bits(tmp_path):
    inputs = keras.Input((8, 8, 1), name="pixels")
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    with pytest.raises(ExportError, match="Max-Feature-Map"):
        quantize_onnx(to_onnx(model, mfm="split"), tmp_path / "small.onnx", [(pictures(1, 8, 8, 1),)])


@pytest.mark.parametrize("quantize", ["int8", "float16"])
def test_fewer_bits_decide_alike_in_less_space(model_file, digits, tmp_path, quantize):
    whole = export(model_file, tmp_path / "whole.onnx", examples=digits)
    small = export(model_file, tmp_path / "small.onnx", quantize=quantize, examples=digits)
    assert small.size < 0.6 * whole.size
    assert whole.proof.difference < small.proof.difference < (0.03 if quantize == "float16" else 0.2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT's converter reads TensorFlow functions")
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_litert(model_file, digits, tmp_path, quantize):
    pytest.importorskip("ai_edge_litert")
    written = export(model_file, tmp_path / "model.tflite", "litert", quantize, examples=digits)
    assert written.proof.difference <= (TOLERANCE if quantize is None else 0.2)
    assert open_artifact(written.path).metadata["labels"] == LABELS
    artifact = open_artifact(written.path, streams=2)
    several = artifact(digits.batches[0][0][:5])  # another batch than the one that it was compared on
    np.testing.assert_allclose(several[2:3], artifact(digits.batches[0][0][2:3]), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT's converter reads TensorFlow functions")
def test_litert_refuses_networks_of_any_length_and_names_onnx(tmp_path):
    model = from_samples(frontends.lfcc_nii(), lcnn_lstm_sum(60, output="score"))
    save_model(model, tmp_path / "model.keras", {"task": "voice anti-spoofing", "sampling_rate": 16000})
    with pytest.raises(ExportError, match="--format onnx"):
        export(tmp_path / "model.keras", form="litert")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT's converter reads TensorFlow functions")
def test_litert_refuses_front_ends_in_8_bits_and_names_what_works(tmp_path):
    model = from_samples(frontends.lfcc_nii(), lcnn_fixed((40, 60), output="score"))
    metadata = {"task": "voice anti-spoofing", "sampling_rate": 16000}
    save_model(model, tmp_path / "model.keras", metadata)
    examples = Examples([(audio(model.input_shape[1], 2),)], "made-up recordings")
    with pytest.raises(ExportError, match="--format onnx --quantize int8"):
        export(tmp_path / "model.keras", tmp_path / "a.tflite", "litert", "int8", examples=examples)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT's converter reads TensorFlow functions")
def test_litert_has_front_ends_as_matrix_products(tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model = from_samples(frontends.lfcc_nii(), lcnn_fixed((40, 60), output="score"))
    save_model(model, tmp_path / "model.keras", {"task": "voice anti-spoofing", "sampling_rate": 16000})
    written = export(tmp_path / "model.keras", form="litert")
    assert written.proof.difference <= TOLERANCE
    operations = {one["op_name"] for one in interpreter.Interpreter(str(written.path))._get_ops_details()}
    assert "CONV_2D" in operations
    assert not operations & {"RFFT2D", "REAL", "IMAG", "COMPLEX_ABS"}


def test_a_runtime_that_is_missing_is_named_before_the_work(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    monkeypatch.setattr(exporting, "load_model", None)  # not even opened
    with pytest.raises(MissingDependencyError, match=r"lightcnn\[litert\]"):
        export(model_file, tmp_path / "model.tflite", "litert")


def test_a_model_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"typo\.keras does not exist or is not a file\. Expected a Keras model"):
        export(tmp_path / "typo.keras")
    with pytest.raises(ModelFileError, match=r"typo does not exist\. Expected a run folder"):
        Predictor.load(tmp_path / "typo")
    with pytest.raises(ModelFileError, match=r"typo\.onnx does not exist"):
        Predictor.load(tmp_path / "typo.onnx")
    with pytest.raises(ModelFileError, match=r"best\.keras does not exist"):
        export(begin(tmp_path / "run", get_recipe("mnist")).folder)


def test_exporting_needs_no_onnxruntime_until_it_is_used():
    script = "import sys; sys.modules['onnxruntime'] = None; import lightcnn.exporting"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_full_disk_is_named_though_openvino_does_not_say_so(model_file, tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino")

    def fail(*arguments, **options):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(StorageError, match=r"could not be written.*Free some space"):
        export(model_file, tmp_path / "model", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_openvinos_folder_comes_back_if_the_new_one_cannot_take_its_place(model_file, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    path = export(model_file, tmp_path / "model", "openvino").path
    before, real = path.read_bytes(), exporting.os.replace

    def replace(source, target):
        if Path(source).name == "artifact":
            raise OSError(errno.EIO, "broken")
        real(source, target)

    monkeypatch.setattr(exporting.os, "replace", replace)
    with pytest.raises(StorageError, match="broken"):
        export(model_file, tmp_path / "model", "openvino", "float16")
    assert path.read_bytes() == before


@pytest.mark.parametrize("quantize", [None, "bfloat16"])
def test_openvino_is_a_folder(model_file, digits, tmp_path, quantize):
    pytest.importorskip("openvino")
    for _ in range(2):  # the second replaces the first
        written = export(model_file, tmp_path / "model-openvino", "openvino", quantize, examples=digits)
    assert written.path == tmp_path / "model-openvino" / "model.xml"
    assert sorted(path.name for path in written.path.parent.iterdir()) == ["model.bin", "model.xml"]
    assert [path.name for path in tmp_path.iterdir()] == ["model-openvino"]
    assert open_artifact(written.path).metadata["labels"] == LABELS
    (tmp_path / "model-openvino" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="something else"):
        export(model_file, tmp_path / "model-openvino", "openvino", examples=digits)


def test_openvino_hears_recordings_of_different_lengths(tmp_path):
    pytest.importorskip("openvino")
    model = with_random_weights(from_samples(frontends.lfcc_nii(), lcnn_lstm_sum(60, output="score")))
    save_model(model, tmp_path / "model.keras", {"task": "voice anti-spoofing", "sampling_rate": 16000})
    artifact = open_artifact(export(tmp_path / "model.keras", form="openvino").path)
    for lengths in ([16000, 9000], [64000, 40000], [320000, 16001]):
        batch = audio(lengths[0], 2), np.array(lengths, "int32")
        expected = keras.ops.convert_to_numpy(model(list(batch)))
        np.testing.assert_allclose(artifact(*batch), expected, atol=TOLERANCE * np.abs(expected).max())


def test_openvino_in_8_bits(model_file, digits, tmp_path):
    pytest.importorskip("openvino")
    whole = export(model_file, tmp_path / "whole", "openvino", examples=digits)
    written = export(model_file, tmp_path / "model", "openvino", "int8", examples=digits)
    assert whole.proof.difference < written.proof.difference < 0.2
    assert "FakeQuantize" in written.path.read_text()


class Recordings(list):
    path = list.__getitem__


@pytest.mark.parametrize(("pad", "filling"), [("repeat", 0.25), ("zero", 0.0)])
def test_short_recordings_are_filled_up_for_a_network_of_fixed_length(tmp_path, pad, filling):
    import soundfile

    soundfile.write(tmp_path / "short.wav", np.full(600, 0.25), 1000, subtype="FLOAT")
    split = Recordings([tmp_path / "short.wav"] * 3)
    model = SimpleNamespace(inputs=[SimpleNamespace(shape=(None, 1000))])
    metadata = {"task": "voice anti-spoofing", "sampling_rate": 1000, "input": {"window_samples": 1000, "pad": pad}}
    found = examples_of(SimpleNamespace(name="made up", split=lambda name: split), model, metadata)
    ((samples,),) = found.batches
    assert samples.shape == (3, 1000)
    np.testing.assert_array_equal(samples[:, :600], 0.25)
    np.testing.assert_array_equal(samples[:, 600:], filling)


def test_made_up_examples_are_the_same_every_time(model_file):
    model = SimpleNamespace(inputs=[SimpleNamespace(shape=(None, 9, 8, 3))])
    one, two = (made_up_examples(model, {}) for _ in range(2))
    assert not one.real
    np.testing.assert_array_equal(one.batches[0][0], two.batches[0][0])
    assert one.batches[0][0].shape == (16, 9, 8, 3)


def test_the_command_prints_the_path_and_the_figures(call, finished_run, tmp_path):
    result = call("export", finished_run.folder, "--output", tmp_path / "a.onnx")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == str(tmp_path / "a.onnx")
    assert re.search(r"\nequal decisions +100\.00% \(\d+\.\d% are too close to count\)\n", result.out)
    assert (tmp_path / "a.onnx").exists()


def test_the_command_refuses_a_precision_before_it_opens_anything(call, tmp_path, monkeypatch):
    monkeypatch.setattr("lightcnn.backends.import_backend", None)
    result = call("export", tmp_path, "--format", "onnx", "--quantize", "bfloat16")
    assert result.code == 1
    assert "bfloat16 is for openvino" in result.err


def test_names_are_those_of_the_command():
    from lightcnn.cli.exporting import export as command

    choices = {option.name: option.type for option in command.params}
    assert list(choices["form"].choices) == list(FORMS)
    precisions = {one for _, several in FORMS.values() for one in several if one}
    assert set(choices["quantize"].choices) == precisions
