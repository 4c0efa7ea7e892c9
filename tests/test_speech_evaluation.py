"""The figures of a countermeasure are true, other corpora leave a run alone, and no bad recording is passed over."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import without_compiling
from test_speech_training import PROTOCOLS, RATE, reread, small_run

from lightcnn.calibration import Calibration
from lightcnn.datasets import load_speech
from lightcnn.datasets.speech.columns import Column, SpeechSplit
from lightcnn.errors import BadFilesError, DataError, RunError
from lightcnn.evaluation import evaluate
from lightcnn.evaluation.speech import calibrate, dataset_in, detection_figures, told, write_submission
from lightcnn.inference import Predictor
from lightcnn.models import read_metadata, write_metadata
from lightcnn.runs import Run
from lightcnn.runtimes import open_artifact


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    without_compiling(monkeypatch)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_run(tmp_path_factory)[1]


@pytest.fixture
def run(tmp_path_factory, tmp_path):
    """A copy of the run: what a test does to it stays its own."""
    finished, _ = small_run(tmp_path_factory)
    return Run.open(shutil.copytree(finished.folder, tmp_path / "run"))


def kept(run):
    names = ("metrics.json", "scores.csv", "scores.txt", "report.html", "best.keras")
    return {name: (run.folder / name).read_bytes() for name in names}


def column(texts):
    names, codes = np.unique(texts, return_inverse=True)
    return Column(tuple(names.tolist()), codes.astype(np.int32))


def split_of(labels, attacks=None, speakers=None, conditions=None):
    labels = np.asarray(labels, np.int64)
    names = np.array([f"LA_E_{row}".encode() for row in range(len(labels))])
    none = ["-"] * len(labels)
    columns = (column(none if texts is None else texts) for texts in (attacks, speakers, conditions))
    return SpeechSplit(Path("/data"), names, names, labels, *columns, np.ones(len(labels), np.int64))


def write_csv(folder, corpus, count=8, bad=(), names="{}"):
    """Lists the first recordings of the corpus' eval in a CSV beside copies of them, and damages some."""
    folder.mkdir()
    lines = (corpus / PROTOCOLS / "ASVspoof2019.LA.cm.eval.trl.txt").read_text().splitlines()[:count]
    table = ["file,label,attack,speaker,split"]
    for row, line in enumerate(lines):
        speaker, utterance, _, attack, label = line.split()
        name = names.format(f"{utterance}.flac")
        shutil.copy(corpus / "ASVspoof2019_LA_eval" / "flac" / f"{utterance}.flac", folder / name)
        if row in bad:
            (folder / name).write_text("no recording")
        table.append(f"{name},{label},{attack},{speaker},test")
    (folder / "own.csv").write_text("\n".join(table) + "\n")
    return folder / "own.csv"


# ------------------------------------------------------------------------------------------------------- a run's own


def test_evaluating_again_gives_the_same(run):
    before = kept(run)
    assert evaluate(run, quiet=True) == run.metrics["test"]
    del before["report.html"]  # it names the folder, and this is a copy
    assert {name: content for name, content in kept(run).items() if name in before} == before


def test_validation_has_scores_of_its_own(run):
    test_scores, metadata = run.scores.read_bytes(), read_metadata(run.best_model)
    figures = evaluate(run, "validation", quiet=True)
    assert figures == run.metrics["validation"]
    assert figures["eer"] == pytest.approx(reread(run.folder / "scores-validation.txt")["eer"], abs=1e-12)
    assert run.scores.read_bytes() == test_scores
    assert read_metadata(run.best_model) == metadata


def test_an_artifact_that_no_longer_fits_is_removed(run):
    said = read_metadata(run.best_model)
    assert open_artifact(run.artifact).metadata["calibration"] == said["calibration"]
    write_metadata(run.best_model, {key: said[key] for key in said if key not in ("threshold", "calibration")})
    evaluate(run, "validation", quiet=True)
    assert not run.artifact.exists()
    predictor = Predictor.load(run.folder)
    assert predictor._artifact.path == run.artifact
    assert predictor.threshold == pytest.approx(said["threshold"])
    assert predictor.metadata["calibration"] == read_metadata(run.best_model)["calibration"]


def test_training_data_can_be_measured_too(run):
    figures = evaluate(run, "train", quiet=True)
    assert figures["utterances"] == 12
    assert run.metrics["train"] == figures
    assert (run.folder / "scores-train.csv").exists()


