"""A kind and a scorer that nobody here knows, from files of a user's, through everything that a selection does."""

import re
import sys
from pathlib import Path

import pytest
import torch

import detectors
from augmentations import InputError
from selector import load, select_best
from selector.selection import Selection

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
GRID = {"cutout": [{}], "cutpaste": [{}]}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The examples of docs/extend.md as a user would have them: two files in a folder that Python looks into."""
    folder = tmp_path_factory.mktemp("users")
    for name in ("random_features", "nearest"):
        (folder / f"{name}.py").write_text(EXAMPLES[name], "utf-8")
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def run(modules, tiny, stripes, scratched, tmp_path_factory):
    from nearest import Nearest
    from random_features import RandomFeatures

    out = tmp_path_factory.mktemp("runs") / "run"
    test = torch.cat([stripes(8, 5), scratched(4)])
    return select_best(
        stripes(30, 2),
        test,
        augmentations=GRID,
        detectors=("classifier", RandomFeatures),
        scorers={"gaussian": [{}], Nearest: [{"k": 1}, {"k": 2}]},
        preset=tiny,
        jobs=2,
        members=9,
        out=out,
    )


def test_it_is_trained_in_workers_and_ranked_beside_the_others(run):
    ranking = run.ranking
    assert len(ranking) == 9
    assert (ranking.status != "failed").all(), ranking.reason.tolist()
    own = ranking[ranking.detector == "random_features:RandomFeatures"]
    assert set(own.scorer) == {"gaussian", "Nearest (k 1)", "Nearest (k 2)"}
    assert set(own.augmentation) == {"none"}
    assert own.dsv.isna().all()
    assert own.pseudo_auc.notna().all()
    assert own.reason.str.contains("need augmented").all()


def test_scorers_share_one_training(run):
    trained = {candidate.training_id for candidate in run.zoo.candidates}
    assert len(trained) == len(list((run.path / "trained").iterdir())) == 3


def test_it_is_loaded_and_detects_the_same(run, stripes, scratched):
    images = torch.cat([stripes(3, 7), scratched(2, 8)])
    first, again = run.detect(images), load(run.path).detect(images)
    assert torch.equal(first.scores, again.scores)
    assert torch.equal(first.maps, again.maps)
    assert any(member.training.detector.startswith("random_features:") for member in run.members)


def test_it_is_reported_and_explained(run, tmp_path):
    page = run.report(tmp_path).read_text("utf-8")
    assert "RandomFeatures" in page
    assert "Nearest (k 2)" in page
    assert "RandomFeatures" in " ".join(run.why().preferred.description) or run.why().summary


@pytest.mark.slow
def test_it_is_exported_and_the_program_scores_alike(run, tmp_path, stripes):
    """With its own scorer, beside one of ours: each further member would only be exported like these."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    table = run.ranking
    own = table[table.detector.str.startswith("random_features:") & table.scorer.str.startswith("Nearest")]
    two = [own.candidate.iloc[0], table[table.detector == "classifier"].candidate.iloc[0]]
    run = Selection(run.zoo, run.result, two, (), run.correction)
    folder = run.export(tmp_path / "exported")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    images = stripes(3, 9)
    (scores,) = session.run(["score"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), run.detector.score(images), rtol=1e-3, atol=1e-4)


def test_a_criterion_that_it_can_not_support_is_refused_before_training(modules, tiny, stripes, tmp_path):
    from random_features import RandomFeatures

    with pytest.raises(InputError, match=r"'dsv'.*pseudo anomalies.*'random_features'"):
        select_best(
            stripes(24),
            stripes(6, 1),
            augmentations=GRID,
            detectors=("classifier", RandomFeatures),
            criterion="dsv",
            preset=tiny,
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_a_class_that_workers_can_not_import_is_refused():
    class Local(detectors.get("pixels")):
        name = "local"

    with pytest.raises(InputError, match="defined inside a function"):
        detectors.get(Local)


def test_a_run_whose_kind_is_missing_says_which_module_it_needs(run, modules, monkeypatch):
    monkeypatch.delitem(sys.modules, "random_features")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(modules)])
    with pytest.raises(InputError, match=r"random_features.*no module.*PYTHONPATH"):
        load(run.path)
