"""The main job from Python: select_best, what it takes and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import selector
from augmentations import InputError
from selector import select_best
from selector.criteria import CRITERIA

ROOT = Path(__file__).parents[2]
COLUMNS = ["rank", "candidate", "augmentation", "hyperparameters", "detector", "scorer", "seed", "criterion", "status"]
SPLITS = ("train", "validation", "calibration")
CUTOUT = {"augmentations": {"cutout": [{}]}}  # one training


def frame(selection):
    return json.loads(selection.ranking.to_json())


def test_the_ranking_has_the_promised_columns_best_first(run):
    ranking = run.ranking
    assert list(ranking.columns[:10]) == [*COLUMNS, "reason"]
    assert list(ranking.columns[10:]) == [*selector.criteria.names(), "tied"]
    assert ranking.tied.dtype == bool
    assert ranking.tied[0] == (ranking.status[0] == "ok")
    assert ranking["rank"].tolist() == [1, 2, 3]
    assert run.best.id == ranking.candidate[0]
    assert run.best.hyperparameters == ranking.hyperparameters[0]


@pytest.mark.parametrize("members", [0, True, 2.0])
def test_members_must_be_a_positive_whole_number(data, options, members):
    with pytest.raises(InputError, match="members"):
        select_best(*data, **options, members=members)


def test_no_image_is_in_two_splits_and_none_is_lost(run):
    names = run.zoo.store.run["names"]
    divided = [name for split in SPLITS for name in names[split]]
    assert len(divided) == len(set(divided)) == 40
    assert [len(names[split]) for split in SPLITS] == [28, 6, 6]


def test_the_same_seed_gives_the_same_ranking_and_another_seed_another(run, data, options):
    again = select_best(*data, **options)
    assert frame(again) == frame(run)
    other = select_best(*data, **options, seed=1)
    assert frame(other) != frame(run)


@pytest.mark.parametrize("kind", ["numpy", "uint8", "three dimensions"])
def test_arrays_of_every_kind_are_taken(data, options, kind):
    convert = {
        "numpy": lambda x: x.numpy(),
        "uint8": lambda x: (255 * x).round().to(torch.uint8),
        "three dimensions": lambda x: x[:, 0],
    }[kind]
    selection = select_best(*map(convert, data), **options | CUTOUT, criterion="score_shift")
    assert selection.ranking.status[0] in ("ok", "collapsed")


NAMED = {
    "plain": lambda i, odd: f"{i:03d}.png",
    "telling, in the same order": lambda i, odd: f"{i:03d}/{'defect' if odd else 'good'}/anomaly.png",
    "folders of classes": lambda i, odd: f"defect/anomaly_{i:03d}.png" if odd else f"good/good_{i:03d}.png",
    "at random": lambda i, odd: f"{37 * (i + 1) % 41:03d}.png",
}


@pytest.fixture(scope="module")
def named(data, options, tmp_path_factory):
    """A selection among the same images for each way of naming the test images."""
    root = tmp_path_factory.mktemp("named")

    def folder(images, name):
        for i, image in enumerate(images):
            path = root / name(i, i % 4 == 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(path)

    folder(data[0], lambda i, odd: f"train/{i:03d}.png")
    selections = {}
    for way, name in NAMED.items():
        folder(data[1], lambda i, odd, way=way, name=name: f"{way}/{name(i, odd)}")
        grids = {"augmentations": {"cutout": [{}, {"area": (0.2, 0.3)}]}}
        selections[way] = select_best(root / "train", root / way, **options | grids)
    return selections


def test_names_of_files_and_folders_carry_nothing_into_selection(named):
    assert frame(named["plain"]) == frame(named["telling, in the same order"])


@pytest.mark.parametrize("way", ["folders of classes", "at random"])
def test_the_order_of_test_images_changes_nothing(named, way):
    """Names set the order in which images are read, and that may not matter either: not the values, their order, nor
    who is tied, nor the verdict's error bar."""
    plain, other = named["plain"], named[way]
    assert plain.zoo.store.names("test") != other.zoo.store.names("test")
    pd.testing.assert_frame_equal(other.ranking, plain.ranking, rtol=1e-6, atol=1e-9)
    pd.testing.assert_frame_equal(other.result.spread, plain.result.spread, rtol=1e-6, atol=1e-7)
    for number in ("margin", "margin_spread", "share_first"):
        assert getattr(other.result, number) == pytest.approx(getattr(plain.result, number), rel=1e-5)


