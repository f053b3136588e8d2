"""Held-out data is not evaluated without a row in judgements.csv, and the row comes first."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from augmentations import InputError
from benchmarks import command
from benchmarks.evaluation import judgements
from benchmarks.evaluation.evaluate import evaluate_folder
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.leaderboard.content import gather
from benchmarks.leaderboard.page import render
from benchmarks.leaderboard.result import read
from benchmarks.leaderboard.text import markdown
from benchmarks.suites import source_tree as source
from benchmarks.suites.definitions import HELD_OUT, SUITES
from benchmarks.suites.files import stored_zoos
from benchmarks.suites.source_tree import SourceTree


@pytest.fixture(scope="module")
def one_zoo(tiny_suite):
    """The tiny suite with one zoo: what is judged here is the whole run, however many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            SUITES, "tiny", replace(tiny_suite, data_sets=tiny_suite.data_sets[:1], seeds=(0,), ratios=(0.5,))
        )
        yield SUITES["tiny"]


@pytest.fixture(scope="module")
def trained(one_zoo, tmp_path_factory):
    """A run of a suite that is not held out, trained and evaluated."""
    out = tmp_path_factory.mktemp("judgements") / "tiny"
    call("run", "tiny", "--out", out, "--jobs", 1, "--device", "cpu")
    return out


@pytest.fixture
def held_out(trained, one_zoo, tmp_path, monkeypatch):
    """The same run without its evaluation, of data sets that are held out now."""
    monkeypatch.setattr(judgements, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(judgements, "source_tree", lambda: SourceTree("abc1234", ""))
    monkeypatch.setitem(SUITES, HELD_OUT, one_zoo)
    out = shutil.copytree(trained, tmp_path / "out")
    for path in (*out.glob("*.csv"), *out.glob("zoos/*/*.csv")):
        path.unlink()
    return out


def call(*words):
    result = CliRunner().invoke(command.app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def rows():
    return judgements.read(HELD_OUT)


def test_evaluating_writes_a_row_each_time(held_out):
    assert "judgement    1" in call("evaluate", held_out)
    call("evaluate", held_out)
    assert list(rows().columns) == ["date", "commit", "changes", "judged", "rule"]
    assert list(rows().commit) == ["abc1234"] * 2
    assert list(rows().changes) == ["clean"] * 2
    assert list(rows().judged) == ["ssad benchmark evaluate"] * 2
    assert rows().rule.str.contains("ensemble of").all()
    assert pd.to_datetime(rows().date).is_monotonic_increasing


def test_a_suite_that_was_held_out_once_goes_on_counting(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(judgements, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(judgements, "source_tree", lambda: SourceTree("abc1234", ""))
    judgements.record(trained, "by hand")
    assert not judgements.judgements_file("tiny").exists()  # which no one said was held out
    judgements.judgements_file("tiny").parent.mkdir(parents=True)
    judgements.judgements_file("tiny").write_text(",".join(judgements.COLUMNS) + "\n")
    judgements.record(trained, "by hand")
    assert list(judgements.read("tiny").judged) == ["by hand"]
    assert rows().empty


def test_a_run_is_one_judgement_after_all_of_its_training(held_out):
    words = ("run", "tiny", "--out", held_out, "--jobs", 1, "--device", "cpu")
    assert str(held_out / "index.html") in call(*words)
    assert len(rows()) == 1
    assert rows().judged[0].startswith("ssad benchmark run tiny")
    call(*words)  # there is nothing left to evaluate
    assert len(rows()) == 1


def test_the_row_is_there_before_any_result(held_out, monkeypatch):
    def fail(*_):
        assert len(rows()) == 1
        raise MemoryError

    monkeypatch.setattr(command, "Parallel", lambda **_: fail)
    with pytest.raises(MemoryError):
        call("evaluate", held_out)
    assert len(rows()) == 1
    assert not list(held_out.rglob("leaderboard.csv"))


def test_where_no_row_can_be_written_nothing_is_evaluated(held_out, monkeypatch):
    judgements.RESULTS.write_text("a file where the folder belongs")
    with pytest.raises(Exception, match=str(judgements.RESULTS)):
        call("evaluate", held_out)
    assert not list(held_out.rglob("leaderboard.csv"))


def test_without_a_row_labels_are_not_read(held_out):
    zoo = stored_zoos(held_out)[0]
    with pytest.raises(InputError, match=r"is held out.*no row.*ssad benchmark evaluate"):
        StoredZoo.read(zoo.path, zoo.seed)
    with pytest.raises(InputError, match="is held out"):
        evaluate_folder(zoo.path, zoo.seed, (0.5,))
    judgements.record(held_out, "test")
    assert StoredZoo.read(zoo.path, zoo.seed).views


@pytest.mark.parametrize("code", [SourceTree("def5678", ""), SourceTree("abc1234", "0123456789ab")])
def test_a_row_of_other_code_is_none(held_out, monkeypatch, code):
    judgements.record(held_out, "test")
    monkeypatch.setattr(judgements, "source_tree", lambda: code)
    zoo = stored_zoos(held_out)[0]
    with pytest.raises(InputError, match="is held out"):
        StoredZoo.read(zoo.path, zoo.seed)
    judgements.record(held_out, "test")
    assert StoredZoo.read(zoo.path, zoo.seed).views
    assert list(rows().changes) == ["clean", f"dirty {code.changes}" if code.changes else "clean"]


def test_other_suites_leave_no_row(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(judgements, "RESULTS", tmp_path / "results")
    call("evaluate", trained)
    assert not (tmp_path / "results").exists()
    assert gather(read(trained)).judgements == ""


def test_the_page_and_the_markdown_say_how_often(held_out, tmp_path, monkeypatch):
    call("evaluate", held_out)
    monkeypatch.setattr(judgements, "judgements_file", lambda suite: judgements.RESULTS / HELD_OUT / "judgements.csv")
    content = gather(read(held_out))
    assert "Judged 1 time:" in markdown(content)
    assert "Judged 1 time:" in render(content)


def test_the_state_of_the_code_is_its_commit_and_what_differs_from_it(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    monkeypatch.setattr(source, "ROOT", tmp_path)
    assert source.source_tree() == SourceTree("", "")
    git("init", "-q")
    for folder in ("augmentations", "detectors", "selector", "benchmarks"):
        write(f"{folder}/a.py", "1")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = source.source_tree()
    assert clean.commit
    assert clean.changes == ""
    write("benchmarks/results/held-out/judgements.csv", "a row")
    write("notes.txt", "no code")
    assert source.source_tree() == clean
    write("detectors/a.py", "2")
    changed = source.source_tree()
    assert str(changed) == f"{clean.commit}-dirty"
    write("detectors/b.py", "new")
    assert len({clean.changes, changed.changes, source.source_tree().changes}) == 3


def test_results_lie_in_the_repository():
    assert judgements.judgements_file("seen").parent == Path(__file__).parents[3] / "benchmarks" / "results" / "seen"
