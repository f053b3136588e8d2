import pytest
import torch

import augmentations
from augmentations import InputError
from augmentations.color import apply_jitter
from augmentations.randomness import generator


def corner(parameters, i, prefix=""):
    w, h = (int(parameters[key][i]) for key in ("width", "height"))
    return int(parameters[f"{prefix}y"][i] - h / 2), int(parameters[f"{prefix}x"][i] - w / 2), h, w


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (100, 100)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("jitter", [(0, 0), (0, 0.1)])
def test_equals_slicing_image_by_image(size, channels, jitter):
    augmentation = augmentations.make("cutpaste", jitter=jitter)
    images = torch.rand(12, channels, *size)
    parameters = augmentation.sample(12, size, generator(0))
    expected = images.clone()
    for i in range(12):
        top, left, h, w = corner(parameters, i, "source_")
        patch = images[i : i + 1, :, top : top + h, left : left + w]
        patch = apply_jitter(patch, {key: parameters[key][i : i + 1] for key in ("colour", "lift")})
        top, left, h, w = corner(parameters, i)
        expected[i, :, top : top + h, left : left + w] = patch[0]
    after = augmentation.apply(images, parameters)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-6)
    if jitter == (0, 0):
        assert torch.equal(after, expected)


def test_source_and_target_are_independent():
    parameters = augmentations.make("cutpaste", area=0.05, aspect=1).sample(3000, (64, 64), generator(0))
    for target, source in (("x", "source_x"), ("y", "source_y")):
        pair = torch.stack((parameters[target], parameters[source]))
        assert torch.corrcoef(pair)[0, 1].abs() < 0.06
        assert pair[0].min() == pair[1].min()
        assert pair[0].max() == pair[1].max()


def test_the_upright_source_must_fit_too():
    # Turned by 90 degrees a wide patch fits in a tall image, but it cannot be cut there.
    hyperparameters = {"area": 0.2, "aspect": 4, "angle": (90, 90)}
    augmentations.make("cutout", **hyperparameters).check((128, 64))
    with pytest.raises(InputError, match="128x64"):
        augmentations.make("cutpaste", **hyperparameters).check((128, 64))


@pytest.mark.parametrize("name", ["cutpaste", "cutpaste_scar"])
def test_rotation_brings_no_foreign_colours(name):
    augmentation = augmentations.make(name, angle=(-45, 45), jitter=0)
    images = 0.6 + 0.3 * torch.rand(16, 3, 64, 64)
    after = augmentation(images, generator(0))
    assert after.min() >= 0.6 - 1e-6
    assert after.max() <= 0.9 + 1e-6


def test_sides_below_a_pixel_read_nothing_beyond_the_image():
    augmentation = augmentations.make("cutpaste_scar", area=0.0005, aspect=(1, 30), jitter=0)
    after = augmentation(torch.ones(2000, 1, 21, 27), generator(0))
    assert after.min() >= 1 - 1e-5


def test_nothing_outside_the_source_bleeds_in():
    # Bright inside the source patch, dark right outside it: wherever alpha is 1 the result is bright.
    augmentation = augmentations.make("cutpaste", area=0.05, aspect=1, jitter=0, angle=30)
    parameters = augmentation.sample(1, (64, 64), generator(0))
    parameters["width"][:], parameters["height"][:] = 14, 10
    parameters["source_x"][:], parameters["source_y"][:] = 20, 30
    images = torch.zeros(1, 1, 64, 64)
    images[..., 25:35, 13:27] = 1
    pasted = augmentation.apply(images, parameters)
    alpha = 1 - augmentations.make("cutout").apply(torch.ones(1, 1, 64, 64), parameters)
    torch.testing.assert_close(pasted[alpha == 1], torch.ones_like(pasted[alpha == 1]), rtol=0, atol=1e-5)


def test_rotates_the_source_counter_clockwise():
    augmentation = augmentations.make("cutpaste", area=100 / 64**2, aspect=1, angle=90, jitter=0)
    parameters = augmentation.sample(1, (64, 64), generator(0))
    parameters["width"][:], parameters["height"][:] = 10, 10
    for key, centre in (("x", 40), ("y", 25), ("source_x", 15), ("source_y", 45)):
        parameters[key][:] = centre
    images = torch.rand(1, 3, 64, 64)
    after = augmentation.apply(images, parameters)
    expected = torch.rot90(images[..., 40:50, 10:20], 1, (2, 3))
    torch.testing.assert_close(after[..., 20:30, 35:45], expected, rtol=0, atol=1e-6)


def test_scars_are_long_and_thin_and_scale_with_the_image():
    for side in (64, 256):
        parameters = augmentations.make("cutpaste_scar").sample(500, (side, side), generator(0))
        aspect = parameters["width"] / parameters["height"]
        assert aspect.min() >= 2 - 1e-4
        assert aspect.max() <= 12 + 1e-4
        assert parameters["angle"].std() > 20
        assert parameters["width"].max() < side / 2


def test_union_mixes_patches_and_scars_evenly():
    union = augmentations.make("cutpaste_union")
    parameters = union.sample(2000, (64, 64), generator(0))
    scar = parameters["is_scar"]
    assert 0.46 < scar.float().mean() < 0.54
    aspect, area = (
        parameters["width"] / parameters["height"],
        parameters["width"] * parameters["height"] / 64**2,
    )
    assert aspect[scar].min() >= 2 - 1e-4
    assert area[scar].max() < 0.0141
    assert area[~scar].max() > 0.1
    assert (parameters["angle"][~scar] == 0).all()
    assert parameters["angle"][scar].std() > 20


def test_union_applies_what_its_halves_would():
    union = augmentations.make("cutpaste_union", angle=(-20, 20))
    images = torch.rand(16, 3, 64, 64)
    parameters = union.sample(16, (64, 64), generator(0))
    after = union.apply(images, parameters)
    for half in (union.patch, union.scar):
        assert torch.equal(half.apply(images, parameters), after)


def test_three_way_has_both_as_classes_with_its_hyperparameters():
    three = augmentations.make("cutpaste_3way", area=0.1, jitter=0.2, scar_aspect=(3, 4))
    patch, scar = three.parts
    assert (patch.name, scar.name) == ("cutpaste", "cutpaste_scar")
    assert patch.hyperparameters()["area"] == (0.1, 0.1)
    assert scar.hyperparameters()["aspect"] == (3, 4)
    assert patch.jitter == scar.jitter == (0.2, 0.2)
    assert augmentations.make("cutpaste_union").parts[0].name == "cutpaste_union"


def test_3way_alone_has_parts():
    counts = {name: len(augmentations.make(name).parts) for name in augmentations.names()}
    assert counts == dict.fromkeys(augmentations.names(), 1) | {"cutpaste_3way": 2}
