"""Files of other tools and hostile ones, wherever a detector or weights are read: one sentence, nothing run."""

import io
import json
import pickle
import re
import resource
import struct
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

import detectors
from augmentations import InputError
from detectors.checksums import of_tensor, with_checksum
from detectors.encoders import weights
from detectors.files import HEADER

BOMB = 2**30  # bytes that it unpacks to
ALLOWED = 2**28  # that refusing it may take


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def onnx_model(path):
    """What torch.onnx.export writes of a plain network."""
    onnx = pytest.importorskip("onnx")
    shape = (onnx.TensorProto.FLOAT, [1, 4])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["images"], ["score"])],
        "main_graph",
        [onnx.helper.make_tensor_value_info("images", *shape)],
        [onnx.helper.make_tensor_value_info("score", *shape)],
    )
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch", ir_version=8), path)


def zip_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight", 100 * "0")


def pickled_code(path):
    path.write_bytes(pickle.dumps(Code()))


def saved_code(path):
    torch.save({"weight": Code()}, path)


def saved_network(path):
    torch.save(nn.Linear(2, 2), path)


def archive_of(path, changed, compression=zipfile.ZIP_STORED, level=None):
    """What torch.save writes, with some parts replaced."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w", compression, compresslevel=level) as archive:
        for part in whole.namelist():
            archive.writestr(part, changed.get(part.rpartition("/")[2], whole.read(part)))


def zip_bomb(path):
    archive_of(path, {"0": bytes(BOMB)}, zipfile.ZIP_DEFLATED, level=1)


def pickle_bomb(path):
    """The one call that torch's reader of weights makes with any number."""
    archive_of(path, {"data.pkl": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + struct.pack("<Q", BOMB)[:5] + b"\x85R."})


def bare_pickle_bomb(path):
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + struct.pack("<Q", BOMB)[:5] + b"\x85R.")


HOSTILE = {
    "ONNX": (onnx_model, "it is an ONNX model", "it is an ONNX model"),
    "zip": (zip_archive, "it is a zip archive", "can't be read as weights"),
    "pickle": (pickled_code, "it is a pickle", "pickled code|it is a pickle"),
    "code": (saved_code, "it is a zip archive", "pickled code|it is a zip archive"),
    "network": (saved_network, "it is a zip archive", "pickled code|it is a zip archive"),
    "zip bomb": (zip_bomb, "it is a zip archive", "compressed archive|it is a zip archive"),
    "pickle bomb": (pickle_bomb, "it is a zip archive", "pickled code|it is a zip archive"),
    "bare pickle bomb": (bare_pickle_bomb, "it is a pickle", "pickled code|it is a pickle"),
}


@pytest.fixture(scope="module", params=HOSTILE)
def hostile(request, tmp_path_factory):
    make, *messages = HOSTILE[request.param]
    path = tmp_path_factory.mktemp("hostile") / "file"
    make(path)
    return path, messages


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("read", [detectors.load, weights.read], ids=["detector", "weights"])
def test_one_sentence_and_nothing_is_run(hostile, read, suffix, capfd):
    path, messages = hostile
    named = path.rename(path.with_suffix(suffix))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with pytest.raises(InputError, match=messages[read is weights.read]) as refused:
            read(named)
    finally:
        named.rename(path)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < ALLOWED
    assert str(refused.value).startswith(str(named))
    assert "\n" not in str(refused.value)
    assert "delete it" not in str(refused.value), "it may be someone's only copy"
    assert "never be printed" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"settings": '{"detector": "classifier"}'}])
def test_safetensors_of_another_tool_hold_no_detector(metadata, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(4, 4)}, path, metadata)
    with pytest.raises(InputError, match=r"model\.safetensors.*name a file that Detector\.save wrote"):
        detectors.load(path)


# Forged: with right checksums --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    source = torch.Generator().manual_seed(0)
    detector = detectors.get("pixels")(detectors.get("pixels").Settings(image_size=8), device="cpu")
    detector.fit(torch.rand(40, 1, 8, 8, generator=source))
    path = detector.save(tmp_path_factory.mktemp("saved") / "detector.safetensors")
    with safetensors.safe_open(path, "pt") as opened:
        return opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def set_to(*places, value):
    def change(settings, tensors):
        for place in places[:-1]:
            settings = settings[place]
        settings[places[-1]] = value

    return change


FORGED = {
    "no size": set_to("settings", "image_size", value="ok"),
    "no kind": set_to("detector", value=None),
    "no list of parts": set_to("fitted", value=3),
    "no augmentation": set_to("augmentation", value=[1]),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_a_forged_detector_is_refused_when_it_is_loaded(change, saved, tmp_path):
    metadata, tensors = saved
    tensors, settings = dict(tensors), json.loads(metadata[HEADER])["settings"]
    change(settings, tensors)
    header = with_checksum({"settings": settings, "tensors": {n: of_tensor(t) for n, t in tensors.items()}})
    path = tmp_path / "detector.safetensors"
    safetensors.torch.save_file(tensors, path, {HEADER: json.dumps(header)})
    with pytest.raises(InputError, match=re.compile("^.+: .+; .+$")):
        detectors.load(path, "cpu")
