"""What networks are trained on, one loss a head: of `lightcnn.layers.new_head` for countermeasures, and for faces.

Every loss takes `y_true`, whole numbers of shape `(batch,)` or `(batch, 1)`: 1 for bona fide speech and 0 for spoofed,
or the number of an identity (not one-hot: there may be many thousands). `y_pred` is the raw output of the head.
"""

import math

import keras
import numpy as np
from keras import ops

__all__ = [
    "AMSoftmaxLoss",
    "ASoftmaxLoss",
    "ArcSoftmaxLoss",
    "OCSoftmaxLoss",
    "P2SGradLoss",
    "SigmoidLoss",
    "SoftmaxLoss",
    "loss_for",
]


def _class_indices(y_true):
    return ops.cast(ops.reshape(y_true, (-1,)), "int32")


def _pair(name, values):
    """Returns a pair of positive numbers, spoofed and bona fide, as plain floats, or None."""
    if values is None:
        return None
    array = np.asarray(values, "float64")
    if array.shape != (2,) or not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(
            f"`{name}` must be two positive numbers, for spoofed and for bona fide speech. Received: {name}={values!r}"
        )
    return array.tolist()


def _check_in_range(name, value, low, high):
    if not low <= value <= high:
        raise ValueError(f"`{name}` must be from {low} to {high}. Received: {name}={value!r}")


def _cross_entropy(labels, logits, label_smoothing=0.0):
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if label_smoothing:  # the target spread over all classes is the mean of their losses
        spread = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * spread
    return losses


def _check_scale(scale):
    if not scale > 0:
        raise ValueError(f"`scale` must be positive. Received: scale={scale!r}")


