"""Whether a file is as it was written: checksums of JSON and of tensors, against disks and hands that change them.

They are no protection from one who means harm and writes the checksum, too.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CHECKSUM = "crc32"


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError for what is none, and for what is nested too deeply to be read."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its content."""
    plain = {name: item for name, item in json.loads(json.dumps(value, allow_nan=False)).items() if name != CHECKSUM}
    return {**plain, CHECKSUM: of_json(plain)}


def without_checksum(value: Any) -> dict[str, Any]:
    """The content of such an object. Raises ValueError where it is not what was written."""
    if not isinstance(value, dict) or CHECKSUM not in value:
        raise ValueError("no checksum in it")
    content = {name: item for name, item in value.items() if name != CHECKSUM}
    if value[CHECKSUM] != of_json(content):
        raise ValueError("its checksum does not match")
    return content


def of_tensor(tensor: Tensor) -> str:
    """The checksum of a tensor's type, shape and values."""
    start = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{zlib.crc32(values.data, start):08x}"


def of_json(value: Mapping[str, Any]) -> str:
    """The checksum of a JSON object's content, whatever the order of its names."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
