"""What every augmentation must do, whatever it looks like."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import optuna
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import augmentations
from augmentations import Augmentation, InputError
from augmentations.hyperparameters import from_json
from augmentations.randomness import generator
from selector.search.optuna_logging import quiet_optuna

SHAPES = [(1, 1, 64, 64), (3, 3, 64, 64), (5, 3, 40, 56), (2, 1, 75, 45)]
VISIBLE = 0.05  # of a pixel in [0, 1]: a change by less is not counted as one
MOST_OF_AN_IMAGE = 0.9  # the share that a local augmentation must not exceed


def images(n: int = 4, channels: int = 3, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Noise (n,channels,height,width) in [0, 1)."""
    return torch.rand(n, channels, height, width, generator=generator(seed, "images"))


class ExtremeTrial:
    """A trial that suggests the lowest, or the highest, of what it may."""

    def __init__(self, is_high: bool) -> None:
        self.is_high = is_high

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return high if self.is_high else low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return high if self.is_high else low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[-1 if self.is_high else 0]


class AugmentationContract:
    """Tests that every augmentation must pass.

    Example, in a file that pytest collects:

        class TestMine(AugmentationContract):
            under_test = "my_module:Mine"

    under_test: a registered name, a reference or the class. Override ``augmentation_class`` to test several.
    distinct_suggestions: how many of 30 random suggestions must differ; few where all hyperparameters are choices.
    """

    under_test: ClassVar[str | type[Augmentation]]
    distinct_suggestions: ClassVar[int] = 2

    @pytest.fixture
    def augmentation_class(self) -> type[Augmentation]:
        return augmentations.get(self.under_test)

    @pytest.fixture
    def augmentation(self, augmentation_class: type[Augmentation]) -> Augmentation:
        """With its defaults."""
        return augmentations.make(augmentation_class)

    def test_it_declares_what_it_is(self, augmentation_class: type[Augmentation]) -> None:
        assert augmentation_class.name
        assert augmentation_class.family
        assert isinstance(augmentation_class.is_local, bool)
        assert augmentation_class.__doc__

    def test_it_is_found_by_its_reference(self, augmentation_class: type[Augmentation]) -> None:
        assert augmentations.get(augmentations.reference(augmentation_class)) is augmentation_class

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_keeps_shape_dtype_device_and_range(self, augmentation: Augmentation, shape: tuple[int, ...]) -> None:
        before = images(*shape)
        copy = before.clone()
        after = augmentation(before, generator(0))
        assert (after.shape, after.dtype, after.device) == (before.shape, before.dtype, before.device)
        if augmentation.space == "images":
            assert after.min() >= 0
            assert after.max() <= 1
        assert torch.equal(before, copy), "the input was modified"
        assert (after != before).flatten(1).any(1).all(), "an image came out unchanged"

    @pytest.mark.parametrize("channels", [1, 3])
    def test_black_and_white_stay_in_range(self, augmentation: Augmentation, channels: int) -> None:
        """Many images have a ground of exactly 0 or 1, which rounding can leave."""
        bright = (images(64, 1, 4, 4, seed=1) < 0.3).repeat_interleave(16, 2).repeat_interleave(16, 3)
        on_black = images(64, channels) * bright
        for before in (on_black, 1 - on_black):
            after = augmentation(before, generator(0))
            if augmentation.space == "images":
                assert after.min() >= 0
                assert after.max() <= 1

    def test_what_is_local_leaves_a_part_of_every_image_as_it_was(self, augmentation: Augmentation) -> None:
        before = images(n=32)
        changed = (augmentation(before, generator(0)) - before).abs().amax(1) > VISIBLE
        if augmentation.is_local:
            assert changed.float().mean((1, 2)).max() <= MOST_OF_AN_IMAGE, "is_local, and changed an image as a whole"

    def test_parameters_are_cpu_tensors_of_n(self, augmentation: Augmentation) -> None:
        parameters = augmentation.sample(7, (64, 48), generator(0))
        assert all(len(value) == 7 and value.device.type == "cpu" for value in parameters.values())
        assert all(value.dtype == torch.float32 for value in parameters.values() if value.is_floating_point())

    def test_same_generator_same_images(self, augmentation: Augmentation) -> None:
        before = images()
        assert torch.equal(augmentation(before, generator(3)), augmentation(before, generator(3)))
        assert not torch.equal(augmentation(before, generator(3)), augmentation(before, generator(4)))

    def test_call_is_sample_then_apply(self, augmentation: Augmentation) -> None:
        before = images()
        parameters = augmentation.sample(4, (64, 64), generator(5))
        assert torch.equal(augmentation(before, generator(5)), augmentation.apply(before, parameters))

    def test_apply_treats_each_image_on_its_own(self, augmentation: Augmentation) -> None:
        if augmentation.uses_batch:
            pytest.skip("it takes from other images of the batch")
        before = images(n=3, height=40, width=56)
        parameters = augmentation.sample(3, (40, 56), generator(1))
        together = augmentation.apply(before, parameters)
        for i in range(3):
            alone = augmentation.apply(before[i : i + 1], {k: v[i : i + 1] for k, v in parameters.items()})
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)

    def test_what_uses_the_batch_takes_from_one_other_image(self, augmentation: Augmentation) -> None:
        if not augmentation.uses_batch:
            pytest.skip("it treats each image on its own")
        before = images(n=5)
        parameters = augmentation.sample(5, (64, 64), generator(1))
        after = augmentation.apply(before, parameters)
        for i in range(5):
            # Where all others turn black, an image changes by what one of them had given to it, if not by itself.
            reached = []
            for j in range(5):
                other = before.clone()
                other[j] = 0
                reached.append(not torch.equal(augmentation.apply(other, parameters)[i], after[i]))
            assert reached[i], "an image is of no account for its own anomaly"
            assert sum(reached) == 2, "an image takes from more or fewer than one other"

    def test_every_image_draws_its_own(self, augmentation: Augmentation) -> None:
        parameters = augmentation.sample(400, (64, 64), generator(2))
        varying = {key: value for key, value in parameters.items() if (value != value[:1]).any()}
        assert varying, "all images have the same parameters"
        if augmentation.is_local:
            same = images(n=1).expand(32, -1, -1, -1)
            places = ((augmentation(same, generator(2)) - same).abs() > VISIBLE).flatten(1)
            assert len(places.unique(dim=0)) > 20, "images have their anomalies in the same places"
        for key, value in varying.items():
            columns = value.flatten(1).double() if value.dim() > 1 else value[:, None].double()
            for column in columns[:, (columns != columns[:1]).any(0)].T:
                neighbours = torch.corrcoef(torch.stack((column[:-1], column[1:])))[0, 1]
                assert neighbours.abs() < 0.2, f"{key}: an image's draw depends on its neighbour's"

    def test_features_have_any_shape_and_range(self, augmentation: Augmentation) -> None:
        if augmentation.space != "features":
            pytest.skip("it changes images")
        before = 10 * images(3, 40, 7, 5) - 5
        after = augmentation(before, generator(0))
        assert after.shape == before.shape
        assert (after != before).flatten(1).any(1).all()
        assert augmentation(before[..., :1, :1], generator(0)).isfinite().all()

    def test_empty_batch(self, augmentation: Augmentation) -> None:
        assert augmentation(images(n=0), generator(0)).shape == (0, 3, 64, 64)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
    def test_other_precisions(self, augmentation: Augmentation, dtype: torch.dtype) -> None:
        before = images().to(dtype)
        parameters = augmentation.sample(4, (64, 64), generator(0))
        after = augmentation.apply(before, parameters)
        assert after.dtype == dtype
        expected = augmentation.apply(before.float(), parameters)
        tolerance = 5e-3 if dtype == torch.bfloat16 else 5e-5
        relative = tolerance if augmentation.space == "features" else 0  # which are of any range
        torch.testing.assert_close(after.float(), expected, rtol=relative, atol=tolerance)

    def test_autocast_does_not_reach_pixel_coordinates(self, augmentation: Augmentation) -> None:
        before = images()
        parameters = augmentation.sample(4, (64, 64), generator(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = augmentation.apply(before, parameters)
        assert torch.equal(inside, augmentation.apply(before, parameters))

    @pytest.mark.parametrize("sampled_inside", [True, False])
    def test_runs_on_a_device_without_reading_back_from_it(
        self, augmentation: Augmentation, sampled_inside: bool
    ) -> None:
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
    def test_device_agrees_with_the_cpu(self, augmentation: Augmentation) -> None:
        before = images()
        parameters = augmentation.sample(4, (64, 64), generator(0))
        torch.cuda.set_sync_debug_mode("error")
        try:
            after = augmentation.apply(before.to("cuda", non_blocking=True), parameters)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(after.cpu(), augmentation.apply(before, parameters), rtol=0, atol=1e-4)

    def test_hyperparameters_round_trip_through_json(self, augmentation_class: type[Augmentation]) -> None:
        for cell in [{}, *augmentations.grid(augmentation_class)]:
            augmentation = augmentations.make(augmentation_class, **cell)
            read = json.loads(json.dumps(augmentation.hyperparameters()))
            again = augmentations.make(augmentations.reference(augmentation_class), **read)
            assert again == augmentation
            assert hash(again) == hash(augmentation)
            assert again.hyperparameters() == augmentation.hyperparameters() == from_json(read)

    def test_grid(self, augmentation_class: type[Augmentation]) -> None:
        cells = augmentations.grid(augmentation_class)
        members = [augmentations.make(augmentation_class, **cell) for cell in cells]
        assert 4 <= len(cells) <= 16
        assert len(set(members)) == len(members)
        for cell, augmentation in zip(cells, members, strict=True):
            assert cell == augmentation.hyperparameters(), "a cell does not write its defaults out"
            augmentation.check((64, 64))
            assert augmentation(images(n=2), generator(0)).isfinite().all()

    def test_suggestions_are_feasible(self, augmentation_class: type[Augmentation]) -> None:
        with quiet_optuna():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        distinct = set()
        for _ in range(30):
            suggestion = augmentations.suggest(augmentation_class, study.ask())
            augmentation = augmentations.make(augmentation_class, **suggestion)
            augmentation.check((64, 64))
            augmentation.check((32, 32))
            distinct.add(augmentation)
        assert len(distinct) >= self.distinct_suggestions

    @pytest.mark.parametrize("is_high", [False, True])
    def test_extreme_suggestions_are_feasible(self, augmentation_class: type[Augmentation], is_high: bool) -> None:
        suggestion = augmentations.suggest(augmentation_class, ExtremeTrial(is_high))
        augmentations.make(augmentation_class, **suggestion).check((64, 64))

    def test_one_trial_may_suggest_it_beside_every_registered_one(self, augmentation_class: type[Augmentation]) -> None:
        with quiet_optuna():
            trial = optuna.create_study().ask()
        for each in dict.fromkeys((*augmentations.AUGMENTATIONS.values(), augmentation_class)):
            augmentations.suggest(each, trial)

    def test_parts(self, augmentation: Augmentation) -> None:
        parts = augmentation.parts
        assert parts == (augmentation,) or len(set(parts)) == len(parts) > 1
        for part in parts:
            assert augmentations.make(type(part), **part.hyperparameters()) == part

    @pytest.mark.parametrize(
        ("bad", "rule"),
        [
            (torch.zeros(3, 64, 64), "(N, C, H, W)"),
            (torch.zeros(4, 2, 64, 64), "1 or 3 channels"),
            (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), "floating"),
            (None, "floating"),
        ],
    )
    def test_refuses_what_is_not_images(self, augmentation: Augmentation, bad: Any, rule: str) -> None:
        if augmentation.space == "features" and "channels" in rule:
            pytest.skip("features have any number of channels")
        parameters = augmentation.sample(4, (64, 64), generator(0))
        with pytest.raises(InputError) as refusal:
            augmentation.apply(bad, parameters)
        assert rule in refusal.value.rule
        with pytest.raises(InputError):
            augmentation(bad, generator(0))

    def test_refuses_parameters_of_other_images(self, augmentation: Augmentation) -> None:
        with pytest.raises(InputError, match="must be drawn for 4 images"):
            augmentation.apply(images(), augmentation.sample(3, (64, 64), generator(0)))

    @pytest.mark.parametrize("size", [(0, 64), (64,), (64, -1)])
    def test_refuses_sizes_that_are_none(self, augmentation: Augmentation, size: Any) -> None:
        with pytest.raises(InputError, match="height, width"):
            augmentation.sample(1, size, generator(0))
