"""Importances: what decides is found, and what chance explains as well has none."""

from itertools import product

import numpy as np
import optuna
import pandas as pd
import pytest
from scipy.stats import f_oneway, linregress

from selector.verdict.importance import EVERY, _chance, across, hyperparameters, importances

AREAS = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15))
GRID = [
    {"area": area, "aspect": aspect, "angle": angle, "jitter": (0.0, 0.1)}
    for area, aspect, angle in product(AREAS, ((1.0, 1.0), (0.3, 3.3)), ((0.0, 0.0), (-45.0, 45.0)))
]

MIXED = [
    {"blend": blend, "kernel": kernel, "is_soft": soft, "step": 90.0}
    for blend, kernel, soft in product(("mean", "black", "noise"), (1, 3, 5), (True, False))
]


def ranked(grids, value, **setup):
    """Rows of a ranking: {augmentation: grid} and what decides, a function of augmentation and hyperparameters."""
    cells = [(name, cell) for name, grid in grids.items() for cell in grid]
    rows = {
        "candidate": [f"{i:012x}" for i in range(len(cells))],
        "augmentation": [name for name, _ in cells],
        "hyperparameters": [cell for _, cell in cells],
        "criterion": [float(value(name, cell)) for name, cell in cells],
    }
    return pd.DataFrame(rows | {"detector": "classifier", "scorer": "gaussian"} | setup)


def shares(table, scope):
    return table[table.augmentation == scope].set_index("hyperparameter").importance


@pytest.mark.parametrize(
    "effect", [lambda area: area[0], lambda area: -np.log(area[1]), lambda area: float(area == AREAS[1])]
)
def test_what_decides_everything_has_all_the_importance(effect):
    table, absent = importances(ranked({"cutout": GRID}, lambda _, cell: effect(cell["area"])))
    assert absent == {}
    importance = shares(table, "cutout")
    assert set(importance.index) == {"area", "aspect", "angle"}  # jitter is the same for all
    assert importance.index[0] == "area"
    assert importance["area"] > 0.9
    assert importance[["aspect", "angle"]].max() < 0.05
    assert importance.sum() == pytest.approx(1)


def test_of_two_the_one_that_does_more_comes_first():
    rows = ranked({"cutout": GRID}, lambda _, cell: 2 * (cell["angle"][1] > 0) + (cell["aspect"][0] == 1))
    importance = shares(importances(rows)[0], "cutout")
    assert importance.index[:2].tolist() == ["angle", "aspect"]
    assert importance["angle"] == pytest.approx(0.8, abs=0.1)  # the variances of the two effects are 4 to 1


