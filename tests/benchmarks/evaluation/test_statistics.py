"""Statistics against scipy, scikit-posthocs, naive definitions and the numbers that Demsar (2006) prints."""

import gc
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from augmentations import InputError
from benchmarks.evaluation import statistics
from benchmarks.evaluation.statistics import (
    average_ranks,
    bootstrap,
    cliques,
    critical_difference,
    friedman,
    holm,
    wilcoxon_holm,
)


@pytest.fixture(scope="module", autouse=True)
def quick_garbage_collection():
    """statsmodels collects garbage in every call, which takes long where earlier tests left much that is alive."""
    gc.freeze()
    yield
    gc.unfreeze()


# Demsar's table 6: the ranks of C4.5 and three variants by AUC on 14 data sets.
DEMSAR = pd.DataFrame(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ],
    columns=["C4.5", "m", "cf", "m+cf"],
)
# His table 2: the differences in AUC between the second of them and the first.
GAIN = [5, -8, 17, 33, 6, -5, 7, 0, 63, 0, 22, 47, 9, 21]


def table(seed, cases=20, methods=4, levels=None):
    """Values (cases,methods), later methods better; levels: rounded to so many steps a unit, for ties."""
    values = np.random.default_rng(seed).normal(size=(cases, methods)) + 0.3 * np.arange(methods)
    if levels:
        values = np.round(values * levels) / levels
    return pd.DataFrame(values, columns=[f"m{i}" for i in range(methods)])


TABLES = pytest.mark.parametrize(
    "values",
    [table(0), table(1, 8, 3), table(2, 60, 7), table(3, levels=1), table(4, 8, 4, levels=1), table(5, 60, 6, 2)],
    ids=["20x4", "8x3", "60x7", "20x4 ties", "8x4 ties", "60x6 ties"],
)


# Bootstrap


def every_resample(groups, statistic):
    """The statistic of every equally likely draw of as many groups as there are."""
    return [statistic(np.concatenate(drawn)) for drawn in product(groups, repeat=len(groups))]


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.max], ids=["mean", "median", "max"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2, 2), (1, 2, 4)], ids=str)
def test_the_interval_is_the_quantiles_of_all_equally_likely_resamples(sizes, statistic):
    draw = np.random.default_rng(len(sizes))
    groups = [draw.normal(size=size).round(3) for size in sizes]
    labels = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    mixed = draw.permutation(len(labels))
    values, labels = np.concatenate(groups)[mixed], labels[mixed]
    exact = np.quantile(every_resample(groups, statistic), [0.1, 0.9])
    found = bootstrap(values, labels, statistic, confidence=0.8, resamples=40_000)
    assert found == pytest.approx(exact, abs=0.02 * np.ptp(values))
    if set(sizes) == {1}:
        assert bootstrap(values, None, statistic, 0.8, 40_000) == pytest.approx(exact, abs=0.02 * np.ptp(values))


def coverage(statistic, truth, draw_sample, n_samples=150):
    source = np.random.default_rng(0)
    intervals = [bootstrap(*draw_sample(source), statistic=statistic, resamples=500) for _ in range(n_samples)]
    return np.mean([low <= truth <= high for low, high in intervals])


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_the_interval_covers_the_truth_about_as_often_as_promised(statistic):
    assert 0.9 <= coverage(statistic, 2.0, lambda source: (source.normal(2.0, 3.0, 40),)) <= 0.98


def test_only_whole_groups_cover_the_truth_where_the_values_of_a_group_go_together():
    labels = np.repeat(np.arange(30), 4)

    def clustered(source):
        return source.normal(size=30)[labels] + 0.2 * source.normal(size=len(labels)), labels

    assert 0.9 <= coverage(np.mean, 0.0, clustered) <= 0.98
    assert coverage(np.mean, 0.0, lambda source: clustered(source)[:1]) < 0.75


