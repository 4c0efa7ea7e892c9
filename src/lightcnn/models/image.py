"""Networks that classify pictures."""

import keras
import numpy as np

from lightcnn.layers import BatchNormalization, MFMConv2D, MFMDense, fresh_initializer

__all__ = ["STC_2019_TRUNK", "lcnn", "pixels"]

# kernel size, channels after MFM, max-pooling after it, batch norm after that
STC_2019_TRUNK = (
    (5, 32, True, False),
    (1, 32, False, True),
    (3, 48, True, True),
    (1, 48, False, True),
    (3, 64, True, False),
    (1, 64, False, True),
    (3, 32, False, True),
    (1, 32, False, True),
    (3, 32, True, False),
)
_SMALLEST = 16  # four poolings halve the picture, and one pixel must be left


def lcnn(
    input_shape,
    num_classes,
    *,
    width=1.0,
    dropout=0.75,
    batch_norm_momentum=0.99,
    kernel_initializer="glorot_uniform",
    classifier_activation="softmax",
    scale=1.0,
    offset=0.0,
    name="lcnn",
):
    """Builds the article's LCNN: nine MFM convolutions and two dense layers.

    The defaults are the article's. It is the network of STC at ASVspoof 2019 with batch norm before the dropout.
    The layer `"embedding"` gives 80 features and `"logits"` the scores before the softmax. For `(28, 28, 1)` and 10
    classes it has 164,938 parameters, for `(32, 32, 3)` 183,498 (batch norm's moving statistics included).

    Reference:
        Lavrentyeva et al., "STC Antispoofing Systems for the ASVspoof2019 Challenge", table 1:
        https://arxiv.org/abs/1904.05576; the article's code: https://github.com/ozora-ogino/LCNN

    Args:
        input_shape: `(height, width, channels)`; height and width at least 16 pixels.
        num_classes: Integer, at least 2.
        width: Float. The channels of every convolution are multiplied by it, so parameters by about its square.
        dropout: Float in [0, 1). The share of the 80 features that training drops.
        batch_norm_momentum: Float. Momentum of batch norm's moving statistics.
        kernel_initializer: Initializer of all kernels but the last.
        classifier_activation: `"softmax"` for probabilities, or None for logits.
        scale: Float, or one a channel. Inputs are multiplied by it first.
        offset: Float, or one a channel. It is added after `scale`.
        name: Name of the model.

    Returns:
        A `keras.Model` from `(batch, height, width, channels)` to `(batch, num_classes)`, float32.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.lcnn((28, 28, 1), 10).count_params()
    164938
    """
    if num_classes < 2:
        raise ValueError(f"A classifier needs at least two classes. Received: num_classes={num_classes}")
    if not 1 / 32 <= width <= 64:
        raise ValueError(f"`width` must be from 1/32 (one channel) to 64. Received: width={width}")

    inputs, x = pixels("lcnn", input_shape, _SMALLEST, scale, offset)
    for index, (kernel_size, filters, pooled, normalized) in enumerate(STC_2019_TRUNK, start=1):
        x = MFMConv2D(
            round(width * filters),
            kernel_size,
            kernel_initializer=fresh_initializer(kernel_initializer),
            name=f"conv_{index}",
        )(x)
        if pooled:
            x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"pool_{index}")(x)
        if normalized:
            x = BatchNormalization(momentum=batch_norm_momentum, name=f"norm_{index}")(x)

    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = MFMDense(80, kernel_initializer=fresh_initializer(kernel_initializer), name="embedding")(x)
    x = keras.layers.BatchNormalization(momentum=batch_norm_momentum, name="norm_10")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    if classifier_activation is not None:
        x = keras.layers.Activation(classifier_activation, dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, x, name=name)


def pixels(network, input_shape, smallest, scale, offset):
    """Returns the input of a network that pools four times, and what it is scaled to.

    Args:
        network: The network's name, for the error.
        input_shape: `(height, width, channels)`.
        smallest: The fewest pixels of a side.
        scale: Float, or one a channel. Inputs are multiplied by it first; 1 with an offset of 0 leaves them alone.
        offset: Float, or one a channel. It is added after `scale`.

    Raises:
        ValueError: If the shape does not fit.
    """
    if len(input_shape) != 3 or any(not isinstance(size, int) for size in input_shape):
        raise ValueError(f"`input_shape` must be (height, width, channels). Received: input_shape={input_shape}")
    if min(input_shape[:2]) < smallest or input_shape[2] < 1:
        raise ValueError(
            f"{network} pools four times, so it needs at least {smallest} x {smallest} pixels and one channel. "
            f"Received: input_shape={tuple(input_shape)}. Resize the pictures first."
        )
    inputs = keras.Input(tuple(input_shape), name="pixels")
    scale, offset = np.asarray(scale, float), np.asarray(offset, float)
    if not scale.ndim and not offset.ndim and scale == 1 and offset == 0:
        return inputs, inputs
    # With a number along all three axes, `Rescaling` takes the channels as the last, whatever Keras is set to.
    scale, offset = (value.reshape(1, 1, -1).tolist() if value.ndim else value.tolist() for value in (scale, offset))
    # In float32 whatever the policy: bfloat16 holds 0 to 255 exactly, but not what they are scaled to.
    return inputs, keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(inputs)
