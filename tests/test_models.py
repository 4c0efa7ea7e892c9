"""The article's network: its layers, its parameters and its numbers against a NumPy statement of it."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import example, random_weights

from lightcnn.models import lcnn, load_model, save_model

# What the article's table says about (28, 28, 1) and 10 labels, a line a layer.
LAYERS = """\
pixels         InputLayer          28 28 1
conv_1         MFMConv2D           28 28 32
pool_1         MaxPooling2D        14 14 32
conv_2         MFMConv2D           14 14 32
norm_2         BatchNormalization  14 14 32
conv_3         MFMConv2D           14 14 48
pool_3         MaxPooling2D        7 7 48
norm_3         BatchNormalization  7 7 48
conv_4         MFMConv2D           7 7 48
norm_4         BatchNormalization  7 7 48
conv_5         MFMConv2D           7 7 64
pool_5         MaxPooling2D        3 3 64
conv_6         MFMConv2D           3 3 64
norm_6         BatchNormalization  3 3 64
conv_7         MFMConv2D           3 3 32
norm_7         BatchNormalization  3 3 32
conv_8         MFMConv2D           3 3 32
norm_8         BatchNormalization  3 3 32
conv_9         MFMConv2D           3 3 32
pool_9         MaxPooling2D        1 1 32
flatten        Flatten             32
embedding      MFMDense            80
norm_10        BatchNormalization  80
dropout        Dropout             80
logits         Dense               10
probabilities  Activation          10
"""
# Table 1 of "STC Antispoofing Systems for the ASVspoof2019 Challenge", where MFM_2's 864 is a misprint of 863.
STC_SHAPES = {
    "conv_1": (863, 600, 32),
    "pool_1": (431, 300, 32),
    "norm_2": (431, 300, 32),
    "conv_3": (431, 300, 48),
    "norm_3": (215, 150, 48),
    "norm_4": (215, 150, 48),
    "conv_5": (215, 150, 64),
    "pool_5": (107, 75, 64),
    "norm_6": (107, 75, 64),
    "norm_7": (107, 75, 32),
    "norm_8": (107, 75, 32),
    "pool_9": (53, 37, 32),
    "embedding": (80,),
}


@pytest.fixture
def mixed_bfloat16():
    """The global policy of training on processors with bfloat16, for one test."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def weights_of(model, name):
    return [weight.astype("float64") for weight in model.get_layer(name).get_weights()]