def test_duplicated_rows_add_nothing_when_drawn_together():
    values = np.random.default_rng(0).normal(size=25)
    labels = np.arange(25)
    once = bootstrap(values)
    assert bootstrap(np.tile(values, 4), np.tile(labels, 4)) == pytest.approx(once, abs=1e-12)
    apart = bootstrap(np.tile(values, 4))
    assert np.ptp(once) / np.ptp(apart) == pytest.approx(2, rel=0.1)  # the root of the 4 copies


@given(arrays(float, st.integers(2, 12), elements=st.floats(-10, 10)), st.floats(0.1, 5), st.floats(-5, 5))
def test_the_interval_follows_scale_and_shift_and_stays_within_the_values(values, scale, shift):
    low, high = bootstrap(values, resamples=200)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    moved = bootstrap(scale * values + shift, resamples=200)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-9)


def test_the_seed_decides_and_labels_are_only_names():
    values = np.random.default_rng(1).normal(size=30)
    labels = np.repeat(np.arange(10), 3)
    found = bootstrap(values, labels, seed=3)
    assert bootstrap(values, labels, seed=3) == found
    assert bootstrap(values, labels, seed=4) != found
    assert bootstrap(pd.Series(values), [f"task {9 - label}" for label in labels], seed=3) == found
    assert bootstrap(values, np.arange(30)) == bootstrap(values)


def test_more_confidence_is_a_wider_interval():
    values = np.random.default_rng(2).normal(size=30)
    widths = [np.ptp(bootstrap(values, confidence=confidence)) for confidence in (0.5, 0.8, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_resamples_in_blocks_are_as_good_as_all_at_once(monkeypatch):
    values, labels = np.random.default_rng(3).normal(size=40), np.arange(40) // 3
    at_once = bootstrap(values, labels)
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", 1000)
    assert bootstrap(values, labels) == pytest.approx(at_once, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [1, np.nan]}, "values"),
        ({"values": [1, np.inf]}, "values"),
        ({"values": [[1, 2]]}, "values"),
        ({"values": [1]}, "values"),
        ({"values": []}, "values"),
        ({"values": [1, 2], "groups": ["a"]}, "groups"),
        ({"values": [1, 2], "groups": ["a", "a"]}, "groups"),
        ({"values": [1, 2, 3], "groups": ["a", "b", None]}, "groups"),
        ({"values": [1, 2], "confidence": 1.0}, "confidence"),
        ({"values": [1, 2], "confidence": np.nan}, "confidence"),
        ({"values": [1, 2], "resamples": 0}, "resamples"),
    ],
)
def test_bootstrap_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        bootstrap(**arguments)


# Ranks, Friedman, Nemenyi


def test_average_ranks_are_those_that_demsar_prints():
    # He rounds; the ranks stand for the values, of which the lowest is best then.
    expected = pd.Series([3.143, 2.000, 2.893, 1.964], DEMSAR.columns)
    assert average_ranks(DEMSAR, higher_is_better=False).round(3).to_dict() == expected.to_dict()
    assert average_ranks(-DEMSAR, higher_is_better=True).round(3).to_dict() == expected.to_dict()


@TABLES
def test_a_rank_counts_the_better_methods_and_half_the_equal_ones(values):
    found = average_ranks(values, higher_is_better=True)
    for name in values:
        others = values.drop(columns=name)
        better = others.gt(values[name], axis=0).sum(axis=1) + others.eq(values[name], axis=0).sum(axis=1) / 2
        assert found[name] == pytest.approx(1 + better.mean(), abs=1e-12)
    assert found.sum() == pytest.approx(values.shape[1] * (values.shape[1] + 1) / 2)


def test_friedman_gives_what_demsar_prints():
    found = friedman(DEMSAR)
    # He leaves out the correction for ties, here of 2, 4, 2 and 2 methods.
    untied = found.statistic * (1 - (3 * (2**3 - 2) + 4**3 - 4) / (14 * (4**3 - 4)))
    assert untied == pytest.approx(9.28, abs=0.005)
    assert 13 * untied / (14 * 3 - untied) == pytest.approx(3.69, abs=0.005)


