"""The heads of countermeasures against their definitions by angles, and the scores that are made of them."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import check_layer, example, gradient

from lightcnn.layers import HEADS, ASoftmaxHead, BonaFideScore, CosineHead, new_head, score_of

OUTPUTS = {
    "softmax": (2,),
    "sigmoid": (1,),
    "a_softmax": (2, 2),
    "am_softmax": (2,),
    "oc_softmax": (1,),
    "p2sgrad": (2,),
}
A_SOFTMAX = {
    "units": 3,
    "margin": 3,
    "lambda_max": 100.0,
    "lambda_min": 2.0,
    "lambda_decay": 0.5,
    "kernel_initializer": keras.initializers.HeNormal(seed=1),
}


def as_numpy(values):
    return ops.convert_to_numpy(values)


def at_angles(angles, length=1.0):
    """Returns embeddings at angles to the direction of class 0, which is the first axis; class 1 has the second."""
    return (length * np.stack([np.cos(angles), np.sin(angles)], axis=-1)).astype("float32")


def along_the_axes(**arguments):
    head = ASoftmaxHead(2, **arguments)
    head.build((None, 2))
    head.set_weights([np.eye(2), np.array(0.0)])
    return head


def psi(angles, margin):
    """States psi by the angle itself, as the SphereFace paper does."""
    k = np.floor(margin * angles / np.pi)
    return (-1) ** k * np.cos(margin * angles) - 2 * k


@pytest.mark.parametrize(
    "init_kwargs", [{"units": 2}, {"units": 1, "kernel_initializer": keras.initializers.Constant(2.0)}]
)
def test_cosine_head_keeps_the_contract(tmp_path, init_kwargs):
    check_layer(CosineHead, init_kwargs, [(6,)], tmp_path)


@pytest.mark.parametrize("init_kwargs", [{"units": 2}, A_SOFTMAX], ids=["defaults", "all"])
def test_a_softmax_head_has_its_arguments_in_its_config_and_its_file(tmp_path, init_kwargs):
    layer = ASoftmaxHead(**init_kwargs)
    embeddings = example((5,))
    outputs = as_numpy(layer(embeddings))
    assert outputs.shape == layer.compute_output_shape((3, 5)) == (3, layer.units, 2)
    config = layer.get_config()
    assert {*init_kwargs, "margin", "lambda_max", "lambda_min", "lambda_decay", "kernel_initializer"} <= set(config)
    revived = ASoftmaxHead.from_config(config)
    assert revived.get_config() == config
    revived.build((3, 5))
    revived.set_weights(layer.get_weights())
    np.testing.assert_array_equal(as_numpy(revived(embeddings)), outputs)


def test_cosines_do_not_depend_on_lengths():
    head = CosineHead(2)
    head.build((None, 2))
    head.set_weights([np.array([[3.0, 0.0], [0.0, 0.1]])])
    angles = np.linspace(0, np.pi, 9)
    cosines = as_numpy(head(at_angles(angles, length=7.0)))
    np.testing.assert_allclose(cosines, np.stack([np.cos(angles), np.sin(angles)], axis=-1), atol=1e-6)
    assert (np.abs(cosines) <= 1).all()


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5, 8])
def test_psi_is_that_of_the_angle(margin):
    # Away from the borders by more than float32's error, on both sides of each.
    borders = np.arange(1, margin) * np.pi / margin
    angles = np.sort(np.concatenate([np.linspace(0.01, 3.13, 200), borders - 1e-3, borders + 1e-3]))
    logits = as_numpy(along_the_axes(margin=margin, lambda_max=0.0, lambda_min=0.0)(at_angles(angles, 3.0)))
    np.testing.assert_allclose(logits[:, 0, 0], 3 * np.cos(angles), atol=1e-5)
    np.testing.assert_allclose(logits[:, 0, 1], 3 * psi(angles, margin), atol=2e-3 if margin > 5 else 2e-4)
    assert (np.diff(logits[:, 0, 1]) < 2e-4).all()


def test_psi_at_the_ends():
    logits = as_numpy(along_the_axes(lambda_max=0.0, lambda_min=0.0)(at_angles(np.array([0.0, np.pi]))))
    np.testing.assert_allclose(logits[:, 0, 1], [1.0, -7.0], atol=1e-5)


@pytest.mark.parametrize("head", [CosineHead(2), ASoftmaxHead(2)], ids=["cosine", "a_softmax"])
def test_gradients_are_finite_at_the_ends_and_at_zero(head):
    embeddings = np.concatenate([at_angles(np.array([0.0, np.pi, np.pi / 4, np.pi / 2])), np.zeros((1, 2), "float32")])
    head(embeddings)
    head.set_weights([np.eye(2), *head.get_weights()[1:]])
    upstream = np.ones(head.compute_output_shape(embeddings.shape), "float32")
    assert np.isfinite(gradient(head, embeddings, upstream)).all()


def test_the_margin_comes_in_with_the_steps_of_training():
    head, embeddings = along_the_axes(), at_angles(np.array([1.0]))
    own, margin = np.cos(1.0), psi(np.array(1.0), 4)
    for step in (1, 2, 3):
        weight = 1500 / (1 + 0.1 * step)
        logits = as_numpy(head(embeddings, training=True))
        np.testing.assert_allclose(logits[0, 0, 1], (weight * own + margin) / (1 + weight), rtol=1e-5)
        # outside training it is there from the first step: losses on validation can be compared
        np.testing.assert_allclose(as_numpy(head(embeddings))[0, 0, 1], (5 * own + margin) / 6, rtol=1e-5)
    head.set_weights([np.eye(2), np.array(1e6)])
    logits = as_numpy(head(embeddings, training=True))
    np.testing.assert_allclose(logits[0, 0, 1], (5 * own + margin) / 6, rtol=1e-5)


def test_fitting_counts_the_steps_and_the_count_is_a_weight(tmp_path):
    from lightcnn.losses import ASoftmaxLoss

    model = keras.Sequential([keras.Input((4,)), ASoftmaxHead(2, name="head")])
    model.compile("sgd", ASoftmaxLoss())
    model.fit(example((4,), 6), np.array([0, 1, 0, 1, 1, 0]), batch_size=2, epochs=2, verbose=0)
    assert float(as_numpy(model.get_layer("head").step)) == 6
    model.evaluate(example((4,), 6), np.array([0, 1, 0, 1, 1, 0]), verbose=0)
    assert float(as_numpy(model.get_layer("head").step)) == 6
    model.save_weights(tmp_path / "state.weights.h5")
    resumed = keras.Sequential([keras.Input((4,)), ASoftmaxHead(2, name="head")])
    resumed.load_weights(tmp_path / "state.weights.h5")
    assert float(as_numpy(resumed.get_layer("head").step)) == 6


def test_the_count_goes_on_in_bfloat16():
    head = ASoftmaxHead(2, dtype="mixed_bfloat16")
    head.build((None, 2))
    head.set_weights([np.eye(2), np.array(1000.0)])
    head(at_angles(np.array([1.0])), training=True)
    assert float(as_numpy(head.step)) == 1001


@pytest.mark.parametrize("name", HEADS)
def test_every_head_gives_what_its_loss_takes_in_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        head = new_head(name)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = head(example((5,)))
    assert head.name == "head"
    assert tuple(outputs.shape) == (3, *OUTPUTS[name])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    scores = score_of(name, outputs)
    assert tuple(scores.shape) == (3,)
    symbolic = score_of(name, new_head(name)(keras.Input((5,))))
    assert symbolic.shape == (None,)
    assert symbolic.dtype == "float32"


@pytest.mark.parametrize(
    ("head", "outputs", "score"),
    [
        ("softmax", [-1.0, 2.5], 3.5),
        ("sigmoid", [-4.0], -4.0),
        ("a_softmax", [[0.1, 0.2], [0.7, 0.4]], 0.7),
        ("am_softmax", [-0.5, 0.25], 0.25),
        ("oc_softmax", [0.75], 0.75),
        ("p2sgrad", [0.5, -0.125], -0.125),
    ],
)
def test_the_score_is_the_one_tabulated(head, outputs, score):
    np.testing.assert_allclose(as_numpy(score_of(head, np.array([outputs], "float32"))), [score], rtol=1e-6)
    layer = BonaFideScore(head)
    assert BonaFideScore.from_config(layer.get_config()).head == head


def test_two_heads_start_differently():
    first, second = new_head("oc_softmax"), new_head("oc_softmax")
    first.build((None, 4))
    second.build((None, 4))
    assert (first.get_weights()[0] != second.get_weights()[0]).all()
    # kaiming_uniform_(a=0.25): all within sqrt(6 / (1.0625 * 4)), and not all within half of it
    many = new_head("oc_softmax")
    many.build((None, 4000))
    largest = np.abs(many.get_weights()[0]).max() * np.sqrt(1000)
    np.testing.assert_allclose(largest, np.sqrt(6 / 1.0625 / 4), rtol=0.02)


def test_the_kernel_can_start_as_one_wants():
    head = new_head("p2sgrad", keras.initializers.Constant(2.0))
    head.build((None, 4))
    np.testing.assert_array_equal(head.get_weights()[0], np.full((4, 2), 2.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: new_head("softmx"), r"`head` must be one of 'softmax', .*Received: head='softmx'"),
        (lambda: BonaFideScore("x"), r"Received: head='x'"),
        (lambda: CosineHead(0), r"`units` is the number of classes.*Received: units=0"),
        (lambda: ASoftmaxHead(2, margin=9), r"`margin` must be an integer from 1 to 8\. Received: margin=9"),
        (lambda: ASoftmaxHead(2, lambda_min=2000), r"`lambda_min` at most `lambda_max`.*lambda_min=2000"),
        (lambda: CosineHead(2)(np.zeros((2, 3, 4))), r"needs embeddings of shape \(batch, channels\)\. Received"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
