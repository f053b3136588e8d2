"""Realised false-alarm rates, where the truth is known by construction."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import betabinom

from benchmarks.evaluation.metrics import false_alarm_band
from benchmarks.studies.false_alarms import Scores, exact_rate, share_outside, simulate_view
from benchmarks.tasks.view import View
from selector import criteria
from selector.evidence.evidence import Evidence
from selector.ranking.rules import DEFAULT_MEMBERS, best_first, resolve_decision

H, USED, RATIO, SPLITS = 20, 20, 0.05, 400


@pytest.fixture(scope="module")
def noise():
    """Thirty candidates whose scores are noise: what distinguishes them are the very images that are decided on."""
    source = torch.Generator().manual_seed(0)
    test, validation = torch.randn(140, 30, generator=source).exp(), torch.randn(40, 30, generator=source).exp()
    labels = torch.tensor([0] * 120 + [1] * 20)
    return Scores(validation, validation * 2, test, resolve_decision("score_shift", 40).normal), View(
        "noise", "noise", "", torch.arange(140), labels
    )


@pytest.fixture(scope="module")
def found(noise):
    table = simulate_view(*noise, H, USED, RATIO, SPLITS, seed=0)
    return table[table.rate == 0.1].groupby(["scheme", "images"]).flagged.mean()


@pytest.mark.parametrize(
    ("scheme", "images"), [("test images", "fresh"), ("cross-fit", "used"), ("cross-fit", "fresh"), ("pool", "used")]
)
def test_what_the_choice_did_not_look_at_and_what_is_corrected_is_exact(found, scheme, images):
    n = USED if images == "used" else 120 - H - USED
    low, high = false_alarm_band(H, n, 0.1, splits=SPLITS)
    assert low <= found[scheme, images] <= high


def test_the_images_that_were_looked_at_are_flagged_too_often_without_a_correction(found):
    _, high = false_alarm_band(H, USED, 0.1, splits=SPLITS)
    assert found["test images", "used"] > high + 0.02


def test_after_a_choice_from_the_pool_fresh_images_are_flagged_too_seldom(found):
    low, _ = false_alarm_band(H, 120 - H - USED, 0.1, splits=SPLITS)
    assert found["pool", "fresh"] < low


@pytest.mark.parametrize("criterion", ["auto", "rtm", "score_wasserstein"])
def test_many_selections_at_once_choose_as_the_ranking_does(noise, criterion):
    validation, pseudo, test = noise[0].validation, noise[0].pseudo, noise[0].test
    deciding = resolve_decision(criterion, 40).normal
    seen = torch.stack([test[start : start + 30] for start in range(10)])
    expected = []
    for one in seen:
        evidence = [
            Evidence(validation_scores=v, pseudo_scores=b, test_scores=t)
            for v, b, t in zip(validation.T, pseudo.T, one.T, strict=True)
        ]
        values = pd.DataFrame([criteria.evaluate(e, deciding.names) for e in evidence])
        expected.append(best_first(values, values, deciding)[:DEFAULT_MEMBERS])
    assert Scores(validation, pseudo, test, deciding).best_candidates(seen).tolist() == expected


def test_images_are_decided_by_the_maximum_over_their_members(noise):
    scores, _ = noise
    calibration, images = torch.arange(20), torch.arange(20, 25)
    members = torch.tensor([[0, 1], [0, 1], [2, 3], [4, 5], [6, 7]])
    found = scores.p_values(calibration, images, members)
    normalized = scores.test / scores.validation.mean(0)
    for place, (row, both) in enumerate(zip(images, members, strict=True)):
        own = normalized[row, both].max()
        expected = (1 + int((normalized[calibration][:, both].amax(1) >= own).sum())) / 21
        assert found[place].item() == pytest.approx(expected)


@pytest.mark.parametrize(("h", "rate"), [(20, 0.05), (19, 0.05), (62, 0.1)])
def test_the_exact_rate_is_the_mean_of_the_beta_binomial(h, rate):
    raised = int(np.floor(rate * (h + 1) + 1e-9))
    assert exact_rate(h, rate) == pytest.approx(betabinom(50, raised, h + 1 - raised).mean() / 50)


def test_means_outside_of_the_band_are_counted_by_twenty():
    flagged = pd.Series([0.0] * 20 + [0.1] * 20 + [0.5] * 20 + [0.9] * 5)
    assert share_outside(flagged, (0.05, 0.2)) == pytest.approx(2 / 3)
