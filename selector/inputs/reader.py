"""The one reader of a user's images: a folder, files or an array in, one float tensor out."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from augmentations.errors import InputError
from selector.inputs.decoding import RANGE_TOLERANCE, SMALLEST_SIDE, Decoded, UnreadableError, decode, is_gray

# What a folder is searched for; files named in a list may have any suffix, their content decides.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
LEFT_BY_ARCHIVERS = "__MACOSX"
SMALLEST_IMAGE_SIZE = 8
# Images decoded before the next are started: bounds the memory of a reader that streams.
BATCH = 64
# Decoding and resizing leave the interpreter's lock; beyond a few threads the disk is the limit.
THREADS = min(4, os.cpu_count() or 1)
NAMED_FAILURES, NAMED_OTHERS = 10, 5
# ITU-R BT.601 luma of red, green and blue, the weights of Pillow's own conversion to gray.
LUMA = (0.299, 0.587, 0.114)

REPEATED = "in gray, repeated to 3 channels"
TO_GRAY = "in colour, turned to gray (luma)"
_SOURCES = "a folder, a list of image files, or an array (N, C, H, W) or (N, H, W)"


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, ready for a detector, with what they were called and what was done to them.

    pixels (N, C, S, S) float32 in [0, 1], contiguous, on the CPU; names and sizes (the original height and
    width) per image; skipped holds (name, reason) of unreadable files; notes are remarks to show a user once.
    """

    pixels: Tensor
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def read(
    source: Any,
    *,
    image_size: int,
    channels: int | None = None,
    role: str = "train",
    skip_unreadable: bool = False,
    minimum: int = 1,
) -> Images:
    """Read all images of a folder, a list of files, one file, or an array, and resize them to a square.

    source: folders are searched recursively and sorted by relative path; their sub-folders mean nothing.
    Arrays are (N, C, H, W) or (N, H, W), float in [0, 1] or uint8. channels: 1, 3, or None for what the
    images have. Returns Images of image_size x image_size. Raises InputError, with all unreadable files at
    once unless skip_unreadable, or if fewer than minimum images can be read.
    """
    _check_settings(image_size, channels, minimum)
    if isinstance(source, Images) and source.pixels.shape[1] == (channels or source.pixels.shape[1]):
        _check_read_at(source, image_size, role)
        _check_enough(len(source), minimum, role)
        return source
    origin = _origin(source, image_size, role)
    _check_enough(len(origin), minimum, role)
    pixels = torch.empty(0)
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    for part in _stream(origin, image_size, channels or origin.channels(), BATCH, skip_unreadable, role):
        if not names:
            pixels = torch.empty(len(origin), *part.pixels.shape[1:])
        pixels[len(names) : len(names) + len(part)] = part.pixels
        names += part.names
        sizes += part.sizes
    _check_enough(len(names), minimum, role, unread=len(part.skipped))
    kept = pixels if len(names) == len(pixels) else pixels[: len(names)].clone()
    return Images(kept, tuple(names), tuple(sizes), part.skipped, part.notes)


def iterate(
    source: Any,
    *,
    image_size: int,
    channels: int | None = None,
    batch: int = BATCH,
    skip_unreadable: bool = False,
    role: str = "test",
    wanted: Callable[[str], bool] | None = None,
) -> Iterator[Images]:
    """Read as `read` does, a batch at a time and in bounded memory; of files, those whose name is `wanted`.

    Yields Images of at most `batch` images; skipped and notes, which speak of all images, come with the last.
    Raises InputError at once for a wrong source; for unreadable files, unless
    skip_unreadable, in place of the first batch that has one, naming all there are.
    """
    _check_settings(image_size, channels, batch, "batch")
    origin = _origin(source, image_size, role)
    if wanted is not None and isinstance(origin, _Files):
        origin = origin.only(wanted)
        if not len(origin):
            return iter(())
    return _stream(origin, image_size, channels or origin.channels(), batch, skip_unreadable, role)


def names_of(source: str | os.PathLike[str]) -> list[str]:
    """The names that `iterate` would give the images of a folder, nothing decoded. Raises InputError as it does."""
    return list(_origin(source, 0, "test").names)


