"""What every criterion must do, whatever it measures."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from augmentations.errors import InputError
from selector.criteria import Criterion
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.testing.values import Arrays, ValueContract


def arrays(
    seed: int = 0, distance: bool = True, n: int = 30, m: int = 41, k: int = 37, h: int = 21, d: int = 11
) -> Arrays:
    """Evidence as float64 arrays: a third of the test rows anomalous, scores with ties.

    Of 21 validation scores the .95 quantile is one of them, not between two.
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
    offset = 0.1 if distance else -3.03
    return rows | {name: value.round(1) + offset for name, value in scores.items()}


def _rotated(rows: np.ndarray) -> np.ndarray:
    return rows @ np.linalg.qr(np.random.default_rng(2).normal(size=(rows.shape[1],) * 2))[0]


# What a criterion is invariant to unless its contract says otherwise: the fields that change, how, and whether scores
# are distances.
TRANSFORMATIONS: dict[str, tuple[Collection[str], Callable[[np.ndarray], np.ndarray], bool]] = {
    "rotated embeddings": (EMBEDDINGS, _rotated, True),
    "embeddings about another origin": (EMBEDDINGS, lambda rows: rows + 50, True),
    "embeddings in another unit": (EMBEDDINGS, lambda rows: 7 * rows, True),
    "distances in another unit": (SCORES, lambda scores: 1000 * scores, True),
    "other scores in another unit": (SCORES, lambda scores: 1000 * scores, False),
    "other scores about another zero": (SCORES, lambda scores: scores - 100, False),
    "powers of distances": (SCORES, lambda scores: scores**1.7, True),
    "scores in the same order": (SCORES, lambda scores: np.arctan(scores / 5), True),
}
DEGENERATE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one row": lambda value: value[:1],
    "two rows": lambda value: value[:2],
    "all equal": lambda value: np.full_like(value, 1 / 3),  # not exact in binary: its mean and spread would round
    "zeros": np.zeros_like,
    "one dimension": lambda value: value[:, :1] if value.ndim == 2 else value,
}


def _changed(fields: Collection[str], change: Callable[[np.ndarray], np.ndarray], inputs: Arrays) -> Arrays:
    return {name: change(value) if name in fields else value for name, value in inputs.items()}


