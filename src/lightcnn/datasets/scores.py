"""Score files, keys and ASV score files of the ASVspoof challenges: columns between blanks or tabs, text or gzip."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcnn.datasets.speech.protocols import LABELS, label_of
from lightcnn.errors import DataError

__all__ = ["Trials", "eval_subset", "read_asv_scores", "read_key", "read_scores", "with_key"]

# What the columns of a key are, by their number. A score file has the same columns and the score after them.
_LAYOUTS = {
    1: "utterance",
    2: "utterance key",
    3: "utterance attack key",
    4: "speaker utterance attack key",  # ASVspoof 2015
    5: "speaker utterance environment attack key",  # 2019; in track 2 of ASVspoof 5 the third is the gender
    7: "utterance key speaker phrase environment playback recorder",  # 2017
    8: "speaker utterance codec transmission attack key trim subset",  # 2021 LA
    10: "speaker utterance gender codec quality source condition attack key -",  # ASVspoof 5
    12: "speaker utterance R M d r m s c key trim subset",  # 2021 PA, with the letters of its factors
    13: "speaker utterance compression source attack key trim subset vocoder task team gender-pair language",  # 2021 DF
}
_HEADER = re.compile(r"(^|[-_])(score|label|key)s?$", re.IGNORECASE)
_AUDIO = (".wav", ".flac")  # protocols of 2017 name files, the others name utterances
_LARGEST = float(np.finfo(np.float32).max)
_MOST_BYTES = 1_000_000_000  # of an unpacked file; the key of ASVspoof 2021 DF has 60 MB
_MOST_NAMES = 20  # that a message names


@dataclass(frozen=True)
class Trials:
    """What a score file or a key says about each utterance. What it does not say is None.

    Attributes:
        source: The file.
        columns: What its columns were taken for, in their order.
        utterances: `(trials,)`, names without `.wav` or `.flac`, each once.
        scores: `(trials,)` float64, finite; higher is more bona fide.
        bonafide: `(trials,)` bool.
        attacks: `(trials,)`, names; those of bona fide trials mean nothing.
        subsets: `(trials,)`, the parts of an ASVspoof 2021 evaluation: eval, progress, hidden.
        notes: What a user should know about the reading.
    """

    source: Path
    columns: tuple[str, ...]
    utterances: tuple[str, ...]
    scores: NDArray[np.float64] | None = None
    bonafide: NDArray[np.bool_] | None = None
    attacks: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_scores(path: Path | str) -> Trials:
    """Reads a score file: an utterance a line, its score last.

    Before the score stand the columns of a key (`read_key`), or the utterance's name alone. A first line of names
    (`filename<TAB>cm-score`) is passed over. Lines are read from the right, so a name that comes first may have blanks.

    Args:
        path: Plain text or gzip, UTF-8, with or without byte order mark, any line ends.

    Returns:
        The trials in the file's order.

    Raises:
        DataError: If the file cannot be read, has other columns, an unknown label, a score that is not a finite
            number, or an utterance twice. Lines or utterances are named.

    Example:
    >>> _ = Path("scores.txt").write_text("LA_E_1 A07 spoof -3.1\\nLA_E_2 - bonafide 2.5\\n")
    >>> trials = read_scores("scores.txt")
    >>> trials.scores.tolist(), trials.bonafide.tolist()
    ([-3.1, 2.5], [False, True])
    """
    table = _read_table(path, {number + 1: f"{names} score" for number, names in _LAYOUTS.items()}, "A score file")
    return replace(_trials(table), scores=_numbers(table, "utterance"))


def read_key(path: Path | str) -> Trials:
    """Reads a key or protocol of ASVspoof 2015, 2017, 2019, 2021 or 5, or two columns: utterance and label.

    Labels are bonafide (bona-fide and bona_fide too), genuine, human or real, and spoof or fake. The number of columns
    tells the layouts apart.

    Args:
        path: Plain text or gzip, UTF-8, with or without byte order mark, any line ends.

    Returns:
        The trials in the file's order, without scores.

    Raises:
        DataError: If the file cannot be read, has other columns, an unknown label, or an utterance twice. Lines or
            utterances are named.

    Example:
    >>> _ = Path("key.txt").write_text("LA_0079 LA_E_1 - A07 spoof\\nLA_0079 LA_E_2 - - bonafide\\n")
    >>> read_key("key.txt").attacks
    ('A07', '-')
    """
    return _trials(_read_table(path, {number: names for number, names in _LAYOUTS.items() if number > 1}, "A key"))


def read_asv_scores(path: Path | str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Reads the scores of a speaker verification system, as the challenges hand them out: `attack key score`.

    Only the last two columns count: the key (target, nontarget or spoof) and the score.

    Args:
        path: Plain text or gzip.

    Returns:
        The scores of targets, nontargets and spoofs, each `(trials,)` float64: the arguments of
        `lightcnn.metrics.asv_error_rates`.

    Raises:
        DataError: If the file cannot be read, has other columns, an unknown key, a score that is not a finite number,
            or one of the three has no trial.

    Example:
    >>> _ = Path("asv.txt").write_text("bonafide target 7.9\\nbonafide nontarget -8.0\\nA07 spoof 2.2\\n")
    >>> [scores.tolist() for scores in read_asv_scores("asv.txt")]
    [[7.9], [-8.0], [2.2]]
    """
    layouts = {number: " ".join([*["-"] * (number - 2), "key score"]) for number in range(2, 7)}
    table = _read_table(path, layouts, "An ASV score file")
    place = {"target": 0, "nontarget": 1, "spoof": 2}
    keys = table.columns["key"]
    kinds = {key: place.get(key.lower()) for key in set(keys)}
    _refuse_unknown(table, keys, kinds, place, "key")
    kind = np.fromiter(map(kinds.__getitem__, keys), np.int64, len(keys))
    scores = _numbers(table, "key")
    if lacking := [name for name, index in place.items() if not (kind == index).any()]:
        raise DataError(
            f"{table.path} has no {' and no '.join(lacking)} trial. Expected some of each: {', '.join(place)}."
        )
    return scores[kind == 0], scores[kind == 1], scores[kind == 2]


