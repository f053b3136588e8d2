"""The trials of a run: what is stored of them, how they are judged, and that a run resumes where it was."""

import json
import random
import shutil

import optuna
import pytest
import torch
from optuna.distributions import distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import selector
from augmentations import InputError
from detectors import get_preset
from selector import select_best
from selector.evidence.evidence import Evidence
from selector.execution import Serial
from selector.ranking import bootstrap
from selector.ranking.ranking import rank
from selector.ranking.rules import resolve_decision
from selector.search import Sampled
from selector.search import optuna as optuna_search
from selector.search.study import STUDY, Study
from selector.zoo import zoo as zoo_module
from selector.zoo.plan import Plan
from selector.zoo.result import Result, failure
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")
NAMES = ("cutout", "cutpaste", "rotation")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(optuna_search, "STARTUP", 4)
    monkeypatch.setattr(optuna_search, "BATCH", 3)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 2)


def opened(root):
    """The study as Optuna opens it."""
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(root / STUDY))))


class TestCheaply:
    """With evidence made up from the hyperparameters in place of training."""

    @pytest.fixture(autouse=True)
    def trainings(self, monkeypatch):
        """What was trained, in order."""
        trained = []

        def made_up(store, candidate_id):
            name, turned = known[candidate_id]
            source = torch.Generator().manual_seed(int(candidate_id, 16) % 2**31)
            normal, test = torch.randn(2, 24, generator=source).abs() + 1
            away = {"cutpaste": 2, "cutout": 1, "rotation": -9}[name]
            scores = normal if name == "rotation" else normal + 3
            return [Evidence(validation_scores=normal, augmented_scores=scores, test_scores=test + away + turned / 45)]

        known = {}

        def train(job):
            for candidate in job.candidates:
                trained.append(candidate.id)
                is_broken = random.Random(candidate.id).random() < 0.1
                good = {"status": "ok", "reason": "", "seconds": 2.0}
                Store(job.root).save(Result(candidate, failure("it broke", 2.0) if is_broken else good))

        def evidence(zoo, candidate_id):
            candidate = zoo[candidate_id]
            known[candidate_id] = candidate.training.augmentation, candidate.hyperparameters["angle"][1]
            return made_up(zoo.store, candidate_id)

        monkeypatch.setattr(zoo_module, "train_candidates", train)
        monkeypatch.setattr(Zoo, "evidence", evidence)
        return trained

    @pytest.fixture
    def begin(self, store, tiny):
        """A study of a number of trials in one run folder."""

        def begin(sampler="tpe", trials=14, seeds=1, criterion="auto", root=None):
            plan = Plan.of(NAMES, ("classifier",), ("gaussian",), get_preset(tiny))
            search = Sampled(sampler, trials, plan, tuple(range(seeds)))
            return Study(search, Zoo(Store(root or store.root), (), CPU), resolve_decision(criterion, 24))

        return begin

    def ranked(self, study):
        """The ranking of a study that ran to its end, which the study then has the values of."""
        study.run(Serial(), lambda candidate: None)
        records = {candidate.id: record for candidate, record in study.zoo.records()}
        evidence = {i: study.zoo.evidence(i) for i in records if records[i]["status"] == "ok"}
        table = rank(study.zoo.candidates, records, evidence, study.rule, 0).table
        study.save(table)
        return table

    def test_tests_of_the_images_see_only_what_was_proposed_before_any_was_judged(self, begin, store, tmp_path):
        study = begin()
        self.ranked(study)
        first = [candidate.id for proposal in study.proposals[:4] for candidate in proposal.candidates]
        assert study.proposed_first == list(dict.fromkeys(first))
        assert len(study.zoo.candidates) > len(first)
        drawn = begin("random", root=shutil.copytree(store.root, tmp_path / "copy"))
        assert len(drawn.proposed_first) == len(drawn.zoo.candidates)

    @pytest.mark.parametrize(
        ("sampler", "criterion", "seeds"),
        [("tpe", "auto", 2), ("tpe", "score_shift", 1), ("tpe", "score_pearson_skew", 2), ("random", "auto", 1)],
    )
    def test_the_study_has_every_trial_with_its_place_in_the_ranking(self, begin, store, sampler, criterion, seeds):
        study = begin(sampler, seeds=seeds, criterion=criterion)
        table = self.ranked(study).set_index("candidate")
        trials = opened(store.root).trials
        assert len(trials) == len(table) == 14
        assert [trial.params for trial in trials] == [proposal.parameters for proposal in study.proposals]
        for trial, proposal in zip(trials, study.proposals, strict=True):
            row = table.loc[trial.user_attrs["candidate"]]
            assert trial.user_attrs["candidate"] in {candidate.id for candidate in proposal.candidates}
            assert {name: distribution_to_json(d) for name, d in trial.distributions.items()} == proposal.space
            assert (trial.user_attrs["rank"], trial.user_attrs["status"]) == (row["rank"], row.status)
            assert trial.state == (TrialState.COMPLETE if row.status == "ok" else TrialState.PRUNED)
            assert trial.value == (row.criterion if row.status == "ok" else None)
            assert trial.duration.total_seconds() == pytest.approx(2 * seeds, abs=1e-3)
        assert {"ok", "collapsed"} <= set(table.status)
        best = opened(store.root).best_trial
        if not study.rule.is_borda:
            assert best.user_attrs["rank"] == 1
        assert best.value == table.criterion[table["rank"] == 1].iloc[0]

    @pytest.mark.parametrize("killed", [1, 4, 9])
    def test_a_stopped_run_resumes_to_the_same_ranking(self, begin, store, trainings, monkeypatch, tmp_path, killed):
        fresh = shutil.copytree(store.root, tmp_path / "fresh")

        def stop(job):
            if len(trainings) == killed:
                raise KeyboardInterrupt
            train(job)

        train = zoo_module.train_candidates
        with monkeypatch.context() as patch:
            patch.setattr(zoo_module, "train_candidates", stop)
            with pytest.raises(KeyboardInterrupt):
                self.ranked(begin())
        assert len(trainings) == killed
        resumed = self.ranked(begin())
        assert len(trainings) == len(set(trainings)) == 14
        assert self.ranked(begin(root=fresh)).equals(resumed)
        assert [(t.params, t.value, t.state) for t in opened(fresh).trials] == [
            (t.params, t.value, t.state) for t in opened(store.root).trials
        ]

    def test_trials_are_on_disk_before_they_are_trained(self, begin, store, monkeypatch):
        train = zoo_module.train_candidates

        def check_and_train(job):
            seeds = {values["training"]["seed"] for trial in store.trials for values in trial["candidates"]}
            ids = [candidate.id for proposal in study.proposals for candidate in proposal.candidates]
            assert seeds == {0}
            assert len(store.trials) == len(study.proposals)
            assert all(candidate.id in ids for candidate in job.candidates)
            shown = opened(store.root).trials
            assert len(shown) == len(store.trials)
            running = [trial.number for trial in shown if trial.state == TrialState.RUNNING]
            assert running == list(range(study.search.batch_start(len(shown) - 1), len(shown)))
            train(job)

        monkeypatch.setattr(zoo_module, "train_candidates", check_and_train)
        study = begin()
        assert len(study.proposals) == 4
        self.ranked(study)

    def test_a_run_grows_by_trials_and_fewer_are_refused(self, begin, trainings):
        self.ranked(begin(trials=9))
        with pytest.raises(InputError, match=r"trials=8.*9 or more"):
            begin(trials=8)
        self.ranked(begin(trials=12))
        assert len(trainings) == len(set(trainings)) == 12

    def test_what_is_still_to_be_proposed_is_counted(self, begin):
        study = begin(seeds=2)
        assert (len(study.zoo.candidates), study.n_pending) == (8, 20)
        finished = []
        study.run(Serial(), finished.append)
        assert (len(study.zoo.candidates), study.n_pending) == (28, 0)
        assert len(finished) == len({candidate.id for candidate in finished}) == 28

    @pytest.mark.parametrize("damage", ["{not json", "[{}]", '{"parameters": 1}', "[1]"])
    def test_damaged_trials_are_refused(self, begin, store, damage):
        begin()
        (store.root / "trials.json").write_text(damage)
        with pytest.raises(InputError, match=r"trials\.json.*corrupt"):
            begin()


