"""MNIST and CIFAR-10 from every place that has them, always the same arrays, or an error.

Each source is verified by SHA-256 of pixels and labels. MNIST's values belong to the original IDX files (MD5 of the
un-gzipped files: 6bbc9ace..., a25bea73..., 2646ac64..., 27ae3e4e...). CIFAR-10's are those of the six files of the
binary version, as others publish them (ankane/torchvision-ruby, among others); every source is brought into that
layout before it is compared.
"""

from lightcnn.datasets.published.arrays import Track, array_digest, keras_cache, read_npz, untracked
from lightcnn.datasets.published.cifar10_files import CIFAR10_LABELS, cifar10
from lightcnn.datasets.published.mnist_files import mnist

__all__ = ["CIFAR10_LABELS", "Track", "array_digest", "cifar10", "keras_cache", "mnist", "read_npz", "untracked"]
