"""What every registered detector must do, and how images are read."""

import random

import numpy as np
import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import ClassifierSettings
from detectors.images import as_float, as_images, pieces

LEARNED = {}


class DetectorContract:
    """Inherit, and say in ``make`` how an unfitted detector is made and in ``learn`` how one learns in a second."""

    def make(self, *, seed=0, channels=1):
        raise NotImplementedError

    def learn(self):
        raise NotImplementedError

    @pytest.fixture
    def detector(self, striped):
        """Learned once for all tests of a class: not to be changed."""
        kind = type(self)
        if kind not in LEARNED:
            LEARNED[kind] = self.learn().fit(striped())
        return LEARNED[kind]

    @pytest.fixture
    def few(self, striped):
        return striped(5, seed=1)

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

    def test_shapes(self, detector, few):
        out = self.outputs(detector, few)
        assert out["embed"].ndim == 2
        assert len(out["embed"]) == 5
        assert out["score"].shape == (5,)
        assert out["score_map"].shape == (5, 32, 32)
        assert detector.pseudo_anomalies(few, generator(0)).shape == few.shape

    def test_gives_detached_finite_float32_on_the_cpu(self, detector, few):
        wanting = few.clone().requires_grad_()
        out = self.outputs(detector, wanting)
        out["pseudo_anomalies"] = detector.pseudo_anomalies(wanting, generator(0))
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

    def test_a_fit_on_uint8_agrees_with_one_on_float(self, striped):
        coarse = (striped(8) * 255).round().to(torch.uint8)
        first, second = self.make().fit(coarse), self.make().fit(coarse / 255)
        self.assert_same(self.outputs(first, coarse), self.outputs(second, coarse))

    def test_a_defect_scores_higher(self, detector, few, defective):
        assert detector.score(defective).min() > detector.score(few).max()

    @pytest.mark.parametrize(("row", "column"), [(8, 40), (32, 16), (24, 24), (40, 0)])
    def test_score_map_peaks_on_the_defect(self, detector, striped, row, column):
        images = striped(5, height=64, width=80, seed=1)
        images[:, :, row : row + 16, column : column + 16] = 0
        peaks = detector.score_map(images).flatten(1).argmax(1)
        rows, columns = peaks // 80, peaks % 80
        assert ((rows >= row) & (rows < row + 16)).all()
        assert ((columns >= column) & (columns < column + 16)).all()

    @pytest.mark.parametrize("size", [(32, 32), (33, 20), (16, 48), (7, 5), (1, 40), (1, 1)], ids=str)
    def test_score_map_has_the_size_of_the_images(self, detector, size):
        maps = detector.score_map(torch.rand(2, 1, *size))
        assert maps.shape == (2, *size)
        assert maps.isfinite().all()

    def test_score_and_map_are_those_of_two_passes(self, detector, few):
        scores, maps = detector.score_and_map(few)
        assert torch.equal(scores, detector.score(few))
        assert torch.equal(maps, detector.score_map(few))

    def test_one_image(self, detector, few):
        whole = self.outputs(detector, few)
        alone = self.outputs(detector, few[2:3])
        self.assert_same(alone, {name: value[2:3] for name, value in whole.items()}, rtol=1e-3, atol=1e-3)

    def test_does_not_modify_images(self, detector, striped):
        images = striped(6)
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
        made = (each.pseudo_anomalies(few, generator(3)) for each in (loaded, detector))
        assert torch.equal(*made)
        assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()

    def test_same_seed_same_bits_whatever_the_global_generators(self, striped, few):
        torch.manual_seed(1)
        first = self.outputs(self.make(seed=7).fit(striped(8)), few)
        torch.manual_seed(2)
        self.assert_same(self.outputs(self.make(seed=7).fit(striped(8)), few), first)

    def test_other_seed_other_detector(self, striped, few):
        first, second = (self.make(seed=seed).fit(striped(8)).embed(few) for seed in (0, 1))
        assert not torch.allclose(first, second, atol=1e-3)

    def test_leaves_the_global_generators_alone(self, striped, few, tmp_path, monkeypatch):
        def refuse(*args):
            raise AssertionError("seeds the generators of every device")

        # On a machine without an accelerator, this is all that can be seen of their generators.
        monkeypatch.setattr(torch, "manual_seed", refuse)
        monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
        before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
        detector = self.make().fit(striped(8))
        self.outputs(detector, few)
        detector.pseudo_anomalies(few, generator(0))
        detectors.load(detector.save(tmp_path / "detector"), device="cpu")
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert repr(np.random.get_state()) == before[2]  # noqa: NPY002

    def test_pseudo_anomalies_follow_the_generator(self, detector, few):
        first, again, other = (detector.pseudo_anomalies(few, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert (first != few).flatten(1).any(1).all()
        assert 0 <= first.min() <= first.max() <= 1

    def test_colour_images(self, striped):
        images = striped(8, channels=3)
        detector = self.make(channels=3).fit(images)
        assert detector.score_map(images).shape == (8, 32, 32)
        with pytest.raises(InputError, match=r"1 channels.*trained on 3"):
            detector.score(images[:, :1])

    def test_progress(self, striped):
        told = []
        self.make().fit(striped(8), on_progress=lambda step, loss: told.append((step, loss)))
        assert 1 <= len(told) <= 20
        assert [step for step, _ in told] == sorted({step for step, _ in told})
        assert all(isinstance(step, int) and isinstance(loss, float) for step, loss in told)

    @pytest.mark.parametrize("method", ["embed", "score", "score_map", "save"])
    def test_refuses_before_fit(self, method, few, tmp_path):
        with pytest.raises(InputError, match="call fit"):
            getattr(self.make(), method)(tmp_path / "detector" if method == "save" else few)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("bad", "said"),
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
    def test_refuses_bad_images_before_any_training(self, detector, bad, said):
        told = []
        with pytest.raises(InputError, match=said):
            self.make().fit(bad, on_progress=lambda *progress: told.append(progress))
        assert not told
        for method in (detector.embed, detector.score, detector.score_map):
            with pytest.raises(InputError, match=said):
                method(bad)
        with pytest.raises(InputError, match=said):
            detector.pseudo_anomalies(bad, generator(0))

    def test_refuses_other_channels(self, detector):
        with pytest.raises(InputError, match="trained on 1"):
            detector.score(torch.rand(2, 3, 32, 32))


class RegisteredContract(DetectorContract):
    """That of the detectors that a zoo is trained of."""

    def test_is_registered_under_its_name(self):
        detector = self.make()
        assert detectors.get(detector.name) is type(detector)
        assert isinstance(detector.score_is_distance, bool)

    def test_left_untrained_it_is_the_floor_of_a_training(self, few, striped):
        images = striped()
        floor, again = (self.make().random_init(images).fit_scorer(images) for _ in range(2))
        assert torch.equal(floor.score(few), again.score(few))
        assert not torch.allclose(floor.score(few), self.make().fit(images).score(few))
        assert floor.losses is None


class TestClassifier(RegisteredContract):
    def make(self, *, seed=0, channels=1):
        settings = ClassifierSettings("small", 32, head=(8,), steps=3, batch=4)
        return detectors.Classifier(settings, augmentations.make("cutpaste"), seed=seed, device="cpu")

    def learn(self):
        settings = ClassifierSettings("small", 32, head=(16,), steps=60, batch=8)
        augmentation = augmentations.make("cutout", area=(0.03, 0.15))
        return detectors.Classifier(settings, augmentation, device="cpu")


def test_every_registered_detector_keeps_the_contract():
    kept = {contract().make().name for contract in RegisteredContract.__subclasses__()}
    assert kept == set(detectors.names())


def test_names_and_get():
    assert detectors.names() == list(detectors.DETECTORS) == ["classifier", "patch"]
    with pytest.raises(InputError, match="did you mean classifier"):
        detectors.get("clasifier")


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).random((2, 5, 7))[:, ::-1],
        np.broadcast_to(np.float32(0.5), (2, 5, 7)),
        np.full((2, 1, 5, 7), 255, np.uint8),
        [[[0.0, 1.0], [0.5, 0.25]]],
    ],
    ids=["backwards", "read-only", "uint8", "list"],
)
@pytest.mark.filterwarnings("error")
def test_as_images_takes_any_array(array):
    images = as_images(array)
    expected = np.asarray(array).reshape(images.shape)
    np.testing.assert_array_equal(images.numpy(), expected)


def test_as_images_shares_memory_where_it_can():
    array = np.zeros((2, 1, 4, 4), np.float32)
    assert as_images(array).data_ptr() == array.ctypes.data


def test_as_float():
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert as_float(torch.rand(3, dtype=torch.float64)).dtype == torch.float32


@pytest.mark.parametrize(("n", "size", "counts"), [(700, 64, [256, 256, 188]), (3, 2048, [1, 1, 1])])
def test_pieces_bound_memory(n, size, counts):
    images = torch.zeros(1, 1, 1, 1).expand(n, 1, size, size)
    assert [len(piece) for piece in pieces(images)] == counts