@pytest.fixture(scope="class")
def searched(tiny):
    """Of ``select_best``: a search that learns from its third trial on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna_search, "STARTUP", 2)
        patch.setattr(optuna_search, "BATCH", 1)
        patch.setattr(bootstrap, "RESAMPLES", 2)
        names = ("cutout", "cutpaste")
        yield {"augmentations": names, "preset": tiny, "search": "tpe", "criterion": "score_shift"}


def frame(selection):
    return json.loads(selection.ranking.to_json())


class TestInEarnest:
    @pytest.fixture(autouse=True)
    def small_batches(self, searched):
        """Those of ``searched``."""

    @pytest.fixture(scope="class")
    @classmethod
    def shorter(cls, data, searched, tmp_path_factory):
        """A search of three trials in a folder."""
        return select_best(*data, **searched, jobs=1, trials=3, out=tmp_path_factory.mktemp("search") / "run")

    @pytest.fixture(scope="class")
    @classmethod
    def longer(cls, data, searched):
        return select_best(*data, **searched, jobs=1, trials=4)

    def test_a_search_grows_by_trials_without_training_again(self, shorter, longer, data, searched, tmp_path, capfd):
        root = shutil.copytree(shorter.path, tmp_path / "run")
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
        grown = select_best(*data, **searched, jobs=1, trials=4, out=root, progress=True)
        lines = capfd.readouterr().err.splitlines()
        assert [line.split(" candidates")[0] for line in lines] == [f"{n} of 4" for n in range(1, 5)]
        assert before.items() <= {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}.items()
        assert frame(grown) == frame(longer)
        assert len(grown.zoo.candidates) == 4
        with pytest.raises(InputError, match=r"trials=3.*4 or more"):
            select_best(*data, **searched, jobs=1, trials=3, out=root)

    def test_it_is_loaded_and_its_study_has_the_values_of_the_ranking(self, shorter, data):
        assert len(shorter.ranking) == len(shorter.zoo.candidates) == 3
        loaded = selector.load(shorter.path)
        assert frame(loaded) == frame(shorter)
        assert torch.equal(loaded.detector.score(data[1]), shorter.detector.score(data[1]))
        values = {trial.user_attrs["candidate"]: trial.value for trial in opened(shorter.path).trials}
        ok = shorter.ranking[shorter.ranking.status == "ok"]
        assert values.items() >= dict(zip(ok.candidate, ok.criterion, strict=True)).items()

    def test_its_report_says_what_was_searched(self, shorter, tmp_path):
        page = shorter.report(tmp_path / "index.html").read_text("utf-8")
        assert "proposed by TPE from cutout, cutpaste" in page

    def test_validation_anomalies_are_of_all_families_whatever_was_proposed(self, shorter):
        assert shorter.zoo.store.families == ["cutout", "cutpaste"]

    def test_another_search_in_its_folder_is_refused(self, shorter, data, searched):
        with pytest.raises(InputError, match="search"):
            select_best(*data, **searched | {"search": "random"}, jobs=1, trials=4, out=shorter.path)

    @pytest.mark.slow
    def test_jobs_do_not_change_the_ranking(self, shorter, data, searched):
        assert frame(select_best(*data, **searched, jobs=2, trials=3)) == frame(shorter)


class TestStudyOfAGrid:
    def test_it_has_the_candidates_in_order(self, run):
        trials = opened(run.path).trials
        cutout = [trial for trial in trials if trial.params["augmentation"] == "cutout"]
        assert len(trials) == len(run.zoo.candidates) == 3
        assert [trial.params["cutout.area_high"] for trial in cutout] == [
            candidate.hyperparameters["area"][1] for candidate in run.zoo.candidates[:2]
        ]

    def test_a_run_without_its_study_ranks_the_same(self, run, run_copy, data, options):
        """Its tools alone need it."""
        (run_copy / STUDY).unlink()
        assert frame(selector.load(run_copy)) == frame(run)
        assert frame(select_best(*data, **options, out=run_copy)) == frame(run)
        assert len(opened(run_copy).trials) == 3
