"""The answer for a set of images: scores, p-values, verdicts and anomalous regions."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from selector.detection.conformal import fewest_rejected, min_false_alarm_rate
from selector.detection.regions import Region, find_regions

# Of an image that is called anomalous although no pixel exceeds the map threshold.
NO_PLACE = "no single place; the whole image"


@dataclass(frozen=True, eq=False)
class Detections:
    """What was decided on k images.

    A normal image like the calibration images is called anomalous with probability ``false_alarm_rate`` at most, on
    average over calibration sets, where these have groups for an image of a new one (twice that at most where they are
    held out in folds, of candidates that were fixed before); where ``fdr`` is set, at most
    that share of the images called anomalous is normal.

    Attributes:
        names: The images' names.
        scores: Anomaly scores (k,), higher is more anomalous.
        p_values: Conformal p-values (k,).
        is_anomaly: Bools (k,): p <= ``false_alarm_rate``, or the Benjamini-Hochberg decision where ``fdr`` is set.
        maps: Score maps (k,H,W).
        false_alarm_rate: The rate that images are decided at.
        n_calibration: How many calibration images the p-values come from.
        n_groups: How many groups these come in, which count instead; None where each is one of its own.
        n_folds: How many folds they are held out in, 1 where the calibration is split-conformal.
        sizes: Height and width of each image in pixels, as it was read.
        map_threshold: The map score that a normal image exceeds anywhere with probability ``false_alarm_rate`` at most,
            or the smallest rate that the calibration images of the detector that makes the maps support.
        fdr: The false discovery rate, or None.
        skipped: Name of and reason for each image that could not be read.
        noticed: What was done to each image when it was read, or tells it from the train images (size, bit depth,
            brightness), as "problem" or "problem: detail".
        notes: Remarks on all images together: what was left out, and how many of them were noticed for what.
    """

    names: tuple[str, ...]
    scores: Tensor
    p_values: Tensor
    is_anomaly: Tensor
    maps: Tensor
    false_alarm_rate: float
    n_calibration: int
    sizes: tuple[tuple[int, int], ...]
    map_threshold: float
    fdr: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    n_groups: int | None = None
    n_folds: int = 1
    noticed: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value that so many calibration images, or groups, can give."""
        return min_false_alarm_rate(self.n_calibration if self.n_groups is None else self.n_groups, self.n_folds)

    @property
    def fewest_anomalies(self) -> int:
        """How many images have to be called anomalous together for one to be: more than 1 where ``fdr`` is set and
        calibration images are few for so many images."""
        fewest = fewest_rejected(self.fdr, self.smallest_p_value, len(self.names)) if self.fdr is not None else 1
        return fewest or len(self.names) + 1

    @cached_property
    def regions(self) -> tuple[tuple[Region, ...], ...]:
        """The anomalous regions of each image; an image that is called normal has none."""
        return tuple(
            find_regions(score_map, self.map_threshold, size) if flagged else ()
            for score_map, size, flagged in zip(self.maps, self.sizes, self.is_anomaly.tolist(), strict=True)
        )

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of each image, "" for nothing: what was ``noticed``, and ``NO_PLACE`` where it is
        anomalous and no region is.

        An image's score and its map are compared with thresholds of their own, so an image can exceed the one and no
        pixel the other.
        """
        noticed = self.noticed or ((),) * len(self.names)
        rows = zip(self.is_anomaly.tolist(), self.regions, noticed, strict=True)
        return tuple(
            "; ".join([*([NO_PLACE] if flagged and not regions else []), *texts]) for flagged, regions, texts in rows
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per image.

        Columns: name, score, p_value, verdict ("anomaly" or "normal"), the boxes (left, top, right, bottom) and areas
        of its anomalous regions in pixels of the original image, the region of the highest score first, and a remark
        (``remarks``).
        """
        return pd.DataFrame(
            {
                "name": self.names,
                "score": self.scores.numpy(),
                "p_value": self.p_values.numpy(),
                "verdict": np.where(self.is_anomaly.numpy(), "anomaly", "normal"),
                "boxes": pd.Series([[region.box for region in regions] for regions in self.regions], dtype=object),
                "areas": pd.Series([[region.area for region in regions] for regions in self.regions], dtype=object),
                "remark": self.remarks,
            }
        )
