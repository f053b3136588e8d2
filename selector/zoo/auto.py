"""What is trained where nothing was said: the zoo that the benchmarks support best."""

from typing import Any

from selector.zoo.plan import Choices, Request

# What a kind that was named is trained on and scored by, where that was not said.
AUGMENTATIONS: Choices = ("cutout", "cutpaste")
SCORERS: Choices = ("gaussian",)
AUTO: tuple[Request, ...] = (Request(AUGMENTATIONS, ("classifier",), SCORERS),)


def requests(augmentations: Choices, detectors: Choices, scorers: Choices) -> list[Request]:
    """The blocks of a zoo, each part of which is named or "auto"; where the kinds are named, one block."""
    blocks = AUTO if _is_auto(detectors) else (Request(AUGMENTATIONS, detectors, SCORERS),)
    return [
        Request(
            block.augmentations if _is_auto(augmentations) else augmentations,
            block.detectors,
            block.scorers if _is_auto(scorers) else scorers,
        )
        for block in blocks
    ]


def _is_auto(choices: Any) -> bool:
    return isinstance(choices, str) and choices == "auto"
