"""An anti-spoofing corpus, ready to train on or to score: its lists are read, its files looked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightcnn.backends import random_stream
from lightcnn.datasets.published import Track, untracked
from lightcnn.datasets.speech.columns import SpeechSplit, collect, file_sizes
from lightcnn.datasets.speech.corpora import CORPORA, Corpus, find_root
from lightcnn.datasets.speech.protocols import Reading, split_of
from lightcnn.errors import BadFilesError, DataError

__all__ = ["SPEECH_LABELS", "SpeechDataset", "differences", "doubled", "listing", "load_speech", "read_corpus"]

SPEECH_LABELS = ("spoof", "bonafide")


@dataclass(frozen=True)
class SpeechDataset:
    """The splits of a corpus and what is known about them. No recording is held: files are decoded when needed.

    Attributes:
        name: The corpus' name, for people.
        source: The folder or CSV that it came from.
        splits: `train`, `validation` (the challenges' dev), `test` (their eval), as far as there are, in this order;
            of ASVspoof 2021 also `progress` and `hidden`.
        digest: SHA-256 of all rows and of the files' sizes.
        labels: What a label of a split stands for: 0 spoofed, 1 bona fide.
        skipped: The files that are missing or empty, with the cause.
        notes: What is worth knowing: other counts than the published ones, splits that are left out.
        held_out: The splits that were taken out of train at random.
    """

    name: str
    source: Path
    splits: dict[str, SpeechSplit]
    digest: str
    labels: tuple[str, ...] = SPEECH_LABELS
    skipped: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()
    held_out: frozenset[str] = frozenset()

    @property
    def train(self) -> SpeechSplit | None:
        """What is trained on."""
        return self.splits.get("train")

    @property
    def validation(self) -> SpeechSplit | None:
        """What decides: the challenges' dev."""
        return self.splits.get("validation")

    @property
    def test(self) -> SpeechSplit | None:
        """What is looked at once: the challenges' eval."""
        return self.splits.get("test")

    def split(self, name: str) -> SpeechSplit:
        """Returns the split called `name`; `dev` and `eval` are understood.

        Raises:
            DataError: If there is no such split.
        """
        known = split_of(name) or name
        if known not in self.splits:
            raise DataError(f"{self.name} at {self.source} has no split {name!r}. It has: {', '.join(self.splits)}.")
        return self.splits[known]


def load_speech(
    corpus: str,
    data_dir: Path | str,
    *,
    keys: Path | str | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    skip_bad_files: bool = False,
    track: Track = untracked,
) -> SpeechDataset:
    """Reads the lists of an anti-spoofing corpus and looks for its files.

    Args:
        corpus: A name of `CORPORA`: `"asvspoof2019_la"`, `"in_the_wild"`, ..., or `"csv"` for one's own
            (`file,label[,attack,speaker,split,condition]`).
        data_dir: The corpus' folder, or the folder above it; `csv`: the file, or a folder with exactly one.
        keys: What a corpus is published without, if it is not in or beside its folder: the key of ASVspoof 2021
            (`trial_metadata.txt` or a folder with it) and 2017 v1, the bona fide recordings of WaveFake and MLAAD.
        validation_fraction: `csv` only: share of each class that is held out of train, where the table has no
            validation split.
        test_fraction: The same for the test split; it is taken first.
        seed: Decides what is held out.
        skip_bad_files: Leave out files that are missing or empty, and lines that are there twice, instead of stopping.
        track: Wraps a long loop to show its progress: `track(items, total, description)` yields the items.

    Returns:
        A `SpeechDataset`. Other counts than the published ones are a note.

    Raises:
        DataError: If the corpus is not there, or lines cannot be used; the message names the first 20 by number.
        BadFilesError: If files are missing or empty; all are named.

    Example:
    >>> data = load_speech("asvspoof2019_la", "ASVspoof2019")
    >>> len(data.train), data.train.attacks[1], data.train.path(1).name
    (25380, '-', 'LA_T_1271820.flac')
    """
    root, splits, reading = read_corpus(corpus, Path(data_dir), Path(keys) if keys is not None else None)
    if reading.problems:
        raise DataError(listing(f"{root}: {len(reading.problems)} line(s) cannot be used", reading.problems))
    if not splits:
        raise DataError(listing(f"{root} has no trial of {CORPORA[corpus].title} that can be used", reading.notes))
    splits, notes = _without_doubles(splits, skip_bad_files)
    splits = {name: replace(split, sizes=file_sizes(split, track)) for name, split in splits.items()}
    failures = tuple(
        (split.path(row), "the file is empty" if split.sizes[row] == 0 else "no such file")
        for split in splits.values()
        for row in np.flatnonzero(split.sizes < 1)
    )
    if failures and not skip_bad_files:
        raise BadFilesError(failures, "Add them, mend the list, or pass --skip-bad-files to go on without them.")
    splits = {name: split.subset(split.sizes > 0) for name, split in splits.items()}
    if empty := [name for name, split in splits.items() if not len(split)]:
        raise DataError(f"{root}: no file is left in: {', '.join(empty)}. None of those that are listed is there.")
    digest = _digest(splits)
    held_out = []
    if corpus == "csv" and "train" in splits:
        for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
            if name not in splits and fraction:
                splits["train"], splits[name] = _hold_out(splits["train"], fraction, seed, name)
                held_out.append(name)
    return SpeechDataset(
        name=CORPORA[corpus].title if corpus != "csv" else f"recordings in {Path(data_dir).name}",
        source=root,
        splits={name: splits[name] for name in ("train", "validation", "test", "progress", "hidden") if name in splits},
        digest=digest,
        skipped=failures,
        notes=(*reading.notes, *notes, *differences(CORPORA[corpus], splits)),
        held_out=frozenset(held_out),
    )


def read_corpus(corpus: str, folder: Path, keys: Path | None) -> tuple[Path, dict[str, SpeechSplit], Reading]:
    """Reads the lists of a corpus; no file is looked for.

    Returns:
        The corpus' folder (or CSV), its splits, and what was found while reading.

    Raises:
        DataError: If the corpus or a list of it is not there.
    """
    root = find_root(corpus, folder)
    reading = Reading()
    base = root.parent if root.is_file() else root
    return root, collect(CORPORA[corpus].read(root, keys, reading), base), reading


def differences(corpus: Corpus, splits: dict[str, SpeechSplit]) -> list[str]:
    """Returns a note for every split whose counts are not the published ones."""
    notes = []
    for name, split in splits.items():
        bona_fide = int(split.labels.sum())
        found, published = (bona_fide, len(split) - bona_fide), corpus.published.get(name)
        if published is not None and published != found:
            notes.append(
                f"{name}: {found[0]:,} bona fide and {found[1]:,} spoofed; {corpus.title} as published has "
                f"{published[0]:,} and {published[1]:,}"
            )
    return notes


def doubled(split: SpeechSplit) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tells of each row whether an earlier one names the same file."""
    _, first = np.unique(split.files, return_index=True)
    again = np.ones(len(split), bool)
    again[first] = False
    return again


def _without_doubles(splits: dict[str, SpeechSplit], skip_bad_files: bool) -> tuple[dict[str, SpeechSplit], list[str]]:
    notes, single = [], {}
    for name, split in splits.items():
        again = doubled(split)
        single[name] = split.subset(~again)
        if not again.any():
            continue
        # The labels of a file must agree, or nobody knows which line is right.
        _, first, same = np.unique(split.files, return_index=True, return_inverse=True)
        unclear = bool((split.labels != split.labels[first][same]).any())
        told = f"{name}: {again.sum():,} line(s) name a file that is listed before"
        if unclear or not skip_bad_files:
            hint = (
                "Some have another label there: mend the list."
                if unclear
                else "Remove them, or pass --skip-bad-files to keep the first of each."
            )
            raise DataError(listing(told, [str(split.path(row)) for row in np.flatnonzero(again)]) + "\n" + hint)
        notes.append(told)
    every = np.concatenate([split.files for split in single.values()])
    if (shared := len(every) - len(np.unique(every))) > 0:
        notes.append(f"{shared:,} file(s) are in more than one split")
    return single, notes


def listing(told: str, lines: list[str]) -> str:
    """Returns a statement and its first 20 cases, one a line."""
    more = [f"... and {len(lines) - 20} more"] if len(lines) > 20 else []
    return "\n  ".join([f"{told}:" if lines else f"{told}.", *lines[:20], *more])


def _digest(splits: dict[str, SpeechSplit]) -> str:
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name} {len(split)}\n".encode())
        for column in (split.files, split.utterances):
            digest.update(b"\n".join(column.tolist()) + b"\n")
        for texts in (split.attacks, split.speakers, split.conditions):
            # by text, not by code, so that the order in which texts appear has no influence
            order = np.argsort(texts.texts)
            digest.update("\n".join(sorted(texts.texts)).encode(errors="surrogateescape"))
            digest.update(np.argsort(order)[texts.codes].astype("<i8").tobytes())
        digest.update(split.labels.astype("<i8").tobytes() + split.sizes.astype("<i8").tobytes())
    return digest.hexdigest()


def _hold_out(split: SpeechSplit, fraction: float, seed: int, purpose: str) -> tuple[SpeechSplit, SpeechSplit]:
    """Takes `fraction` of each class, at least one recording, at random; the order of the rest stays."""
    generator = random_stream(seed, purpose)
    chosen = np.zeros(len(split), bool)
    for label, name in enumerate(SPEECH_LABELS):
        positions = np.flatnonzero(split.labels == label)
        count = max(1, round(len(positions) * fraction))
        if count >= len(positions):
            raise DataError(
                f"{len(positions)} recording(s) are {name}: too few to train on some and hold out {fraction:.0%}. "
                "Add recordings, or a column `split` with train, validation and test."
            )
        chosen[generator.choice(positions, count, replace=False)] = True
    return split.subset(~chosen), split.subset(chosen)
