"""Encoders: images (N,C,H,W) in [0,1] to spatial features (N,d,h,w)."""

from collections.abc import Callable

import torchvision
from torch import Tensor, nn

LARGEST_SMALL_IMAGE = 64  # px; the usual stem would leave such an image too few locations


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, features: Tensor) -> Tensor:
        # In place: on a CPU, fresh memory for a batch costs more than the arithmetic.
        return self.body(features).add_(self.shortcut(features)).relu_()


def small(channels: int, image_size: int) -> nn.Sequential:
    """A 16-32-64 residual encoder for the CPU: d = 64, a location every 8 px.

    Its stride-2 stem is what makes a zoo affordable there: a stride-1 stem costs six times as much.
    """
    widths, strides = (16, 32, 64), (1, 2, 2)
    stem = [nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = [Residual(*shape) for shape in zip((16, *widths[:-1]), widths, strides, strict=True)]
    return nn.Sequential(*stem, *blocks)


def resnet18(channels: int, image_size: int) -> nn.Sequential:
    """torchvision's ResNet-18 from random weights: d = 512; a 3x3 stem without pooling up to 64 px."""
    network = torchvision.models.resnet18(weights=None)
    if image_size <= LARGEST_SMALL_IMAGE:
        network.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return nn.Sequential(*list(network.children())[:-2])


ENCODERS: dict[str, Callable[[int, int], nn.Sequential]] = {"small": small, "resnet18": resnet18}
WIDTHS = {"small": 64, "resnet18": 512}


def pool(features: Tensor) -> Tensor:
    """(N,d,h,w) spatial features to (N,d) embeddings: averaged over locations, L2-normalised."""
    return nn.functional.normalize(features.mean((2, 3)), dim=1)
