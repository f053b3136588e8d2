"""Where and in which precision to compute."""

from contextlib import AbstractContextManager, nullcontext

import torch

from augmentations.errors import InputError


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device to use; "auto" takes CUDA, then MPS, then the CPU.

    Raises InputError for a device that this machine lacks or torch does not know.
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device={str(device)!r}",
            f"this machine can't use it ({str(error).splitlines()[0]})",
            'try "auto" or "cpu"',
        ) from error
    return resolved


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is native here: elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, query, lambda: False)() for query in native)
    return False


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bf16 autocast where it pays. For training only: embeddings and scores stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if supports_bf16(device) else nullcontext()


def deterministic(device: torch.device) -> AbstractContextManager[object]:
    """The same numbers every time, and float32 convolutions in float32: cuDNN promises neither by itself."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
