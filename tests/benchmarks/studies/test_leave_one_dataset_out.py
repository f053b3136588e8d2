"""Rules that are chosen on the other data sets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from augmentations import InputError
from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.evaluation.evaluate import higher_is_better
from benchmarks.leaderboard.result import Result
from benchmarks.leaderboard.text import NONE
from benchmarks.studies.leave_one_dataset_out import (
    BORDAS,
    LEVELS,
    OF_SCORES,
    PSEUDO,
    SHAPES,
    SINGLES,
    Case,
    _compared,
    best_on_others,
    cases,
    leave_one_dataset_out,
    markdown,
)
from selector.ranking.rules import AUTO, DEFAULT_MEMBERS, UNDER_SHIFT, Rule, best_first

PERFECT = OF_SCORES.index("rtm")


def case(data_set, seed, signed=None, auroc=None, m=17):
    """A case of three trials whose criteria are noise, but for one that is the truth; or of what is given."""
    source = np.random.default_rng((seed, *map(ord, data_set)))
    auroc = source.permutation(np.linspace(0.5, 0.9, m)) if auroc is None else auroc
    if signed is None:
        signed = source.normal(size=(3, len(OF_SCORES), m))
        signed[:, PERFECT] = auroc
    labels = torch.tensor([0] * 20 + [1] * 20)
    scores = {f"c{i}": torch.from_numpy(np.exp(source.normal(size=40))) for i in range(m)}
    normal, kinds = dict.fromkeys(scores, torch.ones(2)), dict.fromkeys(scores, "one")
    ensembles = Ensembles(scores, normal, frozenset(scores), kinds, labels)
    points, places = _compared(signed)
    still = np.zeros(len(points), bool)
    return Case(data_set, f"{data_set}-task", seed, 0.2, points, places, still, auroc, float(auroc.max()), ensembles)


@pytest.fixture(scope="module")
def given():
    return [case(data_set, seed) for data_set in ("a", "b", "c") for seed in (0, 1)]


def test_the_criterion_that_is_right_everywhere_is_chosen_for_each(given):
    rows = leave_one_dataset_out(given)
    single = rows[rows.criterion == "chosen_single"]
    assert set(single.rule) == {OF_SCORES[PERFECT]}
    assert np.allclose(single.regret, 0)
    assert rows[rows.criterion == "chosen_borda"].rule.str.split().map(lambda names: OF_SCORES[PERFECT] in names).all()
    assert set(rows.criterion) == {"chosen_borda", "chosen_single", "chosen_ensemble"}
    assert len(rows) == 3 * len(given)


def test_a_criterion_that_is_right_on_the_left_out_data_set_alone_is_not_chosen_for_it():
    regrets = np.array([[0.0, 0.3, 0.25], [0.0, 0.3, 0.25], [0.5, 0.1, 0.25], [0.5, 0.1, 0.25], [0.5, 0.4, 0.3]])
    assert best_on_others(regrets, np.array(["a", "a", "b", "b", "c"])) == {"a": 1, "b": 0, "c": 1}


def test_labels_of_a_data_set_have_no_part_in_what_decides_on_it(made_zoo):
    """They are permuted: what is chosen for it stays, while others' choices follow them."""
    zoos = [made_zoo(seed=seed, group=f"g{seed}", task=f"t{seed}", specialists=3, blind=4) for seed in range(3)]
    chosen, followed = _rules(zoos), False
    for place in range(3):
        view = zoos[place].views[0]
        order = torch.randperm(len(view.labels), generator=torch.Generator().manual_seed(place))
        permuted = replace(zoos[place], views=(replace(view, labels=view.labels[order]),))
        found = _rules([*zoos[:place], permuted, *zoos[place + 1 :]])
        assert found[f"g{place}"] == chosen[f"g{place}"]
        followed |= found != chosen
    assert followed


def _rules(zoos):
    rows = leave_one_dataset_out([one for zoo in zoos for one in cases(zoo, (0.2,))])
    return rows.groupby(rows.task.str.replace("t", "g")).rule.agg(tuple).to_dict()


def test_an_order_is_that_of_select_best():
    """Of 17 candidates shares of rivals beaten are sixteenths, whose means are exact: ties and all are the same."""
    source = np.random.default_rng(0)
    values = source.integers(0, 4, (1, len(OF_SCORES), 17)).astype(float)  # with many ties
    values[0, 0, 3] = np.nan
    points, places = _compared(values)
    one = replace(case("a", 0), points=points, places=places)
    sign = np.array([1 if higher_is_better(name) else -1 for name in OF_SCORES])
    table = pd.DataFrame(values[0].T * sign, columns=OF_SCORES, index=[f"c{i}" for i in range(17)])
    for place in range(len(BORDAS)):
        rule = BORDAS[place]
        expected = best_first(table, table, Rule.of(*(OF_SCORES[i] for i in rule)))
        assert [f"c{i}" for i in (-one.order([rule])[0, 0]).argsort()] == expected
    for (place,) in SINGLES:
        expected = best_first(table, table, Rule.of(OF_SCORES[place]))
        assert [f"c{i}" for i in (-one.order([(place,)])[0, 0]).argsort()] == expected


