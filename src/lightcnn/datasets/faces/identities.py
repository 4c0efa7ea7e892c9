"""Pictures by person: folders of identities, and lists of files with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcnn.datasets.faces.lines import read_text, refuse_missing, shown
from lightcnn.decoding import list_pictures
from lightcnn.errors import DataError

__all__ = ["FaceFiles", "all_pairs", "open_set_split", "read_identities"]


@dataclass(frozen=True)
class FaceFiles:
    """Picture files and who is shown.

    Attributes:
        source: The folder or list.
        identities: `(identities,)`: names of folders, sorted, or the labels of a list, by number.
        files: `(pictures,)`.
        labels: `(pictures,)` int64, positions in `identities`.
        passed_over: The files in folders that are no pictures by their names.
    """

    source: Path
    identities: tuple[str, ...]
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    passed_over: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.files)


def read_identities(source: Path | str, data_dir: Path | str | None = None) -> FaceFiles:
    """Lists the pictures of people: a folder with one sub-folder a person, or a list `path label` as Light CNN's.

    Args:
        source: The folder; or a list, UTF-8, a picture a line. The last blank of a line separates, so a path may have
            some; a label is a whole number.
        data_dir: For a list, the folder that paths are relative to; by default the list's own.

    Returns:
        A `FaceFiles`: sorted by path for a folder, in the order of a list.

    Raises:
        DataError: If the source cannot be read, a line makes no sense (it is named), a picture of a folder belongs to
            nobody, or there are fewer than two people.
        BadFilesError: If files of a list are missing. All are named.

    Example:
    >>> _ = Path("list.txt").write_text("ann/1.png 0\\nbob/1.png 1\\n")
    >>> read_identities("list.txt", "faces").identities
    ('0', '1')
    """
    source = Path(source)
    passed_over: list[Path] = []
    if source.is_dir():
        files, passed_over = list_pictures(source)
        names = [file.relative_to(source).parts[0] for file in files]
        if nobodys := [file for file in files if file.parent == source]:
            raise DataError(
                f"{source} must have one sub-folder a person. Received: {len(nobodys):,} pictures beside them, the "
                f"first is {nobodys[0].name}"
            )
        identities = sorted(set(names))
    else:
        root = source.parent if data_dir is None else Path(data_dir)
        rows = _list_rows(source)
        files, names = [root / file for file, _ in rows], [label for _, label in rows]
        hint = f"Its paths were looked for in {root}: name another folder with --data-dir."
        if data_dir is None:
            hint = f"Its paths are relative to the list's own folder, {root}: mend them, or move the list."
        refuse_missing(files, source, hint)
        identities = sorted(set(names), key=int)
    if len(identities) < 2:
        raise DataError(
            f"{source} must show at least two people: one cannot be told from others. "
            f"Received: {', '.join(identities) or 'none'}"
        )
    places = {name: place for place, name in enumerate(identities)}
    labels = np.array([places[name] for name in names], np.int64)
    return FaceFiles(source, tuple(identities), tuple(files), labels, tuple(passed_over))


def _list_rows(path: Path) -> Sequence[tuple[str, str]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        file, label = ["", *line.rsplit(None, 1)][-2:]
        if not file or not label.isdecimal() or len(label) > 9:
            raise DataError(
                f"{path}, line {number}: expected `path label`, a blank between them and a whole number as the label. "
                f"Received: {shown(line)}"
            )
        rows.append((file, str(int(label))))
    return rows


def all_pairs(labels: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns every pair of pictures once.

    Args:
        labels: `(pictures,)`, who is shown.

    Returns:
        `first` and `second`, `(pairs,)` int64, positions of the two pictures, and `same`, `(pairs,)` bool, with
        `pictures * (pictures - 1) / 2` pairs.

    Raises:
        DataError: If there are not pairs of one person and pairs of two.

    Example:
    >>> [column.tolist() for column in all_pairs(["ann", "ann", "bob"])]
    [[0, 0, 1], [1, 2, 2], [True, False, False]]
    """
    persons = np.asarray(labels)
    first, second = np.triu_indices(len(persons), 1)
    same = persons[first] == persons[second]
    if same.all() or not same.any():
        raise DataError(
            "pairs need at least two people, and two pictures of one of them. "
            f"Received: {len(persons)} pictures of {len(np.unique(persons))}"
        )
    return first, second, same


def open_set_split(
    labels: ArrayLike, num_gallery: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws one trial of open-set identification, as in BLUFR: some people are in the gallery, others only ask.

    Args:
        labels: `(pictures,)`, who is shown.
        num_gallery: How many people are in the gallery, with one picture each. Their other pictures and all pictures of
            everybody else are the probes. They are drawn from the people with at least two pictures.
        generator: NumPy's random generator; the same state gives the same trial.

    Returns:
        The positions of the gallery's pictures, `(num_gallery,)`, and of the probes', int64.

    Raises:
        DataError: If there are not as many people with two pictures, or nobody is left outside the gallery.

    Example:
    >>> gallery, probes = open_set_split(["ann", "ann", "bob", "bob", "eve"], 1, np.random.default_rng(0))
    >>> len(gallery), len(probes)
    (1, 4)
    """
    persons = np.asarray(labels)
    shuffled = generator.permutation(len(persons))
    names, firsts, counts = np.unique(persons[shuffled], return_index=True, return_counts=True)
    candidates = np.flatnonzero(counts > 1)
    if not 1 <= num_gallery <= len(candidates) or num_gallery == len(names):
        raise DataError(
            "a gallery needs people with two pictures, and somebody must be left outside. "
            f"Received: num_gallery={num_gallery}, {len(candidates)} of {len(names)} people have two pictures"
        )
    gallery = np.sort(shuffled[firsts[generator.choice(candidates, num_gallery, replace=False)]])
    return gallery, np.setdiff1d(np.arange(len(persons)), gallery)