def test_the_order_of_candidates_does_not_matter_and_twice_is_the_same():
    source = np.random.default_rng(0)
    rows = ranked({"cutout": GRID, "cutpaste": GRID[:2]}, lambda name, cell: cell["area"][0] + (name == "cutout"))
    rows["criterion"] += 0.001 * source.random(len(rows))
    first, reasons = importances(rows)
    assert {*first.augmentation, *reasons} == {EVERY, "cutout", "cutpaste"}
    again, same = importances(rows.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(again, first)
    assert same == reasons


def test_the_scale_of_the_deciding_value_does_not_matter():
    values = ranked({"cutout": GRID}, lambda _, cell: cell["area"][0] + 0.001 * (cell["angle"][1] > 0))
    usual = shares(importances(values)[0], "cutout")
    for scale in (1e300, -1e-300):
        other = shares(importances(values.assign(criterion=values.criterion * scale))[0], "cutout")
        np.testing.assert_allclose(other[usual.index], usual, atol=1e-6)


def test_an_augmentation_that_decides_is_found_between_augmentations():
    rows = ranked({"cutout": GRID, "cutpaste": GRID, "rotation": GRID[:4]}, lambda name, _: len(name))
    table, absent = importances(rows)
    assert shares(table, EVERY)["augmentation"] > 0.95
    assert shares(table, EVERY)["hyperparameters"] < 0.05
    assert set(absent) == {"cutout", "cutpaste", "rotation"}  # within one all are equal
    assert set(absent.values()) == {"all candidates have the same deciding value"}


def test_augmentations_that_do_not_matter_have_no_importance():
    rows = ranked({"cutout": GRID, "cutpaste": GRID}, lambda _, cell: cell["area"][0])
    table, absent = importances(rows)
    assert set(table.augmentation) == {"cutout", "cutpaste"}
    assert "by chance" in absent[EVERY]


def test_detectors_and_scorers_are_hyperparameters_where_they_differ():
    rows = pd.concat(
        ranked({"cutout": GRID}, lambda _, cell, s=scorer: len(s), scorer=scorer) for scorer in ("gaussian", "knn")
    )
    rows["candidate"] = [f"{i:012x}" for i in range(len(rows))]
    importance = shares(importances(rows)[0], "cutout")
    assert importance["scorer"] > 0.95
    assert "detector" not in importance


class TestRanges:
    def columns(self, cells):
        return hyperparameters(ranked({"cutout": cells}, lambda *_: 0.0))

    def test_ends_that_vary_together_are_one(self):
        assert list(self.columns(GRID)) == ["area", "aspect", "angle"]

    def test_a_single_end_that_varies_has_the_name_of_the_range(self):
        cells = [{"jitter": (0.0, high)} for high in (0.1, 0.2, 0.3)]
        assert self.columns(cells)["jitter"].tolist() == [0, 1, 2]

    def test_ends_that_vary_apart_are_two(self):
        cells = [{"area": ends} for ends in product((0.01, 0.02), (0.05, 0.1, 0.2))]
        assert self.columns(cells).to_dict("list") == {"area low": [0, 0, 0, 1, 1, 1], "area high": [0, 1, 2] * 2}
        rows = ranked({"cutout": cells * 2}, lambda _, cell: cell["area"][0])
        importance = shares(importances(rows)[0], "cutout")
        assert importance["area low"] > 0.95

    def test_hyperparameters_that_only_vary_together_share_a_name(self):
        cells = [{"area": (a, a), "angle": (-10 * a, 10 * a), "aspect": (1.0, r)} for a in (1, 2) for r in (1, 2)]
        assert list(self.columns(cells)) == ["area and angle", "aspect"]

    def test_settings_of_each_augmentation_are_counted_apart(self):
        places = across(ranked({"cutout": GRID[:3], "rotation": GRID[5:9]}, lambda *_: 0.0))
        assert sorted(places.hyperparameters[:3]) == [0, 1, 2]
        assert sorted(places.hyperparameters[3:]) == [0, 1, 2, 3]


class TestNumbersAndChoices:
    def test_a_number_is_one_column_and_a_choice_one_of_texts(self):
        columns = hyperparameters(ranked({"mine": MIXED}, lambda *_: 0.0))
        assert list(columns) == ["blend", "kernel", "is_soft"]  # the step is the same for all
        assert columns.kernel.tolist() == [0, 0, 1, 1, 2, 2] * 3
        assert columns.blend.tolist() == [cell["blend"] for cell in MIXED]
        assert set(columns.is_soft) == {"True", "False"}

    def test_a_choice_that_decides_everything_has_all_the_importance(self):
        table, absent = importances(ranked({"mine": MIXED}, lambda _, cell: cell["blend"] == "black"))
        assert absent == {}
        assert shares(table, "mine")["blend"] > 0.9

    def test_a_choice_and_a_number_that_only_vary_together_share_a_name(self):
        cells = [{"blend": b, "step": s, "k": k} for (b, s), k in product((("mean", 2.0), ("black", 1.0)), (1, 2))]
        assert list(hyperparameters(ranked({"mine": cells}, lambda *_: 0.0))) == ["blend and step", "k"]

    def test_settings_with_choices_are_compared_across_augmentations(self):
        places = across(ranked({"mine": MIXED, "cutout": GRID}, lambda *_: 0.0))
        assert sorted(places.hyperparameters[: len(MIXED)]) == list(range(len(MIXED)))

    def test_a_hyperparameter_may_be_called_as_the_scorer(self):
        rows = ranked(
            {"mine": [{"scorer": s} for s in (1.0, 2.0)] * 2}, lambda *_: 0.0, scorer=["knn"] * 2 + ["kde"] * 2
        )
        assert list(hyperparameters(rows)) == ["scorer of the augmentation", "scorer"]

    def test_candidates_without_hyperparameters_have_none_that_vary(self):
        rows = ranked({"": [{}] * 3}, lambda *_: 0.0)
        assert importances(rows)[1] == {"": "nothing varies between its candidates"}


class TestChance:
    def test_it_is_the_f_test_of_scipy(self):
        source = np.random.default_rng(1)
        values = source.random(12)
        groups = pd.DataFrame({"augmentation": list("aaaabbbbcccc")})
        assert _chance(groups, values) == pytest.approx(f_oneway(*values.reshape(3, 4)).pvalue)
        ends = pd.DataFrame({"area": [0.0, 1.0] * 6})  # of two values there is no bend
        assert _chance(ends, values) == pytest.approx(linregress(ends.area, values).pvalue)

    def test_noise_is_significant_as_often_as_the_test_allows(self):
        varying = hyperparameters(ranked({"cutout": GRID}, lambda *_: 0.0))
        source = np.random.default_rng(0)
        significant = sum(_chance(varying, source.normal(size=len(varying))) <= 0.05 for _ in range(400))
        assert 8 <= significant <= 35  # 99.8% of a binomial of 400 and 0.05

    @pytest.mark.parametrize(
        ("cells", "reason"),
        [
            (GRID[:1], "has one candidate that could be ranked"),
            ([{"area": area} for area in AREAS], "only area varies, so there is nothing to compare it with"),
            ([GRID[0], GRID[3], GRID[4]], "3 candidates are too few to distinguish effects from chance"),
            ([GRID[0]] * 2, "nothing varies between its candidates"),
        ],
    )
    def test_what_can_not_be_distinguished_from_chance_has_a_reason_and_no_number(self, cells, reason):
        values = iter(range(9))
        table, absent = importances(ranked({"cutout": cells}, lambda *_: next(values)))
        assert table.empty
        assert absent == {"cutout": reason}

    def test_noise_has_a_reason_and_no_number(self):
        source = np.random.default_rng(3)
        table, absent = importances(ranked({"cutout": GRID}, lambda *_: source.random()))
        assert table.empty
        assert absent["cutout"].startswith("explained no better than by chance (F-test, p = 0.")

    def test_no_candidate_has_no_importances(self):
        table, absent = importances(ranked({"cutout": GRID}, lambda *_: 0.0).iloc[:0])
        assert table.empty
        assert list(table.columns) == ["augmentation", "hyperparameter", "importance"]
        assert absent == {}


def test_optuna_says_nothing_and_keeps_its_verbosity(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    importances(ranked({"cutout": GRID}, lambda _, cell: cell["area"][0]))
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr().err == ""
