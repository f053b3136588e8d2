"""Patch-level localization: every patch of an image scored, and the scores spread back over its pixels.

Li et al., CVPR 2021 (CutPaste), sections 2.4 and 4.2 and appendix A.5.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors import base
from detectors.base import Images, as_float, as_images
from detectors.classifier import LOCATION_ROWS, Classifier, some_rows, within
from detectors.devices import repeatable
from detectors.encoders import ENCODERS, extend, stages
from detectors.files import State
from detectors.gaussian import LocationGaussians
from detectors.patch_density import LAYOUTS, LEAST_IMAGES, PER_LOCATION, SHARED, choose, hold_out
from detectors.scorers import scorer
from detectors.settings import Settings, patch_settings
from detectors.training import crop, random_corners, windows

# Of the kernel that spreads a score over its patch, in patches. The rule of FCDD that Li et al. take has 10 px for
# 32 px too, but jumps to 1 px below, which leaves a grid of spikes.
SIGMA = 0.31
PATCHES = 1024  # that one forward pass sees, at most, where patches are evaluated one by one
LOCATION_VALUES = 2**27  # features kept at once to fit a Gaussian a location: 512 MiB; beyond, fewer images serve
MODEL_VALUES = 2**26  # in the Gaussians of all locations: a file of 256 MiB
DRAWS = 4  # pseudo anomalies of each held-out image that the layout is judged by


def positions(length: int, patch: int, stride: int) -> list[int]:
    """Where patches begin along a side of ``length`` px: each ``stride``, and once more to reach the far border."""
    last = max(0, length - patch)
    regular = list(range(0, last + 1, stride))
    return regular if regular[-1] == last else [*regular, last]


def dense_embeddings(
    encoder: nn.Sequential, images: Tensor, patch: int, stride: int, dense_strides: tuple[int, ...] | None = None
) -> Tensor:
    """(N,h,w,d) embeddings of the patches of (N,C,H,W) images, one for each of ``positions``.

    An embedding holds the features of every depth of the encoder (``detectors.encoders.stages``), fine to coarse, each
    averaged over the patch: what training made the last ones blind to, such as brightness, the first ones still see
    (as Defard et al., 2021, PaDiM, concatenate those of three depths).

    In one convolutional pass where the features of a patch are a window of those of the image, every
    ``dense_strides`` px (``detectors.encoders.Encoder``); otherwise patch by patch, a bounded number at once. Both
    give the same. Images smaller than a patch are extended to its size.
    """
    images = extend(images, patch)
    if dense_strides is None or stride % dense_strides[-1]:
        return _unfolded(encoder, images, patch, stride)
    # The last patch need not lie on the grid of the others: a strip of its own reaches it.
    below, right = (_strips(length, patch, stride) for length in images.shape[2:])
    grid = [[_convolved(encoder, images[:, :, y:, x:], patch, stride, dense_strides) for x in right] for y in below]
    return torch.cat([torch.cat(row, dim=3) for row in grid], dim=2).movedim(1, -1)


def _strips(length: int, patch: int, stride: int) -> list[int]:
    return [0] if (length - patch) % stride == 0 else [0, length - patch]


def _convolved(
    encoder: nn.Sequential, images: Tensor, patch: int, stride: int, dense_strides: tuple[int, ...]
) -> Tensor:
    """(N,d,h,w): to pool windows of the features, a stride apart, is to embed patches of the image."""
    height, width = ((length - patch) // stride for length in images.shape[2:])
    images = images[:, :, : patch + height * stride, : patch + width * stride]
    pooled = []
    # One for small patches has a stage less.
    found = stages(encoder, images.contiguous(memory_format=torch.channels_last))
    for features, apart in zip(found, dense_strides, strict=False):
        # Along a side, the features of the first patch and then ``step`` more for each other patch.
        step = stride // apart
        pooled.append(nn.functional.avg_pool2d(features, features.shape[2] - height * step, step))
    return torch.cat(pooled, dim=1)


def _unfolded(encoder: nn.Sequential, images: Tensor, patch: int, stride: int) -> Tensor:
    """(N,h,w,d), at most ``PATCHES`` of them in a forward pass."""
    rows, columns = (
        torch.tensor(positions(length, patch, stride), device=images.device) for length in images.shape[2:]
    )
    corners = torch.cartesian_prod(rows, columns)
    pooled = []
    for some in torch.arange(len(images) * len(corners), device=images.device).split(PATCHES):
        patches = crop(images, some // len(corners), corners[some % len(corners)], patch)
        found = stages(encoder, patches.contiguous(memory_format=torch.channels_last))
        pooled.append(torch.cat([features.mean((2, 3)) for features in found], dim=1))
    return torch.cat(pooled).view(len(images), len(rows), len(columns), -1)


def relative(patches: Tensor) -> Tensor:
    """(N,h,w,d) embeddings of patches, each seen against its image: their root mean square is scaled to 1, then their
    mean is taken off.

    What all patches of an image share, such as its exposure, does not say where a defect is. A single patch has
    nothing to be seen against and is scaled only.
    """
    scale = patches.square().mean((1, 2, 3), keepdim=True).sqrt()
    scaled = patches / scale.clamp(min=torch.finfo(patches.dtype).tiny)
    return scaled - scaled.mean((1, 2), keepdim=True) if patches.shape[1] * patches.shape[2] > 1 else scaled


def dense_map(scores: Tensor, patch: int, stride: int, size: tuple[int, int]) -> Tensor:
    """(N,h,w) scores of the patches at ``positions`` to a map of ``size``, (N,H,W).

    Every patch spreads its score over its pixels with a Gaussian, and each pixel is divided by what it would get if
    all scores were 1: a transposed convolution, normalised also where fewer patches reach, at the borders.
    """
    rows, columns = (_spread(length, patch, stride, scores.device) for length in size)
    return rows @ scores @ columns.mT


def _spread(length: int, patch: int, stride: int, device: torch.device) -> Tensor:
    """(length, patches): what each pixel along a side takes of each patch. The kernel works on each axis by itself."""
    begins = torch.tensor(positions(length, patch, stride), device=device)
    place = torch.arange(length, device=device)[:, None] - begins
    inside = (place >= 0) & (place < patch)
    kernel = torch.exp(-(((place - (patch - 1) / 2) / (SIGMA * patch)) ** 2) / 2) * inside
    return kernel / kernel.sum(1, keepdim=True)


class PatchClassifier(Classifier):
    """The classifier trained on random crops, with a density of the embeddings of all patches, ``relative`` to their
    image.

    embed: the L2-normalised mean of an image's patch embeddings.
    score: the highest score of a patch, the map not smoothed.
    score_map: the scores of all patches, spread over their pixels (``dense_map``).

    The density is one Gaussian a location where objects are aligned, and else one shared by all locations. Which,
    is decided when it is fitted, by held-out train images and pseudo anomalies made from them; ``layout`` says what
    was chosen, ``layout_reason`` why. One a location knows images of the trained size only.

    Settings without a patch are made into ones that have one (``patch_settings``, which also chooses the encoder).
    """

    name = "patch"
    densities = ("scorer",)

    # Absent until the second stage.
    layout: str
    layout_reason: str
    size: tuple[int, int]

    @classmethod
    def own_settings(cls, settings: Settings) -> Settings:
        return settings if settings.patch else patch_settings(settings, settings.image_size)

    def fit_scorer(self, images: Images, *, layout: str | None = None) -> Self:
        """The second stage: the density of the patches of un-augmented images, shared or by location.

        layout: ``SHARED`` or ``PER_LOCATION`` where that is known; None leaves it to held-out images. Raises InputError
        for another one, and for one Gaussian a location where too few images or too little memory forbid it.
        """
        self._require("encoder")
        if layout not in (None, *LAYOUTS):
            raise unknown_name("layout", layout, list(LAYOUTS))
        whole = as_images(images)
        share = max(1, LOCATION_ROWS // len(whole))
        source = generator(self.seed, "locations")
        obstacle, kept = self._room_for_locations(whole)
        if obstacle and layout == PER_LOCATION:
            raise InputError(f"layout={layout!r}", f"is out of reach ({obstacle})", "leave the layout out")
        rows, features = [], []
        start = 0
        for patches in map(relative, self._patches(whole)):
            rows.append(some_rows(patches, share, source))
            features.append(patches[kept[start : start + len(patches)].to(patches.device)].cpu())
            start += len(patches)
        everywhere = torch.cat(features)
        if layout is not None:
            reason = f"{layout}: as asked for."
        elif obstacle:
            layout, reason = SHARED, obstacle
        else:
            held = hold_out(len(everywhere), generator(self.seed, "layout"))
            layout, reason = choose(everywhere, held, self._planted_patches(whole[kept][held]))
        if layout == PER_LOCATION:
            local = LocationGaussians.fit(everywhere)
            self.scorer = LocationGaussians.from_state({k: v.to(self.device) for k, v in local.state().items()})
        else:
            self.scorer = scorer(self.scorer_name).fit(torch.cat(rows))
        self.layout, self.layout_reason, self.size = layout, reason, (whole.shape[2], whole.shape[3])
        return self

    def embed(self, images: Images) -> Tensor:
        return torch.cat([nn.functional.normalize(each.mean((1, 2)), dim=1).cpu() for each in self._patches(images)])

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        return None  # a score is made of those of patches

    def score(self, images: Images) -> Tensor:
        return torch.cat([scores.amax((1, 2)).cpu() for scores in self._patch_scores(as_images(images))])

    def score_map(self, images: Images) -> Tensor:
        whole = as_images(images)
        return torch.cat([self._spread(scores, whole).cpu() for scores in self._patch_scores(whole)])

    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        whole = as_images(images)
        both = [(scores.amax((1, 2)).cpu(), self._spread(scores, whole).cpu()) for scores in self._patch_scores(whole)]
        scores, maps = zip(*both, strict=True)
        return torch.cat(scores), torch.cat(maps)

    def _spread(self, scores: Tensor, images: Tensor) -> Tensor:
        return dense_map(scores, self.settings.patch, self.settings.stride, (images.shape[2], images.shape[3]))

    def state(self) -> State:
        state = super().state()
        chosen = {"layout": self.layout, "layout_reason": self.layout_reason, "size": list(self.size)}
        return replace(state, settings=state.settings | chosen)

    def _restore(self, fitted: dict[str, Tensor], saved: dict[str, Any]) -> None:
        self.layout, self.layout_reason, self.size = saved["layout"], saved["layout_reason"], tuple(saved["size"])
        kind = LocationGaussians if self.layout == PER_LOCATION else scorer(self.scorer_name)
        self.scorer = kind.from_state(within(fitted, "scorer."))

    @torch.no_grad()
    def _patches(self, images: Images) -> Iterator[Tensor]:
        """(n,h,w,d) embeddings of the patches of a few images at a time."""
        self._require("encoder")
        patch, stride = self.settings.patch, self.settings.stride
        dense_strides = ENCODERS[self.settings.encoder].dense_strides
        for batch in self.batches(images):
            height, width = (max(patch, length) for length in batch.shape[2:])
            for few in batch.split(max(1, base.BATCH_PIXELS // (height * width))):
                with repeatable(self.device):
                    embeddings = dense_embeddings(self.encoder, few, patch, stride, dense_strides)
                yield embeddings

    def _patch_scores(self, images: Tensor) -> Iterator[Tensor]:
        self._require("scorer")
        size = images.shape[2], images.shape[3]
        if self.layout == PER_LOCATION and size != self.size:
            raise InputError(
                f"images of {size[0]}x{size[1]} px",
                f"this detector has one Gaussian for each location of {self.size[0]}x{self.size[1]} px",
                "resize them, or train on images like these",
            )
        for patches in map(relative, self._patches(images)):
            if self.layout == PER_LOCATION:
                yield self.scorer.score(patches)
            else:
                yield self.scorer.score(patches.flatten(0, 2)).view(patches.shape[:-1])

    def _room_for_locations(self, images: Tensor) -> tuple[str, Tensor]:
        """What is in the way of one Gaussian a location, if anything, and which images to keep for them (N,)."""
        _, rows, columns, d = next(self._patches(images[:1])).shape
        values = rows * columns * d
        n = min(len(images), LOCATION_VALUES // values)
        obstacle = ""
        if self.scorer_name != "gaussian":
            obstacle = f"shared: the scorer {self.scorer_name} has no form by location."
        elif n < LEAST_IMAGES:
            obstacle = f"shared: one Gaussian a location takes {LEAST_IMAGES} images or more, and there were {n}."
        elif values * d > MODEL_VALUES:
            obstacle = f"shared: one Gaussian for each of {rows}x{columns} locations would take too much memory."
        kept = torch.zeros(len(images), dtype=torch.bool)
        if not obstacle:
            kept[torch.randperm(len(images), generator=generator(self.seed, "layout", "images"))[:n]] = True
        return obstacle, kept

    def _planted_patches(self, images: Tensor) -> Iterator[Tensor]:
        source = generator(self.seed, "layout", "planted")
        for _ in range(DRAWS):
            yield from map(relative, self._patches(self._planted(images, source)))

    @torch.no_grad()
    def _planted(self, images: Tensor, source: torch.Generator) -> Tensor:
        """The images, a pseudo anomaly of a patch's size somewhere in each: a random crop, augmented and put back."""
        clean, side = as_float(images), self.settings.patch
        corners = random_corners(len(clean), (clean.shape[2], clean.shape[3]), side, source)
        which = torch.arange(len(clean))
        changed = self.augmentation(crop(clean, which, corners, side), source)
        planted = clean.permute(0, 2, 3, 1).clone()
        planted[windows(which, corners, side)] = changed.permute(0, 2, 3, 1)
        return planted.permute(0, 3, 1, 2)
