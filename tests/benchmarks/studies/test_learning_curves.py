"""Curves: what a factor draws, regrets that are known of made zoos, and what is drawn of them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from typer.testing import CliRunner

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks import command
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.studies.learning_curves import regrets
from benchmarks.studies.learning_curves.factors import FACTORS
from benchmarks.studies.learning_curves.figures import FIGURES
from benchmarks.studies.learning_curves.regrets import COLUMNS, batched, measure_regrets, summarise
from benchmarks.suites.baselines import BASELINES
from benchmarks.tasks.view import View
from selector import criteria
from selector.ranking import rules

ROOT = Path(__file__).parents[3]
LARGEST = {"validation": 80, "test": 320, "ratio": 0.5}


def zoo(gaps, alike=False, seed=0, normal=100, anomalous=100, task="task"):
    """One candidate per gap, by which the logarithms of anomalies' scores exceed those of normal images, of variance 1.

    alike: all give normal images the same scores. Pseudo anomalies lie by the gap above validation images.
    """
    source = np.random.default_rng(seed)
    labels = np.array([0] * normal + [1] * anomalous)

    def scores(gap, lift):
        draws = np.random.default_rng(seed) if alike else source
        return pd.DataFrame({"validation": draws.normal(size=100)}), draws.normal(size=len(labels)) + gap * lift

    made = {f"c{i}": scores(gap, labels) for i, gap in enumerate(gaps)}
    validation = pd.DataFrame({name: v.validation for name, (v, _) in made.items()})
    parts = {
        "validation": validation,
        "augmented": validation + 3,
        "pseudo": pd.concat([validation + np.array(gaps)] * 2, ignore_index=True),
        "test": pd.DataFrame({name: t for name, (_, t) in made.items()}),
    }
    described = pd.DataFrame({"augmentation": "a", "hyperparameters": [{}] * len(gaps), "status": "ok", "reason": ""})
    return StoredZoo(
        seed,
        described.set_index(pd.Index(list(made), name="id")),
        (View(task, task, "", torch.arange(len(labels)), torch.tensor(labels)),),
        {part: np.exp(table) for part, table in parts.items()},
        pd.DataFrame(dict.fromkeys(BASELINES, parts["test"].c0)),
        pd.DataFrame(),
    )


@pytest.fixture(scope="module", autouse=True)
def few():
    """Few settings, the ends among them, and few draws."""
    fewer = {
        name: replace(factor, settings=factor.settings[:: len(factor.settings) - 1]) for name, factor in FACTORS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regrets, "FACTORS", fewer)
        patch.setattr(regrets, "DRAWS", 4)
        yield


@pytest.fixture(scope="module")
def noisy(few):
    """Tasks of candidates that are hard to distinguish, one table."""
    return pd.concat(
        [measure_regrets(zoo(np.linspace(0, 2, 8), seed=s, task=f"task{s}")) for s in range(6)], ignore_index=True
    )


def regret(rows, curve, chosen_by):
    part = rows[(rows.curve == curve) & (rows.chosen_by == chosen_by)]
    return part.groupby("at").regret.mean()


def test_what_differs_in_anomalies_alone_is_chosen_right_with_any_number_of_images():
    rows = measure_regrets(zoo([-2.0, 0.5, 3.0, 1.0], alike=True))
    with_anomalies = (rows.curve != "ratio") | (rows["at"] > 0)
    assert (rows[with_anomalies & (rows.chosen_by == "pu_auc")].regret == 0).all()
    assert (rows.regret >= -1e-12)[rows.chosen_by != "ensemble"].all()


def test_a_random_pick_loses_what_the_mean_candidate_does():
    made = zoo([0.0, 1.0, 2.0])
    auroc = [criteria.probability_above(*(torch.tensor(s[lab].to_numpy()) for lab in (slice(100), slice(100, 200))))
             for _, s in made.scores["test"].items()]  # fmt: skip
    rows = measure_regrets(made)
    expected = (max(auroc) - sum(auroc) / 3).item()
    assert rows[rows.chosen_by == "random"].regret.to_numpy() == pytest.approx(expected)


@pytest.mark.parametrize("curve", LARGEST)
def test_more_images_and_more_anomalies_choose_better(noisy, curve):
    found = regret(noisy, curve, "default")
    assert found.iloc[0] > found[LARGEST[curve]] + 0.005
    assert found[LARGEST[curve]] < regret(noisy, curve, "random").mean() / 3


def test_without_anomalies_a_choice_by_test_scores_is_no_better_than_a_random_pick(noisy):
    assert regret(noisy, "ratio", "pu_auc")[0] > 0.5 * regret(noisy, "ratio", "random")[0]
    assert regret(noisy, "ratio", "pu_auc")[0.5] < 0.1 * regret(noisy, "ratio", "random")[0]
    # What never looks at them does not mind.
    assert regret(noisy, "ratio", "pseudo_auc").nunique() == 1


def test_the_factor_of_shift_shifts(noisy):
    found = noisy[noisy.curve == "shift"].groupby("at")["shift"].mean()
    assert found.is_monotonic_increasing
    assert found.iloc[0] == pytest.approx(0.5, abs=0.02)


def test_the_same_again_and_the_order_of_candidates_does_not_matter():
    made = zoo([0.0, 0.5, 1.0, 1.5])
    rows = measure_regrets(made)
    pd.testing.assert_frame_equal(rows, measure_regrets(made))
    turned = {part: table[["c2", "c0", "c3", "c1"]] for part, table in made.scores.items()}
    pd.testing.assert_frame_equal(rows, measure_regrets(replace(made, scores=turned)))


@pytest.mark.parametrize("name", FACTORS)
def test_batches_are_what_selections_one_by_one_would_be(name):
    made, factor = zoo([0.0, 1.0]), FACTORS[name]
    drawn = [factor.draw(made, made.views[0], factor.settings[1], generator(0, number)) for number in range(3)]
    validation, test = (torch.stack(images) for images in zip(*drawn, strict=True))
    functions = {c: criteria.get(c) for c in ("pu_auc", "rtm", "score_shift", "score_exceed", "pseudo_auc")}
    found = batched([made.evidence(c) for c in made.trained], validation, test, functions)
    for draw, (v, t) in enumerate(zip(validation, test, strict=True)):
        for place, candidate in enumerate(made.trained):
            one = made.evidence(candidate).subset(
                validation_scores=v, augmented_scores=v, pseudo_scores=torch.cat([v, 100 + v]), test_scores=t
            )
            expected = criteria.evaluate(one, list(functions))
            assert {c: found[c][draw, place] for c in functions} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "part", "counts"), [("validation", 0, [5, 10, 20, 40, 80]), ("test", 1, [20, 40, 80])]
)
def test_fewer_images_are_some_of_more(name, part, counts):
    made, factor = zoo([0.0, 1.0]), FACTORS[name]
    sets = [set(factor.draw(made, made.views[0], at, generator(0))[part].tolist()) for at in counts]
    assert [len(one) for one in sets] == counts
    assert all(small < large for small, large in pairwise(sets))


def test_a_ratio_of_nothing_has_normal_images_only():
    made = zoo([0.0, 1.0])
    _, test = FACTORS["ratio"].draw(made, made.views[0], 0.0, generator(0))
    assert sorted(test.tolist()) == list(range(100))


def test_a_default_that_reads_embeddings_is_refused(monkeypatch):
    monkeypatch.setattr(rules, "AUTO", ("dsv", "rtm"))
    with pytest.raises(InputError, match="dsv"):
        measure_regrets(zoo([0.0, 1.0]))


def test_curves_have_bands_of_data_sets_and_a_gain_on_a_random_pick(noisy):
    itself = noisy.assign(task="photo-shifted-scratch", group="photo")
    table = summarise(pd.concat([noisy, itself], ignore_index=True))
    assert list(table.columns) == COLUMNS
    banded = table[table.curve != "shifted"]
    assert banded.low.le(banded.regret + 1e-9).all()
    assert banded.high.ge(banded.regret - 1e-9).all()
    random = table[table.chosen_by == "random"].groupby("curve").regret.mean()
    assert np.allclose(table.gain, table.curve.map(random) - table.regret)
    assert set(table.curve) == {*FACTORS, "shifted"}
    alone = table[table.curve == "shifted"]  # one data set has no band
    assert alone[["low", "high", "gain_low", "gain_high"]].isna().all().all()
    assert alone["at"].nunique() == 1
    reached = table[(table.curve == "test") & (table.chosen_by == "rtm")].set_index("at").tasks
    assert reached.tolist() == [7, 0]  # 100 normal images and a share of .2 make 125


def test_the_command_writes_numbers_tables_and_figures(tmp_path):
    with parallel_config(backend="threading"):
        quick = str(ROOT / "benchmarks" / "results" / "quick")
        done = CliRunner().invoke(command.app, ["study", "learning-curves", quick, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "curves.csv")
    assert set(table.curve) == set(FACTORS)
    assert (table[table.chosen_by == "dsv"].curve == "ratio").all()
    for name in FIGURES:
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "| share of anomalies among the test images | tasks |" in (tmp_path / "curves.md").read_text("utf-8")


def test_a_folder_without_zoos_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text('{"frozen": {"data_sets": [], "seeds": []}}')
    done = CliRunner().invoke(command.app, ["study", "learning-curves", str(tmp_path), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError)
