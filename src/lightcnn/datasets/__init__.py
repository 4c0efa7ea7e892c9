"""Where data come from: file lists and arrays, no Keras."""

from lightcnn.datasets.images import DATASETS, ImageDataset, Split, load_images

__all__ = ["DATASETS", "ImageDataset", "Split", "load_images"]
