"""Presets: how much a training may cost, which every kind translates into settings of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from augmentations import InputError
from augmentations.errors import unknown_name


def require(settings: object, rules: Iterable[tuple[str, bool, str, str]]) -> None:
    """Check settings by ``rules``: the name of a setting, whether the rule holds, the rule, and a value to try.

    Raises:
        InputError: for the first rule that does not hold.
    """
    for name, holds, rule, remedy in rules:
        if not holds:
            raise InputError(f"{name}={getattr(settings, name)!r}", rule, f"try {remedy}")


@dataclass(frozen=True)
class Preset:
    """How much a training may cost. Sizes in pixels, ``batch`` in normal images per step.

    ``jitter`` is the strength of the colour jitter on every input (0: none). A kind takes from it what it needs.
    """

    encoder: str
    image_size: int
    head: tuple[int, ...]
    steps: int
    batch: int
    jitter: float = 0.0

    def __post_init__(self) -> None:
        require(self, [("image_size", self.image_size >= 1, "must be at least 1 px", "64")])

    @property
    def is_published(self) -> bool:
        """Whether each kind is to be trained as it was published, at whatever image size."""
        paper = PRESETS["paper"]
        return replace(self, image_size=paper.image_size) == paper


PRESETS = {
    # Minutes for a zoo on two CPU cores.
    "quick": Preset("small", 64, head=(64,), steps=200, batch=16),
    # Minutes per candidate on a GPU.
    "standard": Preset("resnet18", 128, head=(512, 128), steps=2_000, batch=32),
    # The training of Yoo et al., ECML PKDD 2023 (DSV), which follows Li et al., CVPR 2021 (CutPaste).
    "paper": Preset("resnet18", 256, head=(512, 128), steps=10_000, batch=32, jitter=0.1),
}


def get_preset(name: str) -> Preset:
    """The preset of that name. Raises InputError for an unknown one."""
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return PRESETS[name]
