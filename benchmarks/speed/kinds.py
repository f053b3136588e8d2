"""What kinds of detectors cost: a candidate beside a classifier's, and a contrastive step beside its encoder alone."""

from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from weakref import finalize

import torch
from torch import nn

import augmentations
from augmentations.randomness import generator
from benchmarks.speed.cases import CPU, TINY, Sizes, photographs
from benchmarks.speed.compare import Case, Comparison, compare
from detectors import Preset, get_preset
from detectors.base import as_float
from detectors.contrastive import VIEWS, Contrastive
from detectors.devices import autocast
from detectors.encoders import LITE0, lite0_is_installed
from detectors.proxy import InFloat32
from detectors.shared_features import SharedFeatures
from selector.inputs.splits import split
from selector.zoo.candidates import Candidate
from selector.zoo.plan import Plan
from selector.zoo.training import SHARED_BYTES, train_and_evaluate

FAMILIES = ("cutout", "cutpaste")  # of validation anomalies, which every candidate scores
AGAINST = "classifier", "cutout"
CANDIDATES = (("discriminator", "cutout"), ("discriminator", "feature_noise"), ("frozen", ""))


def candidate_case(kind: str, augmentation: str, normal: int, test: int, px: int, steps: int) -> Case:
    """A candidate from nothing to its evidence, and the usual one: a classifier whose encoder sees as many pixels.

    Features of clean images and of validation anomalies are there already, as for all of a zoo but its first.
    """
    preset = replace(get_preset("quick"), image_size=px, steps=steps)
    pixels = photographs(normal + test, px)
    parts = split(normal, 0)
    images = {name: pixels[getattr(parts, name)] for name in ("train", "validation", "calibration")}
    images["test"] = pixels[normal:]
    normal_images = as_float(images["validation"])
    with torch.no_grad():
        changed = {name: augmentations.make(name)(normal_images, generator(0, name)) for name in FAMILIES}
    anomalies = {name: (255 * values).byte() for name, values in changed.items()}
    folder = TemporaryDirectory()
    shared = SharedFeatures(folder.name, SHARED_BYTES)
    finalize(shared, folder.cleanup)
    for known in (*images.values(), *anomalies.values()):
        shared.keep(known)

    def train(candidate: Candidate, features: SharedFeatures | None) -> None:
        (result,) = train_and_evaluate([candidate], images, anomalies, "cpu", shared=features)
        if result.record["status"] != "ok":  # a failure would be fast
            raise RuntimeError(f"a candidate failed: {result.record['reason']}")

    encoder = {"name": LITE0, "input_size": px} if lite0_is_installed() else "auto"
    ours = candidate_of(kind, augmentation, preset, encoder)
    train(ours, shared)
    return Case(partial(train, ours, shared), partial(train, candidate_of(*AGAINST, preset), None))


def candidate_of(kind: str, augmentation: str, preset: Preset, encoder: Any = "auto") -> Candidate:
    """The candidate of a kind with an augmentation as it is by default; none for a kind that learns against nothing."""
    return Plan.of({augmentation or FAMILIES[0]: [{}]}, [kind], ["gaussian"], preset, encoder).candidates(0)[0]


def contrastive_case(px: int, images: int, steps: int) -> Case:
    """Contrastive steps, and their encoder's passes forward and backward over as many images alone: a lower bound."""
    kind = Contrastive(Contrastive.settings_for(replace(get_preset("quick"), image_size=px, steps=steps)), device=CPU)
    encoder = kind.build_encoder(3)
    model = nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), InFloat32(kind.build_head()))
    model.to(memory_format=torch.channels_last).train()
    normal, batch = (
        as_float(photographs(n, px)).contiguous(memory_format=torch.channels_last)
        for n in (images, VIEWS * kind.settings.batch)
    )

    def alone() -> None:
        for _ in range(steps):
            encoder.zero_grad()
            with autocast(CPU):
                features = encoder(batch)
            features.float().mean().backward()

    return Case(lambda: kind.learn(model, normal, None), alone)


def of_kinds(sizes: Sizes, pairs: int) -> list[Comparison]:
    """Candidates of other kinds against a classifier, and contrastive steps against the encoder alone."""
    normal, test, px, _ = sizes.candidate
    rows = []
    for kind, augmentation in CANDIDATES:
        case = partial(candidate_case, kind, augmentation)
        name = f"{kind} by {augmentation}" if augmentation else kind
        setting = f"{name}, {normal} + {test} images of {px} px, against a {AGAINST[0]}"
        rows.append(compare("kinds", setting, partial(case, *sizes.candidate), partial(case, *TINY.candidate), pairs))
    for of_size in sizes.contrastive:
        px, _, steps = of_size
        setting = f"contrastive, {steps} steps of {px} px, against the encoder alone"
        warm = partial(contrastive_case, *TINY.contrastive[0])
        rows.append(compare("kinds", setting, partial(contrastive_case, *of_size), warm, pairs))
    return rows
