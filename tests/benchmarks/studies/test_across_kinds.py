"""Choices between kinds that are made on the other data sets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.evaluation.evaluate import evaluate
from benchmarks.studies import across_kinds
from benchmarks.studies.across_kinds import (
    CHOICES,
    COMPLEMENTS,
    DEFAULT,
    RANKINGS,
    Case,
    Choice,
    cases,
    choose,
    leave_one_out,
)
from selector.ranking.rules import ACROSS_KINDS, default_members, resolve_decision


@pytest.fixture
def made(made_zoo):
    """Makes a zoo of two kinds, whose criteria of embeddings are noise."""

    def make(**options):
        zoo = made_zoo(specialists=3, blind=4, **options)
        kinds = ["classifier"] * 4 + ["frozen"] * 3
        families = pd.Index(["cutout"] * 30 + ["noise"] * 30, name="family")
        pseudo = zoo.scores["pseudo"].set_index(families)
        noise = np.random.default_rng(zoo.seed)
        of_embeddings = pd.concat(
            zoo.of_embeddings.assign(criterion=name, value=noise.uniform(size=len(zoo.of_embeddings)))
            for name in COMPLEMENTS
        )
        candidates = zoo.candidates.assign(detector=kinds, kind_of_scores=kinds, scorer="gaussian")
        candidates["score_is_distance"] = True
        return replace(zoo, candidates=candidates, scores=zoo.scores | {"pseudo": pseudo}, of_embeddings=of_embeddings)

    return make


def test_the_default_is_one_of_the_choices_and_has_what_the_leaderboard_says(made):
    rule = resolve_decision("auto", 30).across_kinds
    assert RANKINGS[0] == {c.name: c.votes for c in rule.comparisons}
    assert tuple(RANKINGS[0]) == ACROSS_KINDS
    assert rule.complement.name == DEFAULT.complement
    place = CHOICES.index(DEFAULT)
    zoo = made()
    table, _ = evaluate(zoo, (0.2, 0.5))
    expected = table[table.criterion == "ensemble"].set_index("anomaly_ratio").auroc
    for case in cases(zoo, (0.2, 0.5)):
        assert case.aurocs[place] == pytest.approx(expected[case.ratio])
        assert len(case.aurocs) == len(CHOICES)
        assert case.best == pytest.approx(table[table.criterion == "oracle"].auroc.iloc[0])


def test_members_are_the_first_and_the_best_of_the_others():
    ranked, by = list("abcde"), list("bdace")
    assert choose(Choice(0, 2, "dsv", 2), ranked, by, is_shifted=False) == ["a", "b", "d", "c"]
    assert choose(Choice(0, 1, "dsv", 1), ranked, by, is_shifted=True) == ["a", "b"]
    assert choose(Choice(0, 2, "dsv", 2, under_shift=False), ranked, by, is_shifted=True) == ["a", "b", "c", "d"]
    assert choose(Choice(0, 3), ranked, [], is_shifted=False) == ["a", "b", "c"]
    assert choose(Choice(0, 4, "dsv", 4), ranked, ["b"], is_shifted=False) == ["a", "b", "c", "d"]


def test_what_is_right_on_the_left_out_data_set_alone_is_not_chosen_for_it():
    good_on = {"a": 3, "b": 5, "c": 5}

    def case(data_set):
        aurocs = np.full(len(CHOICES), 0.5)
        aurocs[good_on[data_set]] = 0.9
        return Case(data_set, data_set, 0, 0.2, aurocs, 1.0)

    rows = leave_one_out([case(name) for name in "abc"]).set_index("task")
    assert rows.rule["a"] == CHOICES[5].in_words()
    assert rows.auroc["a"] == 0.5
    assert rows.rule["b"] == CHOICES[3].in_words()  # as good on the others as the fifth, and earlier


def test_labels_of_a_data_set_have_no_part_in_what_decides_on_it(made):
    zoos = [made(seed=seed, group=f"g{seed}", task=f"t{seed}") for seed in range(3)]

    def rules(zoos):
        return leave_one_out([one for zoo in zoos for one in cases(zoo, (0.2,))]).set_index("task").rule

    chosen = rules(zoos)
    for place, zoo in enumerate(zoos):
        order = torch.randperm(120, generator=torch.Generator().manual_seed(place))
        view = replace(zoo.views[0], labels=zoo.views[0].labels[order])
        found = rules([*zoos[:place], replace(zoo, views=(view,)), *zoos[place + 1 :]])
        assert found[f"t{place}"] == chosen[f"t{place}"]


def test_choices_differ_in_words():
    assert len({choice.in_words() for choice in CHOICES}) == len(CHOICES) == len(set(CHOICES))


def test_neighbours_of_the_default_differ_in_one_part(made):
    table = across_kinds.by_choice(list(cases(made(), (0.2, 0.5))))
    assert list(table.words) == [choice.in_words() for choice in CHOICES]
    assert np.allclose(table.mean_regret, table[["regret_at_0.2", "regret_at_0.5"]].mean(axis=1))
    shown = list(across_kinds._neighbours(table).chosen.str.replace("\\", ""))
    assert DEFAULT.in_words() in shown
    assert DEFAULT._replace(combine="max").in_words() in shown
    assert DEFAULT._replace(combine="max", first=1).in_words() not in shown
    assert Choice(0, 2, combine="mean").in_words() in shown
    assert len(shown) == 1 + (len(RANKINGS) - 1) + 3 + 2 + 3 + 1 + 1 + 1
    assert default_members(2) // 2 <= across_kinds.MOST
