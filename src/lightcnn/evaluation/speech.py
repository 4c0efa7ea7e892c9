"""Figures of a countermeasure, and the files that the challenges ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.calibration import Calibration, fit_calibration
from lightcnn.datasets import CORPORA, SpeechDataset, SpeechSplit, find_corpora
from lightcnn.datasets.scores import read_asv_scores
from lightcnn.errors import BadFilesError, DataError
from lightcnn.files import write_rows, write_text
from lightcnn.inference.speech import SpeechPredictor
from lightcnn.metrics import act_dcf, asv_error_rates, cllr, eer, eer_per_group, min_cllr, min_dcf, min_t_dcf
from lightcnn.progress import ProgressBar
from lightcnn.runs import Recipe

__all__ = [
    "calibrate",
    "dataset_in",
    "detection_figures",
    "figures_of",
    "measure",
    "told",
    "write_scores",
    "write_submission",
]

_KEYS = ("spoof", "bonafide")
# what needs recordings of both classes, in the order of `metrics.json`
_OF_BOTH_CLASSES = (
    *("eer", "eer_threshold", "min_tdcf_legacy", "min_tdcf", "min_dcf", "act_dcf", "cllr", "min_cllr"),
    *("per_attack", "per_speaker", "per_condition"),
)
_TRACKS = {CORPORA[f"asvspoof2019_{track.lower()}"].title: track for track in ("LA", "PA")}


def dataset_in(recipe: Recipe, data_dir: Path | str) -> str:
    """Returns the name of the corpus in a folder: the recipe's own where it is there, else the one that is.

    Raises:
        DataError: If there are several others.
    """
    found = find_corpora(Path(data_dir))
    if recipe.dataset in found or not found:
        return recipe.dataset
    if len(found) > 1:
        raise DataError(f"{data_dir} holds several corpora: {', '.join(found)}. Name the folder of one of them.")
    return found[0]


def measure(predictor: SpeechPredictor, data: SpeechDataset, name: str, bar: ProgressBar) -> NDArray[np.float64]:
    """Returns the scores of a split's recordings, `(recordings,)`.

    Raises:
        BadFilesError: If recordings could not be read.
    """
    split = data.split(name)
    scores, failures = np.zeros(len(split)), []
    rows = predictor.predict(split.path(row) for row in range(len(split)))
    for row, found in enumerate(bar.track(rows, len(split), f"Evaluating on {name}")):
        if "error" in found:
            failures.append((Path(found["file"]), found["error"]))
        else:
            scores[row] = found["score"]
    if failures:
        hint = (
            "Mend them, or take them out of the list: a score file must be complete. A test split that the corpus or "
            "the list names can then be measured with `lightcnn evaluate RUN --data-dir DIR`; otherwise train again. "
            "`lightcnn check DIR --decode` finds such files before training."
        )
        raise BadFilesError(failures, hint)
    return scores


def figures_of(
    predictor: SpeechPredictor, data: SpeechDataset, name: str, scores: NDArray[np.float64]
) -> dict[str, Any]:
    """Returns the figures of a split from its scores, with the predictor's threshold and calibration."""
    return detection_figures(
        scores, data.split(name), predictor.threshold, predictor.calibration, _asv_scores(data, name)
    )


def detection_figures(
    scores: NDArray[np.float64],
    split: SpeechSplit,
    threshold: float = 0.0,
    calibration: Calibration | None = None,
    asv_scores: Path | None = None,
) -> dict[str, Any]:
    """Returns all figures of one split as plain JSON types; fractions, never per cent.

    Args:
        scores: `(recordings,)`, higher = more bona fide.
        split: The recordings.
        threshold: Scores above it count as bona fide in `accuracy`.
        calibration: Makes the LLRs of `act_dcf` and `cllr`; without it these are None.
        asv_scores: The scores of a speaker verification system, for the t-DCFs; without it these are None.

    Returns:
        `eer` and the other figures of `lightcnn.scoring.score`, with `per_attack`, `per_speaker` and `per_condition`;
        an EER that has no meaning, since a group lacks one of the classes, is None.
    """
    bona_fide = split.labels == 1
    figures: dict[str, Any] = {
        "utterances": len(split),
        "bona_fide": int(bona_fide.sum()),
        "accuracy": float(((scores > threshold) == bona_fide).mean()),
        "threshold": threshold,
        **dict.fromkeys(_OF_BOTH_CLASSES),
    }
    if not 0 < bona_fide.sum() < len(split):
        return figures
    positives, negatives = scores[bona_fide], scores[~bona_fide]
    figures["eer"], figures["eer_threshold"] = eer(positives, negatives)
    if asv_scores:
        asv = asv_error_rates(*read_asv_scores(asv_scores))
        figures["min_tdcf_legacy"] = min_t_dcf(positives, negatives, asv, form="legacy")[0]
        figures["min_tdcf"] = min_t_dcf(positives, negatives, asv, form="revised")[0]
    if calibration is not None:
        llrs = calibration.llr(positives), calibration.llr(negatives)
        figures["act_dcf"], figures["cllr"] = act_dcf(*llrs), cllr(*llrs)
    return figures | {
        "min_dcf": min_dcf(positives, negatives)[0],
        "min_cllr": min_cllr(positives, negatives),
        "per_attack": eer_per_group(positives, negatives, split.attacks.values[~bona_fide]),
        "per_speaker": _per_group(scores, bona_fide, split.speakers.values),
        "per_condition": _per_group(scores, bona_fide, split.conditions.values),
    }


