"""What the report says, as finished tables: computed here, drawn elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import PCA
from torch import Tensor

from augmentations.hyperparameters import Value
from augmentations.randomness import generator
from selector.criteria import Criterion
from selector.detection.detections import NO_PLACE
from selector.detection.regions import map_threshold
from selector.evidence.evidence import Evidence
from selector.outcome import Outcome
from selector.ranking.comparisons import Comparison
from selector.ranking.cross_fit import Correction
from selector.ranking.ranking import Ranking
from selector.ranking.shift import ShiftTest
from selector.report.leaderboard import Leaderboard, leaderboard
from selector.report.score_threshold import ScoreThreshold, apply_threshold
from selector.report.training_facts import training_facts
from selector.verdict import answer, explanation_of
from selector.verdict.explanation import Explanation
from selector.verdict.verdict import number
from selector.zoo.candidates import NO_AUGMENTATION
from selector.zoo.store import Store

PAIRS = 6  # normal images shown with their pseudo anomalies
SHEET = 48  # test images on the contact sheet, at most: those of the smallest p-values
GALLERY = 8  # highest-scored test images shown, and as many lowest-scored
POINTS = 400  # of each set drawn in a projection: more hide each other
LOSS_POINTS = 100  # of a training's curve that are drawn
TIMES = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True, eq=False)
class Projection:
    """A candidate's embeddings in two dimensions.

    Attributes:
        rank: The candidate's rank.
        title: The candidate in a few words.
        points: One row per image: set ("train", "augmented" or "test"), x and y.
        explained: The share of the variance along each axis.
        is_thinned: Whether some images have no row, for there are too many to draw.
    """

    rank: int
    title: str
    points: pd.DataFrame
    explained: tuple[float, ...]
    is_thinned: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """A test image (C,H,W) and its score map (H,W), with the decision on it.

    ``size``: its height and width as it was read, in pixels.
    """

    name: str
    score: float
    p_value: float
    is_anomaly: bool
    image: Tensor
    score_map: Tensor
    size: tuple[int, int]
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What can be shown only where the best candidate has a detector."""

    projections: tuple[Projection, ...]
    normal: Tensor
    normal_sizes: tuple[tuple[int, int], ...]
    anomalous: Tensor | None  # absent where the kind of detector learns against nothing
    decision: ScoreThreshold
    highest: tuple[Sample, ...]
    lowest: tuple[Sample, ...]
    sheet: tuple[Sample, ...]
    map_scale: tuple[float, float]
    map_threshold: float


@dataclass(frozen=True, eq=False)
class Content:
    """All that the report says, before anything is drawn."""

    title: str
    verdict: tuple[str, ...]
    reliability: str  # of the verdict: "settled", "tied" or "doubtful"
    rule: str
    reason: str
    facts: tuple[tuple[str, str, str], ...]  # label, value, remark
    leaderboard: Leaderboard
    explanation: Explanation
    agreement: pd.DataFrame  # of the explanation, ordered so that criteria that agree are side by side
    hyperparameters: pd.DataFrame
    deciding: str
    chosen: Chosen | None
    losses: pd.DataFrame
    unusable: tuple[tuple[str, str, str], ...]  # candidate, status, reason
    skipped: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    has_test: bool
    correction: Correction  # of the test images' p-values
    n_cross_fitted: int  # test images that other candidates than the recommended ones decide on
    glossary: tuple[Comparison | Criterion, ...]
    absent: Mapping[str, str]  # criteria that could not be computed, and why


def gather(outcome: Outcome) -> Content:
    """Every table of the report."""
    result, store = outcome.result, outcome.zoo.store
    table = result.table
    trained = store.record(outcome.best.id)["status"] == "ok"
    explanation = explanation_of(outcome)
    return Content(
        title=_group(table.iloc[0].to_dict()),
        verdict=tuple(answer(outcome)),
        reliability=_reliability(outcome),
        rule=result.rule.describe(),
        reason=result.rule.reason,
        facts=tuple(_facts(outcome)),
        leaderboard=leaderboard(result),
        explanation=explanation,
        agreement=seriated(explanation.agreement),
        hyperparameters=hyperparameters(_comparable(result)),
        deciding="Borda" if result.rule.is_borda else result.rule.names[0],
        chosen=_chosen(outcome) if trained else None,
        losses=losses(outcome),
        unusable=tuple(
            (result.descriptions[row["candidate"]], row["status"], row["reason"])
            for row in table[table.status != "ok"].to_dict("records")
        ),
        skipped=tuple(store.run["skipped"]),
        notes=tuple(store.run["notes"]),
        versions=store.run["versions"],
        settings=_settings(outcome),
        has_test=bool(store.names("test")),
        correction=outcome.correction,
        n_cross_fitted=len(outcome.cross_fit_p_values),
        glossary=result.criteria,
        absent=result.absent,
    )


