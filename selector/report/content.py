"""What the report says, as finished tables: computed here, drawn elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import beta
from sklearn.decomposition import PCA
from torch import Tensor

from augmentations.hyperparameters import Value
from augmentations.randomness import generator
from selector.criteria import Criterion
from selector.detection.conformal import p_values, validate_rate
from selector.detection.regions import map_threshold
from selector.evidence.evidence import Evidence
from selector.ranking.ranking import Ranking
from selector.ranking.shift import Comparison
from selector.report.leaderboard import Leaderboard, leaderboard
from selector.selection import Selection
from selector.verdict.explanation import Explanation
from selector.verdict.verdict import number
from selector.zoo.candidates import Candidate

PAIRS = 6  # normal images shown with their pseudo anomalies
SHEET = 48  # test images on the contact sheet, at most: those of the smallest p-values
GALLERY = 8  # highest-scored test images shown, and as many lowest-scored
POINTS = 400  # of each set drawn in a projection: more hide each other
BINS = 36
LOSS_POINTS = 100  # of a training's curve that are drawn
TIMES = " \N{MULTIPLICATION SIGN} "
CONFIDENCE = 0.90  # of the interval of the false-alarm rate


@dataclass(frozen=True, eq=False)
class Projection:
    """A candidate's embeddings in two dimensions: ``points`` has set, x and y; ``explained`` are shares."""

    rank: int
    title: str
    points: pd.DataFrame
    explained: tuple[float, ...]
    is_thinned: bool


@dataclass(frozen=True, eq=False)
class Decision:
    """The chosen detector's scores against its threshold; ``share`` has a row a bin, a column a set."""

    rate: float
    threshold: float
    n_calibration: int
    n_flagged: int
    n_test: int
    expected: float  # the false-alarm rate that the calibration images give on average: at most ``rate``
    between: tuple[float, float]  # where the rate of this one run lies, with CONFIDENCE
    edges: np.ndarray
    share: pd.DataFrame
    is_logarithmic: bool
    table: pd.DataFrame  # a row a test image: name, score, p_value, verdict


@dataclass(frozen=True, eq=False)
class Sample:
    """A test image (C,H,W) and its score map (H,W), with what was decided."""

    name: str
    score: float
    p_value: float
    is_anomaly: bool
    image: Tensor
    score_map: Tensor


@dataclass(frozen=True, eq=False)
class Chosen:
    """What only a candidate with a detector has to show."""

    projections: tuple[Projection, ...]
    normal: Tensor
    anomalous: Tensor
    decision: Decision
    highest: tuple[Sample, ...]
    lowest: tuple[Sample, ...]
    sheet: tuple[Sample, ...]
    map_scale: tuple[float, float]
    map_threshold: float


@dataclass(frozen=True, eq=False)
class Content:
    """The finished report, but for its looks."""

    verdict: tuple[str, ...]
    standing: str  # "settled", "tied" or "doubtful": how much the verdict can be leant on
    rule: str
    reason: str
    facts: tuple[tuple[str, str, str], ...]  # label, value, remark
    leaderboard: Leaderboard
    explanation: Explanation
    agreement: pd.DataFrame  # of the explanation, with what agrees side by side
    hyperparameters: pd.DataFrame
    deciding: str
    chosen: Chosen | None
    losses: pd.DataFrame
    troubled: tuple[tuple[str, str, str], ...]  # candidate, status, reason
    skipped: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    has_test: bool
    held: int  # test images that another candidate than the best decides on
    glossary: tuple[Criterion, ...]
    absent: Mapping[str, str]  # criteria that could not be computed, and why