def with_key(trials: Trials, key: Trials) -> Trials:
    """Joins scores with the key that says what each trial is; the key's labels and attacks count.

    Args:
        trials: From `read_scores`.
        key: From `read_key`.

    Returns:
        The trials of the key, in the key's order, with their scores. Attacks are those of the score file if the key
        has none. `notes` tells what was left out.

    Raises:
        DataError: If trials of the key have no score, or the two files contradict each other. The trials are named.

    Example:
    >>> joined = with_key(read_scores("scores.txt"), read_key("key.txt"))
    """
    if trials.scores is None or key.bonafide is None:
        raise ValueError(f"Expected scores and a key. Received: {trials.source} as scores, {key.source} as a key")
    position = {name: index for index, name in enumerate(trials.utterances)}
    if missing := [name for name in key.utterances if name not in position]:
        raise DataError(
            f"{trials.source} has no score for {_count(missing, 'trial')} of {key.source}: {_listed(missing)}. "
            "Score them too; an error rate over some of the trials is another figure."
        )
    notes = [*trials.notes, *key.notes]
    if extra := len(position) - len(key.utterances):
        notes.append(f"{trials.source}: {_count(extra, 'score')} of no trial that counts in {key.source} left out.")
    joined = _chosen(trials, [position[name] for name in key.utterances])
    if joined.bonafide is not None and (contrary := np.flatnonzero(joined.bonafide != key.bonafide)).size:
        names = [key.utterances[index] for index in contrary]
        raise DataError(
            f"{trials.source} and {key.source} disagree on what is bona fide for {_count(names, 'trial')}: "
            f"{_listed(names)}. Is it the key of these scores?"
        )
    attacks = joined.attacks if key.attacks is None else key.attacks
    return replace(joined, bonafide=key.bonafide, attacks=attacks, subsets=key.subsets, notes=tuple(notes))


def eval_subset(trials: Trials) -> Trials:
    """Returns the trials of the subset `eval` of ASVspoof 2021, which the official figures are about.

    Args:
        trials: Scores or a key. Without subsets, or without one that is called eval, all are returned.

    Returns:
        Some of the trials; `notes` tells how many were left out.

    Example:
    >>> line = "LA_0009 {} alaw ita_tx A07 spoof notrim {}\\n"
    >>> _ = Path("trial_metadata.txt").write_text(line.format("LA_E_1", "eval") + line.format("LA_E_2", "hidden"))
    >>> eval_subset(read_key("trial_metadata.txt")).notes
    ('trial_metadata.txt: 1 trial of the subset eval; left out: 1 of hidden.',)
    """
    counts = Counter(trials.subsets or ())
    if "eval" not in counts or len(counts) == 1:
        return trials
    kept = _chosen(trials, [index for index, name in enumerate(trials.subsets or ()) if name == "eval"])
    left_out = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if name != "eval")
    note = f"{trials.source}: {_count(counts['eval'], 'trial')} of the subset eval; left out: {left_out}."
    return replace(kept, notes=(*trials.notes, note))


def _chosen(trials: Trials, rows: list[int]) -> Trials:
    texts = (trials.utterances, trials.attacks, trials.subsets)
    utterances, attacks, subsets = (None if column is None else tuple(column[row] for row in rows) for column in texts)
    return replace(
        trials,
        utterances=utterances or (),
        scores=None if trials.scores is None else trials.scores[rows],
        bonafide=None if trials.bonafide is None else trials.bonafide[rows],
        attacks=attacks,
        subsets=subsets,
    )


