"""Whether there were images enough for the choice to mean anything: reported with the answer."""

from selector.ranking.rules import AUTO, UNDER_SHIFT, Rule

# The fewest at which the benchmarks distinguish the default rule from a random pick on the suite `development`: the 95%
# interval of what it gains lies above 0. Without test images it is that of `pseudo_auc`, which decides alone where
# validation images are few. Source: docs/curves/curves.csv, the curves `validation` and `test`.
MIN_VALIDATION_IMAGES = 5
MIN_TEST_IMAGES = 5


def sample_size_warnings(rule: Rule, n_validation: int, n_test: int) -> list[str]:
    """A sentence for each set of images that is too small.

    Says nothing of a criterion that the user named, which was not measured so.

    Args:
        rule: what decided.
        n_validation: the number of validation images.
        n_test: of test images; 0 where none were given.
    """
    if rule.is_user_chosen:
        return []
    sets = [("validation", n_validation, MIN_VALIDATION_IMAGES)]
    sets += [("test", n_test, MIN_TEST_IMAGES)] if n_test else []
    is_reduced = bool(n_test) and set(rule.names) not in (set(AUTO), set(UNDER_SHIFT))
    choice = "the choice by all criteria of the default, of which fewer decide here," if is_reduced else "this choice"
    return [
        f"{count} {name} images are few: below {fewest} the benchmarks can't distinguish {choice} from a random pick"
        for name, count, fewest in sets
        if count < fewest
    ]
