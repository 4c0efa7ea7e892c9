"""Optimizers against others: PyTorch's SGD, a statement of Caffe's steps in NumPy, Keras' own Muon and AdamW."""

import keras
import numpy as np
import pytest
from keras import ops

from lightcnn.optimizers import CoupledSGD, Muon

GENERATOR = np.random.default_rng(0)
START = {
    "conv1/kernel": GENERATOR.normal(size=(3, 4)),
    "conv1/bias": GENERATOR.normal(size=4),
    "logits/kernel": GENERATOR.normal(size=(4, 2)),
    "logits/bias": GENERATOR.normal(size=2),
}
GRADIENTS = [[GENERATOR.normal(size=value.shape) for value in START.values()] for _ in range(6)]
RATES = {"conv1/kernel": 1, "conv1/bias": 2, "logits/kernel": 10, "logits/bias": 20}  # the authors' table
AUTHORS = {"rate_multipliers": {"logits/*": 10, "bias": 2}}


class Named(keras.layers.Layer):
    """Has a kernel and a bias, so that their paths are those of a network's layer."""

    def build(self, shapes):
        self.kernel = self.add_weight(shape=shapes[0], name="kernel")
        self.bias = self.add_weight(shape=shapes[1], name="bias")


def variables_of(start):
    variables = []
    for name in ("conv1", "logits"):
        layer = Named(name=name)
        layer.build([start[f"{name}/{part}"].shape for part in ("kernel", "bias")])
        layer.set_weights([start[f"{name}/{part}"] for part in ("kernel", "bias")])
        variables += layer.weights
    return variables


