"""The theory of docs/selection.md: what contrast with held-out normal scores says of the true AUROC, and when."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from selector import criteria
from selector.evidence.evidence import Evidence

RATIOS = (0.1, 0.3, 0.6)


def drawn(seed, n, levels, lift):
    """Whole scores (n,), so that many tie."""
    source = torch.Generator().manual_seed(seed)
    return (torch.randint(levels, (n,), generator=source) + lift).double()


def value(name, validation, test):
    evidence = Evidence(validation_scores=validation, test_scores=test, score_is_distance=False)
    return criteria.evaluate(evidence, [name])[name]


def mixed(normal, anomalous, ratio):
    """Repeated so that the share of anomalies is the ratio, exactly."""
    share = round(100 * ratio)
    return torch.cat([normal.repeat(len(anomalous) * (100 - share)), anomalous.repeat(len(normal) * share)])


def auroc(normal, anomalous):
    labels = [0] * len(normal) + [1] * len(anomalous)
    return roc_auc_score(labels, torch.cat([normal, anomalous]))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("levels", [4, 50])
def test_contrast_is_linear_in_the_auroc_with_ties_counting_half(ratio, levels):
    normal, anomalous = drawn(0, 20, levels, 0), drawn(1, 7, levels, 1)
    contrast = value("pu_auc", normal, mixed(normal, anomalous, ratio))
    assert contrast == pytest.approx(ratio * auroc(normal, anomalous) + (1 - ratio) / 2, abs=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
def test_contrast_orders_candidates_as_the_auroc_does(ratio):
    candidates = [(drawn(seed, 20, 3 + seed, 0), drawn(99 - seed, 7, 3 + seed, seed % 5 - 1)) for seed in range(30)]
    truth = torch.tensor([auroc(*scores) for scores in candidates])
    contrast = torch.tensor([value("pu_auc", normal, mixed(normal, a, ratio)) for normal, a in candidates])
    assert len(truth.unique()) > 20
    assert torch.equal(truth.argsort(stable=True), contrast.argsort(stable=True))


@pytest.mark.parametrize("ratio", RATIOS)
def test_exceedance_is_linear_in_the_detections_at_a_twentieth_of_false_alarms(ratio):
    normal, anomalous = torch.arange(100).double(), torch.tensor([10.0, 50, 97, 200, 300])
    false_alarms, detections = 0.05, 3 / 5  # above the .95 quantile, 94.05, lie 95 to 99
    exceedance = value("score_exceed", normal, mixed(normal, anomalous, ratio))
    assert exceedance == pytest.approx(ratio * detections + (1 - ratio) * false_alarms, abs=1e-12)


def test_a_shift_adds_what_makes_normal_images_seem_anomalous_and_can_reverse_the_order():
    normal, anomalous = drawn(0, 20, 50, 0), drawn(1, 7, 50, 9)
    shifted = normal + 12  # the lamp has changed
    ratio = 0.2
    contrast = value("pu_auc", normal, mixed(shifted, anomalous, ratio))
    expected = ratio * auroc(normal, anomalous) + (1 - ratio) * auroc(normal, shifted)
    assert contrast == pytest.approx(expected, abs=1e-12)
    # A candidate that the lamp moves, but no defect, is put before one that finds every defect and knows no lamp.
    blind, perfect = value("pu_auc", normal, mixed(shifted, normal, ratio)), 0.2 * 1 + 0.8 * 0.5
    assert blind > perfect


def test_anomalies_among_the_validation_images_keep_the_order_while_they_are_fewer():
    normal, anomalous, ratio = drawn(0, 20, 50, 0), drawn(1, 7, 50, 9), 0.4
    for contamination in (0.1, 0.3, 0.6):
        contrast = value("pu_auc", mixed(normal, anomalous, contamination), mixed(normal, anomalous, ratio))
        expected = 0.5 + (ratio - contamination) * (auroc(normal, anomalous) - 0.5)
        assert contrast == pytest.approx(expected, abs=1e-12)


def test_it_is_saturated_where_the_tail_still_distinguishes():
    """Of two perfect candidates one has three times the margin: contrast sees none of it, magnitudes do."""
    normal = drawn(0, 20, 50, 1)
    near, far = (mixed(normal, normal + margin, 0.2) for margin in (50.0, 150.0))
    for name in ("pu_auc", "score_exceed"):
        assert value(name, normal, near) == value(name, normal, far)
    for name in ("score_shift", "rtm"):
        assert value(name, normal, near) < value(name, normal, far)


def test_in_samples_it_is_the_identity_on_average():
    """Independent normal images on both sides and a number of anomalies that is drawn: unbiased, not exact."""
    source, ratio, n = torch.Generator().manual_seed(0), 0.2, 2000
    is_anomalous = torch.rand(n, 60, generator=source) < ratio
    test = torch.randn(n, 60, generator=source) + 1.5 * is_anomalous
    validation = torch.randn(n, 40, generator=source)
    contrast = torch.vmap(criteria.probability_above)(validation, test)
    truth = torch.special.ndtr(torch.tensor(1.5 / 2**0.5)).item()
    error = contrast.std() / n**0.5
    assert abs(contrast.mean() - (ratio * truth + (1 - ratio) / 2)) < 4 * error