@TABLES
def test_friedman_equals_scipy_and_an_analysis_of_variance_of_the_ranks(values):
    found = friedman(values)
    theirs = stats.friedmanchisquare(*values.to_numpy().T)
    assert (found.statistic, found.p_value) == pytest.approx(tuple(theirs), abs=1e-9)
    cases, methods = values.shape
    freedom = methods - 1, (methods - 1) * (cases - 1)
    f = (cases - 1) * theirs.statistic / (cases * (methods - 1) - theirs.statistic)
    assert found.statistic_f == pytest.approx(f, abs=1e-9)
    assert found.p_value_f == pytest.approx(stats.f(*freedom).sf(f), abs=1e-9)


@TABLES
def test_rank_tests_see_nothing_but_the_order(values):
    reordered = np.exp(values).sample(frac=1, random_state=0)
    for other in (reordered, -reordered):
        ours, theirs = friedman(values), friedman(other)
        assert (theirs.statistic, theirs.p_value_f) == pytest.approx((ours.statistic, ours.p_value_f), abs=1e-9)


def test_friedman_where_all_cases_agree_and_where_all_methods_tie():
    agreed = friedman(pd.DataFrame([[1.0, 2.0, 3.0]] * 7))
    assert (agreed.statistic, agreed.statistic_f, agreed.p_value_f) == (pytest.approx(14), np.inf, 0)
    tied = friedman(pd.DataFrame(np.ones((7, 3))))
    assert (tied.statistic, tied.p_value, tied.statistic_f, tied.p_value_f) == (0, 1, 0, 1)
    with pytest.raises(InputError, match="at least 2 cases"):
        friedman(pd.DataFrame([[1.0, 2.0, 3.0]]))
    with pytest.raises(InputError, match="at least 3 are needed"):
        friedman(pd.DataFrame([[1.0, 2.0]] * 7))


