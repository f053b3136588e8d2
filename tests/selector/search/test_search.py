"""What a user may ask a search for, and what a search gives: proposals, which survive being stored."""

import json

import pytest

from augmentations import InputError
from detectors import get_preset
from selector import search
from selector.search import DEFAULT_TRIALS, Grid, Proposal, Sampled, resolve_search
from selector.search.base import in_order
from selector.search.optuna import BATCH, STARTUP
from selector.zoo.plan import Plan

NAMES = ("cutout", "cutpaste", "rotation")


def resolved(name, trials=None, choices=NAMES, seeds=(0,)):
    plan = Plan.of(choices, ("classifier",), ("gaussian",), get_preset("quick"))
    return resolve_search(name, trials, plan, choices, seeds)


def test_names_resolve_to_searches():
    assert isinstance(resolved("grid", choices={"cutout": [{}]}), Grid)
    for name in ("random", "tpe"):
        sampled = resolved(name, 7, seeds=range(2))
        assert isinstance(sampled, Sampled)
        assert (sampled.sampler, sampled.n_trials, sampled.seeds) == (name, 7, (0, 1))
    assert set(search.SEARCHES) == {"grid", "random", "tpe"}


BAD = {
    "search": (("bayes", None, NAMES), "search 'bayes'"),
    "trials of a grid": (("grid", 30, NAMES), 'as many trials as it has cells.*search="tpe"'),
    "no trials": (("tpe", 0, NAMES), "at least 1"),
    "half a trial": (("random", 1.5, NAMES), "whole number"),
    "true": (("tpe", True, NAMES), "whole number"),
    "grids for a sampler": (("tpe", 5, {"cutout": [{}]}), r"names alone, \['cutout'\].*search=\"grid\""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    arguments, message = BAD[case]
    with pytest.raises(InputError, match=message):
        resolved(*arguments)


def test_trials_default_to_a_number_with_batches_that_learn():
    assert resolved("tpe").n_trials == DEFAULT_TRIALS > STARTUP + BATCH


@pytest.mark.parametrize("name", ["grid", "random", "tpe"])
class TestProposals:
    @pytest.fixture
    def proposals(self, name):
        return resolved(name, None if name == "grid" else 3, seeds=(5, 6)).propose([], [], True)

    def test_they_come_back_from_json_as_they_were(self, proposals):
        for proposal in proposals:
            assert Proposal.from_json(json.loads(json.dumps(proposal.to_json()))) == proposal

    def test_a_configuration_is_proposed_once_for_all_seeds(self, proposals):
        for proposal in proposals:
            one, other = proposal.candidates
            assert (one.training.seed, other.training.seed) == (5, 6)
            assert one.configuration_id == other.configuration_id
        seeds = [candidate.training.seed for candidate in in_order(proposals)]
        assert seeds == [5] * len(proposals) + [6] * len(proposals)
