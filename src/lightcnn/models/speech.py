"""Networks that tell bona fide speech from spoofed, on time-frequency images or, with a front end, on samples.

An image has time first: `(frames, features)`. Every network ends in a layer `"embedding"`, and in a layer `"head"`
that `lightcnn.layers.new_head` describes. Class 1 is bona fide speech and class 0 is spoofed; a score is higher for
bona fide speech.
"""

import keras

from lightcnn.layers import (
    AttentivePooling,
    FrameMask,
    FramePooling,
    MaskedBatchNormalization,
    MaxFeatureMap,
    MFMConv2D,
    MFMDense,
    RepeatShort,
    ZeroPadding,
    fresh_initializer,
    new_head,
    score_of,
)
from lightcnn.models.image import STC_2019_TRUNK

__all__ = ["from_samples", "lcnn_attention", "lcnn_fixed", "lcnn_lstm_sum", "stc2017", "stc2019"]

# kernel size, channels after MFM, max-pooling after it, batch norm after that
_TRUNK_2017 = (
    (5, 16, True, False),
    (1, 16, False, False),
    (3, 24, True, False),
    (1, 24, False, False),
    (3, 32, True, False),
    (1, 32, False, False),
    (3, 16, True, False),
    (1, 16, False, False),
    (3, 16, True, False),
)
_OUTPUTS = ("raw", "score")
# Where dropout stands around stc2019's dense layer, by the layer that comes after it.
_DROPOUT_POSITIONS = ("before_dense", "before_mfm", "before_norm", "after_norm")
# PyTorch's defaults, in Keras' words; the published results of these networks are of PyTorch implementations.
_NORM = {"momentum": 0.9, "epsilon": 1e-5}
_NORM_WITHOUT_SCALE = {**_NORM, "scale": False, "center": False}
# head -> (units of lcnn_fixed's dense layer after MFM, size of the embedding; None: no projection)
_NII_SIZES = {
    "softmax": (80, None),
    "sigmoid": (80, None),
    "a_softmax": (256, 64),
    "am_softmax": (256, 64),
    "oc_softmax": (256, 256),
    "p2sgrad": (80, 64),
}


def stc2019(
    input_shape=(600, 863, 1),
    *,
    head="softmax",
    output="raw",
    dropout=0.75,
    dropout_position="before_norm",
    kernel_initializer="he_normal",
    name="stc2019",
):
    """Builds STC's LCNN of ASVspoof 2019: nine MFM convolutions and two dense layers, on images of one size.

    With `head="softmax"` it has 10,198,818 trainable parameters at 600 frames x 863 bins (10,199,490 with the moving
    statistics of batch norm), and 865,058 at 750 x 60; the order of the axes does not matter. The other heads have no
    bias. The paper's table prints a total of 371K and 64 parameters of the last layer: both are left over from the
    network of 2017 (`stc2017`), and do not fit the printed layers. Its network ended in A-softmax (`"a_softmax"`).

    The paper says that dropout of 0.75 stands before the last batch norm; its readers differ in where. Batch norm has
    PyTorch's momentum and epsilon, the last dense layer the head's initializer.

    Reference:
        Lavrentyeva et al., "STC Antispoofing Systems for the ASVspoof2019 Challenge", table 1:
        https://arxiv.org/abs/1904.05576

    Args:
        input_shape: `(frames, features)` or `(frames, features, 1)`, both at least 16.
        head: The head, as in `lightcnn.layers.new_head`; `lightcnn.losses.loss_for` gives its loss.
        output: `"raw"` for what the head gives and its loss takes, `"score"` for one score a file.
        dropout: Float in [0, 1). The share that training drops.
        dropout_position: `"before_norm"` (dense, MFM, dropout, batch norm), `"after_norm"`, `"before_mfm"` or
            `"before_dense"`.
        kernel_initializer: Initializer of all kernels but the head's.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"features"`, `(batch, frames, features)`, to what the head gives or to `(batch,)`,
        float32. The layer `"embedding"` gives `(batch, 80)`.

    Raises:
        ValueError: If the shape is too small, or a name is unknown.

    Example:
    >>> lightcnn.models.stc2019((750, 60)).count_params()
    865730
    """
    if dropout_position not in _DROPOUT_POSITIONS:
        raise ValueError(
            f"`dropout_position` must be one of {', '.join(map(repr, _DROPOUT_POSITIONS))}. "
            f"Received: dropout_position={dropout_position!r}"
        )
    inputs, x = _fixed_image(name, input_shape, smallest=16)
    x = _trunk(x, STC_2019_TRUNK, kernel_initializer, _NORM)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    layers = (
        keras.layers.Dense(160, kernel_initializer=fresh_initializer(kernel_initializer), name="dense"),
        MaxFeatureMap(name="embedding"),
        keras.layers.BatchNormalization(**_NORM, name="norm_10"),
        keras.layers.Identity(name="normalized"),
    )
    for position, layer in zip(_DROPOUT_POSITIONS, layers, strict=True):
        if position == dropout_position:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        x = layer(x)
    return _ended(inputs, x, head, output, name)


