"""What decides on an image that took part in the choice: the candidates that are chosen without it."""

from dataclasses import replace

import pytest
import torch

from detectors import Classifier, ScorerSpec, get_preset
from selector.detection.conformal import p_values
from selector.evidence.evidence import Evidence
from selector.inputs.digests import image_digest
from selector.ranking import bootstrap
from selector.ranking.cross_fit import (
    FOLDS,
    CrossFitPValue,
    affected_images,
    correction_of,
    selections_without_fold,
)
from selector.ranking.ranking import rank
from selector.ranking.rules import resolve_decision
from selector.zoo.candidates import Candidate, Training

SETTINGS = Classifier.settings_for(get_preset("quick"))
OK = {"status": "ok", "reason": ""}
CANDIDATES = [
    Candidate(Training("classifier", SETTINGS, "cutout", (("area", (a, a)),), 0), ScorerSpec("gaussian"))
    for a in (0.1, 0.2, 0.3)
]
RECORDS = {candidate.id: OK for candidate in CANDIDATES}
SAME_KIND = {candidate.id: candidate.kind_of_scores for candidate in CANDIDATES}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Error bars are not looked at here."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 2)


def evidence(n_test: int, seed: int = 0) -> dict[str, list[Evidence]]:
    """Two draws per candidate, whose test scores are noise."""
    source = torch.Generator().manual_seed(seed)
    by_candidate = {}
    for candidate in CANDIDATES:
        validation, test = torch.randn(30, generator=source).exp(), torch.randn(n_test, generator=source).exp()
        one = Evidence(
            validation_scores=validation,
            augmented_scores=validation + 5,
            test_scores=test,
            pseudo_scores=validation + 1,
            test=torch.randn(n_test, 3, generator=source),
        )
        by_candidate[candidate.id] = [one, one]
    return by_candidate


def without(evidence_of: dict[str, list[Evidence]], row: int) -> dict[str, list[Evidence]]:
    others = torch.arange(len(evidence_of[CANDIDATES[0].id][0].test_scores)) != row
    return {i: [one.subset(test=others, test_scores=others) for one in draws] for i, draws in evidence_of.items()}


def selections(evidence_of, criterion, members):
    decision = resolve_decision(criterion, 30)
    return selections_without_fold(CANDIDATES, RECORDS, evidence_of, decision, seed=0, members=members)


def best(evidence_of, criterion, members):
    return rank(CANDIDATES, RECORDS, evidence_of, resolve_decision(criterion, 30).normal, seed=0).members(members)


@pytest.mark.parametrize(
    ("criterion", "members", "seed"), [("auto", 1, 0), ("auto", 2, 4), ("rtm", 1, 0), ("rtm", 2, 0)]
)
def test_of_few_images_each_is_left_out_alone(criterion, members, seed):
    evidence_of = evidence(FOLDS, seed)
    expected = [best(without(evidence_of, row), criterion, members) for row in range(FOLDS)]
    assert selections(evidence_of, criterion, members) == expected
    assert len(set(expected)) > 1


def test_an_image_has_no_say_in_what_decides_on_it():
    evidence_of = evidence(90)
    before, first = selections(evidence_of, "score_shift", 1), best(evidence_of, "score_shift", 1)
    other = next(c.id for c in CANDIDATES if c.id != first[0])
    for row in (0, 40, 89):
        (one, *_), pushed = evidence_of[other], evidence_of[other][0].test_scores.clone()
        pushed[row] *= 1e36
        moved = evidence_of | {other: 2 * [Evidence(**dict(one.items()) | {"test_scores": pushed})]}
        assert best(moved, "score_shift", 1) == (other,)
        assert selections(moved, "score_shift", 1)[row] == before[row]


def test_folds_are_as_even_as_can_be(monkeypatch):
    from selector.ranking import cross_fit

    seen = []
    evaluate_candidate = cross_fit.evaluate_candidate

    def spy(record, draws, chosen, rule):
        seen.append(len(draws[0].test_scores))
        return evaluate_candidate(record, draws, chosen, rule)

    monkeypatch.setattr(cross_fit, "evaluate_candidate", spy)
    selections(evidence(90), "rtm", 1)
    assert set(seen) == {90 - 5, 90 - 4}