class CriterionContract(ValueContract):
    """Tests that every criterion must pass.

    Example, in a file that pytest collects:

        class TestMine(CriterionContract):
            @pytest.fixture
            def subject(self):
                return Criterion("mine", True, ("test_scores",), "me", my_function, "One sentence.")

            def sensitivities(self, subject):
                return {"scores in the same order": "measures how far scores lie, not their order"}
    """

    def sensitivities(self, subject: Criterion) -> Mapping[str, str]:
        """The ``TRANSFORMATIONS`` that change its value, as its definition says, and why; none unless overridden."""
        return {}

    def is_zero_for_equal_embeddings(self, subject: Criterion) -> bool:
        """Whether it is 0, and not nan, where all embeddings are equal: what is in their unit is a distance of 0."""
        return "embeddings in another unit" in self.sensitivities(subject)

    def make(self, seed: int = 0) -> Arrays:
        return arrays(seed)

    def needs(self, subject: Criterion) -> Collection[str]:
        return subject.needs

    def value(self, subject: Criterion, inputs: Mapping[str, object], distance: bool = True) -> np.ndarray:
        return subject(Evidence(**inputs, score_is_distance=distance)).detach().numpy()  # type: ignore[arg-type]

    def shuffled(
        self, subject: Criterion, inputs: Arrays, source: np.random.Generator
    ) -> tuple[Arrays, Callable[[np.ndarray], np.ndarray]]:
        return {name: source.permutation(value) for name, value in inputs.items()}, lambda value: value

    def test_it_is_one_finite_number_in_full_precision(self, subject: Criterion) -> None:
        for seed in range(6):
            for dtype in (torch.float64, torch.float32):
                inputs: Arrays = {name: torch.tensor(value).to(dtype) for name, value in arrays(seed).items()}
                value = subject(Evidence(**inputs))
                assert value.shape == ()
                assert value.dtype == torch.float64
                assert value.isfinite()

    def test_it_declares_what_it_reads(self, subject: Criterion) -> None:
        assert set(subject.needs) <= {*EMBEDDINGS, *SCORES}
        assert subject.needs
        assert subject.uses_draws == ("augmented" in subject.needs)
        assert subject.needs_test == bool({"test", "test_scores"} & set(subject.needs))
        inputs = arrays()
        only = {name: inputs[name] for name in subject.needs}
        self.assert_same(self.value(subject, only), self.value(subject, inputs), rtol=0)
        for missing in subject.needs:
            with pytest.raises(InputError, match=f"{subject.name}.*needs {missing}"):
                subject(Evidence(**{name: value for name, value in inputs.items() if name != missing}))

    @pytest.mark.parametrize("transformation", TRANSFORMATIONS)
    def test_it_changes_with_what_its_definition_says_and_no_more(
        self, subject: Criterion, transformation: str
    ) -> None:
        fields, change, distance = TRANSFORMATIONS[transformation]
        sensitivities = self.sensitivities(subject)
        for seed in range(3):
            inputs = arrays(seed, distance)
            value = self.value(subject, inputs, distance)
            after = self.value(subject, _changed(fields, change, inputs), distance)
            if transformation in sensitivities:
                assert after != pytest.approx(value, rel=1e-3), sensitivities[transformation]
            else:
                assert after == pytest.approx(value, rel=1e-6)

    def test_an_origin_far_away_costs_no_digits(self, subject: Criterion) -> None:
        if "embeddings about another origin" not in self.sensitivities(subject):
            far = _changed(EMBEDDINGS, lambda rows: rows + 1e4, arrays())
            self.assert_same(self.value(subject, far), self.value(subject, arrays()), rtol=1e-7)

    @pytest.mark.parametrize("distance", [True, False])
    @pytest.mark.parametrize("kind", DEGENERATE)
    def test_degenerate_evidence_never_raises(self, subject: Criterion, kind: str, distance: bool) -> None:
        inputs = {name: DEGENERATE[kind](value) for name, value in arrays().items()}
        assert self.value(subject, inputs, distance).shape == ()

    def test_sets_that_are_equal_never_raise(self, subject: Criterion) -> None:
        inputs = arrays()
        equal = {name: inputs["train" if name in EMBEDDINGS else "validation_scores"] for name in inputs}
        assert self.value(subject, equal).shape == ()

    def test_embeddings_that_are_all_equal_have_no_plausible_value(self, subject: Criterion) -> None:
        """Where all distances are 0, what is relative to one has no value, and a distance is 0."""
        value = self.value(subject, _changed(EMBEDDINGS, lambda rows: np.full_like(rows, 1 / 3), arrays()))
        if set(subject.needs) & set(EMBEDDINGS):
            assert np.isnan(value) or value == pytest.approx(0, abs=1e-100)
            if not self.is_zero_for_equal_embeddings(subject):
                assert np.isnan(value)

    def test_of_scores_it_can_be_mapped_over_resamples(self, subject: Criterion) -> None:
        if set(subject.needs) <= set(SCORES):
            evidence = Evidence(**arrays(), score_is_distance=True)
            rows = {name: torch.randint(len(scores), (5, len(scores))) for name, scores in evidence.items()}
            rows = {name: rows[name] for name in subject.needs}

            def of_resample(*resample: Tensor) -> Tensor:
                return subject(evidence.subset(**dict(zip(rows, resample, strict=True))))

            at_once = torch.vmap(of_resample)(*rows.values())
            one_by_one = [float(of_resample(*resample)) for resample in zip(*rows.values(), strict=True)]
            self.assert_same(at_once.numpy(), one_by_one)

    def test_it_runs_on_a_gpu_without_waiting_for_it(self, subject: Criterion) -> None:
        # Fake tensors refuse whatever needs a value on the host: .item(), branches, boolean masks.
        with FakeTensorMode():
            inputs: dict[str, Any] = {n: torch.empty(value.shape, device="cuda") for n, value in arrays().items()}
            value = subject(Evidence(**inputs, score_is_distance=True))
            assert value.shape == ()
            assert value.device.type == "cuda"
