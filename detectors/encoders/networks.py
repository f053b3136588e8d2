"""Encoders that start from random weights: images (N,C,H,W) in [0,1] to spatial features (N,d,h,w)."""

import torchvision
from torch import Tensor, nn

LARGEST_SMALL_IMAGE = 64  # px; the usual stem would leave such an image too few locations
UNPADDED_SEES, UNPADDED_SEES_DEEP = (
    15,
    31,
)  # px that a location of the unpadded encoder sees: without, with its last block
UNPADDED_STRIDES = (2, 2, 4, 4)  # px between the locations of its stages


class Residual(nn.Module):
    """A 3x3 convolution and another, ``second`` wide, around a shortcut (He et al., 2016).

    Unpadded, both shrink what they see, and the shortcut is cut to the same centre.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, padded: bool = True, second: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, int(padded), bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, second, 1, second // 2 if padded else 0, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.margin = 0 if padded else 1 + stride * (second // 2)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        centre = features[:, :, self.margin : height - self.margin, self.margin : width - self.margin]
        # In place: on a CPU, fresh memory for a batch costs more than the arithmetic.
        return self.body(features).add_(self.shortcut(centre)).relu_()


class PadTo(nn.Module):
    """Repeats the last row and column of an image smaller than ``side`` px until it is that large."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return pad_to(images, self.side)


def pad_to(images: Tensor, side: int) -> Tensor:
    """(N,C,H,W) images, the last row and column repeated until both sides have ``side`` px at least."""
    below, right = (max(0, side - length) for length in images.shape[2:])
    return nn.functional.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


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


def unpadded(channels: int, image_size: int) -> nn.Sequential:
    """A 16-32-64 residual encoder without padding, for patches: d = 64, a location every 4 px.

    The features of a crop are a window of the features of the whole image, so that one pass over an image serves
    every patch of it. A location sees 15 px; 31 px, by one more block, where images or patches are that large.
    """
    stem = [nn.Conv2d(channels, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = [Residual(16, 32, 1, padded=False), Residual(32, 64, 2, padded=False, second=1)]
    deep = image_size >= UNPADDED_SEES_DEEP
    if deep:
        blocks.append(Residual(64, 64, 1, padded=False))
    return nn.Sequential(PadTo(UNPADDED_SEES_DEEP if deep else UNPADDED_SEES), *stem, *blocks)
