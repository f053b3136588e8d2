"""Regions of a score map, in pixels of the original image."""

import math

import pytest
import torch

import augmentations
from detectors import PatchClassifier, PatchSettings
from selector.detection.regions import anomalous_pixels, find_regions, map_threshold


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


def test_a_region_is_what_rises_half_as_far_as_its_highest_score():
    line = torch.tensor([[0.0, 1.2, 2.0, 3.0, 5.0, 3.0, 2.0, 1.2, 0.0]])
    (region,) = find_regions(line, 1.0, (1, 9))
    assert (region.box, region.area) == ((3, 0, 6, 1), 3)
    separate = torch.tensor([[0.0, 1.2, 0.0, 9.0]])
    assert [one.box for one in find_regions(separate, 1.0, (1, 4))] == [(3, 0, 4, 1), (1, 0, 2, 1)]


@pytest.mark.parametrize("above", [0.3, 0.9, 0.9999, 2.0, math.inf])
def test_there_is_a_region_exactly_where_the_threshold_is_exceeded(above):
    maps = torch.rand(50, 6, 6, generator=torch.Generator().manual_seed(0))
    assert [anomalous_pixels(each, above).any() for each in maps] == (maps.amax((1, 2)) > above).tolist()


def texture(n, height, width, seed):
    """Waves of any phase, with noise."""
    source = torch.Generator().manual_seed(seed)
    phase = 6 * torch.rand(n, 1, 1, 1, generator=source)
    noise = 0.05 * torch.randn(n, 1, height, width, generator=source)
    return (0.55 + 0.08 * torch.sin(torch.arange(width) / 3 + phase) + noise).clamp(0, 1)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 128), (32, 160)], ids=str)
def test_boxes_of_the_patch_detector_cover_a_spot_and_little_else(size):
    height, width = size
    settings = PatchSettings("unpadded", 32, patch=16, head=(8,), steps=20, batch=32)
    detector = PatchClassifier(settings, augmentations.make("cutout"), device="cpu").fit(texture(40, *size, 0))
    above = map_threshold(detector.score_map(texture(30, *size, 1)).amax((1, 2)), 0.1)
    side = round(10 / 96 * max(size)) if height == width else 8
    tops = (round(0.08 * height), round(0.45 * height), round(0.65 * height))
    images = texture(3, *size, 2)
    lefts = (round(0.08 * width), round(0.45 * width), round(0.8 * width))
    spots = list(zip(lefts, tops, strict=True))
    for image, (left, top) in zip(images, spots, strict=True):
        image[:, top : top + side, left : left + side] = 0.1
    for score_map, (left, top) in zip(detector.score_map(images), spots, strict=True):
        box = find_regions(score_map, above, size)[0].box
        assert box[0] <= left + side / 2 < box[2]
        assert box[1] <= top + side / 2 < box[3]
        # As far around as half a patch and a step between patches.
        reach = (left - 12, top - 12, left + side + 12, top + side + 12)
        assert all(inner >= outer for inner, outer in zip(box[:2], reach[:2], strict=True))
        assert all(inner <= outer for inner, outer in zip(box[2:], reach[2:], strict=True))
        assert anomalous_pixels(score_map, above).sum() <= (side + 16) ** 2
