"""What every detector must do, and every kind of detector that a zoo trains: suites to inherit."""

import json
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Kind

FITTED: dict[type, detectors.Detector] = {}


def stripes(n=48, channels=1, height=32, width=32, seed=0):
    """Grey stripes of random phase with a little noise, (n,channels,height,width)."""
    source = generator(seed, "stripes")
    phase = torch.rand(n, 1, 1, 1, generator=source) * 6.28
    column = torch.arange(width).view(1, 1, 1, -1)
    noise = 0.05 * torch.rand(n, channels, height, width, generator=source)
    return 0.55 + 0.2 * torch.sin(column / 1.5 + phase) + noise


class DetectorContract:
    """Inherit, and say in ``make`` how an unfitted detector is made and in ``learn`` how one learns in a second.

    depends_on_seed: whether another seed gives another detector. any_size: whether images of other sizes than those
    fitted to can be scored. peak_tolerance: pixels by which the highest place of a map may miss a defect.
    """

    depends_on_seed = True
    any_size = True
    peak_tolerance = 0

    def make(self, *, seed=0, channels=1):
        raise NotImplementedError

    def learn(self):
        raise NotImplementedError

    @pytest.fixture
    def detector(self):
        """Learned once for all tests of a class: not to be changed."""
        kind = type(self)
        if kind not in FITTED:
            FITTED[kind] = self.learn().fit(stripes())
        return FITTED[kind]

    @pytest.fixture
    def few(self):
        return stripes(5, seed=1)

    @pytest.fixture
    def defective(self, few):
        """A black square in every image."""
        images = few.clone()
        images[:, :, 12:22, 18:28] = 0
        return images

    def outputs(self, detector, images):
        return {
            "embed": detector.embed(images),
            "score": detector.score(images),
            "score_map": detector.score_map(images),
        }

    def assert_same(self, first, second, **tolerance):
        for name in first:
            torch.testing.assert_close(first[name], second[name], **({"rtol": 0, "atol": 0} | tolerance))

    def anomalies_of(self, detector, images, seed=0):
        """Pseudo anomalies, or None where the detector says that it has none."""
        assert (detector.pseudo_embeddings(images, generator(seed)) is None) == (not detector.has_pseudo_anomalies())
        anomalies = detector.pseudo_anomalies(images, generator(seed))
        assert anomalies is None or detector.has_pseudo_anomalies()
        return anomalies

    def test_shapes(self, detector, few):
        out = self.outputs(detector, few)
        assert out["embed"].ndim == 2
        assert len(out["embed"]) == 5
        assert out["score"].shape == (5,)
        assert out["score_map"].shape == (5, 32, 32)
        anomalies = self.anomalies_of(detector, few)
        assert anomalies is None or anomalies.shape == few.shape

    def test_gives_detached_finite_float32_on_the_cpu(self, detector, few):
        wanting = few.clone().requires_grad_()
        out = self.outputs(detector, wanting)
        anomalies = self.anomalies_of(detector, wanting)
        if anomalies is not None:
            out["pseudo_anomalies"] = anomalies
        for name, tensor in out.items():
            assert tensor.device.type == "cpu", name
            assert not tensor.requires_grad, name
            assert tensor.dtype == torch.float32, name
            assert tensor.isfinite().all(), name

    def test_embeddings_have_unit_norm(self, detector, few):
        torch.testing.assert_close(detector.embed(few).norm(dim=1), torch.ones(5))

    def test_arrays_and_tensors_agree(self, detector, few):
        expected = self.outputs(detector, few)
        self.assert_same(self.outputs(detector, few.numpy()), expected)
        self.assert_same(self.outputs(detector, few[:, 0]), expected)
        self.assert_same(self.outputs(detector, few.double()), expected)

    def test_uint8_and_float_agree(self, detector, few):
        coarse = (few * 255).round().to(torch.uint8)
        self.assert_same(self.outputs(detector, coarse), self.outputs(detector, coarse / 255))

    def test_a_fit_on_uint8_agrees_with_one_on_float(self):
        coarse = (stripes(8) * 255).round().to(torch.uint8)
        first, second = self.make().fit(coarse), self.make().fit(coarse / 255)
        self.assert_same(self.outputs(first, coarse), self.outputs(second, coarse))

    def test_a_defect_scores_higher(self, detector, few, defective):
        assert detector.score(defective).min() > detector.score(few).max()

    @pytest.mark.parametrize(("row", "column"), [(8, 40), (32, 16), (24, 24), (40, 0)])
    def test_score_map_peaks_on_the_defect(self, detector, row, column):
        if not self.any_size:
            pytest.skip("scores images of the size fitted to only")
        images = stripes(5, height=64, width=80, seed=1)
        images[:, :, row : row + 16, column : column + 16] = 0
        peaks = detector.score_map(images).flatten(1).argmax(1)
        rows, columns = peaks // 80, peaks % 80
        slack = self.peak_tolerance
        assert ((rows >= row - slack) & (rows < row + 16 + slack)).all()
        assert ((columns >= column - slack) & (columns < column + 16 + slack)).all()

    @pytest.mark.parametrize("size", [(32, 32), (33, 20), (16, 48), (7, 5), (1, 40), (1, 1)], ids=str)
    def test_score_map_has_the_size_of_the_images(self, detector, size):
        if not self.any_size and size != (32, 32):
            with pytest.raises(InputError):
                detector.score_map(torch.rand(2, 1, *size))
            return
        maps = detector.score_map(torch.rand(2, 1, *size))
        assert maps.shape == (2, *size)
        assert maps.isfinite().all()

    def test_the_module_is_what_scores(self, detector, few):
        with torch.no_grad():
            scores, maps = detector.module()(few)
        expected = self.outputs(detector, few)
        torch.testing.assert_close(scores, expected["score"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps, expected["score_map"], rtol=1e-4, atol=1e-5)
        assert not detector.module().training

    def test_scores_of_embeddings_are_those_of_their_images(self, detector, few):
        scores = detector.score_embeddings(detector.embed(few))
        if scores is not None:
            torch.testing.assert_close(scores, detector.score(few), rtol=1e-3, atol=1e-3)
        if isinstance(detector, Kind):  # a selection relies on what a kind says before training
            assert detector.scores_embeddings(detector.settings) == (scores is not None)

    def test_a_distance_is_positive(self, detector, few, defective):
        if detector.score_is_distance:
            assert (detector.score(torch.cat([few, defective])) > 0).all()

    def test_score_and_map_are_those_of_two_passes(self, detector, few):
        scores, maps = detector.score_and_map(few)
        assert torch.equal(scores, detector.score(few))
        assert torch.equal(maps, detector.score_map(few))

    def test_one_image(self, detector, few):
        whole = self.outputs(detector, few)
        alone = self.outputs(detector, few[2:3])
        self.assert_same(alone, {name: value[2:3] for name, value in whole.items()}, rtol=1e-3, atol=1e-3)

    def test_does_not_modify_images(self, detector):
        images = stripes(6)
        copy = images.clone()
        self.make().fit(images)
        self.outputs(detector, images)
        detector.pseudo_anomalies(images, generator(0))
        assert torch.equal(images, copy)

    def test_scoring_changes_nothing(self, detector, few, defective):
        before = self.outputs(detector, few)
        detector.score(defective)
        self.assert_same(self.outputs(detector, few), before)

    def test_saved_and_loaded_gives_the_same_bits(self, detector, few, tmp_path):
        path = detector.save(tmp_path / "folder" / "detector.safetensors")
        assert path == tmp_path / "folder" / "detector.safetensors"
        loaded = detectors.load(path, device="cpu")
        assert type(loaded) is type(detector)
        assert loaded.score_is_distance == detector.score_is_distance
        self.assert_same(self.outputs(loaded, few), self.outputs(detector, few))
        first, second = (self.anomalies_of(each, few, seed=3) for each in (loaded, detector))
        assert (first is None and second is None) or torch.equal(first, second)
        assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()

    def test_same_seed_same_bits_whatever_the_global_generators(self, few):
        torch.manual_seed(1)
        first = self.outputs(self.make(seed=7).fit(stripes(8)), few)
        torch.manual_seed(2)
        self.assert_same(self.outputs(self.make(seed=7).fit(stripes(8)), few), first)

    def test_other_seed_other_detector(self, few):
        first, second = (self.make(seed=seed).fit(stripes(8)).embed(few) for seed in (0, 1))
        assert torch.allclose(first, second, atol=1e-3) != self.depends_on_seed

    def test_leaves_the_global_generators_alone(self, few, tmp_path, monkeypatch):
        def refuse(*args):
            raise AssertionError("seeds the generators of every device")

        # On a machine without an accelerator, this is all that can be seen of their generators.
        monkeypatch.setattr(torch, "manual_seed", refuse)
        monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
        before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
        detector = self.make().fit(stripes(8))
        self.outputs(detector, few)
        detector.pseudo_anomalies(few, generator(0))
        detectors.load(detector.save(tmp_path / "detector"), device="cpu")
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert repr(np.random.get_state()) == before[2]  # noqa: NPY002

    def test_pseudo_anomalies_follow_the_generator(self, detector, few):
        if not detector.has_pseudo_anomalies():
            return
        first, again, other = (detector.pseudo_embeddings(few, generator(seed))[0] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert (first != detector.embed(few)).any(1).all()
        anomalies = detector.pseudo_anomalies(few, generator(0))
        if anomalies is not None:
            assert torch.equal(first, detector.embed(anomalies))
            assert (anomalies != few).flatten(1).any(1).all()
            assert 0 <= anomalies.min() <= anomalies.max() <= 1

    def test_colour_images(self):
        images = stripes(8, channels=3)
        detector = self.make(channels=3).fit(images)
        assert detector.score_map(images).shape == (8, 32, 32)
        with pytest.raises(InputError, match=r"1 channels.*trained on 3"):
            detector.score(images[:, :1])

    def test_progress(self):
        reports = []
        self.make().fit(stripes(8), on_progress=lambda step, loss: reports.append((step, loss)))
        assert len(reports) <= 20
        assert [step for step, _ in reports] == sorted({step for step, _ in reports})
        assert all(isinstance(step, int) and isinstance(loss, float) for step, loss in reports)

    @pytest.mark.parametrize("method", ["embed", "score", "score_map", "save"])
    def test_refuses_before_fit(self, method, few, tmp_path):
        with pytest.raises(InputError, match="call fit"):
            getattr(self.make(), method)(tmp_path / "detector" if method == "save" else few)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            pytest.param(torch.full((2, 1, 32, 32), torch.nan), "finite and in", id="nan"),
            pytest.param(torch.full((2, 1, 32, 32), torch.inf), "finite and in", id="infinite"),
            pytest.param(torch.full((2, 1, 32, 32), 1.01), "rescale", id="above-one"),
            pytest.param(torch.full((2, 1, 32, 32), -0.01), "rescale", id="below-zero"),
            pytest.param(torch.full((2, 1, 32, 32), 200.0), "rescale", id="up-to-200"),
            pytest.param(torch.zeros(2, 2, 32, 32), "1 or 3 channels", id="two-channels"),
            pytest.param(torch.zeros(2, 32, 32, 3), "channels on axis 1", id="channels-last"),
            pytest.param(torch.zeros(32, 32), "must be .N,H,W. or .N,C,H,W.", id="one-image"),
            pytest.param(torch.zeros(0, 1, 32, 32), "must be .N,H,W. or .N,C,H,W.", id="no-image"),
            pytest.param(torch.ones(2, 1, 32, 32, dtype=torch.int64), "float in .0, 1. or uint8", id="whole-numbers"),
            pytest.param(torch.ones(2, 1, 32, 32, dtype=torch.bool), "float in .0, 1. or uint8", id="booleans"),
            pytest.param(np.array(["a", "b"]), "array or a tensor", id="strings"),
            pytest.param("folder/of/images", "array or a tensor", id="path"),
            pytest.param(None, "array or a tensor", id="none"),
        ],
    )
    def test_refuses_bad_images_before_any_training(self, detector, bad, message):
        reports = []
        with pytest.raises(InputError, match=message):
            self.make().fit(bad, on_progress=lambda *progress: reports.append(progress))
        assert not reports
        for method in (detector.embed, detector.score, detector.score_map):
            with pytest.raises(InputError, match=message):
                method(bad)
        with pytest.raises(InputError, match=message):
            detector.pseudo_anomalies(bad, generator(0))

    def test_refuses_other_channels(self, detector):
        with pytest.raises(InputError, match="trained on 1"):
            detector.score(torch.rand(2, 3, 32, 32))


