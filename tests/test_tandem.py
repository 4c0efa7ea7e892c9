"""t-DCF, a-DCF and t-EER against other people's figures on real scores and against slow statements."""

import math

import numpy as np
import pytest
from conftest import real_file
from hypothesis import assume, given
from hypothesis import strategies as st

from lightcnn.metrics import ASVErrorRates, TandemCosts, a_dcf, asv_error_rates, eer, min_t_dcf, t_eer

SCORES = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=8)
RATES = st.builds(ASVErrorRates, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.01, 1), st.just(0.0))


@pytest.fixture(scope="module")
def asvspoof2019():
    """Bona fide and spoofed scores of a published countermeasure, and target, nontarget and spoof scores of the ASV."""
    cm = np.loadtxt(real_file("golden/asvspoof2019_la_rawgat_mul_scores.txt.gz"), dtype=str)
    asv = np.loadtxt(real_file("golden/asvspoof2019_la_asv_eval_scores.txt.gz"), dtype=str)
    return (
        [cm[cm[:, 2] == key, 3].astype(float) for key in ("bonafide", "spoof")],
        [asv[asv[:, 1] == key, 2].astype(float) for key in ("target", "nontarget", "spoof")],
    )


@pytest.fixture(scope="module")
def asvspoof5():
    """Pairs of ASV and countermeasure scores of targets, nontargets and spoofs, handed out with ASVspoof 5's tools."""
    table = np.loadtxt(real_file("golden/asvspoof5_sasv_dev_scores_label.csv.gz"), delimiter=",", skiprows=1)
    return [table[table[:, 2] == label, :2] for label in (1, 2, 0)]


# ------------------------------------------------------------------------------------------ other people's figures


def test_asvspoof2019_la_to_the_last_digit(asvspoof2019):
    (bonafide, spoofs), asv_scores = asvspoof2019
    asv = asv_error_rates(*asv_scores)
    assert f"{100 * eer(*asv_scores[:2])[0]:.4f}" == "2.4578"
    assert f"{asv.nontarget_acceptance:.5f} {asv.miss:.5f} {asv.spoof_acceptance:.5f}" == "0.02460 0.02458 0.76065"
    assert f"{min_t_dcf(bonafide, spoofs, asv, form='legacy')[0]:.5f}" == "0.03354"
    assert f"{min_t_dcf(bonafide, spoofs, asv)[0]:.5f}" == "0.09417"


def test_asvspoof5_to_the_last_digit(asvspoof5):
    targets, nontargets, spoofs = asvspoof5
    bonafide = np.concatenate([targets[:, 1], nontargets[:, 1]])
    asv = asv_error_rates(targets[:, 0], nontargets[:, 0], spoofs[:, 0])
    assert f"{100 * eer(targets[:, 0], nontargets[:, 0])[0]:.6f} {asv.threshold:.6f}" == "1.870927 0.442594"
    assert f"{asv.nontarget_acceptance:.8f} {asv.miss:.8f} {asv.spoof_acceptance:.8f}" == (
        "0.01855062 0.01819407 0.41796735"
    )
    assert f"{min_t_dcf(bonafide, spoofs[:, 1], asv, form='legacy')[0]:.8f}" == "0.02815025"
    assert f"{min_t_dcf(bonafide, spoofs[:, 1], asv)[0]:.8f}" == "0.10865025"
    assert f"{100 * t_eer(bonafide, spoofs[:, 1], targets[:, 0], nontargets[:, 0], spoofs[:, 0]):.8f}" == "1.98969883"


def test_a_dcf_of_asvspoof5_to_the_last_digit(asvspoof5):
    assert f"{a_dcf(*(pairs[:, 0] for pairs in asvspoof5))[0]:.8f}" == "0.33363686"
    assert f"{a_dcf(*(pairs @ [10, 1] for pairs in asvspoof5))[0]:.8f}" == "0.06373555"


# -------------------------------------------------------------------------------------------------- ASV error rates


