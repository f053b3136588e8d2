"""Numbers of the leaderboard against the plainest recomputation, and what is left out of a comparison."""

from statistics import mean, median, stdev

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, wilcoxon

from benchmarks.leaderboard import tables
from benchmarks.leaderboard.content import gather
from benchmarks.leaderboard.published import AUC, STRATEGIES, average_ranks, our_ranks, ours
from benchmarks.leaderboard.result import read


@pytest.fixture(scope="module")
def result(run):
    return read(run)


@pytest.fixture(scope="module")
def summary(result):
    return tables.summary(result)


@pytest.fixture(scope="module")
def written(run):
    return pd.read_csv(run / "leaderboard.csv").to_dict("records")


def of(written, name, column):
    return [row[column] for row in written if row["criterion"] == name and row[column] == row[column]]


def test_the_summary_equals_a_naive_recomputation(summary, written):
    zoo_mean = {
        (row["task"], row["seed"], row["anomaly_ratio"]): row["auroc"]
        for row in written
        if row["criterion"] == "average"
    }
    for name, row in summary.iterrows():
        assert row.cases == len(of(written, name, "regret"))
        assert row.mean_regret == pytest.approx(mean(of(written, name, "regret")))
        assert row.median_regret == pytest.approx(median(of(written, name, "regret")))
        assert row.mean_auroc == pytest.approx(mean(of(written, name, "auroc")))
        chosen = [r for r in written if r["criterion"] == name and r["auroc"] == r["auroc"]]
        worse = [r["auroc"] < zoo_mean[r["task"], r["seed"], r["anomaly_ratio"]] - 0.01 for r in chosen]
        assert row.worse_than_mean == pytest.approx(sum(worse) / len(worse))
        assert row["regret_at_5%"] == pytest.approx(mean(r["regret"] for r in chosen if r["anomaly_ratio"] == 0.05))
        groups: dict[tuple[str, float], list[float]] = {}
        for r in chosen:
            groups.setdefault((r["task"], r["anomaly_ratio"]), []).append(r["regret"])
        assert row.seed_spread == pytest.approx(mean(stdev(g) for g in groups.values() if len(g) > 1))
        for column, value in (("spearman", row.mean_spearman), ("rank", row.place_in_zoo)):
            known = of(written, name, column)
            assert value == pytest.approx(mean(known)) if known else np.isnan(value)


def test_least_mean_regret_comes_first(summary):
    assert summary.index[0] == "oracle"
    assert summary.mean_regret.is_monotonic_increasing
    assert summary.failed.to_dict() == {name: int(name == "dsv") for name in summary.index}


def test_intervals_surround_what_they_are_of(summary):
    for measure in tables.INTERVALS:
        assert (summary[f"{measure}_low"] <= summary[measure] + 1e-12).all()
        assert (summary[measure] <= summary[f"{measure}_high"] + 1e-12).all()


def test_whole_data_sets_are_resampled(make_run):
    """With the same regret within each of two data sets, a resample can only be one, the other or their mean."""

    def edit(rows, candidates):
        rows["regret"] = np.where(rows.task.str.startswith("a"), 0.1, 0.3)

    tasks = {"a-1": ("a", None), "a-2": ("a", None), "b-1": ("b", None), "b-2": ("b", None)}
    row = tables.summary(read(make_run(tasks, edit=edit))).loc["dsv"]
    assert (row.mean_regret_low, row.mean_regret, row.mean_regret_high) == pytest.approx((0.1, 0.2, 0.3))


def test_only_rows_that_choose_are_ranked(result):
    assert set(tables.choosing(result)) == {"dsv", "mc", "rtm", "default"}


def test_average_ranks_are_over_data_sets(result, summary, written):
    assert tables.level(result) == "group"
    names = ["dsv", "mc", "rtm", "default"]
    lacking = (written[0]["task"], written[0]["seed"], written[0]["anomaly_ratio"])
    regret: dict[str, dict[str, list[float]]] = {}
    for row in written:
        if row["criterion"] in names and (row["task"], row["seed"], row["anomaly_ratio"]) != lacking:
            regret.setdefault(row["task"][0], {}).setdefault(row["criterion"], []).append(row["regret"])
    places = np.mean([rankdata([mean(each[name]) for name in names]) for each in regret.values()], axis=0)
    np.testing.assert_allclose(summary.average_rank[names].astype(float), places)
    found = tables.ranks(result)
    assert found.blocks == 3
    assert found.average.to_dict() == pytest.approx(dict(zip(names, places, strict=True)))
    assert found.names == tuple(found.average.sort_values().index)


