"""The command line, as a newcomer encounters it."""

import csv
import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selector import command, load
from selector.execution import WorkerDiedError

FAST = ("--augmentation", "rotation", "--detector", "pixels", "--preset", "tiny", "--jobs", 1)  # nothing to train


def write(folder: Path, images) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(folder / f"part {i:02d} ü.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, stripes, scratched):
    root = tmp_path_factory.mktemp("command")
    write(root / "good", stripes(30))
    write(root / "incoming", stripes(12, 7))
    write(root / "parts", scratched(3, 8))
    return root


@pytest.fixture
def ssad(monkeypatch, capsys):
    """Run the command in this process; returns exit code, standard output and standard error."""

    def call(*arguments: object):
        monkeypatch.setattr(sys, "argv", ["ssad", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds the working folder
        with pytest.raises(SystemExit) as stop:
            command.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return call


@pytest.fixture(scope="module")
def run(folders):
    from selector import select_best

    path = folders / "run"
    select_best(
        folders / "good",
        folders / "incoming",
        augmentations={"cutout": [{}], "cutpaste": [{}]},
        preset="tiny",
        jobs=1,
        out=path,
    )
    return path


def test_select_says_what_it_chose_and_what_it_wrote_where(ssad, folders, tmp_path):
    code, out, _ = ssad(
        "select", "--train", folders / "good", "--test", folders / "incoming", "--out", tmp_path / "run",
        "--augmentation", "rotation", "--preset", "tiny", "--jobs", 1,
    )  # fmt: skip
    assert code == 0
    assert "rotation" in out.splitlines()[0]
    assert (tmp_path / "run" / "index.html").is_file()
    assert str(tmp_path / "run" / "index.html") in out
    assert (tmp_path / "run" / "ranking.csv").is_file()


def test_select_works_without_test_images(ssad, folders, tmp_path):
    code, out, err = ssad(
        "select", "--train", folders / "good", "--out", tmp_path / "run",
        "--augmentation", "rotation", "--augmentation", "cutout", "--detector", "pixels",
        "--preset", "tiny", "--jobs", 1,
    )  # fmt: skip
    assert code == 0, err
    assert "pseudo_auc" in out
    assert ssad("detect", tmp_path / "run", folders / "parts", "--out", tmp_path / "result")[0] == 0


def test_sub_folders_are_groups_only_on_request(ssad, folders, tmp_path):
    for i, path in enumerate(sorted((folders / "good").iterdir())):
        lot = tmp_path / "lots" / f"lot {i // 3}" / "deeper"
        lot.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, lot / path.name)
    arguments = [*FAST, "--group-by-folder"]
    code, _, err = ssad("select", "--train", tmp_path / "lots", "--out", tmp_path / "run", *arguments)
    assert code == 0, err
    names = json.loads((tmp_path / "run" / "run.json").read_text())["names"]
    lots = [{name.split("/")[0] for name in names[split]} for split in ("train", "validation", "calibration")]
    assert sum(map(len, lots)) == 10
    assert "in 10 groups kept whole" in (tmp_path / "run" / "index.html").read_text()
    code, _, err = ssad("select", "--train", folders / "good", "--out", tmp_path / "flat", *arguments)
    assert code == 2
    assert "lies in no sub-folder" in err


class TestParts:
    """Which kinds, scorers and encoders there are to choose among, and with which settings."""

    @pytest.fixture
    def select(self, ssad, folders, tmp_path):
        """Run `ssad select`; returns its candidates."""

        def select(*arguments):
            base = ("--train", folders / "good", "--out", tmp_path / "run", "--preset", "tiny", "--jobs", 1)
            code, _, err = ssad("select", *base, *arguments)
            assert code == 0, err
            return load(tmp_path / "run").zoo.candidates

        return select

    def test_kinds_and_scorers_are_repeatable_and_may_be_a_users_own(self, select, own_parts):
        candidates = select(
            "--augmentation", "cutout", "--detector", "pixels", "--detector", "own_parts:Frozen",
            "--scorer", "gaussian", "--scorer", "own_parts:Knn",
        )  # fmt: skip
        assert [(c.training.detector, c.scorer.name) for c in candidates] == [
            (kind, scorer) for kind in ("pixels", "own_parts:Frozen") for scorer in ("gaussian", "own_parts:Knn")
        ]

    def test_a_part_from_outside_may_lie_in_the_working_folder(self, select, own_parts, tmp_path, monkeypatch):
        (tmp_path / "parts_here.py").write_text(
            "from own_parts import Knn\n\n\nclass Nearest(Knn):\n    name = 'nearest'\n"
        )
        monkeypatch.chdir(tmp_path)
        (candidate,) = select("--augmentation", "cutout", "--detector", "pixels", "--scorer", "parts_here:Nearest")
        assert candidate.scorer.name == "parts_here:Nearest"

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("grid.json", '{"augmentations": {"cutout": [{"area": [0.1, 0.2]}]}, "detectors": ["pixels"]}'),
            ("grid.toml", 'detectors = ["pixels"]\n[[augmentations.cutout]]\narea = [0.1, 0.2]\n'),
        ],
    )
    def test_a_grid_is_read_from_a_file(self, select, own_parts, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        candidates = select("--grid", tmp_path / name, "--scorer", "own_parts:Knn")
        assert [(c.training.detector, c.scorer.name) for c in candidates] == [("pixels", "own_parts:Knn")]
        assert load(tmp_path / "run").zoo.store.families == ["cutout"]

    @pytest.mark.parametrize("encoder", ["unpadded", '{"name": "unpadded"}'])
    def test_settings_of_a_kind_and_its_encoder(self, select, tmp_path, encoder):
        grid = {"augmentations": {"cutout": [{"area": [0.1, 0.2]}]}, "detectors": {"classifier": [{"steps": 2}]}}
        (tmp_path / "grid.json").write_text(json.dumps(grid))
        (candidate,) = select("--grid", tmp_path / "grid.json", "--encoder", encoder)
        assert (candidate.training.settings.encoder, candidate.training.settings.steps) == ("unpadded", 2)
        assert candidate.hyperparameters["area"] == (0.1, 0.2)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("no json.json", "{not json", "is neither JSON nor TOML"),
            ("no toml.toml", "= 3", "is neither JSON nor TOML"),
            ("json as.toml", '{"detectors": ["pixels"]}', "is neither JSON nor TOML"),
            ("binary.json", b"\xff\xfe\x00", "is neither JSON nor TOML"),
            ("empty.json", "{}", "must hold tables named augmentations, detectors, scorers"),
            ("list.json", "[]", "must hold tables named"),
            ("other.json", '{"augmentation": ["cutout"]}', "must hold tables named"),
            ("a name.json", '{"detectors": "pixels"}', "must map names to lists of settings, or list names"),
            ("twice.json", '{"detectors": ["pixels"]}', "has detectors, which an option gives too"),
            ("no cells.json", '{"augmentations": {"cutout": []}}', "is empty"),
            ("no list.json", '{"augmentations": {"cutout": {"area": [0.1, 0.2]}}}', "must be a list of dicts"),
            ("unknown.json", '{"augmentations": {"cutpast": [{}]}}', "did you mean cutpaste"),
            ("setting.json", '{"scorers": {"gaussian": [{"k": 3}]}}', "gaussian"),
        ],
    )
    def test_a_bad_grid_is_one_sentence(self, ssad, folders, tmp_path, name, content, message):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        arguments = ("--train", folders / "good", "--out", tmp_path / "run", "--detector", "pixels", "--preset", "tiny")
        code, _, err = ssad("select", *arguments, "--grid", path)
        assert code == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_detect_writes_one_row_and_one_heatmap_per_image(ssad, run, folders, tmp_path):
    code, out, _ = ssad("detect", run, folders / "parts", "--out", tmp_path / "result")
    assert code == 0
    with (tmp_path / "result" / "detections.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"part {i:02d} ü.png" for i in range(3)]
    for row in rows:
        assert 0 < float(row["p_value"]) <= 1
        assert row["verdict"] in ("normal", "anomaly")
        assert Image.open(tmp_path / "result" / row["heatmap"]).size[0] >= 256
    assert "false-alarm rate" in out
    assert str(tmp_path / "result" / "detections.csv") in out


def test_detect_keeps_heatmaps_in_its_folder_whatever_the_names(ssad, run, folders, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    source = next((folders / "parts").iterdir())
    long = odd / ("n" * 250 + ".png")
    long.write_bytes(source.read_bytes())
    code, _, err = ssad("detect", run, odd, "--out", tmp_path / "result")
    assert code == 0, err
    code, _, err = ssad("detect", run, source, "--out", tmp_path / "one")
    assert code == 0, err
    assert len(list((tmp_path / "one" / "heatmaps").rglob("*.png"))) == 1
    assert {p.name for p in source.parent.iterdir()} == {f"part {i:02d} ü.png" for i in range(3)}


def test_detect_never_writes_over_what_is_there(ssad, run, folders, tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "mine.txt").write_text("mine")
    for option in ([], ["--overwrite"]):
        code, _, err = ssad("detect", run, folders / "parts", "--out", tmp_path / "result", *option)
        assert code == 2
        assert "new folder" in err
    assert [p.name for p in (tmp_path / "result").iterdir()] == ["mine.txt"]


def test_detect_writes_over_its_own_result_only_on_request(ssad, run, folders, tmp_path):
    arguments = ["detect", run, folders / "parts", "--out", tmp_path / "result"]
    assert ssad(*arguments)[0] == 0
    first = (tmp_path / "result" / "detections.csv").read_bytes()
    code, _, err = ssad(*arguments)
    assert code == 2
    assert "--overwrite" in err
    assert ssad(*arguments, "--overwrite")[0] == 0
    assert (tmp_path / "result" / "detections.csv").read_bytes() == first


def test_detect_resumes_where_it_was_stopped(ssad, run, folders, tmp_path, monkeypatch):
    """An unreadable image in a later batch ends it; finished images are not detected again."""
    from selector import selection
    from selector.detection import output_folder

    monkeypatch.setattr(selection, "DETECTION_PIXELS", 1)
    shutil.copytree(folders / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "zz.png").write_text("no picture")
    code, _, err = ssad("detect", run, tmp_path / "parts", "--out", tmp_path / "result")
    assert code == 2
    assert "zz.png" in err
    assert not (tmp_path / "result" / "detections.csv").exists()
    lines = (tmp_path / "result" / "detections.jsonl").read_bytes().splitlines(keepends=True)
    assert 0 < len(lines) < 4
    (tmp_path / "result" / "detections.jsonl").write_bytes(b"".join(lines) + b'{"name": "cut sho')

    drawn = []
    write = output_folder.write_heatmap
    monkeypatch.setattr(
        output_folder,
        "write_heatmap",
        lambda path, *rest, **size: (drawn.append(path.name), write(path, *rest, **size)),
    )
    code, out, _ = ssad("detect", run, tmp_path / "parts", "--out", tmp_path / "result", "--skip-unreadable")
    assert code == 0
    assert "skipped zz.png" in out
    assert len(drawn) == 3 - len(lines)
    with (tmp_path / "result" / "detections.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"part {i:02d} ü.png" for i in range(3)] + ["zz.png"]

    code, _, err = ssad("detect", run, tmp_path / "parts", "--out", tmp_path / "other", "--false-alarm-rate", 0.5)
    assert code == 2
    (tmp_path / "result" / "detections.csv").unlink()
    code, _, err = ssad("detect", run, tmp_path / "parts", "--out", tmp_path / "result", "--false-alarm-rate", 0.5)
    assert code == 2
    assert "another run or rate" in err


def test_detect_says_where_in_pixels_of_the_original(ssad, run, tmp_path, scratched):
    """A 32 px image shown at 320 x 640: boxes lie in the large image, and the mask has its size."""
    large = tmp_path / "large"
    large.mkdir()
    for i, image in enumerate(scratched(4, 11)):
        small = Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8))
        small.resize((640, 320), Image.Resampling.BILINEAR).save(large / f"{i}.png")
    assert ssad("detect", run, large, "--out", tmp_path / "result", "--false-alarm-rate", 0.5)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "result" / "detections.jsonl").read_text().splitlines()]
    flagged = [row for row in rows if row["verdict"] == "anomaly"]
    assert flagged
    for row in flagged:
        assert Image.open(tmp_path / "result" / row["mask"]).size == (640, 320)
        for (left, top, right, bottom), area in zip(row["boxes"], row["areas"], strict=True):
            assert 0 <= left < right <= 640
            assert 0 <= top < bottom <= 320
            assert 0 < area <= (right - left) * (bottom - top)
    assert any(row["boxes"] for row in flagged)
    assert all(("no single place" in row["remark"]) == (not row["boxes"]) for row in flagged)
    assert all(row["mask"] == "" and row["boxes"] == [] for row in rows if row["verdict"] == "normal")


