"""Generated defects: exact masks, the same from the same seed, always visible, never obvious."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from augmentations import InputError
from benchmarks.datasets import synthetic_defects as generators
from benchmarks.datasets.synthetic_defects import GENERATORS, MEAN_CHANGE, SMALLEST_SHARE, SPECK_SHARE, VISIBLE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cells(n, height, width=None, channels=1, seed=0):
    """Images of smooth brightness with a fine structure of lines, none like another."""
    width = width or height
    source = seeded(seed)
    ground = 0.35 + 0.3 * torch.rand(n, channels, 4, 4, generator=source)
    ground = functional.interpolate(ground, (height, width), mode="bilinear", align_corners=True)
    rows = torch.arange(height)[:, None] / height + torch.rand(n, 1, 1, 1, generator=source)
    return (ground + 0.12 * torch.sin(25 * rows)).clamp(0, 1)


every_generator = pytest.mark.parametrize("kind", GENERATORS)


def generate(kind, images, seed=0):
    return GENERATORS[kind](images, images.roll(1, 0), seeded(seed))


@every_generator
@pytest.mark.parametrize(
    ("size", "channels"), [((32, 32), 1), ((32, 32), 3), ((64, 64), 1), ((48, 100), 3), ((256, 256), 1)]
)
def test_masks_mark_exactly_what_changed(kind, size, channels):
    images = cells(3, *size, channels=channels)
    before = images.clone()
    defective, masks = generate(kind, images)
    assert torch.equal(images, before)
    assert defective.shape == images.shape
    assert defective.dtype == images.dtype
    assert defective.min() >= 0
    assert defective.max() <= 1
    assert masks.shape == (3, *size)
    assert masks.dtype == torch.uint8
    change = (defective - images).abs().amax(1)
    assert torch.equal(masks == 1, change > VISIBLE)


@every_generator
@pytest.mark.parametrize("size", [32, 128])
def test_every_defect_can_be_seen_and_is_local(kind, size):
    images = cells(15, size)
    defective, masks = generate(kind, images)
    change = (defective - images).abs().amax(1)
    for one, mask in zip(change, masks, strict=True):
        assert one[mask == 1].mean() >= MEAN_CHANGE
        assert SMALLEST_SHARE <= mask.float().mean() < 0.6
        islands, count = ndimage.label(mask.numpy(), np.ones((3, 3)))
        assert np.bincount(islands.ravel())[1:].min() >= SPECK_SHARE * mask.numel()
        assert count <= 8
        assert (one == 0).float().mean() > 0.3  # the base shows through untouched


@every_generator
def test_the_same_seed_gives_the_same_defects_and_another_others(kind):
    images = cells(4, 32)
    first, again, other = (generate(kind, images, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert not torch.equal(first[1][0], first[1][1])


@every_generator
def test_a_defect_does_not_depend_on_the_other_images(kind):
    images = cells(5, 32)
    donors = images.flip(0)
    together = GENERATORS[kind](images, donors, seeded())
    others = images.clone()
    others[[0, 1, 4]] = cells(3, 32, seed=9)
    mixed = GENERATORS[kind](others, donors, seeded())
    first = GENERATORS[kind](images[:3], donors[:3], seeded())
    for whole, changed, part in zip(together, mixed, first, strict=True):
        assert torch.equal(whole[2:4], changed[2:4])
        assert torch.equal(whole[:3], part)


@every_generator
def test_defects_look_alike_at_all_sizes(kind):
    """The same share of the image is drawn on, whatever its size in pixels."""
    shares = [generate(kind, cells(15, size))[1].float().mean().item() for size in (32, 64, 128)]
    assert max(shares) < 1.8 * min(shares)


@every_generator
def test_no_plain_statistic_gives_a_defect_away(kind):
    images = cells(40, 64)
    defective, _ = generate(kind, images)
    normal = cells(40, 64, seed=1)
    labels = [0] * 40 + [1] * 40
    both = torch.cat([normal, defective])
    for statistic in (both.mean((1, 2, 3)), both.std((1, 2, 3)), both.amin((1, 2, 3)), both.amax((1, 2, 3))):
        auroc = roc_auc_score(labels, statistic)
        assert 0.1 < auroc < 0.9


def test_a_dark_spot_only_darkens():
    images = cells(8, 64)
    defective, _ = generate("dark_spot", images)
    assert (defective <= images).all()
    assert (defective >= 0.29 * images).all()


def test_scratches_are_thin_and_dark_or_bright():
    images = cells(16, 64)
    defective, masks = generate("scratch", images)
    for mask in masks.numpy():
        # As wide as the largest disc that fits in: 2 px, and a half-covered one on each side.
        assert ndimage.distance_transform_edt(np.pad(mask, 1)).max() <= 2.3
    signs = {float((new - old).sum().sign()) for new, old in zip(defective, images, strict=True)}
    assert signs == {-1.0, 1.0}


def test_a_swapped_patch_shows_the_donor():
    """With donors of one colour, nothing but that colour, shifted towards the image's, can come in."""
    images = cells(8, 64)
    donors = torch.full_like(images, 1.0)
    defective, masks = GENERATORS["swapped_patch"](images, donors, seeded())
    assert (defective[masks[:, None] == 1] > images[masks[:, None] == 1]).float().mean() > 0.9


def test_stains_are_smooth():
    images = torch.full((12, 1, 128, 128), 0.5)
    change = generate("brightness_stain", images)[0] - images
    assert change.diff(dim=2).abs().max() < 0.03
    assert change.diff(dim=3).abs().max() < 0.03
    assert {float(c.sum().sign()) for c in change} == {-1.0, 1.0}


@every_generator
def test_an_image_that_no_defect_shows_on_comes_back_as_it_was(kind):
    images = torch.cat([torch.zeros(1, 1, 32, 32), torch.rand(1, 1, 32, 32)])
    defective, masks = GENERATORS[kind](images, images, seeded())
    if kind == "scratch":  # a bright one shows
        assert masks[0].any()
    else:
        assert torch.equal(defective[0], images[0])
        assert not masks[0].any()


@every_generator
@pytest.mark.parametrize(
    ("images", "donors", "message"),
    [
        (torch.rand(2, 1, 16, 16), None, "32 px or more"),
        (torch.rand(1, 32, 32), None, "float"),
        (torch.ones(2, 1, 32, 32, dtype=torch.uint8), None, "float"),
        (torch.full((2, 1, 32, 32), 1.5), None, "images"),
        (torch.full((2, 1, 32, 32), torch.nan), None, "images"),
        (torch.rand(2, 1, 32, 32), torch.rand(1, 1, 32, 32), "donors"),
        (torch.rand(2, 1, 32, 32), torch.full((2, 1, 32, 32), torch.nan), "donors"),
    ],
)
def test_bad_images_are_refused(kind, images, donors, message):
    with pytest.raises(InputError, match=message):
        GENERATORS[kind](images, images if donors is None else donors, seeded())


def test_no_images_give_no_defects():
    defective, masks = generate("scratch", torch.empty(0, 1, 32, 32))
    assert len(defective) == len(masks) == 0


def test_nothing_is_drawn_by_an_augmentation():
    """Of the augmentations' room only the error's class is used."""
    tree = ast.parse(Path(generators.__file__).read_text())
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("augmentations")]
    assert [alias.name for node in imported for alias in node.names] == ["InputError"]
