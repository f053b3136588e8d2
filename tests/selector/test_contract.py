"""What every criterion, every consensus and the ensemble must keep; a new one that is registered runs through it."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch._subclasses.fake_tensor import FakeTensorMode

from augmentations.errors import InputError
from benchmarks.evaluation.ensembles import rank_average
from selector import consensus, criteria
from selector.criteria import Criterion
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence

TEST = ("test_scores",)
NOT_FINITE = (math.nan, math.inf, -math.inf)


class Contract:
    """Statements that need to know nothing but how a value is made; inherit, and say it.

    ``make``: inputs by name, samples in the first axis, others for every seed. ``value``: of a subject, float64.
    """

    @pytest.fixture
    def subject(self):
        raise NotImplementedError

    def make(self, seed=0):
        raise NotImplementedError

    def needs(self, subject):
        raise NotImplementedError

    def value(self, subject, given):
        raise NotImplementedError

    def shuffled(self, subject, given, source):
        """The same samples in another order, and what must come of the value."""
        raise NotImplementedError

    def shows(self, value, sample):
        """Whether a value tells that this sample of one input was no number."""
        return not np.isfinite(value).any()

    def same(self, found, expected, rtol=1e-9):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-11)

    def test_it_says_what_it_is(self, subject):
        assert subject.name
        assert subject.source
        assert subject.description.endswith(".")
        assert subject.description.count(".") - subject.description.count(" .") == 1

    def test_it_varies_with_everything_that_it_declares(self, subject):
        for name in self.needs(subject):
            changed = [
                np.array_equal(self.value(subject, self.make(seed)), self.value(subject, self.make(seed) | other))
                for seed in range(4)
                for other in [{name: self.make(seed + 1)[name]}]
            ]
            assert not all(changed), name

    def test_it_varies_with_nothing_else(self, subject):
        given = self.make()
        expected = self.value(subject, given)
        for name in set(given) - set(self.needs(subject)):
            assert np.array_equal(self.value(subject, given | {name: self.make(1)[name]}), expected), name

    def test_the_order_of_samples_does_not_matter(self, subject):
        for seed in range(3):
            given = self.make(seed)
            shuffled, after = self.shuffled(subject, given, np.random.default_rng(seed))
            self.same(self.value(subject, shuffled), after(self.value(subject, given)))

    def test_it_is_deterministic(self, subject):
        first = self.value(subject, self.make())
        np.random.seed(7)  # noqa: NPY002  global generators must not matter
        torch.manual_seed(7)
        state = torch.get_rng_state()
        assert np.array_equal(self.value(subject, self.make()), first)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_number_of_threads_does_not_matter(self, subject):
        found, before = [], torch.get_num_threads()
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                with threadpool_limits(threads):
                    found.append(self.value(subject, self.make()))
        finally:
            torch.set_num_threads(before)
        self.same(*found)

    def test_it_leaves_its_inputs_alone(self, subject):
        given = self.make()
        self.value(subject, given)
        assert all(np.array_equal(value, self.make()[name]) for name, value in given.items())

    def test_arrays_and_tensors_of_either_precision_agree(self, subject):
        kinds = {
            np.float64: (torch.tensor, np.asfortranarray, lambda x: torch.tensor(x).requires_grad_()),
            np.float32: (torch.tensor, np.asfortranarray, lambda x: torch.tensor(np.repeat(x, 2, 0))[::2]),
        }
        exact = self.value(subject, self.make())
        for dtype, others in kinds.items():
            given = {n: x if np.asarray(x).dtype.kind != "f" else x.astype(dtype) for n, x in self.make().items()}
            expected = self.value(subject, given)
            self.same(expected, exact, rtol=1e-4)
            for convert in others:
                of_kind = {
                    n: convert(x) if n in self.needs(subject) and n != "families" else x for n, x in given.items()
                }
                self.same(self.value(subject, of_kind), expected)

    @pytest.mark.parametrize("bad", NOT_FINITE)
    def test_what_is_no_number_never_gives_a_plausible_one(self, subject, bad):
        for name in self.needs(subject):
            given = self.make()
            if np.asarray(given[name]).dtype.kind == "f":
                given[name][0, ...].flat[0] = bad
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    assert self.shows(self.value(subject, given), sample=0), name


# Criteria -----------------------------------------------------------------------------------------------------


def arrays(seed=0, distance=True, n=30, m=41, k=37, h=21, d=11):
    """Evidence as float64 arrays: a third of the test rows anomalous, scores with ties.

    Of 21 validation scores the .95 quantile is one, not between two.
    """
    rng = np.random.default_rng(seed)
    centre, direction = rng.normal(size=(2, d))
    anomalous = rng.random(k) < 1 / 3
    rows = {
        "train": centre + 0.6 * rng.normal(size=(n, d)),
        "augmented": centre + direction + 0.7 * rng.normal(size=(m, d)),
        "test": centre + 0.6 * rng.normal(size=(k, d)) + 1.2 * anomalous[:, None] * direction,
        "validation": centre + 0.6 * rng.normal(size=(h, d)),
    }
    scores = {
        "validation_scores": rng.gamma(4, 1, h),
        "augmented_scores": rng.gamma(7, 1, h),
        "test_scores": rng.gamma(4, 1, k) * (1 + anomalous),
        "pseudo_scores": rng.gamma(6, 1, 2 * h),
    }
    away = 0.1 if distance else -3.03
    return rows | {name: value.round(1) + away for name, value in scores.items()}


def on(kind, change):
    return lambda given: {name: change(value) if name in kind else value for name, value in given.items()}


def rotate(rows):
    return rows @ np.linalg.qr(np.random.default_rng(2).normal(size=(rows.shape[1],) * 2))[0]


UNIT = "measures in the units of embeddings, which are published with length 1"
HOW_FAR = "says how far scores lie, in logarithms of distances, and not in what order"
# What a criterion must not see, and who does, and why: all others keep their value.
MAPS = {
    "rotated embeddings": (on(EMBEDDINGS, rotate), True, {}),
    "embeddings about another origin": (
        on(EMBEDDINGS, lambda rows: rows + 50), True,
        {"mmd_poly": "its kernel is of inner products, which know the origin"},
    ),
    "embeddings in another unit": (
        on(EMBEDDINGS, lambda rows: 7 * rows), True,
        dict.fromkeys(("mmd_linear", "mmd_rbf", "mmd_poly", "mean_distance", "negative_std"), UNIT),
    ),
    "distances in another unit": (on(SCORES, lambda scores: 1000 * scores), True, {}),
    "other scores in another unit": (on(SCORES, lambda scores: 1000 * scores), False, {}),
    "other scores about another zero": (
        on(SCORES, lambda scores: scores - 100), False,
        {"rtm": "is relative to the median score, as published"},
    ),
    "powers of distances": (
        on(SCORES, lambda scores: scores**1.7), True,
        dict.fromkeys(("rtm", "npd"), "takes scores as they are, as published"),
    ),
    "scores in the same order": (
        on(SCORES, lambda scores: np.arctan(scores / 5)), True,
        dict.fromkeys(
            ("score_shift", "score_wasserstein", "score_q90", "score_q75", "score_q95", "score_variance",
             "score_pearson_skew", "score_skewness",
             "score_otsu", "rtm", "npd"),
            HOW_FAR,
        ),
    ),
}  # fmt: skip
DEGENERATE = {
    "one row": lambda value: value[:1],
    "two rows": lambda value: value[:2],
    "all equal": lambda value: np.full_like(value, 1 / 3),  # not exact in binary: its mean and spread would round
    "zeros": np.zeros_like,
    "one dimension": lambda value: value[:, :1] if value.ndim == 2 else value,
}


class CriterionContract(Contract):
    """For a Criterion: inherit, and give it as the fixture ``subject``."""

    def make(self, seed=0, **options):
        return arrays(seed, **options)

    def needs(self, subject):
        return subject.needs

    def value(self, subject, given, distance=True):
        return subject(Evidence(**given, score_is_distance=distance)).detach().numpy()

    def shuffled(self, subject, given, source):
        return {name: source.permutation(value) for name, value in given.items()}, lambda value: value

    def test_it_is_one_finite_number_in_full_precision(self, subject):
        for seed in range(6):
            for dtype in (torch.float64, torch.float32):
                given = {name: torch.tensor(value).to(dtype) for name, value in arrays(seed).items()}
                value = subject(Evidence(**given))
                assert value.shape == ()
                assert value.dtype == torch.float64
                assert value.isfinite()

    def test_it_declares_what_it_reads(self, subject):
        assert set(subject.needs) <= {*EMBEDDINGS, *SCORES}
        assert subject.needs
        assert subject.uses_draws == ("augmented" in subject.needs)
        assert subject.needs_test == bool({"test", "test_scores"} & set(subject.needs))
        given = arrays()
        only = {name: given[name] for name in subject.needs}
        self.same(self.value(subject, only), self.value(subject, given), rtol=0)
        for missing in subject.needs:
            with pytest.raises(InputError, match=f"{subject.name}.*needs {missing}"):
                subject(Evidence(**{name: value for name, value in given.items() if name != missing}))

    @pytest.mark.parametrize("told", MAPS)
    def test_it_sees_what_its_definition_says_and_no_more(self, subject, told):
        change, distance, seen = MAPS[told]
        for seed in range(3):
            given = arrays(seed, distance)
            value, after = (self.value(subject, one, distance) for one in (given, change(given)))
            if subject.name in seen:
                assert after != pytest.approx(value, rel=1e-3), seen[subject.name]
            else:
                assert after == pytest.approx(value, rel=1e-6)

    def test_an_origin_far_away_costs_no_digits(self, subject):
        if subject.name not in MAPS["embeddings about another origin"][2]:
            far = on(EMBEDDINGS, lambda rows: rows + 1e4)(arrays())
            self.same(self.value(subject, far), self.value(subject, arrays()), rtol=1e-7)

    @pytest.mark.parametrize("distance", [True, False])
    @pytest.mark.parametrize("kind", DEGENERATE)
    def test_degenerate_evidence_never_raises(self, subject, kind, distance):
        given = {name: DEGENERATE[kind](value) for name, value in arrays().items()}
        assert self.value(subject, given, distance).shape == ()

    def test_sets_that_are_equal_never_raise(self, subject):
        given = arrays()
        equal = {name: given["train" if name in EMBEDDINGS else "validation_scores"] for name in given}
        assert self.value(subject, equal).shape == ()

    def test_embeddings_that_are_all_equal_have_no_plausible_value(self, subject):
        """Where all distances are 0 what is relative to one has no value, and a distance is 0."""
        value = self.value(subject, on(EMBEDDINGS, lambda rows: np.full_like(rows, 1 / 3))(arrays()))
        if set(subject.needs) & set(EMBEDDINGS):
            assert np.isnan(value) or value == pytest.approx(0, abs=1e-100)
            if subject.name not in MAPS["embeddings in another unit"][2] | {"discordance": ""}:
                assert np.isnan(value)

    def test_of_scores_it_can_be_mapped_over_resamples(self, subject):
        if set(subject.needs) <= set(SCORES):
            evidence = Evidence(**arrays(), score_is_distance=True)
            rows = {name: torch.randint(len(scores), (5, len(scores))) for name, scores in evidence.items()}
            rows = {name: rows[name] for name in subject.needs}

            def of_one(*taken):
                return subject(evidence.subset(**dict(zip(rows, taken, strict=True))))

            found = torch.vmap(of_one)(*rows.values())
            one_by_one = [float(of_one(*taken)) for taken in zip(*rows.values(), strict=True)]
            self.same(found, one_by_one)

    def test_it_runs_on_a_gpu_without_waiting_for_it(self, subject):
        # Fake tensors refuse whatever needs a value on the host: .item(), branches, boolean masks.
        with FakeTensorMode():
            given = {name: torch.empty(value.shape, device="cuda") for name, value in arrays().items()}
            value = subject(Evidence(**given, score_is_distance=True))
            assert value.shape == ()
            assert value.device.type == "cuda"


class TestCriteria(CriterionContract):
    @pytest.fixture(params=criteria.names())
    def subject(self, request):
        return criteria.get(request.param)


def test_all_that_is_seen_is_said_of_a_criterion_there_is():
    assert {name for _, _, seen in MAPS.values() for name in seen} <= set(criteria.names())


BROKEN = {
    "test_it_varies_with_everything_that_it_declares": lambda t: 0 * t.sum(),
    "test_the_order_of_samples_does_not_matter": lambda t: t[0],
    "test_it_is_deterministic": lambda t: t.mean() + torch.rand(()),
    "test_it_leaves_its_inputs_alone": lambda t: t.sub_(1).sum(),
    "test_arrays_and_tensors_of_either_precision_agree": lambda t: t.sum() * t.itemsize,
    "test_it_is_one_finite_number_in_full_precision": lambda t: t.float().mean(),
}


@pytest.mark.parametrize("statement", BROKEN)
def test_the_contract_finds_what_breaks_it(statement):
    broken = Criterion("broken", True, TEST, "", lambda evidence: BROKEN[statement](evidence.test_scores), "")
    with pytest.raises(AssertionError):
        getattr(CriterionContract(), statement)(broken)


def test_the_contract_finds_what_is_read_and_not_declared():
    secret = Criterion("secret", True, TEST, "", lambda e: e.test_scores.mean() + e.train.mean(), "")
    with pytest.raises(AssertionError):
        CriterionContract().test_it_varies_with_nothing_else(secret)


def test_the_contract_finds_what_hides_that_a_score_is_no_number():
    median = Criterion("median", True, TEST, "", lambda evidence: evidence.test_scores.nanmedian(), "")
    for bad in NOT_FINITE:
        with pytest.raises(AssertionError):
            CriterionContract().test_what_is_no_number_never_gives_a_plausible_one(median, bad)


def test_the_contract_finds_a_value_that_scores_in_another_unit_change():
    mean = Criterion("mean", True, TEST, "", lambda evidence: evidence.test_scores.mean(), "")
    with pytest.raises(AssertionError):
        CriterionContract().test_it_sees_what_its_definition_says_and_no_more(mean, "distances in another unit")


# Score matrices: consensus and the ensemble --------------------------------------------------------------------


def score_matrix(seed=0, k=60, m=8, levels=None):
    """Scores (k, m) of candidates that see one signal through more and more noise; few levels make ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(k, 1)) + np.linspace(0.3, 3, m) * rng.normal(size=(k, m))
    return scores if levels is None else np.digitize(scores, np.linspace(-1.5, 1.5, levels - 1)).astype(float)


