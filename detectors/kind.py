"""What a kind of detector is: a class that the zoo trains, with frozen settings of its own."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from augmentations import Augmentation, InputError, make, reference
from augmentations.randomness import generator
from augmentations.references import reference_of
from detectors.base import Detector, Progress
from detectors.devices import resolve_device
from detectors.encoders import without_weights
from detectors.files import State
from detectors.images import Images, as_float, as_images, pieces
from detectors.presets import Preset
from detectors.scorers import Scorer, ScorerSpec
from detectors.scoring import TwoStageModule, some_rows
from detectors.shared_features import SharedFeatures

ENCODER = "encoder."  # what the names of its tensors begin with, in files
LOCATION_ROWS = 20_000  # rows that the map's scorer is fitted to, at most: as Sohn et al. cap theirs


class Kind(Detector):
    """A detector in two stages: an encoder that is trained, or not, and one-class scorers on its features.

    A subclass gives its ``name``, its ``Settings`` (a frozen dataclass of JSON values, ``image_size`` among them)
    and ``build_encoder``; one that learns overrides ``train``, and one that scores otherwise ``scoring_module``.
    What a kind is made of is what the zoo stores: settings, an augmentation where it ``uses_augmentation``, a
    scorer, and a seed.

    Source: the two-stage recipe of Sohn et al., ICLR 2021.
    """

    Settings: ClassVar[type[Any]]
    uses_augmentation: ClassVar[bool] = True
    spaces: ClassVar[tuple[str, ...]] = ("images",)  # of augmentations that it can learn against
    learns_encoder: ClassVar[bool] = True  # whether training changes the encoder, or leaves it as it was built
    maps_per_location: ClassVar[bool] = (
        False  # whether each location has a map scorer of its own, if the scorer has that form
    )

    # Where features of frozen encoders are kept; kinds that train theirs have no use for it.
    shared: SharedFeatures | None = None

    # Absent until they are made.
    encoder: nn.Module
    scorer: Scorer
    map_scorer: Scorer

    def __init__(
        self,
        settings: Any,
        augmentation: Augmentation | None = None,
        *,
        scorer: str | type[Scorer] | ScorerSpec = "gaussian",
        seed: int = 0,
        device: torch.device | str = "auto",
    ) -> None:
        """Make a detector that is not trained yet.

        Raises:
            InputError: for an augmentation that is missing or not needed, an unknown scorer, or a device that this
                machine lacks.
        """
        if self.uses_augmentation != (augmentation is not None):
            rule = "learns against an augmentation" if self.uses_augmentation else "takes no augmentation"
            remedy = 'give one, such as augmentations.make("cutpaste")' if self.uses_augmentation else "leave it out"
            raise InputError(f"detector {self.name!r}", rule, remedy)
        if augmentation is not None:
            self.require_space(type(augmentation))
        self.settings = settings
        self._augmentation = augmentation
        self.scorer_spec = ScorerSpec.of(scorer)
        self.score_is_distance = self.scorer_spec.kind.score_is_distance
        self.seed = seed
        self.device = resolve_device(device)
        self.losses: Tensor | None = None

    @classmethod
    def reference(cls) -> str:
        """What files know this kind by: its name, or "module:Class" for one from outside this package."""
        return cls.name if cls.__module__.partition(".")[0] == __name__.partition(".")[0] else reference_of(cls)

    @classmethod
    def settings_for(cls, preset: Preset) -> Any:
        """The settings that this kind trains with under a preset."""
        return cls.Settings(image_size=preset.image_size)

    @classmethod
    def has_pseudo_anomalies(cls) -> bool:
        """Whether ``pseudo_anomalies`` gives any, known before training."""
        return cls.uses_augmentation

    @classmethod
    def family_of(cls, settings: Any) -> str | None:
        """The family of augmentations that pseudo anomalies of a kind without an augmentation belong to, if any."""
        return None

    @classmethod
    def uses_scorer(cls, settings: Any) -> bool:
        """Whether the scores of images are the scorer's; if not, candidates that differ in it alone are the same."""
        return True

    @classmethod
    def require_space(cls, augmentation: type[Augmentation]) -> None:
        """Raise InputError for an augmentation that changes what this kind does not show to what it trains."""
        if augmentation.space not in cls.spaces:
            rule = f"changes {augmentation.space}, and detector {cls.name!r} learns against {' and '.join(cls.spaces)}"
            raise InputError(f"augmentation {augmentation.name!r}", rule, "choose another augmentation for it")

    @classmethod
    def needs(cls, settings: Any) -> int:
        """Side in pixels that images must have at least for these settings to show what they can."""
        return settings.image_size

    @classmethod
    def scores_embeddings(cls, settings: Any) -> bool:
        """Whether ``score_embeddings`` gives any with these settings, known before training."""
        return True

    @property
    def reduction(self) -> int:
        """How many pixels along a side are averaged into one before the encoder sees them; 1 where settings have none.

        Images of a zoo are read at one size, the largest that a kind in it needs.
        """
        return getattr(self.settings, "reduction", 1)

    @property
    def augmentation(self) -> Augmentation:
        """What makes the pseudo anomalies that this detector learns against."""
        if self._augmentation is None:
            raise InputError(f"detector {self.name!r}", "takes no augmentation", "use a kind that takes one")
        return self._augmentation

    @abstractmethod
    def build_encoder(self, channels: int) -> nn.Module:
        """The encoder with its first weights: images (N,channels,H,W) to features (N,d,h,w).

        Weights come from torch's global generator, which is seeded for the call.
        """

    # The two stages ------------------------------------------------------------------------------------------

    def fit(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """Train on normal images, then fit the scorers to them. Raises TrainingDivergedError, InputError."""
        return self.train(images, on_progress=on_progress).fit_scorer(images)

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """The first stage: the encoder. This one leaves it as it is built, for there is nothing to learn.

        Raises as ``fit`` does, and then leaves the detector as it was.
        """
        return self.random_init(images)

    def random_init(self, images: Images) -> Self:
        """The encoder as a training begins with it: the baseline that a training must exceed."""
        channels = as_images(images).shape[1]
        self.losses = None
        self._set_encoder(self._first_encoder(channels), channels)
        return self

    def fit_scorer(self, images: Images) -> Self:
        """The second stage: scorers of pooled features, and of features by location, of normal images."""
        self._require("encoder")
        module = self.scoring_module()
        module.scorer = scorer = self.make_scorer()  # says which rows it wants
        whole = as_images(images)
        share = max(1, LOCATION_ROWS // len(whole))
        source = generator(self.seed, "locations")
        per_location = self.maps_per_location and self.scorer_spec.kind.per_location is not None
        rows, places = [], []
        for features in self._features(module, whole):
            rows.append(module.rows(features))
            every = module.locations(features)
            places.append(every if per_location else some_rows(every, share, source))
        scorer = scorer.fit(torch.cat(rows))
        self.map_scorer = self.make_scorer(per_location=per_location).fit(torch.cat(places))
        self.scorer = scorer
        return self

    def with_scorer(self, scorer: str | type[Scorer] | ScorerSpec, images: Images) -> Self:
        """The same trained encoder with another scorer, fitted to ``images``. Raises InputError before training."""
        self._require("encoder")
        other = type(self)(self.settings, self._augmentation, scorer=scorer, seed=self.seed, device=self.device)
        other.take_training(self)
        return other.fit_scorer(images)

    def take_training(self, other: Self) -> None:
        """Share what another detector, one of the same training, has learned."""
        self.channels, self.encoder, self.losses = other.channels, other.encoder, other.losses
        self.shared = other.shared

    def make_scorer(self, *, per_location: bool = False) -> Scorer:
        """The scorer of the specification, not fitted yet; a kind that prepares the rows for it gives another."""
        return self.scorer_spec.make(per_location=per_location)

    # Scoring -------------------------------------------------------------------------------------------------

    def scoring_module(self) -> TwoStageModule:
        """The scoring graph of what there is so far; without scorers it can only embed."""
        scorers = getattr(self, "scorer", None), getattr(self, "map_scorer", None)
        return TwoStageModule(self.encoder, *scorers, reduction=self.reduction)

    def module(self) -> TwoStageModule:
        self._require("encoder")
        self._require("scorer")
        return self.scoring_module().eval()

    def _embedding_module(self) -> TwoStageModule:
        self._require("encoder")
        return self.scoring_module().eval()

    def kind_of_scores(self) -> str:
        return f"{self.reference()}, {self.scorer_spec.name}"

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        """(N,) anomaly scores of embeddings (N,d); a kind whose scorer sees other rows than embeddings gives None, and
        says so by ``scores_embeddings``."""
        if not self.scores_embeddings(self.settings):
            return None
        self._require("scorer")
        if not self.scorer.normalised:
            return None
        return self.scorer.score(embeddings.to(self.device)).cpu()

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor | None:
        clean = as_images(images)
        if self._augmentation is None:
            return None
        return augmented(self._augmentation, clean, generator, self.device)

    # Files ---------------------------------------------------------------------------------------------------

    def fitted_scorers(self) -> dict[str, Scorer]:
        """What the second stage fitted, by name."""
        parts = {name: getattr(self, name, None) for name in ("scorer", "map_scorer")}
        return {name: scorer for name, scorer in parts.items() if scorer is not None}

    def state(self) -> State:
        self._require("encoder")
        self._require("scorer")
        augmentation = self._augmentation
        settings = {
            "detector": self.reference(),
            "settings": asdict(self.settings),
            "augmentation": augmentation
            and {"name": reference(type(augmentation)), "hyperparameters": augmentation.hyperparameters()},
            "scorer": self.scorer_spec.to_json(),
            "seed": self.seed,
            "channels": self.channels,
            "fitted": {
                part: {
                    "per_location": self.is_per_location(scorer),
                    "tensors": list(scorer.state_dict()),
                }
                for part, scorer in self.fitted_scorers().items()
            },
            **self.extra_state(),
        }
        fitted = {
            f"{part}.{name}": tensor
            for part, scorer in self.fitted_scorers().items()
            for name, tensor in scorer.state_dict().items()
        }
        return State(settings, self.trained_state() | self.given_state(), fitted)

    def is_per_location(self, scorer: Scorer) -> bool:
        """Whether a scorer that ``make_scorer`` made has one model for each location."""
        return type(scorer) is self.scorer_spec.kind.per_location

    def extra_state(self) -> dict[str, Any]:
        """What a kind stores beyond settings, encoder and scorers, as JSON."""
        return {}

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        """Take back what ``extra_state`` gave; KeyError where something is missing."""

    def restore_trained(self, state: State) -> None:
        """Take back what training made besides an encoder; KeyError where something is missing."""

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training made. Raises InputError before it."""
        return self._encoder_state() if self.learns_encoder else {}

    def given_state(self) -> dict[str, Tensor]:
        """The tensors of an encoder that stays as it was built: the same for all detectors with that encoder.

        Raises InputError before training.
        """
        return {} if self.learns_encoder else self._encoder_state()

    def _encoder_state(self) -> dict[str, Tensor]:
        self._require("encoder")
        return {f"{ENCODER}{name}": tensor for name, tensor in self.encoder.state_dict().items()}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Self:
        """The detector whose ``state`` this is.

        Raises:
            InputError: when a part is missing or does not fit.
        """
        saved = state.settings
        try:
            used = saved["augmentation"]
            detector = cls(
                cls.Settings(**saved["settings"]),
                used and make(used["name"], **used["hyperparameters"]),
                scorer=ScorerSpec.from_json(saved["scorer"]),
                seed=saved["seed"],
                device=device,
            )
            with without_weights():
                encoder = detector._first_encoder(saved["channels"])  # its weights are replaced
            encoder.load_state_dict(strip_prefix(state.trained, ENCODER))
            detector._set_encoder(encoder, saved["channels"])
            detector.restore_extra(saved)
            detector.restore_trained(state)
            for part, known in saved["fitted"].items():
                tensors = {name: state.fitted[f"{part}.{name}"].to(detector.device) for name in known["tensors"]}
                scorer = detector.make_scorer(per_location=known["per_location"])
                setattr(detector, part, scorer.restore(tensors))
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever parts make of settings and tensors that they did not write
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                "a saved detector", f"is incomplete ({type(error).__name__}: {reason})", "fit and save it again"
            ) from error
        return detector

    # Parts ---------------------------------------------------------------------------------------------------

    def _first_encoder(self, channels: int) -> nn.Module:
        with self._first_weights():
            return self._placed(self.build_encoder(channels))

    @contextmanager
    def _first_weights(self) -> Iterator[None]:
        """Layers draw their first weights from the global generator: seeded here, and then as it was."""
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also touch the generators of other devices.
            torch.default_generator.manual_seed(generator(self.seed, "weights").initial_seed())
            yield

    def _placed(self, encoder: nn.Module) -> nn.Module:
        return encoder.to(self.device).to(memory_format=torch.channels_last)

    def _set_encoder(self, encoder: nn.Module, channels: int) -> None:
        self.channels, self.encoder = channels, encoder.eval()
        for stale in self.fitted_scorers():
            delattr(self, stale)

    def _require(self, part: str) -> None:
        if not hasattr(self, part):
            raise InputError("this detector", f"has no {part} yet", "call fit(images), or load one that was saved")


@torch.no_grad()
def augmented(augmentation: Augmentation, images: Tensor, source: torch.Generator, device: torch.device) -> Tensor:
    """(N,C,H,W) the images, augmented on ``device`` in batches of bounded size, as float32 on the CPU."""
    drawn = augmentation.sample(len(images), (images.shape[2], images.shape[3]), source)
    results, start = [], 0
    for piece in pieces(images):
        some = {name: value[start : start + len(piece)] for name, value in drawn.items()}
        results.append(augmentation.apply(as_float(piece).to(device), some).cpu())
        start += len(piece)
    return torch.cat(results)


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
