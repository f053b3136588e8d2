"""Controlled shifts of stored scores have the strength and the direction of their settings."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from benchmarks.studies.shifts import KINDS, divide


@pytest.fixture(scope="module")
def ranks():
    source = torch.Generator().manual_seed(0)
    scores = torch.randn(120, 1, generator=source) + torch.randn(120, 6, generator=source)
    return torch.from_numpy(rankdata(scores.numpy(), axis=0))


def gap(ranks, kind, strength, rounds=40):
    """Mean rank of the test images minus that of the validation images, over rounds."""
    gaps = []
    for seed in range(rounds):
        held_out, new = divide(ranks, 40, kind, strength, torch.Generator().manual_seed(seed))
        assert sorted(torch.cat([held_out, new]).tolist()) == list(range(len(ranks)))
        assert len(held_out) == 40
        gaps.append((ranks[new].mean() - ranks[held_out].mean()).item())
    return np.array(gaps)


@pytest.mark.parametrize("kind", KINDS)
def test_at_strength_0_the_division_is_at_random(ranks, kind):
    gaps = gap(ranks, kind, 0.0)
    assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(len(gaps))


def test_a_stronger_setting_shifts_more_and_in_its_direction(ranks):
    up, more, down = (gap(ranks, *setting).mean() for setting in ((KINDS[0], 1), (KINDS[0], 4), (KINDS[1], 1)))
    assert 10 < up < more
    assert down < -10


def test_one_candidate_sees_more_of_its_own_shift_than_the_others(ranks):
    held_out, new = divide(ranks, 40, "one candidate", 4.0, torch.Generator().manual_seed(0))
    seen = ranks[new].mean(0) - ranks[held_out].mean(0)
    assert seen.max() > 1.5 * seen.median()
