"""The contrastive detectors: learn to tell images apart whatever the view, then score the learned features.

Sohn et al., ICLR 2021: one-sided InfoNCE (after Chen et al., ICML 2020, SimCLR) on small batches, and distribution
augmentation, which makes turned copies of an image into images of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from augmentations import Augmentation, InputError, get, make, names
from augmentations.errors import require_json, unknown_name
from augmentations.randomness import generator, noise
from detectors.base import Progress
from detectors.images import Images, as_float, as_images, pieces
from detectors.kind import augmented
from detectors.presets import Preset, require
from detectors.proxy import PUBLISHED_IMAGES, PUBLISHED_PASSES, ProxyKind, ProxySettings, mlp, width_of
from detectors.training import Drawn, Draws, epochs, optimize, sgd
from detectors.views import FLIP, apply_views, sample_views, symmetries

PUBLISHED_HEAD, PUBLISHED_OUTPUTS, PUBLISHED_BATCH = (512,) * 8, 128, 32
VIEWS = 2

# Of ``symmetries``: 0 as it is, 1 flipped, 2 turned by 90, 3 that and flipped, 4 by 180, 5 that and flipped, ...
INSTANCES: dict[str, tuple[int, ...]] = {
    "rotations": (0, 2, 4, 6),
    "hflip": (0, 1),
    "vflip": (0, 5),
    **{f"first_{n}": tuple(range(n)) for n in range(3, 9)},
}


FLIPS = (1, 5)  # without a turn


@dataclass(frozen=True)
class ContrastiveSettings(ProxySettings):
    """A training on two views of ``batch`` images per step.

    temperature: what similarities are divided by. outputs: width of what they are measured on. The rest as in
    ``ProxySettings``. Raises InputError as that does, and for a value out of range.
    """

    temperature: float = 0.2
    outputs: int = PUBLISHED_OUTPUTS

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            (
                ("temperature", 0 < self.temperature < math.inf, "must be finite and > 0", "0.2"),
                ("outputs", self.outputs >= 1, "must be a width of at least 1", "128"),
            ),
        )


@dataclass(frozen=True)
class ContrastiveDASettings(ContrastiveSettings):
    """A training whose images are ``instances`` of the images, each as distinct from the others as from other images.

    instances: "rotations" (by 0, 90, 180 and 270 degrees), "hflip", "vflip", "first_n" (n of 3 to 8: the first n of all
    turns, each as it is and flipped), or the name of an augmentation, of which every image has ``copies`` besides
    itself, drawn before training with ``hyperparameters`` (name, value). The rest as in ``ContrastiveSettings``.

    Raises InputError as that does, for unknown instances, and for ``hflip`` where instances differ by it.
    """

    instances: str = "rotations"
    copies: int = 3
    hyperparameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hyperparameters", _tuples(self.hyperparameters))
        require(self, [("copies", self.copies >= 1, "must be at least 1", "3")])
        if self.instances in INSTANCES:
            if self.hyperparameters:
                rule = f"are those of an augmentation, and instances={self.instances!r} is none"
                raise InputError(f"hyperparameters={self.hyperparameters!r}", rule, "leave them out")
            if self.hflip and _differ_by_flip(INSTANCES[self.instances]):
                rule = f"can't be a view where instances={self.instances!r} differ by it"
                raise InputError("hflip=True", rule, "set hflip=False")
        elif ":" not in self.instances and self.instances not in names():
            raise unknown_name("instances", self.instances, [*INSTANCES, *names()])
        else:
            require_json("hyperparameters", dict(self.hyperparameters))
            self.augmentation()

    def augmentation(self) -> Augmentation | None:
        """What copies are made by; None where instances are turns and flips."""
        return None if self.instances in INSTANCES else make(self.instances, **dict(self.hyperparameters))

    @property
    def symmetries(self) -> tuple[int, ...]:
        """Which turns and flips the instances are; of an augmentation's, none but the image itself."""
        return INSTANCES.get(self.instances, (0,))

    @property
    def family(self) -> str:
        """The family of augmentations that the other instances of an image belong to; that of turns where some are."""
        augmentation = self.augmentation()
        if augmentation is not None:
            return augmentation.family
        are_flips = all(k in FLIPS for k in self.symmetries if k)
        return get("flip" if are_flips else "rotation").family

    @property
    def per_image(self) -> int:
        """How many instances each image has, itself among them."""
        return len(INSTANCES.get(self.instances, range(1 + self.copies)))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _differ_by_flip(chosen: tuple[int, ...]) -> bool:
    maps = symmetries()[list(chosen)]
    return any(torch.allclose(first @ FLIP, second) for first in maps for second in maps)