def stc2017(
    input_shape=(400, 864, 1),
    *,
    head="softmax",
    output="raw",
    dropout=0.5,
    kernel_initializer="glorot_uniform",
    name="stc2017",
):
    """Builds STC's LCNN of ASVspoof 2017: nine MFM convolutions without batch norm, on images of one size.

    With `head="softmax"` it has 371,874 parameters at 400 frames x 864 bins, the paper's 371K. Dropout stands before
    the head.

    Reference:
        Lavrentyeva et al., "Audio Replay Attack Detection with Deep Learning Frameworks", Interspeech 2017:
        https://www.isca-archive.org/interspeech_2017/lavrentyeva17_interspeech.html

    Args:
        input_shape: `(frames, features)` or `(frames, features, 1)`, both at least 32.
        head: The head, as in `lightcnn.layers.new_head`; `lightcnn.losses.loss_for` gives its loss.
        output: `"raw"` for what the head gives and its loss takes, `"score"` for one score a file.
        dropout: Float in [0, 1). The share of the embedding that training drops.
        kernel_initializer: Initializer of all kernels but the head's.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"features"`, `(batch, frames, features)`, to what the head gives or to `(batch,)`,
        float32. The layer `"embedding"` gives `(batch, 32)`.

    Raises:
        ValueError: If the shape is too small, or a name is unknown.

    Example:
    >>> lightcnn.models.stc2017().count_params()
    371874
    """
    inputs, x = _fixed_image(name, input_shape, smallest=32)
    x = _trunk(x, _TRUNK_2017, kernel_initializer, _NORM)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = MFMDense(32, kernel_initializer=fresh_initializer(kernel_initializer), name="embedding")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return _ended(inputs, x, head, output, name)


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
    inputs, x = _fixed_image(name, input_shape, smallest=16)
    x = _trunk(x, STC_2019_TRUNK, kernel_initializer, _NORM_WITHOUT_SCALE)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = MFMDense(
        hidden_units or default_units,
        kernel_initializer=fresh_initializer(kernel_initializer),
        name="hidden" if embedding_size else "embedding",
    )(x)
    if embedding_size:
        x = _projection(embedding_size, kernel_initializer)(x)
    return _ended(inputs, x, head, output, name)


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
    return _ended(inputs, x, head, output, name)


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
    return _ended(inputs, x, head, output, name)


def from_samples(front_end, network, name=None):
    """Puts a front end before a network, so that one model goes from samples to scores.

    Args:
        front_end: A layer of `lightcnn.frontends`.
        network: A network of this module. Its layers are shared with the result, not copied.
        name: Name of the model, or None for the network's.

    Returns:
        A `keras.Model` with the network's output. For a network of fixed size it has one input, `"samples"`,
        `(batch, num_samples)`, with the smallest `num_samples` that gives the network's number of frames:
        `model.input_shape[1]`. For a network of any length it has two, `"samples"`, `(batch, samples)`, and
        `"lengths"`, `(batch,)`, int32, the samples that are not padding.

    Raises:
        ValueError: If the front end gives other features than the network takes, or never so many frames.

    Example:
    >>> model = lightcnn.models.from_samples(lightcnn.frontends.lfcc_nii(), lightcnn.models.lcnn_lstm_sum())
    >>> model([np.zeros((2, 64000)), np.array([64000, 16000])]).shape
    TensorShape([2, 1])
    """
    frames, num_features = network.inputs[0].shape[1:3]
    samples = keras.Input((None if frames is None else _num_samples(front_end, frames),), name="samples")
    if frames is None:
        lengths = keras.Input((), dtype="int32", name="lengths")
        inputs, features = [samples, lengths], front_end(samples, lengths)
        network_inputs = [features, front_end.num_frames(lengths)]
    else:
        inputs, features = samples, front_end(samples)
        network_inputs = features
    if features.shape[-1] != num_features:
        raise ValueError(
            f"The network {network.name!r} takes {num_features} features a frame, and the front end "
            f"{front_end.name!r} gives {features.shape[-1]}. Build the network for the front end's number."
        )
    # Not `network(...)`: called in this way its layers become the model's own, so `get_layer` and `freeze` find them.
    return keras.Model(inputs, network.call(network_inputs), name=name or network.name)


