"""The testbed's tables: the aligned autoencoder beside the one that undoes nothing."""

import pandas as pd
import pytest

from augmentations import InputError
from benchmarks.studies.autoencoder_testbed import alignment, grid
from benchmarks.suites import definitions as suites


def candidates(auroc):
    rows = [
        {
            "detector": "plain_autoencoder" if name == "none" else "autoencoder",
            "augmentation": name,
            "kind": kind,
            "auroc": v,
        }
        for (name, kind), v in auroc.items()
    ]
    baseline = {"detector": "pixels", "augmentation": "pixels", "kind": "flip", "auroc": 1.0}
    return pd.DataFrame([*rows, baseline])


def test_the_aligned_one_is_compared_with_none_and_with_the_others():
    auroc = {("none", "flip"): 0.7, ("flip", "flip"): 0.8, ("cutout", "flip"): 0.72}
    auroc |= {("none", "cutout"): 0.7, ("flip", "cutout"): 0.7, ("cutout", "cutout"): 0.74}
    table = grid(candidates(auroc))
    assert list(table.index) == ["none", "cutout", "flip"]
    found = alignment(table).set_index("generator")
    shown = found["first, 0.05 above none"]
    assert shown.to_dict() == {"flip": "yes", "cutout": "not reproduced"}  # .04 is too little
    assert found.gain["flip"] == "+0.100"
    assert found["best other"]["flip"] == "cutout 0.720"
    assert found["others above none"].to_dict() == {"flip": "1 of 1", "cutout": "0 of 1"}


def test_a_run_without_the_plain_autoencoder_is_refused():
    with pytest.raises(InputError, match="alignment-autoencoder"):
        grid(candidates({("flip", "flip"): 0.8}))


def test_the_suite_trains_every_generator_and_none():
    from dataclasses import replace

    from detectors import get_preset
    from selector.zoo.plan import Plan

    suite = suites.get("alignment-autoencoder")
    plan = Plan.joined(suite.zoo, replace(get_preset(suite.preset), image_size=32))
    trained = {c.augmentation for c in plan.candidates(0)}
    assert {"none", *suite.data_sets[0].generators} < trained
    assert all(c.training.settings.steps >= 1_000 for c in plan.candidates(0))
