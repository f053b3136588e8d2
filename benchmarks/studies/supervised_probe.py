"""Whether the anomalies of a task are visible at all: the AUROC of a supervised probe, as a Markdown table.

ssad benchmark study supervised-probe brick grass gravel --image-size 32

The features are quantiles of the brightness and of the contrast of every image, blurred at four scales: a spot, a line
or a stain changes some of them. Where a forest that is trained on them with the labels of other images is no better
than a guess, a detector that finds nothing is not to blame, and a choice of one can't be evaluated.
"""

from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor

from benchmarks.datasets import load
from benchmarks.datasets.controlled import one_vs_one
from benchmarks.leaderboard.markdown import print_table

SCALES = (1.0, 1.5, 2.5, 4.0)  # px, standard deviations of the blur
QUANTILES = (0.0, 0.02, 0.1, 0.5, 0.9, 0.98, 1.0)
TREES = 500
FOLDS = 5


def supervised_auroc(images: Tensor, labels: Tensor) -> float:
    """The cross-validated AUROC of a forest that is trained with labels.

    Args:
        images: (n,C,H,W).
        labels: (n,), 1 = anomalous.

    Raises:
        ValueError: for fewer than 5 images of a label.
    """
    features = np.stack([_features(image) for image in images.mean(1).double().numpy()])
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=0, n_jobs=-1)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probabilities = cross_val_predict(forest, features, labels.numpy(), cv=folds, method="predict_proba")
    return float(roc_auc_score(labels.numpy(), probabilities[:, 1]))


def _features(image: np.ndarray) -> np.ndarray:
    features = []
    for scale in SCALES:
        brightness = ndimage.gaussian_filter(image, scale)
        contrast = np.sqrt(np.maximum(ndimage.gaussian_filter(image**2, scale) - brightness**2, 0))
        for values in (brightness, contrast):
            quantiles = np.quantile(values, QUANTILES)
            spread = quantiles[4] - quantiles[2] + 1e-6
            tails = (quantiles[[0, -1]] - quantiles[3]) / spread  # how far the extremes stand out of the rest
            features.append(np.concatenate([quantiles, tails]))
    return np.concatenate(features)


def supervised_probe(
    names: Annotated[list[str], typer.Argument(help="Tasks with kinds of anomalies, as for benchmarks.load.")],
    image_size: Annotated[int, typer.Option(help="Side of the images, px.")] = 64,
) -> None:
    """Print the AUROC of a forest that is trained with labels, for every kind of anomaly of every task.

    Example: ssad benchmark study supervised-probe brick grass gravel --image-size 32
    """
    rows = [
        {"task": task.name, "images": f"{len(task.test)}", "AUROC": f"{supervised_auroc(task.test, task.labels):.3f}"}
        for name in names
        for task in one_vs_one(load(name, image_size=image_size))
    ]
    print_table(pd.DataFrame(rows))
