"""Digits and letters at random places: every scan on one side only, shapes whole, ground and noise the same."""

import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import shapes


@pytest.fixture(scope="module", params=["digits-3", "letters-R"])
def task(request):
    return benchmarks.load(request.param, image_size=32)


def test_counts():
    from sklearn.datasets import load_digits

    digits = load_digits().target
    task = benchmarks.load("digits-8", image_size=32)
    n_normal = int((digits == 8).sum())
    assert len(task.train) == round(0.6 * n_normal)
    assert task.labels.tolist().count(0) == n_normal - len(task.train)
    assert all(task.kinds.count(str(k)) == (digits == k).sum() for k in range(10) if k != 8)
    letters = benchmarks.load("letters-R", image_size=32)
    assert len(letters.train) == shapes.N_TRAIN
    assert {letters.kinds.count(kind) for kind in letters.kinds} == {shapes.N_TEST}
    assert set(letters.kinds) == {"", "mirrored", "B", "K", "P"}


def test_the_same_each_time_and_no_image_twice(task):
    again = benchmarks.load(task.name, image_size=32)
    assert torch.equal(again.test, task.test)
    assert torch.equal(again.train, task.train)
    everything = torch.cat([task.train, task.test]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)


def test_every_scan_is_used_once(monkeypatch):
    """With the places left out, a task holds the scans themselves."""
    from sklearn.datasets import load_digits

    seen = []
    monkeypatch.setattr(shapes, "_placed", lambda name, part, images: seen.append(images) or images.repeat(1, 1, 3, 3))
    benchmarks.load("digits-3", image_size=32)
    one = shapes.MARGIN
    inside = torch.cat(seen)[:, 0, one:-one, one:-one].flatten(1)
    assert sorted(inside.tolist()) == sorted((load_digits().images / 16).reshape(-1, 64).tolist())


def test_ground_and_noise_are_the_same_in_normal_images_and_anomalies(task):
    """Of the darkest half of the pixels of an image, where no shape is."""
    darkest = torch.cat([task.test, task.train]).flatten(1).sort(1).values[:, : 32 * 16]
    is_anomalous = torch.cat([task.labels, torch.zeros(len(task.train))]) == 1
    for statistic in (darkest.mean(1), darkest.std(1)):
        assert statistic[is_anomalous].mean() == pytest.approx(float(statistic[~is_anomalous].mean()), rel=0.03)


def test_a_shape_is_whole_wherever_it_stands(task):
    bright = torch.cat([task.train, task.test])[:, 0] > 0.5
    edge = torch.cat([bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]], 1)
    assert not edge.any()
    rows = torch.arange(32)[:, None]
    middles = (bright * rows).sum((1, 2)) / bright.sum((1, 2))
    assert middles.std() > 2  # px


def test_letters_differ_in_typeface_and_the_mirrored_ones_are_mirrored():
    glyphs = [shapes._glyph("R", typeface) for typeface in shapes.TYPEFACES]
    assert len(torch.stack(glyphs).flatten(1).unique(dim=0)) == len(glyphs)
    for glyph in glyphs:
        edges = torch.cat([glyph[0, 0], glyph[0, -1], glyph[0, :, 0], glyph[0, :, -1]])
        assert glyph.max() > 0.9
        assert edges.max() == 0
    # An R has more ink at its left edge, in nearly all typefaces.
    assert sum(glyph[0, :, :24].sum() > glyph[0, :, 24:].sum() for glyph in glyphs) > len(glyphs) / 2


def test_a_root_is_refused(tmp_path):
    for name in ("digits-3", "letters-R"):
        with pytest.raises(InputError, match=r"root=.*comes with"):
            benchmarks.load(name, root=tmp_path)
