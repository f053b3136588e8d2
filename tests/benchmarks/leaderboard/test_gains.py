"""What the recommended ensemble gains on choosing nothing: paired by case, against the plainest recomputation."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from benchmarks.evaluation.always import ALWAYS
from benchmarks.leaderboard import text, write
from benchmarks.leaderboard.gains import ALL_RATIOS, gains
from benchmarks.leaderboard.result import read

ROWS = ("ensemble", "random_members", *ALWAYS)


def added(values):
    """Rows whose AUROC is ``values(task, criterion)``, those of IDLE being there already."""

    def edit(rows, candidates):
        known = rows[rows.criterion == "average"]
        for row in [r | {"criterion": name} for r, name in product(known.to_dict("records"), ROWS)]:
            rows.loc[rows.index.max() + 1] = row | {"auroc": values(row), "regret": 0.1}

    return edit


def noise(row):
    return np.random.default_rng([*map(ord, f"{row['task']} {row['criterion']} {row['seed']}")]).uniform(0.5, 1)


def test_gains_are_the_means_of_paired_differences(make_run):
    folder = make_run(edit=added(noise))
    found = gains(read(folder))
    written = pd.read_csv(folder / "leaderboard.csv").to_dict("records")
    auroc = {(r["task"], r["seed"], r["anomaly_ratio"], r["criterion"]): r["auroc"] for r in written}
    assert found.against == ["always_frozen", "random_members"]
    assert found.ratios == ["5%", "20%", ALL_RATIOS]
    for against in found.against:
        by_data_set: dict[str, list[float]] = {}
        for (task, seed, ratio, name), value in auroc.items():
            if name == "ensemble" and ratio == 0.2:
                by_data_set.setdefault(task[0], []).append(value - auroc[task, seed, ratio, against])
        row = found.of("20%", against)
        assert row.gain == pytest.approx(np.mean([d for group in by_data_set.values() for d in group]))
        assert (row.ahead, row.data_sets) == (sum(np.mean(group) > 0 for group in by_data_set.values()), 3)
        assert row.low <= row.gain <= row.high


def test_intervals_resample_whole_data_sets(make_run):
    """All three resamples of two data sets have their mean in the interval's ends: one, the other, or both."""

    def values(row):
        return 0.5 + (0.1 if row["task"].startswith("a") else 0.3) * (row["criterion"] == "ensemble")

    tasks = {f"{data_set}-{i}": (data_set, None) for data_set in "ab" for i in range(3)}
    row = gains(read(make_run(tasks, edit=added(values)))).of(ALL_RATIOS, "always_frozen")
    assert (row.low, row.gain, row.high) == pytest.approx((0.1, 0.2, 0.3))
    assert row.ahead == 2


def test_data_sets_are_far_below_where_one_that_needs_no_training_is_clearly_better(make_run):
    lead = {"a": 0.03, "b": 0.01, "c": 0.05}

    def values(row):
        best = {"a": "always_pixels", "b": "always_frozen", "c": "always_frozen_pooled"}[row["task"][0]]
        return 0.7 + lead[row["task"][0]] * (row["criterion"] == best)

    folder = make_run(edit=added(values))
    found = gains(read(folder))
    assert found.far_below == {ratio: ["a", "c"] for ratio in ("5%", "20%", ALL_RATIOS)}
    assert "2: a, c" in text.gains_cells(found).to_numpy()
    page = write(folder).read_text("utf-8")
    assert "2: a, c" in page
    assert "## Against no choice" in (folder / "leaderboard.md").read_text("utf-8")


def test_a_zoo_without_frozen_candidates_is_compared_with_random_members_alone(make_run):
    folder = make_run(edit=added(noise))
    rows = pd.read_csv(folder / "leaderboard.csv")
    rows[~rows.criterion.isin(ALWAYS)].to_csv(folder / "leaderboard.csv", index=False)
    found = gains(read(folder))
    assert found.against == ["random_members"]
    assert found.far_below is None


def test_without_an_ensemble_there_is_nothing_to_compare(make_run):
    assert gains(read(make_run())) is None
