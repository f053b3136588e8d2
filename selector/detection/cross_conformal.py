"""Calibration: the scores of normal images that a detector did not learn from, which p-values compare a score with.

Split-conformal calibration holds one part of the normal images out. Where they are few, the rate of one such part may
be far from the promised mean. Cross-conformal calibration (Vovk, 2015) trains the chosen detector again without each
fold in turn, so that every normal image outside of selection is held out once. Images of one group are in one fold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Detector, Ensemble, files
from selector.detection.conformal import (
    cross_p_values,
    min_false_alarm_rate,
    n_units,
    validate_rate,
    without_rounding,
)
from selector.detection.regions import map_threshold
from selector.execution import Engine
from selector.zoo.candidates import Candidate, ensemble_id
from selector.zoo.disk import disk_errors
from selector.zoo.store import Store

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Fold:
    """A detector, with its scores (h,) of the normal images that are held out from it, and the groups of these images
    where they have some."""

    detector: Detector
    scores: Tensor
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """The folds to compare scores with: the chosen detector's own (split-conformal), or several (cross-conformal).

    Split-conformal keeps P(p <= a) <= a for normal images exchangeable with the calibration images, and for those of a
    new group where images come in groups. Cross-conformal keeps it within 2 a in the worst case, and close to a where
    the folds' detectors agree, if the candidates were fixed before: those that it calibrates were chosen
    after they had been fitted to the images of its folds, and for one of c possible choices no more than 2 a c is
    proved (docs/decisions.md).

    Attributes:
        folds: What scores are compared with.
        map_maxima: The highest map score (h,) by the chosen detector, which makes the maps, of each of its calibration
            images.
        map_groups: The groups of these images, where they have some.
        smallest_cross_rate: Of a split-conformal calibration: the smallest rate of the cross-conformal one.
    """

    folds: tuple[Fold, ...]
    map_maxima: Tensor
    map_groups: tuple[int, ...] | None = None
    smallest_cross_rate: float = 1.0

    @property
    def n(self) -> int:
        """How many calibration images there are."""
        return sum(len(fold.scores) for fold in self.folds)

    @property
    def n_groups(self) -> int | None:
        """How many groups they come in; None where each is one of its own."""
        if self.map_groups is None:
            return None
        return sum(n_units(len(fold.scores), fold.groups) for fold in self.folds)

    @property
    def is_cross(self) -> bool:
        return len(self.folds) > 1

    @property
    def smallest_rate(self) -> float:
        """The smallest false-alarm rate that it supports, which is the smallest p-value."""
        return min_false_alarm_rate(self._units, len(self.folds))

    @property
    def _units(self) -> int:
        return self.n if self.n_groups is None else self.n_groups

    def describe(self) -> str:
        """What p-values come from, in a sentence."""
        groups = "" if self.n_groups is None else f" of {self.n_groups} groups"
        folds = f" in {len(self.folds)} folds, which may double the rate" if self.is_cross else ""
        return f"{self.n} held-out normal images{groups}{folds}"

    def validate_rate(self, rate: float | None) -> float:
        """The false-alarm rate to decide at; as ``selector.detection.conformal.validate_rate``."""
        cross_helps = rate is not None and not self.is_cross and self.smallest_cross_rate <= rate
        return validate_rate(
            rate,
            self._units,
            folds=len(self.folds),
            unit="images" if self.n_groups is None else "groups",
            instead="hold every normal image out in turn (cross=True, --cross), " if cross_helps else "",
        )

    def p_values(self, pixels: Tensor, scores: Tensor) -> Tensor:
        """The p-values of images.

        Args:
            pixels: The images (k,C,H,W).
            scores: The scores (k,) that the chosen detector gives them.

        Returns:
            (k,), float64.
        """
        by_fold = [fold.detector.score(pixels) for fold in self.folds] if self.is_cross else [scores]
        pairs = zip(self.folds, by_fold, strict=True)
        compared = [(fold.scores.double(), without_rounding(fold.scores, own)) for fold, own in pairs]
        return cross_p_values(compared, [fold.groups for fold in self.folds])

    def map_rate(self, rate: float) -> float:
        """The rate that regions of maps are found at: that of images, or the smallest one that the maps support.

        Maps are the chosen detector's, also where the folds' detectors decide, so its own calibration images alone can
        say what is normal in them.
        """
        return max(rate, min_false_alarm_rate(n_units(len(self.map_maxima), self.map_groups)))

    def map_threshold(self, rate: float) -> float:
        """The map score that a normal image exceeds anywhere with probability ``map_rate(rate)`` at most."""
        return map_threshold(self.map_maxima, self.map_rate(rate), self.map_groups)


@dataclass(frozen=True)
class FoldJob:
    """The work of fitting one fold: the candidates that form the detector together, and where the result is stored."""

    root: Path
    members: tuple[Candidate, ...]
    fold: int
    device: str

    @property
    def path(self) -> Path:
        joint = ensemble_id([member.id for member in self.members])
        return self.root / "cross" / joint / f"{self.fold}.safetensors"

    @property
    def scores_path(self) -> Path:
        return self.path.with_name(f"{self.fold}.calibration.safetensors")


def fit_fold(job: FoldJob) -> None:
    """Fit the members to the normal images outside of selection and of this fold, and store what ``Fold`` holds."""
    if job.scores_path.is_file():
        return
    store = Store(job.root)
    normals = torch.cat([store.images["train"], store.images["calibration"]])
    is_held_out = _is_held_out(store, job)
    held_out = normals[is_held_out]
    members = [member.make_detector(job.device) for member in job.members]
    detector = (Ensemble(members) if len(members) > 1 else members[0]).fit(normals[~is_held_out])
    with disk_errors(store.root):
        detector.save(job.path)
        files.write(job.scores_path, {"scores": detector.score(held_out)})


def _is_held_out(store: Store, job: FoldJob) -> Tensor:
    """Which of the normal images outside of selection the fold holds out."""
    groups = _groups(store)
    seed = min(member.training.seed for member in job.members)
    order = torch.randperm(int(groups.max()) + 1, generator=generator(seed, "folds"))
    return torch.isin(groups, order[job.fold :: FOLDS])


def smallest_cross_rate(store: Store) -> float:
    """The smallest false-alarm rate of the cross-conformal calibration; 1 where there are too few images for it."""
    n = int(_groups(store).max()) + 1
    return min_false_alarm_rate(n, FOLDS) if n >= FOLDS else 1.0


def _groups(store: Store) -> Tensor:
    """The group number, from 0, of each normal image outside of selection; one group per image where there are none."""
    train, calibration = (store.groups(split) for split in ("train", "calibration"))
    if train is None or calibration is None:
        return torch.arange(len(store.images["train"]) + len(store.images["calibration"]))
    return torch.tensor([*train, *calibration]).unique(return_inverse=True)[1]


def cross_calibrate(
    store: Store, members: Sequence[Candidate], engine: Engine, device: torch.device, map_maxima: Tensor
) -> Calibration:
    """The cross-conformal calibration of the detector that candidates form together.

    Args:
        store: The run folder; a fold that is stored there is not trained again.
        members: The candidates.
        engine: Where the folds are trained.
        device: Where the folds' detectors are loaded.
        map_maxima: Of the calibration images by the detector itself, as of ``Calibration``.

    Raises:
        InputError: There are fewer groups of images than folds.
    """
    if (n := int(_groups(store).max()) + 1) < FOLDS:
        rule = f"{n} groups of images outside of selection are fewer than its {FOLDS} folds"
        raise InputError("cross-conformal calibration", rule, "use the split-conformal one")
    jobs = [FoldJob(store.root, tuple(members), fold, str(device)) for fold in range(FOLDS)]
    for _, died in engine.run(fit_fold, [job for job in jobs if not job.scores_path.is_file()]):
        if died is not None:
            raise died
    return Calibration(tuple(_folds(store, jobs, device)), map_maxima, calibration_groups(store))


def calibration_groups(store: Store) -> tuple[int, ...] | None:
    """The groups of the calibration images, where they have some."""
    groups = store.groups("calibration")
    return None if groups is None else tuple(groups)


def _folds(store: Store, jobs: list[FoldJob], device: torch.device) -> Iterator[Fold]:
    groups, are_grouped = _groups(store), store.groups("calibration") is not None
    for job in jobs:
        own = tuple(groups[_is_held_out(store, job)].tolist()) if are_grouped else None
        yield Fold(detectors.load(job.path, device), files.read_own(job.scores_path)[0]["scores"], own)
