"""Whether anomalies are visible to a forest that is trained with labels."""

import torch

from benchmarks.studies.supervised_probe import supervised_auroc


def textures(n, seed):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0] * 30 + [1] * 30)


def test_a_spot_is_seen_where_the_texture_does_not_hide_it():
    images = 0.4 + 0.1 * textures(60, 0)
    images[30:, :, 4:8, 4:8] -= 0.2
    assert supervised_auroc(images, LABELS) > 0.95


def test_nothing_is_seen_where_there_is_nothing():
    assert abs(supervised_auroc(textures(60, 1), LABELS) - 0.5) < 0.2
