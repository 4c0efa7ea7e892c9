"""The five Light CNNs for faces: a picture of an aligned face in, 256 features out."""

from dataclasses import dataclass

import keras

from lightcnn.layers import MFMConv2D, MFMDense, ResidualMFMBlock, fresh_initializer
from lightcnn.models.image import pixels

__all__ = [
    "FACE_PRESETS",
    "FacePreset",
    "light_cnn_4",
    "light_cnn_9",
    "light_cnn_29",
    "light_cnn_29v2",
    "light_cnn_v4",
]


@dataclass(frozen=True)
class FacePreset:
    """What a released model was trained on, and so what it must be given.

    The pictures are crops of a face that is upright: its eyes are level, and the middle of the mouth's corners is
    `eye_mouth_distance` below the middle of the eyes, which is `eye_row` below the upper edge, halfway across.

    Attributes:
        input_shape: `(height, width, channels)` in pixels.
        colour: `"grey"` (ITU-R 601), or `"BGR"`: the order of the channels.
        scale: Pixels from 0 to 255 are multiplied by it; no mean is taken off.
        eye_mouth_distance: In pixels, called `ec_mc_y` by the authors.
        eye_row: In pixels, called `ec_y` by the authors.
        training_size: Height and width of the pictures that training takes crops of `input_shape` from.
        training_eye_row: `eye_row` in those. Their centre crop is the picture above.
    """

    input_shape: tuple[int, int, int] = (128, 128, 1)
    colour: str = "grey"
    scale: float = 1 / 255
    eye_mouth_distance: float = 48.0
    eye_row: float = 40.0
    training_size: int = 144
    training_eye_row: float = 48.0


# Light CNN-4 was trained with 1/256, and its author tells users to give it grey in [0, 1]: 0.4 % apart.
FACE_PRESETS = {
    "light_cnn_4": FacePreset(),
    "light_cnn_9": FacePreset(),
    "light_cnn_29": FacePreset(),
    "light_cnn_29v2": FacePreset(),
    "light_cnn_v4": FacePreset(input_shape=(128, 128, 3), colour="BGR"),
}

_FEATURES = 256


def _maximum_pool(x, name):
    # The released networks round up: "same" does, since what it pads comes after the last pixel.
    return keras.layers.MaxPooling2D(2, padding="same", data_format="channels_last", name=name)(x)


def _maximum_and_average_pool(x, name):
    # Their sum, as released; ports that take the mean of both halve every stage. These two round down.
    maximum = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"{name}_maximum")(x)
    average = keras.layers.AveragePooling2D(2, data_format="channels_last", name=f"{name}_average")(x)
    return keras.layers.Add(name=name)([maximum, average])


# Light CNN-4: kernel size, channels after MFM. A pooling follows each.
_CONVOLUTIONS = ((9, 48), (5, 96), (5, 128), (4, 192))
_SMALLEST_4 = 57  # one pixel is left for conv4
# The others' conv2 to conv5: channels after MFM, the pooling after it.
_STAGES = ((96, "pool2"), (192, "pool3"), (128, None), (128, "pool4"))
_SMALLEST = 16  # four poolings halve the picture, and one pixel must be left
# Kernel size of conv1, residual blocks before each of conv2 to conv5, a 1x1 convolution before each of them, pooling,
# dense layer, bias of the classifier.
_NETWORKS = {
    "light_cnn_9": (5, (0, 0, 0, 0), True, _maximum_pool, MFMDense, True),
    "light_cnn_29": (5, (1, 2, 3, 4), True, _maximum_pool, MFMDense, True),
    "light_cnn_29v2": (5, (1, 2, 3, 4), True, _maximum_and_average_pool, keras.layers.Dense, False),
    "light_cnn_v4": (3, (1, 2, 3, 4), False, _maximum_and_average_pool, keras.layers.Dense, True),
}


