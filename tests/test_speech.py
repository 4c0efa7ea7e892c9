"""Corpora as they are laid out by their makers become the right rows, and whatever is wrong with them is named."""

import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import real_file
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lightcnn.datasets import CORPORA, audio_clips, check, find_corpora, load_speech
from lightcnn.datasets.speech.loading import read_corpus
from lightcnn.datasets.speech.unlisted import audio_below
from lightcnn.decoding import audio_info, decode_audio
from lightcnn.errors import BadFilesError, DataError, LightCNNError

# name -> {file of a list: its lines}, {recording: split, label, attack, speaker, condition}
LAYOUTS = {
    "asvspoof2015": (
        {
            "CM_protocol/cm_train.trn.txt": "T2 T2_1000001 human human\nT20 T20_1016375 S4 spoof",
            "CM_protocol/cm_develop.ndx.txt": "D18 D18_1000001 human human\nD18 D18_1000002 S1 spoof",
            "CM_protocol/cm_evaluation.ndx.txt": "E1 E10000001 human human\nE1 E10000002 S10 spoof",
        },
        {
            "wav/T2/T2_1000001.wav": ("train", 1, "-", "T2", "-"),
            "wav/T20/T20_1016375.wav": ("train", 0, "S4", "T20", "-"),
            "wav/D18/D18_1000001.wav": ("validation", 1, "-", "D18", "-"),
            "wav/D18/D18_1000002.wav": ("validation", 0, "S1", "D18", "-"),
            "eva_release/wav/E10000/E10000001.wav": ("test", 1, "-", "E1", "-"),
            "eva_release/wav/E10000/E10000002.wav": ("test", 0, "S10", "E1", "-"),
        },
    ),
    "asvspoof2017_v1": (
        {
            "protocol/ASVspoof2017_train.trn.txt": "T_1000001.wav genuine M0002 S05 - - -\n"
            "T_1003016.wav spoof M0002 S06 E02 P02 R04",
            "protocol/ASVspoof2017_dev.trl.txt": "D_1000001.wav genuine M0011 S01 - - -",
        },
        {
            "ASVspoof2017_train/T_1000001.wav": ("train", 1, "-", "M0002", "-"),
            "ASVspoof2017_train/T_1003016.wav": ("train", 0, "E02/P02/R04", "M0002", "-"),
            "ASVspoof2017_dev/D_1000001.wav": ("validation", 1, "-", "M0011", "-"),
        },
    ),
    "asvspoof2017_v2": (
        {
            "protocol_V2/ASVspoof2017_V2_train.trn.txt": "T_1000001.wav genuine M0002 S05 - - -",
            "protocol_V2/ASVspoof2017_V2_dev.trl.txt": "D_1000001.wav spoof M0002 S05 E01 P01 R01",
            "protocol_V2/ASVspoof2017_V2_eval.trl.txt": "E_1000001.wav spoof M0025 S03 E05 P10 R07",
        },
        {
            "ASVspoof2017_V2_train/T_1000001.wav": ("train", 1, "-", "M0002", "-"),
            "ASVspoof2017_V2_dev/D_1000001.wav": ("validation", 0, "E01/P01/R01", "M0002", "-"),
            "ASVspoof2017_V2_eval/E_1000001.wav": ("test", 0, "E05/P10/R07", "M0025", "-"),
        },
    ),
    "asvspoof2019_la": (
        {
            "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt": "LA_0079 LA_T_1138215 - - bonafide",
            "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.txt": "LA_0069 LA_D_1047731 - A03 spoof",
            "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt": "LA_0039 LA_E_2834763 - A11 spoof",
        },
        {
            "ASVspoof2019_LA_train/flac/LA_T_1138215.flac": ("train", 1, "-", "LA_0079", "-"),
            "ASVspoof2019_LA_dev/flac/LA_D_1047731.flac": ("validation", 0, "A03", "LA_0069", "-"),
            "ASVspoof2019_LA_eval/flac/LA_E_2834763.flac": ("test", 0, "A11", "LA_0039", "-"),
        },
    ),
    "asvspoof2019_pa": (
        {
            "ASVspoof2019_PA_cm_protocols/ASVspoof2019.PA.cm.train.trn.txt": "PA_0079 PA_T_0000001 aaa - bonafide",
            "ASVspoof2019_PA_cm_protocols/ASVspoof2019.PA.cm.dev.trl.txt": "PA_0069 PA_D_0000002 acb BC spoof",
            "ASVspoof2019_PA_cm_protocols/ASVspoof2019.PA.cm.eval.trl.txt": "PA_0039 PA_E_0000003 ccc AA spoof",
        },
        {
            "ASVspoof2019_PA_train/flac/PA_T_0000001.flac": ("train", 1, "-", "PA_0079", "aaa"),
            "ASVspoof2019_PA_dev/flac/PA_D_0000002.flac": ("validation", 0, "BC", "PA_0069", "acb"),
            "ASVspoof2019_PA_eval/flac/PA_E_0000003.flac": ("test", 0, "AA", "PA_0039", "ccc"),
        },
    ),
    "asvspoof2021_la": (
        {
            "keys/LA/CM/trial_metadata.txt": "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval\n"
            "LA_0020 LA_E_6866159 none - bonafide bonafide notrim progress\n"
            "LA_0020 LA_E_6866160 g722 loc_tx bonafide bonafide only_speech hidden",
        },
        {
            "ASVspoof2021_LA_eval/flac/LA_E_9332881.flac": ("test", 0, "A07", "LA_0009", "alaw/ita_tx"),
            "ASVspoof2021_LA_eval/flac/LA_E_6866159.flac": ("progress", 1, "-", "LA_0020", "none/-"),
            "ASVspoof2021_LA_eval/flac/LA_E_6866160.flac": ("hidden", 1, "-", "LA_0020", "g722/loc_tx"),
        },
    ),
    "asvspoof2021_pa": (
        {
            "PA-keys-full/keys/PA/CM/trial_metadata.txt": "PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim "
            "eval\nPA_0010 PA_E_1000002 R1 M2 D4 - - - - bonafide notrim eval",
        },
        {
            "ASVspoof2021_PA_eval_part00/ASVspoof2021_PA_eval/flac/PA_E_1000001.flac": (
                "test",
                0,
                "r1/m1/s4/c4",
                "PA_0010",
                "R3/M3",
            ),
            "ASVspoof2021_PA_eval_part06/ASVspoof2021_PA_eval/flac/PA_E_1000002.flac": (
                "test",
                1,
                "-",
                "PA_0010",
                "R1/M2",
            ),
        },
    ),
    "asvspoof2021_df": (
        {
            "keys/DF/CM/trial_metadata.txt": "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress "
            "traditional_vocoder - - - -\nTEF2 DF_E_2000013 low_m4a vcc2020 bonafide bonafide notrim eval - t T F-F E\n"
            "LA_0023 DF_E_2000026 high_mp3 asvspoof A10 spoof notrim eval",
        },
        {
            "ASVspoof2021_DF_eval_part00/ASVspoof2021_DF_eval/flac/DF_E_2000011.flac": (
                "progress",
                0,
                "A14",
                "LA_0023",
                "nocodec/asvspoof",
            ),
            "ASVspoof2021_DF_eval_part03/ASVspoof2021_DF_eval/flac/DF_E_2000013.flac": (
                "test",
                1,
                "-",
                "TEF2",
                "low_m4a/vcc2020",
            ),
            "ASVspoof2021_DF_eval_part00/ASVspoof2021_DF_eval/flac/DF_E_2000026.flac": (
                "test",
                0,
                "A10",
                "LA_0023",
                "high_mp3/asvspoof",
            ),
        },
    ),
    "asvspoof5": (
        {
            "ASVspoof5.train.tsv": "T_4850 T_0000000000 F - - - AC3 A05 spoof -",
            "ASVspoof5.dev.track_1.tsv": "D_0062 D_0000000001 F - - - AC1 A11 spoof -",
            "ASVspoof5.eval.track_1.tsv": "E_1607 E_0009538969 M C05 2 E_0009486171 AC1 A26 spoof -\n"
            "E_1607 E_0009538970 M - - E_0009486172 - bonafide bonafide -",
        },
        {
            "flac_T/T_0000000000.flac": ("train", 0, "A05", "T_4850", "-"),
            "flac_D/D_0000000001.flac": ("validation", 0, "A11", "D_0062", "-"),
            "flac_E_eval/E_0009538969.flac": ("test", 0, "A26", "E_1607", "C05/2"),
            "flac_E_eval/E_0009538970.flac": ("test", 1, "-", "E_1607", "-"),
        },
    ),
    "in_the_wild": (
        {"meta.csv": "file,speaker,label\n0.wav,Alec Guinness,spoof\n4.wav,Christopher Hitchens,bona-fide"},
        {
            "0.wav": ("test", 0, "-", "Alec Guinness", "-"),
            "4.wav": ("test", 1, "-", "Christopher Hitchens", "-"),
        },
    ),
    "for": (
        {"training/real/._file1.wav": "what macOS leaves behind"},
        {
            "training/fake/file1.wav": ("train", 0, "fake", "-", "-"),
            "training/real/file1.wav": ("train", 1, "-", "-", "-"),
            "validation/fake/file 2.wav": ("validation", 0, "fake", "-", "-"),
            "validation/real/file2.mp3": ("validation", 1, "-", "-", "-"),
            "testing/fake/file3.wav": ("test", 0, "fake", "-", "-"),
            "testing/real/file3.wav": ("test", 1, "-", "-", "-"),
        },
    ),
    "wavefake": (
        {},
        {
            "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav": ("test", 0, "melgan", "ljspeech", "-"),
            "generated_audio/jsut_parallel_wavegan/B1.wav": ("test", 0, "parallel_wavegan", "jsut", "-"),
            "LJSpeech-1.1/wavs/LJ001-0001.wav": ("test", 1, "-", "ljspeech", "-"),
            "jsut_ver1.1/basic5000/wav/B1.wav": ("test", 1, "-", "jsut", "-"),
        },
    ),
    "mlaad": (
        {
            "fake/en/tts vits 2/meta.csv": "path|language|model_name|transcript\n"
            './fake/en/tts vits 2/a "one.wav|en|tts/vits-2|She said: "No.\n'
            "./fake/en/tts vits 2/b.wav|en|tts/vits-2|Nothing\n"
            "./fake/en/tts vits 2/._b.wav|en|tts/vits-2|Nothing",
            "fake/de/bark/meta.csv": "path|language|model_name|transcript\n./fake/de/bark/c.wav|de|suno/bark|Ja",
        },
        {
            'fake/en/tts vits 2/a "one.wav': ("test", 0, "tts/vits-2", "-", "en"),
            "fake/en/tts vits 2/b.wav": ("test", 0, "tts/vits-2", "-", "en"),
            "fake/de/bark/c.wav": ("test", 0, "suno/bark", "-", "de"),
            "M-AILABS/de_DE/by_book/female/eva_k/buch/wavs/1.wav": ("test", 1, "-", "eva_k", "de"),
        },
    ),
    "csv": (
        {
            "list.csv": "file,label,attack,speaker,split\na.wav,real,,anna,train\nsub/b.wav,Fake,tts,bert,dev\n"
            "c d.flac,bona_fide,-,cleo,eval"
        },
        {
            "a.wav": ("train", 1, "-", "anna", "-"),
            "sub/b.wav": ("validation", 0, "tts", "bert", "-"),
            "c d.flac": ("test", 1, "-", "cleo", "-"),
        },
    ),
}


