"""The chosen detector as programs that run without this package: ONNX and torch.export."""

import json
import os
import platform
import shutil
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from augmentations import InputError
from detectors import Detector, files
from selector.detection.conformal import (
    Groups,
    image_weights,
    min_false_alarm_rate,
    n_units,
    p_values,
    score_rounding,
    validate_rate,
    without_rounding,
)
from selector.export.formats import (
    BATCH_NAME,
    INPUT,
    ONNX,
    OPSET,
    TORCH,
    ExportError,
    Program,
    onnx_bytes,
    onnx_program,
    torch_bytes,
    torch_program,
)
from selector.inputs.versions import installed_version
from selector.outcome import Outcome
from selector.zoo.disk import disk_errors

DESCRIPTION = "model.json"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of scores and maps against the detector's, as a share of their unit (``unit_of``)
# Float32 programs that differ only in the order of their sums stay well within this share of a score.
ROUNDING = 1e-5
ULPS = 4  # float32 roundings of the largest score: a far zero costs its small differences so much
SUM_ROUNDING = 1e-9  # of a sum of weights, in p-values
P_VALUE = (
    "anomalous if <= false_alarm_rate; never below that of `ssad detect`, and above it only where a calibration score "
    "lies within rounding below the image's"
)
BATCH = 64  # calibration images a check runs at once
TRACED = 2  # images that the programs are traced with: a batch of one would be taken for a constant


def export(outcome: Outcome, path: str | Path, overwrite: bool = False) -> Path:
    """Write the chosen detector, with its calibration, as programs for other runtimes.

    model.onnx and model.pt2 (``torch.export``) take ``images`` (N,C,S,S) float32 in [0,1], of the channels and the
    size trained on, any N >= 1; they give ``score`` (N,) and ``map`` (N,S,S) float32, and ``p_value`` (N,) float64.
    model.json says what these mean: sizes, calibration scores, false-alarm rates, the scale of maps, versions.

    All of it is checked against the detector on the calibration images before anything is written. No file holds a
    pickle: the .pt2 is a zip of JSON and raw tensors, its example inputs left out because torch would pickle them.

    Args:
        outcome: The finished selection.
        path: A folder, new or empty.
        overwrite: Replace the three files of an earlier export there, and nothing else.

    Returns:
        The folder.

    Raises:
        InputError: Packages for the export are missing, the folder holds something, or the detector can't be exported.
        ExportError: A program deviates from the detector by more than 1e-4.
        StorageError: The folder can't be written to.
    """
    _require_packages()
    folder = Path(path)
    _require_space(folder, overwrite)
    settings, detector = outcome.zoo.store.run["settings"], outcome.detector
    members = [member.id for member in outcome.members]
    calibration, groups = outcome.zoo.calibration(members)["scores"], outcome.calibration_groups
    units = n_units(len(calibration), groups)
    images = outcome.zoo.store.images["calibration"]

    allowed = tolerance(calibration, ROUNDING, detector.score_is_distance)
    program = _traced(Calibrated(_on_cpu(detector), calibration, allowed, groups), images)
    expected = detector.score(images), detector.score_map(images)
    contents, agreement = {}, {}
    for name, written, reader in ((ONNX, onnx_bytes, onnx_program), (TORCH, torch_bytes, torch_program)):
        contents[name] = written(program)
        agreement[name] = _check(
            name, reader(contents[name]), images, expected, calibration, groups, detector.score_is_distance
        )

    scale = outcome.map_scale
    contents[DESCRIPTION] = json.dumps(
        {
            "input": {"name": INPUT, "shape": [BATCH_NAME, *images.shape[1:]], "type": "float32", "range": [0, 1]},
            "outputs": {
                "score": {"shape": [BATCH_NAME], "type": "float32", "meaning": "higher is more anomalous"},
                "map": {"shape": [BATCH_NAME, *images.shape[2:]], "type": "float32", "meaning": "score by pixel"},
                "p_value": {"shape": [BATCH_NAME], "type": "float64", "meaning": P_VALUE},
            },
            "channels": settings["channels"],
            "image_size": settings["image_size"],
            "false_alarm_rate": validate_rate(None, units),
            "smallest_false_alarm_rate": min_false_alarm_rate(units),
            "map_scale": {"low": scale[0], "high": scale[1]},
            "calibration_scores": calibration.tolist(),
            "calibration_groups": groups,
            "members": [member.to_json() | {"id": member.id} for member in outcome.members],
            "agreement": agreement,
            "opset": OPSET,
            "versions": {"python": platform.python_version()}
            | {package: installed_version(package) for package in ("ssad", "torch", *PACKAGES)},
        },
        indent=1,
        allow_nan=False,
    ).encode()
    with disk_errors(folder, kept="nothing half-done was left there"):
        _write(folder, contents)
    return folder


# The program ------------------------------------------------------------------------------------------------------