class ScoreMatrixContract(Contract):
    """For what reads the scores of all candidates: the order within a column is all that it may see."""

    def make(self, seed=0, **options):
        scores = score_matrix(seed, **options)
        families = np.array([(i + seed) % (2 + seed % 2) for i in range(scores.shape[1])])
        return {"scores": scores, "families": families}

    def candidates_in_order(self, subject, given, order):
        """The same candidates in another order, and what must come of the value."""
        raise NotImplementedError

    @pytest.mark.parametrize("levels", [None, 9])
    def test_any_map_that_keeps_the_order_within_a_column_changes_nothing(self, subject, levels):
        given = self.make(levels=levels)
        moved = given["scores"].copy()
        moved[:, 0] = np.exp(moved[:, 0])
        moved[:, 1] = 1e6 + 1e-3 * moved[:, 1]
        moved[:, 2] = np.arctan(moved[:, 2])
        self.same(self.value(subject, given | {"scores": moved}), self.value(subject, given))

    def test_the_order_of_candidates_orders_the_values(self, subject):
        for seed in range(3):
            # Random partners follow places: of three candidates all others are partners.
            given = self.make(seed, m=3 if getattr(subject, "name", "") in ("mcs", "udr") else 7)
            order = np.random.default_rng(seed).permutation(given["scores"].shape[1])
            reordered, after = self.candidates_in_order(subject, given, order)
            self.same(self.value(subject, reordered), after(self.value(subject, given)))

    def test_lists_frames_and_whole_numbers_agree(self, subject):
        given = self.make(levels=9)
        expected = self.value(subject, given)
        for convert in (
            np.ndarray.tolist, pd.DataFrame, lambda x: x.astype(np.uint8), lambda x: torch.tensor(x).long(),
            lambda x: torch.tensor(x).bfloat16(),
        ):  # fmt: skip
            assert np.array_equal(self.value(subject, given | {"scores": convert(given["scores"])}), expected)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        "scores",
        [
            np.full((9, 4), 1 / 3), np.zeros((2, 2)), np.array([[0.0, 1.0], [1.0, 0.0]]), score_matrix(m=2),
            score_matrix(k=2), score_matrix(k=2, m=2), score_matrix(k=3, m=50), np.tile(np.arange(9.0)[:, None], 4),
            np.full((4, 3), 1e308) * [1, -1, 1], score_matrix() * 1e-320, score_matrix() > 0,
        ],
        ids=str.split("equal zeros opposite two-candidates two-samples two-of-both wide copies huge tiny booleans"),
    )  # fmt: skip
    def test_degenerate_scores_never_raise(self, subject, scores):
        value = self.value(subject, {"scores": scores, "families": np.arange(scores.shape[1]) % 2})
        assert np.isfinite(value).all()
        assert (np.abs(value) <= 1).all()

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (4,), (2, 2, 2)], ids=str)
    def test_what_is_no_matrix_is_refused(self, subject, shape):
        with pytest.raises(InputError, match="shape"):
            self.value(subject, {"scores": np.zeros(shape), "families": np.zeros(shape[-1])})


