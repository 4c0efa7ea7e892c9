"""DET, EER, DCF and Cllr against other people's figures on real scores, slow exact statements, and SciPy."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from conftest import real_file
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightcnn.metrics import (
    DetectionCosts,
    act_dcf,
    bayes_threshold,
    cllr,
    det_curve,
    eer,
    eer_interval,
    eer_per_group,
    effective_prior,
    min_cllr,
    min_dcf,
)

# Whole numbers of a small range, so that ties are common.
SCORES = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=12)
COSTS = st.builds(DetectionCosts, st.floats(0.01, 0.99), st.floats(0.1, 20), st.floats(0.1, 20))
METRICS = [det_curve, eer, min_dcf, act_dcf, cllr, min_cllr, eer_interval]


@pytest.fixture(scope="module")
def rawgat():
    """Scores, keys and attacks of a published system on the evaluation trials of ASVspoof 2019 LA."""
    table = np.loadtxt(real_file("golden/asvspoof2019_la_rawgat_mul_scores.txt.gz"), dtype=str)
    return table[:, 3].astype(float), table[:, 2] == "bonafide", table[:, 1]


@pytest.fixture(scope="module")
def asvspoof5():
    """Scores of the countermeasure that is handed out with ASVspoof 5's tools: bona fide, spoofed."""
    table = np.loadtxt(real_file("golden/asvspoof5_sasv_dev_scores_label.csv.gz"), delimiter=",", skiprows=1)
    return table[table[:, 2] > 0, 1], table[table[:, 2] == 0, 1]


# ------------------------------------------------------------------------------------------ other people's figures


def test_asvspoof2019_la_to_the_last_digit(rawgat):
    scores, bonafide, _ = rawgat
    assert f"{100 * eer(scores[bonafide], scores[~bonafide])[0]:.4f}" == "1.0601"
    assert f"{min_dcf(scores[bonafide], scores[~bonafide])[0]:.5f}" == "0.02989"


def test_each_attack_to_the_last_digit(rawgat):
    scores, bonafide, attacks = rawgat
    rates = eer_per_group(scores[bonafide], scores[~bonafide], attacks[~bonafide])
    assert " ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items()) == (
        "A07 0.34 A08 0.53 A09 0.08 A10 0.39 A11 0.29 A12 0.34 A13 0.30 A14 0.29 A15 0.27 A16 0.81 A17 1.75 A18 3.09 "
        "A19 0.71"
    )


@pytest.mark.parametrize(("front_end", "published"), [("LFCC", "0.5185"), ("CQT", "0.3745")])
def test_light_cnns_on_asvspoof2019_pa_to_the_last_digit(front_end, published):
    scores = np.load(real_file(f"golden/ASVspoof2019-PA-scrs-dev-{front_end}.npy"))
    bonafide = np.load(real_file("golden/ASVspoof2019-PA-cmky-dev.npy")) == "bonafide"
    assert f"{100 * eer(scores[bonafide], scores[~bonafide])[0]:.4f}" == published


def test_asvspoof5_to_the_last_digit(asvspoof5):
    assert f"{100 * eer(*asvspoof5)[0]:.8f}" == "0.61973179"
    assert f"{min_dcf(*asvspoof5)[0]:.8f}" == "0.01631981"
    assert f"{act_dcf(*asvspoof5):.8f}" == "0.01802415"
    assert f"{cllr(*asvspoof5):.8f}" == "0.02819062"


def test_the_threshold_of_asvspoof5():
    assert f"{bayes_threshold():.6f}" == "-0.641854"


# ------------------------------------------------------------------------------------------------ DET curve and EER


def steps_by_hand(positives, negatives):
    """Exact error rates after every trial: in the order of scores, and positives before negatives at a tie."""
    trials = sorted([(score, 0) for score in positives] + [(score, 1) for score in negatives])
    rejected, accepted = Fraction(0), Fraction(1)
    steps = [(rejected, accepted, trials[0][0] - 0.001)]
    for score, kind in trials:
        rejected += Fraction(1 - kind, len(positives))
        accepted -= Fraction(kind, len(negatives))
        steps.append((rejected, accepted, score))
    return steps