def test_friedman_p_values_are_uniform_without_a_difference():
    source = np.random.default_rng(0)
    found = [friedman(pd.DataFrame(source.normal(size=(30, 5)))) for _ in range(400)]
    for p_values in ([test.p_value for test in found], [test.p_value_f for test in found]):
        assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("alpha", "printed"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_are_those_of_demsars_table_5(alpha, printed):
    for methods, q in enumerate(printed, start=2):
        cases = methods * (methods + 1) / 6  # of which the standard error is 1
        assert critical_difference(methods, cases, alpha) == pytest.approx(q, abs=0.001)


def test_critical_differences_and_cliques_are_those_of_demsars_example():
    ranks = average_ranks(DEMSAR, higher_is_better=False)
    wide, narrow = critical_difference(4, 14), critical_difference(4, 14, alpha=0.1)
    assert (wide, narrow) == (pytest.approx(1.25, abs=0.005), pytest.approx(1.12, abs=0.005))
    assert cliques(ranks, wide) == [("m+cf", "m", "cf", "C4.5")]
    assert cliques(ranks, narrow) == [("m+cf", "m", "cf"), ("cf", "C4.5")]


@TABLES
def test_ranks_differ_by_more_than_the_critical_difference_where_nemenyis_test_of_scikit_posthocs_rejects(values):
    posthocs = pytest.importorskip("scikit_posthocs")
    p_values = posthocs.posthoc_nemenyi_friedman(values).to_numpy()
    ranks = average_ranks(values, higher_is_better=True).to_numpy()
    for alpha in (0.01, 0.05, 0.5):
        cd = critical_difference(values.shape[1], len(values), alpha)
        assert ((p_values < alpha) == (np.abs(np.subtract.outer(ranks, ranks)) > cd)).all()


@pytest.mark.parametrize(("methods", "cases", "alpha"), [(1, 9, 0.05), (3, 0, 0.05), (3, 9, 0), (3, 9, 1)])
def test_critical_difference_refuses(methods, cases, alpha):
    with pytest.raises(InputError):
        critical_difference(methods, cases, alpha)


def naive_cliques(ranks, cd):
    """All subsets of methods within cd of each other, of two and more, that no larger one holds."""
    names = list(ranks.index)
    subsets = [
        {name for name, bit in zip(names, bits, strict=True) if bit} for bits in product((0, 1), repeat=len(ranks))
    ]
    close = [s for s in subsets if len(s) > 1 and max(abs(ranks[a] - ranks[b]) for a in s for b in s) < cd]
    return {frozenset(s) for s in close if not any(s < other for other in close)}


@given(
    st.lists(st.one_of(st.floats(1, 7), st.integers(1, 7).map(float)), min_size=1, max_size=7),
    st.one_of(st.floats(0, 7), st.integers(0, 7).map(float)),
)
def test_cliques_equal_the_definition(values, cd):
    ranks = pd.Series(values, [f"m{i}" for i in range(len(values))])
    found = cliques(ranks, cd)
    assert len(found) == len(set(found))
    assert {frozenset(group) for group in found} == naive_cliques(ranks, cd)
    for group in found:
        assert list(ranks[list(group)]) == sorted(ranks[list(group)])
    assert [ranks[group[0]] for group in found] == sorted(ranks[group[0]] for group in found)


def test_cliques_refuse_what_is_no_rank_and_no_difference():
    with pytest.raises(InputError, match="ranks"):
        cliques(pd.Series([1, np.nan]), 1.0)
    for cd in (-1, np.nan):
        with pytest.raises(InputError, match="cd"):
            cliques(pd.Series([1.0, 2.0]), cd)


# Holm, Wilcoxon


def naive_holm(p_values):
    """The smallest alpha at which the step-down procedure rejects each hypothesis, alpha by alpha."""

    def rejected(alpha):
        names, remaining = set(), len(p_values)
        for i in sorted(range(len(p_values)), key=p_values.__getitem__):
            if p_values[i] * remaining > alpha:
                break
            names.add(i)
            remaining -= 1
        return names

    candidates = sorted({p * times for p in p_values for times in range(1, len(p_values) + 1)} | {1.0})
    return [min([alpha for alpha in candidates if i in rejected(alpha)] + [1.0]) for i in range(len(p_values))]


P_VALUES = arrays(float, st.integers(0, 8), elements=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.2, 1.0])))


@settings(max_examples=25, deadline=None)
@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_equals_the_step_down_procedure_in_any_order(p_values, random):
    found = holm(p_values)
    assert found == pytest.approx(naive_holm(list(p_values)), abs=1e-12)
    assert (found >= p_values).all()
    assert (np.diff(found[p_values.argsort()]) >= 0).all()
    order = random.sample(range(len(p_values)), len(p_values))
    assert (holm(p_values[order]) == found[order]).all()


def test_holm_rejects_what_demsars_example_rejects():
    """His section 3.2.2: p of .016, .019 and .607, of which the first two fall below .05 / 3 and .05 / 2."""
    assert holm([0.607, 0.016, 0.019]) == pytest.approx([0.607, 0.048, 0.048])


