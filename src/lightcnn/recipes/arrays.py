"""Your own arrays: an .npz file with x_train, y_train, x_test, y_test.

Source: the article's layers, and one cycle of AdamW; no mirroring, small shifts

Cost: depends on your arrays; at 28 x 28 pixels as much a picture and epoch as the recipe mnist

Result: depends on your arrays

Command: lightcnn train arrays --data-dir FILE.npz
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="arrays",
    dataset="arrays",
    epochs=20,
    batch_size=128,
    learning_rate=4e-3,
    weight_decay=0.02,
    dropout=0.5,
    max_shift=2,
    validation_fraction=0.1,
)