def run(optimizer, gradients=GRADIENTS):
    """Returns the variables, flat, after every step."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    variables, history = variables_of(START), []
    optimizer.build(variables)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient, dtype="float32") for gradient in step], variables)
        history.append(np.concatenate([ops.convert_to_numpy(variable).ravel() for variable in variables]))
    return np.stack(history)


def test_the_variables_have_the_paths_that_the_multipliers_name():
    assert [variable.path for variable in variables_of(START)] == list(START)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_pytorchs_sgd_with_groups_of_parameters(momentum):
    torch = pytest.importorskip("torch")
    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in START.items()}
    groups = [
        {"params": [parameter], "lr": 0.01 * RATES[name], "weight_decay": 0.0 if name.endswith("bias") else 0.05}
        for name, parameter in parameters.items()
    ]
    theirs, expected = torch.optim.SGD(groups, momentum=momentum), []
    for step in GRADIENTS:
        for parameter, gradient in zip(parameters.values(), step, strict=True):
            parameter.grad = torch.tensor(gradient)
        theirs.step()
        expected.append(np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters.values()]))
    received = run(CoupledSGD(0.01, momentum, weight_decay=0.05, **AUTHORS))
    np.testing.assert_allclose(received, np.stack(expected), rtol=1e-6, atol=1e-6)


def test_it_is_caffes_where_the_rate_changes_and_gradients_are_clipped():
    # Where the rate falls, PyTorch's velocity falls at once and Caffe's, which has the old rate in it, does not.
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.25, staircase=True)
    values, velocity, expected = list(START.values()), [0.0] * 4, []
    for number, step in enumerate(GRADIENTS):
        length = np.sqrt(sum(np.sum(gradient**2) for gradient in step))
        for index, (name, gradient) in enumerate(zip(START, step, strict=True)):
            gradient = gradient * min(1, 1.5 / length)
            gradient = gradient + (0 if name.endswith("bias") else 0.05) * values[index]
            velocity[index] = 0.9 * velocity[index] - 0.1 * 0.25 ** (number // 2) * RATES[name] * gradient
            values[index] = values[index] + velocity[index]
        expected.append(np.concatenate([value.ravel() for value in values]))
    received = run(CoupledSGD(schedule, weight_decay=0.05, global_clipnorm=1.5, **AUTHORS))
    np.testing.assert_allclose(received, np.stack(expected), rtol=1e-5, atol=1e-5)


def test_a_weight_decay_of_x_is_an_l2_of_half_of_it():
    def trained(optimizer, regularizer):
        layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones", kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(optimizer, "mse", run_eagerly=True)
        inputs = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")
        model.fit(inputs, inputs[:, :2], batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()[0]

    decayed = trained(CoupledSGD(0.1, 0.9, weight_decay=0.02), None)
    np.testing.assert_allclose(trained(keras.optimizers.SGD(0.1, 0.9), keras.regularizers.L2(0.01)), decayed, atol=1e-6)
    assert np.abs(trained(keras.optimizers.SGD(0.1, 0.9), keras.regularizers.L2(0.02)) - decayed).max() > 1e-3


def test_without_multipliers_and_decay_it_is_keras_own():
    np.testing.assert_allclose(run(CoupledSGD(0.1, 0.5)), run(keras.optimizers.SGD(0.1, 0.5)), rtol=1e-6, atol=1e-7)


def test_a_pattern_names_whole_parts_of_a_path():
    start = run(CoupledSGD(0.1, 0.0, rate_multipliers={"its/kernel": 0, "nv1/*": 0, "*": 1}))
    np.testing.assert_array_equal(start, run(CoupledSGD(0.1, 0.0)))
    only_conv1 = run(CoupledSGD(0.1, 0.0, rate_multipliers={"logits/*": 0}))
    np.testing.assert_array_equal(
        only_conv1[-1, 16:], np.concatenate([START["logits/kernel"].ravel(), START["logits/bias"]]).astype("float32")
    )


def test_it_is_saved_with_all_its_settings():
    optimizer = CoupledSGD(0.1, 0.8, 1e-4, global_clipnorm=150.0, **AUTHORS)
    saved = keras.optimizers.serialize(optimizer)
    assert saved["registered_name"] == "lightcnn>CoupledSGD"
    revived = keras.optimizers.deserialize(saved)
    assert revived.get_config() == optimizer.get_config()
    assert revived.get_config()["rate_multipliers"] == {"logits/*": 10.0, "bias": 2.0}
    np.testing.assert_array_equal(run(revived), run(CoupledSGD(0.1, 0.8, 1e-4, global_clipnorm=150.0, **AUTHORS)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_decay": -1e-4},
        {"weight_decay": None},
        {"weight_decay": float("nan")},
        {"rate_multipliers": {"bias": -1}},
        {"rate_multipliers": {"bias": "0"}},
    ],
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be .*Received: {next(iter(wrong))}="):
        CoupledSGD(**wrong)


# ------------------------------------------------------------------------------------------------------------ Muon

KERNELS = {"dense": (45, 12), "wide": (6, 20), "conv": (3, 3, 5, 12), "pointwise": (1, 1, 6, 20)}
KERNEL_STEPS = [{name: GENERATOR.normal(size=shape) for name, shape in KERNELS.items()} for _ in range(4)]


def muon_run(optimizer, name, shape=None, of=None):
    """Returns a kernel called `name` after every step; the values are those of the kernel `of`, in `shape`."""
    shape = shape or KERNELS[name]
    values = [step[of or name].reshape(shape) for step in KERNEL_STEPS]
    layer = Named(name=name)
    layer.build([shape, shape[-1:]])
    layer.set_weights([values[0], np.zeros(shape[-1])])
    optimizer.build(layer.weights)
    history = []
    for value in values:
        optimizer.apply([ops.convert_to_tensor(value, "float32"), ops.zeros(shape[-1:])], layer.weights)
        history.append(ops.convert_to_numpy(layer.kernel))
    return np.stack(history)


@pytest.mark.parametrize(("name", "matrix"), [("conv", (45, 12)), ("pointwise", (6, 20))])
def test_muon_takes_a_convolution_as_keras_takes_its_matrix(name, matrix):
    settings = {"learning_rate": 0.1, "weight_decay": 0.3, "adam_weight_decay": 0.3}
    expected = muon_run(keras.optimizers.Muon(**settings), "plain", matrix, of=name)
    np.testing.assert_allclose(muon_run(Muon(**settings), name).reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_a_step_of_muon_is_nearly_orthogonal(name):
    history = muon_run(Muon(0.1, weight_decay=None), name)
    step = (history[1] - history[0]).reshape(-1, KERNELS[name][-1])
    singular = np.linalg.svd(step, compute_uv=False) / (0.1 * 0.2 * max(step.shape) ** 0.5)
    # The published polynomial brings singular values to about 0.7 to 1.2, very small ones less far.
    assert singular.max() < 1.25
    assert singular.min() > 0.5


def test_the_last_layer_and_all_vectors_follow_adam():
    is_adam = np.concatenate([np.full(value.size, name != "conv1/kernel") for name, value in START.items()])
    expected = run(keras.optimizers.Adam(0.02))
    history = run(Muon(0.1, weight_decay=None, adam_weight_decay=None, adam_lr_ratio=0.2))
    np.testing.assert_allclose(history[:, is_adam], expected[:, is_adam], rtol=1e-5, atol=1e-6)
    assert np.abs(history[:, ~is_adam] - expected[:, ~is_adam]).mean() > 0.01


def test_layers_called_embedding_follow_adam_if_one_wants():
    kernel = KERNELS["dense"]
    followed = muon_run(Muon(0.1, weight_decay=None, exclude_embeddings=True), "embedding", kernel, of="dense")
    expected = muon_run(keras.optimizers.Adam(0.02), "embedding", kernel, of="dense")
    np.testing.assert_allclose(followed, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(muon_run(Muon(0.1, weight_decay=None), "embedding", kernel, of="dense") - expected).mean() > 0.01


@pytest.mark.parametrize("name", ["logits", "head"])
def test_the_last_layer_follows_adam(name):
    kernel = KERNELS["dense"]
    followed = muon_run(Muon(0.1, weight_decay=None), name, kernel, of="dense")
    np.testing.assert_allclose(
        followed, muon_run(keras.optimizers.Adam(0.02), name, kernel, of="dense"), rtol=1e-5, atol=1e-6
    )


def test_one_text_is_no_list_of_layers():
    with pytest.raises(ValueError, match=r"`exclude_layers` must be a list of texts. Received: .*'logits'"):
        Muon(exclude_layers="logits")
    assert Muon(exclude_layers=None).exclude_layers == []


def test_muon_is_saved_with_all_its_settings():
    optimizer = Muon(0.1, exclude_layers=("last",), weight_decay=0.01, ns_steps=3)
    revived = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(revived) is Muon
    assert revived.get_config() == optimizer.get_config()
