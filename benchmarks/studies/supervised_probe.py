"""Whether the anomalies of a task can be seen at all: a forest that is told the labels, as a Markdown table.

python -m benchmarks.visibility brick grass gravel --image-size 32

Of every image the quantiles of its brightness, and of its contrast, blurred at four scales: what a spot, a line or a
stain must change somewhere. Where a forest of such trees, told the labels of other images, is no better than a guess,
no detector can be blamed for finding nothing, and no choice of one can be judged.
"""

from typing import Annotated

import numpy as np
import typer
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor

import benchmarks
from benchmarks.datasets.controlled import one_vs_one

SCALES = (1.0, 1.5, 2.5, 4.0)  # px, standard deviations of the blur
QUANTILES = (0.0, 0.02, 0.1, 0.5, 0.9, 0.98, 1.0)
TREES = 500
FOLDS = 5


def seen_with_labels(images: Tensor, labels: Tensor) -> float:
    """The cross-validated AUROC of a forest that is told the labels (n,), 0 or 1, of images (n,C,H,W).

    Raises ValueError for fewer than 5 images of a label.
    """
    features = np.stack([_features(image) for image in images.mean(1).double().numpy()])
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=0, n_jobs=-1)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probabilities = cross_val_predict(forest, features, labels.numpy(), cv=folds, method="predict_proba")
    return float(roc_auc_score(labels.numpy(), probabilities[:, 1]))


def _features(image: np.ndarray) -> np.ndarray:
    found = []
    for scale in SCALES:
        brightness = ndimage.gaussian_filter(image, scale)
        contrast = np.sqrt(np.maximum(ndimage.gaussian_filter(image**2, scale) - brightness**2, 0))
        for values in (brightness, contrast):
            quantiles = np.quantile(values, QUANTILES)
            spread = quantiles[4] - quantiles[2] + 1e-6
            tails = (quantiles[[0, -1]] - quantiles[3]) / spread  # how far the extremes stand out of the rest
            found.append(np.concatenate([quantiles, tails]))
    return np.concatenate(found)


def table(
    names: Annotated[list[str], typer.Argument(help="Tasks with kinds of anomalies, as for benchmarks.load.")],
    image_size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
) -> None:
    """Print the AUROC of a forest that is told the labels, for every kind of anomaly of every task."""
    print("| task | images | told the labels |\n|---|--:|--:|")
    for name in names:
        for task in one_vs_one(benchmarks.load(name, image_size=image_size)):
            print(f"| {task.name} | {len(task.test)} | {seen_with_labels(task.test, task.labels):.3f} |")


if __name__ == "__main__":
    typer.run(table)
