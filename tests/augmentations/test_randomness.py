import torch

from augmentations.randomness import generator


def test_depends_on_seed_and_purpose_only():
    assert torch.equal(torch.rand(5, generator=generator(1, "a", 2)), torch.rand(5, generator=generator(1, "a", 2)))
    draws = [torch.rand(5, generator=g) for g in (generator(1), generator(2), generator(1, "a"), generator(1, "b"))]
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
