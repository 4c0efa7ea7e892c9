"""The article's LCNN as its own code has it, on plain Keras: what the benchmarks are measured against."""


def article_lcnn(shape, num_classes=10):
    """Returns the network from pictures `(batch, height, width, channels)` to probabilities `(batch, classes)`."""
    import keras
    from keras import layers, ops

    class Maxout(layers.Layer):
        def __init__(self, num_units):
            super().__init__()
            self.num_units = num_units

        def call(self, inputs):
            shape = (-1, *inputs.shape[1:-1], inputs.shape[-1] // self.num_units, self.num_units)
            return ops.max(ops.reshape(inputs, shape), axis=-2)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], self.num_units)

    x = inputs = keras.Input(shape)
    for filters, size, *then in (
        (64, 5, "pool"), (64, 1, "norm"), (96, 3, "pool", "norm"), (96, 1, "norm"), (128, 3, "pool"),
        (128, 1, "norm"), (64, 3, "norm"), (64, 1, "norm"), (64, 3, "pool"),
    ):  # fmt: skip
        x = Maxout(filters // 2)(layers.Conv2D(filters, size, padding="same")(x))
        for name in then:
            x = layers.MaxPooling2D(2)(x) if name == "pool" else layers.BatchNormalization()(x)
    x = Maxout(80)(layers.Dense(160)(layers.Flatten()(x)))
    x = layers.Dropout(0.75)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(num_classes, activation="softmax")(x))
