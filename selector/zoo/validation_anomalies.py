"""The validation anomalies of a run: pseudo anomalies of held-out normal images, the same for all candidates.

What a candidate was trained against says nothing about what else it finds, so it is judged on the other families'.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from augmentations import Augmentation
from augmentations.randomness import generator
from detectors import Detector

RESAMPLED = "resampled"  # the family of embeddings whose dimensions were shuffled


def make_validation_anomalies(images: Tensor, augmentations: Sequence[Augmentation], seed: int) -> dict[str, Tensor]:
    """Pseudo anomalies (n,C,H,W) by family, from normal images (n,C,H,W): a family's augmentations take turns.

    The same for every candidate; depends on the seed and on which augmentations there are. Those of features make none.
    """
    families: dict[str, list[Augmentation]] = {}
    for augmentation in augmentations:
        if augmentation.space != "images":
            continue
        families.setdefault(augmentation.family, []).append(augmentation)
    anomalies = {}
    for family, turns in families.items():
        anomalies[family] = torch.empty_like(images)
        for turn, augmentation in enumerate(turns[: len(images)]):
            rows = slice(turn, None, len(turns))
            source = generator(seed, "bank", family, turn)
            # What takes from other images may take from any of them, however few have their turn.
            made = augmentation(images, source)[rows] if augmentation.uses_batch else augmentation(images[rows], source)
            anomalies[family][rows] = made
    return anomalies


def resampled(embeddings: Tensor, n: int, seed: int) -> Tensor:
    """(n,d) of the embeddings (m,d), m >= n, after each dimension was shuffled by itself, so that none goes with
    another; L2-normalised.

    Source: Dai & Fan, AutoUAD, ICLR 2025, whose validation resamples each dimension of the data by itself.
    """
    order = torch.rand(embeddings.shape, generator=generator(seed, "bank", "resampled")).argsort(0)
    return torch.nn.functional.normalize(embeddings.gather(0, order[:n]), dim=1)


def anomaly_scores(detector: Detector, anomalies: Mapping[str, Tensor], own_family: str | None) -> dict[str, Tensor]:
    """By family, the scores (n,) that a detector gives validation anomalies, but not those of its own family."""
    return {family: detector.score(images) for family, images in anomalies.items() if family != own_family}
