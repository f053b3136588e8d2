"""Pseudo-anomaly validation: a bank of pseudo anomalies, common to all candidates, made of held-out normal images.

What a candidate was trained against tells nothing of what else it finds, so it is judged on the other families'.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from augmentations import Augmentation
from augmentations.randomness import generator
from detectors import Detector


def bank(images: Tensor, augmentations: Sequence[Augmentation], seed: int) -> dict[str, Tensor]:
    """Pseudo anomalies (n,C,H,W) by family, from normal images (n,C,H,W): a family's augmentations take turns.

    The same for every candidate; depends on the seed and on which augmentations there are.
    """
    members: dict[str, list[Augmentation]] = {}
    for augmentation in augmentations:
        members.setdefault(augmentation.family, []).append(augmentation)
    made = {}
    for name, turns in members.items():
        made[name] = torch.empty_like(images)
        for turn, augmentation in enumerate(turns[: len(images)]):
            rows = slice(turn, None, len(turns))
            made[name][rows] = augmentation(images[rows], generator(seed, "bank", name, turn))
    return made


def resampled(embeddings: Tensor, n: int, seed: int) -> Tensor:
    """(n,d) of the embeddings (m,d), m >= n, after each dimension was shuffled by itself, so that none goes with
    another; L2-normalised.

    Source: Dai & Fan, AutoUAD, ICLR 2025, whose validation resamples each dimension of the data by itself.
    """
    order = torch.rand(embeddings.shape, generator=generator(seed, "bank", "resampled")).argsort(0)
    return torch.nn.functional.normalize(embeddings.gather(0, order[:n]), dim=1)


def pseudo_scores(
    detector: Detector, bank: Mapping[str, Tensor], own: str, embeddings: Tensor, n: int, seed: int
) -> Tensor | None:
    """The scores (b,) that a detector gives the bank, but not its ``own`` family, and ``n``
    resampled ``embeddings`` (m,d); None where nothing is left."""
    others = [detector.score(images) for name, images in bank.items() if name != own]
    scores = detector.score_embeddings(resampled(embeddings, n, seed))
    parts = [*others, scores] if scores is not None else others
    return torch.cat(parts) if parts else None
