"""The best of each kind of detector by the labels."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.leaderboard import write
from benchmarks.leaderboard.detector_kinds import by_detector_kind
from benchmarks.leaderboard.result import read
from benchmarks.leaderboard.text import NONE

KINDS = ("classifier", "frozen (score pooled)", "frozen (score locations)", "module:Own")


def of_kinds(rows, candidates):
    """The four candidates of every zoo are of three kinds; baselines have their own names, as a benchmark writes."""
    own = candidates.candidate.str.match(r"c\d")
    candidates["detector"] = candidates.candidate
    candidates.loc[own, "detector"] = [KINDS[int(name[1])] for name in candidates.candidate[own]]


def test_the_best_of_each_kind_is_a_mean_over_tasks_and_seeds(make_run):
    folder = make_run(edit=of_kinds)
    found = by_detector_kind(read(folder))
    table = pd.read_csv(folder / "candidates.csv")
    assert list(found.auroc.columns) == ["classifier", "frozen", "module:Own"]
    assert list(found.auroc.index) == ["a", "b", "c"]
    for data_set in "abc":
        cases = table[table.task.str.startswith(data_set)].pivot(
            index=["task", "seed"], columns="candidate", values="auroc"
        )
        expected = [cases.c0.mean(), np.maximum(cases.c1, cases.c2).mean(), cases.c3.mean()]
        assert list(found.auroc.loc[data_set]) == pytest.approx(expected)
        assert found.best[data_set] == found.auroc.columns[np.argmax(expected)]
        assert found.gain_of_training[data_set] == pytest.approx(max(expected[0], expected[2]) - expected[1])
    assert found.candidates == {"classifier": 1, "frozen": 2, "module:Own": 1}
    assert found.trained == ("classifier", "module:Own")


def test_the_page_and_the_markdown_have_the_table(make_run):
    folder = make_run(edit=of_kinds)
    page = write(folder).read_text("utf-8")
    lines = (folder / "leaderboard.md").read_text("utf-8").splitlines()
    assert "frozen (2)" in page
    found = by_detector_kind(read(folder))
    row = next(line for line in lines if line.startswith("| b "))
    assert f"{found.auroc.frozen['b']:.3f}" in row


def test_where_all_learn_there_is_no_gain_of_training(make_run):
    def edit(rows, candidates):
        of_kinds(rows, candidates)
        candidates["detector"] = candidates.detector.str.replace("frozen", "patch")

    folder = make_run(edit=edit)
    assert by_detector_kind(read(folder)).gain_of_training.isna().all()
    write(folder)
    assert f"| {NONE} |" in (folder / "leaderboard.md").read_text("utf-8")


def test_one_kind_or_none_written_down_is_no_table(make_run):
    def edit(rows, candidates):
        candidates["detector"] = "classifier"

    assert by_detector_kind(read(make_run(edit=edit))) is None
    assert by_detector_kind(read(make_run())) is None
