"""What every registered augmentation must do, whatever it looks like."""

import json

import optuna
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import augmentations
from augmentations import InputError
from augmentations.randomness import generator

NAMES = augmentations.names()
SIZES = [(1, 1, 64, 64), (3, 3, 64, 64), (5, 3, 40, 56), (2, 1, 75, 45)]


def images(n=4, channels=3, height=64, width=64, seed=0):
    return torch.rand(n, channels, height, width, generator=generator(seed, "images"))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def augmentation(name):
    return augmentations.make(name)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_keeps_shape_dtype_device_and_range(augmentation, shape):
    before = images(*shape)
    copy = before.clone()
    after = augmentation(before, generator(0))
    assert (after.shape, after.dtype, after.device) == (before.shape, before.dtype, before.device)
    assert after.min() >= 0
    assert after.max() <= 1
    assert torch.equal(before, copy), "the input was modified"
    assert (after != before).flatten(1).any(1).all(), "an image came out unchanged"


def test_parameters_are_cpu_tensors_of_n(augmentation):
    parameters = augmentation.sample(7, (64, 48), generator(0))
    assert all(len(value) == 7 and value.device.type == "cpu" for value in parameters.values())
    assert all(value.dtype in (torch.float32, torch.bool) for value in parameters.values())


def test_same_generator_same_images(augmentation):
    before = images()
    assert torch.equal(augmentation(before, generator(3)), augmentation(before, generator(3)))
    assert not torch.equal(augmentation(before, generator(3)), augmentation(before, generator(4)))


def test_call_is_sample_then_apply(augmentation):
    before = images()
    parameters = augmentation.sample(4, (64, 64), generator(5))
    assert torch.equal(augmentation(before, generator(5)), augmentation.apply(before, parameters))


def test_apply_treats_each_image_on_its_own(augmentation):
    before = images(n=3, height=40, width=56)
    parameters = augmentation.sample(3, (40, 56), generator(1))
    together = augmentation.apply(before, parameters)
    for i in range(3):
        alone = augmentation.apply(before[i : i + 1], {k: v[i : i + 1] for k, v in parameters.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


def test_every_image_draws_its_own(augmentation):
    parameters = augmentation.sample(400, (64, 64), generator(2))
    if augmentation.name == "rotation":
        assert parameters["angle"].unique().tolist() == [90, 180, 270]
        return
    for key in ("x", "y", "width", "height"):
        assert len(parameters[key].unique()) > 20, key
    # Neighbours in a batch know nothing of each other.
    for key in ("x", "y"):
        pair = torch.stack((parameters[key][:-1], parameters[key][1:]))
        assert torch.corrcoef(pair)[0, 1].abs() < 0.2


def test_empty_batch(augmentation):
    assert augmentation(images(n=0), generator(0)).shape == (0, 3, 64, 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_precisions(augmentation, dtype):
    before = images().to(dtype)
    parameters = augmentation.sample(4, (64, 64), generator(0))
    after = augmentation.apply(before, parameters)
    assert after.dtype == dtype
    expected = augmentation.apply(before.float(), parameters)
    torch.testing.assert_close(after.float(), expected, rtol=0, atol=5e-3 if dtype == torch.bfloat16 else 5e-5)


def test_autocast_does_not_reach_pixel_coordinates(augmentation):
    before = images()
    parameters = augmentation.sample(4, (64, 64), generator(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augmentation.apply(before, parameters)
    assert torch.equal(inside, augmentation.apply(before, parameters))


@pytest.mark.parametrize("sampled_inside", [True, False])
def test_runs_on_a_device_without_reading_back_from_it(augmentation, sampled_inside):
    # A fake tensor has no values: .item(), boolean indexing or a branch on data would raise.
    parameters = augmentation.sample(2, (40, 56), generator(0))
    with FakeTensorMode() as mode:
        on_device = torch.empty(2, 3, 40, 56, device="cuda")
        if sampled_inside:
            parameters = augmentation.sample(2, (40, 56), generator(0))
        else:
            parameters = {key: mode.from_tensor(value) for key, value in parameters.items()}
        after = augmentation.apply(on_device, parameters)
    assert after.device.type == "cuda"
    assert after.shape == (2, 3, 40, 56)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_agrees_with_the_cpu(augmentation):
    before = images()
    parameters = augmentation.sample(4, (64, 64), generator(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        after = augmentation.apply(before.to("cuda", non_blocking=True), parameters)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(after.cpu(), augmentation.apply(before, parameters), rtol=0, atol=1e-4)


def test_hyperparameters_round_trip_through_json(name):
    for cell in [{}, *augmentations.grid(name)]:
        augmentation = augmentations.make(name, **cell)
        read = json.loads(json.dumps(augmentation.hyperparameters()))
        again = augmentations.make(name, **read)
        assert again == augmentation
        assert hash(again) == hash(augmentation)
        assert again.hyperparameters() == augmentation.hyperparameters()


def test_grid(name):
    cells = augmentations.grid(name)
    made = [augmentations.make(name, **cell) for cell in cells]
    assert 4 <= len(cells) <= 16
    assert len(set(made)) == len(made)
    for augmentation in made:
        augmentation.check((64, 64))
        assert augmentation(images(n=2), generator(0)).isfinite().all()


def test_suggestions_are_feasible(name):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        trial = study.ask()
        augmentation = augmentations.make(name, **augmentations.suggest(name, trial))
        augmentation.check((64, 64))
        augmentation.check((32, 32))
        seen.add(augmentation)
    assert len(seen) == 30


class Extreme:
    """A trial that always answers with one end of what it may."""

    def __init__(self, high):
        self.high = high

    def suggest_float(self, name, low, high, *, log=False):
        return high if self.high else low


@pytest.mark.parametrize("high", [False, True])
def test_extreme_suggestions_are_feasible(name, high):
    augmentations.make(name, **augmentations.suggest(name, Extreme(high))).check((64, 64))


def test_one_trial_may_suggest_every_augmentation():
    trial = optuna.create_study().ask()
    for name in NAMES:
        augmentations.suggest(name, trial)


def test_parts(augmentation):
    parts = augmentation.parts
    assert len(parts) == (2 if augmentation.name == "cutpaste_3way" else 1)
    for part in parts:
        assert augmentations.make(part.name, **part.hyperparameters()) == part


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.zeros(3, 64, 64), "(N, C, H, W)"),
        (torch.zeros(4, 2, 64, 64), "1 or 3 channels"),
        (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), "floating"),
        (None, "floating"),
    ],
)
def test_refuses_what_is_not_images(augmentation, bad, said):
    parameters = augmentation.sample(4, (64, 64), generator(0))
    with pytest.raises(InputError) as refusal:
        augmentation.apply(bad, parameters)
    assert said in refusal.value.rule
    with pytest.raises(InputError):
        augmentation(bad, generator(0))


def test_refuses_parameters_of_other_images(augmentation):
    with pytest.raises(InputError, match="must be drawn for 4 images"):
        augmentation.apply(images(), augmentation.sample(3, (64, 64), generator(0)))


@pytest.mark.parametrize("size", [(0, 64), (64,), (64, -1)])
def test_refuses_sizes_that_are_none(augmentation, size):
    with pytest.raises(InputError, match="height, width"):
        augmentation.sample(1, size, generator(0))
