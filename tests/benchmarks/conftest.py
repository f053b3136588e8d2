"""A suite that runs in seconds."""

import pytest
import torch

import benchmarks
from benchmarks.suites import SUITES, DataSet, Suite
from benchmarks.task import Task


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
    zoo = {"cutout": [{"area": 0.1}, {"area": 0.3}], "cutpaste": [{"area": 0.1}]}
    data_sets = tuple(DataSet((name,), name, image_size=32, by_kind=True) for name in names)
    SUITES["tiny"] = Suite("tiny", "For tests.", data_sets, zoo, preset=tiny, ratios=(0.2, 0.5))
    yield SUITES["tiny"]
    del SUITES["tiny"]
    for name in names:
        del benchmarks.LOADERS[name]
