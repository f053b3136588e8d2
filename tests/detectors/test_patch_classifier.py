import dataclasses
import json
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from torch import nn

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, PatchClassifier, PatchSettings, ScorerSpec, dense, get_preset
from detectors import images as images_module
from detectors import patch_classifier as localization
from detectors.dense import center_per_image, dense_embeddings, dense_map, positions
from detectors.encoders import ENCODERS, PadTo
from detectors.patch_density import PER_LOCATION, SHARED, _standard_error, _wins, held_out_mask, select_density
from detectors.scorers import Gaussian, GaussianPerLocation
from selector.testing.detector import KindContract

BRIEF = PatchSettings("unpadded", 32, head=(8,), steps=4, batch=64)
UNPADDED = ENCODERS["unpadded"]


GAUSSIAN = ScorerSpec("gaussian")


class Shared(Gaussian):
    """A Gaussian that all locations share."""

    name = "other"
    per_location = None


def patch_detector(settings=BRIEF, augmentation="cutpaste", **arguments):
    return PatchClassifier(settings, augmentations.make(augmentation), device="cpu", **arguments)


class TestPatchClassifier(KindContract):
    peak_tolerance = 4  # a stride: patches that see the same part of the defect score alike

    def make(self, *, seed=0, channels=1):
        return patch_detector(seed=seed)

    def learn(self):
        settings = dataclasses.replace(BRIEF, head=(16,), steps=60)
        return PatchClassifier(settings, augmentations.make("cutpaste", area=(0.03, 0.15)), device="cpu")


