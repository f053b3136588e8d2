"""Woven cloth: exact counts, the same each time, and a twill of the same threads."""

import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import woven


@pytest.fixture(scope="module")
def task():
    return benchmarks.load("woven", image_size=32)


def test_counts(task):
    assert task.train.shape == (woven.N_TRAIN, 1, 32, 32)
    assert task.kinds.count("") == task.kinds.count("twill") == woven.N_TEST
    assert len(task.test) == 2 * woven.N_TEST


def test_the_same_each_time_and_no_image_twice(task):
    again = benchmarks.load("woven", image_size=32)
    assert torch.equal(again.test, task.test)
    assert torch.equal(again.train, task.train)
    everything = torch.cat([task.train, task.test]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)


def spectrum(images):
    """(17,) the mean power of (n,1,32,32) by spatial frequency along a side, whatever the pattern across."""
    centred = images[:, 0] - images[:, 0].mean((1, 2), keepdim=True)
    return torch.fft.rfft(centred, dim=-1).abs().square().mean((0, 1))


def test_a_twill_is_made_of_threads_as_wide(task):
    """Along a row the threads themselves repeat after a width, 5.6 to 6.4 px, in either weave."""
    for label in (0, 1):
        power = spectrum(task.test[task.labels == label])
        assert power[5] > 2 * power[8]  # 6.4 px, against 4 px


def test_the_pattern_repeats_after_two_threads_and_after_three(monkeypatch):
    monkeypatch.setattr(woven, "NOISE", 0)
    monkeypatch.setattr(woven, "STRETCH", 0)
    monkeypatch.setattr(woven, "TURN", (0.0, 0.0))
    monkeypatch.setattr(woven, "THREAD", (5.0, 5.0))
    for repeat, other in ((woven.PLAIN, woven.TWILL), (woven.TWILL, woven.PLAIN)):
        cloth = woven._cloth(8, repeat, torch.Generator().manual_seed(0))
        assert torch.allclose(cloth[..., 5 * repeat :], cloth[..., : -5 * repeat], atol=1e-3)
        assert (cloth[..., 5 * other :] - cloth[..., : -5 * other]).abs().max() > 0.1


def test_a_root_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"root=.*woven is drawn"):
        benchmarks.load("woven", root=tmp_path)
