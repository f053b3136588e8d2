"""The one reader of a user's images: a folder, files or an array in, one float tensor out."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augmentations.errors import InputError, whole_number
from selector.inputs.arrays import check_array, to_floats
from selector.inputs.decoding import Decoded, decode, is_gray
from selector.inputs.digests import set_digest
from selector.inputs.files import FileList, check_list, list_folder, plural, printable, unreadable
from selector.inputs.limits import resolve_limit
from selector.inputs.raster import resize
from selector.inputs.remarks import Tally
from selector.inputs.unreadable import UnreadableError

SMALLEST_IMAGE_SIZE = 8
# Images decoded before the next are started: bounds the memory of a reader that streams.
BATCH = 64
# Decoding and resizing leave the interpreter's lock; beyond a few threads the disk is the limit.
THREADS = min(4, os.cpu_count() or 1)
# ITU-R BT.601 luma of red, green and blue, the weights of Pillow's own conversion to gray.
LUMA = (0.299, 0.587, 0.114)

REPEATED = "in gray, repeated to 3 channels"
TO_GRAY = "in colour, turned to gray (luma)"
_SOURCES = "a folder, a list of image files, or an array (N, C, H, W) or (N, H, W)"


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, ready for a detector.

    Attributes:
        pixels: (N, C, S, S), float32 in [0, 1], contiguous, on the CPU.
        names: The name of each image.
        sizes: Height and width of each image as it was read, in pixels.
        skipped: Name of and reason for each file that could not be read.
        notes: Remarks on all images together, to show to the user once.
        bits: Per sample of each image's file; 0, as for all where they are left out, where it is unknown.
        remarks: What was done to each image, or seems wrong with it, as "problem" or "problem: detail"; none for all
            where they are left out.
    """

    pixels: Tensor
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    bits: tuple[int, ...] = ()
    remarks: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", self.bits or (0,) * len(self.names))
        object.__setattr__(self, "remarks", self.remarks or ((),) * len(self.names))

    def __len__(self) -> int:
        return len(self.names)


# What is odd about each of the images, as ``Images.remarks``.
Check = Callable[[Images], Sequence[Sequence[str]]]


def read_images(
    source: Any,
    *,
    image_size: int,
    channels: int | None = None,
    role: str = "train",
    skip_unreadable: bool = False,
    minimum: int = 1,
    max_megapixels: float | None = None,
) -> Images:
    """Read all images of a folder, a list of files, one file or an array, and resize them to a square.

    Args:
        source: Folders are searched recursively and sorted by relative path; the names of sub-folders have no meaning.
            Arrays and tensors are (N, C, H, W) or (N, H, W), float in [0, 1] or uint8.
        image_size: Height and width of the result in pixels.
        channels: 1, 3, or None for what the images have.
        role: What the images are for, "train" or "test": begins every message.
        skip_unreadable: Leave files that can't be read out and list them in the result.
        minimum: The smallest number of images.
        max_megapixels: The largest picture that a file may hold; None: 300, or what the environment variable
            SSAD_MAX_MEGAPIXELS says.

    Returns:
        The images, image_size x image_size.

    Raises:
        InputError: The source is not one, files can't be read (all of them are named at once), or there are fewer
            images than the minimum.
    """
    _check_settings(image_size, channels, minimum)
    if isinstance(source, Images) and source.pixels.shape[1] == (channels or source.pixels.shape[1]):
        _check_read_at(source, image_size, role)
        _check_enough(len(source), minimum, role)
        return source
    origin = _origin(source, image_size, role, resolve_limit(max_megapixels))
    _check_enough(len(origin), minimum, role)
    pixels = torch.empty(0)
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    bits: list[int] = []
    remarks: list[tuple[str, ...]] = []
    for part in _stream(origin, image_size, channels or origin.channels(), BATCH, skip_unreadable, role):
        if not names:
            pixels = torch.empty(len(origin), *part.pixels.shape[1:])
        pixels[len(names) : len(names) + len(part)] = part.pixels
        names += part.names
        sizes += part.sizes
        bits += part.bits
        remarks += part.remarks
    _check_enough(len(names), minimum, role, unread=len(part.skipped))
    read = pixels if len(names) == len(pixels) else pixels[: len(names)].clone()
    return Images(read, tuple(names), tuple(sizes), part.skipped, part.notes, tuple(bits), tuple(remarks))


