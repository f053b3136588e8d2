"""How large a picture may be: checked before it is decoded, so that memory is bounded."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from augmentations.errors import InputError
from selector.inputs.unreadable import UnreadableError

# Megapixels of 4 bytes that are decoded at once, one large picture at a time: docs/guide.md states the memory.
LARGEST = 300.0
# A JPEG or TIFF that is decoded in parts, and made smaller part by part, may have so many times as many: the limit is
# one of time.
IN_PARTS = 8
LARGEST_VARIABLE = "SSAD_MAX_MEGAPIXELS"
LARGE_BYTES = 2**26  # decoded; of larger ones one is in memory at a time
_large = threading.Lock()


def resolve_limit(stated: float | None) -> float:
    """The largest number of megapixels: the stated one, else that of the environment, else ``LARGEST``.

    Raises:
        InputError: It is no number above 0.
    """
    thing, value = f"max_megapixels={stated!r}", stated
    if stated is None:
        variable = os.environ.get(LARGEST_VARIABLE, "")
        if not variable:
            return LARGEST
        thing, value = f"the environment variable {LARGEST_VARIABLE}={variable!r}", _number(variable)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(thing, "must be a number above 0", f"leave it out for {LARGEST:g}")
    return float(value)


def is_large(n_bytes: float) -> bool:
    """Whether a picture of so many bytes is decoded alone, and in parts where its format allows it."""
    return n_bytes > LARGE_BYTES


class SizeCheck:
    """Refuses too large a picture before it is decoded, and lets one of those that are large be decoded at a time."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.has_lock = False

    def __call__(self, height: int, width: int, bytes_per_pixel: float, in_parts: bool = False) -> bool:
        """Check a picture.

        Args:
            height: In pixels.
            width: In pixels.
            bytes_per_pixel: As decoded.
            in_parts: Whether the picture is never in memory as a whole.

        Returns:
            Whether the picture is large.

        Raises:
            UnreadableError: It is too large.
        """
        limit = self.limit * (IN_PARTS if in_parts else 1)
        megapixels = height * width * max(1, bytes_per_pixel / 4) / 1e6
        if megapixels > limit:
            counted = (
                "" if bytes_per_pixel <= 4 else f" of {bytes_per_pixel:g} bytes, which count as {megapixels:,.0f},"
            )
            raise UnreadableError(
                f"{height} x {width} pixels, {height * width / 1e6:,.0f} megapixels,{counted} where at most {limit:,g} "
                "are read: cut it into tiles, or allow more (--max-megapixels, max_megapixels=, or the environment "
                f"variable {LARGEST_VARIABLE})"
            )
        large = is_large(height * width * bytes_per_pixel)
        if large and not self.has_lock:
            _large.acquire()
            self.has_lock = True
        return large


@contextmanager
def one_large_at_a_time(limit: float) -> Iterator[SizeCheck]:
    """A check of the pictures of one file."""
    check = SizeCheck(limit)
    try:
        yield check
    finally:
        if check.has_lock:
            _large.release()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1
