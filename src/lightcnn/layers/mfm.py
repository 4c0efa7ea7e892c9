"""The Max-Feature-Map family: the one idea that every network here is built from."""

from functools import reduce

import keras
from keras import ops

__all__ = ["MFMConv2D", "MFMDense", "MaxFeatureMap", "Maxout", "ResidualMFMBlock", "fresh_initializer"]


@ops.custom_gradient
def _maximum(first, second):
    # The backends disagree on the gradient of `maximum` at a tie (TensorFlow: all to the first, JAX and PyTorch:
    # half to each). Written out, it is the paper's everywhere, and one multiplication instead of two selections.
    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        to_first = upstream * ops.cast(first >= second, upstream.dtype)
        return to_first, upstream - to_first

    return ops.maximum(first, second), gradient


def _maximum_and_median(first, second, third):
    larger = _maximum(first, second)
    smaller = ops.where(first >= second, second, first)
    maximum = _maximum(larger, third)
    median = ops.where(larger >= third, ops.where(smaller >= third, smaller, third), larger)
    return ops.concatenate([maximum, median], axis=-1)


# groups in -> (groups out, function of the groups)
_COMPETITIONS = {2: (1, _maximum), 3: (2, _maximum_and_median)}


def fresh_initializer(initializer):
    """Returns an initializer for one more kernel: drawn twice from one object, two kernels would be equal.

    With a seed of its own the new one draws the same too.
    """
    initializer = keras.initializers.get(initializer)
    return initializer.clone() if isinstance(initializer, keras.initializers.Initializer) else initializer


def _check_num_groups(num_groups):
    if not isinstance(num_groups, int) or num_groups not in _COMPETITIONS:
        raise ValueError(
            "`num_groups` must be 2 (MFM 2/1: the maximum of two groups of channels) or 3 (MFM 3/2: the maximum and "
            f"the median of three). Received: num_groups={num_groups!r}"
        )


def _channels_before_mfm(name, value, num_groups):
    _check_num_groups(num_groups)
    kept = _COMPETITIONS[num_groups][0]
    if not isinstance(value, int) or value < 1 or value % kept:
        raise ValueError(
            f"`{name}` is the number of channels after MFM and must be a positive integer divisible by {kept} with "
            f"num_groups={num_groups}. Received: {name}={value!r}"
        )
    return value // kept * num_groups


