"""One class against the rest in CIFAR-10, CIFAR-100 and SVHN, in the files that their publishers ship: 32 x 32 px.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; Netzer et al., "Reading Digits in Natural
Images with Unsupervised Feature Learning", NIPS workshop 2011.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from augmentations import InputError
from benchmarks.datasets.defects import required_root
from benchmarks.tasks.task import Loader, Task
from selector.inputs import reader

# The publisher's 20 super-classes of five classes each, which CIFAR-100 as an anomaly benchmark has for its classes.
SUPER_CLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
SUPER_CLASS_OF = {name: k for k, names in enumerate(SUPER_CLASSES.values()) for name in names.split()}


class Part(NamedTuple):
    """The train or the test half of a data set: pixels (n,C,H,W) uint8 and the class numbers (n,) of the images."""

    pixels: np.ndarray
    classes: np.ndarray


def load_cifar10(name: str, root: str | Path | None, image_size: int) -> Task:
    """The class with the number in ``name`` against the rest: train on its train images, test on all test images;
    kinds: the classes.

    Raises InputError for a root that does not hold the files unchanged.
    """
    from torchvision.datasets import CIFAR10

    says = "root must hold cifar-10-batches-py/ with data_batch_1, ..., data_batch_5, test_batch and batches.meta"
    halves = [_verified(name, root, says, CIFAR10, train=train) for train in (True, False)]
    train, test = (Part(half.data.transpose(0, 3, 1, 2), np.array(half.targets)) for half in halves)
    return one_class(name, image_size, train, test, halves[0].classes)


def load_cifar100(name: str, root: str | Path | None, image_size: int) -> Task:
    """As ``load_cifar10``, for the 20 super-classes of CIFAR-100."""
    from torchvision.datasets import CIFAR100

    says = "root must hold cifar-100-python/ with train, test and meta"
    halves = [_verified(name, root, says, CIFAR100, train=train) for train in (True, False)]
    numbers = np.array([SUPER_CLASS_OF[fine] for fine in halves[0].classes])
    train, test = (Part(half.data.transpose(0, 3, 1, 2), numbers[half.targets]) for half in halves)
    return one_class(name, image_size, train, test, list(SUPER_CLASSES))


def load_svhn(name: str, root: str | Path | None, image_size: int) -> Task:
    """As ``load_cifar10``, for the ten digits of SVHN, its extra images left out."""
    from torchvision.datasets import SVHN

    says = "root must hold train_32x32.mat and test_32x32.mat"
    halves = [_verified(name, root, says, SVHN, split=split) for split in ("train", "test")]
    train, test = (Part(half.data, half.labels) for half in halves)
    return one_class(name, image_size, train, test, tuple("0123456789"))


LOADERS: dict[str, Loader] = {
    **{f"cifar10-{k}": load_cifar10 for k in range(10)},
    **{f"cifar100-{k}": load_cifar100 for k in range(len(SUPER_CLASSES))},
    **{f"svhn-{k}": load_svhn for k in range(10)},
}


def one_class(name: str, image_size: int, train: Part, test: Part, classes: Sequence[str]) -> Task:
    """The class whose number ends ``name`` as normal: train on it, test on all of ``test``; kinds: its ``classes``."""
    normal = int(name.rpartition("-")[2])
    kinds = tuple("" if number == normal else classes[number] for number in test.classes.tolist())
    return Task(
        name,
        reader.read_images(train.pixels[train.classes == normal], image_size=image_size, role=name).pixels,
        reader.read_images(test.pixels, image_size=image_size, role=name).pixels,
        torch.from_numpy(test.classes != normal).to(torch.uint8),
        kinds=kinds,
    )


def _verified(name: str, root: str | Path | None, says: str, dataset: Callable[..., Any], **half: Any) -> Any:
    # CIFAR is published as pickles, and nothing else is: torchvision opens a file only when its checksum is that of
    # the published one, so none that somebody else has made is ever unpickled.
    try:
        return dataset(required_root(name, root, says), download=False, **half)
    except RuntimeError as error:
        raise InputError(f"root={str(root)!r}", f"does not hold {name} as published", f"{says}, unchanged") from error
