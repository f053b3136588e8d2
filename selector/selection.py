"""The main job: choose the best candidate without labels, and hand back its detector."""

import json
import math
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

import detectors as detectors_room
from augmentations import InputError
from detectors import Detector, files
from selector.criteria import Criterion
from selector.detection.conformal import benjamini_hochberg, p_values
from selector.detection.conformal import false_alarm_rate as checked_rate
from selector.detection.cross_conformal import Calibration, Fold
from selector.detection.cross_conformal import cross as cross_calibration
from selector.detection.detections import Detections
from selector.evidence.evidence import Evidence
from selector.execution.execution import engine
from selector.inputs import image_checks as checks
from selector.inputs import reader as reading
from selector.inputs.splits import FEWEST_IMAGES, Groups, grouped, split
from selector.ranking import cross_fit
from selector.ranking.evaluation import test_for_shift
from selector.ranking.ranking import Ranking, rank
from selector.ranking.rules import DEFAULT_MEMBERS, Decision, Rule, resolve_decision
from selector.ranking.shift import ShiftTest
from selector.search.search import in_order, searching
from selector.search.study import Study, begun
from selector.verdict import verdict
from selector.verdict.sample_size import sample_size_warnings
from selector.zoo.candidates import Candidate, Grids, ensemble_id
from selector.zoo.progress import display
from selector.zoo.store import Store, StoredEvidence, disk_errors
from selector.zoo.zoo import Zoo

if TYPE_CHECKING:  # Optuna takes a while to load
    from selector.verdict.explanation import Explanation

FEWEST_TEST_IMAGES = 2  # criteria look at how test scores are distributed
DETECTION_PIXELS = 2**20  # of the images in memory at a time when a folder is streamed, for each channel
LIBRARIES = ("ssad", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "pillow")


class NothingToSelectError(RuntimeError):
    """Every candidate failed; the message tells why."""


