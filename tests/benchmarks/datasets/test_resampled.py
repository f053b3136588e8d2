"""Resampled images: what is shown where, on a ramp whose values are known everywhere."""

import pytest
import torch

from augmentations import InputError
from benchmarks.datasets.resampled import SIDE, assemble, refuse_root, resample

LENGTH = 100
MIDDLE = (SIDE - 1) / 2


def ramp(along):
    """(1,1,LENGTH,LENGTH) whose values are the px along an axis, over LENGTH."""
    values = torch.arange(LENGTH) / LENGTH
    return (values[:, None] if along == "rows" else values[None, :]).expand(1, 1, LENGTH, LENGTH)


def shown(along, zoom=1.0, turn=0.0, centre=(50.0, 40.0)):
    """(SIDE,SIDE) px of the ramp that are shown; bicubic interpolation is off by some hundredths of one."""
    one = [torch.tensor([value]) for value in (centre, zoom, turn)]
    return LENGTH * resample(ramp(along), *one)[0, 0]


@pytest.mark.parametrize("zoom", [0.7, 1.0, 2.0])
def test_zoom_is_px_of_the_source_for_each_px_and_the_centre_is_the_middle(zoom):
    px = torch.arange(SIDE) - MIDDLE
    assert torch.allclose(shown("rows", zoom), (50 + zoom * px)[:, None].expand(SIDE, SIDE), atol=0.05)
    assert torch.allclose(shown("columns", zoom), (40 + zoom * px).expand(SIDE, SIDE), atol=0.05)


def test_half_a_turn_shows_the_same_place_upside_down():
    for along in ("rows", "columns"):
        assert torch.allclose(shown(along, turn=180), shown(along).flip(0, 1), atol=0.05)


def test_a_quarter_turn_makes_rows_of_columns():
    assert torch.allclose(shown("rows", turn=90), 50 + (torch.arange(SIDE) - MIDDLE).expand(SIDE, SIDE), atol=0.05)


def test_beyond_the_edges_all_is_black():
    assert shown("columns", centre=(50.0, -40.0)).max() == 0


def test_structure_finer_than_a_pixel_is_averaged():
    stripes = (torch.arange(LENGTH) % 2).float().expand(1, 1, LENGTH, LENGTH)
    seen = resample(stripes, torch.tensor([[50.0, 50.0]]), torch.tensor([2.0]), torch.tensor([0.0]))
    assert torch.allclose(seen, torch.tensor(0.5), atol=0.05)


def test_a_task_holds_every_image_once_with_its_kind():
    values = torch.arange(10) / 255
    images = values[:, None, None, None].expand(10, 1, 8, 8)
    task = assemble("made", 8, images[:4], images[4:6], {"a": images[6:9], "b": images[9:]})
    assert torch.equal(task.train[:, 0, 0, 0], values[:4])
    kind_of = dict(zip(task.test[:, 0, 0, 0].tolist(), task.kinds, strict=True))
    assert kind_of == dict(zip(values[4:].tolist(), ["", "", "a", "a", "a", "b"], strict=True))
    assert task.labels.tolist() == [kind != "" for kind in task.kinds]


def test_a_root_is_refused(tmp_path):
    refuse_root("letters-R", None, "comes with a package")
    with pytest.raises(InputError, match=r"root=.*letters-R comes with"):
        refuse_root("letters-R", tmp_path, "comes with a package")
