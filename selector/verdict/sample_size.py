"""Whether there were images enough for the default choice to mean anything: told with the answer."""

from selector.ranking.rules import Rule, rule

# The fewest at which the default rule was told from a random pick on the suite `development`: the 95% interval of what
# it gains lies above 0. Source: docs/curves/curves.csv, the curves `validation` and `test`.
TOLD_VALIDATION = 5
TOLD_TEST = 5


def doubts(deciding: Rule, n_validation: int, n_test: int) -> list[str]:
    """A sentence for each of both sets of images that is smaller than that; n_test is 0 where none were given.

    Says nothing of a criterion that the user named, nor of choices without test images, which were not measured so.
    """
    if not n_test or deciding != rule("auto", n_validation):
        return []
    counted = (("validation", n_validation, TOLD_VALIDATION), ("test", n_test, TOLD_TEST))
    return [
        f"{count} {name} images are few: below {fewest} the benchmarks can't tell this choice from a random pick"
        for name, count, fewest in counted
        if count < fewest
    ]
