"""The figures of a face model are true: against its own scores.csv and made-up scores."""

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from test_face_training import eager, load_small, small_run, write_faces  # noqa: F401

from lightcnn.datasets.faces.loading import load_faces
from lightcnn.errors import RunError
from lightcnn.evaluation import evaluate
from lightcnn.evaluation.faces import PairScores, calibrate, draw_pairs, open_run, pair_figures, write_scores
from lightcnn.inference import Predictor
from lightcnn.models import load_model, read_metadata
from lightcnn.runs import compare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return small_run(tmp_path_factory)[1]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names_of(split):
    return [split.names[row] for row in split.rows]


def scored(genuine, impostors):
    scores = np.array([*genuine, *impostors], float)
    same = np.arange(len(scores)) < len(genuine)
    positions = np.arange(len(scores))
    return PairScores(positions, positions + 1, same, scores, {})


def test_the_figures_follow_from_the_scores(run):
    rows, figures = rows_of(run.scores), run.metrics["test"]
    assert len(rows) == 24 * 23 // 2 == figures["genuine"] + figures["impostors"]
    assert figures["genuine"] == 4 * 6 * 5 // 2
    same = np.array([row["same"] == "1" for row in rows])
    scores = np.array([float(row["score (higher = more alike)"]) for row in rows])
    for row in rows:
        first, second = (row[key].split("/")[-2] for key in ("file_a", "file_b"))
        assert (first == second) == (row["same"] == "1")
    accepted, detected, _ = roc_curve(same, scores, drop_intermediate=False)
    gap = np.abs(1 - detected - accepted)
    assert figures["eer"] == pytest.approx((1 - detected + accepted)[gap.argmin()] / 2, abs=0.01)
    assert figures["accuracy_at_eer"] == pytest.approx(1 - figures["eer"])
    assert figures["tar_at_far_1e-1"] == pytest.approx(detected[accepted <= 0.1].max())
    assert figures["tar_at_far_1e-2"] == pytest.approx(detected[accepted <= 0.01].max())
    assert figures["tar_at_far_1e-3"] is None  # 216 impostor pairs cannot show it
    threshold = read_metadata(run.best_model)["threshold"]
    assert figures["threshold"] == threshold
    assert figures["far"] == pytest.approx(np.mean(scores[~same] >= threshold), abs=0.01)  # two pairs
    assert figures["frr"] == pytest.approx(np.mean(scores[same] < threshold), abs=0.01)
    assert "accuracy" not in figures  # it would be another one at another threshold
    assert (figures["images"], figures["identities"]) == (24, 4)


def test_rank_1_is_the_nearest_of_first_pictures(run, people):
    data = load_small(people)
    pictures = data.test.take(slice(None))[:, 1:17, 1:17]
    embeddings = open_run(run).embed_arrays(pictures)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    people_of = data.test.labels
    first = {person: np.flatnonzero(people_of == person)[0] for person in np.unique(people_of)}
    right = [
        max(first, key=lambda person: unit[first[person]] @ unit[row]) == people_of[row]
        for row in range(len(people_of))
        if row not in first.values()
    ]
    assert run.metrics["test"]["rank_1"] == pytest.approx(np.mean(right))


