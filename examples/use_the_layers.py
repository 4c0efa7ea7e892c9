"""A small network of your own, made of MFM layers, trained with plain Keras."""

import keras
import numpy as np

import lightcnn


def main():
    inputs = x = keras.Input((32, 32, 3))
    for filters in (16, 32):
        x = lightcnn.MFMConv2D(filters, 3)(x)
        x = lightcnn.ResidualMFMBlock(filters)(x)
        x = keras.layers.MaxPooling2D()(x)
    x = lightcnn.MFMDense(64)(keras.layers.Flatten()(x))
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    generator = np.random.default_rng(0)  # noise instead of pictures: it shows the shapes, not what can be learned
    model.fit(generator.random((64, 32, 32, 3)), generator.integers(0, 10, 64), epochs=1)
    model.summary()


if __name__ == "__main__":
    main()