def test_asv_scores_beside_the_protocols_give_the_t_dcf(run, corpus, tmp_path):
    other = tmp_path / "corpus"
    shutil.copytree(corpus, other, symlinks=True)
    generator = np.random.default_rng(0)
    lines = [
        f"- {kind} {value:.4f}"
        for kind, mean in (("target", 4), ("nontarget", -4))
        for value in generator.normal(mean, 1.0, 50)
    ]
    lines += [f"A07 spoof {value:.4f}" for value in generator.normal(2, 1, 50)]
    asv = other / "ASVspoof2019_LA_asv_scores" / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"
    asv.parent.mkdir()
    asv.write_text("\n".join(lines) + "\n")
    of_another = other / "ASVspoof2019_AA_asv_scores" / "ASVspoof2019.AA.asv.eval.gi.trl.scores.txt"
    of_another.parent.mkdir()
    of_another.write_text("no scores of this track")
    figures = evaluate(run, "test", other, quiet=True)
    expected = reread(run.folder / "scores.txt", asv_scores=asv)
    for key in ("min_tdcf", "min_tdcf_legacy"):
        assert 0 < figures[key] <= 1
        assert figures[key] == pytest.approx(expected[key], abs=1e-12)
    assert run.metrics["validation"]["min_tdcf"] is None


# ------------------------------------------------------------------------------------------------------ other corpora


def test_another_corpus_leaves_the_runs_own_figures(run, corpus, tmp_path, capsys):
    before = kept(run)
    table = write_csv(tmp_path / "own", corpus)
    figures = evaluate(run, "test", table)
    assert f"{table} is not the data that the run was trained on" in capsys.readouterr().err
    assert kept(run) == before
    assert figures["utterances"] == 8
    again = reread(run.folder / "scores-other.txt")
    assert again["eer"] == pytest.approx(figures["eer"], abs=1e-12)
    assert "own.csv" in (run.folder / "report-other.html").read_text()
    # The same recordings, the same scores, whatever list names them.
    own = [line.split()[-1] for line in (run.folder / "scores.txt").read_text().splitlines()[:8]]
    other = [line.split()[-1] for line in (run.folder / "scores-other.txt").read_text().splitlines()]
    assert [float(text) for text in other] == pytest.approx([float(text) for text in own], abs=1e-4)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_only_the_test_split_of_other_data_counts(run, corpus, tmp_path, split):
    table = write_csv(tmp_path / "own", corpus)
    with pytest.raises(RunError, match=f"its {split} split could hold"):
        evaluate(run, split, table, quiet=True)


def test_a_csv_without_a_test_split_is_no_test_of_another_run(run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus)
    table.write_text(table.read_text().replace(",test\n", ",train\n"))
    with pytest.raises(RunError, match="its test split could hold"):
        evaluate(run, "test", table, quiet=True)


def test_a_run_on_ones_own_recordings_is_measured_on_a_published_corpus(run, corpus):
    """A key that only a CSV has, set in the run's recipe, is no obstacle."""
    own = {**run.recipe.to_json(), "name": "speech", "dataset": "csv", "test_fraction": 0.3}
    (run.folder / "recipe.json").write_text(json.dumps(own))
    environment = run.environment
    environment["data"]["digest"] = "0" * 64
    run.write_environment(environment)
    assert evaluate(run, "test", corpus, quiet=True)["utterances"] == 16


def test_bad_recordings_are_all_named(run, corpus, tmp_path):
    before = kept(run)
    table = write_csv(tmp_path / "own", corpus, bad=(1, 4, 7))
    with pytest.raises(BadFilesError, match="3 files could not be read") as caught:
        evaluate(run, "test", table, quiet=True)
    bad = [load_speech("csv", table).test.path(row) for row in (1, 4, 7)]
    assert [path for path, _ in caught.value.failures] == bad
    assert "a score file must be complete" in str(caught.value)
    assert kept(run) == before
    assert not (run.folder / "scores-other.csv").exists()


def test_names_with_blanks_make_a_score_file_that_can_be_read(run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus, names="my own {}")
    figures = evaluate(run, "test", table, quiet=True)
    assert reread(run.folder / "scores-other.txt")["eer"] == pytest.approx(figures["eer"], abs=1e-12)


