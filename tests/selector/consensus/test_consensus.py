"""Every consensus against scipy, exact fractions and naive versions, and published values."""

import time
import tracemalloc
import warnings
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_of
from scipy.stats import ConstantInputWarning, kendalltau, rankdata, spearmanr

from augmentations.errors import InputError
from selector import consensus
from selector.consensus.correlation import dense_ranks, kendall, kendall_matrix, spearman_matrix

NAMES = consensus.names()
WORKED = np.array(
    [
        [0.1, 0.2, 0.9, 0.5],
        [0.2, 0.1, 0.8, 0.4],
        [0.3, 0.4, 0.1, 0.3],
        [0.9, 0.8, 0.3, 0.2],
        [0.8, 0.9, 0.2, 0.1],
        [0.4, 0.3, 0.4, 0.6],
    ]
)


def make(seed=0, k=60, m=8, levels=None):
    """Scores of m candidates that see one signal through more and more noise; few levels make ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(k, 1)) + np.linspace(0.3, 3, m) * rng.normal(size=(k, m))
    return scores if levels is None else np.digitize(scores, np.linspace(-1.5, 1.5, levels - 1)).astype(float)


def families_of(m):
    return ["cutout" if i % 2 else "cutpaste" for i in range(m)]


def values(scores, name, **options):
    options.setdefault("families", families_of(np.shape(scores)[1]))
    return consensus.evaluate(scores, [name], **options)[name]


def pairwise(correlation, scores):
    """The similarity matrix pair by pair, from scipy: nan counts 0, and so does the diagonal."""
    matrix = np.zeros((scores.shape[1],) * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        for i, j in permutations(range(len(matrix)), 2):
            matrix[i, j] = np.nan_to_num(correlation(scores[:, i], scores[:, j]).statistic)
    return matrix


# Published values


def test_the_worked_example():
    found = consensus.evaluate(WORKED)
    expected = {
        "mc": [-0.111111, -0.2, -0.2, -0.2],
        "mc_spearman": [-0.123810, -0.238095, -0.238095, -0.238095],
        "hits": [0.514568, 0.502636, 0.486663, 0.495718],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, atol=5e-7)
    assert found["mc"][1] == found["mc"][2] == found["mc"][3]  # so that the first of them wins


# Rank correlations


@pytest.mark.parametrize("k", [2, 3, 15, 16, 17, 31, 33, 64, 65, 130])
@pytest.mark.parametrize("levels", [None, 2, 3, 7])
def test_correlations_are_those_of_scipy(k, levels):
    scores = make(seed=k, k=k, m=6, levels=levels)
    found = np.nan_to_num(kendall_matrix(dense_ranks(scores)) * (1 - np.eye(6)))
    np.testing.assert_allclose(found, pairwise(kendalltau, scores), atol=1e-13)
    found = np.nan_to_num(spearman_matrix(scores) * (1 - np.eye(6)))
    np.testing.assert_allclose(found, pairwise(spearmanr, scores), atol=1e-12)


@settings(max_examples=100, deadline=None)
@for_all(st.integers(2, 70).flatmap(lambda k: array_of(np.int64, (k, 3), elements=st.integers(-3, 3))))
def test_kendall_is_that_of_scipy_whatever_the_ties(scores):
    ranks = dense_ranks(scores.astype(float))
    for target in range(3):
        expected = [kendalltau(scores[:, target], column).statistic for column in scores.T]
        np.testing.assert_allclose(kendall(ranks[target], ranks), expected, atol=1e-13)


@pytest.mark.parametrize("k", [2047, 2049, 40_000])  # the last needs keys of 64 bits, and chunks of one column
def test_kendall_of_many_samples(k):
    scores = np.column_stack([make(k=k, m=2), make(k=k, m=2, levels=50), np.arange(k) % 7, -np.arange(k)])
    ranks = dense_ranks(scores)
    for target in (0, 2, 5):
        expected = [kendalltau(scores[:, target], column).statistic for column in scores.T]
        np.testing.assert_allclose(kendall(ranks[target], ranks), expected, atol=1e-13)


def test_a_column_agrees_fully_with_itself_and_its_mirror_image_not_at_all():
    ranks = dense_ranks(np.column_stack([make(k=999, m=1), -make(k=999, m=1)]))
    assert kendall(ranks[0], ranks).tolist() == [1, -1]


# Similarity


@pytest.mark.parametrize("levels", [None, 4])
def test_mc_is_the_mean_similarity_to_the_others(levels):
    for seed in range(3):
        scores = make(seed, levels=levels)
        for name, correlation in (("mc", kendalltau), ("mc_spearman", spearmanr)):
            expected = pairwise(correlation, scores).sum(1) / 7
            np.testing.assert_allclose(values(scores, name), expected, atol=1e-11)


def medians(similarity, size, eligible):
    """For every candidate, the medians over all sets of partners that it may draw."""
    return [
        [np.median(similarity[i, list(chosen)]) for chosen in combinations(eligible(i), size)]
        for i in range(len(similarity))
    ]


@pytest.mark.parametrize(("m", "size"), [(2, 1), (3, 2), (6, 2), (7, 3)])
def test_mcs_draws_round_root_m_others_all_sets_alike(m, size):
    scores = make(m=m)
    possible = medians(pairwise(kendalltau, scores), size, lambda i: [j for j in range(m) if j != i])
    drawn = np.array([values(scores, "mcs", seed=seed) for seed in range(200)])
    for column, medians_of_one in zip(drawn.T, possible, strict=True):
        distance = np.abs(column[:, None] - np.array(medians_of_one))
        assert (distance.min(1) < 1e-11).all()  # every draw is one of the possible
        assert (distance.min(0) < 1e-11).all()  # and each of them is drawn


def test_udr_draws_from_the_own_family_only():
    scores = make(m=9)
    families = ["a", "b", "a", "a", "lone", "a", "b", "a", "a"]  # 6 a, of which 3 of 5 are drawn; 1 partner for b
    similarity = pairwise(kendalltau, scores)

    def own(i):
        return [j for j in range(9) if j != i and families[j] == families[i]]

    possible = medians(similarity, 3, own)
    drawn = np.array([values(scores, "udr", families=families, seed=seed) for seed in range(100)])
    for i, family in enumerate(families):
        if family == "a":
            distance = np.abs(drawn[:, i, None] - np.array(possible[i]))
            assert (distance.min(1) < 1e-11).all()
            assert (distance.min(0) < 1e-11).all()
        else:
            np.testing.assert_allclose(drawn[:, i], similarity[i, own(i)[0]] if family == "b" else 0, atol=1e-11)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, pd.Series])
def test_families_may_be_any_sequence(kind):
    families = [3, 3, 5, 5, 5, 3, 3, 5]
    expected = values(make(), "udr", families=families)
    assert torch.equal(values(make(), "udr", families=kind(families)), expected)
    assert torch.equal(values(make(), "udr", families=[("x", f) for f in families]), expected)


# Trust


def votes_of(scores):
    return np.column_stack([1 / (len(column) + 1 - rankdata(column)) for column in np.asarray(scores).T])


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("shape", [(60, 8), (5, 30), (2, 2)])
def test_hits_are_the_leading_singular_vectors(shape, levels):
    scores = make(k=shape[0], m=shape[1], levels=levels)
    right = np.linalg.svd(votes_of(scores))[2]
    np.testing.assert_allclose(values(scores, "hits"), np.abs(right[0]), atol=1e-11)


def naive_select(scores):
    """SELECT in exact fractions, pair by pair; also how many it takes."""
    columns = [
        [Fraction(2, int(2 * (len(column) + 1 - rank))) for rank in rankdata(column)] for column in np.asarray(scores).T
    ]

    def tau(target, column):
        places = {value: place for place, value in enumerate(sorted(set(target)))}
        found = kendalltau([places[value] for value in target], [float(value) for value in column]).statistic
        return -1.0 if np.isnan(found) else found

    def mean(chosen):
        return [sum(row) / len(chosen) for row in zip(*(columns[i] for i in chosen), strict=True)]

    everyone = range(len(columns))
    taus = [tau(mean(everyone), column) for column in columns]
    taken, history = [taus.index(max(taus))], [max(taus)]
    while len(taken) < len(columns):
        taus = {i: tau(mean(taken), columns[i]) for i in everyone if i not in taken}
        best = max(taus, key=taus.get)
        if taus[best] < sum(history) / len(history) - 1e-12:
            break
        taken.append(best)
        history.append(taus[best])
    return [tau(mean(taken), column) for column in columns], len(taken)


@pytest.mark.parametrize("levels", [None, 3, 6])
def test_select_is_that_of_a_naive_version_in_exact_fractions(levels):
    sizes = set()
    for seed in range(12):
        scores = make(seed, k=(12, 30)[seed % 2], m=(3, 7, 10)[seed % 3], levels=levels)
        if seed % 4 == 3:
            scores = scores[:, [0, 1, 0, 0, 1, 2, 0]]  # many equals: the ensemble grows
        expected, taken = naive_select(scores)
        np.testing.assert_allclose(values(scores, "select"), expected, atol=1e-11)
        sizes.add(taken)
    assert {1, 2} < sizes


def small_permutations():
    """Few samples: equal taus abound, and one more candidate enters where its tau equals the mean of the taken."""
    rng = np.random.default_rng(0)
    shapes = [rng.integers(4, 8, size=2) for _ in range(12)]
    return [np.column_stack([rng.permutation(k) for _ in range(m)]) for k, m in shapes]


@pytest.mark.parametrize(
    "scores",
    [
        *small_permutations(),
        *(np.add.outer(np.arange(k), np.arange(k)) % k for k in (3, 5, 6, 7)),  # all rows of W have one sum
        # a mean of equal taus that rounds to above them
        np.array(
            [[4, 1, 5, 5, 2, 1], [1, 2, 4, 1, 1, 3], [0, 5, 1, 0, 4, 5], [2, 3, 0, 4, 5, 2], [3, 4, 2, 3, 0, 0],
             [5, 0, 3, 2, 3, 4]]
        ),
    ],
)  # fmt: skip
def test_select_where_only_exact_sums_show_what_ties(scores):
    np.testing.assert_allclose(values(scores, "select"), naive_select(scores)[0], atol=1e-11)


# Candidates without finite scores


def test_a_candidate_without_finite_scores_does_not_sway_the_others():
    scores = make(m=6)
    broken = np.column_stack([scores, np.full(len(scores), np.nan)])
    for name in ("hits", "select"):
        torch.testing.assert_close(values(broken, name)[:6], values(scores, name), rtol=0, atol=1e-11)
    torch.testing.assert_close(values(broken, "mc")[:6], values(scores, "mc") * 5 / 6, rtol=0, atol=1e-11)


def test_where_no_candidate_has_finite_scores_nobody_is_trusted():
    scores = np.full((5, 3), np.nan)
    expected = {"mc": 0, "mc_spearman": 0, "mcs": 0, "udr": 0, "hits": 0, "select": -1}
    found = consensus.evaluate(scores, families="aab")
    assert {name: value.tolist() for name, value in found.items()} == {n: [v] * 3 for n, v in expected.items()}


# The table


def test_none_means_all_that_the_input_supports():
    assert list(consensus.evaluate(make())) == [name for name in NAMES if name != "udr"]
    assert list(consensus.evaluate(make(), families=families_of(8))) == NAMES
    assert list(consensus.evaluate(make(), ["select", "mc"])) == ["select", "mc"]
    assert consensus.evaluate(make(), []) == {}
    both, one = consensus.evaluate(make()), consensus.evaluate(make(), ["mcs"])
    assert torch.equal(both["mcs"], one["mcs"])


def test_the_table_holds_each_under_its_own_name():
    assert NAMES == ["mc", "mc_spearman", "mcs", "udr", "hits", "select"]
    assert [name for name in NAMES if consensus.get(name).needs_families] == ["udr"]


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (make()[:, 0], {}, r"scores of shape \(60,\): must be \(samples, candidates\)"),
        (make()[:, :1], {}, r"scores of shape \(60, 1\).*at least 2"),
        (make()[:1], {}, r"scores of shape \(1, 8\).*at least 2"),
        (make()[None], {}, r"scores of shape \(1, 60, 8\)"),
        (torch.zeros(0, 0), {}, r"scores of shape \(0, 0\)"),
        ([[1, 2], [3]], {}, "scores: must be a matrix"),
        ([["a", "b"], ["c", "d"]], {}, "must be real numbers"),
        ([[1, None], [2, 3]], {}, "scores of type object: must be real numbers"),
        (torch.zeros(3, 3, dtype=torch.complex64), {}, "must be real numbers"),
        (make(), {"names": ["udr"]}, "consensus 'udr': needs the family of every candidate; pass families="),
        (make(), {"names": ["hit"]}, "consensus 'hit': is not a known name; did you mean hits"),
        (make(), {"families": ["a"]}, "families of length 1: the scores are those of 8 candidates"),
        (make(), {"families": [["a"]] * 8}, r"family \['a'\]: must be hashable"),
        (make(), {"seed": 0.5}, "seed=0.5: must be an integer"),
        (make(), {"seed": 2**64}, "must be an integer of 64 bits"),
    ],
)
def test_an_error_names_the_thing_the_rule_and_the_remedy(scores, options, message):
    with pytest.raises(InputError, match=message):
        consensus.evaluate(scores, **options)


# Speed


@pytest.mark.slow
def test_two_hundred_candidates_on_two_thousand_images():
    scores = make(k=2000, m=200)
    start = time.process_time()  # of all threads: what one core would take
    consensus.evaluate(scores, families=families_of(200))
    assert time.process_time() - start < 30


def test_a_comparison_with_all_candidates_takes_little_memory():
    ranks = dense_ranks(make(k=4000, m=200))
    tracemalloc.start()
    kendall(ranks[0], ranks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # the ranks alone are 6.4 MB, all pairs of samples of one candidate 64


def test_evaluate_takes_consensus_functions_as_objects():
    own = consensus.Consensus("own", "me", False, lambda matrix: matrix.values[0], "")
    found = consensus.evaluate(make(), [own, consensus.get("mc"), "hits"])
    assert list(found) == ["own", "mc", "hits"]
    assert torch.equal(found["mc"], values(make(), "mc"))
    with pytest.raises(InputError, match="two consensus functions of one name"):
        consensus.evaluate(make(), ["mc", consensus.Consensus("mc", "me", False, lambda matrix: matrix.values[0], "")])
