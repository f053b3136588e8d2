"""Candidates and their evidence, made by hand."""

import pytest
import torch

from detectors import Classifier, ScorerSpec, get_preset
from selector.evidence.evidence import Evidence
from selector.ranking.ranking import rank
from selector.ranking.rules import Rule
from selector.zoo.candidates import Candidate, Training

SETTINGS = Classifier.settings_for(get_preset("quick"))
OK = {"status": "ok", "reason": ""}


@pytest.fixture(scope="session")
def candidate():
    """A candidate, by what its cut-outs cover and its seed."""

    def candidate(area: float, seed: int = 0) -> Candidate:
        return Candidate(
            Training("classifier", SETTINGS, "cutout", (("area", (area, area)),), seed), ScorerSpec("gaussian")
        )

    return candidate


@pytest.fixture(scope="session")
def evidence():
    """The evidence of a candidate."""

    def evidence(shift: float = 2.0, learned: float = 3.0, seed: int = 0, scores: torch.Tensor | None = None):
        """Three draws; a fifth of the test images lie ``shift`` higher, augmented scores ``learned`` higher."""
        source = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=source)

        test = normal(100)
        test[:20] += shift
        common = {
            "train": normal(40, 4),
            "test": normal(50, 4),
            "validation": normal(30, 4),
            "validation_scores": normal(30).exp(),
            "augmented_scores": (normal(30) + learned).exp(),
            "pseudo_scores": normal(30).exp() + 1,
            "test_scores": test.exp() if scores is None else scores,
        }
        common["test"] = normal(100, 4)
        return [Evidence(augmented=normal(40, 4), **common) for _ in range(3)]

    return evidence


@pytest.fixture(scope="session")
def ranked():
    """The ranking of candidates by a rule; those without evidence failed."""

    def ranked(pool: dict[Candidate, list[Evidence] | None], decide: Rule):
        records = {c.id: OK if e else {"status": "failed", "reason": "it burst"} for c, e in pool.items()}
        return rank(list(pool), records, {c.id: e for c, e in pool.items() if e}, decide, seed=0)

    return ranked


@pytest.fixture(scope="session")
def order(ranked):
    """The ids of candidates, best first."""

    def order(pool, decide):
        return ranked(pool, decide).table.candidate.tolist()

    return order


@pytest.fixture
def pool(candidate, evidence):
    return {candidate(0.01 * (i + 1)): evidence(shift) for i, shift in enumerate((0.5, 4.0, 2.0))}