class KindContract(DetectorContract):
    """That of the kinds that a zoo trains; ``make`` gives one on the CPU."""

    def test_can_be_named(self):
        detector = self.make()
        assert detectors.get(detector.reference()) is type(detector)
        assert isinstance(detector.score_is_distance, bool)

    def test_settings_are_json_and_hold_the_image_size(self):
        settings = self.make().settings
        assert type(settings)(**json.loads(json.dumps(asdict(settings)))) == settings
        assert settings.image_size == 32
        hash(settings)

    def test_every_preset_has_settings(self):
        kind = type(self.make())
        for preset in detectors.PRESETS.values():
            assert kind.settings_for(preset).image_size == preset.image_size

    def test_with_random_weights_it_is_the_baseline_of_a_training(self, few):
        images = stripes()
        baseline, again = (self.make().random_init(images).fit_scorer(images) for _ in range(2))
        assert torch.equal(baseline.score(few), again.score(few))
        assert baseline.losses is None
        trained = self.make().fit(images)
        assert torch.allclose(baseline.score(few), trained.score(few)) == (trained.losses is None)

    def test_another_scorer_shares_the_training(self, detector, few):
        other = detector.with_scorer(detector.scorer_spec, stripes())
        assert other.encoder is detector.encoder
        assert torch.equal(other.score(few), detector.score(few))
