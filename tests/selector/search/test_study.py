"""The trials of a run: what is kept of them, how they are judged, and that a run goes on where it was."""

import json
import random

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import detectors
import selector
from augmentations import InputError
from selector import select_best
from selector.evidence.evidence import Evidence
from selector.execution.execution import ThisProcess
from selector.ranking import bootstrap
from selector.ranking.ranking import rank
from selector.ranking.rules import resolve_decision
from selector.search import search
from selector.search.search import searching
from selector.search.study import STUDY, Study
from selector.zoo import zoo as zoos
from selector.zoo.zoo import Zoo, failure

CPU = torch.device("cpu")
NAMES = ("cutout", "cutpaste", "rotation")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(search, "STARTUP", 4)
    monkeypatch.setattr(search, "BATCH", 3)
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

        def work(job):
            store = zoos.Store(job.root)
            for candidate in job.candidates:
                trained.append(candidate.id)
                broken = random.Random(candidate.id).random() < 0.1
                good = {"status": "ok", "reason": "", "seconds": 2.0}
                store.keep(candidate, failure("it broke", 2.0) if broken else good)

        def evidence(zoo, candidate_id):
            candidate = zoo[candidate_id]
            known[candidate_id] = candidate.training.augmentation, candidate.hyperparameters["angle"][1]
            return made_up(zoo.store, candidate_id)

        monkeypatch.setattr(zoos, "work", work)
        monkeypatch.setattr(Zoo, "evidence", evidence)
        return trained

    @pytest.fixture
    def begin(self, store, tiny):
        """A study of a number of trials in the one run folder."""

        def begun(kind="tpe", trials=14, seeds=1, criterion="auto"):
            settings = detectors.preset(tiny)
            asked = searching(kind, trials, NAMES, ("classifier",), ("gaussian",), settings, range(seeds))
            return Study(asked, Zoo(store, (), CPU, asked.rivals), resolve_decision(criterion, 24))

        return begun

    def ranked(self, study):
        """The ranking of a study that ran to its end, which the study then tells."""
        study.run(ThisProcess(), lambda candidate: None)
        records = {candidate.id: record for candidate, record in study.zoo.records()}
        evidence = {i: study.zoo.evidence(i) for i in records if records[i]["status"] == "ok"}
        table = rank(study.zoo.candidates, records, evidence, study.rule, 0).table
        study.keep(table)
        return table

    @pytest.mark.parametrize(
        ("kind", "criterion", "seeds"),
        [("tpe", "auto", 2), ("tpe", "score_shift", 1), ("tpe", "score_pearson_skew", 2), ("random", "auto", 1)],
    )
    def test_the_study_has_every_trial_with_its_place_in_the_ranking(self, begin, store, kind, criterion, seeds):
        study = begin(kind, seeds=seeds, criterion=criterion)
        table = self.ranked(study).set_index("candidate")
        trials = opened(store.root).trials
        assert len(trials) == len(table) == 14
        assert [trial.params for trial in trials] == [proposal.parameters for proposal in study.proposals]
        for trial, proposal in zip(trials, study.proposals, strict=True):
            row = table.loc[trial.user_attrs["candidate"]]
            assert trial.user_attrs["candidate"] in {candidate.id for candidate in proposal.candidates}
            assert trial.distributions == proposal.distributions
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
    def test_a_stopped_run_goes_on_to_the_same_ranking(self, begin, store, trainings, monkeypatch, tmp_path, killed):
        def stop(job):
            if len(trainings) == killed:
                raise KeyboardInterrupt
            work(job)

        work = zoos.work
        with monkeypatch.context() as patch:
            patch.setattr(zoos, "work", stop)
            with pytest.raises(KeyboardInterrupt):
                self.ranked(begin())
        assert len(trainings) == killed
        resumed = self.ranked(begin())
        assert len(trainings) == len(set(trainings)) == 14
        after = opened(store.root).trials
        elsewhere = begin()
        elsewhere.zoo.store.root = tmp_path / "elsewhere"  # nothing is there
        fresh = Study(elsewhere.search, Zoo(elsewhere.zoo.store, (), CPU, elsewhere.search.rivals), elsewhere.decision)
        assert self.ranked(fresh).equals(resumed)
        assert [(t.params, t.value, t.state) for t in opened(fresh.zoo.store.root).trials] == [
            (t.params, t.value, t.state) for t in after
        ]

    def test_trials_are_on_disk_before_they_are_trained(self, begin, store, monkeypatch):
        work = zoos.work

        def watched(job):
            kept = {values["training"]["seed"] for trial in store.trials for values in trial["candidates"]}
            ids = [candidate.id for proposal in study.proposals for candidate in proposal.candidates]
            assert kept == {0}
            assert len(store.trials) == len(study.proposals)
            assert all(candidate.id in ids for candidate in job.candidates)
            shown = opened(store.root).trials
            assert len(shown) == len(store.trials)
            running = [trial.number for trial in shown if trial.state == TrialState.RUNNING]
            assert running == list(range(study.search.first_of_batch(len(shown) - 1), len(shown)))
            work(job)

        monkeypatch.setattr(zoos, "work", watched)
        study = begin()
        assert len(study.proposals) == 4
        self.ranked(study)

    def test_more_trials_go_on_and_fewer_are_refused(self, begin, trainings):
        self.ranked(begin(trials=9))
        with pytest.raises(InputError, match=r"trials=8.*9 or more"):
            begin(trials=8)
        self.ranked(begin(trials=12))
        assert len(trainings) == len(set(trainings)) == 12

    def test_the_bank_does_not_depend_on_what_was_proposed(self, begin, monkeypatch):
        work, banks = zoos.work, set()

        def watched(job):
            banks.add(job.rivals)
            work(job)

        monkeypatch.setattr(zoos, "work", watched)
        study = begin()
        self.ranked(study)
        assert banks == {study.search.rivals}

    def test_what_is_still_to_be_proposed_is_counted(self, begin):
        study = begin(seeds=2)
        assert (len(study.zoo.candidates), study.zoo.to_come) == (8, 20)
        told = []
        study.run(ThisProcess(), told.append)
        assert (len(study.zoo.candidates), study.zoo.to_come) == (28, 0)
        assert len(told) == len({candidate.id for candidate in told}) == 28

    @pytest.mark.parametrize("damage", ["{not json", "[{}]", '{"parameters": 1}', "[1]"])
    def test_damaged_trials_are_refused(self, begin, store, damage):
        begin()
        (store.root / "trials.json").write_text(damage)
        with pytest.raises(InputError, match=r"trials\.json.*corrupt"):
            begin()


