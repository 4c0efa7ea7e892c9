"""Corpora that come as a table or as folders: one's own CSV, In-the-Wild, FoR, WaveFake, MLAAD with M-AILABS.

Files of the kind `._name`, which macOS leaves behind, are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lightcnn.datasets.speech.protocols import Reading, Trial, label_of, read_table, split_of
from lightcnn.decoding import AUDIO_SUFFIXES, files_below
from lightcnn.errors import DataError

__all__ = [
    "audio_below",
    "csv_file",
    "is_for",
    "is_in_the_wild",
    "is_mlaad",
    "is_wavefake",
    "read_csv",
    "read_for",
    "read_in_the_wild",
    "read_mlaad",
    "read_wavefake",
    "subfolders",
]


def subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


# ------------------------------------------------------------------------------------------------------------ tables


def csv_file(root: Path) -> Path | None:
    """Returns a CSV file, or the only one of a folder, or None."""
    if root.is_file():
        return root
    found = [path for path in sorted(root.glob("*.csv")) if not path.name.startswith(".")]
    return found[0] if len(found) == 1 else None


def read_csv(root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of one's own CSV: `file,label[,attack,speaker,split,condition]`.

    Files are relative to the CSV's folder, or absolute. Without the column `split` all are in train.
    """
    path = csv_file(root)
    if path is None:
        raise DataError(
            f"{root} must be a CSV file or a folder with exactly one. Expected a first line "
            "file,label[,attack,speaker,split,condition]."
        )
    yield from _table(path, reading, "train")


def is_in_the_wild(root: Path) -> bool:
    """Tells whether a folder has In-the-Wild's table."""
    try:
        return next(read_table(root / "meta.csv", ("file", "speaker", "label"), []), None) is not None
    except DataError:
        return False


def read_in_the_wild(root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of In-the-Wild; all of it is a test set."""
    yield from _table(root / "meta.csv", reading, "test")


def _table(path: Path, reading: Reading, default_split: str) -> Iterator[Trial]:
    for row in read_table(path, ("file", "label"), reading.problems):
        label, split = label_of(row["label"]), split_of(row.get("split") or default_split)
        if label is None or split is None:
            column = "label" if label is None else "split"
            reading.problems.append(f"{row['line']}: unknown {column}. Received: {row[column]!r}")
            continue
        attack, speaker, condition = (row.get(name) or "-" for name in ("attack", "speaker", "condition"))
        yield Trial(split, row["file"], row["file"], label, "-" if label else attack, speaker, condition)


# ----------------------------------------------------------------------------------------------------------- folders


def audio_below(folder: Path) -> Iterator[Path]:
    """Yields the audio files in and below a folder, in a fixed order, without hidden ones, through links."""
    yield from (path for path in sorted(files_below(folder)) if path.suffix.lower() in AUDIO_SUFFIXES)


def _walked(root: Path, folder: Path, split: str, label: int, attack: str = "-", speaker: str = "-") -> Iterator[Trial]:
    for path in audio_below(folder):
        file = Path(os.path.relpath(path, root)).as_posix()  # bona fide recordings may lie beside the corpus
        yield Trial(split, file, file, label, attack, speaker)


def is_for(root: Path) -> bool:
    """Tells whether a folder is one of Fake-or-Real's versions."""
    return all((root / "training" / name).is_dir() for name in ("fake", "real"))


def read_for(root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of one version of Fake-or-Real: the folder is the label."""
    for folder, split in (("training", "train"), ("validation", "validation"), ("testing", "test")):
        for name, label in (("fake", 0), ("real", 1)):
            if (root / folder / name).is_dir():
                yield from _walked(root, root / folder / name, split, label, "-" if label else name)
            else:
                reading.notes.append(f"{split}: no {folder}/{name} in {root}")


def _bona_fide(root: Path, keys: Path | None, names: tuple[str, ...], reading: Reading) -> list[Path]:
    """Finds the folders of the bona fide recordings that a corpus of spoofed speech is published without."""
    places = [root, root.parent] if keys is None else [keys.parent, keys]
    found = [path for place in places for name in names for path in sorted(place.glob(name)) if path.is_dir()]
    if keys is not None:  # which may be the folder itself, but not one beside it
        found = [path for path in found if path.is_relative_to(keys)]
        if not found and keys.is_dir():
            found = [keys]
    if not found:
        where = f"in or beside {root}; `lightcnn check --keys` can name it" if keys is None else f"at {keys}"
        reading.notes.append(f"test: no bona fide speech, no {' or '.join(names)} {where}")
    return list(dict.fromkeys(found))


# folder of bona fide recordings -> the speaker's name in WaveFake's folders
_WAVEFAKE_REAL = {"LJSpeech-1.1/wavs": "ljspeech", "jsut_ver1.1/basic5000/wav": "jsut"}


def is_wavefake(root: Path) -> bool:
    """Tells whether a folder has WaveFake's recordings."""
    return (root / "generated_audio").is_dir()


def read_wavefake(root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of WaveFake, `generated_audio/<speaker>_<vocoder>/*.wav`; all of it is a test set."""
    for folder in subfolders(root / "generated_audio"):
        speaker, _, vocoder = folder.name.partition("_")
        yield from _walked(root, folder, "test", 0, vocoder or speaker, speaker)
    for folder in _bona_fide(root, keys, tuple(_WAVEFAKE_REAL), reading):
        speaker = next((name for place, name in _WAVEFAKE_REAL.items() if folder.match(place)), "-")
        yield from _walked(root, folder, "test", 1, speaker=speaker)


def _mlaad_tables(root: Path) -> Iterator[Path]:
    return (path for path in root.glob("fake/*/*/meta.csv") if not path.parent.name.startswith("."))


def is_mlaad(root: Path) -> bool:
    """Tells whether a folder has MLAAD's tables."""
    return next(_mlaad_tables(root), None) is not None


def read_mlaad(root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of MLAAD and, as bona fide speech, those of M-AILABS; all of it is a test set."""
    for table in sorted(_mlaad_tables(root)):
        system, language = table.parent, table.parent.parent.name
        # Sentences hold single quotation marks: a reader that heeds them loses rows.
        for row in read_table(table, ("path",), reading.problems, delimiter="|", quoted=False):
            name = Path(row["path"]).name
            if not name.startswith("._"):
                file = f"{system.relative_to(root).as_posix()}/{name}"
                attack = row.get("model_name") or system.name
                yield Trial("test", file, file, 0, attack, "-", row.get("language") or language)
    for folder in _bona_fide(root, keys, ("M-AILABS*", "m-ailabs*", "m_ailabs*"), reading):
        for trial in _walked(root, folder, "test", 1):
            # de_DE/by_book/female/<speaker>/<book>/wavs/*.wav
            parts = Path(os.path.relpath(root / trial.file, folder)).parts
            speaker = parts[3] if len(parts) > 4 and parts[1] == "by_book" else "-"
            yield trial._replace(speaker=speaker, condition=parts[0].partition("_")[0] if len(parts) > 1 else "-")
