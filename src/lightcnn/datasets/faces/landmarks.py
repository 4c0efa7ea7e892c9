"""Five landmarks a face, as people and detectors write them down: `.5pt` files, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.faces.lines import read_text, shown
from lightcnn.decoding import list_files
from lightcnn.errors import BadFilesError, DataError

__all__ = ["find_landmarks", "landmarks_of", "read_landmarks"]

# where it stands, the picture's name, five pairs of x and y
_Row = tuple[str, str, Any]


def read_landmarks(source: Path | str) -> dict[str, NDArray[np.float64]]:
    """Reads the landmarks of many faces: the eyes, the nose, the corners of the mouth, in pixels.

    Args:
        source: One of these, UTF-8:

            - a CSV file, `file,x1,y1,...,x5,y5` a line, with or without a line of names;
            - a JSON file, `{file: [[x, y], [x, y], [x, y], [x, y], [x, y]]}`;
            - a `.5pt` file, five lines `x y`: the landmarks of the picture of the same name;
            - a folder of such files.

    Returns:
        `(5, 2)` by the picture's name as it is written there; `.5pt` files give names without suffix, relative to the
        folder.

    Raises:
        DataError: If a file cannot be read, has no landmarks, or a line or entry is not five finite points, or a
            picture is there twice. File and line are named.

    Example:
    >>> _ = Path("faces.csv").write_text("ann.jpg,30,40,62,41,46,60,34,80,58,80\\n")
    >>> read_landmarks("faces.csv")["ann.jpg"][0].tolist()
    [30.0, 40.0]
    """
    source = Path(source)
    if source.is_dir():
        rows = [
            (place, file.relative_to(source).with_suffix("").as_posix(), points)
            for file in list_files(source, (".5pt",), "landmarks")[0]
            for place, _, points in _five_lines(file)
        ]
    elif reader := _READERS.get(source.suffix.lower()):
        rows = list(reader(source))
    else:
        raise DataError(
            f"{source} is no list of landmarks by its name. Expected a folder of .5pt files, or a file ending in "
            f"{', '.join(_READERS)}."
        )
    if not rows:
        raise DataError(f"{source} has no landmarks.")
    table: dict[str, NDArray[np.float64]] = {}
    for place, name, points in rows:
        if name in table:
            raise DataError(f"{place}: {shown(name)} is there a second time. Keep one of them.")
        table[name] = _five_points(place, points)
    return table


def landmarks_of(
    files: Sequence[Path | str], source: Path | str, data_dir: Path | str | None = None
) -> NDArray[np.float64]:
    """Returns the landmarks of pictures, in their order.

    `source` may call a picture by its path as it is given here, by its path below `data_dir`, or by the end of its path
    (`ann/1.png`, or its name alone) where no two of the pictures share it. `.5pt` files leave the suffix out.

    Args:
        files: The pictures.
        source: As in `read_landmarks`.
        data_dir: The folder that names are relative to; by default the one that `source` is, or is in.

    Returns:
        `(pictures, 5, 2)` float64, x and y in pixels.

    Raises:
        DataError: As `read_landmarks`.
        BadFilesError: If pictures have no landmarks. All are named.

    Example:
    >>> landmarks_of(["photos/ann.jpg"], "faces.csv").shape
    (1, 5, 2)
    """
    found = find_landmarks(files, source, data_dir)
    if missing := [
        (Path(file), f"no landmarks in {source}") for file, points in zip(files, found, strict=True) if points is None
    ]:
        raise BadFilesError(missing, "Add them, or leave these pictures out. Names are relative to the data folder.")
    return np.array(found, np.float64).reshape(-1, 5, 2)


def find_landmarks(
    files: Sequence[Path | str], source: Path | str, data_dir: Path | str | None = None
) -> list[NDArray[np.float64] | None]:
    """Looks for pictures as `landmarks_of`, and returns `(5, 2)` or None for each."""
    source, paths = Path(source), [Path(file) for file in files]
    table = read_landmarks(source)
    without_suffix = source.is_dir() or source.suffix.lower() == ".5pt"
    root = Path(data_dir) if data_dir is not None else source if source.is_dir() else source.parent

    def named(path: Path) -> Path:
        return path.with_suffix("") if without_suffix and path.name else path

    def endings(path: Path) -> Iterator[str]:
        parts = named(path).parts
        return ("/".join(parts[start:]) for start in range(len(parts)))

    shared = Counter(ending for path in set(paths) for ending in endings(path))

    def names(path: Path) -> Iterator[str]:
        yield named(path).as_posix()
        if path.is_relative_to(root):
            yield named(path.relative_to(root)).as_posix()
        yield from (ending for ending in endings(path) if shared[ending] == 1)

    return [next((table[name] for name in names(path) if name in table), None) for path in paths]


def _five_lines(path: Path) -> Iterator[_Row]:
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    points = []
    for number, fields in lines:
        point = [_number(field) for field in fields]
        if len(fields) != 2 or not all(value is not None and math.isfinite(value) for value in point):
            raise DataError(f"{path}, line {number}: expected `x y`, two numbers. Received: {shown(' '.join(fields))}")
        points.append(point)
    if len(lines) != 5:
        raise DataError(
            f"{path}, line {lines[-1][0] if lines else 1}: expected five lines `x y`: the eyes, the nose, the corners "
            f"of the mouth. Received: {len(lines)}"
        )
    yield str(path), path.stem, points


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(read_text(path).split("\n"), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            place = f"{path}, line {reader.line_num}"
            numbers = [_number(field) for field in fields[1:]]
            if not any(fields) or (reader.line_num == 1 and numbers and numbers.count(None) == len(numbers)):
                continue  # an empty line, or the line of names
            if len(numbers) != 10 or not fields[0] or None in numbers:
                raise DataError(
                    f"{place}: expected a file and ten numbers: file,x1,y1,...,x5,y5. Received: {shown(','.join(row))}"
                )
            yield place, fields[0], np.array(numbers, np.float64).reshape(5, 2)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is no line of a table: {error}") from error


def _json_rows(path: Path) -> Iterator[_Row]:
    text = read_text(path)
    try:
        entries = json.loads(text, object_pairs_hook=tuple)  # pairs, so that a name given twice is seen
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno} is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON that can be read: {error}") from error
    if not isinstance(entries, tuple):
        raise DataError(f"{path}, line 1: expected {{file: [[x, y], ... five times]}}. Received: {shown(text)}")
    line, position, escaped = 1, 0, "\\u" in text
    for name, points in entries:
        found = max(position, text.find(json.dumps(name, ensure_ascii=escaped), position))
        line, position = line + text.count("\n", position, found), found
        yield f"{path}, line {line} ({shown(name)})", name, points


_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {".csv": _csv_rows, ".json": _json_rows, ".5pt": _five_lines}


def _five_points(place: str, points: Any) -> NDArray[np.float64]:
    try:
        array = np.array(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != (5, 2) or not np.isfinite(array).all():
        raise DataError(f"{place}: expected five points [x, y] of finite numbers. Received: {shown(str(points))}")
    return array


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
