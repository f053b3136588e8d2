"""What can be known of a choice before training: candidates that could not take part in it are refused."""

import pytest

from augmentations import InputError
from detectors import get_preset
from selector import select_best
from selector.evidence.evidence import EMBEDDINGS, SCORES
from selector.ranking.requirements import planned_fields, require_evidence
from selector.ranking.rules import resolve_decision
from selector.select import NothingToSelectError
from selector.zoo.plan import Plan

ONE, TWO = ["cutout"], ["cutout", "cutpaste"]


def planned(tiny, kinds, augmentations):
    plan = Plan.of(augmentations, kinds, ["gaussian"], get_preset(tiny))
    return plan.candidates(0), {each.family for each in plan.augmentations}


@pytest.mark.parametrize("has_test", [True, False])
@pytest.mark.parametrize("augmentations", [ONE, TWO])
def test_what_is_planned_is_what_the_evidence_holds(tiny, stripes, augmentations, has_test):
    """Of every kind there is, against what training it gives."""
    options = {"augmentations": {name: [{}] for name in augmentations}, "detectors": ["classifier", "pixels"]}
    selection = select_best(stripes(24), stripes(6, 1) if has_test else None, **options, preset=tiny, jobs=1)
    families = selection.zoo.store.families
    for candidate in selection.zoo.candidates:
        expected = planned_fields(candidate, families, has_test)
        assert expected == selection.zoo.evidence(candidate.id)[0].available
        assert expected <= set(EMBEDDINGS + SCORES)


@pytest.mark.parametrize(
    ("kinds", "augmentations", "criterion", "has_test", "message"),
    [
        (["patch"], ONE, "auto", False, r"'pseudo_auc', by which \"auto\".*'patch' would have those of 'cutout' alone"),
        (["patch"], ONE, "pseudo_auc", False, r"'pseudo_auc': needs.*'patch' would have.*choose another criterion"),
        (["patch"], ONE, "pseudo_auc", True, "'patch' would have those of 'cutout' alone"),
        (["patch"], ["cutpaste", "cutpaste_scar"], "npd", True, "those of 'cutpaste' alone"),
        (["classifier", "patch"], ONE, "auto", False, "leave 'patch' out, or give test images"),
        (["patch"], ONE, ("rtm", "npd"), True, "'npd': needs"),
        (["classifier", "pixels"], TWO, "dsv", True, r"'dsv': needs pseudo anomalies.*'pixels' do not have"),
    ],
)
def test_what_some_candidates_can_not_have_is_refused(tiny, kinds, augmentations, criterion, has_test, message):
    decision = resolve_decision(criterion, 20, has_test)
    with pytest.raises(InputError, match=message):
        require_evidence(decision, *planned(tiny, kinds, augmentations), has_test)


@pytest.mark.parametrize(
    ("kinds", "augmentations", "criterion", "has_test"),
    [
        (["patch"], ONE, "auto", True),
        (["patch"], TWO, "auto", False),
        (["classifier"], ONE, "auto", False),
        (["classifier", "pixels"], ONE, "auto", False),
        (["classifier", "patch", "pixels"], ONE, "rtm", True),
        (["patch"], ONE, lambda evidence: evidence.nothing, True),
    ],
)
def test_what_is_possible_is_not(tiny, kinds, augmentations, criterion, has_test):
    if callable(criterion):
        criterion.__name__ = "mine"
    require_evidence(resolve_decision(criterion, 20, has_test), *planned(tiny, kinds, augmentations), has_test)


@pytest.mark.parametrize("criterion", ["auto", "pseudo_auc"])
def test_a_selection_is_refused_before_anything_is_made(stripes, tiny, tmp_path, criterion):
    options = {"augmentations": {"cutout": [{}]}, "detectors": ["patch"], "criterion": criterion, "preset": tiny}
    with pytest.raises(InputError, match=r"'pseudo_auc'.*'patch'"):
        select_best(stripes(24), **options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def no_number(evidence):
    raise ValueError("no number")


def test_where_no_candidate_has_what_decides_none_is_recommended(stripes, tiny, tmp_path):
    options = {"augmentations": ONE, "detectors": ["pixels"], "preset": tiny, "jobs": 1, "out": tmp_path / "run"}
    with pytest.raises(NothingToSelectError, match=r"all 1 candidates failed: no_number raised.*another criterion"):
        select_best(stripes(24), stripes(6, 1), criterion=no_number, **options)
    assert not (tmp_path / "run" / "selection.json").exists()
    assert select_best(stripes(24), stripes(6, 1), criterion="rtm", **options).ranking.status.tolist() == ["ok"]