def _per_group(scores: NDArray[np.float64], bona_fide: NDArray[np.bool_], groups: NDArray[Any]) -> dict[str, Any]:
    """Returns the EER within each group, None for one with a single class; nothing if there is one group."""
    rates = eer_per_group(scores[bona_fide], scores[~bona_fide], groups[~bona_fide], groups[bona_fide])
    return {str(name): None if math.isnan(rate) else rate for name, rate in rates.items()} if len(rates) > 1 else {}


def _asv_scores(data: SpeechDataset, name: str) -> Path | None:
    """Finds the official ASV scores that ASVspoof 2019 comes with, in a folder beside its protocols."""
    official, track = {"validation": "dev", "test": "eval"}.get(name), _TRACKS.get(data.name)
    file = data.source / f"ASVspoof2019_{track}_asv_scores" / f"ASVspoof2019.{track}.asv.{official}.gi.trl.scores.txt"
    return file if official and track and file.is_file() else None


def calibrate(split: SpeechSplit, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Returns what a model file keeps of its validation scores: the threshold of the EER, and the map to LLRs."""
    bona_fide = split.labels == 1
    if not 0 < bona_fide.sum() < len(split) or not np.ptp(scores):
        return {}
    positives, negatives = scores[bona_fide], scores[~bona_fide]
    return {
        "threshold": eer(positives, negatives)[1],
        "threshold_from": "equal error rate on validation",
        "calibration": fit_calibration(positives, negatives).to_json(),
    }


def told(figures: dict[str, Any]) -> str:
    """Returns the figures that a line of progress has room for."""
    if figures["eer"] is None:
        return f"accuracy {figures['accuracy']:.2%}"
    return f"EER {figures['eer']:.2%}, min DCF {figures['min_dcf']:.4f}, accuracy {figures['accuracy']:.2%}"


def write_scores(path: Path, split: SpeechSplit, scores: NDArray[np.float64], labels: tuple[str, ...]) -> None:
    """Writes every recording's score as CSV, and beside it the official four columns of ASVspoof 2019."""
    header = ["utterance", "speaker", "condition", "attack", "label", "score (higher = more bona fide)"]
    columns = (split.speakers, split.conditions, split.attacks)
    rows = (
        [name, *(column[row] for column in columns), labels[split.labels[row]], f"{scores[row]:.9g}"]
        for row, name in enumerate(split.names)
    )
    write_rows(path, header, rows)
    write_submission(path.with_suffix(".txt"), split, scores, "asvspoof2019")


def _with_key(split: SpeechSplit, scores: NDArray[np.float64]) -> Iterator[str]:
    for row, name in enumerate(split.names):
        yield f"{_word(name)} {_word(split.attacks[row])} {_KEYS[split.labels[row]]} {scores[row]:.9g}"


def _alone(split: SpeechSplit, scores: NDArray[np.float64]) -> Iterator[str]:
    for name, score in zip(split.names, scores, strict=True):
        yield f"{_word(name)} {score:.9g}"


def _tabbed(split: SpeechSplit, scores: NDArray[np.float64]) -> Iterator[str]:
    yield "filename\tcm-score"
    for name, score in zip(split.names, scores, strict=True):
        yield f"{_word(name)}\t{score:.9g}"


def _word(text: str) -> str:
    """Returns a text without blanks, which would divide it into two columns."""
    return "_".join(text.split())


# the beginning of a corpus' name -> its challenge's form; the others take name and score
_FORMS: dict[str, Callable[[SpeechSplit, NDArray[np.float64]], Iterator[str]]] = {
    "asvspoof2019": _with_key,
    "asvspoof5": _tabbed,
}


def write_submission(path: Path, split: SpeechSplit, scores: NDArray[np.float64], dataset: str) -> None:
    """Writes a score file as a challenge asks for it; a score is higher for bona fide speech in all of them.

    ASVspoof 2019: `utterance attack key score`; ASVspoof 5: `filename<TAB>cm-score` with that header; ASVspoof 2015,
    2017, 2021 and others: `utterance score`. Blanks in names become `_`.

    Args:
        path: Where to write.
        split: The recordings.
        scores: `(recordings,)`.
        dataset: The name of the corpus, as in `lightcnn.datasets.CORPORA`.
    """
    form = next((form for name, form in _FORMS.items() if dataset.startswith(name)), _alone)
    write_text(path, "\n".join(form(split, scores)) + "\n")
