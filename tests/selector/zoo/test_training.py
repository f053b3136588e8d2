"""What is gathered of a candidate, trainings that several scorers share, and candidates that fail."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, Kind, Preset, ScorerSpec, get_preset
from detectors.frozen_levels import FrozenKind
from detectors.scorers import Gaussian
from detectors.shared_features import images_digest
from detectors.training import TrainingDivergedError
from selector.execution import Serial, WorkerDiedError
from selector.execution.threads import one_thread
from selector.zoo.disk import StorageError
from selector.zoo.plan import Plan
from selector.zoo.prepare import prepare
from selector.zoo.store import Store
from selector.zoo.training import (
    DRAWS,
    MAP_QUANTILES,
    gather_calibration,
    gather_evidence,
    train_and_evaluate,
)
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")


class Other(Gaussian):
    """A second scorer."""

    name = "other"


class Broken(Gaussian):
    """A scorer that can't be fitted."""

    name = "broken"

    def fit(self, rows):
        raise torch.linalg.LinAlgError("the covariance is singular\nand more lines")


@dataclass(frozen=True)
class AverageSettings:
    image_size: int


class Average(Kind):
    """Learns from normal images alone."""

    name = "average"
    Settings = AverageSettings
    uses_augmentation = False

    def build_encoder(self, channels):
        return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.PixelUnshuffle(4))


