import errno
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import detectors
from augmentations import InputError
from detectors import files

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7), "c": torch.tensor([True, False])}
SETTINGS = {"name": "näme", "numbers": [1, 2.5], "none": None}


def test_round_trip(tmp_path):
    path = files.write(tmp_path / "new" / "folder" / "file.safetensors", TENSORS, SETTINGS)
    tensors, settings = files.read(path)
    assert settings == SETTINGS
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert all(tensors[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_settings_are_read_without_the_tensors(tmp_path, monkeypatch):
    path = files.write(tmp_path / "file", TENSORS, SETTINGS)
    assert files.read_settings(files.write(tmp_path / "without settings", TENSORS)) == {}

    class Header:
        """A file of which only the header may be read."""

        def __init__(self, *arguments):
            self.file = files_open(*arguments)

        def __enter__(self):
            self.metadata = self.file.__enter__().metadata
            return self

        def __exit__(self, *error):
            self.file.__exit__(*error)

    files_open = files.safe_open
    monkeypatch.setattr(files, "safe_open", Header)
    assert files.read_settings(path) == SETTINGS
    with pytest.raises(AttributeError):
        files.read(path)


@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["missing", "empty", "garbage"])
def test_settings_of_what_is_no_such_file_are_refused_as_its_tensors_are(tmp_path, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    errors = []
    for read in (files.read, files.read_settings):
        with pytest.raises(InputError, match=re.escape(str(path))) as error:
            read(path)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_settings_may_be_absent(tmp_path):
    assert files.read(files.write(tmp_path / "file", TENSORS))[1] == {}
    safetensors.torch.save_file(TENSORS, tmp_path / "of another program")
    assert files.read(tmp_path / "of another program")[1] == {}


def test_tensors_may_share_memory_and_want_gradients(tmp_path):
    whole = torch.rand(4, 3, requires_grad=True)
    shared = {"whole": whole, "again": whole, "part": whole[1:3], "turned": whole.T, "wide": whole[0].expand(9, 3)}
    tensors, _ = files.read(files.write(tmp_path / "file", shared))
    for name, tensor in shared.items():
        assert torch.equal(tensors[name], tensor), name


def test_what_is_read_survives_its_file(tmp_path):
    path = files.write(tmp_path / "file", TENSORS)
    tensors, _ = files.read(path)
    files.write(path, {"a": torch.zeros(2, 3)})
    assert torch.equal(tensors["a"], TENSORS["a"])


@pytest.mark.parametrize("where", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_the_old_file_whole_and_no_draft(tmp_path, monkeypatch, where, there):
    path = tmp_path / "file"
    if there:
        files.write(path, TENSORS, SETTINGS)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open

    def open_full(self, *args, **kwargs):
        file = opened(self, *args, **kwargs)
        if self.name.endswith(".tmp"):
            return Full(file)
        return file

    class Full:
        """A file that takes the first bytes only."""

        def __init__(self, file):
            self.file = file

        def write(self, content):
            self.file.write(content[:10])
            full()

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(Path, "open", open_full)
        elif where == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(Path, where, full)
        with pytest.raises(OSError, match="No space left") as failure:
            files.write(path, {"a": torch.ones(1000)})
    assert failure.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == (["file"] if there else [])
    if there:
        tensors, settings = files.read(path)
        assert settings == SETTINGS
        assert torch.equal(tensors["a"], TENSORS["a"])


def test_an_interrupt_leaves_no_draft(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "file", b"content")
    assert os.listdir(tmp_path) == []


def test_write_bytes_replaces(tmp_path):
    assert files.write_bytes(tmp_path / "file", b"old").read_bytes() == b"old"
    assert files.write_bytes(tmp_path / "file", b"new").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_missing(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            files.read(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is unreadable here")
def test_unreadable(tmp_path):
    path = files.write(tmp_path / "file", TENSORS)
    path.chmod(0)
    with pytest.raises(InputError, match=r"Permission denied.*permissions"):
        files.read(path)


def test_truncated_anywhere(tmp_path):
    whole = files.write(tmp_path / "file", TENSORS, SETTINGS).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "file").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"is corrupt.*make it again"):
            files.read(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"\xff" * 100,
        b"hello",
        pickle.dumps({"a": 1}),
        (1000).to_bytes(8, "little") + b"{}",
        (6).to_bytes(8, "little") + b"\xff\xfe{} \x80",
    ],
    ids=["zeros", "ones", "text", "pickle", "short header", "not UTF-8"],
)
def test_not_such_a_file(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="is corrupt"):
        files.read(tmp_path / "file")


@pytest.mark.parametrize("settings", ["{", "[]", "3", "null", ""])
def test_settings_that_are_no_object(tmp_path, settings):
    safetensors.torch.save_file(TENSORS, tmp_path / "file", {"settings": settings})
    with pytest.raises(InputError, match="is corrupt"):
        files.read(tmp_path / "file")


class Bomb:
    """Explodes when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        detectors.load(path)
    torch.save({"a": Bomb()}, path)
    with pytest.raises(InputError):
        detectors.load(path)


def test_nothing_is_pickled(fitted, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickles")

    for module, names in ((pickle, ("dump", "dumps", "load", "loads")), (torch, ("save", "load"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    path = fitted.save(tmp_path / "detector")
    detectors.load(path, device="cpu")
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert json.loads(header["__metadata__"]["settings"])["settings"]["detector"] == "classifier"
    assert header["encoder.0.weight"]["dtype"] == "F32"


def rewrite(fitted, path, change):
    """The fitted detector's file after ``change(settings, tensors)``."""
    tensors, settings = files.read(fitted.save(path))
    change(settings, tensors)
    return files.write(path, tensors, settings)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings, tensors: tensors.pop("encoder.0.weight"),
        lambda settings, tensors: tensors.pop("scorer.mean"),
        lambda settings, tensors: tensors.pop("map_scorer.whitening"),
        lambda settings, tensors: tensors.update({"encoder.0.weight": torch.zeros(1)}),
        lambda settings, tensors: settings.pop("settings"),
        lambda settings, tensors: settings["settings"].pop("steps"),
        lambda settings, tensors: settings["settings"].update(flavour="new"),
        lambda settings, tensors: settings.pop("seed"),
        lambda settings, tensors: settings["augmentation"].update(hyperparameters=None),
        lambda settings, tensors: settings.update(channels=3),
        lambda settings, tensors: settings.pop("fitted"),
        lambda settings, tensors: settings["scorer"].update(settings={"k": 3}),
        lambda settings, tensors: settings.update(detector="oracle"),
        lambda settings, tensors: settings.update(scorer="oracle"),
        lambda settings, tensors: settings["augmentation"].update(name="oracle"),
        lambda settings, tensors: settings.pop("detector"),
    ],
)
def test_a_file_that_holds_no_whole_detector(fitted, tmp_path, change):
    path = rewrite(fitted, tmp_path / "detector", change)
    with pytest.raises(InputError) as refusal:
        detectors.load(path, device="cpu")
    assert refusal.value.remedy


def test_load_names_the_file(tmp_path):
    path = files.write(tmp_path / "weights.safetensors", TENSORS)
    with pytest.raises(InputError, match=r"weights\.safetensors: holds no detector"):
        detectors.load(path)


def test_drafts_of_processes_that_are_no_more_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".a.json.{ended.pid}.123.tmp", f".export.{ended.pid}.tmp", f".a.json.{os.getpid()}.1.tmp"]
    stays = [f".a.json.{os.getppid()}.123.tmp", ".mine.tmp", "a.json.1.2.tmp", ".lock"]
    for name in [*left, *stays]:
        (tmp_path / name).mkdir() if name.startswith(".export") else (tmp_path / name).touch()
    files.remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays)
    files.remove_drafts(tmp_path / "nowhere")
