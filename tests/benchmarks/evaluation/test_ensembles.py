"""The ensemble by mean ranks keeps the contract of what reads the scores of all candidates."""

import numpy as np
import pytest

from benchmarks.evaluation.ensembles import rank_average
from selector.testing.consensus import ScoreMatrixContract, score_matrix


class TestRankAverage(ScoreMatrixContract):
    """One number per sample and not per candidate."""

    @pytest.fixture
    def subject(self):
        return rank_average

    def needs(self, subject):
        return ("scores",)

    def value(self, subject, inputs):
        return subject(inputs["scores"]).numpy()

    def shuffled(self, subject, inputs, source):
        order = source.permutation(len(inputs["scores"]))
        return inputs | {"scores": inputs["scores"][order]}, lambda value: value[order]

    def reordered(self, subject, inputs, order):
        return inputs | {"scores": inputs["scores"][:, order]}, lambda value: value

    test_it_says_what_it_is = None

    def test_it_is_the_share_of_samples_below_ties_counting_half(self, subject):
        scores = score_matrix(k=12, m=3, levels=4)
        naive = [
            np.mean(
                [np.mean([(a > b) + 0.5 * (a == b) for b in column]) for a, column in zip(row, scores.T, strict=True)]
            )
            for row in scores
        ]
        self.assert_same(subject(scores), naive)

    def test_one_candidate_is_an_ensemble(self, subject):
        assert subject(np.array([[3.0], [1.0], [1.0], [9.0]])).tolist() == [0.625, 0.25, 0.25, 0.875]
