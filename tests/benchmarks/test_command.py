"""`ssad benchmark`: run, evaluate and report, as a newcomer types them."""

import os
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from augmentations import InputError
from benchmarks.command import app
from benchmarks.suites import run as suite_run
from detectors import get_preset
from selector.ranking import evaluation

FILES = ("leaderboard.csv", "candidates.csv", "settings.json", "summary.csv", "index.html", "leaderboard.md")


def call(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def done(tiny_run):
    out, output = tiny_run
    assert "plain, seed 0: 3 candidates" in output
    assert str(out / "index.html") in output
    return out


def test_a_run_leaves_rows_and_a_leaderboard(done):
    assert all((done / name).is_file() for name in FILES)
    assert not list(done.glob("training/*/progress"))
    assert len(pd.read_csv(done / "leaderboard.csv").groupby(["task", "seed", "anomaly_ratio"])) == 12


@pytest.mark.drill
def test_evaluating_again_in_worker_processes_gives_the_same_rows(done, tmp_path, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    copy = shutil.copytree(done, tmp_path / "copy")
    shutil.rmtree(copy / "training")
    (copy / "leaderboard.csv").unlink()
    call("evaluate", copy)
    assert (copy / "leaderboard.csv").read_bytes() == (done / "leaderboard.csv").read_bytes()


def test_a_zoo_that_can_not_be_evaluated_is_no_silent_loss(done, tmp_path):
    """It was trained before a stop; the next run evaluates it, and says so where it can't."""
    copy = shutil.copytree(done, tmp_path / "copy")
    (copy / "zoos" / "plain-0" / "leaderboard.csv").unlink()
    (copy / "zoos" / "plain-0" / "criteria.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"criteria.parquet"):
        call("run", "tiny", "--out", copy, "--jobs", 1, "--device", "cpu")


def test_every_data_set_is_left_out_once(done, tmp_path):
    copy = shutil.copytree(done, tmp_path / "copy")
    output = call("study", "leave-one-dataset-out", copy)
    assert str(copy / "leave_one_dataset_out.md") in output
    rows = pd.read_csv(copy / "leave_one_dataset_out.csv")
    assert len(rows.groupby(["task", "seed", "anomaly_ratio"])) == 12
    assert rows.groupby([rows.task.str.partition("-")[0], "criterion"]).rule.nunique().eq(1).all()


def test_a_report_may_go_elsewhere(done, tmp_path):
    assert str(tmp_path / "page" / "index.html") in call("report", done, "--to", tmp_path / "page")
    assert (tmp_path / "page" / "leaderboard.tex").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nope", "--out", "x"], r"suite"),
        (["run", "tiny", "--out", "x", "--root", "mvtec"], r"--root mvtec.*NAME=FOLDER"),
        (["evaluate", "nowhere"], r"settings.json"),
        (["report", "nowhere"], r"settings.json"),
        (["study", "leave-one-dataset-out", "nowhere"], r"settings.json"),
    ],
)
def test_bad_input_is_refused(tiny_suite, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call(*words)


@pytest.mark.parametrize(
    "name",
    [
        *("contamination", "false-alarms", "leave-one-dataset-out", "learning-curves", "localization", "sample-size"),
        *("shifts", "supervised-probe"),
    ],
)
def test_every_study_is_a_command(name):
    assert "Usage" in call("study", name, "--help")


def test_the_sample_size_of_a_run_is_two_tables(done):
    lines = [line for line in call("study", "sample-size", done).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 + 2 + 4


def test_too_few_images_to_find_a_shift_are_said(done):
    with pytest.raises(InputError, match=r"no zoo to test for a shift: 6 validation images are fewer than 20"):
        call("study", "shifts", done)


def test_shifts_of_a_run_are_tables_of_every_rule(done, monkeypatch):
    monkeypatch.setattr(evaluation, "MIN_VALIDATION_FOR_SHIFT", 6)
    output = call("study", "shifts", done)
    assert output.count("| kind | strength |") == 2
    assert "| with fallback |" in output


def test_the_paper_suite_reads_its_layouts_and_trains(tiny, tmp_path, monkeypatch):
    """A miniature of MVTec AD and MPDD in the publishers' layout, 32 px and a few steps."""
    from dataclasses import replace

    import numpy as np
    from PIL import Image

    from benchmarks.suites import definitions as suites

    source = np.random.default_rng(0)

    def photo(path, blot=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = source.integers(90, 130, (40, 40, 3), dtype=np.uint8)
        if blot:
            pixels[10:20, 10:20] = 250
        Image.fromarray(pixels).save(path)

    for family, category in (("mvtec", "bottle"), ("mpdd", "tubes")):
        root = tmp_path / family / category
        for i in range(24):
            photo(root / "train" / "good" / f"{i:03}.png")
        for i in range(6):
            photo(root / "test" / "good" / f"{i:03}.png")
            photo(root / "test" / "broken" / f"{i:03}.png", blot=True)
            mask = np.zeros((40, 40), np.uint8)
            mask[10:20, 10:20] = 255
            (root / "ground_truth" / "broken").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / "ground_truth" / "broken" / f"{i:03}_mask.png")

    paper = suites.get("paper")
    assert [d.name for d in paper.data_sets][:2] == ["mvtec-bottle", "mvtec-cable"]
    assert len(paper.data_sets) == 15 + 6
    few = tuple(replace(d, image_size=32) for d in paper.data_sets if d.name in ("mvtec-bottle", "mpdd-tubes"))
    zoo = suites.classifiers({name: cells[:1] for name, cells in paper.zoo[0].augmentations.items()})
    miniature = replace(paper, data_sets=few, zoo=zoo, preset=tiny, seeds=(0,), ratios=(0.5,))
    monkeypatch.setitem(suites.SUITES, "paper", miniature)
    out = tmp_path / "out"
    roots = [word for family in ("mvtec", "mpdd") for word in ("--root", f"{family}={tmp_path / family}")]
    call("run", "paper", "--out", out, "--jobs", 1, "--device", "cpu", *roots)
    assert set(pd.read_csv(out / "leaderboard.csv").task) == {"mvtec-bottle", "mpdd-tubes"}
    with pytest.raises(InputError, match=r"root=None.*bottle"):
        call("run", "paper", "--out", tmp_path / "other", "--jobs", 1, "--device", "cpu")


@pytest.mark.parametrize("lost", ["of the zoo", "of the run", "all but the settings' draft"])
def test_a_run_that_was_killed_between_any_two_files_ends(done, tiny_suite, tmp_path, lost):
    """Killed before the rows of all zoos were joined; between the two tables of a zoo; before there were settings."""
    out = tmp_path / "run"
    if lost == "all but the settings' draft":
        out.mkdir()
        (out / f".settings.json.{os.getpid()}.1.tmp").write_text("{")
        suite_run._begin(tiny_suite, get_preset("tiny"), out, "")
        assert {path.name for path in out.iterdir()} == {"settings.json"}
        return
    shutil.copytree(done, out)
    for path in {"of the zoo": out.glob("zoos/*/leaderboard.csv"), "of the run": out.glob("*.csv")}[lost]:
        path.unlink()
    ended = CliRunner().invoke(app, ["run", "tiny", "--out", str(out), "--jobs", "1", "--device", "cpu"])
    assert ended.exit_code == 0, ended.output
    assert (out / "leaderboard.csv").read_bytes() == (done / "leaderboard.csv").read_bytes()
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
