"""Testbeds: known anomalies, on images that nothing else shows."""

import pytest
import torch

import augmentations
from augmentations import InputError, make
from benchmarks.datasets.controlled import controlled, one_vs_one
from benchmarks.tasks.task import Task

IMAGES = augmentations.names("images")
LOCAL = [name for name in IMAGES if augmentations.get(name).is_local]


@pytest.fixture(scope="module")
def task():
    """Normal images of independent noise, no two alike, and anomalies that a testbed must not use."""
    source = torch.Generator().manual_seed(3)
    normal, anomalous = torch.rand(25, 3, 32, 32, generator=source), torch.ones(10, 3, 32, 32)
    test = torch.cat([anomalous, normal])
    labels = torch.tensor([1] * 10 + [0] * 25, dtype=torch.uint8)
    return Task("noise", torch.rand(12, 3, 32, 32, generator=source), test, labels)


def base(task, image):
    """Which test image shares the most pixels with this one."""
    return int((image == task.test).float().flatten(1).mean(1).argmax())


def of_kind(task, kind):
    return torch.tensor([k == kind for k in task.kinds])


@pytest.mark.parametrize("name", augmentations.names("images"))
def test_every_augmentation_can_be_a_generator(task, name):
    made = controlled(task, [name], seed=0)
    assert made.name == "noise-controlled"
    assert made.kinds.count("") == 12
    assert made.kinds.count(name) == 13
    assert made.labels.tolist() == [int(kind != "") for kind in made.kinds]
    assert made.test.dtype == torch.float32
    assert made.test.min() >= 0
    assert made.test.max() <= 1
    assert torch.equal(made.train, task.train)


def test_each_base_is_transformed_once_by_each_generator_and_never_tested_as_it_is(task):
    made = controlled(task, LOCAL, seed=0)
    normal = {base(task, image) for image in made.test[of_kind(made, "")]}
    bases = [sorted(base(task, image) for image in made.test[of_kind(made, kind)]) for kind in LOCAL]
    assert all(found == bases[0] for found in bases)
    assert len(set(bases[0])) == 13
    assert not normal & set(bases[0])
    assert normal | set(bases[0]) == set(range(10, 35))  # every normal test image, and no anomaly of the task


def test_normal_images_are_tested_unchanged(task):
    made = controlled(task, ["cutout"], seed=0)
    for image in made.test[of_kind(made, "")]:
        assert torch.equal(image, task.test[base(task, image)])


def test_masks_are_where_an_image_differs_visibly_from_its_base(task):
    made = controlled(task, LOCAL, seed=0)
    for image, mask, kind in zip(made.test, made.masks, made.kinds, strict=True):
        change = (image - task.test[base(task, image)]).abs().max(0).values
        assert ((change > 5.1 / 255) == (mask == 1)).all()
        assert bool(mask.any()) == (kind != "")


def test_a_cutout_is_black_where_its_mask_is_one(task):
    made = controlled(task, {"hole": make("cutout", area=0.1)}, seed=0)
    holes = of_kind(made, "hole")
    assert (made.test[holes].amax(1)[made.masks[holes] == 1] == 0).all()
    assert made.masks[holes].float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_no_masks_where_a_generator_moves_the_whole_image(task):
    assert controlled(task, ["cutout", "rotation"], seed=0).masks is None


def test_generators_take_hyperparameters_and_names_of_their_own(task):
    made = controlled(task, {"small": make("cutout", area=0.01), "large": make("cutout", area=0.2)}, seed=0)
    small, large = (made.masks[of_kind(made, kind)].float().mean() for kind in ("small", "large"))
    assert large > 10 * small


def test_a_seed_decides_everything_and_another_divides_otherwise(task):
    first, again, other = (controlled(task, ["cutpaste", "cutout"], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.test, again.test)
    assert first.kinds == again.kinds
    halves = [{base(task, image) for image in made.test[of_kind(made, "")]} for made in (first, other)]
    assert halves[0] != halves[1]


def test_a_generator_makes_the_same_copies_whatever_stands_beside_it(task):
    alone, beside = controlled(task, ["cutout"], seed=0), controlled(task, ["rotation", "cutout"], seed=0)
    found = [{image.numpy().tobytes() for image in made.test[of_kind(made, "cutout")]} for made in (alone, beside)]
    assert found[0] == found[1]


def test_two_kinds_of_one_augmentation_are_drawn_independently(task):
    made = controlled(task, {"one": make("cutout"), "another": make("cutout")}, seed=0)
    one, another = ({image.numpy().tobytes() for image in made.test[of_kind(made, k)]} for k in ("one", "another"))
    assert not one & another


def test_the_order_of_test_images_reveals_nothing(task):
    kinds = controlled(task, LOCAL, seed=0).kinds
    where = [i for i, kind in enumerate(kinds) if kind == ""]
    assert 0.25 < sum(where) / len(where) / len(kinds) < 0.75


@pytest.fixture(scope="module")
def half_black():
    """Images that are black but for their lowest eighth, so that most small holes change nothing, and black ones."""
    images = torch.zeros(24, 1, 32, 32)
    images[:20, :, 28:] = 0.8
    return Task("dark", images, images, torch.zeros(24, dtype=torch.uint8))


def test_an_anomaly_that_does_not_show_is_drawn_again(half_black):
    made = controlled(half_black, {"hole": make("cutout", area=0.02)}, seed=0)
    normal = made.test[of_kind(made, "")].flatten(1).any(1).sum()
    assert made.masks[of_kind(made, "hole")].flatten(1).any(1).all()
    assert made.kinds.count("hole") == 20 - normal  # all the bases that are not black


def test_a_generator_that_shows_on_no_image_is_refused(half_black):
    black = Task("black", half_black.train, half_black.test[20:], half_black.labels[20:])
    with pytest.raises(InputError, match="generator 'cutout': changes no image of black"):
        controlled(black, ["cutout"], seed=0)


def test_what_can_not_be_is_refused(task):
    with pytest.raises(InputError, match="cutout"):
        controlled(task, ["cutuot"], seed=0)
    with pytest.raises(InputError, match="generators"):
        controlled(task, [], seed=0)
    with pytest.raises(InputError, match="generators"):
        controlled(task, {"": make("cutout")}, seed=0)
    with pytest.raises(InputError, match="0 normal test images"):
        controlled(Task("none", task.train, task.test[:10], task.labels[:10]), ["cutout"], seed=0)


def test_one_class_against_each_other_class():
    pixels = torch.arange(6.0).div(6).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    kinds = ("", "shoe", "", "coat", "shoe", "")
    task = Task("bags", pixels[:2], pixels, torch.tensor([0, 1, 0, 1, 1, 0]), kinds=kinds)
    coats, shoes = one_vs_one(task)
    assert (coats.name, shoes.name) == ("bags-coat", "bags-shoe")
    assert torch.equal(coats.test, pixels[[0, 2, 3, 5]])
    assert shoes.labels.tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(shoes.train, task.train)