def fingerprint(images: Images) -> str:
    """SHA-256, in hexadecimal, of pixels and names: tells a run on these images from a run on others."""
    digest = hashlib.sha256(json.dumps([list(images.pixels.shape), images.names]).encode())
    digest.update(images.pixels.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass
class _Tally:
    """How many images each remark fits, and the first of them, so that each is said once."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, remark: str, name: str) -> None:
        self.counts[remark] += 1
        self.first.setdefault(remark, name)

    def notes(self, image_size: int) -> list[str]:
        notes = [f"{_count(n, 'image')} {what} (first: {self.first[what]})" for what, n in self.counts.items()]
        if len(self.sizes) > 1 or any(height != width for height, width in self.sizes):
            (height, width), _ = self.sizes.most_common(1)[0]
            found = f"all {height} x {width}"
            if len(self.sizes) > 1:
                found = f"of {len(self.sizes)} sizes, most often {height} x {width}"
            notes.append(f"images {found}, resized to {image_size} x {image_size} without keeping the aspect")
        return notes


@dataclass(frozen=True)
class _Files:
    """Files to decode; skipped are folders that could not be listed."""

    paths: Sequence[Path]
    names: Sequence[str]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def only(self, wanted: Callable[[str], bool]) -> "_Files":
        kept = [(path, name) for path, name in zip(self.paths, self.names, strict=True) if wanted(name)]
        return replace(self, paths=[path for path, _ in kept], names=[name for _, name in kept])

    def channels(self) -> int:
        return 1 if all(_may_be_gray(path) for path in self.paths) else 3

    def batches(self, image_size: int, channels: int, batch: int, tally: _Tally) -> Iterator[Images]:
        def load(path: Path) -> tuple[Decoded, tuple[int, int]] | str:
            try:
                decoded = decode(path)
            except UnreadableError as error:
                return str(error)
            height, width = decoded.pixels.shape[1:]
            return replace(decoded, pixels=_resize(decoded.pixels[None], image_size)), (height, width)

        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(self), batch):
                names = self.names[start : start + batch]
                skipped, kept, sizes, rows = [], [], [], []
                for name, loaded in zip(names, pool.map(load, self.paths[start : start + batch]), strict=True):
                    if isinstance(loaded, str):
                        skipped.append((name, loaded))
                        continue
                    decoded, size = loaded
                    rows.append(_to_channels(decoded.pixels, channels, [name], tally))
                    kept.append(name)
                    sizes.append(size)
                    for remark in decoded.remarks:
                        tally.add(remark, name)
                pixels = torch.cat(rows) if rows else torch.empty(0, channels, image_size, image_size)
                yield Images(pixels, tuple(kept), tuple(sizes), tuple(skipped))


@dataclass(frozen=True)
class _Array:
    """Images in memory, (N, C, H, W) or (N, H, W)."""

    values: Any
    names: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def channels(self) -> int:
        return self.values.shape[1] if self.values.ndim == 4 else 1

    def batches(self, image_size: int, channels: int, batch: int, tally: _Tally) -> Iterator[Images]:
        for start in range(0, len(self), batch):
            names = self.names[start : start + batch]
            pixels = _resize(_as_floats(self.values[start : start + batch]), image_size)
            pixels = _to_channels(pixels, channels, names, tally).contiguous()
            yield Images(pixels, tuple(names), tuple(self.sizes[start : start + batch]))


def _stream(
    origin: _Files | _Array, image_size: int, channels: int, batch: int, skip_unreadable: bool, role: str
) -> Iterator[Images]:
    tally = _Tally()
    skipped = list(origin.skipped)
    # What images in memory skipped was skipped, on request, when they were read.
    forgiven = skip_unreadable or isinstance(origin, _Array)
    last: Images | None = None
    for part in origin.batches(image_size, channels, batch, tally):
        skipped += part.skipped
        tally.sizes.update(part.sizes)
        # After a failure the rest is read only to name all failures at once.
        if len(part) == 0 or (skipped and not forgiven):
            continue
        if last is not None:
            yield last
        last = replace(part, skipped=())
    if skipped and not forgiven:
        raise _unreadable(skipped, len(origin) + len(origin.skipped), role)
    if last is None:
        raise _unreadable(skipped, len(origin) + len(origin.skipped), role, remedy="fix or replace them")
    notes = dict.fromkeys([*origin.notes, *tally.notes(image_size)])
    yield replace(last, skipped=tuple(skipped), notes=tuple(notes))


def _origin(source: Any, image_size: int, role: str) -> _Files | _Array:
    if isinstance(source, Images):
        _check_read_at(source, image_size, role)
        return _Array(source.pixels, source.names, source.sizes, source.notes, source.skipped)
    if isinstance(source, np.ndarray | Tensor):
        source = source.detach() if isinstance(source, Tensor) else source
        notes = _check_array(source, role)
        digits = max(4, len(str(len(source) - 1)))
        names = [f"{index:0{digits}d}" for index in range(len(source))]
        height, width = source.shape[-2:]
        return _Array(source, names, [(height, width)] * len(source), notes)
    if isinstance(source, str | os.PathLike) and str(source):
        path = Path(source)
        if path.is_dir():
            return _folder(path, role)
        if not os.path.lexists(path):
            raise InputError(f"{role}: {_printable(source)}", "does not exist", f"give {_SOURCES}")
        return _Files([path], [_printable(source)])
    if isinstance(source, list | tuple):
        return _listed(source, role)
    raise InputError(f"{role}={source!r:.80}", "is not a source of images", f"give {_SOURCES}")


def _listed(source: Sequence[Any], role: str) -> _Files:
    if not source:
        raise InputError(role, "the list of files is empty", "name at least one image file")
    for index, item in enumerate(source):
        if isinstance(item, np.ndarray | Tensor):
            rule, remedy = "is an array in a list", "stack them into one array (N, C, H, W)"
            raise InputError(f"{role}[{index}]", rule, remedy)
        if not isinstance(item, str | os.PathLike) or not str(item):
            raise InputError(f"{role}[{index}]={item!r:.80}", "is not a path", "list image files only")
    paths = [Path(item) for item in source]
    seen: dict[str, int] = {}
    for index, path in enumerate(paths):
        first = seen.setdefault(os.path.realpath(path), index)
        if first != index:
            rule = f"is listed twice (items {first} and {index})"
            raise InputError(f"{role}: {_printable(path)}", rule, "name each file once")
    return _Files(paths, [_printable(item) for item in source])


def _folder(root: Path, role: str) -> _Files:
    found: list[tuple[str, Path]] = []
    others: list[str] = []
    closed: list[tuple[str, str]] = []
    again: list[str] = []
    seen: set[str] = set()

    def relative(path: str | Path) -> str:
        return Path(path).relative_to(root).as_posix()

    def refuse(error: OSError) -> None:
        closed.append((_printable(relative(error.filename)), error.strerror or str(error)))

    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        # Links may lead back up, or twice to one folder: an image counts once.
        if real in seen:
            below.clear()
            again.append(_printable(relative(folder)))
            continue
        seen.add(real)
        visible = sorted(name for name in below if not _hidden(name))
        below[:] = [name for name in visible if not _named_as_image(name)]
        # A folder that is named as an image is kept here, to be reported as what it is.
        for name in [*filter(_named_as_image, visible), *(name for name in files if not _hidden(name))]:
            path = Path(folder, name)
            if _named_as_image(name):
                found.append((relative(path), path))
            else:
                others.append(_printable(relative(path)))
    found.sort(key=lambda entry: entry[0])
    notes = []
    if others:
        verb = "that is not an image was" if len(others) == 1 else "that are not images were"
        notes.append(f"{_count(len(others), 'file')} {verb} left out: {_some(sorted(others), NAMED_OTHERS)}")
    if again:
        what = f"{_count(len(again), 'folder')} reached a second time through a link, read once"
        notes.append(f"{what}: {_some(sorted(again), NAMED_OTHERS)}")
    if closed and not found:
        raise _unreadable(closed, len(closed), role)
    if not found:
        holds = f" ({notes[0]})" if notes else ""
        rule = f"holds no images{holds}"
        raise InputError(f"{role}: {_printable(root)}", rule, f"put images there ({', '.join(SUFFIXES)})")
    return _Files([path for _, path in found], [_printable(name) for name, _ in found], tuple(notes), tuple(closed))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == LEFT_BY_ARCHIVERS


def _named_as_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _may_be_gray(path: Path) -> bool:
    try:
        return is_gray(path)
    except UnreadableError:
        return True  # no vote: it is refused, with its name, when it is decoded


def _as_floats(rows: Any) -> Tensor:
    if isinstance(rows, np.ndarray):
        # A copy: torch takes neither foreign byte order, negative strides nor read-only memory.
        rows = torch.from_numpy(np.array(rows, dtype=np.uint8 if rows.dtype == np.uint8 else np.float32))
    rows = rows.to("cpu")
    rows = rows.float() / 255 if rows.dtype == torch.uint8 else rows.to(torch.float32)
    return (rows if rows.ndim == 4 else rows.unsqueeze(1)).contiguous().clamp(0, 1)


def _resize(pixels: Tensor, image_size: int) -> Tensor:
    if pixels.shape[-2:] == (image_size, image_size):
        return pixels
    square = (image_size, image_size)
    resized = functional.interpolate(pixels, square, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp_(0, 1)


def _to_channels(pixels: Tensor, channels: int, names: Sequence[str], tally: _Tally) -> Tensor:
    if pixels.shape[1] == channels:
        return pixels
    for name in names:
        tally.add(REPEATED if channels == 3 else TO_GRAY, name)
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    return torch.einsum("nchw,c->nhw", pixels, torch.tensor(LUMA)).unsqueeze(1).clamp_(0, 1)


def _check_settings(image_size: int, channels: int | None, least: int, name: str = "minimum") -> None:
    if not _whole(image_size) or image_size < SMALLEST_IMAGE_SIZE:
        rule = f"must be a whole number >= {SMALLEST_IMAGE_SIZE}"
        raise InputError(f"image_size={image_size!r}", rule, "try image_size=64")
    if channels is not None and (not _whole(channels) or channels not in (1, 3)):
        rule = "must be 1 (gray), 3 (colour) or None"
        raise InputError(f"channels={channels!r}", rule, "leave it out to keep what the images have")
    if not _whole(least) or least < 1:
        raise InputError(f"{name}={least!r}", "must be a whole number >= 1", f"leave {name} out")


def _check_read_at(images: Images, image_size: int, role: str) -> None:
    height, width = images.pixels.shape[2:]
    if (height, width) != (image_size, image_size):
        rule = f"were read at {height} x {width}, not {image_size} x {image_size}"
        raise InputError(f"{role}: images", rule, f"read them with image_size={image_size}")


def _check_enough(count: int, minimum: int, role: str, unread: int = 0) -> None:
    if count >= minimum:
        return
    train = role == "train"
    thing = f"{role}: {_count(count, 'image')}" + (f" ({unread} more could not be read)" if unread else "")
    rule = f"at least {minimum} {'is' if minimum == 1 else 'are'} needed"
    if train and minimum > 1:
        rule += " (three splits are made from them)"
    raise InputError(thing, rule, f"add more {'normal ' * train}images")


def _check_array(array: Any, role: str) -> tuple[str, ...]:
    """Refuse what is not images in [0, 1] or uint8, and note what is probably not meant."""
    shape = tuple(array.shape)
    thing = f"{role}: array of shape {shape}"
    move = "transpose(0, 3, 1, 2)" if isinstance(array, np.ndarray) else "permute(0, 3, 1, 2)"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        rule = "looks like one image with its channels last, where (N, H, W) are gray images"
        raise InputError(thing, rule, f"move channels to axis 1: array[None].{move}")
    if len(shape) not in (3, 4):
        rule = "must have 4 axes (N, C, H, W), or 3 (N, H, W)"
        raise InputError(thing, rule, "for a single image, add the first axis: array[None]")
    if len(shape) == 4 and shape[1] not in (1, 3):
        last = shape[-1] in (1, 3)
        remedy = f"move channels to axis 1: array.{move}" if last else "give gray or red, green, blue"
        raise InputError(thing, "must have 1 or 3 channels on axis 1", remedy)
    if shape[0] == 0:
        raise InputError(thing, "holds no images", "give at least one")
    if min(shape[-2:]) < SMALLEST_SIDE:
        raise InputError(thing, f"images are smaller than {SMALLEST_SIDE} pixels on a side", "give larger ones")
    kind = array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
    if "float" not in kind and kind != "uint8":
        rule = f"has type {kind}, where only float in [0, 1] and uint8 are understood"
        raise InputError(thing, rule, "convert it: array.astype(float) / its largest possible value")
    low, high = _extremes(array)
    if not np.isfinite([low, high]).all():
        raise InputError(thing, "holds NaN or infinity", "remove or replace those values")
    if kind == "uint8":
        return ()
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        rule = f"float values must be in [0, 1], these go from {low:g} to {high:g}"
        raise InputError(thing, rule, "scale them: for values from 0 to 255, divide by 255")
    if high <= 1 / 255:
        return (f"float values reach only {high:g}: images nearly black, perhaps divided by 255 twice",)
    return ()


def _extremes(array: Any) -> tuple[float, float]:
    chunks = [array[start : start + BATCH] for start in range(0, len(array), BATCH)]
    return (
        float(np.min([float(chunk.min()) for chunk in chunks])),
        float(np.max([float(chunk.max()) for chunk in chunks])),
    )


def _unreadable(
    failures: Sequence[tuple[str, str]],
    of: int,
    role: str,
    remedy: str = "fix or remove them, or pass skip_unreadable=True (--skip-unreadable)",
) -> InputError:
    named = _some([f"{name} ({reason})" for name, reason in failures], NAMED_FAILURES)
    return InputError(f"{role}: {len(failures)} of {_count(of, 'file')} cannot be read", named, remedy)


def _printable(path: str | os.PathLike[str]) -> str:
    """A name that any file can hold: bytes of a path that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _some(names: Sequence[str], most: int) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