@pytest.fixture(scope="module")
def data(stripes, scratched):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    return stripes(40), torch.cat([stripes(30, 5), scratched(10)])[order]


@pytest.fixture
def options(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "STARTUP", 2)
    monkeypatch.setattr(search, "BATCH", 1)
    names = ("cutout", "cutpaste")
    return {"augmentations": names, "preset": "tiny", "search": "tpe", "criterion": "score_shift"}


def frame(selection):
    return json.loads(selection.ranking.to_json())


class TestInEarnest:
    def test_a_search_selects_and_is_loaded_and_told_of(self, data, options, tmp_path, capfd):
        selection = select_best(*data, **options, jobs=1, trials=4, out=tmp_path / "run", progress=True)
        assert len(selection.ranking) == len(selection.zoo.candidates) == 4
        lines = capfd.readouterr().err.splitlines()
        assert [line.split(" candidates")[0] for line in lines] == [f"{n} of 4" for n in range(1, 5)]
        loaded = selector.load(tmp_path / "run")
        assert frame(loaded) == frame(selection)
        assert torch.equal(loaded.detector.score(data[1]), selection.detector.score(data[1]))
        values = {trial.user_attrs["candidate"]: trial.value for trial in opened(tmp_path / "run").trials}
        ok = selection.ranking[selection.ranking.status == "ok"]
        assert values.items() >= dict(zip(ok.candidate, ok.criterion, strict=True)).items()
        page = selection.report().read_text("utf-8")
        assert "proposed by TPE from cutout, cutpaste" in page
        with pytest.raises(InputError, match="search"):
            select_best(*data, **options | {"search": "random"}, jobs=1, trials=4, out=tmp_path / "run")

    @pytest.mark.slow
    def test_jobs_do_not_change_the_ranking(self, data, options):
        one, two = (select_best(*data, **options, jobs=jobs, trials=5) for jobs in (1, 2))
        assert frame(one) == frame(two)

    def test_a_grid_has_a_study_too(self, data, tmp_path):
        grids = {"cutout": [{}, {"area": (0.1, 0.2)}]}
        run = {"preset": "tiny", "jobs": 1, "criterion": "score_shift", "out": tmp_path / "run"}
        selection = select_best(*data, augmentations=grids, **run)
        trials = opened(tmp_path / "run").trials
        assert [trial.params["cutout.area_high"] for trial in trials] == [
            candidate.hyperparameters["area"][1] for candidate in selection.zoo.candidates
        ]
        (tmp_path / "run" / "trials.json").unlink()  # a run folder of before there were any
        assert frame(selector.load(tmp_path / "run")) == frame(selection)
        assert frame(select_best(*data, augmentations=grids, **run)) == frame(selection)
