"""The chosen detector as programs that run without this package: ONNX and torch.export."""

import io
import json
import os
import platform
import shutil
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from augmentations import InputError
from detectors import Classifier, Detector, Ensemble, PatchClassifier, dense_embeddings, dense_map, files
from detectors.classifier import locations, upsample
from detectors.encoders import ENCODERS, pool
from detectors.ensemble import highest
from detectors.patch_classifier import relative
from detectors.patch_density import PER_LOCATION
from selector.detection.conformal import min_false_alarm_rate, p_values, validate_rate
from selector.zoo.store import disk_errors

if TYPE_CHECKING:
    from selector.selection import Selection

ONNX, TORCH, DESCRIPTION = "model.onnx", "model.pt2", "model.json"
INPUT, OUTPUTS, BATCH_NAME = "images", ("score", "map", "p_value"), "N"
OPSET = 18  # of ONNX: the oldest that torch's exporter writes without converting, so the one most runtimes know
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of scores and maps against the detector's, as a share of their mean magnitude
# Float32 programs that differ only in the order of their sums stay well within this share of a score.
ROUNDING = 1e-5
BATCH = 64  # calibration images a check runs at once
TRACED = 2  # images that the programs are traced with: a batch of one would be taken for a constant

# A batch (N,C,S,S) to score (N,), map (N,S,S) and p-value (N,).
Program = Callable[[Tensor], tuple[Tensor, ...]]


class ExportError(RuntimeError):
    """An exported program does not do what the detector does; the message tells by how much. Nothing was written."""


def export(selection: "Selection", path: str | Path, overwrite: bool = False) -> Path:
    """Write the chosen detector, with its calibration, as programs for other runtimes; returns the folder.

    model.onnx and model.pt2 (``torch.export``) take ``images`` (N,C,S,S) float32 in [0,1], of the channels and the
    size trained on, any N >= 1; they give ``score`` (N,) and ``map`` (N,S,S) float32, and ``p_value`` (N,) float64.
    model.json says what these mean: sizes, calibration scores, false-alarm rates, the scale of maps, versions.

    All of it is checked against the detector on the calibration images before anything is written. No file holds a
    pickle: the .pt2 is a zip of JSON and raw tensors, its example inputs left out because torch would pickle them.

    Raises InputError when the packages for it are missing, when ``path`` holds something (``overwrite`` replaces
    those three files and nothing else), and for a detector that has no such program; ExportError when a program
    deviates from the detector by more than 1e-4; StorageError when ``path`` can't be written to.
    """
    _require_packages()
    folder = Path(path)
    _require_room(folder, overwrite)
    settings, detector = selection.zoo.store.run["settings"], selection.detector
    members = [member.id for member in selection.members]
    calibration = selection.zoo.calibration(members)["scores"]
    images = selection.zoo.store.images["calibration"]

    program = _traced(Calibrated(_program_of(detector, settings["image_size"]), calibration), images)
    expected = detector.score(images), detector.score_map(images)
    contents, agreement = {}, {}
    for name, written, reader in ((ONNX, _onnx_bytes, _onnx_program), (TORCH, _torch_bytes, _torch_program)):
        contents[name] = written(program)
        agreement[name] = _check(name, reader(contents[name]), images, expected, calibration)

    scale = selection.map_scale
    contents[DESCRIPTION] = json.dumps(
        {
            "input": {"name": INPUT, "shape": [BATCH_NAME, *images.shape[1:]], "type": "float32", "range": [0, 1]},
            "outputs": {
                "score": {"shape": [BATCH_NAME], "type": "float32", "meaning": "higher is more anomalous"},
                "map": {"shape": [BATCH_NAME, *images.shape[2:]], "type": "float32", "meaning": "score by pixel"},
                "p_value": {"shape": [BATCH_NAME], "type": "float64", "meaning": "anomalous if <= false_alarm_rate"},
            },
            "channels": settings["channels"],
            "image_size": settings["image_size"],
            "false_alarm_rate": validate_rate(None, len(calibration)),
            "smallest_false_alarm_rate": min_false_alarm_rate(len(calibration)),
            "map_scale": {"low": scale[0], "high": scale[1]},
            "calibration_scores": calibration.tolist(),
            "members": [member.to_json() | {"id": member.id} for member in selection.members],
            "agreement": agreement,
            "opset": OPSET,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("ssad", "torch", *PACKAGES)},
        },
        indent=1,
        allow_nan=False,
    ).encode()
    with disk_errors(folder, kept="nothing half-done was left there"):
        _write(folder, contents)
    return folder


