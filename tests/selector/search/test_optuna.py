"""Optuna as a search: proposals lie in their space, repeat for the same evidence, and improve with what was good."""

import json
import math
import random
import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import augmentations
from detectors import get_preset
from detectors.scorers import Gaussian
from selector.search import Grid, Judged, Sampled
from selector.search.base import in_order
from selector.search.optuna import trial_of, write_study
from selector.zoo.plan import Plan

NAMES = ("cutout", "cutpaste", "rotation")


def planned(names=NAMES, kinds=("classifier", "patch")):
    return Plan.of(names, kinds, ("gaussian",), get_preset("quick"))


def sampled(sampler, trials, seed=0, names=NAMES, seeds=1):
    return Sampled(sampler, trials, planned(names), tuple(range(seed, seed + seeds)))


def judged(proposals, value):
    """Finished trials with the values that ``value`` gives their candidates, None for what collapsed or failed."""
    values = [value(proposal.candidates[0]) for proposal in proposals]
    return [
        Judged(proposal, "failed" if v is None else "ok", v, 1, proposal.candidates[0].id, "")
        for proposal, v in zip(proposals, values, strict=True)
    ]


def proposed(search, value=lambda candidate: 0.0, earlier=(), higher_is_better=True):
    """Every proposal of a search whose trials are worth ``value``."""
    proposals = list(earlier)
    while len(proposals) < search.n_trials:
        start = search.batch_start(len(proposals))
        proposals += search.propose(judged(proposals[:start], value), proposals[start:], higher_is_better)
    return proposals


def worth(candidate):
    """Highest for pasted patches of a fiftieth of the image, turned by up to 30 degrees; rotation is worth least."""
    if candidate.training.augmentation == "rotation":
        return -2.0
    ends = candidate.hyperparameters
    area, turned = sum(ends["area"]) / 2, ends["angle"][1]
    is_cutpaste = candidate.training.augmentation == "cutpaste"
    return float(is_cutpaste) - math.log(area / 0.02) ** 2 - (turned / 45 - 2 / 3) ** 2


@pytest.mark.parametrize("kind", ["random", "tpe"])
@pytest.mark.parametrize("name", augmentations.names("images"))
def test_proposals_lie_in_the_space_of_the_chosen_augmentation(kind, name):
    for proposal in proposed(sampled(kind, 18, names=(name, "cutout")), worth_anything):
        chosen = proposal.parameters["augmentation"]
        fixed = optuna.trial.FixedTrial(proposal.parameters)
        expected = augmentations.suggest(chosen, fixed)
        candidate = proposal.candidates[0]
        assert candidate.training.augmentation == chosen
        assert candidate.hyperparameters == expected
        assert set(proposal.parameters) == {"augmentation", "detector", "scorer", *fixed.distributions}
        assert all(key.startswith(f"{chosen}.") for key in fixed.distributions)
        for key, space in fixed.distributions.items():
            assert json_to_distribution(proposal.space[key]) == space
            assert space._contains(space.to_internal_repr(proposal.parameters[key]))
        candidate.training.make_augmentation().check((64, 64))


def worth_anything(candidate):
    return random.Random(candidate.id).random()


def test_choices_are_those_that_were_named():
    proposals = proposed(sampled("random", 40))
    for name, choices in (("augmentation", NAMES), ("detector", ("classifier", "patch")), ("scorer", ("gaussian",))):
        assert {proposal.parameters[name] for proposal in proposals} == set(choices)
        assert all(
            proposal.space[name] == distribution_to_json(CategoricalDistribution(choices)) for proposal in proposals
        )


def test_tpe_proposes_better_than_chance():
    """Of 8 seeds, 7 or more: by chance alone with probability 9 in 256."""
    won = 0
    for seed in range(8):
        of_tpe, of_chance = (
            statistics.mean(worth(proposal.candidates[0]) for proposal in proposed(sampled(kind, 25, seed), worth)[10:])
            for kind in ("tpe", "random")
        )
        won += of_tpe > of_chance
    assert won >= 7


def test_lower_values_are_sought_where_lower_is_better():
    upside_down = proposed(sampled("tpe", 20), lambda candidate: -worth(candidate), higher_is_better=False)
    assert upside_down == proposed(sampled("tpe", 20), worth)


