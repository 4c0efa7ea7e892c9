"""The heads of a countermeasure: an embedding -> what a loss is made of, and that -> the score of a file.

Class 1 is bona fide speech and class 0 is spoofed. A score is higher for bona fide speech, whatever the head.
"""

import keras
from keras import ops

from lightcnn.layers.mfm import fresh_initializer

__all__ = ["HEADS", "ASoftmaxHead", "BonaFideScore", "CosineHead", "new_head", "score_of"]

_SPOOF, _BONA_FIDE = 0, 1
_TINY = 1e-12  # squared lengths below it count as this, so that the gradient of a length is finite at zero


def _length(vectors, axis):
    return ops.sqrt(ops.maximum(ops.sum(ops.square(vectors), axis=axis, keepdims=True), _TINY))


def _check_units(units):
    if not isinstance(units, int) or units < 1:
        raise ValueError(f"`units` is the number of classes and must be a positive integer. Received: units={units!r}")


class _DirectionHead(keras.layers.Layer):
    """Has one direction a class: the columns of a kernel, whose length does not matter."""

    def __init__(self, units, kernel_initializer, **kwargs):
        _check_units(units)
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} needs embeddings of shape (batch, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer=self.kernel_initializer, name="kernel", trainable=True
        )

    def directions(self):
        return self.kernel / _length(self.kernel, axis=0)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class CosineHead(_DirectionHead):
    """The cosine of the angle between an embedding and the direction of each class.

    It is what AM-softmax and P2SGrad (two directions) and OC-softmax (one, of bona fide speech) are trained on.

    Reference:
        Wang, Cheng, Liu, Liu, "Additive Margin Softmax for Face Verification": https://arxiv.org/abs/1801.05599

    Args:
        units: Integer. The number of directions.
        kernel_initializer: Initializer of the directions. The default makes their length about one.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units)`, in [-1, 1].

    Example:
    >>> lightcnn.layers.CosineHead(2)(np.ones((1, 64))).shape
    TensorShape([1, 2])
    """

    def __init__(self, units, kernel_initializer="lecun_uniform", **kwargs):
        super().__init__(units, kernel_initializer, **kwargs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units)

    def call(self, inputs):
        cosines = ops.matmul(inputs / _length(inputs, axis=-1), self.directions())
        return ops.clip(cosines, -1.0, 1.0)  # rounding can go beyond


@keras.saving.register_keras_serializable(package="lightcnn")
class ASoftmaxHead(_DirectionHead):
    """The logits of A-softmax, whose classes must win by an angle: with and without that margin.

    The first logit of a class is `length * cos(angle)`. The second is for the class that an example belongs to:
    `length * (lambda * cos(angle) + psi(angle)) / (1 + lambda)` with `psi = (-1)^k cos(margin * angle) - 2 k` and `k`
    the whole part of `margin * angle / pi`. The lengths of embeddings count, those of directions do not.
    `lambda` falls with every step of training, `max(lambda_min, lambda_max / (1 + lambda_decay * step))`, so that the
    margin comes in slowly. The step is a weight of the layer: it is saved, and resumed, with the others. Outside
    training `lambda` is `lambda_min` from the first step, so that losses of different epochs can be compared.

    Reference:
        Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition": https://arxiv.org/abs/1704.08063

    Args:
        units: Integer. The number of classes.
        margin: Integer from 1 to 8. The angle to the own class must be so many times smaller.
        lambda_max: Float. The weight of the plain logit at step 0.
        lambda_min: Float. Its smallest weight.
        lambda_decay: Float. How fast it falls with the steps.
        kernel_initializer: Initializer of the directions. The default makes their length about one.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units, 2)`: the logits without and with the margin.

    Example:
    >>> lightcnn.layers.ASoftmaxHead(2)(np.ones((1, 80))).shape
    TensorShape([1, 2, 2])
    """

    def __init__(
        self,
        units,
        margin=4,
        lambda_max=1500.0,
        lambda_min=5.0,
        lambda_decay=0.1,
        kernel_initializer="lecun_uniform",
        **kwargs,
    ):
        if not isinstance(margin, int) or not 1 <= margin <= 8:
            raise ValueError(f"`margin` must be an integer from 1 to 8. Received: margin={margin!r}")
        if not 0 <= lambda_min <= lambda_max or lambda_decay < 0:
            raise ValueError(
                "`lambda_min`, `lambda_max` and `lambda_decay` must be at least 0, and `lambda_min` at most "
                f"`lambda_max`. Received: {lambda_min=}, {lambda_max=}, {lambda_decay=}"
            )
        super().__init__(units, kernel_initializer, **kwargs)
        self.margin = margin
        self.lambda_max = lambda_max
        self.lambda_min = lambda_min
        self.lambda_decay = lambda_decay

    def build(self, input_shape):
        super().build(input_shape)
        # In float32, which counts to 16 million; the policy's bfloat16 would stop at 256.
        self.step = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", autocast=False, trainable=False, name="step"
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units, 2)

    def call(self, inputs, training=False):
        plain_weight = self.lambda_min
        if training:
            self.step.assign(self.step + 1.0)
            plain_weight = ops.maximum(self.lambda_max / (1.0 + self.lambda_decay * self.step.value), self.lambda_min)
        length = _length(inputs, axis=-1)
        cosines = ops.clip(ops.matmul(inputs / length, self.directions()), -1.0, 1.0)
        plain_weight = ops.cast(plain_weight, cosines.dtype)
        with_margin = (plain_weight * cosines + self._psi(cosines)) / (1.0 + plain_weight)
        return ops.expand_dims(length, -1) * ops.stack([cosines, with_margin], axis=-1)

    def _psi(self, cosines):
        """Returns psi without ever taking the angle, whose gradient is infinite at cosines of 1 and -1."""
        # cos(n x) = 2 cos(x) cos((n - 1) x) - cos((n - 2) x)
        before, multiple = ops.ones_like(cosines), cosines
        for _ in range(self.margin - 1):
            before, multiple = multiple, 2.0 * cosines * multiple - before
        # k counts the borders pi / margin, 2 pi / margin, ... that the angle has passed. At pi itself one less than
        # the whole part gives the same psi.
        borders = ops.cos(ops.arange(1, self.margin, dtype="float32") * (3.141592653589793 / self.margin))
        k = ops.sum(ops.cast(ops.expand_dims(cosines, -1) <= ops.cast(borders, cosines.dtype), cosines.dtype), axis=-1)
        return (1.0 - 2.0 * (k % 2.0)) * multiple - 2.0 * k

    def get_config(self):
        return {
            **super().get_config(),
            "margin": self.margin,
            "lambda_max": self.lambda_max,
            "lambda_min": self.lambda_min,
            "lambda_decay": self.lambda_decay,
        }


