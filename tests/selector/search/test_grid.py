"""The grid: the plan in one batch, which grows but never loses a candidate."""

import pytest

from augmentations import InputError
from detectors import get_preset
from selector.search import Grid
from selector.search.base import in_order
from selector.zoo.plan import Plan

CELLS = [{}, {"area": (0.1, 0.2)}]


def grid(augmentations, seeds=(0,), kinds=("classifier",), scorers=("gaussian",)):
    return Grid(Plan.of(augmentations, kinds, scorers, get_preset("quick")), seeds)


def ids(proposals):
    return {candidate.id for proposal in proposals for candidate in proposal.candidates}


def test_it_is_the_plan_in_one_batch():
    cells = {"cutout": CELLS, "rotation": [{}]}
    search = grid(cells, seeds=(0, 1))
    plan = Plan.of(cells, ("classifier",), ("gaussian",), get_preset("quick"))
    proposals = search.propose([], [], True)
    assert len(proposals) == search.n_trials == 3
    assert in_order(proposals) == plan.candidates(0) + plan.candidates(1)
    assert [search.batch_start(number) for number in range(3)] == [0, 0, 0]
    assert search.augmentations == plan.augmentations


def test_its_settings_do_not_name_candidates_since_a_run_may_grow():
    assert grid(["cutout"]).settings == grid(["rotation"], seeds=(3, 4)).settings == {"search": "grid"}


def test_proposals_were_not_chosen_from_a_space():
    assert all((p.parameters, p.space) == ({}, {}) for p in grid(["cutout"]).propose([], [], True))


def test_a_stopped_batch_is_completed():
    search = grid(["cutout"])
    whole = search.propose([], [], True)
    assert search.propose([], whole[:2], True) == whole[2:]


class TestGrowth:
    """A later call has all that was stored, and more."""

    @pytest.mark.parametrize(
        "more",
        [
            {"augmentations": {"cutout": CELLS, "rotation": [{}]}},
            {"seeds": (0, 1, 2)},
            {"kinds": ("patch", "classifier")},
            {"kinds": {"classifier": [{"steps": 6}, {}]}},
        ],
    )
    def test_it_resumes_with_what_is_new(self, more):
        usual = {"augmentations": {"cutout": CELLS}}
        before, after = grid(**usual), grid(**{**usual, **more})
        resumed = after.resume(before.proposals)
        assert resumed == after.proposals
        assert ids(before.proposals) < ids(resumed)

    @pytest.mark.parametrize(
        ("fewer", "left_out"),
        [
            ({"augmentations": {"cutout": [{}]}}, r"cutout \(area 0\.1 to 0\.2.*\), seed 0"),
            ({"augmentations": ["rotation"]}, "cutout"),
            ({"seeds": (1,)}, "seed 0"),
            ({"kinds": ("patch",)}, "cutout"),
        ],
    )
    def test_a_call_that_leaves_candidates_out_is_refused_and_names_them(self, fewer, left_out):
        usual = {"augmentations": {"cutout": CELLS}}
        stored = grid(**usual).proposals
        with pytest.raises(InputError, match=rf"leaves out \(.*{left_out}.*name them too, or choose another folder"):
            grid(**{**usual, **fewer}).resume(stored)

    def test_of_many_that_are_left_out_the_first_are_named(self):
        stored = grid(["cutout"], seeds=(0, 1)).proposals
        with pytest.raises(InputError, match=r"seed 0.*and \d+ more\)"):
            grid(["rotation"]).resume(stored)
