"""A task: what a benchmark knows and a selection must not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from selector.inputs.raster import resize

SPLIT_SEED = 0  # of the division of a data set: a task is the same whatever the seed of a selection
SHIFTED = "-shifted"  # ends the names of tasks whose test images were taken elsewhere than the train images


@dataclass(frozen=True, eq=False)
class Task:
    """A data set split for anomaly detection.

    train (n,C,H,W) and test (k,C,H,W): float32 on the CPU, in [0,1]; labels (k,): 1 = anomalous; masks (k,H,W):
    1 = anomalous pixel, zeros for normal images, or None where none exist; kinds (k,): the name of each anomaly's
    kind, "" for normal images, or None where kinds are unknown. Only train and test may enter selection.
    """

    name: str
    train: Tensor
    test: Tensor
    labels: Tensor
    masks: Tensor | None = None
    kinds: tuple[str, ...] | None = None

    def of_kind(self, kind: str) -> "Task":
        """The same task with the normal test images and the anomalies of one kind only, named ``name-kind``.

        Raises InputError for a task without kinds, or one without this kind.
        """
        if self.kinds is None:
            raise InputError(f"{self.name}-{kind}", f"{self.name} has no kinds of anomalies", f"{self.name}")
        if not kind or kind not in self.kinds:
            raise unknown_name(f"kind of {self.name}", kind, sorted({k for k in self.kinds if k}))
        rows = torch.tensor([i for i, own in enumerate(self.kinds) if own in ("", kind)])
        return replace(self.with_test(rows), name=f"{self.name}-{kind}")

    def with_test(self, rows: Tensor) -> "Task":
        """The same task with only these test images, in this order; rows (r,): indices into ``test``."""
        return replace(
            self,
            test=self.test[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks[rows],
            kinds=None if self.kinds is None else tuple(self.kinds[i] for i in rows.tolist()),
        )

    def resized(self, image_size: int) -> "Task":
        """The same task with square images of so many px along a side."""
        if self.train.shape[-2:] == (image_size, image_size):
            return self
        masks = self.masks
        if masks is not None:
            masks = nn.functional.interpolate(masks[:, None], (image_size, image_size), mode="nearest-exact")[:, 0]
        train, test = (resize(images, image_size) for images in (self.train, self.test))
        return replace(self, train=train, test=test, masks=masks)


# Called with the task's name, the folder of its data or None, and the side of the images in pixels.
Loader = Callable[[str, str | Path | None, int], Task]