def select_best(
    train: Any,
    test: Any = None,
    augmentations: Grids = ("cutout", "cutpaste"),
    detectors: Sequence[str] = ("classifier",),
    scorers: Sequence[str] = ("gaussian",),
    criterion: str | Sequence[str] | Criterion | Callable[[Evidence], float] = "auto",
    preset: str = "quick",
    image_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    jobs: int | None = None,
    out: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
    groups: Groups | None = None,
    seeds: int = 1,
    members: int = DEFAULT_MEMBERS,
    search: str = "grid",
    trials: int | None = None,
) -> "Selection":
    """Choose the best augmentation and hyperparameters for these images, without labels.

    train: normal images, at least 20; test: unlabeled images, or None. Each a folder, a list of files, or an (N,C,H,W)
    or (N,H,W) array or tensor, float in [0,1] or uint8. Without test images candidates are judged by how they score
    pseudo anomalies of other augmentations than their own (``selector.criteria.inductive()``).
    augmentations: names, or {name: [hyperparameters]}.
    criterion: a name in ``selector.criteria.names()``, several names, whose Borda decides, "auto", or your own: a
    function of a candidate's ``Evidence`` that returns a number, higher = better, or a ``selector.criteria.Criterion``;
    it gets a column under its name, and a candidate for which it raises or gives no number has failed. image_size:
    pixels a side; None: the preset's.
    device: "auto", "cuda", "mps", "cpu". jobs: worker processes; None: one a core, or one for a GPU.
    out: the run folder; a run that was stopped goes on there; None: a temporary folder that lives with the result.
    groups: which train images belong together (a lot, a camera, crops of one photo): one hashable for each, in the
    order they are read, or a function from name to hashable; none is divided between training, selection and
    calibration, so that held-out images stand for groups that were never seen.
    seeds: how many times every configuration is trained, with seed, seed + 1, ...; splits and pseudo anomalies to judge
    by stay those of ``seed``. The ranking has a row a configuration, criteria are means over its seeds, and its
    candidate is the one of the median deciding value (of two in the middle the worse).
    members: how many of the best candidates the recommended detector is made of, at most (``detectors.Ensemble``); 1:
    the single best alone.
    search: "grid", or "random" or "tpe": an Optuna sampler proposes augmentations, detectors, scorers and
    hyperparameters from ``augmentations.suggest``, "tpe" those that the deciding criterion has favoured so far; names
    of augmentations only. trials: how many configurations it proposes; None: 30. More of them go on with a run.

    Raises InputError for bad input, before any training; StorageError when ``out`` can't be written to;
    NothingToSelectError when every candidate failed.
    """
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r}", "must be a whole number of at least 0", "try 0")
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise InputError(f"seeds={seeds!r}", "must be a whole number of at least 1", "try 3")
    if not isinstance(members, int) or isinstance(members, bool) or members < 1:
        raise InputError(f"members={members!r}", "must be a whole number of at least 1", f"try {DEFAULT_MEMBERS}")
    settings = detectors_room.preset(preset)
    if image_size is not None:
        settings = replace(settings, image_size=image_size)
    place = detectors_room.resolve(device)
    workers = engine(jobs, place)
    resolve_decision(criterion, FEWEST_IMAGES, test is not None)
    every = range(seed, seed + seeds)
    searched = searching(search, trials, augmentations, detectors, scorers, settings, every)

    size = settings.image_size
    good = reading.read(train, image_size=size, role="train", skip_unreadable=skip_unreadable, minimum=FEWEST_IMAGES)
    given = {"train": good}
    if test is not None:
        given["test"] = reading.read(
            test,
            image_size=size,
            channels=good.pixels.shape[1],
            role="test",
            skip_unreadable=skip_unreadable,
            minimum=FEWEST_TEST_IMAGES,
        )
    together = None if groups is None else grouped(groups, good.names)
    splits = split(len(good.pixels), seed, together)
    decision = resolve_decision(criterion, len(splits.validation), test is not None)
    indices = {"fit": splits.fit, "validation": splits.validation, "calibration": splits.calibration}
    pixels = {name: good.pixels[rows] for name, rows in indices.items()}
    names = {name: [good.names[i] for i in rows.tolist()] for name, rows in indices.items()}
    if test is not None:
        pixels["test"], names["test"] = given["test"].pixels, list(given["test"].names)
    settings_of_run = {
        **searched.settings,
        "preset": preset,
        "image_size": size,
        "channels": good.pixels.shape[1],
        "seed": seed,
        "device": place.type,
        "groups": together and {name: [together[i] for i in rows.tolist()] for name, rows in indices.items()},
        "seeds": seeds,
        **{f"{role} images": reading.fingerprint(images) for role, images in given.items()},
    }
    beware = checks.warnings(**given) if test is not None else []
    remarks = _provenance(given)
    remarks["notes"] += [*beware, *checks.straddling(good, splits)]
    run = remarks | {"warnings": beware, "settings": settings_of_run, "names": names}
    with disk_errors(Path(tempfile.gettempdir()), kept="nothing was begun"):
        temporary = tempfile.TemporaryDirectory(prefix="ssad-") if out is None else None
    store = Store(Path(temporary.name) if temporary else Path(str(out)))
    with store.locked():
        store.create(run, pixels)
        zoo = Zoo(store, (), place, searched.rivals)
        study = Study(searched, zoo, decision)
        with display(zoo, progress) as on_done:
            study.run(workers, on_done)
        ranked = _rank(zoo, decision, seed)
        selection = Selection(
            zoo, ranked, ranked.first(members), _cross_fit_p_values(zoo, ranked, decision, seed, members)
        )
        study.keep(selection.ranking)
        selection._temporary = temporary
        selection._keep()
    return selection


def _provenance(given: dict[str, reading.Images]) -> dict[str, Any]:
    """What a reader of the result must know of the images and of the libraries."""
    return {
        "skipped": [
            {"role": role, "name": name, "reason": reason}
            for role, images in given.items()
            for name, reason in images.skipped
        ],
        "notes": [f"{role}: {note}" for role, images in given.items() for note in images.notes],
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in LIBRARIES},
    }


