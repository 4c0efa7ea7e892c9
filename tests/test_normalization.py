"""Batch norm in one operation against NumPy, and against Keras' own for gradients."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import gradient

from lightcnn.layers import BatchNormalization


def images(dtype="float32"):
    values = 3 + 2 * np.random.default_rng(0).normal(size=(5, 4, 3, 6))
    return ops.convert_to_numpy(ops.cast(values, dtype)).astype("float32")


@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False, "epsilon": 1e-5}, {"momentum": 0.6}])
def test_training_normalizes_images_and_moves_the_statistics(options):
    layer, x = BatchNormalization(**options), images()
    layer.build(x.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    gamma, beta = (1.0, 0.0) if options.get("scale") is False else layer.get_weights()[:2]
    mean, variance = layer.get_weights()[-2:]
    outputs = ops.convert_to_numpy(layer(x, training=True))

    of_batch = x.mean((0, 1, 2), dtype="float64"), x.var((0, 1, 2), dtype="float64")
    expected = (x - of_batch[0]) / np.sqrt(of_batch[1] + options.get("epsilon", 1e-3)) * gamma + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    kept = options.get("momentum", 0.99)
    for moved, old, new in zip(layer.get_weights()[-2:], (mean, variance), of_batch, strict=True):
        np.testing.assert_allclose(moved, kept * old + (1 - kept) * new, rtol=1e-6)


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2**-7)])
def test_gradients_are_those_of_keras(policy, tolerance):
    x = images("bfloat16")
    upstream = images("bfloat16")[::-1].copy()
    ours, theirs = (cls(dtype=policy) for cls in (BatchNormalization, keras.layers.BatchNormalization))
    ours.build(x.shape)
    theirs.build(x.shape)
    gradients = [gradient(lambda x, layer=layer: layer(x, training=True), x, upstream) for layer in (ours, theirs)]
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(gradients[0] / scale, gradients[1] / scale, atol=tolerance, rtol=0)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 6), (7, 5, 6), (5, 4, 3, 6)])
def test_elsewhere_it_is_the_layer_of_keras(shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    training = len(shape) < 4
    outputs = [ops.convert_to_numpy(layer(x, training=training)) for layer in (ours, theirs)]
    np.testing.assert_array_equal(*outputs)


def test_frozen_it_uses_the_moving_statistics():
    layer, x = BatchNormalization(), images()
    layer.build(x.shape)
    layer.trainable = False
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x, training=True)), x / np.sqrt(1 + 1e-3), rtol=1e-6)
    np.testing.assert_array_equal(layer.get_weights()[-2], np.zeros(6))
