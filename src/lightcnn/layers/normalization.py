"""Batch norm of images, as Keras has it and faster to train."""

import keras

__all__ = ["BatchNormalization"]


@keras.saving.register_keras_serializable(package="lightcnn")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm, in one operation where TensorFlow trains it on images.

    Keras computes it in a dozen operations, all in float32. TensorFlow's own operation reads and writes what the layer
    gets, such as bfloat16, and computes in float32 too, in one pass. Elsewhere this is Keras' layer.

    Reference:
        Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift":
        https://arxiv.org/abs/1502.03167

    Args:
        momentum, epsilon, center, scale, ...: As in `keras.layers.BatchNormalization`.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        As the input.

    Example:
    >>> lightcnn.layers.BatchNormalization()(np.zeros((2, 8, 8, 3)), training=True).shape
    TensorShape([2, 8, 8, 3])
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and mask is None and self._fits_one_operation(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if self.gamma is None else tf.cast(self.gamma, "float32"),
            offset=tf.zeros(channels) if self.beta is None else tf.cast(self.beta, "float32"),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        # Keras' moving variance is that of the batch, TensorFlow gives its estimate for what the batch is drawn from.
        count = tf.cast(tf.size(inputs) // channels, "float32")
        variance *= (count - 1) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(tf.cast(moving, "float32") * self.momentum + value * (1 - self.momentum))
        return outputs

    def _fits_one_operation(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype)
            == self.compute_dtype
            in ("float16", "bfloat16", "float32")
            and not (self.renorm or self.synchronized)
        )
