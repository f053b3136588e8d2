"""What is proposed: within its space, the same for the same evidence, and better where it hears what was good."""

import json
import math
import random
import statistics

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

import augmentations
import detectors
from augmentations import InputError
from selector.search import search
from selector.search.search import Proposal, in_order, searching
from selector.zoo.candidates import plan

NAMES = ("cutout", "cutpaste", "rotation")
SETTINGS = detectors.preset("quick")


def asked(kind, trials, seed=0, names=NAMES, seeds=1):
    return searching(kind, trials, names, ("classifier", "patch"), ("gaussian",), SETTINGS, range(seed, seed + seeds))


def judged(proposals, value):
    """Finished trials with the values that ``value`` gives their candidates, None for what collapsed or failed."""
    values = [value(proposal.candidates[0]) for proposal in proposals]
    return [
        proposal.trial(TrialState.PRUNED if v is None else TrialState.COMPLETE, v)
        for proposal, v in zip(proposals, values, strict=True)
    ]


def searched(the_search, value=lambda candidate: 0.0, begun=(), direction=StudyDirection.MAXIMIZE):
    """Every proposal of a search whose trials are worth ``value``."""
    proposals = list(begun)
    while len(proposals) < the_search.trials:
        first = the_search.first_of_batch(len(proposals))
        proposals += the_search.propose(judged(proposals[:first], value), proposals[first:], direction)
    return proposals


def worth(candidate):
    """Highest for pasted patches of a fiftieth of the image, turned by up to 30 degrees; rotation is worth least."""
    if candidate.training.augmentation == "rotation":
        return -2.0
    ends = candidate.hyperparameters
    area, turned = sum(ends["area"]) / 2, ends["angle"][1]
    liked = candidate.training.augmentation == "cutpaste"
    return float(liked) - math.log(area / 0.02) ** 2 - (turned / 45 - 2 / 3) ** 2


@pytest.mark.parametrize("kind", ["random", "tpe"])
@pytest.mark.parametrize("name", augmentations.names())
def test_proposals_lie_in_the_space_of_the_chosen_augmentation(kind, name):
    for proposal in searched(asked(kind, 18, names=(name, "cutout")), worth_anything):
        chosen = proposal.parameters["augmentation"]
        fixed = optuna.trial.FixedTrial(proposal.parameters)
        wanted = augmentations.suggest(chosen, fixed)
        candidate = proposal.candidates[0]
        assert candidate.training.augmentation == chosen
        assert candidate.hyperparameters == wanted
        assert set(proposal.parameters) == {"augmentation", "detector", "scorer", *fixed.distributions}
        assert all(key.startswith(f"{chosen}.") for key in fixed.distributions)
        for key, space in fixed.distributions.items():
            assert proposal.distributions[key] == space
            assert space.low <= proposal.parameters[key] <= space.high
        candidate.training.make_augmentation().check((64, 64))


def worth_anything(candidate):
    return random.Random(candidate.id).random()


def test_choices_are_those_that_were_named():
    proposals = searched(asked("random", 40))
    for name, choices in (("augmentation", NAMES), ("detector", ("classifier", "patch")), ("scorer", ("gaussian",))):
        assert {proposal.parameters[name] for proposal in proposals} == set(choices)
        assert all(proposal.distributions[name] == CategoricalDistribution(choices) for proposal in proposals)


def test_tpe_proposes_better_than_chance():
    """Of 8 seeds, 7 or more: by chance alone with probability 9 in 256."""
    won = 0
    for seed in range(8):
        of_tpe, of_chance = (
            statistics.mean(worth(proposal.candidates[0]) for proposal in searched(asked(kind, 25, seed), worth)[10:])
            for kind in ("tpe", "random")
        )
        won += of_tpe > of_chance
    assert won >= 7


def test_lower_values_are_sought_where_lower_is_better():
    upside_down = searched(asked("tpe", 20), lambda candidate: -worth(candidate), direction=StudyDirection.MINIMIZE)
    assert upside_down == searched(asked("tpe", 20), worth)


def test_tpe_turns_away_from_what_collapses_or_fails():
    late = searched(asked("tpe", 40, names=("cutout", "rotation")), lambda c: None if is_rotation(c) else 0.0)[10:]
    assert sum(is_rotation(proposal.candidates[0]) for proposal in late) < len(late) / 4
    assert len(searched(asked("tpe", 20), lambda candidate: None)) == 20


def is_rotation(candidate):
    return candidate.training.augmentation == "rotation"


