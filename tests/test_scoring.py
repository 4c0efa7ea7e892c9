"""`score`: from files to figures, what is null, what is said, and how long it takes."""

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import real_file
from hypothesis import given
from hypothesis import strategies as st

from lightcnn.datasets.scores import Trials
from lightcnn.errors import DataError, LightCNNError
from lightcnn.metrics import ASVErrorRates
from lightcnn.scoring import score, score_rows, score_trials

KEYS = ["eer", "min_tdcf_legacy", "min_tdcf", "min_dcf", "act_dcf", "cllr", "min_cllr", "per_attack"]


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="scores.txt"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to_file


@pytest.fixture
def said(write):
    """Scores a text and gives the figures, the notes and the warnings."""

    def run(text, key=None, asv_scores=None):
        notes, warnings = [], []
        files = [content and write(content, name) for content, name in ((key, "key.txt"), (asv_scores, "asv.txt"))]
        return score(write(text), *files, note=notes.append, warn=warnings.append), notes, warnings

    return run


@pytest.fixture(scope="module")
def real():
    names = ("rawgat_mul_scores.txt.gz", "cm_eval.trl.txt.gz", "asv_eval_scores.txt.gz")
    return [real_file(f"golden/asvspoof2019_la_{name}") for name in names]


def test_asvspoof2019_la_to_the_last_digit(real):
    figures = score(*real)
    assert list(figures) == KEYS
    assert f"{100 * figures['eer']:.4f}" == "1.0601"
    assert f"{figures['min_tdcf_legacy']:.5f} {figures['min_tdcf']:.5f}" == "0.03354 0.09417"
    assert f"{figures['min_dcf']:.5f}" == "0.02989"
    assert f"{100 * figures['per_attack']['A18']:.2f} {100 * figures['per_attack']['A09']:.2f}" == "3.09 0.08"
    assert len(figures["per_attack"]) == 13
    assert 0 < figures["min_cllr"] < figures["cllr"]
    assert figures["min_dcf"] < figures["act_dcf"]
    json.loads(json.dumps(figures, allow_nan=False))


def test_the_form_of_the_file_does_not_matter(real, tmp_path):
    with gzip.open(real[0], "rt") as file:
        rows = [line.split() for line in file]
    with gzip.open(real[1], "rt") as file:
        protocol = {line.split()[1]: line.strip() for line in file}
    forms = {
        "utterance and score, shuffled": (lambda u, a, k, s: f"{u} {s}", rows[::-1], real[1]),
        "a protocol line": (lambda u, a, k, s: f"{protocol[u]} {s}", rows, None),
        "ASVspoof 5": (lambda u, a, k, s: f"{u}\t{s}", [("filename", "", "", "cm-score"), *rows], real[1]),
    }
    expected = score(real[0])
    for name, (line, content, key) in forms.items():
        path = tmp_path / name
        path.write_text("\n".join(line(*row) for row in content))
        figures = score(path, key)
        assert figures == expected, name  # no score of this system stands in both kinds, so order is nothing


def test_what_lacks_its_input_is_none_and_said_once(said):
    figures, notes, warnings = said("b bonafide 1\ns spoof 0\n")
    assert [name for name, value in figures.items() if value is None] == ["min_tdcf_legacy", "min_tdcf", "per_attack"]
    assert figures["eer"] == 0
    assert len([note for note in notes if "null" in note]) == 2
    assert "columns taken for utterance, key, score" in notes[0]
    assert not warnings


def test_what_was_taken_and_left_out_is_said(said):
    _, notes, _ = said(
        "b 1\ns 0\nx 2\n", "p b - - bonafide\np s - A07 spoof\n", "- target 1\n- nontarget 0\n- spoof 1\n- target 2\n"
    )
    text = "\n".join(notes)
    assert "scores.txt: columns taken for utterance, score." in text
    assert "key.txt: columns taken for speaker, utterance, environment, attack, key." in text
    assert "1 score of no trial that counts" in text
    assert "asv.txt: of the columns, the last two taken for key, score." in text
    assert "null" not in text


def test_the_subset_eval_of_2021_counts(said):
    line = "LA_0009 {} alaw ita_tx A07 {} notrim {}\n"
    key = line.format("b", "bonafide", "eval") + line.format("s", "spoof", "eval") + line.format("h", "spoof", "hidden")
    figures, notes, _ = said("b 1\ns 0\nh 5\n", key)
    assert figures["eer"] == 0
    assert "1 of hidden" in "\n".join(notes)
    whole = "".join(f"{row} {number}\n" for row, number in zip(key.splitlines(), (1, 0, 5), strict=True))
    assert said(whole)[0] == figures