@keras.saving.register_keras_serializable(package="lightcnn")
class SoftmaxLoss(keras.losses.Loss):
    """Cross entropy of logits. Of two classes, they can be weighted, or their frequencies allowed for.

    With `class_weights`, the mean over a batch is the weighted mean, as PyTorch's `CrossEntropyLoss(weight=...)`.
    With `class_priors`, their logarithms are added to the logits, so that a network trained on unbalanced classes
    gives the logits of balanced ones (balanced softmax).

    Reference:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition": https://arxiv.org/abs/2007.10740

    Args:
        class_weights: `(spoofed, bona fide)`, positive, or None for equal weights. RawNet2's are `(0.1, 0.9)`.
        class_priors: `(spoofed, bona fide)`, shares or counts of the training data, or None.
        label_smoothing: Float in [0, 1). The share of the target that is spread over all classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.SoftmaxLoss()(np.array([1]), np.array([[0.0, 0.0]])).numpy()
    0.6931472
    """

    def __init__(self, class_weights=None, class_priors=None, label_smoothing=0.0, name="softmax_loss", **kwargs):
        _check_in_range("label_smoothing", label_smoothing, 0, 0.99)
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing
        self.class_weights = _pair("class_weights", class_weights)
        self.class_priors = _pair("class_priors", class_priors)

    def call(self, y_true, y_pred):
        labels = _class_indices(y_true)
        if self.class_priors is not None:
            shares = np.divide(self.class_priors, sum(self.class_priors))
            y_pred = y_pred + ops.convert_to_tensor(np.log(shares), dtype=y_pred.dtype)
        if self.class_weights is None:
            return _cross_entropy(labels, y_pred, self.label_smoothing)
        targets = (1.0 - self.label_smoothing) * ops.one_hot(labels, 2, dtype=y_pred.dtype) + self.label_smoothing / 2
        weights = ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        losses = -ops.sum(targets * weights * ops.log_softmax(y_pred), axis=-1)
        # so that the mean over the batch is divided by the weights' sum
        return losses / ops.mean(ops.take(weights, labels))

    def get_config(self):
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "class_priors": self.class_priors,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class SigmoidLoss(keras.losses.Loss):
    """Binary cross entropy of one logit.

    Args:
        class_weights: `(spoofed, bona fide)`, positive, or None for equal weights; as in `SoftmaxLoss`.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.SigmoidLoss()(np.array([1]), np.array([[0.0]])).numpy()
    0.6931472
    """

    def __init__(self, class_weights=None, name="sigmoid_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.class_weights = _pair("class_weights", class_weights)

    def call(self, y_true, y_pred):
        labels = _class_indices(y_true)
        logits = ops.reshape(y_pred, (-1,))
        # -log(sigmoid(x)) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x)
        losses = ops.softplus(ops.where(labels == 1, -logits, logits))
        if self.class_weights is None:
            return losses
        weights = ops.take(ops.convert_to_tensor(self.class_weights, dtype=losses.dtype), labels)
        return losses * weights / ops.mean(weights)

    def get_config(self):
        return {**super().get_config(), "class_weights": self.class_weights}


@keras.saving.register_keras_serializable(package="lightcnn")
class ASoftmaxLoss(keras.losses.Loss):
    """Cross entropy in which the own class has the logit with the margin; margin and annealing are the head's.

    Reference:
        Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition": https://arxiv.org/abs/1704.08063

    Args:
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> logits = lightcnn.layers.ASoftmaxHead(2)(embeddings, training=True)
    >>> loss = lightcnn.losses.ASoftmaxLoss()(labels, logits)
    """

    def __init__(self, name="a_softmax_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        labels = _class_indices(y_true)
        is_own = ops.one_hot(labels, y_pred.shape[1], dtype="bool")
        return _cross_entropy(labels, ops.where(is_own, y_pred[..., 1], y_pred[..., 0]))


class _MarginSoftmaxLoss(keras.losses.Loss):
    """Cross entropy of `scale * cosine`; what the own class gets instead of its cosine is `with_margin`'s."""

    largest_margin: float

    def __init__(self, scale, margin, label_smoothing, name, **kwargs):
        _check_scale(scale)
        _check_in_range("margin", margin, 0, self.largest_margin)
        _check_in_range("label_smoothing", label_smoothing, 0, 0.99)
        super().__init__(name=name, **kwargs)
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = _class_indices(y_true)
        is_own = ops.one_hot(labels, y_pred.shape[-1], dtype="bool")
        logits = self.scale * ops.where(is_own, self.with_margin(y_pred), y_pred)
        return _cross_entropy(labels, logits, self.label_smoothing)

    def with_margin(self, cosines):
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.scale,
            "margin": self.margin,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class AMSoftmaxLoss(_MarginSoftmaxLoss):
    """Cross entropy of `scale * cosine`, from which the own class must give up a margin (AM-softmax).

    The defaults are NII's for two classes of speech. For faces, the paper has a margin of 0.35 and a scale of 30.

    Reference:
        Wang, Cheng, Liu, Liu, "Additive Margin Softmax for Face Verification": https://arxiv.org/abs/1801.05599

    Args:
        scale: Float, positive.
        margin: Float from 0 to 2, in cosines.
        label_smoothing: Float in [0, 1). The share of the target that is spread over all classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.AMSoftmaxLoss()(np.array([1]), np.array([[-1.0, 1.0]])).numpy() < 1e-9
    True
    """

    largest_margin = 2

    def __init__(self, scale=20.0, margin=0.9, label_smoothing=0.0, name="am_softmax_loss", **kwargs):
        super().__init__(scale, margin, label_smoothing, name, **kwargs)

    def with_margin(self, cosines):
        return cosines - self.margin


@keras.saving.register_keras_serializable(package="lightcnn")
class ArcSoftmaxLoss(_MarginSoftmaxLoss):
    """Cross entropy of `scale * cosine`, in which the angle to the own class counts as larger by a margin (ArcFace).

    The own class gets `cos(angle + margin)`. Beyond an angle of pi - margin, where that would rise again, it gets
    `cos(angle) - margin * sin(margin)`, so that a larger angle never costs less.

    Reference:
        Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition":
        https://arxiv.org/abs/1801.07698

    Args:
        scale: Float, positive. The paper's is 64.
        margin: Float from 0 to 1.5, in radians. The paper's is 0.5.
        label_smoothing: Float in [0, 1). The share of the target that is spread over all classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.ArcSoftmaxLoss()(np.array([1]), np.array([[-1.0, 1.0]])).numpy() < 1e-9
    True
    """

    largest_margin = 1.5

    def __init__(self, scale=64.0, margin=0.5, label_smoothing=0.0, name="arc_softmax_loss", **kwargs):
        super().__init__(scale, margin, label_smoothing, name, **kwargs)

    def with_margin(self, cosines):
        # The gradient of a root is infinite at 0, so the sine stops short of it.
        sines = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), 1e-12))
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        lowered = cosines - self.margin * math.sin(self.margin)
        return ops.where(cosines > -math.cos(self.margin), turned, lowered)


