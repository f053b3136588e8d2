"""The ensemble by mean ranks keeps the contract of what reads the scores of all candidates."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.evaluation.ensembles import DRAWS, Ensembles, rank_average
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


def ensembles(m=5, seed=0):
    source = np.random.default_rng(seed)
    labels = torch.tensor([0] * 30 + [1] * 30)
    scores = {f"c{i}": torch.from_numpy(source.lognormal(size=60)) * (1 + 2 * i * labels) for i in range(m)}
    validation = {name: torch.from_numpy(source.lognormal(size=20)) for name in scores}
    return Ensembles(scores, validation, frozenset(scores), dict.fromkeys(scores, "one"), labels)


class TestRandomMembers:
    def test_it_is_the_mean_over_all_ensembles_of_as_many(self):
        """Of five candidates there are ten pairs: the draws come near the mean of all, each by hand."""
        zoo = ensembles()
        divided = {name: (zoo.scores[name] / zoo.validation[name].mean()).numpy() for name in zoo.scores}
        pairs = [roc_auc_score(zoo.labels, divided[a] + divided[b]) for a, b in itertools.combinations(divided, 2)]
        found = [zoo.random_members(2, torch.Generator().manual_seed(seed)) for seed in range(20)]
        assert np.mean(found) == pytest.approx(np.mean(pairs), abs=4 * np.std(pairs) / (20 * DRAWS) ** 0.5)
        assert np.std(found) < 2 * np.std(pairs) / DRAWS**0.5

    def test_one_member_is_a_random_pick_and_all_are_the_ensemble_of_all(self):
        zoo = ensembles()
        alone = [zoo.normalized([name]) for name in zoo.scores]
        found = np.mean([zoo.random_members(1, torch.Generator().manual_seed(seed)) for seed in range(40)])
        assert found == pytest.approx(np.mean(alone), abs=4 * np.std(alone) / (40 * DRAWS) ** 0.5)
        for count in (5, 8):
            at_random = zoo.random_members(count, torch.Generator())
            assert at_random == pytest.approx(zoo.normalized(zoo.scores))

    def test_the_same_draws_give_the_same(self):
        first, again = (ensembles().random_members(3, torch.Generator().manual_seed(4)) for _ in range(2))
        assert first == again
