import pytest
import torch
from torch import nn

from detectors.encoders import ENCODERS, WIDTHS, Residual, pool, resnet18, small


def parameters(network):
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("small", 64, 8), ("small", 32, 4), ("resnet18", 64, 8), ("resnet18", 96, 3), ("resnet18", 256, 8)],
)
def test_spatial_features(name, size, side, channels):
    encoder = ENCODERS[name](channels, size).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, channels, size, size))
    assert features.shape == (1, WIDTHS[name], side, side)


def test_every_encoder_has_a_width():
    assert set(ENCODERS) == set(WIDTHS)


@pytest.mark.parametrize(("channels", "size"), [(1, 64), (3, 64), (1, 32)])
def test_resnet18_has_a_3x3_stem_without_pooling_up_to_64_px(channels, size):
    layers = list(resnet18(channels, size))
    stem = layers[0]
    assert (stem.in_channels, stem.kernel_size, stem.stride) == (channels, (3, 3), (1, 1))
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in layers)


@pytest.mark.parametrize(("channels", "size"), [(1, 65), (3, 65), (3, 256)])
def test_resnet18_has_the_standard_stem_above(channels, size):
    layers = list(resnet18(channels, size))
    stem = layers[0]
    assert (stem.in_channels, stem.kernel_size, stem.stride) == (channels, (7, 7), (2, 2))
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 1


# torchvision documents 11,689,512 for ResNet-18, 513,000 of them in the layer that is left out here.
@pytest.mark.parametrize(
    ("channels", "size", "count"),
    [
        (3, 256, 11_176_512),
        (1, 256, 11_176_512 - 2 * 64 * 49),
        (3, 64, 11_176_512 - 3 * 64 * (49 - 9)),
        (1, 64, 11_176_512 - 3 * 64 * 49 + 64 * 9),
    ],
)
def test_resnet18_parameters(channels, size, count):
    assert parameters(resnet18(channels, size)) == count


@pytest.mark.parametrize("channels", [1, 3])
def test_small_parameters(channels):
    convolutions = {
        "stem": channels * 16 * 9,
        "first": 2 * 16 * 16 * 9,
        "second": (16 * 32 + 32 * 32) * 9 + 16 * 32,
        "third": (32 * 64 + 64 * 64) * 9 + 32 * 64,
    }
    normalised = 16 + 2 * 16 + 3 * 32 + 3 * 64  # a scale and a shift each
    assert parameters(small(channels, 64)) == sum(convolutions.values()) + 2 * normalised


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2), (4, 4, 2)])
def test_residual_is_a_sum_through_a_relu(inputs, outputs, stride):
    block = Residual(inputs, outputs, stride)
    features = torch.randn(3, inputs, 8, 8, requires_grad=True)
    copy = features.detach().clone()
    results = []
    for compute in (block, lambda x: torch.relu(block.body(x) + block.shortcut(x))):
        block.zero_grad()
        features.grad = None
        out = compute(features)
        (out**2).sum().backward()
        grads = [features.grad.clone(), *(value.grad.clone() for value in block.parameters())]
        results.append([out.detach(), *grads])
    for in_place, naive in zip(*results, strict=True):
        torch.testing.assert_close(in_place, naive)
    assert torch.equal(features.detach(), copy), "the input was modified"
    assert isinstance(block.shortcut, nn.Identity) == (inputs == outputs and stride == 1)


def test_pool_is_the_normalised_mean_over_locations():
    features = torch.randn(2, 3, 4, 5)
    for row, image in zip(pool(features), features, strict=True):
        mean = torch.stack([image[:, i, j] for i in range(4) for j in range(5)]).mean(0)
        torch.testing.assert_close(row, mean / mean.square().sum().sqrt())
