"""The zoo: the candidates, how they are trained, and where what they leave behind is kept."""

import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors import Classifier, Detector, Ensemble
from detectors.ensemble import highest
from selector.evidence.evidence import Evidence
from selector.execution.execution import Engine
from selector.zoo import validation_anomalies as pseudo
from selector.zoo.candidates import Candidate, Training
from selector.zoo.store import KeptEnsemble, Store

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
    rivals: tuple[Training, ...]  # whose augmentations make the bank of pseudo anomalies

    @property
    def training_id(self) -> str:
        return self.candidates[0].training_id


def work(job: Job) -> None:
    """Train once, judge for each scorer, and keep all of it in the run folder; what is there already stays.

    A training or a scorer that fails is a result like any other: it is kept with its reason. Only a run folder
    that can't be written to (StorageError) or read (InputError) raises.
    """
    store = Store(job.root)
    started = time.monotonic()
    todo = [candidate for candidate in job.candidates if not store.finished(candidate)]
    images = store.images  # read here, because a damaged run folder is no candidate's failure
    bank = _bank(images["validation"], job.rivals)
    trained = None
    for candidate in todo:
        try:
            if trained is None:
                trained, losses = _kept_training(store, job) or _new_training(store, job)
            fitted = trained.with_scorer(candidate.scorer, images["train"])
            evidence = gather_evidence(fitted, images, candidate.training, bank)
            calibration = gather_calibration(fitted, images)
        except TRAINING_FAILURES as error:
            reason = f"{type(error).__name__.lstrip('_')}: {error}".splitlines()[0]
            failed = failure(reason, time.monotonic() - started, traceback.format_exc())
            for other in todo if trained is None else [candidate]:
                store.keep(other, failed)
            if trained is None:
                return
            continue
        record = {
            "status": "ok",
            "reason": "",
            "losses": losses,
            "seconds": time.monotonic() - started,
            "device": job.device,
        }
        store.keep(candidate, record, fitted, evidence, calibration)


def failure(reason: str, seconds: float = 0.0, trace: str = "") -> dict[str, object]:
    """The record of a candidate that failed."""
    return {"status": "failed", "reason": reason, "losses": [], "seconds": seconds, "traceback": trace}


def _kept_training(store: Store, job: Job) -> tuple[Classifier, list[float]] | None:
    """The detector and the losses of a candidate that shares this training and finished before a stop, if any.

    Its scorer belongs to these very weights; training again need not give the same bits on every device.
    """
    for candidate in job.candidates:
        if store.finished(candidate) and (record := store.record(candidate.id))["status"] == "ok":
            with suppress(InputError):  # damaged weights are made again
                return store.detector(candidate, torch.device(job.device)), record["losses"]
    return None


def _new_training(store: Store, job: Job) -> tuple[Classifier, list[float]]:
    trained = (
        job.candidates[0]
        .make_detector(job.device)
        .train(store.images["train"], on_progress=lambda step, loss: store.report_progress(job.training_id, step, loss))
    )
    assert trained.losses is not None
    store.keep_training(job.training_id, trained.trained_state())
    return trained, [round(loss, 5) for loss in trained.losses.tolist()]


def _bank(images: Tensor, trainings: Sequence[Training]) -> dict[str, Tensor]:
    """The bank of a zoo: the same whatever the detectors and the number of seeds are."""
    distinct = {(training.augmentation, training.hyperparameters): training for training in trainings}
    recipes = [training.make_augmentation() for training in distinct.values()]
    return pseudo.bank(images, recipes, min(training.seed for training in trainings))


