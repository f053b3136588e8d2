"""The realised false-alarm rate of a chosen detector against the promised one: Markdown tables.

ssad benchmark study false-alarms train elpv-mono --seed 0 --seed 1 --seed 2 --out runs/
ssad benchmark study false-alarms simulate benchmarks/results/development
ssad benchmark study false-alarms regret benchmarks/results/development

``train`` trains a zoo on a task; ``simulate`` reads the scores of a suite's stored zoos. Both repeatedly divide normal
images that no candidate was trained on at random into calibration, used and fresh images, so that these are
exchangeable. In each division the rule chooses again, from the used images and anomalies, so that the bias of the
choice shows in the share of the used images that are flagged. Dividing at random after the choice would not show it:
any scores are exchangeable then.

``regret`` measures what a choice costs that sees calibration and test images as one pool, which would be exact as well.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import Tensor

from augmentations.randomness import generator
from benchmarks.datasets import load
from benchmarks.evaluation.metrics import false_alarm_band
from benchmarks.evaluation.statistics import bootstrap
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.leaderboard.markdown import print_table
from benchmarks.suites.definitions import DEMO_ZOO, RATIOS
from benchmarks.suites.files import stored_zoos
from benchmarks.tasks.task import Task
from benchmarks.tasks.view import View
from selector import Selection, criteria, select_best
from selector.evidence.evidence import Evidence
from selector.ranking.borda import borda_points
from selector.ranking.cross_fit import FOLDS
from selector.ranking.rules import DEFAULT_MEMBERS, Rule, resolve_decision

SPLITS = 20
RATES = (0.05, 0.1)
FRESH = 10  # images at least: a view with fewer left is not simulated
SIZES = ((20, 20), (60, 30), (60, 100), (60, 200))  # calibration images, normal images used in the selection
SCHEMES = ("test images", "cross-fit", "pool")
DECIDED = {"test images": "the choice", "cross-fit": "choices without the fold"}
COMPARED = (
    ("test images", "used"),
    ("test images", "fresh"),
    ("cross-fit", "used"),
    ("pool", "used"),
    ("pool", "fresh"),
)
HEADER = (
    *("calibration", "used", "anomaly ratio", "exact"),
    *(f"{scheme}: {images}" for scheme, images in COMPARED),
    *(f"{scheme}: outside the band" for scheme in SCHEMES),
    *(f"{scheme}: anomalies found" for scheme in SCHEMES),
)

app = typer.Typer(help="Realised false-alarm rates against the promised ones.", no_args_is_help=True)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of candidates c, and the rule that chooses one of them.

    Args:
        validation: (h,c).
        pseudo: (b,c), of pseudo anomalies.
        test: (k,c).
        deciding: the rule.
    """

    validation: Tensor
    pseudo: Tensor
    test: Tensor
    deciding: Rule

    @classmethod
    def of(cls, zoo: StoredZoo, criterion: str = "auto") -> "Scores":
        """The scores of a stored zoo's candidates that did not collapse."""
        names = zoo.trusted()
        validation, test = (
            torch.tensor(zoo.scores[part][names].dropna().to_numpy()) for part in ("validation", "test")
        )
        pseudo = [zoo.part("pseudo", name) for name in names]
        fewest = min(map(len, pseudo))  # candidates whose family has more augmentations have fewer
        of_pseudo = torch.stack([scores[:fewest] for scores in pseudo], 1)
        return cls(validation, of_pseudo, test, resolve_decision(criterion, len(validation)).normal)

    def best_candidates(self, test: Tensor) -> Tensor:
        """The candidates that the rule ranks highest in each of b selections, as ``selector.ranking.rules.best_first``.

        Args:
            test: (b,k,c), the test scores of each selection.

        Returns:
            (b,m), best first, m = DEFAULT_MEMBERS or all.
        """
        distance = bool((self.validation > 0).all() and (self.test > 0).all())
        columns = []
        for criterion in self.deciding.criteria:
            value = torch.vmap(torch.vmap(partial(_value, criterion, distance), in_dims=1), in_dims=(None, None, 0))
            columns.append(value(self.validation, self.pseudo, test) * (1 if criterion.higher_is_better else -1))
        values = torch.stack(columns, 1)
        points = torch.from_numpy(borda_points(values.numpy())).sum(1)
        by_first = values[:, 0].argsort(dim=1, descending=True, stable=True)
        order = points.gather(1, by_first).argsort(dim=1, descending=True, stable=True)
        return by_first.gather(1, order)[:, :DEFAULT_MEMBERS]

    def p_values(self, calibration: Tensor, images: Tensor, members: Tensor) -> Tensor:
        """The conformal p-values (n,) of ensembles.

        Args:
            calibration: (h,) rows of calibration images.
            images: (n,) rows of images.
            members: (n,m), the members of the ensemble of each image.
        """
        normalized = self.test / self.validation.mean(0)
        of_image = normalized[images].gather(1, members).amax(1)
        of_calibration = normalized[calibration][:, members].amax(2)
        return (1 + (of_calibration >= of_image).sum(0)) / (1 + len(calibration))