def put(root: Path, lists, files=()):
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no one listens")
    return root


def rows_of(data):
    return {
        split.files[row].decode(): (
            name,
            int(split.labels[row]),
            split.attacks[row],
            split.speakers[row],
            split.conditions[row],
        )
        for name, split in data.splits.items()
        for row in range(len(split))
    }


# ---------------------------------------------------------------------------------------------------------- the corpora


def test_every_corpus_has_a_layout_here():
    assert set(LAYOUTS) == set(CORPORA)


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_a_corpus_is_read_as_it_is_laid_out(tmp_path, corpus):
    lists, expected = LAYOUTS[corpus]
    root = put(tmp_path / "corpus", lists, expected)
    assert find_corpora(root) == [corpus]
    data = load_speech(corpus, root, validation_fraction=0, test_fraction=0)
    assert rows_of(data) == expected
    assert all(split.path(row).is_file() for split in data.splits.values() for row in range(len(split)))
    assert len(data.digest) == 64
    assert data.skipped == ()
    if corpus != "csv":  # the folder above it will do
        assert rows_of(load_speech(corpus, tmp_path)) == expected


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_windows_lines_and_a_byte_order_mark_change_nothing(tmp_path, corpus):
    lists, expected = LAYOUTS[corpus]
    root = put(tmp_path, {}, expected)
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert rows_of(load_speech(corpus, root, validation_fraction=0, test_fraction=0)) == expected


