import pytest
import torch
from torch import nn

from detectors.encoders import ENCODERS, Residual, pad_to, pool, resnet18, small, unpadded


def parameters(network):
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("small", 64, 8),
        ("small", 32, 4),
        ("resnet18", 64, 8),
        ("resnet18", 96, 3),
        ("resnet18", 256, 8),
        ("unpadded", 64, 9),
    ],
)
def test_spatial_features(name, size, side, channels):
    encoder = ENCODERS[name].build(channels, size).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, channels, size, size))
    assert features.shape == (1, ENCODERS[name].width, side, side)


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


@pytest.mark.parametrize(("built_for", "sees"), [(16, 15), (30, 15), (31, 31), (128, 31)])
def test_valid_sees_no_more_than_it_says_and_needs_no_border(built_for, sees):
    encoder = unpadded(1, built_for).eval()
    image = torch.rand(1, 1, 48, 48, requires_grad=True)
    features = encoder(image)
    assert features.shape[2:] == (1 + (48 - sees) // 4,) * 2
    features[0, :, 1, 2].sum().backward()
    rows, columns = (image.grad[0, 0] != 0).nonzero().T
    assert (rows.min(), columns.min()) == (4, 8)
    assert rows.max() - rows.min() == columns.max() - columns.min() == sees - 1
    with torch.no_grad():
        part = encoder(image[:, :, 8 : 8 + sees, 4 : 4 + sees])
    torch.testing.assert_close(part[0, :, 0, 0], features[0, :, 2, 1].detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 7), (15, 16)], ids=str)
def test_pad_to_repeats_the_last_row_and_column(size):
    images = torch.rand(2, 3, *size)
    wide = pad_to(images, 16)
    assert wide.shape[2:] == tuple(max(16, side) for side in size)
    rows, columns = (torch.arange(max(16, side)).clamp(max=side - 1) for side in size)
    assert torch.equal(wide, images[:, :, rows][:, :, :, columns])
    with torch.no_grad():
        assert unpadded(3, 16).eval()(images).isfinite().all()


def test_a_patch_large_enough_for_the_encoder_gives_features():
    for encoder in ENCODERS.values():
        with torch.no_grad():
            features = encoder.build(1, encoder.smallest).eval()(torch.rand(1, 1, encoder.smallest, encoder.smallest))
        assert features.shape[1] == encoder.width
        assert min(features.shape[2:]) >= 1


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
