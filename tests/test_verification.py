"""Verification and identification against slow statements, scikit-learn, cases by hand, and real faces."""

import math
from fractions import Fraction

import numpy as np
import pytest
from conftest import real_file
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine
from sklearn.model_selection import KFold

from lightcnn.datasets import load_orl
from lightcnn.errors import DataError, LightCNNError
from lightcnn.metrics import (
    accuracy_threshold,
    cosine_similarity,
    dir_at_far,
    eer,
    identification_rates,
    l2_normalize,
    mean_minus_std,
    pair_scores,
    search,
    tar_at_far,
    verification_accuracy,
)

# Whole numbers of a small range, so that ties are common.
SCORES = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=14)
PAIRS = st.lists(st.tuples(st.integers(-6, 6).map(float), st.booleans()), min_size=1, max_size=14)


@pytest.fixture(scope="module")
def orl():
    return load_orl(real_file("data/orl_faces.npz"))


@pytest.fixture(scope="module")
def orl_embeddings(orl):
    """Pixels of a face less the mean face: not a good embedding, but a real one."""
    pixels = orl.images[:, ::4, ::4].reshape(400, -1).astype(np.float32)
    return pixels - pixels[orl.train].mean(axis=0)


@pytest.fixture(scope="module")
def orl_scores(orl, orl_embeddings):
    scores = cosine_similarity(orl_embeddings[orl.first], orl_embeddings[orl.second])
    return scores[orl.same], scores[~orl.same]


# ------------------------------------------------------------------------------------------------------- similarity


def test_the_cosine_is_scikit_learns(orl, orl_embeddings):
    expected = sklearn_cosine(orl_embeddings.astype(float))[orl.first, orl.second]
    np.testing.assert_allclose(
        cosine_similarity(orl_embeddings[orl.first], orl_embeddings[orl.second]), expected, atol=1e-5
    )


def test_the_cosine_by_hand():
    first = [[1.0, 0.0], [1.0, 1.0], [3.0, 4.0], [1e-20, 0.0]]
    second = [[5.0, 0.0], [-2.0, -2.0], [4.0, 3.0], [1e20, 0.0]]
    np.testing.assert_allclose(cosine_similarity(first, second), [1, -1, 0.96, 1], atol=1e-15)


def test_rows_have_length_1_and_keep_their_precision(orl_embeddings):
    unit = l2_normalize(orl_embeddings)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert l2_normalize(orl_embeddings.astype(np.float16)).dtype == np.float32
    assert l2_normalize([[1, 1]]).dtype == np.float64


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_embedding_without_direction_is_named(bad):
    embeddings = np.ones((5, 3))
    embeddings[3] = bad
    with pytest.raises(ValueError, match=r"finite and not zero.*Received: 1 of 5 without one, the first at row 3"):
        l2_normalize(embeddings)


def test_every_pair_is_scored_once(orl, orl_embeddings):
    genuine, impostor = pair_scores(orl_embeddings[300:], orl.subjects[300:])
    assert (len(genuine), len(impostor)) == (450, 4500)
    assert genuine.dtype == np.float32
    scores = cosine_similarity(orl_embeddings[orl.first], orl_embeddings[orl.second])
    np.testing.assert_allclose(np.sort(genuine), np.sort(scores[orl.same]), atol=1e-5)
    np.testing.assert_allclose(np.sort(impostor), np.sort(scores[~orl.same]), atol=1e-5)


def test_pairs_are_the_same_in_pieces(orl, orl_embeddings, monkeypatch):
    whole = pair_scores(orl_embeddings, orl.subjects)
    monkeypatch.setattr("lightcnn.metrics.verification._MOST_SCORES", 400 * 7)
    pieces = pair_scores(orl_embeddings, orl.subjects)
    assert [len(scores) for scores in pieces] == [1800, 78000]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: cosine_similarity(np.ones((3, 4)), np.ones((2, 4))),
        lambda: cosine_similarity(np.ones(4), np.ones(4)),
        lambda: pair_scores(np.ones((3, 4)), [0, 1]),
    ],
)
def test_embeddings_that_do_not_fit_are_named(call):
    with pytest.raises(ValueError, match=r"Expected .*\n?Received: \w+\.shape="):
        call()


# --------------------------------------------------------------------------------------------------------- ten folds


def best_by_hand(pairs):
    """The highest accuracy of all thresholds, exactly, and every threshold's accuracy by its cut."""
    scores = sorted({score for score, _ in pairs})
    accuracies = {}
    for cut in [*scores, math.inf]:
        accuracies[cut] = Fraction(sum((score >= cut) == same for score, same in pairs), len(pairs))
    return max(accuracies.values()), accuracies


