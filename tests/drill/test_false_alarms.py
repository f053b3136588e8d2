"""Realised false-alarm rates where normal images come in lots: the promise or below, within its 99% band."""

import math

import pytest
import torch
from scipy import stats

from selector import select_best
from selector.detection.cross_conformal import FOLDS, Calibration, Fold

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1200)]

REPEATS = 3000
SPREADS = (0, 1, 2)  # of the lots' levels, in units of the images' spread within a lot


class Given:
    """A detector whose scores of an image are the image's first values, one for each detector of a calibration."""

    def __init__(self, place):
        self.place = place

    def score(self, pixels):
        return pixels[:, 0, 0, self.place]


def drawn(source, n_lots, spread, n_new=1):
    """Scores (n,) of 2 to 12 images of each lot, their lots, and scores of one image of each of some new lots."""
    lots = torch.arange(n_lots).repeat_interleave(torch.randint(2, 13, (n_lots,), generator=source))
    level = spread * torch.randn(n_lots + n_new, generator=source)
    return (
        torch.randn(len(lots), generator=source) + level[lots],
        lots,
        torch.randn(n_new, generator=source) + level[n_lots:],
    )


def most(rate, n):
    """The upper end of the 99% band of a share of n independent images at this rate."""
    return stats.binom.ppf(0.995, n, rate) / n


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("n_lots", [3, 10, 20])
def test_split_conformal(n_lots, spread, drill_table):
    """One image of a new lot for each of many calibration sets: what is promised is the mean over them."""
    source = torch.Generator().manual_seed(100 * n_lots + spread)
    p, smallest, exceeded = [], 1.0, []
    for _ in range(REPEATS):
        scores, lots, new = drawn(source, n_lots, spread)
        groups = tuple(lots.tolist())
        calibration = Calibration((Fold(Given(0), scores, groups),), scores, groups)
        smallest = calibration.validate_rate(None)
        p.append(calibration.p_values(torch.empty(0), new).item())
        exceeded.append(new.item() > calibration.map_threshold(smallest))
    p, broken, worst = torch.tensor(p), 0, []
    rates = sorted({smallest, 0.1, 0.25, 0.5})
    rates = [rate for rate in rates if rate >= 1 / (n_lots + 1)]
    for rate in rates:
        realised = (p <= rate + 1e-12).double().mean().item()
        broken += realised > most(rate, REPEATS)
        worst.append(f"{rate:.2g}: {realised:.3f}")
    broken += sum(exceeded) / REPEATS > most(smallest, REPEATS)
    note = f"realised by promised rate, spread {spread}: {', '.join(worst)}"
    drill_table.record(f"false alarms with {n_lots} lots", REPEATS * len(rates), broken, 0, note)
    assert broken == 0, worst


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("n_lots", [10, 20])
def test_cross_conformal(n_lots, spread, drill_table):
    """Five folds whose detectors agree only in part: twice the rate is promised."""
    source = torch.Generator().manual_seed(100 * n_lots + spread + 7)
    p = []
    for _ in range(REPEATS):
        scores, lots, new = drawn(source, n_lots, spread)
        folds, pixels = [], torch.zeros(1, 1, 1, FOLDS)
        for k in range(FOLDS):
            own = lots % FOLDS == k
            held_out = scores[own] + torch.randn(int(own.sum()), generator=source)
            folds.append(Fold(Given(k), held_out, tuple(lots[own].tolist())))
            pixels[..., k] = new + torch.randn(1, generator=source)
        calibration = Calibration(tuple(folds), scores, tuple(lots.tolist()))
        p.append(calibration.p_values(pixels, new).item())
    rate = calibration.smallest_rate
    realised = (torch.tensor(p) <= rate + 1e-12).double().mean().item()
    note = f"spread {spread}: {realised:.3f} at {rate:.2g}, of which twice is promised"
    drill_table.record(
        f"false alarms with {n_lots} lots, --cross", REPEATS, int(realised > most(2 * rate, REPEATS)), 0, note
    )
    assert realised <= most(2 * rate, REPEATS)


@pytest.mark.parametrize("spread", SPREADS)
def test_from_images_to_verdicts(spread, tiny, drill_table):
    """Whole selections with groups: the mean rate of several, each with images of 200 new lots."""
    runs, n_lots, n_new = 8, 14, 200
    rates = []
    for run in range(runs):
        source = torch.Generator().manual_seed(1000 * spread + run)

        def images(lots, level, source=source):
            """Stripes whose phase varies with the lot and with the image."""
            phase = level[lots] + 0.5 * torch.randn(len(lots), generator=source)
            columns = torch.arange(32.0).expand(len(lots), 1, 32, 32)
            noise = 0.03 * torch.randn(len(lots), 1, 32, 32, generator=source)
            return (0.5 + 0.3 * torch.sin(columns + phase[:, None, None, None]) + noise).clamp(0, 1)

        level = 0.5 * spread * torch.randn(n_lots + n_new, generator=source)
        lots = torch.arange(n_lots).repeat_interleave(4)
        grid = {"cutout": [{"area": (0.02, 0.1)}, {"area": (0.1, 0.2)}]}
        selection = select_best(
            images(lots, level), augmentations=grid, preset=tiny, groups=lots.tolist(), seed=run, jobs=1, device="cpu"
        )
        new = selection.detect(images(torch.arange(n_lots, n_lots + n_new), level))
        rate = new.false_alarm_rate
        rates.append(new.is_anomaly.double().mean().item())
    groups = new.n_groups
    law = stats.beta(1, groups)  # of the rate of one calibration set of so many lots
    realised, allowed = sum(rates) / runs, rate + stats.norm.ppf(0.995) * law.std() / math.sqrt(runs)
    note = f"spread {spread}: {realised:.3f} at {rate:.2g} by {groups} lots"
    drill_table.record("false alarms of whole selections with groups", runs * n_new, int(realised > allowed), 0, note)
    assert realised <= allowed
