"""The main job from Python: select_best, what it returns, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import selector
from augmentations import InputError
from selector import load, select_best
from selector.criteria import CRITERIA
from selector.detection.conformal import p_values
from selector.inputs.digests import image_digest
from selector.ranking import cross_fit, rules
from selector.ranking.rules import DEFAULT_MEMBERS

ROOT = Path(__file__).parents[2]
GRIDS = {"cutout": [{}, {"area": (0.1, 0.2)}], "cutpaste_3way": [{}]}
COLUMNS = ["rank", "candidate", "augmentation", "hyperparameters", "detector", "scorer", "seed", "criterion", "status"]


@pytest.fixture(scope="module")
def data(stripes, scratched):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    return stripes(40), torch.cat([stripes(30, 5), scratched(10)])[order]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("selection") / "run"
    return select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=out)


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


def test_the_detector_is_the_best_candidates_together(run, data):
    trusted = run.ranking[run.ranking.status == "ok"].candidate.tolist()
    assert [member.id for member in run.members] == trusted[:DEFAULT_MEMBERS]
    assert len(trusted) > 1
    every = [run.zoo.evidence(candidate_id)[0] for candidate_id in trusted]
    by_hand = torch.stack([one.test_scores / one.validation_scores.mean() for one in every]).amax(0)
    scores = run.detector.score(data[1])
    torch.testing.assert_close(scores, by_hand)
    assert torch.equal(scores, run.zoo.scores(trusted).test_scores)


def test_one_member_is_the_best_candidate_alone(data):
    alone = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, members=1)
    assert alone.members == (alone.best,)
    assert alone.detector_id == alone.best.id
    assert torch.equal(alone.detector.score(data[1]), alone.zoo.evidence(alone.best.id)[0].test_scores)
    assert not any("Recommended" in sentence for sentence in alone.verdict)


@pytest.mark.parametrize("members", [0, True, 2.0])
def test_members_must_be_a_positive_whole_number(data, members):
    with pytest.raises(InputError, match="members"):
        select_best(*data, augmentations=GRIDS, preset="tiny", members=members)


def test_every_candidates_detector_is_there(run, data):
    assert torch.equal(run.zoo.detector(run.best.id).score(data[1]), run.zoo.evidence(run.best.id)[0].test_scores)
    other = run.ranking.candidate[1]
    assert torch.equal(run.zoo.detector(other).score(data[1]), run.zoo.evidence(other)[0].test_scores)


def test_an_unknown_candidate_is_refused(run):
    with pytest.raises(InputError, match="nope"):
        run.zoo.detector("nope")


def test_no_image_is_in_two_splits_and_none_is_lost(run):
    names = run.zoo.store.run["names"]
    held = [name for split in ("fit", "validation", "calibration") for name in names[split]]
    assert sorted(held) == [f"{i:04d}" for i in range(40)] or len(set(held)) == 40
    assert [len(names[split]) for split in ("fit", "validation", "calibration")] == [28, 6, 6]


def test_the_same_seed_gives_the_same_ranking_and_another_seed_another(run, data):
    again = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1)
    assert frame(again) == frame(run)
    other = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, seed=1)
    assert frame(other) != frame(run)


@pytest.mark.parametrize("kind", ["numpy", "uint8", "three dimensions"])
def test_arrays_of_every_kind_are_taken(run, data, kind):
    convert = {
        "numpy": lambda x: x.numpy(),
        "uint8": lambda x: (255 * x).round().to(torch.uint8),
        "three dimensions": lambda x: x[:, 0],
    }[kind]
    selection = select_best(
        *map(convert, data), augmentations={"cutout": [{}]}, preset="tiny", jobs=1, criterion="score_shift"
    )
    assert selection.ranking.status[0] in ("ok", "collapsed")


def test_load_gives_what_was_selected(run, data):
    loaded = selector.load(run.path)
    assert frame(loaded) == frame(run)
    assert loaded.verdict == run.verdict
    assert loaded.ranking.hyperparameters.tolist() == run.ranking.hyperparameters.tolist()
    assert torch.equal(loaded.detector.score(data[1]), run.detector.score(data[1]))


def test_why_is_the_same_twice_and_when_loaded(run):
    why, loaded = run.why(), selector.load(run.path).why()
    assert str(loaded) == str(why)
    assert set(why.preferred.criterion) == {*selector.criteria.names(), *selector.consensus.names()}
    assert why.preferred.set_index("criterion")["rank"][run.result.rule.names[0]] == 1
    assert not why.agreement.empty


def test_load_refuses_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        selector.load(tmp_path)


def test_a_finished_run_is_not_trained_again(run, data):
    records = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("record.json")}
    assert len(records) == 3
    again = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path)
    assert frame(again) == frame(run)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("record.json")} == records


def test_another_criterion_ranks_the_same_zoo(run, data):
    again = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path, criterion="dsv")
    assert again.result.rule.names == ("dsv",)
    select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path)


def test_a_run_folder_made_with_other_settings_is_refused(run, data):
    with pytest.raises(InputError, match=r"other settings.*seed.*0.*1"):
        select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path, seed=1)
    with pytest.raises(InputError, match="test images"):
        select_best(data[0], data[1][1:], augmentations=GRIDS, preset="tiny", jobs=1, out=run.path)


def test_detect_gives_scores_p_values_verdicts_and_maps(run, stripes, scratched):
    images = torch.cat([stripes(5, 9), scratched(5, 10)])
    found = run.detect(images)
    assert found.maps.shape == (10, 32, 32)
    assert len(found.names) == len(found.table) == 10
    assert found.n_calibration == 6
    assert found.false_alarm_rate == pytest.approx(1 / 7)
    assert torch.equal(found.is_anomaly, found.p_values <= 1 / 7)
    assert found.scores[5:].mean() > found.scores[:5].mean()
    assert found.table.verdict.isin(["normal", "anomaly"]).all()


def test_detect_refuses_a_rate_that_the_calibration_images_cannot_support(run, stripes):
    with pytest.raises(InputError, match="6 calibration images"):
        run.detect(stripes(2), false_alarm_rate=0.01)


def test_a_run_without_a_folder_lives_with_the_selection(data):
    selection = select_best(*data, augmentations={"cutout": [{}]}, preset="tiny", jobs=1)
    assert selection.path.is_dir()
    path = selection.path
    del selection
    assert not path.exists()


NAMED = {
    "plain": lambda i, odd: f"{i:03d}.png",
    "telling, in the same order": lambda i, odd: f"{i:03d}/{'defect' if odd else 'good'}/anomaly.png",
    "folders of classes": lambda i, odd: f"defect/anomaly_{i:03d}.png" if odd else f"good/good_{i:03d}.png",
    "at random": lambda i, odd: f"{37 * (i + 1) % 41:03d}.png",
}


@pytest.fixture(scope="module")
def named(data, tmp_path_factory):
    """A selection among the same images for each way of naming the test images."""
    root = tmp_path_factory.mktemp("named")

    def folder(images, name):
        for i, image in enumerate(images):
            path = root / name(i, i % 4 == 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(path)

    folder(data[0], lambda i, odd: f"train/{i:03d}.png")
    found = {}
    for told, name in NAMED.items():
        folder(data[1], lambda i, odd, told=told, name=name: f"{told}/{name(i, odd)}")
        grids = {"cutout": [{}, {"area": (0.2, 0.3)}]}
        found[told] = select_best(root / "train", root / told, augmentations=grids, preset="tiny", jobs=1)
    return found


def test_names_of_files_and_folders_carry_nothing_into_selection(named):
    assert frame(named["plain"]) == frame(named["telling, in the same order"])


@pytest.mark.parametrize("told", ["folders of classes", "at random"])
def test_the_order_of_test_images_changes_nothing(named, told):
    """Names set the order in which images are read, and that may not matter either: not the values, their order, nor
    who is tied, nor the verdict's error bar."""
    plain, other = named["plain"], named[told]
    assert plain.zoo.store.names("test") != other.zoo.store.names("test")
    pd.testing.assert_frame_equal(other.ranking, plain.ranking, rtol=1e-6, atol=1e-9)
    pd.testing.assert_frame_equal(other.result.spread, plain.result.spread, rtol=1e-6, atol=1e-7)
    for number in ("margin", "margin_spread", "share_first"):
        assert getattr(other.result, number) == pytest.approx(getattr(plain.result, number), rel=1e-5)


