"""The generated tables of README.md and docs/: what stands between two marks is replaced by what the results say.

A block begins with ``<!-- generated: ssad benchmark docs NAME -->`` and ends with ``<!-- end -->``.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import detectors
from augmentations.errors import unknown_name
from benchmarks.evaluation.judgements import RESULTS
from benchmarks.leaderboard.text import markdown_escaped
from detectors import get_preset
from selector import consensus, criteria

BLOCK = re.compile(r"(<!-- generated: ssad benchmark docs ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
ROWS = {
    "random": "a candidate at random",
    "dsv": "the best candidate by DSV (Yoo et al., 2023)",
    "default": "the best candidate by the default rule",
    "ensemble": "the ensemble that `select_best` recommends",
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
    """Mean regret of a few rows by suite, and in brackets as a share of that of a random pick."""
    development, seen = _summary("development"), _summary("seen")
    columns = {
        "`development`": development.mean_regret,
        "`seen`": seen.mean_regret,
        "`seen`, label-resolvable": seen.label_resolvable_mean_regret,
    }
    rows = [
        [title, *(f"{column[name]:.3f} ({column[name] / column['random']:.0%})" for column in columns.values())]
        for name, title in ROWS.items()
    ]
    return _table(["chosen", *columns], rows, numbers=True)


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
    "development": _leaderboard("development"),
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
