"""The choice without an image: what decides on the images that took part in the selection.

The conformal promise is exact for an image that, like the calibration images, the choice did not look at. At a test
image it looked; so that one is held against the candidate that would have been chosen without it, often the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from augmentations.randomness import generator
from selector.candidates import Candidate
from selector.evidence import Evidence
from selector.ranking import Rule, choose

FOLDS = 20  # of the test images: a choice without one of them sees 19 of 20


@dataclass(frozen=True)
class Held:
    """The test image of this row and digest, without which this candidate, another than the best, would be chosen."""

    row: int
    digest: str
    candidate: str


def choices(
    candidates: Sequence[Candidate],
    records: Mapping[str, dict[str, Any]],
    evidence: Mapping[str, Sequence[Evidence]],
    rule: Rule,
    seed: int,
) -> list[str]:
    """The candidate that ``rank`` would put first without each of the test images (k of them): without its fold.

    Up to 20 images, each is a fold of its own. The folds depend on the seed and on k alone.
    """
    drawn = rule.own is not None or any(rule.criterion(name).uses_draws for name in rule.names)
    draws = {i: list(given if drawn else given[:1]) for i, given in evidence.items()}
    first = next(iter(draws.values()))[0]
    assert first.test_scores is not None
    order = torch.randperm(len(first.test_scores), generator=generator(seed, "jackknife"))
    found = [""] * len(order)
    for fold in range(min(FOLDS, len(order))):
        kept = torch.ones(len(order), dtype=torch.bool).index_fill(0, order[fold::FOLDS], False)
        rows = {name: kept for name in ("test", "test_scores") if first.has((name,))}
        chosen = choose(candidates, records, {i: [one.with_rows(**rows) for one in draws[i]] for i in draws}, rule)
        for row in order[fold::FOLDS].tolist():
            found[row] = chosen
    return found


def held(best: str, chosen: Sequence[str], images: Tensor) -> tuple[Held, ...]:
    """The test images (k,C,H,W) without which another candidate than ``best`` would have been ``chosen``."""
    return tuple(Held(row, digest(images[row]), other) for row, other in enumerate(chosen) if other != best)


def digest(image: Tensor) -> str:
    """What an image is known by when it comes back: of its pixels, whatever it is called then."""
    return sha256(image.contiguous().numpy().tobytes()).hexdigest()
