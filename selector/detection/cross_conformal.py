"""Calibration: the scores of normal images that a detector did not learn from, which p-values compare a score with.

Split-conformal calibration holds one part of the normal images out. Where they are few, that part is too small for a
useful false-alarm rate; cross-conformal calibration (Vovk, 2015) then trains the chosen detector again without each
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
from selector.detection.conformal import cross_p_values
from selector.detection.regions import map_threshold
from selector.execution import Engine
from selector.zoo.candidates import Candidate, ensemble_id
from selector.zoo.disk import disk_errors
from selector.zoo.store import Store

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Fold:
    """A detector, with its scores (h,) and highest map scores (h,) of the normal images that are held out from it."""

    detector: Detector
    scores: Tensor
    map_maxima: Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """The folds to compare scores with: the chosen detector's own (split-conformal), or several (cross-conformal).

    Split-conformal keeps P(p <= a) <= a for normal images exchangeable with the calibration images. Cross-conformal
    keeps it within 2 a in the worst case (Barber et al., "Predictive inference with the jackknife+", 2021) and close to
    a where the folds' detectors agree.
    """

    folds: tuple[Fold, ...]

    @property
    def n(self) -> int:
        """How many calibration images there are."""
        return sum(len(fold.scores) for fold in self.folds)

    @property
    def is_cross(self) -> bool:
        return len(self.folds) > 1

    def p_values(self, pixels: Tensor, scores: Tensor) -> Tensor:
        """The p-values of images.

        Args:
            pixels: The images (k,C,H,W).
            scores: The scores (k,) that the chosen detector gives them.

        Returns:
            (k,), float64.
        """
        by_fold = [fold.detector.score(pixels) for fold in self.folds] if self.is_cross else [scores]
        return cross_p_values([(fold.scores, own) for fold, own in zip(self.folds, by_fold, strict=True)])

    def map_threshold(self, rate: float) -> float:
        """The map score that a normal image exceeds anywhere with probability ``rate`` at most."""
        return map_threshold(torch.cat([fold.map_maxima for fold in self.folds]), rate)


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
    groups = _groups(store)
    seed = min(member.training.seed for member in job.members)
    order = torch.randperm(int(groups.max()) + 1, generator=generator(seed, "folds"))
    out = torch.isin(groups, order[job.fold :: FOLDS])
    held_out, rest = out.nonzero()[:, 0], ~out
    members = [member.make_detector(job.device) for member in job.members]
    detector = (Ensemble(members) if len(members) > 1 else members[0]).fit(normals[rest])
    maxima = detector.score_map(normals[held_out]).flatten(1).max(1).values
    with disk_errors(store.root):
        detector.save(job.path)
        files.write(job.scores_path, {"scores": detector.score(normals[held_out]), "map_maxima": maxima})


def _groups(store: Store) -> Tensor:
    """The group number, from 0, of each normal image outside of selection; one group per image where there are none."""
    train, calibration = (store.groups(split) for split in ("train", "calibration"))
    if train is None or calibration is None:
        return torch.arange(len(store.images["train"]) + len(store.images["calibration"]))
    return torch.tensor([*train, *calibration]).unique(return_inverse=True)[1]


def cross_calibrate(store: Store, members: Sequence[Candidate], engine: Engine, device: torch.device) -> Calibration:
    """The cross-conformal calibration of the detector that candidates form together.

    Args:
        store: The run folder; a fold that is stored there is not trained again.
        members: The candidates.
        engine: Where the folds are trained.
        device: Where the folds' detectors are loaded.

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
    return Calibration(tuple(_folds(jobs, device)))


def _folds(jobs: list[FoldJob], device: torch.device) -> Iterator[Fold]:
    for job in jobs:
        yield Fold(detectors.load(job.path, device), **files.read(job.scores_path)[0])
