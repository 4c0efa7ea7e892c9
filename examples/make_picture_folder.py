"""Write some of CIFAR-10's test pictures as PNG files, one folder a class: material for docs/images.md.

usage: python examples/make_picture_folder.py OUTPUT [DATA_DIR]
"""

import sys
from pathlib import Path

from PIL import Image

from lightcnn.datasets import load_images

CLASSES = ("airplane", "frog", "horse", "ship")
PICTURES_A_CLASS = 500


def main(output, data_dir=None):
    data = load_images("cifar10", data_dir)
    for name in CLASSES:
        folder = Path(output) / name
        folder.mkdir(parents=True)
        rows = data.test.rows[data.test.labels == data.labels.index(name)][:PICTURES_A_CLASS]
        for row in rows:
            Image.fromarray(data.test.images[row]).save(folder / f"{row:05}.png")
    print(f"{len(CLASSES)} x {PICTURES_A_CLASS} pictures of {data.name} are in {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
