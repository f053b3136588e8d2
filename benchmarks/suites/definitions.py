"""Suites: which data sets, zoos and seeds a leaderboard is made of. Frozen: results name the suite they come from.

Choices (defaults, presets, constants) are made on ``development``; ``held-out`` is run to report, never to tune, and
has a row in its judgements.csv for each time that it was evaluated. ``seen`` was held out once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import augmentations
from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from benchmarks.datasets import load
from benchmarks.datasets.arrays import SUPER_CLASSES
from benchmarks.datasets.controlled import controlled
from benchmarks.datasets.defects import CATEGORIES
from benchmarks.suites import two_stage
from benchmarks.tasks.contamination import LABELED
from benchmarks.tasks.task import SPLIT_SEED, Task
from selector.zoo import auto
from selector.zoo.plan import Request

Grids = Mapping[str, Sequence[Mapping[str, Any]]]  # hyperparameters by augmentation

# What the demo and the study of false alarms train: how large a pseudo anomaly is matters most, so four areas of four
# augmentations.
DEMO_AREAS = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15), (0.02, 0.15))
DEMO_ZOO: Grids = {
    name: [{"area": area} for area in DEMO_AREAS] for name in ("cutout", "cutavg", "cutdiff", "cutpaste")
}
AREAS = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15))
# Every way of cutting at three sizes, thin scars at two, and rotation at small and at any angle.
ZOO: Grids = {
    "cutout": [{"area": area} for area in AREAS],
    "cutavg": [{"area": area} for area in AREAS],
    "cutdiff": [{"area": area} for area in AREAS],
    "cutpaste": [{"area": area} for area in AREAS],
    "cutpaste_scar": [{"area": area} for area in ((0.002, 0.006), (0.006, 0.014))],
    "rotation": [{"angle": (10, 45), "step": 0}, {"angle": (90, 270), "step": 90}],
}
RATIOS = (0.05, 0.2, 0.5)  # of anomalies among the test images
TRAIN_IMAGES = 600  # of those that have thousands
TEST_IMAGES = 300  # normal ones, and as many anomalies
DIGIT_IMAGES = (300, 200)  # all that MNIST-5k has of a digit, and as many others


HELD_OUT = "held-out"  # the suite whose every evaluation is recorded
CELL = 300  # px, of the photo of a solar cell
# What ``--root`` calls the folders of data that no package ships.
NEED_ROOTS = ("mvtec", "mpdd", "visa", "btech", "cifar10", "cifar100", "svhn", "mnist", "classes", "celeba", "folder")


def classifiers(grids: Grids) -> tuple[Request, ...]:
    """A zoo of classifiers, by the augmentations that they learn."""
    return (Request(grids, ("classifier",), ("gaussian",)),)


@dataclass(frozen=True)
class DataSet:
    """One train set and everything that is tested on it.

    tasks: names for ``benchmarks.load``, with the same train images. group: data sets that share images share it; what
    is left out at a time when choices are validated, and independent in intervals and tests, is its ``family``.
    image_size: px that classifiers see. largest: px beyond which a larger image would show no more, for kinds that see
    more than classifiers; None: image_size. by_kind: every kind of anomaly is a task of its own. reduced: of its
    thousands of images, some are used. used: how many to train on, and how many normal and anomalous ones to test on.
    generators: hyperparameters by name of the augmentations that make the anomalies of a controlled testbed.
    """

    tasks: tuple[str, ...]
    group: str
    image_size: int = 64
    largest: int | None = None
    by_kind: bool = False
    reduced: bool = False
    used: tuple[int, int] = (TRAIN_IMAGES, TEST_IMAGES)
    generators: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def name(self) -> str:
        return self.tasks[0]

    @property
    def source(self) -> str:
        """What ``--root`` calls the folder of its data."""
        return self.name.partition("-")[0]

    @property
    def needs_root(self) -> bool:
        """Whether no package ships its data."""
        return self.source in NEED_ROOTS

    def load(self, roots: Mapping[str, Path], image_size: int | None = None) -> list[Task]:
        """The tasks, their train images the same in each.

        Args:
            roots: folders of data that no package ships, by the first word of a task's name.
            image_size: px; images of which there is no more to see are enlarged to it. None: what classifiers see.
        """
        root = roots.get(self.source)
        size = image_size or self.image_size
        tasks = self._load(root, min(size, self.largest or self.image_size))
        return [task.resized(size) for task in tasks]

    def _load(self, root: Path | None, image_size: int) -> list[Task]:
        loaded = [load(name, image_size, root=root) for name in self.tasks]
        assert all(torch.equal(task.train, loaded[0].train) for task in loaded)
        tasks = [reduce(task, *self.used) for task in loaded] if self.reduced else loaded
        if self.generators is None:
            return tasks
        made_by = {name: augmentations.make(name, **ranges) for name, ranges in self.generators.items()}
        return [controlled(task, made_by, SPLIT_SEED) for task in tasks]


@dataclass(frozen=True)
class Suite:
    """What ``ssad benchmark run`` trains and evaluates.

    zoo: what every data set is given to choose among. steps: of the classifier, instead of the preset's. partial: may
    be run without the data sets for which no folder is named; else all are needed.
    """

    name: str
    description: str
    data_sets: tuple[DataSet, ...]
    zoo: tuple[Request, ...]
    seeds: tuple[int, ...] = (0, 1)
    preset: str = "quick"
    steps: int | None = None
    ratios: tuple[float, ...] = RATIOS
    partial: bool = False

    def divided(self, roots: Mapping[str, Path]) -> tuple[tuple[DataSet, ...], tuple[DataSet, ...]]:
        """Its data sets: those to run, and those of a partial suite that are left out for want of a folder.

        Raises InputError where none could be run.
        """
        absent = [data_set for data_set in self.data_sets if data_set.needs_root and data_set.source not in roots]
        left_out = tuple(absent) if self.partial else ()
        if left_out and len(left_out) == len(self.data_sets):
            sources = " ".join(f"--root {name}=..." for name in dict.fromkeys(d.source for d in left_out))
            raise InputError(f"suite {self.name!r}", "has no data set whose folder is known", f"give one of {sources}")
        return tuple(data_set for data_set in self.data_sets if data_set not in left_out), left_out

    def said_of_left_out(self, roots: Mapping[str, Path]) -> list[str]:
        """One line for each folder that would bring back data sets which are left out."""
        counts = Counter(data_set.source for data_set in self.divided(roots)[1])
        return [
            f"left out     {source}: {n} data set{'s' * (n > 1)}, --root {source}=... names no folder"
            for source, n in counts.items()
        ]


def reduce(task: Task, n_train: int = TRAIN_IMAGES, n_test: int = TEST_IMAGES) -> Task:
    """The task with at most ``n_train`` images to train on, and ``n_test`` normal and as many anomalous test images."""
    source = generator(SPLIT_SEED, "benchmarks", "reduced")
    train = torch.randperm(len(task.train), generator=source)[:n_train]
    of_both = [(task.labels == label).nonzero()[:, 0] for label in (0, 1)]
    rows = torch.cat([rows[torch.randperm(len(rows), generator=source)[:n_test]] for rows in of_both])
    order = torch.randperm(len(rows), generator=source)
    return replace(task.with_test(rows[order]), train=task.train[train])


def _fashion(*classes: int) -> tuple[DataSet, ...]:
    return tuple(DataSet((f"fashion-mnist-{k}",), f"fashion-mnist-{k}", image_size=32, reduced=True) for k in classes)


def _photo(name: str, image_size: int = 32) -> DataSet:  # most tiles as large as they are
    return DataSet((name,), name.removesuffix("-shifted"), image_size=image_size, by_kind=True)


def _digits(*digits: int) -> tuple[DataSet, ...]:
    names = [f"mnist5k-{k}" for k in digits]
    return tuple(DataSet((name,), name, image_size=32, reduced=True, used=DIGIT_IMAGES) for name in names)


def _cells(wafer: str) -> DataSet:
    return DataSet((f"elpv-{wafer}", f"elpv-{wafer}-generated"), f"elpv-{wafer}", largest=CELL, by_kind=True)


def _other_modules(wafer: str) -> DataSet:
    return DataSet((f"elpv-{wafer}-shifted",), f"elpv-{wafer}", largest=CELL)


PATCH = {"area": (0.02, 0.08)}
# One area for all, so that kinds differ in what they show and not in how much; and scars that 32 px can show.
KINDS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("cutout", "cutavg", "cutdiff", "cutpaste"), PATCH),
    "cutpaste_scar": {"area": (0.01, 0.03), "aspect": (4, 12)},
    "rotation": {},
}
ALIGNMENT = tuple(
    DataSet((name,), name, size, by_kind=True, reduced=reduced, generators=KINDS)
    for name, size, reduced in (
        *((f"fashion-mnist-{k}", 32, True) for k in (3, 5, 8)),
        ("elpv-mono", 64, False),
    )
)
# Yoo, Zhao & Akoglu, TMLR 2023: their controlled testbed, but for inverted images, which everything finds.
AUTOENCODER_KINDS: Mapping[str, Mapping[str, Any]] = {"flip": {"direction": "vertical"}, "cutout": {}}
AUTOENCODER_KINDS_ZOO: Grids = {name: [ranges] for name, ranges in AUTOENCODER_KINDS.items()}
AUTOENCODER_ZOO: Grids = {
    **AUTOENCODER_KINDS_ZOO,
    **{name: [{}] for name in ("rotation", "cutpaste", "crop", "invert", "mask", "noise")},
}
AUTOENCODER = {"batch": 64, "steps": 1_500}  # with fewer than 1,000 steps nothing is aligned yet
AUTOENCODER_IMAGES = (1_430, 1_000)  # 1,000 to train on, the others held out; half of 1,000 normal ones are changed
# Yoo, Zhao, Zhao & Akoglu, ECML PKDD 2023: their tasks, augmentations and training; their grids are not released.
PAPER_ZOO: Grids = {name: augmentations.grid(name) for name in ("cutout", "cutavg", "cutdiff", "cutpaste")}
PAPER = tuple(
    DataSet((f"{family}-{category}",), f"{family}-{category}", image_size=256)
    for family in ("mvtec", "mpdd")
    for category in CATEGORIES[family]
)
CLASS_TRAIN, CLASS_TEST = 1_000, 500  # of a class of Fashion-MNIST, besides those that are labeled
TWO_STAGE_CPU = tuple(
    DataSet((name,), name, image_size=32, reduced=True, used=(CLASS_TRAIN + LABELED, CLASS_TEST))
    for name in (f"fashion-mnist-{k}" for k in range(10))
)
# Sohn et al., ICLR 2021: their data sets, at their sizes.
TWO_STAGE = tuple(
    DataSet((name,), name, image_size=size)
    for names, size in (
        ([f"fashion-mnist-{k}" for k in range(10)], 32),
        ([f"cifar10-{k}" for k in range(10)], 32),
        ([f"cifar100-{k}" for k in range(len(SUPER_CLASSES))], 32),
        (["classes-cat", "classes-dog"], 64),
        (["celeba-Eyeglasses"], 64),
        ([f"mvtec-{category}" for category in CATEGORIES["mvtec"]], 256),
    )
    for name in names
)
QUICK_ZOO: Grids = {name: [{"area": AREAS[0]}, {"area": AREAS[2]}] for name in ("cutout", "cutdiff", "cutpaste")}

DEVELOPMENT = (
    *(_cells("mono"), _cells("poly"), _other_modules("mono"), _other_modules("poly")),
    *(_photo("brick"), _photo("brick-shifted")),
    *_fashion(0, 1, 5, 8),
)
# By the labels, a kind that is trained is the best on each of these, and on those of development, seldom. Found by that
# alone, before any rule was tried on them (docs/results.md).
TRAINED_AHEAD = (
    *(DataSet((f"{texture}-texture",), texture, image_size=32, by_kind=True) for texture in ("brick", "terrain")),
    *(DataSet((f"digits-{k}",), "digits", image_size=32, reduced=True) for k in (3, 6)),
    DataSet(("letters-R",), "letters", image_size=32, by_kind=True),
)

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "quick",
            "One task, to see that everything works: it settles nothing.",
            (DataSet(("elpv-mono",), "elpv-mono"),),
            classifiers(QUICK_ZOO),
            seeds=(0,),
        ),
        Suite(
            "development",
            "Where choices are made: solar cells and tiles of brick, also shifted, and four kinds of clothing.",
            DEVELOPMENT,
            classifiers(ZOO),
        ),
        Suite(
            "development-auto",
            "The zoo that select trains where nothing is said, with weights: the data sets of development, and others "
            "on which a trained kind is the best.",
            (*DEVELOPMENT, *TRAINED_AHEAD),
            auto.WITH_WEIGHTS,
            seeds=(0,),  # a seed is an hour on two cores
        ),
        Suite(
            "undecidable",
            "Where labels can't choose either, so that no choice can be evaluated: tiles of grass and gravel.",
            (_photo("grass"), _photo("gravel"), _photo("grass-shifted")),
            classifiers(ZOO),
        ),
        Suite(
            "seen",
            "Held out once, but looked at: photo tiles in colour (one of them shifted) and six kinds of clothing.",
            (_photo("ihc"), _photo("hubble"), _photo("ihc-shifted"), *_fashion(2, 3, 4, 6, 7, 9)),
            classifiers(ZOO),
        ),
        Suite(
            HELD_OUT,
            "Run to report, never to tune: digits, faces, tiles of print, writing, coins, a cat, wood, ground, a leaf.",
            (
                *_digits(3, 5, 9),
                DataSet(("faces",), "faces", image_size=32),
                *map(_photo, ("page", "text", "coins", "cat", "wood", "ground")),
                _photo("leaf", 64),
            ),
            auto.WITH_WEIGHTS,
        ),
        Suite(
            "alignment",
            "The controlled testbed: six augmentations, each of which is also the generator of the anomalies once.",
            ALIGNMENT,
            classifiers({name: [ranges] for name, ranges in KINDS.items()}),
            steps=600,  # with 200 one of the six is still at the loss of guessing
            ratios=(0.5,),
        ),
        Suite(
            "alignment-autoencoder",
            "The controlled testbed of the denoising autoencoder: what it is trained to undo, and what it then finds.",
            tuple(
                replace(data_set, reduced=True, used=AUTOENCODER_IMAGES, by_kind=True, generators=AUTOENCODER_KINDS)
                for data_set in _fashion(0, 3, 5, 8)
            ),
            (
                Request(AUTOENCODER_ZOO, {"autoencoder": [AUTOENCODER]}, ("gaussian",)),
                Request(AUTOENCODER_KINDS_ZOO, {"plain_autoencoder": [AUTOENCODER]}, ("gaussian",)),
            ),
            ratios=(0.5,),
        ),
        Suite(
            "paper",
            "MVTec AD and MPDD as published, for a GPU: name their folders with --root mvtec=... --root mpdd=...",
            PAPER,
            classifiers(PAPER_ZOO),
            preset="paper",
        ),
        Suite(
            "two_stage",
            "Ten kinds of clothing, one against the rest, by encoders that learn proxy tasks and the scorers on them.",
            TWO_STAGE_CPU,
            two_stage.zoo(two_stage.ON_CPU),
            seeds=(0, 1, 2),
        ),
        Suite(
            "two_stage-paper",
            "Five data sets of classes and MVTec AD with the published trainings, for a GPU; those whose folders are "
            "not named by --root (cifar10=..., cifar100=..., classes=..., celeba=..., mvtec=...) are left out.",
            TWO_STAGE,
            two_stage.zoo(two_stage.AS_PUBLISHED),
            seeds=(0, 1, 2, 3, 4),
            preset="paper",
            partial=True,
        ),
    )
}


def get(name: str) -> Suite:
    """The suite of that name; raises InputError, with the nearest names, where there is none."""
    if name not in SUITES:
        raise unknown_name("suite", name, list(SUITES))
    return SUITES[name]