@pytest.fixture(scope="module", autouse=True)
def as_the_engines():
    """Sums depend on the number of threads."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def fitted(finished, candidates):
    return finished.detector(candidates[0], CPU)


@pytest.fixture(scope="module")
def gather(candidates):
    """The evidence of a detector, by the training of ``fitted``, with another seed where one is given."""

    def gathered(detector, images, seed=0, anomalies=None):
        return gather_evidence(detector, images, replace(candidates[0].training, seed=seed), anomalies or {})

    return gathered


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


class TestEvidence:
    @pytest.fixture(scope="class")
    @classmethod
    def evidence(cls, fitted, images, gather):
        return gather(fitted, images)

    def test_has_one_row_per_image(self, evidence, images):
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
            "pseudo_scores.resampled": (validation,),
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

    def test_validation_anomalies_are_scored_but_not_those_of_the_own_family(self, fitted, images, gather, evidence):
        anomalies = {"cutout": images["validation"], "other": images["validation"].flip(0)}
        found = gather(fitted, images, anomalies=anomalies)
        assert found.keys() - evidence.keys() == {"pseudo_scores.other"}
        assert torch.equal(found["pseudo_scores.other"], evidence["validation_scores"].flip(0))

    def test_calibration_images_play_no_part(self, fitted, images, gather, evidence):
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

    def test_candidates_of_one_seed_draw_the_same_random_numbers(self, finished, candidates, images, monkeypatch):
        """One augmentation, two ranges of areas: the noise behind every draw is the same."""
        drawn = []

        def recorded(self, images, generator):
            drawn[-1].append((len(images), generator.get_state()))
            return pseudo_anomalies(self, images, generator)

        pseudo_anomalies = Classifier.pseudo_anomalies
        monkeypatch.setattr(Classifier, "pseudo_anomalies", recorded)
        for candidate in candidates:
            drawn.append([])
            gather_evidence(finished.detector(candidate, CPU), images, candidate.training, {})
        first, second = drawn
        assert [n for n, _ in first] == [len(images["train"])] * DRAWS + [len(images["validation"])]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))
        states = {state.numpy().tobytes() for _, state in first}
        assert len(states) == DRAWS + 1

    def test_what_is_not_finite_is_refused(self, fitted, images, gather, monkeypatch):
        def broken(self, images):
            embeddings = self.embed(images)
            return embeddings, torch.full((len(images),), torch.nan)

        monkeypatch.setattr(Classifier, "embed_and_score", broken)
        with pytest.raises(FloatingPointError, match="augmented_scores"):
            gather(fitted, images)

    @pytest.mark.parametrize("which", ["scores", "map"])
    def test_a_calibration_that_is_not_finite_is_refused(self, fitted, images, monkeypatch, which):
        whole = fitted.score_and_map(images["calibration"])
        whole[which == "map"].view(-1)[0] = torch.nan
        monkeypatch.setattr(Classifier, "score_and_map", lambda self, images: whole)
        with pytest.raises(FloatingPointError, match=which):
            gather_calibration(fitted, images)

    def test_maps_that_are_the_same_everywhere_are_refused(self, fitted, images, monkeypatch):
        scores, maps = fitted.score_and_map(images["calibration"])
        monkeypatch.setattr(Classifier, "score_and_map", lambda self, images: (scores, torch.zeros_like(maps)))
        with pytest.raises(FloatingPointError, match="the same at every pixel"):
            gather_calibration(fitted, images)

    def test_calibration_is_scores_and_the_order_of_the_map(self, fitted, images):
        found = gather_calibration(fitted, images)
        maps = fitted.score_map(images["calibration"])
        assert torch.equal(found["scores"], fitted.score(images["calibration"]))
        assert torch.equal(found["map_maxima"], maps.flatten(1).max(1).values)
        assert found["maps"].shape == (MAP_QUANTILES,)
        assert found["maps"][0] == maps.min()
        assert found["maps"][-1] == maps.max()
        assert found["maps"][MAP_QUANTILES // 2].item() == pytest.approx(maps.double().quantile(0.5).item(), rel=1e-3)

    def test_a_kind_without_pseudo_anomalies_has_no_evidence_of_them(self, images, tiny):
        (candidate,) = Plan.of(["cutout"], [Average], ["gaussian"], get_preset(tiny)).candidates(seed=0)
        detector = candidate.make_detector("cpu").fit(images["train"])
        anomalies = {"cutout": images["validation"], "cutpaste": images["validation"]}
        evidence = gather_evidence(detector, images, candidate.training, anomalies)
        assert not any("augmented" in name for name in evidence)
        assert {"pseudo_scores.cutout", "pseudo_scores.cutpaste"} <= evidence.keys()


class TestResults:
    """The generator behind the work: it stores nothing."""

    @pytest.fixture
    def same(self, tiny):
        grid = {"cutout": [{"area": (0.02, 0.1)}]}
        return Plan.of(grid, ("classifier",), ("gaussian", Other, Broken), get_preset(tiny)).candidates(seed=0)

    def test_a_training_is_done_once_and_its_weights_come_with_the_first_result(self, same, images, trainings):
        steps = []
        anomalies = {"cutpaste": images["validation"]}
        results = list(train_and_evaluate(same, images, anomalies, "cpu", None, lambda *at: steps.append(at)))
        assert [result.candidate for result in results] == same
        assert [result.record["status"] for result in results] == ["ok", "ok", "failed"]
        assert [result.weights is None for result in results] == [False, True, True]
        assert results[0].record["families"] == ["cutpaste"]
        assert steps[-1][0] == same[0].training.settings.steps
        assert len(trainings) == 1
        assert results[2].detector is results[2].evidence is results[2].calibration is None

    def test_it_continues_from_a_detector_that_is_trained(self, same, images, fitted, trainings):
        results = list(train_and_evaluate(same[:2], images, {}, "cpu", fitted))
        assert trainings == []
        assert [result.weights for result in results] == [None, None]
        assert torch.equal(results[0].evidence["test_scores"], fitted.score(images["test"]))


class TestFamiliesThatJoin:
    """Validation anomalies of a family that joined the run are scored without training again."""

    @pytest.fixture
    def grown(self, trained, images):
        trained.add_validation_anomalies({"blur": images["validation"].flip(0)})
        return trained

    def test_a_finished_candidate_is_completed(self, grown, candidates, images, trainings):
        before = grown.evidence(candidates[0].id)[0]
        zoo = Zoo(grown, candidates, CPU)
        assert zoo.unfinished() == list(candidates)
        assert train(zoo) == list(candidates)
        assert zoo.unfinished() == []
        assert trainings == []
        after = grown.evidence(candidates[0].id)[0]
        assert torch.equal(after.pseudo_scores[: len(images["validation"])], before.validation_scores.flip(0))

    def test_it_has_the_evidence_that_it_would_have_had_from_the_start(self, grown, candidates, images, tmp_path):
        train(Zoo(grown, candidates, CPU))
        store = Store(tmp_path / "other")
        with store.locked():
            augmentations = [candidate.training.make_augmentation() for candidate in candidates]
            prepare(store, {"settings": {"seed": 0}, "names": {}}, images, augmentations, seed=0)
            store.add_validation_anomalies({"blur": images["validation"].flip(0)})
        train(Zoo(store, candidates, CPU))
        for candidate in candidates:
            for completed, whole in zip(grown.evidence(candidate.id), store.evidence(candidate.id), strict=True):
                assert completed.available == whole.available
                assert all(torch.equal(getattr(completed, name), getattr(whole, name)) for name in whole.available)

    def test_a_candidate_whose_new_scores_are_not_finite_has_failed_and_the_others_are_completed(
        self, grown, candidates, monkeypatch
    ):
        score, calls = Classifier.score, []

        def first_is_nan(self, images):
            calls.append(len(images))
            return torch.full((len(images),), torch.nan) if len(calls) == 1 else score(self, images)

        zoo = Zoo(grown, candidates, CPU)
        with monkeypatch.context() as patch:
            patch.setattr(Classifier, "score", first_is_nan)
            assert train(zoo) == list(candidates)
        assert zoo.unfinished() == []
        first, second = (record for _, record in zoo.records())
        assert first["status"] == "failed"
        assert first["reason"] == "FloatingPointError: pseudo_scores.blur of the trained detector are not finite"
        assert second["status"] == "ok"
        assert second["families"] == ["cutout", "blur"]

    def test_a_failed_candidate_stays_as_it_is(self, grown, candidates, tiny):
        (broken,) = Plan.of({"cutout": [{}]}, ("classifier",), [Broken], get_preset(tiny)).candidates(seed=0)
        train(Zoo(grown, [broken], CPU))
        before = grown.record(broken.id)
        grown.add_validation_anomalies({"late": grown.images["validation"]})
        train(Zoo(grown, [broken], CPU))
        assert grown.record(broken.id) == before


class TestSharedTraining:
    @pytest.fixture
    def shared(self, store, tiny):
        grid = {"cutout": [{"area": (0.02, 0.1)}, {"area": (0.1, 0.2)}]}
        plan = Plan.of(grid, ("classifier",), ("gaussian", Broken, Other), get_preset(tiny))
        return Zoo(store, plan.candidates(seed=0), CPU)

    def test_scorers_share_one_training(self, shared, trainings):
        assert set(train(shared)) == set(shared.candidates)
        assert len(trainings) == 2
        assert len(list((shared.store.root / "trained").iterdir())) == 2

    def test_a_scorer_that_fails_fails_alone(self, shared):
        train(shared)
        statuses = {(c.scorer.describe(), shared.store.record(c.id)["status"]) for c in shared.candidates}
        assert statuses == {("gaussian", "ok"), ("Other", "ok"), ("Broken", "failed")}
        record = next(shared.store.record(c.id) for c in shared.candidates if c.scorer.kind is Broken)
        assert record["reason"] == "LinAlgError: the covariance is singular"
        assert "Traceback" in record["traceback"]

    def test_a_failed_candidate_has_no_detector(self, shared):
        train(shared)
        broken = next(c for c in shared.candidates if c.scorer.kind is Broken)
        for read in (shared.detector, shared.evidence):
            with pytest.raises(InputError, match="covariance is singular"):
                read(broken.id)

    def test_a_training_whose_first_scorer_is_finished_continues_from_its_weights(self, shared, trainings, monkeypatch):
        """Training again could give other bits on a GPU, and the finished scorer belongs to these."""
        save, calls = Store.save, []

        def killed(self, result):
            calls.append(result.candidate)
            if len(calls) == 2:
                raise KeyboardInterrupt
            save(self, result)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                train(shared)
        first = calls[0]
        weights = shared.store.root / "trained" / f"{first.training_id}.safetensors"
        before = weights.read_bytes(), weights.stat().st_mtime_ns
        assert len(trainings) == 1
        train(shared)
        assert len(trainings) == 2
        assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
        third = next(c for c in shared.candidates if c.training == first.training and c.scorer.kind is Other)
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
            FloatingPointError("not finite"),
            RuntimeError("mat1 and mat2 shapes\ncannot be multiplied"),
            torch.linalg.LinAlgError("singular"),
            ValueError("a number that no function takes"),
        ],
    )
    def test_a_training_that_fails_is_recorded_and_the_others_are_trained(self, zoo, monkeypatch, error):
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
        kinds = {"classifier": [{"learning_rate": 1e30}]}
        (wild,) = Plan.of({"cutout": [{}]}, kinds, ("gaussian",), get_preset(tiny)).candidates(seed=0)
        zoo = Zoo(store, [wild, candidates[0]], CPU)
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


SHORTAGES = [
    OSError(24, "Too many open files"),
    OSError("no errno"),
    torch.OutOfMemoryError("no memory left\non the device"),
    MemoryError("too large"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 640000000 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class TestFailuresOfTheMachine:
    """They say nothing about the candidate, so they are not kept as its failure."""

    @pytest.fixture
    def failing(self, monkeypatch, candidates):
        """Let the first candidate's training fail so many times; returns the trainings begun, in order."""

        def fail(error, times):
            calls, train_one = [], Classifier.train

            def train_or_fail(self, images, **options):
                own = self.augmentation.hyperparameters()
                calls.append("first" if own == candidates[0].hyperparameters else "second")
                if calls[-1] == "first" and calls.count("first") <= times:
                    raise error
                return train_one(self, images, **options)

            monkeypatch.setattr(Classifier, "train", train_or_fail)
            return calls

        return fail

    @pytest.mark.parametrize("error", SHORTAGES)
    def test_a_shortage_is_retried_alone_at_the_end(self, zoo, failing, error):
        calls = failing(error, times=1)
        done = train(zoo)
        assert calls == ["first", "second", "first"]
        assert done == [zoo.candidates[1], zoo.candidates[0]]
        assert {record["status"] for _, record in zoo.records()} == {"ok"}

    def test_a_lasting_shortage_is_named_and_retried_by_the_next_call(self, zoo, failing):
        calls = failing(MemoryError("too large"), times=2)
        assert train(zoo) == [zoo.candidates[1], zoo.candidates[0]]
        assert calls == ["first", "second", "first"]
        record = zoo.store.record(zoo.candidates[0].id)
        assert (record["status"], record["reason"], record["retry"]) == ("failed", "MemoryError: too large", True)
        assert zoo.unfinished() == [zoo.candidates[0]]
        train(zoo)
        assert calls == ["first", "second", "first", "first"]
        assert zoo.unfinished() == []
        assert zoo.store.record(zoo.candidates[0].id)["status"] == "ok"

    def test_a_shortage_while_a_family_joins_is_no_result_either(self, trained, candidates, images, monkeypatch):
        trained.add_validation_anomalies({"blur": images["validation"].flip(0)})
        zoo = Zoo(trained, candidates, CPU)
        with monkeypatch.context() as patch:

            def short_of_memory(self, images):
                raise torch.OutOfMemoryError("CUDA out of memory")

            patch.setattr(Classifier, "score", short_of_memory)
            train(zoo)
        assert zoo.unfinished() == list(candidates)
        train(zoo)
        assert [record["families"] for _, record in zoo.records()] == [["cutout", "blur"]] * 2

    def test_a_worker_that_dies_while_a_family_joins_leaves_no_result_on_older_families(
        self, trained, candidates, images
    ):
        """It is named in the ranking until the next call, which scores the family."""

        class Deadly:
            def run(self, function, items):
                for item in items:
                    yield item, WorkerDiedError("its worker process was killed 3 times")

        trained.add_validation_anomalies({"blur": images["validation"].flip(0)})
        zoo = Zoo(trained, candidates, CPU)
        zoo.train(Deadly())
        assert {(record["status"], record["retry"]) for _, record in zoo.records()} == {("failed", True)}
        assert all("was killed" in record["reason"] for _, record in zoo.records())
        train(zoo)
        assert [record["families"] for _, record in zoo.records()] == [["cutout", "blur"]] * 2
        assert {record["status"] for _, record in zoo.records()} == {"ok"}

    def test_a_failure_of_its_own_is_kept_and_retried_on_request(self, zoo, failing):
        calls = failing(ValueError("singular"), times=1)
        train(zoo)
        train(zoo)
        assert calls == ["first", "second"]
        zoo.store.retry_failed()
        assert zoo.unfinished() == [zoo.candidates[0]]
        train(zoo)
        assert calls == ["first", "second", "first"]
        assert zoo.unfinished() == []


