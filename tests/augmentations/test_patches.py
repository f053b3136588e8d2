import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import augmentations
from augmentations import InputError
from augmentations.patches import bilinear, coverage, frame, largest_area, turn, weighted_mean
from augmentations.randomness import generator

PATCHES = ["cutout", "cutavg", "cutdiff", "cutpaste", "cutpaste_scar"]


def corners(patch):
    """(n,4,2) x and y of the corners, from the definition of a counter-clockwise turn on a screen."""
    angle = torch.deg2rad(patch["angle"].double())
    along = torch.stack((angle.cos(), -angle.sin()), -1) * patch["width"].double()[:, None] / 2
    across = torch.stack((angle.sin(), angle.cos()), -1) * patch["height"].double()[:, None] / 2
    centre = torch.stack((patch["x"], patch["y"]), -1).double()
    return torch.stack([centre + i * along + j * across for i in (-1, 1) for j in (-1, 1)], 1)


def test_turn_is_exact_at_quarters_and_right_elsewhere():
    cos, sin = turn(torch.tensor([0.0, 90, 180, 270, -90, 360, -180]))
    assert cos.tolist() == [1, 0, -1, 0, 0, 1, -1]
    assert sin.tolist() == [0, 1, 0, -1, -1, 0, 0]
    degrees = torch.linspace(-360, 360, 1001, dtype=torch.float64)
    cos, sin = turn(degrees)
    torch.testing.assert_close(cos, torch.deg2rad(degrees).cos())
    torch.testing.assert_close(sin, torch.deg2rad(degrees).sin())


@given(
    name=st.sampled_from(PATCHES),
    size=st.tuples(st.integers(24, 90), st.integers(24, 90)),
    area=st.tuples(st.floats(0.001, 0.9), st.floats(0.001, 0.9)).map(sorted),
    aspect=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    angle=st.tuples(st.floats(-180, 180), st.floats(-180, 180)).map(sorted),
)
@settings(max_examples=80, deadline=None)
def test_every_patch_lies_inside_or_the_ranges_are_refused(name, size, area, aspect, angle):
    augmentation = augmentations.make(name, area=area, aspect=aspect, angle=angle)
    try:
        patch = augmentation.sample(32, size, generator(0))
    except InputError as refusal:
        # The remedy must work, unless it contradicts the low end, which then follows.
        limit = float(refusal.remedy.split()[-1])
        augmentations.make(name, area=(min(area[0], limit), limit), aspect=aspect, angle=angle).check(size)
        return
    where = corners(patch)
    assert where.min() >= -1e-3
    assert where[..., 0].max() <= size[1] + 1e-3
    assert where[..., 1].max() <= size[0] + 1e-3
    for x, y in [("source_x", "source_y")] if "source_x" in patch else []:
        for centre, side, limit in ((x, "width", size[1]), (y, "height", size[0])):
            assert (patch[centre] - patch[side] / 2).min() >= -1e-3
            assert (patch[centre] + patch[side] / 2).max() <= limit + 1e-3


