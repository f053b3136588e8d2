"""What every consensus function must do, and whatever else reads the scores of all candidates."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from augmentations.errors import InputError
from selector import consensus
from selector.consensus import Consensus
from selector.testing.values import NOT_FINITE, Arrays, ValueContract


def score_matrix(seed: int = 0, k: int = 60, m: int = 8, levels: int | None = None) -> np.ndarray:
    """Scores (k, m) of candidates that see one signal through more and more noise; few levels make ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(k, 1)) + np.linspace(0.3, 3, m) * rng.normal(size=(k, m))
    return scores if levels is None else np.digitize(scores, np.linspace(-1.5, 1.5, levels - 1)).astype(float)


def inputs_of(scores: np.ndarray, seed: int = 0) -> Arrays:
    """Scores (k, m) with the families of the candidates: their number and order differ between seeds."""
    families = np.array([(i + seed) % (2 + seed % 2) for i in range(scores.shape[1])])
    return {"scores": scores, "families": families}


class ScoreMatrixContract(ValueContract):
    """Tests of what reads the scores of all candidates: the order within a column is all that may matter.

    bound: the largest absolute value that there can be.
    """

    bound: ClassVar[float] = 1

    def has_random_partners(self, subject: Any) -> bool:
        """Whether a candidate's value depends on others that are drawn by their places; False unless overridden."""
        return False

    def make(self, seed: int = 0) -> Arrays:
        return inputs_of(score_matrix(seed), seed)

    def reordered(
        self, subject: Any, inputs: Arrays, order: np.ndarray
    ) -> tuple[Arrays, Callable[[np.ndarray], np.ndarray]]:
        """The same candidates in another order, and what must become of the value."""
        raise NotImplementedError

    @pytest.mark.parametrize("levels", [None, 9])
    def test_any_map_that_keeps_the_order_within_a_column_changes_nothing(
        self, subject: Any, levels: int | None
    ) -> None:
        inputs = inputs_of(score_matrix(levels=levels))
        mapped = inputs["scores"].copy()
        mapped[:, 0] = np.exp(mapped[:, 0])
        mapped[:, 1] = 1e6 + 1e-3 * mapped[:, 1]
        mapped[:, 2] = np.arctan(mapped[:, 2])
        self.assert_same(self.value(subject, inputs | {"scores": mapped}), self.value(subject, inputs))

    def test_the_order_of_candidates_orders_the_values(self, subject: Any) -> None:
        for seed in range(3):
            # Random partners follow places: of three candidates all others are partners.
            inputs = inputs_of(score_matrix(seed, m=3 if self.has_random_partners(subject) else 7), seed)
            order = np.random.default_rng(seed).permutation(inputs["scores"].shape[1])
            reordered, after = self.reordered(subject, inputs, order)
            self.assert_same(self.value(subject, reordered), after(self.value(subject, inputs)))

    def test_lists_frames_and_whole_numbers_agree(self, subject: Any) -> None:
        inputs = inputs_of(score_matrix(levels=9))
        expected = self.value(subject, inputs)
        conversions: tuple[Callable[[Any], Any], ...] = (
            np.ndarray.tolist, pd.DataFrame, lambda x: x.astype(np.uint8), lambda x: torch.tensor(x).long(),
            lambda x: torch.tensor(x).bfloat16(),
        )  # fmt: skip
        for convert in conversions:
            assert np.array_equal(self.value(subject, inputs | {"scores": convert(inputs["scores"])}), expected)

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
    def test_degenerate_scores_never_raise(self, subject: Any, scores: np.ndarray) -> None:
        value = self.value(subject, {"scores": scores, "families": np.arange(scores.shape[1]) % 2})
        assert np.isfinite(value).all()
        assert (np.abs(value) <= self.bound).all()

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (4,), (2, 2, 2)], ids=str)
    def test_what_is_no_matrix_is_refused(self, subject: Any, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match="shape"):
            self.value(subject, {"scores": np.zeros(shape), "families": np.zeros(shape[-1])})


class ConsensusContract(ScoreMatrixContract):
    """Tests that every consensus function must pass.

    Example, in a file that pytest collects:

        class TestMine(ConsensusContract):
            @pytest.fixture
            def subject(self):
                return Consensus("mine", "me", False, my_function, "One sentence.")
    """

    def value_of_uninformative(self, subject: Consensus, is_finite: bool) -> float | None:
        """The value of a candidate whose scores are all equal, or not all finite; None: any but the highest."""
        return 0.0

    def needs(self, subject: Consensus) -> Collection[str]:
        return ("scores", "families") if subject.needs_families else ("scores",)

    def value(self, subject: Consensus, inputs: Mapping[str, Any]) -> np.ndarray:
        values = consensus.evaluate(inputs["scores"], [subject], families=inputs["families"])[subject.name]
        assert values.dtype == torch.float64
        assert not values.requires_grad
        return values.numpy()

    def shuffled(
        self, subject: Consensus, inputs: Arrays, source: np.random.Generator
    ) -> tuple[Arrays, Callable[[np.ndarray], np.ndarray]]:
        return inputs | {"scores": source.permutation(inputs["scores"])}, lambda value: value

    def reordered(
        self, subject: Consensus, inputs: Arrays, order: np.ndarray
    ) -> tuple[Arrays, Callable[[np.ndarray], np.ndarray]]:
        moved = {"scores": inputs["scores"][:, order], "families": inputs["families"][order]}
        return moved, lambda value: value[order]

    def shows(self, value: np.ndarray, sample: int) -> bool:
        """A candidate whose scores are not all finite has the least value, and others have theirs."""
        return bool(np.isfinite(value).all() and value[0] <= value.min() and value.argmax() != 0)

    def test_candidates_differ_and_those_that_see_the_signal_lead(self, subject: Consensus) -> None:
        rng = np.random.default_rng(3)
        sees = np.arange(12) % 3 > 0
        scores = sees * rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 12))
        value = self.value(subject, {"scores": scores, "families": np.zeros(12)})
        assert value.shape == (12,)
        assert len(np.unique(value)) > 1
        assert sees[value.argmax()]
        assert value[sees].mean() > value[~sees].mean()

    def test_equal_candidates_tie_exactly_so_that_the_first_wins(self, subject: Consensus) -> None:
        if not self.has_random_partners(subject):
            inputs = inputs_of(score_matrix(m=5))
            value = self.value(subject, {name: x[..., [0, 1, 0, 2, 1, 3, 4, 0]] for name, x in inputs.items()})
            assert value[0] == value[2] == value[7]
            assert value[1] == value[4]

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("score", [1 / 3, *NOT_FINITE])
    def test_an_uninformative_candidate_is_never_chosen(self, subject: Consensus, score: float) -> None:
        scores = score_matrix(m=6)
        scores[slice(None) if math.isfinite(score) else 4, 0] = score  # where a tie would choose it
        value = self.value(subject, {"scores": scores, "families": np.zeros(6)})
        assert np.isfinite(value).all()
        assert value.argmax() != 0
        expected = self.value_of_uninformative(subject, math.isfinite(score))
        assert expected is None or value[0] == expected
