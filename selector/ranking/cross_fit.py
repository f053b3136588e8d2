"""The choice without an image: what decides on the images that took part in the selection.

The conformal promise is exact for an image that, like the calibration images, the choice did not look at. At a test
image it looked; so that one is held against the candidates that would have been chosen without it, often the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from augmentations.randomness import generator
from detectors.ensemble import highest
from selector.detection.conformal import p_values
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.inputs.digests import image_digest
from selector.ranking.evaluation import comparable, held, measure
from selector.ranking.ranking import first, standing
from selector.ranking.rules import Rule
from selector.ranking.shift import resemblance
from selector.zoo.candidates import Candidate, joint_id

FOLDS = 20  # of the test images: a choice without one of them sees 19 of 20


@dataclass(frozen=True)
class Held:
    """The test image of this row and digest, without which others would be chosen, and the p-value that these give."""

    row: int
    digest: str
    p_value: float


def choices(
    candidates: Sequence[Candidate],
    records: Mapping[str, dict[str, Any]],
    evidence: Mapping[str, Sequence[Evidence]],
    rule_of: Callable[[bool], Rule],
    seed: int,
    members: int,
) -> list[tuple[str, ...]]:
    """The candidates that would make the detector without each of the test images (k of them): without its fold.

    Up to 20 images, each is a fold of its own. The folds depend on the seed and on k alone. ``rule_of``, as of the
    choice itself, is asked without the fold too. Empty where embeddings decide: to compare them anew for every fold
    takes too long.
    """
    if not rule_of(False).reads <= set(SCORES):
        return []
    # One after another, and without their embeddings, so that no more than one's are in memory.
    scores = {i: replace(draws[0], **dict.fromkeys(EMBEDDINGS)) for i, draws in evidence.items()}
    compared = comparable([one] for one in scores.values())
    k = max(0 if one.test_scores is None else len(one.test_scores) for one in scores.values())
    order = torch.randperm(k, generator=generator(seed, "jackknife"))
    found: list[tuple[str, ...]] = [()] * k
    for fold in range(min(FOLDS, k)):
        kept = torch.ones(k, dtype=torch.bool).index_fill(0, order[fold::FOLDS], False)
        shifted = not isinstance(compared, str) and resemblance(compared[0], compared[1][kept]).is_shifted
        seen = {i: one.with_rows(test_scores=kept) for i, one in scores.items()}
        deciding = rule_of(shifted).common([held(one) for one in seen.values()])
        measured = {
            c.id: measure(records[c.id], [seen[c.id]] if c.id in seen else [], deciding.names, deciding)
            for c in candidates
        }
        chosen = first(standing(candidates, measured, deciding), members)
        for row in order[fold::FOLDS].tolist():
            found[row] = chosen
    return found


def others(
    members: Sequence[str],
    chosen: Sequence[tuple[str, ...]],
    images: Tensor,
    evidence: Mapping[str, Sequence[Evidence]],
    calibration: Callable[[str], Tensor],
) -> tuple[Held, ...]:
    """The test images (k,C,H,W) without which others than these ``members`` would have been ``chosen``.

    calibration: the scores (h,) that a candidate gives the calibration images.
    """
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, one in enumerate(chosen):
        if joint_id(one) != joint_id(members):
            rows.setdefault(one, []).append(row)
    found = []
    for others_members, decided in rows.items():
        given = [evidence[i][0] for i in others_members]
        normal = [float(one.validation_scores.double().mean()) for one in given if one.validation_scores is not None]
        test = highest([one.test_scores for one in given if one.test_scores is not None], normal)
        p = p_values(highest([calibration(i) for i in others_members], normal), test)
        found += [Held(row, image_digest(images[row]), p[row].item()) for row in decided]
    return tuple(sorted(found, key=lambda one: one.row))
