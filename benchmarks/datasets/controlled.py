"""Testbeds: where anomalies come from. Controlled, made by a known generator; or in the wild, another class.

In the wild, one class against the rest is what every data set of classes loads as; ``one_vs_one`` takes it apart.

Source: Yoo, Zhao, Akoglu, "Data Augmentation is a Hyperparameter", TMLR 2023 (SSL-AD).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from augmentations import Augmentation, InputError, make
from augmentations.randomness import generator
from benchmarks.datasets.synthetic_defects import TRIES, VISIBLE
from benchmarks.tasks.task import Task


def controlled(task: Task, generators: Mapping[str, Augmentation] | Sequence[str], seed: int) -> Task:
    """Anomalies made by augmentations from the task's normal test images; its own anomalies play no part.

    Of the normal test images, one half at random is tested as it is; the other half only as transformed copies, one by
    each generator, so that no image is both a normal one and the base of an anomaly. A copy on which nothing shows is
    drawn again, up to 100 times, and then left out.

    Args:
        task: the task; its train images stay as they are.
        generators: augmentations by the kind that each makes, or names of augmentations with their defaults.
        seed: of the division and the copies.

    Returns:
        A task whose kinds are those of ``generators``; masks (k,H,W) uint8 are 1 where a channel changed visibly, or
        None if a generator changes images as a whole.

    Raises:
        InputError: for an unknown name, no generators, images that a generator doesn't fit, fewer than 2 normal test
            images, and a generator that shows on none of them.
    """
    made_by = generators if isinstance(generators, Mapping) else {name: make(name) for name in generators}
    if not made_by or "" in made_by:
        raise InputError(f"generators={list(made_by)}", "must be one or more, each named", "try ['cutout', 'rotation']")
    normal = task.test[task.labels == 0]
    if len(normal) < 2:
        raise InputError(task.name, f"has {len(normal)} normal test images, 2 are needed", "use a larger task")
    order = torch.randperm(len(normal), generator=generator(seed, "benchmarks", task.name, "bases"))
    tested, bases = normal[order].tensor_split([len(normal) // 2])
    tests, masks = [tested], [torch.zeros(len(tested), *tested.shape[2:], dtype=torch.uint8)]
    kinds = [""] * len(tested)
    for kind, augmentation in made_by.items():
        copies = _copies(augmentation, bases, generator(seed, "benchmarks", task.name, "copies", kind))
        mask = _changed(bases, copies)
        visible = _shows(mask)
        if not visible.any():
            raise InputError(f"generator {kind!r}", f"changes no image of {task.name}", "give it larger areas")
        tests.append(copies[visible])
        masks.append(mask[visible].to(torch.uint8))
        kinds += [kind] * int(visible.sum())
    local = all(augmentation.is_local for augmentation in made_by.values())
    labels = torch.tensor([kind != "" for kind in kinds]).to(torch.uint8)
    name = f"{task.name}-controlled"
    whole = Task(name, task.train, torch.cat(tests), labels, torch.cat(masks) if local else None, tuple(kinds))
    return whole.with_test(torch.randperm(len(kinds), generator=generator(seed, "benchmarks", name, "order")))


def one_vs_one(task: Task) -> list[Task]:
    """The normal test images against one kind of anomaly: a task for each kind, in the order of their names.

    All share one train set, so that a trained detector serves all of them, and their results aren't independent.
    Raises InputError for a task without kinds.
    """
    if task.kinds is None:
        raise InputError(task.name, "has no kinds of anomalies", "use a task with kinds")
    return [task.of_kind(kind) for kind in sorted(set(task.kinds) - {""})]


def _copies(augmentation: Augmentation, bases: Tensor, source: torch.Generator) -> Tensor:
    """The transformed ``bases``, drawn again where nothing shows."""
    copies = augmentation(bases, source)
    for _ in range(TRIES - 1):
        same = ~_shows(_changed(bases, copies))
        if not same.any():
            break
        copies[same] = augmentation(bases[same], source)
    return copies


def _changed(bases: Tensor, copies: Tensor) -> Tensor:
    """(n,H,W) bool: where a channel moved visibly."""
    return (copies - bases).abs().amax(1) > VISIBLE


def _shows(mask: Tensor) -> Tensor:
    return mask.flatten(1).any(1)