@given(
    size=st.tuples(st.integers(16, 64), st.integers(16, 64)),
    aspect=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    angle=st.tuples(st.floats(-180, 180), st.floats(-180, 180)).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_largest_area_agrees_with_brute_force(size, aspect, angle):
    ratio = torch.logspace(*(math.log10(a) for a in aspect), 41, dtype=torch.float64)[:, None]
    degrees = torch.deg2rad(torch.linspace(*angle, 721, dtype=torch.float64))[None]
    cos, sin = degrees.cos().abs(), degrees.sin().abs()
    wide, high = ratio.sqrt() * cos + sin / ratio.sqrt(), ratio.sqrt() * sin + cos / ratio.sqrt()
    root = torch.minimum(size[1] / wide, size[0] / high)
    expected = float((root**2).min()) / (size[0] * size[1])
    limit, worst = largest_area(size, aspect, angle)
    assert limit <= expected * (1 + 1e-9)
    assert limit == pytest.approx(expected, rel=1e-3)
    assert worst in aspect


def test_a_refusal_reads_well():
    with pytest.raises(InputError) as refusal:
        augmentations.make("cutout", area=(0.5, 0.9), aspect=(0.5, 3.3)).check((64, 64))
    assert str(refusal.value) == (
        "area=(0.5, 0.9) with aspect up to 3.3: the patch must fit in the 64x64 image; lower area to at most 0.3"
    )
    with pytest.raises(InputError, match=r"aspect down to 0.1 and angle=\(-45, 45\): .* 64x80 image"):
        augmentations.make("cutout", area=0.2, aspect=(0.1, 1), angle=(-45, 45)).check((64, 80))
    with pytest.raises(InputError, match=r"^scar_area=\(0.3, 0.3\) with scar_aspect up to 12.*lower scar_area"):
        augmentations.make("cutpaste_union", scar_area=0.3).check((64, 64))


def test_the_largest_bounding_box_may_lie_between_the_ends_of_the_angles():
    # A square of 0.8 sides fits upright and turned by 90 degrees, not in between.
    augmentations.make("cutout", area=0.64, aspect=1, angle=0).check((64, 64))
    augmentations.make("cutout", area=0.64, aspect=1, angle=90).check((64, 64))
    with pytest.raises(InputError, match=r"at most 0\.5$"):
        augmentations.make("cutout", area=0.64, aspect=1, angle=(0, 90)).check((64, 64))


def test_the_whole_image_is_a_patch():
    erased = augmentations.make("cutout", area=1, aspect=1)(torch.ones(2, 1, 16, 16), generator(0))
    assert erased.sum() == 0


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("angle", [(-45, 45), (10, 10)])
def test_areas_and_aspects_cover_their_ranges(name, angle):
    augmentation = augmentations.make(name, area=(0.05, 0.15), aspect=(0.4, 3), angle=angle)
    patch = augmentation.sample(4000, (64, 96), generator(0))
    area = (patch["width"] * patch["height"]).numpy() / (64 * 96)
    aspect = (patch["width"] / patch["height"]).numpy()
    assert stats.kstest(area, stats.uniform(0.05, 0.1).cdf).pvalue > 0.01
    assert stats.kstest(aspect, stats.loguniform(0.4, 3).cdf).pvalue > 0.01
    if angle[0] < angle[1]:
        assert stats.kstest(patch["angle"].numpy(), stats.uniform(-45, 90).cdf).pvalue > 0.01


def test_whole_pixel_places_are_uniform_and_include_the_last():
    patch = augmentations.make("cutout", area=36 / 64, aspect=1).sample(9000, (8, 8), generator(0))
    left, top = patch["x"] - patch["width"] / 2, patch["y"] - patch["height"] / 2
    counts = torch.bincount((top * 3 + left).long(), minlength=9)
    assert len(counts) == 9
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_rotated_places_reach_every_border():
    patch = augmentations.make("cutout", area=0.05, aspect=2, angle=(-45, 45)).sample(4000, (64, 64), generator(0))
    where = corners(patch)
    assert where.min() < 0.5
    assert where.max() > 63.5


@pytest.mark.parametrize("size", [(64, 64), (50, 81)])
def test_whole_pixel_masks_are_exactly_0_or_1(size):
    patch = augmentations.make("cutout").sample(50, size, generator(0))
    alpha = coverage(patch, *frame(patch, size))[:, 0]
    for i in range(50):
        w, h = int(patch["width"][i]), int(patch["height"][i])
        left, top = int(patch["x"][i] - w / 2), int(patch["y"][i] - h / 2)
        expected = torch.zeros(size)
        expected[top : top + h, left : left + w] = 1
        assert torch.equal(alpha[i], expected)


@pytest.mark.parametrize(("area", "aspect"), [((0.02, 0.15), (0.3, 3.3)), ((0.0005, 0.002), (5, 30))])
def test_rotated_masks_have_the_mass_of_the_patch(area, aspect):
    # Thin scars included: down to sides far below a pixel.
    hyperparameters = {"area": area, "aspect": aspect, "angle": (-180, 180)}
    patch = augmentations.make("cutout", **hyperparameters).sample(2000, (64, 64), generator(0))
    alpha = coverage(patch, *frame(patch, (64, 64)))
    mass, nominal = alpha.sum((1, 2, 3)), patch["width"] * patch["height"]
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    # Sums over pixels see the corners up to a fraction of a pixel, without bias.
    assert (mass - nominal).abs().max() < 0.5
    assert mass.mean() == pytest.approx(nominal.mean().item(), rel=1e-3)


def test_interior_masks_have_the_mass_of_the_patch_over_all_places():
    # Averaged over the places within one pixel, the sum over pixels becomes the integral.
    shift = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    y, x = (20 + value.flatten() for value in torch.meshgrid(shift, shift, indexing="ij"))
    for width, height, angle in [(11.3, 4.2, 30.0), (0.4, 9.7, -17.0), (7.5, 7.5, 45.0)]:
        patch = {"x": x, "y": y} | {
            key: torch.full_like(x, value) for key, value in {"width": width, "height": height, "angle": angle}.items()
        }
        mass = coverage(patch, *frame(patch, (40, 40))).sum((1, 2, 3)).mean()
        assert mass.item() == pytest.approx(width * height, rel=1e-4)


def test_masks_lie_inside_the_image():
    size, margin = (40, 60), 10
    patch = augmentations.make("cutout", angle=(-180, 180)).sample(500, size, generator(0))
    wide = patch | {"x": patch["x"] + margin, "y": patch["y"] + margin}
    full = (size[0] + 2 * margin, size[1] + 2 * margin)
    alpha = coverage(wide, *frame(wide, full))
    outside = alpha.sum((1, 2, 3)) - alpha[..., margin:-margin, margin:-margin].sum((1, 2, 3))
    # Only the antialiased tip of a corner may reach over the border.
    assert outside.max() < 0.3


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (100, 100)])
def test_bilinear_is_exact_at_pixel_centres(size):
    images = torch.rand(1, 2, *size)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    assert torch.equal(bilinear(images, x[None], y[None]), images)
    halfway = bilinear(images, (x[None] + 0.5)[..., :-1], y[None][..., :-1])
    torch.testing.assert_close(halfway, (images[..., 1:] + images[..., :-1]) / 2)


def test_weighted_mean():
    images, weight = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    expected = (images * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    torch.testing.assert_close(weighted_mean(images, weight), expected)
    assert weighted_mean(images, 0 * weight).abs().sum() == 0


@pytest.mark.parametrize(
    "name", [name for name, cls in augmentations.AUGMENTATIONS.items() if cls.is_local and hasattr(cls, "aspect")]
)
def test_every_image_draws_a_place_and_a_shape_of_its_own(name):
    parameters = augmentations.make(name).sample(400, (64, 64), generator(2))
    for key in ("x", "y", "width", "height"):
        assert len(parameters[key].unique()) > 20, key
