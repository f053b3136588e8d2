"""The baselines: no training where none is named, and one augmentation per image in the random one."""

import pytest
import torch

import augmentations
from benchmarks.suites.baselines import BASELINES, RandomAugmentation
from detectors import Classifier, get_preset


def settings():
    return Classifier.settings_for(get_preset("tiny"))


def members():
    return [augmentations.make("cutout", area=area, aspect=1) for area in (0.04, 0.25)]


def test_a_random_augmentation_applies_one_member_to_each_image():
    images = torch.ones(400, 1, 16, 16)
    changed = (
        (RandomAugmentation(members())(images, torch.Generator().manual_seed(0)) != images).float().mean((1, 2, 3))
    )
    small, large = changed < 0.1, changed > 0.2
    assert (small | large).all()
    assert 0.4 < small.float().mean() < 0.6


def test_a_random_augmentation_checks_every_member():
    class Refusing:
        def check(self, size):
            raise ValueError("too small")

    with pytest.raises(ValueError, match="too small"):
        RandomAugmentation([*members(), Refusing()]).check((16, 16))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_score_every_test_image_and_repeat(name, stripes, scratched):
    def scores():
        return BASELINES[name](stripes(40), scratched(5), members(), settings(), 0, "cpu")

    first = scores()
    assert first.shape == (5,)
    assert first.isfinite().all()
    assert torch.equal(first, scores())


def test_pixels_see_what_differs_from_all_train_images():
    source = torch.Generator().manual_seed(0)
    noise = 0.5 + 0.05 * torch.randn(340, 1, 16, 16, generator=source)
    odd = noise[320:].clone()
    odd[:, :, 3, 3] = 1.0
    scores = BASELINES["pixels"](noise[:300], torch.cat([noise[300:320], odd]), members(), settings(), 0, "cpu")
    assert scores[:20].max() < scores[20:].min()