@pytest.mark.parametrize("corpus", [name for name in LAYOUTS if LAYOUTS[name][0] and name != "for"])
def test_lists_alone_say_what_belongs_to_a_corpus(tmp_path, corpus):
    lists, expected = LAYOUTS[corpus]
    root = put(tmp_path, lists, expected)
    for name in list(expected):
        if not name.startswith("M-AILABS"):
            put(root, {}, [str(Path(name).parent / f"unlisted{Path(name).suffix}")])
    assert set(rows_of(load_speech(corpus, root, validation_fraction=0, test_fraction=0))) == set(expected)


def test_the_published_counts():
    """The totals that the challenges' papers print (for 2021: evaluation subset)."""
    totals = {
        name: [sum(counts) for counts in CORPORA[name].published.values()]
        for name in CORPORA
        if CORPORA[name].published
    }
    assert totals == {
        "asvspoof2015": [16_375, 53_372, 193_404],
        "asvspoof2017_v1": [3_016, 1_710, 14_220],
        "asvspoof2017_v2": [3_014, 1_710, 13_306],
        "asvspoof2019_la": [25_380, 24_844, 71_237],
        "asvspoof2019_pa": [54_000, 29_700, 134_730],
        "asvspoof2021_la": [148_176],
        "asvspoof2021_pa": [721_332],
        "asvspoof2021_df": [533_928],
        "asvspoof5": [182_357, 140_950, 680_774],
        "in_the_wild": [31_779],
    }


