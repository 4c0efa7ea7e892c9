"""Lines of the challenges' lists and of tables -> trials, with the number of every line that makes no sense."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lightcnn.errors import DataError

__all__ = ["LABELS", "SPLITS", "Reading", "Trial", "label_of", "read_protocol", "read_table", "split_of"]

# a label's name, without case, "-" and "_" -> 1 bona fide, 0 spoofed
LABELS = {"bonafide": 1, "real": 1, "genuine": 1, "human": 1, "spoof": 0, "fake": 0}

SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "development": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "eval": "test",
    "evaluation": "test",
    "test": "test",
    "testing": "test",
    "progress": "progress",
    "hidden": "hidden",
}

_LONGEST_FIELD = 1000  # characters; a column of names is as wide as its longest


class Trial(NamedTuple):
    """One line of a corpus: what is listed of one recording. An unknown text is `"-"`."""

    split: str
    file: str
    utterance: str
    label: int
    attack: str = "-"
    speaker: str = "-"
    condition: str = "-"


@dataclass(frozen=True)
class Reading:
    """What is found while lists are read: `problems` forbid training, `notes` are worth knowing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def label_of(text: str) -> int | None:
    """Returns 1 for a name of bona fide speech, 0 for one of spoofed speech, None for anything else."""
    return LABELS.get(text.strip().lower().replace("-", "").replace("_", ""))


def split_of(text: str) -> str | None:
    """Returns the split that a name stands for (`dev` is `validation`, `eval` is `test`), or None."""
    return SPLITS.get(text.strip().lower())


def read_protocol(path: Path, layouts: dict[int, str], problems: list[str]) -> Iterator[dict[str, str]]:
    """Reads a list whose columns are separated by spaces or tabs.

    A byte order mark, CRLF and empty lines are passed over.

    Args:
        path: The list.
        layouts: Number of columns -> the columns' names, separated by spaces.
        problems: Takes a text for every line that cannot be used.

    Yields:
        A dictionary of the columns, for every line that can be used. `"line"` holds `"FILE:NUMBER"`.

    Raises:
        DataError: If the list cannot be read.

    Example:
    >>> next(read_protocol(path, {2: "utterance label"}, []))
    {'utterance': 'LA_T_1000001', 'label': 'spoof', 'line': 'train.txt:1'}
    """
    names = {count: layout.split() for count, layout in layouts.items()}
    try:
        # A name that is no UTF-8 is a name all the same.
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                if not fields:
                    continue
                place = f"{path.name}:{number}"
                if len(fields) not in names:
                    counts = " or ".join(str(count) for count in names)
                    problems.append(f"{place}: expected {counts} columns. Received: {_shown(line)}")
                elif _sound(fields, place, problems):
                    yield dict(zip(names[len(fields)], fields, strict=True)) | {"line": place}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def read_table(
    path: Path, required: tuple[str, ...], problems: list[str], delimiter: str = ",", quoted: bool = True
) -> Iterator[dict[str, str]]:
    """Reads a table whose first line names the columns; empty lines are passed over.

    Args:
        path: The table, UTF-8.
        required: The columns that there must be.
        problems: Takes a text for every line that cannot be used.
        delimiter: What separates columns.
        quoted: Whether a quotation mark opens a field. In MLAAD's tables it is part of a sentence.

    Yields:
        A dictionary of the columns, for every line that can be used. `"line"` holds `"FILE:NUMBER"`.

    Raises:
        DataError: If the table cannot be read or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(
                file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
            )
            header = [name.strip().lower() for name in next(reader, [])]
            if missing := [name for name in required if name not in header]:
                received = ", ".join(repr(name) for name in header[:20])
                raise DataError(
                    f"{path}: the first line must name the columns {', '.join(required)}. Missing: "
                    f"{', '.join(missing)}. Received: {received or 'nothing'}"
                )
            for row in reader:
                place = f"{path.name}:{reader.line_num}"
                fields = [field.strip() for field in row]
                if not any(fields):
                    continue
                if len(fields) != len(header):
                    problems.append(f"{place}: expected {len(header)} columns. Received: {_shown(delimiter.join(row))}")
                    continue
                known = dict(zip(header, fields, strict=True))
                if empty := [name for name in required if not known[name]]:
                    problems.append(f"{place}: the column {empty[0]} is empty")
                elif _sound([known[name] for name in required], place, problems):
                    yield known | {"line": place}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise DataError(f"{path} is no table that can be read: {error}") from error


def _sound(fields: list[str], place: str, problems: list[str]) -> bool:
    if all(len(name) <= _LONGEST_FIELD and "\0" not in name for name in fields):
        return True
    problems.append(f"{place}: a name is over {_LONGEST_FIELD} characters long or holds a null byte")
    return False


def _shown(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 80 else line[:77] + "...")
