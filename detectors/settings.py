"""How a detector is trained, and the three presets worth naming."""

import math
from dataclasses import asdict, dataclass

from augmentations import InputError
from augmentations.errors import unknown_name
from detectors.encoders import ENCODERS


@dataclass(frozen=True)
class Settings:
    """One training: the encoder, the head, and the schedule. Sizes in pixels, ``batch`` in normal images a step.

    A step sees ``batch`` normal images and as many of each pseudo-anomaly class. ``jitter`` is the strength of
    the colour jitter on every input (0: none). Raises InputError for an unknown encoder and a value out of range.
    """

    encoder: str
    image_size: int
    head: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 3e-5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise unknown_name("encoder", self.encoder, list(ENCODERS))
        object.__setattr__(self, "head", tuple(self.head))
        for thing, holds, rule, remedy in (
            ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
            ("head", all(width >= 1 for width in self.head), "must be widths of at least 1", "(512, 128)"),
            ("steps", self.steps >= 1, "must be at least 1", "200"),
            ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "32"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "0.03"),
            ("momentum", 0 <= self.momentum < 1, "must be in [0, 1)", "0.9"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "3e-5"),
            ("jitter", 0 <= self.jitter <= 0.5, "must be in [0, 0.5]", "0.1"),
        ):
            if not holds:
                raise InputError(f"{thing}={getattr(self, thing)!r}", rule, f"try {remedy}")

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "Settings":
        return cls(**values)


PRESETS = {
    # Minutes for a zoo on two CPU cores.
    "quick": Settings("small", 64, head=(64,), steps=200, batch=16),
    # Minutes a candidate on a GPU.
    "standard": Settings("resnet18", 128, head=(512, 128), steps=2_000, batch=32),
    # The training of Yoo et al., ECML PKDD 2023 (DSV), which follows Li et al., CVPR 2021 (CutPaste).
    "paper": Settings("resnet18", 256, head=(512, 128), steps=10_000, batch=32, jitter=0.1),
}


def preset(name: str) -> Settings:
    """The settings of that name. Raises InputError for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return PRESETS[name]
