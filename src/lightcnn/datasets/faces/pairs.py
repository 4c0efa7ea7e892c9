"""Lists of pairs of faces: LFW's `pairs.txt`, tables of file names, and the splits of YouTube Faces (YTF)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.lines import is_there, read_text, refuse_missing, shown
from lightcnn.decoding import PICTURE_SUFFIXES
from lightcnn.errors import DataError

__all__ = ["FacePairs", "folds_in_order", "read_pairs"]

# What the columns of a table are, by their number. YTF's list has the label last; the corrected one has the label as it
# was first published before it.
_LAYOUTS = {
    3: "first second same",
    4: "first second same fold",
    5: "fold number first second same",
    6: "fold number first second published same",
}
_SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_FOLDS = 10


@dataclass(frozen=True)
class FacePairs:
    """Pairs of pictures, and whether a pair shows one person. A file is there once, so that it is embedded once.

    Attributes:
        source: The list.
        files: The pictures; for YTF, the folders of a video's frames.
        first: `(pairs,)` int64, positions in `files`.
        second: `(pairs,)` int64, positions in `files`.
        same: `(pairs,)` bool.
        folds: `(pairs,)` int64, from 0, in the order in which the list names them.
        root: The folder that the list's names are relative to, or None.
    """

    source: Path
    files: tuple[Path, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.same)


class _Pair(NamedTuple):
    first: str
    second: str
    same: bool
    fold: str | None


def read_pairs(path: Path | str, data_dir: Path | str | None = None) -> FacePairs:
    """Reads a list of pairs, whose first lines tell what it is, and looks for the files.

    - LFW (`pairs.txt`): a line `folds<TAB>pairs` (or `pairs` alone, for one fold), then for every fold so many lines
      `name<TAB>i<TAB>j` of one person and so many `name<TAB>i<TAB>name<TAB>j` of two. Blanks may separate names that
      have none. The files are `name/name_000i.jpg`, or have another suffix of a picture.
    - A table with commas, with or without a line of names: `file1,file2,same` or `file1,file2,same,fold`. Without
      folds, each tenth of the pairs of one person and of those of two, in their order, makes one.
    - YTF (`splits.txt`): `fold, number, folder1, folder2, same`, perhaps with one more column before the last.

    Args:
        path: The list, UTF-8. Whether a pair is the same is said by 1, true, yes or 0, false, no.
        data_dir: The folder that names are relative to; by default the list's own.

    Returns:
        A `FacePairs`.

    Raises:
        DataError: If the list cannot be read, a line makes no sense (it is named), pairs lack, or all are of one kind.
        BadFilesError: If files are missing. All are named.

    Example:
    >>> pairs = read_pairs("lfw/pairs.txt", "lfw/images")
    >>> len(pairs), len(pairs.files), pairs.folds.max()
    (6000, 7701, 9)
    """
    path = Path(path)
    root = path.parent if data_dir is None else Path(data_dir)
    text = read_text(path)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty. A list of pairs was expected.")
    header = lines[0][1].split()
    is_lfw = len(header) <= 2 and all(map(_is_number, header))
    pairs = list(_lfw(path, lines) if is_lfw else _table(path, text))
    same = np.array([pair.same for pair in pairs], bool)
    if same.all() or not same.any():
        raise DataError(
            f"{path} must have pairs of one person and pairs of two. "
            f"Received: {len(pairs):,} pairs, {same.sum():,} of one person"
        )
    places: dict[str, int] = {}
    named = ((places.setdefault(name, len(places)) for name in (pair.first, pair.second)) for pair in pairs)
    first, second = np.array([list(both) for both in named], np.int64).T
    files = tuple(_picture(root, name) if is_lfw else root / name for name in places)
    refuse_missing(files, path, f"Its files were looked for in {root}: name another folder with --data-dir.")
    return FacePairs(path, files, first, second, same, _fold_numbers(pairs, same), root)


def folds_in_order(pairs: int) -> NDArray[np.int64]:
    """Returns ten folds of pairs that follow one another, of sizes that differ by at most one pair.

    Example:
    >>> folds_in_order(12).tolist()
    [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    parts = np.array_split(np.arange(pairs), _FOLDS)
    return np.repeat(np.arange(_FOLDS), [len(part) for part in parts])


def _fold_numbers(pairs: Sequence[_Pair], same: NDArray[np.bool_]) -> NDArray[np.int64]:
    if pairs[0].fold is not None:
        numbers: dict[str | None, int] = {}
        return np.array([numbers.setdefault(pair.fold, len(numbers)) for pair in pairs], np.int64)
    folds = np.empty(len(pairs), np.int64)
    for kind in (True, False):  # a list often has all pairs of one person first
        folds[same == kind] = folds_in_order(int(np.sum(same == kind)))
    return folds


def _picture(root: Path, stem: str) -> Path:
    candidates = (root / f"{stem}{suffix}" for suffix in (".jpg", *PICTURE_SUFFIXES))
    return next(filter(is_there, candidates), root / f"{stem}.jpg")


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _lfw(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[_Pair]:
    header = [int(field) for field in lines[0][1].split()]
    folds, count = header if len(header) == 2 else (1, header[0])
    expected = folds * 2 * count
    if len(lines) - 1 != expected:
        raise DataError(
            f"{path}, line {lines[0][0]} promises {folds:,} folds of {count:,} pairs of one person and {count:,} of "
            f"two, {expected:,} in all. Received: {len(lines) - 1:,}. Is the file cut short?"
        )
    for place, (number, line) in enumerate(lines[1:]):
        fields = [field.strip() for field in (line.split("\t") if "\t" in line.strip() else line.split())]
        same = place % (2 * count) < count
        name, other = fields[0], fields[0] if same else fields[-2:][0]
        if len(fields) != 4 - same or not (_is_number(fields[1]) and _is_number(fields[-1]) and name and other):
            form = "one person: name, i, j" if same else "two: name, i, name, j"
            raise DataError(
                f"{path}, line {number}: expected a pair of {form}, between tabs, since each fold has {count:,} pairs "
                f"of one person and then as many of two. Received: {shown(line)}"
            )
        stems = [f"{person}/{person}_{int(index):04d}" for person, index in ((name, fields[1]), (other, fields[-1]))]
        yield _Pair(stems[0], stems[1], same, str(place // (2 * count)))


def _table(path: Path, text: str) -> Iterator[_Pair]:
    width = 0
    reader = csv.reader(text.split("\n"), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if not any(fields):
                continue
            line = f"{path}, line {reader.line_num}"
            if len(fields) not in _LAYOUTS or len(fields) != (width or len(fields)):
                forms = "; ".join(names.replace(" ", ",") for names in _LAYOUTS.values())
                raise DataError(
                    f"{line}: expected {f'{width} columns, as before' if width else 'columns between commas'} ({forms})"
                    f", or LFW's list, which starts with the number of folds and of pairs. "
                    f"Received: {shown(','.join(row))}"
                )
            columns = dict(zip(_LAYOUTS[len(fields)].split(), fields, strict=True))
            same = _SAME.get(columns["same"].lower())
            if same is not None and columns["first"] and columns["second"]:
                yield _Pair(columns["first"], columns["second"], same, columns.get("fold"))
            elif width or any("/" in name or Path(name).suffix for name in (columns["first"], columns["second"])):
                raise DataError(
                    f"{line}: expected two files and whether they are the same ({', '.join(_SAME)}). "
                    f"Received: {shown(','.join(row))}"
                )
            width = len(fields)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is no line of a table: {error}") from error
