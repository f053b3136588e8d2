"""The main job: read, divide, train what a search proposes, rank without labels, and record what was chosen."""

import platform
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from augmentations.errors import whole_number
from detectors import get_preset, resolve_device
from selector.criteria import Criterion
from selector.evidence.evidence import Evidence
from selector.execution import resolve_engine
from selector.inputs import image_checks
from selector.inputs.digests import image_digest
from selector.inputs.reader import SMALLEST_IMAGE_SIZE, Images, fingerprint, read_images
from selector.inputs.splits import FEWEST_IMAGES, Groups, Splits, grouped, split
from selector.inputs.versions import installed_version
from selector.ranking import cross_fit
from selector.ranking.evaluation import test_for_shift
from selector.ranking.ranking import Ranking, rank
from selector.ranking.requirements import require_evidence
from selector.ranking.rules import Decision, default_members, resolve_decision
from selector.search import Search, resolve_search
from selector.search.study import Study, stored_proposals
from selector.selection import Selection
from selector.zoo import auto
from selector.zoo.candidates import count_kinds
from selector.zoo.disk import disk_errors
from selector.zoo.plan import Choices, Plan
from selector.zoo.prepare import prepare
from selector.zoo.progress import display
from selector.zoo.store import Store
from selector.zoo.stored_evidence import StoredEvidence
from selector.zoo.zoo import Zoo

FEWEST_TEST_IMAGES = 2  # criteria look at how test scores are distributed
LIBRARIES = ("ssad", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "pillow")


class NothingToSelectError(RuntimeError):
    """Every candidate failed; the message says why."""


