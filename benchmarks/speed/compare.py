"""How fast this project is against the usual way, and how its cost grows: Markdown tables.

ssad benchmark speed criteria detection --repeat 7 --out runs/speed

The usual ways are in ``references``. Both sides run in one process, in turn, so that whatever else a machine does meets
both. One thread for each side but where worker processes are compared: there both sides have ``JOBS`` cores, and so has
the choice among many candidates, which has no other side.
"""

import math
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from selector.execution.execution import engine, one_thread
from torch import Tensor, nn
from torch.utils.data import DataLoader

import augmentations
from augmentations.errors import unknown_name
from augmentations.randomness import generator
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
from benchmarks.speed.selection_cost import MAXRSS_BYTES, Cost, Size, choose
from detectors import Classifier, preset
from detectors.base import as_float
from selector import Evidence
from selector.consensus import evaluate as evaluate_consensus
from selector.criteria import embedding
from selector.criteria import evaluate as evaluate_criteria
from selector.zoo.candidates import plan
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
SIDES = ("ours", "usual")


@dataclass(frozen=True)
class Comparison:
    """One row: seconds are medians; ratio is the median, the lowest and the highest of usual over ours, pair by pair.

    Megabytes are those that memory rose by, at its peak, in a fresh process that had its inputs already; with the
    whole peak of every worker process, if there are any.
    """

    part: str
    setting: str
    ours_seconds: float
    usual_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ours_mb: float
    usual_mb: float


@dataclass(frozen=True)
class Growth:
    """How our seconds (medians) grow with one size; exponent: the slope of log seconds over log sizes."""

    what: str
    of: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float


@dataclass(frozen=True)
class Case:
    """Two ways of doing the same; ``scale`` times the usual way's seconds, where it is given a part of the work.

    ``workers``: processes that ours starts.
    """

    ours: Callable[[], object]
    usual: Callable[[], object]
    scale: float = 1.0
    workers: int = 0


Make = Callable[[], Case]


@dataclass(frozen=True)
class Sizes:
    """What is measured. augmentations and detection: (images, px); criteria: rows of each of the three sets.

    zoo: (candidates, steps, px); consensus: (candidates, images, candidates that the usual way compares);
    choosing: (candidates, train images, test images, embedding width).
    The others are those that cost is fitted over.
    """

    augmentations: tuple[tuple[int, int], ...] = ((256, 64), (64, 256))
    criteria: tuple[int, ...] = (300, 800)
    zoo: tuple[int, int, int] = (4, 40, 64)
    detection: tuple[tuple[int, int], ...] = ((256, 64), (64, 128))
    consensus: tuple[tuple[int, int, int], ...] = ((20, 500, 20), (200, 500, 20))
    choosing: tuple[int, int, int, int] = (200, 500, 2000, WIDTH)
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
    choosing=(3, 30, 40, 16),
    growing_candidates=(1, 2),
    growing_images=(8, 16),
    growing_px=(32, 64),
    growing_rows=(20, 40),
)


# Measuring ----------------------------------------------------------------------------------------------------


def compare(part: str, setting: str, make: Make, warm: Make, pairs: int) -> Comparison:
    """The row of a case: ``pairs`` of ours and usual in turn, after one of ``warm``, a tiny case of the same kind."""
    with one_thread():
        tiny, case = warm(), make()
        tiny.ours(), tiny.usual()
        both = [(seconds_of(case.ours), seconds_of(case.usual) * case.scale) for _ in range(pairs)]
    ratios = [usual / ours for ours, usual in both]
    del case  # its inputs are made anew in each process that is measured
    memory = [_in_fresh_process(megabytes_of, make, warm, side) for side in SIDES]
    ours, usual = np.median(both, axis=0).tolist()
    return Comparison(part, setting, ours, usual, float(np.median(ratios)), min(ratios), max(ratios), *memory)