@keras.saving.register_keras_serializable(package="lightcnn")
class MaxFeatureMap(keras.layers.Layer):
    """Lets groups of channels compete and keeps the larger responses (MFM).

    The layer selects features where ReLU only thresholds them, and it makes the number of channels smaller.
    With `num_groups=2` (MFM 2/1), channel `c` of the first half competes with channel `c` of the second half, and
    the maximum stays. With `num_groups=3` (MFM 3/2), three thirds compete, and their maxima, then their medians stay.
    At a tie the whole gradient goes to the earlier group, on every backend (the paper: 1 where `x^k >= x^(k+N)`).

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", equations 1 to 3:
        https://arxiv.org/abs/1511.02683

    Args:
        num_groups: Integer, 2 or 3. The number of groups that compete.

    Input shape:
        `(batch, ..., channels)`; `channels` must be known and divisible by `num_groups`.

    Output shape:
        `(batch, ..., channels / 2)`, or `(batch, ..., channels * 2 / 3)` with `num_groups=3`. A mask passes through.

    Example:
    >>> lightcnn.layers.MaxFeatureMap()(np.array([[1.0, 5.0, 3.0, 2.0]])).numpy()
    array([[3., 5.]], dtype=float32)
    """

    def __init__(self, num_groups=2, **kwargs):
        _check_num_groups(num_groups)
        super().__init__(**kwargs)
        self.num_groups = num_groups
        self.supports_masking = True

    def build(self, input_shape):
        channels = input_shape[-1] if len(input_shape) > 1 else None
        if channels is None or channels % self.num_groups:
            raise ValueError(
                f"MaxFeatureMap needs inputs of shape (batch, ..., channels) whose number of channels is known and "
                f"divisible by num_groups={self.num_groups}. Received: input_shape={tuple(input_shape)}"
            )

    def compute_output_shape(self, input_shape):
        kept = _COMPETITIONS[self.num_groups][0]
        return (*input_shape[:-1], input_shape[-1] // self.num_groups * kept)

    def call(self, inputs):
        return _COMPETITIONS[self.num_groups][1](*ops.split(inputs, self.num_groups, axis=-1))

    def get_config(self):
        return {**super().get_config(), "num_groups": self.num_groups}


@keras.saving.register_keras_serializable(package="lightcnn")
class MFMConv2D(keras.layers.Layer):
    """A 2-D convolution followed by Max-Feature-Map.

    `filters` counts the channels that come out, as in the papers' tables: `MFMConv2D(32, 5)` convolves with 64
    filters and keeps 32. Data are channels-last.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels":
        https://arxiv.org/abs/1511.02683

    Args:
        filters: Integer. Channels after MFM.
        kernel_size: Integer or pair of integers, in pixels.
        strides: Integer or pair of integers, in pixels.
        padding: `"same"` or `"valid"`.
        num_groups: Integer, 2 or 3, as in `MaxFeatureMap`. With 3, `filters` must be even.
        use_bias: Boolean. Whether the convolution has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Optional regularizer of the kernel.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Example:
    >>> lightcnn.layers.MFMConv2D(32, 5)(np.zeros((1, 28, 28, 1))).shape
    TensorShape([1, 28, 28, 32])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="same",
        num_groups=2,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        **kwargs,
    ):
        channels = _channels_before_mfm("filters", filters, num_groups)
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.num_groups = num_groups
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.convolution = keras.layers.Conv2D(
            channels,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="convolution",
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.input_spec = self.convolution.input_spec

    def compute_output_shape(self, input_shape):
        return (*self.convolution.compute_output_shape(input_shape)[:-1], self.filters)

    def call(self, inputs):
        # One convolution for each group: after a single one, TensorFlow copies the groups apart, and their gradients
        # together again, in passes over memory of their own.
        kernels = ops.split(self.convolution.kernel, self.num_groups, axis=-1)
        groups = [self.convolution.convolution_op(inputs, kernel) for kernel in kernels]
        if self.use_bias:
            biases = ops.split(self.convolution.bias, self.num_groups)
            groups = [ops.add(group, bias) for group, bias in zip(groups, biases, strict=True)]
        return _COMPETITIONS[self.num_groups][1](*groups)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "num_groups": self.num_groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class MFMDense(keras.layers.Layer):
    """A dense layer followed by Max-Feature-Map.

    `units` counts what comes out, as in the papers' tables: `MFMDense(80)` computes 160 values and keeps 80.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels":
        https://arxiv.org/abs/1511.02683

    Args:
        units: Integer. Units after MFM.
        num_groups: Integer, 2 or 3, as in `MaxFeatureMap`. With 3, `units` must be even.
        use_bias: Boolean. Whether the dense layer has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Optional regularizer of the kernel.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        `(batch, ..., units)`.

    Example:
    >>> lightcnn.layers.MFMDense(80)(np.zeros((1, 32))).shape
    TensorShape([1, 80])
    """

    def __init__(
        self,
        units,
        num_groups=2,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        **kwargs,
    ):
        channels = _channels_before_mfm("units", units, num_groups)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.num_groups = num_groups
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.dense = keras.layers.Dense(
            channels,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.activation = MaxFeatureMap(num_groups, dtype=self.dtype_policy, name="activation")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.activation.build(self.dense.compute_output_shape(input_shape))

    def compute_output_shape(self, input_shape):
        return self.activation.compute_output_shape(self.dense.compute_output_shape(input_shape))

    def call(self, inputs):
        return self.activation(self.dense(inputs))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "num_groups": self.num_groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@keras.saving.register_keras_serializable(package="lightcnn")
class ResidualMFMBlock(keras.layers.Layer):
    """Two MFM convolutions added to their input, as in Light CNN-29.

    There is no activation and no batch norm after the sum. Data are channels-last.

    Reference:
        Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", table 3:
        https://arxiv.org/abs/1511.02683

    Args:
        filters: Integer. Channels in and out.
        kernel_size: Integer or pair of integers, in pixels.
        kernel_initializer: Initializer of both kernels.
        kernel_regularizer: Optional regularizer of both kernels.

    Input shape:
        `(batch, height, width, filters)`.

    Output shape:
        As the input.

    Example:
    >>> lightcnn.layers.ResidualMFMBlock(48)(np.zeros((1, 64, 64, 48))).shape
    TensorShape([1, 64, 64, 48])
    """

    def __init__(self, filters, kernel_size=3, kernel_initializer="glorot_uniform", kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.first, self.second = (
            MFMConv2D(
                filters,
                kernel_size,
                kernel_initializer=fresh_initializer(self.kernel_initializer),
                kernel_regularizer=self.kernel_regularizer,
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("first", "second")
        )

    def build(self, input_shape):
        if input_shape[-1] != self.filters:
            raise ValueError(
                f"ResidualMFMBlock adds its input to its output, so it needs `filters`={self.filters} channels in. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.first.build(input_shape)
        self.second.build(input_shape)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        return inputs + self.second(self.first(inputs))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


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
    >>> lightcnn.layers.Maxout(2)(np.array([[1.0, 5.0, 3.0, 2.0]])).numpy()
    array([[3., 5.]], dtype=float32)
    """

    def __init__(self, num_units, axis=-1, **kwargs):
        if not isinstance(num_units, int) or num_units < 1:
            raise ValueError(f"`num_units` must be a positive integer. Received: num_units={num_units!r}")
        super().__init__(**kwargs)
        self.num_units = num_units
        self.axis = axis

    def build(self, input_shape):
        channels = input_shape[self.axis] if -len(input_shape) <= self.axis < len(input_shape) else None
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
        return reduce(_maximum, ops.split(inputs, inputs.shape[self.axis] // self.num_units, axis=self.axis))

    def get_config(self):
        return {**super().get_config(), "num_units": self.num_units, "axis": self.axis}
