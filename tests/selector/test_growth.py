"""A run folder from call to call: what is finished is never trained again, and a call with more makes the run grow."""

import json
import shutil

import pandas as pd
import pytest
import torch

import selector
from augmentations import InputError
from detectors import Classifier, files
from selector import select_best
from selector.select import NothingToSelectError
from selector.zoo.store import Store


def frame(selection):
    return json.loads(selection.ranking.to_json())


def times(root, *patterns):
    """By path, when files were written last."""
    paths = [path for pattern in patterns for path in root.glob(pattern) if path.is_file()]
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in paths}


def evidence(selection, candidate_id):
    """The stored tensors of a candidate, by name."""
    return files.read(selection.path / "candidates" / candidate_id / "evidence.safetensors")[0]


def assert_equal_runs(one, other):
    """The same candidates with the same evidence and calibration, bit for bit, in the same order."""
    pd.testing.assert_frame_equal(one.ranking, other.ranking, check_exact=True)
    assert one.verdict == other.verdict
    assert torch.equal(one.zoo.calibration([m.id for m in one.members])["scores"], calibration_of(other))
    for candidate in one.zoo.candidates:
        tensors, others = evidence(one, candidate.id), evidence(other, candidate.id)
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def calibration_of(selection):
    return selection.zoo.calibration([member.id for member in selection.members])["scores"]


def test_a_finished_run_is_not_trained_again(run, run_copy, data, options):
    before = times(run_copy, "candidates/*/*", "trained/*", "images.safetensors", "validation_anomalies.safetensors")
    assert len(before) == 3 * 4 + 3 + 2
    again = select_best(*data, **options, out=run_copy)
    assert frame(again) == frame(run)
    assert times(run_copy, *before) == before


def test_another_criterion_ranks_the_same_zoo(run_copy, data, options):
    again = select_best(*data, **options, out=run_copy, criterion="dsv")
    assert again.result.rule.names == ("dsv",)


def test_a_run_folder_made_with_other_settings_is_refused(run, data, options):
    with pytest.raises(InputError, match=r"other settings.*seed.*0.*1"):
        select_best(*data, **options, out=run.path, seed=1)
    with pytest.raises(InputError, match="test images"):
        select_best(data[0], data[1][1:], **options, out=run.path)


def test_a_custom_criterion_decides_and_is_shown_when_its_function_is_gone(run_copy, data, options):
    def brightest(evidence):
        """The highest test score."""
        return evidence.test_scores.max()

    own = select_best(*data, **options, out=run_copy, criterion=brightest)
    best = {i: own.zoo.evidence(i)[0].test_scores.max().item() for i in own.ranking.candidate}
    assert own.ranking.candidate[0] == max(best, key=best.get)
    loaded = selector.load(run_copy)
    assert frame(loaded) == frame(own)
    assert loaded.ranking.brightest.tolist() == pytest.approx(list(best.values()))
    assert "brightest = " in loaded.verdict[0]
    page = loaded.report().read_text("utf-8")
    assert "The highest test score." in page


class TestFamilies:
    """Augmentations of another family: their validation anomalies are scored by who is finished already."""

    @pytest.fixture(scope="class")
    @classmethod
    def small(cls, data, options, tmp_path_factory):
        """Of one family, whose candidates have nothing else to be judged by."""
        fewer = {"augmentations": {"cutout": options["augmentations"]["cutout"]}}
        return select_best(*data, **options | fewer, out=tmp_path_factory.mktemp("small") / "run")

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, small):
        """When they were written, before the run grew."""
        return times(small.path, "trained/*", "candidates/*/scorer.safetensors", "candidates/*/calibration.safetensors")

    @pytest.fixture(scope="class")
    @classmethod
    def grown(cls, small, weights, data, options, tmp_path_factory):
        root = shutil.copytree(small.path, tmp_path_factory.mktemp("grown") / "run")
        return select_best(*data, **options, out=root)

    def test_finished_candidates_are_not_trained_again(self, small, grown, weights):
        assert len(weights) == 3 * len(small.zoo.candidates) == 6
        assert times(grown.path, *weights) == weights
        assert len(times(grown.path, "trained/*")) == 3

    def test_their_evidence_gains_the_scores_of_the_new_family_alone(self, small, grown):
        for candidate in small.zoo.candidates:
            before, after = evidence(small, candidate.id), evidence(grown, candidate.id)
            assert after.keys() - before.keys() == {"pseudo_scores.cutpaste"}
            assert all(torch.equal(after[name], before[name]) for name in before)
            detector, anomalies = grown.zoo.detector(candidate.id), grown.zoo.store.validation_anomalies
            assert torch.equal(detector.score(anomalies["cutpaste"]), after["pseudo_scores.cutpaste"])
            assert grown.zoo.store.record(candidate.id)["families"] == ["cutout", "cutpaste"]

    def test_the_validation_anomalies_that_were_there_stay(self, small, grown):
        before, after = small.zoo.store.validation_anomalies, grown.zoo.store.validation_anomalies
        assert list(before) == ["cutout"]
        assert list(after) == ["cutout", "cutpaste"]
        assert torch.equal(after["cutout"], before["cutout"])

    def test_it_is_the_run_of_all_from_the_start(self, grown, run):
        assert_equal_runs(grown, run)

    def test_it_is_loaded(self, grown):
        assert frame(selector.load(grown.path)) == frame(grown)

    def test_a_stop_amid_the_growth_is_made_up_for(self, small, data, options, run, tmp_path, monkeypatch):
        """One candidate has the new scores, the other has not."""
        root = shutil.copytree(small.path, tmp_path / "run")
        extend, extended = Store.extend_evidence, []

        def stop(store, candidate, *rest):
            if extended:
                raise KeyboardInterrupt
            extended.append(candidate.id)
            extend(store, candidate, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "extend_evidence", stop)
            with pytest.raises(KeyboardInterrupt):
                select_best(*data, **options, out=root)
        assert_equal_runs(select_best(*data, **options, out=root), run)

    def test_a_call_that_leaves_candidates_out_is_refused_and_names_them(self, grown, data, options):
        before = times(grown.path, "*", "*/*", "*/*/*")
        cells = options["augmentations"]
        fewer_of_one, others = cells | {"cutout": [{}]}, {"cutout": cells["cutout"], "rotation": [{}]}
        for fewer, name in ((others, "cutpaste_3way"), (fewer_of_one, "cutout")):
            with pytest.raises(InputError, match=rf"leaves out \({name}.*, seed 0\).*name them too"):
                select_best(*data, **options | {"augmentations": fewer}, out=grown.path)
        assert times(grown.path, *before) == before
        assert Store(grown.path).families == ["cutout", "cutpaste"]  # that of rotation did not join


