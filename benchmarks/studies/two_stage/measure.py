"""One training of the comparison and what its scorers make of it: the rows of the results."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import augmentations
import detectors
from benchmarks.evaluation.metrics import LocalizationMetrics, auroc
from benchmarks.suites.two_stage import FEATURES, SCORERS, Compared
from benchmarks.tasks.contamination import SemiSupervised
from detectors import Kind, Preset, ScorerSpec
from detectors.contrastive import uniformity
from selector.zoo.training import TRAINING_FAILURES

OWN = "own"  # in the column "scorer", of a kind that scores images itself
ONE_CLASS, SEMI_SUPERVISED = "one-class", "semi-supervised"
NUMBERS = (
    *("auroc", "pixel_auroc", "aupro"),
    *("uniformity", "head_uniformity", "proxy_accuracy", "steps", "seconds"),
)
COLUMNS = ("data_set", "seed", "contamination", "kind", "protocol", "scorer", *NUMBERS, "reason")
SPREAD = 1_000  # train images that the uniformity of features is computed from, at most


def rows(
    kind: Compared, preset: Preset, split: SemiSupervised, seed: int, device: torch.device | str
) -> Iterator[dict[str, Any]]:
    """One row per protocol and scorer of one training; a row that says why where it failed.

    Args:
        kind: what is trained.
        preset: what it takes its settings from.
        split: the train images, labeled ones, and what is tested.
        seed: of the training.
        device: where.
    """
    started = time.monotonic()
    try:
        detector = make(kind, preset, seed, device, kind.own_score).train(split.task.train)
        seconds = round(time.monotonic() - started, 2)
        scorers = [*SCORERS, *([OWN] if kind.own_score else [])]
        scored = [
            {"protocol": protocol, "scorer": scorer, **measures}
            for protocol, normal in ((ONE_CLASS, split.task.train), (SEMI_SUPERVISED, split.inliers))
            if len(normal)
            for scorer, measures in measured(kind, preset, detector, scorers, normal, split)
        ]
        same = {**diagnostics(detector, split.task.train), "seconds": seconds, "reason": ""}
    except TRAINING_FAILURES as error:
        scored = [{"protocol": ONE_CLASS, "scorer": ""}]
        reason = f"{type(error).__name__}: {error}"
        same = {"seconds": round(time.monotonic() - started, 2), "reason": reason}
    for row in scored:
        yield dict.fromkeys(COLUMNS) | row | same


def make(
    kind: Compared, preset: Preset, seed: int, device: torch.device | str, score: str = "", scorer: Any = "gaussian"
) -> Kind:
    """The detector, not trained yet; ``score`` is the value of its setting of that name, if it has one."""
    cls = detectors.get(kind.detector)
    settings = replace(cls.settings_for(preset), **kind.settings, **({"score": score} if score else {}))
    augmentation = augmentations.make(kind.augmentation, **kind.hyperparameters) if kind.augmentation else None
    return cls(settings, augmentation, scorer=scorer, seed=seed, device=device)


def measured(
    kind: Compared,
    preset: Preset,
    trained: Kind,
    scorers: list[str],
    normal: Tensor,
    split: SemiSupervised,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Each scorer, fitted to ``normal`` images, and its metrics: of images, and of pixels where there are masks."""
    task = split.task
    labels = task.labels.numpy()
    if task.masks is None:
        scoring = features_of(kind, preset, trained)
        fitted_to, tested = (embedded_rows(scoring, images) for images in (normal, task.test))
    for scorer in scorers:
        if scorer == OWN:
            detector = trained.fit_scorer(normal)
        else:
            spec = ScorerSpec.of(scorer, SCORERS[scorer][0])
            detector = features_of(kind, preset, trained, spec)
            if task.masks is None:
                scores = detector.make_scorer().fit(fitted_to).score(tested)
                yield scorer, {"auroc": auroc(scores.cpu().numpy(), labels)}
                continue
            detector.fit_scorer(normal)
        metrics = {"auroc": auroc(detector.score(task.test).numpy(), labels)}
        if task.masks is not None:
            pixels = LocalizationMetrics()
            pixels.update(detector.score_map(task.test).numpy(), task.masks.numpy())
            metrics |= pixels.compute()
        yield scorer, metrics


def features_of(kind: Compared, preset: Preset, trained: Kind, scorer: Any = "gaussian") -> Kind:
    """The same trained encoder, scored by a scorer on its features: how a kind scores is no part of its training."""
    detector = make(kind, preset, trained.seed, trained.device, FEATURES if kind.own_score else "", scorer)
    detector.take_training(trained)
    return detector


@torch.no_grad()
def embedded_rows(detector: Kind, images: Tensor) -> Tensor:
    """(N,d) what the scorer of a detector sees of images: computed once for all scorers."""
    module = detector.scoring_module().eval()
    return torch.cat([module.rows(module.features(batch)) for batch in detector.batches(images)])


def diagnostics(detector: Kind, images: Tensor) -> dict[str, Any]:
    """What is said of a training without labels: how evenly the features of its images spread, and the kind's own."""
    known = getattr(detector, "diagnostics", {})
    return {
        **{name: value for name, value in known.items() if name in COLUMNS},
        "uniformity": uniformity(detector.embed(images[:SPREAD])),
        "steps": 0 if detector.losses is None else len(detector.losses),
    }