@given(SCORES, SCORES)
def test_the_det_curve_has_a_step_a_trial(positives, negatives):
    rejected, accepted, thresholds = det_curve(positives, negatives)
    expected = steps_by_hand(positives, negatives)
    np.testing.assert_allclose(rejected, [float(step[0]) for step in expected], rtol=0, atol=1e-15)
    np.testing.assert_allclose(accepted, [float(step[1]) for step in expected], rtol=0, atol=1e-15)
    assert thresholds.tolist() == [step[2] for step in expected]


@given(SCORES, SCORES)
def test_the_eer_is_where_the_rates_are_closest(positives, negatives):
    steps = steps_by_hand(positives, negatives)
    best = min(abs(rejected - accepted) for rejected, accepted, _ in steps)
    # In floating point, two steps that are exactly as close may be told apart; either is a right answer then.
    candidates = [(float((r + a) / 2), threshold) for r, a, threshold in steps if abs(r - a) == best]
    rate, threshold = eer(positives, negatives)
    assert any(rate == pytest.approx(r, abs=1e-15) and threshold == t for r, t in candidates)


def test_the_eer_by_hand():
    assert eer([2.0, 3.0], [0.0, 1.0]) == (0.0, 1.0)
    assert eer([0.0, 1.0], [2.0, 3.0])[0] == 1.0
    assert eer([1.0], [1.0])[0] == 1.0  # at a tie the bona fide trial is passed first: an error, then another
    assert eer([1.0, 2.0, 3.0, 4.0], [0.0, 1.5, 2.5, 0.5])[0] == pytest.approx(0.25)


@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_the_eer_depends_on_the_order_of_scores_only(positives, negatives, factor, shift):
    moved = [np.exp(factor * np.asarray(scores) / 10 + shift / 10) for scores in (positives, negatives)]
    assert eer(*moved)[0] == eer(positives, negatives)[0]


def test_groups_of_negatives_are_held_against_all_positives():
    rates = eer_per_group([2.0, 3.0, 4.0], [0.0, 2.5, 5.0], ["A02", "A01", "A01"])
    assert list(rates) == ["A01", "A02"]
    assert rates == {"A01": eer([2.0, 3.0, 4.0], [2.5, 5.0])[0], "A02": 0.0}


def test_conditions_are_measured_within_themselves():
    rates = eer_per_group([2.0, -3.0, 7.0], [0.0, -4.0, 1.0], ["clean", "phone", "radio"], ["clean", "phone", "mp3"])
    assert rates.pop("clean") == rates.pop("phone") == 0.0
    assert set(rates) == {"radio", "mp3"}
    assert all(math.isnan(rate) for rate in rates.values())


def test_every_trial_needs_a_group():
    with pytest.raises(ValueError, match="Received: 2 negatives with 1 names, 1 positives with none"):
        eer_per_group([1.0], [0.0, 1.0], ["A01"])
    with pytest.raises(ValueError, match="1 positives with 2"):
        eer_per_group([1.0], [0.0], ["A01"], ["A01", "A01"])


# ----------------------------------------------------------------------------------------------------------- costs


def cost_at(threshold, positives, negatives, costs):
    misses = sum(score < threshold for score in positives) / len(positives)
    accepted = sum(score >= threshold for score in negatives) / len(negatives)
    cost = costs.miss * misses * (1 - costs.spoof_prior) + costs.false_acceptance * accepted * costs.spoof_prior
    return cost / min(costs.miss * (1 - costs.spoof_prior), costs.false_acceptance * costs.spoof_prior)


@given(SCORES, SCORES, COSTS)
def test_the_least_cost_is_that_of_the_best_threshold_where_no_scores_are_equal(positives, negatives, costs):
    positives = [score + 0.5 for score in positives]  # halves against whole numbers: no tie between the kinds
    thresholds = [*positives, *negatives, math.inf]
    expected = min(cost_at(threshold, positives, negatives, costs) for threshold in thresholds)
    assert min_dcf(positives, negatives, costs)[0] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(SCORES, SCORES, COSTS)