def one_for_all(evidence):
    return 1.0


@pytest.mark.parametrize("criterion", ["dsv", one_for_all], ids=["dsv", "custom"])
def test_where_more_than_scores_may_decide_nothing_is_cross_fitted(criterion):
    assert selections(evidence(30), criterion, 1) == []


def test_affected_images_have_the_p_value_of_the_others_and_are_recognised_by_their_pixels():
    evidence_of, images = evidence(3), torch.rand(3, 1, 4, 4)
    a, b, c = (candidate.id for candidate in CANDIDATES)
    calibration = {i: torch.rand(9, generator=torch.Generator().manual_seed(n)) for n, i in enumerate((a, b, c))}
    affected = affected_images((a, b), [(b, a), (b, c), (a, b)], images, evidence_of, calibration.get, SAME_KIND)
    scores = torch.stack(
        [evidence_of[i][0].test_scores / evidence_of[i][0].validation_scores.mean() for i in (b, c)]
    ).amax(0)
    of_calibration = torch.stack([calibration[i] / evidence_of[i][0].validation_scores.mean() for i in (b, c)]).amax(0)
    assert affected == (CrossFitPValue(1, image_digest(images[1].clone()), p_values(of_calibration, scores)[1].item()),)
    assert len({image_digest(image) for image in images}) == 3


def test_candidates_without_pseudo_anomalies_are_cross_fitted_with_the_others():
    evidence_of = evidence(FOLDS)
    lacking = CANDIDATES[1].id
    mixed = evidence_of | {lacking: [replace(evidence_of[lacking][0], augmented_scores=None)]}
    assert selections(mixed, "rtm", 1) == selections(evidence_of, "rtm", 1)
    assert selections(mixed, "auto", 2) == selections(evidence_of, "auto", 2)


def test_identical_images_are_left_out_together_and_have_one_p_value():
    """They have one p-value in ``test_p_values`` and in ``detect``, which recognises images by their pixels."""
    evidence_of = evidence(60)
    copies = [*range(57), 0, 1, 2]
    first = {i: torch.tensor(copies) for i in evidence_of}
    same = {i: [one.subset(test=first[i], test_scores=first[i]) for one in draws] for i, draws in evidence_of.items()}
    decision = resolve_decision("rtm", 30)
    chosen = selections_without_fold(CANDIDATES, RECORDS, same, decision, 0, 1, copies)
    assert chosen[57:] == chosen[:3]
    assert len(set(chosen)) > 1
    images = torch.rand(57, 1, 4, 4)[torch.tensor(copies)]
    calibration = {c.id: torch.rand(9, generator=torch.Generator().manual_seed(n)) for n, c in enumerate(CANDIDATES)}
    other = [(CANDIDATES[1].id,)] * 60
    affected = affected_images((CANDIDATES[0].id,), other, images, same, calibration.get, SAME_KIND)
    assert len(affected) == 60
    assert len({(image.digest, image.p_value) for image in affected}) == len({image.digest for image in affected}) == 57


@pytest.mark.parametrize(
    ("criterion", "has_test", "learns", "is_corrected", "reason"),
    [
        ("auto", True, False, True, ""),
        ("auto", True, True, False, "the search proposed candidates"),
        ("pseudo_auc", True, True, True, "no criterion that decides reads"),
        ("dsv", True, False, False, "criteria that read embeddings"),
        (one_for_all, True, False, False, "or your own"),
        ("auto", False, False, False, "there are no test images"),
    ],
)
def test_whether_test_images_are_corrected_is_said_with_the_reason(criterion, has_test, learns, is_corrected, reason):
    correction = correction_of(resolve_decision(criterion, 30, has_test), has_test, learns)
    assert correction.is_corrected == is_corrected
    assert reason in correction.reason
    assert is_corrected or correction.reason
