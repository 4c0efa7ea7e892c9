"""The report of a face model stands alone and shows what its scores say."""

import io

import numpy as np
import pytest
from conftest import begin, environment_of
from PIL import Image
from test_face_loading import write_people
from test_face_training import small_run
from test_reporting import LAYERS, Page, assert_stands_alone, decoded

from lightcnn.datasets.faces.loading import load_faces
from lightcnn.evaluation.faces import PairScores, pair_figures
from lightcnn.reporting import write_report
from lightcnn.reporting.faces import headline
from lightcnn.runs import Recipe

SECTIONS = ["Learning curves", "Error rates (test)", "Scores", "Worst pairs (test)"]
END = ["Layers", "How it was made"]
PLOTS = {"loss and accuracy by epoch", "error rates of verification", "histogram of scores"}
PAIRS = np.array([(0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3)])
SAME = np.array([True, True, False, False, False, False])


def report(folder, scores, threshold=0.5, names=("ann", "bob"), colour="grey"):
    """Writes the report of a run that is made up: the test are two people with two pictures each."""
    write_people(folder / "data" / "train", {"cat": 2, "dog": 2})
    write_people(folder / "data" / "test", dict.fromkeys(names, 2), mode="RGB")
    data = load_faces(folder / "data", image_size=20, colour=colour)
    made = Recipe("mine", "faces", model="light_cnn_9", head="softmax", epochs=3, image_size=144)
    run = begin(folder / "run", made)
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    run.write_history([{"epoch": n + 1, **dict.fromkeys(keys, 0.5)} for n in range(3)])
    run.write_environment(environment_of(data.name, data={"labels": list(data.labels)}, layers=LAYERS))
    scored = PairScores(PAIRS[:, 0], PAIRS[:, 1], SAME, np.asarray(scores, float), {})
    figures = {"images": 4, "identities": 2, "rank_1": 0.5, **pair_figures(scored, threshold)}
    run.write_metrics({"train_seconds": 12.0, "parameters": 1907, "test": figures})
    write_report(run.report, run, data, "test", scored, run.metrics)
    return run.report.read_text(encoding="utf-8"), figures, data


def pictures_of(page):
    return [np.asarray(Image.open(io.BytesIO(decoded(source, "image/png")))) for source in page.pictures]


def test_the_report_is_one_file(tmp_path):
    text, _, _ = report(tmp_path, [0.9, 0.4, 0.6, 0.1, 0.2, 0.3])
    page = assert_stands_alone(text)
    assert page.titles == [*SECTIONS, *END]
    assert set(page.images) == PLOTS


def test_the_figures_are_told(tmp_path):
    text, figures, _ = report(tmp_path, [0.9, 0.4, 0.6, 0.1, 0.2, 0.3])
    page = Page(text)
    told = " ".join(page.text)
    assert f"{figures['eer']:.2%}" in told
    assert "equal error rate on test, 2 genuine and 4 impostor pairs" in told
    assert f"{1 - figures['eer']:.2%}" in told
    assert "rank-1 identification, 2 identities" in told
    assert ["TAR at FAR 10 %", "too few pairs of two people"] in page.rows
    assert "2 of 6 pairs are on the wrong side" in told


def test_wrong_pairs_are_shown_side_by_side(tmp_path):
    text, _, data = report(tmp_path, [0.9, 0.4, 0.6, 0.1, 0.55, 0.3])
    page = Page(text)
    pixels = data.test.take(slice(None))[..., 0]
    shown = [pixels[[2, 3]], pixels[[0, 2]], pixels[[1, 2]]]  # the missed pair; then the accepted ones, the worst first
    for received, expected in zip(pictures_of(page), shown, strict=True):
        np.testing.assert_array_equal(received, np.concatenate(list(expected), axis=1))
    told = " ".join(page.text)
    assert told.index("one person, taken for two") < told.index("two people, taken for one")
    assert "0.400 against 0.500" in told
    assert "bob/0.png and bob/1.png" in told


def test_colours_are_shown_as_they_are(tmp_path):
    text, _, data = report(tmp_path, [0.9, 0.4, 0.1, 0.1, 0.1, 0.1], colour="BGR")
    (shown,) = pictures_of(Page(text))
    first = Image.open(data.test.names[data.test.rows[2]])
    np.testing.assert_array_equal(shown[:, :20], np.asarray(first))


def test_nothing_wrong_needs_no_pictures(tmp_path):
    text, _, _ = report(tmp_path, [0.9, 0.8, 0.1, 0.1, 0.1, 0.1])
    page = assert_stands_alone(text)
    assert page.pictures == []
    assert "None: every pair is on its side of the threshold." in " ".join(page.text)


def test_a_model_without_threshold_is_judged_by_the_equal_error_rate(tmp_path):
    text, figures, _ = report(tmp_path, [0.9, 0.4, 0.6, 0.1, 0.2, 0.3], threshold=None)
    assert_stands_alone(text)
    assert f"against {figures['eer_threshold']:.3f}" in text


def test_names_are_never_trusted(tmp_path):
    text, _, _ = report(tmp_path, [0.1, 0.4, 0.6, 0.1, 0.2, 0.3], names=("<b>$x^2_", "a & b"))
    assert_stands_alone(text)
    assert "&lt;b&gt;$x^2_/0.png" in text


def test_equal_scores_are_shown(tmp_path):
    assert_stands_alone(report(tmp_path, [0.25] * 6)[0])


def test_many_points_make_no_large_file(tmp_path):
    from lightcnn.reporting.faces import error_rates

    generator = np.random.default_rng(0)
    same = np.arange(200_000) < 50_000
    scores = generator.normal(same * 2.0, 1.0)
    figures = {"eer": 0.16, "eer_threshold": 1.0, "tar_at_far_1e-1": 0.5}
    assert len(error_rates(scores, same, figures)) < 300_000


def test_what_is_unknown_has_no_tile():
    figures = {"genuine": 3, "impostors": 0, "identities": 1}
    unknown = dict.fromkeys(("eer", "accuracy_at_eer", "tar_at_far_1e-2", "rank_1"))
    assert headline({**figures, **unknown}, "test") == []
    shown = headline({**figures, **unknown, "accuracy": 0.5}, "validation")
    assert shown == [("50.00%", "accuracy on validation, 1 identities")]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_real_run_has_its_report(tmp_path_factory, split):
    run, _ = small_run(tmp_path_factory)
    page = Page(run.report.read_text(encoding="utf-8"))
    told = " ".join(page.text)
    key = "accuracy" if split == "validation" else "eer"
    assert f"{run.metrics[split][key]:.2%}" in told
