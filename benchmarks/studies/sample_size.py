"""How many images pu_auc needs to tell two candidates apart: Markdown tables, from theory and a run's correlations.

python -m benchmarks.resolution benchmarks/results/development

pu_auc is P(t > v) over n_v held-out normal and n_t test images. If a share of the test images is anomalous and normal
images are exchangeable, candidates whose AUROCs differ by d differ in it by that share of d.
"""

from math import ceil, sqrt
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import norm
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.evaluation.evaluate import Judged
from benchmarks.studies.learning_curves.dials import RATIO
from benchmarks.suites.run import load_settings

CONFIDENCE = 0.95  # that of two candidates the better one is put first
DIFFERENCES = (0.02, 0.05, 0.1, 0.2)
RATIOS = (0.01, 0.05, 0.2, 0.5)
VALIDATION = (20, 60, 150, 1000)
TEST = (50, 200, 1000)


def standard_error(probability: float, n_validation: int, n_test: int) -> float:
    """Of pu_auc, without ties; exact at 1/2, where few anomalies leave it, whatever the scores' distribution.

    Raises InputError for a probability outside [0,1] or no images.
    Source: Hanley & McNeil, Radiology 143, 1982, whose normal images are here the validation images.
    """
    if not 0 <= probability <= 1:
        raise InputError(f"probability={probability}", "must be in [0, 1]", "try 0.5")
    if min(n_validation, n_test) < 1:
        raise InputError(f"{n_validation} and {n_test} images", "must be at least 1 each", "count the images")
    both_test = probability / (2 - probability)
    both_validation = 2 * probability**2 / (1 + probability)
    square = probability**2
    variance = probability * (1 - probability) + (n_test - 1) * (both_test - square)
    return sqrt((variance + (n_validation - 1) * (both_validation - square)) / (n_validation * n_test))


def resolution(
    ratio: float, n_validation: int, n_test: int, correlation: float, confidence: float = CONFIDENCE
) -> float:
    """The least difference in AUROC of two candidates of which pu_auc puts the better one first this surely.

    correlation: of the two estimates, which see the same images. Raises InputError for a ratio or confidence outside
    (0,1), a correlation of 1 or more, or no images.
    """
    _check(ratio, correlation, confidence)
    error = sqrt(2 * (1 - correlation)) * standard_error(0.5, n_validation, n_test)
    return float(norm.ppf(confidence)) * error / ratio


def images_needed(difference: float, ratio: float, correlation: float, confidence: float = CONFIDENCE) -> int:
    """How many validation images, and as many test images, bring ``resolution`` down to the difference.

    Raises InputError as ``resolution`` does, and for a difference outside (0,1].
    """
    _check(ratio, correlation, confidence)
    if not 0 < difference <= 1:
        raise InputError(f"difference={difference}", "must be in (0, 1]", "try 0.05")
    # (2 n + 1) / (12 n^2) = square, solved for n
    square = (ratio * difference / norm.ppf(confidence)) ** 2 / (2 * (1 - correlation))
    return ceil((1 + sqrt(1 + 12 * square)) / (12 * square))


def _check(ratio: float, correlation: float, confidence: float) -> None:
    for name, value in (("ratio", ratio), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name}={value}", "must be between 0 and 1", "try 0.2 for ratio, 0.95 for confidence")
    if not -1 <= correlation < 1:
        raise InputError(f"correlation={correlation}", "must be at least -1 and below 1", "try 0.5")


def correlations(validation: Tensor, test: Tensor) -> Tensor:
    """The correlation (m,m) of the pu_auc of m candidates that see the same images; nan for one that is constant.

    validation (n,m), test (k,m): scores. Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988.
    """
    above = (test[:, None] > validation).double() + (test[:, None] == validation).double() / 2
    covariance = above.mean(0).T.cov() / len(validation) + above.mean(1).T.cov() / len(test)
    scale = covariance.diagonal().sqrt()
    return covariance / (scale[:, None] * scale)


def measured(zoo: Judged) -> float:
    """The mean correlation of two candidates that did not collapse, over all pairs and over the zoo's tasks."""
    names = zoo.trusted()
    validation, test = (torch.tensor(zoo.scores[part][names].to_numpy()) for part in ("validation", "test"))
    others = ~torch.eye(len(names), dtype=torch.bool)
    drawn = [view.draw(RATIO, generator(zoo.seed, "resolution", view.task)) for view in zoo.views]
    return float(np.mean([correlations(validation, test[rows])[others].nanmean().item() for rows in drawn]))


def table(out: Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run --out` wrote.")]) -> None:
    """Print the correlation of candidates in a run's zoos, and what images tell apart at its median."""
    frozen = load_settings(out)["frozen"]
    zoos = [(f"{data['tasks'][0]}-{seed}", seed) for data in frozen["data_sets"] for seed in frozen["seeds"]]
    found = np.array([measured(Judged.read(out / "zoos" / name, seed)) for name, seed in zoos])
    correlation = float(np.median(found))
    print(f"correlation  {correlation:.2f}, the median of {len(found)} zoos ({found.min():.2f} to {found.max():.2f})\n")
    print(f"| difference in AUROC | {' | '.join(f'{ratio:.0%} anomalous' for ratio in RATIOS)} |")
    print("|---|" + "--:|" * len(RATIOS))
    for difference in DIFFERENCES:
        needed = (images_needed(difference, ratio, correlation) for ratio in RATIOS)
        print(f"| {difference} | {' | '.join(f'{n:,}' for n in needed)} |")
    print(f"\n| validation images | {' | '.join(f'{n} test images' for n in TEST)} |")
    print("|--:|" + "--:|" * len(TEST))
    for n_validation in VALIDATION:
        least = (resolution(RATIO, n_validation, n_test, correlation) for n_test in TEST)
        print(f"| {n_validation} | {' | '.join(f'{one:.3f}' for one in least)} |")


if __name__ == "__main__":
    typer.run(table)
