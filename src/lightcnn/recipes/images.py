"""Your own pictures: a folder with one sub-folder a class.

Source: the article's layers, and one cycle of AdamW; pictures are fitted into 64 x 64 pixels

Cost: depends on your pictures, and grows with their number and the square of image_size

Result: depends on your pictures; docs/images.md shows a run

Command: lightcnn train images --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="images",
    dataset="images",
    epochs=30,
    batch_size=32,
    learning_rate=2e-3,
    weight_decay=0.02,
    dropout=0.5,
    max_shift=6,
    flip=True,
    validation_fraction=0.15,
    test_fraction=0.15,
    image_size=64,
)
