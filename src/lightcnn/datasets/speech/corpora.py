"""The anti-spoofing corpora by name: how each is recognised, read and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lightcnn.datasets.speech import unlisted
from lightcnn.datasets.speech.listed import ASVSPOOF, has_lists, read_lists
from lightcnn.datasets.speech.protocols import Reading, Trial
from lightcnn.errors import DataError, nearest

__all__ = ["CORPORA", "Corpus", "find_corpora", "find_root"]


@dataclass(frozen=True)
class Corpus:
    """A corpus as it is published.

    Attributes:
        title: Its name, for people.
        expected: What its folder holds, for messages.
        is_in: Tells whether a folder holds it.
        read: Yields its trials: `read(root, keys, reading)`.
        published: Split -> (bona fide, spoofed) trials; empty where versions differ.
    """

    title: str
    expected: str
    is_in: Callable[[Path], bool]
    read: Callable[[Path, Path | None, Reading], Iterator[Trial]]
    published: dict[str, tuple[int, int]] = field(default_factory=dict)


def find_root(corpus: str, folder: Path) -> Path:
    """Returns the folder of a corpus: `folder` itself, or the one folder in it that holds the corpus.

    Raises:
        DataError: If the corpus is unknown, or not there, or there several times.
    """
    if corpus not in CORPORA:
        raise DataError(f"Unknown corpus {corpus!r}.{nearest(corpus, CORPORA)} Expected one of {', '.join(CORPORA)}.")
    known = CORPORA[corpus]
    if not folder.exists() or (folder.is_file() and corpus != "csv"):
        raise DataError(f"{folder} is no folder. Expected the folder of {known.title}: {known.expected}.")
    if folder.is_file() or known.is_in(folder):
        return folder
    found = [path for path in unlisted.subfolders(folder) if known.is_in(path)] if corpus != "csv" else []
    if len(found) != 1:
        seen = found or sorted(folder.iterdir())[:20]
        raise DataError(
            f"{folder} does not hold {known.title}. Expected {known.expected} in it, or in exactly one of its folders. "
            f"Received: {', '.join(path.name for path in seen) or 'an empty folder'}"
        )
    return found[0]


def find_corpora(folder: Path) -> list[str]:
    """Returns the names of the corpora that a folder holds, told from its files.

    Raises:
        DataError: If there is no such folder.

    Example:
    >>> find_corpora(Path("ASVspoof2019/LA"))
    ['asvspoof2019_la']
    """
    if folder.is_file():
        return ["csv"]
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist.")
    places = [folder, *unlisted.subfolders(folder)]
    named = [name for name, corpus in CORPORA.items() if name != "csv" and any(map(corpus.is_in, places))]
    return named or [name for name in ("csv",) if CORPORA[name].is_in(folder)]


def _challenge(title: str, name: str, expected: str, published: dict[str, tuple[int, int]]) -> Corpus:
    lists = ASVSPOOF[name]
    return Corpus(title, expected, partial(has_lists, lists), partial(read_lists, lists), published)


CORPORA: dict[str, Corpus] = {
    "asvspoof2015": _challenge(
        "ASVspoof 2015",
        "asvspoof2015",
        "CM_protocol/cm_train.trn and wav/",
        {"train": (3750, 12625), "validation": (3497, 49875), "test": (9404, 184000)},
    ),
    "asvspoof2017_v1": _challenge(
        "ASVspoof 2017 v1",
        "asvspoof2017_v1",
        "protocol/ASVspoof2017_train.trn.txt and ASVspoof2017_train/",
        {"train": (1508, 1508), "validation": (760, 950), "test": (1298, 12922)},
    ),
    "asvspoof2017_v2": _challenge(
        "ASVspoof 2017 v2",
        "asvspoof2017_v2",
        "protocol_V2/ASVspoof2017_V2_train.trn.txt and ASVspoof2017_V2_train/",
        {"train": (1507, 1507), "validation": (760, 950), "test": (1298, 12008)},
    ),
    "asvspoof2019_la": _challenge(
        "ASVspoof 2019 LA",
        "asvspoof2019_la",
        "ASVspoof2019_LA_cm_protocols/ and ASVspoof2019_LA_train/flac/",
        {"train": (2580, 22800), "validation": (2548, 22296), "test": (7355, 63882)},
    ),
    "asvspoof2019_pa": _challenge(
        "ASVspoof 2019 PA",
        "asvspoof2019_pa",
        "ASVspoof2019_PA_cm_protocols/ and ASVspoof2019_PA_train/flac/",
        {"train": (5400, 48600), "validation": (5400, 24300), "test": (18090, 116640)},
    ),
    "asvspoof2021_la": _challenge(
        "ASVspoof 2021 LA",
        "asvspoof2021_la",
        "ASVspoof2021_LA_eval/flac/ and keys/LA/CM/trial_metadata.txt",
        {"test": (14816, 133360)},
    ),
    "asvspoof2021_pa": _challenge(
        "ASVspoof 2021 PA",
        "asvspoof2021_pa",
        "ASVspoof2021_PA_eval_part*/ and keys/PA/CM/trial_metadata.txt",
        {"test": (94068, 627264)},
    ),
    "asvspoof2021_df": _challenge(
        "ASVspoof 2021 DF",
        "asvspoof2021_df",
        "ASVspoof2021_DF_eval_part*/ and keys/DF/CM/trial_metadata.txt",
        {"test": (14869, 519059)},
    ),
    "asvspoof5": _challenge(
        "ASVspoof 5",
        "asvspoof5",
        "ASVspoof5.train.tsv and flac_T/",
        {"train": (18797, 163560), "validation": (31334, 109616), "test": (138688, 542086)},
    ),
    "in_the_wild": Corpus(
        "In-the-Wild",
        "meta.csv with file,speaker,label",
        unlisted.is_in_the_wild,
        unlisted.read_in_the_wild,
        {"test": (19963, 11816)},
    ),
    "for": Corpus("Fake-or-Real", "training/fake/ and training/real/", unlisted.is_for, unlisted.read_for),
    "wavefake": Corpus("WaveFake", "generated_audio/", unlisted.is_wavefake, unlisted.read_wavefake),
    "mlaad": Corpus("MLAAD", "fake/<language>/<system>/meta.csv", unlisted.is_mlaad, unlisted.read_mlaad),
    "csv": Corpus(
        "one's own CSV",
        "one CSV with file,label[,attack,speaker,split,condition]",
        lambda folder: unlisted.csv_file(folder) is not None,
        unlisted.read_csv,
    ),
}
