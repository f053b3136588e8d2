"""Files of other tools where a run folder, images or an encoder are expected, and runs whose checksums were forged."""

import json
import pickle
import re
import sys
import zipfile

import pytest
import safetensors.torch
import torch

import selector
from augmentations import InputError
from detectors import files
from detectors.checksums import with_checksum, without_checksum
from selector import command


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def onnx_model(path):
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x3a\x00")


def weights_of_another_tool(path):
    safetensors.torch.save_file({"weight": torch.zeros(4)}, path)


def zip_archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(2**20))


def pickled_code(path):
    path.write_bytes(pickle.dumps(Code()))


FILES = {
    "model.onnx": onnx_model,
    "model.safetensors": weights_of_another_tool,
    "zip.safetensors": zip_archive,
    "code.pth": pickled_code,
}
ENCODER = '{{"name": "torchvision/resnet18", "weights": "{}"}}'
OUT = ("--out", "out")
COMMANDS = {
    "detect with it": lambda path: ["detect", path, path.parent, *OUT],
    "images": lambda path: ["select", "--train", path, *OUT],
    "report": lambda path: ["report", path],
    "export": lambda path: ["export", path, *OUT],
    "a folder of it": lambda path: ["report", path.parent],
    "grid": lambda path: ["select", "--train", path.parent, "--grid", path, *OUT],
    "encoder": lambda path: ["select", "--train", path.parent, "--encoder", ENCODER.format(path), *OUT],
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_refuses_it_in_one_sentence(name, arguments, tmp_path, monkeypatch, capfd):
    path = tmp_path / name
    FILES[name](path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ssad", *map(str, arguments(path))])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        command.main()
    output, error = capfd.readouterr()
    assert stop.value.code == command.BAD_INPUT
    assert error.startswith("ssad: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert "never be printed" not in output + error
    assert {found.name for found in tmp_path.iterdir()} == {name}


# Forged: with right checksums --------------------------------------------------------------------------------------


def change_json(path, change):
    value = without_checksum(json.loads(path.read_text()))
    change(value)
    path.write_text(json.dumps(with_checksum(value)))


def other_hyperparameters(run, best):
    change_json(run / "selection.json", lambda saved: saved["ranking"][0].update(hyperparameters={"area": "ok"}))


def no_status(run, best):
    change_json(run / "candidates" / best / "record.json", lambda record: record.pop("status"))


def losses_of_another_type(run, best):
    change_json(run / "candidates" / best / "record.json", lambda record: record.update(losses="ok"))


def calibration_of_another_shape(run, best):
    path = run / "candidates" / best / "calibration.safetensors"
    tensors, settings = files.read_own(path)
    files.write(path, {**tensors, "scores": tensors["scores"][:1]}, settings)


FORGED = [
    other_hyperparameters,
    no_status,
    losses_of_another_type,
    calibration_of_another_shape,
]


def use(path, best):
    loaded = selector.load(path)
    loaded.zoo.calibration([best])
    loaded.zoo.detector(best)


@pytest.mark.parametrize("forge", FORGED)
def test_a_forged_run_is_refused_in_one_sentence(forge, run, run_copy):
    best = run.best.id
    forge(run_copy, best)
    with pytest.raises(InputError, match=re.compile("^.+: .+; .+$")):
        use(run_copy, best)
