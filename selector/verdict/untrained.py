"""Whether learning pseudo anomalies earns its cost: candidates that need no training beside those that learn them."""

from collections.abc import Mapping

import detectors
from selector.ranking.ranking import Ranking
from selector.verdict.verdict import number
from selector.zoo.candidates import Candidate


def needs_no_training(candidate: Candidate) -> bool:
    """Whether a candidate is an encoder, or raw pixels, as it is."""
    kind = detectors.get(candidate.training.detector)
    return not (kind.uses_augmentation or kind.learns_encoder)


def worth_of_training(ranking: Ranking, candidates: Mapping[str, Candidate]) -> list[str]:
    """What the best candidate without any training would have got by the criterion that decides, and whether the best
    that learns pseudo anomalies can be distinguished from it; nothing where the ranking lacks one of both sorts.

    Args:
        ranking: of all candidates.
        candidates: by id.
    """
    trusted = ranking.table[ranking.table.status == "ok"]
    untrained = trusted[[needs_no_training(candidates[i]) for i in trusted.candidate]]
    learning = trusted[[candidates[i].training.augmentation is not None for i in trusted.candidate]]
    if untrained.empty or learning.empty:
        return []
    best, first = untrained.iloc[0], learning.iloc[0]
    what, rival = ranking.descriptions[best.candidate], ranking.descriptions[first.candidate]
    value = f"{ranking.rule.describe()} = {number(best.criterion)}"
    if best["rank"] < first["rank"]:
        return [
            f"In this ranking nothing shows that learning pseudo anomalies earns its cost on these images: without any "
            f"training {what} comes in place {best['rank']} ({value}), ahead of all that learn them."
        ]
    if best.tied:
        return [
            f"In this ranking hardly anything shows that learning pseudo anomalies earns its cost on these images: "
            f"without any training {what} comes in place {best['rank']} ({value}) and can't be distinguished from the "
            "best one."
        ]
    return [
        f"In this ranking learning pseudo anomalies earns its cost on these images: {rival} comes in place "
        f"{first['rank']}, and the best without any training, {what}, in place {best['rank']} ({value})."
    ]
