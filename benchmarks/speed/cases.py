"""The parts that are timed, each beside the usual way, which is in ``naive``; and sizes that cost is fitted over.

One thread for each side, except where worker processes are compared: there both sides have ``JOBS`` cores, and so has
the selection among many candidates, which has no other side.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

import augmentations
from augmentations.randomness import generator
from benchmarks.speed.compare import Case, Comparison, Growth, compare, grow, in_fresh_process
from benchmarks.speed.naive import (
    BATCH,
    PerImage,
    PerImageAugmentation,
    Picture,
    forward,
    one_at_a_time,
    pair_by_pair,
    plain_candidate,
    plain_criteria,
)
from benchmarks.speed.selection_cost import Cost, Size, selection_cost
from detectors import Classifier, get_preset
from detectors.base import as_float
from selector import Evidence
from selector.consensus import evaluate as evaluate_consensus
from selector.criteria import embedding
from selector.criteria import evaluate as evaluate_criteria
from selector.execution import resolve_engine
from selector.zoo.plan import Plan
from selector.zoo.prepare import prepare
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")
JOBS = 2  # worker processes of the zoo, and threads of the usual way
WIDTH = 512  # of embeddings: ResNet-18's
AREA, JITTER = (0.02, 0.15), 0.1  # Li et al., CVPR 2021 (CutPaste), appendix A.2
SMALL_AREA = (0.005, 0.02)
RECIPES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cutpaste", {"area": AREA, "jitter": JITTER}),
    ("cutout", {"area": AREA}),
    ("cutpaste", {"area": SMALL_AREA, "jitter": JITTER}),
    ("cutout", {"area": SMALL_AREA}),
)
EMBEDDING_CRITERIA = [criterion.name for criterion in embedding.CRITERIA]


@dataclass(frozen=True)
class Sizes:
    """What is measured. augmentations and detection: (images, px); criteria: rows of each of the three sets.

    zoo: (candidates, steps, px); consensus: (candidates, images, candidates that the usual way compares);
    selection: (candidates, train images, test images, embedding width); candidate: (normal images, test images, px,
    steps of the classifier it is compared with); contrastive: (px, normal images, steps).
    The others are those that cost is fitted over.
    """

    augmentations: tuple[tuple[int, int], ...] = ((256, 64), (64, 256))
    criteria: tuple[int, ...] = (300, 800)
    zoo: tuple[int, int, int] = (4, 40, 64)
    detection: tuple[tuple[int, int], ...] = ((256, 64), (64, 128))
    consensus: tuple[tuple[int, int, int], ...] = ((20, 500, 20), (200, 500, 20))
    selection: tuple[tuple[int, int, int, int], ...] = ((200, 500, 2000, WIDTH), (2, 500, 100_000, WIDTH))
    candidate: tuple[int, int, int, int] = (288, 352, 128, 200)
    contrastive: tuple[tuple[int, int, int], ...] = ((32, 256, 100), (64, 256, 50))
    growing_candidates: tuple[int, ...] = (1, 2, 4)
    growing_images: tuple[int, ...] = (128, 256, 512)
    growing_px: tuple[int, ...] = (64, 128, 256)
    growing_rows: tuple[int, ...] = (500, 1000, 2000)


FULL = Sizes()
# Seconds in all: to see that it works, and to load what a first call loads before anything is measured.
TINY = Sizes(
    augmentations=((4, 32),),
    criteria=(20,),
    zoo=(1, 2, 32),
    detection=((8, 32),),
    consensus=((4, 20, 3),),
    selection=((3, 30, 40, 16),),
    candidate=(20, 4, 32, 2),
    contrastive=((32, 32, 2),),
    growing_candidates=(1, 2),
    growing_images=(8, 16),
    growing_px=(32, 64),
    growing_rows=(20, 40),
)


def photographs(n: int, px: int, seed: int = 0) -> Tensor:
    """(n,3,px,px) uint8: smooth colours and a little noise, made one at a time, so that memory never peaks here."""
    source = generator(seed, "photographs")

    def photograph() -> Tensor:
        colours = torch.rand(1, 3, 4, 4, generator=source)
        smooth = nn.functional.interpolate(colours, (px, px), mode="bilinear")[0]
        noisy = smooth + 0.05 * torch.randn(3, px, px, generator=source)
        return (255 * noisy).clamp(0, 255).byte()

    return torch.stack([photograph() for _ in range(n)])


def pictures_of(images: Tensor) -> list[Picture]:
    """(n,3,H,W) uint8 images as PIL pictures."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def augmentation_case(name: str, hyperparameters: dict[str, Any], n: int, px: int) -> Case:
    """All of n images augmented once, in batches."""
    pixels = photographs(n, px)
    images, pictures = as_float(pixels), pictures_of(pixels)
    augmentation, source = augmentations.make(name, **hyperparameters), generator(0, "speed")
    loader = DataLoader(PerImage(pictures, (PerImageAugmentation(name, **hyperparameters),)), batch_size=BATCH)

    def ours() -> None:
        for batch in images.split(BATCH):
            augmentation(batch, source)

    def usual() -> None:
        for _ in loader:
            pass

    return Case(ours, usual)


