"""A corpus before training on it: what is there, what is missing, what differs from the published one."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lightcnn.backends import num_processors
from lightcnn.datasets.published import Track, untracked
from lightcnn.datasets.speech.columns import SpeechSplit, file_sizes
from lightcnn.datasets.speech.corpora import CORPORA, find_corpora
from lightcnn.datasets.speech.loading import differences, doubled, listing, read_corpus
from lightcnn.decoding import AudioInfo, audio_blocks, audio_info
from lightcnn.errors import DataError

__all__ = ["CorpusReport", "check"]

_STEP = 1000  # files between two movements of a progress bar


@dataclass(frozen=True)
class CorpusReport:
    """What `check` found, as plain data that JSON can hold.

    Attributes:
        corpus: A name of `CORPORA`.
        title: The corpus' name, for people.
        source: Its folder, or the CSV.
        splits: Split -> `recordings`, `bona_fide`, `spoofed`, `published` (bona fide and spoofed, or None), `attacks`
            and `conditions` (name -> recordings), `speakers` (their number), `missing`, `empty`, `doubled` and
            `unreadable` (numbers of files), `sampling_rates` (Hz -> files), `channels` (number -> files) and
            `duration_s` (`total`, `shortest`, `median`, `longest`, in seconds; None if no header could be read).
        problems: What must be mended before training, in words; each names its first 20 files or lines.
        notes: What is worth knowing.
    """

    corpus: str
    title: str
    source: str
    splits: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check(
    data_dir: Path | str,
    corpus: str | None = None,
    *,
    keys: Path | str | None = None,
    decode: bool = False,
    track: Track = untracked,
) -> CorpusReport:
    """Checks a corpus: lists, counts, files, sampling rates and durations.

    Args:
        data_dir: The corpus' folder, the folder above it, or a CSV.
        corpus: A name of `CORPORA`; None tells it from the files.
        keys: As in `load_speech`.
        decode: Whether to decode all recordings, which finds NaN and truncated FLAC files too; otherwise only their
            headers are read.
        track: Wraps a long loop to show its progress: `track(items, total, description)` yields the items.

    Returns:
        A `CorpusReport`. Files that are missing or damaged are in `problems`; nothing is raised for them.

    Raises:
        DataError: If no corpus is recognised, or several are.
        MissingDependencyError: If soundfile is not installed.

    Example:
    >>> check("ASVspoof2019/LA").splits["train"]["bona_fide"]
    2580
    """
    folder = Path(data_dir)
    if corpus is None:
        found = find_corpora(folder)
        if len(found) != 1:
            raise DataError(
                f"{folder} holds {'several corpora: ' + ', '.join(found) if found else 'no corpus that is known'}. "
                f"Name one of {', '.join(found or CORPORA)}."
            )
        corpus = found[0]
    root, splits, reading = read_corpus(corpus, folder, Path(keys) if keys is not None else None)
    lines = reading.problems
    problems = [listing(f"{len(lines):,} line(s) cannot be used", lines)] if lines else []
    if not splits:
        problems.append("there is no trial that can be used")
    report = {}
    for name, split in splits.items():
        report[name], found_there = _check_split(name, replace(split, sizes=file_sizes(split, track)), decode, track)
        report[name]["published"] = CORPORA[corpus].published.get(name)
        problems += found_there
        if not 0 < split.labels.sum() < len(split):
            problems.append(f"{name}: all recordings are {'bona fide' if split.labels.any() else 'spoofed'}")
    notes = (*reading.notes, *differences(CORPORA[corpus], splits))
    return CorpusReport(corpus, CORPORA[corpus].title, str(root), report, tuple(problems), notes)


def _check_split(name: str, split: SpeechSplit, decode: bool, track: Track) -> tuple[dict[str, Any], list[str]]:
    again = doubled(split)
    rows = np.flatnonzero((split.sizes > 0) & ~again)
    rates: Counter[int] = Counter()
    channels: Counter[int] = Counter()
    durations: list[float] = []
    unreadable: list[str] = []
    look = partial(_look, split, decode)
    with ThreadPoolExecutor(num_processors()) as pool:
        starts = range(0, len(rows), _STEP)
        for start in track(starts, len(starts), f"Reading {name}"):
            for info in pool.map(look, rows[start : start + _STEP].tolist()):
                if isinstance(info, str):
                    unreadable.append(info)
                    continue
                rates[info.sampling_rate] += 1
                channels[info.channels] += 1
                durations.append(info.duration_s)
    seconds = np.array(durations)
    bona_fide = int(split.labels.sum())
    facts = {
        "recordings": len(split),
        "bona_fide": bona_fide,
        "spoofed": len(split) - bona_fide,
        "attacks": {attack: count for attack, count in split.attacks.counts().items() if attack != "-"},
        "conditions": {condition: count for condition, count in split.conditions.counts().items() if condition != "-"},
        "speakers": len(set(split.speakers.counts()) - {"-"}),
        "missing": int((split.sizes < 0).sum()),
        "empty": int((split.sizes == 0).sum()),
        "doubled": int(again.sum()),
        "unreadable": len(unreadable),
        "sampling_rates": dict(sorted(rates.items())),
        "channels": dict(sorted(channels.items())),
        "duration_s": {
            "total": float(seconds.sum()),
            "shortest": float(seconds.min()),
            "median": float(np.median(seconds)),
            "longest": float(seconds.max()),
        }
        if durations
        else None,
    }
    named = {
        "file(s) are missing": [str(split.path(row)) for row in np.flatnonzero(split.sizes < 0)],
        "file(s) are empty": [str(split.path(row)) for row in np.flatnonzero(split.sizes == 0)],
        "line(s) name a file that is listed before": [str(split.path(row)) for row in np.flatnonzero(again)],
        "file(s) cannot be read": unreadable,
    }
    return facts, [listing(f"{name}: {len(lines):,} {what}", lines) for what, lines in named.items() if lines]


def _look(split: SpeechSplit, decode: bool, row: int) -> AudioInfo | str:
    """Returns what a header says, or what is wrong with the file."""
    path = split.path(row)
    try:
        info = audio_info(path)
        if decode:
            for _ in audio_blocks(path, info.sampling_rate, 1 << 16):
                pass
    except DataError as error:
        return str(error)
    return info