def test_the_actual_cost_is_that_of_the_bayes_threshold(positives, negatives, costs):
    threshold = -math.log(costs.miss * (1 - costs.spoof_prior) / (costs.false_acceptance * costs.spoof_prior))
    assert act_dcf(positives, negatives, costs) == pytest.approx(cost_at(threshold, positives, negatives, costs))
    assert act_dcf(positives, negatives, costs) >= min_dcf(positives, negatives, costs)[0] - 1e-12


def test_equal_priors_and_costs_are_halves_and_a_threshold_of_zero():
    assert effective_prior(DetectionCosts(0.5, 3, 3)) == 0.5
    assert bayes_threshold(DetectionCosts(0.5, 3, 3)) == 0


@given(COSTS)
def test_the_bayes_threshold_is_where_the_effective_prior_makes_both_kinds_as_likely(costs):
    # Prior odds times the likelihood ratio are 1.
    odds = effective_prior(costs) / (1 - effective_prior(costs)) * math.exp(bayes_threshold(costs))
    assert odds == pytest.approx(1)


@pytest.mark.parametrize("values", [{"spoof_prior": 0}, {"spoof_prior": 1}, {"miss": 0}, {"false_acceptance": -1}])
def test_costs_are_checked(values):
    with pytest.raises(ValueError, match="Received: DetectionCosts"):
        DetectionCosts(**values)


# ------------------------------------------------------------------------------------------------------------ Cllr


@given(SCORES, SCORES)
def test_cllr_is_the_mean_surprise_at_even_odds(positives, negatives):
    """In bits, by SciPy's logistic distribution: the probability that was given to what is true."""
    right = [stats.logistic.logcdf(np.asarray(positives)).mean(), stats.logistic.logsf(np.asarray(negatives)).mean()]
    assert cllr(positives, negatives) == pytest.approx(-np.mean(right) / math.log(2), rel=1e-9)


def test_cllr_by_hand():
    assert cllr([0.0, 0.0], [0.0]) == 1
    assert cllr([1000.0], [-1000.0]) == 0
    assert cllr([-1000.0], [1000.0]) == pytest.approx(1000 / math.log(2))
    assert cllr([math.log(3)], [-math.log(3)]) == pytest.approx(math.log2(4 / 3))


def pooled_by_hand(positives, negatives):
    """Pool adjacent violators, one block after another, in exact fractions; the blocks as (positives, negatives)."""
    blocks = []
    for score in sorted({*positives, *negatives}):
        blocks.append((positives.count(score), negatives.count(score)))
        while len(blocks) > 1 and Fraction(blocks[-2][0], sum(blocks[-2])) >= Fraction(blocks[-1][0], sum(blocks[-1])):
            last = blocks.pop()
            blocks[-1] = (blocks[-1][0] + last[0], blocks[-1][1] + last[1])
    return blocks


@given(SCORES, SCORES)
def test_min_cllr_is_the_cllr_of_pooled_scores(positives, negatives):
    missing = accepting = 0.0
    for p, n in pooled_by_hand(positives, negatives):
        odds = Fraction(p * len(negatives), n * len(positives)) if n else math.inf
        missing += p * math.log2(1 + 1 / odds) if p else 0
        accepting += n * math.log2(1 + odds) if n else 0
    expected = (missing / len(positives) + accepting / len(negatives)) / 2
    assert min_cllr(positives, negatives) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(SCORES, SCORES, st.floats(0, 5), st.floats(-5, 5))
def test_no_map_that_keeps_the_order_has_less_than_min_cllr(positives, negatives, factor, shift):
    mapped = [factor * np.asarray(scores) + shift for scores in (positives, negatives)]
    assert min_cllr(positives, negatives) <= cllr(*mapped) + 1e-12


def test_min_cllr_of_real_scores(asvspoof5):
    assert 0.5 * cllr(*asvspoof5) < min_cllr(*asvspoof5) < cllr(*asvspoof5)
    assert min_cllr([2.0, 3.0], [0.0, 1.0]) == 0
    assert min_cllr([0.0, 1.0], [2.0, 3.0]) == pytest.approx(1)


