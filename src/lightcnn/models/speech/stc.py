"""STC's networks of ASVspoof 2017 and 2019, on images of one size."""

import keras

from lightcnn.layers import MaxFeatureMap, MFMDense, fresh_initializer
from lightcnn.models.image import STC_2019_TRUNK
from lightcnn.models.speech.parts import NORM, ended, fixed_image, trunk

__all__ = ["stc2017", "stc2019"]

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
# Where dropout stands around stc2019's dense layer, by the layer that comes after it.
_DROPOUT_POSITIONS = ("before_dense", "before_mfm", "before_norm", "after_norm")


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
    statistics of batch norm), and 865,058 at 750 x 60; the order of the axes does not matter. The heads of cosines and
    angles have no bias. The paper's table prints a total of 371K and 64 parameters of the last layer: both are left
    over from the network of 2017 (`stc2017`), and do not fit the printed layers. Its network ended in A-softmax
    (`"a_softmax"`).

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
    inputs, x = fixed_image(name, input_shape, smallest=16)
    x = trunk(x, STC_2019_TRUNK, kernel_initializer, NORM)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    layers = (
        keras.layers.Dense(160, kernel_initializer=fresh_initializer(kernel_initializer), name="dense"),
        MaxFeatureMap(name="embedding"),
        keras.layers.BatchNormalization(**NORM, name="norm_10"),
        keras.layers.Identity(name="normalized"),
    )
    for position, layer in zip(_DROPOUT_POSITIONS, layers, strict=True):
        if position == dropout_position:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        x = layer(x)
    return ended(inputs, x, head, output, name)


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
    inputs, x = fixed_image(name, input_shape, smallest=32)
    x = trunk(x, _TRUNK_2017, kernel_initializer, NORM)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = MFMDense(32, kernel_initializer=fresh_initializer(kernel_initializer), name="embedding")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return ended(inputs, x, head, output, name)
