"""Whether there were images enough for the default choice to mean anything: reported with the answer."""

from selector.ranking.rules import Rule, resolve_decision

# The fewest at which the benchmarks distinguish the default rule from a random pick on the suite `development`: the 95%
# interval of what it gains lies above 0. Source: docs/curves/curves.csv, the curves `validation` and `test`.
MIN_VALIDATION_IMAGES = 5
MIN_TEST_IMAGES = 5


def sample_size_warnings(rule: Rule, n_validation: int, n_test: int) -> list[str]:
    """A sentence for each set of images that is too small.

    Says nothing of a criterion that the user named, nor of choices without test images, which were not measured so.

    Args:
        rule: what decided.
        n_validation: the number of validation images.
        n_test: of test images; 0 where none were given.
    """
    if not n_test or rule != resolve_decision("auto", n_validation).normal:
        return []
    sets = (("validation", n_validation, MIN_VALIDATION_IMAGES), ("test", n_test, MIN_TEST_IMAGES))
    return [
        f"{count} {name} images are few: below {fewest} the benchmarks can't distinguish this choice from a random pick"
        for name, count, fewest in sets
        if count < fewest
    ]