class Contrastive(ProxyKind):
    """An encoder trained to recognise an image in another view among other images, and scorers on its features.

    score: the scorer's, on pooled features of the image as it is. score_map: the scorer's, by location. ``uniformity``
    and ``head_uniformity``: how evenly features and outputs of normal images spread, which a one-class model does not
    want. Learns against nothing.
    """

    name = "contrastive"
    Settings: ClassVar[type[ContrastiveSettings]] = ContrastiveSettings
    settings: ContrastiveSettings
    DIAGNOSTICS = ("uniformity", "head_uniformity")

    @classmethod
    def settings_for(cls, preset: Preset) -> ContrastiveSettings:
        """The training of Sohn et al. under "paper"; else so many images per step as a classifier sees, and its steps.

        Shorter trainings take a larger rate and leave hue, saturation and gray alone.
        """
        if preset.is_published:
            steps = PUBLISHED_PASSES * cls._published_instances() * (PUBLISHED_IMAGES // PUBLISHED_BATCH)
            return cls.Settings(preset.encoder, preset.image_size, PUBLISHED_HEAD, steps, PUBLISHED_BATCH)
        widest = max(preset.head, default=64)
        return cls.Settings(
            preset.encoder,
            preset.image_size,
            (2 * widest,) * 3,
            preset.steps,
            preset.batch,
            learning_rate=0.03,
            gray=0.0,
            outputs=widest,
        )

    @classmethod
    def _published_instances(cls) -> int:
        return 1

    @property
    def uniformity(self) -> float | None:
        """Of pooled features of train images, as ``uniformity`` computes it; None without training."""
        return self.diagnostics["uniformity"]

    @property
    def head_uniformity(self) -> float | None:
        """Of the head's outputs for train images; None without training."""
        return self.diagnostics["head_uniformity"]

    def build_head(self) -> nn.Sequential:
        widths = (width_of(self.settings.encoder), *self.settings.head)
        return nn.Sequential(*mlp(widths), nn.Linear(widths[-1], self.settings.outputs, bias=False))

    def learn(self, model: nn.Module, images: Tensor, on_progress: Progress | None) -> Tensor:
        settings, device = self.settings, images.device
        size = images.shape[2], images.shape[3]
        instance = self._instances(images)
        order = epochs(instance.count * len(images), settings, self.seed).to(device)
        source = generator(self.seed, "train", "views")
        views = Drawn(lambda n: sample_views(n, settings, size, source), VIEWS * settings.batch, settings.steps, device)
        same = torch.arange(settings.batch, device=device)

        def batch_of(step: int) -> tuple[Tensor, Tensor]:
            batch, turns = instance.take(order[step])
            turns = None if turns is None else turns.repeat(VIEWS, 1, 1)
            return apply_views(batch.repeat(VIEWS, 1, 1, 1), views.at(step), settings, turns), same

        def loss_of(outputs: Tensor, same: Tensor) -> Tensor:
            first, second = outputs.chunk(VIEWS)
            return info_nce(first, second, settings.temperature, same)

        return optimize(
            model,
            batch_of,
            loss_of,
            settings,
            device=device,
            optimizer=sgd(model, settings),
            on_progress=on_progress,
        )

    def _instances(self, images: Tensor) -> "Instances":
        return Instances(images)

    def diagnose(self, model: nn.Module, images: Tensor) -> dict[str, float | None]:
        assert isinstance(model, nn.Sequential)
        pooled = torch.cat([model[:-1](some) for some in pieces(images)])
        return {"uniformity": uniformity(pooled), "head_uniformity": uniformity(model[-1](pooled))}


class ContrastiveDA(Contrastive):
    """The contrastive detector with distribution augmentation: turned copies of an image are images of their own.

    What normal images look like then fills a part of the sphere of features only. Pseudo anomalies: the instances of
    an image but itself.
    """

    name = "contrastive_da"
    Settings = ContrastiveDASettings
    settings: ContrastiveDASettings

    @classmethod
    def _published_instances(cls) -> int:
        return len(INSTANCES["rotations"])

    @classmethod
    def has_pseudo_anomalies(cls) -> bool:
        return True

    @classmethod
    def family_of(cls, settings: ContrastiveDASettings) -> str:
        return settings.family

    def check_images(self, images: Tensor) -> None:
        height, width = images.shape[2:]
        if height != width and len(_upright(self.settings.symmetries)) < len(self.settings.symmetries):
            raise InputError(f"images of {height}x{width} px", "must be square to be turned", "crop or resize them")

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        clean, augmentation = as_images(images), self.settings.augmentation()
        if augmentation is not None:
            return augmented(augmentation, clean, generator, self.device)
        square = clean.shape[2] == clean.shape[3]
        possible = self.settings.symmetries if square else _upright(self.settings.symmetries)
        others = [k for k in possible if k]
        chosen = (noise(len(clean), generator) * len(others)).long()
        results = as_float(clean).cpu().clone()
        for place, k in enumerate(others):
            rows = chosen == place
            turned = torch.rot90(results[rows], k // 2, (2, 3))
            results[rows] = turned.flip(3) if k % 2 else turned
        return results

    def _instances(self, images: Tensor) -> "Instances":
        settings = self.settings
        augmentation = settings.augmentation()
        if augmentation is None:
            return Instances(images, turns=symmetries()[list(settings.symmetries)].float().to(images.device))
        source = generator(self.seed, "train", "instances")
        n = settings.copies * len(images)
        with torch.no_grad():
            drawn = augmentation.sample(n, (images.shape[2], images.shape[3]), source)
        draws = {name: value.to(images.device) for name, value in drawn.items()}
        return Instances(images, change=lambda batch, rows: augmentation.apply(batch, _rows(draws, rows)), count=n)


def _upright(chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Of ``symmetries``, those that keep the sides of an image."""
    return tuple(k for k in chosen if k // 2 % 2 == 0)


def _rows(draws: Draws, rows: Tensor) -> Draws:
    return {name: value[rows] for name, value in draws.items()}


class Instances:
    """Images and their changed copies, each an instance of its own; made when a batch asks for them."""

    def __init__(
        self,
        images: Tensor,
        *,
        turns: Tensor | None = None,
        change: Callable[[Tensor, Tensor], Tensor] | None = None,
        count: int = 0,
    ) -> None:
        """
        Args:
            images: (n,C,H,W) on the device.
            turns: (k,2,2) the map of coordinates of each instance of an image.
            change: images and the number of a copy to that copy, for ``count`` copies in all.
            count: how many copies there are.
        """
        self.images, self.turns, self.change = images, turns, change
        self.count = len(turns) if turns is not None else 1 + count // len(images)

    def take(self, which: Tensor) -> tuple[Tensor, Tensor | None]:
        """The instances (m,) as images (m,C,H,W), and the turns that a view is to begin with, if any.

        Instance i + k n is the k-th of image i.
        """
        n = len(self.images)
        batch, kind = self.images[which % n], which // n
        if self.change is not None:
            changed = self.change(batch, (which - n).clamp(min=0))
            batch = torch.where((kind == 0)[:, None, None, None], batch, changed)
        return batch, None if self.turns is None else self.turns[kind]


def info_nce(first: Tensor, second: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """One-sided InfoNCE: which of the second views shows the same image as a first view.

    Negatives are the second views of the other images only; there is no symmetric term (Sohn et al., ICLR 2021).

    Args:
        first, second: (B,d) outputs for two views of B images, in the same order.
        temperature: what cosine similarities are divided by.
        same: (B,) 0 to B - 1, on the device; made here where it is left out.
    """
    similarities = nn.functional.normalize(first, dim=1) @ nn.functional.normalize(second, dim=1).mT
    labels = torch.arange(len(first), device=first.device) if same is None else same
    return nn.functional.cross_entropy(similarities / temperature, labels)


def uniformity(rows: Tensor) -> float | None:
    """log mean exp(-2 |a - b|^2) over all pairs of different rows (n,d), each of unit length; None for one row.

    0 where all are the same; the lower, the more evenly they spread over the sphere (Wang & Isola, ICML 2020).
    """
    if len(rows) < 2:
        return None
    distances = torch.pdist(nn.functional.normalize(rows.detach().cpu().double(), dim=1))
    return distances.square().mul(-2).exp().mean().log().item()