def test_classes_of_one_data_set_are_one_group(make_run):
    classes = {f"fashion-mnist-{k}": (f"fashion-mnist-{k}", None) for k in range(4)}
    result = read(make_run(classes | {"brick": ("brick", None)}, seeds=(0,), ratios=(0.1,)))
    assert tables.level(result) == "group"
    assert list(tables.blocks(result, ["dsv", "default"]).index) == ["brick", "fashion-mnist"]
    assert set(result.rows.data_set) == {*classes, "brick"}


def test_a_single_group_is_divided_and_the_page_warns(make_run):
    result = read(make_run({f"mnist5k-{k}": (f"mnist5k-{k}", None) for k in range(4)}))
    assert tables.level(result) == "task"
    assert "over tasks are too small" in gather(result).caution
    assert gather(read(make_run())).caution == ""


def test_tests_against_default_are_scipys_corrected_for_their_number(result, summary, written):
    found = tables.against_default(result).set_index("first")
    assert set(found.index) == set(summary.index) - {"default", "oracle", "average"}
    assert set(found.second) == {"default"}
    lacking = (written[0]["task"], written[0]["seed"], written[0]["anomaly_ratio"])
    kept = [r for r in written if (r["task"], r["seed"], r["anomaly_ratio"]) != lacking]
    table = pd.DataFrame(kept).assign(group=lambda rows: rows.task.str[0])
    table = table.pivot_table(index="group", columns="criterion", values="regret")
    p = wilcoxon(table.mc - table.default, zero_method="pratt").pvalue
    assert found.p_value["mc"] == pytest.approx(p)
    smallest = found.p_value.idxmin()
    assert found.p_holm[smallest] == pytest.approx(min(1, len(found) * found.p_value[smallest]))
    assert summary.p_holm["mc"] == found.p_holm["mc"]


def test_a_row_that_often_fails_is_not_compared(make_run):
    def edit(rows, candidates):
        often = rows.index[(rows.criterion == "rtm") & (rows.seed == 1)]
        rows.loc[often, ["auroc", "regret", "rank", "spearman"]] = np.nan
        rows.loc[often, "reason"] = "too few"
        rows.loc[rows.criterion == "rtm", "regret"] *= 0  # the best of all, were it not for that

    result = read(make_run(edit=edit))
    summary = tables.summary(result)
    assert "rtm" not in tables.comparable(result, summary)
    assert "rtm" not in tables.ranks(result).average
    assert np.isnan(summary.average_rank["rtm"])
    assert summary.mean_regret["rtm"] == 0
    failed = tables.failures(result).set_index("what").loc["rtm"]
    assert (failed.times, failed.reason) == (24, "too few")


def test_the_diagram_shows_the_best_and_the_references(make_run):
    folder = make_run()
    rows = pd.read_csv(folder / "leaderboard.csv")
    source = rows[rows.criterion == "rtm"]
    # Twenty more, the later the better, and two of the references worst.
    more = [source.assign(criterion=f"n{i}", regret=0.3 - 0.01 * i) for i in range(20)]
    rows.loc[rows.criterion.isin(["dsv", "default"]), "regret"] = 0.5
    pd.concat([rows, *more]).to_csv(folder / "leaderboard.csv", index=False)
    found = tables.ranks(read(folder))
    assert len(found.average) == 24
    assert set(found.names) >= {"dsv", "default", "mc", "n19", "n10"}
    assert len(found.names) <= tables.BEST_SHOWN + 3
    assert "n0" not in found.names
    assert all(set(bar) <= set(found.names) and len(bar) > 1 for bar in found.bars)
    assert list(found.average[list(found.names)]) == sorted(found.average[list(found.names)])


def test_the_table_by_task_has_means_and_spreads_over_seeds(result, summary, written):
    found = {part.ratio: part for part in tables.by_task(result, summary)}
    assert list(found) == ["5%", "20%"]
    aurocs = [
        row["auroc"]
        for row in written
        if (row["task"], row["anomaly_ratio"], row["criterion"]) == ("b-wild", 0.2, "default")
    ]
    assert found["20%"].mean.loc[("b", "b-wild"), "default"] == pytest.approx(mean(aurocs))
    assert found["20%"].spread.loc[("b", "b-wild"), "default"] == pytest.approx(stdev(aurocs))
    assert {"oracle", "random", "untrained", "pixels", "default", "dsv"} <= set(found["5%"].mean.columns)


