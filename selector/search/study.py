"""The trials of a run: proposed, stored, trained and judged, a batch at a time.

What a Borda says of a trial changes with every other one, and Optuna does not take another value for a trial that it
knows. So trials are judged again for every batch, from what is on disk, whether or not the run was stopped.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from augmentations import InputError
from detectors import files
from selector.execution import Engine
from selector.ranking.evaluation import Evaluation, evaluate_candidate, test_for_shift
from selector.ranking.ranking import provisional_table
from selector.ranking.rules import Decision
from selector.search.base import Judged, Proposal, Search, in_order
from selector.search.optuna import write_study
from selector.zoo.candidates import Candidate, count_kinds
from selector.zoo.disk import RUN_AGAIN, disk_errors
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

STUDY = "study.log"  # a journal, which takes Optuna a hundredth of the time of a database


class Study:
    """The trials of a run, in the order they were proposed, with those that an earlier process began.

    Raises InputError where the search would not have made the trials of the run.
    """

    def __init__(self, search: Search, zoo: Zoo, decision: Decision) -> None:
        self.search, self.zoo, self.decision, self.rule = search, zoo, decision, decision.normal
        self._available: dict[str, frozenset[str]] = {}
        self._evaluations: dict[tuple[str, tuple[str, ...]], Evaluation] = {}
        stored = stored_proposals(zoo.store)
        self.proposals = search.resume(stored) if stored else []
        if not self.proposals:
            self._propose()
        elif self.proposals != stored:
            self._store(self.proposals)
        self.zoo.add(in_order(self.proposals))

    @property
    def n_pending(self) -> int:
        """How many candidates are still to be proposed."""
        return (self.search.n_trials - len(self.proposals)) * len(self.proposals[0].candidates)

    def run(self, engine: Engine, on_done: Callable[[Candidate], None]) -> None:
        """Train the trials that were begun and those that are still to be proposed; ``on_done`` as in ``Zoo.train``."""
        batch = self.proposals
        while batch:
            self.zoo.train(engine, on_done, in_order(batch))
            batch = self._propose()

    @property
    def proposed_first(self) -> list[str]:
        """The ids of the candidates that were proposed before any was judged.

        Which they are does not depend on how images are scored, as the tests for a shift and for anomalies need it.
        """
        first = [p for number, p in enumerate(self.proposals) if self.search.batch_start(number) == 0]
        return [candidate.id for candidate in in_order(first)]

    def save(self, table: pd.DataFrame) -> None:
        """Write the study with the values of a ranking of all its trials."""
        self._write(self._judged(self.proposals, table), ())

    def _propose(self) -> list[Proposal]:
        """The next batch, which is on disk before any of it is trained."""
        if len(self.proposals) >= self.search.n_trials:
            return []
        start = self.search.batch_start(len(self.proposals))
        history = self._judged(self.proposals[:start], self._table(self.proposals[:start]))
        fresh = self.search.propose(history, self.proposals[start:], self.decision.normal.higher_is_better)
        self._store([*self.proposals, *fresh])
        self.zoo.add(in_order(self.proposals))
        self._write(history, self.proposals[start:])
        return fresh

    def _store(self, proposals: Sequence[Proposal]) -> None:
        self.proposals = list(proposals)
        self.zoo.store.write_json("trials.json", {"trials": [proposal.to_json() for proposal in self.proposals]})

    def _table(self, proposals: Sequence[Proposal]) -> pd.DataFrame:
        """How finished trials compare with each other."""
        candidates = in_order(proposals)
        if not candidates:
            return pd.DataFrame()
        records = {candidate.id: self.zoo.store.record(candidate.id) for candidate in candidates}
        ok = [i for i, record in records.items() if record["status"] == "ok"]
        for i in ok:
            if i not in self._available:
                self._available[i] = self.zoo.evidence(i)[0].available
        tested = [i for i in self.proposed_first if i in ok]
        is_shifted = test_for_shift(map(self.zoo.evidence, tested), 0, self.zoo.store.groups("validation")).is_shifted
        n_kinds = count_kinds(self.zoo.candidates)
        self.rule = rule = self.decision.given(is_shifted, n_kinds).supported_by([self._available[i] for i in ok])
        for i, record in records.items():
            if (i, rule.names) not in self._evaluations:
                draws = self.zoo.evidence(i) if i in self._available else []
                self._evaluations[i, rule.names] = evaluate_candidate(record, draws, rule.criteria, rule)
        return provisional_table(candidates, {i: self._evaluations[i, rule.names] for i in records}, rule)

    def _judged(self, proposals: Sequence[Proposal], table: pd.DataFrame) -> list[Judged]:
        """Finished trials with their values in a table."""
        rows = {self.zoo[row["candidate"]].configuration_id: row for row in table.to_dict("records")}
        judged = []
        for proposal in proposals:
            row = rows[proposal.candidates[0].configuration_id]
            # A Borda share is nan where there is no other to compare with; any number tells Optuna the same.
            value = float(np.nan_to_num(row["criterion"])) if row["status"] == "ok" else None
            shown = (row["rank"], row["candidate"], row["reason"])
            judged.append(Judged(proposal, row["status"], value, *shown))
        return judged

    def _times(self, proposal: Proposal) -> tuple[datetime, datetime]:
        """When the last candidate of a trial was finished, and as long before as all of them took."""
        store, ids = self.zoo.store, [candidate.id for candidate in proposal.candidates]
        end = datetime.fromtimestamp(max(map(store.finished_at, ids)))
        return end - timedelta(seconds=sum(store.record(i)["seconds"] for i in ids)), end

    def _write(self, history: Sequence[Judged], pending: Sequence[Proposal]) -> None:
        times = {judged.proposal.candidates[0].id: self._times(judged.proposal) for judged in history}
        higher_is_better = self.decision.normal.higher_is_better
        content = write_study(history, pending, times, self.rule.describe(), higher_is_better)
        with disk_errors(self.zoo.store.root):
            files.write_bytes(self.zoo.store.root / STUDY, content)


def stored_proposals(store: Store) -> list[Proposal]:
    """The trials of a run folder, in order. Raises InputError when they can't be read."""
    try:
        return [Proposal.from_json(values) for values in store.trials]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"is corrupt ({type(error).__name__}: {error})"
        raise InputError(str(store.root / "trials.json"), reason, f"delete it and {RUN_AGAIN}") from error
