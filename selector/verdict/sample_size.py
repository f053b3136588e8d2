"""Whether there were images enough for the choice to mean anything, and whether all took part: said with the answer."""

from collections.abc import Mapping

from selector.evidence.pairwise import MOST_ROWS
from selector.ranking.rules import AUTO, UNDER_SHIFT, Rule

# The fewest at which the benchmarks distinguish the default rule from a random pick on the suite `development`: the 95%
# interval of what it gains lies above 0. Without test images it is that of `pseudo_auc`, which decides alone where
# validation images are few. Source: docs/curves/curves.csv, the curves `validation` and `test`.
MIN_VALIDATION_IMAGES = 5
MIN_TEST_IMAGES = 5


def sample_size_warnings(
    rule: Rule, n_validation: int, n_test: int, n_validation_groups: int | None = None
) -> list[str]:
    """A sentence for each set of images that is too small; a group counts once.

    Says nothing of a criterion that the user named, which was not measured so.

    Args:
        rule: what decided.
        n_validation: the number of validation images.
        n_test: of test images; 0 where none were given.
        n_validation_groups: of the validation images, where they have some.
    """
    if rule.is_user_chosen:
        return []
    of_validation = ("images", n_validation) if n_validation_groups is None else ("groups", n_validation_groups)
    sets = [(f"validation {of_validation[0]}", of_validation[1], MIN_VALIDATION_IMAGES)]
    sets += [("test images", n_test, MIN_TEST_IMAGES)] if n_test else []
    is_reduced = bool(n_test) and set(rule.names) not in (set(AUTO), set(UNDER_SHIFT))
    choice = "the choice by all criteria of the default, of which fewer decide here," if is_reduced else "this choice"
    if rule.comparisons:  # the benchmarks have curves of zoos of one kind alone
        choice = "a choice between candidates of one kind"
    return [
        f"{count} {name} are few: below {fewest} the benchmarks can't distinguish {choice} from a random pick"
        for name, count, fewest in sets
        if count < fewest
    ]


def sampled_pairs(counts: Mapping[str, int]) -> list[str]:
    """What criteria of pairs of embeddings leave out, where a set of images is too large for all of its pairs.

    Args:
        counts: of the images by split: train and test.
    """
    large = [f"{count:,} {name}" for name, count in counts.items() if count > MOST_ROWS]
    if not large:
        return []
    return [
        f"Criteria that compare pairs of embeddings took {MOST_ROWS:,} random ones of the {' and of the '.join(large)} "
        "images, the same for every candidate; the standard error of that is part of their spread."
    ]
