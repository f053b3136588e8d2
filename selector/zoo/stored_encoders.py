"""The encoders of a run that stay as they were built: on disk once, whatever number of candidates has them."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from augmentations import InputError
from detectors import files


def save_encoder(root: Path, tensors: dict[str, Tensor]) -> str:
    """Put the tensors of an encoder into a run folder, unless they are there; their digest, "" where there are none."""
    if not tensors:
        return ""
    digest = _digest(tensors)
    if not (path := encoder_file(root, digest)).is_file():
        files.write(path, tensors)
    return digest


def encoder_file(root: Path, digest: str) -> Path:
    """Where an encoder lies in a run folder."""
    return root / "encoders" / f"{digest}.safetensors"


def lacks_encoder(root: Path, folder: Path) -> bool:
    """Whether the encoder of the candidate of a folder is not in the run folder."""
    with suppress(InputError):  # who loads the candidate gets the reason
        settings = files.read_settings(folder / "scorer.safetensors")
        return bool(settings.get("given")) and not encoder_file(root, settings["given"]).is_file()
    return False


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of named tensors in their order."""
    digest = sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
