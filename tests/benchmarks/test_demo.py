"""The demo uses the labels last."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

import benchmarks
import detectors
from benchmarks import demo
from benchmarks.demo import aurocs
from benchmarks.tasks.task import Task
from detectors import presets
from selector import select_best
from selector.zoo import auto
from selector.zoo.plan import Plan, Request


@pytest.fixture(scope="module")
def selected(stripes, scratched):
    test = torch.cat([stripes(30, 5), scratched(10)])
    labels = torch.cat([torch.zeros(30), torch.ones(10)]).to(torch.uint8)
    task = Task("stripes", stripes(40), test, labels)
    grids = {"cutout": [{}, {"area": (0.1, 0.2)}], "rotation": [{}]}
    selection = select_best(task.train, task.test, augmentations=grids, detectors="classifier", preset="tiny", jobs=1)
    return selection, task


def test_aurocs_are_those_of_the_stored_scores(selected):
    selection, task = selected
    found = aurocs(selection, task)
    assert list(found.index) == selection.ranking.candidate.tolist()
    again = selection.zoo.detector(found.index[1]).score(task.test)
    assert found.iloc[1] == pytest.approx(roc_auc_score(task.labels, again))


def test_the_demo_uses_the_labels_only_after_the_choice_is_on_disk(selected, monkeypatch, tmp_path, capsys):
    _, task = selected
    out = tmp_path / "run"

    def watched(selection, task):
        assert (out / "selection.json").is_file()
        assert (out / "ranking.csv").is_file()
        assert (out / "index.html").is_file()
        return aurocs(selection, task)

    monkeypatch.setattr(benchmarks, "load", lambda name, image_size: task)
    monkeypatch.setattr(demo, "aurocs", watched)
    small = (Request({"cutout": [{}]}, ("classifier", "pixels"), ("gaussian",)),)
    monkeypatch.setattr(auto, "CHOSEN", {True: small, False: small})
    monkeypatch.setitem(presets.PRESETS, "quick", presets.PRESETS["tiny"])
    demo.demo(out=out, seed=0, jobs=1)
    printed = capsys.readouterr().out
    for word in ("chosen", "best pixels", "best classifier", "zoo mean", "worst", "best", "regret"):
        assert word in printed
    assert printed.strip().splitlines()[-1] == f"report: {out / 'index.html'}"


def test_the_demos_zoo_is_as_large_as_promised():
    candidates = Plan.joined(auto.WITH_WEIGHTS, presets.get_preset("quick")).candidates(0)
    assert len(candidates) >= 16
    kinds = {detectors.get(candidate.training.detector) for candidate in candidates}
    assert sum(kind.uses_augmentation for kind in kinds) >= 3
    assert sum(not kind.uses_augmentation for kind in kinds) >= 2