# The program ------------------------------------------------------------------------------------------------------


class DetectorProgram(nn.Module, ABC):
    """What a detector does to images (N,C,S,S), on the CPU."""

    def __init__(self, detector: Classifier, image_size: int) -> None:
        super().__init__()
        self.size = image_size, image_size
        self.encoder = deepcopy(detector.encoder).to("cpu").to(memory_format=torch.contiguous_format).eval()
        self.kinds = {part: type(getattr(detector, part)) for part in detector.densities}
        for part in detector.densities:
            for name, tensor in getattr(detector, part).state().items():
                self.register_buffer(f"{part}_{name}", tensor.detach().cpu().clone())

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) and maps (N,S,S), as the detector gives them."""

    def score_rows(self, part: str, rows: Tensor) -> Tensor:
        """The scores that one of the detector's densities gives rows of features."""
        buffers = {name: tensor for name, tensor in self.named_buffers(recurse=False) if name.startswith(f"{part}_")}
        state = {name.removeprefix(f"{part}_"): tensor for name, tensor in buffers.items()}
        return self.kinds[part].from_state(state).score(rows)


class ClassifierProgram(DetectorProgram):
    """As ``detectors.Classifier`` scores images."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)
        maps = upsample(self.score_rows("spatial", locations(features)), self.size)
        return self.score_rows("scorer", pool(features)), maps


class PatchProgram(DetectorProgram):
    """As ``detectors.PatchClassifier`` scores images, in one convolutional pass.

    Raises InputError for an encoder that must see patch by patch: that program would hold all patches at once.
    """

    def __init__(self, detector: PatchClassifier, image_size: int) -> None:
        super().__init__(detector, image_size)
        self.patch, self.stride, encoder = detector.settings.patch, detector.settings.stride, detector.settings.encoder
        self.dense_strides = ENCODERS[encoder].dense_strides
        self.by_location = detector.layout == PER_LOCATION
        if self.dense_strides is None or self.stride % self.dense_strides[-1]:
            raise InputError(
                f"encoder {encoder!r} every {self.stride} px",
                "scores patch by patch, which has no program to export",
                "select with the encoder 'valid' and its stride, as the presets do",
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = relative(dense_embeddings(self.encoder, images, self.patch, self.stride, self.dense_strides))
        if self.by_location:
            scores = self.score_rows("scorer", patches)
        else:
            scores = self.score_rows("scorer", patches.flatten(0, 2)).view(patches.shape[:-1])
        return scores.amax((1, 2)), dense_map(scores, self.patch, self.stride, self.size)


PROGRAMS: dict[str, type[DetectorProgram]] = {"classifier": ClassifierProgram, "patch": PatchProgram}


class EnsembleProgram(nn.Module):
    """As ``detectors.Ensemble`` scores images: the highest of its members' scores and maps."""

    def __init__(self, ensemble: Ensemble, image_size: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(_program_of(member, image_size) for member in ensemble.members)
        self.normal, self.normal_in_maps = ensemble.normal, ensemble.normal_in_maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores, maps = zip(*(member(images) for member in self.members), strict=True)
        return highest(scores, self.normal), highest(maps, self.normal_in_maps)


class Calibrated(nn.Module):
    """A detector's program, and the conformal p-value of its score.

    A p-value counts a calibration score that is lower by rounding only as at or above: rounding then never makes
    it smaller than the detector's own, and the false-alarm rate holds for the program too.
    """

    calibration: Tensor

    def __init__(self, program: nn.Module, calibration: Tensor) -> None:
        super().__init__()
        self.program = program
        allowed = ROUNDING * calibration.abs().mean()
        self.register_buffer("calibration", (calibration + allowed).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, maps = self.program(images)
        above = (self.calibration >= score[:, None]).sum(1)
        # In double, as the detector's: 1 / (h + 1) rounded up would exceed the smallest false-alarm rate.
        return score, maps, (1 + above).double() / (1 + len(self.calibration))


def _program_of(detector: Detector, image_size: int) -> nn.Module:
    if isinstance(detector, Ensemble):
        return EnsembleProgram(detector, image_size).eval()
    if detector.name not in PROGRAMS or not isinstance(detector, Classifier):
        raise InputError(
            f"detector {detector.name!r}", "has no program to export", f"select among: {', '.join(PROGRAMS)}"
        )
    return PROGRAMS[detector.name](detector, image_size).eval()


def _traced(module: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    example = images[:1].expand(TRACED, -1, -1, -1).contiguous()
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names the folders of the machine it was traced on
    program.example_inputs = None  # torch would pickle them
    return program


# Its two forms ----------------------------------------------------------------------------------------------------


def _onnx_bytes(program: torch.export.ExportedProgram) -> bytes:
    import onnx

    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            external_data=False,
            verbose=False,
        )
    if written is None:
        raise ExportError(f"{ONNX}: torch's exporter gave no program")
    proto = written.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # notes of the exporter on itself
    symbol = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == symbol:
                side.dim_param = BATCH_NAME
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    pickled = pickles(buffer.getvalue())
    if pickled:
        raise InputError(
            f"torch {version('torch')}",
            f"pickles parts of an exported program ({', '.join(pickled)}), and no file here may hold a pickle",
            "pip install --upgrade torch",
        )
    return buffer.getvalue()


def pickles(content: bytes) -> list[str]:
    """The parts of a .pt2 archive that are pickled; ``torch.export.save`` writes raw tensors and JSON otherwise."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = [part.filename for part in archive.infolist() if part.filename.endswith(".pt") and part.file_size]
        for name in archive.namelist():
            if name.endswith("_config.json"):
                config = json.loads(archive.read(name)).get("config", {})
                found += [f"{name}: {tensor}" for tensor, entry in config.items() if entry.get("use_pickle")]
    return found


def _onnx_program(content: bytes) -> Program:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: tuple(map(torch.from_numpy, session.run(list(OUTPUTS), {INPUT: images.numpy()})))


def _torch_program(content: bytes) -> Program:
    with _quiet():
        module = torch.export.load(io.BytesIO(content)).module()
    return torch.no_grad()(module)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters warn of their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# The check --------------------------------------------------------------------------------------------------------


def _check(
    name: str, program: Program, images: Tensor, expected: tuple[Tensor, Tensor], calibration: Tensor
) -> dict[str, float]:
    """How far the program's scores and maps are from the detector's, alone and in batches."""
    ran = [program(batch) for batch in (images[:1], *images.split(BATCH))]
    score, maps, p = (torch.cat(parts) for parts in zip(*ran, strict=True))
    scores, score_maps = (torch.cat([values[:1], values]) for values in expected)
    found = {"score": deviation(score, scores), "map": deviation(maps, score_maps)}
    for output, value in found.items():
        if not value <= TOLERANCE:  # NaN too
            raise ExportError(
                f"{name}: its {output} deviates from the detector's by {value:.2g} of its mean magnitude on the "
                f"calibration images; at most {TOLERANCE:g} is allowed. Nothing was written"
            )
    slack = TOLERANCE * scores.abs().mean()
    least, most = (p_values(calibration, scores + shift) for shift in (slack, -2 * slack))
    if not ((p >= least) & (p <= most)).all():
        raise ExportError(f"{name}: its p-values do not follow from the calibration scores. Nothing was written")
    return found


def deviation(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the mean magnitude of what was expected."""
    return ((found - expected).abs().max() / expected.abs().mean()).item()


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


def _require_room(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "is a file", "name a folder for the exported programs")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(str(folder), "already holds something", "choose a new folder, or pass overwrite=True")


def _write(folder: Path, contents: dict[str, Any]) -> None:
    """Write all files aside, then put them in place, the description last: a folder that has one is whole."""
    draft = folder / f".export.{os.getpid()}.tmp"
    present = folder.exists()
    try:
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
