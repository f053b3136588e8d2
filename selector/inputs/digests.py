"""Digests by which images are recognised, whatever their files are called."""

import json
from collections.abc import Sequence
from hashlib import sha256

from torch import Tensor


def image_digest(pixels: Tensor) -> str:
    """SHA-256, in hexadecimal, of one image (C,H,W): equal for equal pixels of one shape."""
    return set_digest(pixels)


def set_digest(pixels: Tensor, names: Sequence[str] = ()) -> str:
    """SHA-256, in hexadecimal, of a set of images in their order.

    Args:
        pixels: The images (N,C,H,W), on the CPU.
        names: Their names, where they matter.
    """
    digest = sha256(json.dumps([list(pixels.shape), *names]).encode())
    digest.update(pixels.contiguous().numpy().data)
    return digest.hexdigest()
