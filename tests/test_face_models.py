"""The five Light CNNs: the papers' counts and shapes, and their numbers against a NumPy statement of the tables."""

import keras
import numpy as np
import pytest
from layer_contract import example, random_weights

from lightcnn import models
from lightcnn.layers import MFMDense
from lightcnn.models import FACE_PRESETS, light_cnn_4, light_cnn_9, light_cnn_29, light_cnn_29v2, load_model, save_model

# Without a classifier, at the published input; and with the classes of the releases (CASIA-WebFace has 10,575).
COUNTS = {
    "light_cnn_4": (4_098_048, 10_575, 6_815_823),
    "light_cnn_9": (5_480_864, 79_077, 25_803_653),
    "light_cnn_29": (12_573_280, 79_077, 32_896_069),
    "light_cnn_29v2": (10_475_872, 80_013, 30_959_200),
    "light_cnn_v4": (10_345_600, 10, 10_348_170),
}
# Tables 1 and 3 of the paper, a layer a row: its output, and its weights without biases. Where table 3 prints 165K for
# conv2 it takes the channels before MFM.
TABLE_1 = """\
conv1      120 120 48   7776
pool1      60 60 48     0
conv2      56 56 96     230400
pool2      28 28 96     0
conv3      24 24 128    614400
pool3      12 12 128    0
conv4      9 9 192      786432
pool4      5 5 192      0
embedding  256          2457600
"""
TABLE_3 = """\
conv1      128 128 48   2400
pool1      64 64 48     0
conv2_1    64 64 48     82944
conv2a     64 64 48     4608
conv2      64 64 96     82944
pool2      32 32 96     0
conv3_1    32 32 96     331776
conv3_2    32 32 96     331776
conv3a     32 32 96     18432
conv3      32 32 192    331776
pool3      16 16 192    0
conv4_1    16 16 192    1327104
conv4_2    16 16 192    1327104
conv4_3    16 16 192    1327104
conv4a     16 16 192    73728
conv4      16 16 128    442368
conv5_1    16 16 128    589824
conv5_2    16 16 128    589824
conv5_3    16 16 128    589824
conv5_4    16 16 128    589824
conv5a     16 16 128    32768
conv5      16 16 128    294912
pool4      8 8 128      0
embedding  256          4194304
"""
SIZES = {  # odd ones, which round up in the first three and down in the others
    "light_cnn_4": (58, 71, 2),
    "light_cnn_9": (35, 22, 1),
    "light_cnn_29": (35, 22, 1),
    "light_cnn_29v2": (35, 22, 1),
    "light_cnn_v4": (35, 22, 3),
}
VARIANTS = list(COUNTS)


@pytest.fixture(scope="module")
def networks():
    """The five without a classifier, of zeros, since millions of random numbers take their time."""
    return {name: getattr(models, name)(kernel_initializer="zeros") for name in VARIANTS}


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def rows_of(table):
    return [(name, tuple(map(int, sizes)), int(count)) for name, *sizes, count in map(str.split, table.splitlines())]


def expected_rows(name):
    if name == "light_cnn_4":
        return rows_of(TABLE_1)
    rows = rows_of(TABLE_3)
    if name == "light_cnn_9":
        return [row for row in rows if "_" not in row[0]]
    if name == "light_cnn_v4":  # 3 x 3 x 3 x 96
        rows = [("conv1", (128, 128, 48), 2592), *(row for row in rows[1:] if not row[0].endswith("a"))]
    return rows if name == "light_cnn_29" else [*rows[:-1], ("embedding", (256,), 8192 * 256)]