@given(PAIRS)
def test_the_threshold_has_the_highest_accuracy_and_is_in_the_middle(pairs):
    scores, same = zip(*pairs, strict=True)
    accuracy, threshold = accuracy_threshold(scores, same)
    best, accuracies = best_by_hand(pairs)
    assert accuracy == pytest.approx(float(best), abs=1e-15)
    assert np.mean((np.array(scores) >= threshold) == np.array(same)) == accuracy  # it is reached
    lowest = min(cut for cut, value in accuracies.items() if value == best)
    below = [score for score in scores if score < lowest]
    above = [score for score in scores if score >= lowest]
    if below and above:
        assert threshold == (max(below) + min(above)) / 2


def test_a_threshold_between_neighbouring_floats_exists():
    low = 0.1
    high = np.nextafter(low, 1)
    assert accuracy_threshold([low, high], [False, True]) == (1.0, high)


def folds_by_hand(scores, same, folds):
    """LFW's view 2 with scikit-learn's folds and a search over all cuts."""
    accuracies = []
    for train, test in KFold(folds).split(scores):
        best, found = best_by_hand([(scores[row], same[row]) for row in train])
        lowest = min(cut for cut, value in found.items() if value == best)
        below = [scores[row] for row in train if scores[row] < lowest]
        if lowest == math.inf:
            cut = np.nextafter(max(below), math.inf)
        else:
            cut = (max(below) + lowest) / 2 if below else lowest
        accuracies.append(np.mean([(scores[row] >= cut) == same[row] for row in test]))
    return accuracies


@pytest.mark.parametrize("count", [60, 63])
def test_ten_folds_in_the_order_of_the_pairs(count):
    generator = np.random.default_rng(count)
    same = generator.random(count) < 0.5
    scores = np.round(generator.normal(size=count) + same, 1)
    result = verification_accuracy(scores, same)
    expected = folds_by_hand(scores, same, 10)
    np.testing.assert_allclose(result.accuracies, expected, atol=1e-12)
    assert result.mean == pytest.approx(sum(expected) / 10, abs=1e-12)
    deviation = math.sqrt(sum((value - result.mean) ** 2 for value in expected) / 9)
    assert result.standard_error == pytest.approx(deviation / math.sqrt(10), abs=1e-12)
    assert result.sizes.tolist() == [len(test) for _, test in KFold(10).split(scores)]


def test_named_folds_of_different_size():
    folds = ["b", "a", "a", "b", "a", "a", "c", "c"]
    scores = [0.9, 0.8, 0.1, 0.2, 0.7, 0.3, 0.6, 0.95]
    same = [True, True, False, False, True, False, False, True]
    result = verification_accuracy(scores, same, folds)
    assert result.sizes.tolist() == [4, 2, 2]
    # a: the others are right from 0.6 on: 0.75 is between 0.6 and 0.9. b: 0.65. c: 0.5.
    np.testing.assert_allclose(result.thresholds, [0.75, 0.65, 0.5])
    assert result.accuracies.tolist() == [0.75, 1.0, 0.5]
    assert result.mean == pytest.approx(0.75)  # each fold once, whatever its size


def test_perfect_scores_are_perfect_and_inverted_ones_are_not():
    same = np.tile([True, False], 50)
    assert verification_accuracy(same.astype(float), same).mean == 1
    assert verification_accuracy(same.astype(float), same).standard_error == 0
    assert verification_accuracy(-same.astype(float), same).mean <= 0.5


@pytest.mark.parametrize(
    ("scores", "same", "folds", "message"),
    [
        ([0.1, 0.2], [True], 2, r"scores\.shape=\(2,\), same\.shape=\(1,\)"),
        ([0.1, 0.2], [1, 2], 2, r"boolean, or 0 and 1.*\[1, 2\]"),
        ([0.1, 0.2], ["yes", "no"], 2, "boolean"),
        ([0.1, np.nan], [True, False], 2, "NaN"),
        ([], [], 2, "at least one trial"),
        ([0.1, 0.2], [True, False], 3, r"from 2 folds to one a pair.*folds=3, 2 pairs"),
        ([0.1, 0.2], [True, False], 1, r"from 2 folds"),
        ([0.1, 0.2], [True, False], [0, 0], r"at least two folds.*Received: 1"),
        ([0.1, 0.2], [True, False], [0, 1, 2], r"the fold of every pair.*shape \(3,\)"),
        ([0.1, 0.2, 0.3, 0.4], [True, True, True, False], 2, r"outside each fold.*all 2 outside fold 1"),
    ],
)
def test_pairs_that_cannot_be_measured_are_named(scores, same, folds, message):
    with pytest.raises(ValueError, match=message):
        verification_accuracy(scores, same, folds)


