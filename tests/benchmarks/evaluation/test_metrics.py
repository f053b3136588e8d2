"""Metrics against naive oracles, scikit-learn and ADEval, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import betabinom
from sklearn.metrics import f1_score, roc_auc_score

from augmentations import InputError
from benchmarks.evaluation.metrics import (
    LocalizationMetrics,
    aupr,
    auroc,
    f1_max,
    false_alarm_band,
    image_metrics,
)
from selector.detection.conformal import p_values


def localization(maps, masks, limit=0.3, batch=None):
    metrics = LocalizationMetrics(limit)
    batch = batch or len(maps)
    for start in range(0, len(maps), batch):
        metrics.update(maps[start : start + batch], masks[start : start + batch])
    return metrics.compute()


def naive_aupro(maps, masks, limit=0.3):
    """The definition: PRO and false-positive rate at every threshold there is, trapezia up to the limit."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [scores[labelled == i] for i in range(1, count + 1)]
    normal = maps[masks == 0]
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fpr.append((normal >= threshold).mean())
        pro.append(np.mean([(region >= threshold).mean() for region in regions]))
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], pro, pro[1:], strict=False):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def case(seed, levels=None, n=9, size=16, strength=1.0):
    """Maps (n,size,size) float32 and masks of several, also diagonal, regions; two images are normal.

    levels: scores are rounded to so many values, for ties.
    """
    draw = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(draw.normal(size=(n, size, size)), (0, 1.5, 1.5))
    masks = (smooth > np.quantile(smooth, 0.93)).astype(np.uint8)
    masks[:2] = 0
    masks[2, [0, 1, 2], [0, 1, 2]] = 1
    maps = draw.normal(size=masks.shape) + strength * masks
    if levels:
        maps = np.floor((maps - maps.min()) / (np.ptp(maps) + 1e-9) * levels)
    return maps.astype(np.float32), masks


@pytest.mark.parametrize("levels", [None, 50, 3], ids=["distinct", "some ties", "three values"])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_localization_equals_the_definition(seed, limit, levels):
    maps, masks = case(seed, levels, n=5, size=12)
    found = localization(maps, masks, limit)
    assert found["aupro"] == pytest.approx(naive_aupro(maps, masks, limit), abs=1e-9)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_batches_give_what_all_at_once_gives(batch, levels):
    maps, masks = case(1, levels)
    assert localization(maps, masks, batch=batch) == pytest.approx(localization(maps, masks), abs=1e-12)


def test_images_can_be_added_after_computing():
    maps, masks = case(2)
    metrics = LocalizationMetrics()
    metrics.update(maps[:5], masks[:5])
    metrics.compute()
    metrics.update(torch.from_numpy(maps[5:]), torch.from_numpy(masks[5:]))
    assert metrics.compute() == pytest.approx(localization(maps, masks), abs=1e-12)


