"""The article's own names, for readers who come from it: change the imports and nothing else.

from lightcnn.article import Maxout, MaxOutConv2D, MaxOutDense, build_lcnn
"""

import keras

from lightcnn.layers import Maxout
from lightcnn.models import lcnn

__all__ = ["MaxOutConv2D", "MaxOutDense", "Maxout", "build_lcnn"]


def MaxOutConv2D(x, dim, kernel_size, strides, padding="same"):  # noqa: N802  the article's name
    """Applies a convolution with `dim` filters and keeps `dim // 2` channels.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        dim: Integer, even. Filters before Maxout.
        kernel_size: Integer or pair of integers, in pixels.
        strides: Integer or pair of integers, in pixels.
        padding: `"same"` or `"valid"`.

    Returns:
        Tensor `(batch, new_height, new_width, dim // 2)`.
    """
    convolved = keras.layers.Conv2D(
        dim, kernel_size=kernel_size, strides=strides, padding=padding, data_format="channels_last"
    )(x)
    return Maxout(dim // 2)(convolved)


def MaxOutDense(x, dim):  # noqa: N802  the article's name
    """Applies a dense layer with `dim` units and keeps `dim // 2`.

    Args:
        x: Tensor `(batch, channels)`.
        dim: Integer, even. Units before Maxout.

    Returns:
        Tensor `(batch, dim // 2)`.
    """
    return Maxout(dim // 2)(keras.layers.Dense(dim)(x))


def build_lcnn(shape, n_label=2):
    """Builds the article's network, `lightcnn.models.lcnn` with its defaults.

    Args:
        shape: `(height, width, channels)`, at least 16 x 16 pixels.
        n_label: Integer. Number of labels.

    Returns:
        A `keras.Model` that ends in a softmax.

    Example:
    >>> build_lcnn((28, 28, 1), n_label=10).count_params()
    164938
    """
    return lcnn(tuple(shape), n_label)