# ---------------------------------------------------------------------------------------------------------- TAR, EER


def tar_by_hand(genuine, impostor, far):
    """The best of all thresholds whose false acceptance rate is allowed, in exact fractions."""
    rates = []
    for cut in [*genuine, *impostor, math.inf]:
        if Fraction(sum(score >= cut for score in impostor), len(impostor)) <= far:
            rates.append(Fraction(sum(score >= cut for score in genuine), len(genuine)))
    return max(rates)


@given(SCORES, SCORES, st.integers(0, 13))
def test_tar_at_far_is_the_best_of_all_allowed_thresholds(genuine, impostor, allowed):
    far = Fraction(min(allowed, len(impostor) - 1), len(impostor))
    rate, threshold = tar_at_far(genuine, impostor, float(far))
    assert rate == pytest.approx(float(tar_by_hand(genuine, impostor, far)), abs=1e-15)
    assert np.mean(np.array(genuine) >= threshold) == rate  # the threshold gives it
    assert np.mean(np.array(impostor) >= threshold) <= float(far) + 1e-15


@pytest.mark.parametrize("far", [0.1, 0.01])
def test_tar_at_far_is_scikit_learns_curve_without_interpolation(orl_scores, far):
    genuine, impostor = orl_scores
    labels = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    accepted, found, _ = roc_curve(labels, np.concatenate([genuine, impostor]), drop_intermediate=False)
    assert tar_at_far(genuine, impostor, far)[0] == found[accepted <= far].max()


def test_the_eer_of_real_faces_is_where_scikit_learns_curve_crosses(orl_scores):
    genuine, impostor = orl_scores
    labels = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    accepted, found, _ = roc_curve(labels, np.concatenate([genuine, impostor]), drop_intermediate=False)
    place = np.argmin(np.abs(accepted - (1 - found)))
    crossing = (accepted[place] + 1 - found[place]) / 2
    assert eer(genuine, impostor)[0] == pytest.approx(crossing, abs=1 / 450)  # a genuine pair
    assert 0.02 < crossing < 0.4  # raw pixels tell faces apart, badly


@pytest.mark.parametrize("exponent", range(1, 7))
def test_a_rate_needs_as_many_impostors_as_one_over_it(exponent):
    far = float(f"1e-{exponent}")
    enough = 10**exponent
    impostor = np.arange(enough) / enough
    rate, threshold = tar_at_far([0.5, 2.0], impostor, far)
    assert rate == 0.5
    assert np.sum(impostor >= threshold) == 1
    with pytest.raises(
        DataError, match=rf"rate of {far:g} needs at least {enough:,} impostor scores.*: {enough - 1:,}"
    ):
        tar_at_far([0.5, 2.0], impostor[1:], far)


def test_no_false_acceptance_at_all_can_always_be_asked_for():
    assert tar_at_far([0.1, 0.5, 0.6], [0.5, 0.2], 0)[0] == pytest.approx(1 / 3)
    assert tar_at_far([0.5], [0.5], 0)[0] == 0


def test_shares_that_are_not_quite_whole_in_floating_point_are_whole():
    impostor = np.arange(100.0)
    for count in range(1, 100):
        assert np.sum(impostor >= tar_at_far([0.0], impostor, count / 100)[1]) == count


@pytest.mark.parametrize("far", [-0.1, 1, 1.5, math.nan])
def test_a_rate_outside_0_to_1_is_named(far):
    with pytest.raises(ValueError, match=r"from 0 to below 1, a fraction\. Received: far="):
        tar_at_far([1.0], [0.0], far)


def test_mean_minus_std_by_hand():
    assert mean_minus_std([0.5, 0.7]) == pytest.approx(0.6 - math.sqrt(0.02))
    assert mean_minus_std([0.9] * 10) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="at least two trials"):
        mean_minus_std([0.9])


# --------------------------------------------------------------------------------------------------- identification

GALLERY = ["ann", "bob", "bob", "cid"]
TABLE = [
    [0.9, 0.1, 0.2, 0.3],  # ann: first
    [0.4, 0.1, 0.8, 0.5],  # bob: first, by his second picture
    [0.6, 0.5, 0.7, 0.3],  # ann: second
    [0.5, 0.1, 0.2, 0.5],  # cid: ties with ann, so second
]