@pytest.fixture
def adeval(monkeypatch):
    if hasattr(np, "trapezoid"):  # ADEval calls it by the name that numpy 2.4 gave up
        monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    return pytest.importorskip("adeval", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore:invalid value")  # of image scores, which are not given
@pytest.mark.parametrize("seed", range(3))
def test_localization_equals_adeval(adeval, seed):
    """ADEval counts scores in bins: with a bin for every value there is, it is exact too."""
    levels = 40
    maps, masks = case(seed, levels, n=20, size=24)
    accumulator = adeval.EvalAccumulator(-0.5, levels + 0.5, nstrips=levels + 1)
    accumulator.add_anomap_batch(maps, masks)
    theirs, ours = accumulator.summary(), localization(maps, masks)
    assert ours["aupro"] == pytest.approx(theirs["p_aupro"], abs=1e-6)
    assert ours["pixel_auroc"] == pytest.approx(theirs["p_auroc"], abs=1e-6)


def test_aupro_is_near_that_of_the_mvtec_evaluation(adeval):
    """The published evaluation, which ADEval ships, joins its thresholds by chords: off by a pixel's width."""
    from adeval.au_pro import calculate_au_pro

    maps, masks = case(3, n=20, size=24)
    n_normal = int((masks == 0).sum())
    theirs, _ = calculate_au_pro(list(masks), list(maps), num_thresholds=n_normal)
    assert localization(maps, masks)["aupro"] == pytest.approx(theirs, abs=1 / (0.3 * n_normal))


def test_perfect_inverted_and_constant_maps():
    _, masks = case(0)
    assert localization(masks.astype(float), masks) == {"pixel_auroc": 1, "aupro": 1}
    assert localization(-masks.astype(float), masks) == {"pixel_auroc": 0, "aupro": 0}
    # All pixels tie: the curve is the diagonal, whose area up to .3, divided by .3, is .15.
    assert localization(np.zeros(masks.shape), masks) == pytest.approx({"pixel_auroc": 0.5, "aupro": 0.15})


def test_random_maps_score_as_chance_does():
    draw = np.random.default_rng(0)
    masks = np.zeros((40, 64, 64))
    masks[:, 20:40, 10:50] = 1
    found = localization(draw.random(masks.shape), masks)
    assert found["pixel_auroc"] == pytest.approx(0.5, abs=0.01)
    assert found["aupro"] == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("seed", range(30))
def test_aupro_never_leaves_the_unit_interval(seed):
    maps, masks = case(seed, levels=(None, 2, 7)[seed % 3], strength=(0, 2, 20)[seed % 3])
    for limit in (1e-3, 0.3, 1.0):
        assert 0 <= localization(maps, masks, limit)["aupro"] <= 1
        saturated = np.where(masks == 1, 1.0, (maps > 0).astype(float))
        assert 0 <= localization(saturated, masks, limit)["aupro"] <= 1


def test_small_regions_count_as_much_as_large_ones():
    masks = np.zeros((1, 20, 20))
    masks[0, 1, 1] = 1
    masks[0, 5:15, 5:15] = 1
    maps = np.zeros(masks.shape)
    maps[0, 1, 1] = 2
    maps[0, 15:, 15:] = 1
    # The large region ties with the normal pixels at 0, which begin at fpr 25/299: half is found from the start.
    start = 25 / 299
    large = (0.3 - start) ** 2 / (2 * (1 - start)) / 0.3
    assert localization(maps, masks)["aupro"] == pytest.approx((1 + large) / 2)


def test_pixels_touching_at_a_corner_are_one_region_and_never_across_images():
    masks = np.zeros((2, 4, 4))
    masks[0, 0, 0] = masks[0, 1, 1] = masks[1, 1, 1] = 1
    maps = np.zeros(masks.shape)
    maps[0, 0, 0] = maps[0, 1, 1] = 1
    # One region of two pixels is found, one of one pixel ties with all normal pixels.
    assert localization(maps, masks)["aupro"] == pytest.approx((1 + 0.15) / 2)


@pytest.mark.parametrize("levels", [None, 4])
def test_image_metrics_equal_their_definitions(levels):
    draw = np.random.default_rng(5)
    labels = (draw.random(120) < 0.3).astype(np.uint8)
    scores = draw.normal(size=120) + labels
    if levels:
        scores = np.round(scores)
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    assert auroc(scores, labels) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)

    thresholds = np.unique(scores)[::-1]
    recall = [0.0] + [(scores[labels == 1] >= t).mean() for t in thresholds]
    precision = [labels[scores >= t].mean() for t in thresholds]
    steps = zip(recall, recall[1:], precision, strict=False)
    assert aupr(scores, labels) == pytest.approx(sum((r1 - r0) * p for r0, r1, p in steps))
    assert f1_max(scores, labels) == pytest.approx(max(f1_score(labels, scores >= t) for t in thresholds))
    assert image_metrics(torch.from_numpy(scores), torch.from_numpy(labels)) == {
        "auroc": auroc(scores, labels),
        "aupr": aupr(scores, labels),
        "f1_max": f1_max(scores, labels),
    }