@pytest.mark.parametrize(("augmentation", "expected"), [("cutout", 1), ("feature_noise", DRAWS)])
def test_augmented_images_pass_a_frozen_encoder_once_and_noise_on_features_as_often_as_wanted(
    images, augmentation, expected, monkeypatch
):
    settings = {"encoder": "small", "steps": 2, "batch": 4, "pool": 8, "width": 8}
    preset = Preset("small", 32, head=(8,), steps=2, batch=4)
    (candidate, *_) = Plan.of([augmentation], {"discriminator": [settings]}, ("gaussian",), preset).candidates(0)
    detector = candidate.make_detector("cpu").fit(images["train"])
    evidence = gather_evidence(detector, images, candidate.training, {})
    assert evidence["augmented"].shape[:2] == (expected, len(images["train"]))
    assert evidence["augmented_scores"].shape == (len(images["validation"]),)


def test_draws_are_named_streams():
    """The purpose decides the stream: as many as there are draws, and one for validation."""
    names = [*range(DRAWS), "validation"]
    streams = {torch.rand(4, generator=generator(0, "augmented", name)).numpy().tobytes() for name in names}
    assert len(streams) == DRAWS + 1


class TestSharedFeatures:
    """Of an encoder that stays as it was built, each image is computed once for the whole zoo."""

    @pytest.fixture
    def frozen(self):
        settings = {"frozen": [{"score": "pooled"}, {"score": "locations"}]}
        preset = Preset("small", 32, head=(8,), steps=2, batch=4)
        return Plan.of(("cutout",), settings, ("gaussian",), preset).candidates(0)

    @pytest.fixture
    def counted(self, monkeypatch):
        """The digest of each set of images that passes an encoder."""
        digests = []
        computed = FrozenKind._computed

        def counting(self, whole, depth=None):
            digests.append(images_digest(whole))
            return computed(self, whole, depth)

        monkeypatch.setattr(FrozenKind, "_computed", counting)
        return digests

    def test_they_are_computed_once_and_change_nothing(self, store, frozen, images, counted):
        Zoo(store, frozen, CPU).train(Serial())
        assert all(store.record(candidate.id)["status"] == "ok" for candidate in frozen)
        assert len(set(counted)) == len(images) + len(store.families)
        assert len(counted) == len(set(counted))
        for candidate in frozen:
            alone = candidate.make_detector("cpu").fit(images["train"])
            assert torch.equal(store.evidence(candidate.id)[0].test_scores, alone.score(images["test"]))
        store.forget_features()
        assert not store.features.exists()

    def test_a_training_that_is_resumed_uses_them(self, store, frozen, counted):
        """Of two scorers of one training, one was finished before a stop."""
        zoo = Zoo(store, [frozen[0], replace(frozen[0], scorer=ScorerSpec("knn"))], CPU)
        Zoo(store, zoo.candidates[:1], CPU).train(Serial())
        counted.clear()
        zoo.train(Serial())
        assert all(store.record(candidate.id)["status"] == "ok" for candidate in zoo.candidates)
        assert not counted

    def test_a_family_that_joins_passes_the_encoder_once(self, store, frozen, counted):
        zoo = Zoo(store, frozen, CPU)
        zoo.train(Serial())
        counted.clear()
        store.add_validation_anomalies({"late": store.images["validation"].flip(3)})
        zoo.train(Serial())
        assert all(store.is_complete(candidate) for candidate in frozen)
        assert counted == [images_digest(store.validation_anomalies["late"])]