class ConsensusContract(ScoreMatrixContract):
    """For a Consensus: inherit, and give it as the fixture ``subject``."""

    def needs(self, subject):
        return ("scores", "families") if subject.needs_families else ("scores",)

    def value(self, subject, given):
        found = consensus.evaluate(given["scores"], [subject.name], families=given["families"])[subject.name]
        assert found.dtype == torch.float64
        assert not found.requires_grad
        return found.numpy()

    def shuffled(self, subject, given, source):
        return given | {"scores": source.permutation(given["scores"])}, lambda value: value

    def candidates_in_order(self, subject, given, order):
        families = given["families"][order]
        return {"scores": given["scores"][:, order], "families": families}, lambda value: value[order]

    def shows(self, value, sample):
        """A candidate whose scores are not all finite has the least value, and others have theirs."""
        return np.isfinite(value).all() and value[0] <= value.min() and value.argmax() != 0

    def test_candidates_differ_and_those_that_see_the_signal_lead(self, subject):
        rng = np.random.default_rng(3)
        sees = np.arange(12) % 3 > 0
        scores = sees * rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 12))
        value = self.value(subject, {"scores": scores, "families": np.zeros(12)})
        assert value.shape == (12,)
        assert len(np.unique(value)) > 1
        assert sees[value.argmax()]
        assert value[sees].mean() > value[~sees].mean()

    def test_equal_candidates_tie_exactly_so_that_the_first_wins(self, subject):
        if subject.name not in ("mcs", "udr"):  # each has partners of its own
            given = self.make(m=5)
            value = self.value(subject, {name: x[..., [0, 1, 0, 2, 1, 3, 4, 0]] for name, x in given.items()})
            assert value[0] == value[2] == value[7]
            assert value[1] == value[4]

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("says", [1 / 3, *NOT_FINITE])
    def test_a_candidate_that_says_nothing_is_never_chosen(self, subject, says):
        scores = score_matrix(m=6)
        scores[slice(None) if math.isfinite(says) else 4, 0] = says  # where a tie would choose it
        value = self.value(subject, {"scores": scores, "families": np.zeros(6)})
        assert np.isfinite(value).all()
        assert value.argmax() != 0
        if subject.name != "hits" or not math.isfinite(says):
            assert value[0] == (-1 if subject.name == "select" else 0)