def _num_samples(front_end, frames):
    num_samples = front_end.samples_for(frames)
    if front_end.num_frames(num_samples) != frames:
        raise ValueError(
            f"The network takes {frames} frames, and the front end {front_end.name!r} gives "
            f"{front_end.num_frames(num_samples)} for {num_samples} samples and fewer for one sample less. "
            "Build the network for another number of frames."
        )
    return num_samples


def _nii_sizes(head):
    if head not in _NII_SIZES:
        raise ValueError(f"`head` must be one of {', '.join(map(repr, _NII_SIZES))}. Received: head={head!r}")
    return _NII_SIZES[head]


def _fixed_image(network, input_shape, smallest):
    """Returns the input `(batch, frames, features)` and the image `(batch, frames, features, 1)`."""
    shape = tuple(input_shape)
    sizes = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    if len(sizes) != 2 or any(not isinstance(size, int) for size in sizes) or min(sizes) < smallest:
        raise ValueError(
            f"`input_shape` of {network} must be (frames, features) or (frames, features, 1), both at least "
            f"{smallest}, since its poolings must leave one. Received: input_shape={input_shape}"
        )
    inputs = keras.Input(sizes, name="features")
    return inputs, keras.layers.Reshape((*sizes, 1), name="image")(inputs)


def _trunk(x, table, kernel_initializer, norm, lengths=None):
    """Returns what the convolutions of a table make of an image; with `lengths`, its mask too."""
    stride, mask = 1, None
    for index, (kernel_size, filters, pooled, normalized) in enumerate(table, start=1):
        if lengths is not None:
            if mask is None:
                mask = FrameMask(stride, name=f"mask_{index}")(x, lengths)
            if kernel_size > 1:
                x = ZeroPadding(name=f"zero_{index}")(x, mask)
        initializer = fresh_initializer(kernel_initializer)
        x = MFMConv2D(filters, kernel_size, kernel_initializer=initializer, name=f"conv_{index}")(x)
        if pooled:
            x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"pool_{index}")(x)
            stride *= 2
            mask = None if lengths is None else FrameMask(stride, name=f"mask_{index}_pooled")(x, lengths)
        if normalized:
            if mask is None:
                x = keras.layers.BatchNormalization(**norm, name=f"norm_{index}")(x)
            else:
                x = MaskedBatchNormalization(**norm, name=f"norm_{index}")(x, mask)
    return x if lengths is None else (x, mask)


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
    x, mask = _trunk(x, STC_2019_TRUNK, kernel_initializer, _NORM_WITHOUT_SCALE, valid)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # A frame's numbers in PyTorch's order, channels before features, so that its weights fit.
    x = keras.layers.Permute((1, 3, 2), name="channels_before_features")(x)
    x = keras.layers.Reshape((-1, x.shape[2] * x.shape[3]), name="frames")(x)
    return [features, lengths], x, mask


def _projection(embedding_size, kernel_initializer):
    return keras.layers.Dense(
        embedding_size, kernel_initializer=fresh_initializer(kernel_initializer), name="embedding"
    )


def _ended(inputs, x, head, output, name):
    if output not in _OUTPUTS:
        raise ValueError(f"`output` must be one of {', '.join(map(repr, _OUTPUTS))}. Received: output={output!r}")
    x = new_head(head)(x)
    return keras.Model(inputs, score_of(head, x) if output == "score" else x, name=name)
