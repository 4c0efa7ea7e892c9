"""NII's networks: `stc2019`'s convolutions, and three ways to get from frames to an embedding."""

import keras

from lightcnn.layers import AttentivePooling, FramePooling, MFMDense, RepeatShort, fresh_initializer
from lightcnn.models.image import STC_2019_TRUNK
from lightcnn.models.speech.parts import NORM_WITHOUT_SCALE, ended, fixed_image, trunk

__all__ = ["lcnn_attention", "lcnn_fixed", "lcnn_lstm_sum"]

# head -> (units of lcnn_fixed's dense layer after MFM, size of the embedding; None: no projection)
_NII_SIZES = {
    "softmax": (80, None),
    "sigmoid": (80, None),
    "a_softmax": (256, 64),
    "am_softmax": (256, 64),
    "oc_softmax": (256, 256),
    "p2sgrad": (80, 64),
}


def lcnn_fixed(
    input_shape=(750, 60, 1),
    *,
    head="sigmoid",
    output="raw",
    embedding_size=None,
    hidden_units=None,
    dropout=0.7,
    kernel_initializer="glorot_uniform",
    name="lcnn_fixed",
):
    """Builds NII's LCNN for trimmed and padded files ("LCNN-trim-pad"): `stc2019`'s convolutions, images of one size.

    Batch norm has neither scale nor offset. Dropout stands before the first dense layer.

    | head | units after MFM | embedding |
    |---|---|---|
    | `"sigmoid"`, `"softmax"` | 80 | those 80 |
    | `"p2sgrad"` | 80 | 64 |
    | `"am_softmax"`, `"a_softmax"` | 256 | 64 |
    | `"oc_softmax"` | 256 | 256 |

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection": https://arxiv.org/abs/2103.11326. It has no softmax and A-softmax; they get the sizes of sigmoid
        and AM-softmax.

    Args:
        input_shape: `(frames, features)` or `(frames, features, 1)`, both at least 16.
        head: The head, as in `lightcnn.layers.new_head`; `lightcnn.losses.loss_for` gives its loss.
        output: `"raw"` for what the head gives and its loss takes, `"score"` for one score a file.
        embedding_size: Integer, or None for the head's size in the table.
        hidden_units: Integer, or None for the head's units in the table.
        dropout: Float in [0, 1). The share that training drops.
        kernel_initializer: Initializer of all kernels but the head's.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"features"`, `(batch, frames, features)`, to what the head gives or to `(batch,)`,
        float32. The layer `"embedding"` gives `(batch, embedding_size)`.

    Raises:
        ValueError: If the shape is too small, or a name is unknown.

    Example:
    >>> lightcnn.models.lcnn_fixed(head="p2sgrad").get_layer("embedding").output.shape
    (None, 64)
    """
    default_units, default_size = _nii_sizes(head)
    embedding_size = embedding_size or default_size
    inputs, x = fixed_image(name, input_shape, smallest=16)
    x = trunk(x, STC_2019_TRUNK, kernel_initializer, NORM_WITHOUT_SCALE)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = MFMDense(
        hidden_units or default_units,
        kernel_initializer=fresh_initializer(kernel_initializer),
        name="hidden" if embedding_size else "embedding",
    )(x)
    if embedding_size:
        x = _projection(embedding_size, kernel_initializer)(x)
    return ended(inputs, x, head, output, name)


def lcnn_attention(
    num_features=60,
    *,
    head="sigmoid",
    output="raw",
    embedding_size=None,
    dropout=0.7,
    kernel_initializer="glorot_uniform",
    name="lcnn_attention",
):
    """Builds NII's LCNN with attentive pooling, for files of any length.

    `stc2019`'s convolutions are followed by `AttentivePooling`. A file in a padded batch gets the score that it gets
    alone: padded frames are zero before every convolution, and batch norm and pooling leave them out. Files below 16
    frames are repeated up to 16. Batch norm has neither scale nor offset. The embedding is a projection to 64
    (`"am_softmax"`, `"p2sgrad"`, `"a_softmax"`) or 256 (`"oc_softmax"`) numbers, or what was pooled (`"sigmoid"`,
    `"softmax"`).

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection": https://arxiv.org/abs/2103.11326

    Args:
        num_features: Integer, at least 16. Features of a frame.
        head: The head, as in `lightcnn.layers.new_head`; `lightcnn.losses.loss_for` gives its loss.
        output: `"raw"` for what the head gives and its loss takes, `"score"` for one score a file.
        embedding_size: Integer, or None for the head's size.
        dropout: Float in [0, 1). The share that training drops before the pooling.
        kernel_initializer: Initializer of all kernels but the pooling's and the head's.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"features"`, `(batch, frames, num_features)`, and `"lengths"`, `(batch,)`, int32, the
        frames that are not padding, to what the head gives or to `(batch,)`, float32.

    Raises:
        ValueError: If there are too few features, or a name is unknown.

    Example:
    >>> network = lightcnn.models.lcnn_attention(head="oc_softmax", output="score")
    >>> network([np.zeros((2, 400, 60)), np.array([400, 123])]).shape
    TensorShape([2])
    """
    _, default_size = _nii_sizes(head)
    inputs, x, mask = _any_length_trunk(name, num_features, dropout, kernel_initializer)
    size = embedding_size or default_size
    x = AttentivePooling(name="pooling" if size else "embedding")(x, mask=mask)
    if size:
        x = _projection(size, kernel_initializer)(x)
    return ended(inputs, x, head, output, name)