def _reliability(outcome: Outcome) -> str:
    result = outcome.result
    if result.table.status.iloc[0] != "ok":
        return "doubtful"
    if result.comparison.is_shifted or result.comparison.no_evidence_of_anomalies:
        return "doubtful"
    return "settled" if result.table.tied.sum() == 1 else "tied"


def _facts(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    result, store = outcome.result, outcome.zoo.store
    settings = store.run["settings"]
    counts = result.table.status.value_counts()
    remark = ", ".join(f"{counts[status]} {status}" for status in ("collapsed", "failed") if status in counts)
    seeds = len({candidate.training.seed for candidate in outcome.zoo.candidates})
    trained = f", each trained with {seeds} seeds" if seeds > 1 else ""
    yield "Candidates", str(len(result.table)), (remark or "all could be ranked") + trained
    if (searched := settings["search"]) != "grid":
        proposed = {"tpe": "proposed by TPE", "random": "drawn at random"}[searched["sampler"]]
        yield "Trials", str(len(store.trials)), f"{proposed} from {', '.join(searched['augmentations'])}"
    train, validation, calibration = (len(store.names(split)) for split in ("train", "validation", "calibration"))
    parts = f"{train} to train, {validation} to select, {calibration} to calibrate"
    groups = {group for split in settings["groups"] or {} for group in store.groups(split) or ()}
    parts += f", in {len(groups)} groups kept whole" if groups else ""
    yield "Normal images", str(train + validation + calibration), parts
    test = len(store.names("test"))
    yield "Test images", str(test) if test else "none", "unlabeled" if test else "chosen by pseudo anomalies alone"
    yield "Test against validation images", *_shift_test(result.comparison)
    size = settings["image_size"]
    yield "Image size", f"{size}{TIMES}{size}", "grayscale" if settings["channels"] == 1 else "RGB"
    if np.isfinite(result.margin):
        sure = f"± {number(result.margin_spread)}, first in {result.share_first:.0%} of the resamples"
        yield "Margin over the second", number(result.margin), sure
    else:
        yield "Margin over the second", "none", "fewer than two candidates could be ranked"
    yield from training_facts(outcome)


def _shift_test(shift: ShiftTest) -> tuple[str, str]:
    if shift.reason:
        return "not compared", shift.reason
    answer = "no evidence of anomalies" if shift.no_evidence_of_anomalies else "some are anomalous"
    tests = f"p = {number(shift.anomaly_p_value)} that all resemble them, {number(shift.shift_p_value)} that half do"
    return "shifted" if shift.is_shifted else answer, tests


def _settings(outcome: Outcome) -> dict[str, str]:
    run, training = outcome.zoo.store.run["settings"], outcome.best.training
    settings = {name: run[name] for name in ("seed", "preset", "device", "image_size", "channels")}
    settings |= {name: value for name, value in training.to_json()["settings"].items() if name not in settings}
    fingerprints = {role: run.get(f"{role} images") for role in ("train", "test")}
    settings |= {f"fingerprint of the {role} images": value for role, value in fingerprints.items() if value}
    return {name.replace("_", " "): _text(value) for name, value in settings.items()}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # an encoder, whose arguments are among the facts
        return str(value.get("name", value))
    return TIMES.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _comparable(ranking: Ranking) -> pd.DataFrame:
    """The rows whose deciding values mean the same: a Borda count is one of its status group only."""
    return (
        ranking.table[ranking.table.status == ranking.table.status.iloc[0]] if ranking.rule.is_borda else ranking.table
    )


def hyperparameters(table: pd.DataFrame) -> pd.DataFrame:
    """Every hyperparameter that varies within its augmentation, and the deciding value, in one row per candidate.

    ``low`` and ``high`` are the ends of a range, or twice a number; ``choice`` is a string or a boolean as text, else
    empty.
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


def losses(outcome: Outcome) -> pd.DataFrame:
    """The running mean of each training's loss, empty where no detector is trained by steps.

    Returns:
        One row per point of a curve: detector, group (what shares a panel), rank, status, step, loss.
    """
    columns = ["detector", "group", "rank", "status", "step", "loss"]
    several = outcome.ranking.detector.nunique() > 1
    curves = []
    drawn: set[str] = set()
    for row in outcome.ranking.to_dict("records"):
        training_id = outcome.zoo[row["candidate"]].training_id
        values = np.asarray(outcome.zoo.store.record(row["candidate"]).get("losses") or [], dtype=float)
        if not len(values) or training_id in drawn:  # scorers share one training
            continue
        drawn.add(training_id)
        window = max(1, len(values) // 20)
        smooth = pd.Series(values).rolling(window, min_periods=1).mean().to_numpy()
        steps = _spaced(len(values), LOSS_POINTS)
        group = f"{row['detector']}, {row['augmentation']}" if several else _group(row)
        curve = {"detector": row["detector"], "group": group, "rank": row["rank"], "status": row["status"]}
        curves.append(pd.DataFrame({**curve, "step": steps + 1, "loss": smooth[steps]}))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)


def _group(row: dict[str, Any]) -> str:
    """The augmentation of a row of the ranking, or the kind of detector where it takes none."""
    return row["detector"] if row["augmentation"] == NO_AUGMENTATION else row["augmentation"]


def _spaced(count: int, wanted: int) -> np.ndarray:
    """At most ``wanted`` of ``count`` indices, evenly spaced, both ends among them."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(int)


def _chosen(outcome: Outcome) -> Chosen:
    store, best = outcome.zoo.store, outcome.best
    members = [member.id for member in outcome.members]
    calibration = outcome.zoo.calibration(members)
    p = outcome.test_p_values if store.names("test") else None
    scores, groups = outcome.zoo.scores(members), outcome.calibration_groups
    verdicts = apply_threshold(scores, calibration["scores"], store.names("test"), p, groups)
    above = map_threshold(calibration["map_maxima"], verdicts.rate, groups)
    normal = store.images["train"][:PAIRS]
    detector = outcome.zoo.detector(best.id)
    order = verdicts.table.score.argsort(kind="stable").to_numpy()
    high = order[::-1][: min(GALLERY, (len(order) + 1) // 2)]
    low = order[: min(GALLERY, len(order) // 2)]
    return Chosen(
        projections=tuple(_projections(outcome)),
        normal=normal,
        normal_sizes=tuple(original_sizes(store, "train")[:PAIRS]),
        anomalous=detector.pseudo_anomalies(normal, generator(best.training.seed, "report")),
        decision=verdicts,
        highest=_samples(outcome, verdicts, above, high),
        lowest=_samples(outcome, verdicts, above, low),
        sheet=_samples(outcome, verdicts, above, _most_unusual(verdicts.table)[:SHEET]),
        map_scale=outcome.map_scale,
        map_threshold=above,
    )


def _projections(outcome: Outcome) -> Iterator[Projection]:
    trained = outcome.ranking[outcome.ranking.status != "failed"].candidate.tolist()
    for candidate_id in dict.fromkeys((outcome.best.id, *trained[-1:])):
        rank = int(outcome.ranking["rank"][outcome.ranking.candidate == candidate_id].iloc[0])
        yield project(outcome.result.descriptions[candidate_id], rank, outcome.zoo.evidence(candidate_id)[0])


def project(description: str, rank: int, evidence: Evidence) -> Projection:
    """A candidate's embeddings on the first two principal components of all of them together.

    Args:
        description: The candidate in words.
        rank: Its rank.
        evidence: Its evidence; embeddings that it lacks are not drawn.
    """
    embeddings = {name: getattr(evidence, name) for name in ("train", "augmented", "test")}
    sets = {name: rows.double().numpy() for name, rows in embeddings.items() if rows is not None}
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
    return Projection(rank, description, pd.concat(pieces, ignore_index=True), explained, thinned)


def _most_unusual(table: pd.DataFrame) -> np.ndarray:
    """The row numbers by p-value, the smallest first, and by score where p-values are equal."""
    return np.lexsort((-table.score, table.p_value))


def original_sizes(store: Store, split: str) -> list[tuple[int, int]]:
    """Height and width of each image of a split as it was read, in pixels; in a run that does not say, those kept."""
    known = store.run.get("sizes", {}).get(split)
    height, width = store.images[split].shape[-2:]
    return [(h, w) for h, w in known] if known else [(height, width)] * len(store.images[split])


def _samples(outcome: Outcome, verdicts: ScoreThreshold, above: float, rows: np.ndarray) -> tuple[Sample, ...]:
    if not len(rows):
        return ()
    images = outcome.zoo.store.images["test"][rows.copy()]
    maps = outcome.detector.score_map(images)
    sizes = original_sizes(outcome.zoo.store, "test")
    chosen = verdicts.table.iloc[rows].to_dict("records")
    return tuple(
        Sample(
            row["name"],
            row["score"],
            row["p_value"],
            flagged := row["verdict"] == "anomaly",
            image,
            score_map,
            sizes[i],
            NO_PLACE if flagged and not (score_map > above).any() else "",
        )
        for i, row, image, score_map in zip(rows.tolist(), chosen, images, maps, strict=True)
    )
