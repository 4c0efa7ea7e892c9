"""The report of a countermeasure stands alone and shows what its scores say."""

import numpy as np
import pytest
import soundfile
from conftest import begin, environment_of
from test_reporting import LAYERS, Page, assert_stands_alone, decoded
from test_speech_training import RATE, small_run

from lightcnn.datasets import load_speech
from lightcnn.evaluation.speech import detection_figures
from lightcnn.reporting import write_report
from lightcnn.reporting.speech import headline
from lightcnn.runs import Recipe

SECTIONS = ["Learning curves", "Error rates (test)", "Scores", "Per attack", "Per speaker", "Worst errors (test)"]
END = ["Layers", "How it was made"]
PLOTS = {"loss and accuracy by epoch", "detection error trade-off", "histogram of scores"}
SPECTROGRAMS = "spectrograms of the worst errors"


def report(folder, scores, labels, attacks=None, speakers=None, threshold=0.0, **names):
    """Writes the report of a run that is made up, on noise of different lengths."""
    recordings = folder / "recordings"
    recordings.mkdir()
    lines, generator = ["file,label,attack,speaker,split"], np.random.default_rng(0)
    for row, label in enumerate(labels):
        name = names.get("name", "{}.wav").format(row)
        soundfile.write(recordings / name, generator.normal(0, 0.1, 2000 + 20000 * (row % 5)), RATE)
        attack, speaker = (texts[row] if texts else "-" for texts in (attacks, speakers))
        lines.append(f"{name},{'bonafide' if label else 'spoof'},{attack},{speaker},test")
    (recordings / "list.csv").write_text("\n".join(lines) + "\n")
    data = load_speech("csv", recordings / "list.csv")
    run = begin(folder / "run", Recipe("mine", "csv", model="lcnn_attention", epochs=3))
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    run.write_history([{"epoch": n + 1, **dict.fromkeys(keys, 0.5)} for n in range(3)])
    run.write_environment(environment_of(data.name, data={"labels": ["spoof", "bonafide"]}, layers=LAYERS))
    scores = np.asarray(scores, np.float64)
    figures = detection_figures(scores, data.test, threshold)
    run.write_metrics({"train_seconds": 12.0, "parameters": 1907, "test": figures})
    write_report(run.report, run, data, "test", scores, run.metrics)
    return run.report.read_text(encoding="utf-8"), figures


def usual(folder, **changes):
    """Ten recordings, two of them on the wrong side."""
    labels = [1] * 5 + [0] * 5
    values = {
        "scores": [3.0, 2.5, 2.0, 1.5, -0.5, 0.75, -1.0, -1.5, -2.0, -2.5],
        "attacks": ["-"] * 5 + ["A01", "A01", "A01", "A02", "A02"],
        "speakers": ["ann", "bob"] * 5,
        **changes,
    }
    return report(folder, values.pop("scores"), labels, **values)


def test_the_report_is_one_file(tmp_path):
    text, _ = usual(tmp_path)
    page = assert_stands_alone(text)
    assert "http://" not in text
    assert "https://" not in text
    assert page.titles == [*SECTIONS, *END]


def test_its_pictures_are_in_the_file(tmp_path):
    page = Page(usual(tmp_path)[0])
    assert set(page.images) == {*PLOTS, SPECTROGRAMS}
    for source in page.images.values():
        assert b"<svg" in decoded(source, "image/svg+xml")


def test_the_figures_are_told(tmp_path):
    text, figures = usual(tmp_path)
    page = Page(text)
    told = " ".join(page.text)
    assert figures["eer"] == pytest.approx(0.2)
    assert "20.00%" in told
    assert "equal error rate on test, 10 recordings" in told
    assert "with 95 % confidence between" in told
    assert ["A01", "3", f"{figures['per_attack']['A01']:.2%}"] in page.rows
    assert ["A02", "2", "0.00%"] in page.rows
    assert ["ann", "5", f"{figures['per_speaker']['ann']:.2%}"] in page.rows
    assert "2 of 10 are on the wrong side" in told