class TestOtherParts:
    """Seeds, scorers, kinds and settings: what is new is trained, what is there is not."""

    @pytest.fixture(scope="class")
    @classmethod
    def usual(cls, options):
        return options | {"augmentations": {"cutout": [{}]}}

    @pytest.fixture(scope="class")
    @classmethod
    def small(cls, data, usual, tmp_path_factory):
        return select_best(*data, **usual, out=tmp_path_factory.mktemp("parts") / "run")

    @pytest.fixture
    def grow(self, small, data, usual, tmp_path):
        """Grow a copy of the run of one candidate; what was there must stay as it is."""

        def grow(**more):
            root = shutil.copytree(small.path, tmp_path / "run")
            before = times(root, "trained/*", "candidates/*/*")
            grown = select_best(*data, **usual | more, out=root)
            assert times(root, *before) == before
            assert {c.id for c in small.zoo.candidates} < {c.id for c in grown.zoo.candidates}
            assert len(grown.zoo.store.trials) == len(grown.ranking)
            return grown

        return grow

    def n_trainings(self, selection):
        return len(times(selection.path, "trained/*"))

    def test_seeds_are_added(self, grow, data, usual):
        grown = grow(seeds=2)
        assert self.n_trainings(grown) == 2
        assert len(grown.ranking) == 1
        assert_equal_runs(grown, select_best(*data, **usual, seeds=2))

    def test_a_scorer_shares_the_training(self, grow, own_parts, data, usual):
        scorers = ["gaussian", own_parts.Knn]
        grown = grow(scorers=scorers)
        assert self.n_trainings(grown) == 1
        assert sorted(grown.ranking.scorer) == ["Knn (k 1)", "gaussian"]
        assert_equal_runs(grown, select_best(*data, **usual, scorers=scorers))
        with pytest.raises(InputError, match="leaves out"):
            select_best(*data, **usual, scorers=[own_parts.Knn], out=grown.path)

    def test_another_kind_is_trained(self, grow, data, usual):
        kinds = ["classifier", "pixels"]
        grown = grow(detectors=kinds)
        assert sorted(grown.ranking.detector) == kinds
        assert_equal_runs(grown, select_best(*data, **usual, detectors=kinds))
        with pytest.raises(InputError, match=r"leaves out \(pixels, seed 0\)"):
            select_best(*data, **usual, out=grown.path)

    def test_other_settings_of_a_kind_are_trained(self, grow):
        grown = grow(detectors={"classifier": [{"steps": 6}, {}]})
        assert self.n_trainings(grown) == 2
        steps = [candidate.training.settings.steps for candidate in grown.zoo.candidates]
        assert steps == [6, 12]


class TestRetry:
    """What lacked memory is no result: the ranking says so, and the same call tries it again."""

    def test_the_next_call_trains_what_lacked_memory(self, data, options, run, tmp_path, monkeypatch):
        train_one = Classifier.train

        def short_of_memory(self, images, **rest):
            if self.augmentation.name == "cutpaste_3way":
                raise MemoryError("too large")
            return train_one(self, images, **rest)

        with monkeypatch.context() as patch:
            patch.setattr(Classifier, "train", short_of_memory)
            first = select_best(*data, **options, out=tmp_path / "run")
        table = first.ranking.set_index("augmentation")
        assert table.status["cutpaste_3way"] == "failed"
        assert table.reason["cutpaste_3way"] == "MemoryError: too large"
        assert_equal_runs(select_best(*data, **options, out=tmp_path / "run"), run)

    def test_with_all_of_them_failed_it_says_that_the_same_command_tries_again(
        self, data, options, run, tmp_path, monkeypatch
    ):
        def short_of_memory(self, images, **rest):
            raise MemoryError("too large")

        with monkeypatch.context() as patch:
            patch.setattr(Classifier, "train", short_of_memory)
            with pytest.raises(NothingToSelectError, match="the same command tries those again"):
                select_best(*data, **options, out=tmp_path / "run")
        assert_equal_runs(select_best(*data, **options, out=tmp_path / "run"), run)
