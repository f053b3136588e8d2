"""Regions of a score map, in pixels of the original image."""

import math

import pytest
import torch

from selector.detection.regions import find_regions, map_threshold


def test_regions_are_connected_also_at_corners_and_sorted_by_peak():
    score_map = torch.zeros(6, 8)
    score_map[0, 0] = score_map[1, 1] = 2.0
    score_map[4, 5:8] = torch.tensor([3.0, 5.0, 3.0])
    high, low = find_regions(score_map, 1.0, (6, 8))
    assert (high.box, high.area, high.peak) == ((5, 4, 8, 5), 3, 5.0)
    assert (low.box, low.area, low.peak) == ((0, 0, 2, 2), 2, 2.0)


def test_boxes_and_areas_are_those_of_the_original_image():
    score_map = torch.zeros(4, 4)
    score_map[1, 2] = 1.0
    (region,) = find_regions(score_map, 0.5, (40, 80))
    assert region.box == (40, 10, 60, 20)
    assert region.area == 200


def test_a_score_at_the_threshold_is_not_above_it():
    assert find_regions(torch.ones(3, 3), 1.0, (3, 3)) == ()


def test_overlapping_boxes_keep_their_own_areas():
    score_map = torch.zeros(5, 5)
    score_map[0, :] = score_map[:, 0] = 1.0
    score_map[3, 3] = 2.0
    regions = find_regions(score_map, 0.5, (5, 5))
    assert [region.area for region in regions] == [1, 9]


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (62, 0.05), (30, 0.1)])
def test_a_normal_image_exceeds_the_threshold_at_the_rate_at_most(n, rate):
    source = torch.Generator().manual_seed(0)
    exceeded = [
        (torch.rand(1, generator=source) > map_threshold(torch.rand(n, generator=source), rate)).item()
        for _ in range(4000)
    ]
    share = sum(exceeded) / len(exceeded)
    expected = (n + 1 - math.ceil((1 - rate) * (n + 1))) / (n + 1)
    assert share == pytest.approx(expected, abs=0.015)
    assert expected <= rate + 1e-12


def test_too_few_calibration_images_support_no_region():
    assert map_threshold(torch.rand(5), 0.05) == math.inf
