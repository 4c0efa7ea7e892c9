"""The speech commands: JSON as documented, order and repeats kept, exit codes, files as the challenges want them."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile
from conftest import real_file, without_compiling
from test_speech_evaluation import write_csv
from test_speech_training import RATE, recipe, small_run

from lightcnn.inference import Predictor
from lightcnn.runs import Run

KEYS = ["file", "score", "llr", "label", "threshold"]


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    without_compiling(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_run(tmp_path_factory)[1]


@pytest.fixture
def run(finished, tmp_path):
    return Run.open(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def window(finished):
    """What the run was trained on, in samples."""
    return Predictor.load(finished.folder).window_samples


@pytest.fixture(scope="module")
def recordings(window, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for row in range(3):
        samples = np.random.default_rng(row).normal(0, 0.1, window + 2000 * row)
        soundfile.write(folder / f"{row}.wav", samples, RATE)
    return folder


# ------------------------------------------------------------------------------------------------------------ predict


def test_predict_prints_only_json(call, finished, recordings):
    files = [recordings / "1.wav", recordings / "0.wav", recordings / "1.wav"]
    result = call("predict", finished.folder, *files, "--format", "json")
    assert (result.code, result.err) == (0, "")
    rows = json.loads(result.out)
    assert [list(row) for row in rows] == [KEYS] * 3
    assert [row["file"] for row in rows] == [str(path) for path in files]
    assert rows[0]["score"] == pytest.approx(rows[2]["score"], abs=1e-4)  # rows of a batch can differ in the last digit
    (expected,) = Predictor.load(finished.folder).predict(files[1:2])
    assert rows[1]["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert rows[1]["threshold"] == finished.metrics["validation"]["eer_threshold"]
    assert {row["label"] for row in rows} <= {"spoof", "bonafide"}


def test_predict_as_csv_and_table(call, finished, recordings):
    rows = list(csv.DictReader(io.StringIO(call("predict", finished.folder, recordings, "--format", "csv").out)))
    assert list(rows[0]) == KEYS
    assert [row["file"] for row in rows] == [f"{recordings}/{row}.wav" for row in range(3)]
    table = call("predict", finished.folder, recordings).out.splitlines()
    assert table[0].split()[:2] == ["file", "label"]
    assert "score (higher = more bona fide)" in table[0]
    for line, row in zip(table[1:], rows, strict=True):
        assert line.split()[:2] == [row["file"], row["label"]]
        assert f"{float(row['score']):.3f}" in line


def test_a_model_without_calibration_has_null_and_an_empty_cell(call, finished, recordings, tmp_path):
    from lightcnn.models import read_metadata, write_metadata

    model = shutil.copy(finished.best_model, tmp_path / "model.keras")
    metadata = {key: value for key, value in read_metadata(model).items() if key not in ("calibration", "threshold")}
    write_metadata(model, metadata)
    (row,) = json.loads(call("predict", model, recordings / "0.wav", "--format", "json").out)
    assert row["llr"] is None
    assert row["threshold"] == 0.0
    (row,) = csv.DictReader(io.StringIO(call("predict", model, recordings / "0.wav", "--format", "csv").out))
    assert row["llr"] == ""
    assert call("predict", model, recordings / "0.wav").code == 0


def test_bad_recordings_are_named_and_the_others_done(call, finished, recordings, tmp_path):
    (tmp_path / "bad.wav").write_text("no recording")
    files = [recordings / "0.wav", tmp_path / "bad.wav", tmp_path / "nowhere.wav", recordings / "1.wav"]
    result = call("predict", finished.folder, *files, "--format", "json", "--quiet")
    assert result.code == 1
    assert [row["file"] for row in json.loads(result.out)] == [str(files[0]), str(files[3])]
    assert f"{files[1]}: " in result.err
    assert f"{files[2]}: no such file" in result.err
    assert "2 of 4 files could not be read." in result.err
    assert result.err.count(str(files[1])) == 1, "a file is named once a message"


def test_windows_as_json_csv_and_table(call, finished, recordings, window):
    arguments = ("predict", finished.folder, recordings / "2.wav", recordings / "0.wav", "--windows")
    result = call(*arguments, "--format", "json")
    assert (result.code, result.err) == (0, "")
    rows = json.loads(result.out)
    assert [(row["file"][-5:], row["start_s"], row["end_s"]) for row in rows] == [
        ("2.wav", 0.0, window / RATE),
        ("2.wav", 0.25, (4000 + window) / RATE),  # ends with the recording
        ("0.wav", 0.0, window / RATE),
    ]
    assert {tuple(row) for row in rows} == {("file", "start_s", "end_s", "score")}
    table = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv").out)))
    assert [float(row["score"]) for row in table] == pytest.approx([row["score"] for row in rows], abs=1e-5)
    assert len(call(*arguments).out.splitlines()) == 4


def test_a_bad_recording_among_windows(call, finished, recordings, tmp_path):
    (tmp_path / "bad.wav").write_text("no recording")
    files = (tmp_path / "bad.wav", recordings / "0.wav")
    result = call("predict", finished.folder, *files, "--windows", "--format", "json", "--quiet")
    assert result.code == 1
    assert [row["file"] for row in json.loads(result.out)] == [str(files[1])]
    assert "1 of 2 files could not be read." in result.err


def test_windows_are_for_speech(call, recordings, tmp_path):
    from lightcnn.models import lcnn, save_model

    save_model(lcnn((16, 16, 1), 2), tmp_path / "pictures.keras", {"labels": ["a", "b"]})
    result = call("predict", tmp_path / "pictures.keras", recordings / "0.wav", "--windows")
    assert result.code == 2
    assert "--windows is for speech" in result.err


def test_conversions_are_said_once(call, finished, tmp_path):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, (48000, 2)), 48000)
    said = call("predict", finished.folder, tmp_path / "a.wav", tmp_path / "b.wav", "--format", "json")
    assert said.err.count("Converted 2 files: 2 channels mixed down, 48,000 Hz -> 16,000 Hz") == 1
    assert [list(row) for row in json.loads(said.out)] == [KEYS] * 2


# --------------------------------------------------------------------------------------------------- evaluate, compare


def test_evaluate_prints_figures_and_writes_a_submission(call, run, tmp_path):
    result = call("evaluate", run.folder, "--submission", tmp_path / "eval.txt")
    assert result.code == 0
    figures, rows = run.metrics["test"], dict(line.rsplit(maxsplit=1) for line in result.out.splitlines()[1:])
    assert rows["eer"] == f"{figures['eer']:.2%}"
    assert rows["utterances"] == "16"
    assert rows["min dcf"] == f"{figures['min_dcf']:.4f}"
    assert rows["min tdcf"] == "-"
    assert rows["EER per attack A05"] == f"{figures['per_attack']['A05']:.2%}"
    scored = call("score", tmp_path / "eval.txt", "--format", "json", "--quiet")
    assert json.loads(scored.out)["eer"] == pytest.approx(figures["eer"], abs=1e-12)


def test_evaluate_on_other_data(call, run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus)
    result = call("evaluate", run.folder, "--data-dir", table, "--quiet")
    assert result.code == 0
    assert "utterances" in result.out
    table = write_csv(tmp_path / "bad", corpus, bad=(2, 3))
    result = call("evaluate", run.folder, "--data-dir", table)
    assert (result.code, result.out) == (1, "")
    assert "2 files could not be read:" in result.err


def test_compare_averages_error_rates(call, run, tmp_path):
    other = Run.open(shutil.copytree(run.folder, tmp_path / "other"))
    content = {**recipe().to_json(), "seed": 1}
    (other.folder / "recipe.json").write_text(json.dumps(content))
    for one, rate in ((run, 0.1), (other, 0.2)):
        metrics = one.metrics
        metrics["test"] |= {"eer": rate, "min_dcf": 0.5}
        one.write_metrics(metrics)
    result = call("compare", run.folder, other.folder)
    assert (result.code, result.err) == (0, "")
    head, row = result.out.splitlines()
    for name in ("validation EER, %", "test EER, %", "test min DCF"):
        assert name in head
    assert "min t-DCF" not in head  # no run has it
    column = head.index("test EER, %")
    assert row[column:].split("  ")[0] == "15.00 ± 7.07"  # by hand: the sample's deviation of 10 and 20


# ---------------------------------------------------------------------------------------------- train, check, convert


def test_train_needs_a_corpus(call, tmp_path):
    result = call("train", "asvspoof2019_la", "--run-dir", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    assert "asvspoof2019_la needs a corpus: name its folder with --data-dir." in result.err
    result = call("train", "asvspoof2019_la", "--data-dir", tmp_path, "--run-dir", tmp_path / "run")
    assert result.code == 1
    assert "does not hold ASVspoof 2019 LA" in result.err


def test_keys_of_pictures_do_not_fit_a_speech_recipe(call, tmp_path):
    result = call("train", "asvspoof2019_la", "--data-dir", tmp_path, "--set", "flip=true")
    assert result.code == 2
    assert "flip belongs to image classification" in result.err


def test_check_of_a_good_corpus(call, corpus):
    result = call("check", corpus, "--format", "json", "--quiet")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["problems"] == []
    assert {name: facts["bona_fide"] + facts["spoofed"] for name, facts in report["splits"].items()} == {
        "train": 12,
        "validation": 12,
        "test": 16,
    }
    table = call("check", corpus)
    assert table.code == 0
    assert "16000 Hz" in table.out
    assert "Note: train: " in table.out  # other counts than the published ones


def test_check_of_a_corpus_with_missing_files(call, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus)
    table.write_text(table.read_text() + "nowhere.wav,spoof,A01,ann,test\n")
    result = call("check", table)
    assert result.code == 1
    assert "Problem: " in result.err
    assert "nowhere.wav" in result.err


def test_check_decodes_when_asked(call, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus, count=4)
    (damaged,) = table.parent.glob("*_1000003.flac")
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    result = call("check", table, "--decode", "--quiet")
    assert result.code == 1
    assert damaged.name in result.err


def test_convert_then_predict(call, recordings, tmp_path):
    checkpoint = real_file("golden/nii_lfcc_lcnn_lstm_sig.pt")
    result = call("convert", checkpoint, "--output", tmp_path / "nii.keras")
    assert result.code == 0
    (row,) = json.loads(call("predict", tmp_path / "nii.keras", recordings / "0.wav", "--format", "json").out)
    assert list(row) == KEYS
    assert row["llr"] is None
    wrong = call("convert", recordings / "0.wav", "--output", tmp_path / "wrong.keras")
    assert (wrong.code, wrong.out) == (1, "")
    assert not (tmp_path / "wrong.keras").exists()