@given(SCORES, SCORES, SCORES, st.integers(-7, 7))
def test_asv_errors_are_counted_at_the_threshold(targets, nontargets, spoofs, threshold):
    asv = asv_error_rates(targets, nontargets, spoofs, threshold)
    assert asv.miss * len(targets) == pytest.approx(len([score for score in targets if score < threshold]))
    for scores, rate in ((nontargets, asv.nontarget_acceptance), (spoofs, asv.spoof_acceptance)):
        assert rate * len(scores) == pytest.approx(len([score for score in scores if score >= threshold]))


# ------------------------------------------------------------------------------------------------------------ t-DCF


def tandem_cost(threshold, bonafide, spoofs, asv, legacy):
    """The cost of a tandem from what can happen to a trial, with the challenges' priors and costs.

    The legacy form leaves out what the ASV system costs without a countermeasure.
    """
    blocked = np.mean([score < threshold for score in bonafide])
    passed = np.mean([score >= threshold for score in spoofs])
    misses = 0.95 * 0.99 * (blocked + (1 - blocked) * asv.miss)
    others = 0.95 * 0.01 * 10 * (1 - blocked) * asv.nontarget_acceptance
    spoofed = 0.05 * 10 * passed * asv.spoof_acceptance
    alone = 0.95 * (0.99 * asv.miss + 0.01 * 10 * asv.nontarget_acceptance)
    return misses + others + spoofed - (alone if legacy else 0)


@pytest.mark.parametrize("form", ["legacy", "revised"])
@given(bonafide=SCORES, spoofs=SCORES, asv=RATES)
def test_the_least_tandem_cost_is_that_of_the_best_threshold(form, bonafide, spoofs, asv):
    bonafide = [score + 0.5 for score in bonafide]  # no tie between the kinds
    legacy = form == "legacy"
    costs = [tandem_cost(t, bonafide, spoofs, asv, legacy) for t in [*bonafide, *spoofs, math.inf]]
    # The cost of the better of a countermeasure that blocks all and one that lets all pass.
    trivial = min(tandem_cost(t, bonafide, spoofs, asv, legacy) for t in (-math.inf, math.inf))
    value = min_t_dcf(bonafide, spoofs, asv, form=form)[0]
    assert value == pytest.approx(min(costs) / trivial, rel=1e-9, abs=1e-12)
    assert value <= 1 + 1e-12


def test_the_revised_cost_of_a_perfect_countermeasure_is_the_asv_floor():
    asv = ASVErrorRates(0.1, 0.1, 0.5, 0.0)
    assert min_t_dcf([1.0], [0.0], asv, form="legacy")[0] == 0
    floor = 0.95 * (0.99 * 0.1 + 0.1 * 0.1)
    assert min_t_dcf([1.0], [0.0], asv)[0] == pytest.approx(floor / (floor + 0.5 * 0.5))


def test_an_asv_system_that_leaves_nothing_to_do_is_an_error():
    with pytest.raises(ValueError, match="undefined with this ASV system"):
        min_t_dcf([1.0], [0.0], ASVErrorRates(0.1, 0.1, 0.0, 0.0), form="legacy")
    with pytest.raises(ValueError, match="higher for targets"):
        min_t_dcf([1.0], [0.0], ASVErrorRates(1.0, 0.9, 0.5, 0.0))


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match=r"'legacy', 'revised'\. Received: form='new'"):
        min_t_dcf([1.0], [0.0], ASVErrorRates(0.1, 0.1, 0.5, 0.0), form="new")


@pytest.mark.parametrize(
    "values",
    [{"target_prior": 0.9}, {"miss": 0}, {"spoof_acceptance": -1}, {"target_prior": 0.96, "nontarget_prior": -0.01}],
)
def test_costs_are_checked(values):
    with pytest.raises(ValueError, match="Received: TandemCosts"):
        TandemCosts(**values)


# ------------------------------------------------------------------------------------------------------------ a-DCF


