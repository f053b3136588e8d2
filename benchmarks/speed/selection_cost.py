"""The cost of a selection among many trained candidates: all criteria, the ranking and all consensus.

Without training, embedding and disk: the evidence is synthetic, one candidate at a time, as views of the same few rows.
"""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from augmentations.randomness import generator
from detectors import get_preset
from selector import consensus, criteria
from selector.evidence.evidence import Evidence
from selector.execution.threads import in_threads
from selector.inputs.splits import SHARES
from selector.ranking.ranking import rank
from selector.ranking.rules import resolve_decision
from selector.zoo.candidates import Candidate
from selector.zoo.plan import Plan
from selector.zoo.training import DRAWS

MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
KINDS = 4  # of validation anomalies, and of augmentations


@dataclass(frozen=True)
class Size:
    """Candidates, train images (as many augmented, and what goes with them held out), test images, embedding width."""

    candidates: int
    train: int
    test: int
    width: int

    @property
    def held_out(self) -> int:
        """Validation images that go with the train images."""
        train, validation, _ = SHARES
        return round(self.train * validation / train)

    def describe(self) -> str:
        return f"{self.candidates} candidates, n = m = {self.train}, k = {self.test}, d = {self.width}, {DRAWS} draws"


@dataclass(frozen=True)
class Cost:
    """What a selection among trained candidates costs.

    Wall-clock seconds of all criteria on one augmented draw; of the ranking, which computes them on every draw and
    what decides on resamples too; and of all consensus. Processor seconds of the last two together, and megabytes: the
    peak of the whole process with its libraries, and the part of it after these were loaded and the rows made.
    """

    setting: str
    criteria_seconds: float
    ranking_seconds: float
    consensus_seconds: float
    cpu_seconds: float
    peak_mb: float
    rise_mb: float


class SyntheticEvidence(Mapping[str, list[Evidence]]):
    """Evidence of candidates (by id) that is made at each access, the same every time, and not kept.

    A tenth of the test images score higher, the more so the later the candidate.
    """

    def __init__(self, candidates: list[Candidate], size: Size) -> None:
        self.size = size
        self._places = {candidate.id: place for place, candidate in enumerate(candidates)}
        rows = size.train * (1 + DRAWS) + size.test + size.held_out + size.candidates
        source = generator(0, "choosing")
        self._pool = nn.functional.normalize(1 + torch.randn(rows, size.width, generator=source), dim=1)

    def __getitem__(self, candidate_id: str) -> list[Evidence]:
        place, n, h = self._places[candidate_id], self.size.train, self.size.held_out
        rows = [n, self.size.test, h, *[n] * DRAWS, len(self) - place]
        train, test, validation, *draws, _ = self._pool[place:].split(rows)
        source = generator(0, "choosing", "scores", place)
        first = Evidence(
            train=train,
            augmented=draws[0],
            test=test,
            validation=validation,
            validation_scores=torch.randn(h, generator=source).exp(),
            augmented_scores=(torch.randn(h, generator=source) + 3).exp(),
            pseudo_scores=(torch.randn(KINDS * h, generator=source) + 1).exp(),
            test_scores=self.test_scores(candidate_id),
            score_is_distance=True,
        )
        return [first, *(first.with_augmented(draw) for draw in draws[1:])]

    def test_scores(self, candidate_id: str) -> Tensor:
        """The scores (k,) alone; all candidates see the same images."""
        place, k = self._places[candidate_id], self.size.test
        shared = torch.randn(k, generator=generator(0, "choosing", "images"))
        own = torch.randn(k, generator=generator(0, "choosing", "test", place))
        anomalous = torch.arange(k) < k // 10
        return (shared + own + 2 * anomalous * place / len(self)).exp()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, candidate_id: object) -> bool:
        return candidate_id in self._places

    def __len__(self) -> int:
        return len(self._places)


def selection_cost(size: Size, threads: int) -> Cost:
    """Rank synthetic candidates as ``select_best`` does, and compute all consensus; to be called in a fresh process."""
    torch.set_num_threads(threads)
    areas = [(0.01 + 0.0002 * place, 0.1) for place in range(size.candidates)]
    candidates = Plan.of(
        {"cutout": [{"area": area} for area in areas]}, ["classifier"], ["gaussian"], get_preset("quick")
    ).candidates(0)
    evidence = SyntheticEvidence(candidates, size)
    records = {i: {"status": "ok", "reason": ""} for i in evidence}
    before = _peak_mb()
    alone = time.perf_counter()
    in_threads(lambda i: criteria.evaluate(evidence[i][0]), list(evidence))
    once = time.perf_counter() - alone
    started, started_cpu = time.perf_counter(), time.process_time()
    rank(candidates, records, evidence, resolve_decision("auto", size.held_out).normal, seed=0)
    ranked = time.perf_counter()
    scores = torch.stack([evidence.test_scores(i) for i in evidence], dim=1)
    consensus.evaluate(scores, families=[place % KINDS for place in range(len(evidence))])
    finished, cpu = time.perf_counter(), time.process_time() - started_cpu
    peak = _peak_mb()
    return Cost(size.describe(), once, ranked - started, finished - ranked, cpu, peak, peak - before)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES / 1e6
