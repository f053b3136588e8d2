"""What encoders make of images: features at several depths, and one row per image."""

from torch import Tensor, nn

from detectors.encoders.networks import Residual


def stages(encoder: nn.Sequential, images: Tensor, most: int | None = None) -> list[Tensor]:
    """The features (N,d,h,w) that each depth of an encoder makes: of its stem, of every block; the last are its own.

    most: of the first so many alone, without computing the others.
    """
    depths: list[Tensor] = []
    features = images
    for layer in encoder:
        if len(depths) == most:
            break
        features = layer(features)
        if isinstance(layer, nn.ReLU | Residual | nn.Sequential):
            depths.append(features)
    return depths


def levels(encoder: nn.Module, images: Tensor, most: int | None = None) -> list[Tensor]:
    """The features (N,d,h,w) of an encoder at the depths that it offers, fine to coarse.

    Those that its specification chose where its weights are pretrained, and the ``stages`` of one built from layers.
    most: the first so many alone, without computing what only the others need.
    """
    if isinstance(encoder, nn.Sequential):
        return stages(encoder, images, most)
    return encoder.levels(images, most)  # type: ignore[operator]


def pool(features: Tensor) -> Tensor:
    """(N,d,h,w) spatial features to (N,d) embeddings: averaged over locations, L2-normalised."""
    return nn.functional.normalize(features.mean((2, 3)), dim=1)


def reduced(images: Tensor, factor: int) -> Tensor:
    """(N,C,H,W) images with squares of ``factor`` px along a side averaged into one pixel each."""
    if factor == 1:
        return images
    return nn.functional.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)
