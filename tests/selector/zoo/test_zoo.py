"""The zoo: what is trained, by which engine, what becomes of crashes, and the ensembles of its candidates."""

import pytest
import torch

from augmentations import InputError
from detectors import Classifier, Ensemble
from selector.execution import Serial, WorkerDiedError
from selector.execution.threads import one_thread
from selector.zoo.store import Store
from selector.zoo.training import DRAWS, Job, gather_evidence, train_candidates
from selector.zoo.zoo import LostWorkError, Zoo

CPU = torch.device("cpu")


@pytest.fixture
def zoo(store, candidates):
    return Zoo(store, candidates, CPU)


@pytest.fixture
def trainings(monkeypatch):
    """The hyperparameters of every training, as they happen."""
    counted = []
    train = Classifier.train

    def counting(self, images, **options):
        counted.append(self.augmentation.hyperparameters())
        return train(self, images, **options)

    monkeypatch.setattr(Classifier, "train", counting)
    return counted


def train(zoo):
    finished = []
    zoo.train(Serial(), finished.append)
    return finished


def records_of(zoo):
    return {c.id: (zoo.store.root / "candidates" / c.id / "record.json").read_bytes() for c in zoo.candidates}


class TestTraining:
    def test_every_candidate_is_reported_once_when_it_is_on_disk(self, zoo):
        done = []

        def on_done(candidate):
            done.append(candidate)
            assert zoo.store.is_finished(candidate)
            # The one before is whole before the next one starts.
            assert len(zoo.unfinished()) == len(zoo.candidates) - len(done)

        zoo.train(Serial(), on_done)
        assert tuple(done) == zoo.candidates
        assert not (zoo.store.root / "progress").exists()

    def test_what_is_finished_is_not_trained_again(self, zoo, trainings):
        train(zoo)
        before = records_of(zoo)
        assert train(zoo) == list(zoo.candidates)
        assert records_of(zoo) == before
        assert len(trainings) == 2

    def test_progress_is_reported(self, zoo, monkeypatch):
        reports = []

        def report(self, training_id, step, loss):
            reports.append((training_id, step))

        monkeypatch.setattr(Store, "report_progress", report)
        train(zoo)
        for candidate in zoo.candidates:
            steps = [step for training_id, step in reports if training_id == candidate.training_id]
            assert steps == sorted(steps)
            assert steps[-1] == candidate.training.settings.steps

    def test_a_retry_of_what_is_finished_does_nothing(self, zoo):
        """A worker may be killed after its candidate is stored and before the engine hears of it."""
        train(zoo)
        before = records_of(zoo)
        train_candidates(Job(zoo.store.root, zoo.candidates[:1], "cpu"))
        assert records_of(zoo) == before

    def test_an_unknown_candidate_is_refused(self, zoo):
        with pytest.raises(InputError, match="nope"):
            zoo.detector("nope")

    def test_evidence_in_the_store_is_what_was_gathered(self, zoo, images):
        train(zoo)
        candidate = zoo.candidates[0]
        detector = zoo.detector(candidate.id)
        with one_thread():
            gathered = gather_evidence(detector, images, candidate.training, zoo.store.validation_anomalies)
        gathered["pseudo_scores"] = gathered.pop("pseudo_scores.resampled")  # its own family is the only one
        draws = zoo.evidence(candidate.id)
        assert len(draws) == DRAWS
        for draw, augmented in zip(draws, gathered.pop("augmented"), strict=True):
            assert torch.equal(draw.augmented, augmented)
            assert all(torch.equal(getattr(draw, name), values) for name, values in gathered.items())
            assert draw.score_is_distance == detector.score_is_distance


