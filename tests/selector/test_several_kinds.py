"""A choice among candidates of several kinds, from images to the detector that is recommended."""

import pytest
import torch

from selector import load, select_best

AREAS = (0.02, 0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def run(tiny, stripes, scratched, tmp_path_factory):
    return select_best(
        stripes(30, 2),
        torch.cat([stripes(8, 5), scratched(4)]),
        augmentations={"cutout": [{"area": area} for area in AREAS], "cutpaste": [{"area": area} for area in AREAS]},
        detectors=("classifier", "pixels"),
        preset=tiny,
        out=tmp_path_factory.mktemp("runs") / "run",
    )


def test_every_second_member_is_the_best_of_the_others_by_dsv(run):
    table = run.ranking[run.ranking.status == "ok"]
    assert len(table) > 4
    first = list(table.candidate[:2])
    by_dsv = table[~table.candidate.isin(first)].sort_values("dsv", kind="stable")
    assert [member.id for member in run.members] == [*first, *by_dsv.candidate[:2]]
    assert list(table.candidate[:4]) != [member.id for member in run.members], "these images show no difference"
    assert any("of the ranking and the best" in sentence and "by dsv together" in sentence for sentence in run.verdict)


def test_p_values_of_test_images_are_corrected_for_it(run):
    assert run.correction.is_corrected, run.correction.reason
    assert run.test_p_values.shape == (12,)


def test_it_is_loaded_with_the_same_members_and_words(run):
    again = load(run.path)
    assert again.members == run.members
    assert again.verdict == run.verdict
    assert again.result.rule == run.result.rule
