"""The two forms of an exported program, ONNX and torch.export: how each is written and run."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from augmentations import InputError
from selector.inputs.versions import installed_version

ONNX, TORCH = "model.onnx", "model.pt2"
INPUT, OUTPUTS, BATCH_NAME = "images", ("score", "map", "p_value"), "N"
OPSET = 18  # of ONNX: the oldest that torch's exporter writes without converting, so the one most runtimes know

# A batch (N,C,S,S) to score (N,), map (N,S,S) and p-value (N,).
Program = Callable[[Tensor], tuple[Tensor, ...]]


class ExportError(RuntimeError):
    """An exported program does not do what the detector does; the message says by how much. Nothing was written."""


def onnx_bytes(program: torch.export.ExportedProgram) -> bytes:
    """A traced program as ONNX. Raises ExportError where torch gives none."""
    import onnx

    try:
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
    except Exception as error:  # whatever a kind or scorer from outside computes that ONNX can't express
        reason = str(error).rpartition("Summary")[2] or str(error)
        reason = " ".join(reason.split())[:300]
        raise ExportError(f"{ONNX}: torch can't convert the scoring graph ({reason}). Nothing was written") from error
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


def torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    """A traced program as torch saves it. Raises InputError where it would hold a pickle."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    pickled = pickles(buffer.getvalue())
    if pickled:
        raise InputError(
            f"torch {installed_version('torch')}",
            f"pickles parts of an exported program ({', '.join(pickled)}), and no file here may hold a pickle",
            "pip install --upgrade torch",
        )
    return buffer.getvalue()


def pickles(content: bytes) -> list[str]:
    """The parts of a .pt2 archive that are pickled; ``torch.export.save`` writes raw tensors and JSON otherwise."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickled = [part.filename for part in archive.infolist() if part.filename.endswith(".pt") and part.file_size]
        for name in archive.namelist():
            if name.endswith("_config.json"):
                config = json.loads(archive.read(name)).get("config", {})
                pickled += [f"{name}: {tensor}" for tensor, entry in config.items() if entry.get("use_pickle")]
    return pickled


def onnx_program(content: bytes) -> Program:
    """What ONNX Runtime makes of a program."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: tuple(map(torch.from_numpy, session.run(list(OUTPUTS), {INPUT: images.numpy()})))


def torch_program(content: bytes) -> Program:
    """What torch makes of a program."""
    with _quiet():
        module = torch.export.load(io.BytesIO(content)).module()
    return torch.no_grad()(module)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters warn of their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
