"""ELPV as a task: real cells, fixed split, labels beside the images and never in them."""

import numpy as np
import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import elpv

elpv_dataset = pytest.importorskip("elpv_dataset.utils", reason="the extra `benchmarks` is not installed")


@pytest.fixture(scope="module")
def cells():
    """Images, defect probabilities and wafer types, as the package gives them."""
    return elpv_dataset.load_dataset()


@pytest.fixture(scope="module")
def mono():
    return benchmarks.load("elpv-mono", image_size=16)


def test_sizes_follow_the_defect_probabilities(mono, cells):
    _, probabilities, types = cells
    normal = ((probabilities == 0) & (types == "mono")).sum()
    defective = ((probabilities == 1) & (types == "mono")).sum()
    n_train = round(0.7 * normal)
    assert len(mono.train) == n_train
    assert len(mono.test) == (normal - n_train) + min(normal - n_train, defective)
    assert mono.labels.sum() == min(normal - n_train, defective)


def test_images_are_cells_in_range_and_labels_match_them(mono, cells):
    """Every test image is found again among the cells of its label."""
    images, probabilities, types = cells
    assert mono.train.shape[1:] == (1, 16, 16)
    assert mono.train.dtype == torch.float32
    assert mono.train.min() >= 0
    assert mono.train.max() <= 1

    def means(probability):
        return images[(probabilities == probability) & (types == "mono")].mean(axis=(1, 2)) / 255

    for label, probability in ((0, 0.0), (1, 1.0)):
        known = means(probability)
        found = mono.test[mono.labels == label].mean((1, 2, 3)).numpy()
        nearest = np.abs(found[:, None] - known).min(axis=1)
        assert nearest.max() < 0.01


def test_no_image_is_both_in_train_and_test(mono):
    train = {image.numpy().tobytes() for image in mono.train}
    normal_test = [image.numpy().tobytes() for image in mono.test[mono.labels == 0]]
    assert sum(image in train for image in normal_test) <= len(normal_test) * 0.02  # the set holds a few twins


def test_the_order_of_test_images_reveals_nothing(mono):
    half = len(mono.labels) // 2
    assert abs(mono.labels[:half].float().mean() - mono.labels[half:].float().mean()) < 0.2


def test_loading_twice_gives_the_same_task(mono):
    again = benchmarks.load("elpv-mono", image_size=16)
    assert torch.equal(again.train, mono.train)
    assert torch.equal(again.test, mono.test)
    assert torch.equal(again.labels, mono.labels)


def test_poly_is_another_task(mono):
    poly = benchmarks.load("elpv-poly", image_size=16)
    assert len(poly.train) != len(mono.train)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="elpv-mono"):
        benchmarks.load("elpv-momo")


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "elpv_dataset", None)
    with pytest.raises(InputError, match=r"elpv-dataset.*pip install"):
        benchmarks.load("elpv-mono")


def test_of_shifted_cells_the_test_modules_are_not_those_trained_on():
    """Cells are numbered module by module: every test cell, normal or defective, comes before every train cell."""
    source = torch.Generator().manual_seed(0)
    split = elpv.divide("elpv-mono-shifted", None, source)
    numbers = [int(path.stem.removeprefix("cell")) for path in split.paths]
    assert numbers == sorted(numbers)
    first = split.train.min()
    assert (split.held_out < first).all()
    assert (split.defective < first).all()
    assert not torch.equal(split.train, split.train.sort().values)  # in random order
    task = benchmarks.load("elpv-mono-shifted", image_size=16)
    usual = elpv.divide("elpv-mono", None, source)
    assert (len(split.train), len(split.held_out)) == (len(usual.train), len(usual.held_out))
    assert len(task.train) == len(split.train)
    assert task.labels.sum() == min(len(split.held_out), len(split.defective))