def test_the_worst_errors_come_first(tmp_path):
    text, _ = usual(tmp_path)
    drawn = decoded(Page(text).images[SPECTROGRAMS], "image/svg+xml").decode()
    spoofed, missed = drawn.index("5.wav: spoofed (A01), score 0.75"), drawn.index("4.wav: bona fide, score -0.5")
    assert spoofed < missed
    assert ".wav" in drawn
    assert "0.wav" not in drawn  # nothing is wrong with it


def test_a_score_at_the_threshold_is_spoofed_as_it_is_for_accuracy(tmp_path):
    text, _ = report(tmp_path, [1.0, 2.0, 0.0, 1.0], [1, 1, 0, 0], attacks=["-"] * 2 + ["A01"] * 2, threshold=1.0)
    assert "1 of 4 are on the wrong side" in " ".join(Page(text).text)


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_any_number_of_errors_is_drawn(tmp_path, count):
    scores = [1.0] * 10 + [2.0] * count + [0.0] * (10 - count)
    text, _ = report(tmp_path, scores, [1] * 10 + [0] * 10, attacks=["-"] * 10 + ["A01"] * 10, threshold=0.5)
    page = assert_stands_alone(text)
    assert f"{count} of 20 are on the wrong side" in " ".join(page.text)
    drawn = decoded(page.images[SPECTROGRAMS], "image/svg+xml").decode()
    assert drawn.count("10.wav: spoofed (A01), score 2") > 0
    assert drawn.count("spoofed (A01), score 2") == min(count, 6) * drawn.count("10.wav: spoofed (A01), score 2")


def test_no_error_needs_no_spectrogram(tmp_path):
    text, _ = usual(tmp_path, scores=[5, 4, 3, 2, 1, -1, -2, -3, -4, -5])
    page = assert_stands_alone(text)
    assert set(page.images) == PLOTS
    assert "None: every recording is on its side of the threshold." in " ".join(page.text)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_error_rate_to_show(tmp_path, label):
    text, _ = report(tmp_path, [1.0, -1.0, 2.0], [label] * 3)
    page = assert_stands_alone(text)
    assert page.titles == ["Learning curves", "Scores", "Worst errors (test)", *END]
    assert "equal error rate" not in " ".join(page.text)


def test_a_group_of_one_class_says_so(tmp_path):
    page = Page(usual(tmp_path, speakers=["ann"] * 5 + ["bob"] * 5)[0])
    assert ["ann", "5", "one class only"] in page.rows


def test_equal_scores_and_silence_are_shown(tmp_path):
    text, _ = usual(tmp_path, scores=[0.25] * 10)
    assert_stands_alone(text)


def test_names_are_never_trusted(tmp_path):
    evil = "<script>alert(1)</script>"
    text, _ = usual(tmp_path, attacks=["-"] * 5 + [evil] * 5, name="{} $x^2_ & a.wav")
    page = assert_stands_alone(text)
    assert "<script" not in text
    assert any(row[0] == evil for row in page.rows if row)


def test_what_is_unknown_has_no_tile():
    figures = dict.fromkeys(("eer", "min_tdcf", "min_tdcf_legacy", "min_dcf", "act_dcf", "cllr"))
    assert headline({**figures, "accuracy": 0.5, "utterances": 3}, "test") == [
        ("50.00%", "accuracy at the model's threshold")
    ]
    known = {**figures, "eer": 0.0123, "min_tdcf": 0.25, "accuracy": 0.5, "utterances": 71237}
    shown = headline(known, "test")
    assert shown[0] == ("1.23%", "equal error rate on test, 71,237 recordings")
    assert ("0.2500", "min t-DCF (2021)") in shown


def test_a_real_run_has_its_report(tmp_path_factory):
    run, _ = small_run(tmp_path_factory)
    page = assert_stands_alone(run.report.read_text(encoding="utf-8"))
    assert page.titles == [*SECTIONS, *END]
    told = " ".join(page.text)
    assert f"{run.metrics['test']['eer']:.2%}" in told
    assert f"{run.metrics['validation']['eer']:.2%}" in told
    assert {"A01", "A05", "A06", "PS_0003", "PS_0005"} <= {row[0] for row in page.rows if row}
