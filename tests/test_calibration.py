"""Calibration against PyTorch's own optimum of the same task, against theory, and on real scores."""

import json
import math

import numpy as np
import pytest
from conftest import real_file
from hypothesis import given
from hypothesis import strategies as st

from lightcnn.calibration import Calibration, bayes_threshold, effective_prior, fit_calibration
from lightcnn.errors import ModelFileError
from lightcnn.metrics import DetectionCosts, act_dcf, cllr, eer, min_cllr, min_dcf


def normal_scores(count=2000, systems=1, seed=0):
    generator = np.random.default_rng(seed)
    kinds = [generator.normal(mean, 1, (count, systems)) for mean in (1.0, -1.0)]
    return kinds if systems > 1 else [kind[:, 0] for kind in kinds]


def trained_by_pytorch(positives, negatives, prior):
    """Full-batch L-BFGS on binary cross-entropy with soft targets and sample weights, in float64."""
    torch = pytest.importorskip("torch")
    positives, negatives = (torch.tensor(kind, dtype=torch.float64) for kind in (positives, negatives))
    layer = torch.nn.Linear(positives.shape[1], 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )
    loss = torch.nn.BCEWithLogitsLoss()
    odds = math.log(prior / (1 - prior))

    def step():
        optimizer.zero_grad()
        total = 0
        for kind, share, label in ((positives, prior, 1.0), (negatives, 1 - prior, 0.0)):
            soft = torch.full((len(kind), 1), abs(label - 1 / (len(kind) + 2)), dtype=torch.float64)
            total = total + share * loss(layer(kind) + odds, soft)
        total.backward()
        return total

    optimizer.step(step)
    return layer.weight.detach().numpy()[0], layer.bias.item()


@pytest.mark.parametrize("prior", [0.5, 0.1, 0.95])
def test_the_fit_is_pytorchs(prior):
    positives, negatives = normal_scores(300, systems=3)
    positives = positives[:120]
    weights, offset = trained_by_pytorch(positives, negatives, prior)
    fitted = fit_calibration(positives, negatives, prior=prior)
    np.testing.assert_allclose(fitted.weights, weights, rtol=1e-4)  # ours has a ridge of 1e-8
    assert fitted.offset == pytest.approx(offset, rel=1e-4)


