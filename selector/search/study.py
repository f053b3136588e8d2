"""The trials of a run: proposed, kept, trained, judged and told, a batch at a time.

What a Borda says of a trial changes with every rival, and Optuna does not take another value for a trial that it was
told of. So the study is made anew for every batch, from what is on disk; a run that was stopped goes on the same.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from augmentations import InputError
from detectors import files
from selector.execution.execution import Engine
from selector.ranking.evaluation import Evaluation, evaluate_candidate, test_for_shift
from selector.ranking.ranking import provisional_table
from selector.ranking.rules import Decision
from selector.search.search import Proposal, Search, in_order, quiet
from selector.zoo.candidates import Candidate
from selector.zoo.store import RUN_AGAIN, Store, storing
from selector.zoo.zoo import Zoo

STUDY = "study.log"  # a journal, which takes Optuna a hundredth of the time of a database


class Study:
    """The trials of a run, in the order they were proposed, with those that an earlier process began.

    Raises InputError when the run has more trials than the search.
    """

    def __init__(self, search: Search, zoo: Zoo, decision: Decision) -> None:
        self.search, self.zoo, self.decision, self.rule = search, zoo, decision, decision.normal
        self.direction = StudyDirection.MAXIMIZE if self.rule.higher_is_better else StudyDirection.MINIMIZE
        self.proposals = begun(zoo.store)
        self._available: dict[str, frozenset[str]] = {}
        self._evaluations: dict[tuple[str, tuple[str, ...]], Evaluation] = {}
        if len(self.proposals) > search.trials:
            raise InputError(
                f"trials={search.trials}",
                f"must not be fewer than were begun in {zoo.store.root}",
                f"ask for {len(self.proposals)} or more, or choose another folder",
            )
        self._take_in()
        if not self.proposals:
            self._ask()

    def run(self, engine: Engine, on_done: Callable[[Candidate], None]) -> None:
        """Train the trials that were begun and those that are still to be proposed; ``on_done`` as in ``Zoo.train``."""
        batch = self.proposals
        while batch:
            self.zoo.train(engine, on_done, in_order(batch))
            batch = self._ask()

    def keep(self, table: pd.DataFrame) -> None:
        """Write the study with the values of a ranking of all its trials."""
        self._write(list(self._judged(self.proposals, table)))

    def _ask(self) -> list[Proposal]:
        """The next batch, which is on disk before any of it is trained."""
        if len(self.proposals) == self.search.trials:
            return []
        first = self.search.first_of_batch(len(self.proposals))
        told = list(self._judged(self.proposals[:first], self._standing(self.proposals[:first])))
        fresh = self.search.propose(told, self.proposals[first:], self.direction)
        self.proposals = [*self.proposals, *fresh]
        self.zoo.store.write_json("trials.json", [proposal.to_json() for proposal in self.proposals])
        self._take_in()
        self._write([*told, *(proposal.trial(TrialState.RUNNING) for proposal in self.proposals[first:])])
        return fresh

    def _take_in(self) -> None:
        if self.proposals:
            self.zoo.candidates = tuple(in_order(self.proposals))
            self.zoo.to_come = (self.search.trials - len(self.proposals)) * len(self.proposals[0].candidates)

    def _standing(self, proposals: Sequence[Proposal]) -> pd.DataFrame:
        """How finished trials stand among each other."""
        candidates = in_order(proposals)
        if not candidates:
            return pd.DataFrame()
        records = {candidate.id: self.zoo.store.record(candidate.id) for candidate in candidates}
        ok = [i for i, record in records.items() if record["status"] == "ok"]
        for i in ok:
            if i not in self._available:
                self._available[i] = self.zoo.evidence(i)[0].available
        shifted = test_for_shift(map(self.zoo.evidence, ok), seed=0).is_shifted
        self.rule = rule = self.decision.given(shifted).supported_by([self._available[i] for i in ok])
        for i, record in records.items():
            if (i, rule.names) not in self._evaluations:
                draws = self.zoo.evidence(i) if i in self._available else []
                self._evaluations[i, rule.names] = evaluate_candidate(record, draws, rule.criteria, rule)
        return provisional_table(candidates, {i: self._evaluations[i, rule.names] for i in records}, rule)

    def _judged(self, proposals: Sequence[Proposal], table: pd.DataFrame) -> Iterator[FrozenTrial]:
        """Finished trials with their values in a table; a collapsed or a failed one is pruned, which is the worst there
        is to TPE, whereas it would forget one told as failed and propose its like again."""
        rows = {self.zoo[row["candidate"]].configuration_id: row for row in table.to_dict("records")}
        for proposal in proposals:
            row = rows[proposal.candidates[0].configuration_id]
            ok = row["status"] == "ok"
            shown = {name: row[name] for name in ("rank", "candidate", "status", "reason")}
            trial = proposal.trial(
                TrialState.COMPLETE if ok else TrialState.PRUNED, float(row["criterion"]) if ok else None, shown
            )
            trial.datetime_start, trial.datetime_complete = self._when(proposal)
            yield trial

    def _when(self, proposal: Proposal) -> tuple[datetime, datetime]:
        """When the last candidate of a trial was finished, and as long before as all of them took."""
        store, ids = self.zoo.store, [candidate.id for candidate in proposal.candidates]
        end = datetime.fromtimestamp(max(map(store.finished_at, ids)))
        return end - timedelta(seconds=sum(store.record(i)["seconds"] for i in ids)), end

    def _write(self, trials: Sequence[FrozenTrial]) -> None:
        lines = _Lines()
        with quiet():
            study = optuna.create_study(storage=JournalStorage(lines), study_name="ssad", direction=self.direction)
            study.set_user_attr("criterion", self.rule.describe())
            study.add_trials(trials)
        with storing(self.zoo.store.root):
            files.write_bytes(self.zoo.store.root / STUDY, "".join(lines.written).encode())


class _Lines(BaseJournalBackend):
    """The journal of a study as the lines of its file, which is then written whole."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.written += [json.dumps(log) + "\n" for log in logs]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.written[log_number_from:])


def begun(store: Store) -> list[Proposal]:
    """The trials that were begun in a run folder, in order. Raises InputError when they can't be read."""
    try:
        return [Proposal.from_json(kept) for kept in store.trials]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"is corrupt ({type(error).__name__}: {error})"
        raise InputError(str(store.root / "trials.json"), reason, f"delete it and {RUN_AGAIN}") from error
