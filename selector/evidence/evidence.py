"""What selection may see of a candidate. Label-free by construction: no field can hold a label."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from augmentations.errors import InputError
from selector.evidence.pairwise import Pairwise

# The metadata of a field: what it holds.
OF_EMBEDDINGS = {"dimensions": 2}  # (rows, width), one row per image
OF_SCORES = {"dimensions": 1}  # (rows,), one anomaly score per image


@dataclass(frozen=True, eq=False)
class Evidence:
    """Embeddings and anomaly scores of one candidate; arrays become tensors, in the precision they have.

    Every field may be absent: a candidate without pseudo anomalies of its own has no ``augmented`` and no
    ``augmented_scores``, and a run without test images no ``test`` and no ``test_scores``.

    Args:
        train: (n,d) embeddings of the images trained on.
        augmented: (m,d) embeddings of pseudo anomalies made of the images trained on.
        test: (k,d) embeddings of the unlabeled test images.
        validation: (h,d) embeddings of the held-out normal images.
        validation_scores: (h,) anomaly scores of the held-out normal images; higher = more anomalous, as all scores.
        augmented_scores: (h',) scores of pseudo anomalies made of the held-out normal images by the candidate's own
            augmentation.
        test_scores: (k,) scores of the test images.
        pseudo_scores: (b,) scores of pseudo anomalies made by other augmentations than the candidate's.
        score_is_distance: scores are positive and distance-like, so that their logarithm makes sense; None infers it
            from whether every score is positive.
        pseudo_families: of ``pseudo_scores``, which lie in blocks of one for each validation image, the augmentation
            family of each block.

    Raises:
        InputError: a wrong shape, embeddings of different width, or an empty set.
    """

    train: Tensor | None = field(default=None, metadata=OF_EMBEDDINGS)
    augmented: Tensor | None = field(default=None, metadata=OF_EMBEDDINGS)
    test: Tensor | None = field(default=None, metadata=OF_EMBEDDINGS)
    validation: Tensor | None = field(default=None, metadata=OF_EMBEDDINGS)
    validation_scores: Tensor | None = field(default=None, metadata=OF_SCORES)
    augmented_scores: Tensor | None = field(default=None, metadata=OF_SCORES)
    test_scores: Tensor | None = field(default=None, metadata=OF_SCORES)
    pseudo_scores: Tensor | None = field(default=None, metadata=OF_SCORES)
    score_is_distance: bool | None = None
    pseudo_families: tuple[str, ...] = ()

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
                    "pass one row per image",
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

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The names and tensors of the available fields, in field order."""
        for name in (*EMBEDDINGS, *SCORES):
            value = getattr(self, name)
            if value is not None:
                yield name, value

    @property
    def available(self) -> frozenset[str]:
        """The names of the available fields."""
        return frozenset(name for name, _ in self.items())

    def has(self, names: tuple[str, ...]) -> bool:
        """Whether every named field is available."""
        return all(getattr(self, name) is not None for name in names)

    def require(self, names: tuple[str, ...], by: str) -> tuple[Tensor, ...]:
        """The named fields.

        Args:
            names: fields of embeddings or scores.
            by: what needs them, for the message.

        Raises:
            InputError: a field is absent; the message names all absent ones.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise InputError(
                by,
                f"needs {', '.join(missing)}, which the evidence lacks",
                f"pass Evidence({', '.join(f'{name}=...' for name in missing)})",
            )
        return tuple(getattr(self, name) for name in names)

    def subset(self, **rows: Tensor) -> "Evidence":
        """The same evidence with only these rows of the named fields, e.g. a bootstrap of the test images."""
        return replace(self, **{name: getattr(self, name)[index] for name, index in rows.items()})

    @cached_property
    def pairwise(self) -> Pairwise:
        """Distances and kernels between train, augmented and test embeddings, each computed once."""
        train, augmented, test = self.require(("train", "augmented", "test"), by="a comparison of embeddings")
        return Pairwise(train, augmented, test)

    def with_pairwise(self, pairwise: Pairwise) -> "Evidence":
        """The same evidence with other pairs of its embeddings, such as one of ``Pairwise.parts``."""
        other = replace(self)
        vars(other)["pairwise"] = pairwise
        return other

    def with_augmented(self, augmented: Tensor) -> "Evidence":
        """The same evidence with another draw of the augmented images (m,d); distances among the rest are shared."""
        other = replace(self, augmented=augmented)
        if self.has(("train", "augmented", "test")):
            vars(other)["pairwise"] = self.pairwise.with_augmented(*other.require(("augmented",), by="a draw"))
        return other


EMBEDDINGS = tuple(f.name for f in fields(Evidence) if f.metadata == OF_EMBEDDINGS)
SCORES = tuple(f.name for f in fields(Evidence) if f.metadata == OF_SCORES)