def gather(selection: Selection) -> Content:
    """Every table of the report."""
    result, store = selection.result, selection.zoo.store
    table = result.table
    trained = store.record(selection.best.id)["status"] == "ok"
    explanation = selection.why()
    return Content(
        verdict=tuple(selection.verdict),
        standing=_standing(selection),
        rule=result.rule.describe(),
        reason=result.rule.reason,
        facts=tuple(_facts(selection)),
        leaderboard=leaderboard(result),
        explanation=explanation,
        agreement=seriated(explanation.agreement),
        hyperparameters=hyperparameters(_comparable(result)),
        deciding="Borda" if result.rule.is_borda else result.rule.names[0],
        chosen=_chosen(selection) if trained else None,
        losses=losses(selection),
        troubled=tuple(
            (selection.zoo[row["candidate"]].describe(), row["status"], row["reason"])
            for row in table[table.status != "ok"].to_dict("records")
        ),
        skipped=tuple(store.run["skipped"]),
        notes=tuple(store.run["notes"]),
        versions=store.run["versions"],
        settings=_settings(selection),
        has_test=bool(store.names("test")),
        held=len(selection.held),
        glossary=result.criteria,
        absent=result.absent,
    )


def _standing(selection: Selection) -> str:
    result = selection.result
    if result.table.status.iloc[0] != "ok":
        return "doubtful"
    if result.comparison.is_shifted or result.comparison.nothing_stands_out:
        return "doubtful"
    return "settled" if result.margin > result.margin_spread and result.table.tied.sum() == 1 else "tied"


def _facts(selection: Selection) -> Iterator[tuple[str, str, str]]:
    result, store = selection.result, selection.zoo.store
    settings = store.run["settings"]
    counts = result.table.status.value_counts()
    remark = ", ".join(f"{counts[status]} {status}" for status in ("collapsed", "failed") if status in counts)
    seeds = settings.get("seeds", 1)
    trained = f", each trained with {seeds} seeds" if seeds > 1 else ""
    yield "Candidates", str(len(result.table)), (remark or "all could be ranked") + trained
    if searched := settings.get("search"):
        proposed = {"tpe": "proposed by TPE", "random": "drawn at random"}[searched["sampler"]]
        yield "Trials", str(len(store.trials)), f"{proposed} from {', '.join(searched['augmentations'])}"
    train, validation, calibration = (len(store.names(split)) for split in ("train", "validation", "calibration"))
    parts = f"{train} to train, {validation} to select, {calibration} to calibrate"
    groups = {group for split in store.run["settings"].get("groups") or {} for group in store.groups(split) or ()}
    parts += f", in {len(groups)} groups kept whole" if groups else ""
    yield "Normal images", str(train + validation + calibration), parts
    test = len(store.names("test"))
    yield "Test images", str(test) if test else "none", "unlabeled" if test else "chosen by pseudo anomalies alone"
    yield "Test against validation images", *_compared(result.comparison)
    size = settings["image_size"]
    yield "Image size", f"{size}{TIMES}{size}", "grayscale" if settings["channels"] == 1 else "RGB"
    if np.isfinite(result.margin):
        sure = f"± {number(result.margin_spread)}, first in {result.share_first:.0%} of the resamples"
        yield "Margin over the second", number(result.margin), sure
    else:
        yield "Margin over the second", "none", "fewer than two candidates could be ranked"


def _compared(found: Comparison) -> tuple[str, str]:
    if found.reason:
        return "not compared", found.reason
    told = "nothing stands out" if found.nothing_stands_out else "some stand out"
    tests = f"p = {number(found.standing_out)} for all being like them, {number(found.shift)} for half of them"
    return "shifted" if found.is_shifted else told, tests


def _settings(selection: Selection) -> dict[str, str]:
    run, training = selection.zoo.store.run["settings"], selection.best.training
    kept = {name: run[name] for name in ("seed", "preset", "device", "image_size", "channels")}
    kept |= {name: value for name, value in training.settings.to_json().items() if name not in kept}
    fingerprints = {role: run.get(f"{role} images") for role in ("train", "test")}
    kept |= {f"fingerprint of the {role} images": value for role, value in fingerprints.items() if value}
    return {name.replace("_", " "): _text(value) for name, value in kept.items()}


def _text(value: Any) -> str:
    return TIMES.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _comparable(ranking: Ranking) -> pd.DataFrame:
    """The rows whose deciding values mean the same: a Borda count is one of its status group only."""
    return (
        ranking.table[ranking.table.status == ranking.table.status.iloc[0]] if ranking.rule.is_borda else ranking.table
    )


