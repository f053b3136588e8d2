"""What a benchmark knows and a selection must not."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Task:
    """A data set split for anomaly detection.

    train (n,C,H,W) and test (k,C,H,W): float32 on the CPU, in [0,1]; labels (k,): 1 = anomalous; masks (k,H,W):
    1 = anomalous pixel, zeros for normal images, or None where none exist; kinds (k,): the name of each anomaly's
    kind, "" for normal images, or None where none are told apart. Only train and test may enter selection.
    """

    name: str
    train: Tensor
    test: Tensor
    labels: Tensor
    masks: Tensor | None = None
    kinds: tuple[str, ...] | None = None