def test_identification_by_hand():
    rates = identification_rates(TABLE, GALLERY, ["ann", "bob", "ann", "cid"], k=4)
    assert rates.tolist() == [0.5, 1.0, 1.0, 1.0]
    assert identification_rates(TABLE, GALLERY, ["ann", "bob", "ann", "cid"]).tolist() == [0.5]


def test_open_set_by_hand():
    table = [*TABLE, [0.1, 0.65, 0.2, 0.3], [0.45, 0.2, 0.1, 0.0]]
    probes = ["ann", "bob", "ann", "cid", "eve", "fay"]
    # The highest scores of eve and fay are 0.65 and 0.45. Without a false acceptance, 0.9 and 0.8 are above.
    assert dir_at_far(table, GALLERY, probes, 0)[0] == 0.5
    assert dir_at_far(table, GALLERY, probes, 0.5)[0] == 0.5  # 0.6 and 0.5 are above too, but second
    assert dir_at_far(table, GALLERY, probes, 0.5, rank=2)[0] == 1.0
    assert dir_at_far(table, GALLERY, probes, 0, rank=2)[0] == 0.5
    with pytest.raises(DataError, match=r"needs at least 100 probes of people outside the gallery.*Received: 2"):
        dir_at_far(table, GALLERY, probes, 0.01)


@st.composite
def identification_cases(draw):
    people = draw(st.integers(2, 4))
    gallery = [*range(people), *draw(st.lists(st.integers(0, people - 1), max_size=4))]
    probes = draw(st.lists(st.integers(0, people + 2), min_size=1, max_size=8))
    rows = st.lists(st.integers(0, 5).map(float), min_size=len(gallery), max_size=len(gallery))
    return draw(st.lists(rows, min_size=len(probes), max_size=len(probes))), gallery, probes


def rank_by_hand(row, gallery, person):
    own = max(score for score, label in zip(row, gallery, strict=True) if label == person)
    others = {label for score, label in zip(row, gallery, strict=True) if score >= own and label != person}
    return own, 1 + len(others)


@given(identification_cases(), st.integers(1, 3), st.integers(0, 3))
def test_open_set_is_the_best_of_all_allowed_thresholds(case, rank, allowed):
    table, gallery, probes = case
    known = [person in gallery for person in probes]
    if all(known) or not any(known):
        with pytest.raises(DataError, match="some probes of people in the gallery and some of others"):
            dir_at_far(table, gallery, probes, 0, rank=rank)
        return
    impostors = [max(row) for row, inside in zip(table, known, strict=True) if not inside]
    allowed = min(allowed, len(impostors) - 1)
    own = [rank_by_hand(row, gallery, p) for row, p, inside in zip(table, probes, known, strict=True) if inside]
    rates = []
    for cut in [-1, 0, 1, 2, 3, 4, 5, 6]:
        if sum(score >= cut for score in impostors) <= allowed:
            rates.append(sum(score >= cut and place <= rank for score, place in own) / len(own))
    rate, threshold = dir_at_far(table, gallery, probes, allowed / len(impostors), rank=rank)
    assert rate == pytest.approx(max(rates), abs=1e-15)
    assert sum(score >= threshold for score in impostors) <= allowed


@given(identification_cases())
def test_ranks_are_those_of_sorted_lists(case):
    table, gallery, probes = case
    rows = [(row, person) for row, person in zip(table, probes, strict=True) if person in gallery]
    if not rows:
        return
    ranks = [rank_by_hand(row, gallery, person)[1] for row, person in rows]
    rates = identification_rates([row for row, _ in rows], gallery, [person for _, person in rows], k=5)
    expected = [sum(rank <= place for rank in ranks) / len(ranks) for place in range(1, 6)]
    np.testing.assert_allclose(rates, expected, atol=1e-15)