def hyperparameters(table: pd.DataFrame) -> pd.DataFrame:
    """Every hyperparameter that varies within its augmentation, and the deciding value, in one row per candidate.

    ``low`` and ``high`` are the ends of a range, or twice a number; ``choice`` is a text or a truth value, else empty.
    """
    columns = ["augmentation", "hyperparameter", "low", "high", "choice", "value", "status", "is_best"]
    rows = [
        (row["augmentation"], name, *_axis(setting), row["criterion"], row["status"], row["rank"] == 1)
        for row in table.to_dict("records")
        for name, setting in row["hyperparameters"].items()
    ]
    every = pd.DataFrame(rows, columns=columns).astype({"value": float, "low": float, "high": float})
    settings = pd.Series(list(zip(every.low, every.high, every.choice, strict=True)), every.index, dtype=object).map(
        repr
    )
    varies = every.assign(setting=settings).groupby(["augmentation", "hyperparameter"]).setting.transform("nunique") > 1
    return every[varies.astype(bool) & np.isfinite(every.value)]


def _axis(setting: Value) -> tuple[float, float, str]:
    if isinstance(setting, (str, bool)):
        return np.nan, np.nan, str(setting)
    low, high = setting if isinstance(setting, tuple) else (setting, setting)
    return low, high, ""


def seriated(agreement: pd.DataFrame) -> pd.DataFrame:
    """A matrix of correlations, its rows and columns so ordered that what agrees is side by side."""
    if len(agreement) < 3:
        return agreement
    distances = 1 - agreement.fillna(0).to_numpy()
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    names = agreement.index[leaves_list(tree)]
    return agreement.loc[names, names]


