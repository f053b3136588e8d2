"""Solar cells with generated defects as tasks: no cell on both sides, masks on defects only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets.synthetic_defects import GENERATORS
from selector.inputs import reader

pytest.importorskip("elpv_dataset.utils", reason="the extra `benchmarks` is not installed")
SIZE = 32


@pytest.fixture(scope="module", autouse=True)
def decoded_once():
    """Cells are read once a file; what is tested is how they are divided and drawn on."""
    read, cells = reader.read_images, {}

    def remembering(paths, *, image_size, role):
        new = [path for path in paths if path not in cells]
        if new:
            cells.update(zip(new, read(new, image_size=image_size, role=role).pixels, strict=True))
        return SimpleNamespace(pixels=torch.stack([cells[path] for path in paths]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "read_images", remembering)
        yield


@pytest.fixture(scope="module")
def plain():
    return benchmarks.load("elpv-mono", image_size=SIZE)


@pytest.fixture(scope="module")
def mono():
    return benchmarks.load("elpv-mono-generated", image_size=SIZE)


@pytest.fixture(scope="module", params=["elpv-mono-generated", "elpv-poly-generated"])
def task(request, mono):
    return mono if request.param == mono.name else benchmarks.load(request.param, image_size=SIZE)


def of_kind(task, kind):
    chosen = torch.tensor([k == kind for k in task.kinds])
    return task.test[chosen], task.masks[chosen]


def test_sizes(task):
    n_normal_cells = {"elpv-mono-generated": 588, "elpv-poly-generated": 920}[task.name]
    n_train = round(0.7 * n_normal_cells)
    held_out = n_normal_cells - n_train
    assert task.train.shape == (n_train, 1, SIZE, SIZE)
    n_bases = held_out - held_out // 2
    assert task.test.shape == (held_out // 2 + 4 * n_bases, 1, SIZE, SIZE)
    assert task.masks.shape == (len(task.test), SIZE, SIZE)
    assert [task.kinds.count(kind) for kind in GENERATORS] == [n_bases] * 4
    assert task.kinds.count("") == held_out // 2


def test_images_are_float32_in_range_and_labels_and_masks_are_0_or_1(task):
    assert task.test.dtype == task.train.dtype == torch.float32
    assert task.test.min() >= 0
    assert task.test.max() <= 1
    assert set(task.labels.tolist()) == set(task.masks.unique().tolist()) == {0, 1}


def test_labels_kinds_and_masks_agree(task):
    assert task.labels.tolist() == [int(kind != "") for kind in task.kinds]
    assert torch.equal(task.masks.flatten(1).amax(1), task.labels)


def test_the_train_set_is_that_of_the_task_without_defects(plain, mono):
    assert torch.equal(plain.train, mono.train)


def test_no_base_of_a_defect_is_a_normal_test_image_or_trained_on(task):
    """A defective copy shares most of its pixels with its base, exactly, and with no other cell."""
    defective = task.test[task.labels == 1].flatten(1)
    normal = torch.cat([task.test[task.labels == 0], task.train]).flatten(1)
    for image in defective[:: max(1, len(defective) // 60)]:
        assert ((image == normal).float().mean(1) < 0.25).all()


def test_every_base_gets_a_defect_of_each_kind(mono):
    spots, _ = of_kind(mono, "dark_spot")
    for kind in ("scratch", "swapped_patch", "brightness_stain"):
        others = of_kind(mono, kind)[0].flatten(1)
        bases = [((spot == others).float().mean(1)).argmax().item() for spot in spots.flatten(1)]
        assert sorted(bases) == list(range(len(spots)))


def test_masks_are_exact_on_real_cells(mono):
    """Outside both masks a spot and a scratch on the same base show the same cell."""
    spots, spot_masks = of_kind(mono, "dark_spot")
    scratches, scratch_masks = of_kind(mono, "scratch")
    for spot, mask in zip(spots[:20], spot_masks[:20], strict=True):
        twin = (spot == scratches).float().mean((1, 2, 3)).argmax()
        outside = (mask == 0) & (scratch_masks[twin] == 0)
        assert (spot - scratches[twin]).abs()[0][outside].max() <= 0.04 + 1e-6


def test_loading_twice_gives_the_same_task(mono):
    again = benchmarks.load("elpv-mono-generated", image_size=SIZE)
    for name in ("train", "test", "labels", "masks"):
        assert torch.equal(getattr(again, name), getattr(mono, name))
    assert again.kinds == mono.kinds


def test_the_order_of_test_images_reveals_nothing(task):
    positions = np.arange(len(task.kinds))
    for kind in (*GENERATORS, ""):
        where = positions[[k == kind for k in task.kinds]].mean() / len(positions)
        assert 0.4 < where < 0.6


def test_kinds_are_none_where_defects_have_no_kinds(plain):
    assert plain.kinds is None
    assert plain.masks is None


def test_too_small_images_are_refused_before_any_is_read():
    with pytest.raises(InputError, match=r"image_size=16.*32"):
        benchmarks.load("elpv-poly-generated", image_size=16)


@pytest.mark.parametrize("name", ["elpv-mono", "elpv-poly", "elpv-mono-generated", "elpv-poly-generated"])
def test_a_root_is_refused_where_a_package_ships_the_data(name, tmp_path):
    with pytest.raises(InputError, match=r"root=.*elpv-dataset.*leave root out"):
        benchmarks.load(name, root=tmp_path)
    assert name in benchmarks.names()


def test_patches_are_swapped_among_bases_only(mono, monkeypatch):
    """Neither a normal test image nor one trained on lends its pixels to a defect."""
    seen = []

    def recording(images, donors, source):
        seen.append((images, donors))
        return images, torch.ones(len(images), SIZE, SIZE, dtype=torch.uint8)

    monkeypatch.setitem(GENERATORS, "swapped_patch", recording)
    benchmarks.load(mono.name, image_size=SIZE)
    ((bases, donors),) = seen
    assert sorted(b.numpy().tobytes() for b in bases) == sorted(d.numpy().tobytes() for d in donors)
    assert not any(torch.equal(base, donor) for base, donor in zip(bases, donors, strict=True))
    normal = {image.numpy().tobytes() for image in torch.cat([mono.train, mono.test[mono.labels == 0]])}
    assert not any(donor.numpy().tobytes() in normal for donor in donors)
