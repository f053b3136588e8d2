"""The patch detector: the classifier trained on random crops, which scores every patch of an image.

Li et al., CVPR 2021 (CutPaste), sections 2.4 and 4.2 and appendix A.5.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors.classifier import Classifier, ClassifierSettings
from detectors.dense import center_per_image, dense_embeddings, dense_map
from detectors.encoders import reduced
from detectors.images import Images, as_float, as_images
from detectors.kind import LOCATION_ROWS
from detectors.patch_density import DENSITIES, MIN_IMAGES, PER_LOCATION, SHARED, held_out_mask, select_density
from detectors.presets import Preset, require
from detectors.scorers import Scorer
from detectors.scoring import ScoringModule, some_rows, upsample
from detectors.training import crop, random_corners, windows

# Li et al., CVPR 2021 (CutPaste), A.5: patches of 32 px, 4 px apart, of images of 256 px.
PATCH_SHARE = 32 / 256
PATCH_STRIDE = 4
MIN_PATCH = 16  # px; less shows no structure
PATCH_BATCH = 64  # patches per step, at least: one is a sixteenth of an image to compute, and shows as much less
PATCH_STEPS = 4  # times the preset's: at 64 px a training then sees as many pixels as on whole images, above fewer
LOCATION_VALUES = (
    2**27
)  # features kept at once to fit a model for each location: 512 MiB; above it, fewer images are used
MODEL_VALUES = 2**26  # in the Gaussians of all locations: a file of 256 MiB
DRAWS = 4  # pseudo anomalies per held-out image, by which the density is chosen


@dataclass(frozen=True)
class PatchSettings(ClassifierSettings):
    """A training on random crops of ``patch`` px, ``batch`` of them per step; patches are scored ``stride`` px apart.

    The rest as in ``ClassifierSettings``. Raises InputError as that does, and for a patch that does not fit.
    """

    patch: int = MIN_PATCH
    stride: int = PATCH_STRIDE

    def __post_init__(self) -> None:
        super().__post_init__()
        smallest = self.encoder_spec.smallest
        fits = smallest <= self.patch <= self.image_size
        # As far apart as they are large, patches still cover every pixel.
        covers = 1 <= self.stride <= self.patch
        require(
            self,
            (
                ("patch", fits, f"must be from {smallest} px ({self.encoder_spec.name}) to image_size", "16"),
                ("stride", covers, "must be from 1 px to patch", "4"),
            ),
        )


class PatchModule(ScoringModule):
    """The scoring graph of patches: the score of an image is the highest of its patches."""

    def __init__(self, encoder: nn.Module, scorer: Scorer | None, settings: PatchSettings) -> None:
        super().__init__()
        self.encoder, self.scorer = encoder, scorer
        self.patch, self.stride, self.reduction = settings.patch, settings.stride, settings.reduction
        self.dense_strides = settings.encoder_spec.dense_strides

    def features(self, images: Tensor) -> Tensor:
        """(N,h,w,d) embeddings of all patches."""
        images = reduced(images, self.reduction)
        return dense_embeddings(self.encoder, images, self.patch, self.stride, self.dense_strides)

    def embed(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features.mean((1, 2)), dim=1)

    def patch_scores(self, features: Tensor) -> Tensor:
        """(N,h,w) the score of every patch."""
        assert self.scorer is not None
        return self.scorer(center_per_image(features))

    def score(self, features: Tensor) -> Tensor:
        return self.patch_scores(features).amax((1, 2))

    def map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return self._map_of(self.patch_scores(features), size)

    def score_and_map(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        scores = self.patch_scores(features)
        return scores.amax((1, 2)), self._map_of(scores, size)

    def _map_of(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        seen = -(-size[0] // self.reduction), -(-size[1] // self.reduction)
        scores = dense_map(scores, self.patch, self.stride, seen)
        return scores if self.reduction == 1 else upsample(scores, size)


class PatchClassifier(Classifier):
    """The classifier trained on random crops, with a density of the embeddings of all patches relative to their image.

    embed: the L2-normalised mean of an image's patch embeddings. score: the highest score of a patch, the map not
    smoothed. score_map: the scores of all patches, spread over their pixels (``dense_map``).

    The density is one model for each location where objects are aligned, and else one shared by all locations. The
    choice is made at fitting, by held-out train images and pseudo anomalies made from them; ``density`` says what was
    chosen, ``density_reason`` why. With one model for each location only images of the trained size can be scored.
    """

    name = "patch"
    Settings = PatchSettings
    settings: PatchSettings

    # Absent until the second stage.
    density: str
    density_reason: str
    size: tuple[int, int]

    @classmethod
    def settings_for(cls, preset: Preset) -> PatchSettings:
        """Patches of the size that Li et al. (CVPR 2021, A.5) use: 32 px at 256 px and in proportion, at least 16 px.

        All 4 px apart; the encoder that scores all patches of an image in one pass; at least 64 patches per step; and
        four times the steps, for a step is that much cheaper. Raises InputError for images smaller than a patch.
        """
        size = preset.image_size
        patch = max(MIN_PATCH, round(PATCH_SHARE * size))
        if size < patch:
            raise InputError(f"image_size={size}", f"must be at least the {patch} px of a patch", f"try {4 * patch}")
        shared = {field.name: getattr(preset, field.name) for field in fields(preset)}
        own = {"encoder": "unpadded", "batch": max(preset.batch, PATCH_BATCH), "steps": PATCH_STEPS * preset.steps}
        return PatchSettings(**shared | own, patch=patch, stride=PATCH_STRIDE)

    @classmethod
    def needs(cls, settings: PatchSettings) -> int:  # type: ignore[override]
        return settings.image_size  # patches are brought to an encoder's own size, not images

    @property
    def sees(self) -> int:
        return self.settings.patch

    @property
    def crop(self) -> int:
        return self.settings.patch

    def scoring_module(self) -> PatchModule:  # type: ignore[override]
        return PatchModule(self.encoder, getattr(self, "scorer", None), self.settings)

    def fit_scorer(self, images: Images, *, density: str | None = None) -> Self:
        """The second stage: the density of the patches of normal images, shared or by location.

        Args:
            images: normal images, as for ``fit``.
            density: ``SHARED`` or ``PER_LOCATION``; None: held-out images decide.
        Raises:
            InputError: for another density, and for one model for each location with too few images or too little
                memory.
        """
        self._require("encoder")
        if density not in (None, *DENSITIES):
            raise unknown_name("density", density, list(DENSITIES))
        whole = as_images(images)
        share = max(1, LOCATION_ROWS // len(whole))
        source = generator(self.seed, "locations")
        obstacle, is_kept = self._obstacle_to_locations(whole)
        if obstacle and density == PER_LOCATION:
            raise InputError(f"density={density!r}", f"is not possible ({obstacle})", "leave the density out")
        rows, features = [], []
        start = 0
        for patches in self._patches(whole):
            rows.append(some_rows(patches, share, source))
            features.append(patches[is_kept[start : start + len(patches)].to(patches.device)].cpu())
            start += len(patches)
        everywhere = torch.cat(features)
        if density is not None:
            reason = f"{density}: chosen by the caller."
        elif obstacle:
            density, reason = SHARED, obstacle
        else:
            is_held_out = held_out_mask(len(everywhere), generator(self.seed, "layout"))
            anomalies = self._anomalous_patches(whole[is_kept][is_held_out])
            density, reason = select_density(self.scorer_spec, everywhere, is_held_out, anomalies)
        if density == PER_LOCATION:
            self.scorer = self.scorer_spec.make(per_location=True).fit(everywhere).to(self.device)
        else:
            self.scorer = self.scorer_spec.make().fit(torch.cat(rows))
        self.density, self.density_reason, self.size = density, reason, (whole.shape[2], whole.shape[3])
        return self

    @classmethod
    def scores_embeddings(cls, settings: PatchSettings) -> bool:
        return False  # a score is made of those of patches

    def require_size(self, images: Tensor) -> Tensor:
        size = images.shape[2], images.shape[3]
        if self.density == PER_LOCATION and size != self.size:
            raise InputError(
                f"images of {size[0]}x{size[1]} px",
                f"this detector has one model for each location of {self.size[0]}x{self.size[1]} px",
                "resize them, or train on images like these",
            )
        return images

    def obstacle_to_export(self) -> str:
        spec, stride = self.settings.encoder_spec, self.settings.stride
        strides = spec.dense_strides
        if strides is None or stride % strides[-1]:
            return f"the encoder {spec.name!r} every {stride} px scores patch by patch, which can't be traced"
        return ""

    def pixels_evaluated(self, height: int, width: int) -> int:
        patch, n = self.settings.patch, self.reduction
        return max(patch, -(-height // n)) * max(patch, -(-width // n))

    def extra_state(self) -> dict[str, Any]:
        return {"density": self.density, "density_reason": self.density_reason, "size": list(self.size)}

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        self.density, self.density_reason = saved["density"], saved["density_reason"]
        self.size = saved["size"][0], saved["size"][1]

    def _patches(self, images: Tensor) -> Iterator[Tensor]:
        """(n,h,w,d) embeddings of patches relative to their image, of a few images at a time."""
        return map(center_per_image, self._features(self.scoring_module().eval(), images))

    def _obstacle_to_locations(self, images: Tensor) -> tuple[str, Tensor]:
        """What is in the way of one model for each location, if anything, and which images to keep for them (N,)."""
        _, rows, columns, d = next(self._patches(images[:1])).shape
        values = rows * columns * d
        n = min(len(images), LOCATION_VALUES // values)
        obstacle = ""
        if self.scorer_spec.kind.per_location is None:
            obstacle = f"shared: the scorer {self.scorer_spec.describe()} has no form by location."
        elif n < MIN_IMAGES:
            obstacle = f"shared: one model for each location needs at least {MIN_IMAGES} images, and there were {n}."
        elif values * d > MODEL_VALUES:
            obstacle = f"shared: one model for each of {rows}x{columns} locations would take too much memory."
        is_kept = torch.zeros(len(images), dtype=torch.bool)
        if not obstacle:
            is_kept[torch.randperm(len(images), generator=generator(self.seed, "layout", "images"))[:n]] = True
        return obstacle, is_kept

    def _anomalous_patches(self, images: Tensor) -> Iterator[Tensor]:
        source = generator(self.seed, "layout", "planted")
        for _ in range(DRAWS):
            yield from self._patches(self._insert_anomalies(images, source))

    @torch.no_grad()
    def _insert_anomalies(self, images: Tensor, source: torch.Generator) -> Tensor:
        """The images, a pseudo anomaly of a patch's size somewhere in each: a random crop, augmented and put back."""
        clean, side = as_float(images), self.settings.patch * self.reduction
        corners = random_corners(len(clean), (clean.shape[2], clean.shape[3]), side, source)
        which = torch.arange(len(clean))
        changed = self.augmentation(crop(clean, which, corners, side), source)
        anomalous = clean.permute(0, 2, 3, 1).clone()
        anomalous[windows(which, corners, side)] = changed.permute(0, 2, 3, 1)
        return anomalous.permute(0, 3, 1, 2)
