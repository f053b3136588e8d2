"""Which encoder a detector has: what is known of each by name, and a specification as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import nn

from augmentations.errors import unknown_name
from detectors.encoders.networks import UNPADDED_SEES, UNPADDED_STRIDES, resnet18, small, unpadded


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before it is built.

    build: (channels, side of the images in px) to the network. width: d. smallest: px a patch must have.
    dense_strides: px between two locations of each of its ``stages``, if the features of a crop are a window of the
    features of the whole image (crops then lie on multiples of the last); None where padding lets borders in.
    """

    build: Callable[[int, int], nn.Sequential]
    width: int
    smallest: int
    dense_strides: tuple[int, ...] | None = None


ENCODERS = {
    "small": Encoder(small, width=64, smallest=8),
    "resnet18": Encoder(resnet18, width=512, smallest=8),
    "unpadded": Encoder(unpadded, width=64, smallest=UNPADDED_SEES, dense_strides=UNPADDED_STRIDES),
}


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder by name; JSON, and enough to build an equal one.

    Raises InputError for an unknown name.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in ENCODERS:
            raise unknown_name("encoder", self.name, list(ENCODERS))

    @classmethod
    def of(cls, encoder: "str | Mapping[str, Any] | EncoderSpec") -> Self:
        """The specification of a name, of JSON, or the specification itself."""
        if isinstance(encoder, EncoderSpec):
            return cls(**asdict(encoder))
        return cls(encoder) if isinstance(encoder, str) else cls(**encoder)

    def build(self, channels: int, image_size: int) -> nn.Module:
        """The network for images of so many channels and ``image_size`` px, with its first weights."""
        return ENCODERS[self.name].build(channels, image_size)

    @property
    def width(self) -> int:
        """d of its features (N,d,h,w)."""
        return ENCODERS[self.name].width
