"""Cross-fitting: what decides on a test image is chosen without it.

The conformal promise is exact for an image that, like the calibration images, the choice did not look at. It did look
at the test images; so the p-value of each is that of the candidates that would have been chosen without it, often the
same ones. Images are left out in folds, identical
ones together.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from augmentations.randomness import generator
from detectors.ensemble import combine_normalized, normalizations
from selector.criteria import Criterion
from selector.detection.conformal import p_values, without_rounding
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.inputs.digests import image_digest
from selector.ranking.evaluation import comparable_scores, evaluate_candidate
from selector.ranking.ranking import provisional_table
from selector.ranking.rules import Decision, chosen_members
from selector.ranking.shift import shift_test
from selector.zoo.candidates import Candidate, count_kinds, ensemble_id

FOLDS = 20  # of the test images: a choice without one of them sees 19 of 20


@dataclass(frozen=True)
class Correction:
    """Whether the p-values of test images, which took part in the choice, are corrected for it.

    reason: why they are not, or need not be. limit: how far the correction goes.
    """

    is_corrected: bool
    reason: str = ""
    limit: str = ""


def correction_of(decision: Decision, has_test: bool, search_learns: bool, *, has_groups: bool = False) -> Correction:
    """What cross-fitting corrects.

    Args:
        decision: of the choice.
        has_test: whether there are test images.
        search_learns: whether candidates were proposed by how earlier ones were judged.
        has_groups: whether normal images come in groups, so that test images may, too.
    """
    if not has_test:
        return Correction(False, "there are no test images")
    if not decision.required_fields & {"test", "test_scores"}:
        return Correction(True, "no criterion that decides reads anything of the test images")
    if not decision.required_fields <= set(SCORES):
        reason = (
            "criteria that read embeddings, or your own, decide, and to repeat that without each fold takes too long"
        )
        return Correction(False, reason)
    if search_learns:
        return Correction(
            False, "the search proposed candidates by the test scores of earlier ones, and is not repeated"
        )
    # The groups of test images are not known, so the others of a group are not left out with an image of it.
    return Correction(True, limit="it holds where no two test images are of one group" if has_groups else "")


@dataclass(frozen=True)
class CrossFitPValue:
    """The p-value of a test image without which other candidates would be chosen, by these.

    Args:
        row: its place among the test images.
        digest: of its pixels.
        p_value: what the candidates chosen without it give.
    """

    row: int
    digest: str
    p_value: float


def selections_without_fold(
    candidates: Sequence[Candidate],
    records: Mapping[str, dict[str, Any]],
    evidence: Mapping[str, Sequence[Evidence]],
    decision: Decision,
    seed: int,
    members: int,
    copies: Sequence[Hashable] | None = None,
    groups: Sequence[int] | None = None,
    tested: Sequence[str] | None = None,
) -> list[tuple[str, ...]]:
    """The candidates that would make the detector without each of the test images: without its fold.

    Up to 20 images, each is a fold of its own. The folds depend on the seed and on the number of images alone. Whether
    test images are shifted is tested without the fold too.

    Args:
        candidates: all.
        records: status and reason by candidate.
        evidence: the draws of each candidate that is ok, read one candidate at a time.
        decision: of the choice itself.
        seed: of the folds.
        members: of the recommended detector, at most.
        copies: by test image what identical ones share, which are left out together; None: none are identical.
        groups: of the validation images, where they have some.
        tested: the candidates by which a shift is tested; None: all.

    Returns:
        By test image the ids of the members, best first; empty where embeddings decide: to compare them again for every
        fold takes too long.
    """
    if not decision.required_fields <= set(SCORES):
        return []
    n_kinds = count_kinds(candidates)
    complement = decision.given(is_shifted=False, n_kinds=n_kinds).complement
    name = complement.name if complement else ""
    # One after another, and without their embeddings, so that those of one alone are in memory.
    no_embeddings: dict[str, Any] = dict.fromkeys(EMBEDDINGS)
    scores, complements = {}, {}
    for i, draws in evidence.items():
        scores[i] = replace(draws[0], **no_embeddings)
        if complement and draws[0].has(complement.needs):
            complements[i] = _over_draws(complement, draws)
    compared = comparable_scores(([e] for i, e in scores.items() if tested is None or i in tested), groups)
    k = max(0 if e.test_scores is None else len(e.test_scores) for e in scores.values())
    numbers: dict[Hashable, int] = {}
    image_of = torch.tensor([numbers.setdefault(image, len(numbers)) for image in copies or range(k)])
    order = torch.randperm(len(numbers), generator=generator(seed, "jackknife"))
    selections: list[tuple[str, ...]] = [()] * k
    for fold in range(min(FOLDS, len(numbers))):
        rest = ~torch.isin(image_of, order[fold::FOLDS])
        is_shifted = not isinstance(compared, str) and shift_test(compared[0], compared[1][rest], groups).is_shifted
        without = {i: e.subset(test_scores=rest) for i, e in scores.items()}
        rule = decision.given(is_shifted, n_kinds).supported_by([e.available for e in without.values()])
        evaluations = {
            c.id: evaluate_candidate(records[c.id], [without[c.id]] if c.id in without else [], rule.criteria, rule)
            for c in candidates
        }
        for i, value in complements.items():
            evaluations[i].values[name] = value(rest)
        chosen = chosen_members(provisional_table(candidates, evaluations, rule), members, complement)
        for row in (~rest).nonzero()[:, 0].tolist():
            selections[row] = chosen
    return selections


def _over_draws(criterion: Criterion, draws: Sequence[Evidence]) -> Callable[[Tensor], float]:
    """The mean over draws of a criterion, as a function of which test images count."""
    assert criterion.of_images is not None
    of_draws = [criterion.of_images(draw) for draw in draws]

    def value(counts: Tensor) -> float:
        mean = torch.stack([of_draw(counts) for of_draw in of_draws]).mean().item()
        return mean if math.isfinite(mean) else math.nan

    return value


def affected_images(
    members: Sequence[str],
    selections: Sequence[tuple[str, ...]],
    images: Tensor,
    evidence: Mapping[str, Sequence[Evidence]],
    calibration: Callable[[str], Tensor],
    kinds: Mapping[str, str],
    groups: Sequence[int] | None = None,
) -> tuple[CrossFitPValue, ...]:
    """The test images without which other candidates would have been chosen, and their p-values.

    Args:
        members: the ids of the candidates that were chosen.
        selections: those chosen without each image, as of ``selections_without_fold``.
        images: (k,C,H,W) the test images.
        evidence: the draws of each candidate.
        calibration: from a candidate to the scores (h,) that it gives the calibration images.
        kinds: by candidate, what its scores are (``Candidate.kind_of_scores``).
        groups: of the calibration images, where they have some.
    """
    rows_by_members: dict[tuple[str, ...], list[int]] = {}
    for row, others in enumerate(selections):
        if ensemble_id(others) != ensemble_id(members):
            rows_by_members.setdefault(others, []).append(row)
    affected: dict[int, CrossFitPValue] = {}
    p_value_of: dict[str, float] = {}  # scores of identical images may differ by rounding, their p-values must not
    for others, rows in rows_by_members.items():
        seen = [evidence[i][0] for i in others]
        validation = [e.require(("validation_scores",), "an ensemble")[0] for e in seen]
        units = normalizations(validation, [bool(e.score_is_distance) for e in seen], [kinds[i] for i in others])
        test = combine_normalized([e.require(("test_scores",), "an ensemble")[0] for e in seen], units)
        compared = combine_normalized([calibration(i) for i in others], units).double()
        p = p_values(compared, without_rounding(compared, test), groups)
        for row in rows:
            digest = image_digest(images[row])
            affected[row] = CrossFitPValue(row, digest, p_value_of.setdefault(digest, p[row].item()))
    return tuple(affected[row] for row in sorted(affected))
