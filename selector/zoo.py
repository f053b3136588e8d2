"""The zoo: the candidates, how they are trained, and where what they leave behind is kept."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

import detectors
from augmentations.randomness import generator
from detectors import Classifier, Detector
from selector.candidates import Candidate
from selector.evidence import Evidence
from selector.execution import Engine
from selector.store import Store

DRAWS = 5  # of the augmented train images: the spread over them is the embedding criteria's error bar
# What a training can raise through its data and numbers, out of memory included; anything else is our mistake.
TRAINING_FAILURES = (ArithmeticError, RuntimeError, ValueError, MemoryError)
MAP_QUANTILES = 101  # kept of the calibration images' score maps: they set the one colour scale of a run


@dataclass(frozen=True)
class Job:
    """One training and the candidates that share it: what a worker is handed."""

    root: Path
    candidates: tuple[Candidate, ...]
    device: str

    @property
    def training_id(self) -> str:
        return self.candidates[0].training_id


def work(job: Job) -> None:
    """Train once, judge for each scorer, and keep all of it in the run folder.

    A training that fails is a result like any other: it is kept with its reason. Only a run folder that can't be
    written to raises (StorageError).
    """
    store = Store(job.root)
    started = time.monotonic()
    todo = [candidate for candidate in job.candidates if not store.finished(candidate)]
    try:
        trained = _train(store, job, todo[0])
        store.keep_training(job.training_id, trained.trained_state())
        for candidate in todo:
            fitted = trained.with_scorer(candidate.scorer, store.images["fit"])
            evidence = gather_evidence(fitted, store.images, candidate.training.seed)
            assert trained.losses is not None
            record = {
                "status": "ok",
                "reason": "",
                "losses": [round(loss, 5) for loss in trained.losses.tolist()],
                "seconds": time.monotonic() - started,
                "device": job.device,
            }
            store.keep(candidate, record, fitted, evidence, gather_calibration(fitted, store.images))
    except TRAINING_FAILURES as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        for candidate in todo:
            if not store.finished(candidate):
                store.keep(candidate, failure(reason, time.monotonic() - started, traceback.format_exc()))


def failure(reason: str, seconds: float = 0.0, trace: str = "") -> dict[str, object]:
    """The record of a candidate that failed."""
    return {"status": "failed", "reason": reason, "losses": [], "seconds": seconds, "traceback": trace}


def _train(store: Store, job: Job, candidate: Candidate) -> Classifier:
    training = candidate.training
    detector = detectors.get(training.detector)(
        training.make_augmentation(),
        training.settings,
        seed=training.seed,
        scorer_name=candidate.scorer,
        device=job.device,
    )
    return detector.train(
        store.images["fit"], on_progress=lambda step, loss: store.report_progress(job.training_id, step, loss)
    )


def gather_evidence(detector: Detector, images: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """All that selection may see of a candidate; ``augmented`` is (draws, n, d), with as many rows as train images.

    The draws depend on the seed only, so that candidates of one augmentation family meet the same random numbers.
    Raises FloatingPointError when an embedding or a score is not finite.
    """
    drawn = [
        detector.embed(detector.pseudo_anomalies(images["fit"], generator(seed, "augmented", draw)))
        for draw in range(DRAWS)
    ]
    anomalies = detector.pseudo_anomalies(images["validation"], generator(seed, "augmented", "validation"))
    evidence = {
        "train": detector.embed(images["fit"]),
        "augmented": torch.stack(drawn),
        "test": detector.embed(images["test"]),
        "validation": detector.embed(images["validation"]),
        "validation_scores": detector.score(images["validation"]),
        "augmented_scores": detector.score(anomalies),
        "test_scores": detector.score(images["test"]),
    }
    for name, values in evidence.items():
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"{name} of the trained detector are not finite")
    return evidence


def gather_calibration(detector: Detector, images: dict[str, Tensor]) -> dict[str, Tensor]:
    """What decisions and heatmaps are held against: the scores and the map quantiles of the calibration images."""
    maps = detector.score_map(images["calibration"]).double().flatten()
    ranks = torch.linspace(0, len(maps) - 1, MAP_QUANTILES).round().long()
    return {"scores": detector.score(images["calibration"]), "maps": maps.sort().values[ranks]}


class Zoo:
    """The candidates of a run and what is known of them."""

    def __init__(self, store: Store, candidates: Sequence[Candidate], device: torch.device) -> None:
        self.store = store
        self.candidates = tuple(candidates)
        self.device = device

    def __getitem__(self, candidate_id: str) -> Candidate:
        for candidate in self.candidates:
            if candidate.id == candidate_id:
                return candidate
        from augmentations.errors import unknown_name

        raise unknown_name("candidate", candidate_id, [candidate.id for candidate in self.candidates])

    def unfinished(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if not self.store.finished(candidate)]

    def train(self, engine: Engine, on_done: Callable[[Candidate], None] = lambda candidate: None) -> None:
        """Train what is not finished yet; ``on_done`` hears of each candidate, finished ones first.

        Raises StorageError when the run folder can't be written to.
        """
        todo = self.unfinished()
        for candidate in self.candidates:
            if candidate not in todo:
                on_done(candidate)
        by_training = groupby(sorted(todo, key=_position(todo)), key=lambda candidate: candidate.training_id)
        jobs = [Job(self.store.root, tuple(group), str(self.device)) for _, group in by_training]
        for job, died in engine.run(work, jobs):
            for candidate in job.candidates:
                if died is not None and not self.store.finished(candidate):
                    self.store.keep(candidate, failure(f"{type(died).__name__}: {died}"))
                on_done(candidate)
        self.store.forget_progress()

    def detector(self, candidate_id: str) -> Detector:
        """A candidate's fitted detector, loaded from the store. Raises InputError for an unknown or failed one."""
        return self.store.detector(self[candidate_id], self.device)

    def evidence(self, candidate_id: str) -> list[Evidence]:
        """A candidate's evidence, one for each draw of its augmented images."""
        return self.store.evidence(candidate_id)

    def records(self) -> Iterator[tuple[Candidate, dict]]:
        for candidate in self.candidates:
            yield candidate, self.store.record(candidate.id)


def _position(candidates: list[Candidate]) -> Callable[[Candidate], int]:
    """Sorts candidates of one training together, trainings in the order of their first candidate."""
    first: dict[str, int] = {}
    for candidate in candidates:
        first.setdefault(candidate.training_id, len(first))
    return lambda candidate: first[candidate.training_id]
