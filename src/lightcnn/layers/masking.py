"""What keeps the padding of a batch out of a file's score; and SpecAugment, which hides features in training."""

import keras
from keras import ops

__all__ = ["FeatureMask", "FrameMask", "MaskedBatchNormalization", "RepeatShort", "ZeroPadding"]


def _check_positive(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


@keras.saving.register_keras_serializable(package="lightcnn")
class FrameMask(keras.layers.Layer):
    """Tells which frames of a padded batch are the file's own, also after pooling.

    A pooling that drops the odd frame at the end keeps `length // 2` frames, and `length // stride` after several.

    Args:
        stride: Integer. Frames of `lengths` that one frame here stands for.

    Input shape:
        `features` `(batch, frames, ...)`; `lengths` `(batch,)`, integers, in frames before any pooling.

    Output shape:
        `(batch, frames)`, boolean.

    Example:
    >>> lightcnn.layers.FrameMask(2)(np.zeros((2, 3, 8)), np.array([6, 3])).numpy()
    array([[ True,  True,  True],
           [ True, False, False]])
    """

    def __init__(self, stride=1, **kwargs):
        _check_positive("stride", stride)
        super().__init__(**kwargs)
        self.stride = stride

    def compute_output_shape(self, features_shape, lengths_shape):
        return tuple(features_shape[:2])

    def compute_output_spec(self, features, lengths):
        return keras.KerasTensor(self.compute_output_shape(features.shape, lengths.shape), dtype="bool")

    def call(self, features, lengths):
        frames = ops.arange(ops.shape(features)[1], dtype="int32")
        return frames[None, :] < ops.cast(lengths, "int32")[:, None] // self.stride

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable(package="lightcnn")
class ZeroPadding(keras.layers.Layer):
    """Sets the frames outside a mask to zero, which is what a convolution finds beyond the end of a file alone.

    Input shape:
        `features` `(batch, frames, ...)`; `is_valid` `(batch, frames)`, boolean.

    Output shape:
        As `features`.

    Example:
    >>> lightcnn.layers.ZeroPadding()(np.ones((1, 3, 1)), np.array([[True, True, False]])).numpy().ravel()
    array([1., 1., 0.], dtype=float32)
    """

    def compute_output_shape(self, features_shape, is_valid_shape):
        return tuple(features_shape)

    # Not named `mask`, which Keras would take for a mask that it made itself.
    def call(self, features, is_valid):
        is_valid = ops.reshape(is_valid, (*ops.shape(is_valid), *[1] * (len(features.shape) - 2)))
        # A choice, since a product would keep NaN and infinity of the padding.
        return ops.where(is_valid, features, ops.zeros_like(features))


@keras.saving.register_keras_serializable(package="lightcnn")
class MaskedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm of images, whose statistics in training leave padded frames out.

    Args:
        momentum, epsilon, center, scale, ...: As in `keras.layers.BatchNormalization`.

    Input shape:
        `features` `(batch, frames, height, channels)`; `is_valid` `(batch, frames)`, boolean.

    Output shape:
        As `features`.

    Example:
    >>> is_valid = lightcnn.layers.FrameMask()(images, lengths)
    >>> lightcnn.layers.MaskedBatchNormalization(scale=False, center=False)(images, is_valid)
    """

    # Keras' own `mask` argument would travel on to layers after this one, which have no use for it.
    def call(self, features, is_valid, training=None):
        return super().call(features, training=training, mask=is_valid[..., None])


@keras.saving.register_keras_serializable(package="lightcnn")
class RepeatShort(keras.layers.Layer):
    """Repeats files that are too short for the poolings of a network, from their start, up to a minimum.

    A file of at least `minimum` frames stays as it is. Lengths are first brought into `1 ... frames`, so a file of
    length 0 counts as its first frame.

    Args:
        minimum: Integer. Frames that the network needs.

    Input shape:
        `features` `(batch, frames, num_features)`; `lengths` `(batch,)`, integers, in frames.

    Output shape:
        `(batch, max(frames, minimum), num_features)` and `(batch,)`, int32, at least `minimum`.

    Example:
    >>> features, lengths = lightcnn.layers.RepeatShort(5)(np.array([[[1.0], [2.0], [0.0]]]), np.array([2]))
    >>> features.numpy().ravel(), lengths.numpy()
    (array([1., 2., 1., 2., 1.], dtype=float32), array([5], dtype=int32))
    """

    def __init__(self, minimum=16, **kwargs):
        _check_positive("minimum", minimum)
        super().__init__(**kwargs)
        self.minimum = minimum

    def compute_output_shape(self, features_shape, lengths_shape):
        batch, frames, num_features = features_shape
        return (batch, None if frames is None else max(frames, self.minimum), num_features), tuple(lengths_shape)

    def compute_output_spec(self, features, lengths):
        shape, lengths_shape = self.compute_output_shape(features.shape, lengths.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype), keras.KerasTensor(lengths_shape, dtype="int32")

    def call(self, features, lengths):
        lengths = ops.clip(ops.cast(lengths, "int32"), 1, ops.shape(features)[1])
        frames = ops.arange(self.minimum, dtype="int32")[None, :]
        is_short = lengths[:, None] < self.minimum
        source = ops.where(is_short, frames % lengths[:, None], frames)
        # Only the first `minimum` frames of a row can change; the padding makes sure that there are so many.
        start = ops.pad(features[:, : self.minimum], [[0, 0], [0, self.minimum], [0, 0]])[:, : self.minimum]
        start = ops.take_along_axis(start, source[:, :, None], axis=1)
        return ops.concatenate([start, features[:, self.minimum :]], axis=1), ops.maximum(lengths, self.minimum)

    def get_config(self):
        return {**super().get_config(), "minimum": self.minimum}


@keras.saving.register_keras_serializable(package="lightcnn")
class FeatureMask(keras.layers.Layer):
    """Hides stretches of time and bands of frequency in training, each recording's own (SpecAugment without warping).

    What is hidden gets the recording's mean. Lengths are uniform from 0 to the longest, places uniform too. Stretches
    of time lie within the recording, and its mean is over its own frames, where `lengths` says how many they are.

    Reference:
        Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", section 2:
        https://arxiv.org/abs/1904.08779

    Args:
        max_frames: Integer. The longest stretch of time; 0 for none.
        max_bins: Integer. The widest band; 0 for none.
        num_masks: Integer. Stretches, and bands, in a recording.
        seed: Integer, or None for one that is drawn.

    Input shape:
        `(batch, frames, features)`; and `lengths` `(batch,)`, integers, if recordings are followed by padding.

    Output shape:
        That of the features.

    Example:
    >>> lightcnn.layers.FeatureMask(max_bins=12)(np.ones((1, 400, 60)), training=True).shape
    TensorShape([1, 400, 60])
    """

    def __init__(self, max_frames=0, max_bins=0, num_masks=2, seed=None, **kwargs):
        for name, value in (("max_frames", max_frames), ("max_bins", max_bins)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"`{name}` must be an integer of at least 0. Received: {name}={value!r}")
        _check_positive("num_masks", num_masks)
        super().__init__(**kwargs)
        self.max_frames = max_frames
        self.max_bins = max_bins
        self.num_masks = num_masks
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def compute_output_shape(self, inputs_shape, lengths_shape=None):
        return inputs_shape

    def compute_output_spec(self, inputs, lengths=None, training=False):
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def call(self, inputs, lengths=None, training=False):
        if not training:
            return inputs
        batch, frames, features = ops.shape(inputs)[0], ops.shape(inputs)[1], inputs.shape[2]
        lengths = ops.broadcast_to(frames, (batch,)) if lengths is None else ops.clip(lengths, 1, frames)
        lengths = ops.reshape(ops.cast(lengths, "float32"), (-1, 1, 1))
        widths = ops.full((batch, 1, 1), float(features))
        hidden = ops.expand_dims(self._hidden(frames, lengths, self.max_frames), 2)
        hidden = ops.logical_or(hidden, ops.expand_dims(self._hidden(features, widths, self.max_bins), 1))
        own = ops.reshape(ops.arange(frames, dtype="float32"), (1, -1, 1)) < lengths
        total = ops.sum(ops.where(own, ops.cast(inputs, "float32"), 0.0), axis=(1, 2), keepdims=True)
        mean = ops.cast(total / (lengths * features), inputs.dtype)
        return ops.where(ops.logical_and(hidden, own), mean, inputs)

    def _hidden(self, size, own, longest):
        """Returns `(batch, size)`, true where a mask lies; `own` `(batch, 1, 1)` says how much of it is no padding."""
        shape = (ops.shape(own)[0], self.num_masks, 1)
        length, place = (keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) for _ in range(2))
        position = ops.arange(size, dtype="float32")
        length = ops.floor(length * (ops.minimum(float(longest), own) + 1))
        start = ops.floor(place * (own - length + 1))
        return ops.any(ops.logical_and(position >= start, position < start + length), axis=1)

    def get_config(self):
        return {
            **super().get_config(),
            "max_frames": self.max_frames,
            "max_bins": self.max_bins,
            "num_masks": self.num_masks,
            "seed": self.seed,
        }