def _value(criterion: criteria.Criterion, distance: bool, validation: Tensor, pseudo: Tensor, test: Tensor) -> Tensor:
    scores: dict[str, Any] = {"validation_scores": validation, "pseudo_scores": pseudo, "test_scores": test}
    return criterion.compute(Evidence(**scores, score_is_distance=distance))


def simulate_view(
    scores: Scores, view: View, n_calibration: int, n_used: int, ratio: float, splits: int, seed: int
) -> pd.DataFrame:
    """The share of images that are flagged in each of many random divisions.

    Schemes: the choice sees the test images, used normal ones and anomalies at this ratio; the same, but each used
    image is decided by a choice without its fold (cross-fit); or it sees test and calibration images as one pool.
    Images: used, fresh (all other normal ones) and anomalies.

    Args:
        scores: of a zoo's candidates.
        view: a task.
        n_calibration: calibration images of each division.
        n_used: normal images that a choice uses.
        ratio: of anomalies among the images that a choice uses.
        splits: how many divisions.
        seed: of the divisions.

    Returns:
        One row per division, scheme, sort of images and rate: split, scheme, images, rate, flagged.
    """
    source = generator(seed, "false alarms", view.task)
    n_anomalous = max(1, round(ratio / (1 - ratio) * n_used))
    normal, anomalous = (view.rows[view.labels == label] for label in (0, 1))
    drawn = torch.stack([normal[torch.randperm(len(normal), generator=source)] for _ in range(splits)])
    some = torch.stack([anomalous[torch.randperm(len(anomalous), generator=source)[:n_anomalous]] for _ in drawn])
    calibration, used, fresh = drawn.tensor_split([n_calibration, n_calibration + n_used], 1)
    test = torch.cat([used, some], 1)
    k = test.shape[1]
    chosen = {
        "test images": scores.best_candidates(scores.test[test])[:, None].expand(-1, k, -1),
        "pool": scores.best_candidates(scores.test[torch.cat([test, calibration], 1)])[:, None].expand(-1, k, -1),
    }
    order = torch.stack([torch.randperm(k, generator=source) for _ in range(splits)])
    own = torch.empty_like(chosen["pool"])
    for fold in range(min(FOLDS, k)):
        inside = torch.arange(k) % FOLDS == fold
        without = scores.best_candidates(scores.test[test.gather(1, order[:, ~inside])])
        into = order[:, inside, None].expand(-1, -1, own.shape[2])
        own = own.scatter(1, into, without[:, None].expand(-1, int(inside.sum()), -1))
    chosen["cross-fit"] = own
    rows = []
    for split in range(splits):
        for scheme in SCHEMES:
            p = scores.p_values(calibration[split], test[split], chosen[scheme][split])
            # New images belong to no fold: the choice from all images decides.
            overall = chosen["pool" if scheme == "pool" else "test images"][split, :1]
            of_fresh = scores.p_values(calibration[split], fresh[split], overall.expand(fresh.shape[1], -1))
            parts = {"used": p[:n_used], "fresh": of_fresh, "anomalous": p[n_used:]}
            for rate in RATES:
                for images, values in parts.items():
                    rows.append((split, scheme, images, rate, (values <= rate).double().mean().item()))
    return pd.DataFrame(rows, columns=["split", "scheme", "images", "rate", "flagged"])


