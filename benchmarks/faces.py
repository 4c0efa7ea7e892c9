"""Verification of people whom training did not see, on the AT&T faces (ORL): Light CNN-9 beside two baselines.

    python benchmarks/faces.py --data-dir FILE_OR_FOLDER_WITH_orl_faces.npz --seeds 1,2,3

The subjects 0 to 29 are for training, 30 to 39 for the 4,950 pairs of the figures (450 genuine, 4,500 impostor pairs,
which show a FAR of 1 % and no less). The baselines are eigenfaces (scikit-learn's PCA, fitted on the 300 training
pictures) and histograms of oriented gradients (scikit-image), both compared by the cosine; what they have to be told
(components, whitening; cells, blocks, whether the mean of the training pictures is taken off) is chosen on the training
subjects, six of them left out at a time. The recipe `faces` was tuned in the same way: SETTINGS is what suits 270
pictures instead of millions. Needs scikit-image and scikit-learn besides.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record
from skimage.feature import hog
from sklearn.decomposition import PCA

from lightcnn.datasets import load_orl
from lightcnn.datasets.faces.loading import centre_of, load_faces
from lightcnn.inference import Predictor
from lightcnn.metrics import cosine_similarity, eer, pair_scores, tar_at_far

SETTINGS = (
    "image_size=72",
    "crop_size=64",
    "epochs=40",
    "batch_size=32",
    "optimizer=adamw",
    "schedule=one_cycle",
    "learning_rate=1e-3",
    "weight_decay=0.05",
    "kernel_initializer=lecun_normal",
    "max_rotation_degrees=10",
    "max_zoom=0.1",
    "label_smoothing=0.1",
    "monitor=loss",
    "calibration_fraction=0",  # all 30 subjects train: no figure here needs a threshold
)
LEFT_OUT = 6  # training subjects, to choose settings on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the recipe, last")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    arguments = parser.parse_args()
    faces = load_orl(arguments.data_dir)
    results = {"light_cnn_9": [], "light_cnn_9, flip averaging": []}
    seconds, precision = [], ""
    with tempfile.TemporaryDirectory() as temporary:
        for seed in arguments.seeds.split(","):
            run = (arguments.keep or Path(temporary)) / f"faces-{seed}"
            settings = [part for one in (*SETTINGS, *arguments.set) for part in ("--set", one)]
            command = [sys.executable, "-m", "lightcnn", "train", "faces", "--seed", seed, "--run-dir", str(run)]
            subprocess.run([*command, "--data-dir", str(arguments.data_dir), *settings], check=True)
            recipe = json.loads((run / "recipe.json").read_text())
            seconds.append(json.loads((run / "metrics.json").read_text())["train_seconds"])
            precision = recipe["precision"]
            for name, flip in zip(results, (False, True), strict=True):
                results[name].append(rates_of(faces, embeddings_of(run, recipe, arguments.data_dir, flip)))
    baselines = {
        "eigenfaces": (eigenfaces, itertools.product((20, 40, 60, 80, 120, 200), (False, True))),
        "HOG": (gradients, itertools.product((6, 8, 10, 12, 16), (1, 2, 3), (False, True))),
    }
    for name, (features, choices) in baselines.items():
        start = time.perf_counter()
        choice = min(choices, key=lambda choice: error_on_training(faces, features, choice))
        values = features(faces.images[faces.train], faces.images, *choice)
        results[f"{name} {choice}"] = [rates_of(faces, values)]
        print(f"{name}: {choice} chosen in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for name, rates in results.items():
        own = "light_cnn" in name
        configuration = " ".join([f"{name} on the AT&T faces", *(arguments.set if own else ())])
        for figure, values in zip(("EER", "TPR at FAR 1 %"), zip(*rates, strict=True), strict=True):
            record("faces", configuration, figure, "%", [100 * value for value in values], precision if own else "")
    record("faces", "light_cnn_9 on the AT&T faces", "training time", "s", seconds, precision)


def rates_of(faces, features):
    """Returns the EER and the TPR at FAR 1 % of the protocol's pairs; `features` are those of all 400 pictures."""
    scores = cosine_similarity(features[faces.first], features[faces.second])
    genuine, impostor = scores[faces.same], scores[~faces.same]
    return eer(genuine, impostor)[0], tar_at_far(genuine, impostor, 0.01)[0]


def embeddings_of(run, recipe, data_dir, flip):
    """Embeds the test pictures as `lightcnn` decodes them; the rows of others stay zero, and no pair needs them."""
    predictor = Predictor.load(run)
    test = load_faces(data_dir, image_size=recipe["image_size"]).test
    features = np.zeros((len(test.images), predictor.features), np.float32)
    features[test.rows] = predictor.embed_arrays(centre_of(test.take(slice(None)), recipe["crop_size"]), flip)
    return features


def eigenfaces(training, pictures, components, whiten):
    fitted = PCA(components, whiten=whiten, random_state=0).fit(training.reshape(len(training), -1) / 255)
    return fitted.transform(pictures.reshape(len(pictures), -1) / 255)


def gradients(training, pictures, cell, block, centred):
    def features(images):
        cells, blocks = (cell, cell), (block, block)
        return np.stack([hog(one, pixels_per_cell=cells, cells_per_block=blocks) for one in images])

    return features(pictures) - (features(training).mean(axis=0) if centred else 0)


def error_on_training(faces, features, choice):
    """Returns the mean EER of training subjects, six left out at a time; the test's subjects have no say."""
    images, subjects = faces.images[faces.train], faces.subjects[faces.train]
    shuffled = np.random.default_rng(0).permutation(np.unique(subjects))
    rates = []
    for start in range(0, len(shuffled), LEFT_OUT):
        held_out = np.isin(subjects, shuffled[start : start + LEFT_OUT])
        values = features(images[~held_out], images[held_out], *choice)
        rates.append(eer(*pair_scores(values, subjects[held_out]))[0])
    return float(np.mean(rates))


if __name__ == "__main__":
    main()
