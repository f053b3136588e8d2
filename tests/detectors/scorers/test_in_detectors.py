"""Every registered scorer works in a detector: for whole images and for locations, stored and loaded."""

import pytest
import torch

import detectors
from augmentations.randomness import generator
from detectors import load
from detectors.pixels import Pixels, PixelsSettings


@pytest.mark.parametrize("name", detectors.scorer_names())
def test_a_detector_scores_and_localizes_with_it(name, tmp_path):
    train = 0.5 + 0.1 * torch.rand(40, 3, 16, 16, generator=generator(0, "train"))
    test = 0.5 + 0.1 * torch.rand(4, 3, 16, 16, generator=generator(0, "test"))
    test[2:, 0, 4:8, 4:8] = 0
    detector = Pixels(PixelsSettings(image_size=16, side=8), scorer=name, device="cpu").fit(train)
    scores, maps = detector.score_and_map(test)
    assert scores[2:].min() > scores[:2].max()
    assert maps.shape == (4, 16, 16)
    assert maps[2:, 4:8, 4:8].mean() > maps[2:, 10:, 10:].mean()
    again = load(detector.save(tmp_path / "detector.safetensors"), device="cpu")
    assert torch.equal(again.score(test), scores)
