"""The generated tables of README.md and docs/: what stands between two marks is replaced by what the results say.

A block begins with ``<!-- generated: ssad benchmark docs NAME -->`` and ends with ``<!-- end -->``.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

import detectors
from augmentations.errors import unknown_name
from benchmarks.evaluation.judgements import RESULTS
from benchmarks.leaderboard.text import decimals, markdown_escaped
from benchmarks.suites.definitions import HELD_OUT
from detectors import get_preset
from selector import consensus, criteria
from selector.ranking.rules import DEFAULT_MEMBERS, DEFAULT_MEMBERS_ACROSS_KINDS

BLOCK = re.compile(r"(<!-- generated: ssad benchmark docs ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADLINE = ("development", "seen", "undecidable")
# By row, its title and what it is a share of.
CHOSEN = {
    "random": ("one at random", ""),
    "dsv": ("best by DSV (Yoo et al., 2023)", "random"),
    "default": ("best by the default rule", "random"),
    "random_members": (f"{DEFAULT_MEMBERS} at random", ""),
    "ensemble": ("the recommended ensemble", "random_members"),
}
# Of zoos of several kinds.
ACROSS_KINDS = {
    "random": "one at random",
    "always_frozen": "always the frozen encoder (PaDiM-like)",
    "dsv": "the best by DSV (Yoo et al., 2023)",
    "random_members": f"{DEFAULT_MEMBERS_ACROSS_KINDS} at random",
    "ensemble": "**the recommended ensemble**",
    "left out": "the same, all of the choice made without the data set",
}


def fill(text: str) -> str:
    """The text of a page with each of its generated blocks made again.

    Raises:
        InputError: a block has a name that is not known here.
    """

    def block(match: re.Match[str]) -> str:
        opening, name, end = match.groups()
        if name not in BLOCKS:
            raise unknown_name("generated block", name, list(BLOCKS))
        return f"{opening}\n{BLOCKS[name]()}\n\n{end}"

    return BLOCK.sub(block, text)


def write(root: Path) -> list[Path]:
    """Fill README.md and the pages of docs/ of a checkout.

    Args:
        root: The folder of the checkout.

    Returns:
        The pages that have changed.
    """
    changed = []
    for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        text = page.read_text("utf-8")
        if (filled := fill(text)) != text:
            page.write_text(filled, "utf-8")
            changed.append(page)
    return changed


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    lines = [headings, ["---", *(["--:" if numbers else "---"] * (len(headings) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(suite: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / suite / "summary.csv", index_col="criterion")


def regrets() -> str:
    """Mean regret by suite, and in brackets as a share of that of what could have been picked instead.

    A single candidate is compared with one at random, the ensemble with as many at random. The last line is of the
    cases of all suites together.
    """
    suites = {f"`{suite}`": _summary(suite)[["mean_regret", "cases"]] for suite in HEADLINE}
    together = pd.concat(suites.values())
    weighted = (together.mean_regret * together.cases).groupby(level=0).sum() / together.cases.groupby(level=0).sum()
    is_everywhere = together.groupby(level=0).size() == len(suites)
    columns = {title: summary.mean_regret for title, summary in suites.items()}
    columns["all together"] = weighted.where(is_everywhere)
    rows = [[title, *(_regret(column, name) for name in CHOSEN)] for title, column in columns.items()]
    return _table(["data sets", *(title for title, _ in CHOSEN.values())], rows, numbers=True)


def _regret(regrets: pd.Series, name: str) -> str:
    """A regret, and its share of that of the row it is compared with; a dash where it is not known."""
    against = CHOSEN[name][1]
    share = regrets.get(name, np.nan) / regrets.get(against, np.nan) if against else np.nan
    return decimals(regrets.get(name, np.nan)) + (f" ({share:.0%})" if np.isfinite(share) else "")


def regrets_across_kinds() -> str:
    """Regret and AUROC where candidates are of several kinds, of what chooses and of what could be taken without.

    On the data sets of every choice, and last on those held out, with 95% intervals over data sets.
    """
    summary, held_out = _summary("development-auto"), _summary(HELD_OUT)
    ratios = [name for name in summary if name.startswith("regret_at_")]
    left_out = pd.read_csv(RESULTS / "development-auto" / "across_kinds.csv")
    by_ratio = left_out.groupby("anomaly_ratio").regret.mean()  # in the order of the columns: ratios ascend
    summary.loc["left out", ["mean_regret", "mean_auroc", *ratios]] = [
        *(left_out.regret.mean(), left_out.auroc.mean()),
        *by_ratio,
    ]
    rows = [
        [
            title,
            *(decimals(summary.loc[name, column]) for column in ("mean_regret", *ratios, "mean_auroc")),
            *_held_out(held_out, name),
        ]
        for name, title in ACROSS_KINDS.items()
    ]
    at = [name.replace("regret_at_", "at ") for name in ratios]
    headings = ["what is taken", "mean regret", *at, "mean AUROC", "`held-out`: mean regret", "mean AUROC"]
    return _table(headings, rows, numbers=True)


def _held_out(summary: pd.DataFrame, name: str) -> list[str]:
    """Mean regret with its interval, and mean AUROC; dashes for what was not judged."""
    if name not in summary.index:
        return [decimals(float("nan"))] * 2
    low, high = (decimals(summary.loc[name, f"mean_regret_{end}"]) for end in ("low", "high"))
    return [
        f"{decimals(summary.loc[name, 'mean_regret'])} ({low} to {high})",
        decimals(summary.loc[name, "mean_auroc"]),
    ]


def _part(path: Path, heading: str | None) -> str:
    """The first table of a Markdown file, or the first one under a heading."""
    lines = path.read_text("utf-8").splitlines()
    start = 0 if heading is None else lines.index(heading)
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    last = next((i for i in range(first, len(lines)) if not lines[i].startswith("|")), len(lines))
    return "\n".join(lines[first:last])


def _leaderboard(suite: str, heading: str | None = None) -> Callable[[], str]:
    return lambda: _part(RESULTS / suite / "leaderboard.md", heading)


def _two_stage(title: str) -> Callable[[], str]:
    """The first table of the two-stage comparison under a line that begins so."""
    path = RESULTS / "two_stage" / "tables.md"

    def table() -> str:
        lines = path.read_text("utf-8").splitlines()
        return _part(path, next(line for line in lines if line.startswith(title)))

    return table


def criteria_table() -> str:
    """All criteria, with what they read and where they are from."""
    known = [criteria.get(name) for name in criteria.names()]
    rows = [
        [
            f"`{criterion.name}`",
            "higher" if criterion.higher_is_better else "lower",
            ", ".join(criterion.needs).replace("_", " "),
            markdown_escaped(criterion.description),
            markdown_escaped(criterion.source),
        ]
        for criterion in known
    ]
    return _table(["criterion", "better", "reads", "what it is", "source"], rows)


def consensus_table() -> str:
    """All consensus functions, and where they are from."""
    known = [consensus.get(name) for name in consensus.names()]
    rows = [
        [f"`{function.name}`", markdown_escaped(function.description), markdown_escaped(function.source)]
        for function in known
    ]
    return _table(["consensus", "what it is", "source"], rows)


def presets_table() -> str:
    """The presets: encoder, side of the images and training steps."""
    presets = {name: get_preset(name) for name in ("quick", "standard", "paper")}
    rows = [[f"`{name}`", known.encoder, str(known.image_size), f"{known.steps:,}"] for name, known in presets.items()]
    return _table(["preset", "encoder", "pixels", "steps"], rows, numbers=True)


def kinds_table() -> str:
    """The kinds of detectors: what they learn, against what, and from which encoder."""
    quick = get_preset("quick")
    rows = []
    for name in detectors.names():
        kind = detectors.get(name)
        settings = kind.settings_for(quick)
        learned = (
            f"augmentations of {' or '.join(kind.spaces)}" if kind.uses_augmentation else "its own transformations"
        )
        encoder = "learned" if kind.learns_encoder else "as it is"
        rows.append(
            [
                f"`{name}`",
                markdown_escaped((kind.__doc__ or "").partition("\n")[0]),
                learned if kind.has_pseudo_anomalies() else "nothing",
                f"any, {encoder}" if hasattr(settings, "encoder") else "its own" if kind.learns_encoder else "none",
                f"{settings.steps:,}" if hasattr(settings, "steps") else "none",
            ]
        )
    return _table(["kind", "what it is", "learns against", "encoder", "steps (`quick`)"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "regrets": regrets,
    "regrets-across-kinds": regrets_across_kinds,
    "across-kinds-left-out": lambda: _part(RESULTS / "development-auto" / "across_kinds.md", None),
    "across-kinds-changed": lambda: _part(
        RESULTS / "development-auto" / "across_kinds.md", "## One part of the default changed"
    ),
    "development": _leaderboard("development"),
    "across-kinds": _leaderboard("development-auto"),
    "across-kinds-gains": _leaderboard("development-auto", "## Against no choice"),
    "across-kinds-best": _leaderboard("development-auto", "## By kind of detector"),
    "held-out": _leaderboard(HELD_OUT),
    "held-out-gains": _leaderboard(HELD_OUT, "## Against no choice"),
    "held-out-best": _leaderboard(HELD_OUT, "## By kind of detector"),
    "seen": _leaderboard("seen"),
    "seen-label-resolvable": _leaderboard("seen", "## Label-resolvable data sets"),
    "leave-one-dataset-out": lambda: _part(RESULTS / "development" / "leave_one_dataset_out.md", None),
    "two-stage": _two_stage("Fashion-MNIST, 0% of the train images anomalous, scorers fitted to all train images"),
    "two-stage-published": _two_stage("Published beside ours"),
    "two-stage-contamination": _two_stage("What contamination costs"),
    "two-stage-claims": _two_stage("What is claimed"),
    "autoencoder-testbed": lambda: _part(RESULTS / "alignment-autoencoder" / "autoencoder_testbed.md", None),
    "criteria": criteria_table,
    "consensus": consensus_table,
    "presets": presets_table,
    "kinds": kinds_table,
}


def docs(
    root: Annotated[Path, typer.Argument(help="Folder of the checkout.")] = Path(),
) -> None:
    """Fill the generated tables of README.md and docs/ from benchmarks/results.

    Example: ssad benchmark docs
    """
    for page in write(root):
        print(f"changed      {page}")
