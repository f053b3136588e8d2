"""What is gathered of a candidate, and how the zoo gets over candidates that fail."""

import json
from dataclasses import replace

import pytest
import torch

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, scorers
from detectors.gaussian import Gaussian
from detectors.training import TrainingDivergedError
from selector.execution.execution import ThisProcess, WorkerDiedError, one_thread
from selector.zoo import validation_anomalies as pseudo
from selector.zoo.candidates import plan
from selector.zoo.store import StorageError
from selector.zoo.zoo import DRAWS, MAP_QUANTILES, Job, Zoo, gather_calibration, gather_evidence, work

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def as_the_engines():
    """Sums depend on the number of threads."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def fitted(candidates, images):
    training = candidates[0].training
    return Classifier(training.make_augmentation(), training.settings, seed=0).fit(images["train"])


@pytest.fixture
def zoo(store, candidates):
    return Zoo(store, candidates, CPU)


@pytest.fixture(scope="module")
def gather(candidates):
    """The evidence of ``fitted``, by the training that made it, with another seed where one is given."""

    def gathered(detector, images, seed=0, bank=None):
        return gather_evidence(detector, images, replace(candidates[0].training, seed=seed), bank or {})

    return gathered


def train(zoo):
    told = []
    zoo.train(ThisProcess(), told.append)
    return told


def kept(zoo):
    return {c.id: (zoo.store.root / "candidates" / c.id / "record.json").read_bytes() for c in zoo.candidates}


class Other(Gaussian):
    """A second scorer."""


class Broken(Gaussian):
    @classmethod
    def fit(cls, rows):
        raise torch.linalg.LinAlgError("the covariance is singular\nand more lines")


@pytest.fixture
def more_scorers(monkeypatch):
    monkeypatch.setitem(scorers.SCORERS, "other", Other)
    monkeypatch.setitem(scorers.SCORERS, "broken", Broken)


@pytest.fixture
def trainings(monkeypatch):
    """Counts trainings."""
    counted = []
    train = Classifier.train

    def counting(self, images, **options):
        counted.append(self.augmentation.hyperparameters())
        return train(self, images, **options)

    monkeypatch.setattr(Classifier, "train", counting)
    return counted


class TestEvidence:
    @pytest.fixture(scope="class")
    @classmethod
    def evidence(cls, fitted, images, gather):
        return gather(fitted, images)

    def test_has_a_row_an_image(self, evidence, images):
        fit, validation, test = (len(images[name]) for name in ("train", "validation", "test"))
        width = evidence["train"].shape[1]
        shapes = {name: tuple(values.shape) for name, values in evidence.items()}
        assert shapes == {
            "train": (fit, width),
            "augmented": (DRAWS, fit, width),
            "test": (test, width),
            "validation": (validation, width),
            "validation_scores": (validation,),
            "augmented_scores": (validation,),
            "test_scores": (test,),
            "pseudo_scores": (validation,),
        }

    def test_augmented_are_as_many_as_train_whatever_the_test_images(self, fitted, images, gather):
        for n in (2, 7):
            found = gather(fitted, {**images, "test": images["test"][:n]})
            assert found["augmented"].shape[1] == len(images["train"])

    def test_nothing_but_the_test_fields_depends_on_the_test_images(self, fitted, images, gather, evidence):
        other = gather(fitted, {**images, "test": images["test"][:2]})
        same = {name for name in evidence if torch.equal(evidence[name], other[name])}
        assert same == evidence.keys() - {"test", "test_scores"}

    def test_without_test_images_nothing_is_said_of_them(self, fitted, images, gather, evidence):
        without = gather(fitted, {name: values for name, values in images.items() if name != "test"})
        assert without.keys() == evidence.keys() - {"test", "test_scores"}

    def test_a_bank_is_scored_but_not_the_own_family(self, fitted, images, gather, evidence):
        own = fitted.augmentation.name
        bank = {own: images["validation"], "other": images["validation"].flip(0)}
        scores = gather(fitted, images, bank=bank)["pseudo_scores"]
        n = len(images["validation"])
        assert torch.equal(scores[:n], evidence["validation_scores"].flip(0))
        assert torch.equal(scores[n:], evidence["pseudo_scores"])

    def test_calibration_images_are_not_seen(self, fitted, images, gather, evidence):
        without = {name: values for name, values in images.items() if name != "calibration"}
        again = gather(fitted, without)
        assert all(torch.equal(evidence[name], again[name]) for name in evidence)

    def test_embeddings_lie_on_the_sphere(self, evidence):
        for name in ("train", "augmented", "test", "validation"):
            norms = evidence[name].norm(dim=-1)
            assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)

    def test_draws_differ_from_each_other_and_follow_the_seed(self, fitted, images, gather, evidence):
        draws = evidence["augmented"]
        assert all(not torch.equal(draws[0], draw) for draw in draws[1:])
        other = gather(fitted, images, seed=1)
        assert not torch.equal(other["augmented"], draws)
        assert torch.equal(other["train"], evidence["train"])

    def test_candidates_of_one_seed_meet_the_same_random_numbers(self, candidates, images, monkeypatch):
        """One augmentation, two ranges of areas: the noise behind every draw is the same."""
        asked = []

        def recorded(self, images, generator):
            asked[-1].append((len(images), generator.get_state()))
            return pseudo_anomalies(self, images, generator)

        pseudo_anomalies = Classifier.pseudo_anomalies
        monkeypatch.setattr(Classifier, "pseudo_anomalies", recorded)
        for candidate in candidates:
            asked.append([])
            training = candidate.training
            detector = Classifier(training.make_augmentation(), training.settings, seed=0).fit(images["train"])
            gather_evidence(detector, images, training, {})
        first, second = asked
        assert [n for n, _ in first] == [len(images["train"])] * DRAWS + [len(images["validation"])]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))
        states = {state.numpy().tobytes() for _, state in first}
        assert len(states) == DRAWS + 1

    def test_what_is_not_finite_is_refused(self, fitted, images, gather, monkeypatch):
        monkeypatch.setattr(Classifier, "score", lambda self, images: torch.full((len(images),), torch.nan))
        with pytest.raises(FloatingPointError, match="validation_scores"):
            gather(fitted, images)

    @pytest.mark.parametrize("which", ["scores", "map"])
    def test_a_calibration_that_is_not_finite_is_refused(self, fitted, images, monkeypatch, which):
        whole = fitted.score_and_map(images["calibration"])
        whole[which == "map"].view(-1)[0] = torch.nan
        monkeypatch.setattr(Classifier, "score_and_map", lambda self, images: whole)
        with pytest.raises(FloatingPointError, match=which):
            gather_calibration(fitted, images)

    def test_calibration_is_scores_and_the_order_of_the_map(self, fitted, images):
        found = gather_calibration(fitted, images)
        maps = fitted.score_map(images["calibration"])
        assert torch.equal(found["scores"], fitted.score(images["calibration"]))
        assert found["maps"].shape == (MAP_QUANTILES,)
        assert found["maps"][0] == maps.min()
        assert found["maps"][-1] == maps.max()
        assert found["maps"][MAP_QUANTILES // 2].item() == pytest.approx(maps.double().quantile(0.5).item(), rel=1e-3)


class TestTraining:
    def test_every_candidate_is_told_of_once_when_it_is_on_disk(self, zoo):
        told = []

        def on_done(candidate):
            told.append(candidate)
            assert zoo.store.finished(candidate)
            # The one before is whole before the next one starts.
            assert len(zoo.unfinished()) == len(zoo.candidates) - len(told)

        zoo.train(ThisProcess(), on_done)
        assert tuple(told) == zoo.candidates
        assert not (zoo.store.root / "progress").exists()

    def test_what_is_finished_is_not_trained_again(self, zoo, trainings):
        train(zoo)
        before = kept(zoo)
        assert train(zoo) == list(zoo.candidates)
        assert kept(zoo) == before
        assert len(trainings) == 2

    def test_progress_is_reported(self, zoo, monkeypatch):
        seen = []
        monkeypatch.setattr(
            type(zoo.store), "report_progress", lambda self, training_id, step, loss: seen.append((training_id, step))
        )
        train(zoo)
        for candidate in zoo.candidates:
            steps = [step for training_id, step in seen if training_id == candidate.training_id]
            assert steps == sorted(steps)
            assert steps[-1] == candidate.training.settings.steps

    def test_a_retry_of_what_is_finished_does_nothing(self, zoo):
        """A worker may be killed after its candidate is kept and before the engine hears of it."""
        train(zoo)
        before = kept(zoo)
        work(Job(zoo.store.root, zoo.candidates[:1], "cpu", (zoo.candidates[0].training,)))
        assert kept(zoo) == before

    def test_an_unknown_candidate_is_refused(self, zoo):
        with pytest.raises(InputError, match="nope"):
            zoo.detector("nope")

    def test_evidence_in_the_store_is_what_was_gathered(self, zoo, fitted, images, gather):
        train(zoo)
        recipes = [candidate.training.make_augmentation() for candidate in zoo.candidates]
        gathered = gather(fitted, images, bank=pseudo.bank(images["validation"], recipes, seed=0))
        draws = zoo.evidence(zoo.candidates[0].id)
        assert len(draws) == DRAWS
        for draw, augmented in zip(draws, gathered.pop("augmented"), strict=True):
            assert torch.equal(draw.augmented, augmented)
            assert all(torch.equal(getattr(draw, name), values) for name, values in gathered.items())
            assert draw.score_is_distance == fitted.score_is_distance


class TestSharedTraining:
    @pytest.fixture
    def shared(self, store, tiny, more_scorers):
        grid = {"cutout": [{"area": (0.02, 0.1)}, {"area": (0.1, 0.2)}]}
        names = ("gaussian", "broken", "other")
        return Zoo(store, plan(grid, ("classifier",), names, detectors.preset(tiny), seed=0), CPU)

    def test_scorers_share_one_training(self, shared, trainings):
        assert set(train(shared)) == set(shared.candidates)
        assert len(trainings) == 2
        assert len(list((shared.store.root / "trained").iterdir())) == 2

    def test_a_scorer_that_fails_fails_alone(self, shared):
        train(shared)
        statuses = {(c.scorer, shared.store.record(c.id)["status"]) for c in shared.candidates}
        assert statuses == {("gaussian", "ok"), ("other", "ok"), ("broken", "failed")}
        record = next(shared.store.record(c.id) for c in shared.candidates if c.scorer == "broken")
        assert record["reason"] == "LinAlgError: the covariance is singular"
        assert "Traceback" in record["traceback"]

    def test_a_failed_candidate_has_no_detector(self, shared):
        train(shared)
        broken = next(c for c in shared.candidates if c.scorer == "broken")
        for ask in (shared.detector, shared.evidence):
            with pytest.raises(InputError, match="covariance is singular"):
                ask(broken.id)

    def test_a_training_whose_first_scorer_is_finished_goes_on_from_its_weights(self, shared, trainings, monkeypatch):
        """Training again could give other bits on a GPU, and the finished scorer belongs to these."""
        keep, calls = type(shared.store).keep, []

        def killed(self, candidate, *arguments):
            calls.append(candidate)
            if len(calls) == 2:
                raise KeyboardInterrupt
            keep(self, candidate, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(type(shared.store), "keep", killed)
            with pytest.raises(KeyboardInterrupt):
                train(shared)
        first = calls[0]
        weights = shared.store.root / "trained" / f"{first.training_id}.safetensors"
        before = weights.read_bytes(), weights.stat().st_mtime_ns
        assert len(trainings) == 1
        train(shared)
        assert len(trainings) == 2
        assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
        third = next(c for c in shared.candidates if c.training == first.training and c.scorer == "other")
        one, other = shared.evidence(first.id)[0], shared.evidence(third.id)[0]
        assert torch.equal(one.test, other.test)
        assert torch.equal(one.test_scores, other.test_scores)
        assert shared.store.record(third.id)["losses"] == shared.store.record(first.id)["losses"]

    def test_damaged_weights_are_made_again(self, shared, trainings):
        train(shared)
        whole = shared.evidence(shared.candidates[0].id)[0]
        weights = shared.store.root / "trained" / f"{shared.candidates[0].training_id}.safetensors"
        weights.write_bytes(b"garbage")
        record = shared.store.root / "candidates" / shared.candidates[2].id / "record.json"
        record.unlink()
        train(shared)
        assert len(trainings) == 3
        assert torch.equal(shared.detector(shared.candidates[0].id).embed(shared.store.images["test"]), whole.test)


class TestFailures:
    @pytest.mark.parametrize(
        "error",
        [
            TrainingDivergedError("the loss was nan between steps 3 and 4"),
            torch.OutOfMemoryError("no memory left\non the device"),
            FloatingPointError("not finite"),
            MemoryError("too large"),
            torch.linalg.LinAlgError("singular"),
            ValueError("a number that no function takes"),
        ],
    )
    def test_a_training_that_fails_is_recorded_and_the_others_go_on(self, zoo, monkeypatch, error):
        first, second = zoo.candidates
        train_one = Classifier.train

        def failing(self, images, **options):
            if self.augmentation.hyperparameters() == first.hyperparameters:
                raise error
            return train_one(self, images, **options)

        monkeypatch.setattr(Classifier, "train", failing)
        assert train(zoo) == [first, second]
        record = zoo.store.record(first.id)
        assert record["status"] == "failed"
        assert record["reason"] == f"{type(error).__name__.lstrip('_')}: {str(error).splitlines()[0]}"
        assert type(error).__name__ in record["traceback"]
        assert zoo.store.record(second.id)["status"] == "ok"
        assert zoo.unfinished() == []

    def test_a_training_that_really_diverges(self, store, candidates, tiny):
        wild = replace(detectors.preset(tiny), learning_rate=1e30)
        zoo = Zoo(store, [*plan({"cutout": [{}]}, ("classifier",), ("gaussian",), wild, 0), candidates[0]], CPU)
        train(zoo)
        records = [record for _, record in zoo.records()]
        assert [record["status"] for record in records] == ["failed", "ok"]
        assert any(word in records[0]["reason"] for word in ("TrainingDivergedError", "FloatingPointError"))
        json.loads((store.root / "candidates" / zoo.candidates[0].id / "record.json").read_text())

    @pytest.mark.parametrize("error", [AttributeError, TypeError, KeyError, IndexError, AssertionError, NameError])
    def test_our_own_mistakes_are_not_swallowed(self, zoo, monkeypatch, error):
        def failing(self, images, **options):
            raise error("a mistake")

        monkeypatch.setattr(Classifier, "train", failing)
        with pytest.raises(error, match="a mistake"):
            train(zoo)
        assert len(zoo.unfinished()) == 2

    @pytest.mark.parametrize("error", [KeyboardInterrupt, StorageError("no space"), SystemExit])
    def test_what_is_not_about_the_candidate_is_no_record(self, zoo, monkeypatch, error):
        def failing(self, images, **options):
            raise error

        monkeypatch.setattr(Classifier, "train", failing)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            train(zoo)
        assert len(zoo.unfinished()) == 2

    def test_a_candidate_whose_worker_kept_dying_is_recorded(self, zoo):
        class Deadly:
            def run(self, function, items):
                first, second = items
                yield first, WorkerDiedError("its worker process was killed 3 times")
                function(second)
                yield second, None

        told = []
        zoo.train(Deadly(), told.append)
        assert told == list(zoo.candidates)
        record = zoo.store.record(zoo.candidates[0].id)
        assert record["status"] == "failed"
        assert record["reason"] == "WorkerDiedError: its worker process was killed 3 times"

    def test_a_candidate_that_was_kept_before_its_worker_died_is_ok(self, zoo):
        class LateDeath:
            def run(self, function, items):
                for item in items:
                    function(item)
                    yield item, WorkerDiedError("after the work")

        zoo.train(LateDeath())
        assert {record["status"] for _, record in zoo.records()} == {"ok"}

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


def test_draws_are_named_streams():
    """The purpose decides the stream: as many as there are draws, and one for validation."""
    names = [*range(DRAWS), "validation"]
    streams = {torch.rand(4, generator=generator(0, "augmented", name)).numpy().tobytes() for name in names}
    assert len(streams) == DRAWS + 1