def test_validation_tells_identities_apart(run, people):
    figures = run.metrics["validation"]
    data = load_small(people)
    logits = load_model(run.best_model).predict(
        data.validation.take(slice(None))[:, 1:17, 1:17].astype("float32"), verbose=0
    )
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    own = shares[np.arange(len(shares)), data.validation.labels]
    assert figures["accuracy"] == pytest.approx(np.mean(shares.argmax(axis=1) == data.validation.labels))
    assert figures["loss"] == pytest.approx(-np.mean(np.log(own)), rel=1e-4)
    best = max(run.history, key=lambda row: (row["val_accuracy"], -row["epoch"]))
    assert figures["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert figures["genuine"] == 6


def test_the_threshold_is_that_of_people_whom_training_did_not_see(run, people):
    figures, metadata = run.metrics["calibration"], read_metadata(run.best_model)
    strangers = {Path(name).parent.name for name in names_of(load_small(people).calibration)}
    assert len(strangers) == 2
    assert strangers.isdisjoint(metadata["labels"])
    assert figures["threshold"] == figures["eer_threshold"] == metadata["threshold"]
    told = "equal error rate of 2 people whom training did not see, 30 pairs of one of them and 36 of two"
    assert metadata["threshold_from"] == told
    # by hand, from the pictures alone
    pictures = [path for person in strangers for path in sorted((people / person).iterdir())]
    embeddings = {row["file"]: row["embedding"] for row in Predictor.load(run.folder).predict(pictures)}
    unit = np.stack([embeddings[str(path)] / np.linalg.norm(embeddings[str(path)]) for path in pictures])
    first, second = np.triu_indices(12, 1)
    scores, same = (unit[first] * unit[second]).sum(axis=1), first // 6 == second // 6
    refused, accepted = (scores[same] < metadata["threshold"]).mean(), (scores[~same] >= metadata["threshold"]).mean()
    assert (refused + accepted) / 2 == pytest.approx(figures["eer"], abs=0.02)  # a pair of either kind
    again = evaluate(run, "validation", quiet=True)
    assert again["threshold"] == metadata["threshold"] != again["eer_threshold"]
    assert (run.folder / "scores-validation.csv").exists()


def test_metrics_are_plain_json_and_compared(run):
    assert json.loads((run.folder / "metrics.json").read_text())["test"]["tar_at_far_1e-6"] is None
    (row,) = compare([run])
    for key in ("eer", "tar_at_far_1e-2"):
        assert row[f"test_{key}"]["mean"] == run.metrics["test"][key]
    assert "test_accuracy" not in row


def test_other_people_are_all_the_test(run, tmp_path):
    before = run.scores.read_bytes()
    others = write_faces(tmp_path, people=3, pictures=2, seed=5)
    figures = evaluate(run, "test", others, quiet=True)
    assert (figures["identities"], figures["images"], figures["genuine"], figures["impostors"]) == (3, 6, 3, 12)
    assert figures["threshold"] == read_metadata(run.best_model)["threshold"]
    assert len(rows_of(run.folder / "scores-other.csv")) == 15
    assert (run.folder / "report-other.html").exists()
    assert run.scores.read_bytes() == before
    with pytest.raises(RunError, match="Evaluate the test split of other data"):
        evaluate(run, "validation", others, quiet=True)


def test_the_own_people_stay_apart(run, people):
    assert evaluate(run, "test", people, quiet=True) == run.metrics["test"]
    assert evaluate(run, "train", quiet=True)["images"] == 24


# ------------------------------------------------------------------------------------------------------------ pairs


def test_all_pairs_of_few_pictures():
    first, second = draw_pairs(np.arange(40) // 4)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(combinations(range(40), 2))
    assert len(first) == 780


@pytest.mark.parametrize("sizes", [[5] * 30, [1, 1, 2, 60, 3, 50], [200, 5, 2]])
def test_of_many_pairs_some_are_drawn(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)[np.random.default_rng(0).permutation(sum(sizes))]
    first, second = draw_pairs(labels, most=2000)
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len({frozenset(pair) for pair in pairs}) == len(first)  # none twice, none with itself
    same = labels[first] == labels[second]
    genuine = sum(size * (size - 1) // 2 for size in sizes)
    assert same.sum() == min(genuine, 1000)
    assert (~same).sum() == min(sum(sizes) * (sum(sizes) - 1) // 2 - genuine, 1000)
    assert set(labels[first[~same]]) | set(labels[second[~same]]) == set(range(len(sizes)))
    assert abs(same[: len(same) // 2].mean() - same.mean()) < 0.1  # of any beginning, both kinds are a fair share
    again = draw_pairs(labels, most=2000)
    np.testing.assert_array_equal(first, again[0])


def test_large_numbers_of_pairs_are_exact():
    labels = np.zeros(60_000, int)
    labels[30_000:] = np.arange(30_000)
    first, second = draw_pairs(labels, most=10_000)
    assert (first != second).all()
    assert np.isin([first.min(), first.max(), second.min(), second.max()], np.arange(60_000)).all()
    assert (labels[first] == labels[second]).sum() == 5_000


# ---------------------------------------------------------------------------------------------------------- figures


def test_figures_of_made_up_scores():
    figures = pair_figures(scored([0.9, 0.8, 0.7, 0.1], np.linspace(-0.5, 0.5, 10)), threshold=0.75)
    assert (figures["genuine"], figures["impostors"]) == (4, 10)
    assert figures["tar_at_far_1e-1"] == 0.75
    assert figures["tar_at_far_1e-2"] is None
    assert (figures["far"], figures["frr"]) == (0, 0.5)
    assert figures["eer"] == pytest.approx((0.25 + 0.3) / 2)  # the rates are closest where 1 of 4 and 3 of 10 are wrong
    assert figures["accuracy_at_eer"] == pytest.approx(1 - 0.275)


def test_the_smallest_rate_that_pairs_can_show():
    figures = pair_figures(scored([0.9], np.linspace(0, 0.5, 1000)), None)
    assert [figures[f"tar_at_far_1e-{n}"] for n in range(1, 7)] == [1.0, 1.0, 1.0, None, None, None]
    assert (figures["threshold"], figures["far"], figures["frr"]) == (None, None, None)


@pytest.mark.parametrize(("genuine", "impostors"), [([0.5], []), ([], [0.5]), ([], [])])
def test_one_kind_of_pairs_has_no_error_rate(genuine, impostors):
    pairs = scored(genuine, impostors)
    figures = pair_figures(pairs, None)
    assert figures["eer"] is None
    assert figures["tar_at_far_1e-1"] is None
    with_threshold = pair_figures(pairs, 0.5)
    assert with_threshold["far"] == (1.0 if impostors else None)  # a score at the threshold is accepted
    assert with_threshold["frr"] == (0.0 if genuine else None)
    assert calibrate(None, pairs) == {}


def test_a_file_of_scores_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("lightcnn.evaluation.faces._MOST_ROWS", 3)
    root = write_faces(tmp_path / "people", people=4, pictures=2)
    data = load_faces(root, image_size=18, test_fraction=0.5)
    write_scores(tmp_path / "scores.csv", data.test, PairScores(
        np.array([0, 1, 2, 0]), np.array([1, 2, 3, 3]), np.array([True, False, True, False]),
        np.array([0.1, 0.2, 0.3, 0.4]), {}), data.labels)  # fmt: skip
    rows = rows_of(tmp_path / "scores.csv")
    assert len(rows) == 3
    assert rows[0]["file_b"] == data.test.names[data.test.rows[1]]
    assert [row["same"] for row in rows] == ["1", "0", "1"]