def test_where_a_shift_is_found_one_rule_decides_for_all():
    one = case("a", 0)
    shifted = replace(one, shifted=np.array([False, True, False]))
    instead = tuple(OF_SCORES.index(name) for name in UNDER_SHIFT)
    found, before = shifted.order(BORDAS), one.order(BORDAS)
    assert np.array_equal(found[[0, 2]], before[[0, 2]])
    assert (found[1] == one.order([instead])[1]).all()


def test_every_criterion_of_scores_is_a_level_a_shape_or_of_pseudo_anomalies():
    assert sorted((*LEVELS, *SHAPES, *PSEUDO)) == sorted(OF_SCORES)
    assert len(set(BORDAS)) == len(LEVELS) * len(SHAPES)
    assert AUTO in [tuple(OF_SCORES[place] for place in rule) for rule in BORDAS]


def test_the_ensemble_is_of_the_best_of_the_rule():
    """Some alone find the anomalies: with them on top the ensemble finds all, with as many others on top nothing."""
    good = np.arange(17) < DEFAULT_MEMBERS
    auroc = np.where(good, 0.9, 0.5)
    for sign, expected in ((1, 1.0), (-1, 0.5)):
        one = case("a", 0, np.tile(sign * auroc, (2, len(OF_SCORES), 1)), auroc)
        scores = {f"c{i}": torch.exp(one.ensembles.labels * 9.0 * good[i]) for i in range(17)}
        one = replace(one, ensembles=replace(one.ensembles, scores=scores))
        assert one.ensemble(BORDAS[0]) == expected


def test_cases_of_a_zoo_have_its_aurocs_and_every_trial(made_zoo):
    zoo = made_zoo(specialists=2, blind=3)
    found = cases(zoo, (0.2, 0.5))
    assert [one.ratio for one in found] == [0.2, 0.5]
    assert found[0].points.shape == (5, len(OF_SCORES), 5)
    assert found[0].best == found[0].auroc.max()
    assert (found[0].points.max(-1) <= 2 * 4).all()


def test_one_data_set_is_refused(given):
    with pytest.raises(InputError, match="data sets"):
        leave_one_dataset_out(given[:2])


def test_the_same_again(given):
    pd.testing.assert_frame_equal(leave_one_dataset_out(given), leave_one_dataset_out(given))


def test_the_tables_have_both_and_name_what_is_not_label_resolvable(given):
    """Of three data sets labels decide on two; means are those of the rows, by ratio and over all."""
    rows = leave_one_dataset_out(given)
    fixed = []
    for one in given:
        same = {"task": one.task, "seed": one.seed, "anomaly_ratio": one.ratio, "reason": "", "auroc": 0.5}
        half = 0.1 if one.data_set == "c" else 0.0
        regrets = {"default": 0.05, "random": 0.1, "average": 0.1, "dsv": 0.2, "half_label_oracle": half}
        fixed += [same | {"criterion": name, "regret": regret} for name, regret in regrets.items()]
    board = pd.DataFrame(fixed).assign(rank=np.nan, spearman=np.nan, ratio="20%")
    board["data_set"] = board["group"] = board.task.str[0]
    tasks = pd.DataFrame({"data_set": list("abc"), "group": list("abc")}, index=[f"{name}-task" for name in "abc"])
    tables = markdown(Result(board, pd.DataFrame({"task": []}), tasks, {"suite": "made"}), rows)
    both = tables.split("## ")[1:]
    assert [part.splitlines()[0] for part in both] == ["All data sets", "Label-resolvable data sets", "What was chosen"]
    assert f"| default | 0.050 | 0.050 | 0.000 | {NONE} |" in both[0]
    assert "Not label-resolvable: c (labels lose 0.100, the mean candidate 0.100)" in both[1]
    mean = rows[(rows.criterion == "chosen_borda") & ~rows.task.str.startswith("c")].regret.mean()
    line = next(line for line in both[1].splitlines() if line.startswith("| Borda, chosen"))
    assert f"| {mean:.3f} |" in line
    assert len([line for line in both[2].splitlines() if line.startswith("| ")]) == 1 + 3
