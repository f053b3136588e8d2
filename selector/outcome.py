"""The record of a selection: what was chosen and on what grounds, saved and loaded; report and export read it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch

import detectors
from augmentations import InputError
from augmentations.hyperparameters import from_json
from detectors import Detector, files
from selector.detection.conformal import p_values, without_rounding
from selector.detection.cross_conformal import (
    Calibration,
    Fold,
    calibration_groups,
    cross_calibrate,
    smallest_cross_rate,
)
from selector.execution import Engine, resolve_engine
from selector.inputs.image_checks import Profile
from selector.ranking.cross_fit import Correction, CrossFitPValue
from selector.ranking.ranking import Ranking
from selector.ranking.rules import Rule
from selector.ranking.shift import ShiftTest
from selector.search.base import in_order
from selector.search.study import stored_proposals
from selector.zoo.candidates import Candidate, ensemble_id
from selector.zoo.disk import disk_errors
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo


class Outcome:
    """What a selection found: the ranking of all candidates, and the detector that the best of them form together.

    cross_fit_p_values: of the test images without which other candidates would have been chosen.
    train_profile: what the train images are like, which images to detect in are compared with.
    correction: whether these correct the p-values of the test images, or why not.
    engine: where more is trained, as for a cross-conformal calibration; None: local workers.
    """

    engine: Engine | None = None

    def __init__(
        self,
        zoo: Zoo,
        result: Ranking,
        members: Sequence[str],
        cross_fit_p_values: Sequence[CrossFitPValue],
        correction: Correction,
    ) -> None:
        self.zoo = zoo
        self.train_profile = _profile(zoo.store)
        self.result = result
        self.cross_fit_p_values = tuple(cross_fit_p_values)
        self.correction = correction
        self._members = tuple(members)

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.zoo.store.root

    @property
    def ranking(self) -> pd.DataFrame:
        """All candidates, best first, one row per configuration.

        Columns: rank, candidate, augmentation ("none" for a kind that takes none), hyperparameters, detector, scorer,
        seed, criterion (the deciding value), status, reason, then one per criterion that the images allow to compute,
        and tied: whether an ok candidate can't be distinguished from the first, which is one of them.
        """
        return self.result.table

    @property
    def best(self) -> Candidate:
        """The first candidate of the ranking."""
        return self.zoo[self.ranking.candidate[0]]

    @property
    def members(self) -> tuple[Candidate, ...]:
        """The candidates that form the recommended detector, best first; one where no other can be trusted."""
        return tuple(self.zoo[candidate_id] for candidate_id in self._members)

    @cached_property
    def detector(self) -> Detector:
        """The recommended detector: the ``members`` as a ``detectors.Ensemble``, or the only one's own.

        The single best candidate's is ``selection.zoo.detector(selection.best.id)``.
        """
        return self.zoo.ensemble(self._members)

    @property
    def detector_id(self) -> str:
        """Which detector is recommended: a stable hash of the members, of one its candidate's id."""
        return ensemble_id(self._members)

    @cached_property
    def map_scale(self) -> tuple[float, float]:
        """The one colour scale of all score maps: from the median of the calibration maps to twice their range.

        Its upper end lies beyond what normal images reach, so that only what they never show is at full colour.
        """
        quantiles = self.zoo.calibration(self._members)["maps"]
        low, high = quantiles[len(quantiles) // 2].item(), quantiles[-1].item()
        return low, low + 2 * (high - low)

    def calibration(self, cross: bool = False) -> Calibration:
        """What the detector's scores are compared with; ``cross`` trains its folds where they are missing."""
        store, stored = self.zoo.store, self.zoo.calibration(self._members)
        if cross:
            with store.locked():
                engine = resolve_engine(self.engine, None, self.zoo.device)
                return cross_calibrate(store, self.members, engine, self.zoo.device, stored["map_maxima"])
        groups = self.calibration_groups
        fold = Fold(self.detector, stored["scores"], groups)
        return Calibration((fold,), stored["map_maxima"], groups, smallest_cross_rate(store))

    @property
    def calibration_groups(self) -> tuple[int, ...] | None:
        """The group of each calibration image, where the normal images have groups."""
        return calibration_groups(self.zoo.store)

    @cached_property
    def test_p_values(self) -> torch.Tensor:
        """The p-values (k,) of the test images; see ``correction``: each by the detector that would have been chosen
        without it, where the choice could be repeated."""
        test = self.zoo.scores(self._members).test_scores
        assert test is not None
        calibration = self.zoo.calibration(self._members)["scores"].double()
        p = p_values(calibration, without_rounding(calibration, test), self.calibration_groups)
        for image in self.cross_fit_p_values:
            p[image.row] = image.p_value
        return p

    def save(self) -> None:
        """Write selection.json and ranking.csv into the run folder."""
        result = self.result
        self.zoo.calibration(self._members)  # computed here, so that a loaded selection only reads
        content = {
            "rule": result.rule.to_json(),
            "margin": result.margin,
            "margin_spread": result.margin_spread,
            "share_first": result.share_first,
            "ranking": result.table.to_dict("records"),
            "spread": result.spread.to_dict("index"),
            "absent": dict(result.absent),
            "comparison": asdict(result.comparison),
            "members": list(self._members),
            "correction": asdict(self.correction),
            "cross_fit_p_values": [asdict(image) for image in self.cross_fit_p_values],
        }
        with disk_errors(self.path):
            table = result.table.assign(hyperparameters=[json.dumps(h) for h in result.table.hyperparameters])
            files.write_bytes(self.path / "ranking.csv", table.to_csv(index=False).encode())
        self.zoo.store.write_json("selection.json", content)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """The outcome of a finished selection. Raises InputError when there is none."""
        store = Store(path)
        store.require_format()
        saved = store.read_json("selection.json")
        try:
            candidates = in_order(stored_proposals(store))
            result = _ranking(saved)
            images = [CrossFitPValue(**image) for image in saved["cross_fit_p_values"]]
            zoo = Zoo(store, candidates, detectors.resolve_device(device))
            for candidate_id in saved["members"]:
                zoo[candidate_id]  # of no candidate, it would be a path like any other
            for row in result.table.to_dict("records"):
                candidate = zoo[row["candidate"]]
                own = (candidate.augmentation, candidate.hyperparameters, candidate.training.seed)
                if (row["augmentation"], row["hyperparameters"], row["seed"]) != own:
                    raise ValueError(f"its ranking says of {candidate.id} what its trials do not")
            return cls(zoo, result, saved["members"], images, Correction(**saved["correction"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            reason = f"is not a complete selection ({type(error).__name__}: {error})"
            raise InputError(str(path), reason, "run the same `ssad select` again") from error


def _profile(store: Store) -> Profile:
    try:
        return Profile.from_json(store.run["profile"])
    except (KeyError, TypeError, ValueError) as error:
        rule = "does not say what its train images are like (profile)"
        raise InputError(str(store.root / "run.json"), rule, "select again in a new folder") from error


def _ranking(saved: Mapping[str, Any]) -> Ranking:
    table = pd.DataFrame(saved["ranking"])
    settings = pd.Series([from_json(h) for h in table["hyperparameters"]], dtype=object)
    numeric = ["criterion", *saved["spread"][table["candidate"][0]]]
    table = table.assign(hyperparameters=settings).astype(dict.fromkeys(numeric, float) | {"tied": bool})
    spread = pd.DataFrame.from_dict(saved["spread"], orient="index").astype(float)
    margin, margin_spread, share_first = (
        math.nan if saved[name] is None else saved[name] for name in ("margin", "margin_spread", "share_first")
    )
    rule, shift = Rule.from_json(saved["rule"]), ShiftTest.from_json(saved["comparison"])
    return Ranking(table, spread, rule, margin, margin_spread, share_first, saved["absent"], shift)