def lcnn_lstm_sum(
    num_features=60,
    *,
    head="sigmoid",
    output="raw",
    pooling=None,
    embedding_size=None,
    dropout=0.7,
    kernel_initializer="glorot_uniform",
    name="lcnn_lstm_sum",
):
    """Builds NII's LCNN with two bidirectional LSTMs, for files of any length; the baseline of ASVspoof 2021.

    The LSTMs follow `stc2019`'s convolutions; what goes into the first is added to what comes out of the second, and
    pooled over time. With `head="sigmoid"` and 60 features it has 268,961 parameters that train (269,729 in PyTorch,
    whose LSTMs have two biases). The published models pool by the mean with a sigmoid and by the sum with P2SGrad; the
    table's AM- and OC-softmax models are taken to pool by the sum, as their name says.

    Padding, short files, batch norm and the embedding are as in `lcnn_attention`; both directions of the LSTMs leave
    padded frames out.

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection": https://arxiv.org/abs/2103.11326; ASVspoof 2021's baseline LFCC-LCNN

    Args:
        num_features: Integer, at least 16. Features of a frame.
        head: The head, as in `lightcnn.layers.new_head`; `lightcnn.losses.loss_for` gives its loss.
        output: `"raw"` for what the head gives and its loss takes, `"score"` for one score a file.
        pooling: `"mean"`, `"sum"`, or None for the head's.
        embedding_size: Integer, or None for the head's size.
        dropout: Float in [0, 1). The share that training drops before the LSTMs.
        kernel_initializer: Initializer of all kernels but the LSTMs' and the head's.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"features"`, `(batch, frames, num_features)`, and `"lengths"`, `(batch,)`, int32, the
        frames that are not padding, to what the head gives or to `(batch,)`, float32.

    Raises:
        ValueError: If there are too few features, or a name is unknown.

    Example:
    >>> network = lightcnn.models.lcnn_lstm_sum(output="score")
    >>> network([np.zeros((2, 400, 60)), np.array([400, 123])]).shape
    TensorShape([2])
    """
    _, default_size = _nii_sizes(head)
    inputs, x, mask = _any_length_trunk(name, num_features, dropout, kernel_initializer)
    channels = x.shape[-1]
    y = x
    for index in (1, 2):
        lstm = keras.layers.LSTM(channels // 2, return_sequences=True)
        y = keras.layers.Bidirectional(lstm, name=f"lstm_{index}")(y, mask=mask)
    x = keras.layers.Add(name="skip")([x, y])
    size = embedding_size or default_size
    pooling = pooling or ("mean" if head in ("sigmoid", "softmax") else "sum")
    x = FramePooling(pooling, name="pooling" if size else "embedding")(x, mask=mask)
    if size:
        x = _projection(size, kernel_initializer)(x)
    return ended(inputs, x, head, output, name)


def _nii_sizes(head):
    if head not in _NII_SIZES:
        raise ValueError(f"`head` must be one of {', '.join(map(repr, _NII_SIZES))}. Received: head={head!r}")
    return _NII_SIZES[head]


def _any_length_trunk(network, num_features, dropout, kernel_initializer):
    """Returns inputs, frames `(batch, frames / 16, channels)` and their mask."""
    if not isinstance(num_features, int) or num_features < 16:
        raise ValueError(
            f"`num_features` of {network} must be an integer of at least 16, since its four poolings must leave one. "
            f"Received: num_features={num_features!r}"
        )
    features = keras.Input((None, num_features), name="features")
    lengths = keras.Input((), dtype="int32", name="lengths")
    x, valid = RepeatShort(16, name="repeat_short")(features, lengths)
    x = keras.layers.Reshape((-1, num_features, 1), name="image")(x)
    x, mask = trunk(x, STC_2019_TRUNK, kernel_initializer, NORM_WITHOUT_SCALE, valid)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # A frame's numbers in PyTorch's order, channels before features, so that its weights fit.
    x = keras.layers.Permute((1, 3, 2), name="channels_before_features")(x)
    x = keras.layers.Reshape((-1, x.shape[2] * x.shape[3]), name="frames")(x)
    return [features, lengths], x, mask


def _projection(embedding_size, kernel_initializer):
    return keras.layers.Dense(
        embedding_size, kernel_initializer=fresh_initializer(kernel_initializer), name="embedding"
    )
