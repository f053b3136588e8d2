"""The record of a selection: who was chosen, the detector that they form, and that a loaded record is the same."""

import json

import pandas as pd
import pytest
import torch

import selector
from augmentations import InputError
from detectors.checksums import with_checksum
from detectors.ensemble import FEW
from selector import select_best
from selector.detection.conformal import p_values
from selector.inputs.digests import image_digest
from selector.ranking import cross_fit
from selector.ranking.rules import DEFAULT_MEMBERS, resolve_decision
from selector.selection import TOOK_PART


def frame(selection):
    return json.loads(selection.ranking.to_json())


def test_the_detector_is_the_best_candidates_together(run, data):
    trusted = run.ranking[run.ranking.status == "ok"].candidate.tolist()
    assert [member.id for member in run.members] == trusted[:DEFAULT_MEMBERS]
    assert 1 < len(trusted) <= FEW  # whose mean is taken
    evidence = [run.zoo.evidence(candidate_id)[0] for candidate_id in trusted]
    by_hand = torch.stack([one.test_scores / one.validation_scores.mean() for one in evidence]).mean(0)
    scores = run.detector.score(data[1])
    torch.testing.assert_close(scores, by_hand)
    assert torch.equal(scores, run.zoo.scores(trusted).test_scores)


def test_one_member_is_the_best_candidate_alone(run_copy, data, options):
    alone = select_best(*data, **options, members=1, out=run_copy)
    assert alone.members == (alone.best,)
    assert alone.detector_id == alone.best.id
    assert torch.equal(alone.detector.score(data[1]), alone.zoo.evidence(alone.best.id)[0].test_scores)
    assert not any("Recommended" in sentence for sentence in alone.verdict)


def test_every_candidates_detector_is_there(run, data):
    assert torch.equal(run.zoo.detector(run.best.id).score(data[1]), run.zoo.evidence(run.best.id)[0].test_scores)
    other = run.ranking.candidate[1]
    assert torch.equal(run.zoo.detector(other).score(data[1]), run.zoo.evidence(other)[0].test_scores)


def test_an_unknown_candidate_is_refused(run):
    with pytest.raises(InputError, match="nope"):
        run.zoo.detector("nope")


def test_load_gives_what_was_selected(run, data):
    loaded = selector.load(run.path)
    assert frame(loaded) == frame(run)
    assert loaded.verdict == run.verdict
    assert loaded.ranking.hyperparameters.tolist() == run.ranking.hyperparameters.tolist()
    assert torch.equal(loaded.detector.score(data[1]), run.detector.score(data[1]))


def test_load_refuses_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        selector.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_files_of_the_ranking_are_readable(run):
    table = pd.read_csv(run.path / "ranking.csv")
    assert json.loads(table.hyperparameters[0]) == {k: list(v) for k, v in run.best.hyperparameters.items()}
    saved = json.loads((run.path / "selection.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert len(saved["ranking"]) == 3


@pytest.mark.parametrize("damage", ['{"ranking": []}', "[]", "{not json"])
def test_load_refuses_a_damaged_selection(run_copy, damage):
    (run_copy / "selection.json").write_text(damage)
    with pytest.raises(InputError):
        selector.load(run_copy)


@pytest.mark.parametrize("there", [None, 0, 2, "1"])
def test_a_run_folder_of_another_format_is_refused_in_one_sentence(run_copy, data, options, there):
    """Also one that says nothing of its format; and nothing in it is changed."""
    description = json.loads((run_copy / "run.json").read_text())
    assert description.pop("format") == 1
    if there is not None:
        description["format"] = there
    (run_copy / "run.json").write_text(json.dumps(with_checksum(description)))
    before = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*") if path.is_file()}
    for refuse in (lambda: selector.load(run_copy), lambda: select_best(*data, **options, out=run_copy)):
        with pytest.raises(InputError, match=r"another version of ssad.*select again in a new folder") as error:
            refuse()
        assert len(str(error.value).splitlines()) == 1
        assert repr(there) in str(error.value)
    after = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_the_p_values_of_images_that_took_part_are_those_of_the_others(data, options, run_copy):
    """Of one member, so that the choice changes with an image somewhere."""
    chosen = select_best(*data, **options, criterion="rtm", members=1, out=run_copy)
    assert selector.load(run_copy).cross_fit_p_values == chosen.cross_fit_p_values
    records = {candidate.id: record for candidate, record in chosen.zoo.records()}
    evidence = {i: chosen.zoo.evidence(i) for i in records}
    decision = resolve_decision("rtm", 6)
    others = cross_fit.selections_without_fold(chosen.zoo.candidates, records, evidence, decision, seed=0, members=1)
    affected = [row for row, ids in enumerate(others) if ids != (chosen.best.id,)]
    assert [image.row for image in chosen.cross_fit_p_values] == affected
    for image in chosen.cross_fit_p_values:
        (other,) = others[image.row]
        p = p_values(chosen.zoo.calibration([other])["scores"], chosen.zoo.evidence(other)[0].test_scores)
        assert image.p_value == p[image.row].item()
        assert image.digest == image_digest(data[1][image.row])


def test_the_report_says_whether_p_values_of_test_images_are_corrected(run, data, options, tmp_path):
    """No correction is claimed where none was made: a criterion of embeddings decides."""
    one = {"augmentations": {"cutout": [{}]}, "out": tmp_path / "run"}
    other = selector.load(select_best(*data, **options | one, criterion="dsv").path)
    assert not other.correction.is_corrected
    seen, new = other.detect(data[1]).remarks, other.detect(1 - data[1]).remarks
    assert all(TOOK_PART in remark for remark in seen)
    assert not any(TOOK_PART in remark for remark in new)
    assert not any(TOOK_PART in remark for remark in run.detect(data[1]).remarks)
    page = other.report(tmp_path / "dsv").read_text()
    assert "not corrected for it: criteria that read embeddings" in page
    assert "chosen without it" not in page
    assert json.loads((tmp_path / "dsv/report.json").read_text())["correction"]["is_corrected"] is False
    assert run.correction.is_corrected
    assert "chosen without it" in run.report(tmp_path / "auto").read_text()


def test_an_id_that_is_a_path_is_refused(run_copy):
    """It would be read from, and named as what to delete, wherever it leads."""
    saved = json.loads((run_copy / "selection.json").read_text())
    saved["members"] = ["../../elsewhere"]
    (run_copy / "selection.json").write_text(json.dumps(with_checksum(saved)))
    with pytest.raises(InputError, match=r"elsewhere.*is not a known name"):
        selector.load(run_copy)
