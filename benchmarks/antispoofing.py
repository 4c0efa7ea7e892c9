"""Countermeasures on a corpus laid out as ASVspoof 2019: this package's recipe beside two baselines, in one run.

    python benchmarks/antispoofing.py asvspoof2019_la --data-dir FOLDER --seeds 1,2,3

The baselines are LFCC-GMM as the challenge had it (128 components a class, diagonal, LFCC of its Matlab code) by
scikit-learn, and an LFCC-LCNN in PyTorch, trained as its authors train it (Adam 3e-4, halved every 10 epochs, binary
cross entropy, whole files padded with zeros, best epoch by dev loss). Systems alternate: seed 1 of each, then seed 2.
Needs the extras `dev` (scikit-learn) and `torch`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record

from lightcnn.datasets import load_speech
from lightcnn.decoding import decode_audio
from lightcnn.evaluation.speech import detection_figures

SAMPLING_RATE = 16000
COMPONENTS = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["asvspoof2019_la", "asvspoof2019_pa"])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--systems", default="lightcnn,gmm,torch")
    parser.add_argument("--torch-epochs", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for lightcnn's recipe")
    parser.add_argument("--keep", type=Path, help="keep lightcnn's run folders here")
    arguments = parser.parse_args()
    data = load_speech(arguments.recipe, arguments.data_dir)
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.keep or Path(temporary)
        systems = {
            "lightcnn": lambda seed: train_lightcnn(arguments, runs, seed),
            "gmm": lambda seed: train_gmm(data, seed),
            "torch": lambda seed: train_torch(data, seed, arguments.torch_epochs),
        }
        results = {name: [] for name in arguments.systems.split(",")}
        for seed in map(int, arguments.seeds.split(",")):
            for name, values in results.items():
                start = time.perf_counter()
                figures, seconds, precision = systems[name](seed)
                values.append((figures, seconds, precision))
                shown = {split: round(100 * own["eer"], 3) for split, own in figures.items()}
                print(f"{name} seed {seed}: EER {shown} %, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for name, values in results.items():
        configuration = f"{arguments.recipe}: {name} on {Path(arguments.data_dir).name}"
        precision = values[0][2]
        if name == "lightcnn":
            configuration = " ".join([configuration, *arguments.set])
        for split in ("validation", "test"):
            rates = [100 * figures[split]["eer"] for figures, _, _ in values]
            record("antispoofing", configuration, f"{split} EER", "%", rates, precision)
        for group in ("per_attack", "per_speaker"):
            for key in values[0][0]["test"][group]:
                rates = [figures["test"][group][key] for figures, _, _ in values]
                if None in rates:  # a speaker without spoofed recordings, or without others
                    continue
                record("antispoofing", configuration, f"test EER {key}", "%", [100 * rate for rate in rates], precision)
        record("antispoofing", configuration, "training time", "s", [seconds for _, seconds, _ in values], precision)


def train_lightcnn(arguments, runs, seed):
    """Trains in a process of its own, as a user does."""
    run = runs / f"{arguments.recipe}-{seed}"
    command = [sys.executable, "-m", "lightcnn", "train", arguments.recipe, "--seed", str(seed), "--run-dir", str(run)]
    command += ["--data-dir", arguments.data_dir, *(part for one in arguments.set for part in ("--set", one))]
    subprocess.run(command, check=True)
    metrics = json.loads((run / "metrics.json").read_text())
    precision = json.loads((run / "recipe.json").read_text())["precision"]
    return {split: metrics[split] for split in ("validation", "test")}, metrics["train_seconds"], precision


def recordings(split):
    return [decode_audio(split.path(row), SAMPLING_RATE) for row in range(len(split))]


# ------------------------------------------------------------------------------------------------------------- GMM


def train_gmm(data, seed):
    import keras
    from sklearn.mixture import GaussianMixture

    from lightcnn.frontends import lfcc_asvspoof2019

    front_end = lfcc_asvspoof2019()

    def features(split):
        return [keras.ops.convert_to_numpy(front_end(samples[None]))[0] for samples in recordings(split)]

    start = time.perf_counter()
    frames = features(data.train)
    models = []
    for label in (1, 0):
        own = np.concatenate(
            [one for one, is_label in zip(frames, data.train.labels == label, strict=True) if is_label]
        )
        mixture = GaussianMixture(
            COMPONENTS, covariance_type="diag", max_iter=100, init_params="k-means++", random_state=seed
        )
        models.append(mixture.fit(own))
    seconds = time.perf_counter() - start
    figures = {}
    for name in ("validation", "test"):
        split = data.split(name)
        scores = [models[0].score(one) - models[1].score(one) for one in features(split)]  # means over frames
        figures[name] = detection_figures(np.array(scores), split)
    return figures, seconds, "float32"


# --------------------------------------------------------------------------------------------------------- PyTorch


def train_torch(data, seed, epochs):
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    generator = np.random.default_rng(seed)

    class MFM(nn.Module):
        def forward(self, x):
            first, second = x.chunk(2, dim=1)
            return torch.maximum(first, second)

    def norm(channels):
        return nn.BatchNorm2d(channels, affine=False)

    class Network(nn.Module):
        """LCNN of nine convolutions and two bidirectional LSTMs; frames x coefficients in, a logit out."""

        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2d(1, 64, 5, padding=2), MFM(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 1), MFM(), norm(32),
                nn.Conv2d(32, 96, 3, padding=1), MFM(), nn.MaxPool2d(2), norm(48),
                nn.Conv2d(48, 96, 1), MFM(), norm(48), nn.Conv2d(48, 128, 3, padding=1), MFM(), nn.MaxPool2d(2),
                nn.Conv2d(64, 128, 1), MFM(), norm(64), nn.Conv2d(64, 64, 3, padding=1), MFM(), norm(32),
                nn.Conv2d(32, 64, 1), MFM(), norm(32), nn.Conv2d(32, 64, 3, padding=1), MFM(), nn.MaxPool2d(2),
                nn.Dropout(0.7),
            )  # fmt: skip
            self.recurrent = nn.ModuleList([nn.LSTM(96, 48, batch_first=True, bidirectional=True) for _ in range(2)])
            self.head = nn.Linear(96, 1)

        def forward(self, features):
            x = self.trunk(features[:, None].contiguous(memory_format=torch.channels_last))
            x = x.permute(0, 2, 1, 3).flatten(2)
            y = x
            for lstm in self.recurrent:
                y, _ = lstm(y)
            return self.head((x + y).mean(dim=1))[:, 0]

    bank, transform = lfcc_matrices(torch)

    def lfcc(samples):
        """LFCC with energy and two orders of deltas of one recording: (frames, 60)."""
        x = torch.from_numpy(samples)[None]
        x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], dim=1)
        window = torch.hamming_window(320)
        spectrum = torch.stft(x, 512, 160, 320, window, center=True, pad_mode="constant", return_complex=True)
        power = spectrum.abs().square()[0].T
        cepstra = torch.log10(power @ bank + 2.0**-23) @ transform
        cepstra[:, 0] = torch.log10(power.sum(dim=1) / 512 + 2.0**-23)

        def delta(y):
            padded = torch.cat([y[:1], y, y[-1:]])
            return padded[2:] - padded[:-2]

        first = delta(cepstra)
        return torch.cat([cepstra, first, delta(first)], dim=1)

    def batches(features, size, shuffled):
        order = np.argsort([len(one) for one in features], kind="stable")
        groups = np.array_split(order, -(-len(order) // size))
        for index in generator.permutation(len(groups)) if shuffled else range(len(groups)):
            chosen = groups[index]
            yield chosen, nn.utils.rnn.pad_sequence([features[row] for row in chosen], batch_first=True)

    start = time.perf_counter()
    features = {name: [lfcc(one) for one in recordings(data.split(name))] for name in ("train", "validation")}
    labels = {name: torch.from_numpy(data.split(name).labels.astype(np.float32)) for name in features}
    network, loss = Network(), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    best = (np.inf, None)
    for _ in range(epochs):
        network.train()
        for rows, padded in batches(features["train"], 32, True):
            optimizer.zero_grad()
            loss(network(padded), labels["train"][rows]).backward()
            optimizer.step()
        schedule.step()
        network.eval()
        with torch.no_grad():
            total = sum(
                float(loss(network(padded), labels["validation"][rows])) * len(rows)
                for rows, padded in batches(features["validation"], 32, False)
            )
        if total < best[0]:
            best = (total, {name: value.clone() for name, value in network.state_dict().items()})
    seconds = time.perf_counter() - start
    network.load_state_dict(best[1])
    features["test"] = [lfcc(one) for one in recordings(data.test)]
    with torch.no_grad():
        figures = {}
        for name in ("validation", "test"):
            scores = np.array([float(network(one[None])) for one in features[name]])
            figures[name] = detection_figures(scores, data.split(name))
    return figures, seconds, "float32"


def lfcc_matrices(torch):
    """Returns 20 triangles from 0 to 8,000 Hz, (257, 20), and the orthonormal DCT-II, (20, 20)."""
    corners, bins = np.linspace(0, 8000, 22), np.linspace(0, 8000, 257)
    rise = (bins[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    fall = (corners[2:] - bins[:, None]) / np.diff(corners)[1:]
    bank = np.maximum(np.minimum(rise, fall), 0)
    order = np.arange(20)
    transform = np.cos(np.pi * (order[:, None] + 0.5) * order / 20) * np.sqrt(2 / 20)
    transform[:, 0] /= np.sqrt(2)
    return torch.from_numpy(bank.astype(np.float32)), torch.from_numpy(transform.astype(np.float32))


if __name__ == "__main__":
    main()
