"""The zoo: the candidates of a run, their training, and what is known of them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.errors import first_few, unknown_name
from detectors import Detector, Ensemble
from detectors.ensemble import combine_normalized
from selector.evidence.evidence import Evidence
from selector.execution import Engine
from selector.zoo.candidates import Candidate, columns, descriptions
from selector.zoo.result import Result, StoredEnsemble, failure
from selector.zoo.store import Store
from selector.zoo.training import Job, gather_calibration, train_candidates


class LostWorkError(RuntimeError):
    """An engine ended without working on all that it was given; what is finished is kept."""

    def __init__(self, engine: Engine, lost: Sequence[str]) -> None:
        names = first_few(lost)
        super().__init__(
            f"the engine {type(engine).__name__} ended without a result of {len(lost)} candidates ({names}): an engine "
            "yields every item that it was given (selector.testing has its contract). The same call trains the rest"
        )


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
        raise unknown_name("candidate", candidate_id, [candidate.id for candidate in self.candidates])

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Let candidates join, behind those that are there already."""
        known = {candidate.id for candidate in self.candidates}
        self.candidates += tuple(candidate for candidate in candidates if candidate.id not in known)

    def unfinished(self) -> list[Candidate]:
        """Those that are not trained and evaluated yet."""
        return [candidate for candidate in self.candidates if not self.store.is_complete(candidate)]

    def train(
        self,
        engine: Engine,
        on_done: Callable[[Candidate], None] = lambda candidate: None,
        batch: Sequence[Candidate] | None = None,
    ) -> None:
        """Train what is not finished yet of a batch, or of the zoo.

        What fails for the machine's reasons is tried once more at the end, alone; what fails again is no result, and
        the next call tries it again.

        Args:
            engine: where the work is done.
            on_done: called with each candidate of the batch, finished ones first.
            batch: some of the candidates; None: all of them.
        Raises:
            StorageError: where the run folder can't be written to.
        """
        batch = self.candidates if batch is None else batch
        todo = {candidate.id for candidate in batch if not self.store.is_complete(candidate)}
        for candidate in batch:
            if candidate.id not in todo:
                on_done(candidate)
        again = list[Job]()
        for job, crashed in self._run(engine, self.jobs(todo)):
            short = [candidate for candidate in job.candidates if self._lacks_result(candidate)]
            if short and not crashed:  # an engine has tried what crashed alone already
                again.append(job)
            for candidate in job.candidates:
                if candidate.id in todo and (crashed or candidate not in short):
                    on_done(candidate)
        for job in again:
            short = [candidate for candidate in job.candidates if self._lacks_result(candidate)]
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            for _ in self._run(engine, [job]):
                for candidate in short:
                    if candidate.id in todo:
                        on_done(candidate)
        lost = [candidate for candidate in batch if not self._has_record(candidate)]
        if lost:
            words = descriptions(columns(self.candidates))
            raise LostWorkError(engine, [words[candidate.id] for candidate in lost])
        self.store.forget_progress()

    def _run(self, engine: Engine, jobs: Sequence[Job]) -> Iterator[tuple[Job, bool]]:
        """Jobs as they are done, and whether the worker of each was killed."""
        with closing(engine.run(train_candidates, jobs)) as outcomes:
            for job, crash in outcomes:
                if crash is not None:
                    self.record_crash(job, crash)
                yield job, crash is not None

    def _has_record(self, candidate: Candidate) -> bool:
        try:
            self.store.record(candidate.id)
        except InputError:
            return False
        return True

    def _lacks_result(self, candidate: Candidate) -> bool:
        return not self.store.is_finished(candidate)

    def jobs(self, todo: Collection[str]) -> list[Job]:
        """What workers receive for candidates of these ids."""
        sharing: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            sharing.setdefault(candidate.training_id, []).append(candidate)
        return [
            Job(self.store.root, tuple(group), str(self.device))
            for group in sharing.values()
            if any(candidate.id in todo for candidate in group)
        ]

    def record_crash(self, job: Job, crash: Exception) -> None:
        """Record that the worker of a job was killed, as a failure to be retried of what it had not finished."""
        record = failure(f"{type(crash).__name__}: {crash}", retry=True)
        for candidate in job.candidates:
            if self.store.is_finished(candidate) and self.store.missing_families(candidate):
                self.store.withdraw(candidate, record)
            self.store.save(Result(candidate, record))

    def detector(self, candidate_id: str) -> Detector:
        """A candidate's fitted detector, loaded from the store. Raises InputError for an unknown or failed one."""
        return self.store.detector(self._trained(candidate_id), self.device)

    def ensemble(self, members: Sequence[str]) -> Detector:
        """These candidates as one detector, normalised by the validation images; of one, its own.

        Made on demand and stored, with its scores of the calibration images. Raises as ``detector``.
        """
        loaded = [self.detector(candidate_id) for candidate_id in members]
        if len(loaded) == 1:
            return loaded[0]
        stored = self.store.ensemble(members)
        if stored is not None:
            scores, maps = zip(*(stored.normalizations[candidate_id] for candidate_id in members), strict=True)
            return Ensemble(loaded).with_normalization(scores, maps)
        ensemble = Ensemble.from_trained(loaded, self.store.images["validation"])
        pairs = zip(ensemble.normalizations, ensemble.map_normalizations, strict=True)
        normalizations = dict(zip(members, pairs, strict=True))
        calibration = gather_calibration(ensemble, self.store.images)
        self.store.save_ensemble(members, StoredEnsemble(normalizations, calibration))
        return ensemble

    def calibration(self, members: Sequence[str]) -> dict[str, Tensor]:
        """What ``gather_calibration`` says of the detector that these candidates make together."""
        if len(members) == 1:
            return self.store.calibration(members[0])
        if self.store.ensemble(members) is None:
            self.ensemble(members)
        stored = self.store.ensemble(members)
        assert stored is not None
        return stored.calibration

    def scores(self, members: Sequence[str]) -> Evidence:
        """The scores of the detector that these candidates make together: validation and test, where there are
        any; of one, all of its evidence."""
        evidence = [self.evidence(candidate_id)[0] for candidate_id in members]
        if len(evidence) == 1:
            return evidence[0]
        ensemble = self.ensemble(members)
        assert isinstance(ensemble, Ensemble)
        by_split = {name: [getattr(item, name) for item in evidence] for name in ("validation_scores", "test_scores")}
        normalized: dict[str, Any] = {
            name: combine_normalized(scores, ensemble.normalizations, ensemble.combine)
            for name, scores in by_split.items()
            if scores[0] is not None
        }
        return Evidence(**normalized, score_is_distance=ensemble.score_is_distance)

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
        """Every candidate with the record of what became of it."""
        for candidate in self.candidates:
            yield candidate, self.store.record(candidate.id)