# NII draws the direction of OC-softmax with PyTorch's kaiming_uniform_(a=0.25).
_OC_INITIALIZER = keras.initializers.VarianceScaling(2.0 / (1.0 + 0.25**2), "fan_in", "uniform")

# head -> (layer, units, initializer, how the layer's output becomes the score)
_HEADS = {
    "softmax": (keras.layers.Dense, 2, "glorot_uniform", lambda logits: logits[:, _BONA_FIDE] - logits[:, _SPOOF]),
    "sigmoid": (keras.layers.Dense, 1, "glorot_uniform", lambda logits: logits[:, 0]),
    "a_softmax": (ASoftmaxHead, 2, "lecun_uniform", lambda logits: logits[:, _BONA_FIDE, 0]),
    "am_softmax": (CosineHead, 2, "lecun_uniform", lambda cosines: cosines[:, _BONA_FIDE]),
    "oc_softmax": (CosineHead, 1, _OC_INITIALIZER, lambda cosines: cosines[:, 0]),
    "p2sgrad": (CosineHead, 2, "lecun_uniform", lambda cosines: cosines[:, _BONA_FIDE]),
}
HEADS = tuple(_HEADS)


def _check_head(head):
    if head not in _HEADS:
        raise ValueError(f"`head` must be one of {', '.join(map(repr, HEADS))}. Received: head={head!r}")


def new_head(head, kernel_initializer=None):
    """Returns the layer, named `"head"`, that stands between an embedding and a loss; float32 whatever the policy.

    | head | output | what it is |
    |---|---|---|
    | `"softmax"` | `(batch, 2)` | logits of spoofed and bona fide |
    | `"sigmoid"` | `(batch, 1)` | the logit of bona fide |
    | `"a_softmax"` | `(batch, 2, 2)` | `ASoftmaxHead` |
    | `"am_softmax"`, `"p2sgrad"` | `(batch, 2)` | cosines to spoofed and bona fide |
    | `"oc_softmax"` | `(batch, 1)` | the cosine to bona fide |

    Args:
        head: The name of the head.
        kernel_initializer: Initializer of its kernel, or None for the head's own.

    Returns:
        A Keras layer from `(batch, channels)`.

    Raises:
        ValueError: If there is no such head.

    Example:
    >>> lightcnn.layers.new_head("sigmoid")(np.zeros((1, 96))).shape
    TensorShape([1, 1])
    """
    _check_head(head)
    layer_class, units, default, _ = _HEADS[head]
    kernel_initializer = fresh_initializer(kernel_initializer or default)
    return layer_class(units, kernel_initializer=kernel_initializer, dtype="float32", name="head")


@keras.saving.register_keras_serializable(package="lightcnn")
class BonaFideScore(keras.layers.Layer):
    """The output of a head -> one score a file, higher for bona fide speech.

    | head | score |
    |---|---|
    | `"softmax"` | logit of bona fide minus logit of spoofed |
    | `"sigmoid"` | the logit |
    | `"a_softmax"` | length of the embedding times its cosine to bona fide |
    | `"am_softmax"`, `"oc_softmax"`, `"p2sgrad"` | cosine to bona fide |

    Args:
        head: The name of the head, as in `new_head`.

    Input shape:
        What the head gives.

    Output shape:
        `(batch,)`.

    Example:
    >>> lightcnn.layers.BonaFideScore("softmax")(np.array([[-1.0, 2.0]])).numpy()
    array([3.], dtype=float32)
    """

    def __init__(self, head, **kwargs):
        _check_head(head)
        super().__init__(**kwargs)
        self.head = head

    def compute_output_shape(self, input_shape):
        return (input_shape[0],)

    def call(self, inputs):
        return _HEADS[self.head][-1](inputs)

    def get_config(self):
        return {**super().get_config(), "head": self.head}


def score_of(head, outputs):
    """Turns what a head gives into scores, higher for bona fide speech: `BonaFideScore` as a function.

    Args:
        head: The name of the head, as in `new_head`.
        outputs: What the head gave, an array, a tensor or the symbolic output of a model.

    Returns:
        The scores, `(batch,)`, float32.

    Raises:
        ValueError: If there is no such head.

    Example:
    >>> scored = keras.Model(network.inputs, lightcnn.layers.score_of("p2sgrad", network.output))
    """
    return BonaFideScore(head, dtype="float32", name="score")(outputs)