def iterate_batches(
    source: Any,
    *,
    image_size: int,
    channels: int | None = None,
    batch: int = BATCH,
    skip_unreadable: bool = False,
    role: str = "test",
    wanted: Callable[[str], bool] | None = None,
    check: Check | None = None,
    max_megapixels: float | None = None,
) -> Iterator[Images]:
    """Read as ``read_images`` does, batch by batch and in bounded memory.

    Args:
        source: As for ``read_images``.
        image_size: Height and width of the result in pixels.
        channels: 1, 3, or None for what the images have.
        batch: The largest number of images in a batch.
        skip_unreadable: Leave files that can't be read out and list them with the last batch.
        role: What the images are for: begins every message.
        wanted: Of files, read those whose name it accepts; None: all.
        check: What is odd about each image of a batch is added to its remarks.
        max_megapixels: As for ``read_images``.

    Returns:
        An iterator over Images; skipped and notes, which concern all images, come with the last.

    Raises:
        InputError: At once for a wrong source. For files that can't be read, unless skip_unreadable, in place of the
            first batch that has one, naming all of them.
    """
    _check_settings(image_size, channels, batch, "batch")
    origin = _origin(source, image_size, role, resolve_limit(max_megapixels))
    if wanted is not None and isinstance(origin, _Files):
        origin = replace(origin, files=origin.files.only(wanted))
        if not len(origin):
            return iter(())
    return _stream(origin, image_size, channels or origin.channels(), batch, skip_unreadable, role, check)


def files_of(source: str | os.PathLike[str]) -> FileList:
    """The images of a folder, or one file, nothing decoded. Raises InputError for a wrong source."""
    origin = _origin(source, 0, "test")
    assert isinstance(origin, _Files)
    return origin.files


def fingerprint(images: Images) -> str:
    """SHA-256, in hexadecimal, of pixels and names: distinguishes runs on different images."""
    return set_digest(images.pixels, images.names)


@dataclass(frozen=True)
class _Files:
    """Files to decode."""

    files: FileList
    max_megapixels: float | None = None

    def __len__(self) -> int:
        return len(self.files.paths)

    @property
    def names(self) -> Sequence[str]:
        return self.files.names

    @property
    def notes(self) -> tuple[str, ...]:
        return self.files.notes

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        return self.files.unlisted

    def channels(self) -> int:
        return 1 if all(_may_be_gray(path) for path in self.files.paths) else 3

    def batches(self, image_size: int, channels: int, batch: int) -> Iterator[Images]:
        def load(path: Path) -> Decoded | str:
            try:
                return decode(path, image_size, self.max_megapixels)
            except UnreadableError as error:
                return str(error)

        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(self), batch):
                names = self.names[start : start + batch]
                rows: list[Tensor] = []
                skipped, readable, sizes, bits, remarks = [], [], [], [], []
                for name, loaded in zip(names, pool.map(load, self.files.paths[start : start + batch]), strict=True):
                    if isinstance(loaded, str):
                        skipped.append((name, loaded))
                        continue
                    pixels, converted = _to_channels(loaded.pixels[None], channels)
                    rows.append(pixels)
                    readable.append(name)
                    sizes.append(loaded.size)
                    bits.append(loaded.bits)
                    remarks.append((*converted, *loaded.remarks))
                pixels = torch.cat(rows) if rows else torch.empty(0, channels, image_size, image_size)
                yield Images(
                    *(pixels, tuple(readable), tuple(sizes), tuple(skipped)), bits=tuple(bits), remarks=tuple(remarks)
                )


@dataclass(frozen=True)
class _Array:
    """Images in memory, (N, C, H, W) or (N, H, W)."""

    values: Any
    names: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    bits: Sequence[int]
    remarks: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def channels(self) -> int:
        return self.values.shape[1] if self.values.ndim == 4 else 1

    def batches(self, image_size: int, channels: int, batch: int) -> Iterator[Images]:
        for start in range(0, len(self), batch):
            rows = slice(start, start + batch)
            pixels = resize(to_floats(self.values[rows]), image_size)
            pixels, converted = _to_channels(pixels, channels)
            remarks = tuple((*converted, *known) for known in self.remarks[rows])
            bits = tuple(self.bits[rows])
            yield Images(
                *(pixels.contiguous(), tuple(self.names[rows]), tuple(self.sizes[rows])), bits=bits, remarks=remarks
            )


