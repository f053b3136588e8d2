"""Heatmaps: colours, sizes and names of files."""

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from selector.detection.heatmaps import HEAT_COLOURS, OPACITY, levels, overlay, picture_path, write_heatmap, write_mask

SCALE = (2.0, 4.0)


class TestOverlay:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_up_to_the_lower_end_it_is_the_image(self, channels):
        image = torch.rand(channels, 5, 6)
        plain = (255 * image.expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)
        for score in (2.0, 1.0, -100.0):
            assert np.array_equal(overlay(image, torch.full((5, 6), score), SCALE), plain)

    @pytest.mark.parametrize("score", [4.0, 5.0, 1e9])
    def test_at_the_upper_end_and_beyond_the_colour_is_full(self, score):
        image = torch.full((1, 2, 2), 0.5)
        hottest = np.array(matplotlib.colormaps["inferno"](HEAT_COLOURS[1])[:3])
        expected = 255 * ((1 - OPACITY) * 0.5 + OPACITY * hottest)
        assert np.abs(overlay(image, torch.full((2, 2), score), SCALE) - expected).max() <= 0.5

    def test_half_way_lies_between(self):
        image = torch.zeros(1, 1, 3)
        cold, warm, hot = overlay(image, torch.tensor([[2.0, 3.0, 4.0]]), SCALE)[0].astype(int).sum(axis=1)
        assert cold < warm < hot

    def test_the_same_score_has_the_same_colour_in_every_image(self):
        image = torch.rand(3, 2, 2)
        one = overlay(image, torch.tensor([[3.0, 0.0], [0.0, 0.0]]), SCALE)
        other = overlay(image, torch.tensor([[3.0, 9.0], [9.0, 9.0]]), SCALE)
        assert np.array_equal(one[0, 0], other[0, 0])

    def test_a_scale_of_no_width_is_a_threshold(self):
        image = torch.full((1, 1, 2), 0.5)
        drawn = overlay(image, torch.tensor([[2.0, 2.1]]), (2.0, 2.0))
        assert drawn[0, 0].tolist() == [128, 128, 128]
        assert drawn[0, 1].tolist() != [128, 128, 128]

    def test_white_and_black_do_not_wrap_around(self):
        image = torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.ones(2, 2)])
        assert overlay(image, torch.zeros(2, 2), SCALE).min(axis=(0, 1)).tolist() == [0, 255, 255]


class TestHeatmap:
    @pytest.mark.parametrize(
        ("side", "high"), [(32, 256), (64, 256), (100, 300), (110, 330), (250, 500), (256, 256), (300, 300)]
    )
    def test_it_is_the_image_beside_its_overlay_at_least_256_px_high(self, tmp_path, side, high):
        path = tmp_path / "a" / "b" / "heat.png"
        write_heatmap(path, torch.rand(1, side, side), torch.rand(side, side), (0.0, 1.0))
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.mode == "RGB"
            assert picture.size == (2 * high, high)

    def test_its_left_half_is_the_image(self, tmp_path):
        image = torch.rand(3, 256, 256)
        write_heatmap(tmp_path / "heat.png", image, torch.full((256, 256), 9.0), SCALE)
        left, right = np.split(np.asarray(Image.open(tmp_path / "heat.png")), 2, axis=1)
        assert np.array_equal(left, (255 * image.permute(1, 2, 0).numpy()).round().astype(np.uint8))
        assert np.array_equal(right, overlay(image, torch.full((256, 256), 9.0), SCALE))

    def test_images_that_are_not_square(self, tmp_path):
        write_heatmap(tmp_path / "heat.png", torch.rand(1, 128, 64), torch.rand(128, 64), SCALE)
        assert Image.open(tmp_path / "heat.png").size == (2 * 2 * 64, 2 * 128)


class TestHeatmapPath:
    @pytest.mark.parametrize("name", ["a.png", "lot 1/a.png", "ü.tif", "a.b.c", ".hidden.png", "lot..1/a.png", "0001"])
    def test_it_is_the_name_and_png(self, name):
        assert picture_path(name).as_posix() == f"{name}.png"

    HOSTILE = (
        *("../x", "../../etc/passwd", "/etc/passwd", "a/../../x", "a/..", "..", "//x", "lot/../b.png", "/", "."),
        *("n" * 252, "ü" * 200 + ".png", "lot/" + "n" * 255),
    )

    @pytest.mark.parametrize("name", HOSTILE)
    def test_it_never_leaves_its_folder_and_can_be_written(self, tmp_path, name):
        inside = tmp_path / "out" / "heatmaps"
        path = inside / picture_path(name)
        assert path.resolve().is_relative_to(inside)
        assert path.name.endswith(".png")
        write_heatmap(path, torch.rand(1, 8, 8), torch.rand(8, 8), SCALE, size=8)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]

    def test_images_do_not_share_one(self):
        names = [
            *self.HOSTILE,
            "x",
            "x.png",
            "x.png.png",
            "./x",
            "y//x",
            "../y/x",
            "../z/x",
            "etc/passwd",
            "y/x",
            "passwd",
        ]
        assert len({picture_path(name) for name in names}) == len(names)


def test_a_mask_has_the_size_of_the_original(tmp_path):
    score_map = torch.zeros(4, 4)
    score_map[1, 2] = 1.0
    write_mask(tmp_path / "masks" / "a.png", score_map, 0.5, (8, 16))
    mask = np.asarray(Image.open(tmp_path / "masks" / "a.png"))
    expected = np.zeros((8, 16), np.uint8)
    expected[2:4, 8:12] = 255
    assert np.array_equal(mask, expected)


class TestShownAsTheOriginal:
    def test_a_strip_is_a_strip_with_its_overlay_below(self, tmp_path):
        write_heatmap(tmp_path / "heat.png", torch.rand(1, 64, 64), torch.rand(64, 64), SCALE, original=(40, 800))
        assert Image.open(tmp_path / "heat.png").size == (800, 2 * 40)

    def test_a_high_strip_is_beside_its_overlay(self, tmp_path):
        write_heatmap(tmp_path / "heat.png", torch.rand(1, 64, 64), torch.rand(64, 64), SCALE, original=(800, 40))
        assert Image.open(tmp_path / "heat.png").size == (2 * 40, 800)

    def test_a_large_original_is_reduced_and_keeps_its_aspect(self, tmp_path):
        write_heatmap(tmp_path / "heat.png", torch.rand(1, 64, 64), torch.rand(64, 64), SCALE, original=(3000, 4000))
        assert Image.open(tmp_path / "heat.png").size == (2 * 1024, 768)

    def test_twelve_bits_of_sixteen_are_not_black(self, tmp_path):
        dark = torch.rand(1, 64, 64) / 16
        write_heatmap(tmp_path / "heat.png", dark, torch.zeros(64, 64), SCALE)
        shown = np.asarray(Image.open(tmp_path / "heat.png"))
        assert np.percentile(shown, 5) < 60
        assert np.percentile(shown, 95) > 195

    def test_a_bright_pixel_does_not_keep_an_image_dark(self):
        dark = torch.rand(1, 64, 64) / 16
        dark[0, 3, 3] = 1.0
        assert levels(dark)[1] < 0.1

    @pytest.mark.parametrize("image", [torch.rand(3, 16, 16), torch.full((1, 8, 8), 0.2)], ids=["usual", "constant"])
    def test_usual_and_constant_images_keep_their_levels(self, image):
        assert levels(image) == (0.0, 1.0)
