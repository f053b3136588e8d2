"""Training candidates: a training is done once, and evaluated for each of its scorers."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Detector, Kind
from detectors.shared_features import SharedFeatures
from selector.zoo.candidates import Candidate, Training
from selector.zoo.disk import StorageError
from selector.zoo.machine import is_machine_failure
from selector.zoo.result import PSEUDO_SCORES, Result, failure
from selector.zoo.store import Store
from selector.zoo.validation_anomalies import RESAMPLED, anomaly_scores, resampled

# Of the augmented train images, at most: the spread over them is the embedding criteria's error bar.
DRAWS = 5
# What a training can raise through its data and numbers, and for want of memory, files or threads; anything else is our
# mistake. StorageError, an OSError too, is the run folder's and ends the run.
TRAINING_FAILURES = (ArithmeticError, RuntimeError, ValueError, MemoryError, OSError)
SHARED_BYTES = 4 * 2**30  # of features on disk in a run, while its candidates are trained
MAP_QUANTILES = 101  # kept of the calibration images' score maps: they set the one colour scale of a run


@dataclass(frozen=True)
class Job:
    """One training and the candidates that share it: what a worker receives."""

    root: Path
    candidates: tuple[Candidate, ...]
    device: str

    @property
    def training_id(self) -> str:
        return self.candidates[0].training_id


def train_candidates(job: Job) -> None:
    """Do a job and store its results in the run folder; what is there already stays.

    Only a run folder that can't be written to (StorageError) or read (InputError) raises.
    """
    store = Store(job.root)
    # Read here, because a damaged run folder is no candidate's failure.
    images, anomalies = store.images, store.validation_anomalies
    shared = _shared_features(store, job.candidates[0], images, anomalies)
    for candidate in job.candidates:
        if store.is_finished(candidate):
            _complete(store, candidate, anomalies, job.device, shared)
    todo = [candidate for candidate in job.candidates if not store.is_finished(candidate)]
    if not todo:
        return

    def report(step: int, loss: float) -> None:
        store.report_progress(job.training_id, step, loss)

    stored = _stored_training(store, job, shared)
    for result in train_and_evaluate(todo, images, anomalies, job.device, stored, report, shared):
        store.save(result)


def _shared_features(
    store: Store, candidate: Candidate, images: Mapping[str, Tensor], anomalies: Mapping[str, Tensor]
) -> SharedFeatures | None:
    """Where a kind whose encoder stays as it was built finds what others with that encoder have computed."""
    if detectors.get(candidate.training.detector).learns_encoder:
        return None
    shared = SharedFeatures(store.features, SHARED_BYTES)
    for known in (*images.values(), *anomalies.values()):
        shared.keep(known)
    return shared


def train_and_evaluate(
    candidates: Sequence[Candidate],
    images: Mapping[str, Tensor],
    anomalies: Mapping[str, Tensor],
    device: str,
    trained: Kind | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    shared: SharedFeatures | None = None,
) -> Iterator[Result]:
    """Train once, and evaluate for each scorer.

    A training or a scorer that fails is a result like any other: it has a record with the reason. Where the reason is
    the machine's, the record says that it is to be tried again.

    Args:
        candidates: those that share one training.
        images: (n,C,S,S) by split.
        anomalies: validation anomalies (n,C,S,S) by family.
        device: where to train.
        trained: a detector of this training, where there is one already.
        on_progress: called with the step and its loss now and then.
        shared: features that several candidates need.
    """
    started, weights = time.monotonic(), None
    for candidate in candidates:
        try:
            if trained is None:
                untrained = candidate.make_detector(device)
                untrained.shared = shared
                trained = untrained.train(images["train"], on_progress=on_progress)
                weights = trained.trained_state()
            detector = trained.with_scorer(candidate.scorer, images["train"])
            evidence = gather_evidence(detector, images, candidate.training, anomalies)
            calibration = gather_calibration(detector, images)
        except StorageError:
            raise
        except TRAINING_FAILURES as error:
            record = _failure(error, time.monotonic() - started)
            for failed in candidates if trained is None else [candidate]:
                yield Result(failed, record)
            if trained is None:
                return
            continue
        losses = [] if trained.losses is None else [round(loss, 5) for loss in trained.losses.tolist()]
        seconds = time.monotonic() - started
        record = {"status": "ok", "reason": "", "losses": losses, "seconds": seconds, "device": device}
        record["families"] = list(anomalies)
        yield Result(candidate, record, weights, detector, evidence, calibration)
        weights = None


def _stored_training(store: Store, job: Job, shared: SharedFeatures | None) -> Kind | None:
    """The detector of a candidate that shares this training and finished before a stop, if any.

    Its scorer belongs to these very weights; training again need not give the same bits on every device.
    """
    for candidate in job.candidates:
        if store.is_finished(candidate) and (record := store.record(candidate.id))["status"] == "ok":
            with suppress(InputError):  # damaged weights are made again
                detector = store.detector(candidate, torch.device(job.device))
                detector.shared = shared
                detector.losses = torch.tensor(record["losses"]) if record["losses"] else None
                return detector
    return None


def _complete(
    store: Store, candidate: Candidate, anomalies: Mapping[str, Tensor], device: str, shared: SharedFeatures | None
) -> None:
    """Score the validation anomalies that joined the run after a candidate was finished."""
    record = store.record(candidate.id)
    missing = store.missing_families(candidate)
    if record["status"] != "ok" or not missing:
        return
    detector = store.detector(candidate, torch.device(device))
    detector.shared = shared
    joining = {family: anomalies[family] for family in missing}
    try:
        scores = finite(_named(anomaly_scores(detector, joining, candidate.training.family)))
    except StorageError:
        raise
    except TRAINING_FAILURES as error:
        store.withdraw(candidate, _failure(error, record["seconds"]))
    else:
        store.extend_evidence(candidate, scores, list(anomalies))


def _failure(error: Exception, seconds: float) -> dict[str, object]:
    reason = f"{type(error).__name__.lstrip('_')}: {error}".splitlines()[0]
    return failure(reason, seconds, traceback.format_exc(), retry=is_machine_failure(error))


def gather_evidence(
    detector: Detector, images: Mapping[str, Tensor], training: Training, anomalies: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that selection may see of a candidate.

    The draws depend on the seed only, so that candidates of one augmentation family see the same random numbers.

    Args:
        detector: the candidate's, trained and fitted.
        images: (n,C,S,S) by split.
        training: the candidate's.
        anomalies: validation anomalies (n,C,S,S) by family.
    Returns:
        Embeddings and scores by field of ``Evidence``; ``augmented`` is (draws, n, d), with as many rows as train
        images, and as many draws as the detector finds worth their cost. Fields of test images, or of pseudo anomalies
        of its own, are absent where there are none.
    Raises:
        FloatingPointError: where an embedding or a score is not finite.
    """
    seed = training.seed
    evidence = {"train": detector.embed(images["train"])}
    if detector.has_pseudo_anomalies():
        n_draws = detector.draws_worth(DRAWS)
        draws = [_own_anomalies(detector, images["train"], seed, "augmented", draw)[0] for draw in range(n_draws)]
        evidence["augmented"] = torch.stack(draws)
        _, evidence["augmented_scores"] = _own_anomalies(
            detector, images["validation"], seed, "augmented", "validation"
        )
    for split in ("validation", "test"):
        if split in images:
            evidence[split], evidence[f"{split}_scores"] = detector.embed_and_score(images[split])
    evidence |= _named(anomaly_scores(detector, anomalies, training.family))
    of_resampled = detector.score_embeddings(resampled(evidence["train"], len(images["validation"]), seed))
    if of_resampled is not None:
        evidence |= _named({RESAMPLED: of_resampled})
    return finite(evidence)


def _own_anomalies(detector: Detector, images: Tensor, *stream: object) -> tuple[Tensor, Tensor]:
    anomalies = detector.pseudo_embeddings(images, generator(*stream))  # type: ignore[arg-type]
    assert anomalies is not None
    return anomalies


def _named(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{PSEUDO_SCORES}{family}": values for family, values in scores.items()}


def gather_calibration(detector: Detector, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What decisions and heatmaps are compared with: the calibration images' scores (h,), quantiles of their maps
    (q,) and the highest map score of each (h,).

    Raises FloatingPointError when one is not finite, or when all maps are the same everywhere: what leaves nothing to
    compare by can't be a member of an ensemble.
    """
    scores, maps = detector.score_and_map(images["calibration"])
    if maps.min() == maps.max():
        raise FloatingPointError("score maps of the calibration images are the same at every pixel")
    ordered = maps.double().flatten().sort().values
    ranks = torch.linspace(0, len(ordered) - 1, MAP_QUANTILES).round().long()
    return finite({"scores": scores, "maps": ordered[ranks], "map_maxima": maps.flatten(1).max(1).values})


def finite(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are; FloatingPointError where one is not finite."""
    for name, values in tensors.items():
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"{name} of the trained detector are not finite")
    return tensors
