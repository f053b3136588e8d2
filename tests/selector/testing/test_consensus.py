"""The contract of consensus functions: all built-in ones keep it, and one of a user's can."""

import numpy as np
import pytest

from selector import consensus
from selector.consensus import Consensus
from selector.testing.consensus import ConsensusContract


class TestConsensus(ConsensusContract):
    @pytest.fixture(params=consensus.names())
    def subject(self, request):
        return consensus.get(request.param)

    def has_random_partners(self, subject):
        return subject.name in ("mcs", "udr")

    def value_of_uninformative(self, subject, is_finite):
        if subject.name == "hits" and is_finite:  # which has a vote
            return None
        return -1.0 if subject.name == "select" else 0.0


def agreement_with_the_sum(matrix):
    """A user's own consensus: Spearman's rho with the mean rank of all, 0 where it is undefined."""
    ranks = matrix.dense_ranks.astype(float)
    ranks = np.array([np.searchsorted(np.sort(r), r, "left") + np.searchsorted(np.sort(r), r, "right") for r in ranks])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    total = centred.sum(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1) * (total**2).sum())
    return np.where(scale > 0, centred @ total / np.where(scale > 0, scale, 1), 0.0)


class TestCustomConsensus(ConsensusContract):
    """A consensus function that is not registered."""

    @pytest.fixture
    def subject(self):
        return Consensus("custom", "the user", False, agreement_with_the_sum, "Agreement with the mean rank.")
