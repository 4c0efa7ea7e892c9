"""What a report shows of a countermeasure."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets import SpeechDataset, SpeechSplit
from lightcnn.decoding import decode_audio
from lightcnn.metrics import det_curve, eer_interval
from lightcnn.reporting.page import draw_det, histogram, new_figure, plot, plotted, section, table

__all__ = ["CURVES_NOTE", "headline", "sections"]

CURVES_NOTE = (
    "Training figures are taken while the epoch runs, on crops and with dropout; validation figures after it, on the "
    "beginnings of the recordings. Accuracy is at the head's own threshold."
)
_WORST = 6
_SHOWN_S = 4.0
_RATE = 16000


def headline(figures: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """Returns the figures of a split that a reader wants first."""
    shown = (
        ("eer", f"equal error rate on {split}, {figures['utterances']:,} recordings", ".2%"),
        ("min_tdcf", "min t-DCF (2021)", ".4f"),
        ("min_tdcf_legacy", "min t-DCF (2019)", ".4f"),
        ("min_dcf", "min DCF (ASVspoof 5)", ".4f"),
        ("act_dcf", "actual DCF after calibration", ".4f"),
        ("cllr", "Cllr after calibration, bits", ".4f"),
        ("accuracy", "accuracy at the model's threshold", ".2%"),
    )
    return [(f"{figures[key]:{form}}", text) for key, text, form in shown if figures[key] is not None]


def sections(data: SpeechDataset, split_name: str, scores: NDArray[Any], figures: dict[str, Any]) -> list[str]:
    """Returns the sections on error rates, scores, attacks, speakers and the worst errors."""
    split = data.split(split_name)
    bona_fide = split.labels == 1
    parts = []
    if figures["eer"] is not None:
        low, high = eer_interval(scores[bona_fide], scores[~bona_fide])
        note = f"<p>EER {figures['eer']:.2%}; with 95 % confidence between {low:.2%} and {high:.2%} (bootstrap).</p>"
        parts.append(section(f"Error rates ({split_name})", _det(scores, bona_fide) + note))
    parts.append(section("Scores", _histogram(scores, bona_fide, figures["threshold"])))
    groups = (("attack", "per_attack"), ("speaker", "per_speaker"), ("condition", "per_condition"))
    for name, key in groups:
        if figures[key]:
            parts.append(section(f"Per {name}", _rates(name, figures[key], getattr(split, f"{name}s").values, split)))
    parts.append(section(f"Worst errors ({split_name})", _worst(split, scores, figures)))
    return parts


def _det(scores: NDArray[Any], bona_fide: NDArray[np.bool_]) -> str:
    misses, acceptances, _ = det_curve(scores[bona_fide], scores[~bona_fide])
    figure = new_figure(4.8, 4.4)
    draw_det(figure.subplots(), misses, acceptances, missed="bona fide rejected", accepted="spoofed accepted")
    return plot(figure, "detection error trade-off")


def _histogram(scores: NDArray[Any], bona_fide: NDArray[np.bool_], threshold: float) -> str:
    return histogram(
        scores,
        bona_fide,
        threshold,
        labels=("bona fide", "spoofed"),
        score="score (higher = more bona fide)",
        share="share of the class, %",
        legend="upper center",
    )


def _rates(name: str, rates: dict[str, Any], groups: NDArray[Any], split: SpeechSplit) -> str:
    rows = [
        (group, f"{(groups == group).sum():,}", "one class only" if rate is None else f"{rate:.2%}")
        for group, rate in rates.items()
    ]
    against = "all bona fide recordings" if name == "attack" else f"the bona fide recordings of the same {name}"
    return table((name, "recordings", "EER"), rows) + f"<p>Spoofed recordings of each, against {against}.</p>"


def _worst(split: SpeechSplit, scores: NDArray[Any], figures: dict[str, Any]) -> str:
    """Shows spectrograms of the recordings that are farthest on the wrong side of the threshold."""
    bona_fide = split.labels == 1
    wrong = np.flatnonzero((scores > figures["threshold"]) != bona_fide)
    margins = np.where(bona_fide, 1, -1) * (scores - figures["threshold"])
    if not len(wrong):
        return "<p>None: every recording is on its side of the threshold.</p>"
    worst, names = wrong[np.argsort(margins[wrong], kind="stable")[:_WORST]], split.names
    figure = new_figure(9.5, 2.6 * ((len(worst) + 1) // 2))
    for axes, row in zip(figure.subplots((len(worst) + 1) // 2, 2, squeeze=False).flat, worst, strict=False):
        axes.imshow(_spectrogram(split, int(row)), aspect="auto", origin="lower", extent=(0, _SHOWN_S, 0, _RATE / 2000))
        kind = "bona fide" if split.labels[row] else f"spoofed ({split.attacks[row]})"
        axes.set_title(plotted(f"{names[row]}: {kind}, score {scores[row]:.3g}"), fontsize=9, parse_math=False)
        axes.set(xlabel="s", ylabel="kHz")
    if len(worst) % 2:
        figure.axes[-1].set_visible(False)
    figure.tight_layout()
    told = html.escape(f"{len(wrong):,} of {len(split):,} are on the wrong side of the model's threshold.")
    return f"<p>{told}</p>" + plot(figure, "spectrograms of the worst errors")


def _spectrogram(split: SpeechSplit, row: int) -> NDArray[np.float64]:
    """Returns decibels `(bins, frames)` of the first seconds, silence where the recording is shorter."""
    shown = np.zeros(int(_SHOWN_S * _RATE))
    samples = decode_audio(split.path(row), _RATE, num_samples=len(shown))
    shown[: len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(shown, 512)[::160] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    level = 10 * np.log10(power + 1e-10)
    shown_level: NDArray[np.float64] = np.maximum(level, level.max() - 80).T
    return shown_level