@pytest.mark.parametrize("p_values", [[0.1, np.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses(p_values):
    with pytest.raises(InputError, match="p_values"):
        holm(p_values)


@TABLES
def test_wilcoxon_equals_scipy_and_is_adjusted_for_all_pairs(values):
    found = wilcoxon_holm(values)
    k = values.shape[1]
    assert len(found) == len({frozenset(pair) for pair in zip(found["first"], found["second"], strict=True)})
    assert len(found) == k * (k - 1) / 2
    for row in found.itertuples():
        a, b = values[row.first], values[row.second]
        assert row.p_value == pytest.approx(stats.wilcoxon(a, b, zero_method="pratt").pvalue, abs=1e-9)
        assert row.median_difference == pytest.approx(np.median(a - b), abs=1e-12)
        assert row.cases == len(values)
    assert found.p_holm.to_numpy() == pytest.approx(naive_holm(list(found.p_value)), abs=1e-12)


def test_wilcoxon_is_exact_on_both_sides_of_the_enumeration():
    """Of n differences of one sign, all different: 2 of the 2**n patterns of signs are as extreme."""
    for n in (1, 5, statistics.ENUMERATED, statistics.ENUMERATED + 1, 50):
        found = wilcoxon_holm(pd.DataFrame({"a": np.arange(n) + 1.0, "b": 0.0}))
        assert found.p_value[0] == pytest.approx(2 / 2**n, rel=1e-9)


def test_wilcoxon_distinguishes_demsars_two_classifiers():
    """His section 3.1.3: R+ = 93, R- = 12, significant at .05 on 14 data sets."""
    found = wilcoxon_holm(pd.DataFrame({"m": np.array(GAIN) / 1000, "C4.5": 0.0}))
    assert 0.005 < found.p_value[0] < 0.05
    assert found.median_difference[0] == pytest.approx(0.008)


def test_against_a_control_every_other_method_comes_first_once():
    values = table(7, 25, 5)
    found = wilcoxon_holm(values, control="m2")
    assert list(found["first"]) == ["m0", "m1", "m3", "m4"]
    assert set(found["second"]) == {"m2"}
    pairs = wilcoxon_holm(values)
    of_control = pairs[(pairs["first"] == "m2") | (pairs["second"] == "m2")]
    assert sorted(found.p_value) == pytest.approx(sorted(of_control.p_value), abs=1e-12)
    assert found.p_holm.to_numpy() == pytest.approx(naive_holm(list(found.p_value)), abs=1e-12)
    assert (found.p_holm <= of_control.p_holm.to_numpy()).all()  # fewer comparisons to pay for
    assert found.median_difference[3] == pytest.approx((values.m4 - values.m2).median())
    with pytest.raises(InputError, match="m2"):
        wilcoxon_holm(values, control="m22")


@pytest.mark.filterwarnings("error")
def test_methods_that_always_do_the_same_do_not_differ():
    values = table(8, 12, 2).assign(m0=lambda t: t.m1, zero=0.0)
    found = wilcoxon_holm(values).set_index(["first", "second"])
    assert found.p_value["m0", "m1"] == found.p_holm["m0", "m1"] == 1
    assert found.median_difference["m0", "m1"] == 0
    assert wilcoxon_holm(pd.DataFrame(np.zeros((5, 3)), columns=list("abc"))).p_value.eq(1).all()


def test_differences_that_are_equal_but_for_rounding_tie():
    tenths = pd.DataFrame({"a": [9, 8, 7, 6, 5, 1, 3, 4], "b": [8, 7, 6, 5, 6, 2, 1, 2]})
    assert len(set((tenths.a / 10 - tenths.b / 10).abs())) > 2  # in floating point
    for scale in (0.1, 1e-7, 1e7 / 3):
        assert wilcoxon_holm(tenths * scale).p_value[0] == pytest.approx(wilcoxon_holm(tenths).p_value[0], abs=1e-12)


@pytest.mark.parametrize("function", [lambda t: average_ranks(t, True), friedman, wilcoxon_holm])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(m1=t.m1.where(t.m1 > t.m1.min())), "column 'm1'"),
        (lambda t: t.assign(m2=np.inf), "column 'm2'"),
        (lambda t: t.assign(m2="high"), "column 'm2'"),
        (lambda t: t.astype("Float64").mask(t == t.m0.max()), "column 'm0'"),
        (lambda t: t.rename(columns={"m1": "m0"}), "column 'm0'"),
        (lambda t: t[["m0"]], "at least 2 methods"),
        (lambda t: t.iloc[:0], "must hold cases"),
    ],
)
def test_tables_are_refused_by_the_name_of_the_column(function, change, message):
    with pytest.raises(InputError, match=message):
        function(change(table(0)))