@keras.saving.register_keras_serializable(package="lightcnn")
class OCSoftmaxLoss(keras.losses.Loss):
    """One-class softmax: bona fide speech lies near one direction, spoofed speech anywhere away from it.

    `softplus(scale * (real_margin - cosine))` for bona fide, `softplus(scale * (cosine - fake_margin))` for spoofed.

    Reference:
        Zhang, Jiang, Duan, "One-class Learning Towards Synthetic Voice Spoofing Detection":
        https://arxiv.org/abs/2010.13995

    Args:
        real_margin: Float in [-1, 1]. The cosine that bona fide speech should exceed.
        fake_margin: Float in [-1, 1]. The cosine that spoofed speech should stay below.
        scale: Float, positive.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.OCSoftmaxLoss()(np.array([1]), np.array([[0.9]])).numpy()
    0.6931472
    """

    def __init__(self, real_margin=0.9, fake_margin=0.2, scale=20.0, name="oc_softmax_loss", **kwargs):
        _check_scale(scale)
        _check_in_range("real_margin", real_margin, -1, 1)
        _check_in_range("fake_margin", fake_margin, -1, 1)
        super().__init__(name=name, **kwargs)
        self.real_margin = real_margin
        self.fake_margin = fake_margin
        self.scale = scale

    def call(self, y_true, y_pred):
        cosines = ops.reshape(y_pred, (-1,))
        is_bona_fide = _class_indices(y_true) == 1
        missing = ops.where(is_bona_fide, self.real_margin - cosines, cosines - self.fake_margin)
        return ops.softplus(self.scale * missing)

    def get_config(self):
        return {
            **super().get_config(),
            "real_margin": self.real_margin,
            "fake_margin": self.fake_margin,
            "scale": self.scale,
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class P2SGradLoss(keras.losses.Loss):
    """The mean square between cosines and one-hot labels, whose gradient is P2SGrad's. It has no settings.

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection": https://arxiv.org/abs/2103.11326

    Args:
        reduction, name, dtype: As in `keras.losses.Loss`.

    Example:
    >>> lightcnn.losses.P2SGradLoss()(np.array([1]), np.array([[0.0, 0.0]])).numpy()
    0.5
    """

    def __init__(self, name="p2sgrad_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        own = ops.one_hot(_class_indices(y_true), y_pred.shape[-1], dtype=y_pred.dtype)
        return ops.mean(ops.square(y_pred - own), axis=-1)


_LOSSES = {
    "softmax": SoftmaxLoss,
    "sigmoid": SigmoidLoss,
    "a_softmax": ASoftmaxLoss,
    "am_softmax": AMSoftmaxLoss,
    "arc_softmax": ArcSoftmaxLoss,
    "oc_softmax": OCSoftmaxLoss,
    "p2sgrad": P2SGradLoss,
}


def loss_for(head, **settings):
    """Returns the loss that belongs to a head, with the published settings unless others are given.

    | head | loss | settings |
    |---|---|---|
    | `"softmax"` | `SoftmaxLoss` | `class_weights`, `class_priors`, `label_smoothing` |
    | `"sigmoid"` | `SigmoidLoss` | `class_weights` |
    | `"a_softmax"` | `ASoftmaxLoss` | none; margin 4 and annealing are the head's |
    | `"am_softmax"` | `AMSoftmaxLoss` | `scale=20`, `margin=0.9`, `label_smoothing` |
    | `"arc_softmax"` (faces) | `ArcSoftmaxLoss` | `scale=64`, `margin=0.5`, `label_smoothing` |
    | `"oc_softmax"` | `OCSoftmaxLoss` | `real_margin=0.9`, `fake_margin=0.2`, `scale=20` |
    | `"p2sgrad"` | `P2SGradLoss` | none |

    Args:
        head: The name of the head, as in `lightcnn.layers.new_head`, or `"arc_softmax"`, for cosines as AM-softmax.
        settings: Arguments of the loss.

    Returns:
        A `keras.losses.Loss`.

    Raises:
        ValueError: If there is no such head, or its loss has no such setting.

    Example:
    >>> network.compile("adam", lightcnn.losses.loss_for("am_softmax", margin=0.5))
    """
    if head not in _LOSSES:
        raise ValueError(f"`head` must be one of {', '.join(map(repr, _LOSSES))}. Received: head={head!r}")
    try:
        return _LOSSES[head](**settings)
    except TypeError as error:
        raise ValueError(f"{_LOSSES[head].__name__} does not have all of these settings: {error}.") from error
