"""The results in the repository: whole, without weights, and what the README says of them."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.evaluation import judgements
from benchmarks.evaluation.evaluate import COLUMNS
from benchmarks.evaluation.label_oracle import LABEL_RESOLVABLE, labels_choose
from benchmarks.leaderboard import page, write
from benchmarks.leaderboard.result import read
from benchmarks.studies import autoencoder_testbed, leave_one_dataset_out
from benchmarks.studies.two_stage import tables
from benchmarks.suites.definitions import HELD_OUT, SUITES
from selector.verdict.sample_size import MIN_TEST_IMAGES, MIN_VALIDATION_IMAGES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RAN = ("quick", "development", "seen", "undecidable", "alignment", "alignment-autoencoder")
BASELINES = {"average", "random", "trained_random", "oracle", "untrained", "pixels", "default", "half_label_oracle"}
ENSEMBLES = {"ensemble", "ensemble_ranks", "max_all", "mean_rank_all", "random_members"}


@pytest.fixture(params=RAN)
def folder(request):
    return RESULTS / request.param


def test_every_case_of_the_suite_is_there(folder):
    suite = SUITES[folder.name]
    rows = pd.read_csv(folder / "leaderboard.csv")
    assert list(rows.columns) == COLUMNS
    assert not rows.duplicated(["task", "seed", "anomaly_ratio", "criterion"]).any()
    assert set(rows.seed) == set(suite.seeds)
    assert set(rows.anomaly_ratio) == set(suite.ratios)
    cases = rows.groupby(["task", "seed", "anomaly_ratio"]).criterion.agg(set)
    assert len(cases) == rows.task.nunique() * len(suite.seeds) * len(suite.ratios)
    assert all(cases.map((BASELINES | ENSEMBLES).issubset))
    by = rows.set_index(["task", "seed", "anomaly_ratio", "criterion"]).auroc.unstack()
    choosing = rows[rows["rank"].notna()].criterion.unique()
    assert (by[choosing].le(by.oracle + 1e-5, axis=0) | by[choosing].isna()).all().all()


def test_the_list_of_label_resolvable_data_sets_is_what_labels_say_of_the_stored_zoos():
    """Where they can't choose, no choice can be evaluated, whatever the criteria are."""
    by_suite = {name: labels_choose(read(RESULTS / name).rows).label_resolvable.to_dict() for name in RAN}
    for found in by_suite.values():
        assert found == {name: LABEL_RESOLVABLE[name] for name in found}
    assert {name for found in by_suite.values() for name in found} == set(LABEL_RESOLVABLE)
    assert all(by_suite["development"].values())
    assert not any(by_suite["undecidable"].values())


def test_every_result_of_the_held_out_suite_has_a_judgement_before_it():
    rows = judgements.read(HELD_OUT)
    assert list(rows.columns) == judgements.COLUMNS
    assert judgements.judgements_file(HELD_OUT).is_file()
    assert len(rows) or not (RESULTS / HELD_OUT / "leaderboard.csv").exists()


def test_what_was_held_out_says_how_often_it_was_judged():
    rows = judgements.read("seen")
    assert len(rows) == 5
    # Four names of three rules: the criteria of the fourth row were renamed before the fifth was judged.
    assert rows.rule.str.partition(";")[0].nunique() == 4
    assert "Judged 5 times" in (RESULTS / "seen" / "leaderboard.md").read_text("utf-8")
    assert "Judged" not in (RESULTS / "development" / "leaderboard.md").read_text("utf-8")


def test_there_are_no_weights(folder):
    assert not list(folder.rglob("*.safetensors"))


def test_the_report_is_that_of_the_rows(folder, tmp_path, monkeypatch):
    if folder.name != RAN[0]:  # pages are not compared, and take long to draw: one shows that they can be
        monkeypatch.setattr(page, "render", lambda content: "")
    write(folder, tmp_path)
    for name in ("leaderboard.md", "summary.csv"):
        assert (tmp_path / name).read_text("utf-8") == (folder / name).read_text("utf-8")


def test_the_two_stage_tables_are_those_of_the_rows():
    folder = RESULTS / "two_stage"
    rows = pd.read_csv(folder / "results.csv")
    assert tables.markdown(rows) == (folder / "tables.md").read_text("utf-8")
    clean = rows[rows.contamination == 0].groupby("kind")
    assert clean.data_set.nunique().eq(10).all()
    assert (
        clean.seed.nunique()[["rotation, MLP head", "contrastive DA", "contrastive", "pixels", "untrained"]].eq(3).all()
    )


def test_an_autoencoder_finds_best_what_it_was_trained_to_undo():
    folder = RESULTS / "alignment-autoencoder"
    text = autoencoder_testbed.markdown(read(folder))
    assert text == (folder / autoencoder_testbed.MARKDOWN).read_text("utf-8")
    aligned = autoencoder_testbed.alignment(autoencoder_testbed.grid(read(folder).candidates))
    assert list(aligned.iloc[:, -1]) == ["yes", "yes"]


def test_the_tables_of_left_out_data_sets_are_those_of_the_rows():
    folder = RESULTS / "development"
    rows = pd.read_csv(folder / leave_one_dataset_out.CSV, keep_default_na=False)
    assert (folder / leave_one_dataset_out.MARKDOWN).read_text("utf-8") == leave_one_dataset_out.markdown(
        read(folder), rows
    )


def test_the_page_on_selection_quotes_the_curves_word_for_word():
    selection, curves = ((ROOT / "docs" / name).read_text("utf-8") for name in ("selection.md", "curves/curves.md"))
    section = selection.partition("## How regret falls")[2]
    quoted = [line for line in section.splitlines() if line.startswith("| ")]
    assert quoted
    assert set(quoted) <= set(curves.splitlines())


@pytest.mark.parametrize(("curve", "constant"), [("validation", MIN_VALIDATION_IMAGES), ("test", MIN_TEST_IMAGES)])
def test_images_are_few_where_the_curves_cannot_distinguish_the_default_from_a_random_pick(curve, constant):
    table = pd.read_csv(ROOT / "docs" / "curves" / "curves.csv")
    for rule in ("default", "pseudo_auc"):  # which is the default without test images
        chosen = table[(table.curve == curve) & (table.chosen_by == rule)].sort_values("at")
        assert (chosen["at"] >= constant).tolist() == (chosen.gain_low > 0).tolist()