@given(SCORES, SCORES, SCORES)
def test_a_dcf_is_the_cost_of_the_best_threshold(targets, nontargets, spoofs):
    # No tie between the kinds: whole numbers, halves and quarters.
    nontargets, spoofs = [score + 0.5 for score in nontargets], [score + 0.25 for score in spoofs]

    def cost(threshold):
        return (
            0.9 * np.mean(np.less(targets, threshold))
            + 0.05 * 10 * np.mean(np.greater_equal(nontargets, threshold))
            + 0.05 * 20 * np.mean(np.greater_equal(spoofs, threshold))
        )

    expected = min(cost(threshold) for threshold in [*targets, *nontargets, *spoofs, math.inf]) / 0.9
    costs = TandemCosts(0.9, 0.05, 0.05, 1, 10, 20)
    assert a_dcf(targets, nontargets, spoofs, costs)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("costs", [TandemCosts(1.0, 0.0, 0.0), TandemCosts(nontarget_acceptance=0, spoof_acceptance=0)])
def test_a_dcf_without_a_cost_of_either_error_is_undefined(costs):
    with pytest.raises(ValueError, match="a-DCF is undefined"):
        a_dcf([2.0, 3.0], [0.0, 1.0], [-1.0, 1.5], costs)


# ------------------------------------------------------------------------------------------------------------ t-EER


def steps(*kinds):
    """Shares of each kind passed after every trial in the order of scores, the first kind before the next at a tie."""
    trials = sorted((score, kind) for kind, scores in enumerate(kinds) for score in scores)
    passed = [[0] * len(kinds)]
    for _, kind in trials:
        passed.append([count + (index == kind) for index, count in enumerate(passed[-1])])
    return [[count / len(scores) for count, scores in zip(row, kinds, strict=True)] for row in passed]


@given(SCORES, SCORES, SCORES, SCORES, SCORES)
def test_t_eer_is_found_by_trying_all_pairs_of_thresholds(bonafide, spoofs, targets, nontargets, asv_spoofs):
    found = []  # (how far nontargets and spoofs are apart, the figure), for each ASV threshold that counts
    for missed, kept_out, stopped in steps(targets, nontargets, asv_spoofs):
        if stopped == 1 or not missed < 0.5 * (1 - kept_out) + 0.5 * (1 - stopped):
            continue
        pairs = []
        for blocked, caught in steps(bonafide, spoofs):
            misses = 1 - (1 - blocked) * (1 - missed)
            accepts = 0.5 * (1 - blocked) * (1 - kept_out) + 0.5 * (1 - caught) * (1 - stopped)
            apart = abs((1 - kept_out) / (1 - stopped) - (1 - caught) / (1 - blocked)) if blocked < 1 else math.inf
            pairs.append((abs(misses - accepts), apart, (1 - stopped) * (1 - caught)))
        closest = min(pair[0] for pair in pairs)
        found.append([pair[1:] for pair in pairs if pair[0] <= closest + 1e-12])
    assume(found)
    # Where two are as close, rounding decides; any of them is a right answer.
    best = min(max(apart for apart, _ in tied) for tied in found)
    right = [value for tied in found for apart, value in tied if apart <= best + 1e-9]
    value = t_eer(bonafide, spoofs, targets, nontargets, asv_spoofs)
    assert min(abs(value - other) for other in right) < 1e-12


def test_perfect_systems_have_no_tandem_error():
    assert t_eer([1.0, 2.0], [0.0], [1.0, 2.0], [0.0], [1.5]) == 0


@pytest.mark.parametrize("position", range(5))
def test_scores_that_are_not_finite_are_an_error(position):
    scores = [[1.0], [0.0], [1.0], [0.0], [0.5]]
    scores[position] = [math.nan]
    with pytest.raises(ValueError, match="NaN or infinite"):
        t_eer(*scores)
    scores[position] = []
    with pytest.raises(ValueError, match="at least one trial"):
        t_eer(*scores)
