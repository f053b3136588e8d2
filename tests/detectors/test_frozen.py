"""The kind whose encoder stays as it is."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

import augmentations
import detectors
from augmentations import InputError
from detectors.encoders import EncoderSpec, levels, lite0_is_installed
from detectors.frozen import Frozen, FrozenSettings
from detectors.frozen_levels import of_locations, on_grid
from detectors.presets import get_preset
from detectors.scorers import Gaussian, GaussianPerLocation
from detectors.scorers.standardized import spread
from selector.testing.detector import KindContract, stripes


def frozen(seed=0, **settings):
    return Frozen(FrozenSettings(**{"image_size": 32, "channels": 20} | settings), seed=seed, device="cpu")


class TestPooled(KindContract):
    def make(self, *, seed=0, channels=1):
        return frozen(seed)

    def learn(self):
        return self.make()


class TestByLocation(TestPooled):
    def make(self, *, seed=0, channels=1):
        return frozen(seed, score="locations", map_levels=(1, 2), neighbourhood=3)


def test_pooled_scores_are_those_of_a_gaussian_of_standardised_pooled_levels():
    train, new = stripes(40), stripes(5, seed=1)
    detector = frozen().fit(train)

    @torch.no_grad()
    def pooled(images):
        each = [nn.functional.normalize(level.mean((2, 3)), dim=1) for level in levels(detector.encoder, images)]
        return nn.functional.normalize(torch.cat(each, 1), dim=1)

    rows = pooled(train)
    center, scale = spread(rows)
    expected = Gaussian().fit((rows - center) / scale).score((pooled(new) - center) / scale)
    torch.testing.assert_close(detector.score(new), expected, rtol=1e-3, atol=1e-3)


def test_location_scores_are_those_of_a_gaussian_at_each_location_of_the_picked_channels():
    train, new = stripes(40), stripes(5, seed=1)
    detector = frozen(score="locations", map_levels=(1, 2), channels=12).fit(train)
    assert len(detector.picked) == 12

    @torch.no_grad()
    def places(images):
        fine, coarse = levels(detector.encoder, images)[1:3]
        coarse = nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")
        return torch.cat([fine, coarse], 1)[:, detector.picked].movedim(1, -1)

    center, scale = spread(places(train))
    local = GaussianPerLocation().fit((places(train) - center) / scale)
    scores = local.score((places(new) - center) / scale).flatten(1)
    few = round(0.1 * scores.shape[1])
    expected = scores.sort(1, descending=True).values[:, :few].mean(1)
    torch.testing.assert_close(detector.score(new), expected, rtol=1e-3, atol=1e-3)
    highest = frozen(score="locations", map_levels=(1, 2), channels=12, summary="max").fit(train)
    torch.testing.assert_close(highest.score(new), scores.amax(1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", [None, pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("settings", [{}, {"score": "locations", "neighbourhood": 3}], ids=["pooled", "locations"])
def test_it_can_be_exported(settings, form, program):
    detector = frozen(**settings).fit(stripes(24))
    exported = program(detector, stripes(4), form)
    for images in (stripes(1, seed=1), stripes(5, seed=2)):
        scores, maps, _ = exported(images)
        torch.testing.assert_close(scores, detector.score(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps, detector.score_map(images), rtol=1e-4, atol=1e-4)


def test_channels_are_drawn_by_the_seed_and_survive_a_file(tmp_path):
    first, again = (frozen(score="locations").fit(stripes(12)) for _ in range(2))
    assert first.picked == again.picked
    assert first.picked != frozen(seed=1, score="locations").fit(stripes(12)).picked
    loaded = detectors.load(first.save(tmp_path / "detector"), device="cpu")
    assert loaded.picked == first.picked
    assert loaded.grid == first.grid
    assert frozen(channels=0).fit(stripes(12)).picked is None


def test_models_of_locations_are_bounded_in_memory(monkeypatch):
    monkeypatch.setattr("detectors.frozen.MODEL_VALUES", 16 * 16 * 25)
    monkeypatch.setattr("detectors.frozen_levels.LOCATION_VALUES", 16 * 16 * 5 * 10)
    kept = []
    fit = GaussianPerLocation.fit
    monkeypatch.setattr(GaussianPerLocation, "fit", lambda self, rows: kept.append(rows.shape) or fit(self, rows))
    detector = frozen().fit(stripes(40))
    assert kept == [(10, 16, 16, 5)]
    assert detector.map_scorer.scorer.whitening.numel() <= 16 * 16 * 25


def test_features_that_differ_by_rounding_only_are_refused():
    same = stripes(1).expand(8, 1, 32, 32)
    with pytest.raises(InputError, match="are all the same"):
        frozen().fit(same)


def test_locations_are_of_the_two_finest_grids_of_a_bounded_size():
    def places(*sides):
        return of_locations([torch.zeros(1, 2, side, side) for side in sides])

    assert places(16, 8, 4, 4) == (0, 1)  # lite0 at 128 px
    assert places(56, 28, 14, 7) == (1, 2)  # a residual network at 224 px
    assert places(64, 64, 32, 16) == (2, 3)
    assert places(16, 16, 8, 4) == (0, 1, 2)
    assert places(64, 64) == (0, 1)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (16, 24), (3, 5), (5, 20)], ids=str)
def test_levels_are_averaged_where_they_shrink_and_interpolated_where_they_grow(size):
    level = torch.rand(2, 3, 8, 8)
    expected = level
    for axis, wanted in zip((2, 3), size, strict=True):
        same = tuple(wanted if each == axis else expected.shape[each] for each in (2, 3))
        if wanted > 8:
            expected = nn.functional.interpolate(expected, same, mode="bilinear")
        elif 8 % wanted == 0:
            expected = nn.functional.adaptive_avg_pool2d(expected, same)
        else:  # every location whole: 8 of them, each as many times as the new ones are
            fine = expected.repeat_interleave(wanted, axis)
            expected = fine.unflatten(axis, (wanted, 8)).mean(axis + 1)
    torch.testing.assert_close(on_grid([level], size), expected)


def test_lite0_is_what_a_preset_takes_where_its_packages_are(monkeypatch):
    for installed, encoder in ((True, "lite0"), (False, "small")):
        monkeypatch.setattr("detectors.frozen_levels.lite0_is_installed", lambda installed=installed: installed)
        if not installed or lite0_is_installed():
            settings = Frozen.settings_for(get_preset("quick"))
            assert EncoderSpec.of(settings.encoder).name == encoder
            assert Frozen.needs(settings) == (128 if installed else 64)


@pytest.mark.skipif(not lite0_is_installed(), reason="lite0 is an extra")
def test_a_pretrained_encoder_survives_a_file_and_its_settings_json(tmp_path):
    images = stripes(12, height=40, width=48)
    spec = EncoderSpec.of({"name": "lite0", "input_size": 64})
    detector = frozen(encoder=spec, image_size=64, score="locations").fit(images)
    settings = FrozenSettings(**json.loads(json.dumps(asdict(detector.settings))))
    assert settings == detector.settings
    assert hash(settings) == hash(detector.settings)
    loaded = detectors.load(detector.save(tmp_path / "detector"), device="cpu")
    assert torch.equal(loaded.score_map(images), detector.score_map(images))
    assert loaded.grid == detector.grid == (8, 10)


def test_it_has_no_pseudo_anomalies_and_takes_no_augmentation():
    assert not Frozen.has_pseudo_anomalies()
    assert not Frozen.learns_encoder
    with pytest.raises(InputError, match="takes no augmentation"):
        Frozen(FrozenSettings(32), augmentations.make("cutout"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("image_size", 0), ("channels", -1), ("neighbourhood", 2), ("score", "both"), ("summary", "mean")],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(InputError, match=setting):
        frozen(**{setting: value})


def test_a_level_that_the_encoder_lacks_is_refused():
    with pytest.raises(InputError, match=r"level 7.*4 levels"):
        frozen(image_levels=(7,)).fit(stripes(4))


def test_a_level_of_the_map_that_the_encoder_lacks_is_refused():
    with pytest.raises(InputError, match=r"level -5.*4 levels"):
        frozen(map_levels=(-5,)).fit(stripes(4))


def test_it_is_registered():
    assert detectors.get("frozen") is Frozen
