"""The article's MNIST script: only the import of build_lcnn has changed."""

import keras

from lightcnn.article import build_lcnn


def main():
    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    x_train, x_test = x_train[..., None] / 255, x_test[..., None] / 255
    y_train, y_test = keras.utils.to_categorical(y_train), keras.utils.to_categorical(y_test)

    model = build_lcnn((28, 28, 1), n_label=10)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3)
    model.fit(x_train, y_train, epochs=10, batch_size=256, validation_split=0.2, callbacks=[stop])
    print(model.evaluate(x_test, y_test))


if __name__ == "__main__":
    main()
