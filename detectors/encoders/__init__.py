"""Encoders: images (N,C,H,W) in [0,1] to spatial features (N,d,h,w), at one depth or several."""

from detectors.encoders.architectures import INSTALL, LITE0, lite0_is_installed
from detectors.encoders.features import levels, pool, reduced, stages
from detectors.encoders.networks import (
    UNPADDED_SEES,
    UNPADDED_SEES_DEEP,
    UNPADDED_STRIDES,
    PadTo,
    Residual,
    pad_to,
    resnet18,
    small,
    unpadded,
)
from detectors.encoders.pretrained import PretrainedEncoder
from detectors.encoders.spec import ENCODERS, Encoder, EncoderSpec
from detectors.encoders.weights import RANDOM, without_weights

__all__ = [
    "ENCODERS",
    "INSTALL",
    "LITE0",
    "RANDOM",
    "UNPADDED_SEES",
    "UNPADDED_SEES_DEEP",
    "UNPADDED_STRIDES",
    "Encoder",
    "EncoderSpec",
    "PadTo",
    "PretrainedEncoder",
    "Residual",
    "levels",
    "lite0_is_installed",
    "pad_to",
    "pool",
    "reduced",
    "resnet18",
    "small",
    "stages",
    "unpadded",
    "without_weights",
]