@pytest.mark.parametrize(
    ("track", "counts"),
    [("la", [(300, 780), (150, 390), (220, 540)]), ("pa", [(120, 360), (50, 150), (80, 240)])],
)
def test_real_speech_laid_out_as_asvspoof2019(track, counts):
    folder = real_file(f"data/promptspoof/{track.upper()}")
    for place in (folder, folder.parent):
        data = load_speech(f"asvspoof2019_{track}", place)
        assert [(int(split.labels.sum()), len(split)) for split in data.splits.values()] == counts
    assert list(data.splits) == ["train", "validation", "test"]
    assert data.labels == ("spoof", "bonafide")
    assert (data.train, data.validation, data.test) == tuple(data.splits.values())
    assert data.split("dev") is data.validation
    assert data.split("eval") is data.test
    assert sum("as published" in note for note in data.notes) == 3
    assert data.digest == load_speech(f"asvspoof2019_{track}", folder).digest


def test_the_key_of_2021_lies_where_one_says(tmp_path):
    lists, expected = LAYOUTS["asvspoof2021_la"]
    corpus, keys = put(tmp_path / "audio" / "deep", {}, expected), put(tmp_path / "elsewhere", lists)
    with pytest.raises(
        DataError, match=r"no trial .*\n.*no keys/LA/CM/trial_metadata.txt .*`lightcnn check --keys` can name it"
    ):
        load_speech("asvspoof2021_la", corpus)
    for place in (keys / "keys", keys, keys / "keys/LA/CM/trial_metadata.txt"):
        assert rows_of(load_speech("asvspoof2021_la", corpus, keys=place)) == expected
    beside = put(tmp_path / "audio", lists)
    assert rows_of(load_speech("asvspoof2021_la", beside / "deep")) == expected
    with pytest.raises(DataError, match="no key at"):
        load_speech("asvspoof2021_la", corpus, keys=tmp_path / "none")


def test_the_eval_list_of_2017_needs_its_key(tmp_path):
    lists, expected = LAYOUTS["asvspoof2017_v1"]
    root = put(tmp_path, lists, [*expected, "ASVspoof2017_eval/E_1000001.wav"])
    assert any("eval: left out" in note for note in load_speech("asvspoof2017_v1", root).notes)
    put(root, {"bare.txt": "E_1000001.wav S03", "key.txt": "E_1000001.wav spoof M0025 S03 E05 P10 R07"})
    with pytest.raises(DataError, match="no labels"):
        load_speech("asvspoof2017_v1", root, keys=root / "bare.txt")
    assert load_speech("asvspoof2017_v1", root, keys=root / "key.txt").test.names == ["E_1000001"]


