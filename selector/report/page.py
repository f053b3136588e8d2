"""The page: content, figures and pictures in one HTML file, with JSON and CSV files of the same content beside it."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from detectors import files
from selector.detection.conformal import DEFAULT_FALSE_ALARM_RATE
from selector.detection.heatmaps import levels, overlay, resized
from selector.outcome import Outcome
from selector.ranking.bootstrap import RESAMPLES, TIED_SHARE
from selector.ranking.evaluation import COLLAPSE_AUROC
from selector.report import figures, pictures
from selector.report.content import Chosen, Content, Sample, gather
from selector.report.score_threshold import CONFIDENCE
from selector.verdict.explanation import importance_of
from selector.verdict.importance import SIGNIFICANCE
from selector.verdict.verdict import number
from selector.zoo.disk import disk_errors
from selector.zoo.result import nan_to_none
from selector.zoo.training import DRAWS

CONSTANTS = {
    "COLLAPSE_AUROC": COLLAPSE_AUROC,
    "CONFIDENCE": CONFIDENCE,
    "DRAWS": DRAWS,
    "RESAMPLES": RESAMPLES,
    "SIGNIFICANCE": SIGNIFICANCE,
    "TIED_SHARE": TIED_SHARE,
    "DEFAULT_FALSE_ALARM_RATE": DEFAULT_FALSE_ALARM_RATE,
}


def write_report(outcome: Outcome, path: Path) -> Path:
    """Write the report of an outcome, with report.json and ranking.csv beside it.

    Args:
        outcome: The finished selection.
        path: A folder, which gets an index.html, or an .html file.

    Returns:
        The path of the page, which loads nothing from elsewhere.

    Raises:
        StorageError: The folder can't be written to.
    """
    page = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    content = gather(outcome)
    as_text = json.dumps(nan_to_none(as_json(outcome, content)), indent=1, allow_nan=False, ensure_ascii=False)
    contents = {page: render(content).encode(), page.with_name("report.json"): as_text.encode()}
    if page.parent.resolve() != outcome.path.resolve():  # the run folder has it already
        contents[page.with_name("ranking.csv")] = (outcome.path / "ranking.csv").read_bytes()
    with disk_errors(page.parent, kept="the run itself is untouched"):
        files.remove_drafts(page.parent)
        for target, content_bytes in contents.items():
            files.write_bytes(target, content_bytes)
    return page


def as_json(outcome: Outcome, content: Content) -> dict[str, Any]:
    """The content of the report for programs, numbers in full."""
    result, decided = outcome.result, content.chosen and content.chosen.decision
    decision = decided and {
        "false_alarm_rate": decided.rate,
        "threshold": decided.threshold,
        "n_calibration": decided.n_calibration,
        "n_groups": decided.n_groups,
        "expected_false_alarm_rate": decided.expected,
        "false_alarm_rate_interval": decided.between
        and {"confidence": CONFIDENCE, "low": decided.between[0], "high": decided.between[1]},
        "n_flagged": decided.n_flagged,
        "test": decided.table.to_dict("records"),
    }
    return {
        "verdict": list(content.verdict),
        "best": outcome.best.id,
        "members": [member.id for member in outcome.members],
        "rule": {**result.rule.to_json(), "description": content.rule},
        "margin": result.margin,
        "margin_spread": result.margin_spread,
        "share_first": result.share_first,
        "comparison": asdict(result.comparison),
        "ranking": result.table.to_dict("records"),
        "spread": result.spread.to_dict("index"),
        "why": {
            "summary": content.explanation.summary,
            "deciding": content.explanation.deciding,
            "preferred": content.explanation.preferred.to_dict("records"),
            "agreement": content.explanation.agreement.to_dict(),
            "importances": content.explanation.importances.to_dict("records"),
            "absent": dict(content.explanation.absent),
        },
        "decision": decision,
        "correction": asdict(content.correction),
        "skipped": list(content.skipped),
        "notes": list(content.notes),
        "versions": dict(content.versions),
        "settings": dict(content.settings),
    }


def render(content: Content) -> str:
    """The page as text."""
    drawn: Mapping[str, Any] = {
        "hyperparameter_panels": figures.hyperparameter_panels(content.hyperparameters, content.deciding),
        "agreement": figures.agreement(content.agreement, [c.name for c in content.leaderboard.columns if c.decides]),
        "loss_panels": figures.loss_panels(content.losses),
        "chosen": content.chosen and _draw(content.chosen),
        "style": inlined("selector.report", "style.css"),
        "script": inlined("selector.report", "sort.js"),
    }
    return environment("selector.report").get_template("page.html.jinja").render(content=content, **drawn, **CONSTANTS)


def environment(package: str) -> Environment:
    """The Jinja environment of a package's templates, which may extend those of this one; all text is escaped."""
    loaders = [PackageLoader(name, ".") for name in dict.fromkeys((package, "selector.report"))]
    templates = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,  # names of files and reasons of failures come from the user's disk
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "breakable": breakable, "percent": percent, "importance_of": importance_of}
    templates.filters["source_hash"] = source_hash
    return templates


def source_hash(script: str) -> str:
    """What a Content-Security-Policy allows a script by: nothing that came into the page otherwise runs."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def breakable(name: str) -> Markup:
    """A name in which a line may be broken after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def percent(share: float) -> str:
    """A share as a percentage of at most two digits: 5, 0.7, 12."""
    return f"{100 * share:.2g}"


def inlined(package: str, name: str) -> Markup:
    """A style sheet or script of a package, to be inserted into a page."""
    return Markup(resources.files(package).joinpath(name).read_text("utf-8"))


def _draw(chosen: Chosen) -> dict[str, Any]:
    draw = partial(_draw_sample, scale=chosen.map_scale)
    return {
        "projections": [(table, figures.projection(table)) for table in chosen.projections],
        "pairs": [
            _draw_pair(normal, anomalous, size)
            for normal, anomalous, size in zip(chosen.normal, chosen.anomalous, chosen.normal_sizes, strict=True)
        ]
        if chosen.anomalous is not None
        else [],
        "histogram": figures.score_histogram(chosen.decision),
        "highest": list(map(draw, chosen.highest)),
        "lowest": list(map(draw, chosen.lowest)),
        "sheet": [(sample, _outline(sample, chosen.map_threshold)) for sample in chosen.sheet],
        "color_bar": pictures.color_bar(),
    }


def _draw_pair(normal: Tensor, anomalous: Tensor, size: tuple[int, int]) -> tuple[str, str]:
    """Both with the levels of the normal one, so that a change of brightness is seen."""
    ends = levels(normal)
    pair = (pictures.plain(pictures.for_show(image, size, ends)) for image in (normal, anomalous))
    return pictures.uri(next(pair)), pictures.uri(next(pair))


def _draw_sample(sample: Sample, scale: tuple[float, float]) -> tuple[Sample, str, str]:
    shown = pictures.for_show(sample.image, sample.size)
    heat = overlay(shown, resized(sample.score_map, (shown.shape[-2], shown.shape[-1])), scale)
    return sample, pictures.uri(pictures.plain(shown)), pictures.uri(heat)


def _outline(sample: Sample, above: float) -> str:
    """The image with its regions outlined, which only a flagged image has, as in its row of results."""
    limit = above if sample.is_anomaly else math.inf
    shown = pictures.for_show(sample.image, sample.size)
    fine = resized(sample.score_map, (shown.shape[-2], shown.shape[-1]))
    return pictures.uri(pictures.outlined(shown, fine, limit))