def light_cnn_4(
    input_shape=(128, 128, 1),
    num_classes=None,
    *,
    include_top=True,
    dropout=0.7,
    kernel_initializer="glorot_uniform",
    scale=1.0,
    offset=0.0,
    name="light_cnn_4",
):
    """Builds Light CNN-4: four MFM convolutions without padding, max-pooling after each, and a dense layer with MFM.

    At `(128, 128, 1)` it has 4,098,048 parameters without a classifier; the paper's table counts 4,095K, without
    biases. The last pooling takes 9 x 9 to 5 x 5.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", table 1:
        https://arxiv.org/abs/1511.02683

    Args:
        input_shape: `(height, width, channels)`; height and width at least 57 pixels.
        num_classes: Integer, at least 2: the identities that training tells apart. None for the embedding alone.
        include_top: Boolean. False leaves the classifier out whatever `num_classes` is.
        dropout: Float in [0, 1). The share of the embedding that training drops before the classifier.
        kernel_initializer: Initializer of all kernels but the classifier's.
        scale: Float, or one a channel. Inputs are multiplied by it first; `FACE_PRESETS` has the released models'.
        offset: Float, or one a channel. It is added after `scale`.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"pixels"`, `(batch, height, width, channels)`, to logits `(batch, num_classes)`, or to
        the embedding `(batch, 256)` without a classifier; float32. The layers `"embedding"` and `"logits"` give both.
        Embeddings are compared by their cosine.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.light_cnn_4().count_params()
    4098048
    """
    inputs, x = pixels(name, input_shape, _SMALLEST_4, scale, offset)
    for index, (kernel_size, filters) in enumerate(_CONVOLUTIONS, start=1):
        x = _convolution(filters, kernel_size, kernel_initializer, f"conv{index}", padding="valid")(x)
        x = _maximum_pool(x, f"pool{index}")
    return _ended(inputs, x, MFMDense, num_classes if include_top else None, True, dropout, kernel_initializer, name)


def light_cnn_9(
    input_shape=(128, 128, 1),
    num_classes=None,
    *,
    include_top=True,
    dropout=0.5,
    kernel_initializer="glorot_uniform",
    scale=1.0,
    offset=0.0,
    name="light_cnn_9",
):
    """Builds Light CNN-9: nine MFM convolutions, four max-poolings, and a dense layer with MFM.

    At `(128, 128, 1)` it has 5,480,864 parameters without a classifier, and 25,803,653 with the 79,077 classes of the
    release. The paper's table counts 5,556K, since it takes conv2 with 96 channels in where there are 48.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", table 2:
        https://arxiv.org/abs/1511.02683

    Args:
        input_shape: `(height, width, channels)`; height and width at least 16 pixels.
        num_classes: Integer, at least 2: the identities that training tells apart. None for the embedding alone.
        include_top: Boolean. False leaves the classifier out whatever `num_classes` is.
        dropout: Float in [0, 1). The share of the embedding that training drops before the classifier: 0.5 in the
            released PyTorch code, 0.7 and 0.75 in the Caffe one.
        kernel_initializer: Initializer of all kernels but the classifier's.
        scale: Float, or one a channel. Inputs are multiplied by it first; `FACE_PRESETS` has the released models'.
        offset: Float, or one a channel. It is added after `scale`.
        name: Name of the model.

    Returns:
        A `keras.Model` from `"pixels"`, `(batch, height, width, channels)`, to logits `(batch, num_classes)`, or to
        the embedding `(batch, 256)` without a classifier; float32. The layers `"embedding"` and `"logits"` give both.
        Embeddings are compared by their cosine.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.light_cnn_9().count_params()
    5480864
    """
    num_classes = num_classes if include_top else None
    return _network("light_cnn_9", input_shape, num_classes, dropout, kernel_initializer, scale, offset, name)


def light_cnn_29(
    input_shape=(128, 128, 1),
    num_classes=None,
    *,
    include_top=True,
    dropout=0.5,
    kernel_initializer="glorot_uniform",
    scale=1.0,
    offset=0.0,
    name="light_cnn_29",
):
    """Builds Light CNN-29: Light CNN-9 with one, two, three and four residual blocks before conv2 to conv5.

    At `(128, 128, 1)` it has 12,573,280 parameters without a classifier, and 32,896,069 with the 79,077 classes of the
    release. The paper's table counts 12,637K; see `light_cnn_9`. The embedding is what comes before the dropout.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", table 3:
        https://arxiv.org/abs/1511.02683

    Args:
        input_shape: As in `light_cnn_9`.
        num_classes: As in `light_cnn_9`.
        include_top: As in `light_cnn_9`.
        dropout: As in `light_cnn_9`.
        kernel_initializer: As in `light_cnn_9`.
        scale: As in `light_cnn_9`.
        offset: As in `light_cnn_9`.
        name: Name of the model.

    Returns:
        A `keras.Model`, as `light_cnn_9` does.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.light_cnn_29().count_params()
    12573280
    """
    num_classes = num_classes if include_top else None
    return _network("light_cnn_29", input_shape, num_classes, dropout, kernel_initializer, scale, offset, name)


