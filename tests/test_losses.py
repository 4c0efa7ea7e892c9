"""The losses of countermeasures and of faces against PyTorch's own functions and hand-made cases."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import gradient

from lightcnn.layers import HEADS, ASoftmaxHead, new_head, score_of
from lightcnn.losses import (
    AMSoftmaxLoss,
    ArcSoftmaxLoss,
    ASoftmaxLoss,
    OCSoftmaxLoss,
    P2SGradLoss,
    SigmoidLoss,
    SoftmaxLoss,
    loss_for,
)

LABELS = np.array([0, 1, 1, 0, 0])
GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(5, 2)).astype("float32")
COSINES = GENERATOR.uniform(-1, 1, (5, 2)).astype("float32")


def value(loss, outputs, labels=LABELS, **arguments):
    return float(ops.convert_to_numpy(loss(labels, outputs, **arguments)))


@pytest.fixture
def functional():
    return pytest.importorskip("torch").nn.functional


def tensor(values):
    import torch

    return torch.tensor(np.asarray(values))


def test_softmax_is_pytorchs_cross_entropy(functional):
    expected = functional.cross_entropy(tensor(LOGITS), tensor(LABELS)).item()
    assert value(SoftmaxLoss(), LOGITS) == pytest.approx(expected, rel=1e-5)


def test_weighted_softmax_is_pytorchs_weighted_cross_entropy(functional):
    weights = np.array([0.1, 0.9], "float32")
    expected = functional.cross_entropy(tensor(LOGITS), tensor(LABELS), weight=tensor(weights)).item()
    assert value(SoftmaxLoss(class_weights=(0.1, 0.9)), LOGITS) == pytest.approx(expected, rel=1e-5)


def test_weighted_and_smoothed_softmax_is_pytorchs(functional):
    settings = {"weight": tensor(np.array([0.1, 0.9], "float32")), "label_smoothing": 0.2}
    expected = functional.cross_entropy(tensor(LOGITS), tensor(LABELS), **settings).item()
    loss = SoftmaxLoss(class_weights=(0.1, 0.9), label_smoothing=0.2)
    assert value(loss, LOGITS) == pytest.approx(expected, rel=1e-5)


def test_balanced_softmax_takes_powers_times_counts():
    counts = np.array([900.0, 100.0])
    powers = counts * np.exp(LOGITS.astype("float64"))
    expected = -np.log(powers[np.arange(5), LABELS] / powers.sum(axis=1)).mean()
    assert value(SoftmaxLoss(class_priors=counts), LOGITS) == pytest.approx(expected, rel=1e-5)
    assert value(SoftmaxLoss(class_priors=(0.9, 0.1)), LOGITS) == pytest.approx(expected, rel=1e-5)


def test_sigmoid_is_pytorchs_binary_cross_entropy(functional):
    logits, targets = LOGITS[:, :1], LABELS.astype("float32")[:, None]
    expected = functional.binary_cross_entropy_with_logits(tensor(logits), tensor(targets)).item()
    assert value(SigmoidLoss(), logits) == pytest.approx(expected, rel=1e-5)
    weights = np.where(targets == 1, 0.9, 0.1).astype("float32")
    total = functional.binary_cross_entropy_with_logits(
        tensor(logits), tensor(targets), tensor(weights), reduction="sum"
    )
    expected = total.item() / weights.sum()
    assert value(SigmoidLoss(class_weights=[0.1, 0.9]), logits) == pytest.approx(expected, rel=1e-5)


def test_am_softmax_is_a_cross_entropy_whose_own_cosine_is_smaller(functional):
    shifted = tensor(COSINES).clone()
    shifted[tensor(LABELS) == 0, 0] -= 0.9
    shifted[tensor(LABELS) == 1, 1] -= 0.9
    expected = functional.cross_entropy(20 * shifted, tensor(LABELS)).item()
    assert value(AMSoftmaxLoss(), COSINES) == pytest.approx(expected, rel=1e-5)
    assert value(AMSoftmaxLoss(scale=1.0, margin=0.0), COSINES) == pytest.approx(
        value(SoftmaxLoss(), COSINES), rel=1e-6
    )


IDENTITIES = np.array([3, 0, 6, 6, 2])
SPREAD = GENERATOR.uniform(-1, 1, (5, 7)).astype("float32")


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_labels_are_pytorchs(functional, smoothing):
    logits = 5 * SPREAD
    expected = functional.cross_entropy(tensor(logits), tensor(IDENTITIES), label_smoothing=smoothing).item()
    assert value(SoftmaxLoss(label_smoothing=smoothing), logits, IDENTITIES) == pytest.approx(expected, rel=1e-5)
    cosines = AMSoftmaxLoss(scale=5.0, margin=0.0, label_smoothing=smoothing)
    assert value(cosines, SPREAD, IDENTITIES) == pytest.approx(expected, rel=1e-5)
    cosines = ArcSoftmaxLoss(scale=5.0, margin=0.0, label_smoothing=smoothing)
    assert value(cosines, SPREAD, IDENTITIES) == pytest.approx(expected, rel=1e-5)


def arc_face(cosines, labels, scale, margin):
    """States ArcFace in NumPy and float64 by angles, picture by picture."""
    losses = []
    for row, label in zip(cosines.astype("float64"), labels, strict=True):
        logits, angle = row.copy(), np.arccos(row[label])
        logits[label] = np.cos(angle + margin) if angle + margin < np.pi else row[label] - margin * np.sin(margin)
        losses.append(np.logaddexp.reduce(scale * logits) - scale * logits[label])
    return np.mean(losses)


@pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.5), (10.0, 1.2), (1.0, 0.0)])
def test_arc_softmax_turns_the_own_angle(scale, margin):
    cosines = SPREAD.copy()
    cosines[np.arange(5), IDENTITIES] = [-0.95, -0.3, 0.2, 0.7, 0.999]  # the first is beyond pi - margin
    expected = arc_face(cosines, IDENTITIES, scale, margin)
    assert value(ArcSoftmaxLoss(scale, margin), cosines, IDENTITIES) == pytest.approx(expected, rel=1e-4)


def test_a_larger_angle_never_costs_less():
    own = np.cos(np.linspace(0, np.pi, 200)).astype("float32")
    cosines = np.stack([own, np.zeros_like(own)], axis=1)
    losses = ArcSoftmaxLoss(8.0, 0.5).call(np.zeros(200, int), ops.convert_to_tensor(cosines))
    losses = ops.convert_to_numpy(losses)
    assert (np.diff(losses) > -1e-4).all()


@pytest.mark.parametrize("loss", [ArcSoftmaxLoss(), AMSoftmaxLoss(30.0, 0.35)], ids=["arc", "am"])
def test_gradients_are_finite_at_the_ends_of_cosines(loss):
    cosines = np.array([[1.0, -1.0], [-1.0, 1.0], [0.9999999, 0.0], [0.0, 0.0], [-0.9999999, 0.5]], "float32")
    for labels in (np.zeros(5, int), np.ones(5, int)):

        def losses(outputs, labels=labels):
            return loss.call(labels, outputs)

        received = gradient(losses, cosines, np.ones(5, "float32"))
        assert np.isfinite(received).all()
        own = received[np.arange(5), labels]
        assert (own <= 1e-6).all()  # a larger own cosine never costs more


def test_the_arc_head_of_faces_is_found_by_name():
    assert isinstance(loss_for("arc_softmax"), ArcSoftmaxLoss)
    assert loss_for("arc_softmax", margin=0.3, scale=20.0).get_config()["scale"] == 20.0


def test_oc_softmax_on_a_hand_made_case():
    # At the margins ln 2; 0.1 inside them ln(1 + e^-2), 0.1 outside ln(1 + e^2).
    cosines = np.array([[0.2], [0.9], [1.0], [0.3], [0.1]], "float32")
    expected = np.mean([np.log(2), np.log(2), np.log1p(np.exp(-2)), np.log1p(np.exp(2)), np.log1p(np.exp(-2))])
    assert value(OCSoftmaxLoss(), cosines) == pytest.approx(expected, rel=1e-5)
    loss = OCSoftmaxLoss(real_margin=0.5, fake_margin=-0.5, scale=1.0)
    assert value(loss, np.array([[-0.5]]), np.array([0])) == pytest.approx(np.log(2), rel=1e-6)


def test_p2sgrad_is_the_mean_square_over_files_and_classes(functional):
    expected = functional.mse_loss(tensor(COSINES), tensor(np.eye(2, dtype="float32")[LABELS])).item()
    assert value(P2SGradLoss(), COSINES) == pytest.approx(expected, rel=1e-5)


def sphereface(embeddings, directions, labels, plain_weight):
    """States A-softmax with margin 4 in NumPy and float64 by angles, file by file."""
    losses = []
    for embedding, label in zip(embeddings.astype("float64"), labels, strict=True):
        length = np.linalg.norm(embedding)
        cosines = embedding @ directions / length / np.linalg.norm(directions, axis=0)
        logits = length * cosines
        angle = np.arccos(cosines[label])
        k = int(4 * angle / np.pi)
        psi = (-1) ** k * np.cos(4 * angle) - 2 * k
        logits[label] = length * (plain_weight * cosines[label] + psi) / (1 + plain_weight)
        losses.append(np.logaddexp.reduce(logits) - logits[label])
    return np.mean(losses)


@pytest.mark.parametrize(("step", "plain_weight"), [(0, 1500.0), (990, 15.0), (10000, 5.0)])
def test_a_softmax_is_sphereface(step, plain_weight):
    embeddings = 3 * GENERATOR.normal(size=(5, 6)).astype("float32")
    head = ASoftmaxHead(2)
    head.build((None, 6))
    directions = GENERATOR.normal(size=(6, 2))
    head.set_weights([directions, np.array(step - 1.0)])  # the call counts on
    expected = sphereface(embeddings, directions, LABELS, plain_weight)
    assert value(ASoftmaxLoss(), head(embeddings, training=True)) == pytest.approx(expected, rel=1e-4)
    expected = sphereface(embeddings, directions, LABELS, 5.0)
    assert value(ASoftmaxLoss(), head(embeddings)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_labels_may_be_a_column_and_floats(head):
    outputs = new_head(head)(GENERATOR.normal(size=(5, 6)).astype("float32"))
    loss = loss_for(head)
    assert value(loss, outputs, LABELS[:, None].astype("float32")) == value(loss, outputs)


@pytest.mark.parametrize("head", HEADS)
def test_weights_of_files_count(head):
    outputs = new_head(head)(GENERATOR.normal(size=(5, 6)).astype("float32"))
    loss = loss_for(head)
    alone = value(loss, outputs[2:3], LABELS[2:3])
    one = np.array([0.0, 0.0, 1.0, 0.0, 0.0], "float32")
    assert value(loss, outputs, sample_weight=5 * one) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_finite_for_extreme_embeddings(head):
    layer = new_head(head, keras.initializers.Orthogonal(seed=0))
    layer.build((None, 2))
    kernel = layer.get_weights()[0]
    # Zero, tiny, large, and exactly along and against the direction of each class.
    rows = [[0, 0], [1e-20, 0], [1e4, -1e4], *kernel.T, *-kernel.T]
    embeddings, labels, loss = np.array(rows, "float32"), np.arange(len(rows)) % 2, loss_for(head)

    def losses(x):
        return loss.call(labels, layer(x))

    for labels in (np.zeros(len(rows), "int32"), np.ones(len(rows), "int32")):  # noqa: B007  `losses` reads it
        received = gradient(losses, embeddings, np.ones(len(rows), "float32"))
        assert np.isfinite(received).all()


@pytest.mark.parametrize("head", HEADS)
def test_training_on_a_loss_gives_bona_fide_speech_the_higher_scores(head):
    generator = np.random.default_rng(1)
    labels = np.arange(64) % 2
    centres = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, 1.0]])
    embeddings = (centres[labels] + generator.normal(size=(64, 3)) / 4).astype("float32")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, new_head(head, keras.initializers.RandomNormal(seed=2))(inputs))
    model.compile(keras.optimizers.Adam(0.1), loss_for(head))
    model.fit(embeddings, labels, batch_size=64, epochs=60, verbose=0)
    scores = ops.convert_to_numpy(score_of(head, model(embeddings)))
    assert scores[labels == 1].min() > scores[labels == 0].max()


@pytest.mark.parametrize(
    "loss",
    [
        SoftmaxLoss(class_weights=(1, 9), class_priors=[9, 1]),
        SigmoidLoss(class_weights=np.array([1.0, 2.0])),
        ASoftmaxLoss(name="a"),
        AMSoftmaxLoss(scale=30.0, margin=0.2, label_smoothing=0.1),
        ArcSoftmaxLoss(scale=30.0, margin=0.2, label_smoothing=0.1),
        SoftmaxLoss(label_smoothing=0.1),
        OCSoftmaxLoss(real_margin=0.8, fake_margin=0.1, scale=10.0),
        P2SGradLoss(reduction="sum"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_is_saved_with_its_settings(loss):
    saved = keras.losses.serialize(loss)
    assert saved["registered_name"].startswith("lightcnn>")
    assert keras.losses.deserialize(saved).get_config() == loss.get_config()


def test_settings_reach_the_loss():
    assert loss_for("am_softmax", margin=0.2).margin == 0.2
    assert (
        loss_for("oc_softmax").get_config().items() >= {"real_margin": 0.9, "fake_margin": 0.2, "scale": 20.0}.items()
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loss_for("softmx"), r"`head` must be one of 'softmax', .*Received: head='softmx'"),
        (lambda: loss_for("p2sgrad", scale=2), r"P2SGradLoss does not have all of these settings: .*'scale'"),
        (lambda: SoftmaxLoss(class_weights=(1, 0)), r"must be two positive numbers.*Received: class_weights=\(1, 0\)"),
        (lambda: SoftmaxLoss(class_priors=[1, 2, 3]), r"Received: class_priors=\[1, 2, 3\]"),
        (lambda: SigmoidLoss(class_weights=(1, np.nan)), r"must be two positive numbers"),
        (lambda: AMSoftmaxLoss(scale=0), r"`scale` must be positive\. Received: scale=0"),
        (lambda: AMSoftmaxLoss(margin=3), r"`margin` must be from 0 to 2\. Received: margin=3"),
        (lambda: ArcSoftmaxLoss(scale=float("nan")), r"`scale` must be positive\. Received: scale=nan"),
        (lambda: ArcSoftmaxLoss(margin=1.6), r"`margin` must be from 0 to 1.5\. Received: margin=1.6"),
        (lambda: SoftmaxLoss(label_smoothing=1.0), r"`label_smoothing` must be from 0 to 0.99\. Received: .*=1.0"),
        (lambda: OCSoftmaxLoss(real_margin=1.5), r"`real_margin` must be from -1 to 1\. Received: real_margin=1.5"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
