"""Batch norm in one operation against NumPy, and against Keras' own for gradients."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import gradient, random_weights

from lightcnn.layers import BatchNormalization
from lightcnn.models import load_model, save_model


def images(dtype="float32"):
    values = 3 + 2 * np.random.default_rng(0).normal(size=(5, 4, 3, 6))
    return ops.convert_to_numpy(ops.cast(values, dtype)).astype("float32")


def pair(shape, **options):
    """Returns this layer and that of Keras with the same random weights."""
    layers = [cls(**options) for cls in (BatchNormalization, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.build(shape)
        layer.set_weights(random_weights(layer))
    return layers


@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False, "epsilon": 1e-5}, {"momentum": 0.6}])
def test_training_normalizes_images_and_moves_the_statistics(options):
    x = images()
    layer, _ = pair(x.shape, **options)
    gamma, beta = (1.0, 0.0) if options.get("scale") is False else layer.get_weights()[:2]
    mean, variance = layer.get_weights()[-2:]
    outputs = ops.convert_to_numpy(layer(x, training=True))

    of_batch = x.mean((0, 1, 2), dtype="float64"), x.var((0, 1, 2), dtype="float64")
    expected = (x - of_batch[0]) / np.sqrt(of_batch[1] + options.get("epsilon", 1e-3)) * gamma + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    kept = options.get("momentum", 0.99)
    for moved, old, new in zip(layer.get_weights()[-2:], (mean, variance), of_batch, strict=True):
        np.testing.assert_allclose(moved, kept * old + (1 - kept) * new, rtol=1e-6, atol=1e-8)


_FLOAT64 = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 unless its process asks for it"
)


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2**-7)])
def test_gradients_are_those_of_keras(policy, tolerance):
    x, upstream = images("bfloat16"), images("bfloat16")[::-1].copy()
    ours, theirs = pair(x.shape, dtype=policy)
    gradients = [gradient(lambda x, layer=layer: layer(x, training=True), x, upstream) for layer in (ours, theirs)]
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(gradients[0] / scale, gradients[1] / scale, atol=tolerance, rtol=0)


def test_a_step_of_training_moves_all_weights_as_with_keras():
    x = images()
    layers = pair(x.shape)
    for layer in layers:
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.fit(x, x[::-1] ** 2, verbose=0)
    for ours, theirs in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "options", "mask"),
    [
        (images()[:, 0, 0], {}, None),
        (images()[:, 0], {}, None),
        (images(), {"axis": 1}, None),
        (images(), {"renorm": True}, None),
        pytest.param(images(), {"dtype": "float64"}, None, marks=_FLOAT64),
        (images(), {"dtype": "bfloat16"}, None),
        (images().astype("uint8"), {}, None),
        (images(), {}, np.arange(60).reshape(5, 4, 3) % 3 > 0),
    ],
    ids=["features", "frames", "axis", "renorm", "float64", "bfloat16", "uint8", "mask"],
)
def test_elsewhere_it_is_the_layer_of_keras(x, options, mask):
    ours, theirs = pair(x.shape, **options)
    mine, other = (ops.cast(layer(x, training=True, mask=mask), "float32") for layer in (ours, theirs))
    tolerance = 2**-6 if options.get("dtype") == "bfloat16" else 0
    np.testing.assert_allclose(ops.convert_to_numpy(mine), ops.convert_to_numpy(other), rtol=tolerance, atol=tolerance)
    for moved, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(moved.astype("float32"), expected.astype("float32"), rtol=tolerance)


def test_it_is_saved_and_loaded(tmp_path):
    x, (layer, _) = images(), pair(images().shape, epsilon=1e-5)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is BatchNormalization
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))


def test_frozen_it_uses_the_moving_statistics():
    layer, x = BatchNormalization(), images()
    layer.build(x.shape)
    layer.trainable = False
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x, training=True)), x / np.sqrt(1 + 1e-3), rtol=1e-6)
    np.testing.assert_array_equal(layer.get_weights()[-2], np.zeros(6))