# -------------------------------------------------------------------------------------------------------- intervals


def test_the_interval_of_few_trials_is_that_of_all_their_resamples():
    positives, negatives = [1.0, 2.0, 4.0], [0.0, 1.5, 3.0]  # as many of each, so that no two steps are as close
    rates = [
        eer(p, n)[0]
        for p in itertools.product(positives, repeat=len(positives))
        for n in itertools.product(negatives, repeat=len(negatives))
    ]
    # Each of the 729 resamples is as likely; at these levels the quantiles lie inside steps of the distribution.
    assert np.round(np.unique(rates), 3).tolist() == [0, 0.333, 0.667, 1]
    for level in (0.3, 0.62, 0.9):
        expected = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        assert eer_interval(positives, negatives, level=level, num_resamples=20_000) == pytest.approx(expected)


@given(SCORES, SCORES, st.integers(0, 99))
def test_a_resample_has_the_eer_that_the_stepped_definition_gives(positives, negatives, seed):
    from lightcnn.metrics.intervals import _resampled_eers

    scores = np.asarray(positives + negatives)
    order = np.argsort(scores, kind="stable")
    is_positive = order < len(positives)
    rate = _resampled_eers(is_positive, 1, np.random.default_rng(seed))[0]
    # The same trials, drawn by the same generator, through the other function.
    generator = np.random.default_rng(seed)
    ranked = [scores[order][kind] for kind in (is_positive, ~is_positive)]
    drawn = [kind[generator.integers(kind.size, size=(1, kind.size))[0]] for kind in ranked]
    steps = steps_by_hand(drawn[0].tolist(), drawn[1].tolist())
    assert rate == pytest.approx(float(sum(min(steps, key=lambda step: abs(step[0] - step[1]))[:2]) / 2), abs=1e-12)


def test_the_interval_agrees_with_scipys_bootstrap():
    generator = np.random.default_rng(0)
    positives, negatives = generator.normal(2, 1, 400), generator.normal(0, 1, 600)
    theirs = stats.bootstrap(
        (positives, negatives),
        lambda p, n: eer(p, n)[0],
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    low, high = eer_interval(positives, negatives, num_resamples=2000)
    # Two draws of 2,000: the limits differ by a few per cent of the width.
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_the_interval_is_seeded_and_widens_with_its_level():
    generator = np.random.default_rng(0)
    positives, negatives = generator.normal(2, 1, 100), generator.normal(0, 1, 100)
    narrow, wide = (eer_interval(positives, negatives, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < eer(positives, negatives)[0] < narrow[1] < wide[1]
    assert eer_interval(positives, negatives) == eer_interval(positives, negatives)
    assert eer_interval(positives, negatives) != eer_interval(positives, negatives, seed=1)


def test_the_memory_of_the_interval_is_bounded(rawgat):
    import tracemalloc

    scores, bonafide, _ = rawgat
    tracemalloc.start()
    eer_interval(scores[bonafide], scores[~bonafide], num_resamples=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20  # all 100 resamples at once are 7 million counts, 57 MB for each of some seven arrays


@pytest.mark.parametrize("arguments", [{"level": 0}, {"level": 1}, {"num_resamples": 0}])
def test_arguments_of_the_interval_are_checked(arguments):
    with pytest.raises(ValueError, match="Received: level="):
        eer_interval([1.0], [0.0], **arguments)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_an_error(metric, bad):
    with pytest.raises(ValueError, match="Received: negatives with NaN or infinite values"):
        metric([1.0], [0.0, bad])


@pytest.mark.parametrize("metric", METRICS)
def test_a_kind_without_trials_is_an_error(metric):
    with pytest.raises(ValueError, match=r"at least one trial. Received: positives.shape=\(0,\)"):
        metric([], [0.0])
    with pytest.raises(ValueError, match=r"negatives.shape=\(1, 1\)"):
        metric([1.0], [[0.0]])
