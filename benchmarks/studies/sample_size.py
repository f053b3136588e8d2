"""How many images pu_auc needs to order two candidates: Markdown tables, from theory and a run's correlations.

ssad benchmark study sample-size benchmarks/results/development

pu_auc is P(t > v) over n_v held-out normal and n_t test images. If a share of the test images is anomalous and normal
images are exchangeable, candidates whose AUROCs differ by d differ in it by that share of d.
"""

from math import ceil, sqrt
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import norm
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.leaderboard.markdown import print_table
from benchmarks.studies.learning_curves.factors import RATIO
from benchmarks.suites.files import stored_zoos

CONFIDENCE = 0.95  # that of two candidates the better one is put first
DIFFERENCES = (0.02, 0.05, 0.1, 0.2)
ANOMALY_SHARES = (0.01, 0.05, 0.2, 0.5)
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


def smallest_difference(
    ratio: float, n_validation: int, n_test: int, correlation: float, confidence: float = CONFIDENCE
) -> float:
    """The smallest difference in AUROC at which pu_auc puts the better of two candidates first.

    Args:
        ratio: share of anomalies among the test images, in (0,1).
        n_validation: held-out normal images.
        n_test: test images.
        correlation: of the two estimates, which are made from the same images; below 1.
        confidence: probability that the better one is put first, in (0,1).

    Raises:
        InputError: for numbers outside of these ranges, or no images.
    """
    _check(ratio, correlation, confidence)
    error = sqrt(2 * (1 - correlation)) * standard_error(0.5, n_validation, n_test)
    return float(norm.ppf(confidence)) * error / ratio


def images_needed(difference: float, ratio: float, correlation: float, confidence: float = CONFIDENCE) -> int:
    """How many validation images, and as many test images, bring ``smallest_difference`` down to the difference.

    Raises InputError as ``smallest_difference`` does, and for a difference outside (0,1].
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


def mean_correlation(zoo: StoredZoo) -> float:
    """The mean correlation of two candidates that did not collapse, over all pairs and over the zoo's tasks."""
    names = zoo.trusted()
    validation, test = (torch.tensor(zoo.scores[part][names].to_numpy()) for part in ("validation", "test"))
    others = ~torch.eye(len(names), dtype=torch.bool)
    draws = [view.draw(RATIO, generator(zoo.seed, "resolution", view.task)) for view in zoo.views]
    return float(np.mean([correlations(validation, test[rows])[others].nanmean().item() for rows in draws]))


def sample_size(out: Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run --out` wrote.")]) -> None:
    """Print how many images pu_auc needs to distinguish two candidates, from the correlations in a run's zoos.

    Example: ssad benchmark study sample-size benchmarks/results/development
    """
    values = np.array([mean_correlation(StoredZoo.read(zoo.path, zoo.seed)) for zoo in stored_zoos(out)])
    correlation = float(np.median(values))
    print(
        f"correlation  {correlation:.2f}, the median of {len(values)} zoos ({values.min():.2f} to {values.max():.2f})\n"
    )
    needed = {
        f"{ratio:.0%} anomalous": [f"{images_needed(d, ratio, correlation):,}" for d in DIFFERENCES]
        for ratio in ANOMALY_SHARES
    }
    print_table(pd.DataFrame({"difference in AUROC": map(str, DIFFERENCES)} | needed))
    smallest = {
        f"{n_test} test images": [f"{smallest_difference(RATIO, n, n_test, correlation):.3f}" for n in VALIDATION]
        for n_test in TEST
    }
    print_table(pd.DataFrame({"validation images": map(str, VALIDATION)} | smallest))
