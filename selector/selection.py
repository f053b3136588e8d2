"""The answer: an outcome, and what can be done with it."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from selector.detection.conformal import benjamini_hochberg, validate_fdr
from selector.detection.detections import Detections
from selector.execution import Engine, resolve_engine
from selector.export.export import export
from selector.inputs.digests import image_digest
from selector.inputs.reader import Images, iterate_batches
from selector.outcome import Outcome
from selector.report import write_report
from selector.verdict import answer, explanation_of
from selector.verdict.explanation import Explanation

DETECTION_PIXELS = 2**20  # of the images in memory at a time when a folder is streamed, for each channel
TOOK_PART = "of the selection's test images, whose p-values are not corrected for that"


class Selection(Outcome):
    """The answer: the ranking of all candidates, and the detector that the best of them form together."""

    temporary_folder: "tempfile.TemporaryDirectory[str] | None" = None  # of the run, where none was named

    @property
    def verdict(self) -> list[str]:
        """The answer in sentences."""
        return answer(self)

    def why(self) -> Explanation:
        """What each criterion prefers, how far they agree, and which hyperparameters mattered."""
        return self._explanation

    @cached_property
    def _explanation(self) -> Explanation:
        return explanation_of(self)

    def detect(
        self,
        images: Any,
        false_alarm_rate: float | None = None,
        fdr: float | None = None,
        cross: bool = False,
        skip_unreadable: bool = False,
        max_megapixels: float | None = None,
    ) -> Detections:
        """Scores, conformal p-values, verdicts and score maps of images.

        Args:
            images: a folder, files, an array or a tensor.
            false_alarm_rate: the share of normal images called anomalous, on average; None: the smallest that the
                calibration images support, or their groups where they have some, not below .05.
            fdr: decide over all these images together instead, so that the expected share of normal images among
                those called anomalous is at most this (Benjamini-Hochberg). With few calibration images several images
                are called so or none (``Detections.fewest_anomalies``).
            cross: calibrate by cross-conformal prediction, for few normal images; trains every member five times, once.
                Twice the rate is what is proved, for candidates that were fixed before.
            skip_unreadable: leave unreadable files out and list them.
            max_megapixels: the largest picture that a file may hold; None: 300, or what the environment variable
                SSAD_MAX_MEGAPIXELS says.
        Returns:
            What the detector says of each image; its ``table`` has one row per image.
        Raises:
            InputError: for a rate that the calibration images can't support, or an fdr that no image could reach.

        Example:
            >>> detections = selection.detect("incoming/", false_alarm_rate=0.05)  # doctest: +SKIP
            >>> detections.table[detections.table.verdict == "anomaly"]  # doctest: +SKIP
        """
        if fdr is not None:
            validate_fdr(fdr, self.calibration(cross).smallest_rate)
        read = self.detect_batches(images, false_alarm_rate, cross, skip_unreadable, max_megapixels=max_megapixels)
        batches = [batch for batch, _ in read]
        p = torch.cat([batch.p_values for batch in batches])
        decided = torch.cat([batch.is_anomaly for batch in batches]) if fdr is None else benjamini_hochberg(p, fdr)
        return replace(
            batches[0],
            fdr=fdr,
            sizes=tuple(size for batch in batches for size in batch.sizes),
            names=tuple(name for batch in batches for name in batch.names),
            scores=torch.cat([batch.scores for batch in batches]),
            p_values=p,
            is_anomaly=decided,
            maps=torch.cat([batch.maps for batch in batches]),
            skipped=tuple(item for batch in batches for item in batch.skipped),
            noticed=tuple(texts for batch in batches for texts in batch.noticed),
            notes=batches[-1].notes,
        )

    def detect_batches(
        self,
        images: Any,
        false_alarm_rate: float | None = None,
        cross: bool = False,
        skip_unreadable: bool = False,
        wanted: Callable[[str], bool] | None = None,
        max_megapixels: float | None = None,
    ) -> Iterator[tuple[Detections, Images]]:
        """``detect`` in bounded memory.

        Args:
            images: as for ``detect``.
            false_alarm_rate: as for ``detect``.
            cross: as for ``detect``.
            skip_unreadable: as for ``detect``.
            wanted: of files, only those are read whose name it accepts; None: all.
            max_megapixels: as for ``detect``.
        Yields:
            The detections of one batch after another, and its images as they were read.
        Raises:
            InputError: as ``detect`` does.
        """
        settings = self.zoo.store.run["settings"]
        calibration = self.calibration(cross)
        rate = calibration.validate_rate(false_alarm_rate)
        map_threshold = calibration.map_threshold(rate)
        batches = iterate_batches(
            images,
            image_size=settings["image_size"],
            channels=settings["channels"],
            batch=max(1, DETECTION_PIXELS // settings["image_size"] ** 2),
            skip_unreadable=skip_unreadable,
            wanted=wanted,
            check=self.train_profile.odd,
            max_megapixels=max_megapixels,
        )
        for batch in batches:
            scores, maps = self.detector.score_and_map(batch.pixels)
            remarks = self._with_part_in_choice(batch.pixels, batch.remarks, calibration.is_cross)
            p = calibration.p_values(batch.pixels, scores)
            p = p if calibration.is_cross else self._cross_fitted(batch.pixels, p)
            yield (
                Detections(
                    names=batch.names,
                    scores=scores,
                    p_values=p,
                    is_anomaly=p <= rate,
                    maps=maps,
                    false_alarm_rate=rate,
                    n_calibration=calibration.n,
                    n_groups=calibration.n_groups,
                    n_folds=len(calibration.folds),
                    sizes=batch.sizes,
                    map_threshold=map_threshold,
                    skipped=batch.skipped,
                    noticed=remarks,
                    notes=batch.notes,
                ),
                batch,
            )

    def _with_part_in_choice(
        self, pixels: torch.Tensor, remarks: tuple[tuple[str, ...], ...], is_cross: bool
    ) -> tuple[tuple[str, ...], ...]:
        """The remarks on images, and of those that took part in the choice one more where p-values neglect that."""
        had_no_say = self.correction.is_corrected and self.correction.reason
        if had_no_say or (self.correction.is_corrected and not is_cross) or not self._test_digests:
            return remarks
        return tuple(
            (*texts, TOOK_PART) if image_digest(image) in self._test_digests else texts
            for image, texts in zip(pixels, remarks or ((),) * len(pixels), strict=True)
        )

    @cached_property
    def _test_digests(self) -> frozenset[str]:
        return frozenset(map(image_digest, self.zoo.store.images.get("test", ())))

    def _cross_fitted(self, pixels: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """The p-values of images, those of test images by the detector that would have been chosen without them."""
        known = {image.digest: image.p_value for image in self.cross_fit_p_values}
        if not known:
            return p
        pairs = zip(map(image_digest, pixels), p.tolist(), strict=True)
        return torch.tensor([known.get(digest, own) for digest, own in pairs], dtype=p.dtype)

    def export(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the detector as ONNX and torch.export programs, each checked against it.

        Args:
            path: a folder, new or empty.
            overwrite: replace the files of an earlier export there.
        Returns:
            The folder.
        Raises:
            InputError: where packages are missing, the folder holds something, or the detector can't be exported.
            ExportError: where a program deviates from the detector.
            StorageError: where the folder can't be written to.
        """
        return export(self, path, overwrite)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one self-contained HTML file, with its content as CSV and JSON beside it.

        Args:
            path: a folder, or an .html file; None: the run folder.
        Returns:
            The path of the HTML file.
        Raises:
            StorageError: where the folder can't be written to.
        """
        return write_report(self, Path(path) if path is not None else self.path)


def load(path: str | Path, device: str = "auto", engine: Engine | None = None) -> Selection:
    """A selection that ``select_best(out=path)`` finished.

    Args:
        path: the run folder.
        device: "auto", "cuda", "mps" or "cpu".
        engine: where more is trained, as in ``select_best``.
    Returns:
        The same selection that ``select_best`` returned.
    Raises:
        InputError: where there is no finished selection, and for an object that is no engine.
    """
    selection = Selection.load(path, device)
    if engine is not None:
        selection.engine = resolve_engine(engine, None, selection.zoo.device)
    return selection
