"""What selection may see of a candidate. Label-free by construction: no field can hold a label."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from augmentations.errors import InputError
from selector.criteria.base import given
from selector.evidence.pairwise import Pairwise

EMBEDDINGS = ("train", "augmented", "test", "validation")
SCORES = ("validation_scores", "augmented_scores", "test_scores", "pseudo_scores")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Embeddings and anomaly scores of one candidate; arrays become tensors, in the precision they have.

    train (n,d), augmented (m,d), test (k,d), validation (h,d): embeddings of the images trained on, of their
    pseudo anomalies, of the unlabeled test images and of the held-out normal images.
    validation_scores (h,), augmented_scores (h',), test_scores (k,): anomaly scores, higher = more anomalous;
    ``augmented_scores`` are those of augmented *validation* images.
    pseudo_scores (b,): those of pseudo anomalies made by other augmentations than the candidate's.
    score_is_distance: scores are positive and distance-like, so that their logarithm makes sense; None infers
    it from whether every score that is given is positive.

    Raises InputError for a wrong shape, a non-floating type, embeddings of different width, or an empty set.
    """

    train: Tensor | None = None
    augmented: Tensor | None = None
    test: Tensor | None = None
    validation: Tensor | None = None
    validation_scores: Tensor | None = None
    augmented_scores: Tensor | None = None
    test_scores: Tensor | None = None
    pseudo_scores: Tensor | None = None
    score_is_distance: bool | None = None

    def __post_init__(self) -> None:
        width = None
        for name, value in self.items():
            tensor = torch.as_tensor(value)
            dimensions = 2 if name in EMBEDDINGS else 1
            if tensor.ndim != dimensions or tensor.numel() == 0:
                shape = "(rows, width)" if dimensions == 2 else "(rows,)"
                raise InputError(
                    f"{name} of shape {tuple(tensor.shape)}",
                    f"evidence needs a non-empty {shape}",
                    "pass one row an image",
                )
            if not tensor.is_floating_point():
                tensor = tensor.to(torch.float32)
            if dimensions == 2:
                if width is not None and tensor.shape[1] != width:
                    raise InputError(
                        f"{name} of width {tensor.shape[1]}",
                        f"the other embeddings have width {width}",
                        "embed all images with the same detector",
                    )
                width = tensor.shape[1]
            object.__setattr__(self, name, tensor)
        if self.score_is_distance is None:
            scores = [value for name, value in self.items() if name in SCORES]
            object.__setattr__(self, "score_is_distance", all(bool((s > 0).all()) for s in scores))

    def items(self) -> Iterator[tuple[str, Any]]:
        """The names and tensors that are there, in field order."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in EMBEDDINGS + SCORES and value is not None:
                yield field.name, value

    def has(self, needs: tuple[str, ...]) -> bool:
        """Whether every named field is there."""
        return all(getattr(self, name) is not None for name in needs)

    def with_rows(self, **rows: Tensor) -> "Evidence":
        """The same evidence with only these rows of the named fields, e.g. a bootstrap of the test images."""
        return replace(self, **{name: getattr(self, name)[index] for name, index in rows.items()})

    @cached_property
    def pairwise(self) -> Pairwise:
        """Distances and kernels between train, augmented and test embeddings, each computed once."""
        names = ("train", "augmented", "test")
        train, augmented, test = given(self, names, asker="a comparison of embeddings")
        return Pairwise(train, augmented, test)

    def redrawn(self, augmented: Tensor) -> "Evidence":
        """The same evidence with another draw of the augmented images (m,d); distances among the rest are shared."""
        again = replace(self, augmented=augmented)
        if self.has(("train", "augmented", "test")):
            vars(again)["pairwise"] = self.pairwise.redrawn(*given(again, ("augmented",)))
        return again
