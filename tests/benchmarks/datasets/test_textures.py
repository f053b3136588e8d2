"""Textures with faults of a whole image: blocks on one side only, and nothing but the fault apart."""

import dataclasses

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks.datasets import textures
from benchmarks.datasets.textures import N_TEST, N_TRAIN, TEXTURES, Fault

pytest.importorskip("skimage", reason="the extra `benchmarks` is not installed")
NAMES = [f"{name}{textures.SUFFIX}" for name in TEXTURES]


@pytest.fixture(scope="module", params=NAMES)
def task(request):
    return benchmarks.load(request.param, image_size=32)


def faults_of(task):
    return TEXTURES[task.name.removesuffix(textures.SUFFIX)].faults


def test_counts(task):
    assert task.train.shape == (N_TRAIN, 1, 32, 32)
    assert {kind: task.kinds.count(kind) for kind in ("", *faults_of(task))} == dict.fromkeys(
        ("", *faults_of(task)), N_TEST
    )
    assert len(task.test) == N_TEST * (1 + len(faults_of(task)))


def test_the_same_each_time_and_no_image_twice(task):
    again = benchmarks.load(task.name, image_size=32)
    assert torch.equal(again.test, task.test)
    assert torch.equal(again.train, task.train)
    everything = torch.cat([task.train, task.test]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)


def numbered(name, monkeypatch, faults):
    """The task, its picture one number for each block and its images not quantised."""
    texture = TEXTURES[name.removesuffix(textures.SUFFIX)]
    rows, columns = (length // texture.block for length in texture.pixels().shape)
    numbers = np.arange(1, rows * columns + 1).reshape(rows, columns) / (rows * columns)
    picture = np.kron(numbers, np.ones((texture.block, texture.block)))
    small = dataclasses.replace(texture, pixels=lambda: picture, faults=faults)
    monkeypatch.setitem(TEXTURES, name.removesuffix(textures.SUFFIX), small)
    return benchmarks.load(name, image_size=32)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_lies_in_one_block_and_blocks_on_one_side_only(name, monkeypatch):
    faults = {"upside_down": Fault(turn=180), "closer": Fault(zoom=0.8)}
    task = numbered(name, monkeypatch, faults)
    spread = torch.cat([task.train, task.test]).flatten(1)
    assert (spread.amax(1) - spread.amin(1)).max() < 1.5 / 255
    is_normal = task.labels == 0
    sides = (task.train, task.test[is_normal], task.test[~is_normal])
    blocks = [{round(255 * value) for value in images.mean((1, 2, 3)).tolist()} for images in sides]
    assert all(len(numbers) >= 4 for numbers in blocks)
    assert len(set.union(*blocks)) == sum(map(len, blocks))


def test_anomalies_without_their_fault_are_resampled_as_normal_images_are(monkeypatch):
    """Of noise, which has no block unlike another, they have the same contrast: the zoom and blur of nothing show."""
    noise = np.random.default_rng(0).random((512, 512))
    faults = {"none": Fault(), "turned": Fault(turn=180), "blurred": Fault(blur=0.5)}
    replaced = dataclasses.replace(TEXTURES["brick"], pixels=lambda: noise, faults=faults)
    monkeypatch.setitem(TEXTURES, "brick", replaced)
    task = benchmarks.load("brick-texture", image_size=32)
    of_image = task.test.std((1, 2, 3))
    contrast = {kind: float(of_image[torch.tensor([k == kind for k in task.kinds])].mean()) for kind in ("", *faults)}
    assert contrast["none"] == pytest.approx(contrast[""], rel=0.02)
    assert contrast["turned"] == pytest.approx(contrast[""], rel=0.02)
    assert contrast["blurred"] < 0.9 * contrast[""]
