"""Every patch of an image at once: their embeddings in one pass, and a map of their scores.

Li et al., CVPR 2021 (CutPaste), sections 2.4 and 4.2 and appendix A.5.
"""

import torch
from torch import Tensor, nn

from detectors.encoders import levels, pad_to
from detectors.training import crop

# Of the kernel that spreads a score over its patch, in patches. The rule of FCDD that Li et al. take has 10 px for
# 32 px too, but jumps to 1 px below, which leaves a grid of spikes.
SIGMA = 0.31
PATCHES = 1024  # that one forward pass sees, at most, where patches are evaluated one by one


def positions(length: int, patch: int, stride: int) -> list[int]:
    """Where patches begin along a side of ``length`` px: each ``stride``, and once more to reach the far border."""
    last = max(0, length - patch)
    regular = list(range(0, last + 1, stride))
    return regular if regular[-1] == last else [*regular, last]


def dense_embeddings(
    encoder: nn.Module, images: Tensor, patch: int, stride: int, dense_strides: tuple[int, ...] | None = None
) -> Tensor:
    """(N,h,w,d) embeddings of the patches of (N,C,H,W) images, one for each of ``positions``.

    An embedding holds the features of every depth of the encoder (``detectors.encoders.levels``), fine to coarse, each
    averaged over the patch: what training made the last ones blind to, such as brightness, the first ones still see
    (as Defard et al., 2021, PaDiM, concatenate those of three depths).

    In one convolutional pass where the features of a patch are a window of those of the image, every
    ``dense_strides`` px (``detectors.encoders.Encoder``); otherwise patch by patch, a bounded number at once. Both
    give the same. Images smaller than a patch are extended to its size.
    """
    images = pad_to(images, patch)
    if dense_strides is None or stride % dense_strides[-1]:
        return _unfolded(encoder, images, patch, stride)
    # The last patch need not lie on the grid of the others: a strip of its own reaches it.
    below, right = (_strips(length, patch, stride) for length in images.shape[2:])
    grid = [[_convolved(encoder, images[:, :, y:, x:], patch, stride, dense_strides) for x in right] for y in below]
    return torch.cat([torch.cat(row, dim=3) for row in grid], dim=2).movedim(1, -1)


def _strips(length: int, patch: int, stride: int) -> list[int]:
    return [0] if (length - patch) % stride == 0 else [0, length - patch]


def _convolved(encoder: nn.Module, images: Tensor, patch: int, stride: int, dense_strides: tuple[int, ...]) -> Tensor:
    """(N,d,h,w): to pool windows of the features, a stride apart, is to embed patches of the image."""
    height, width = ((length - patch) // stride for length in images.shape[2:])
    images = images[:, :, : patch + height * stride, : patch + width * stride]
    pooled = []
    # One for small patches has a stage less.
    depths = levels(encoder, images.contiguous(memory_format=torch.channels_last))
    for features, apart in zip(depths, dense_strides, strict=False):
        # Along a side, the features of the first patch and then ``step`` more for each other patch.
        step = stride // apart
        pooled.append(nn.functional.avg_pool2d(features, features.shape[2] - height * step, step))
    return torch.cat(pooled, dim=1)


def _unfolded(encoder: nn.Module, images: Tensor, patch: int, stride: int) -> Tensor:
    """(N,h,w,d), at most ``PATCHES`` of them in a forward pass."""
    rows, columns = (
        torch.tensor(positions(length, patch, stride), device=images.device) for length in images.shape[2:]
    )
    corners = torch.cartesian_prod(rows, columns)
    pooled = []
    for some in torch.arange(len(images) * len(corners), device=images.device).split(PATCHES):
        patches = crop(images, some // len(corners), corners[some % len(corners)], patch)
        depths = levels(encoder, patches.contiguous(memory_format=torch.channels_last))
        pooled.append(torch.cat([features.mean((2, 3)) for features in depths], dim=1))
    return torch.cat(pooled).view(len(images), len(rows), len(columns), -1)


def center_per_image(patches: Tensor) -> Tensor:
    """(N,h,w,d) embeddings of patches relative to their image: their root mean square is scaled to 1, then their median
    is taken off, feature by feature.

    What all patches of an image share, such as its exposure, does not say where a defect is. A defect in fewer than
    half of the patches hardly moves their median; it would move their mean, and so make all patches look unusual. A
    single patch has nothing to be compared with and is scaled only.
    """
    scale = patches.square().mean((1, 2, 3), keepdim=True).sqrt()
    scaled = patches / scale.clamp(min=torch.finfo(patches.dtype).tiny)
    count = patches.shape[1] * patches.shape[2]
    if count == 1:
        return scaled
    # The lower of two in the middle, as torch.median, which is not deterministic on a GPU.
    median = scaled.flatten(1, 2).sort(dim=1).values[:, (count - 1) // 2]
    return scaled - median[:, None, None]


def dense_map(scores: Tensor, patch: int, stride: int, size: tuple[int, int]) -> Tensor:
    """(N,h,w) scores of the patches at ``positions`` to a map of ``size``, (N,H,W).

    Every patch spreads its score over its pixels with a Gaussian, and each pixel is divided by what it would get if
    all scores were 1: a transposed convolution, normalised also where fewer patches reach, at the borders.
    """
    rows, columns = (_weights(length, patch, stride, scores.device) for length in size)
    return rows @ scores @ columns.mT


def _weights(length: int, patch: int, stride: int, device: torch.device) -> Tensor:
    """(length, patches): what each pixel along a side takes of each patch. The kernel works on each axis by itself."""
    begins = torch.tensor(positions(length, patch, stride), device=device)
    place = torch.arange(length, device=device)[:, None] - begins
    inside = (place >= 0) & (place < patch)
    kernel = torch.exp(-(((place - (patch - 1) / 2) / (SIGMA * patch)) ** 2) / 2) * inside
    return kernel / kernel.sum(1, keepdim=True)
