"""Contamination: which train images are anomalous, and that no image is both trained and tested on."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from augmentations import InputError, make
from benchmarks.tasks.contamination import CONTAMINATION_RATIOS, SemiSupervised, contaminated, semi_supervised
from benchmarks.tasks.task import Task
from detectors import Classifier, get_preset

N, NORMALS, ANOMALIES = 200, 30, 40


@pytest.fixture(scope="module")
def task():
    """Every image has a value of its own: train below 1/3, normal test images below 2/3, anomalies above."""
    values = torch.arange(N + NORMALS + ANOMALIES) / 1000
    values[N:] += 1 / 3
    values[N + NORMALS :] += 1 / 3
    images = values.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    labels = torch.tensor([0] * NORMALS + [1] * ANOMALIES, dtype=torch.uint8)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    kinds = tuple("" if label == 0 else "odd" for label in labels[order].tolist())
    masks = labels[order, None, None].expand(-1, 4, 4)
    return Task("grays", images[:N], images[N:][order], labels[order], masks, kinds)


def values(images):
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("ratio", CONTAMINATION_RATIOS)
def test_so_many_train_images_are_anomalies_moved_from_the_test_set(task, ratio):
    made = contaminated(task, ratio, seed=0)
    train, test = values(made.train), values(made.test)
    assert len(train) == len(set(train)) == N
    assert sum(value > 2 / 3 for value in train) == round(ratio * N)
    assert not set(train) & set(test)
    assert {value for value in train if value < 2 / 3} <= set(values(task.train))
    assert {value for value in train if value > 2 / 3} <= set(values(task.test))
    assert made.name == f"grays-contaminated-{ratio:g}"


def test_anomalies_from_a_pool_leave_the_test_set_whole(task):
    pool = 2 + torch.arange(50).view(-1, 1, 1, 1).expand(-1, 1, 4, 4) / 1000
    smaller, larger = (contaminated(task, ratio, seed=0, pool=pool) for ratio in (0.05, 0.1))
    for made, ratio in ((smaller, 0.05), (larger, 0.1)):
        strangers = {value for value in values(made.train) if value >= 2}
        assert len(strangers) == round(ratio * N)
        assert strangers <= set(values(pool))
        assert len(made.train) == N
        assert made.test is task.test
        assert made.labels is task.labels
    replaced = [made.train[:, 0, 0, 0] >= 2 for made in (smaller, larger)]
    assert replaced[1][replaced[0]].all()


def test_a_pool_must_be_large_enough_for_every_ratio(task):
    with pytest.raises(InputError, match="20 at least"):
        contaminated(task, 0.0, seed=0, pool=task.train[:19])


def test_labeled_images_are_the_same_wherever_anomalies_come_from(task):
    with_pool = semi_supervised(task, 0.1, seed=0, n=5, pool=task.train + 2)
    without = semi_supervised(task, 0.1, seed=0, n=5)
    assert torch.equal(with_pool.inliers, without.inliers)
    assert len(with_pool.task.test) == len(task.test)


def test_the_test_set_is_the_same_for_every_ratio(task):
    first, *others = (contaminated(task, ratio, seed=0) for ratio in CONTAMINATION_RATIOS)
    assert int(first.labels.sum()) == ANOMALIES - N // 10
    assert int((first.labels == 0).sum()) == NORMALS
    for other in others:
        assert torch.equal(other.test, first.test)
        assert torch.equal(other.labels, first.labels)


def test_what_the_labels_say_moves_with_the_images(task):
    made = contaminated(task, 0.05, seed=0)
    assert [value > 2 / 3 for value in values(made.test)] == [label == 1 for label in made.labels.tolist()]
    assert made.masks.amax((1, 2)).tolist() == made.labels.tolist()
    assert [kind != "" for kind in made.kinds] == [label == 1 for label in made.labels.tolist()]


def test_more_contamination_keeps_the_anomalies_of_less(task):
    train = [torch.tensor(values(contaminated(task, ratio, seed=0).train)) for ratio in CONTAMINATION_RATIOS]
    clean = torch.tensor(values(task.train))
    assert torch.equal(train[0], clean)
    for less, more in pairwise(train):
        odd = less != clean
        assert torch.equal(less[odd], more[odd])


def test_a_seed_decides_which(task):
    first, again, other = (values(contaminated(task, 0.1, seed).train) for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)


def test_the_task_is_left_alone(task):
    before = task.train.clone()
    contaminated(task, 0.1, seed=0)
    semi_supervised(task, 0.1, seed=0)
    assert torch.equal(task.train, before)


@pytest.mark.parametrize("ratio", [-0.01, 0.2, 1.5, float("nan")])
def test_ratios_out_of_range_are_refused(task, ratio):
    with pytest.raises(InputError, match=r"ratio=.*from 0 to 0\.1"):
        contaminated(task, ratio, seed=0)


def test_a_ratio_that_means_no_image_is_refused(task):
    with pytest.raises(InputError, match=r"ratio=0\.01.*less than one of 40"):
        contaminated(replace(task, train=task.train[:40]), 0.01, seed=0)


def test_an_anomaly_must_be_left_to_test_on(task):
    few = task.with_test(torch.cat([(task.labels == 0).nonzero()[:, 0], (task.labels == 1).nonzero()[:20, 0]]))
    with pytest.raises(InputError, match="20 anomalies, 20 are set aside"):
        contaminated(few, 0.01, seed=0)
    one_more = task.with_test(torch.cat([(task.labels == 0).nonzero()[:, 0], (task.labels == 1).nonzero()[:21, 0]]))
    assert int(contaminated(one_more, 0.01, seed=0).labels.sum()) == 1


@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_labeled_inliers_are_normal_and_neither_trained_nor_tested_on(task, ratio):
    setting = semi_supervised(task, ratio, seed=0)
    inliers, train, test = (values(images) for images in (setting.inliers, setting.task.train, setting.task.test))
    assert len(set(inliers)) == 50
    assert set(inliers) <= set(values(task.train))
    assert not set(inliers) & {*train, *test}
    assert len(set(train)) == N - 50
    assert sum(value > 2 / 3 for value in train) == round(ratio * (N - 50))


def test_labeled_inliers_are_the_same_for_every_ratio(task):
    settings = [semi_supervised(task, ratio, seed=0, n=7) for ratio in (0.0, 0.1)]
    assert len(settings[0].inliers) == 7
    assert torch.equal(settings[0].inliers, settings[1].inliers)
    assert torch.equal(settings[0].task.test, settings[1].task.test)


@pytest.mark.parametrize("n", [0, 1, N - 1, N])
def test_too_few_inliers_or_images_to_train_on_are_refused(task, n):
    with pytest.raises(InputError, match=f"n={n}: must be from 2 to {N - 2}"):
        semi_supervised(task, 0.0, seed=0, n=n)


def test_the_encoder_sees_the_train_images_and_the_scorer_the_inliers_only(stripes, scratched, tiny):
    task = Task("stripes", torch.cat([stripes(20), scratched(4)]), stripes(4, 5), torch.zeros(4, dtype=torch.uint8))
    inliers = stripes(16, 7)
    fresh = [
        Classifier(Classifier.settings_for(get_preset(tiny)), make("cutout"), seed=0, device="cpu") for _ in range(2)
    ]
    fitted = SemiSupervised(task, inliers).fit(fresh[0])
    encoder = fresh[1].train(task.train)
    assert torch.equal(fitted.embed(task.test), encoder.embed(task.test))
    assert torch.equal(fitted.score(task.test), encoder.fit_scorer(inliers).score(task.test))
    assert not torch.equal(fitted.score(task.test), encoder.fit_scorer(task.train).score(task.test))
