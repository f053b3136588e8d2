"""A suite that runs in seconds, and a zoo without any training."""

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import benchmarks
from benchmarks.command import app
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.suites.baselines import BASELINES
from benchmarks.suites.definitions import SUITES, DataSet, Suite, classifiers
from benchmarks.tasks.task import Task
from benchmarks.tasks.view import View


@pytest.fixture(scope="session")
def tiny_suite(tiny, stripes, scratched):
    """Two data sets, one of them with kinds, a zoo of three, two seeds; registered as long as tests run."""

    def load(name, root, image_size):
        anomalies = scratched(24)
        test = torch.cat([stripes(12, seed=5), anomalies])
        labels = torch.tensor([0] * 12 + [1] * 24, dtype=torch.uint8)
        kinds = ("",) * 12 + ("left", "right") * 12
        train = stripes(40, seed=sum(map(ord, name)))
        return Task(name, train, test, labels, kinds=kinds if name == "kinds" else None)

    names = ("plain", "kinds")
    benchmarks.LOADERS.update(dict.fromkeys(names, load))
    zoo = classifiers({"cutout": [{"area": 0.1}, {"area": 0.3}], "cutpaste": [{"area": 0.1}]})
    data_sets = tuple(DataSet((name,), name, image_size=32, by_kind=True) for name in names)
    SUITES["tiny"] = Suite("tiny", "For tests.", data_sets, zoo, preset=tiny, ratios=(0.2, 0.5))
    yield SUITES["tiny"]
    del SUITES["tiny"]
    for name in names:
        del benchmarks.LOADERS[name]


@pytest.fixture(scope="session")
def tiny_run(tiny_suite, tmp_path_factory):
    """The folder of the suite's run and what the command said of it. Not to be changed."""
    out = tmp_path_factory.mktemp("suites") / "tiny"
    words = ["run", "tiny", "--out", str(out), "--jobs", "1", "--device", "cpu"]
    ended = CliRunner().invoke(app, words, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return out, ended.output


@pytest.fixture(scope="session")
def made_zoo():
    """Makes a stored zoo without training: ``specialists``, each of which detects one kind of anomaly only (so the
    fewer, the better the AUROC of each), and ``blind`` ones, which detect none; all detect their pseudo anomalies."""

    def make(specialists=6, blind=6, seed=0, group="made", task="made"):
        source = np.random.default_rng((seed, specialists, blind))
        names = [f"{'specialist' if i < specialists else 'blind'}-{i}" for i in range(specialists + blind)]
        normal, anomalous = 60, 60
        kind = np.arange(anomalous) % max(specialists, 1)
        logs = {
            "validation": source.normal(size=(30, len(names))),
            "augmented": source.normal(size=(30, len(names))) + 3,
            "pseudo": source.normal(size=(60, len(names))) + 1,
            "test": source.normal(size=(normal + anomalous, len(names))),
        }
        for i in range(specialists):
            logs["test"][normal:, i] += 6.0 * (kind == i)
        unit = source.uniform(0.5, 2, len(names))  # scores of different detectors can not be compared as numbers
        scores = {part: pd.DataFrame(np.exp(unit * values), columns=names) for part, values in logs.items()}
        labels = torch.tensor([0] * normal + [1] * anomalous)
        view = View(task, group, "", torch.arange(normal + anomalous), labels)
        candidates = pd.DataFrame(
            {"augmentation": ["cutout", "cutpaste"] * len(names), "hyperparameters": [{}] * 2 * len(names)}
        )[: len(names)].set_axis(names)
        values = [
            (task, ratio, trial, name, "dsv", source.uniform())
            for ratio, trial, _ in view.trials((0.2, 0.5), seed)
            for name in names
        ]
        columns = ["task", "anomaly_ratio", "trial", "candidate", "criterion", "value"]
        baselines = pd.DataFrame(
            np.exp(source.normal(size=(normal + anomalous, len(BASELINES)))), columns=list(BASELINES)
        )
        of_embeddings = pd.DataFrame(values, columns=columns)
        candidates = candidates.assign(status="ok", reason="").rename_axis("id")
        return StoredZoo(seed, candidates, (view,), scores, baselines, of_embeddings)

    return make
