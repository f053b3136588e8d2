"""A pretrained network as an encoder: it takes any images in [0,1], and gives its features at the chosen layers."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectors.encoders.capture import first_outputs


class PretrainedEncoder(nn.Module):
    """A network and what its weights expect of images: how many channels, how large, how normalised.

    Gray images are repeated for a network that sees colour; the mean of the channels goes to one that sees gray. The
    shorter side is brought to ``input_size`` px, bilinearly, without aliasing. The statistics of batch normalisation
    stay as they are in a training, its scales and shifts too, as in the fine-tuning of Li et al., CVPR 2021 (CutPaste).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        input_size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        layers: Sequence[str] = (),
        keeps_norms: bool = True,
    ) -> None:
        """Wrap a network, images to a tuple of (N,d,h,w).

        Args:
            network: what ``capture`` gave.
            channels: that it sees; 0: any.
            input_size: px of the shorter side; None: images stay as they are.
            mean, std: of each channel, for images in [0,1].
            layers: that the network gives, for those who print it.
            keeps_norms: whether batch normalisation does not learn.
        """
        super().__init__()
        self.network, self.channels, self.input_size, self.keeps_norms = network, channels, input_size, keeps_norms
        self.layers, self.statistics = tuple(layers), (tuple(mean), tuple(std))
        self._shallow: dict[int, nn.Module] = {}  # no submodules: they share the network's
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        if keeps_norms:
            for norm in self._norms():
                norm.requires_grad_(False)

    def levels(self, images: Tensor, most: int | None = None) -> list[Tensor]:
        """The features (N,d,h,w) at each of the chosen layers, or at the first ``most`` of them."""
        network = self.network if most is None else self._shallower(most)
        return list(network(self.prepared(images)))[:most]

    def _shallower(self, most: int) -> nn.Module:
        if most not in self._shallow:
            self._shallow[most] = first_outputs(self.network, most)
        return self._shallow[most]

    def forward(self, images: Tensor) -> Tensor:
        return self.levels(images)[-1]

    def prepared(self, images: Tensor) -> Tensor:
        """Images (N,C,H,W) in [0,1] as the network's weights expect them."""
        if self.channels == 1 and images.shape[1] != 1:
            images = images.mean(1, keepdim=True)
        if self.input_size is not None:
            images = resized(images, self.input_size)
        if self.channels > 1 and images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        return (images - self.mean) / self.std

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.keeps_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def extra_repr(self) -> str:
        size = f"channels={self.channels}, input_size={self.input_size}"
        return f"{size}, mean and std={self.statistics}, layers={self.layers}"

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.network.modules() if isinstance(module, _BatchNorm)]


def resized(images: Tensor, side: int) -> Tensor:
    """(N,C,H,W) images whose shorter side has ``side`` px, bilinear, averaged where they shrink.

    As torch's antialiased interpolation, but by two small matrices, which any exported program can hold.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    if shorter == side:
        return images
    rows, columns = (_weights(n, max(side, round(n * side / shorter)), images.device) for n in (height, width))
    return (rows @ images @ columns.mT).contiguous(memory_format=torch.channels_last)


def _weights(few: int, many: int, device: torch.device) -> Tensor:
    """(many, few): what each of ``few`` pixels along a side gives to each of ``many``: triangles around its place."""
    scale = few / many
    centre = (torch.arange(many, device=device) + 0.5) * scale
    distance = (torch.arange(few, device=device) + 0.5 - centre[:, None]).abs() / max(scale, 1.0)
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
