"""Held-out normal images that may not be normal: reported with the answer, never removed."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from augmentations.errors import first_few
from selector.detection.conformal import n_units, p_values, validate_rate, without_rounding
from selector.outcome import Outcome

# Median absolute deviations above the median. Tukey's far-out fence (Exploratory Data Analysis, 1977) is three
# interquartile ranges above the upper quartile, which in a symmetric distribution is seven of these. Median and
# deviation withstand nearly half of bad images, quartiles a quarter (Hampel, 1974).
FAR_OUT = 7.0
FEWEST = 5  # images or groups, of which a median deviation says something


def far_out(scores: Tensor) -> Tensor:
    """Which scores (n,) lie far above the others, as bools; none where there are fewer than ``FEWEST``."""
    values = scores.double()
    deviation = (values - values.quantile(0.5)).abs().quantile(0.5) if len(values) >= FEWEST else torch.tensor(0.0)
    if deviation == 0:
        return torch.zeros(len(values), dtype=torch.bool)
    return values > values.quantile(0.5) + FAR_OUT * deviation


def contamination_warnings(
    names: Mapping[str, Sequence[str]],
    scores: Mapping[str, Tensor],
    test_scores: Tensor | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    member_scores: Sequence[Tensor] = (),
) -> list[str]:
    """A sentence that names held-out normal images whose scores are far out, and one for groups, without a full stop.

    An image is named that is far out by the recommended detector or by one of its members: in a mean over members one
    that sees nothing hides what another one sees.

    Args:
        names: The images' names by split: validation and calibration.
        scores: Their scores (n,) by the recommended detector.
        test_scores: Its scores (k,) of the test images, if any: how many would be flagged without the named ones.
            Without test images, above which score one would be.
        groups: The group of each image, likewise by split, if any. A group's score is the median of its images'.
        member_scores: Of each member, the scores of the validation images and then the calibration images.
    """
    splits = ("validation", "calibration")
    listed = [name for split in splits for name in names[split]]
    values = torch.cat([scores[split] for split in splits])
    is_calibration = torch.arange(len(values)) >= len(names["validation"])
    odd = torch.stack([far_out(each) for each in (values, *member_scores)]).any(0)
    sentences = []
    if odd.any():
        odd_names = [listed[i] for i in odd.nonzero()[:, 0].tolist()]
        count = (
            "1 held-out normal image scores"
            if len(odd_names) == 1
            else f"{len(odd_names)} held-out normal images score"
        )
        sentences.append(
            f"{count} far above the others and may not be normal: {first_few(odd_names)}"
            + _change(
                values[is_calibration], odd[is_calibration], test_scores, groups["calibration"] if groups else None
            )
        )
    if groups:
        numbers = torch.tensor([group for split in splits for group in groups[split]])
        unique = numbers.unique().tolist()
        medians = torch.stack([values[numbers == group].double().quantile(0.5) for group in unique])
        odd_groups = [group for group, is_odd in zip(unique, far_out(medians).tolist(), strict=True) if is_odd]
        firsts = [listed[int((numbers == group).nonzero()[0])] for group in odd_groups]
        if firsts:
            count = "1 held-out group scores" if len(firsts) == 1 else f"{len(firsts)} held-out groups score"
            odd = torch.isin(numbers, torch.tensor(odd_groups))
            sentences.append(
                f"{count} far above the other groups and may not be normal: that of {first_few(firsts)}"
                + _change(values[is_calibration], odd[is_calibration], test_scores, groups["calibration"])
            )
    return sentences


def _change(calibration: Tensor, odd: Tensor, test_scores: Tensor | None, groups: Sequence[int] | None = None) -> str:
    """What decisions would be without the odd calibration images, of which a group counts once."""
    if not odd.any():
        return "; none of them is a calibration image, so thresholds would stay"
    if odd.all():
        return "; with them, calibration images hide anomalies that score less"
    limits, flagged = [], []
    for kept in (torch.ones_like(odd), ~odd):
        of_kept = groups and [group for group, is_kept in zip(groups, kept.tolist(), strict=True) if is_kept]
        rate = validate_rate(None, n_units(int(kept.sum()), of_kept))
        normal = calibration[kept]
        limits.append((float(normal[p_values(normal, normal, of_kept) > rate].max()), rate))
        p = torch.ones(0) if test_scores is None else p_values(normal, without_rounding(normal, test_scores), of_kept)
        flagged.append((int((p <= rate).sum()), rate))
    look = "Look at them, remove what is not normal and select again"
    (with_them, rate), (without, other) = limits if test_scores is None else flagged
    if test_scores is None:
        return (
            f"; without them an image would be anomalous above a score of {without:.3g} (at a false-alarm rate of "
            f"{other:.3g}), and with them above {with_them:.3g} (at {rate:.3g}). {look}"
        )
    if (with_them, rate) == (without, other):
        as_many = f"as many test images would be flagged ({with_them} at a false-alarm rate of {rate:.3g})"
        return f"; without them {as_many}. {look}"
    return (
        f"; without them, {without} test images would be flagged (at a false-alarm rate of {other:.3g}), and with them "
        f"{with_them} are (at {rate:.3g}), not counting any correction for the choice. {look}"
    )


def contamination_of(outcome: Outcome) -> list[str]:
    """``contamination_warnings`` of an outcome; none where no candidate can be trusted."""
    store = outcome.zoo.store
    if outcome.ranking.status[0] != "ok":
        return []
    members = [member.id for member in outcome.members]
    splits = ("validation", "calibration")
    groups = {split: numbers for split in splits if (numbers := store.groups(split)) is not None}
    names = {split: store.names(split) for split in splits}
    scores = _held_out_scores(outcome, members)
    if scores is None:
        return []
    by_member = [_held_out_scores(outcome, [member]) for member in members if len(members) > 1]
    member_scores = [torch.cat([each[split] for split in splits]) for each in by_member if each is not None]
    return contamination_warnings(names, scores, outcome.zoo.scores(members).test_scores, groups or None, member_scores)


def _held_out_scores(outcome: Outcome, members: Sequence[str]) -> dict[str, Tensor] | None:
    """Scores by split of the detector that these members make; None where validation images have none."""
    validation = outcome.zoo.scores(members).validation_scores
    if validation is None:
        return None
    return {"validation": validation, "calibration": outcome.zoo.calibration(members)["scores"]}