def numpy_embedding(model, name, images):
    """The tables in NumPy and float64; only the weights come from the model."""

    def maxout(x):
        return x.reshape(*x.shape[:-1], 2, -1).max(axis=-2)

    def conv(x, kernel, bias):
        side = 0 if name == "light_cnn_4" else len(kernel) // 2
        padded = np.pad(x, [(0, 0), (side, side), (side, side), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
        return maxout(np.einsum("bhwcij,ijcf->bhwf", windows, kernel, optimize=True) + bias)

    def layer(x, layer_name):
        first, second, *rest = (w.astype("float64") for w in model.get_layer(layer_name).get_weights())
        y = conv(x, first, second)
        return x + conv(y, *rest) if rest else y

    def pool(x):
        corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        if name in ("light_cnn_29v2", "light_cnn_v4"):
            height, width = x.shape[1] // 2, x.shape[2] // 2
            corners = np.stack([corner[:, :height, :width] for corner in corners])
            return corners.max(axis=0) + corners.mean(axis=0)
        largest = corners[0].copy()
        for corner in corners[1:]:
            part = largest[:, : corner.shape[1], : corner.shape[2]]
            np.maximum(part, corner, out=part)
        return largest

    x = images.astype("float64")
    for layer_name, _, _ in expected_rows(name)[:-1]:
        x = pool(x) if layer_name.startswith("pool") else layer(x, layer_name)
    kernel, bias = model.get_layer("embedding").get_weights()
    x = x.reshape(len(x), -1) @ kernel + bias
    return x if x.shape[1] == 256 else maxout(x)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_counts_are_the_papers(networks, name):
    without, num_classes, with_classifier = COUNTS[name]
    assert networks[name].count_params() == without
    classified = getattr(models, name)(num_classes=num_classes, kernel_initializer="zeros")
    assert classified.count_params() == with_classifier
    assert classified.output.shape == (None, num_classes)
    assert classified.get_layer("logits").use_bias == (name != "light_cnn_29v2")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_layer_has_the_shape_and_the_weights_of_the_papers_table(networks, name):
    shown = [
        (
            layer.name,
            tuple(layer.output.shape[1:]),
            sum(int(np.prod(weight.shape)) for weight in layer.weights if weight.name == "kernel"),
        )
        for layer in networks[name].layers
        if layer.name not in ("pixels", "flatten") and not layer.name.endswith(("_maximum", "_average"))
    ]
    assert shown == expected_rows(name)
    assert networks[name].output.shape == (None, 256)
    assert networks[name].name == name


@pytest.mark.parametrize("name", ["light_cnn_4", "light_cnn_9", "light_cnn_29"])
def test_mfm_stands_on_the_dense_layer_of_the_first_three(networks, name):
    assert isinstance(networks[name].get_layer("embedding"), MFMDense)


def outputs_of(model, images):
    """Runs a network step by step: for one batch, compiling it takes longer."""
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_embedding_is_that_of_the_table_at_odd_sizes(name):
    model = getattr(models, name)(SIZES[name], kernel_initializer="zeros")
    model.set_weights(random_weights(model))
    images = example(SIZES[name], batch_size=2)
    expected = numpy_embedding(model, name, images)
    assert np.std(expected[0] - expected[1]) > 0.1  # pictures differ, so agreeing is no accident
    np.testing.assert_allclose(outputs_of(model, images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_logits_come_from_the_embedding():
    model = light_cnn_9((16, 16, 1), 5, kernel_initializer="zeros")
    model.set_weights(random_weights(model))
    both = keras.Model(model.input, [model.get_layer("embedding").output, model.output])
    embedding, logits = map(keras.ops.convert_to_numpy, both(example((16, 16, 1), batch_size=2), training=False))
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits, embedding @ kernel + bias, rtol=0, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize("arguments", [{}, {"num_classes": None}, {"num_classes": 5, "include_top": False}], ids=str)
def test_without_a_classifier_the_model_ends_at_the_embedding(arguments):
    model = light_cnn_9((16, 16, 1), kernel_initializer="zeros", **arguments)
    assert [layer.name for layer in model.layers][-2:] == ["flatten", "embedding"]
    assert model.output.shape == (None, 256)


@pytest.mark.parametrize("name", ["light_cnn_4", "light_cnn_29v2"])
def test_a_saved_network_gives_the_same(tmp_path, name):
    model = getattr(models, name)(SIZES[name], 3, scale=0.5, kernel_initializer="zeros")
    model.set_weights(random_weights(model))
    save_model(model, tmp_path / "face.keras", {})
    loaded = load_model(tmp_path / "face.keras")
    images = example(SIZES[name], batch_size=2)
    np.testing.assert_array_equal(outputs_of(loaded, images), outputs_of(model, images))


def test_one_step_of_training_changes_all_weights():
    model = light_cnn_9((16, 16, 1), 3, dropout=0.0)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    old = {weight.path: weight.numpy() for weight in model.weights}
    model.fit(example((16, 16, 1), batch_size=6), np.arange(6) % 3, batch_size=6, verbose=0)
    assert [weight.path for weight in model.weights if (weight.numpy() == old[weight.path]).all()] == []


def test_embedding_and_logits_are_float32_in_mixed_precision(mixed_bfloat16):
    model = light_cnn_29v2((16, 16, 1), 3, kernel_initializer="zeros", scale=1 / 255)
    in_float32 = {layer.name for layer in model.layers if layer.compute_dtype == "float32"}
    assert in_float32 == {"preprocessing", "embedding", "dropout", "logits"}
    assert model.get_layer("conv2_1").compute_dtype == "bfloat16"
    assert {weight.dtype for weight in model.weights} == {"float32"}


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (1.0, -0.5), ([0.5], [2.0])])
def test_scale_and_offset_are_applied_first(scale, offset):
    model = light_cnn_9((16, 16, 1), scale=scale, offset=offset, kernel_initializer="zeros")
    assert [layer.name for layer in model.layers[:3]] == ["pixels", "preprocessing", "conv1"]
    pixels = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    preprocessed = keras.Model(model.input, model.get_layer("preprocessing").output)(pixels)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(preprocessed), np.multiply(pixels, scale) + offset, rtol=1e-6, atol=1e-6
    )


def test_dropout_and_initializer_reach_their_layers():
    model = light_cnn_29((16, 16, 1), 4, dropout=0.25, kernel_initializer=keras.initializers.Constant(0.125))
    assert model.get_layer("dropout").rate == 0.25
    kernels = {weight.path: weight.numpy() for weight in model.weights if weight.name == "kernel"}
    assert len(kernels) == 1 + 2 * 10 + 8 + 1 + 1
    assert [path for path, kernel in kernels.items() if (kernel != 0.125).any()] == ["logits/kernel"]
    defaults = [function((57, 57, 1), 2, kernel_initializer="zeros") for function in (light_cnn_4, light_cnn_9)]
    assert [model.get_layer("dropout").rate for model in defaults] == [0.7, 0.5]


def test_kernels_of_one_shape_differ():
    model = light_cnn_29((16, 16, 1), kernel_initializer=keras.initializers.RandomUniform())
    kernels = [kernel for layer in ("conv3_1", "conv3_2") for kernel in model.get_layer(layer).get_weights()[::2]]
    assert len({kernel.tobytes() for kernel in kernels}) == 4


def test_the_networks_are_channels_last_whatever_keras_is_set_to():
    try:
        keras.config.set_image_data_format("channels_first")
        shapes = [
            getattr(models, name)(SIZES[name], kernel_initializer="zeros").get_layer("pool4").output.shape[1:]
            for name in VARIANTS
        ]
    finally:
        keras.config.set_image_data_format("channels_last")
    assert shapes == [(1, 1, 192), (3, 2, 128), (3, 2, 128), (2, 1, 128), (2, 1, 128)]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("change", ["height", "width", "channels", "missing", "unknown", "fraction"])
def test_shapes_that_do_not_fit_are_refused(name, change):
    smallest = 57 if name == "light_cnn_4" else 16
    shape = {
        "height": (smallest - 1, 128, 1),
        "width": (128, smallest - 1, 1),
        "channels": (128, 128, 0),
        "missing": (128, 128),
        "unknown": (None, 128, 1),
        "fraction": (128.0, 128, 1),
    }[change]
    with pytest.raises(ValueError, match=r"Received: input_shape=\("):
        getattr(models, name)(shape)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_smallest_shape_is_built(name):
    size = 57 if name == "light_cnn_4" else 16
    model = getattr(models, name)((size, size, 1), kernel_initializer="zeros")
    assert model.get_layer("pool4").output.shape[1:3] == (1, 1)


@pytest.mark.parametrize("num_classes", [1, 0, -1])
def test_a_number_of_classes_that_does_not_fit_is_refused(num_classes):
    with pytest.raises(ValueError, match=f"Received: num_classes={num_classes}"):
        light_cnn_9((16, 16, 1), num_classes, kernel_initializer="zeros")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_preset_says_what_its_network_takes(networks, name):
    preset = FACE_PRESETS[name]
    assert networks[name].input.shape[1:] == preset.input_shape
    assert preset.colour == {1: "grey", 3: "BGR"}[preset.input_shape[-1]]
    assert preset.scale * 255 == 1.0
    # The authors' two rows, 144/48/48 and 128/48/40, are one alignment: the centre crop takes 8 pixels off.
    assert (preset.training_size, preset.eye_mouth_distance, preset.training_eye_row) == (144, 48, 48)
    assert preset.training_eye_row - (preset.training_size - preset.input_shape[0]) / 2 == preset.eye_row == 40


def test_there_is_a_preset_for_each_network():
    assert list(FACE_PRESETS) == VARIANTS