def installed_version(library: str) -> str:
    """The version of a library, in words where it has none."""
    try:
        return version(library)
    except PackageNotFoundError:  # a copy of the source that was never installed
        return "not installed"


def _rank(zoo: Zoo, decision: Decision, seed: int) -> Ranking:
    records = {candidate.id: record for candidate, record in zoo.records()}
    usable = [candidate_id for candidate_id, record in records.items() if record["status"] == "ok"]
    if not usable:
        reasons = sorted({record["reason"] for record in records.values()})
        raise NothingToSelectError(f"all {len(records)} candidates failed: {'; '.join(reasons[:3])}")
    evidence = StoredEvidence(zoo.store, usable)
    comparison = test_for_shift(evidence.values(), seed)
    return rank(zoo.candidates, records, evidence, decision.given(comparison.is_shifted), seed, comparison)


def _cross_fit_p_values(
    zoo: Zoo, result: Ranking, decision: Decision, seed: int, members: int
) -> tuple[cross_fit.CrossFitPValue, ...]:
    if "test" not in zoo.store.images:
        return ()
    records = {candidate.id: record for candidate, record in zoo.records()}
    evidence = StoredEvidence(zoo.store, [i for i, record in records.items() if record["status"] == "ok"])
    chosen = cross_fit.selections_without_fold(zoo.candidates, records, evidence, decision, seed, members)
    calibration = partial(_calibration_scores, zoo.store)
    return cross_fit.affected_images(result.first(members), chosen, zoo.store.images["test"], evidence, calibration)


def _calibration_scores(store: Store, candidate_id: str) -> torch.Tensor:
    return store.calibration(candidate_id)["scores"]