def test_the_corpus_is_told_from_its_files(run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus)
    assert dataset_in(run.recipe, corpus) == "asvspoof2019_la"
    assert dataset_in(run.recipe, table) == dataset_in(run.recipe, table.parent) == "csv"
    for form in ("LA", "DF"):
        (tmp_path / "both" / f"ASVspoof2021_{form}_eval" / "flac").mkdir(parents=True)
    with pytest.raises(DataError, match="both holds several corpora: asvspoof2021_la, asvspoof2021_df"):
        dataset_in(run.recipe, tmp_path / "both")
    (tmp_path / "empty").mkdir()
    assert dataset_in(run.recipe, tmp_path / "empty") == run.recipe.dataset  # whose reader says what is missing
    with pytest.raises(DataError, match="nowhere"):
        dataset_in(run.recipe, tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------------- submissions

SPLIT = split_of([0, 1, 0], attacks=["A07", "-", "A19"])
SCORES = np.array([-3.5, 2.25, 1e-7])


@pytest.mark.parametrize(
    ("dataset", "lines"),
    [
        ("asvspoof2019_la", ["LA_E_0 A07 spoof -3.5", "LA_E_1 - bonafide 2.25", "LA_E_2 A19 spoof 1e-07"]),
        ("asvspoof2019_pa", ["LA_E_0 A07 spoof -3.5", "LA_E_1 - bonafide 2.25", "LA_E_2 A19 spoof 1e-07"]),
        ("asvspoof5", ["filename\tcm-score", "LA_E_0\t-3.5", "LA_E_1\t2.25", "LA_E_2\t1e-07"]),
        ("asvspoof2021_df", ["LA_E_0 -3.5", "LA_E_1 2.25", "LA_E_2 1e-07"]),
        ("asvspoof2017_v2", ["LA_E_0 -3.5", "LA_E_1 2.25", "LA_E_2 1e-07"]),
        ("csv", ["LA_E_0 -3.5", "LA_E_1 2.25", "LA_E_2 1e-07"]),
    ],
)
def test_the_forms_of_the_challenges(tmp_path, dataset, lines):
    write_submission(tmp_path / "new" / "scores.txt", SPLIT, SCORES, dataset)
    text = (tmp_path / "new" / "scores.txt").read_text()
    assert text == "\n".join(lines) + "\n"


def test_evaluate_writes_a_submission(run, corpus, tmp_path):
    evaluate(run, submission=tmp_path / "la.txt", quiet=True)
    assert (tmp_path / "la.txt").read_text() == (run.folder / "scores.txt").read_text()
    evaluate(run, "test", write_csv(tmp_path / "own", corpus), submission=tmp_path / "own.txt", quiet=True)
    lines = (tmp_path / "own.txt").read_text().splitlines()
    assert len(lines) == 8
    assert all(len(line.split()) == 2 for line in lines)


# ----------------------------------------------------------------------------------------------------------- figures


def stepped_eer(scores, labels):
    """The official definition, a threshold after another: the mean of both rates where they are closest."""
    rates = []
    for threshold in [-np.inf, *sorted(scores)]:  # what is not above the threshold is rejected
        miss = np.mean([s <= threshold for s, label in zip(scores, labels, strict=True) if label])
        accepted = np.mean([s > threshold for s, label in zip(scores, labels, strict=True) if not label])
        rates.append((abs(miss - accepted), (miss + accepted) / 2))
    return min(rates, key=lambda pair: pair[0])[1]


@pytest.fixture(scope="module")
def trials():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 120)
    attacks = np.where(labels, "-", generator.choice(["A01", "A02", "A03"], 120))
    speakers, conditions = generator.choice(["ann", "bob", "cy"], 120), generator.choice(["aaa", "ccc"], 120)
    return split_of(labels, attacks, speakers, conditions), generator.normal(2.0 * labels, 1.5)


def test_rates_of_groups_against_an_independent_computation(trials):
    split, scores = trials
    figures = detection_figures(scores, split)
    assert figures["eer"] == pytest.approx(stepped_eer(scores, split.labels), abs=1e-12)
    for attack in ("A01", "A02", "A03"):  # against all bona fide recordings
        chosen = (split.labels == 1) | (split.attacks.values == attack)
        assert figures["per_attack"][attack] == pytest.approx(stepped_eer(scores[chosen], split.labels[chosen]))
    for key, groups in (("per_speaker", split.speakers.values), ("per_condition", split.conditions.values)):
        assert set(figures[key]) == set(groups)
        for group, rate in figures[key].items():  # against the bona fide recordings of the same group
            assert rate == pytest.approx(stepped_eer(scores[groups == group], split.labels[groups == group]))
    assert "-" not in figures["per_attack"]