def test_real_faces_are_identified(orl, orl_embeddings):
    unit = l2_normalize(orl_embeddings[300:])
    persons = orl.subjects[300:]
    first = np.arange(100) % 10 == 0
    rates = identification_rates(unit[~first] @ unit[first].T, persons[first], persons[~first], k=10)
    assert rates[-1] == 1  # ten people
    assert (np.diff(rates) >= 0).all()
    assert 0.3 < rates[0] < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identification_rates(TABLE, GALLERY, ["ann"]), r"scores\.shape=\(4, 4\), probe_labels\.shape=\(1,\)"),
        (lambda: identification_rates(TABLE, GALLERY, ["ann", "bob", "ann", "eve"]), "1 of 4 probes of others"),
        (lambda: identification_rates(TABLE, GALLERY, ["ann", "bob", "ann", "cid"], k=0), "k of at least 1"),
        (lambda: dir_at_far(TABLE, GALLERY, ["ann", "bob", "ann", "eve"], 0, rank=0), "rank of at least 1"),
        (lambda: identification_rates([[np.nan]], ["ann"], ["ann"]), "NaN"),
        (lambda: identification_rates(np.zeros((0, 0)), [], []), "at least one of each"),
    ],
)
def test_tables_that_cannot_be_measured_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------------------------------- search


def test_a_search_gives_what_sorting_gives(orl_embeddings):
    unit = l2_normalize(orl_embeddings)
    rows, scores = search(unit[:390], unit[390:], k=7)
    table = unit[390:].astype(float) @ unit[:390].astype(float).T
    np.testing.assert_array_equal(rows, np.argsort(-table, axis=1)[:, :7])
    np.testing.assert_allclose(scores, -np.sort(-table, axis=1)[:, :7], atol=1e-5)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("scores_at_once", [1, 10, 100])
@pytest.mark.parametrize("queries_at_once", [1, 3, 1000])
def test_a_search_in_pieces_is_the_same(orl_embeddings, monkeypatch, scores_at_once, queries_at_once):
    unit = l2_normalize(orl_embeddings.astype(float))
    expected = search(unit, unit[:8], k=5)
    monkeypatch.setattr("lightcnn.metrics.identification._MOST_SCORES", scores_at_once)
    monkeypatch.setattr("lightcnn.metrics.identification._MOST_QUERIES", queries_at_once)
    found = search(unit, unit[:8], k=5)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    assert found[0][:, 0].tolist() == list(range(8))  # everybody finds themselves first


def test_equal_scores_come_in_the_order_of_the_gallery():
    gallery = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    rows, scores = search(gallery, [[1.0, 0.0]], k=4)
    assert rows.tolist() == [[0, 2, 3, 1]]
    assert scores.tolist() == [[1, 1, 1, 0]]


def test_half_precision_is_searched_in_single():
    rows, scores = search(np.eye(3, dtype=np.float16), np.eye(3, dtype=np.float16)[[2]])
    assert rows.tolist() == [[2]]
    assert scores.dtype == np.float32


def test_the_gallery_and_not_the_query_says_the_precision():
    # A list of numbers is float64; converting a million embeddings for its sake would take longer than the search.
    assert search(np.eye(3, dtype=np.float32), np.eye(3)[[2]])[1].dtype == np.float32
    assert search(np.eye(3), np.eye(3, dtype=np.float32)[[2]])[1].dtype == np.float64


def test_no_query_finds_nothing():
    assert search(np.eye(3), np.zeros((0, 3)), k=2)[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("gallery", "queries", "k", "message"),
    [
        (np.eye(3), np.eye(2), 1, r"gallery\.shape=\(3, 3\), queries\.shape=\(2, 2\)"),
        (np.eye(3), np.ones(3), 1, r"queries\.shape=\(3,\)"),
        (np.eye(3), np.eye(3), 4, r"k=4, 3 pictures"),
        (np.eye(3), np.eye(3), 0, r"k=0"),
        (np.where(np.eye(3) == 1, np.nan, 0), np.eye(3), 1, "finite embeddings"),
    ],
)
def test_searches_that_cannot_be_are_named(gallery, queries, k, message):
    with pytest.raises(ValueError, match=message):
        search(gallery, queries, k)


def test_a_hundred_thousand_faces_are_searched():
    gallery = np.random.default_rng(0).standard_normal((100_000, 256), np.float32)
    assert search(gallery, gallery[:5] * 10, k=5)[0][:, 0].tolist() == list(range(5))


# --------------------------------------------------------------------------------------------------------- together


def test_errors_of_data_are_shown_without_a_traceback():
    with pytest.raises(LightCNNError):
        tar_at_far([1.0], [0.0], 0.1)


def test_the_accuracy_of_two_normal_distributions():
    generator = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], 300), 10)
    scores = generator.normal(size=6000) + 3 * same
    result = verification_accuracy(scores, same)
    # Two normal distributions of deviation 1, 3 apart: the best accuracy is that of 1.5 deviations, 93.32 %.
    assert result.mean == pytest.approx(0.9332, abs=4 * 0.0033)
    assert 0.001 < result.standard_error < 0.01