class Calibrated(nn.Module):
    """A detector's program, and the conformal p-value of its score.

    Where calibration images have groups, each group counts once. A p-value counts a calibration score that is lower by
    rounding only as at or above: by what ``without_rounding`` allows a detector, and by ``allowed``, which the program
    may add. It is then never smaller than the detector's own, and the false-alarm rate holds for the program too.
    """

    calibration: Tensor
    weights: Tensor

    def __init__(self, program: nn.Module, calibration: Tensor, allowed: float, groups: Groups | None = None) -> None:
        super().__init__()
        self.program = program
        self.register_buffer("calibration", (calibration + allowed + score_rounding(calibration)).float())
        self.register_buffer("weights", image_weights(len(calibration), groups))
        self.units = n_units(len(calibration), groups)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, maps = self.program(images)
        above = ((self.calibration >= score[:, None]) * self.weights).sum(1)
        # In double, as the detector's: 1 / (h + 1) rounded up would exceed the smallest false-alarm rate.
        return score, maps, (1 + above) / (1 + self.units)


def _on_cpu(detector: Detector) -> nn.Module:
    """The detector's scoring graph, a copy of its own on the CPU."""
    obstacle = detector.obstacle_to_export()
    if obstacle:
        raise InputError(f"detector {detector.name!r}", f"can't be exported: {obstacle}", "select another one")
    return deepcopy(detector.module()).to("cpu").to(memory_format=torch.contiguous_format).eval()


def _traced(module: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    example = images[:1].expand(TRACED, -1, -1, -1).contiguous()
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever a kind or scorer from outside does that torch can't follow
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"torch.export can't trace the scoring graph ({reason}). Nothing was written") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names the folders of the machine it was traced on
    program.example_inputs = None  # torch would pickle them
    return program


# The check --------------------------------------------------------------------------------------------------------


def _check(
    name: str,
    program: Program,
    images: Tensor,
    expected: tuple[Tensor, Tensor],
    calibration: Tensor,
    groups: Groups | None,
    is_distance: bool,
) -> dict[str, float]:
    """How far the program's scores and maps are from the detector's, alone and in batches."""
    ran = [program(batch) for batch in (images[:1], *images.split(BATCH))]
    score, maps, p = (torch.cat(parts) for parts in zip(*ran, strict=True))
    scores, score_maps = (torch.cat([values[:1], values]) for values in expected)
    deviations = {}
    for output, values, wanted in (("score", score, scores), ("map", maps, score_maps)):
        difference = (values - wanted).abs().max().item()
        deviations[output] = difference / unit_of(wanted, is_distance)
        if not difference <= tolerance(wanted, TOLERANCE, is_distance):  # NaN too
            raise ExportError(
                f"{name}: its {output} deviates from the detector's by {deviations[output]:.2g} of its "
                f"{'mean magnitude' if is_distance else 'range'} on the calibration images; at most {TOLERANCE:g} is "
                "allowed. Nothing was written"
            )
    slack = tolerance(scores, TOLERANCE, is_distance)
    lowered = without_rounding(calibration, scores)
    least, most = (p_values(calibration, lowered + shift, groups) for shift in (slack, -2 * slack))
    if not ((p >= least - SUM_ROUNDING) & (p <= most + SUM_ROUNDING)).all():
        raise ExportError(f"{name}: its p-values do not follow from the calibration scores. Nothing was written")
    return deviations


def unit_of(scores: Tensor, is_distance: bool) -> float:
    """What differences of scores, or of maps, are a share of: the mean magnitude of distances; of others, whose zero
    may lie anywhere, their range where that is smaller."""
    magnitude, extent = scores.abs().mean().item(), (scores.max() - scores.min()).item()
    return (magnitude if is_distance or extent == 0 else min(magnitude, extent)) or 1.0


def tolerance(scores: Tensor, share: float, is_distance: bool) -> float:
    """How far scores may differ: by a share of their unit; others than distances also by what float32 can't hold."""
    rounding = 0.0 if is_distance else ULPS * torch.finfo(torch.float32).eps * scores.abs().max().item()
    return share * unit_of(scores, is_distance) + rounding


# The folder -------------------------------------------------------------------------------------------------------


def _require_packages() -> None:
    missing = []
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise InputError("export", f"needs {', '.join(missing)}, not installed here", "pip install 'ssad[export]'")


def _require_space(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "is a file", "name a folder for the exported programs")
    if folder.is_dir() and not overwrite and any(folder.iterdir()) and not _unfinished(folder):
        raise InputError(str(folder), "already holds something", "choose a new folder, or pass overwrite=True")


def _unfinished(folder: Path) -> bool:
    """Whether it holds an export that was killed, and nothing else: its draft is removed after all else is done."""
    drafts = {path.name for path in files.drafts(folder)}
    return bool(drafts) and {path.name for path in folder.iterdir()} <= {ONNX, TORCH, DESCRIPTION, *drafts}


def _write(folder: Path, contents: dict[str, Any]) -> None:
    """Write all files aside, then put them in place, the description last: a folder that has one is whole."""
    draft = folder / f".export.{os.getpid()}.tmp"
    present = folder.exists()
    try:
        files.remove_drafts(folder)
        for name, content in contents.items():
            files.write_bytes(draft / name, content)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        for name in contents:
            (draft / name).replace(folder / name)
    except BaseException:
        if not present:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