def test_accuracy_and_calibrated_figures(trials):
    split, scores = trials
    plain = detection_figures(scores, split, threshold=1.0)
    assert plain["accuracy"] == np.mean(
        [(s > 1.0) == bool(label) for s, label in zip(scores, split.labels, strict=True)]
    )
    assert plain["act_dcf"] is plain["cllr"] is plain["min_tdcf"] is None
    llrs = 1.5 * scores - 2.0
    figures = detection_figures(scores, split, calibration=Calibration((1.5,), -2.0))
    costs = [np.log2(1 + np.exp(-llrs[split.labels == 1])).mean(), np.log2(1 + np.exp(llrs[split.labels == 0])).mean()]
    assert figures["cllr"] == pytest.approx(np.mean(costs), rel=1e-9)
    assert figures["cllr"] >= figures["min_cllr"]
    assert figures["act_dcf"] >= figures["min_dcf"]
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_error_rate(label):
    figures = detection_figures(np.array([1.0, -1.0, 2.0]), split_of([label] * 3))
    assert figures["utterances"] == 3
    assert figures["bona_fide"] == 3 * label
    assert figures["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)
    left = {"utterances", "bona_fide", "accuracy", "threshold"}
    assert {figures[key] for key in set(figures) - left} == {None}
    assert "per_speaker" in figures
    assert told(figures) == f"accuracy {figures['accuracy']:.2%}"


def test_a_group_of_one_class_is_none():
    figures = detection_figures(np.array([2.0, 1.0, -1.0]), split_of([1, 1, 0], speakers=["ann", "bob", "bob"]))
    assert figures["per_speaker"] == {"ann": None, "bob": 0.0}


def test_a_single_group_is_not_told_apart():
    assert detection_figures(np.array([2.0, -1.0]), split_of([1, 0]))["per_condition"] == {}


def test_calibration_needs_both_classes_and_different_scores():
    assert calibrate(split_of([1, 1]), np.array([1.0, 2.0])) == {}
    assert calibrate(split_of([1, 0]), np.array([1.0, 1.0])) == {}
    found = calibrate(split_of([1, 1, 0, 0]), np.array([2.0, 3.0, -1.0, 0.0]))
    llrs = Calibration.from_json(json.loads(json.dumps(found["calibration"]))).llr([3.0, 1.0, -1.0])
    assert llrs[0] > llrs[1] > llrs[2]
    assert llrs[1] == pytest.approx(0, abs=1e-3)  # halfway between classes that mirror each other
    assert -1 <= found["threshold"] <= 2


def test_a_test_split_of_one_class_has_no_error_rate(run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus)
    rows = [line for line in table.read_text().splitlines() if "spoof" not in line]
    table.write_text("\n".join(rows) + "\n")
    figures = evaluate(run, "test", table, quiet=True)
    assert figures["eer"] is None
    assert figures["per_attack"] is None
    assert "equal error rate on test" not in (run.folder / "report-other.html").read_text()


def test_silence_among_the_recordings_is_scored(run, corpus, tmp_path):
    table = write_csv(tmp_path / "own", corpus, count=4)
    soundfile.write(table.parent / "silent.wav", np.zeros(RATE), RATE)
    table.write_text(table.read_text() + "silent.wav,spoof,silence,-,test\n")
    figures = evaluate(run, "test", table, quiet=True)
    assert figures["utterances"] == 5
    assert "silence" in figures["per_attack"]


def test_a_model_of_another_kind_cannot_be_submitted(run, tmp_path):
    pictures = {"name": "arrays", "dataset": "arrays"}
    (run.folder / "recipe.json").write_text(json.dumps(pictures))
    with pytest.raises(RunError, match="has no form of submission"):
        evaluate(run, submission=tmp_path / "scores.txt", quiet=True)


def test_the_predictor_judges_as_the_figures_say(run, corpus):
    predictor = Predictor.load(run.folder)
    split = load_speech("asvspoof2019_la", corpus).test
    rows = list(predictor.predict(split.path(row) for row in range(len(split))))
    hits = [(row["label"] == "bonafide") == bool(label) for row, label in zip(rows, split.labels, strict=True)]
    assert np.mean(hits) == run.metrics["test"]["accuracy"]