def _stream(
    origin: _Files | _Array,
    image_size: int,
    channels: int,
    batch: int,
    skip_unreadable: bool,
    role: str,
    check: Check | None = None,
) -> Iterator[Images]:
    tally = Tally()
    skipped = list(origin.skipped)
    # What images in memory skipped was skipped, as the user chose, when they were read.
    may_skip = skip_unreadable or isinstance(origin, _Array)
    last: Images | None = None
    for part in origin.batches(image_size, channels, batch):
        skipped += part.skipped
        # After a failure the rest is read only to name all failures at once.
        if len(part) == 0 or (skipped and not may_skip):
            continue
        if last is not None:
            yield last
        if check is not None:
            odd = zip(part.remarks, check(part), strict=True)
            part = replace(part, remarks=tuple((*known, *found) for known, found in odd))
        tally.add(part.names, part.sizes, part.remarks)
        last = replace(part, skipped=())
    if skipped and not may_skip:
        raise unreadable(skipped, len(origin) + len(origin.skipped), role)
    if last is None:
        raise unreadable(skipped, len(origin) + len(origin.skipped), role, remedy="fix or replace them")
    notes = dict.fromkeys([*origin.notes, *tally.notes(image_size)])
    yield replace(last, skipped=tuple(skipped), notes=tuple(notes))


def _origin(source: Any, image_size: int, role: str, max_megapixels: float | None = None) -> _Files | _Array:
    if isinstance(source, Images):
        _check_read_at(source, image_size, role)
        known = (source.pixels, source.names, source.sizes, source.bits, source.remarks)
        return _Array(*known, source.notes, source.skipped)
    if isinstance(source, FileList):
        return _Files(source, max_megapixels)
    if isinstance(source, np.ndarray | Tensor):
        source = source.detach() if isinstance(source, Tensor) else source
        notes = check_array(source, role)
        digits = max(4, len(str(len(source) - 1)))
        names = [f"{index:0{digits}d}" for index in range(len(source))]
        height, width = source.shape[-2:]
        n = len(source)
        bits = 8 if source.dtype in (np.uint8, torch.uint8) else 0
        return _Array(source, names, [(height, width)] * n, [bits] * n, [()] * n, notes)
    if isinstance(source, str | os.PathLike) and str(source):
        path = Path(source)
        if path.is_dir():
            return _Files(list_folder(path, role), max_megapixels)
        if not os.path.lexists(path):
            raise InputError(f"{role}: {printable(source)}", "does not exist", f"give {_SOURCES}")
        return _Files(FileList([path], [printable(source)]), max_megapixels)
    if isinstance(source, list | tuple):
        return _Files(check_list(source, role), max_megapixels)
    raise InputError(f"{role}={source!r:.80}", "is not a source of images", f"give {_SOURCES}")


def _may_be_gray(path: Path) -> bool:
    try:
        return is_gray(path)
    except UnreadableError:
        return True  # no vote: it is refused, with its name, when it is decoded


def _to_channels(pixels: Tensor, channels: int) -> tuple[Tensor, tuple[str, ...]]:
    """Images of so many channels, with a remark where they had others."""
    if pixels.shape[1] == channels:
        return pixels, ()
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1), (REPEATED,)
    return torch.einsum("nchw,c->nhw", pixels, torch.tensor(LUMA)).unsqueeze(1).clamp_(0, 1), (TO_GRAY,)


def _check_settings(image_size: int, channels: int | None, least: int, name: str = "minimum") -> None:
    whole_number("image_size", image_size, SMALLEST_IMAGE_SIZE, "try image_size=64")
    if channels not in (None, 1, 3) or isinstance(channels, bool | float):
        rule = "must be 1 (gray), 3 (colour) or None"
        raise InputError(f"channels={channels!r}", rule, "leave it out to keep what the images have")
    whole_number(name, least, 1, f"leave {name} out")


def _check_read_at(images: Images, image_size: int, role: str) -> None:
    height, width = images.pixels.shape[2:]
    if (height, width) != (image_size, image_size):
        rule = f"were read at {height} x {width}, not {image_size} x {image_size}"
        raise InputError(f"{role}: images", rule, f"read them with image_size={image_size}")


def _check_enough(count: int, minimum: int, role: str, unread: int = 0) -> None:
    if count >= minimum:
        return
    train = role == "train"
    thing = f"{role}: {plural(count, 'image')}" + (f" ({unread} more could not be read)" if unread else "")
    rule = f"at least {minimum} {'is' if minimum == 1 else 'are'} needed"
    if train and minimum > 1:
        rule += " (three splits are made from them)"
    raise InputError(thing, rule, f"add more {'normal ' * train}images")
