"""Millions of trials in little memory: columns instead of objects, each different text kept once."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.published import Track
from lightcnn.datasets.speech.protocols import Trial

__all__ = ["Column", "SpeechSplit", "collect", "file_sizes"]

_STEP = 1000  # files between two movements of a progress bar


@dataclass(frozen=True)
class Column:
    """One text a row: an attack, a speaker, a condition. `"-"` stands for none.

    Attributes:
        texts: The different texts.
        codes: `(rows,)` int32, positions in `texts`.
    """

    texts: tuple[str, ...]
    codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int | np.integer[Any]) -> str:
        return self.texts[int(self.codes[row])]

    @property
    def values(self) -> NDArray[np.str_]:
        """All rows as a NumPy array of text."""
        return np.array(self.texts, np.str_)[self.codes]

    def counts(self) -> dict[str, int]:
        """Returns how many rows have each text, sorted by text."""
        counted = np.bincount(self.codes, minlength=len(self.texts)).tolist()
        return {text: count for text, count in sorted(zip(self.texts, counted, strict=True)) if count}

    def subset(self, positions: NDArray[np.int64] | slice) -> Column:
        """Returns the column that holds only the rows at `positions`."""
        return Column(self.texts, self.codes[positions])


@dataclass(frozen=True)
class SpeechSplit:
    """The trials of one split, a row a recording; about 80 bytes a row.

    Attributes:
        root: The folder that `files` are relative to.
        files: `(rows,)` bytes, UTF-8. `path(row)` gives a `Path`.
        utterances: `(rows,)` bytes, UTF-8: the name that score files use. `names` gives texts.
        labels: `(rows,)` int64: 1 bona fide, 0 spoofed.
        attacks: How a recording was spoofed.
        speakers: Who speaks.
        conditions: Codec, transmission, room, language.
        sizes: `(rows,)` int64: bytes of the file; -1 where there is none.
    """

    root: Path
    files: NDArray[np.bytes_]
    utterances: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    attacks: Column
    speakers: Column
    conditions: Column
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, row: int | np.integer[Any]) -> Path:
        """Returns the file of one row."""
        return self.root / _text(self.files[row])

    @property
    def names(self) -> list[str]:
        """The utterances' names."""
        return [_text(name) for name in self.utterances]

    def subset(self, positions: NDArray[np.int64] | NDArray[np.bool_]) -> SpeechSplit:
        """Returns the split that holds only the rows at `positions`."""
        columns = ("files", "utterances", "labels", "sizes")
        rows = np.flatnonzero(positions) if positions.dtype == bool else positions
        texts = {name: getattr(self, name).subset(rows) for name in ("attacks", "speakers", "conditions")}
        return replace(self, **{name: getattr(self, name)[rows] for name in columns}, **texts)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


class _Rows:
    """The rows of one split while they are collected."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.utterances: list[bytes] = []
        self.labels = array("q")
        self.codes = {name: array("i") for name in ("attack", "speaker", "condition")}
        self.texts: dict[str, dict[str, int]] = {name: {} for name in self.codes}

    def add(self, trial: Trial) -> None:
        self.files.append(trial.file.encode(errors="surrogateescape"))
        self.utterances.append(trial.utterance.encode(errors="surrogateescape"))
        self.labels.append(trial.label)
        for name, text in (("attack", trial.attack), ("speaker", trial.speaker), ("condition", trial.condition)):
            texts = self.texts[name]
            self.codes[name].append(texts.setdefault(text, len(texts)))

    def split(self, root: Path) -> SpeechSplit:
        columns = {
            f"{name}s": Column(tuple(self.texts[name]), np.array(codes, np.int32)) for name, codes in self.codes.items()
        }
        return SpeechSplit(
            root=root,
            files=np.array(self.files),
            utterances=np.array(self.utterances),
            labels=np.array(self.labels, np.int64),
            sizes=np.full(len(self.labels), -1, np.int64),
            **columns,
        )


def collect(trials: Iterable[Trial], root: Path) -> dict[str, SpeechSplit]:
    """Gathers trials into one split a name; no file is looked at, so `sizes` are -1."""
    rows: dict[str, _Rows] = {}
    for trial in trials:
        if trial.split not in rows:
            rows[trial.split] = _Rows()
        rows[trial.split].add(trial)
    order = ("train", "validation", "test", "progress", "hidden")
    return {name: rows[name].split(root) for name in order if name in rows}


def file_sizes(split: SpeechSplit, track: Track) -> NDArray[np.int64]:
    """Asks for the size of every file in bytes; -1 where there is no such file."""
    sizes = np.full(len(split), -1, np.int64)
    root = os.fspath(split.root)
    steps = range(0, len(split), _STEP)
    for start in track(steps, len(steps), "Looking for files"):
        for row, name in enumerate(split.files[start : start + _STEP].tolist(), start):
            try:
                status = os.stat(os.path.join(root, _text(name)))  # noqa: PTH116, PTH118  (a million times)
            except (OSError, ValueError):  # ValueError: a name that no file can have
                continue
            if S_ISREG(status.st_mode):
                sizes[row] = status.st_size
    return sizes
