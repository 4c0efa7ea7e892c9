"""Every metric against a slow statement of itself and against cases worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightcnn.metrics import (
    accuracy,
    calibration_bins,
    confusion_matrix,
    cross_entropy,
    expected_calibration_error,
    precision_recall,
    top_k_accuracy,
)


@st.composite
def scores_and_labels(draw, max_classes=6):
    """Scores in steps of 1/16, so that ties and the edges of bins are common and arithmetic is exact."""
    classes = draw(st.integers(2, max_classes))
    count = draw(st.integers(1, 12))
    steps = st.lists(st.integers(0, 16), min_size=classes, max_size=classes)
    rows = draw(st.lists(steps, min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return [[step / 16 for step in row] for row in rows], labels


def predicted(row):
    """The first of the largest."""
    best = 0
    for index, value in enumerate(row):
        if value > row[best]:
            best = index
    return best


@given(scores_and_labels())
def test_accuracy_counts_right_answers(case):
    scores, labels = case
    right = [1 for row, label in zip(scores, labels, strict=True) if predicted(row) == label]
    assert accuracy(scores, labels) == pytest.approx(len(right) / len(labels))


@given(scores_and_labels(), st.integers(1, 7))
def test_top_k_finds_the_label_in_a_sorted_list_with_ties_against_it(case, k):
    scores, labels = case
    found = 0
    for row, label in zip(scores, labels, strict=True):
        # Sort by score, and among equals put the label last.
        order = sorted(range(len(row)), key=lambda index: (-row[index], index == label))
        found += label in order[:k]
    assert top_k_accuracy(scores, labels, k) == pytest.approx(found / len(labels))


def test_top_k_by_hand():
    scores = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]]
    assert top_k_accuracy(scores, [1, 0, 2], k=1) == 0
    assert top_k_accuracy(scores, [1, 0, 2], k=2) == pytest.approx(1 / 3)
    assert top_k_accuracy(scores, [1, 0, 2], k=3) == 1
    assert top_k_accuracy(scores, [1, 0, 2]) == 1  # five of three


def test_equal_scores_are_no_find():
    uniform = np.full((4, 10), 0.1)
    assert top_k_accuracy(uniform, [0, 3, 5, 9], k=1) == 0
    assert top_k_accuracy(uniform, [0, 3, 5, 9], k=9) == 0
    assert top_k_accuracy(uniform, [0, 3, 5, 9], k=10) == 1


@pytest.mark.parametrize(
    "metric", [accuracy, top_k_accuracy, cross_entropy, confusion_matrix, calibration_bins, expected_calibration_error]
)
def test_scores_that_are_not_numbers_are_an_error_and_no_success(metric):
    with pytest.raises(ValueError, match=r"NaN|finite"):
        metric([[0.5, 0.5], [math.nan, math.nan]], [0, 1])


@given(scores_and_labels())
def test_cross_entropy_is_the_mean_surprise(case):
    scores, labels = case
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        total += math.log(1 / row[label]) if row[label] else math.log(10_000_000)
    assert cross_entropy(scores, labels) == pytest.approx(total / len(labels))


def test_cross_entropy_by_hand():
    assert cross_entropy([[1, 0], [0, 1]], [0, 1]) == 0
    assert cross_entropy([[0.5, 0.5]], [1]) == pytest.approx(0.6931471805599453)
    assert cross_entropy([[1, 0]], [1]) == pytest.approx(16.11809565095832)  # floored at 1e-7, as in Keras


@given(scores_and_labels())
def test_confusion_matrix_counts_pairs(case):
    scores, labels = case
    matrix = confusion_matrix(scores, labels)
    classes = len(scores[0])
    assert matrix.shape == (classes, classes)
    assert matrix.dtype == np.int64
    pairs = [(label, predicted(row)) for row, label in zip(scores, labels, strict=True)]
    assert all(matrix[row, column] == pairs.count((row, column)) for row in range(classes) for column in range(classes))


def test_confusion_matrix_has_labels_in_rows():
    one_hot = np.eye(3)[[1, 1, 2, 0]]
    assert confusion_matrix(one_hot, [0, 1, 2, 2]).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 1]]


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_precision_and_recall_are_shares_of_columns_and_rows(matrix):
    precision, recall = precision_recall(matrix)
    for index in range(len(matrix)):
        column = sum(row[index] for row in matrix)
        row = sum(matrix[index])
        hit = matrix[index][index]
        assert math.isnan(precision[index]) if not column else precision[index] == pytest.approx(hit / column)
        assert math.isnan(recall[index]) if not row else recall[index] == pytest.approx(hit / row)


def test_what_is_undefined_is_nan():
    precision, recall = precision_recall([[3, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(precision, [0.75, math.nan, math.nan])
    np.testing.assert_array_equal(recall, [1.0, 0.0, math.nan])


def bins_by_hand(scores, labels, num_bins):
    """Members of each bin as exact fractions: bin b holds confidences above b / n and up to (b + 1) / n."""
    bins = [[] for _ in range(num_bins)]
    for row, label in zip(scores, labels, strict=True):
        confidence = Fraction(max(row))
        place = next((b for b in range(num_bins) if confidence <= Fraction(b + 1, num_bins)), num_bins - 1)
        bins[place].append((confidence, predicted(row) == label))
    return bins


@given(scores_and_labels(), st.sampled_from([1, 2, 4, 8, 16]))
def test_calibration_bins_and_error_are_those_of_exact_fractions(case, num_bins):
    scores, labels = case
    members = bins_by_hand(scores, labels, num_bins)
    found = calibration_bins(scores, labels, num_bins)
    assert found["count"].tolist() == [len(bin) for bin in members]
    error = Fraction(0)
    for index, bin in enumerate(members):
        if not bin:
            assert math.isnan(found["confidence"][index])
            assert math.isnan(found["accuracy"][index])
            continue
        confidence = sum(c for c, _ in bin) / len(bin)
        right = Fraction(sum(r for _, r in bin), len(bin))
        assert found["confidence"][index] == pytest.approx(float(confidence))
        assert found["accuracy"][index] == pytest.approx(float(right))
        error += abs(confidence - right) * Fraction(len(bin), len(labels))
    assert expected_calibration_error(scores, labels, num_bins) == pytest.approx(float(error), abs=1e-12)


@pytest.mark.parametrize("num_bins", [10, 15, 20, 100])
def test_a_bin_includes_its_upper_edge(num_bins):
    for edge in range(math.ceil(num_bins / 2), num_bins + 1):
        confidence = edge / num_bins
        count = calibration_bins([[confidence, 1 - confidence]], [0], num_bins)["count"]
        assert count.nonzero()[0].tolist() == [edge - 1], confidence


@given(scores_and_labels(), st.integers(1, 30))
def test_calibration_error_lies_between_0_and_1(case, num_bins):
    assert 0 <= expected_calibration_error(*case, num_bins) <= 1


def test_calibration_error_by_hand():
    certain = [[1.0, 0.0]] * 4
    assert expected_calibration_error(certain, [0, 0, 0, 0]) == 0
    assert expected_calibration_error(certain, [1, 1, 1, 1]) == 1
    assert expected_calibration_error(certain, [0, 0, 0, 1]) == pytest.approx(0.25)
    # Two bins, each half of the images: |0.5 - 0.6| and |1 - 0.9|.
    assert expected_calibration_error([[0.6, 0.4]] * 2 + [[0.9, 0.1]] * 2, [0, 1, 0, 0], 10) == pytest.approx(0.1)


ALL = [accuracy, top_k_accuracy, cross_entropy, confusion_matrix, calibration_bins, expected_calibration_error]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.1, 0.9], [0, 1]),
        ([[0.1, 0.9]], [0, 1]),
        ([[0.1, 0.9]], [[0]]),
        ([[0.1, 0.9]], [[0, 1]]),
        (np.zeros((0, 3)), np.zeros(0, int)),
    ],
    ids=["flat", "too many labels", "column of labels", "one-hot", "no image"],
)
def test_shapes_that_do_not_fit_are_named(metric, scores, labels):
    with pytest.raises(ValueError, match=r"Expected probabilities of shape \(images, classes\).*Received: .*shape="):
        metric(scores, labels)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("labels", [[2, 0], [-1, 0], [0.0, 1.0], [True, False], ["a", "b"]], ids=str)
def test_labels_that_are_no_classes_are_named(metric, labels):
    with pytest.raises(ValueError, match=r"Labels must be integers from 0 to 1\. Received: dtype="):
        metric([[0.1, 0.9], [0.5, 0.5]], labels)


def test_float32_scores_and_small_integer_labels_are_taken():
    scores = np.array([[0.25, 0.75], [0.5, 0.25]], np.float32)
    labels = np.array([1, 1], np.uint8)
    assert accuracy(scores, labels) == 0.5
    assert confusion_matrix(scores, labels).tolist() == [[0, 0], [1, 1]]


def test_many_classes_do_not_overflow_small_labels():
    labels = np.array([200, 250], np.uint8)
    matrix = confusion_matrix(np.eye(251)[[200, 3]], labels)
    assert matrix[200, 200] == matrix[250, 3] == 1
    assert matrix.sum() == 2