def test_augmentations_against_kinds(run, result):
    candidates = pd.read_csv(run / "candidates.csv").to_dict("records")
    found = tables.by_kind(result)
    assert list(found.auroc.columns) == ["cutout", "cutpaste", "scratch"]
    assert list(found.auroc.index) == ["cutout", "cutpaste", "untrained", "pixels"]
    assert list(found.shift.index) == ["cutout", "cutpaste"]

    def known(name, kind):
        return [r for r in candidates if r["augmentation"] == name and kind in r["task"] and r["auroc"] == r["auroc"]]

    untrained = {}
    for row in known("untrained", ""):
        untrained.setdefault(row["task"], []).append(row["auroc"])
    for name in ("cutout", "cutpaste"):
        for kind in ("cutout", "cutpaste", "scratch"):
            cells = known(name, kind)
            assert found.auroc.loc[name, kind] == pytest.approx(mean(r["auroc"] for r in cells))
            gained = [r["auroc"] - mean(untrained[r["task"]]) for r in cells]
            assert found.shift.loc[name, kind] == pytest.approx(mean(gained))


def test_a_kind_is_saturated_only_where_every_augmentation_finds_it(make_run):
    def edit(rows, candidates):
        trained = candidates.augmentation.isin(["cutout", "cutpaste"])
        candidates.loc[trained & candidates.task.str.endswith("scratch"), "auroc"] = 0.99
        candidates.loc[(candidates.augmentation == "cutout") & candidates.task.str.endswith("cutout"), "auroc"] = 0.99

    found = tables.by_kind(read(make_run(edit=edit)))
    assert found.saturated == ("scratch",)
    kept = found.shift[["cutout", "cutpaste"]]
    assert found.farthest == pytest.approx(kept.abs().to_numpy().max())


def test_ours_stand_beside_the_published_strategies(result, written):
    found = ours(result)
    assert list(found.index) == list(AUC.columns) == list(STRATEGIES)
    assert found["DSV"] == pytest.approx(mean(of(written, "dsv", "auroc")))
    assert np.isnan(found["HITS"])  # was not run


def test_dsv_is_the_best_published_criterion_with_every_augmentation():
    assert (AUC.drop(columns=["Avg", "Rand"]).idxmax(axis=1) == "DSV").all()
    assert AUC.loc["CutPaste", "DSV"] == AUC.to_numpy().max() == 0.884


def test_average_ranks_of_the_published_strategies():
    ranks = average_ranks()
    assert ranks.idxmin() == "DSV"
    assert ranks["DSV"] == pytest.approx((1 + 2 + 1 + 1) / 4)  # CutAvg alone has a better one, "Rand"
    assert ranks.sum() == pytest.approx(sum(range(1, 10)))


def test_our_ranks_are_among_those_that_ran(result):
    ranks = our_ranks(result)
    assert list(ranks.index) == list(STRATEGIES)
    ran = ranks.dropna()
    assert ran.mean() == pytest.approx((1 + len(ran)) / 2)
    assert np.isnan(ranks["HITS"])  # was not run


def test_alignment_holds_the_matching_augmentation_against_the_best_other(make_run):
    """cutout finds cutout's anomalies best, cutpaste's are found .3 better by cutout, scratches are made by nobody."""

    def edit(rows, candidates):
        by_cutout = candidates.augmentation == "cutout"
        candidates.loc[by_cutout, "auroc"] = 0.9
        candidates.loc[candidates.augmentation == "cutpaste", "auroc"] = 0.6
        candidates.loc[candidates.augmentation == "untrained", "auroc"] = 0.5

    found = tables.alignment(read(make_run(edit=edit)))
    table = found.table.set_index("generator")
    assert set(table.index) == {"cutout", "cutpaste"}
    assert table.matching.to_dict() == pytest.approx({"cutout": 0.9, "cutpaste": 0.6})
    assert table.best_other.to_dict() == pytest.approx({"cutout": 0.6, "cutpaste": 0.9})
    assert table.hit.to_dict() == {"cutout": True, "cutpaste": False}
    assert not table.left_out.any()
    assert found.hits == 0.5
    assert found.gain == pytest.approx(0.25)


def test_a_generator_that_every_augmentation_finds_is_left_out_of_the_alignment(make_run):
    def edit(rows, candidates):
        candidates.loc[candidates.task.str.endswith("cutout"), "auroc"] = 0.99

    found = tables.alignment(read(make_run(edit=edit)))
    assert found.table.set_index("generator").left_out.to_dict() == {"cutout": True, "cutpaste": False}
    assert set(found.compared.generator) == {"cutpaste"}
