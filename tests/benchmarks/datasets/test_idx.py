"""IDX files: what their header says is what is read."""

import gzip

import numpy as np
import pytest
import torch

import benchmarks
from augmentations import InputError
from benchmarks.datasets import idx


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def root(tmp_path):
    """Every image of class k is of gray 20 k; train files gzipped, test files plain."""
    for part, classes in (("train", [3, 1, 3, 2]), ("t10k", [1, 3, 2])):
        classes = np.array(classes, np.uint8)
        pixels = np.broadcast_to(20 * classes[:, None, None], (len(classes), 28, 28))
        for name, array in (("images-idx3", pixels), ("labels-idx1", classes)):
            content = idx_bytes(array)
            path = tmp_path / f"{part}-{name}-ubyte"
            if part == "train":
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return tmp_path


def test_one_class_against_the_rest(root):
    task = benchmarks.load("mnist-3", image_size=32, root=root)
    assert task.train.shape == (2, 1, 32, 32)
    assert torch.allclose(task.train, torch.tensor(60 / 255))
    assert task.labels.tolist() == [1, 0, 1]
    assert task.kinds == ("1", "", "2")
    assert task.test[:, 0, 0, 0].mul(255).round().tolist() == [20, 60, 40]


def test_a_kind_is_a_task_of_its_own(root):
    task = benchmarks.load("fashion-mnist-3-trouser", image_size=28, root=root)
    assert task.name == "fashion-mnist-3-trouser"
    assert task.labels.tolist() == [1, 0]
    with pytest.raises(InputError, match=r"trousers.*trouser"):
        benchmarks.load("fashion-mnist-3-trousers", root=root)


def test_a_root_without_the_files_says_which(tmp_path):
    with pytest.raises(InputError, match=r"mnist.*t10k-labels-idx1-ubyte"):
        benchmarks.load("mnist-0", root=tmp_path)
    with pytest.raises(InputError, match=r"root=None"):
        benchmarks.load("mnist-0")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"\x00" + b, lambda b: b"", lambda b: b[:2] + b"\x0d" + b[3:]]
)
def test_a_damaged_file_is_named(root, damage):
    path = root / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"t10k-images.*damaged"):
        benchmarks.load("mnist-3", root=root)


@pytest.mark.skipif(not idx.INSTALLED["fashion-mnist"].is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_found_where_debian_installs_it():
    task = benchmarks.load("fashion-mnist-8", image_size=28)
    assert task.train.shape == (6000, 1, 28, 28)
    assert len(task.test) == 10_000
    assert task.labels.sum() == 9_000
    assert set(task.kinds) == {"", *idx.CLASSES["fashion-mnist"]} - {"bag"}
