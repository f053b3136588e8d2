"""What is trained where nothing was said: the zoo that the benchmarks support best.

Chosen on the data sets of the suite ``development`` (docs/results.md). No kind is best everywhere: features that
nobody trained are ahead on photographs with soft defects, and trained detectors where statistics and not appearance
are off; so there are several kinds of each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from detectors.encoders import INSTALL, lite0_is_installed
from selector.zoo.plan import Choices, Request

Grids = Mapping[str, Sequence[Mapping[str, Any]]]

# What a kind that was named is trained on and scored by, where that was not said.
AUGMENTATIONS: Choices = ("cutout", "cutpaste")
SCORERS: Choices = ("gaussian",)

# Together, these five hold the best of the sixteen classifiers of the suite within .006 of AUROC on average.
CLASSIFIED: Grids = {
    "cutpaste": [{"area": (0.02, 0.05)}, {"area": (0.05, 0.15)}],
    "cutavg": [{"area": (0.05, 0.15)}],
    "cutdiff": [{"area": (0.005, 0.02)}],
    "rotation": [{"angle": (90, 270), "step": 90}],
}
IN_PATCHES: Grids = {"cutpaste": [{}]}
# What shows over a whole image, too: a fault of the spacing, the orientation or the sharpness is no local one.
ON_FEATURES: Grids = {
    "cutpaste": [{"area": (0.02, 0.05)}, {"area": (0.05, 0.15)}],
    "cutpaste_scar": [{}],
    "cutavg": [{"area": (0.02, 0.05)}, {"area": (0.05, 0.15)}],
    "cutdiff": [{"area": (0.005, 0.02)}, {"area": (0.05, 0.15)}],
    "nsa": [{}],
    "perlin": [{}],
    "warp": [{}],
    "rotation": [{"angle": (10, 45), "step": 0}, {"angle": (90, 270), "step": 90}],
    "crop": [{"area": (0.5, 0.75)}],
    "blur": [{}],
    "feature_noise": [{"sigma": 0.5}, {"sigma": 1.0}, {"sigma": 2.0}],
    "masked_feature_noise": [{"sigma": 0.5}, {"sigma": 2.0}],
}
FROZEN = [{"score": "pooled"}, *({"score": "locations", "neighbourhood": side} for side in (1, 3))]
NEAREST = [{"score": "pooled"}, {"score": "locations", "neighbourhood": 3}]
MEMORY = [{"memory": 3000}]  # locations that nearest neighbours are searched among

WITH_WEIGHTS: tuple[Request, ...] = (
    Request(CLASSIFIED, ("classifier",), SCORERS),
    Request(IN_PATCHES, ("patch",), SCORERS),
    Request(ON_FEATURES, ("discriminator",), SCORERS),
    Request(CLASSIFIED, {"rotation": [{}], "frozen": FROZEN, "pixels": [{}]}, SCORERS),
    Request(CLASSIFIED, {"frozen": NEAREST}, {"knn": MEMORY}),
)
WITHOUT_WEIGHTS: tuple[Request, ...] = (
    Request({**CLASSIFIED, "cutout": [{"area": (0.005, 0.02)}]}, ("classifier",), SCORERS),
    Request({**IN_PATCHES, "cutdiff": [{}], "cutavg": [{}], "nsa": [{}], "perlin": [{}]}, ("patch",), SCORERS),
    Request(CLASSIFIED, ("rotation", "pixels"), SCORERS),
    Request(CLASSIFIED, {"frozen": FROZEN[:2]}, SCORERS),
)


CHOSEN = {True: WITH_WEIGHTS, False: WITHOUT_WEIGHTS}  # by whether a package on this machine has weights


def requests(augmentations: Choices, detectors: Choices, scorers: Choices) -> list[Request]:
    """The blocks of a zoo, each part of which is named or "auto"; where the kinds are named, one block."""
    named = (Request(AUGMENTATIONS, detectors, SCORERS),)
    blocks = CHOSEN[lite0_is_installed()] if _is_auto(detectors) else named
    return [
        Request(
            block.augmentations if _is_auto(augmentations) else augmentations,
            block.detectors,
            block.scorers if _is_auto(scorers) else scorers,
        )
        for block in blocks
    ]


def advice(detectors: Choices) -> list[str]:
    """What would make the zoo that is trained where no kind was named a better one, in sentences."""
    if not _is_auto(detectors) or lite0_is_installed():
        return []
    return [
        "No pretrained encoder is installed, so none of the candidates looks at images through one, which is often the "
        f"best on photographs: `{INSTALL}` adds such candidates to a selection in a new run folder, and downloads "
        "nothing later."
    ]


def _is_auto(choices: Any) -> bool:
    return isinstance(choices, str) and choices == "auto"