def test_image_metrics_of_perfect_and_constant_scores():
    labels = np.array([0, 0, 0, 1])
    assert image_metrics([1, 2, 3, 4], labels) == {"auroc": 1, "aupr": 1, "f1_max": 1}
    constant = image_metrics([2, 2, 2, 2], labels)
    assert constant == pytest.approx({"auroc": 0.5, "aupr": 0.25, "f1_max": 0.4})
    assert image_metrics([4, 3, 2, 1], labels)["auroc"] == 0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [0, 0], "no anomaly"),
        ([1, 2], [1, 1], "no normal image"),
        ([1, 2], [0, 2], "must be 0 or 1"),
        ([1, 2], [0, np.nan], "must be 0 or 1"),
        ([1, np.nan], [0, 1], "must be finite"),
        ([1, np.inf], [0, 1], "must be finite"),
        ([1, 2, 3], [0, 1], "give them one shape"),
        ([[1, 2]], [[0, 1]], "one score per image"),
    ],
)
@pytest.mark.parametrize("measure", [auroc, aupr, f1_max, image_metrics])
def test_image_metrics_refuse(measure, scores, labels, message):
    with pytest.raises(InputError, match=message):
        measure(scores, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps, masks: (maps * np.nan, masks), "must be finite"),
        (lambda maps, masks: (maps.astype(float) + 1e300, masks), "must be finite"),
        (lambda maps, masks: (maps, masks * 255), "must be 0 or 1"),
        (lambda maps, masks: (maps[1:], masks), "one shape"),
        (lambda maps, masks: (maps[0], masks[0]), r"\(b,H,W\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_localization_refuses_bad_maps_and_keeps_what_it_had(change, message):
    maps, masks = case(0)
    metrics = LocalizationMetrics()
    metrics.update(maps, masks)
    before = metrics.compute()
    with pytest.raises(InputError, match=message):
        metrics.update(*change(maps, masks))
    assert metrics.compute() == before


def test_localization_needs_both_kinds_of_pixels():
    maps, masks = case(0)
    with pytest.raises(InputError, match="no anomalous pixel"):
        LocalizationMetrics().compute()
    with pytest.raises(InputError, match="no anomalous pixel"):
        localization(maps, masks * 0)
    with pytest.raises(InputError, match="no normal pixel"):
        localization(maps, masks * 0 + 1)


@pytest.mark.parametrize("limit", [0, -0.1, 1.1, float("nan")])
def test_a_limit_outside_the_unit_interval_is_refused(limit):
    with pytest.raises(InputError, match="limit"):
        LocalizationMetrics(limit)


def test_the_band_of_one_split_is_the_beta_binomials():
    h, n, rate = 59, 80, 0.1
    low, high = false_alarm_band(h, n, rate, confidence=0.9, splits=1)
    law = betabinom(n, 6, 54)  # 6 of the 60 possible p-values are at most .1
    assert low == law.ppf(0.05) / n
    assert high == law.isf(0.05) / n
    assert law.cdf(high * n) - law.cdf(low * n - 1) >= 0.9


@pytest.mark.parametrize(("h", "n", "rate"), [(88, 88, 0.05), (99, 30, 0.29), (19, 50, 0.05)])
def test_the_band_holds_what_decisions_on_random_splits_realise(h, n, rate):
    """Simulated with the decision rule itself: one pool of scores, divided again and again."""
    source = torch.Generator().manual_seed(0)
    pool = torch.rand(h + n, generator=source)
    low, high = false_alarm_band(h, n, rate, confidence=0.95, splits=20)
    means = []
    for _ in range(250):
        orders = [torch.randperm(h + n, generator=source) for _ in range(20)]
        rates = [(p_values(pool[o[:h]], pool[o[h:]]) <= rate).double().mean() for o in orders]
        means.append(float(torch.stack(rates).mean()))
    inside = np.mean([low <= mean <= high for mean in means])
    assert inside >= 0.92
    assert inside < 1 or high - low < 1.1 * np.ptp(means)  # and is no wider than it must be


def test_the_band_narrows_with_splits_and_widens_with_confidence():
    def width(**changes):
        low, high = false_alarm_band(**{"n_calibration": 88, "n_test": 88, "rate": 0.05, **changes})
        assert 0 <= low <= 4 / 89 <= high <= 1
        return high - low

    assert width(splits=80) < width(splits=20) < width(splits=1)
    assert width(confidence=0.9) < width(confidence=0.999)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.001}, "support"),
        ({"rate": 0.0}, "between 0 and 1"),
        ({"rate": 1.0}, "between 0 and 1"),
        ({"confidence": 1.0}, "confidence"),
        ({"n_test": 0}, "n_test"),
        ({"n_calibration": 0}, "n_calibration"),
        ({"splits": 0}, "splits"),
    ],
)
def test_the_band_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        false_alarm_band(**{"n_calibration": 88, "n_test": 88, "rate": 0.05, **changes})
