"""Held-out normal images that may not be normal are named, ordinary ones are not."""

import json

import pytest
import torch

from selector import select_best
from selector.inputs.splits import split
from selector.verdict.contamination import contamination_warnings, far_out

NAMES = {"validation": [f"v{i}" for i in range(6)], "calibration": [f"c{i}" for i in range(6)]}


def scores(**odd):
    values = {split: 1 + 0.1 * torch.arange(6.0) for split in NAMES}
    for name, value in odd.items():
        values[{"v": "validation", "c": "calibration"}[name[0]]][int(name[1])] = value
    return values


def test_images_far_above_the_others_are_named_with_what_removing_them_would_change():
    test = torch.cat([torch.full((10,), 1.2), torch.full((8,), 8.0)])
    (sentence,) = contamination_warnings(NAMES, scores(v2=9.0, c4=9.0), test)
    assert sentence.startswith("2 held-out normal images score far above the others and may not be normal: v2, c4")
    assert "without them, 8 test images would be flagged (at a false-alarm rate of 0.167)" in sentence
    assert "with them 0 are (at 0.143)" in sentence


def test_without_test_images_the_thresholds_with_and_without_them_are_said():
    (sentence,) = contamination_warnings(NAMES, scores(c4=9.0))
    assert "without them an image would be anomalous above a score of 1.5 (at a false-alarm rate of 0.167)" in sentence
    assert "with them above 9 (at 0.143)" in sentence


def test_ordinary_images_are_not_named():
    assert contamination_warnings(NAMES, scores()) == []
    source = torch.Generator().manual_seed(0)
    named = sum(far_out(torch.randn(12, generator=source)).any().item() for _ in range(500))
    assert named <= 0.05 * 500


def test_an_image_that_one_member_puts_far_out_is_named_though_the_mean_of_members_hides_it():
    blurred = {split: torch.linspace(0, 1, 6) for split in NAMES}
    sharp = torch.cat(list(scores(c5=9.0).values()))
    test = torch.linspace(0.85, 0.95, 6)
    assert contamination_warnings(NAMES, blurred, test) == []
    (sentence,) = contamination_warnings(NAMES, blurred, test, member_scores=[torch.cat(list(blurred.values())), sharp])
    assert sentence.startswith("1 held-out normal image scores far above the others and may not be normal: c5")
    assert "without them, 6 test images would be flagged" in sentence
    assert "with them 0 are" in sentence


def test_where_a_decision_would_stay_that_is_said_and_not_two_equal_numbers():
    many = {
        "validation": torch.linspace(0, 1, 30),
        "calibration": torch.cat([torch.linspace(0, 1, 60), torch.tensor([9.0])]),
    }
    names = {split: [f"{split[0]}{i}" for i in range(len(values))] for split, values in many.items()}
    (sentence,) = contamination_warnings(names, many, torch.full((6,), 20.0))
    assert (
        "c60; without them as many test images would be flagged (6 at a false-alarm rate of 0.05). Look at" in sentence
    )


def test_ordinary_images_are_seldom_named_by_several_members():
    source = torch.Generator().manual_seed(0)
    named = 0
    for _ in range(500):
        common = torch.randn(12, generator=source)
        members = [common + torch.randn(12, generator=source) for _ in range(3)]
        mean = torch.stack(members).mean(0)
        split = {"validation": mean[:6], "calibration": mean[6:]}
        named += bool(contamination_warnings(NAMES, split, member_scores=members))
    assert named <= 0.1 * 500


@pytest.mark.parametrize("n_bad", [1, 3, 5])
def test_up_to_nearly_half_of_the_images_may_be_bad(n_bad):
    values = torch.cat([1 + 0.01 * torch.arange(12.0 - n_bad), torch.full((n_bad,), 5.0)])
    assert far_out(values).tolist() == [False] * (12 - n_bad) + [True] * n_bad


def test_groups_far_above_the_others_are_named():
    groups = {"validation": [0, 0, 1, 1, 2, 2], "calibration": [3, 3, 4, 4, 5, 5]}
    sentences = contamination_warnings(NAMES, scores(c2=9.0, c3=9.1), None, groups)
    start = "1 held-out group scores far above the other groups and may not be normal: that of c2"
    assert sentences[-1].startswith(start)
    test = torch.cat([torch.full((10,), 1.2), torch.full((8,), 8.0)])
    changed = contamination_warnings(NAMES, scores(c2=9.0, c3=9.1), test, groups)[-1]
    # Three groups of calibration images support a rate of 1/4, and two of 1/3.
    assert "without them, 8 test images would be flagged (at a false-alarm rate of 0.333)" in changed
    assert "with them 0 are (at 0.25)" in changed


def test_bad_images_among_the_normal_ones_are_named_in_verdict_and_report(stripes, scratched, tiny, tmp_path):
    good = torch.cat([scratched(6), stripes(34)])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    selection = select_best(
        good[order],
        torch.cat([stripes(8, 5), scratched(8, 6)]),
        detectors=("pixels",),
        preset=tiny,
        jobs=1,
        device="cpu",
    )
    store = selection.zoo.store
    held_out = [name for split in ("validation", "calibration") for name in store.names(split)]
    bad = [name for name in held_out if order[int(name)] < 6]
    assert bad
    (sentence,) = [line for line in selection.verdict if "may not be normal" in line]
    assert all(name in sentence for name in bad)
    assert not any(name in sentence for name in held_out if name not in bad)
    page = selection.report(tmp_path)
    assert sentence in json.loads((tmp_path / "report.json").read_text())["verdict"]
    assert "may not be normal" in page.read_text()


def test_a_bad_lot_among_the_normal_ones_is_named_in_the_verdict(stripes, scratched, tiny):
    lots = [i // 4 for i in range(80)]
    bad = lots[int(split(80, 0, lots).calibration[0])]  # a lot that is held out
    good = torch.where((torch.tensor(lots) == bad)[:, None, None, None], scratched(80), stripes(80))
    selection = select_best(good, None, groups=lots, detectors=("pixels",), preset=tiny, jobs=1, device="cpu")
    (sentence,) = [line for line in selection.verdict if "other groups and may not be normal" in line]
    assert sentence.startswith("Warning: 1 held-out group scores far above")
    names = selection.zoo.store.names("calibration")
    assert any(name in sentence for name in names if lots[int(name)] == bad)
    assert "without them an image would be anomalous above a score of" in sentence
