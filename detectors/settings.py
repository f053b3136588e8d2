"""How a detector is trained, and the three presets worth naming."""

import math
from dataclasses import asdict, dataclass, replace

from augmentations import InputError
from augmentations.errors import unknown_name
from detectors.encoders import ENCODERS

# Li et al., CVPR 2021 (CutPaste), A.5: patches of 32 px, 4 px apart, of images of 256 px.
PATCH_SHARE = 32 / 256
PATCH_STRIDE = 4
LEAST_PATCH = 16  # px; less shows no structure
PATCH_BATCH = 64  # patches a step, at least: one is a sixteenth of an image to compute, and shows as much less
PATCH_STEPS = 4  # times as many: of 64 px, whole images would then show a training as many pixels, of more px more


@dataclass(frozen=True)
class Settings:
    """One training: the encoder, the head, and the schedule. Sizes in pixels, ``batch`` in normal images a step.

    A step sees ``batch`` normal images and as many of each pseudo-anomaly class. ``jitter`` is the strength of
    the colour jitter on every input (0: none). Training sees whole images, or random crops of ``patch`` px if that
    is not 0; patches are then scored ``stride`` px apart. Raises InputError for an unknown encoder and a value out
    of range.
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
    patch: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise unknown_name("encoder", self.encoder, list(ENCODERS))
        object.__setattr__(self, "head", tuple(self.head))
        smallest = ENCODERS[self.encoder].smallest
        fits = self.patch == 0 or smallest <= self.patch <= self.image_size
        # As far apart as they are large, patches still cover every pixel.
        covers = 1 <= self.stride <= self.patch if self.patch > 0 else self.stride == 0
        for thing, holds, rule, remedy in (
            ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
            ("head", all(width >= 1 for width in self.head), "must be widths of at least 1", "(512, 128)"),
            ("steps", self.steps >= 1, "must be at least 1", "200"),
            ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "32"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "0.03"),
            ("momentum", 0 <= self.momentum < 1, "must be in [0, 1)", "0.9"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "3e-5"),
            ("jitter", 0 <= self.jitter <= 0.5, "must be in [0, 0.5]", "0.1"),
            ("patch", fits, f"must be 0, or from {smallest} px ({self.encoder}) to image_size", "16"),
            ("stride", covers, "must be from 1 px to patch, and 0 without one", "4" if self.patch else "0"),
        ):
            if not holds:
                raise InputError(f"{thing}={getattr(self, thing)!r}", rule, f"try {remedy}")

    def to_json(self) -> dict[str, object]:
        """Every setting; those of patches only where there are any, so that older settings read the same."""
        patches = ("patch", "stride")
        return {name: value for name, value in asdict(self).items() if self.patch or name not in patches}

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


def patch_settings(settings: Settings, image_size: int) -> Settings:
    """The same training on patches, of the size that Li et al. (CVPR 2021, A.5) use, for images of that size.

    32 px at 256 px and in proportion, at least 16 px, all 4 px apart; the encoder that scores all patches of an
    image in one pass; at least 64 patches a step; and four times the steps, for a step is that much cheaper. Raises
    InputError for images smaller than a patch.
    """
    patch = max(LEAST_PATCH, round(PATCH_SHARE * image_size))
    if image_size < patch:
        raise InputError(f"image_size={image_size}", f"must be at least the {patch} px of a patch", f"try {4 * patch}")
    batch, steps = max(settings.batch, PATCH_BATCH), PATCH_STEPS * settings.steps
    patches = replace(settings, encoder="valid", patch=patch, stride=PATCH_STRIDE)
    return replace(patches, image_size=image_size, batch=batch, steps=steps)


def preset(name: str) -> Settings:
    """The settings of that name. Raises InputError for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return PRESETS[name]
