"""The article's own names: its scripts work, and its network is `lightcnn.models.lcnn`."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from layer_contract import check_layer, example, gradient, random_weights

from lightcnn.article import Maxout, MaxOutConv2D, MaxOutDense, build_lcnn
from lightcnn.models import lcnn

VALUES = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


def article_network(shape, n_label):
    """The article's table, written with the article's functions."""
    inputs = keras.Input(shape)
    x = MaxOutConv2D(inputs, 64, kernel_size=5, strides=1, padding="same")
    x = keras.layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2))(x)
    x = MaxOutConv2D(x, 64, kernel_size=1, strides=1, padding="same")
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 96, kernel_size=3, strides=1, padding="same")
    x = keras.layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2))(x)
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 96, kernel_size=1, strides=1, padding="same")
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 128, kernel_size=3, strides=1, padding="same")
    x = keras.layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2))(x)
    x = MaxOutConv2D(x, 128, kernel_size=1, strides=1, padding="same")
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 64, kernel_size=3, strides=1, padding="same")
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 64, kernel_size=1, strides=1, padding="same")
    x = keras.layers.BatchNormalization()(x)
    x = MaxOutConv2D(x, 64, kernel_size=3, strides=1, padding="same")
    x = keras.layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2))(x)
    x = keras.layers.Flatten()(x)
    x = MaxOutDense(x, 160)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.75)(x)
    return keras.Model(inputs, keras.layers.Dense(n_label, activation="softmax")(x))


def test_the_article_script_trains_and_predicts():
    generator = np.random.default_rng(0)
    x_train = generator.integers(0, 256, (24, 16, 16, 1)) / 255.0
    y_train = keras.utils.to_categorical(np.arange(24) % 3, 3)

    model = build_lcnn(x_train.shape[1:], n_label=3)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3)
    history = model.fit(
        x_train, y_train, batch_size=8, epochs=2, validation_split=1 / 3, callbacks=[stopping], verbose=0
    )

    assert np.isfinite(history.history["loss"]).all()
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    probabilities = model.predict(x_train[:8], batch_size=8, verbose=0)
    assert probabilities.shape == (8, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)


def test_build_lcnn_takes_the_articles_arguments():
    assert build_lcnn(shape=(28, 28, 1), n_label=10).count_params() == 164_938
    assert build_lcnn([16, 16, 1]).output_shape == (None, 2)


def test_the_articles_network_and_lcnn_take_each_others_weights():
    shape = (18, 16, 3)
    article, ours = article_network(shape, 4), lcnn(shape, 4)
    images = example(shape, batch_size=2)
    ours.set_weights(random_weights(ours))
    expected = ops.convert_to_numpy(ours(images))
    assert np.ptp(expected) > 0.1  # something to compare
    article.set_weights(ours.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(article(images)), expected, atol=1e-5)

    article.set_weights(random_weights(article, seed=1))
    expected = ops.convert_to_numpy(article(images))
    assert np.abs(expected - ops.convert_to_numpy(ours(images))).max() > 0.01
    build = build_lcnn(shape, 4)
    build.set_weights(article.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(build(images)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("strides", "padding", "shape"),
    [(1, "same", (9, 8, 5)), (2, "same", (5, 4, 5)), (1, "valid", (7, 6, 5)), ((2, 1), "valid", (4, 6, 5))],
)
def test_max_out_conv2d_is_a_function_on_tensors(strides, padding, shape):
    inputs = keras.Input((9, 8, 2))
    outputs = MaxOutConv2D(inputs, 10, 3, strides, padding)
    assert outputs.shape == (None, *shape)
    model = keras.Model(inputs, outputs)
    model.set_weights(random_weights(model))
    images = example((9, 8, 2), batch_size=2)
    without = keras.Model(inputs, model.layers[1].output)  # the convolution
    convolved = ops.convert_to_numpy(without(images))
    assert convolved.shape[-1] == 10
    expected = np.sort(convolved.reshape(*convolved.shape[:-1], 2, 5), axis=-2)[..., 1, :]
    np.testing.assert_allclose(ops.convert_to_numpy(model(images)), expected, rtol=1e-5, atol=1e-5)


def test_max_out_conv2d_pads_by_default():
    assert MaxOutConv2D(keras.Input((9, 8, 2)), 10, 3, 1).shape == (None, 9, 8, 5)


def test_max_out_dense_is_a_function_on_tensors():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, MaxOutDense(inputs, 6))
    model.set_weights(random_weights(model))
    kernel, bias = model.get_weights()
    x = example((5,))
    dense = x.astype("float64") @ kernel + bias
    outputs = ops.convert_to_numpy(model(x))
    assert outputs.shape == (3, 3)
    np.testing.assert_allclose(outputs, dense.reshape(3, 2, 3).max(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("init_kwargs", "shapes"),
    [
        ({"num_units": 3}, [(5, 6), (7, 3, 6), (6,)]),
        ({"num_units": 2, "axis": 1}, [(6, 5), (6, 4, 3), (6,)]),
        ({"num_units": 2, "axis": -2}, [(6, 5), (4, 6, 3)]),
    ],
)
def test_maxout_keeps_the_contract(tmp_path, init_kwargs, shapes):
    for shape in shapes:
        check_layer(Maxout, init_kwargs, [shape], tmp_path)


@given(inputs=arrays(np.float32, (2, 12, 2), elements=VALUES), num_units=st.sampled_from([1, 2, 3, 4, 6, 12]))
@settings(max_examples=30)
def test_maxout_keeps_the_largest_of_the_groups(inputs, num_units):
    expected = np.array(
        [[[max(pixel[unit::num_units]) for unit in range(num_units)] for pixel in row.T] for row in inputs]
    ).swapaxes(1, 2)
    np.testing.assert_array_equal(ops.convert_to_numpy(Maxout(num_units, axis=1)(inputs)), expected)
    last = np.ascontiguousarray(inputs.swapaxes(1, 2))
    np.testing.assert_array_equal(ops.convert_to_numpy(Maxout(num_units)(last)), expected.swapaxes(1, 2))


def test_maxout_gradient_goes_to_the_first_of_the_largest():
    groups = np.array(list(itertools.product([0, 1, 2], repeat=3)), "float32")
    upstream = np.arange(1, 28, dtype="float32").reshape(27, 1)
    expected = np.zeros_like(groups)
    for row, values in enumerate(groups.tolist()):
        expected[row, values.index(max(values))] = row + 1
    np.testing.assert_array_equal(gradient(Maxout(1), groups, upstream), expected)


@pytest.mark.parametrize("num_units", [0, -2, 2.0, "2", None])
def test_maxout_arguments_are_checked(num_units):
    with pytest.raises(ValueError, match=r"`num_units` must be a positive integer\. Received: num_units="):
        Maxout(num_units)


@pytest.mark.parametrize(
    ("num_units", "axis", "shape"), [(4, -1, (None, 6)), (3, 1, (None, None, 3)), (3, -1, (2, 2)), (2, 5, (None, 4))]
)
def test_maxout_shapes_are_checked(num_units, axis, shape):
    with pytest.raises(ValueError, match=r"Received: input_shape=\(.*axis="):
        Maxout(num_units, axis).build(shape)


def test_maxout_shapes_are_checked_for_symbolic_and_eager_inputs_alike():
    for inputs in (keras.Input((5,)), example((5,))):
        with pytest.raises(ValueError, match="num_units=2 divides"):
            Maxout(2)(inputs)