@dataclass(frozen=True)
class _Table:
    path: Path
    names: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    lines: list[int]  # numbers, counted from 1


def _read_table(path: Path | str, layouts: Mapping[int, str], what: str) -> _Table:
    path = Path(path)
    numbered = [(number, line) for number, line in enumerate(_read_lines(path), 1) if line and not line.isspace()]
    if not numbered:
        raise DataError(f"{path} is empty. {what} was expected, with columns between blanks or tabs.")
    lines, texts = [number for number, _ in numbered], [line for _, line in numbered]
    separator = "\t" if "\t" in texts[0].strip() else None
    rows = [text.strip().split(separator) for text in texts]
    if _HEADER.search(rows[0][-1]):
        del rows[0], lines[0], texts[0]
    if not rows:
        raise DataError(f"{path} has a line of names and no trial. {what} was expected.")
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if width not in layouts:
        forms = "\n".join(f"  {number:2} columns: {names}" for number, names in layouts.items())
        raise DataError(
            f"{path} has {_count(width, 'column')} (line {lines[0]}: {_short(texts[0])}). "
            f"{what} has one of these forms, between blanks or tabs:\n{forms}"
        )
    names = tuple(layouts[width].split())
    for index, row in enumerate(rows):
        if len(row) == width:
            continue
        if len(row) < width or names[0] != "utterance":
            raise DataError(
                f"{path}, line {lines[index]}: {_count(len(row), 'column')}, where most lines have {width} "
                f"({', '.join(names)}). Received: {_short(texts[index])}"
            )
        rows[index] = texts[index].strip().rsplit(separator, width - 1)  # a name with blanks in it
    return _Table(path, names, dict(zip(names, zip(*rows, strict=True), strict=True)), lines)


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES / 1e6:,.0f} MB")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}.") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} could not be read: {cause}.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _trials(table: _Table) -> Trials:
    bonafide = None
    if keys := table.columns.get("key"):
        labels = {key: label_of(key) for key in set(keys)}
        _refuse_unknown(table, keys, labels, LABELS, "label")
        bonafide = np.fromiter(map(labels.__getitem__, keys), np.bool_, len(keys))
    utterances = tuple(_without_suffix(table.columns["utterance"]))
    if len(set(utterances)) < len(utterances):
        twice = [name for name, count in Counter(utterances).items() if count > 1]
        raise DataError(
            f"{table.path} has {_count(twice, 'utterance')} more than once: {_listed(twice)}. "
            f"Its columns were taken for: {', '.join(table.names)}."
        )
    attacks = table.columns.get("attack")
    if (
        attacks
        and bonafide is not None
        and all(attack == "-" for attack in set(np.asarray(attacks, object)[~bonafide]))
    ):
        attacks = None  # `utterance - key score`: the column stands there and says nothing
    return Trials(
        table.path, table.names, utterances, bonafide=bonafide, attacks=attacks, subsets=table.columns.get("subset")
    )


def _without_suffix(names: Iterable[str]) -> list[str]:
    return [name.rsplit(".", 1)[0] if name.endswith(_AUDIO) else name for name in names]


def _refuse_unknown(
    table: _Table, values: tuple[str, ...], meanings: Mapping[str, int | None], known: Iterable[str], what: str
) -> None:
    if None in meanings.values():
        index = next(index for index, value in enumerate(values) if meanings[value] is None)
        raise DataError(
            f"{table.path}, line {table.lines[index]}: unknown {what} {_short(values[index])}. Expected one of: "
            f"{', '.join(known)}. The columns were taken for: {', '.join(table.names)}."
        )


def _numbers(table: _Table, name: str) -> NDArray[np.float64]:
    """Returns the scores; a wrong one is named by its line and the column `name`."""
    texts = table.columns["score"]
    try:
        scores = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        index = next(index for index, text in enumerate(texts) if not _is_number(text))
        raise DataError(
            f"{table.path}, line {table.lines[index]}: expected a score in the last column. "
            f"Received: {_short(texts[index])}. The columns were taken for: {', '.join(table.names)}."
        ) from None
    if (bad := np.flatnonzero(~(np.abs(scores) <= _LARGEST))).size:
        named = [f"{table.columns[name][index]} (line {table.lines[index]}: {texts[index]})" for index in bad]
        raise DataError(
            f"{table.path}: {_count(named, 'score')} NaN or infinite: {_listed(named)}. "
            "A figure without them would be another one; find out why the system gave them."
        )
    return scores


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


def _count(things: int | list[str], noun: str) -> str:
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:_MOST_NAMES])
    return shown + (f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else "")
