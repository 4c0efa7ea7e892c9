"""The Max-Feature-Map family against an independent statement of it."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from layer_contract import check_layer, example, gradient

from lightcnn.layers import MaxFeatureMap, MFMConv2D, MFMDense, ResidualMFMBlock

# Few shapes, so that JAX compiles few programs; many ties, since these are where the groups could differ.
SHAPES = [(1, 6), (3, 6), (2, 3, 12), (2, 3, 2, 6)]
VALUES = st.one_of(
    st.sampled_from([-1.0, 0.0, 1.0]), st.floats(width=32, allow_nan=False, allow_infinity=True, allow_subnormal=False)
)
INPUTS = st.sampled_from(SHAPES).flatmap(lambda shape: arrays(np.float32, shape, elements=VALUES))

# Every argument differs from its default, so that none can be forgotten on the way through a config.
CONVOLUTION = {
    "filters": 4,
    "kernel_size": (3, 5),
    "strides": 2,
    "padding": "valid",
    "num_groups": 3,
    "use_bias": False,
    "kernel_initializer": keras.initializers.HeNormal(seed=1),
    "bias_initializer": keras.initializers.Constant(2.0),
    "kernel_regularizer": keras.regularizers.L2(0.25),
}
DENSE = {
    "units": 4,
    "num_groups": 3,
    "use_bias": False,
    "kernel_initializer": keras.initializers.HeNormal(seed=1),
    "bias_initializer": keras.initializers.Constant(2.0),
    "kernel_regularizer": keras.regularizers.L2(0.25),
}
BLOCK = {
    "filters": 4,
    "kernel_size": (1, 5),
    "kernel_initializer": keras.initializers.HeNormal(),
    "kernel_regularizer": keras.regularizers.L2(0.25),
}


def mfm(values, num_groups):
    """States MFM by sorting the groups: the largest of two, the two largest of three."""
    ranked = np.sort(values.reshape(*values.shape[:-1], num_groups, -1), axis=-2)
    return np.concatenate([ranked[..., -rank, :] for rank in range(1, num_groups)], axis=-1)


def convolution(images, kernel, strides=(1, 1), padding="same"):
    """States a convolution by windows; "same" pads so that a side n becomes ceil(n / stride), the odd pixel last."""
    if padding == "same":
        pads = []
        for side, size, stride in zip(images.shape[1:3], kernel.shape[:2], strides, strict=True):
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            pads.append((total // 2, total - total // 2))
        images = np.pad(images, [(0, 0), *pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(images, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcij,ijcf->bhwf", windows[:, :: strides[0], :: strides[1]], kernel)


def as_float64(layer):
    return [weight.astype("float64") for weight in layer.get_weights()]


@pytest.mark.parametrize("num_groups", [2, 3])
def test_max_feature_map_keeps_the_contract(tmp_path, num_groups):
    shapes = [(5, 6), (1, 6), (6,), (7, 3, 6)]
    check_layer(MaxFeatureMap, {"num_groups": num_groups}, shapes, tmp_path, passes_mask=True)


@pytest.mark.parametrize("init_kwargs", [{"filters": 3, "kernel_size": 3}, CONVOLUTION], ids=["defaults", "all"])
def test_mfm_conv2d_keeps_the_contract(tmp_path, init_kwargs):
    check_layer(MFMConv2D, init_kwargs, [(8, 9, 3), (7, 7, 3), (5, 6, 3), (11, 8, 3)], tmp_path)


@pytest.mark.parametrize("strides", [2, (3, 2)])
def test_mfm_conv2d_with_same_padding_and_strides_keeps_the_contract(tmp_path, strides):
    init_kwargs = {"filters": 2, "kernel_size": 3, "strides": strides}
    check_layer(MFMConv2D, init_kwargs, [(8, 9, 3), (7, 7, 3), (1, 2, 3), (11, 5, 3)], tmp_path)


@pytest.mark.parametrize("init_kwargs", [{"units": 3}, DENSE], ids=["defaults", "all"])
def test_mfm_dense_keeps_the_contract(tmp_path, init_kwargs):
    check_layer(MFMDense, init_kwargs, [(5,)], tmp_path)
    check_layer(MFMDense, init_kwargs, [(4, 5), (1, 5), (7, 5)], tmp_path)


@pytest.mark.parametrize("init_kwargs", [{"filters": 4}, BLOCK], ids=["defaults", "all"])
def test_residual_mfm_block_keeps_the_contract(tmp_path, init_kwargs):
    check_layer(ResidualMFMBlock, init_kwargs, [(8, 9, 4), (7, 5, 4), (1, 1, 4)], tmp_path)


@pytest.mark.parametrize("num_groups", [2, 3])
@given(inputs=INPUTS)
@settings(max_examples=40)
def test_max_feature_map_ranks_the_groups(num_groups, inputs):
    outputs = ops.convert_to_numpy(MaxFeatureMap(num_groups)(inputs))
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, mfm(inputs, num_groups))


def test_channel_c_competes_with_channel_c_of_the_other_groups():
    pairs = np.array([[1.0, 5.0, 3.0, 2.0]], "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(MaxFeatureMap()(pairs)), [[3.0, 5.0]])
    triples = np.array([[1.0, 50.0, 3.0, 20.0, 2.0, 70.0]], "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(MaxFeatureMap(3)(triples)), [[3.0, 70.0, 2.0, 50.0]])


@pytest.mark.parametrize("position", [0, 2])
def test_not_a_number_in_either_half_comes_out(position):
    values = np.array([[1.0, 2.0, 3.0, 4.0]], "float32")
    values[0, position] = np.nan
    np.testing.assert_array_equal(ops.convert_to_numpy(MaxFeatureMap()(values)), [[np.nan, 4.0]])


def test_gradient_of_a_hand_made_case():
    inputs = np.array([[1.0, 5.0, 3.0, 2.0]], "float32")
    upstream = np.array([[10.0, 20.0]], "float32")
    np.testing.assert_array_equal(gradient(MaxFeatureMap(), inputs, upstream), [[0.0, 20.0, 10.0, 0.0]])
    inputs = np.array([[1.0, 5.0, 3.0, 2.0, 2.0, 7.0]], "float32")
    upstream = np.array([[10.0, 20.0, 30.0, 40.0]], "float32")
    expected = [[0.0, 40.0, 10.0, 0.0, 30.0, 20.0]]
    np.testing.assert_array_equal(gradient(MaxFeatureMap(3), inputs, upstream), expected)


def test_at_a_tie_of_two_the_whole_gradient_goes_to_the_first_group():
    inputs = np.array([[2.0, 0.0, -1.0, 2.0, 0.0, -1.0]], "float32")
    upstream = np.array([[3.0, -5.0, 7.0]], "float32")
    np.testing.assert_array_equal(gradient(MaxFeatureMap(), inputs, upstream), [[3.0, -5.0, 7.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("output", [0, 1], ids=["maximum", "median"])
def test_at_a_tie_of_three_the_whole_gradient_goes_to_the_earlier_group(output):
    triples = np.array(list(itertools.product([0, 1, 2], repeat=3)), "float32")
    upstream = np.zeros((len(triples), 2), "float32")
    upstream[:, output] = 3.0
    received = gradient(MaxFeatureMap(3), triples, upstream)
    # A stable sort puts the earlier group first among equals.
    winners = [sorted(range(3), key=lambda group: -triple[group])[output] for triple in triples]
    np.testing.assert_array_equal(received, 3.0 * np.eye(3)[winners])


@pytest.mark.parametrize("num_groups", [2, 3])
def test_gradient_agrees_with_finite_differences(num_groups):
    generator = np.random.default_rng(0)
    # Whole numbers, each once: a step of a quarter changes no winner, so the differences are exact.
    inputs = generator.permutation(24).reshape(2, 12).astype("float32")
    layer = MaxFeatureMap(num_groups)
    upstream = generator.integers(1, 9, layer(inputs).shape).astype("float32")
    differences = np.empty_like(inputs)
    for position in np.ndindex(inputs.shape):
        step = np.zeros_like(inputs)
        step[position] = 0.25
        higher, lower = (ops.convert_to_numpy(layer(inputs + sign * step)) for sign in (1, -1))
        differences[position] = ((higher - lower) * upstream).sum() / 0.5
    np.testing.assert_array_equal(gradient(layer, inputs, upstream), differences)


@pytest.mark.parametrize("num_groups", [2, 3])
@pytest.mark.parametrize(
    ("kernel_size", "strides", "padding"),
    [(1, (1, 1), "same"), (5, (1, 1), "same"), ((3, 1), (2, 3), "same"), ((3, 5), (2, 1), "valid")],
)
def test_mfm_conv2d_is_a_convolution_and_mfm(num_groups, kernel_size, strides, padding):
    images = example((8, 7, 3), batch_size=2)
    random_bias = keras.initializers.RandomNormal(stddev=1.0)
    layer = MFMConv2D(4, kernel_size, strides, padding, num_groups, bias_initializer=random_bias)
    outputs = ops.convert_to_numpy(layer(images))
    kernel, bias = as_float64(layer)
    expected = mfm(convolution(images.astype("float64"), kernel, strides, padding) + bias, num_groups)
    assert outputs.shape[-1] == 4
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_groups", [2, 3])
@pytest.mark.parametrize("shape", [(5,), (4, 5)])
def test_mfm_dense_is_a_product_and_mfm(num_groups, shape):
    inputs = example(shape)
    layer = MFMDense(6, num_groups, bias_initializer=keras.initializers.RandomNormal(stddev=1.0))
    outputs = ops.convert_to_numpy(layer(inputs))
    kernel, bias = as_float64(layer)
    expected = mfm(np.einsum("...c,cu->...u", inputs.astype("float64"), kernel) + bias, num_groups)
    assert outputs.shape == (*inputs.shape[:-1], 6)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_residual_mfm_block_adds_two_mfm_convolutions_to_its_input():
    images = example((6, 5, 4), batch_size=2)
    block = ResidualMFMBlock(4)
    block.build(images.shape)
    block.set_weights([example(weight.shape[1:], weight.shape[0], seed=7) / 4 for weight in block.get_weights()])
    outputs = ops.convert_to_numpy(block(images))
    first_kernel, first_bias, second_kernel, second_bias = as_float64(block)
    inner = mfm(convolution(images.astype("float64"), first_kernel) + first_bias, 2)
    expected = images + mfm(convolution(inner, second_kernel) + second_bias, 2)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("initializer", ["he_normal", keras.initializers.HeNormal()])
def test_the_kernels_of_a_residual_mfm_block_differ(initializer):
    block = ResidualMFMBlock(4, kernel_initializer=initializer)
    block.build((None, 8, 8, 4))
    first, _, second, _ = block.get_weights()
    assert (first != second).all()


def test_a_function_can_initialize_the_kernels():
    def twos(shape, dtype=None):
        return ops.full(shape, 2.0, dtype)

    images, features = (None, 8, 8, 4), (None, 4)
    for layer, shape in (
        (MFMConv2D(4, 3, kernel_initializer=twos), images),
        (MFMDense(4, kernel_initializer=twos), features),
        (ResidualMFMBlock(4, kernel_initializer=twos), images),
    ):
        layer.build(shape)
        assert all((kernel == 2.0).all() for kernel in layer.get_weights()[::2])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (MFMConv2D(4, 3, bias_initializer="ones", kernel_regularizer="l2"), (None, 8, 8, 3)),
        (MFMDense(4, bias_initializer="ones", kernel_regularizer="l2"), (None, 3)),
        (ResidualMFMBlock(4, kernel_regularizer="l2"), (None, 8, 8, 4)),
    ],
)
def test_biases_are_initialized_and_every_kernel_is_regularized(layer, shape):
    layer.build(shape)
    kernels, biases = layer.get_weights()[::2], layer.get_weights()[1::2]
    assert all((bias == (0.0 if isinstance(layer, ResidualMFMBlock) else 1.0)).all() for bias in biases)
    penalty = float(sum(ops.convert_to_numpy(loss) for loss in layer.losses))
    assert penalty == pytest.approx(0.01 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-5)


@pytest.mark.parametrize(("layer", "shape"), [(MFMConv2D, (None, 8, 8, 3)), (MFMDense, (None, 3))])
def test_without_bias_there_is_only_the_kernel(layer, shape):
    layer = layer(4, **({"kernel_size": 3} if layer is MFMConv2D else {}), use_bias=False)
    layer.build(shape)
    assert [weight.shape[-1] for weight in layer.get_weights()] == [8]
    inputs, (kernel,) = example(shape[1:]), as_float64(layer)
    products = convolution(inputs, kernel) if layer.__class__ is MFMConv2D else inputs @ kernel
    np.testing.assert_allclose(ops.convert_to_numpy(layer(inputs)), mfm(products, 2), rtol=1e-5, atol=1e-5)


def test_another_number_of_channels_than_it_was_built_for_is_an_error():
    layer = MFMConv2D(4, 3)
    layer.build((None, 8, 8, 2))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 2"):
        layer(example((8, 8, 4)))  # would be a convolution in two groups


def test_data_are_channels_last_whatever_keras_is_set_to():
    try:
        keras.config.set_image_data_format("channels_first")
        outputs = [MFMConv2D(6, 3, strides=2)(example((9, 8, 4))), ResidualMFMBlock(4)(example((9, 8, 4)))]
    finally:
        keras.config.set_image_data_format("channels_last")
    assert [tuple(output.shape) for output in outputs] == [(3, 5, 4, 6), (3, 9, 8, 4)]


@pytest.mark.parametrize("num_groups", [0, 1, 4, -2, None, "2", 2.5, [2]])
def test_num_groups_must_be_two_or_three(num_groups):
    for make in (MaxFeatureMap, lambda num_groups: MFMConv2D(4, 3, num_groups=num_groups), lambda n: MFMDense(4, n)):
        with pytest.raises(ValueError, match=r"`num_groups` must be 2 .* or 3 .*Received: num_groups="):
            make(num_groups)


@pytest.mark.parametrize(("value", "num_groups"), [(0, 2), (-4, 2), (2.0, 2), ("4", 2), (None, 2), (3, 3), (0, 3)])
def test_channels_after_mfm_must_be_positive_and_fit_the_groups(value, num_groups):
    with pytest.raises(ValueError, match=r"`filters` .*Received: filters="):
        MFMConv2D(value, 3, num_groups=num_groups)
    with pytest.raises(ValueError, match=r"`units` .*Received: units="):
        MFMDense(value, num_groups=num_groups)


def test_other_arguments_are_checked_when_the_layer_is_made():
    for make in (
        lambda: MFMConv2D(4, 0),
        lambda: MFMConv2D(4, (3, 3, 3)),
        lambda: MFMConv2D(4, 3, strides=0),
        lambda: MFMConv2D(4, 3, padding="sane"),
        lambda: ResidualMFMBlock(0),
        lambda: ResidualMFMBlock(4, kernel_size=0),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()


@pytest.mark.parametrize("shape", [(None, 5), (2, 3, 7), (None, None), (6,)])
@pytest.mark.parametrize("num_groups", [2, 3])
def test_max_feature_map_needs_channels_that_divide(shape, num_groups):
    with pytest.raises(ValueError, match=r"MaxFeatureMap needs .*Received: input_shape="):
        MaxFeatureMap(num_groups).build(shape)


def test_shapes_are_checked_for_symbolic_and_eager_inputs_alike():
    for inputs in (keras.Input((4, 4, 5)), example((4, 4, 5))):
        with pytest.raises(ValueError, match=r"Received: input_shape="):
            MaxFeatureMap()(inputs)
        with pytest.raises(ValueError, match=r"`filters`=4 channels in.*Received: input_shape=\("):
            ResidualMFMBlock(4)(inputs)


@pytest.mark.parametrize("layer", [MaxFeatureMap(), MFMDense(4)], ids=["MaxFeatureMap", "MFMDense"])
def test_padding_stays_masked(layer):
    model = keras.Sequential([keras.layers.Masking(), layer, keras.layers.GlobalAveragePooling1D()])
    frames = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    padded = np.concatenate([frames, np.zeros((2, 3, 6), "float32")], axis=1)
    received, expected = (ops.convert_to_numpy(model(inputs)) for inputs in (padded, frames))
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6)