def test_bona_fide_speech_lies_where_one_says(tmp_path):
    for corpus, folder in (("wavefake", "LJSpeech-1.1"), ("mlaad", "M-AILABS")):
        lists, expected = LAYOUTS[corpus]
        spoofed = [name for name in expected if expected[name][1] == 0]
        root = put(tmp_path / corpus / "x" / "root", lists, spoofed)
        elsewhere = put(tmp_path / corpus / "y", {}, [name for name in expected if name not in spoofed])
        alone = load_speech(corpus, root)
        assert any("no bona fide speech" in note for note in alone.notes)
        assert alone.test.labels.sum() == 0
        assert load_speech(corpus, root, keys=elsewhere).test.labels.sum() == len(expected) - len(spoofed)
        put(elsewhere, {}, [f"{folder}_other/wavs/z.wav"])  # beside the folder that is named
        below = [name for name in expected if name not in spoofed and folder in Path(name).parts]
        assert load_speech(corpus, root, keys=elsewhere / folder).test.labels.sum() == len(below) > 0


def test_a_split_that_is_not_there_is_noted(tmp_path):
    lists, expected = LAYOUTS["asvspoof2019_la"]
    data = load_speech("asvspoof2019_la", put(tmp_path, lists, [name for name in expected if "_train" in name]))
    assert list(data.splits) == ["train"]
    assert data.test is None
    assert {note.split(":")[0] for note in data.notes if "left out" in note} == {"dev", "eval"}
    with pytest.raises(DataError, match=r"no split 'eval'\. It has: train"):
        data.split("eval")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_2019_in_either_format(tmp_path, suffix):
    lists, expected = LAYOUTS["asvspoof2019_la"]
    files = [str(Path(name).with_suffix(suffix)) for name in expected]
    assert set(rows_of(load_speech("asvspoof2019_la", put(tmp_path, lists, files)))) == set(files)


# ------------------------------------------------------------------------------------------------------------ one's own


def own(root: Path, lines, files, header="file,label"):
    return put(root, {"own.csv": "\n".join([header, *lines])}, files)


def many(root: Path, count=40):
    files = [f"{row}.wav" for row in range(count)]
    return own(root, [f"{name},{'real' if row % 4 else 'fake'}" for row, name in enumerate(files)], files)


def test_a_csv_without_splits_is_divided(tmp_path):
    data = load_speech("csv", many(tmp_path), validation_fraction=0.2, test_fraction=0.1, seed=3)
    assert [(name, len(split), int(split.labels.sum())) for name, split in data.splits.items()] == [
        ("train", 29, 22),
        ("validation", 7, 5),
        ("test", 4, 3),
    ]
    assert data.held_out == {"validation", "test"}
    names = [name for split in data.splits.values() for name in split.names]
    assert sorted(names) == sorted(f"{row}.wav" for row in range(40))
    again, other = (load_speech("csv", tmp_path, validation_fraction=0.2, seed=seed) for seed in (3, 4))
    assert again.test.names == data.test.names != other.test.names
    assert again.digest == data.digest


def test_a_csv_is_named_by_file_or_folder_and_takes_absolute_paths(tmp_path):
    elsewhere = put(tmp_path / "b", {}, ["x.wav"]) / "x.wav"
    root = own(tmp_path / "a", ["y.wav,spoof", f"{elsewhere},bonafide"], ["y.wav"])
    for place in (root, root / "own.csv"):
        data = load_speech("csv", place, validation_fraction=0, test_fraction=0)
        assert data.train.path(1) == elsewhere
        assert data.train.path(0) == root / "y.wav"