def test_selection_works_the_same_without_the_benchmarks_room(run, data, tmp_path):
    for room in ("augmentations", "detectors", "selector"):
        shutil.copytree(ROOT / room, tmp_path / room)
    np.savez(tmp_path / "data.npz", train=data[0].numpy(), test=data[1].numpy())
    (tmp_path / "alone.py").write_text(
        "import sys; sys.modules['benchmarks'] = None\n"
        "import numpy, dataclasses\n"
        "from detectors import settings\n"
        "settings.PRESETS['tiny'] = dataclasses.replace(settings.PRESETS['quick'], steps=12, batch=8, image_size=32)\n"
        "import selector; from selector import select_best; assert selector.__file__.startswith(sys.path[0])\n"
        "data = numpy.load('data.npz')\n"
        f"s = select_best(data['train'], data['test'], augmentations={GRIDS!r}, preset='tiny', jobs=1)\n"
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
    "device": ({"device": "warp9"}, "warp9"),
    "jobs": ({"jobs": 0}, "at least 1"),
    "seed": ({"seed": -1}, "at least 0"),
    "seeds": ({"seeds": 0}, "at least 1"),
    "groups": ({"groups": [0, 1]}, "2 of them: must be one for each of the 40"),
    "a criterion without a name": ({"criterion": lambda evidence: 1.0}, "no name"),
    "image size": ({"image_size": 3}, "image_size"),
    "too few": ({"train": torch.rand(19, 1, 32, 32)}, "at least 20"),
    "NaN": ({"train": torch.full((30, 1, 32, 32), float("nan"))}, "train"),
    "range": ({"test": 255 * torch.rand(30, 1, 32, 32)}, "divide by 255"),
    "channels last": ({"test": torch.rand(30, 32, 32, 3)}, "channels"),
    "missing folder": ({"train": "no/such/folder"}, "no/such/folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_made(case, data, tmp_path):
    changed, told = BAD[case]
    given = {"train": data[0], "test": data[1], "preset": "tiny", "out": tmp_path / "run"}
    with pytest.raises(InputError, match=told):
        select_best(**{**given, **changed})
    assert not (tmp_path / "run").exists()


def test_the_verdict_names_the_choice_and_the_rule(run):
    text = " ".join(run.verdict)
    assert run.best.training.augmentation in text
    assert run.result.rule.describe() in text


def test_twins_of_the_ranking_are_readable(run):
    table = pd.read_csv(run.path / "ranking.csv")
    assert json.loads(table.hyperparameters[0]) == {k: list(v) for k, v in run.best.hyperparameters.items()}
    kept = json.loads((run.path / "selection.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert len(kept["ranking"]) == 3


@pytest.mark.parametrize("damage", ['{"ranking": []}', "[]", "{not json"])
def test_load_refuses_a_damaged_selection(run, tmp_path, damage):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "selection.json").write_text(damage)
    with pytest.raises(InputError):
        selector.load(tmp_path / "run")


def test_an_own_criterion_decides_and_is_shown_when_its_function_is_gone(run, data):
    def brightest(evidence):
        """The highest test score."""
        return evidence.test_scores.max()

    own = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path, criterion=brightest)
    best = {i: own.zoo.evidence(i)[0].test_scores.max().item() for i in own.ranking.candidate}
    assert own.ranking.candidate[0] == max(best, key=best.get)
    loaded = selector.load(run.path)
    assert frame(loaded) == frame(own)
    assert loaded.ranking.brightest.tolist() == pytest.approx(list(best.values()))
    assert "brightest = " in loaded.verdict[0]
    page = loaded.report().read_text("utf-8")
    assert "The highest test score." in page
    select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=run.path)


def test_groups_are_kept_whole_and_belong_to_the_run(data, tmp_path):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    pairs = [i // 2 for i in range(40)]
    store = select_best(*data, groups=pairs, **options).zoo.store
    held = [{int(name) // 2 for name in store.names(split)} for split in ("fit", "validation", "calibration")]
    assert sum(map(len, held)) == 20
    select_best(*data, groups=lambda name: f"lot {int(name) // 2}", **options)  # the same groups by other names
    for other in ([i // 4 for i in range(40)], None):
        with pytest.raises(InputError, match="groups"):
            select_best(*data, groups=other, **options)


def test_what_is_odd_of_the_images_is_in_notes_verdict_and_report(data):
    from html import unescape

    train, test = data[0].clone(), data[1].clone()
    test[3], test[5] = train[7], 0.0
    train[10:20] = train[20]
    odd = select_best(train, test, augmentations={"cutout": [{}]}, preset="tiny", jobs=1)
    text, notes = " ".join(odd.verdict), " ".join(odd.zoo.store.run["notes"])
    page = unescape(odd.report().read_text("utf-8"))
    for told in ("0003 = 0007", "mean brightness", "0005 (0.00)"):
        assert told in text
        assert told in notes
        assert page.count(told) >= 2  # at the top and among the notes
    assert "identical to one of another split" in notes
    assert "another split" not in text
    assert len(odd.zoo.store.images["test"]) == len(test)


class TestSeeds:
    @pytest.fixture(scope="class")
    @classmethod
    def three(cls, data, tmp_path_factory):
        out = tmp_path_factory.mktemp("seeds") / "run"
        return select_best(
            *data, augmentations=GRIDS, preset="tiny", jobs=1, out=out, seeds=3, criterion="score_wasserstein"
        )

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

    def test_it_is_loaded_and_goes_on_with_as_many_seeds(self, three, data):
        assert frame(selector.load(three.path)) == frame(three)
        with pytest.raises(InputError, match="seeds 3 there, 1 now"):
            select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=three.path)


class TestWithoutTestImages:
    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, data, tmp_path_factory):
        out = tmp_path_factory.mktemp("inductive") / "run"
        return select_best(data[0], augmentations=GRIDS, preset="tiny", jobs=1, out=out)

    def test_only_criteria_that_need_none_have_a_column(self, alone):
        wanted = [n for n in selector.criteria.names() if not {"test", "test_scores"} & set(CRITERIA[n].needs)]
        assert list(alone.result.spread.columns) == wanted == ["pseudo_auc", "npd"]
        assert not {"dsv", "rtm"} & set(alone.ranking.columns)
        assert alone.ranking[wanted].notna().all(axis=None)
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
        found = loaded.detect(torch.cat([stripes(5, 9), scratched(5, 10)]))
        assert len(found.table) == 10

    def test_the_margin_has_an_error_bar(self, alone):
        assert alone.result.margin_spread > 0
        assert 0 <= alone.result.share_first <= 1

    @pytest.mark.parametrize("criterion", ["dsv", "rtm", "neighbor_shift"])
    def test_a_criterion_that_needs_them_is_refused_before_training(self, data, tmp_path, criterion):
        with pytest.raises(InputError, match=rf"{criterion}.*test images.*none were given.*pseudo_auc"):
            select_best(data[0], criterion=criterion, preset="tiny", out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_run_goes_on_only_without_them(self, alone, data):
        with pytest.raises(InputError, match="test images"):
            select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, out=alone.path)


class TestImagesThatTookPart:
    """A test image without which others would have been chosen is held against those."""

    @pytest.fixture
    def doubtful(self, run, data):
        held = (cross_fit.CrossFitPValue(3, image_digest(data[1][3]), 0.125),)
        return selector.Selection(run.zoo, run.result, run.result.first(DEFAULT_MEMBERS), held)

    def test_its_p_value_is_the_others_and_no_other_image_changes(self, run, doubtful, data):
        expected = run.detect(data[1][:6]).p_values.clone()
        expected[3] = 0.125
        assert torch.equal(doubtful.detect(data[1][:6]).p_values, expected)
        assert torch.equal(doubtful.test_p_values[:6], expected)
        assert torch.equal(doubtful.detect(data[1][:3]).p_values, expected[:3])

    def test_what_decides_is_kept(self, data, tmp_path):
        """Of one member, so that the choice changes with an image somewhere."""
        run = select_best(*data, augmentations=GRIDS, preset="tiny", jobs=1, criterion="rtm", members=1, out=tmp_path)
        assert load(run.path).cross_fit_p_values == run.cross_fit_p_values
        records = {candidate.id: record for candidate, record in run.zoo.records()}
        gathered = {i: run.zoo.evidence(i) for i in records}
        decision = rules.resolve_decision("rtm", 6)
        again = cross_fit.selections_without_fold(run.zoo.candidates, records, gathered, decision, seed=0, members=1)
        assert [one.row for one in run.cross_fit_p_values] == [
            row for row, ids in enumerate(again) if ids != (run.best.id,)
        ]
        for one in run.cross_fit_p_values:
            (other,) = again[one.row]
            p = p_values(run.zoo.calibration([other])["scores"], run.zoo.evidence(other)[0].test_scores)
            assert one.p_value == p[one.row].item()
            assert one.digest == image_digest(data[1][one.row])
