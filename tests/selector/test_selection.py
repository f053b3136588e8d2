"""The answer: what a selection says in words, and what it does with images."""

import pytest
import torch

import selector
from augmentations import InputError
from selector import select_best
from selector.inputs.digests import image_digest
from selector.ranking.cross_fit import CrossFitPValue
from selector.ranking.rules import DEFAULT_MEMBERS

CUTOUT = {"augmentations": {"cutout": [{}]}}  # one training


def test_why_is_the_same_twice_and_when_loaded(run):
    why, loaded = run.why(), selector.load(run.path).why()
    assert str(loaded) == str(why)
    assert set(why.preferred.criterion) == {*selector.criteria.names(), *selector.consensus.names()}
    assert why.preferred.set_index("criterion")["rank"][run.result.rule.names[0]] == 1
    assert not why.agreement.empty


def test_detect_gives_scores_p_values_verdicts_and_maps(run, stripes, scratched):
    images = torch.cat([stripes(5, 9), scratched(5, 10)])
    detections = run.detect(images)
    assert detections.maps.shape == (10, 32, 32)
    assert len(detections.names) == len(detections.table) == 10
    assert detections.n_calibration == 6
    assert detections.false_alarm_rate == pytest.approx(1 / 7)
    assert torch.equal(detections.is_anomaly, detections.p_values <= 1 / 7)
    assert detections.scores[5:].mean() > detections.scores[:5].mean()
    assert detections.table.verdict.isin(["normal", "anomaly"]).all()


def test_detect_refuses_a_rate_that_the_calibration_images_cannot_support(run, stripes):
    with pytest.raises(InputError, match="6 calibration images"):
        run.detect(stripes(2), false_alarm_rate=0.01)


def test_an_fdr_that_no_image_can_reach_is_refused_and_another_says_what_it_takes(run, stripes, scratched):
    with pytest.raises(InputError, match=r"fdr=0\.1: the smallest p-value"):
        run.detect(scratched(20), fdr=0.1)
    found = run.detect(torch.cat([stripes(10), scratched(10)]), fdr=0.5)
    assert found.fewest_anomalies == 6  # 1/7 <= .5 k / 20
    assert run.detect(stripes(3)).fewest_anomalies == 1


def test_a_run_without_a_folder_lives_with_the_selection(data, options):
    selection = select_best(*data, **options | CUTOUT)
    assert selection.path.is_dir()
    path = selection.path
    del selection
    assert not path.exists()


def test_the_verdict_names_the_choice_and_the_rule(run):
    text = " ".join(run.verdict)
    assert run.best.training.augmentation in text
    assert run.result.rule.describe() in text


class TestImagesThatTookPart:
    """A test image without which others would have been chosen is compared with those."""

    @pytest.fixture
    def doubtful(self, run, data):
        images = (CrossFitPValue(3, image_digest(data[1][3]), 0.125),)
        return selector.Selection(run.zoo, run.result, run.result.members(DEFAULT_MEMBERS), images, run.correction)

    def test_its_p_value_is_the_others_and_no_other_image_changes(self, run, doubtful, data):
        expected = run.detect(data[1][:6]).p_values.clone()
        expected[3] = 0.125
        assert torch.equal(doubtful.detect(data[1][:6]).p_values, expected)
        assert torch.equal(doubtful.test_p_values[:6], expected)
        assert torch.equal(doubtful.detect(data[1][:3]).p_values, expected[:3])


def test_an_image_has_one_p_value_wherever_it_is_scored(run, data):
    """Alone, in a batch, as a test image: copies of calibration images tie with these, whatever rounding does."""
    store = run.zoo.store
    images = torch.cat([data[1], data[1][:5], store.images["calibration"]])
    together = run.detect(images).p_values
    alone = torch.cat([run.detect(image[None]).p_values for image in images])
    assert torch.equal(alone, together)
    assert torch.equal(together[: len(data[1])], run.test_p_values)
    assert torch.equal(together[len(data[1]) : len(data[1]) + 5], run.test_p_values[:5])
