"""Mistakes found in public code of this field, one test each."""

import math

import pytest
import torch

import augmentations
from augmentations import InputError
from augmentations.randomness import generator


def test_rotated_patch_is_masked_by_its_shape_not_by_a_colour():
    # Red is 0 everywhere; a mask made from the red channel would paste nothing.
    images = torch.rand(4, 3, 64, 64)
    images[:, 0] = 0
    augmentation = augmentations.make("cutpaste", angle=(20, 45), jitter=0)
    changed = (augmentation(images, generator(0)) != images).any(1).sum((1, 2))
    assert (changed > 0.015 * 64 * 64).all()


@pytest.mark.parametrize("name", ["cutout", "cutavg", "cutdiff", "cutpaste", "cutpaste_scar"])
def test_width_and_height_are_not_swapped(name):
    augmentation = augmentations.make(name, area=0.02, aspect=4, angle=0)
    images = torch.rand(8, 1, 64, 64) if name != "cutout" else torch.ones(8, 1, 64, 64)
    parameters = augmentation.sample(8, (64, 64), generator(0))
    changed = (augmentation.apply(images, parameters) - images).abs()[:, 0] > 0.1
    assert (changed.any(1).sum(1) > 1.5 * changed.any(2).sum(1)).all()
    assert (parameters["width"] > parameters["height"]).all()


def test_patches_larger_than_the_image_are_refused():
    with pytest.raises(InputError, match="must fit"):
        augmentations.make("cutpaste", area=(0.02, 0.5), aspect=(0.3, 3.3)).sample(1, (64, 64), generator(0))


def test_a_patch_that_only_fits_upright_is_refused_when_it_turns():
    augmentations.make("cutpaste", area=0.6, aspect=1).check((64, 64))
    with pytest.raises(InputError, match="must fit"):
        augmentations.make("cutpaste", area=0.6, aspect=1, angle=(-45, 45)).check((64, 64))


@pytest.mark.parametrize("name", ["cutout", "cutavg", "cutdiff", "cutpaste"])
def test_landscape_is_as_likely_as_portrait(name):
    parameters = augmentations.make(name, aspect=(1 / 3, 3)).sample(4000, (64, 64), generator(0))
    wide = (parameters["width"] > parameters["height"]).sum()
    high = (parameters["width"] < parameters["height"]).sum()
    assert (wide - high).abs() < 4 * math.sqrt(4000)


@pytest.mark.parametrize("name", ["cutout", "cutavg", "cutdiff", "cutpaste", "cutpaste_scar"])
def test_angles_are_drawn_not_fixed(name):
    angle = augmentations.make(name, angle=(-45, 45)).sample(500, (64, 64), generator(0))["angle"]
    assert len(angle.unique()) > 490
    assert angle.min() < -40
    assert angle.max() > 40


def test_cutavg_fills_the_mean_of_each_channel_not_grey():
    images = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1).expand(4, 3, 32, 32)
    after = augmentations.make("cutavg")(images, generator(0))
    torch.testing.assert_close(after, images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cutout", "cutavg", "cutdiff", "cutpaste", "cutpaste_scar", "cutpaste_union"])
def test_each_image_has_its_own_place(name):
    images = torch.rand(1, 3, 64, 64).expand(32, 3, 64, 64)
    after = augmentations.make(name)(images, generator(0))
    assert len({tuple(map(tuple, torch.nonzero(a != b).tolist())) for a, b in zip(after, images, strict=True)}) == 32


def test_the_mass_of_cutdiff_is_063_of_the_area_and_says_so():
    augmentation = augmentations.make("cutdiff", area=0.01, aspect=1)
    parameters = augmentation.sample(1, (128, 128), generator(0))
    parameters["x"][:], parameters["y"][:] = 64, 64
    mass = (1 - augmentation.apply(torch.ones(1, 1, 128, 128), parameters)).sum().item()
    assert mass / (0.01 * 128**2) == pytest.approx(2 * math.pi * 0.1, rel=1e-3)
    assert "0.63" in type(augmentation).__doc__


@pytest.mark.parametrize("name", augmentations.names())
def test_no_hyperparameter_is_accepted_and_ignored(name):
    other = {
        "area": 0.04,
        "aspect": 1.7,
        "angle": 90 if name == "rotation" else 25,
        "jitter": 0.4,
        "scar_area": 0.01,
        "scar_aspect": 5,
        "scar_angle": 60,
        "step": 180,
        "blend": "soft",
        "scale": 1.1,
        "cells": 5,
        "opacity": 0.3,
        "strength": 0.15,
        "sigma": 0.03,
        "direction": "both",
        "share": 0.25,
        "threshold": 0.7,
    }
    images = torch.rand(16, 3, 64, 64)
    default = augmentations.make(name)
    for key in default.hyperparameters():
        changed = augmentations.make(name, **{key: other[key]})
        assert not torch.equal(changed(images, generator(0)), default(images, generator(0))), key
        is_range = isinstance(default.hyperparameters()[key], tuple)
        assert changed.hyperparameters()[key] == ((other[key], other[key]) if is_range else other[key])
