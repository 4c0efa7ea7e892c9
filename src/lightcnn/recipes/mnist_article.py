"""MNIST as the article trains it: the baseline.

Source: "Implementierung von Light CNN (Python Keras)": Adam 1e-3, batch 256, 10 epochs, patience 3, pixels / 255

Cost: 139 s of training in float32 on 2 cores of an AMD EPYC, stopped after 7 epochs

Result: test accuracy 98.85 % (one seed); the article's own code 98.87 ± 0.24 % (5 seeds)

Command: lightcnn train mnist_article

Note: the article keeps the last fifth of the training pictures for validation, this recipe a random fifth of each
class; and the article measures its last epoch, a run here its best by validation loss.
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="mnist_article",
    dataset="mnist",
    epochs=10,
    batch_size=256,
    optimizer="adam",
    schedule="constant",
    learning_rate=1e-3,
    label_smoothing=0.0,
    dropout=0.75,
    batch_norm_momentum=0.99,
    kernel_initializer="glorot_uniform",
    normalization="unit",
    validation_fraction=0.2,
    monitor="loss",
    patience=3,
    precision="float32",
)
