"""CIFAR-10 as the article trains it: the baseline.

Source: "Implementierung von Light CNN (Python Keras)": Adam 1e-3, batch 64, 100 epochs, patience 5, pixels / 255

Cost: 448 s of training in float32 on 2 cores of an AMD EPYC, stopped after 18 epochs

Result: test accuracy 71.4 % on CIFAR-10 (JPEG copy) (one seed); the article's own code 62.9 ± 5.5 % (5 seeds)

Command: lightcnn train cifar10_article

Note: the article keeps the last fifth of the training pictures for validation, this recipe a random fifth of each
class; and the article measures its last epoch, a run here its best by validation loss.
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="cifar10_article",
    dataset="cifar10",
    epochs=100,
    batch_size=64,
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
    patience=5,
    precision="float32",
)