class Selection:
    """The answer: the ranking of all candidates, and the detector that the best of them make together.

    cross_fit_p_values: of the test images without which other candidates would have been chosen.
    """

    def __init__(
        self,
        zoo: Zoo,
        result: Ranking,
        members: Sequence[str],
        cross_fit_p_values: tuple[cross_fit.CrossFitPValue, ...] = (),
    ) -> None:
        self.zoo = zoo
        self.result = result
        self.cross_fit_p_values = cross_fit_p_values
        self._members = tuple(members)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.zoo.store.root

    @property
    def ranking(self) -> pd.DataFrame:
        """All candidates, best first: rank, candidate, augmentation, hyperparameters, detector, scorer, seed,
        criterion (the deciding value), status, reason, then a column a criterion that the images allow to compute, and
        tied: whether an ok candidate can't be told from the first, which is one of them."""
        return self.result.table

    @property
    def best(self) -> Candidate:
        return self.zoo[self.ranking.candidate[0]]

    @property
    def members(self) -> tuple[Candidate, ...]:
        """The candidates that the recommended detector is made of, best first; one where no other can be trusted."""
        return tuple(self.zoo[candidate_id] for candidate_id in self._members)

    @cached_property
    def detector(self) -> Detector:
        """The recommended detector: the ``members`` as a ``detectors.Ensemble``, or the only one's own.

        The single best candidate's is ``selection.zoo.detector(selection.best.id)``.
        """
        return self.zoo.together(self._members)

    @property
    def detector_id(self) -> str:
        """Which detector is recommended: a stable hash of the members, of one its candidate's id."""
        return ensemble_id(self._members)

    @property
    def verdict(self) -> list[str]:
        """The answer in sentences."""
        second = self.zoo[self.ranking.candidate[1]] if len(self.ranking) > 1 else None
        store = self.zoo.store
        few = sample_size_warnings(self.result.rule, *(len(store.names(split)) for split in ("validation", "test")))
        told = [*verdict.sentences(self.result, self.best, second), *verdict.recommendation(self.members)]
        return [*told, *(f"Warning: {warning}." for warning in (*store.run.get("warnings", []), *few))]

    @cached_property
    def map_scale(self) -> tuple[float, float]:
        """The one colour scale of all score maps: from the median of the calibration maps to twice their range.

        Its upper end lies beyond what normal images reach, so that only what they never show is at full colour.
        """
        quantiles = self.zoo.calibration(self._members)["maps"]
        low, high = quantiles[len(quantiles) // 2].item(), quantiles[-1].item()
        return low, low + 2 * (high - low)

    def calibration(self, cross: bool = False) -> Calibration:
        """What the detector's scores are held against; ``cross`` trains its folds where they are missing."""
        store = self.zoo.store
        if cross:
            with store.locked():
                return cross_calibration(store, self.members, engine(None, self.zoo.device), self.zoo.device)
        kept = self.zoo.calibration(self._members)
        return Calibration((Fold(self.detector, kept["scores"], kept["map_maxima"]),))

    @cached_property
    def test_p_values(self) -> torch.Tensor:
        """The p-values (k,) of the test images, each by the detector that would have been chosen without it."""
        test = self.zoo.scores(self._members).test_scores
        assert test is not None
        p = p_values(self.zoo.calibration(self._members)["scores"], test)
        for one in self.cross_fit_p_values:
            p[one.row] = one.p_value
        return p

    def _without(self, pixels: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """The p-values of images, those of test images by the detector that would have been chosen without them."""
        known = {one.digest: one.p_value for one in self.cross_fit_p_values}
        if not known:
            return p
        given = zip(map(cross_fit.digest, pixels), p.tolist(), strict=True)
        return torch.tensor([known.get(digest, own) for digest, own in given], dtype=p.dtype)

    def detect(
        self,
        images: Any,
        false_alarm_rate: float | None = None,
        fdr: float | None = None,
        cross: bool = False,
        skip_unreadable: bool = False,
    ) -> Detections:
        """Scores, conformal p-values, verdicts and score maps of images: a folder, files, an array or a tensor.

        false_alarm_rate: the share of normal images called anomalous, on average; None: the smallest that the
        calibration images support, not below .05. fdr: decide over all these images together instead, so that the
        expected share of normal images among those called anomalous is at most this (Benjamini-Hochberg).
        cross: calibrate by cross-conformal prediction, for few normal images; trains every member five times, once.

        Raises InputError for a rate the calibration images can't support.
        """
        found = [piece for piece, _ in self.detect_batches(images, false_alarm_rate, cross, skip_unreadable)]
        p = torch.cat([piece.p_values for piece in found])
        decided = torch.cat([piece.is_anomaly for piece in found]) if fdr is None else benjamini_hochberg(p, fdr)
        return replace(
            found[0],
            fdr=fdr,
            sizes=tuple(size for piece in found for size in piece.sizes),
            names=tuple(name for piece in found for name in piece.names),
            scores=torch.cat([piece.scores for piece in found]),
            p_values=p,
            is_anomaly=decided,
            maps=torch.cat([piece.maps for piece in found]),
            skipped=tuple(item for piece in found for item in piece.skipped),
        )

    def detect_batches(
        self,
        images: Any,
        false_alarm_rate: float | None = None,
        cross: bool = False,
        skip_unreadable: bool = False,
        wanted: Callable[[str], bool] | None = None,
    ) -> Iterator[tuple[Detections, reading.Images]]:
        """``detect`` in bounded memory: detections and the images as read, a batch at a time; of files, those whose
        name is ``wanted``."""
        settings = self.zoo.store.run["settings"]
        calibration = self.calibration(cross)
        rate = checked_rate(false_alarm_rate, calibration.n)
        map_threshold = calibration.map_threshold(rate)
        batches = reading.iterate(
            images,
            image_size=settings["image_size"],
            channels=settings["channels"],
            batch=max(1, DETECTION_PIXELS // settings["image_size"] ** 2),
            skip_unreadable=skip_unreadable,
            wanted=wanted,
        )
        for batch in batches:
            scores, maps = self.detector.score_and_map(batch.pixels)
            p = calibration.p_values(batch.pixels, scores)
            p = p if calibration.is_cross else self._without(batch.pixels, p)
            yield (
                Detections(
                    names=batch.names,
                    scores=scores,
                    p_values=p,
                    is_anomaly=p <= rate,
                    maps=maps,
                    false_alarm_rate=rate,
                    n_calibration=calibration.n,
                    sizes=batch.sizes,
                    map_threshold=map_threshold,
                    skipped=batch.skipped,
                ),
                batch,
            )

    def export(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the best detector as ONNX and torch.export programs, each checked against it; returns the folder.

        Raises InputError as ``selector.export.export`` does, and ExportError when a program disagrees.
        """
        from selector.export.export import export

        return export(self, path, overwrite)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one self-contained HTML file, with CSV and JSON twins beside it; returns its path.

        path: a folder, or an .html file; None: the run folder.
        """
        from selector.report import write_report

        return write_report(self, Path(path) if path is not None else self.path)

    def why(self) -> "Explanation":
        """What each criterion prefers, how far they agree, and which hyperparameters mattered."""
        return self._why

    @cached_property
    def _why(self) -> "Explanation":
        from selector.verdict.explanation import explain

        store = self.zoo.store
        trusted = self.ranking.candidate[self.ranking.status == "ok"]
        scores = {i: found for i in trusted if (found := store.evidence(i)[0].test_scores) is not None}
        return explain(self.result, scores, store.run["settings"]["seed"])

    def _keep(self) -> None:
        result = self.result
        self.zoo.calibration(self._members)  # made here, so that a loaded selection only reads
        rows = result.table.to_dict("records")
        kept = {
            "rule": result.rule.to_json(),
            "margin": result.margin,
            "margin_spread": result.margin_spread,
            "share_first": result.share_first,
            "ranking": rows,
            "spread": result.spread.to_dict("index"),
            "absent": dict(result.absent),
            "comparison": asdict(result.comparison),
            "members": list(self._members),
            "cross_fit_p_values": [asdict(one) for one in self.cross_fit_p_values],
        }
        with disk_errors(self.path):
            table = result.table.assign(hyperparameters=[json.dumps(h) for h in result.table.hyperparameters])
            files.write_bytes(self.path / "ranking.csv", table.to_csv(index=False).encode())
        self.zoo.store.write_json("selection.json", kept)


def load(path: str | Path, device: str = "auto") -> Selection:
    """A selection that ``select_best(out=path)`` finished. Raises InputError when there is none."""
    store = Store(path)
    run, kept = store.run, store.read_json("selection.json")
    try:
        candidates = in_order(begun(store)) or [Candidate.from_json(c) for c in run["settings"]["candidates"]]
        result = _ranking_from(kept)
        p_values_without = tuple(cross_fit.CrossFitPValue(**one) for one in kept.get("cross_fit_p_values", ()))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"is not a whole selection ({type(error).__name__}: {error})"
        raise InputError(str(path), reason, "run the same `ssad select` again") from error
    members = kept.get("members", [result.table.candidate[0]])
    return Selection(Zoo(store, candidates, detectors_room.resolve(device)), result, members, p_values_without)


def _ranking_from(kept: dict[str, Any]) -> Ranking:
    table = pd.DataFrame(kept["ranking"])
    ranges = [{name: tuple(ends) for name, ends in h.items()} for h in table["hyperparameters"]]
    table = table.assign(hyperparameters=pd.Series(ranges, dtype=object))
    numeric = ["criterion", *kept["spread"][table["candidate"][0]]]
    table = table.astype(dict.fromkeys(numeric, float) | {"tied": bool})
    spread = pd.DataFrame.from_dict(kept["spread"], orient="index").astype(float)
    rule = Rule.from_json(kept["rule"])
    margin, margin_spread, share_first = (
        math.nan if kept[name] is None else kept[name] for name in ("margin", "margin_spread", "share_first")
    )
    known: dict[str, Any] = {"absent": kept.get("absent", {})}
    if "comparison" in kept:
        known["comparison"] = ShiftTest.from_json(kept["comparison"])
    return Ranking(table, spread, rule, margin, margin_spread, share_first, **known)
