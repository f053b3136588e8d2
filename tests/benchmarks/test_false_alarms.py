"""Realised false-alarm rates, where the truth is known."""

import torch

from benchmarks.false_alarms import SPLITS, realised
from benchmarks.metrics import false_alarm_band


def test_exchangeable_scores_lie_in_the_band():
    source = torch.Generator().manual_seed(0)
    calibration, normal = torch.randn(60, generator=source), torch.randn(90, generator=source)
    for rate in (0.05, 0.1):
        low, high = false_alarm_band(60, 90, rate, splits=SPLITS)
        assert low <= realised(calibration, normal, rate, seed=0) <= high


def test_each_division_is_another_and_the_seed_decides():
    scores = torch.arange(100.0)
    first, again, other = (realised(scores[:40], scores[40:], 0.1, seed) for seed in (0, 0, 1))
    assert first == again != other