def select_best(
    train: Any,
    test: Any = None,
    augmentations: Choices = "auto",
    detectors: Choices = "auto",
    scorers: Choices = "auto",
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
    members: int | None = None,
    search: str = "grid",
    trials: int | None = None,
    engine: Any = None,
    encoder: Any = "auto",
    retry_failed: bool = False,
    max_megapixels: float | None = None,
) -> Selection:
    """Choose the best detector, augmentation and hyperparameters for these images, without labels.

    Args:
        train: normal images, at least 20: a folder, a list of files, or an (N,C,H,W) or (N,H,W) array or tensor, float
            in [0,1] or uint8.
        test: unlabeled images, likewise, or None: candidates are then judged by how they score pseudo anomalies of
            other families than their own (``selector.criteria.inductive()``).
        augmentations: names or classes, or {name: [hyperparameters]}; "auto": cutout and cutpaste.
        detectors: kinds, by name or class, or {name: [settings that differ from the preset's]}. A class must be
            importable by worker processes. "auto": the classifier.
        scorers: names or classes, or {name: [settings]}; "auto": the Gaussian.
        criterion: a name in ``selector.criteria.names()``, several names, whose Borda decides, "auto", or your own: a
            function of a candidate's ``Evidence`` that returns a number, higher = better, or a ``Criterion``. It gets a
            column under its name; a candidate for which it raises or gives no number has failed.
        preset: "quick", "standard" or "paper".
        image_size: pixels per side; None: the preset's.
        seed: of everything random.
        device: "auto", "cuda", "mps" or "cpu".
        jobs: worker processes; None: one per core, or one for a GPU.
        out: the run folder. A run that was stopped is resumed there, and one that is finished grows by what this call
            has in addition. None: a temporary folder that lives with the result.
        skip_unreadable: leave unreadable files out and list them.
        progress: show it on standard error.
        groups: which train images belong together (a lot, a camera, crops of one photo): one hashable for each, in the
            order they are read, or a function from name to hashable. No group is divided between training, selection
            and calibration, so that held-out images stand for groups that were never seen.
        seeds: how many times every configuration is trained, with seed, seed + 1, ...; splits and validation anomalies
            stay those of ``seed``. The ranking has one row per configuration, criteria are means over its seeds, and
            its candidate is the one of the median deciding value (of two in the middle the worse).
        members: how many of the best candidates form the recommended detector, at most (``detectors.Ensemble``); 1:
            the single best alone; None: 8 of a zoo of one kind; 4 of one of several, every second of which is the best
            of the others by DSV.
        search: "grid", or "random" or "tpe": an Optuna sampler proposes kinds, augmentations, scorers and
            hyperparameters, "tpe" those that the deciding criterion has favoured so far.
        trials: how many configurations a sampler proposes; None: 30.
        encoder: of the kinds that have one; "auto": their own. A name: "small", "resnet18" or "unpadded", which start
            from random weights, "lite0" (pretrained, of the extra ``pretrained``), "torchvision/<architecture>" or
            "timm/<architecture>", whose weights a cache on this machine holds; a mapping of the arguments of
            ``detectors.encoders.EncoderSpec``, such as {"name": "torchvision/resnet18", "weights": "file.pth",
            "layers": ["layer2", "layer3"]}; an ``EncoderSpec``; or an ``nn.Module``, whose class worker processes can
            import and build without arguments. Nothing is downloaded.
        retry_failed: try every candidate again that failed in an earlier call, for its own reasons too. What failed for
            the machine's (memory, a device's error, a killed worker) is tried again in any case.
        max_megapixels: the largest picture that a file may hold; None: 300, or what the environment variable
            SSAD_MAX_MEGAPIXELS says.
        engine: where candidates are trained, and later the folds of a cross-conformal calibration: None for local
            workers, or an object as ``selector.execution.Engine``.
    Returns:
        The ranking, the recommended detector, and what can be done with it.
    Raises:
        InputError: for bad input, before any training.
        StorageError: where ``out`` can't be written to.
        NothingToSelectError: where every candidate failed.

    Example:
        >>> from selector import select_best
        >>> selection = select_best("good/", "incoming/", augmentations=("cutout", "cutpaste"))  # doctest: +SKIP
        >>> selection.detect("incoming/").table  # doctest: +SKIP
    """
    for name, value, minimum, remedy in (("seed", seed, 0, 0), ("seeds", seeds, 1, 3), ("members", members, 1, 8)):
        if value is not None or name != "members":
            whole_number(name, value, minimum, f"try {remedy}")
    chosen = get_preset(preset)
    if image_size is not None:
        whole_number("image_size", image_size, SMALLEST_IMAGE_SIZE, "try 64")
        chosen = replace(chosen, image_size=image_size)
    place = resolve_device(device)
    workers = resolve_engine(engine, jobs, place)
    plan = Plan.joined(auto.requests(augmentations, detectors, scorers), chosen, encoder)
    searched = resolve_search(search, trials, plan, augmentations, range(seed, seed + seeds))
    has_test = test is not None
    families = dict.fromkeys(each.family for each in plan.augmentations if each.space == "images")
    fewest = resolve_decision(criterion, FEWEST_IMAGES, has_test)  # how many there are is known when they are read
    require_evidence(fewest, plan.candidates(seed), families, has_test)

    images = _read(train, test, plan.image_size, skip_unreadable, max_megapixels)
    numbers = None if groups is None else grouped(groups, images["train"].names)
    splits = split(len(images["train"]), seed, numbers)
    decision = resolve_decision(criterion, len(splits.validation), has_test)
    pixels, names = _divide(images, splits)
    settings = {"preset": preset, "image_size": plan.image_size, "seed": seed, "device": place.type}
    run = _describe(images, splits, numbers, searched, settings) | {
        "names": names,
        "sizes": _sizes(images, splits),
        "encoders": [encoder.to_json() for encoder in plan.encoders],
        "advice": auto.advice(detectors),
    }

    temporary = _temporary_folder() if out is None else None
    store = Store(Path(temporary.name) if temporary else Path(str(out)))
    with store.locked():
        if store.exists:  # refused before anything is added to it
            store.require_same(run)
            searched.resume(stored_proposals(store))
            if retry_failed:
                store.retry_failed()
        prepare(store, run, pixels, searched.augmentations, seed)
        zoo = Zoo(store, (), place)
        study = Study(searched, zoo, decision)
        with display(zoo, lambda: study.n_pending, progress) as on_done:
            study.run(workers, on_done)
        store.forget_features()
        ranking = _rank(zoo, decision, seed, study.proposed_first)
        n_members = members or default_members(count_kinds(zoo.candidates))
        affected = _affected(zoo, ranking, decision, seed, n_members, study.proposed_first)
        correction = cross_fit.correction_of(decision, has_test, searched.learns, has_groups=groups is not None)
        selection = Selection(zoo, ranking, ranking.members(n_members), affected, correction)
        selection.temporary_folder, selection.engine = temporary, engine
        study.save(selection.ranking)
        selection.save()
    return selection


def _read(
    train: Any, test: Any, image_size: int, skip_unreadable: bool, max_megapixels: float | None
) -> dict[str, Images]:
    read = partial(read_images, image_size=image_size, skip_unreadable=skip_unreadable, max_megapixels=max_megapixels)
    images = {"train": read(train, role="train", minimum=FEWEST_IMAGES)}
    image_checks.require_pictures(images["train"], "train")
    if test is not None:
        channels = images["train"].pixels.shape[1]
        images["test"] = read(test, role="test", minimum=FEWEST_TEST_IMAGES, channels=channels)
        image_checks.require_pictures(images["test"], "test")
    return images