def gather_evidence(
    detector: Detector, images: dict[str, Tensor], training: Training, bank: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that selection may see of a candidate; ``augmented`` is (draws, n, d), with as many rows as train images.

    The draws depend on the seed only, so that candidates of one augmentation family meet the same random numbers.
    Nothing of test images where there are none. Raises FloatingPointError when an embedding or a score is not finite.
    """
    seed = training.seed
    drawn = [
        detector.embed(detector.pseudo_anomalies(images["train"], generator(seed, "augmented", draw)))
        for draw in range(DRAWS)
    ]
    anomalies = detector.pseudo_anomalies(images["validation"], generator(seed, "augmented", "validation"))
    evidence = {
        "train": detector.embed(images["train"]),
        "augmented": torch.stack(drawn),
        "validation": detector.embed(images["validation"]),
        "validation_scores": detector.score(images["validation"]),
        "augmented_scores": detector.score(anomalies),
    }
    if "test" in images:
        evidence |= {"test": detector.embed(images["test"]), "test_scores": detector.score(images["test"])}
    held_out = len(images["validation"])
    scores = pseudo.pseudo_scores(
        detector, bank, training.make_augmentation().family, evidence["train"], held_out, seed
    )
    if scores is not None:
        evidence["pseudo_scores"] = scores
    return _finite(evidence)


def gather_calibration(detector: Detector, images: dict[str, Tensor]) -> dict[str, Tensor]:
    """What decisions and heatmaps are held against: the calibration images' scores (h,), quantiles of their maps
    (q,) and the highest map score of each (h,).

    Raises FloatingPointError when one is not finite.
    """
    scores, maps = detector.score_and_map(images["calibration"])
    ordered = maps.double().flatten().sort().values
    ranks = torch.linspace(0, len(ordered) - 1, MAP_QUANTILES).round().long()
    return _finite(
        {
            "scores": scores,
            "maps": ordered[ranks],
            "map_maxima": maps.flatten(1).max(1).values,
        }
    )


def _finite(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, values in tensors.items():
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"{name} of the trained detector are not finite")
    return tensors


class Zoo:
    """The candidates of a run and what is known of them.

    rivals: the trainings whose augmentations make the bank of pseudo anomalies; none given, those of the candidates.
    """

    def __init__(
        self, store: Store, candidates: Sequence[Candidate], device: torch.device, rivals: Sequence[Training] = ()
    ) -> None:
        self.store = store
        self.candidates = tuple(candidates)
        self.device = device
        self.rivals = tuple(rivals) or tuple(candidate.training for candidate in self.candidates)
        self.to_come = 0  # candidates that a search is still to propose

    def __getitem__(self, candidate_id: str) -> Candidate:
        for candidate in self.candidates:
            if candidate.id == candidate_id:
                return candidate
        raise unknown_name("candidate", candidate_id, [candidate.id for candidate in self.candidates])

    def unfinished(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if not self.store.finished(candidate)]

    def train(
        self,
        engine: Engine,
        on_done: Callable[[Candidate], None] = lambda candidate: None,
        batch: Sequence[Candidate] | None = None,
    ) -> None:
        """Train what is not finished yet of a batch, or of the zoo; ``on_done`` hears of each candidate of it, finished
        ones first.

        Raises StorageError when the run folder can't be written to.
        """
        asked = self.candidates if batch is None else batch
        todo = {candidate.id for candidate in asked if not self.store.finished(candidate)}
        for candidate in asked:
            if candidate.id not in todo:
                on_done(candidate)
        with closing(engine.run(work, self.jobs(todo))) as outcomes:
            for job, died in outcomes:
                if died is not None:
                    self.keep_death(job, died)
                for candidate in job.candidates:
                    if candidate.id in todo:
                        on_done(candidate)
        self.store.forget_progress()

    def jobs(self, todo: Collection[str]) -> list[Job]:
        """What ``work`` is to be called with for candidates of these ids."""
        sharing: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            sharing.setdefault(candidate.training_id, []).append(candidate)
        return [
            Job(self.store.root, tuple(group), str(self.device), self.rivals)
            for group in sharing.values()
            if any(candidate.id in todo for candidate in group)
        ]

    def keep_death(self, job: Job, died: Exception) -> None:
        """Record that the worker of a job was killed, as the failure of what it had not finished."""
        for candidate in job.candidates:
            self.store.keep(candidate, failure(f"{type(died).__name__}: {died}"))

    def detector(self, candidate_id: str) -> Detector:
        """A candidate's fitted detector, loaded from the store. Raises InputError for an unknown or failed one."""
        return self.store.detector(self._trained(candidate_id), self.device)

    def together(self, members: Sequence[str]) -> Detector:
        """These candidates as one detector: an ensemble, measured by the validation images; of one, its own.

        Made on demand and kept, with its scores of the calibration images. Raises as ``detector``.
        """
        found = [self.detector(candidate_id) for candidate_id in members]
        if len(found) == 1:
            return found[0]
        kept = self.store.ensemble(members)
        if kept is not None:
            normal, normal_in_maps = zip(*(kept.normal[candidate_id] for candidate_id in members), strict=True)
            return Ensemble(found).measured_by(normal, normal_in_maps)
        made = Ensemble.of(found, self.store.images["validation"])
        means = dict(zip(members, zip(made.normal, made.normal_in_maps, strict=True), strict=True))
        self.store.keep_ensemble(members, KeptEnsemble(means, gather_calibration(made, self.store.images)))
        return made

    def calibration(self, members: Sequence[str]) -> dict[str, Tensor]:
        """What ``gather_calibration`` says of the detector that these candidates make ``together``."""
        if len(members) == 1:
            return self.store.calibration(members[0])
        if self.store.ensemble(members) is None:
            self.together(members)
        kept = self.store.ensemble(members)
        assert kept is not None
        return kept.calibration

    def scores(self, members: Sequence[str]) -> Evidence:
        """The scores of the detector that these candidates make ``together``: validation and test, where there are
        any; of one, all of its evidence."""
        evidence = [self.evidence(candidate_id)[0] for candidate_id in members]
        if len(evidence) == 1:
            return evidence[0]
        ensemble = self.together(members)
        assert isinstance(ensemble, Ensemble)
        both = {name: [getattr(one, name) for one in evidence] for name in ("validation_scores", "test_scores")}
        given = {name: highest(scores, ensemble.normal) for name, scores in both.items() if scores[0] is not None}
        return Evidence(**given, score_is_distance=True)

    def evidence(self, candidate_id: str) -> list[Evidence]:
        """A candidate's evidence, one for each draw of its augmented images. Raises InputError as ``detector``."""
        return self.store.evidence(self._trained(candidate_id).id)

    def _trained(self, candidate_id: str) -> Candidate:
        candidate, record = self[candidate_id], self.store.record(candidate_id)
        if record["status"] != "ok":
            remedy = 'choose one whose status in the ranking is "ok"'
            raise InputError(f"candidate {candidate_id}", f"failed ({record['reason']})", remedy)
        return candidate

    def records(self) -> Iterator[tuple[Candidate, dict]]:
        for candidate in self.candidates:
            yield candidate, self.store.record(candidate.id)