def test_tpe_turns_away_from_what_collapses_or_fails():
    late = proposed(sampled("tpe", 40, names=("cutout", "rotation")), lambda c: None if is_rotation(c) else 0.0)[10:]
    assert sum(is_rotation(proposal.candidates[0]) for proposal in late) < len(late) / 4
    assert len(proposed(sampled("tpe", 20), lambda candidate: None)) == 20


def is_rotation(candidate):
    return candidate.training.augmentation == "rotation"


@pytest.mark.parametrize("kind", ["random", "tpe"])
class TestRepetition:
    def test_the_same_seed_proposes_the_same_and_another_seed_others(self, kind):
        first = proposed(sampled(kind, 17), worth)
        assert proposed(sampled(kind, 17), worth) == first
        assert not {p.candidates[0].hyperparameters["area"] for p in first if not is_rotation(p.candidates[0])} & {
            p.candidates[0].hyperparameters["area"]
            for p in proposed(sampled(kind, 17, seed=1), worth)
            if not is_rotation(p.candidates[0])
        }

    @pytest.mark.parametrize("before", [4, 12])
    def test_more_trials_later_are_those_of_more_at_once(self, kind, before):
        """Also when the shorter search ended within a batch."""
        shorter = proposed(sampled(kind, before), worth)
        assert proposed(sampled(kind, 17), worth, earlier=shorter) == proposed(sampled(kind, 17), worth)

    def test_a_proposal_does_not_depend_on_the_values_of_its_own_batch(self, kind):
        whole = proposed(sampled(kind, 15), worth)
        spoiled = proposed(sampled(kind, 15), lambda c: worth(c) if c in in_order(whole[:10]) else 99.0)
        assert spoiled == whole