class TestConsensus(ConsensusContract):
    @pytest.fixture(params=consensus.names())
    def subject(self, request):
        return consensus.get(request.param)


class TestRankAverage(ScoreMatrixContract):
    """A number a sample and not a candidate."""

    @pytest.fixture
    def subject(self):
        return rank_average

    def needs(self, subject):
        return ("scores",)

    def value(self, subject, given):
        return subject(given["scores"]).numpy()

    def shuffled(self, subject, given, source):
        order = source.permutation(len(given["scores"]))
        return given | {"scores": given["scores"][order]}, lambda value: value[order]

    def candidates_in_order(self, subject, given, order):
        return given | {"scores": given["scores"][:, order]}, lambda value: value

    test_it_says_what_it_is = None

    def test_it_is_the_share_of_samples_below_ties_counting_half(self, subject):
        scores = score_matrix(k=12, m=3, levels=4)
        naive = [
            np.mean(
                [np.mean([(a > b) + 0.5 * (a == b) for b in column]) for a, column in zip(row, scores.T, strict=True)]
            )
            for row in scores
        ]
        self.same(subject(scores), naive)

    def test_one_candidate_is_an_ensemble(self, subject):
        assert subject(np.array([[3.0], [1.0], [1.0], [9.0]])).tolist() == [0.625, 0.25, 0.25, 0.875]


def test_an_own_criterion_can_be_held_to_the_contract():
    """The classes are for any criterion, registered or not."""
    own = replace(criteria.get("pu_auc"), name="own")
    CriterionContract().test_the_order_of_samples_does_not_matter(own)
    CriterionContract().test_it_varies_with_nothing_else(own)