def test_the_fit_is_the_true_llr_where_that_is_known():
    # Of two normal distributions at +1 and -1 with variance 1, the LLR is twice the score.
    fitted = fit_calibration(*normal_scores(200_000))
    assert fitted.weights == pytest.approx([2], rel=0.02)
    assert fitted.offset == pytest.approx(0, abs=0.02)


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_the_units_of_the_scores_do_not_matter(factor, shift):
    positives, negatives = normal_scores(50)
    expected = fit_calibration(positives, negatives).llr(positives)
    moved = [factor * (kind + shift) for kind in (positives, negatives)]
    np.testing.assert_allclose(fit_calibration(*moved).llr(moved[0]), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def real_scores():
    table = np.loadtxt(real_file("golden/asvspoof2019_la_rawgat_mul_scores.txt.gz"), dtype=str)
    scores, bonafide = table[:, 3].astype(float), table[:, 2] == "bonafide"
    return scores[bonafide], scores[~bonafide]


def test_real_scores_become_llrs(real_scores):
    calibration = fit_calibration(*real_scores)
    llrs = [calibration.llr(kind) for kind in real_scores]
    assert eer(*llrs)[0] == eer(*real_scores)[0]
    assert min_cllr(*llrs) < cllr(*llrs) < 0.8 * cllr(*real_scores)
    assert min_dcf(*real_scores)[0] < act_dcf(*llrs) < 0.7 * act_dcf(*real_scores)


def test_smoothing_costs_little_of_real_scores(real_scores):
    llrs = [fit_calibration(*real_scores).llr(kind) for kind in real_scores]
    grid = [cllr(a * llrs[0] + b, a * llrs[1] + b) for a in np.linspace(0.8, 1.3, 11) for b in np.linspace(-1, 1, 11)]
    assert cllr(*llrs) < min(grid) * 1.01


def test_fusion_is_better_than_either_and_does_not_depend_on_the_order():
    positives, negatives = normal_scores(3000, systems=2)
    fused = fit_calibration(positives, negatives)
    both = cllr(fused.llr(positives), fused.llr(negatives))
    for system in (0, 1):
        alone = fit_calibration(positives[:, system], negatives[:, system])
        assert both < 0.8 * cllr(alone.llr(positives[:, system]), alone.llr(negatives[:, system]))
    assert fused.weights == pytest.approx([2, 2], rel=0.1)  # independent evidence adds up
    swapped = fit_calibration(positives[:, ::-1], negatives[:, ::-1])
    assert swapped.weights == pytest.approx(fused.weights[::-1], rel=1e-6)


def test_two_equal_systems_share_the_weight_of_one():
    positives, negatives = normal_scores(500)
    alone = fit_calibration(positives, negatives)
    twice = fit_calibration(np.stack([positives] * 2, axis=1), np.stack([negatives] * 2, axis=1))
    assert twice.weights == pytest.approx([alone.weights[0] / 2] * 2, rel=1e-3)


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scores_that_tell_all_apart_give_llrs_that_their_number_supports(count):
    positives, negatives = np.full(count, 3.0), np.full(count, -1.0)
    fitted = fit_calibration(positives, negatives)
    # All that is known: of `count` trials none was wrong, which Platt's targets take for odds of count + 1.
    assert fitted.llr([3.0, -1.0]) == pytest.approx([math.log(count + 1), -math.log(count + 1)], rel=1e-3)


def test_scores_of_the_wrong_sign_get_a_weight_below_zero():
    positives, negatives = normal_scores(500)
    assert fit_calibration(negatives, positives).weights[0] < 0


def test_the_map_is_stored_as_json():
    fitted = fit_calibration(*normal_scores(50, systems=2))
    assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "weights",
        {},
        {"weights": [1.0]},
        {"weights": [], "offset": 0.0},
        {"weights": [math.nan], "offset": 0.0},
        {"weights": [1.0], "offset": "much"},
        {"weights": 1.0, "offset": 0.0},
        {"weights": [10**400], "offset": 0.0},
    ],
)
def test_json_that_is_no_calibration_is_an_error(content):
    with pytest.raises(ModelFileError, match="finite `weights` and `offset`"):
        Calibration.from_json(content)


def test_the_number_of_systems_is_checked():
    with pytest.raises(ValueError, match=r"shape \(trials, 2\).*scores.shape=\(3,\)"):
        Calibration((1.0, 1.0), 0.0).llr([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("positives", "negatives", "message"),
    [
        ([], [1.0], "0 positives"),
        ([1.0], [], r"0 negatives \(spoofed\)"),
        ([1.0], [[1.0, 2.0]], "the same systems in both sets"),
        ([[]], [[]], "the same systems in both sets"),
        ([1.0, math.nan], [0.0], "NaN or infinite"),
        ([1.0], [0.0, -math.inf], "NaN or infinite"),
        ([2.0, 2.0], [2.0], "equal scores of system 0"),
        ([0.1, 0.1], [0.1], "equal scores of system 0"),  # whose mean is another float
        ([[1.0, 5.0]], [[0.0, 5.0]], "equal scores of system 1"),
    ],
)
def test_scores_that_cannot_be_calibrated_are_an_error(positives, negatives, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(positives, negatives)


@pytest.mark.parametrize("prior", [0, 1, -0.5, math.nan])
def test_the_prior_is_checked(prior):
    with pytest.raises(ValueError, match="`prior` must be between 0 and 1"):
        fit_calibration([1.0], [0.0], prior=prior)


def test_calibrated_scores_are_best_near_the_bayes_threshold():
    costs = DetectionCosts(0.2, 1, 3)
    positives, negatives = normal_scores(20_000)
    fitted = fit_calibration(positives, negatives, prior=effective_prior(costs))
    llrs = fitted.llr(positives), fitted.llr(negatives)
    assert act_dcf(*llrs, costs) < min_dcf(*llrs, costs)[0] * 1.01
    assert min_dcf(*llrs, costs)[1] == pytest.approx(bayes_threshold(costs), abs=0.3)