def verdicts(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8") as file:
        return {row["name"]: row["verdict"] for row in csv.DictReader(file)}


def test_a_false_discovery_rate_is_refused_before_an_earlier_result_is_written_over(ssad, run, tmp_path, stripes):
    images = write(tmp_path / "images", stripes(2, 9))
    arguments = ["detect", run, images, "--out", tmp_path / "result"]
    assert ssad(*arguments)[0] == 0
    code, _, err = ssad(*arguments, "--overwrite", "--fdr", 1.5)
    assert code == 2
    assert "fdr=1.5" in err
    assert (tmp_path / "result" / "detections.csv").is_file()


@pytest.mark.parametrize("fdr", [0.4, 0.6])
def test_detect_with_an_fdr_decides_over_all_images_together(ssad, run, tmp_path, stripes, scratched, monkeypatch, fdr):
    from selector import selection

    mixed = write(tmp_path / "mixed", torch.cat([stripes(6, 9), scratched(6, 10)]))
    expected = load(run).detect(mixed, fdr=fdr).table
    monkeypatch.setattr(selection, "DETECTION_PIXELS", 5 * 32**2)  # in three batches
    code, out, err = ssad("detect", run, mixed, "--out", tmp_path / "result", "--fdr", fdr)
    assert code == 0, err
    assert f"false discovery rate of {fdr}" in out
    written = verdicts(tmp_path / "result" / "detections.csv")
    assert written == dict(zip(expected.name, expected.verdict, strict=True))
    n_anomalies = list(written.values()).count("anomaly")
    assert f"{n_anomalies} of 12 images" in out
    assert n_anomalies > 0
    (tmp_path / "result" / "detections.csv").unlink()
    code, _, err = ssad("detect", run, mixed, "--out", tmp_path / "result")
    assert code == 2
    assert "another run or rate" in err


@pytest.mark.parametrize("option", [[], ["--fdr", 0.4]], ids=["rate", "fdr"])
def test_an_unreadable_image_is_none_of_those_that_are_counted(ssad, run, tmp_path, stripes, monkeypatch, option):
    images = write(tmp_path / "images", stripes(3, 9))
    for i in range(20):
        (images / f"broken {i}.png").write_text("no picture")
    counted = []
    monkeypatch.setattr(command, "fewest_rejected", lambda rate, smallest, n: counted.append(n) or 1)
    code, out, err = ssad("detect", run, images, "--out", tmp_path / "result", "--skip-unreadable", *option)
    assert code == 0, err
    assert " of 3 images are anomalous" in out
    assert counted == ([3] if option else [])


def test_detect_watches_a_folder_and_takes_each_complete_image_once(ssad, run, folders, tmp_path, monkeypatch):
    from selector.detection import watch

    arriving = tmp_path / "arriving"
    arriving.mkdir()
    parts = sorted((folders / "parts").iterdir())
    shutil.copy(parts[0], arriving / "0.png")
    whole = parts[1].read_bytes()
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) <= 4:  # a file that still grows is not complete
            (arriving / "1.png").write_bytes(whole[: len(whole) * len(looks) // 4])
        if len(looks) == 5:
            (arriving / "broken.png").write_text("no picture")
        if len(looks) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", sleep)
    code, out, _ = ssad("detect", run, arriving, "--out", tmp_path / "result", "--watch")
    assert code == 0
    with (tmp_path / "result" / "detections.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["0.png", "1.png", "broken.png"]
    assert rows[2]["verdict"].startswith("unreadable")
    assert out.count("  0.png") == out.count("  1.png") == 1


def test_detect_watches_on_when_the_first_image_is_unreadable(ssad, run, tmp_path, monkeypatch):
    from selector.detection import watch

    arriving = tmp_path / "arriving"
    arriving.mkdir()
    (arriving / "broken.png").write_text("no picture")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", sleep)
    code, out, err = ssad("detect", run, arriving, "--out", tmp_path / "result", "--watch")
    assert code == 0, err
    assert "skipped broken.png" in out
    assert (tmp_path / "result" / "result.json").is_file()
    assert len((tmp_path / "result" / "detections.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_export_writes_programs_that_run_elsewhere(ssad, run, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    from selector import selection

    code, out, err = ssad("export", run, "--out", tmp_path / "exported")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {"model.onnx", "model.pt2", "model.json"}
    assert str(tmp_path / "exported") in out
    assert ssad("export", run, "--out", tmp_path / "exported")[0] == 2
    again = []
    monkeypatch.setattr(selection, "export", lambda outcome, path, overwrite: again.append(overwrite) or Path(path))
    assert ssad("export", run, "--out", tmp_path / "exported", "--overwrite")[0] == 0
    assert again == [True]


def test_report_is_written_again_anywhere(ssad, run, tmp_path):
    code, out, _ = ssad("report", run, "--out", tmp_path / "elsewhere")
    assert code == 0
    assert (tmp_path / "elsewhere" / "index.html").is_file()
    assert "index.html" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select", "--train", "nowhere", "--test", "nowhere", "--out", "run"], "nowhere"),
        (["select", "--train", "{good}", "--test", "{good}", "--out", "run", "--augmentation", "cutot"], "cutout"),
        (["select", "--train", "{parts}", "--test", "{good}", "--out", "run"], "at least 20"),
        (["select", "--train", "{good}", "--test", "{good}", "--out", "run", "--preset", "slow"], "preset"),
        (["detect", "nowhere", "{parts}", "--out", "result"], "holds no run.json"),
        (["detect", "{run}", "nowhere", "--out", "result"], "nowhere"),
        (["detect", "{run}", "{parts}", "--out", "result", "--false-alarm-rate", "0.001"], "support"),
        (["detect", "{run}", "{parts}", "--out", "result", "--fdr", "1.5"], "fdr"),
        (["detect", "{run}", "{parts}", "--out", "result", "--fdr", "0.05"], "fdr=0.05: the smallest p-value"),
        (["detect", "{run}", "{parts}", "--out", "result", "--fdr", "0.1", "--watch"], "--fdr with --watch"),
        (["select", "--train", "{good}", "--out", "run", "--detector", "clasifier"], "did you mean classifier"),
        (["select", "--train", "{good}", "--out", "run", "--scorer", "gausian"], "did you mean gaussian"),
        (["select", "--train", "{good}", "--out", "run", "--encoder", "resnet19"], "did you mean resnet18"),
        (["select", "--train", "{good}", "--out", "run", "--encoder", '{{"name": "lite0", "layer": 3}}'], "layers"),
        (["select", "--train", "{good}", "--out", "run", "--encoder", '{{"name": '], "is no JSON"),
        (["select", "--train", "{good}", "--out", "run", "--grid", "nowhere.json"], "nowhere.json: can't be read"),
        (["report", "nowhere"], "holds no run.json"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(ssad, run, folders, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"good": folders / "good", "parts": folders / "parts", "run": run}
    code, _, err = ssad(*(argument.format(**places) for argument in arguments))
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free space"), (errno.EROFS, "make it writable")])
def test_a_disk_that_fails_any_command_is_one_sentence(ssad, monkeypatch, code, remedy):
    """Commands that other packages add write on their own."""

    def fail():
        raise OSError(code, os.strerror(code), "some/table.csv")

    monkeypatch.setattr(command, "app", fail)
    monkeypatch.setattr(command, "_add_commands", lambda arguments: None)
    ended, _, err = ssad("benchmark")
    assert ended == 2
    assert err.startswith("ssad: some/table.csv: can't be written to")
    assert remedy in err
    assert len(err.splitlines()) == 1


def failing_with(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(command, "app", fail)
    monkeypatch.setattr(command, "_add_commands", lambda arguments: None)


MACHINE = [
    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB."),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    WorkerDiedError("its worker process was killed 3 times, the last time by SIGKILL(-9)"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    OSError(errno.EMFILE, os.strerror(errno.EMFILE), "images/a.png"),
]


@pytest.mark.parametrize("error", MACHINE, ids=lambda error: type(error).__name__)
def test_a_machine_that_fails_any_command_is_one_sentence(ssad, monkeypatch, error):
    failing_with(monkeypatch, error)
    ended, _, err = ssad("report")
    assert ended == 2
    assert err.startswith("ssad: the machine ")
    assert type(error).__name__ in err
    assert "free memory, or use fewer --jobs, and run the same command again" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), FileNotFoundError(2, "no file", "x"), KeyError("x")])
def test_an_error_of_our_own_is_none_of_the_machine(monkeypatch, error):
    failing_with(monkeypatch, error)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(type(error)):
        command.main()


def test_a_fold_that_runs_out_of_memory_is_one_sentence(ssad, run, folders, tmp_path, monkeypatch):
    from selector.detection import cross_conformal

    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    arguments = ["detect", copy, folders / "parts", "--out", tmp_path / "result", "--cross", "--device", "cpu"]

    def fit(job):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cross_conformal, "fit_fold", fit)
    monkeypatch.setattr("selector.execution.joblib.cpu_count", lambda: 1)  # in this process
    code, _, err = ssad(*arguments)
    assert code == 2
    assert "the machine" in err
    assert "CUDA out of memory" in err


def test_unreadable_images_are_named_and_skipped_only_on_request(ssad, folders, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    for path in (folders / "good").iterdir():
        (good / path.name).write_bytes(path.read_bytes())
    (good / "notes.png").write_text("not a picture")
    (good / "empty.png").touch()
    arguments = ["select", "--train", good, "--test", folders / "incoming", "--out", tmp_path / "run", *FAST]
    code, _, err = ssad(*arguments)
    assert code == 2
    assert "notes.png" in err
    assert "empty.png" in err
    code, _, _ = ssad(*arguments, "--skip-unreadable")
    assert code == 0
    assert "notes.png" in (tmp_path / "run" / "run.json").read_text()
    assert "notes.png" in (tmp_path / "run" / "index.html").read_text()


def test_help_lists_the_commands_including_those_of_other_packages(ssad, monkeypatch):
    for added in ("registered_commands", "registered_groups"):
        monkeypatch.setattr(command.app, added, [*getattr(command.app, added)])
    code, out, _ = ssad("--help")
    assert code == 0
    for name in ("select", "detect", "report", "demo", "benchmark"):
        assert name in out


def test_help_says_what_cross_promises(ssad, monkeypatch):
    monkeypatch.setattr(command, "_add_commands", lambda arguments: None)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = ssad("detect", "--help")
    words = " ".join(re.sub(r"[^\w.;]+", " ", out).split())
    assert code == 0
    assert "Twice the rate is promised; the images took part in the choice of the detector." in words


class TestOtherCommands:
    """Those of other packages, which take long to load."""

    @pytest.fixture
    def loaded(self, monkeypatch):
        def entries(group):
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "entry_points", entries)

    def test_they_are_not_loaded_for_one_of_ours(self, loaded, ssad, tmp_path):
        code, _, err = ssad("report", tmp_path)
        assert code == 2
        assert "holds no" in err

    def test_ctrl_c_while_they_load_is_an_exit_code(self, loaded, ssad):
        assert ssad("demo") == (130, "", "")
