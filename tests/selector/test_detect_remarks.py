"""What `ssad select` says of images, `ssad detect` says too: in rows, in the summary, in JSON, in Python."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from detectors.checksums import with_checksum
from selector import command, load, select_best
from selector.detection import watch

SIZE, DEPTH, LIGHT = "train images' size", "another bit depth than the train images (8 bits)", "mean brightness"
DIM, FRAMES = "lowest sixteenth", "several frames or pages"


@pytest.fixture(scope="module")
def files_run(tmp_path_factory, stripes):
    """A run on files of 8 bits."""
    root = tmp_path_factory.mktemp("files")
    for folder, n, seed in (("good", 24, 0), ("incoming", 6, 5)):
        (root / folder).mkdir()
        for i, image in enumerate(stripes(n, seed)):
            Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(root / folder / f"{i}.png")
    kinds = {"augmentations": {"rotation": [{}]}, "detectors": ["pixels"], "preset": "tiny", "jobs": 1}
    select_best(root / "good", root / "incoming", **kinds, out=root / "run")
    return root / "run"


@pytest.fixture
def odd(tmp_path, stripes):
    """A folder of what the run was not made for."""
    folder = tmp_path / "odd"
    folder.mkdir()
    normal, deep, tiny, frames = (image[0].numpy() for image in stripes(4, 9))
    Image.fromarray((255 * normal).astype(np.uint8)).save(folder / "normal.png")
    Image.fromarray((4095 * deep).astype(np.uint16)).save(folder / "twelve.tif")
    Image.fromarray((255 * tiny[:3, :3]).astype(np.uint8)).save(folder / "tiny.png")
    pages = [Image.fromarray((255 * frames).astype(np.uint8))] * 2
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    (folder / "broken.png").write_text("no picture")
    (folder / "notes.txt").write_text("no image")
    return folder


EXPECTED = {"normal.png": [], "twelve.tif": [DIM, DEPTH, LIGHT], "tiny.png": [SIZE], "pages.tif": [FRAMES]}


def detect(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["ssad", "detect", *map(str, arguments)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        command.main()
    output = capsys.readouterr()
    assert stop.value.code == 0, output.err
    return output.out


@pytest.mark.parametrize("option", ["--skip-unreadable", "--watch"])
def test_rows_summary_and_json_say_what_is_odd(files_run, odd, tmp_path, monkeypatch, capsys, option):
    looks = iter(range(3))

    def sleep(seconds):
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", sleep)
    result = tmp_path / "result"
    out = detect(monkeypatch, capsys, files_run, odd, "--out", result, option)
    rows = {row["name"]: row for row in map(json.loads, (result / "detections.jsonl").read_text().splitlines())}
    with (result / "detections.csv").open(encoding="utf-8", newline="") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    for name, problems in EXPECTED.items():
        assert len(rows[name]["noticed"]) >= len(problems)
        for problem in problems:
            assert problem in rows[name]["remark"]
            assert problem in table[name]["remark"]
            assert problem in out
    assert rows["normal.png"]["noticed"] == []
    assert "Warning: 1 image is far from the train images' size (sides of 32 to 32 pixels): tiny.png (3 x 3)." in out
    assert "Warning: 1 file that is not an image was left out: notes.txt." in out
    assert "skipped broken.png" in out
    notes = json.loads((result / "result.json").read_text())["notes"]
    resizing = "most often 32 x 32, resized to 32 x 32 without keeping the aspect"
    starts = ["Noticed" if note.endswith(resizing) else "Warning" for note in notes]
    assert starts.count("Noticed") == 1
    assert [f"{start}: {note}." in out for start, note in zip(starts, notes, strict=True)] == [True] * len(notes)
    assert len(notes) >= 5


def test_the_summary_of_a_result_that_was_resumed_is_that_of_all_its_images(
    files_run, odd, tmp_path, monkeypatch, capsys
):
    arguments = (files_run, odd, "--out", tmp_path / "result", "--skip-unreadable")
    first = detect(monkeypatch, capsys, *arguments)
    lines = (tmp_path / "result" / "detections.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "result" / "detections.jsonl").write_bytes(b"".join(lines[:2]))
    (tmp_path / "result" / "detections.csv").unlink()
    again = detect(monkeypatch, capsys, *arguments)
    assert sorted(again.splitlines()) == sorted(first.splitlines())


def test_detections_in_python_hold_remarks_and_notes(files_run, odd, monkeypatch):
    from selector import selection

    monkeypatch.setattr(selection, "DETECTION_PIXELS", 2 * 32**2)  # several batches
    detections = load(files_run).detect(odd, skip_unreadable=True)
    for name, remark, noticed in zip(detections.names, detections.remarks, detections.noticed, strict=True):
        assert len(noticed) >= len(EXPECTED[name])
        assert all(problem in remark for problem in EXPECTED[name])
    notes = "\n".join(detections.notes)
    for problem in (SIZE, DEPTH, LIGHT, DIM, FRAMES, "notes.txt"):
        assert problem in notes
    assert [name for name, _ in detections.skipped] == ["broken.png"]


def test_arrays_and_images_like_the_train_images_have_no_remark(files_run, stripes):
    detections = load(files_run).detect(stripes(5, 9))
    assert detections.noticed == ((),) * 5
    assert detections.notes == ()


def test_a_run_that_does_not_describe_its_train_images_is_refused(files_run, tmp_path):
    import shutil

    copy = shutil.copytree(files_run, tmp_path / "copy")
    content = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(with_checksum({**content, "profile": {"sides": 3}})))
    with pytest.raises(command.InputError, match="train images are like"):
        load(copy)


def test_the_report_of_a_12_bit_set_shows_pictures_that_are_not_black(tmp_path, stripes):
    import base64
    import io
    import re

    for folder, n, seed in (("good", 24, 0), ("incoming", 6, 5)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(stripes(n, seed)):
            Image.fromarray((4095 * image[0].numpy()).astype(np.uint16)).save(tmp_path / folder / f"{i}.tif")
    kinds = {"augmentations": {"rotation": [{}]}, "detectors": ["pixels"], "preset": "tiny", "jobs": 1}
    selection = select_best(tmp_path / "good", tmp_path / "incoming", **kinds, out=tmp_path / "run")
    page = selection.report(tmp_path / "report").read_text(encoding="utf-8")
    images = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="test image', page)
    assert images
    for image in images:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("L"))
        assert np.quantile(pixels, 0.95) > 200
