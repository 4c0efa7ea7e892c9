"""Readers of score files, keys and ASV scores: every layout, every way to be wrong, and any bytes at all."""

import gzip

import numpy as np
import pytest
from conftest import real_file
from hypothesis import example, given
from hypothesis import strategies as st

from lightcnn.datasets import scores
from lightcnn.datasets.scores import eval_subset, read_asv_scores, read_key, read_scores, with_key
from lightcnn.errors import DataError, LightCNNError


@pytest.fixture
def write(tmp_path):
    def to_file(content, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


# One bona fide and one spoofed line of each layout: the lines, their attacks.
KEYS = {
    "two columns": ("b bonafide\ns spoof\n", None),
    "with a header": ("filename\tcm-label\nb\tbonafide\ns\tspoof\n", None),
    "attack": ("b - bonafide\ns A07 spoof\n", ("-", "A07")),
    "2015": ("T2 b human human\nT20 s S4 spoof\n", ("human", "S4")),
    "2019 LA": ("LA_0079 b - - bonafide\nLA_0039 s - A11 spoof\n", ("-", "A11")),
    "2019 PA": ("PA_0069 b aaa - bonafide\nPA_0069 s aaa AA spoof\n", ("-", "AA")),
    "2017": ("b.wav genuine M0002 S05 - - -\ns.wav spoof M0002 S06 E02 P02 R04\n", None),
    "2021 LA": (
        "LA_0009 b alaw ita_tx bonafide bonafide notrim eval\nLA_0009 s alaw ita_tx A07 spoof notrim eval\n",
        ("bonafide", "A07"),
    ),
    "2021 PA": (
        "PA_0010 b R3 M3 d4 r1 m1 s4 c4 bonafide notrim eval\nPA_0010 s R3 M3 d4 r1 m1 s4 c4 spoof notrim eval\n",
        None,
    ),
    "2021 DF": (
        "LA_0023 b nocodec asvspoof bonafide bonafide notrim eval bonafide - - - -\n"
        "LA_0023 s nocodec asvspoof A14 spoof notrim eval traditional_vocoder - - - -\n",
        ("bonafide", "A14"),
    ),
    "5": (
        "D_0062 b F - - - - bonafide bonafide -\nE_1607 s M C05 2 E_0009486171 AC1 A26 spoof -\n",
        ("bonafide", "A26"),
    ),
    "5, track 2": ("D_0062 b F bonafide bonafide\nD_0062 s F A11 spoof\n", ("bonafide", "A11")),
}


@pytest.mark.parametrize("layout", KEYS)
def test_a_key_of_each_challenge(layout, write):
    text, attacks = KEYS[layout]
    key = read_key(write(text))
    assert key.utterances == ("b", "s")
    assert key.bonafide.tolist() == [True, False]
    assert key.attacks == attacks
    assert key.scores is None


@pytest.mark.parametrize("layout", [layout for layout in KEYS if layout != "with a header"])
def test_a_line_of_a_key_with_the_score_after_it(layout, write):
    text, attacks = KEYS[layout]
    first, second = text.splitlines()
    trials = read_scores(write(f"{first} 2.5\n{second} -1e-1\n"))
    assert trials.utterances == ("b", "s")
    assert trials.scores.tolist() == [2.5, -0.1]
    assert trials.bonafide.tolist() == [True, False]
    assert trials.attacks == attacks
    assert trials.columns[-1] == "score"


@pytest.mark.parametrize(
    "text", ["b 1.5\ns -2\n", "b\t1.5\ns\t-2\n", "filename\tcm-score\nb\t1.5\ns\t-2\n", "\n  b   1.5  \n\ns -2"]
)
def test_scores_without_labels(text, write):
    trials = read_scores(write(text))
    assert trials.utterances == ("b", "s")
    assert trials.scores.tolist() == [1.5, -2]
    assert trials.bonafide is None
    assert trials.attacks is None
    assert trials.columns == ("utterance", "score")


def test_a_column_of_dashes_says_nothing_about_attacks(write):
    trials = read_scores(write("b - bonafide 1\ns - spoof 0\n"))
    assert trials.bonafide.tolist() == [True, False]
    assert trials.attacks is None


def test_the_real_files():
    trials = read_scores(real_file("golden/asvspoof2019_la_rawgat_mul_scores.txt.gz"))
    key = read_key(real_file("golden/asvspoof2019_la_cm_eval.trl.txt.gz"))
    assert (len(trials.utterances), trials.bonafide.sum()) == (71_237, 7_355)
    assert (len(key.utterances), key.bonafide.sum()) == (71_237, 7_355)
    assert set(key.attacks) == {"-", *(f"A{number:02}" for number in range(7, 20))}
    asv = read_asv_scores(real_file("golden/asvspoof2019_la_asv_eval_scores.txt.gz"))
    assert [len(scores) for scores in asv] == [5_370, 33_327, 63_882]
    protocol = read_key(real_file("data/promptspoof/PA/ASVspoof2019_PA_cm_protocols/ASVspoof2019.PA.cm.dev.trl.txt"))
    assert len(protocol.utterances) == 150


BONA_FIDE, SPOOFED = ("bonafide", "bona-fide", "Bona_Fide", "genuine", "human", "REAL"), ("spoof", "fake", "SPOOF")


@pytest.mark.parametrize("label", [*BONA_FIDE, *SPOOFED])
def test_names_of_labels_are_those_of_corpora(label, write):
    assert read_key(write(f"u {label}\n")).bonafide.tolist() == [label in BONA_FIDE]


@pytest.mark.parametrize(
    "encode",
    [
        gzip.compress,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.replace(b"\n", b"\r"),
    ],
    ids=["gzip", "byte order mark", "CRLF", "CR"],
)
def test_other_ways_to_write_the_same(encode, write):
    raw = b"b - bonafide 1.5\ns A07 spoof -2\n"
    plain, other = read_scores(write(raw, "plain")), read_scores(write(encode(raw), "other"))
    assert other.utterances == plain.utterances
    assert other.attacks == plain.attacks
    np.testing.assert_array_equal(other.scores, plain.scores)


def test_names_may_have_blanks(write):
    assert read_scores(write("my file.wav\t1\nother.flac\t2\n")).utterances == ("my file", "other")
    spaced = read_scores(write("plain - spoof 1\nb - bonafide 2\nin a folder/file - spoof 3\n"))
    assert spaced.utterances == ("plain", "b", "in a folder/file")
    assert spaced.bonafide.tolist() == [False, True, False]


# ----------------------------------------------------------------------------------------------------- wrong scores


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["is empty"]),
        ("\n \t\n", ["is empty"]),
        ("filename cm-score\n", ["no trial"]),
        ("a\nb\n", ["1 column (line 1: 'a')", "4 columns: utterance attack key score"]),
        ("a b c d e f g 1\n" * 2, ["line 1: unknown label 'b'", "utterance, key, speaker, phrase"]),
        ("a b c d e f 1\n", ["7 columns", "6 columns: speaker utterance environment attack key score"]),
        ("a 1\nb\nc 2\n", ["line 2: 1 column", "most lines have 2"]),
        ("p a - - spoof 1\np b - spoof 1\np c - - spoof 1\n", ["line 2: 5 columns", "most lines have 6"]),
        ("p a - - spoof 1\np b c - - spoof 1\np d - - spoof 1\n", ["line 2: 7 columns", "most lines have 6"]),
        ("a 1\n\nb high\n", ["line 3: expected a score", "'high'", "utterance, score"]),
        ("a bonafide 1\nb deepfake 2\n", ["line 2: unknown label 'deepfake'", "genuine", "utterance, key, score"]),
        ("a 1\nb nan\nc inf\nd 1e999\ne -1e39\nf 2\n", ["4 scores", "b (line 2: nan)", "c (line 3", "d (", "e ("]),
        ("a 1\nb 2\na 3\nb.wav 4\nc 5\n", ["2 utterances more than once: a, b"]),
    ],
    ids=repr,
)
def test_wrong_scores_are_named(text, messages, write):
    with pytest.raises(DataError) as raised:
        read_scores(write(text))
    for message in ["file.txt", *messages]:
        assert message in str(raised.value)


