"""The article's own names, for readers who come from it: change the imports and nothing else.

from lightcnn.article import Maxout, MaxOutConv2D, MaxOutDense, build_lcnn
"""

import keras
from keras import ops

from lightcnn.models import lcnn

__all__ = ["MaxOutConv2D", "MaxOutDense", "Maxout", "build_lcnn"]


@keras.saving.register_keras_serializable(package="lightcnn")
class Maxout(keras.layers.Layer):
    """Keeps the maximum over groups of channels so that `num_units` remain.

    With `2 * num_units` channels it is `MaxFeatureMap`; it also takes any multiple of `num_units` and any axis. At a
    tie the gradient goes to the first group.

    Reference:
        Goodfellow et al., "Maxout Networks": https://arxiv.org/abs/1302.4389

    Args:
        num_units: Integer. Channels that remain; it must divide the number of channels.
        axis: Integer. The axis of the channels.

    Input shape:
        `(batch, ..., channels, ...)`.

    Output shape:
        As the input, with `num_units` channels.

    Example:
    >>> Maxout(2)(np.array([[1.0, 5.0, 3.0, 2.0]])).numpy()
    array([[3., 5.]], dtype=float32)
    """

    def __init__(self, num_units, axis=-1, **kwargs):
        if not isinstance(num_units, int) or num_units < 1:
            raise ValueError(f"`num_units` must be a positive integer. Received: num_units={num_units!r}")
        super().__init__(**kwargs)
        self.num_units = num_units
        self.axis = axis

    def build(self, input_shape):
        channels = input_shape[self.axis]
        if channels is None or channels % self.num_units:
            raise ValueError(
                f"Maxout needs a known number of channels that num_units={self.num_units} divides. "
                f"Received: input_shape={tuple(input_shape)}, axis={self.axis}"
            )

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        shape[self.axis] = self.num_units
        return tuple(shape)

    def call(self, inputs):
        groups = ops.split(inputs, inputs.shape[self.axis] // self.num_units, axis=self.axis)
        largest = groups[0]
        for group in groups[1:]:
            largest = ops.where(largest >= group, largest, group)
        return largest

    def get_config(self):
        return {**super().get_config(), "num_units": self.num_units, "axis": self.axis}


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
