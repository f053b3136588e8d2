import pytest
import torch
from torch import nn

from detectors.encoders.pretrained import PretrainedEncoder, resized


def plain(channels, size=None, **options):
    return PretrainedEncoder(nn.Identity(), channels=channels, input_size=size, mean=(0.5,), std=(0.25,), **options)


@pytest.mark.parametrize(("size", "side"), [((8, 8), 20), ((40, 24), 10), ((24, 40), 24), ((50, 30), 31), ((1, 1), 4)])
def test_resizing_is_torch_s_antialiased_interpolation(size, side):
    images = torch.rand(2, 3, *size)
    small = resized(images, side)
    assert min(small.shape[2:]) == side
    expected = nn.functional.interpolate(images, small.shape[2:], mode="bilinear", antialias=True)
    torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-5)


def test_images_are_brought_to_the_channels_and_values_that_the_weights_expect():
    gray, color = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(plain(3).prepared(gray), ((gray - 0.5) / 0.25).expand(-1, 3, -1, -1))
    torch.testing.assert_close(plain(1).prepared(color), (color.mean(1, keepdim=True) - 0.5) / 0.25)
    assert plain(0).prepared(color).shape == color.shape
    assert plain(3, 8).prepared(gray).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("keeps", [True, False])
def test_statistics_of_pretrained_weights_survive_a_training(keeps):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    encoder = PretrainedEncoder(network, channels=3, input_size=None, mean=(0,), std=(1,), keeps_norms=keeps).train()
    before = network[1].running_mean.clone()
    encoder.network(torch.rand(4, 3, 8, 8))
    assert torch.equal(before, network[1].running_mean) == keeps
    assert network[1].weight.requires_grad != keeps
    assert network[0].weight.requires_grad
    assert network[0].training
