"""A variable number of frames -> one vector."""

import keras
from keras import ops

__all__ = ["AttentivePooling", "FramePooling"]

_MODES = ("mean", "sum")
# The variance of the noise that the original adds before its standard deviation.
_NOISE_VARIANCE = 1e-10


def _check_frames(layer, shape):
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"{layer} needs inputs of shape (batch, frames, channels) whose number of channels is known. "
            f"Received: input_shape={tuple(shape)}"
        )


class _Pooling(keras.layers.Layer):
    """Takes a mask and ends it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        _check_frames(type(self).__name__, input_shape)

    def compute_mask(self, inputs, mask=None):
        return None


@keras.saving.register_keras_serializable(package="lightcnn")
class FramePooling(_Pooling):
    """The mean or the sum over the frames of a file.

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection": https://arxiv.org/abs/2103.11326

    Args:
        mode: `"mean"` or `"sum"`. A sum grows with the length of the file.

    Input shape:
        `(batch, frames, channels)`, and a boolean `mask` `(batch, frames)` of the frames that count, or None for all.

    Output shape:
        `(batch, channels)`.

    Example:
    >>> lightcnn.layers.FramePooling("sum")(np.ones((1, 4, 2)), mask=np.array([[True, True, True, False]])).numpy()
    array([[3., 3.]], dtype=float32)
    """

    def __init__(self, mode="mean", **kwargs):
        if mode not in _MODES:
            raise ValueError(f"`mode` must be one of {', '.join(map(repr, _MODES))}. Received: mode={mode!r}")
        super().__init__(**kwargs)
        self.mode = mode

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def call(self, inputs, mask=None):
        # In float32, since a bfloat16 sum of many frames loses the small ones.
        frames, weights = ops.cast(inputs, "float32"), ops.ones_like(inputs[..., :1], dtype="float32")
        if mask is not None:
            weights = ops.cast(mask, "float32")[..., None]
            frames = ops.where(mask[..., None], frames, 0.0)
        total = ops.sum(frames, axis=1)
        if self.mode == "mean":
            total = total / ops.maximum(ops.sum(weights, axis=1), 1.0)
        return ops.cast(total, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="lightcnn")
class AttentivePooling(_Pooling):
    """Weights frames by what is in them; gives the weighted sum and the standard deviation of the weighted frames.

    A frame's weight is the softmax over the file of `tanh(frame . kernel)`. The deviation is that of the weighted
    frames, not a weighted deviation, as in the original. The original adds noise of deviation 1e-5 before it, so that
    its gradient is finite; here the variance of that noise is added instead, so a score does not depend on chance.
    A file of one frame has no deviation: it is 1e-5, where the original gives NaN.

    Reference:
        Wang, Yamagishi, "A Comparative Study on Recent Neural Spoofing Countermeasures for Synthetic Speech
        Detection", LCNN-attention: https://arxiv.org/abs/2103.11326

    Args:
        kernel_initializer: Initializer of the kernel.

    Input shape:
        `(batch, frames, channels)`, and a boolean `mask` `(batch, frames)` of the frames that count, or None for all.

    Output shape:
        `(batch, 2 * channels)`: sums, then deviations.

    Example:
    >>> lightcnn.layers.AttentivePooling()(np.ones((1, 4, 96))).shape
    TensorShape([1, 192])
    """

    def __init__(self, kernel_initializer="he_uniform", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 1), initializer=self.kernel_initializer, name="kernel", trainable=True
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 2 * input_shape[-1])

    def call(self, inputs, mask=None):
        frames = ops.cast(inputs, "float32")
        is_valid = ops.ones_like(frames[..., :1], dtype="bool") if mask is None else mask[..., None]
        frames = ops.where(is_valid, frames, 0.0)
        # A softmax over time; tanh is from -1 to 1, so its powers are not large and their sum is not small.
        attention = ops.where(is_valid, ops.exp(ops.tanh(ops.matmul(frames, ops.cast(self.kernel, "float32")))), 0.0)
        weighted = frames * attention / ops.maximum(ops.sum(attention, axis=1, keepdims=True), 1e-6)
        count = ops.sum(ops.cast(is_valid, "float32"), axis=1)
        mean = ops.sum(weighted, axis=1, keepdims=True) / ops.maximum(count, 1.0)[:, None]
        squares = ops.sum(ops.where(is_valid, ops.square(weighted - mean), 0.0), axis=1)
        deviation = ops.sqrt(squares / ops.maximum(count - 1.0, 1.0) + _NOISE_VARIANCE)
        return ops.cast(ops.concatenate([ops.sum(weighted, axis=1), deviation], axis=-1), self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
