"""Views of a task: which of its test images one trial of a selection sees, at one anomaly ratio."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from augmentations.randomness import generator
from selector.zoo.training import DRAWS

TRIALS = DRAWS  # per ratio: each has other anomalies and another draw of the pseudo anomalies


@dataclass(frozen=True, eq=False)
class View:
    """A task among the images that a zoo has scored; rows (k,): its test images; labels (k,): 1 = anomalous."""

    task: str
    group: str
    kind: str
    rows: Tensor
    labels: Tensor

    def table(self) -> pd.DataFrame:
        """task, group, kind, row, label: one row per image."""
        same = {"task": self.task, "group": self.group, "kind": self.kind}
        return pd.DataFrame({**same, "row": self.rows.numpy(), "label": self.labels.numpy()})

    @classmethod
    def of(cls, table: pd.DataFrame) -> "View":
        """The view of a table that ``table`` returned."""
        first = table.iloc[0]
        rows, labels = (torch.tensor(table[name].to_numpy(copy=True)) for name in ("row", "label"))
        return cls(first.task, first.group, first.kind, rows, labels)

    def trials(self, ratios: tuple[float, ...], seed: int) -> Iterator[tuple[float, int, Tensor]]:
        """Ratio, number and rows (r,) of every trial, drawn as ``draw`` does."""
        for ratio in ratios:
            for number in range(TRIALS):
                yield ratio, number, self.draw(ratio, generator(seed, "trial", self.task, f"{ratio:g}", number))

    def draw(self, ratio: float, source: torch.Generator, most: int | None = None) -> Tensor:
        """Rows (r,) of which the share ``ratio`` is anomalous: all normal images and random anomalies. Where there are
        too few anomalies, all of them and fewer normal images; ``most``: the largest number in all, if any."""
        normal, anomalous = (self.rows[self.labels == label] for label in (0, 1))
        n_normal = len(normal) if most is None else min(len(normal), round((1 - ratio) * most))
        # The rounding keeps at least one anomaly, so that there is something to find.
        wanted = max(1, round(ratio / (1 - ratio) * n_normal)) if ratio else 0
        few = anomalous[torch.randperm(len(anomalous), generator=source)[:wanted]]
        enough = round((1 - ratio) / ratio * len(few)) if wanted > len(anomalous) else n_normal
        some = normal[torch.randperm(len(normal), generator=source)[:enough]]
        return torch.cat([some, few])
