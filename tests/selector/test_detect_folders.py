"""`ssad detect` on folders that change, lie in each other, or hold any name."""

import csv
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from selector import command
from selector.detection import watch
from selector.detection.output_folder import DetectionFolder, no_formula
from selector.inputs import reader
from selector.inputs.unreadable import UnreadableError


def save(path, image):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(file, format="PNG")


@pytest.fixture
def detect(run, monkeypatch, capsys):
    """Run the command in this process, interrupted after so many looks where it watches; returns code, out, err."""

    def call(*arguments, events=None):
        looks = iter(events or ())

        def sleep(seconds):
            event = next(looks, None)
            if event is None:
                raise KeyboardInterrupt
            event()

        monkeypatch.setattr(watch.time, "sleep", sleep)
        monkeypatch.setattr(sys, "argv", ["ssad", "detect", str(run.path), *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as stop:
            command.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return call


def rows(result):
    return [json.loads(line) for line in (result / "detections.jsonl").read_text().splitlines()]


def table(result):
    with (result / "detections.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(root):
    """Every file below a folder, and where links lead."""
    paths = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {path: os.readlink(path) if path.is_symlink() else path.read_bytes() for path in paths}


def nothing():
    pass


@pytest.fixture
def folder(tmp_path, stripes):
    for i, image in enumerate(stripes(3, 7)):
        save(tmp_path / "in" / f"{i}.png", image)
    return tmp_path / "in"


class TestResultsBelowTheImages:
    @pytest.mark.parametrize("option", [[], ["--watch"]])
    def test_their_pictures_are_no_images(self, detect, folder, option):
        result = folder / "result"
        for _ in range(2):
            assert detect(folder, "--out", result, *option, events=[nothing] * 4)[0] == 0
            assert [row["name"] for row in table(result)] == ["0.png", "1.png", "2.png"]
            (result / "detections.csv").unlink()
        assert detect(folder, "--out", folder / "second", events=[nothing] * 3)[0] == 0
        assert len(table(folder / "second")) == 3

    def test_the_folder_of_the_images_and_those_above_are_no_place_for_a_result(self, detect, folder, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        for images, out in ((empty, empty), (folder, tmp_path)):
            code, _, err = detect(images, "--out", out, "--watch")
            assert code == 2
            assert "choose a folder of its own" in err or "something else" in err


class TestContinuing:
    def test_other_images_of_the_same_names_are_detected(self, detect, folder, tmp_path, scratched):
        for i, image in enumerate(scratched(2, 3)):
            save(tmp_path / "other" / f"{i}.png", image)
        result = tmp_path / "result"
        assert detect(folder, "--out", result)[0] == 0
        (result / "detections.csv").unlink()
        assert detect(tmp_path / "other", "--out", result)[0] == 0
        assert detect(tmp_path / "other", "--out", tmp_path / "fresh")[0] == 0
        assert table(result) == table(tmp_path / "fresh")
        pictures = [sorted(path.name for path in (out / "heatmaps").iterdir()) for out in (result, tmp_path / "fresh")]
        assert pictures[0] == pictures[1]

    def test_the_same_size_and_times_do_not_hide_other_content(self, detect, folder, tmp_path):
        result, path = tmp_path / "result", folder / "0.png"
        for i in range(2):
            pixels = np.full((32, 32), 100 + i, np.uint8)
            Image.fromarray(pixels).save(path, format="BMP")
            os.utime(path, (10**9, 10**9))
            assert detect(folder, "--out", result)[0] == 0
            (result / "detections.csv").unlink()
        assert len({row["score"] for row in rows(result) if row["name"] == "0.png"}) == 1
        assert detect(folder, "--out", tmp_path / "fresh")[0] == 0
        assert {row["name"]: row["score"] for row in rows(result)} == {
            row["name"]: row["score"] for row in rows(tmp_path / "fresh")
        }

    def test_images_that_were_moved_but_not_changed_keep_their_rows(self, detect, folder, tmp_path, monkeypatch):
        result = tmp_path / "result"
        assert detect(folder, "--out", result)[0] == 0
        before = rows(result)
        (result / "detections.csv").unlink()
        shutil.copytree(folder, tmp_path / "moved")
        assert detect(tmp_path / "moved", "--out", result)[0] == 0
        assert rows(result) == before


class TestWatching:
    def test_a_file_that_arrives_in_two_parts_has_the_row_of_the_whole(self, detect, folder, tmp_path, scratched):
        save(tmp_path / "whole.png", scratched(1, 9)[0])
        whole, path = (tmp_path / "whole.png").read_bytes(), folder / "slow.png"
        events = [lambda: path.write_bytes(whole[: len(whole) // 2]), *[nothing] * 3]
        events += [lambda: path.write_bytes(whole), *[nothing] * 3]
        result = tmp_path / "result"
        code, _, err = detect(folder, "--out", result, "--watch", events=events)
        assert code == 0, err
        assert [row["name"] for row in rows(result)].count("slow.png") == 1
        (row,) = [row for row in table(result) if row["name"] == "slow.png"]
        assert row["verdict"] in ("anomaly", "normal")
        assert (result / row["heatmap"]).is_file()

    def test_the_same_command_resumes_after_ctrl_c(self, detect, folder, tmp_path, stripes):
        result = tmp_path / "result"
        arguments = (folder, "--out", result, "--watch")
        assert detect(*arguments, events=[nothing] * 3)[0] == 0
        first = rows(result)
        (folder / "0.png").unlink()  # a line that moves away what was read
        save(folder / "new.png", stripes(1, 8)[0])
        code, out, err = detect(*arguments, events=[nothing] * 3)
        assert code == 0, err
        assert rows(result)[:3] == first
        assert [row["name"] for row in table(result)] == ["0.png", "1.png", "2.png", "new.png"]
        assert "0.png" not in out

    def test_an_image_that_fails_for_a_while_is_read_in_the_end(self, detect, folder, tmp_path, monkeypatch):
        """Its file does not change meanwhile, as where a network was lost; it has one row at any time."""
        failing, decoded, read = [4], [], reader.decode

        def decode(path, *rest, **options):
            if os.path.basename(path) == "1.png":
                decoded.append(path)
                if failing:
                    failing.pop()
                    raise UnreadableError("Input/output error")
            return read(path, *rest, **options)

        failing *= 3
        monkeypatch.setattr(reader, "decode", decode)
        result = tmp_path / "result"
        code, _, err = detect(folder, "--out", result, "--watch", events=[nothing] * 12)
        assert code == 0, err
        assert len(decoded) == 4
        assert {row["verdict"] for row in table(result)} <= {"normal", "anomaly"}
        assert [row["name"] for row in rows(result)].count("1.png") == 1

    def test_what_never_became_complete_is_named(self, detect, folder, tmp_path):
        (folder / "empty.png").touch()
        code, out, _ = detect(folder, "--out", tmp_path / "result", "--watch", events=[nothing] * 3)
        assert code == 0
        assert "skipped empty.png: was not complete when the watch ended" in out


def test_an_error_names_any_path_and_steers_no_terminal(detect, tmp_path):
    code, _, err = detect(tmp_path / os.fsdecode(b"no\xffwhere\x1b[2J"), "--out", tmp_path / "result")
    assert code == 2
    assert "\\x1b[2J" in err
    assert "\x1b[2J" not in err


@pytest.mark.parametrize("option", [[], ["--watch"]])
def test_any_name_has_a_row_of_its_own(detect, tmp_path, stripes, option):
    names = [
        b"\xff.png",
        rb"\xff.png",
        b"a\rb.png",
        b"a\nb.png",
        b"\x1b[31mred.png",
        b"\xe2\x80\xaegnp.png",
        b"=1+1.png",
    ]
    folder = os.path.join(os.fsencode(tmp_path), b"in \xfe\r")
    for name, image in zip(names, stripes(len(names), 7), strict=True):
        save(os.path.join(folder, name), image)
    out = tmp_path / os.fsdecode(b"out \xfd")
    code, printed, err = detect(os.fsdecode(folder), "--out", out, *option, events=[nothing] * 3)
    assert code == 0, err
    assert "\x1b[31m" not in printed
    found = [row["name"] for row in table(out)]
    assert len(set(found)) == len(names)
    assert all(name.isprintable() for name in found)
    assert len((out / "detections.csv").read_text().splitlines()) == 1 + len(names)
    assert sum(path.is_file() for path in (out / "heatmaps").rglob("*")) == len(names)


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@sum.png", "\t=1.png", "'=1.png", "a=1.png"])
def test_no_name_is_a_formula_in_a_spreadsheet(name):
    shown = no_formula(name)
    assert shown == (name if name[0] in "'a" else f"'{name}")


class TestLinks:
    """Where a result is written and removed, nothing may lie that belongs to another folder."""

    @pytest.mark.parametrize("linked", ["heatmaps", "masks", "heatmaps/lot", "detections.jsonl"])
    @pytest.mark.parametrize("option", [["--overwrite"], ["--watch"], []], ids=["overwrite", "watch", "resumed"])
    def test_a_link_is_refused_and_nothing_behind_it_changes(self, detect, folder, tmp_path, linked, option):
        result, outside = tmp_path / "result", tmp_path / "outside"
        save(folder / "lot" / "3.png", torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)))
        assert detect(folder, "--out", result)[0] == 0
        (result / "detections.csv").unlink()
        (result / "masks").mkdir(exist_ok=True)
        (result / linked).rename(outside)
        (result / linked).symlink_to(outside)
        if outside.is_dir():
            (outside / "mine.txt").write_text("mine")
        before = contents(tmp_path)
        code, _, err = detect(folder, "--out", result, *option, events=[nothing] * 3)
        assert code == 2
        assert f"{result / linked}: is a link; remove the link" in err.replace("\n", " ")
        assert len(err.splitlines()) == 1
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("linked", ["heatmaps", "masks"])
    @pytest.mark.parametrize("option", [["--overwrite"], []], ids=["overwrite", "fresh"])
    def test_a_fresh_folder_with_a_link_is_refused(self, detect, folder, tmp_path, linked, option):
        result, outside = tmp_path / "result", tmp_path / "outside"
        result.mkdir()
        outside.mkdir()
        (outside / "mine.txt").write_text("mine")
        (result / linked).symlink_to(outside)
        before = contents(tmp_path)
        code, _, err = detect(folder, "--out", result, *option)
        assert code == 2
        assert "is a link" in err
        assert contents(tmp_path) == before

    def test_a_link_in_place_of_a_picture_is_replaced(self, detect, folder, tmp_path):
        result, outside = tmp_path / "result", tmp_path / "outside.png"
        outside.write_bytes(b"mine")
        (result / "heatmaps").mkdir(parents=True)
        (result / "heatmaps" / "0.png.png").symlink_to(outside)
        assert detect(folder, "--out", result, "--overwrite")[0] == 0
        assert outside.read_bytes() == b"mine"
        assert not (result / "heatmaps" / "0.png.png").is_symlink()


class TestKilled:
    """What a process that was killed left in the result folder."""

    def test_a_draft_of_the_first_file_is_no_other_result(self, detect, folder, tmp_path):
        result = tmp_path / "result"
        result.mkdir()
        (result / f".result.json.{os.getpid()}.1.tmp").write_text("{")
        assert detect(folder, "--out", result)[0] == 0
        assert {path.name for path in result.iterdir() if path.name[0] == "."} == {".lock"}

    def test_pictures_without_a_row_are_removed(self, detect, folder, tmp_path):
        """The pictures of a batch were written, its rows were not, and then an image was moved away."""
        result = tmp_path / "result"
        assert detect(folder, "--out", result)[0] == 0
        (result / "detections.csv").unlink()
        for name in ("heatmaps/gone.png.png", "masks/0.png.png"):
            (result / name).parent.mkdir(exist_ok=True)
            (result / name).write_bytes(b"left")
        assert detect(folder, "--out", result)[0] == 0
        pictures = {row[kind] for row in rows(result) for kind in ("heatmap", "mask")} - {""}
        assert {path.relative_to(result).as_posix() for path in result.glob("*/*.png")} == pictures

    def test_a_second_process_is_refused_and_changes_nothing(self, detect, folder, tmp_path):
        result = tmp_path / "result"
        result.mkdir()
        with FileLock(result / ".lock"):
            code, _, err = detect(folder, "--out", result, "--overwrite")
        assert code == 2
        assert "is in use by another detection" in err
        assert {path.name for path in result.iterdir()} == {".lock"}
        assert detect(folder, "--out", result)[0] == 0


class TestCopiedRows:
    """Rows under other names than they were written with, with the checksum that they were written with."""

    @pytest.fixture
    def copies(self, detect, folder, tmp_path):
        """A result of one image whose rows were copied for links to it, as people join results; names of the links."""
        result, names = tmp_path / "result", [f"copy {i}.png" for i in range(6)]
        for name in ("1.png", "2.png"):
            (folder / name).unlink()
        assert detect(folder, "--out", result)[0] == 0
        (result / "detections.csv").unlink()
        (row,) = rows(result)
        with (result / "detections.jsonl").open("a") as file:
            for name in names:
                os.link(folder / "0.png", folder / name)
                file.write(json.dumps(row | {"name": name}) + "\n")
        return names

    @pytest.fixture
    def detected(self, monkeypatch):
        """Names of the images that were detected, as they are written."""
        names, add = [], DetectionFolder.add

        def spy(results, detections, *rest):
            names.extend(detections.names)
            add(results, detections, *rest)

        monkeypatch.setattr(DetectionFolder, "add", spy)
        return names

    @pytest.mark.parametrize("option", [[], ["--watch"]])
    def test_one_whose_file_has_its_content_counts(self, detect, folder, tmp_path, copies, detected, option):
        result = tmp_path / "result"
        assert detect(folder, "--out", result, *option, events=[nothing] * 3)[0] == 0
        assert detected == []
        assert [row["name"] for row in table(result)] == ["0.png", *copies]
        assert len({(row["score"], row["p_value"]) for row in table(result)}) == 1

    @pytest.mark.parametrize("option", [[], ["--watch"]])
    def test_one_of_another_content_is_detected_again(
        self, detect, folder, tmp_path, copies, detected, option, scratched
    ):
        (folder / copies[0]).unlink()
        save(folder / copies[0], scratched(1, 9)[0])
        result = tmp_path / "result"
        assert detect(folder, "--out", result, *option, events=[nothing] * 3)[0] == 0
        assert detected == [copies[0]]
        scores = {row["name"]: row["score"] for row in table(result)}
        assert scores[copies[0]] != scores["0.png"] == scores[copies[1]]

    @pytest.mark.parametrize("option", [[], ["--watch"]])
    def test_one_whose_values_were_changed_is_detected_again(self, detect, folder, tmp_path, copies, detected, option):
        result = tmp_path / "result"
        lines = (result / "detections.jsonl").read_text().splitlines()
        changed = json.loads(lines[1]) | {"p_value": 0.123}
        lines[1] = json.dumps(changed)
        (result / "detections.jsonl").write_text("\n".join(lines) + "\n")
        assert detect(folder, "--out", result, *option, events=[nothing] * 3)[0] == 0
        assert detected == [copies[0]]
        assert len({(row["score"], row["p_value"]) for row in table(result)}) == 1

    def test_one_of_no_file_is_gone_and_hides_no_other(self, detect, folder, tmp_path, copies, detected):
        """A name that was damaged: that of no file, or that of an image that was moved away and keeps its row."""
        result = tmp_path / "result"
        assert detect(folder, "--out", result, "--watch", events=[nothing] * 3)[0] == 0
        (folder / copies[1]).unlink()
        lines = (result / "detections.jsonl").read_text().splitlines()
        lines[1] = lines[1].replace(copies[0], "copy q.png", 1)
        lines[3] = lines[3].replace(copies[2], copies[1], 1)
        (result / "detections.jsonl").write_text("\n".join(lines) + "\n")
        assert detect(folder, "--out", result, "--watch", events=[nothing] * 3)[0] == 0
        assert sorted(detected) == [copies[0], copies[2]]
        assert [row["name"] for row in table(result)] == ["0.png", *copies]
