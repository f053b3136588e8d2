"""Photos in tiles: every pixel in one tile, no tile on both sides."""

import numpy as np
import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import photos
from benchmarks.datasets.synthetic_defects import GENERATORS

pytest.importorskip("skimage", reason="the extra `benchmarks` is not installed")


def test_tiles_are_the_photo_cut_row_by_row():
    photo = np.arange(70 * 100 * 3, dtype=np.int64).reshape(70, 100, 3) % 251
    tiles = photos.cut(photo.astype(np.uint8), 32)
    assert tiles.shape == (6, 3, 32, 32)
    for i, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        expected = photo[32 * row : 32 * row + 32, 32 * column : 32 * column + 32].transpose(2, 0, 1)
        assert np.array_equal(tiles[i].numpy(), expected)


@pytest.fixture(scope="module")
def brick():
    return benchmarks.load("brick", image_size=32)


def test_every_tile_is_used_once(brick):
    tiles = photos.cut(photos.pixels_of("brick.png"), photos.TILE).float() / 255
    normal = torch.cat([brick.train, brick.test[brick.labels == 0]])
    assert len(brick.train) == round(photos.TRAIN_SHARE * len(tiles))
    found = [(tile == normal).flatten(1).all(1).sum().item() for tile in tiles]
    bases = len(tiles) - len(normal)
    assert sorted(found) == [0] * bases + [1] * len(normal)
    assert brick.labels.sum() == 4 * bases


def test_of_a_shifted_photo_the_top_is_trained_on_and_the_bottom_tested():
    task = benchmarks.load("grass-shifted", image_size=32)
    tiles = photos.cut(photos.pixels_of("grass.png"), photos.TILE).float() / 255
    n = len(task.train)

    def all_found(images, among):
        return all((image == among).flatten(1).all(1).any() for image in images)

    assert all_found(task.train, tiles[:n])
    assert all_found(task.test[task.labels == 0], tiles[n:])
    assert not torch.equal(task.train, tiles[:n])  # in random order


@pytest.mark.parametrize("name", ["page", "text", "coins", "cat", "wood", "ground", "leaf"])
def test_no_tile_is_on_both_sides_or_twice(name):
    photo = photos.PHOTOS[name]
    if photo.package and not photo.package.folder.is_dir():
        pytest.skip(f"Debian's package {photo.package.name} is not installed")
    task = benchmarks.load(name, image_size=32)
    normal = torch.cat([task.train, task.test[task.labels == 0]])
    assert len({tile.numpy().tobytes() for tile in normal}) == len(normal)
    n = sum(len(photos.cut(photos.pixels_of(file, photo.package), photo.side)) for file in photo.files)
    assert len(task.train) == round(photos.TRAIN_SHARE * n)
    assert len(task.train) + 2 * (task.labels == 0).sum() == pytest.approx(n, abs=1)
    assert set(task.kinds) == {"", *GENERATORS}


def test_a_debian_package_that_is_missing_or_ships_another_picture_is_named(tmp_path, monkeypatch):
    leaf = photos.PHOTOS["leaf"]
    monkeypatch.setitem(photos.PHOTOS, "leaf", leaf._replace(package=photos.Package("mate-backgrounds", tmp_path)))
    with pytest.raises(InputError, match=r"Debian's package mate-backgrounds.*apt-get install mate-backgrounds"):
        benchmarks.load("leaf")
    (tmp_path / "Blinds.jpg").write_bytes(b"another")
    with pytest.raises(InputError, match=r"is not the picture of mate-backgrounds"):
        benchmarks.load("leaf")


def test_a_root_and_small_images_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"root=.*scikit-image"):
        benchmarks.load("ihc", root=tmp_path)
    with pytest.raises(InputError, match=r"image_size=16"):
        benchmarks.load("ihc", image_size=16)
