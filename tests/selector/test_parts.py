"""Parts that a user chooses or brings: settings of kinds, encoders, scorers, kinds and engines of their own."""

import json
import pickle
import subprocess
import sys

import pytest
import torch

import selector
from augmentations import InputError
from detectors import ENCODERS
from selector import select_best
from selector.execution.threads import one_thread


@pytest.fixture(scope="module")
def usual(options):
    """Of ``select_best``: one training."""
    return options | {"augmentations": {"cutout": [{}]}}


def frame(selection):
    return json.loads(selection.ranking.to_json())


class TestSettings:
    @pytest.fixture(scope="class")
    @classmethod
    def two(cls, data, usual):
        return select_best(*data, **usual, detectors={"classifier": [{"steps": 6}, {}], "pixels": [{"side": 8}]})

    def test_each_of_them_is_a_candidate(self, two):
        by_kind = {(c.training.detector, json.dumps(c.training.to_json()["settings"])) for c in two.zoo.candidates}
        assert len(by_kind) == len(two.zoo.candidates) == 3
        steps = [c.training.settings.steps for c in two.zoo.candidates if c.training.detector == "classifier"]
        assert steps == [6, 12]  # 12 are the preset's
        assert [len(two.zoo.store.record(c.id)["losses"]) for c in two.zoo.candidates] == [6, 12, 0]

    def test_a_kind_that_takes_no_augmentation_has_one_candidate_for_all(self, data, usual):
        names = ["cutout", "rotation"]
        selection = select_best(*data, **usual | {"augmentations": {n: [{}] for n in names}}, detectors=["pixels"])
        assert selection.ranking.augmentation.tolist() == ["none"]
        assert selection.ranking.hyperparameters.tolist() == [{}]
        assert selection.zoo.store.families == names

    def test_an_unknown_one_is_refused_with_those_there_are(self, data, usual, tmp_path):
        with pytest.raises(InputError, match=r"setting of detector 'classifier'.*colour.*steps"):
            select_best(*data, **usual, detectors={"classifier": [{"colour": 1}]}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestEncoder:
    def test_it_is_of_the_kinds_that_have_one(self, data, usual):
        short = {"classifier": [{"steps": 2}], "pixels": [{}]}
        selection = select_best(*data, **usual, detectors=short, encoder="resnet18", image_size=16)
        (classifier, _) = selection.zoo.candidates
        assert classifier.training.settings.encoder == "resnet18"
        embeddings = selection.zoo.evidence(classifier.id)[0].train
        assert embeddings.shape[1] == ENCODERS["resnet18"].width != ENCODERS["small"].width
        assert "ok" in selection.ranking.status.tolist()

    def test_a_setting_of_a_kind_comes_before_it(self, data, usual):
        chosen = {"classifier": [{"encoder": "unpadded", "steps": 2}, {"steps": 2}]}
        selection = select_best(*data, **usual, detectors=chosen, encoder="small")
        assert [c.training.settings.encoder for c in selection.zoo.candidates] == ["unpadded", "small"]


class TestOwnScorer:
    @pytest.fixture(scope="class")
    @classmethod
    def two(cls, data, usual, own_parts, tmp_path_factory):
        out = tmp_path_factory.mktemp("scorer") / "run"
        return select_best(*data, **usual, scorers={"own_parts:Knn": [{"k": 1}, {"k": 5}]}, out=out)

    def test_its_settings_give_candidates_that_share_one_training(self, two):
        one, other = two.zoo.candidates
        assert one.training_id == other.training_id
        assert [dict(candidate.scorer.settings) for candidate in (one, other)] == [{"k": 1}, {"k": 5}]
        assert [path.stem for path in (two.path / "trained").iterdir()] == [one.training_id]
        assert sorted(two.ranking.scorer) == ["Knn (k 1)", "Knn (k 5)"]

    def test_scores_are_its_own(self, two):
        for candidate in two.zoo.candidates:
            evidence = two.zoo.evidence(candidate.id)[0]
            distances = torch.cdist(evidence.test, evidence.train).sort(1).values
            expected = distances[:, candidate.scorer.settings["k"] - 1]
            torch.testing.assert_close(evidence.test_scores, expected, atol=1e-4, rtol=1e-3)

    def test_the_score_map_uses_it_too(self, two, data, own_parts):
        maps = []
        for candidate in two.zoo.candidates:
            detector = two.zoo.detector(candidate.id)
            assert isinstance(detector.map_scorer, own_parts.Knn)
            assert detector.map_scorer.k == candidate.scorer.settings["k"]
            maps.append(detector.score_map(data[1][:4]))
        one, five = maps
        assert torch.isfinite(one).all()
        assert (five > one).all()  # the fifth nearest row is farther than the nearest

    def test_the_class_names_the_same_candidates_as_its_reference(self, two, data, usual, own_parts):
        again = select_best(*data, **usual, scorers={own_parts.Knn: [{"k": 1}, {"k": 5}]}, out=two.path)
        assert [c.id for c in again.zoo.candidates] == [c.id for c in two.zoo.candidates]

    def test_it_is_loaded_with_its_ranking(self, two, data):
        loaded = selector.load(two.path)
        assert frame(loaded) == frame(two)
        assert torch.equal(loaded.detector.score(data[1]), two.detector.score(data[1]))

    @pytest.mark.parametrize(
        ("scorers", "message"),
        [
            (["own_parts:Nearest"], "Nearest"),
            (["no_such_module:Knn"], "no_such_module"),
            ({"own_parts:Knn": [{"n": 1}]}, r"knn.*n"),
            (["own_parts:Frozen"], "must be a subclass of Scorer"),
        ],
    )
    def test_one_that_can_not_be_made_is_refused(self, data, usual, own_parts, tmp_path, scorers, message):
        with pytest.raises(InputError, match=message):
            select_best(*data, **usual, scorers=scorers, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_kind_from_outside_is_ranked_with_the_others_and_detects(data, usual, own_parts, tmp_path):
    selection = select_best(*data, **usual, detectors=["classifier", own_parts.Frozen], out=tmp_path / "run")
    assert sorted(selection.ranking.detector) == ["classifier", "own_parts:Frozen"]
    assert set(selection.ranking.status) == {"ok"}
    loaded = selector.load(tmp_path / "run")
    assert frame(loaded) == frame(selection)
    assert len(loaded.detect(data[1][:3]).table) == 3


class Backwards:
    """This process, the last item first, with all that another process would have got: what was pickled."""

    def __init__(self):
        self.items = []

    def run(self, function, items):
        for item in reversed(items):
            self.items.append(item)
            with one_thread():
                work, copy = pickle.loads(pickle.dumps((function, item)))
                work(copy)
            yield item, None


class Subprocess:
    """A fresh process that gets all items, one after another, on its standard input."""

    PROGRAM = "import pickle, sys; function, items = pickle.load(sys.stdin.buffer); [function(item) for item in items]"

    def run(self, function, items):
        sent = pickle.dumps((function, list(items)))
        subprocess.run([sys.executable, "-c", self.PROGRAM], input=sent, check=True)
        yield from ((item, None) for item in items)


class TestEngine:
    def test_a_custom_criterion_gives_the_same_ranking(self, run, data, options):
        engine = Backwards()
        arguments = {name: value for name, value in options.items() if name != "jobs"}
        selection = select_best(*data, **arguments, engine=engine)
        assert len(engine.items) == 3
        assert frame(selection) == frame(run)
        assert selection.verdict == run.verdict

    @pytest.mark.slow
    def test_a_fresh_process_and_two_workers_give_the_same_ranking(self, run, data, options, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        arguments = {name: value for name, value in options.items() if name != "jobs"}
        assert frame(select_best(*data, **arguments, engine=Subprocess())) == frame(run)
        assert frame(select_best(*data, **arguments, jobs=2)) == frame(run)

    @pytest.mark.parametrize("engine", ["tcp://localhost:8786", 3, object(), Backwards])
    def test_what_is_no_engine_is_refused(self, data, tmp_path, engine):
        with pytest.raises(InputError, match=r"engine=.*run\(function, items\)"):
            select_best(*data, preset="tiny", engine=engine, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_number_of_jobs_beside_an_engine_is_refused(self, data, options, tmp_path):
        with pytest.raises(InputError, match=r"jobs=1.*an engine was given"):
            select_best(*data, **options, engine=Backwards(), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