def test_scores_that_are_all_the_same_are_said_so(said):
    _, _, warnings = said("a bonafide 0\nb spoof 0\nc spoof 0\n")
    assert len(warnings) == 1
    assert "all scores are the same" in warnings[0]


def test_a_sign_that_looks_inverted_is_a_warning(said, write):
    figures, _, warnings = said("b bonafide -1\ns spoof 1\n")
    assert figures["eer"] == 1
    assert len(warnings) == 1
    assert "100.00%, so the sign of the scores looks inverted" in warnings[0]
    with pytest.warns(UserWarning, match="looks inverted"):
        score(write("b bonafide -1\ns spoof 1\n"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a 1\nb 2\n",), r"does not say which trials are bona fide.*utterance, score.*--key"),
        (("a spoof 1\nb spoof 2\n",), "no bona fide trial among 2"),
        (("a bonafide 1\n",), "no spoofed trial among 1"),
        (("a bonafide 1\nb spoof nan\n",), r"1 score NaN or infinite: b \(line 2: nan\)"),
        (("a bonafide 1\nb spoof 2\na bonafide 3\n",), "more than once: a"),
        (("a 1\n", "a bonafide\nb spoof\nc spoof\n"), "no score for 2 trials of .*: b, c"),
        (("a 1\nb 2\n", "a bonafide\nb spoof\nb spoof\n"), "key.txt has 1 utterance more than once: b"),
        (
            ("a bonafide 1\nb spoof 0\n", None, "- target 0\n- nontarget 1\n- spoof -9\n"),
            "asv.txt: The legacy t-DCF is undefined",
        ),
    ],
)
def test_files_that_cannot_be_scored_are_an_error(said, files, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        said(*files)


def test_arrays_are_scored_too():
    trials = Trials(Path("memory"), (), tuple("abcd"), np.array([3, 1, 0, 2.0]), np.array([True, True, False, False]))
    figures = score_trials(trials, ASVErrorRates(0.02, 0.02, 0.5, 0.0))
    assert list(figures) == KEYS
    assert figures["eer"] == 0.5
    assert figures["per_attack"] is None
    assert 0 < figures["min_tdcf_legacy"] < figures["min_tdcf"] <= 1


def test_the_table_is_in_per_cent_and_names_what_is_missing():
    figures = dict.fromkeys(KEYS, 0.0123456) | {"min_tdcf": None, "per_attack": {"A07": 0.5}}
    rows = {name: (value, remark) for name, value, remark in score_rows(figures)}
    assert rows["EER, %"][0] == "1.2346"
    assert rows["min DCF"][0] == "0.01235"
    assert rows["min t-DCF"] == ("-", "needs ASV scores")
    assert rows["EER of A07, %"][0] == "50.0000"
    for name in ("act DCF", "Cllr, bits"):
        assert "log-likelihood ratios" in rows[name][1]
    assert len(score_rows(figures | {"per_attack": None})) == 7


SMALL = st.floats(-1e38, 1e38).map(lambda value: float(np.float32(value)))


@given(st.lists(st.tuples(st.sampled_from(["bonafide", "spoof", "fake"]), SMALL), max_size=9), st.data())
def test_any_scores_give_numbers_or_an_error_of_ours(tmp_path_factory, rows, data):
    kinds = [[data.draw(st.floats(-9, 9)) for _ in range(2)] for _ in range(3)]
    folder = tmp_path_factory.getbasetemp()
    (folder / "s").write_text("".join(f"u{index} {key} {value!r}\n" for index, (key, value) in enumerate(rows)))
    asv = zip(("target", "nontarget", "spoof"), kinds, strict=True)
    (folder / "a").write_text("".join(f"{key} {value!r}\n" for key, values in asv for value in values))
    try:
        figures = score(folder / "s", asv_scores=folder / "a", warn=lambda message: None)
    except LightCNNError:
        return
    assert all(math.isfinite(value) for value in figures.values() if value is not None)
    assert 0 <= figures["eer"] <= 1


def test_no_keras_is_needed(real):
    code = (
        "import sys\nfrom lightcnn.scoring import score\n"
        f"score(*{[str(path) for path in real]!r})\nprint('keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["False"]