def initialised(name="unpadded", channels=1, patch=16):
    """An encoder whose batch normalisation has seen something, so that its borders matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ENCODERS[name].build(channels, patch)
        with torch.no_grad():
            encoder(torch.rand(16, channels, 32, 32))
    return encoder.eval()


def windows_of(images, patch, stride):
    """Every patch, one by one, in a Python loop: (h,w) lists of (N,C,patch,patch)."""
    tops, lefts = ([*range(0, side - patch, stride), side - patch] for side in images.shape[2:])
    return [[images[:, :, top : top + patch, left : left + patch] for left in lefts] for top in tops]


@torch.no_grad()
def naive_embeddings(encoder, images, patch, stride):
    rows = []
    for row in windows_of(images, patch, stride):
        rows.append(torch.stack([every_depth(encoder, window.contiguous()) for window in row], 1))
    return torch.stack(rows, 1)


def every_depth(encoder, window):
    means = []
    for layer in encoder:
        window = layer(window)
        if type(layer) not in (PadTo, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d):
            means.append(window.mean((2, 3)))
    return torch.cat(means, 1)


def naive_center_per_image(embeddings):
    """In numpy, image by image."""
    seen = []
    for image in embeddings.double().numpy():
        scaled = image / np.sqrt((image**2).mean())
        rows = scaled.reshape(-1, image.shape[-1])
        seen.append(scaled - np.quantile(rows, 0.5, axis=0, method="lower"))
    return np.stack(seen)


SIZES = [(32, 32), (16, 16), (64, 40), (37, 50), (16, 33), (35, 16)]


class TestDenseEmbeddings:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize(("name", "channels"), [("unpadded", 1), ("unpadded", 3), ("small", 1)])
    def test_are_those_of_every_window(self, name, channels, size):
        encoder, images = initialised(name, channels), torch.rand(2, channels, *size)
        with torch.no_grad():
            fast = dense_embeddings(encoder, images, 16, 4, ENCODERS[name].dense_strides)
        torch.testing.assert_close(fast, naive_embeddings(encoder, images, 16, 4), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(("patch", "stride"), [(16, 4), (16, 8), (15, 4), (18, 12), (32, 4), (35, 8), (31, 4)])
    def test_convolution_equals_unfolding(self, patch, stride):
        encoder, images = initialised(patch=patch), torch.rand(3, 1, 61, 52)
        with torch.no_grad():
            convolved, unfolded = (
                dense_embeddings(encoder, images, patch, stride, each) for each in (UNPADDED.dense_strides, None)
            )
        torch.testing.assert_close(convolved, unfolded, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("stride", [1, 3, 6])
    def test_a_stride_off_the_grid_of_the_encoder_is_unfolded(self, stride):
        encoder, images = initialised(), torch.rand(1, 1, 21, 26)
        with torch.no_grad():
            embeddings = dense_embeddings(encoder, images, 16, stride, UNPADDED.dense_strides)
        torch.testing.assert_close(embeddings, naive_embeddings(encoder, images, 16, stride), rtol=1e-5, atol=1e-5)

    def test_a_padded_encoder_is_not_convolutional(self):
        encoder, images = initialised("small"), torch.rand(1, 1, 64, 64)
        with torch.no_grad():
            convolved, unfolded = (dense_embeddings(encoder, images, 16, 8, each) for each in ((2, 2, 4, 8), None))
        assert ENCODERS["small"].dense_strides is None
        assert (convolved - unfolded).abs().max() > 1e-2

    def test_images_smaller_than_a_patch_are_extended(self):
        image = torch.rand(1, 1, 5, 20)
        with torch.no_grad():
            small, large = (
                dense_embeddings(initialised(), each, 16, 4, UNPADDED.dense_strides)
                for each in (image, torch.cat([image, *[image[:, :, 4:]] * 11], 2))
            )
        assert torch.equal(small, large)
        assert small.shape == (1, 1, 2, 16 + 32 + 64)

    @pytest.mark.parametrize("most", [1, 7, 1000])
    def test_unfolding_sees_a_bounded_number_of_patches_at_once(self, monkeypatch, most):
        monkeypatch.setattr(dense, "PATCHES", most)
        encoder, images = initialised("small"), torch.rand(3, 1, 32, 24)
        sizes = []
        encoder[0].register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].shape))
        with torch.no_grad():
            embeddings = dense_embeddings(encoder, images, 16, 4)
        assert max(n for n, *_ in sizes) <= most
        assert sum(n for n, *_ in sizes) == 3 * 5 * 3
        assert {tuple(shape) for _, *shape in sizes} == {(1, 16, 16)}
        encoder[0]._forward_hooks.clear()
        torch.testing.assert_close(embeddings, naive_embeddings(encoder, images, 16, 4), rtol=1e-5, atol=1e-5)


class TestRelative:
    def test_is_the_scale_and_the_median_of_each_image_taken_off(self):
        patches = torch.randn(3, 4, 5, 6, generator=generator(0, "patches"))
        torch.testing.assert_close(center_per_image(patches).double(), torch.tensor(naive_center_per_image(patches)))

    def test_a_defect_in_some_patches_does_not_move_the_others(self):
        patches = 1 + 0.01 * torch.rand(1, 9, 9, 6, generator=generator(0, "patches"))
        defect = patches.clone()
        defect[:, 1:5, 1:5] += 0.3 * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
        others = torch.ones(9, 9, dtype=torch.bool)
        others[1:5, 1:5] = False
        clean, spotted = (center_per_image(each)[0][others] for each in (patches, defect))
        assert (spotted - clean).abs().max() < 0.01  # a mean would move by 0.06

    def test_exposure_of_an_image_is_not_seen(self):
        patches = torch.rand(1, 4, 5, 6, generator=generator(0, "patches"))
        brighter = torch.cat([patches, 1.7 * patches])
        torch.testing.assert_close(*center_per_image(brighter))

    def test_a_single_patch_keeps_its_direction(self):
        patches = torch.rand(2, 1, 1, 6, generator=generator(0, "patches"))
        torch.testing.assert_close(
            nn.functional.normalize(center_per_image(patches), dim=-1), nn.functional.normalize(patches, dim=-1)
        )

    def test_features_of_zero_stay_finite(self):
        assert torch.equal(center_per_image(torch.zeros(1, 3, 3, 4)), torch.zeros(1, 3, 3, 4))


def naive_map(scores, patch, stride, size):
    """An explicit sum of Gaussians, divided by the sum of what ones would give."""
    tops, lefts = ([*range(0, side - patch, stride), side - patch] for side in size)
    reach = torch.arange(patch).double() - (patch - 1) / 2
    kernel = torch.exp(-(reach[:, None] ** 2 + reach**2) / (2 * (0.31 * patch) ** 2))
    total, weight = torch.zeros(size).double(), torch.zeros(size).double()
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            total[top : top + patch, left : left + patch] += kernel * scores[i, j]
            weight[top : top + patch, left : left + patch] += kernel
    return total / weight


class TestDenseMap:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize(("patch", "stride"), [(16, 4), (16, 5), (16, 16), (11, 1)])
    def test_is_the_normalised_sum_of_gaussians(self, patch, stride, size):
        grid = [len(positions(side, patch, stride)) for side in size]
        scores = torch.rand(2, *grid, generator=generator(0, "scores"))
        maps = dense_map(scores, patch, stride, size)
        for each, score in zip(maps, scores, strict=True):
            torch.testing.assert_close(each.double(), naive_map(score, patch, stride, size), rtol=1e-5, atol=1e-5)

    def test_is_a_transposed_convolution(self):
        # Li et al., A.5: 57x57 patches of 32 px, 4 px apart, make (57-1)*4+32 = 256 px.
        scores = torch.rand(2, 57, 57, generator=generator(0, "scores"))
        assert len(positions(256, 32, 4)) == 57
        reach = torch.arange(32) - 31 / 2
        line = torch.exp(-(reach**2) / (2 * 9.92**2))
        kernel = torch.outer(line, line)[None, None]
        spread, ones = (
            nn.functional.conv_transpose2d(each[:, None], kernel, stride=4)
            for each in (scores, torch.ones_like(scores))
        )
        torch.testing.assert_close(dense_map(scores, 32, 4, (256, 256)), (spread / ones)[:, 0], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("size", [*SIZES, (7, 5), (1, 40), (1, 1)], ids=str)
    @pytest.mark.parametrize(("patch", "stride"), [(16, 4), (16, 16), (16, 7)])
    def test_constant_scores_give_a_constant_map_that_covers_every_pixel(self, patch, stride, size):
        grid = [len(positions(side, patch, stride)) for side in size]
        maps = dense_map(torch.full((1, *grid), 3.0), patch, stride, size)
        torch.testing.assert_close(maps, torch.full((1, *size), 3.0), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("length", range(16, 41))
    @pytest.mark.parametrize("stride", [1, 4, 5, 16])
    def test_patches_reach_both_borders_and_leave_no_gap(self, length, stride):
        begins = positions(length, 16, stride)
        assert begins[0] == 0
        assert begins[-1] == length - 16
        assert all(0 < second - first <= stride for first, second in pairwise(begins))

    @pytest.mark.parametrize("patch", [16, 32])
    def test_has_no_grid_of_spikes(self, patch, monkeypatch):
        # Scores that rise by 1 a pixel, evenly: the map should, too. FCDD's rule, 1.2 to 1.4 px below patches of
        # 32 px, makes steps of them, 4 px wide.
        scores = 4 * torch.arange(57.0).expand(1, 57, 57)
        size = 56 * 4 + patch

        def flattest():
            return dense_map(scores, patch, 4, (size, size))[0, size // 2, 32:-32].diff().min()

        assert flattest() > 0.5
        monkeypatch.setattr(dense, "SIGMA", 1.2 / patch)
        assert flattest() < 0.4

    def test_a_patch_is_highest_in_its_middle(self):
        scores = torch.zeros(1, 13, 13)
        scores[0, 6, 3] = 1
        peak = dense_map(scores, 16, 4, (64, 64))[0].argmax().item()
        assert 24 + 6 <= peak // 64 <= 24 + 9
        assert 12 + 6 <= peak % 64 <= 12 + 9


def aligned(n, size=48, channels=1, seed=0):
    """The same object at the same place, a little noise on it."""
    pattern = torch.rand(1, channels, 6, 6, generator=generator(0, "pattern"))
    tiled = nn.functional.interpolate(pattern.repeat(1, 1, 3, 3), (3 * size, 3 * size), mode="bicubic")
    large = tiled[:, :, size : 2 * size, size : 2 * size].clamp(0, 0.97)  # its left border continues its right one
    return large + 0.03 * torch.rand(n, channels, size, size, generator=generator(seed, "aligned"))


def shifted(n, size=48, channels=1, seed=0):
    """The same pattern, anywhere."""
    source = generator(seed, "shifts")
    shifts = torch.randint(size, (n, 2), generator=source).tolist()
    return torch.stack(
        [image.roll(shift, (1, 2)) for image, shift in zip(aligned(n, size, channels, seed), shifts, strict=True)]
    )


QUICK = dataclasses.replace(get_preset("quick"), image_size=48, steps=10)
TOY = PatchClassifier.settings_for(QUICK)


@pytest.fixture(scope="module")
def by_location():
    """A detector of aligned objects. Not to be changed."""
    return patch_detector(TOY).fit(aligned(40))


@pytest.fixture(scope="module")
def by_texture():
    return patch_detector(TOY).fit(shifted(40))


def planted(images, row, column, side=8):
    """A chequered square in every image."""
    images = images.clone()
    chequers = (torch.arange(side)[:, None] // 2 + torch.arange(side) // 2) % 2
    images[:, :, row : row + side, column : column + side] = chequers.float()
    return images


class TestLayout:
    def test_aligned_objects_get_a_gaussian_a_location(self, by_location):
        assert by_location.density == PER_LOCATION
        assert by_location.density_reason.startswith("per location: ")
        assert "AUROC" in by_location.density_reason
        assert isinstance(by_location.scorer, GaussianPerLocation)
        assert by_location.scorer.mean.shape == (9, 9, 16 + 32 + 64)

    def test_textures_share_one(self, by_texture):
        assert by_texture.density == SHARED
        assert by_texture.density_reason.startswith("shared: ")
        assert "AUROC" in by_texture.density_reason
        assert type(by_texture.scorer) is Gaussian

    def test_a_gaussian_a_location_finds_a_normal_part_in_the_wrong_place(self, by_location):
        images = aligned(12, seed=1)
        moved = images.clone()
        moved[:, :, 4:24, 4:24] = images[:, :, 24:44, 24:44]
        assert by_location.score(moved).min() > by_location.score(images).max()

    @pytest.mark.parametrize("size", [(48, 47), (64, 64), (47, 48)], ids=str)
    def test_it_knows_one_size_only(self, by_location, by_texture, size):
        images = torch.rand(2, 1, *size)
        for method in ("score", "score_map"):
            with pytest.raises(InputError, match=r"48x48 px; resize them"):
                getattr(by_location, method)(images)
            assert getattr(by_texture, method)(images).shape == {"score": (2,), "score_map": (2, *size)}[method]
        assert by_location.embed(images).shape == (2, 16 + 32 + 64)

    @pytest.mark.parametrize("which", ["by_location", "by_texture"])
    def test_saved_and_loaded_it_is_the_same(self, which, request, tmp_path):
        detector = request.getfixturevalue(which)
        path = detector.save(tmp_path / "detector")
        loaded = detectors.load(path, device="cpu")
        images = aligned(3, seed=2)
        assert (loaded.density, loaded.density_reason) == (detector.density, detector.density_reason)
        assert loaded.settings == detector.settings
        for method in ("embed", "score", "score_map"):
            assert torch.equal(getattr(loaded, method)(images), getattr(detector, method)(images))
        assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()
        with pytest.raises(InputError, match="has one model") if which == "by_location" else nullcontext():
            loaded.score(torch.rand(1, 1, 64, 64))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"scorer": "other"}, "the scorer other has no form by location"),
            ({"n": 7}, "needs at least 8 images, and there were 7"),
            ({"LOCATION_VALUES": 112 * 25 * 8 - 1}, "needs at least 8 images, and there were 7"),
            ({"MODEL_VALUES": 112 * 112 * 25 - 1}, "each of 5x5 locations would take too much memory"),
        ],
        ids=str,
    )
    def test_what_rules_a_gaussian_a_location_out_is_said(self, change, said, monkeypatch):
        monkeypatch.setitem(detectors.SCORERS, "other", Shared)
        for name in change.keys() & {"LOCATION_VALUES", "MODEL_VALUES"}:
            monkeypatch.setattr(localization, name, change[name])
        detector = patch_detector(scorer=change.get("scorer", "gaussian"))
        images = aligned(change.get("n", 12), size=32)
        detector.fit(images)
        assert detector.density == SHARED
        assert said in detector.density_reason
        assert detector.score_map(images).shape == images[:, 0].shape

    @pytest.mark.parametrize("layout", [SHARED, PER_LOCATION])
    def test_a_known_layout_is_taken(self, layout):
        images = aligned(9, size=32)
        detector = patch_detector().random_init(images).fit_scorer(images, density=layout)
        assert (detector.density, detector.density_reason) == (layout, f"{layout}: chosen by the caller.")
        assert isinstance(detector.scorer, {SHARED: Gaussian, PER_LOCATION: GaussianPerLocation}[layout])
        assert detector.score_map(images).shape == images[:, 0].shape

    def test_a_layout_that_cannot_be_is_refused(self):
        images = aligned(7, size=32)
        detector = patch_detector().random_init(images)
        with pytest.raises(InputError, match=r"density='per location': is not possible .*there were 7"):
            detector.fit_scorer(images, density=PER_LOCATION)
        with pytest.raises(InputError, match="did you mean shared"):
            detector.fit_scorer(images, density="shard")

    def test_few_kept_images_bound_memory(self, monkeypatch):
        monkeypatch.setattr(localization, "LOCATION_VALUES", 112 * 25 * 9)
        counts = []
        fit = GaussianPerLocation.fit
        monkeypatch.setattr(
            GaussianPerLocation, "fit", lambda self, rows: (counts.append(len(rows)), fit(self, rows))[1]
        )
        patch_detector().fit(aligned(20, size=32))
        assert counts[0] == 7
        assert counts[1:] in ([], [9])

    def test_one_train_image_is_enough(self):
        detector = patch_detector().fit(shifted(1, size=32))
        assert detector.density == SHARED
        assert detector.score(shifted(2, size=32, seed=1)).isfinite().all()

    def test_identical_train_images_share_one(self):
        assert patch_detector().fit(shifted(1, size=32).repeat(12, 1, 1, 1)).density == SHARED


class TestChoose:
    """On embeddings of which the better layout is known."""

    def rows(self, n=40, spread=1.0, seed=0):
        """Locations a distance ``spread`` apart."""
        source = generator(seed, "rows")
        centres = spread * torch.randn(3, 3, 8, generator=generator(9, "centres"))
        return centres + torch.randn(n, 3, 3, 8, generator=source)

    def anomalies(self, rows, away):
        changed = rows.clone()
        changed[:, 1, 1] += away
        return changed

    def test_one_a_location_where_only_it_sees_the_anomaly(self):
        rows = self.rows(spread=10)
        layout, reason = select_density(
            GAUSSIAN, rows, held_out_mask(40, generator(0)), [self.anomalies(self.rows(30, 10, 1), 2.5)]
        )
        assert layout == PER_LOCATION
        assert "better distinguishes" in reason

    def test_where_both_see_it_the_better_explanation_wins(self):
        for spread, expected in ((10, PER_LOCATION), (0, SHARED)):
            rows = self.rows(spread=spread)
            batches = [self.anomalies(self.rows(30, spread, 1), 1000)]
            layout, reason = select_density(GAUSSIAN, rows, held_out_mask(40, generator(0)), batches)
            assert layout == expected
            assert "AUROC 1.000 by location, 1.000 shared" in reason
            assert "explains held-out normal patches better" in reason

    def test_shared_where_a_location_has_too_few_that_differ(self):
        rows = self.rows(1).repeat(12, 1, 1, 1)
        layout, reason = select_density(GAUSSIAN, rows, held_out_mask(12, generator(0)), [])
        assert layout == SHARED
        assert "can't be fitted" in reason

    @pytest.mark.parametrize(("n", "n_held_out"), [(11, 2), (100, 25), (1000, 64)])
    def test_a_quarter_is_held_out_and_no_more_than_64(self, n, n_held_out):
        first, again, other = (held_out_mask(n, generator(seed)) for seed in (0, 0, 1))
        assert first.sum() == n_held_out
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_wins_are_auroc(self):
        normal, anomalous = torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
        expected = roc_auc_score([0] * 4 + [1] * 3, torch.cat([normal, anomalous]))
        assert _wins(normal, anomalous).mean().item() == pytest.approx(expected)

    def test_standard_error_of_a_difference_is_that_of_repetitions(self):
        numbers = np.random.default_rng(0)
        gains, errors = [], []
        for _ in range(300):
            normal, anomalous = numbers.normal(size=(2, 40)), numbers.normal(size=(2, 60)) + 1
            first, second = (_wins(torch.tensor(a), torch.tensor(b)) for a, b in zip(normal, anomalous, strict=True))
            gains.append((first - second).mean().item())
            errors.append(_standard_error(first - second))
        assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.1)

    def test_log_likelihood_is_that_of_scipy(self):
        train, test = self.rows(60), self.rows(20, seed=1)
        shared, local = Gaussian().fit(train.flatten(0, 2)), GaussianPerLocation().fit(train)
        constant = 4 * np.log(2 * np.pi)

        def expected(known, seen):
            covariance, _ = ledoit_wolf(known.double().numpy())
            return multivariate_normal(known.double().mean(0), covariance).logpdf(seen.double()).mean() + constant

        places = [(i, j) for i in range(3) for j in range(3)]
        by_place = np.mean([expected(train[:, i, j], test[:, i, j]) for i, j in places])
        assert shared.log_likelihood(test) == pytest.approx(expected(train.flatten(0, 2), test.flatten(0, 2)), rel=1e-4)
        assert local.log_likelihood(test) == pytest.approx(by_place, rel=1e-4)


class TestPseudoAnomaliesOfPatches:
    def test_are_as_large_as_a_patch_and_anywhere(self):
        detector, images = patch_detector(augmentation="cutout"), torch.rand(200, 1, 40, 33)
        changed = detector._insert_anomalies(images, generator(0)) != images
        rows, columns = changed.any(3)[:, 0], changed.any(2)[:, 0]
        assert rows.any(1).all(), "an image without one"
        extents = [(line.float().argmax(1), line.shape[1] - line.flip(1).float().argmax(1)) for line in (rows, columns)]
        for first, last in extents:
            assert (last - first <= 16).all()
        assert rows.any(0).all()
        assert columns.any(0).all()

    def test_leave_the_images_alone(self):
        detector, images = patch_detector(), torch.rand(4, 3, 32, 32)
        copy = images.clone()
        detector._insert_anomalies(images, generator(0))
        assert torch.equal(images, copy)


class TestDetector:
    @pytest.mark.parametrize("which", ["by_location", "by_texture"])
    def test_is_the_naive_detector(self, which, request):
        """From windows one by one to scikit-learn's Ledoit-Wolf and a sum of Gaussians."""
        detector = request.getfixturevalue(which)
        train, test = (aligned if which == "by_location" else shifted)(40), aligned(2, seed=3)
        pooled = [naive_embeddings(detector.encoder, images, 16, 4) for images in (train, test)]
        known, seen = map(naive_center_per_image, pooled)
        scores = np.zeros(seen.shape[:3])
        for i in range(9):
            for j in range(9):
                rows = known[:, i, j] if which == "by_location" else known.reshape(-1, known.shape[-1])
                if which == "by_location" or (i, j) == (0, 0):
                    covariance, _ = ledoit_wolf(rows)
                    mean, precision = rows.mean(0), np.linalg.inv(covariance)
                away = seen[:, i, j] - mean
                scores[:, i, j] = np.sqrt(np.einsum("ni,ij,nj->n", away, precision, away))
        expected = torch.stack([naive_map(torch.tensor(each), 16, 4, (48, 48)) for each in scores]).float()
        torch.testing.assert_close(detector.score_map(test), expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(
            detector.score(test), torch.tensor(scores).amax((1, 2)).float(), rtol=1e-2, atol=1e-2
        )
        embeddings = pooled[1].mean((1, 2))
        embeddings = (embeddings / embeddings.norm(dim=1, keepdim=True)).float()
        torch.testing.assert_close(detector.embed(test), embeddings, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("row", "column"), [(20, 9), (0, 0), (40, 25), (33, 40)])
    @pytest.mark.parametrize("which", ["by_location", "by_texture"])
    def test_the_map_peaks_at_a_planted_defect(self, which, request, row, column):
        images = (aligned if which == "by_location" else shifted)(6, seed=4)
        defective = planted(images, row, column)
        peaks = request.getfixturevalue(which).score_map(defective).flatten(1).argmax(1)
        # As near as half a patch: the windows that see the whole of it share the highest scores.
        distance = torch.maximum((peaks // 48 - row - 4).abs(), (peaks % 48 - column - 4).abs())
        assert (distance <= 8).float().mean() >= 5 / 6

    def test_the_map_is_better_than_that_of_the_detector_of_whole_images(self, by_texture):
        images = shifted(8, seed=4)
        mask = torch.zeros(8, 48, 48, dtype=torch.long)
        mask[:, 18:26, 30:38] = 1
        defective = planted(images, 18, 30)
        settings = Classifier.settings_for(QUICK)
        whole = Classifier(settings, augmentations.make("cutpaste"), device="cpu").fit(shifted(40))
        patches, cheap = (
            roc_auc_score(mask.flatten(), each.score_map(defective).flatten()) for each in (by_texture, whole)
        )
        assert patches > 0.9
        assert patches > cheap + 0.02

    @pytest.mark.parametrize("name", augmentations.names("images"))
    def test_any_augmentation(self, name):
        detector = patch_detector(augmentation=name)
        images = aligned(9, size=32, channels=3)
        detector.fit(images)
        assert detector.score(images).isfinite().all()
        assert detector.score_map(images).shape == (9, 32, 32)

    @pytest.mark.parametrize(
        ("name", "patch", "stride", "channels", "width"),
        [
            ("small", 16, 8, 1, 128),
            pytest.param("resnet18", 16, 16, 3, 1024, marks=pytest.mark.slow),
            ("unpadded", 20, 6, 1, 112),
        ],
    )
    def test_any_encoder_with_a_patch_of_ones_own(self, name, patch, stride, channels, width, tmp_path):
        settings = dataclasses.replace(BRIEF, encoder=name, patch=patch, stride=stride)
        detector = patch_detector(settings)
        images = aligned(4, size=32, channels=channels)
        detector.fit(images)
        assert detector.settings == settings
        assert detector.embed(images).shape == (4, width)
        assert detector.score_map(images).shape == (4, 32, 32)
        loaded = detectors.load(detector.save(tmp_path / "detector"), device="cpu")
        assert torch.equal(loaded.score_map(images), detector.score_map(images))

    def test_images_smaller_than_a_patch_are_refused_before_training(self):
        reported = []
        with pytest.raises(InputError, match="patch=16: must fit in the 12x32 px"):
            patch_detector().fit(torch.rand(8, 1, 12, 32), on_progress=lambda *progress: reported.append(progress))
        assert not reported

    def test_another_scorer_shares_the_encoder(self, by_location, monkeypatch):
        monkeypatch.setitem(detectors.SCORERS, "other", Shared)
        other = by_location.with_scorer("other", aligned(40))
        assert type(other) is PatchClassifier
        assert other.encoder is by_location.encoder
        assert (other.density, by_location.density) == (SHARED, PER_LOCATION)
        again = by_location.with_scorer("gaussian", aligned(40))
        assert again.density_reason == by_location.density_reason
        assert torch.equal(again.score(aligned(3, seed=2)), by_location.score(aligned(3, seed=2)))

    def test_state_is_json_and_tensors_by_stage(self, by_location):
        state = by_location.state()
        kept = json.loads(json.dumps(state.settings))
        assert (kept["density"], kept["density_reason"]) == (by_location.density, by_location.density_reason)
        assert kept["size"] == [48, 48]
        assert all(name.startswith("encoder.") for name in state.trained)
        assert state.trained.keys() == by_location.trained_state().keys()
        assert set(state.fitted) == {"scorer.mean", "scorer.whitening"}

    @pytest.mark.parametrize("missing", ["density", "density_reason", "size"])
    def test_a_state_without_its_layout_is_refused(self, by_location, missing):
        state = by_location.state()
        settings = {name: value for name, value in state.settings.items() if name != missing}
        with pytest.raises(InputError, match="is incomplete"):
            PatchClassifier.from_state(dataclasses.replace(state, settings=settings), torch.device("cpu"))

    def test_memory_is_bounded_by_pieces(self, by_texture, monkeypatch):
        images = shifted(7, seed=1)
        whole = by_texture.embed(images), by_texture.score_map(images), by_texture.score(images)
        small = by_texture.score(torch.ones(9, 1, 1, 1))
        monkeypatch.setattr(images_module, "BATCH_PIXELS", 3 * 48 * 48)
        sizes = []
        hook = by_texture.encoder[0].register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].shape))
        pieces = by_texture.embed(images), by_texture.score_map(images), by_texture.score(images)
        assert [n for n, *_ in sizes] == [3, 3, 1] * 3
        monkeypatch.setattr(images_module, "BATCH_PIXELS", 2 * 16 * 16)
        again = by_texture.score(torch.ones(9, 1, 1, 1))
        hook.remove()
        assert max(n * h * w for n, _, h, w in sizes[9:]) <= 2 * 16 * 16, "one image of 1 px makes a whole patch"
        for one, other in zip((*whole, small), (*pieces, again), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
