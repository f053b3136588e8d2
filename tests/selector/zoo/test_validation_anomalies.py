"""Validation anomalies, and what two criteria make of the scores of them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import augmentations
from augmentations import InputError
from selector import Evidence, criteria
from selector.zoo.validation_anomalies import anomaly_scores, make_validation_anomalies, resampled


@pytest.fixture(scope="module")
def normal():
    return torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def augmentations_of(*names):
    return [augmentations.make(name) for name in names]


def test_families_hold_what_is_made_of_one_another(normal):
    made = make_validation_anomalies(
        normal, augmentations_of("cutout", "cutpaste", "cutpaste_scar", "cutpaste_union", "rotation"), seed=0
    )
    assert list(made) == ["cutout", "cutpaste", "rotation"]
    assert all(images.shape == normal.shape for images in made.values())


def test_every_image_is_changed_and_members_take_turns(normal):
    large, small = augmentations.make("cutout", area=0.9, aspect=1), augmentations.make("cutout", area=0.02, aspect=1)
    made = make_validation_anomalies(normal, [large, small], seed=0)["cutout"]
    changed = (made != normal).float().mean((1, 2, 3))
    assert (changed[::2] > 0.5).all()
    assert ((changed[1::2] > 0) & (changed[1::2] < 0.1)).all()


def test_more_members_than_images_do_no_harm(normal):
    many = [augmentations.make("cutout", area=area) for area in np.linspace(0.02, 0.2, 12)]
    assert make_validation_anomalies(normal, many, seed=0)["cutout"].isfinite().all()


def test_they_follow_the_seed(normal):
    first, again, other = (
        make_validation_anomalies(normal, augmentations_of("cutpaste"), seed=s)["cutpaste"] for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_resampling_keeps_each_dimension_and_breaks_what_joins_them():
    x = torch.randn(2000, 1, dtype=torch.float64).repeat(1, 3)
    angles = torch.cat([x, torch.full((2000, 1), 100.0, dtype=torch.float64)], 1)  # hardly moved by the norm
    drawn = resampled(angles, 2000, seed=0) * 100
    for dimension in range(3):
        assert torch.allclose(drawn[:, dimension].sort().values, x[:, 0].sort().values, rtol=0.01, atol=0.01)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.1
    assert torch.allclose(resampled(angles, 5, seed=0).norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_pseudo_auc_is_their_auroc():
    v, b = np.random.default_rng(0).normal(size=30), np.random.default_rng(1).normal(1, 1, size=50)
    expected = roc_auc_score([0] * 30 + [1] * 50, np.concatenate([v, b]))
    found = criteria.evaluate(Evidence(validation_scores=v, pseudo_scores=b))
    assert found["pseudo_auc"] == pytest.approx(expected, abs=1e-12)
    assert found["npd"] == pytest.approx((b.mean() - v.mean()) ** 2 / 2 / (b.var() + v.var()), abs=1e-12)


def test_without_scores_of_them_the_criteria_are_refused():
    with pytest.raises(InputError, match="pseudo_scores"):
        criteria.evaluate(Evidence(validation_scores=np.ones(3)), ["pseudo_auc"])


def test_a_detector_scores_all_families_but_its_own(normal):
    class Mean:
        def score(self, images):
            return images.mean((1, 2, 3))

    anomalies = {"cutout": normal, "cutpaste": normal.flip(0), "rotation": 1 - normal}
    scores = anomaly_scores(Mean(), anomalies, "cutpaste")
    assert list(scores) == ["cutout", "rotation"]
    assert torch.equal(scores["rotation"], (1 - normal).mean((1, 2, 3)))
    assert list(anomaly_scores(Mean(), anomalies, None)) == list(anomalies)


def test_augmentations_of_features_make_none_and_those_that_use_the_batch_take_from_all():
    images = torch.zeros(4, 1, 32, 32)
    images[2] = 1
    makers = [augmentations.make(name) for name in ("feature_noise", "cutout")]
    assert list(make_validation_anomalies(images, makers, 0)) == ["cutout"]
    # One image to each of four turns: alone, a flat image would stay as it is.
    perlin = [augmentations.make("perlin", jitter=0, opacity=opacity) for opacity in (0.7, 0.8, 0.9, 1.0)]
    made = [make_validation_anomalies(images, perlin, seed)["perlin"] for seed in range(8)]
    assert any((each[:2] != images[:2]).any() for each in made)
