"""What every layer promises, in one call, and what tests of layers and models share: examples, weights, gradients."""

import inspect
from pathlib import Path

import keras
import numpy as np
from keras import ops

from lightcnn.models import load_model, save_model


def check_layer(layer_class, init_kwargs, input_shapes, folder: Path, passes_mask=False):
    """Checks the contract of a layer class; `input_shapes` are without the batch and share their number of channels."""
    layer, batch = layer_class(**init_kwargs), example(input_shapes[0])
    outputs = ops.convert_to_numpy(layer(batch))

    # Every argument is in the config: a key that is dropped when saving and when loading would pass a round trip.
    config = layer.get_config()
    parameters = inspect.signature(layer_class.__init__).parameters.values()
    arguments = {parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
    assert arguments - {"self"} <= set(config), f"missing in the config: {arguments - {'self'} - set(config)}"
    for name, value in init_kwargs.items():
        assert config[name] in (value, keras.saving.serialize_keras_object(value)), name

    revived = layer_class.from_config(config)
    assert revived.get_config() == config
    revived.build(batch.shape)
    revived.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(revived(batch)), outputs)

    for shape in input_shapes:
        eager = tuple(layer(example(shape)).shape)
        assert tuple(layer.compute_output_shape((3, *shape))) == eager, shape
        assert tuple(layer.compute_output_shape((None, *shape))) == (None, *eager[1:]), shape
        assert tuple(layer_class(**init_kwargs)(keras.Input(shape)).shape) == (None, *eager[1:]), shape

    inputs = keras.Input(input_shapes[0])
    save_model(keras.Model(inputs, layer(inputs)), folder / "layer.keras", {})
    np.testing.assert_array_equal(ops.convert_to_numpy(load_model(folder / "layer.keras")(batch)), outputs)

    mixed = layer_class(**init_kwargs, dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(mixed(batch).dtype) == "bfloat16"
    assert all(variable.dtype == "float32" for variable in mixed.weights)
    inner = [value for value in vars(mixed).values() if isinstance(value, keras.layers.Layer)]
    assert all(layer.compute_dtype == "bfloat16" for layer in inner)

    for row, expected in zip(batch, outputs, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(layer(row[None]))[0], expected, rtol=1e-5, atol=1e-5)

    # The dense layer before it has weights of its own, so a layer without any must let the gradient through.
    before_it = keras.layers.Dense(batch.shape[-1])
    model = keras.Sequential([keras.Input(input_shapes[0]), before_it, layer_class(**init_kwargs)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    old = {variable.path: variable.numpy() for variable in model.weights}
    model.fit(batch, np.ones_like(outputs), verbose=0)
    changed = {variable.path for variable in model.weights if (variable.numpy() != old[variable.path]).any()}
    assert changed == {variable.path for variable in model.trainable_weights}

    if passes_mask:
        steps = np.array([[[1.0] * 6, [9.0] * 6, [0.0] * 6]], "float32")  # the last one is masked, so the mean is 5
        masked = layer_class(**init_kwargs)(keras.layers.Masking()(steps))
        mean = keras.layers.GlobalAveragePooling1D(data_format="channels_last")(masked)
        np.testing.assert_array_equal(ops.convert_to_numpy(mean), np.full(mean.shape, 5.0))


def example(shape, batch_size=3, seed=0):
    """Returns a batch of random float32 values."""
    return np.random.default_rng(seed).normal(size=(batch_size, *shape)).astype("float32")


def random_weights(model, seed=0):
    """Returns weights for a model that keep its values near one; moving statistics are not the initial 0 and 1."""
    generator, weights = np.random.default_rng(seed), []
    for variable in model.weights:
        if variable.name == "kernel":
            weights.append(generator.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
        elif variable.name in ("gamma", "moving_variance"):
            weights.append(generator.uniform(0.5, 1.5, variable.shape))
        else:
            weights.append(generator.normal(size=variable.shape) / 4)
    return weights


def gradient(function, inputs, upstream):
    """Returns the gradient of `sum(function(inputs) * upstream)` by `inputs`, as a NumPy array."""

    def total(x):
        return ops.sum(ops.multiply(function(x), ops.convert_to_tensor(upstream)))

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        x = tensorflow.convert_to_tensor(inputs)
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            result = total(x)
        return tape.gradient(result, x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(total)(inputs))
    x = ops.convert_to_tensor(inputs).detach().requires_grad_()
    total(x).backward()
    return x.grad.cpu().numpy()