def test_many_wrong_scores_are_counted(write):
    with pytest.raises(DataError, match=r"300 scores NaN or infinite: u0 \(line 1: nan\), .* and 280 more"):
        read_scores(write("".join(f"u{index} nan\n" for index in range(300))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n", "1 column .*2 columns: utterance key"),
        ("a b c d e f\n", "6 columns"),
        ("a spoof\nb maybe\n", "line 2: unknown label 'maybe'"),
        ("a spoof\na bonafide\n", "1 utterance more than once: a"),
    ],
)
def test_wrong_keys_are_named(text, message, write):
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_key(write(text))


def test_a_file_that_unpacks_to_too_much_is_refused(write, monkeypatch):
    monkeypatch.setattr(scores, "_MOST_BYTES", 1_000_000)
    assert len(read_key(write(gzip.compress(b"a spoof\n" + b"\n" * 999_992))).utterances) == 1
    with pytest.raises(DataError, match="it unpacks to more than 1 MB"):
        read_key(write(gzip.compress(b"a spoof\n" + b"\n" * 999_993)))


@pytest.mark.parametrize("reader", [read_scores, read_key, read_asv_scores])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"a 1\n" * 1000, mtime=0)[:-20], "could not be read"),
        (b"\x1f\x8b\x08garbage", "could not be read"),
        ("a 1\n".encode("utf-16"), "no text in UTF-8"),
        (b"a \xff\n", "no text in UTF-8: invalid start byte at byte 2"),
    ],
)
def test_a_file_that_is_no_text_is_an_error(reader, content, message, write):
    with pytest.raises(DataError, match=message):
        reader(write(content))