def losses(selection: Selection) -> pd.DataFrame:
    """The running mean of each training's loss: augmentation, rank, status, step, loss."""
    curves = [pd.DataFrame(columns=["augmentation", "rank", "status", "step", "loss"])]
    drawn: set[str] = set()
    for row in selection.ranking.to_dict("records"):
        training_id = selection.zoo[row["candidate"]].training_id
        values = np.asarray(selection.zoo.store.record(row["candidate"])["losses"], dtype=float)
        if not len(values) or training_id in drawn:  # scorers share one training
            continue
        drawn.add(training_id)
        window = max(1, len(values) // 20)
        smooth = pd.Series(values).rolling(window, min_periods=1).mean().to_numpy()
        steps = _spaced(len(values), LOSS_POINTS)
        curve = {name: row[name] for name in ("augmentation", "rank", "status")}
        curves.append(pd.DataFrame({**curve, "step": steps + 1, "loss": smooth[steps]}))
    return pd.concat(curves[1:] or curves, ignore_index=True)


def _spaced(count: int, wanted: int) -> np.ndarray:
    """At most ``wanted`` of ``count`` indices, evenly spaced, both ends among them."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(int)


def _chosen(selection: Selection) -> Chosen:
    store, best = selection.zoo.store, selection.best
    members = [member.id for member in selection.members]
    calibration = selection.zoo.calibration(members)
    p = selection.test_p_values if store.names("test") else None
    verdicts = decision(selection.zoo.scores(members), calibration["scores"], store.names("test"), p)
    normal = store.images["train"][:PAIRS]
    order = verdicts.table.score.argsort(kind="stable").to_numpy()
    high = order[::-1][: min(GALLERY, (len(order) + 1) // 2)]
    low = order[: min(GALLERY, len(order) // 2)]
    return Chosen(
        projections=tuple(_projections(selection)),
        normal=normal,
        anomalous=selection.zoo.detector(best.id).pseudo_anomalies(normal, generator(best.training.seed, "report")),
        decision=verdicts,
        highest=_samples(selection, verdicts, high),
        lowest=_samples(selection, verdicts, low),
        sheet=_samples(selection, verdicts, _most_unusual(verdicts.table)[:SHEET]),
        map_scale=selection.map_scale,
        map_threshold=map_threshold(calibration["map_maxima"], verdicts.rate),
    )


def _projections(selection: Selection) -> Iterator[Projection]:
    trained = selection.ranking[selection.ranking.status != "failed"].candidate.tolist()
    for candidate_id in dict.fromkeys((selection.best.id, *trained[-1:])):
        rank = int(selection.ranking["rank"][selection.ranking.candidate == candidate_id].iloc[0])
        yield project(selection.zoo[candidate_id], rank, selection.zoo.evidence(candidate_id)[0])


def project(candidate: Candidate, rank: int, evidence: Evidence) -> Projection:
    """The embeddings, test ones where there are any, on the first two principal components of all of them together."""
    names = [name for name in ("train", "augmented", "test") if evidence.has((name,))]
    sets = {name: getattr(evidence, name).double().numpy() for name in names}
    whole = np.concatenate(list(sets.values()))
    pca = PCA(min(2, *whole.shape), random_state=0)
    with np.errstate(invalid="ignore"):  # embeddings that are all the same have no variance to explain
        pca.fit(whole)
    pieces = []
    for name, rows in sets.items():
        flat = np.zeros((len(rows), 2))
        flat[:, : pca.n_components_] = pca.transform(rows)
        shown = flat[_spaced(len(flat), POINTS)]
        pieces.append(pd.DataFrame({"set": name, "x": shown[:, 0], "y": shown[:, 1]}))
    explained = tuple(np.nan_to_num(pca.explained_variance_ratio_).tolist())
    thinned = any(len(rows) > POINTS for rows in sets.values())
    return Projection(rank, candidate.describe(), pd.concat(pieces, ignore_index=True), explained, thinned)


def _most_unusual(table: pd.DataFrame) -> np.ndarray:
    """Rows by p-value, the smallest first, and by score where it is the same."""
    return np.lexsort((-table.score, table.p_value))


def decision(evidence: Evidence, calibration: Tensor, names: list[str], p: Tensor | None = None) -> Decision:
    """Scores and threshold at the default false-alarm rate; no test images, an empty table.

    p: the test images' p-values (k,), where they are not those of their scores among the calibration scores.

    The false-alarm rate of one set of h calibration images follows Beta(l, h + 1 - l), where l - 1 of them
    lie above the threshold (Vovk, 2012, proposition 2b).
    """
    sets = {name: getattr(evidence, f"{name}_scores") for name in ("validation", "augmented", "test")}
    scores = {name: values for name, values in sets.items() if values is not None}
    test = scores.get("test", calibration[:0])
    p = p_values(calibration, test) if p is None else p
    h = len(calibration)
    rate = validate_rate(None, h)
    threshold = calibration[p_values(calibration, calibration) > rate].max().item()
    above = int((calibration > threshold).sum())
    flagged = (p <= rate).numpy()
    edges, logarithmic = _edges(np.concatenate([s.double().numpy() for s in scores.values()]), threshold)
    share = {name: np.histogram(s.double().numpy(), edges)[0] / len(s) for name, s in scores.items()}
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (float(beta.ppf(tail, above + 1, h - above)) for tail in tails)
    verdicts = np.where(flagged, "anomaly", "normal")
    rows = {"name": names, "score": test.numpy(), "p_value": p.numpy(), "verdict": verdicts}
    return Decision(
        rate=rate,
        threshold=threshold,
        n_calibration=h,
        n_flagged=int(flagged.sum()),
        n_test=len(flagged),
        expected=(above + 1) / (h + 1),
        between=(low, high),
        edges=edges,
        share=pd.DataFrame(share),
        is_logarithmic=logarithmic,
        table=pd.DataFrame(rows),
    )


def _edges(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """The edges of common bins, evenly spaced in logarithms where scores span more than a decade."""
    low, high = min(scores.min(), threshold), max(scores.max(), threshold)
    if low > 0 and high / low > 10:
        edges = np.geomspace(low, high, BINS + 1)
        edges[[0, -1]] = low, high  # rounding must not leave the extremes outside
        return edges, True
    if high == low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1), False


def _samples(selection: Selection, verdicts: Decision, rows: np.ndarray) -> tuple[Sample, ...]:
    if not len(rows):
        return ()
    images = selection.zoo.store.images["test"][rows.copy()]
    maps = selection.detector.score_map(images)
    chosen = verdicts.table.iloc[rows].to_dict("records")
    return tuple(
        Sample(row["name"], row["score"], row["p_value"], row["verdict"] == "anomaly", image, score_map)
        for row, image, score_map in zip(chosen, images, maps, strict=True)
    )
