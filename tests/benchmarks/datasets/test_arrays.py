"""CIFAR and SVHN: tiny files in the publishers' formats, with torchvision's checksums replaced by theirs."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from augmentations import InputError
from benchmarks.datasets.arrays import LOADERS, SUPER_CLASS_OF, SUPER_CLASSES

SIZE = 32
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# The coarse label of each fine label, as the publisher's own file of CIFAR-100 pairs them.
COARSE = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)


def load(name, root, image_size=SIZE):
    return LOADERS[name](name, root, image_size)


def refusal(name, root):
    with pytest.raises(InputError) as error:
        load(name, root)
    return str(error.value)


def checksum(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def grays(images):
    return [round(255 * float(image[0, 0, 0])) for image in images]


def pixels_of(values):
    """Images (n,3,32,32): green is one more than red and blue two, and each row one more than that above it."""
    red = np.array(values, np.uint8)[:, None, None, None] + np.arange(SIZE, dtype=np.uint8)[:, None]
    return np.repeat(red, SIZE, axis=3) + np.arange(3, dtype=np.uint8)[:, None, None]


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, checksum(path)]


def write_cifar(monkeypatch, dataset, root, train, test, meta):
    """Files of (values, labels), and their checksums in the place of the published ones."""
    home = root / dataset.base_folder
    key = {CIFAR10: "labels", CIFAR100: "fine_labels"}[dataset]
    contents = [
        {"data": pixels_of(values).reshape(-1, 3 * SIZE * SIZE), key: labels} for values, labels in [*train, test]
    ]
    listed = [*dataset.train_list, *dataset.test_list]
    files = [dump(home / file, content) for (file, _), content in zip(listed, contents, strict=True)]
    monkeypatch.setattr(dataset, "train_list", files[:-1])
    monkeypatch.setattr(dataset, "test_list", files[-1:])
    file, md5 = dump(home / dataset.meta["filename"], {dataset.meta["key"]: meta})
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "filename": file, "md5": md5})


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    batches = [([10 * k, 10 * k + 5], [3, k]) for k in range(5)]
    write_cifar(monkeypatch, CIFAR10, tmp_path, batches, ([100, 110, 120], [9, 3, 0]), CIFAR10_CLASSES)
    return tmp_path


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    fine = sorted(SUPER_CLASS_OF)
    labels = [fine.index(name) for name in ("tulip", "rose", "whale", "maple_tree")]
    write_cifar(
        monkeypatch, CIFAR100, tmp_path, [([10, 20, 30, 40], labels)], ([110, 120, 130, 140], labels[::-1]), fine
    )
    return tmp_path


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """The publisher numbers the digit 0 as 10 and puts the images on the last axis."""
    files = {}
    for split, values, digits in (("train", [10, 20, 30], [10, 7, 10]), ("test", [110, 120, 130], [7, 10, 1])):
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": pixels_of(values).transpose(2, 3, 1, 0), "y": np.array(digits, np.uint8)[:, None]})
        files[split] = ["", path.name, checksum(path)]
    monkeypatch.setattr(SVHN, "split_list", files)
    return tmp_path


def test_every_class_is_a_task():
    counts = {
        family: sum(name.startswith(f"{family}-") for name in LOADERS) for family in ("cifar10", "cifar100", "svhn")
    }
    assert counts == {"cifar10": 10, "cifar100": 20, "svhn": 10}
    assert len(LOADERS) == 40


def test_cifar10(cifar10):
    task = load("cifar10-3", str(cifar10))
    assert grays(task.train) == [0, 10, 20, 30, 35, 40]
    assert grays(task.test) == [100, 110, 120]
    assert task.labels.tolist() == [1, 0, 1]
    assert task.labels.dtype == torch.uint8
    assert task.kinds == ("truck", "", "airplane")
    assert task.masks is None
    assert task.name == "cifar10-3"
    assert task.test.dtype == torch.float32


def test_channels_rows_and_columns_are_in_their_places(cifar10, svhn):
    for name, root, values in (("cifar10-3", cifar10, [100, 110, 120]), ("svhn-0", svhn, [110, 120, 130])):
        expected = torch.from_numpy(pixels_of(values)).float() / 255
        assert torch.allclose(load(name, root).test, expected, atol=1e-6)


def test_images_are_resized(cifar10):
    assert load("cifar10-3", cifar10, image_size=16).test.shape == (3, 3, 16, 16)


def test_cifar100_has_its_super_classes(cifar100):
    task = load("cifar100-2", cifar100)
    assert grays(task.train) == [10, 20]
    assert task.labels.tolist() == [1, 1, 0, 0]
    assert task.kinds == ("trees", "aquatic_mammals", "", "")


def test_super_classes_are_the_published_ones():
    assert [SUPER_CLASS_OF[fine] for fine in sorted(SUPER_CLASS_OF)] == list(COARSE)
    assert list(SUPER_CLASSES) == sorted(SUPER_CLASSES)


def test_svhn(svhn):
    task = load("svhn-0", svhn)
    assert grays(task.train) == [10, 30]
    assert grays(task.test) == [110, 120, 130]
    assert task.labels.tolist() == [1, 0, 1]
    assert task.kinds == ("7", "", "1")


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_one_is_not_opened(cifar10, file):
    path, trace = cifar10 / "cifar-10-batches-py" / file, cifar10 / "trace"
    path.write_bytes(pickle.dumps(Trap(trace)))
    assert "as published" in refusal("cifar10-3", cifar10)
    assert not trace.exists()
    pickle.loads(path.read_bytes()).close()
    assert trace.exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cifar10-3", "root must hold cifar-10-batches-py/ with data_batch_1, ..., data_batch_5, test_batch and"),
        ("cifar100-19", "root must hold cifar-100-python/ with train, test and meta"),
        ("svhn-9", "root must hold train_32x32.mat and test_32x32.mat"),
    ],
)
def test_a_wrong_root_says_what_belongs_where(tmp_path, name, line):
    for root in (None, tmp_path, tmp_path / "absent"):
        said = refusal(name, root)
        assert line in said
        assert ("root=None" if root is None else str(root)) in said