@pytest.mark.parametrize("reader", [read_scores, read_key, read_asv_scores])
def test_a_file_that_is_not_there_is_an_error(reader, tmp_path):
    with pytest.raises(DataError, match=r"none\.txt could not be read: No such file"):
        reader(tmp_path / "none.txt")
    with pytest.raises(DataError, match="could not be read: Is a directory"):
        reader(tmp_path)
    with pytest.raises(DataError, match="could not be read"):
        reader("a\0b")


# ------------------------------------------------------------------------------------------------------- ASV scores


@pytest.mark.parametrize(
    "text",
    [
        "bonafide target 7.9\nbonafide nontarget -8\nA07 spoof 2\nA08 spoof 3\n",
        "target 7.9\nnontarget -8\nspoof 2\nspoof 3\n",
        "s u x TARGET 7.9\ns u x nontarget -8\ns u x spoof 2\ns u x spoof 3\n",
        "attack\tkey\tscore\nbonafide\ttarget\t7.9\nbonafide\tnontarget\t-8\nA07\tspoof\t2\nA08\tspoof\t3\n",
    ],
)
def test_asv_scores(text, write):
    assert [scores.tolist() for scores in read_asv_scores(write(text))] == [[7.9], [-8], [2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x target 1\nx nontarget 0\n", "no spoof trial"),
        ("x spoof 1\n", "no target and no nontarget trial"),
        ("x target 1\nx impostor 0\n", "line 2: unknown key 'impostor'. Expected one of: target, nontarget, spoof"),
        ("x target 1\nx nontarget 0\nx spoof nan\n", r"1 score NaN or infinite: spoof \(line 3: nan\)"),
        ("x target 1\nx nontarget much\n", "line 2: expected a score"),
        ("1\n2\n", "1 column "),
    ],
)
def test_wrong_asv_scores_are_named(text, message, write):
    with pytest.raises(DataError, match=message):
        read_asv_scores(write(text))


# -------------------------------------------------------------------------------------------------- scores and keys


def test_scores_take_the_order_and_the_labels_of_the_key(write):
    trials = read_scores(write("s2.flac 3\nb 1\nelse 9\ns1 2\n", "scores"))
    joined = with_key(trials, read_key(write("x s1 - A01 spoof\nx s2 - A02 spoof\nx b - - bonafide\n", "key")))
    assert joined.utterances == ("s1", "s2", "b")
    assert joined.scores.tolist() == [2, 3, 1]
    assert joined.bonafide.tolist() == [False, False, True]
    assert joined.attacks == ("A01", "A02", "-")
    assert joined.notes == (
        f"{trials.source}: 1 score of no trial that counts in {trials.source.parent / 'key'} left out.",
    )


