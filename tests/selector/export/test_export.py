"""What is exported does what the detector does, carries its calibration, and needs nothing of ours to run."""

import errno
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import augmentations
from augmentations import InputError
from augmentations.randomness import generator
from detectors import PRESETS, Ensemble, PatchClassifier, PatchSettings, files, get_preset
from selector import select_best
from selector.detection.conformal import p_values, without_rounding
from selector.export import ExportError, export, formats
from selector.export.export import DESCRIPTION, ROUNDING, Calibrated, tolerance
from selector.export.formats import ONNX, TORCH
from selector.zoo.disk import StorageError

ULP = torch.finfo(torch.float32).eps
REASON = "the extra `export` is not installed"
onnx = pytest.importorskip("onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
pytest.importorskip("onnxscript", reason=REASON)

exporting = sys.modules["selector.export.export"]
SCRIPT = Path(__file__).parents[3] / "docs" / "run_onnx.py"
CASES = {
    "small, gray": ("classifier", "tiny", 1, 40, ("cutout",)),
    "resnet18, colour": ("classifier", "tiny resnet18", 3, 24, ("cutout",)),
    "patches, colour": ("patch", "tiny", 3, 24, ("cutout",)),
    "ensemble, gray": ("classifier", "tiny", 1, 40, ("cutout", "cutpaste")),
}
ONE_CASE = pytest.mark.parametrize("case", ["small, gray"], indirect=True)


@pytest.fixture(scope="module")
def colour(stripes, scratched):
    """n normal images and k with a blot, (n+k,channels,32,32)."""

    def make(channels: int, n: int, k: int = 0, seed: int = 0) -> torch.Tensor:
        gray = torch.cat([stripes(n, seed), scratched(k, seed + 1)])
        return gray * torch.linspace(1, 0.6, channels)[:, None, None]

    return make


@pytest.fixture(
    scope="module",
    params=[
        "small, gray",
        pytest.param("resnet18, colour", marks=pytest.mark.drill),
        pytest.param("patches, colour", marks=pytest.mark.slow),
        pytest.param("ensemble, gray", marks=pytest.mark.slow),
    ],
)
def case(request, colour, tmp_path_factory):
    """A selection, its exported folder, and its number of channels."""
    detector, preset_name, channels, n, augmentations = CASES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        resnet18 = replace(get_preset("standard"), steps=2, batch=8, image_size=32, head=(64,))
        patch.setitem(PRESETS, "tiny resnet18", resnet18)
        selection = select_best(
            colour(channels, n),
            colour(channels, 3, 2, seed=5),
            augmentations={name: [{}] for name in augmentations},
            detectors=(detector,),
            preset=preset_name,
            jobs=1,
            device="cpu",
        )
    return selection, export(selection, tmp_path_factory.mktemp("export") / "exported"), channels


@pytest.fixture(scope="module")
def programs(case):
    """Images to score, map and p_value, by file."""
    _, folder, _ = case
    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    module = torch.export.load(folder / TORCH).module()

    def run_onnx(images):
        return map(torch.from_numpy, session.run(["score", "map", "p_value"], {"images": images.numpy()}))

    return {ONNX: run_onnx, TORCH: torch.no_grad()(module)}


@pytest.mark.parametrize("n", [1, 3, 17])
def test_both_programs_agree_with_the_detector_at_any_batch_size(case, programs, colour, n):
    selection, _, channels = case
    images = colour(channels, n - n // 2, n // 2, seed=20)
    found = selection.detect(images)
    for program in programs.values():
        score, score_map, p_value = program(images)
        torch.testing.assert_close(score, found.scores, rtol=1e-4, atol=0)
        torch.testing.assert_close(score_map, found.maps, rtol=1e-4, atol=0)
        assert torch.equal(p_value, found.p_values)


def test_calibration_images_keep_their_p_values_though_scores_are_rounded(case, programs):
    """A score is as often rounded up as down: without an allowance half of these would lose a step."""
    selection, _, _ = case
    images = selection.zoo.store.images["calibration"]
    for program in programs.values():
        _, _, p_value = program(images)
        assert torch.equal(p_value, selection.detect(images).p_values)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_a_program_of_scores_about_any_zero_decides_as_the_detector(offset):
    """What is allowed for rounding is no share of how far the zero is, which says nothing."""

    class Scored(nn.Module):
        def forward(self, scores):
            return scores, scores

    calibration, scores = (offset + 30 * torch.randn(40, generator=generator(seed, "scores")) for seed in (0, 1))
    program = Calibrated(Scored(), calibration, tolerance(calibration, ROUNDING, is_distance=False))
    of_detector = p_values(calibration, without_rounding(calibration, scores))
    more = program(scores)[2] - of_detector
    assert more.min() >= 0
    assert more.max() <= 2.001 / 41
    assert (program(calibration + ULP * calibration.abs())[2] >= p_values(calibration, calibration)).all()


def test_the_onnx_file_is_valid_and_names_its_ends(case):
    _, folder, channels = case
    model = onnx.load(folder / ONNX)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["N", channels, 32, 32], "score": ["N"], "map": ["N", 32, 32], "p_value": ["N"]}
    assert {entry.domain for entry in model.opset_import} == {""}


def test_the_description_says_what_detect_decides_by(case, colour):
    selection, folder, channels = case
    about = json.loads((folder / DESCRIPTION).read_text(), parse_constant=pytest.fail)
    found = selection.detect(colour(channels, 1))
    assert about["channels"] == channels
    assert about["image_size"] == 32
    assert about["false_alarm_rate"] == found.false_alarm_rate
    assert about["smallest_false_alarm_rate"] == 1 / (found.n_calibration + 1)
    assert tuple(about["map_scale"].values()) == selection.map_scale
    calibration = selection.zoo.calibration([member.id for member in selection.members])["scores"]
    assert about["calibration_scores"] == calibration.tolist()
    assert [member["id"] for member in about["members"]] == [member.id for member in selection.members]
    assert {"ssad", "torch", "onnx", "onnxruntime"} <= about["versions"].keys()


def test_nothing_exported_is_pickled_or_names_this_machine(case):
    _, folder, _ = case
    assert sorted(path.name for path in folder.iterdir()) == sorted([ONNX, TORCH, DESCRIPTION])
    assert formats.pickles((folder / TORCH).read_bytes()) == []
    with zipfile.ZipFile(folder / TORCH) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert not any(name.endswith((".pkl", ".pickle")) for name in parts)
    assert not any(content.startswith(b"PK") for content in parts.values())  # torch.save writes zips
    for content in (*parts.values(), (folder / ONNX).read_bytes(), (folder / DESCRIPTION).read_bytes()):
        for place in ("site-packages", "selector/export/", str(Path.home()) + "/", str(folder.parent)):
            assert place.encode() not in content


def test_the_script_says_what_detect_says_without_torch(case, colour, tmp_path):
    selection, folder, _ = case
    paths = []
    for kind, size in product((1, 3), [(32, 32), (50, 41)]):  # the trained size, and another
        pixels = nn.functional.interpolate(colour(kind, 3, 2, seed=30), size)
        for i, image in enumerate((255 * pixels).round().byte().permute(0, 2, 3, 1).numpy()):
            paths.append(tmp_path / f"{kind}-{size[0]}-{i}.png")
            Image.fromarray(image.squeeze()).save(paths[-1])
    alone = (
        "import sys, runpy\n"
        "sys.modules |= dict.fromkeys(['torch', 'torchvision', 'augmentations', 'detectors', 'selector'])\n"
        "runpy.run_path(sys.argv.pop(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", alone, SCRIPT, folder, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = selection.detect(paths)
    assert [row[0] for row in rows] == [str(path) for path in paths]
    np.testing.assert_allclose([float(row[1]) for row in rows], found.scores, rtol=1e-4)
    np.testing.assert_allclose([float(row[2]) for row in rows], found.p_values, rtol=1e-4)
    assert [row[3] for row in rows] == found.table.verdict.tolist()


@ONE_CASE
def test_the_script_refuses_an_image_that_it_would_read_differently(case, tmp_path):
    Image.new("RGBA", (32, 32)).save(tmp_path / "clear.png")
    command = [sys.executable, SCRIPT, case[1], tmp_path / "clear.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "clear.png: mode RGBA" in done.stderr


def test_the_script_is_short():
    assert len(SCRIPT.read_text().splitlines()) <= 30


# What goes wrong --------------------------------------------------------------------------------------------------


@pytest.fixture
def written(case, monkeypatch):
    """A selection whose programs are not traced again: those of its exported folder are taken."""
    selection, folder, _ = case
    monkeypatch.setattr(exporting, "_traced", lambda *_: None)
    monkeypatch.setattr(exporting, "onnx_bytes", lambda _: (folder / ONNX).read_bytes())
    monkeypatch.setattr(exporting, "torch_bytes", lambda _: (folder / TORCH).read_bytes())
    return selection


WRONG = {
    "score": lambda score, maps, p: (score * 1.001, maps, p),
    "map": lambda score, maps, p: (score, maps * torch.linspace(1, 1.01, 32), p),
    "p-values": lambda score, maps, p: (score, maps, p / 2),
    "score deviates from the detector's by nan": lambda score, maps, p: (score * float("nan"), maps, p),
}


@ONE_CASE
@pytest.mark.parametrize(
    ("message", "reader"), [*((message, "onnx_program") for message in WRONG), ("map", "torch_program")]
)
def test_a_program_that_deviates_is_refused_and_nothing_is_left(written, monkeypatch, tmp_path, message, reader):
    right = getattr(exporting, reader)

    def wrong(content):
        program = right(content)
        return lambda images: WRONG[message](*program(images))

    monkeypatch.setattr(exporting, reader, wrong)
    with pytest.raises(ExportError, match=message):
        export(written, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@ONE_CASE
def test_a_deviation_in_the_traced_program_is_found(case, monkeypatch, tmp_path):
    """End to end: the map of the program itself is off by 0.1 %."""

    class Deviating(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, images):
            score, score_map = self.module(images)
            return score, 1.001 * score_map

    right = exporting._on_cpu
    monkeypatch.setattr(exporting, "_on_cpu", lambda detector: Deviating(right(detector)))
    with pytest.raises(ExportError, match=r"model.onnx: its map deviates .* by 0\.001"):
        export(case[0], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@ONE_CASE
@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(case, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package},.*pip install 'ssad\[export\]'"):
        export(case[0], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@ONE_CASE
def test_a_folder_that_holds_something_is_refused_unless_overwritten(written, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ONNX).write_text("old")
    with pytest.raises(InputError, match="already holds something"):
        export(written, tmp_path)
    assert (tmp_path / ONNX).read_text() == "old"
    export(written, tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine.txt", ONNX, TORCH, DESCRIPTION])
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / ONNX).read_bytes() != b"old"


@ONE_CASE
@pytest.mark.parametrize("moved", [[], [ONNX], [ONNX, TORCH, DESCRIPTION]])
def test_an_export_that_was_killed_is_done_again(written, tmp_path, moved):
    draft = tmp_path / f".export.{os.getpid()}.tmp"
    draft.mkdir()
    for name in {ONNX, TORCH, DESCRIPTION} - set(moved):
        (draft / name).write_text("half")
    for name in moved:
        (tmp_path / name).write_text("half")
    export(written, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ONNX, TORCH, DESCRIPTION])
    assert (tmp_path / ONNX).read_bytes() != b"half"


@ONE_CASE
def test_other_files_beside_a_killed_export_are_not_written_over(written, tmp_path):
    (tmp_path / f".export.{os.getpid()}.tmp").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds something"):
        export(written, tmp_path)


@ONE_CASE
def test_a_file_in_the_place_of_the_folder_is_refused(written, tmp_path):
    (tmp_path / "exported").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        export(written, tmp_path / "exported", overwrite=True)


@ONE_CASE
@pytest.mark.parametrize("present", [False, True], ids=["new folder", "earlier export"])
def test_a_full_disk_leaves_the_folder_as_it_was(written, monkeypatch, tmp_path, present):
    folder = tmp_path / "exported"
    if present:
        export(written, folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    right = files.write_bytes

    def full(path, content):
        if path.name == DESCRIPTION:
            raise OSError(errno.ENOSPC, "full")
        return right(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(StorageError, match="nothing half-done"):
        export(written, folder, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert folder.exists() == present


@ONE_CASE
def test_a_detector_without_a_program_is_refused(written, monkeypatch, tmp_path):
    monkeypatch.setattr(written.detector, "obstacle_to_export", lambda: "it asks a server", raising=False)
    with pytest.raises(InputError, match="detector 'classifier': can't be exported: it asks a server"):
        export(written, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("encoder", "stride", "can_be"), [("unpadded", 4, True), ("unpadded", 3, False), ("small", 4, False)]
)
def test_patches_can_be_exported_where_one_pass_scores_them_all(encoder, stride, can_be):
    settings = PatchSettings(encoder, 32, head=(8,), steps=3, batch=4, stride=stride)
    detector = PatchClassifier(settings, augmentations.make("cutout"), device="cpu")
    obstacles = detector.obstacle_to_export(), Ensemble([detector]).obstacle_to_export()
    assert [obstacle == "" for obstacle in obstacles] == [can_be, can_be]


def test_an_archive_with_pickles_is_refused():
    """torch pickles the example inputs of a program that keeps them."""
    program = torch.export.export(nn.Linear(2, 1), (torch.rand(1, 2),), strict=False)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    assert len(formats.pickles(buffer.getvalue())) == 1
    with pytest.raises(InputError, match="pickles parts"):
        formats.torch_bytes(program)
