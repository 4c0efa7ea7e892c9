"""The ASVspoof challenges: corpora whose lists say what belongs to them, and where the recordings lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightcnn.datasets.speech.protocols import Reading, Trial, label_of, read_protocol, split_of
from lightcnn.errors import DataError

__all__ = ["ASVSPOOF", "Lists", "has_lists", "read_lists"]


@dataclass(frozen=True)
class Lists:
    """How one challenge is laid out.

    Attributes:
        layouts: Number of columns -> their names. A column `subset` says the split, where there is one.
        lists: Split -> patterns of its list; the first that exists counts.
        folders: Split -> patterns of the folders with its recordings; the first that exists counts.
        names: Patterns of a recording in its folder, made from the columns.
        attack: The columns that make the attack.
        condition: The columns that make the condition: codec, transmission, room.
        keyed: The split whose labels were published apart; `keys` names them.
    """

    layouts: dict[int, str]
    lists: dict[str, tuple[str, ...]]
    folders: dict[str, tuple[str, ...]]
    names: tuple[str, ...] = ("{utterance}.flac", "{utterance}.wav")
    attack: str = "attack"
    condition: str = ""
    keyed: str = ""


def has_lists(lists: Lists, root: Path) -> bool:
    """Tells whether a folder holds a challenge: one of its lists, or recordings whose key lies apart."""
    if any(_first(root, patterns) for split, patterns in lists.lists.items() if split != lists.keyed):
        return True
    return len(lists.lists) == 1 and bool(_folders(root, lists.folders[lists.keyed]))


def read_lists(lists: Lists, root: Path, keys: Path | None, reading: Reading) -> Iterator[Trial]:
    """Yields the trials of a challenge; a split whose list or folder is missing is left out and noted.

    Args:
        lists: How it is laid out.
        root: Its folder.
        keys: The key of the split that was published without labels, or a folder that holds it.
        reading: Takes problems and notes.
    """
    for split, patterns in lists.lists.items():
        path = _key(root, keys, patterns) if split == lists.keyed else _first(root, patterns)
        folders = _folders(root, lists.folders[split])
        if path is None:
            hint = " or beside it; `lightcnn check --keys` can name it" if split == lists.keyed else ""
            reading.notes.append(f"{split}: left out, no {patterns[0]} in {root}{hint}")
        elif not folders:
            reading.notes.append(f"{split}: left out, no {lists.folders[split][0]} in {root}")
        else:
            yield from _trials(lists, root, path, split, folders, reading)


def _trials(lists: Lists, root: Path, path: Path, split: str, folders: list[str], reading: Reading) -> Iterator[Trial]:
    places = [f"{folder}/{name}" for folder in folders for name in lists.names]
    for row in read_protocol(path, lists.layouts, reading.problems):
        if "label" not in row:
            raise DataError(f"{path} has no labels: it is the list without the key. Name the list that has them.")
        label, own_split = label_of(row["label"]), split_of(row.get("subset", split))
        if label is None or own_split is None:
            column = "label" if label is None else "subset"
            reading.problems.append(f"{row['line']}: unknown {column}. Received: {row[column]!r}")
            continue
        row["utterance"] = row["utterance"].removesuffix(".wav")
        row["group"] = row["utterance"][:6]
        yield Trial(
            own_split,
            _find(root, places, row),
            row["utterance"],
            label,
            "-" if label else _joined(row, lists.attack),
            row.get("speaker", "-"),
            _joined(row, lists.condition),
        )


def _find(root: Path, places: list[str], row: dict[str, str]) -> str:
    """Returns where a recording lies, or where it was expected first."""
    for position, place in enumerate(places):
        file = place.format_map(row)
        if os.path.isfile(f"{root}/{file}"):  # noqa: PTH113  (a million times: several times as fast as Path)
            places.insert(0, places.pop(position))  # the next one is likely to lie there too
            return file
    return places[0].format_map(row)


def _joined(row: dict[str, str], columns: str) -> str:
    values = [row[name] for name in columns.split()]
    return "/".join(values) if set(values) - {"-"} else "-"


def _first(root: Path, patterns: tuple[str, ...]) -> Path | None:
    found = (path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_file())
    return next((path for path in found if not path.name.startswith("._")), None)


def _key(root: Path, keys: Path | None, patterns: tuple[str, ...]) -> Path | None:
    if keys is None:
        return _first(root, patterns) or _first(root.parent, patterns)
    found = _first(keys, patterns) if keys.is_dir() else keys
    if found is None or not found.is_file():
        raise DataError(f"There is no key at {keys}. Expected a list, or a folder with {patterns[0]}.")
    return found


def _folders(root: Path, patterns: tuple[str, ...]) -> list[str]:
    """Returns the folders of the first pattern that has any, relative to `root`."""
    for pattern in patterns:
        if found := sorted(path for path in root.glob(pattern) if path.is_dir()):
            return [path.relative_to(root).as_posix() for path in found]
    return []


# ------------------------------------------------------------------------------------------------------- the layouts

_2017_LAYOUT = {7: "utterance label speaker phrase environment playback recorder", 2: "utterance phrase"}


def _asvspoof2019(track: str) -> Lists:
    protocols = f"ASVspoof2019_{track}_cm_protocols/ASVspoof2019.{track}.cm."
    files = {"train": "train.trn.txt", "dev": "dev.trl.txt", "eval": "eval.trl.txt"}
    return Lists(
        {5: "speaker utterance condition attack label"},
        lists={split: (protocols + file,) for split, file in files.items()},
        folders={split: (f"ASVspoof2019_{track}_{split}/flac", f"ASVspoof2019_{track}_{split}/wav") for split in files},
        condition="condition",
    )


def _asvspoof2021(track: str, layouts: dict[int, str], attack: str, condition: str) -> Lists:
    name, key = f"ASVspoof2021_{track}_eval", f"{track}/CM/trial_metadata.txt"
    keys = (f"keys/{key}", key, f"*keys*/keys/{key}", f"*keys*/{key}", "CM/trial_metadata.txt", "trial_metadata.txt")
    folders = (f"{name}_part*/{name}/flac", f"{name}/flac", f"{name}_part*/flac")
    return Lists(layouts, {"eval": keys}, {"eval": folders}, attack=attack, condition=condition, keyed="eval")


def _asvspoof2017(prefix: str, keyed: str) -> Lists:
    files = {"train": "train.trn*", "dev": "dev.trl*", "eval": "eval*key*" if keyed else "eval.trl*"}
    return Lists(
        _2017_LAYOUT,
        lists={split: (f"protocol*/{prefix}_{file}", f"{prefix}_{file}") for split, file in files.items()},
        folders={split: (f"{prefix}_{split}",) for split in files},
        names=("{utterance}.wav", "{utterance}.flac"),
        attack="environment playback recorder",
        keyed=keyed,
    )


ASVSPOOF: dict[str, Lists] = {
    "asvspoof2015": Lists(
        {4: "speaker utterance attack label"},
        lists={
            split: (f"CM_protocol*/{name}*", f"protocol*/{name}*", f"{name}*")
            for split, name in {"train": "cm_train.trn", "dev": "cm_develop.ndx", "eval": "cm_evaluation.ndx"}.items()
        },
        folders={"train": ("wav",), "dev": ("wav",), "eval": ("eva_release/wav", "wav")},
        names=("{speaker}/{utterance}.wav", "{group}/{utterance}.wav", "{utterance}.wav"),
    ),
    "asvspoof2017_v1": _asvspoof2017("ASVspoof2017", keyed="eval"),
    "asvspoof2017_v2": _asvspoof2017("ASVspoof2017_V2", keyed=""),
    "asvspoof2019_la": _asvspoof2019("LA"),
    "asvspoof2019_pa": _asvspoof2019("PA"),
    "asvspoof2021_la": _asvspoof2021(
        "LA", {8: "speaker utterance codec transmission attack label trim subset"}, "attack", "codec transmission"
    ),
    # Room, microphone and distances of the ASV system, then of the attacker (s: device, c: distance to the talker). The
    # distance d is written in capitals for bona fide speech alone, so it is no condition that has both.
    "asvspoof2021_pa": _asvspoof2021("PA", {12: "speaker utterance R M d r m s c label trim subset"}, "r m s c", "R M"),
    "asvspoof2021_df": _asvspoof2021(
        "DF",
        {
            13: "speaker utterance codec source attack label trim subset vocoder task team pair language",
            8: "speaker utterance codec source attack label trim subset",
        },
        "attack",
        "codec source",
    ),
    "asvspoof5": Lists(
        {10: "speaker utterance gender codec quality source attack_condition attack label rest"},
        lists={
            split: (name, f"ASVspoof5_protocols/{name}", f"protocol*/{name}")
            for split, name in {
                "train": "ASVspoof5.train.tsv",
                "dev": "ASVspoof5.dev.track_1.tsv",
                "eval": "ASVspoof5.eval.track_1.tsv",
            }.items()
        },
        folders={"train": ("flac_T",), "dev": ("flac_D",), "eval": ("flac_E_eval", "flac_E")},
        condition="codec quality",
    ),
}
