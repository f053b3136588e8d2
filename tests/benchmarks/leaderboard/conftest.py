"""A made-up run: what a benchmark leaves, with numbers drawn at random."""

import json

import numpy as np
import pandas as pd
import pytest

HOSTILE = "<script>alert(1)</script>\"'&|_$%"
CRITERIA = ("dsv", "mc", "rtm", "default")
IDLE = ("average", "random", "mean_rank_all", "untrained", "pixels")  # rows that choose nothing
AUGMENTATIONS = ("cutout", "cutpaste")


def frames(tasks, seeds, ratios):
    """The rows of leaderboard.csv and candidates.csv: four candidates, and criteria that pick of them at random."""
    source = np.random.default_rng(0)
    rows, candidates = [], []
    for task in tasks:
        for seed in seeds:
            zoo = source.uniform(0.5, 0.95, 4)
            same = {"task": task, "seed": seed, "status": "ok", "reason": ""}
            for i, auroc in enumerate(zoo):
                own = {
                    "candidate": f"c{i}",
                    "augmentation": AUGMENTATIONS[i % 2],
                    "hyperparameters": f'{{"area": {i}}}',
                }
                candidates.append(same | own | {"auroc": auroc})
            for name in ("untrained", "pixels"):
                own = {"candidate": name, "augmentation": name, "hyperparameters": "{}"}
                candidates.append(same | own | {"auroc": source.uniform(0.5, 0.6)})
            for ratio in ratios:
                case = {"task": task, "seed": seed, "anomaly_ratio": ratio, "reason": ""}
                for name in CRITERIA:
                    auroc = source.choice(zoo)
                    place = 1 + int((zoo > auroc).sum())
                    chosen = {"criterion": name, "rank": place, "spearman": source.uniform(-1, 1)}
                    rows.append(case | chosen | {"auroc": auroc, "regret": zoo.max() - auroc})
                chosen = {"criterion": "oracle", "rank": 1, "spearman": np.nan}
                rows.append(case | chosen | {"auroc": zoo.max(), "regret": 0.0})
                for name in IDLE:
                    chosen = {"criterion": name, "rank": np.nan, "spearman": np.nan}
                    rows.append(case | chosen | {"auroc": zoo.mean(), "regret": zoo.max() - zoo.mean()})
    return pd.DataFrame(rows), pd.DataFrame(candidates)


def write_run(folder, tasks, seeds=(0, 1), ratios=(0.05, 0.2), edit=None, **settings):
    """A run folder of the given tasks, {name: (data set, kind)}; ``edit`` changes both tables in place."""
    rows, candidates = frames(tasks, seeds, ratios)
    if edit is not None:
        edit(rows, candidates)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "leaderboard.csv", index=False)
    candidates.to_csv(folder / "candidates.csv", index=False)
    described = {
        name: {"data_set": data_set, "kind": kind, "train": 70, "test": 30, "anomalies": 9}
        for name, (data_set, kind) in tasks.items()
    }
    whole = {
        "suite": "made-up",
        "description": "Numbers drawn at random.",
        "tasks": described,
        "command": "ssad benchmark made-up",
        "versions": {"numpy": np.__version__},
        "seconds": 1.5,
    }
    (folder / "settings.json").write_text(json.dumps(whole | settings))
    return folder


TASKS = {
    f"{data_set}-{kind or 'wild'}": (data_set, kind)
    for data_set in ("a", "b", "c")
    for kind in ("cutout", "cutpaste", "scratch", None)
}


def fail(rows, candidates):
    """One criterion fails in one case, one candidate on one task."""
    rows.loc[0, ["auroc", "regret", "rank", "spearman"]] = np.nan
    rows.loc[0, "reason"] = f"ValueError: {HOSTILE}"
    candidates.loc[1, "auroc"] = np.nan
    candidates.loc[1, ["status", "reason"]] = "failed", "no memory"


@pytest.fixture(scope="session")
def hostile():
    """A text that breaks out of HTML, Markdown and LaTeX alike, where it can."""
    return HOSTILE


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Twelve tasks of three data sets, two seeds, two anomaly ratios, and one failure of each sort."""
    return write_run(tmp_path_factory.mktemp("leaderboard") / "run", TASKS, edit=fail, description=HOSTILE)


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder; arguments as ``write_run`` takes them, the folder aside."""
    return lambda tasks=TASKS, **changes: write_run(tmp_path / "run", tasks, **changes)
