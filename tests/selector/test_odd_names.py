"""Any name that the file system holds works in every command: of images, and of the folders that commands are given."""

import csv
import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from selector import command, load
from selector.detection import watch
from selector.detection.output_folder import no_formula

NAMES = [
    b"a\nb.png",
    b"a\rb.png",
    b"-dash.png",
    b"--out.png",
    b"\"double\" 'single'.png",
    b"=cmd|' /C calc'!A0.png",
    b"@sum(1).png",
    b"\xff\xfe.png",
    rb"\xff\xfe.png",
    b"\x1b[2J\x1b]0;title\x07.png",
    b"\xe2\x80\xaegnp.png",
    b"<script>alert(1)</script>.png".replace(b"/", b"\\"),
    b"{{ 7 * 7 }} %s %d.png",
    b"a,b;c\td.png",
    b" space .png",
    b"n" * 251 + b".png",
    "é".encode() * 125 + b".png",
]
FOLDER = b"-run \xfe\r\n\x1b[31m'\"=1"


def save(path: bytes, image) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(file, format="PNG")


def call(monkeypatch, capsys, *arguments) -> str:
    """Run a command in this process; what it printed, which steers no terminal."""
    monkeypatch.setattr(sys, "argv", ["ssad", *(os.fsdecode(argument) for argument in arguments)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        command.main()
    output = capsys.readouterr()
    assert stop.value.code == 0, output.err
    assert not {"\x1b", "\r", "\x07", "\u202e"} & set(output.out)
    return output.out


@pytest.fixture(scope="module")
def place(tmp_path_factory, stripes):
    """A folder of an odd name, with good/ and incoming/ whose images have every odd name."""
    root = os.path.join(os.fsencode(tmp_path_factory.mktemp("names")), FOLDER)
    for folder, seed in ((b"good", 0), (b"incoming", 5)):
        for i, image in enumerate(stripes(24, seed)):
            save(os.path.join(root, folder, NAMES[i] if i < len(NAMES) else b"%d.png" % i), image)
    return root


@pytest.fixture(scope="module")
def run(place):
    patch, root = pytest.MonkeyPatch(), place
    options = ["--augmentation", "rotation", "--detector", "pixels", "--preset", "tiny", "--jobs", "1"]
    paths = [b"--train", root + b"/good", b"--test", root + b"/incoming", b"--out", root + b"/run"]
    patch.setattr(sys, "argv", ["ssad", "select", *map(os.fsdecode, paths), *options])
    patch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        command.main()
    patch.undo()
    assert stop.value.code == 0
    return root + b"/run"


def printable_and_distinct(names, n):
    assert len(set(names)) == len(names) == n
    assert all(name.isprintable() for name in names)


def test_select_keeps_a_name_for_each_image(run):
    with open(run + b"/run.json", encoding="utf-8") as file:
        names = json.load(file)["names"]
    printable_and_distinct(names["train"] + names["validation"] + names["calibration"], 24)
    printable_and_distinct(names["test"], 24)
    with open(run + b"/ranking.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_select_is_resumed_in_the_same_folder(run, place, monkeypatch, capsys):
    copy = shutil.copytree(run, place + b"/again")
    options = ["--augmentation", "rotation", "--detector", "pixels", "--preset", "tiny", "--jobs", "1"]
    paths = (b"--train", place + b"/good", b"--test", place + b"/incoming", b"--out", copy)
    assert "pixels" in call(monkeypatch, capsys, "select", *paths, *options)


def test_report_escapes_them(run, place, monkeypatch, capsys):
    call(monkeypatch, capsys, "report", run, "--out", place + b"/report\n")
    with open(place + b"/report\n/index.html", encoding="utf-8", newline="") as file:
        page = file.read()
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in page


def test_export_writes_into_a_folder_of_any_name(run, place, monkeypatch, capsys):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    call(monkeypatch, capsys, "export", run, "--out", place + b"/exported \xfd\n")
    assert b"model.onnx" in os.listdir(place + b"/exported \xfd\n")


@pytest.mark.parametrize("option", [[], ["--watch"]])
def test_detect_has_a_row_and_pictures_for_each(run, place, monkeypatch, capsys, option):
    looks = iter(range(3))

    def sleep(seconds):
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", sleep)
    out = place + b"/result\r" + b"".join(map(str.encode, option))
    call(monkeypatch, capsys, "detect", run, place + b"/incoming", "--out", out, *option)
    with open(out + b"/detections.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(out + b"/detections.jsonl", "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    printable_and_distinct([row["name"] for row in rows], 24)
    assert {no_formula(json.loads(line)["name"]) for line in lines} == {row["name"] for row in rows}
    heatmaps = {row["heatmap"] for row in rows}
    assert len(heatmaps) == 24
    assert all(os.path.isfile(os.path.join(out, os.fsencode(heatmap))) for heatmap in heatmaps)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_of_any_name(run, place, name):
    detections = load(os.fsdecode(run)).detect(os.fsdecode(os.path.join(place, b"incoming", name)))
    assert detections.names[0].isprintable()
    listed = load(os.fsdecode(run)).detect([os.fsdecode(os.path.join(place, b"incoming", name))])
    assert listed.p_values.tolist() == detections.p_values.tolist()


def test_a_name_that_begins_with_a_dash_is_a_path_when_it_has_a_folder(run, place, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(os.path.join(place, b"incoming"))
    for i, name in enumerate((b"./-dash.png", b"./--out.png")):
        call(monkeypatch, capsys, "detect", run, name, "--out", tmp_path / str(i))
    call(monkeypatch, capsys, "detect", "--out", tmp_path / "third", "--", run, "-dash.png")
