"""Detections as a table."""

import pytest
import torch

from selector.detection.detections import Detections


@pytest.fixture
def detections():
    return Detections(
        names=("a.png", "lot 1/b.png", "=c.png"),
        scores=torch.tensor([0.5, 3.25, 1.0]),
        p_values=torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64),
        is_anomaly=torch.tensor([False, True, False]),
        maps=torch.zeros(3, 4, 4),
        false_alarm_rate=0.25,
        n_calibration=3,
        sizes=((8, 8), (8, 4), (4, 4)),
        map_threshold=0.5,
    )


def test_the_table_has_one_row_per_image(detections):
    assert list(detections.table.columns) == ["name", "score", "p_value", "verdict", "boxes", "areas", "remark"]
    assert detections.table.name.tolist() == ["a.png", "lot 1/b.png", "=c.png"]
    assert detections.table.score.tolist() == [0.5, 3.25, 1.0]
    assert detections.table.p_value.tolist() == [1.0, 0.25, 0.5]
    assert detections.table.verdict.tolist() == ["normal", "anomaly", "normal"]


def test_only_anomalous_images_have_regions_in_pixels_of_the_original(detections):
    detections.maps[0, 0, 0] = detections.maps[1, 1:3, 2] = 1.0
    assert detections.table.boxes.tolist() == [[], [(2, 2, 3, 6)], []]
    assert detections.table.areas.tolist() == [[], [4], []]
    assert detections.smallest_p_value == 0.25


def test_an_anomalous_image_without_a_region_says_so(detections):
    assert detections.table.remark.tolist() == ["", "no single place; the whole image", ""]


def test_an_anomalous_image_with_a_region_needs_no_remark(detections):
    detections.maps[1, 1:3, 2] = 1.0
    assert detections.table.remark.tolist() == ["", "", ""]