@pytest.mark.parametrize("kind", ["random", "tpe"])
class TestRepetition:
    def test_the_same_seed_proposes_the_same_and_another_seed_others(self, kind):
        first = searched(asked(kind, 17), worth)
        assert searched(asked(kind, 17), worth) == first
        assert not {p.candidates[0].hyperparameters["area"] for p in first if not is_rotation(p.candidates[0])} & {
            p.candidates[0].hyperparameters["area"]
            for p in searched(asked(kind, 17, seed=1), worth)
            if not is_rotation(p.candidates[0])
        }

    @pytest.mark.parametrize("before", [4, 12])
    def test_more_trials_later_are_those_of_more_at_once(self, kind, before):
        """Also when the shorter search ended within a batch."""
        shorter = searched(asked(kind, before), worth)
        assert searched(asked(kind, 17), worth, begun=shorter) == searched(asked(kind, 17), worth)

    def test_nothing_of_a_batch_hears_of_the_others_in_it(self, kind):
        whole = searched(asked(kind, 15), worth)
        spoiled = searched(asked(kind, 15), lambda c: worth(c) if c in in_order(whole[:10]) else 99.0)
        assert spoiled == whole


def test_a_proposal_comes_back_from_json_as_it_was():
    for proposal in searched(asked("tpe", 12, seeds=2), worth):
        assert Proposal.from_json(json.loads(json.dumps(proposal.to_json()))) == proposal


def test_a_configuration_is_proposed_once_for_all_seeds():
    proposals = searched(asked("random", 3, seed=5, seeds=2))
    for proposal in proposals:
        one, other = proposal.candidates
        assert (one.training.seed, other.training.seed) == (5, 6)
        assert one.configuration_id == other.configuration_id
    assert [candidate.training.seed for candidate in in_order(proposals)] == [5, 5, 5, 6, 6, 6]


def test_optuna_says_nothing_and_speaks_on_afterwards(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    searched(asked("tpe", 12), worth)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


class TestGrid:
    def test_it_is_the_plan_in_one_batch(self):
        grid = {"cutout": [{}, {"area": (0.1, 0.2)}], "rotation": [{}]}
        arguments = grid, ("classifier",), ("gaussian",), SETTINGS
        the_grid = searching("grid", None, *arguments, range(2))
        planned = [candidate for seed in (0, 1) for candidate in plan(*arguments, seed)]
        proposals = the_grid.propose([], [], StudyDirection.MAXIMIZE)
        assert len(proposals) == the_grid.trials == 3
        assert in_order(proposals) == planned
        assert the_grid.settings == {"candidates": [candidate.to_json() for candidate in planned]}

    def test_its_parameters_are_the_ends_of_the_ranges(self):
        the_grid = searching("grid", None, ["cutpaste"], ("classifier",), ("gaussian",), SETTINGS, [0])
        for proposal in the_grid.propose([], [], StudyDirection.MAXIMIZE):
            ranges = proposal.candidates[0].hyperparameters
            ends = {f"cutpaste.{name}_low": low for name, (low, _) in ranges.items()}
            ends |= {f"cutpaste.{name}_high": high for name, (_, high) in ranges.items()}
            assert {k: v for k, v in proposal.parameters.items() if k.startswith("cutpaste.")} == ends
            assert proposal.trial(TrialState.COMPLETE, 1.0).params == proposal.parameters


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_pseudo_anomalies_to_judge_by_are_those_of_the_default_grids(kind):
    """Whatever is proposed, and the same as for a grid over these augmentations."""
    grid = searching("grid", None, NAMES, ("classifier",), ("gaussian",), SETTINGS, [0])
    assert asked(kind, 3).rivals == asked(kind, 30, seeds=2).rivals == grid.rivals


BAD = {
    "search": (("bayes", None, NAMES), "search 'bayes'"),
    "trials of a grid": (("grid", 30, NAMES), 'as many trials as it has cells.*search="tpe"'),
    "no trials": (("tpe", 0, NAMES), "at least 1"),
    "half a trial": (("random", 1.5, NAMES), "whole number"),
    "true": (("tpe", True, NAMES), "whole number"),
    "grids for a sampler": (("tpe", 5, {"cutout": [{}]}), r"names alone, \['cutout'\].*search=\"grid\""),
    "augmentation": (("tpe", 5, ["cutpast"]), "did you mean cutpaste"),
    "nothing": (("tpe", 5, []), "non-empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    given, told = BAD[case]
    with pytest.raises(InputError, match=told):
        searching(*given, ("classifier",), ("gaussian",), SETTINGS, [0])


def test_trials_default_to_a_number_with_batches_that_learn():
    assert asked("tpe", None).trials == search.TRIALS > search.STARTUP + search.BATCH