def test_too_few_to_hold_out(tmp_path):
    with pytest.raises(DataError, match=r"1 recording\(s\) are spoof: too few"):
        load_speech("csv", own(tmp_path, ["a.wav,spoof", "b.wav,real", "c.wav,real"], ["a.wav", "b.wav", "c.wav"]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "must name the columns file, label. Missing: file, label. Received: nothing"),
        ("path,label\na.wav,real", "Missing: file. Received: 'path', 'label'"),
        ("file,label\na.wav,maybe", "own.csv:2: unknown label. Received: 'maybe'"),
        ("file,label,split\na.wav,real,training\nb.wav,real,night", "own.csv:3: unknown split. Received: 'night'"),
        ("file,label\na.wav,real,x", "own.csv:2: expected 2 columns. Received: 'a.wav,real,x'"),
        ("file,label\n,real", "own.csv:2: the column file is empty"),
        ("file,label\na.wav,real\n\n\nb.wav", "own.csv:5: expected 2 columns"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path, text, match):
    root = put(tmp_path, {"own.csv": text}, ["a.wav", "b.wav"])
    with pytest.raises(DataError, match=match):
        load_speech("csv", root)


# -------------------------------------------------------------------------------------------------------- what is wrong


def la(root: Path, *lines, files=()):
    put(root, {"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt": "\n".join(lines)})
    (root / "ASVspoof2019_LA_train/flac").mkdir(parents=True, exist_ok=True)
    return put(root, {}, [f"ASVspoof2019_LA_train/flac/{name}.flac" for name in files])


@pytest.mark.parametrize("label", ["bonafide", "bona-fide", "bona_fide", "Bonafide", "real", "GENUINE", "human"])
def test_names_of_bona_fide_speech(tmp_path, label):
    assert load_speech("asvspoof2019_la", la(tmp_path, f"s a - - {label}", files="a")).train.labels.tolist() == [1]


def test_unknown_labels_are_named_by_line(tmp_path):
    root = la(tmp_path, "s a - - bonafide", "", "s b - A01 spoofed", "s c - A01", files="abc")
    with pytest.raises(DataError) as caught:
        load_speech("asvspoof2019_la", root)
    assert str(caught.value).splitlines() == [
        f"{root}: 2 line(s) cannot be used:",
        "  ASVspoof2019.LA.cm.train.trn.txt:3: unknown label. Received: 'spoofed'",
        "  ASVspoof2019.LA.cm.train.trn.txt:4: expected 5 columns. Received: 's c - A01'",
    ]


def test_missing_files_are_all_named(tmp_path):
    root = la(
        tmp_path, *[f"s a{number:02} - - bonafide" for number in range(60)], "s e - A01 spoof", files=["a03", "e"]
    )
    (root / "ASVspoof2019_LA_train/flac/e.flac").write_bytes(b"")
    with pytest.raises(BadFilesError) as caught:
        load_speech("asvspoof2019_la", root)
    message = str(caught.value)
    assert "60 files" in message
    assert message.count("no such file") == 59
    assert "a00.flac: no such file" in message
    assert "a19.flac" in message
    assert caught.value.failures[-1] == (root / "ASVspoof2019_LA_train/flac/e.flac", "the file is empty")
    data = load_speech("asvspoof2019_la", root, skip_bad_files=True)
    assert data.train.names == ["a03"]
    assert len(data.skipped) == 60


def test_a_corpus_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file is left in: train"):
        load_speech("asvspoof2019_la", la(tmp_path, "s a - - bonafide"), skip_bad_files=True)


def test_doubled_utterances(tmp_path):
    root = la(tmp_path, "s a - - bonafide", "s b - A01 spoof", "s a - - bonafide", files="ab")
    with pytest.raises(DataError, match=r"1 line\(s\) name a file that is listed before:\n.*a.flac\nRemove"):
        load_speech("asvspoof2019_la", root)
    data = load_speech("asvspoof2019_la", root, skip_bad_files=True)
    assert data.train.names == ["a", "b"]
    assert any("listed before" in note for note in data.notes)


@pytest.mark.parametrize("skip", [False, True])
def test_two_labels_for_one_file_are_never_guessed(tmp_path, skip):
    root = la(tmp_path, "s a - - bonafide", "s a - A01 spoof", files="a")
    with pytest.raises(DataError, match="another label"):
        load_speech("asvspoof2019_la", root, skip_bad_files=skip)


def test_a_file_in_two_splits_is_noted(tmp_path):
    lines = ["a.wav,real,train", "b.wav,fake,train", "a.wav,real,test"]
    data = load_speech("csv", own(tmp_path, lines, ["a.wav", "b.wav"], "file,label,split"), validation_fraction=0)
    assert "1 file(s) are in more than one split" in data.notes


def test_what_is_no_corpus(tmp_path):
    with pytest.raises(DataError, match=r"Unknown corpus 'asvspoof2019la'.*Did you mean 'asvspoof2019_la'"):
        load_speech("asvspoof2019la", tmp_path)
    with pytest.raises(DataError, match=r"does not hold ASVspoof 2019 LA\. Expected .*Received: an empty folder"):
        load_speech("asvspoof2019_la", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        load_speech("asvspoof2019_la", tmp_path / "none")
    with pytest.raises(DataError, match="holds no corpus that is known"):
        check(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        check(tmp_path / "none")


def test_the_digest_tells_data_apart(tmp_path):
    lines = ["s a - - bonafide", "s b - A01 spoof"]
    digests = {load_speech("asvspoof2019_la", la(tmp_path / "1", *lines, files="ab")).digest}
    digests.add(load_speech("asvspoof2019_la", la(tmp_path / "2", *lines, files="ab")).digest)
    assert len(digests) == 1  # where it lies has no influence
    for changed in (["s a - - bonafide"], ["s a - - bonafide", "s b - A02 spoof"], ["t a - - bonafide", lines[1]]):
        root = la(tmp_path / str(len(digests) + 2), *changed, files="ab")
        digests.add(load_speech("asvspoof2019_la", root).digest)
    (tmp_path / "1/ASVspoof2019_LA_train/flac/a.flac").write_bytes(b"longer than it was before")
    digests.add(load_speech("asvspoof2019_la", tmp_path / "1").digest)
    assert len(digests) == 5


NAMES = {
    "asvspoof2019_la": "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt",
    "asvspoof2021_la": "keys/LA/CM/trial_metadata.txt",
    "in_the_wild": "meta.csv",
    "mlaad": "fake/en/x/meta.csv",
    "csv": "own.csv",
}
WORDS = st.sampled_from(
    [b"a", b"LA_T_1", b"spoof", b"bonafide", b"-", b"file,label\n", b"file,speaker,label\n", b"path|x\n", b'"', b","]
)
SPACES = st.sampled_from([b" ", b"\n", b"\r\n", b"\t", b"\0", b"\xff", b"|", b"../", b"{utterance}"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corpus=st.sampled_from(sorted(NAMES)),
    content=st.one_of(st.binary(max_size=200), st.lists(st.one_of(WORDS, SPACES), max_size=40).map(b"".join)),
    skip=st.booleans(),
)
@example("csv", b"file,label\n" + b"x" * 200_000 + b",spoof", True)
@example("csv", b"file,label\na\0b,spoof", True)
@example("csv", b'file,label\n"a,spoof', True)
@example("asvspoof2019_la", b"s a\0b - - spoof", True)
@example("asvspoof2019_la", b"s . - - spoof\ns .. - - spoof", False)
def test_any_list_gives_trials_or_an_error_of_ours(tmp_path, corpus, content, skip):
    path = tmp_path / corpus / NAMES[corpus]
    for folder in ("ASVspoof2019_LA_train/flac", "ASVspoof2021_LA_eval/flac"):
        (tmp_path / corpus / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / corpus / folder / "a.flac").write_bytes(b"a")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (tmp_path / corpus / "a").write_bytes(b"a")
    try:
        data = load_speech(corpus, tmp_path / corpus, skip_bad_files=skip, validation_fraction=0, test_fraction=0)
    except LightCNNError as error:
        assert str(error)
    else:
        assert all(len(split) for split in data.splits.values())
        assert all(set(split.labels.tolist()) <= {0, 1} for split in data.splits.values())


# ----------------------------------------------------------------------------------------------------------------- size


@pytest.mark.slow
def test_many_lines_need_little_memory(tmp_path):
    count = 200_000
    lines = (f"LA_{row % 50:04} LA_T_{row:07} - A{row % 20:02} spoof" for row in range(count))
    root = la(tmp_path, *lines)
    tracemalloc.start()
    _, splits, _ = read_corpus("asvspoof2019_la", root, None)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(splits["train"]) == count
    assert held < 100 * count  # bytes
    assert peak < 400 * count


# ---------------------------------------------------------------------------------------------------------------- check


def test_check_of_real_speech():
    folder = real_file("data/promptspoof/PA")
    seen = []

    def track(items, total, description):
        items = list(items)
        assert len(items) == total
        seen.append(description)
        return items

    report = check(folder, track=track)
    assert report.corpus == "asvspoof2019_pa"
    assert report.problems == ()
    assert len(report.notes) == 3
    train = report.splits["train"]
    assert (train["recordings"], train["bona_fide"], train["spoofed"]) == (360, 120, 240)
    assert train["published"] == (5400, 48600)
    assert set(train["attacks"]) == {first + second for first in "ABC" for second in "ABC"}
    assert sum(train["attacks"].values()) == 240
    assert train["sampling_rates"] == {16000: 360}
    assert train["channels"] == {1: 360}
    first = load_speech("asvspoof2019_pa", folder).train
    seconds = [soundfile.info(first.path(row)).duration for row in range(len(first))]
    assert train["duration_s"] == pytest.approx(
        {"total": sum(seconds), "shortest": min(seconds), "median": np.median(seconds), "longest": max(seconds)}
    )
    assert "Reading train" in seen
    json.dumps(asdict(report))
    with pytest.raises(DataError, match="several corpora: asvspoof2019_la, asvspoof2019_pa"):
        check(folder.parent)
    assert check(folder.parent, "asvspoof2019_la").splits["test"]["recordings"] == 540


def test_check_finds_everything(tmp_path):
    lines = [f"s {name} - - bonafide" for name in ("good", "gone", "empty", "text", "short", "good")]
    root = la(tmp_path, *lines, "s nan - A01 spoof", "s x - A01 fake-ish")
    folder = root / "ASVspoof2019_LA_train/flac"
    tone = np.sin(np.arange(16000) / 10)
    soundfile.write(folder / "good.flac", tone, 16000)
    soundfile.write(folder / "nan.flac", np.full(8000, np.nan), 8000, format="WAV", subtype="FLOAT")
    soundfile.write(folder / "short.flac", np.random.default_rng(0).uniform(-1, 1, 16000), 16000)
    content = (folder / "short.flac").read_bytes()
    (folder / "short.flac").write_bytes(content[: len(content) // 2])
    (folder / "empty.flac").write_bytes(b"")
    (folder / "text.flac").write_bytes(b"text")
    report = check(root)
    train = report.splits["train"]
    kinds = ("missing", "empty", "doubled", "unreadable")
    assert [train[kind] for kind in kinds] == [1, 1, 1, 1]
    assert train["sampling_rates"] == {8000: 1, 16000: 2}
    told = "\n".join(report.problems)
    for expected in ("fake-ish", "gone.flac", "empty.flac", "text.flac: not a WAV", "good.flac"):
        assert expected in told
    decoded = check(root, decode=True)
    assert decoded.splits["train"]["unreadable"] == 3
    assert "nan.flac: holds NaN" in "\n".join(decoded.problems)
    assert "short.flac" in "\n".join(decoded.problems)


# ------------------------------------------------------------------------------------------------------------- clips


def test_clips_are_pieces_of_the_files_of_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    ramps = {"a.wav": np.linspace(0.1, 0.5, 3000), "sub/b.flac": np.linspace(-0.5, -0.1, 400)}
    for name, ramp in ramps.items():
        soundfile.write(tmp_path / name, ramp, 16000)
    draw = audio_clips(tmp_path, 16000)
    clips = draw(np.random.default_rng(0), 50, 1000)
    assert clips.shape == (50, 1000)
    np.testing.assert_array_equal(clips, draw(np.random.default_rng(0), 50, 1000))
    long = clips[clips[:, 0] > 0]
    assert 5 < len(long) < 45
    assert len(np.unique(long[:, 0])) > 5  # cut at many places
    step = 0.4 / 2999
    np.testing.assert_allclose(np.diff(long, axis=1), step, atol=1 / 16384)
    short = clips[clips[:, 0] < 0]
    np.testing.assert_array_equal(short[:, :400], short[:, 400:800])
    responses = audio_clips(tmp_path, 16000, crop="first", pad="zero")(np.random.default_rng(0), 50, 1000)
    assert np.unique(responses[:, 0]) == pytest.approx([-0.5, 0.1], abs=1e-4)
    assert not responses[responses[:, 0] < 0, 400:].any()
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no audio file"):
        audio_clips(tmp_path / "none", 16000)
    with pytest.raises(DataError, match="nowhere could not be read: No such file"):
        audio_clips(tmp_path / "nowhere", 16000)
    with pytest.raises(ValueError, match=r"'first' or 'random'\. Received: crop='centre'"):
        audio_clips(tmp_path, 16000, crop="centre")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_clips_come_from_all_of_a_recording_and_from_no_more_than_there_is(tmp_path, name):
    soundfile.write(tmp_path / name, np.linspace(0.1, 0.5, 48_000), 16000)
    whole = decode_audio(tmp_path / name, 16000)
    if name == "a.mp3":  # what it says it has is not there
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-3000])
        whole = decode_audio(tmp_path / name, 16000)
        assert audio_info(tmp_path / name).num_samples > len(whole) > 4000

    class Last(np.random.Generator):
        def random(self, count):
            return np.full(count, np.nextafter(1, 0))

    clip = audio_clips(tmp_path, 16000)(Last(np.random.PCG64(0)), 1, 1000)[0]
    np.testing.assert_array_equal(clip, whole[-1000:])


def test_recordings_are_found_through_links(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(3000, 0.25), 16000)
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    soundfile.write(tmp_path / "elsewhere" / "b.wav", np.full(3000, 0.5), 16000)
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in audio_below(tmp_path))
    assert files == ["a.wav", "elsewhere/b.wav", "linked/b.wav"]