def test_optuna_is_silent_and_its_verbosity_is_restored(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    proposed(sampled("tpe", 12), worth)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_validation_anomalies_are_those_of_the_default_grids(sampler):
    """Whatever is proposed, and the same as for a grid over these augmentations."""
    few, many = sampled(sampler, 3), sampled(sampler, 30, seeds=2)
    assert few.augmentations == many.augmentations == Grid(planned(), (0,)).augmentations


class TestKinds:
    """The kind of detector and its settings are a choice like others."""

    def test_each_of_several_settings_of_one_kind_is_a_choice(self):
        cells = [{"steps": 6}, {"steps": 9}, {"steps": 12}]
        search = Sampled("random", 30, planned(kinds={"classifier": cells}), (0,))
        chosen = {p.parameters["detector"]: p.candidates[0].training.settings.steps for p in proposed(search)}
        assert chosen == {"classifier": 6, "classifier #2": 9, "classifier #3": 12}

    def test_a_kind_that_takes_no_augmentation_has_no_parameters_of_one(self, own_parts):
        search = Sampled("tpe", 25, planned(kinds=("classifier", own_parts.Frozen)), (0,))
        proposals = proposed(search, worth_anything)
        without = [p for p in proposals if p.parameters["detector"] == "own_parts:Frozen"]
        assert 0 < len(without) < len(proposals)
        for proposal in without:
            assert set(proposal.parameters) == {"detector", "scorer"}
            assert proposal.candidates[0].training.augmentation is None
        assert all("augmentation" in p.parameters for p in proposals if p not in without)

    def test_their_order_belongs_to_the_run_for_it_decides_what_is_drawn(self, own_parts):
        first, other = (
            Sampled("tpe", 5, planned(kinds=kinds), (0,))
            for kinds in (["classifier", own_parts.Frozen], [own_parts.Frozen, "classifier"])
        )
        assert first.settings != other.settings
        assert first.settings == Sampled("tpe", 9, first.plan, (0,)).settings

    def test_they_belong_to_the_settings_of_the_run(self):
        usual, wider = (Sampled("tpe", 5, planned(kinds=kinds), (0,)) for kinds in (["patch"], ["patch", "classifier"]))
        assert usual.settings != wider.settings
        assert usual.settings == Sampled("tpe", 9, planned(kinds=["patch"]), (0,)).settings
        assert json.loads(json.dumps(usual.settings)) == usual.settings


class Same(Gaussian):
    """One of two scorers of one name."""

    name = "same"


class Scorers:
    class Same(Same):
        """The other one; tables call both by the name of their class."""


def test_scorers_of_one_name_are_all_chosen():
    plan = Plan.of(NAMES, ["pixels"], [Same, Scorers.Same], get_preset("quick"))
    labels = {p.parameters["scorer"]: p.candidates[0].scorer for p in proposed(Sampled("random", 20, plan, (0,)))}
    assert set(labels.values()) == set(plan.scorers)
    assert len(labels) == 2


def test_a_kind_that_scores_by_itself_is_proposed_with_one_scorer():
    plan = Plan.of(NAMES, {"deep_svdd": [{"score": "centre"}]}, ["gaussian", "knn"], get_preset("quick"))
    proposals = proposed(Sampled("random", 8, plan, (0,)))
    assert {proposal.parameters["scorer"] for proposal in proposals} == {"gaussian", "knn"}
    assert {proposal.candidates[0].scorer.name for proposal in proposals} == {"gaussian"}


@dataclass(frozen=True)
class CutOut(augmentations.get("cutout")):
    """One of a user's, named as one of ours, whose hyperparameter is a choice."""

    family: ClassVar[str] = "own"

    @classmethod
    def suggest(cls, trial):
        return {"area": float(trial.suggest_categorical("cutout.area_low", ["0.1", "0.2"]))}


def test_augmentations_of_one_name_have_hyperparameters_of_their_own():
    plan = Plan.of(["cutout", CutOut], ["classifier"], ["gaussian"], get_preset("quick"))
    proposals = proposed(Sampled("tpe", 20, plan, (0,)), worth_anything)
    own = augmentations.reference(CutOut)
    assert {p.parameters["augmentation"] for p in proposals} == {"cutout", own}
    for proposal in proposals:
        is_own = proposal.parameters["augmentation"] == own
        assert (f"{own}.area_low" in proposal.parameters) == is_own
        assert ("cutout.area_low" in proposal.parameters) == (not is_own)


class TestStudyOfAGrid:
    """A grid chooses from no space, so the study has the smallest one that holds its candidates."""

    @pytest.fixture
    def grid(self):
        cells = {"cutpaste": [{}, {"area": (0.1, 0.2)}], "rotation": [{}]}
        return Grid(planned(cells, ("classifier",)), (0,)).proposals

    @pytest.fixture
    def trials(self, grid, tmp_path):
        """Of the first two as judged, and the last as running."""
        history = [
            Judged(grid[0], "ok", 0.5, 1, grid[0].candidates[0].id, ""),
            Judged(grid[1], "collapsed", None, 2, grid[1].candidates[0].id, "it collapsed"),
        ]
        end = datetime(2024, 5, 17, 12)
        times = {one.proposal.candidates[0].id: (end - timedelta(seconds=7), end) for one in history}
        (tmp_path / "study.log").write_bytes(write_study(history, grid[2:], times, "rtm", True))
        backend = JournalFileBackend(str(tmp_path / "study.log"))
        return optuna.load_study(study_name=None, storage=JournalStorage(backend)).trials

    def test_parameters_are_the_ends_of_the_ranges(self, grid, trials):
        for trial, proposal in zip(trials, grid, strict=True):
            candidate = proposal.candidates[0]
            name = candidate.augmentation
            ranges = {key: value for key, value in candidate.hyperparameters.items() if isinstance(value, tuple)}
            ends = {f"{name}.{key}_low": low for key, (low, _) in ranges.items()}
            ends |= {f"{name}.{key}_high": high for key, (_, high) in ranges.items()}
            assert trial.params.items() >= ends.items()
            assert trial.params["augmentation"] == name
            assert trial.params.keys() == trial.distributions.keys()

    def test_states_values_and_times_are_those_of_the_judged(self, trials):
        assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]
        assert [trial.value for trial in trials] == [0.5, None, None]
        assert [trial.duration.total_seconds() for trial in trials[:2]] == [7, 7]
        assert trials[1].user_attrs["reason"] == "it collapsed"


def test_a_trial_that_failed_is_pruned_and_has_no_value():
    (proposal,) = proposed(sampled("random", 1))
    trial = trial_of(Judged(proposal, "failed", None, 1, proposal.candidates[0].id, "it broke"))
    assert (trial.state, trial.value, trial.params) == (TrialState.PRUNED, None, proposal.parameters)