def of_augmentations(sizes: Sizes, pairs: int) -> list[Comparison]:
    """Batched augmentation of tensors against PIL augmentation of each image in a DataLoader."""
    rows = []
    for name, hyperparameters in RECIPES[:2]:
        case = partial(augmentation_case, name, hyperparameters)
        for n, px in sizes.augmentations:
            warm = partial(case, *TINY.augmentations[0])
            rows.append(compare("augmentations", f"{name}, {n} of {px} px", partial(case, n, px), warm, pairs))
    return rows


def embeddings(rows: int, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    """Train, augmented and test rows (rows, width), L2-normalised, around a mean of their own each."""
    source = generator(0, "embeddings")
    means = torch.randn(3, 1, width, generator=source)
    x, y, z = nn.functional.normalize(means + torch.randn(3, rows, width, generator=source), dim=2)
    return x, y, z


def criteria_case(rows: int) -> Case:
    """All criteria of embeddings, of as many train, augmented and test rows."""
    x, y, z = embeddings(rows)
    ours = lambda: evaluate_criteria(Evidence(train=x, augmented=y, test=z), EMBEDDING_CRITERIA)  # noqa: E731
    return Case(ours, partial(plain_criteria, x, y, z))


def of_criteria(sizes: Sizes, pairs: int) -> list[Comparison]:
    """The criteria of embeddings against tensors of the differences of all pairs."""
    warm = partial(criteria_case, TINY.criteria[0])
    return [
        compare("criteria", f"{len(EMBEDDING_CRITERIA)} of 3 x {rows} rows", partial(criteria_case, rows), warm, pairs)
        for rows in sizes.criteria
    ]


def zoo_case(candidates: int, steps: int, px: int, jobs: int = JOBS) -> Case:
    """A zoo from nothing to its stored evidence, on 64 normal images, 32 held out and 32 test images.

    Ours also holds out, calibrates, draws its pseudo anomalies five times and writes all of it to disk.
    """
    chosen = replace(get_preset("quick"), steps=steps, image_size=px)
    settings = Classifier.settings_for(chosen)
    recipes = RECIPES[:candidates]
    train, validation, calibration, test = photographs(128, px).split([64, 16, 16, 32])
    images = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    images = {role: as_float(pixels) for role, pixels in images.items()}
    train_pictures, test_pictures = pictures_of(train), pictures_of(test)
    grids: dict[str, list[dict[str, Any]]] = {}
    for name, hyperparameters in recipes:
        grids.setdefault(name, []).append(hyperparameters)

    def ours() -> None:
        with TemporaryDirectory() as folder:
            store = Store(folder)
            plan = Plan.of(grids, ["classifier"], ["gaussian"], chosen)
            prepare(store, {"settings": {}}, images, plan.augmentations, seed=0)
            zoo = Zoo(store, plan.candidates(0), CPU)
            zoo.train(resolve_engine(None, jobs, CPU))
            for _, record in zoo.records():
                if record["status"] != "ok":  # a failure would be fast
                    raise RuntimeError(f"a candidate failed: {record['reason']}")

    def usual() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(jobs)
        for name, hyperparameters in recipes:
            plain_candidate(train_pictures, test_pictures, PerImageAugmentation(name, **hyperparameters), settings)
        torch.set_num_threads(threads)

    return Case(ours, usual, workers=jobs if jobs > 1 else 0)


def of_zoo(sizes: Sizes, pairs: int) -> list[Comparison]:
    """A zoo of worker processes, one thread each, against one model after another on as many threads."""
    candidates, steps, px = sizes.zoo
    setting = f"{candidates} candidates, {steps} steps, {px} px, {JOBS} cores"
    return [compare("zoo", setting, partial(zoo_case, *sizes.zoo), partial(zoo_case, *TINY.zoo), pairs)]


def detection_case(encoder_only: bool, n: int, px: int) -> Case:
    """Scores and maps of n images; ``encoder_only``: against the encoder's forward pass, a lower bound."""
    images = as_float(photographs(n, px))
    settings = Classifier.settings_for(replace(get_preset("quick"), image_size=px))
    # What its weights are makes no difference to the time.
    detector = Classifier(settings, augmentations.make("cutout"), device=CPU).random_init(images).fit_scorer(images)
    return Case(
        partial(detector.score_and_map, images), partial(forward if encoder_only else one_at_a_time, detector, images)
    )


def of_detection(sizes: Sizes, pairs: int) -> list[Comparison]:
    """Scores and maps in one pass against one image at a time, and against the encoder's forward pass alone."""
    rows = []
    for encoder_only, against in ((False, "one at a time"), (True, "the encoder alone")):
        case = partial(detection_case, encoder_only)
        for n, px in sizes.detection:
            warm = partial(case, *TINY.detection[0])
            setting = f"{n} of {px} px, against {against}"
            rows.append(compare("detection", setting, partial(case, n, px), warm, pairs))
    return rows


def score_matrix(images: int, candidates: int) -> np.ndarray:
    """(images, candidates) scores with something in common."""
    source = np.random.default_rng(0)
    return source.normal(size=(images, 1)) + source.normal(size=(images, candidates))


def consensus_case(candidates: int, images: int, compared: int) -> Case:
    """Model centrality; the usual way is given ``compared`` of the candidates, and its time scaled to all pairs."""
    scores = score_matrix(images, candidates)
    scale = math.comb(candidates, 2) / math.comb(compared, 2)
    return Case(partial(evaluate_consensus, scores, ["mc"]), partial(pair_by_pair, scores[:, :compared]), scale)


def of_consensus(sizes: Sizes, pairs: int) -> list[Comparison]:
    """Kendall's tau of all pairs of candidates against scipy, pair by pair, some of them standing for all."""
    rows = []
    for candidates, images, compared in sizes.consensus:
        setting = f"mc, {candidates} candidates, {images} images"
        if compared < candidates:
            setting += f"; usual extrapolated from {math.comb(compared, 2)} of {math.comb(candidates, 2)} pairs"
        case = partial(consensus_case, candidates, images, compared)
        rows.append(compare("consensus", setting, case, partial(consensus_case, *TINY.consensus[0]), pairs))
    return rows


def of_selection(sizes: Sizes, repeats: int) -> list[Cost]:
    """All criteria, the ranking and all consensus, each time in a fresh process; of each size the median run."""
    medians = []
    for size in sizes.selection:
        costs = [in_fresh_process(selection_cost, Size(*size), JOBS) for _ in range(repeats)]
        costs.sort(key=lambda cost: cost.ranking_seconds + cost.consensus_seconds)
        medians.append(costs[len(costs) // 2])
    return medians


def scaling(sizes: Sizes, repeats: int) -> list[Growth]:
    """How our cost grows with candidates (in one process), images, their side, and embedding rows."""
    n, px = sizes.detection[0]
    _, steps, zoo_px = sizes.zoo
    return [
        grow("zoo", "candidates", sizes.growing_candidates, lambda c: zoo_case(c, steps, zoo_px, jobs=1), repeats),
        grow("detection", "images", sizes.growing_images, lambda n: detection_case(True, n, px), repeats),
        grow("detection", "px per side", sizes.growing_px, lambda px: detection_case(True, n, px), repeats),
        grow("criteria", "rows of each set", sizes.growing_rows, criteria_case, repeats),
    ]