class TestCrashes:
    def test_a_candidate_whose_worker_kept_dying_is_recorded(self, zoo):
        class Deadly:
            def run(self, function, items):
                first, second = items
                yield first, WorkerDiedError("its worker process was killed 3 times")
                function(second)
                yield second, None

        done = []
        zoo.train(Deadly(), done.append)
        assert done == list(zoo.candidates)
        record = zoo.store.record(zoo.candidates[0].id)
        assert record["status"] == "failed"
        assert record["reason"] == "WorkerDiedError: its worker process was killed 3 times"
        assert zoo.unfinished() == [zoo.candidates[0]]
        zoo.train(Serial())
        assert {record["status"] for _, record in zoo.records()} == {"ok"}

    def test_a_candidate_that_was_stored_before_its_worker_died_is_ok(self, zoo):
        class LateDeath:
            def run(self, function, items):
                for item in items:
                    function(item)
                    yield item, WorkerDiedError("after the work")

        zoo.train(LateDeath())
        assert {record["status"] for _, record in zoo.records()} == {"ok"}

    def test_an_engine_that_loses_an_item_is_named(self, zoo):
        class Forgetful:
            def run(self, function, items):
                function(items[0])
                yield items[0], None

        with pytest.raises(LostWorkError, match="engine Forgetful ended without a result of 1 candidates"):
            zoo.train(Forgetful())
        assert zoo.unfinished() == [zoo.candidates[1]]
        zoo.train(Serial())
        assert zoo.unfinished() == []

    def test_a_listener_that_raises_ends_the_engines_work(self, zoo):
        ended = []

        class Watched:
            def run(self, function, items):
                try:
                    for item in items:
                        function(item)
                        yield item, None
                finally:
                    ended.append(True)

        def on_done(candidate):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            zoo.train(Watched(), on_done)
        assert ended == [True]
        assert len(zoo.unfinished()) == 1


class TestCandidates:
    def test_they_join_behind_those_that_are_there_each_once(self, store, candidates):
        zoo = Zoo(store, candidates[:1], CPU)
        zoo.add([candidates[1], candidates[0]])
        assert zoo.candidates == tuple(candidates)
        assert zoo[candidates[1].id] == candidates[1]

    def test_a_batch_is_trained_alone(self, zoo, trainings):
        done = []
        zoo.train(Serial(), done.append, batch=zoo.candidates[1:])
        assert done == list(zoo.candidates[1:])
        assert zoo.unfinished() == list(zoo.candidates[:1])
        assert len(trainings) == 1


class TestEnsemble:
    @pytest.fixture
    def both(self, candidates):
        return [candidate.id for candidate in candidates]

    @pytest.fixture
    def zoo(self, trained, candidates):
        return Zoo(trained, candidates, CPU)

    def test_it_is_stored_with_its_calibration_and_the_same_when_it_is_loaded(self, zoo, both, images, candidates):
        made = zoo.ensemble(both)
        assert isinstance(made, Ensemble)
        scores = made.score(images["test"])
        again = Zoo(zoo.store, candidates, CPU)
        assert torch.equal(again.ensemble(both).score(images["test"]), scores)
        assert torch.equal(again.calibration(both)["scores"], made.score(images["calibration"]))

    def test_its_scores_are_those_of_its_members_together(self, zoo, both, images):
        evidence = zoo.scores(both)
        made = zoo.ensemble(both)
        assert evidence.score_is_distance == made.score_is_distance
        torch.testing.assert_close(evidence.test_scores, made.score(images["test"]))
        torch.testing.assert_close(evidence.validation_scores, made.score(images["validation"]))
        assert evidence.available == {"validation_scores", "test_scores"}

    def test_one_member_is_the_candidate_itself(self, zoo, both, images):
        first = both[:1]
        assert torch.equal(zoo.ensemble(first).score(images["test"]), zoo.evidence(both[0])[0].test_scores)
        assert zoo.scores(first).available == zoo.evidence(both[0])[0].available
        assert zoo.calibration(first).keys() == zoo.store.calibration(both[0]).keys()
        assert zoo.store.ensemble(first) is None
