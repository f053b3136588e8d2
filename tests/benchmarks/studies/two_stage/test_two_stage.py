"""`ssad benchmark study two-stage`: what is finished is not trained again, and the tables say what was seen."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from augmentations import InputError
from benchmarks.command import app
from benchmarks.datasets.registry import other_classes
from benchmarks.leaderboard import published_two_stage as published
from benchmarks.studies.two_stage import command, measure, store, tables
from benchmarks.studies.two_stage.claims import CLAIMS, claims
from benchmarks.suites import definitions
from benchmarks.suites.two_stage import ON_CPU
from benchmarks.tasks.task import Task

ROWS = ("contrastive", "pixels")


def call(*words):
    result = CliRunner().invoke(app, ["study", "two-stage", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def suite(tiny_suite):
    """The tiny suite under a name that the study knows, with trainings of two steps."""
    kinds = {name: ON_CPU[name] for name in ROWS}
    kinds["contrastive"] = replace(kinds["contrastive"], settings={"batch": 4, "steps": 2})
    command.KINDS["tiny"] = kinds
    yield tiny_suite
    del command.KINDS["tiny"]


@pytest.fixture(scope="module")
def done(suite, tmp_path_factory):
    out = tmp_path_factory.mktemp("two-stage") / "out"
    call("--out", out, "--suite", "tiny", "--data", "plain", "--contamination", 0, "--contamination", 0.1)
    return out


def test_every_training_has_a_file_and_all_rows_a_table(done):
    assert len(list((done / "rows").glob("*.parquet"))) == len(ROWS) * 2 * 2  # seeds, ratios
    rows = pd.read_csv(done / "results.csv")
    assert list(rows.columns) == list(measure.COLUMNS)
    assert not rows.duplicated(["data_set", "seed", "contamination", "kind", "protocol", "scorer"]).any()
    assert set(rows.protocol) == {measure.ONE_CLASS}  # of so few images none is set aside
    text = (done / "tables.md").read_text("utf-8")
    assert "What contamination costs" in text
    assert "0.958" in text  # published
    assert published.SOURCE in text


def test_a_stopped_run_goes_on_where_it_was(done, suite, monkeypatch):
    missing = store.rows_file(done, "plain", 1, 0.1, "pixels")
    missing.unlink()
    trained = []
    rows = measure.rows
    monkeypatch.setattr(measure, "rows", lambda *args: trained.append(args[3]) or rows(*args))
    call("--out", done, "--suite", "tiny", "--data", "plain", "--contamination", 0, "--contamination", 0.1)
    assert trained == [1]
    assert missing.is_file()
    call("--out", done, "--suite", "tiny", "--no-train")
    assert trained == [1]


def test_another_run_or_other_names_are_refused_before_training(done, suite, tmp_path):
    with pytest.raises(InputError, match="other settings"):
        call("--out", done, "--suite", "two_stage", "--no-train")
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        call("--out", tmp_path, "--suite", "tiny")
    with pytest.raises(InputError, match="pixels"):
        call("--out", tmp_path / "new", "--suite", "tiny", "--kind", "pixel")
    with pytest.raises(InputError, match="two_stage"):
        call("--out", tmp_path / "new", "--suite", "twostage")
    with pytest.raises(InputError, match="--root mvtec"):
        call("--out", tmp_path / "paper", "--suite", "two_stage-paper", "--data", "mvtec-cable")


def test_contamination_comes_from_the_train_images_of_other_classes(monkeypatch):
    assert other_classes("fashion-mnist-3") == [f"fashion-mnist-{k}" for k in range(10) if k != 3]
    assert len(other_classes("cifar100-0")) == 19
    assert other_classes("mvtec-cable") == other_classes("btech-01") == []

    def load(name, size, root=None):
        images = torch.full((5, 1, 4, 4), int(name[-1]) / 10)
        return Task(name, images, images, torch.tensor([0, 0, 0, 1, 1]))

    monkeypatch.setattr(definitions, "load", load)
    pool = command.others(definitions.DataSet(("fashion-mnist-3",), "f", image_size=4, reduced=True), {})
    assert sorted((10 * pool[:, 0, 0, 0]).round().int().tolist()) == sorted(5 * [0, 1, 2, 4, 5, 6, 7, 8, 9])


def test_without_contamination_the_test_set_is_whole_and_labeled_images_are_no_train_images(stripes):
    labels = torch.tensor([0, 1] * 10, dtype=torch.uint8)
    images = stripes(command.ENOUGH)
    task = Task("made", images, stripes(20, seed=1), labels)
    whole = command.split(task, 0.0, 0, None, 0.0)
    assert torch.equal(whole.task.test, task.test)
    assert len(whole.inliers) == 50
    assert len(whole.task.train) == command.ENOUGH - 50
    train = {image.sum().item() for image in whole.task.train}
    assert not train & {image.sum().item() for image in whole.inliers}


def rows_of(values):
    """Rows of one class of Fashion-MNIST: AUROC by kind, scorer, share of anomalies and protocol."""
    made = []
    for (kind, scorer, ratio, protocol), value in values.items():
        same = {"data_set": "fashion-mnist-0", "seed": 0, "contamination": ratio, "kind": kind, "reason": ""}
        spread = -0.5 if kind == "contrastive DA" else -1.0
        numbers = {"auroc": value, "uniformity": spread, "head_uniformity": spread, "steps": 10, "seconds": 1.0}
        made.append(dict.fromkeys(measure.COLUMNS) | same | {"protocol": protocol, "scorer": scorer} | numbers)
    return pd.DataFrame(made).astype(dict.fromkeys(measure.NUMBERS, float))


def test_claims_compare_the_same_trainings_and_say_what_was_not_run():
    clean = {
        ("contrastive DA", "kde", 0.0, measure.ONE_CLASS): 0.9,
        ("contrastive", "kde", 0.0, measure.ONE_CLASS): 0.8,
        ("contrastive", "knn", 0.0, measure.ONE_CLASS): 0.8,
        ("pixels", "kde", 0.0, measure.ONE_CLASS): 0.85,
        ("untrained", "kde", 0.0, measure.ONE_CLASS): 0.86,
    }
    dirty = {
        ("contrastive", "kde", 0.1, measure.ONE_CLASS): 0.79,
        ("contrastive", "knn", 0.1, measure.ONE_CLASS): 0.70,
    }
    table = claims(rows_of(clean | dirty)).set_index("claim")
    assert list(table.index) == list(CLAIMS)
    assert table.shown["contrastive DA + KDE above pixels + KDE"] == "yes"
    assert table.shown["pixels + KDE above untrained + KDE"] == "not reproduced"
    assert table.shown["distribution augmentation: features less uniform"] == "yes"
    assert table.shown["they cost it 0.03 at least"] == "yes"
    lost = table.loc["10% anomalies cost 1-nearest-neighbour scores more than KDE"]
    assert (lost["first"], lost["second"], lost["pairs"], lost["shown"]) == ("0.100", "0.010", "1", "yes")
    assert table.shown["the MLP head helps rotation, KDE"] == "not run"


def test_ours_stand_beside_what_is_published_of_the_same_kind_and_scorer():
    rows = rows_of({("contrastive DA", "kde", 0.0, measure.ONE_CLASS): 0.9})
    table = tables.beside(rows.assign(family=rows.data_set.map(published.family)))
    (row,) = table.to_dict("records")
    assert row["published"] == "0.945"
    assert row["ours"] == "0.900"
    assert row["difference"] == "-0.045"


def test_published_numbers_are_of_the_rows_of_the_comparison():
    assert {kind for kind, _ in [*published.AUROC.index, *published.BY_SCORER.index]} <= set(ON_CPU)
    for table in (published.AUROC, published.BY_SCORER, published.CUTPASTE):
        assert table.stack().dropna().between(0.5, 1).all()
    assert dict(published.AUROC["CelebA"])["rotation, MLP head", "kde"] < 0.7  # where the head is known to hurt
    assert published.family("mvtec-cable") == "MVTec detection"
    assert published.family("cifar100-3") == "CIFAR-100"
