"""The rotation detector: learn by which quarter turn an image is turned, then score the learned features.

Gidaris et al., ICLR 2018 (RotNet); as a detector with an MLP head, Sohn et al., ICLR 2021.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from augmentations import InputError, get, make
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors.base import Progress
from detectors.encoders import reduced
from detectors.images import Images, as_images, pieces
from detectors.kind import augmented
from detectors.presets import Preset
from detectors.proxy import PUBLISHED_IMAGES, PUBLISHED_PASSES, ProxyKind, ProxySettings, mlp, width_of
from detectors.scorers import Scorer
from detectors.scoring import TwoStageModule
from detectors.training import Drawn, epochs, optimize, sgd
from detectors.views import apply_views, quarter_turns, sample_views

TURNS = 4
SCORER, CLASSIFIER = "scorer", "classifier"  # what gives the anomaly score of an image
PUBLISHED_HEAD = (512,) * 7


@dataclass(frozen=True)
class RotationSettings(ProxySettings):
    """A training on ``batch`` images per step, each in all four turns, of four views.

    score: "scorer", on the features, or "classifier": how unsure the classifier of turns is, a baseline. The rest as in
    ``ProxySettings``. Raises InputError as that does, and for an unknown score.
    """

    score: str = SCORER

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in (SCORER, CLASSIFIER):
            raise unknown_name("score", self.score, [SCORER, CLASSIFIER])


class RotationModule(TwoStageModule):
    """The scoring graph that asks the classifier: -sum log p_k, with p_k its probability of k of the image turned by k.

    The product of the probabilities, as Sohn et al. have it, in a form that does not saturate.
    """

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(N,d,h,w) of the images as they are, and (N,) how unsure the classifier is."""
        images = reduced(images, self.reduction)
        upright = self.encoder(images)
        unsure = torch.zeros_like(upright[:, 0, 0, 0])
        for k in range(TURNS):
            features = self.encoder(quarter_turns(images, k)) if k else upright
            logits = self.encoder.head(features.mean((2, 3)))  # type: ignore[operator]
            unsure = unsure - logits.log_softmax(1)[:, k]
        return upright, unsure

    def embed(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().embed(features[0])

    def rows(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().rows(features[0])

    def locations(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().locations(features[0])

    def score(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return features[1]


class Rotation(ProxyKind):
    """An encoder trained to say by which quarter turn an image is turned, and scorers on its features.

    score: the scorer's, on pooled features of the image as it is; or the classifier's (``RotationSettings.score``).
    score_map: the scorer's, by location. Pseudo anomalies: images turned by 90, 180 or 270 degrees.
    ``proxy_accuracy`` near 1/4 is the label-free sign that turns can't be seen on these images, as on isotropic
    textures and on objects that lie anyhow.
    """

    name = "rotation"
    Settings = RotationSettings
    settings: RotationSettings
    holds_out = True
    DIAGNOSTICS = ("proxy_accuracy",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.needs_head:
            self.score_is_distance = False

    @classmethod
    def settings_for(cls, preset: Preset) -> RotationSettings:
        """The training of Sohn et al. under "paper"; else so many images per step as a classifier sees, and its steps.

        Views of the paper differ too much for few steps: the shorter trainings crop less and leave colours alone.
        """
        if preset.is_published:
            batch = 64
            steps = PUBLISHED_PASSES * (PUBLISHED_IMAGES // batch)
            return RotationSettings(preset.encoder, preset.image_size, PUBLISHED_HEAD, steps, batch)
        return RotationSettings(
            preset.encoder,
            preset.image_size,
            preset.head,
            preset.steps,
            max(2, preset.batch // 2),
            learning_rate=0.03,
            crop=0.8,
            jitter=preset.jitter,
            gray=0.0,
        )

    @classmethod
    def has_pseudo_anomalies(cls) -> bool:
        return True

    @classmethod
    def family_of(cls, settings: RotationSettings) -> str:
        return get("rotation").family

    @classmethod
    def uses_scorer(cls, settings: RotationSettings) -> bool:
        return settings.score == SCORER

    @property
    def proxy_accuracy(self) -> float | None:
        """How often the classifier of turns is right; None without training.

        On a tenth of the train images, 100 at most, that it was not trained on: it learns by heart what it was trained
        on, even of noise. With fewer than 20 images, on those after all.
        """
        return self.diagnostics["proxy_accuracy"]

    @property
    def needs_head(self) -> bool:
        return self.settings.score == CLASSIFIER

    def build_head(self) -> nn.Sequential:
        """Hidden layers and one linear one, all of them absent where ``head`` is empty, and four logits."""
        widths = (width_of(self.settings.encoder), *self.settings.head)
        last = [nn.Linear(widths[-1], widths[-1])] if self.settings.head else []
        return nn.Sequential(*mlp(widths), *last, nn.Linear(widths[-1], TURNS))

    def scoring_module(self) -> TwoStageModule:
        if not self.needs_head:
            return super().scoring_module()
        scorers: tuple[Scorer | None, Scorer | None] = (
            getattr(self, "scorer", None),
            getattr(self, "map_scorer", None),
        )
        return RotationModule(self.encoder, *scorers, reduction=self.reduction)

    def check_images(self, images: Tensor) -> None:
        height, width = images.shape[2:]
        if height != width:
            raise InputError(f"images of {height}x{width} px", "must be square to be turned", "crop or resize them")

    def learn(self, model: nn.Module, images: Tensor, on_progress: Progress | None) -> Tensor:
        settings, device = self.settings, images.device
        size = images.shape[2], images.shape[3]
        order = epochs(len(images), settings, self.seed).to(device)
        source = generator(self.seed, "train", "views")
        views = Drawn(lambda n: sample_views(n, settings, size, source), TURNS * settings.batch, settings.steps, device)
        labels = torch.arange(TURNS, device=device).repeat_interleave(settings.batch)

        def batch_of(step: int) -> tuple[Tensor, Tensor]:
            viewed = apply_views(images[order[step].repeat(TURNS)], views.at(step), settings)
            return turned(viewed.chunk(TURNS)), labels

        return optimize(
            model,
            batch_of,
            nn.functional.cross_entropy,
            settings,
            device=device,
            optimizer=sgd(model, settings),
            on_progress=on_progress,
        )

    def diagnose(self, model: nn.Module, images: Tensor) -> dict[str, float | None]:
        right = [
            (model(quarter_turns(some, k)).argmax(1) == k).float() for some in pieces(images) for k in range(TURNS)
        ]
        return {"proxy_accuracy": torch.cat(right).mean().item()}

    @classmethod
    def scores_embeddings(cls, settings: Any) -> bool:
        return settings.score != CLASSIFIER

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        return augmented(make("rotation"), as_images(images), generator, self.device)


def turned(parts: tuple[Tensor, ...]) -> Tensor:
    """One batch of images, the k-th part turned by k times 90 degrees; channels last."""
    batch = torch.cat([quarter_turns(part, k) for k, part in enumerate(parts)])
    return batch.contiguous(memory_format=torch.channels_last)