def numpy_lcnn(model, images):
    """The article's table in NumPy and float64; only the weights come from the model."""

    def maxout(x):
        return x.reshape(*x.shape[:-1], 2, -1).max(axis=-2)

    def conv(x, name):
        kernel, bias = weights_of(model, name)
        side = len(kernel) // 2
        padded = np.pad(x, [(0, 0), (side, side), (side, side), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
        return maxout(np.einsum("bhwcij,ijcf->bhwf", windows, kernel, optimize=True) + bias)

    def pool(x):
        height, width = x.shape[1] // 2, x.shape[2] // 2
        blocks = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1)
        return blocks.max(axis=(2, 4))

    def norm(x, name):
        gamma, beta, mean, variance = weights_of(model, name)
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    x = images.astype("float64")
    x = pool(conv(x, "conv_1"))
    x = norm(conv(x, "conv_2"), "norm_2")
    x = norm(pool(conv(x, "conv_3")), "norm_3")
    x = norm(conv(x, "conv_4"), "norm_4")
    x = pool(conv(x, "conv_5"))
    x = norm(conv(x, "conv_6"), "norm_6")
    x = norm(conv(x, "conv_7"), "norm_7")
    x = norm(conv(x, "conv_8"), "norm_8")
    x = pool(conv(x, "conv_9"))
    kernel, bias = weights_of(model, "embedding")
    x = norm(maxout(x.reshape(len(x), -1) @ kernel + bias), "norm_10")
    kernel, bias = weights_of(model, "logits")
    return x @ kernel + bias


def numpy_softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def outputs_of(model, images):
    return ops.convert_to_numpy(model(images))


def pictures(shape):
    """Always two, since JAX compiles every operation anew for another size of the batch."""
    return example(shape, batch_size=2)


@pytest.mark.parametrize(("shape", "parameters"), [((28, 28, 1), 164_938), ((32, 32, 3), 183_498)])
def test_lcnn_has_the_parameters_of_the_article(shape, parameters):
    assert lcnn(shape, 10).count_params() == parameters


@pytest.mark.parametrize(("shape", "parameters"), [((863, 600, 1), 10_198_818), ((60, 750, 1), 865_058)])
def test_lcnn_has_the_trainable_parameters_of_stc(shape, parameters):
    # Zeros, since ten million random numbers take their time.
    model = lcnn(shape, 2, kernel_initializer="zeros")
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


@pytest.mark.parametrize(("width", "parameters"), [(0.5, 53_610), (2, 675_978)])
def test_width_multiplies_the_channels_of_every_convolution(width, parameters):
    model = lcnn((32, 32, 3), 10, width=width)
    assert [model.get_layer(f"conv_{index}").filters for index in (1, 3, 5, 9)] == [
        width * channels for channels in (32, 48, 64, 32)
    ]
    assert model.get_layer("embedding").units == 80
    assert model.count_params() == parameters


@pytest.mark.parametrize("width", [0, 0.01, 65, float("nan")])
def test_a_width_that_does_not_fit_is_refused(width):
    with pytest.raises(ValueError, match="`width` must be from 1/32"):
        lcnn((28, 28, 1), 10, width=width)


def test_lcnn_has_the_layers_of_the_article():
    layers = [(layer.name, type(layer).__name__, *layer.output.shape[1:]) for layer in lcnn((28, 28, 1), 10).layers]
    assert layers == [
        (name, kind, *map(int, sizes)) for name, kind, *sizes in (line.split() for line in LAYERS.splitlines())
    ]


def test_lcnn_has_the_shapes_of_stc():
    model = lcnn((863, 600, 1), 2, kernel_initializer="zeros")
    assert {name: tuple(model.get_layer(name).output.shape[1:]) for name in STC_SHAPES} == STC_SHAPES
    assert model.output.shape == (None, 2)


@pytest.mark.parametrize("shape", [(16, 16, 1), (33, 19, 3)])
def test_lcnn_computes_the_article_table(shape):
    model = lcnn(shape, 4)
    model.set_weights(random_weights(model))
    images = pictures(shape)
    logits = numpy_lcnn(model, images)
    assert np.ptp(logits) > 0.5  # something to compare
    without_softmax = keras.Model(model.input, model.get_layer("logits").output)
    np.testing.assert_allclose(outputs_of(without_softmax, images), logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(outputs_of(model, images), numpy_softmax(logits), rtol=1e-4, atol=1e-5)


def test_without_classifier_activation_the_outputs_are_logits():
    images = pictures((16, 16, 1))
    model = lcnn((16, 16, 1), 4, classifier_activation=None)
    model.set_weights(random_weights(model))
    assert model.layers[-1].name == "logits"
    logits = outputs_of(model, images)
    assert (logits < 0).any() or (logits > 1).any()
    np.testing.assert_allclose(logits, numpy_lcnn(model, images), rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_another_classifier_activation_is_applied():
    images = pictures((16, 16, 1))
    model = lcnn((16, 16, 1), 4, classifier_activation="sigmoid")
    model.set_weights(random_weights(model))
    np.testing.assert_allclose(
        outputs_of(model, images), 1 / (1 + np.exp(-numpy_lcnn(model, images))), rtol=1e-4, atol=1e-5
    )


def test_probabilities_are_float32_and_sum_to_one_in_mixed_precision(mixed_bfloat16):
    model = lcnn((16, 16, 3), 4, scale=1 / 255)
    model.set_weights(random_weights(model))
    probabilities = outputs_of(model, 255 * np.abs(pictures((16, 16, 3))))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-6)
    computed = {layer.name: layer.compute_dtype for layer in model.layers}
    in_float32 = {name for name, dtype in computed.items() if dtype == "float32"}
    assert in_float32 == {"preprocessing", "logits", "probabilities"}
    assert {weight.dtype for weight in model.weights} == {"float32"}


@pytest.mark.parametrize("kind", [tuple, list, np.array], ids=["tuple", "list", "array"])
@pytest.mark.parametrize(("scale", "offset"), [([0.5, 2.0, 1.0], [1.0, 0.0, -1.0]), ([1.0] * 3, [0.0] * 3)])
def test_scale_and_offset_may_be_one_a_channel(tmp_path, kind, scale, offset):
    plain = lcnn((16, 16, 3), 4)
    plain.set_weights(random_weights(plain))
    scaled = lcnn((16, 16, 3), 4, scale=kind(scale), offset=kind(offset))
    scaled.set_weights(plain.get_weights())
    images = pictures((16, 16, 3))
    expected = outputs_of(plain, np.array(scale, "float32") * images + np.array(offset, "float32"))
    np.testing.assert_allclose(outputs_of(scaled, images), expected, rtol=1e-5, atol=1e-6)
    save_model(scaled, tmp_path / "scaled.keras", {})
    np.testing.assert_allclose(
        outputs_of(load_model(tmp_path / "scaled.keras"), images), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (1.0, -0.5), (2.0, -1.0)])
def test_scale_and_offset_are_applied_first(scale, offset):
    model = lcnn((16, 16, 1), 4, scale=scale, offset=offset)
    assert [layer.name for layer in model.layers[:3]] == ["pixels", "preprocessing", "conv_1"]
    pixels = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    preprocessed = outputs_of(keras.Model(model.input, model.get_layer("preprocessing").output), pixels)
    assert preprocessed[0, 0, 0, 0] == pytest.approx(offset)
    assert preprocessed[0, 15, 15, 0] == pytest.approx(255 * scale + offset)


def test_dropout_and_momentum_reach_their_layers():
    model = lcnn((16, 16, 1), 4, dropout=0.25, batch_norm_momentum=0.9)
    assert model.get_layer("dropout").rate == 0.25
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [norm.momentum for norm in norms] == [0.9] * 7
    defaults = lcnn((16, 16, 1), 4)
    assert defaults.get_layer("dropout").rate == 0.75
    assert defaults.get_layer("norm_2").momentum == 0.99


def test_the_kernel_initializer_makes_all_kernels_but_the_last():
    model = lcnn((16, 16, 1), 4, kernel_initializer=keras.initializers.Constant(0.125))
    kernels = {weight.path: weight.numpy() for weight in model.weights if weight.path.endswith("kernel")}
    assert len(kernels) == 11
    others = {path: kernel for path, kernel in kernels.items() if (kernel != 0.125).any()}
    assert list(others) == ["logits/kernel"]


def test_a_function_can_initialize_the_kernels():
    model = lcnn((16, 16, 1), 4, kernel_initializer=lambda shape, dtype=None: ops.full(shape, 0.125, dtype))
    assert (model.get_layer("conv_5").get_weights()[0] == 0.125).all()


def test_kernels_of_one_shape_differ():
    model = lcnn((16, 16, 1), 4, kernel_initializer=keras.initializers.HeNormal())
    second, eighth = (model.get_layer(name).get_weights()[0] for name in ("conv_2", "conv_8"))
    assert second.shape == eighth.shape
    assert (second != eighth).all()


def test_equal_seeds_make_equal_networks():
    networks = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        networks.append(np.concatenate([weight.ravel() for weight in lcnn((16, 16, 1), 4).get_weights()]))
    np.testing.assert_array_equal(networks[0], networks[1])
    assert (networks[0] != networks[2]).mean() > 0.9


def test_the_network_is_channels_last_whatever_keras_is_set_to():
    try:
        keras.config.set_image_data_format("channels_first")
        model = lcnn((16, 16, 3), 4, scale=[1.0, 2.0, 3.0], offset=[0.0, 1.0, -1.0])
        model.set_weights(random_weights(model))
        images = pictures((16, 16, 3))
        outputs = outputs_of(model, images)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.get_layer("pool_9").output.shape == (None, 1, 1, 32)
    scaled = images * np.float32([1, 2, 3]) + np.float32([0, 1, -1])
    np.testing.assert_allclose(outputs, numpy_softmax(numpy_lcnn(model, scaled)), rtol=1e-4, atol=1e-5)


def test_a_picture_does_not_depend_on_its_batch():
    model = lcnn((16, 16, 1), 4)
    model.set_weights(random_weights(model))
    images = pictures((16, 16, 1))
    alone = np.concatenate([outputs_of(model, image[None]) for image in images])
    np.testing.assert_allclose(outputs_of(model, images), alone, rtol=1e-5, atol=1e-6)


def test_one_step_of_training_changes_all_weights_and_moving_statistics():
    model = lcnn((16, 16, 1), 3, dropout=0.0)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    old = {weight.path: weight.numpy() for weight in model.weights}
    model.fit(example((16, 16, 1), batch_size=12), np.arange(12) % 3, batch_size=12, verbose=0)
    assert [weight.path for weight in model.weights if (weight.numpy() == old[weight.path]).all()] == []


@pytest.mark.parametrize(
    "shape",
    [(28, 28), (28, 28, 1, 1), (15, 28, 1), (28, 15, 1), (28, 28, 0), (None, 28, 1), (28, 28, None), (28.0, 28, 1)],
)
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"Received: input_shape=\("):
        lcnn(shape, 10)


@pytest.mark.parametrize("num_classes", [1, 0, -1, 2.5])
def test_a_number_of_classes_that_does_not_fit_is_refused(num_classes):
    with pytest.raises(ValueError, match="Received: "):
        lcnn((28, 28, 1), num_classes)
