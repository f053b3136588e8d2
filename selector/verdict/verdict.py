"""The answer in words."""

import math
from collections.abc import Sequence

from augmentations.errors import first_few
from detectors.ensemble import MAX, MEAN, combination
from selector.ranking.bootstrap import RESAMPLES, TIED_SHARE
from selector.ranking.ranking import Ranking
from selector.ranking.rules import UNDER_SHIFT, Rule
from selector.zoo.candidates import Candidate


def number(value: float) -> str:
    """Three significant digits, as people read them."""
    return f"{value:.3g}" if math.isfinite(value) else "none"


def recommendation(ranking: Ranking, members: Sequence[Candidate]) -> list[str]:
    """What the recommended detector is made of, where it is more than the best candidate."""
    if len(members) < 2:
        return []
    others = first_few([ranking.descriptions[member.id] for member in members[1:]])
    how = {MAX: "maximum", MEAN: "mean"}[combination(len(members))]
    leading = sum(member.id == i for member, i in zip(members, ranking.table.candidate, strict=False))
    best = f"the best {len(members)}"
    if ranking.rule.complement is not None and leading < len(members):
        of_others = f"{len(members) - leading} of the others by {ranking.rule.complement.name}"
        best = f"the first {leading} of the ranking and the best {of_others}"
    return [
        f"Recommended: {best} together; the score of an image is the {how} of their normalised scores. The others are "
        f"{others}."
    ]


def sentences(ranking: Ranking, best: Candidate, second: Candidate | None) -> list[str]:
    """Which augmentation, by what margin, and which others can't be distinguished from it."""
    table, rule = ranking.table, ranking.rule
    trained = table[table.status == "ok"]
    dropped = [
        f"{count} {status}" for status in ("collapsed", "failed") if (count := int((table.status == status).sum()))
    ]
    among = f"{len(table)} candidates" + (f" ({', '.join(dropped)})" if dropped else "")
    first = table.iloc[0]
    incomparable = first.status == "ok" and not math.isfinite(first.criterion)
    value = "" if incomparable else f", {rule.describe()} = {number(first.criterion)}"
    lines = [f"Best of {among}: {ranking.descriptions[best.id]}{value}."]
    if first.status != "ok":
        return [*lines, f"No candidate can be trusted: the best one {first.status} ({first.reason})."]
    if second is None or len(trained) < 2:
        alone = "It is the only candidate that could be ranked, so nothing confirms the choice."
        return [*lines, alone, *_compared(ranking)]
    lines.append(
        f"Its margin over the second, {ranking.descriptions[second.id]}, is {number(ranking.margin)}, "
        f"with a standard deviation of {number(ranking.margin_spread)} over {RESAMPLES} draws of the "
        f"pseudo anomalies and of the images; it came first in {ranking.share_first:.0%} of them."
    )
    tied = [ranking.descriptions[i] for i in table.candidate[table.tied][1:]]
    if not tied:
        lines.append(f"No other one was at least as good in {TIED_SHARE:.0%} of the draws or more.")
    else:
        lines.append(
            f"{len(tied)} of the others can't be distinguished from the best one, being at least as good in "
            f"{TIED_SHARE:.0%} of the draws or more: {first_few(tied)}."
        )
    return [*lines, *_compared(ranking)]


def _compared(ranking: Ranking) -> list[str]:
    """What the comparison of test and validation images says: a doubt about the choice, or nothing."""
    test = ranking.comparison
    if test.is_shifted:
        side = "below" if test.is_higher else "above"
        fell_back = not ranking.rule.is_user_chosen and set(ranking.rule.names) <= set(UNDER_SHIFT)
        decided = ranking.rule.describe() if fell_back else Rule.of(*UNDER_SHIFT).describe()
        left = "so it was left to" if fell_back else '"auto" would leave it to'
        return [
            "Warning: validation images do not resemble the normal test images, and comparing their scores can mislead "
            f"the choice; {left} {decided}, which does not compare their level. By {test.n_shifted} of "
            f"{test.n_candidates} candidates fewer test images lie on one side of the median validation image than if "
            f"half of them were normal and like it: in the clearest case {test.share:.0%} lie {side} it, 25% being "
            f"the least to expect (p = {number(test.shift_p_value)}). Unless most test images are anomalous, add "
            "normal images taken like them to the train images."
        ]
    if test.no_evidence_of_anomalies:
        return [
            "There is no evidence of anomalies in the test images: no candidate scores them higher than validation "
            f"images by more than chance (p = {number(test.anomaly_p_value)}). So they can't show whether the choice "
            "is better than a random one; more images, test and normal ones, could."
        ]
    return []
