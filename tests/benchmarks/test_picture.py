"""The picture of the README, made from a photo that may be shown."""

import pytest
import torch
from PIL import Image

from benchmarks import picture


@pytest.fixture
def panels(stripes, scratched):
    return picture.Panels(stripes(1)[0], {"cutout": scratched(1)[0]}, scratched(1, 2)[0], torch.rand(32, 32))


def test_drawing_twice_gives_the_same_file(panels, tmp_path):
    for name in ("first.png", "second.png"):
        picture.draw(panels, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert image.width > 3 * image.height


@pytest.mark.slow
def test_what_is_shown_is_a_normal_image_its_pseudo_anomalies_and_a_map(tiny):
    panels = picture.gather(preset=tiny)
    assert set(panels.pseudo_anomalies) == set(picture.AUGMENTATIONS)
    assert panels.anomalous.shape == panels.normal.shape == (1, 64, 64)
    assert panels.score_map.shape == (64, 64)
    assert all(not torch.equal(image, panels.normal) for image in panels.pseudo_anomalies.values())
