"""What is trained where nothing was said."""

import pytest

import detectors
from selector.zoo import auto
from selector.zoo.plan import Plan

QUICK = detectors.get_preset("quick")


def kinds(blocks):
    return {detectors.get(candidate.training.detector) for candidate in Plan.joined(blocks, QUICK).candidates(0)}


def test_with_weights_there_are_three_kinds_that_learn_and_two_that_do_not():
    if not auto.lite0_is_installed():
        pytest.skip("the extra pretrained is not installed")
    found = kinds(auto.WITH_WEIGHTS)
    assert sum(kind.uses_augmentation for kind in found) >= 3
    assert sum(not kind.uses_augmentation for kind in found) >= 2


def test_without_weights_no_kind_needs_any(monkeypatch):
    monkeypatch.setattr("detectors.frozen_levels.lite0_is_installed", lambda: False)
    plan = Plan.joined(auto.WITHOUT_WEIGHTS, QUICK)
    assert plan.image_size == QUICK.image_size
    assert len(kinds(auto.WITHOUT_WEIGHTS)) >= 4
    assert all("lite0" not in str(candidate.training.to_json()) for candidate in plan.candidates(0))


def test_what_is_named_replaces_its_part_of_every_block():
    blocks = auto.requests(("cutout",), "auto", "auto")
    assert all(block.augmentations == ("cutout",) for block in blocks)
    blocks = auto.requests("auto", ("patch", "pixels"), ("knn",))
    assert [(block.augmentations, block.scorers) for block in blocks] == [(auto.AUGMENTATIONS, ("knn",))]