def grow(what: str, of: str, sizes: tuple[int, ...], make: Callable[[int], Case], repeats: int) -> Growth:
    """Median seconds of ours at each size, all sizes in turn ``repeats`` times, and the exponent fitted to them."""
    with one_thread():
        runs = [make(size).ours for size in sizes]
        runs[0]()
        rounds = [[seconds_of(run) for run in runs] for _ in range(repeats)]
    seconds = np.median(rounds, axis=0)
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return Growth(what, of, sizes, tuple(seconds.tolist()), float(exponent))


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _in_fresh_process(task: Callable[..., Any], *arguments: Any) -> Any:
    # A process that is started by exec inherits the peak of the one that started it; a forked one does not, and the
    # server that forks it is small.
    context = get_context("forkserver")
    context.set_forkserver_preload(["selector"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(task, *arguments).result()


def megabytes_of(make: Make, warm: Make, side: str) -> float:
    """What the peak of this process rises by when one side of a case runs, and the peak of the workers it starts."""
    with one_thread():
        getattr(warm(), side)()
        case = make()
        before = _peak(resource.RUSAGE_SELF)
        getattr(case, side)()
    rise = _peak(resource.RUSAGE_SELF) - before
    return rise + case.workers * _peak(resource.RUSAGE_CHILDREN) if side == "ours" else rise


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss * MAXRSS_BYTES / 1e6


# Augmentations ------------------------------------------------------------------------------------------------


def photographs(n: int, px: int, seed: int = 0) -> Tensor:
    """(n,3,px,px) uint8: smooth colours and a little noise, made one at a time, so that memory never peaks here."""
    source = generator(seed, "photographs")

    def one() -> Tensor:
        colours = torch.rand(1, 3, 4, 4, generator=source)
        smooth = nn.functional.interpolate(colours, (px, px), mode="bilinear")[0]
        noisy = smooth + 0.05 * torch.randn(3, px, px, generator=source)
        return (255 * noisy).clamp(0, 255).byte()

    return torch.stack([one() for _ in range(n)])


def pictures_of(images: Tensor) -> list[Picture]:
    """(n,3,H,W) uint8 images as PIL pictures."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def augmentation_case(name: str, hyperparameters: dict[str, Any], n: int, px: int) -> Case:
    """All of n images augmented once, in batches."""
    kept = photographs(n, px)
    images, pictures = as_float(kept), pictures_of(kept)
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
    found = []
    for name, hyperparameters in RECIPES[:2]:
        case = partial(augmentation_case, name, hyperparameters)
        for n, px in sizes.augmentations:
            warm = partial(case, *TINY.augmentations[0])
            found.append(compare("augmentations", f"{name}, {n} of {px} px", partial(case, n, px), warm, pairs))
    return found


# Criteria -----------------------------------------------------------------------------------------------------


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


# The zoo ------------------------------------------------------------------------------------------------------


def zoo_case(candidates: int, steps: int, px: int, jobs: int = JOBS) -> Case:
    """A zoo from nothing to its stored evidence, on 64 normal images, 32 held out and 32 to be judged on.

    Ours also holds out, calibrates, draws its pseudo anomalies five times and writes all of it to disk.
    """
    settings = replace(preset("quick"), steps=steps, image_size=px)
    recipes = RECIPES[:candidates]
    fit, validation, calibration, test = photographs(128, px).split([64, 16, 16, 32])
    images = {"train": fit, "validation": validation, "calibration": calibration, "test": test}
    images = {role: as_float(kept) for role, kept in images.items()}
    train, judged = pictures_of(fit), pictures_of(test)
    grids: dict[str, list[dict[str, Any]]] = {}
    for name, hyperparameters in recipes:
        grids.setdefault(name, []).append(hyperparameters)

    def ours() -> None:
        with TemporaryDirectory() as folder:
            store = Store(folder)
            store.create({"settings": {}}, images)
            zoo = Zoo(store, plan(grids, ["classifier"], ["gaussian"], settings, seed=0), CPU)
            zoo.train(engine(jobs, CPU))
            for _, record in zoo.records():
                if record["status"] != "ok":  # a failure would be fast
                    raise RuntimeError(f"a candidate failed: {record['reason']}")

    def usual() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(jobs)
        for name, hyperparameters in recipes:
            plain_candidate(train, judged, PerImageAugmentation(name, **hyperparameters), settings)
        torch.set_num_threads(threads)

    return Case(ours, usual, workers=jobs if jobs > 1 else 0)


def of_zoo(sizes: Sizes, pairs: int) -> list[Comparison]:
    """A zoo of worker processes, one thread each, against one model after another on as many threads."""
    candidates, steps, px = sizes.zoo
    setting = f"{candidates} candidates, {steps} steps, {px} px, {JOBS} cores"
    return [compare("zoo", setting, partial(zoo_case, *sizes.zoo), partial(zoo_case, *TINY.zoo), pairs)]


# Detection ----------------------------------------------------------------------------------------------------


def detection_case(floor: bool, n: int, px: int) -> Case:
    """Scores and maps of n images; ``floor``: against the forward pass that they can't do without."""
    images = as_float(photographs(n, px))
    settings = replace(preset("quick"), image_size=px)
    # What its weights are makes no difference to the time.
    detector = Classifier(augmentations.make("cutout"), settings, device=CPU).leave_untrained(images).fit_scorer(images)
    return Case(partial(detector.score_and_map, images), partial(forward if floor else one_at_a_time, detector, images))


def of_detection(sizes: Sizes, pairs: int) -> list[Comparison]:
    """Scores and maps in one pass against one image at a time, and against the encoder's forward pass alone."""
    found = []
    for floor, against in ((False, "one at a time"), (True, "the encoder alone")):
        case = partial(detection_case, floor)
        for n, px in sizes.detection:
            warm = partial(case, *TINY.detection[0])
            setting = f"{n} of {px} px, against {against}"
            found.append(compare("detection", setting, partial(case, n, px), warm, pairs))
    return found


# Consensus ----------------------------------------------------------------------------------------------------


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
    found = []
    for candidates, images, compared in sizes.consensus:
        setting = f"mc, {candidates} candidates, {images} images"
        if compared < candidates:
            setting += f"; usual extrapolated from {math.comb(compared, 2)} of {math.comb(candidates, 2)} pairs"
        case = partial(consensus_case, candidates, images, compared)
        found.append(compare("consensus", setting, case, partial(consensus_case, *TINY.consensus[0]), pairs))
    return found


# Choosing -----------------------------------------------------------------------------------------------------


def of_choosing(sizes: Sizes, repeats: int) -> list[Cost]:
    """All criteria, the ranking and all consensus of many candidates, each time in a fresh process; the median run."""
    costs = [_in_fresh_process(choose, Size(*sizes.choosing), JOBS) for _ in range(repeats)]
    return [sorted(costs, key=lambda cost: cost.ranking_seconds + cost.consensus_seconds)[len(costs) // 2]]


# Scaling ------------------------------------------------------------------------------------------------------


def scaling(sizes: Sizes, repeats: int) -> list[Growth]:
    """How our cost grows with candidates (in one process), images, their side, and embedding rows."""
    n, px = sizes.detection[0]
    _, steps, zoo_px = sizes.zoo
    return [
        grow("zoo", "candidates", sizes.growing_candidates, lambda c: zoo_case(c, steps, zoo_px, jobs=1), repeats),
        grow("detection", "images", sizes.growing_images, lambda n: detection_case(True, n, px), repeats),
        grow("detection", "px a side", sizes.growing_px, lambda px: detection_case(True, n, px), repeats),
        grow("criteria", "rows of each set", sizes.growing_rows, criteria_case, repeats),
    ]


# The command --------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Sizes, int], list[Any]]] = {
    "augmentations": of_augmentations,
    "criteria": of_criteria,
    "zoo": of_zoo,
    "detection": of_detection,
    "consensus": of_consensus,
    "choosing": of_choosing,
    "scaling": scaling,
}


def table(
    part: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}. [default: all]")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Pairs of runs a row.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder for speed.csv, choosing.csv and scaling.csv.")] = None,
    tiny: Annotated[bool, typer.Option(help="Sizes of seconds: to see that it works, not to measure.")] = False,
) -> None:
    """Print seconds, ratios (usual / ours: median, lowest to highest) and peak megabytes, then how cost grows."""
    for name in part or []:
        if name not in PARTS:
            raise unknown_name("part", name, list(PARTS))
    rows = [row for name in part or PARTS for row in PARTS[name](TINY if tiny else FULL, repeat)]
    comparisons = [row for row in rows if isinstance(row, Comparison)]
    costs = [row for row in rows if isinstance(row, Cost)]
    growths = [row for row in rows if isinstance(row, Growth)]
    for file, found, lines in (
        ("speed.csv", comparisons, comparison_lines(comparisons)),
        ("choosing.csv", costs, cost_lines(costs)),
        ("scaling.csv", growths, growth_lines(growths)),
    ):
        if not found:
            continue
        print("\n".join(lines), end="\n\n")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            pd.DataFrame([asdict(row) for row in found]).to_csv(out / file, index=False)


def comparison_lines(rows: list[Comparison]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| part | setting | ours s | usual s | usual / ours | ours MB | usual MB |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        ratio = f"{row.ratio:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})"
        seconds = f"{row.ours_seconds:.3g} | {row.usual_seconds:.3g}"
        yield f"| {row.part} | {row.setting} | {seconds} | {ratio} | {row.ours_mb:.0f} | {row.usual_mb:.0f} |"


def cost_lines(rows: list[Cost]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| choosing among | criteria, one draw, s | ranking s | consensus s | processor s | peak MB | of it added |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        seconds = (row.criteria_seconds, row.ranking_seconds, row.consensus_seconds, row.cpu_seconds)
        told = " | ".join(f"{one:.3g}" for one in seconds)
        yield f"| {row.setting} | {told} | {row.peak_mb:.0f} | {row.rise_mb:.0f} |"


def growth_lines(rows: list[Growth]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| seconds of | at so many | | exponent |"
    yield "|---|---|---|---|"
    for row in rows:
        measured = ", ".join(f"{size}: {s:.3g} s" for size, s in zip(row.sizes, row.seconds, strict=True))
        yield f"| {row.what} | {row.of} | {measured} | {row.exponent:.2f} |"