def _divide(images: Mapping[str, Images], splits: Splits) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """Pixels and names by split."""
    normal = images["train"]
    rows = _rows(splits)
    pixels = {name: normal.pixels[index] for name, index in rows.items()}
    names = {name: [normal.names[i] for i in index.tolist()] for name, index in rows.items()}
    if "test" in images:
        pixels["test"], names["test"] = images["test"].pixels, list(images["test"].names)
    return pixels, names


def _sizes(images: Mapping[str, Images], splits: Splits) -> dict[str, list[tuple[int, int]]]:
    """Height and width of the images as they were read, by split."""
    sizes = {name: [images["train"].sizes[i] for i in index.tolist()] for name, index in _rows(splits).items()}
    return sizes | ({"test": list(images["test"].sizes)} if "test" in images else {})


def _rows(splits: Splits) -> dict[str, torch.Tensor]:
    return {"train": splits.train, "validation": splits.validation, "calibration": splits.calibration}


def _describe(
    images: Mapping[str, Images],
    splits: Splits,
    groups: Sequence[int] | None,
    search: Search,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What a reader of the result must know of the run: its settings, images and libraries."""
    by_split = groups and {name: [groups[i] for i in index.tolist()] for name, index in _rows(splits).items()}
    warnings = image_checks.warnings(**images) if "test" in images else []
    notes = [f"{role}: {note}" for role, read in images.items() for note in read.notes]
    skipped = [(role, name, reason) for role, read in images.items() for name, reason in read.skipped]
    return {
        "settings": {
            **search.settings,
            **settings,
            "channels": images["train"].pixels.shape[1],
            "groups": by_split,
            **{f"{role} images": fingerprint(read) for role, read in images.items()},
        },
        "profile": image_checks.Profile.of(images["train"]).to_json(),
        "warnings": warnings,
        "notes": [*notes, *warnings, *image_checks.duplicates_across_splits(images["train"], splits)],
        "skipped": [{"role": role, "name": name, "reason": reason} for role, name, reason in skipped],
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in LIBRARIES},
    }


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    with disk_errors(Path(tempfile.gettempdir()), kept="nothing was begun"):
        return tempfile.TemporaryDirectory(prefix="ssad-")


def _rank(zoo: Zoo, decision: Decision, seed: int, tested: Sequence[str]) -> Ranking:
    records, evidence = _records_and_evidence(zoo)
    if not evidence:
        again = any(record.get("retry") for record in records.values())
        remedy = "; the same command tries those again that failed for want of memory or by the device" * again
        raise NothingToSelectError(_all_failed([record["reason"] for record in records.values()]) + remedy)
    compared = (evidence[i] for i in tested if i in evidence)
    groups = zoo.store.groups("validation")
    shift = test_for_shift(compared, seed, groups)
    rule = decision.given(shift.is_shifted, count_kinds(zoo.candidates))
    ranking = rank(zoo.candidates, records, evidence, rule, seed, shift, groups)
    if (ranking.table.status == "failed").all():  # trained, and still without what decides
        remedy = "; what was trained is kept, and the same command with another criterion ranks it"
        raise NothingToSelectError(_all_failed(list(ranking.table.reason)) + remedy)
    return ranking


def _all_failed(reasons: Collection[str]) -> str:
    return f"all {len(reasons)} candidates failed: {'; '.join(sorted(set(reasons))[:3])}"


def _affected(
    zoo: Zoo, ranking: Ranking, decision: Decision, seed: int, members: int, tested: Sequence[str]
) -> tuple[cross_fit.CrossFitPValue, ...]:
    """The test images without which others would have been chosen."""
    store = zoo.store
    if "test" not in store.images:
        return ()
    records, evidence = _records_and_evidence(zoo)
    selections = cross_fit.selections_without_fold(
        zoo.candidates,
        records,
        evidence,
        decision,
        seed,
        members,
        copies=[image_digest(image) for image in store.images["test"]],
        groups=store.groups("validation"),
        tested=tested,
    )

    def calibration(candidate_id: str) -> torch.Tensor:
        return store.calibration(candidate_id)["scores"]

    test = store.images["test"]
    groups = store.groups("calibration")
    kinds = {candidate.id: candidate.kind_of_scores for candidate in zoo.candidates}
    return cross_fit.affected_images(ranking.members(members), selections, test, evidence, calibration, kinds, groups)


def _records_and_evidence(zoo: Zoo) -> tuple[dict[str, dict[str, Any]], StoredEvidence]:
    records = {candidate.id: record for candidate, record in zoo.records()}
    usable = [candidate_id for candidate_id, record in records.items() if record["status"] == "ok"]
    return records, StoredEvidence(zoo.store, usable)