def test_attacks_come_from_the_scores_if_the_key_has_none(write):
    trials = read_scores(write("s A07 spoof 3\nb - bonafide 1\n", "scores"))
    assert with_key(trials, read_key(write("b bonafide\ns spoof\n", "key"))).attacks == ("-", "A07")


def test_missing_trials_are_named(write):
    trials, key = read_scores(write("b 1\n", "scores")), read_key(write("b bonafide\nx spoof\ny spoof\n", "key"))
    with pytest.raises(DataError, match=r"no score for 2 trials of .*key: x, y"):
        with_key(trials, key)


def test_contradictions_are_named(write):
    trials = read_scores(write("b bonafide 1\ns bonafide 2\n", "scores"))
    with pytest.raises(DataError, match="disagree on what is bona fide for 1 trial: s"):
        with_key(trials, read_key(write("b bonafide\ns spoof\n", "key")))


def test_of_2021_the_eval_subset_counts(write):
    lines = [
        f"LA_0009 {name} alaw ita_tx A07 {label} notrim {subset}\n"
        for name, label, subset in (
            ("p", "spoof", "progress"),
            ("b", "bonafide", "eval"),
            ("h", "spoof", "hidden"),
            ("s", "spoof", "eval"),
        )
    ]
    key = eval_subset(read_key(write("".join(lines), "key")))
    assert key.utterances == ("b", "s")
    assert key.bonafide.tolist() == [True, False]
    assert key.attacks == ("A07", "A07")
    assert key.notes[0].endswith("2 trials of the subset eval; left out: 1 of progress, 1 of hidden.")
    assert with_key(read_scores(write("s 1\nb 2\n")), key).scores.tolist() == [2, 1]  # the others need no score
    scored = eval_subset(read_scores(write("".join(f"{line[:-1]} {n}\n" for n, line in enumerate(lines)))))
    assert scored.scores.tolist() == [1, 3]
    only_progress = read_key(write(lines[0], "key"))
    assert eval_subset(only_progress) == only_progress


# ------------------------------------------------------------------------------------------------------------- fuzz

LABELLIKE = st.sampled_from([*BONA_FIDE, *SPOOFED, "target", "nontarget", "score", "eval"])
NUMBERLIKE = st.sampled_from(["1.5", "-2", "nan", "1e400", "1_0", "٣"])
NAMELIKE = st.sampled_from(["a", "b.wav", "LA_E_1", "-", "A07", "ß"])
BLANKS = st.sampled_from(["\t", " ", "\n", "\r\n", "\ufeff", "\x00", "\u2028", "\x1c"])
WORDS = st.one_of(LABELLIKE, NUMBERLIKE, NAMELIKE, BLANKS)
LINES = st.lists(st.lists(WORDS, max_size=14).map(" ".join), max_size=8).map("\n".join).map(str.encode)
CONTENT = st.one_of(st.binary(max_size=200), LINES, LINES.map(gzip.compress), st.binary().map(b"\x1f\x8b".__add__))


@example(b"a 1\nb 2", b"a bonafide\nb spoof")
@given(CONTENT, CONTENT)
def test_any_bytes_give_trials_or_an_error_of_ours(tmp_path_factory, content, other):
    folder = tmp_path_factory.getbasetemp()
    paths = folder / "fuzzed", folder / "fuzzed-key"
    for path, raw in zip(paths, (content, other), strict=True):
        path.write_bytes(raw)
    read = []
    for reader, path in ((read_scores, paths[0]), (read_key, paths[1]), (read_asv_scores, paths[0])):
        try:
            read.append(reader(path))
        except LightCNNError as error:
            assert str(path) in str(error)
            continue
        if reader is read_scores:
            assert len(set(read[-1].utterances)) == len(read[-1].scores) > 0
            assert np.isfinite(read[-1].scores).all()
    if len(read) > 1 and not isinstance(read[1], tuple):
        try:
            joined = with_key(*(eval_subset(trials) for trials in read[:2]))
        except LightCNNError:
            return
        assert len(joined.utterances) == len(joined.scores) == len(joined.bonafide)