def light_cnn_29v2(
    input_shape=(128, 128, 1),
    num_classes=None,
    *,
    include_top=True,
    dropout=0.5,
    kernel_initializer="glorot_uniform",
    scale=1.0,
    offset=0.0,
    name="light_cnn_29v2",
):
    """Builds Light CNN-29v2: Light CNN-29 that pools by the sum of maximum and average, and embeds without MFM.

    At `(128, 128, 1)` it has 10,475,872 parameters without a classifier, and 30,959,200 with the 80,013 classes of the
    release. The classifier has no bias.

    Source:
        The authors' released PyTorch code; the paper describes it nowhere.

    Args:
        input_shape: As in `light_cnn_9`. Poolings leave the last row or column of an odd size out.
        num_classes: As in `light_cnn_9`.
        include_top: As in `light_cnn_9`.
        dropout: As in `light_cnn_9`.
        kernel_initializer: As in `light_cnn_9`.
        scale: As in `light_cnn_9`.
        offset: As in `light_cnn_9`.
        name: Name of the model.

    Returns:
        A `keras.Model`, as `light_cnn_9` does.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.light_cnn_29v2().count_params()
    10475872
    """
    num_classes = num_classes if include_top else None
    return _network("light_cnn_29v2", input_shape, num_classes, dropout, kernel_initializer, scale, offset, name)


def light_cnn_v4(
    input_shape=(128, 128, 3),
    num_classes=None,
    *,
    include_top=True,
    dropout=0.5,
    kernel_initializer="glorot_uniform",
    scale=1.0,
    offset=0.0,
    name="light_cnn_v4",
):
    """Builds Light CNN v4: Light CNN-29v2 for colour, with a first kernel of 3 x 3 and without 1x1 convolutions.

    At `(128, 128, 3)` it has 10,345,600 parameters without a classifier. The released model takes the channels as blue,
    green, red, and has no classifier; `num_classes` adds one with a bias.

    Source:
        The authors' released PyTorch code; the paper describes it nowhere.

    Args:
        input_shape: As in `light_cnn_9`. Poolings leave the last row or column of an odd size out.
        num_classes: As in `light_cnn_9`.
        include_top: As in `light_cnn_9`.
        dropout: As in `light_cnn_9`.
        kernel_initializer: As in `light_cnn_9`.
        scale: As in `light_cnn_9`.
        offset: As in `light_cnn_9`.
        name: Name of the model.

    Returns:
        A `keras.Model`, as `light_cnn_9` does.

    Raises:
        ValueError: If the shape or the number of classes does not fit.

    Example:
    >>> lightcnn.models.light_cnn_v4().count_params()
    10345600
    """
    num_classes = num_classes if include_top else None
    return _network("light_cnn_v4", input_shape, num_classes, dropout, kernel_initializer, scale, offset, name)


def _network(variant, input_shape, num_classes, dropout, kernel_initializer, scale, offset, name):
    kernel_size, blocks, narrowed, pool, dense, classifier_bias = _NETWORKS[variant]
    inputs, x = pixels(name, input_shape, _SMALLEST, scale, offset)
    x = pool(_convolution(48, kernel_size, kernel_initializer, "conv1")(x), "pool1")
    for index, (num_blocks, (filters, pooling)) in enumerate(zip(blocks, _STAGES, strict=True), start=2):
        channels = x.shape[-1]
        for block in range(1, num_blocks + 1):
            initializer = fresh_initializer(kernel_initializer)
            x = ResidualMFMBlock(channels, kernel_initializer=initializer, name=f"conv{index}_{block}")(x)
        if narrowed:
            x = _convolution(channels, 1, kernel_initializer, f"conv{index}a")(x)
        x = _convolution(filters, 3, kernel_initializer, f"conv{index}")(x)
        if pooling:
            x = pool(x, pooling)
    return _ended(inputs, x, dense, num_classes, classifier_bias, dropout, kernel_initializer, name)


def _convolution(filters, kernel_size, kernel_initializer, name, padding="same"):
    initializer = fresh_initializer(kernel_initializer)
    return MFMConv2D(filters, kernel_size, padding=padding, kernel_initializer=initializer, name=name)


def _ended(inputs, x, dense, num_classes, classifier_bias, dropout, kernel_initializer, name):
    """Returns the model from `inputs` through the last feature map `x` to the embedding, or on to logits."""
    if num_classes is not None and num_classes < 2:
        raise ValueError(
            f"A classifier needs at least two classes; None leaves it out. Received: num_classes={num_classes}"
        )
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    # In float32 whatever the policy: faces are told apart by small differences between embeddings.
    initializer = fresh_initializer(kernel_initializer)
    x = dense(_FEATURES, kernel_initializer=initializer, dtype="float32", name="embedding")(x)
    if num_classes is not None:
        x = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(x)
        x = keras.layers.Dense(num_classes, use_bias=classifier_bias, dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name=name)
