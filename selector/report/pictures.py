"""Images as data URIs, so that the page needs no other file."""

import base64
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selector.detections import overlay

LARGEST = 224  # px a side: twice the width at which a page shows them
LOSSLESS = 96  # px a side up to which PNG is small enough, and exact


def plain(image: Tensor) -> np.ndarray:
    """An image (C,H,W) in [0,1] as (H,W,3) uint8."""
    return (255 * image.float().expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)


def uri(pixels: np.ndarray) -> str:
    """(H,W,3) uint8 as a data URI: PNG where it is small, else JPEG of at most ``LARGEST`` px."""
    picture = Image.fromarray(pixels)
    lossless = max(picture.size) <= LOSSLESS
    if not lossless:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    file = BytesIO()
    if lossless:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=88, subsampling=0)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def color_bar(width: int = 96, height: int = 4) -> str:
    """What an overlay does to mid-gray, from the lower end of its scale to the upper one, left to right."""
    gray = torch.full((1, height, width), 0.5)
    return uri(overlay(gray, torch.linspace(0, 1, width).expand(height, -1), (0.0, 1.0)))