@pytest.mark.slow
def test_selection_works_the_same_without_the_benchmarks(run, data, options, tmp_path):
    for package in ("augmentations", "detectors", "selector"):
        shutil.copytree(ROOT / package, tmp_path / package)
    np.savez(tmp_path / "data.npz", train=data[0].numpy(), test=data[1].numpy())
    (tmp_path / "alone.py").write_text(
        "import sys; sys.modules['benchmarks'] = None\n"
        "import numpy, dataclasses\n"
        "from detectors.presets import PRESETS\n"
        "PRESETS['tiny'] = dataclasses.replace(PRESETS['quick'], steps=12, batch=8, image_size=32)\n"
        "import selector; from selector import select_best; assert selector.__file__.startswith(sys.path[0])\n"
        "data = numpy.load('data.npz')\n"
        f"s = select_best(data['train'], data['test'], **{options | {'detectors': 'classifier'}!r})\n"
        "print(s.ranking.to_json())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "alone.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == frame(run)


BAD = {
    "unknown augmentation": ({"augmentations": ["cutpast"]}, "did you mean cutpaste"),
    "unknown detector": ({"detectors": ["clasifier"]}, "did you mean classifier"),
    "unknown scorer": ({"scorers": ["gausian"]}, "did you mean gaussian"),
    "unknown criterion": ({"criterion": "dsvv"}, "did you mean dsv"),
    "unknown preset": ({"preset": "quik"}, "did you mean quick"),
    "unknown hyperparameter": ({"augmentations": {"cutout": [{"size": (0.1, 0.2)}]}}, "size"),
    "infeasible grid": ({"augmentations": {"cutout": [{"area": (0.5, 0.9)}]}}, "must fit"),
    "aspect 0": ({"augmentations": {"cutout": [{"aspect": 0}]}}, "must"),
    "empty grid": ({"augmentations": {"cutout": []}}, "is empty"),
    "no augmentation": ({"augmentations": []}, "non-empty"),
    "no detector": ({"detectors": 3}, "detectors=3"),
    "a grid that is no list": ({"detectors": {"classifier": {}}}, "must be a list of dicts|is empty"),
    "unknown setting": ({"detectors": {"classifier": [{"step": 6}]}}, "step.*did you mean steps"),
    "a setting out of range": ({"detectors": {"classifier": [{"steps": 0}]}}, "steps=0"),
    "unknown setting of a scorer": ({"scorers": {"gaussian": [{"k": 1}]}}, "gaussian"),
    "unknown encoder": ({"encoder": "resnet19"}, "did you mean resnet18"),
    "an encoder for kinds without one": ({"encoder": "small", "detectors": ["pixels"]}, "any of the detectors"),
    "device": ({"device": "warp9"}, "warp9"),
    "jobs": ({"jobs": 0}, "at least 1"),
    "seed": ({"seed": -1}, "at least 0"),
    "no seed": ({"seed": None}, "seed=None: must be a whole number"),
    "no seeds": ({"seeds": None}, "seeds=None: must be a whole number"),
    "seeds": ({"seeds": 0}, "at least 1"),
    "groups": ({"groups": [0, 1]}, "2 of them: must be one for each of the 40"),
    "a criterion without a name": ({"criterion": lambda evidence: 1.0}, "no name"),
    "image size": ({"image_size": 3}, "image_size"),
    "too few": ({"train": torch.rand(19, 1, 32, 32)}, "at least 20"),
    "NaN": ({"train": torch.full((30, 1, 32, 32), float("nan"))}, "train"),
    "range": ({"test": 255 * torch.rand(30, 1, 32, 32)}, "divide by 255"),
    "channels last": ({"test": torch.rand(30, 32, 32, 3)}, "channels"),
    "missing folder": ({"train": "no/such/folder"}, "no/such/folder"),
    "constant images": ({"train": torch.rand(24, 1, 1, 1).expand(-1, -1, 32, 32)}, "each of one single value"),
    "constant test images": (
        {"test": torch.rand(24, 1, 1, 1).expand(-1, -1, 32, 32)},
        "test: all 24 images: are each of",
    ),
    "identical test images": ({"test": torch.rand(1, 1, 32, 32).expand(9, -1, -1, -1)}, "test: all 9 .*identical"),
    "identical images": ({"train": torch.rand(1, 1, 32, 32).expand(24, -1, -1, -1)}, "all identical"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_made(case, data, tmp_path):
    changed, message = BAD[case]
    arguments = {"train": data[0], "test": data[1], "preset": "tiny", "out": tmp_path / "run"}
    with pytest.raises(InputError, match=message):
        select_best(**arguments | changed)
    assert not (tmp_path / "run").exists()


def test_groups_are_kept_whole_and_belong_to_the_run(data, options, tmp_path):
    options = {**options, **CUTOUT, "out": tmp_path / "run"}
    pairs = [i // 2 for i in range(40)]
    store = select_best(*data, groups=pairs, **options).zoo.store
    groups = [{int(name) // 2 for name in store.names(split)} for split in SPLITS]
    assert sum(map(len, groups)) == 20
    select_best(*data, groups=lambda name: f"lot {int(name) // 2}", **options)  # the same groups by other names
    for other in ([i // 4 for i in range(40)], None):
        with pytest.raises(InputError, match="groups"):
            select_best(*data, groups=other, **options)


def test_what_is_odd_of_the_images_is_in_notes_verdict_and_report(data, options):
    train, test = data[0].clone(), data[1].clone()
    test[3], test[5] = train[7], 0.0
    train[10:20] = train[20]
    odd = select_best(train, test, **options | CUTOUT)
    text, notes = " ".join(odd.verdict), " ".join(odd.zoo.store.run["notes"])
    page = unescape(odd.report().read_text("utf-8"))
    for finding in ("0003 = 0007", "mean brightness", "0005 (0.00)"):
        assert finding in text
        assert finding in notes
        assert page.count(finding) >= 2  # at the top and among the notes
    assert "identical to one of another split" in notes
    assert "another split" not in text
    assert len(odd.zoo.store.images["test"]) == len(test)


class TestSeeds:
    @pytest.fixture(scope="class")
    @classmethod
    def three(cls, run, data, options, tmp_path_factory):
        """The finished run, grown by two seeds."""
        out = shutil.copytree(run.path, tmp_path_factory.mktemp("seeds") / "run")
        return select_best(*data, **options, out=out, seeds=3, criterion="score_wasserstein")

    def test_every_configuration_is_trained_with_every_seed_and_has_one_row(self, three, run):
        assert len(three.ranking) == len(run.ranking)
        assert sorted(c.training.seed for c in three.zoo.candidates) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert set(run.ranking.candidate) <= {c.id for c in three.zoo.candidates}
        assert three.zoo.store.run["names"] == run.zoo.store.run["names"]  # the same splits

    def test_all_can_be_loaded(self, three, data):
        for candidate in three.zoo.candidates:
            score = three.zoo.detector(candidate.id).score(data[1])
            assert torch.equal(score, three.zoo.evidence(candidate.id)[0].test_scores)

    def test_values_are_means_and_the_row_is_of_the_median_seed(self, three):
        for row in three.ranking[three.ranking.status == "ok"].to_dict("records"):
            chosen = three.zoo[row["candidate"]]
            values = {
                c.id: selector.criteria.evaluate(three.zoo.evidence(c.id)[0], ["score_wasserstein"])[
                    "score_wasserstein"
                ]
                for c in three.zoo.candidates
                if c.configuration_id == chosen.configuration_id
            }
            if not row["reason"]:  # no seed was left out
                assert row["score_wasserstein"] == pytest.approx(np.mean(list(values.values())))
                assert sorted(values, key=values.get)[1] == chosen.id
                assert three.result.spread.score_wasserstein[chosen.id] == pytest.approx(np.std(list(values.values())))

    def test_it_is_loaded_and_fewer_seeds_are_refused(self, three, data, options):
        assert frame(selector.load(three.path)) == frame(three)
        with pytest.raises(InputError, match=r"leaves out \(.*seed 1"):
            select_best(*data, **options, out=three.path)


class TestWithoutTestImages:
    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, data, options, tmp_path_factory):
        out = tmp_path_factory.mktemp("inductive") / "run"
        return select_best(data[0], **options, out=out)

    def test_only_criteria_that_need_none_have_a_column(self, alone):
        inductive = [n for n in selector.criteria.names() if not {"test", "test_scores"} & set(CRITERIA[n].needs)]
        assert list(alone.result.spread.columns) == inductive == ["pseudo_auc", "npd"]
        assert not {"dsv", "rtm"} & set(alone.ranking.columns)
        assert alone.ranking[inductive].notna().all(axis=None)
        assert alone.result.rule.names == ("pseudo_auc",)  # 6 validation images are few
        assert "test_scores" in alone.result.absent["rtm"]

    def test_they_have_the_values_that_they_have_beside_test_images(self, alone, run):
        columns = ["candidate", "pseudo_auc", "npd"]
        one, other = (s.ranking[columns].sort_values("candidate", ignore_index=True) for s in (alone, run))
        assert one.equals(other)

    def test_it_is_loaded_and_detects(self, alone, stripes, scratched):
        loaded = selector.load(alone.path)
        assert frame(loaded) == frame(alone)
        assert loaded.verdict == alone.verdict
        assert loaded.result.absent == alone.result.absent
        assert len(loaded.detect(torch.cat([stripes(5, 9), scratched(5, 10)])).table) == 10

    def test_the_margin_has_an_error_bar(self, alone):
        assert alone.result.margin_spread > 0
        assert 0 <= alone.result.share_first <= 1

    @pytest.mark.parametrize("criterion", ["dsv", "rtm", "neighbor_shift"])
    def test_a_criterion_that_needs_them_is_refused_before_training(self, data, tmp_path, criterion):
        with pytest.raises(InputError, match=rf"{criterion}.*test images.*none were given.*pseudo_auc"):
            select_best(data[0], criterion=criterion, preset="tiny", out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_run_is_resumed_only_without_them(self, alone, data, options):
        with pytest.raises(InputError, match="test images"):
            select_best(*data, **options, out=alone.path)
