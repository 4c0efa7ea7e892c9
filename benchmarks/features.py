"""Speed of front ends beside librosa's, spafe's and torchaudio's, and of a whole model, in seconds of audio per second.

    python benchmarks/features.py --peers /path/to/python/with/librosa/spafe/torchaudio

Each measurement runs in a process of its own; they alternate, `--repeats` times. One process computes features of a
batch of noise (16 rows of 4 s at 16 kHz; librosa in one call, spafe, which takes one file, in 16) after one pass to
warm up, and reports the best of 20 passes. Peers have the frames, window, FFT and numbers of filters and coefficients
of `lfcc_nii`; librosa has no LFCC, so its MFCC stands for it. Without `--peers` only this project is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time

ROWS, SECONDS, RATE = 16, 4, 16000
FRONT_ENDS = (
    "lfcc_asvspoof2019", "lfcc_nii", "lfcc_asvspoof2021", "lfcc_gmm2021", "lfb_nii", "spectrum_nii",
    "stc2019_fft", "stc2017_fft", "stc2019_cqt", "stc2019_dct", "cqcc_asvspoof2019",
)  # fmt: skip
WHOLE_MODEL = "lcnn_lstm_sum on lfcc_nii"  # from samples to score
PEERS = ("librosa", "spafe", "torchaudio")


def ours(name):
    import keras
    import numpy as np

    from lightcnn import models
    from lightcnn.frontends import PRESETS

    if name == WHOLE_MODEL:
        model = models.from_samples(PRESETS["lfcc_nii"](), models.lcnn_lstm_sum())
        lengths = np.full(ROWS, SECONDS * RATE, "int32")
        model.compile(jit_compile=False)
        return lambda samples: model.predict_on_batch([samples, lengths])
    samples = keras.Input((None,))
    model = keras.Model(samples, PRESETS[name]()(samples))
    model.compile(jit_compile=False)
    return model.predict_on_batch


def librosa():
    import librosa
    import numpy as np

    def features(samples):
        cepstra = librosa.feature.mfcc(
            y=samples, sr=RATE, n_mfcc=20, n_mels=20, n_fft=512, win_length=320, hop_length=160, window="hamming"
        )
        deltas = [librosa.feature.delta(cepstra, width=3, order=order, mode="nearest") for order in (1, 2)]
        return np.concatenate([cepstra, *deltas], axis=-2)

    return features


def spafe():
    from spafe.features.lfcc import lfcc
    from spafe.utils.preprocessing import SlidingWindow

    window = SlidingWindow(0.02, 0.01, "hamming")

    def features(samples):  # no deltas: spafe has none
        return [lfcc(row, RATE, 20, window=window, nfilts=20, nfft=512) for row in samples]

    return features


def torchaudio():
    import torch
    from torchaudio.functional import compute_deltas
    from torchaudio.transforms import LFCC

    spectrum = {"n_fft": 512, "win_length": 320, "hop_length": 160, "window_fn": torch.hamming_window}
    transform = LFCC(RATE, n_filter=20, n_lfcc=20, log_lf=True, speckwargs=spectrum)

    def features(samples):
        with torch.inference_mode():
            cepstra = transform(torch.from_numpy(samples))
            deltas = compute_deltas(cepstra, win_length=3)
            return torch.cat([cepstra, deltas, compute_deltas(deltas, win_length=3)], dim=-2).numpy()

    return features


def measure(way):
    import numpy as np

    samples = 0.1 * np.random.default_rng(0).normal(size=(ROWS, SECONDS * RATE)).astype("float32")
    features = {"librosa": librosa, "spafe": spafe, "torchaudio": torchaudio}[way]() if way in PEERS else ours(way)
    features(samples)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        features(samples)
        seconds.append(time.perf_counter() - start)
    return ROWS * SECONDS / min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", help="the Python of an environment with librosa, spafe and torchaudio")
    parser.add_argument("--front-ends", default=",".join(FRONT_ENDS), help="separated by commas")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.one))
        return
    from record import record  # only here: the peers' environment has no lightcnn

    ways = dict.fromkeys([*arguments.front_ends.split(","), WHOLE_MODEL], sys.executable)
    if arguments.peers:
        ways |= dict.fromkeys(PEERS, arguments.peers)
    speeds = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way, python in ways.items():
            output = subprocess.run(
                [python, __file__, "--one", way],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            ).stdout
            speeds[way].append(float(json.loads(output.split()[-1])))
    for way, values in speeds.items():
        label = f"{way}'s {'MFCC' if way == 'librosa' else 'LFCC'}" if way in PEERS else way
        record("feature speed", f"{label}, {ROWS} x {SECONDS} s", "speed", "s of audio/s", values, "float32")


if __name__ == "__main__":
    main()