def simulate_zoos(
    zoos: list[tuple[str, StoredZoo]], n_calibration: int, n_used: int, ratio: float, splits: int, criterion: str
) -> pd.DataFrame:
    """``simulate_view`` for every zoo and every view with enough normal images, which share the splits of a zoo."""
    parts = []
    for data_set, zoo in zoos:
        enough = n_calibration + n_used + FRESH
        views = [view for view in zoo.views if int((view.labels == 0).sum()) >= enough]
        scores = Scores.of(zoo, criterion)
        for view in views:
            share = -(-splits // len(views))
            part = simulate_view(scores, view, n_calibration, n_used, ratio, share, zoo.seed)
            parts.append(part.assign(data_set=data_set, seed=zoo.seed, task=view.task))
    return pd.concat(parts, ignore_index=True)


@app.command("train")
def training(
    name: Annotated[str, typer.Argument(help="A task's name.")] = "elpv-mono",
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs; stopped ones are resumed.")] = Path("runs"),
) -> None:
    """Train a zoo and print its realised rates on fresh normal images and on those used in the selection.

    Example: ssad benchmark study false-alarms train elpv-mono --seed 0 --seed 1
    """
    task = load(name, image_size=64)
    table = []
    for s in seed or [0]:
        normal = (task.labels == 0).nonzero()[:, 0]
        normal = normal[torch.randperm(len(normal), generator=generator(s, "fresh"))]
        fresh, used = normal.tensor_split(2)
        is_used = torch.ones(len(task.test), dtype=torch.bool).index_fill(0, fresh, False)
        run = out / f"{name}-false-alarms-{s}"
        selection = select_best(task.train, task.test[is_used], DEMO_ZOO, "classifier", seed=s, out=run, progress=True)
        scores, view = _held_out(selection, task)
        h = len(scores.test) - len(task.test)
        ratio = int(task.labels.sum()) / (int(task.labels.sum()) + len(used))
        simulated = simulate_view(scores, view, h, len(used), ratio, SPLITS, s)
        p = selection.test_p_values[task.labels[is_used] == 0]
        fresh_p = selection.detect(task.test[fresh]).p_values
        for rate in RATES:
            rows = simulated[simulated.rate == rate].groupby(["scheme", "images"]).flagged.mean()
            for images, scheme, n, p_values in (
                ("fresh", "test images", len(fresh), fresh_p),
                ("used", "cross-fit", len(used), p),
                ("used", "test images", len(used), None),
            ):
                shares = {SPLITS: rows[scheme, images]}
                shares |= {} if p_values is None else {1: (p_values <= rate).double().mean().item()}
                for splits, share in shares.items():
                    low, high = false_alarm_band(h, n, rate, splits=splits)
                    cells = (f"{s}", images, DECIDED[scheme], f"{splits}", f"{rate:.2f}", f"{share:.3f}")
                    table.append((*cells, f"{low:.3f} to {high:.3f}"))
    head = ["seed", "normal images", "decided by", "divisions", "promised", "realised", "99% band"]
    print_table(pd.DataFrame(table, columns=head))


def _held_out(selection: Selection, task: Task) -> tuple[Scores, View]:
    """The scores of all images that no candidate was trained on: the task's test images, then the calibration images,
    which are normal."""
    ranking, zoo = selection.ranking, selection.zoo
    names = ranking[ranking.status == "ok"].candidate.tolist()
    test = torch.stack([zoo.detector(i).score(task.test) for i in names], 1)
    calibration = torch.stack([zoo.store.calibration(i)["scores"] for i in names], 1)
    validation = [zoo.evidence(i)[0].validation_scores for i in names]
    pseudo = [zoo.evidence(i)[0].pseudo_scores for i in names]
    labels = torch.cat([task.labels.long(), torch.zeros(len(calibration), dtype=torch.long)])
    fewest = min(len(p) for p in pseudo if p is not None)
    scores = Scores(
        torch.stack([v for v in validation if v is not None], 1),
        torch.stack([p[:fewest] for p in pseudo if p is not None], 1),
        torch.cat([test, calibration]),
        selection.result.rule,
    )
    return scores, View(task.name, task.name, "", torch.arange(len(labels)), labels)


def _read_zoos(suite: Path) -> list[tuple[str, StoredZoo]]:
    """Group of data sets and zoo, of all that are stored."""
    return [(zoo.group, StoredZoo.read(zoo.path, zoo.seed)) for zoo in stored_zoos(suite)]


def exact_rate(n_calibration: int, rate: float) -> float:
    """The expected rate of exact split-conformal without ties: the largest multiple of 1 / (h + 1) up to ``rate``."""
    return int((np.arange(1, n_calibration + 1) / (n_calibration + 1) <= rate).sum()) / (n_calibration + 1)


def share_outside(flagged: pd.Series, band: tuple[float, float]) -> float:
    """The share of the means over ``SPLITS`` successive divisions that lie outside of the band."""
    whole = flagged.to_numpy()[: len(flagged) // SPLITS * SPLITS].reshape(-1, SPLITS).mean(1)
    return float(((whole < band[0]) | (whole > band[1])).mean())


@app.command("simulate")
def simulation(
    suite: Annotated[Path, typer.Argument(help="Folder of a suite's results, with its zoos.")],
    splits: Annotated[int, typer.Option(help="Random divisions of each zoo.")] = 200,
    ratio: Annotated[list[float] | None, typer.Option(help="Anomaly ratio, repeatable. [default: .05 .2 .5]")] = None,
    criterion: Annotated[str, typer.Option(help="A criterion of scores, or auto.")] = "auto",
) -> None:
    """Print how far a choice biases the realised rates of stored zoos, with and without the correction.

    Example: ssad benchmark study false-alarms simulate benchmarks/results/development
    """
    zoos = _read_zoos(suite)
    settings = [(*sizes, anomaly_ratio) for sizes in SIZES for anomaly_ratio in ratio or RATIOS]
    table = []
    for n_calibration, n_used, anomaly_ratio in track(settings, console=Console(stderr=True)):
        simulated = simulate_zoos(zoos, n_calibration, n_used, anomaly_ratio, splits, criterion)
        for rate in RATES:
            exact = exact_rate(n_calibration, rate)
            band = false_alarm_band(n_calibration, n_used, rate, splits=SPLITS)
            cells = [f"{n_calibration}", f"{n_used}", f"{anomaly_ratio:.2f}", f"{exact:.4f}"]
            rows = simulated[simulated.rate == rate].pivot(
                index=["data_set", "task", "seed", "split"], columns=["scheme", "images"], values="flagged"
            )
            cells += [_excess(rows[scheme, images], exact) for scheme, images in COMPARED]
            cells += [f"{share_outside(rows[scheme, 'used'], band):.1%}" for scheme in SCHEMES]
            cells += [f"{_by_zoo(rows[scheme, 'anomalous']).mean():.3f}" for scheme in SCHEMES]
            table.append(cells)
    print_table(pd.DataFrame(table, columns=HEADER))


def _by_zoo(flagged: pd.Series) -> pd.Series:
    return flagged.groupby(["data_set", "seed"]).mean()


def _excess(flagged: pd.Series, exact: float) -> str:
    """The mean over zoos of what is flagged beyond the exact rate, with its 95% interval over data sets."""
    excess = _by_zoo(flagged) - exact
    low, high = bootstrap(excess, excess.index.get_level_values("data_set"))
    return f"{excess.mean():+.4f} ({low:+.4f} to {high:+.4f})"


@app.command("regret")
def regret_of_pool(
    suite: Annotated[Path, typer.Argument(help="Folder of a suite's results, with its zoos.")],
) -> None:
    """Print what the default choice loses if it sees test and calibration images as one pool.

    Example: ssad benchmark study false-alarms regret benchmarks/results/development
    """
    rows = []
    for data_set, zoo in _read_zoos(suite):
        scores, names = Scores.of(zoo), zoo.trusted()
        calibration = torch.tensor(zoo.scores["calibration"][names].to_numpy(copy=True))
        for view in zoo.views:
            test = zoo.scores["test"].to_numpy()[view.rows.numpy()]
            auroc = pd.Series({name: roc_auc_score(view.labels, test[:, i]) for i, name in enumerate(zoo.trained)})
            for ratio, trial, images in view.trials(RATIOS, zoo.seed):
                test_scores = scores.test[images]
                for pool, used in ((False, test_scores), (True, torch.cat([test_scores, calibration]))):
                    regret = auroc.max() - auroc[names[int(scores.best_candidates(used[None])[0, 0])]]
                    rows.append((data_set, view.task, zoo.seed, ratio, trial, pool, regret))
    table = pd.DataFrame(rows, columns=["data_set", "task", "seed", "ratio", "trial", "pool", "regret"])
    cases = table.groupby(["data_set", "task", "ratio", "pool"]).regret.mean().unstack("pool")
    lines = []
    for name, part in [*((f"{ratio:.2f}", part) for ratio, part in cases.groupby("ratio")), ("all", cases)]:
        by_task = part.groupby(["data_set", "task"]).mean()
        difference = by_task[True] - by_task[False]
        low, high = bootstrap(difference, difference.index.get_level_values("data_set"))
        means = (f"{by_task[pool].mean():.4f}" for pool in (False, True))
        lines.append((name, *means, f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f})"))
    print_table(pd.DataFrame(lines, columns=["anomaly ratio", "test images", "pool", "difference"]))
