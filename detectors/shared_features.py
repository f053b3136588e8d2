"""Features of the images of a run under an encoder that stays as it is: computed once, kept on disk, shared."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

Levels = list[Tensor]
LEVEL, SIZES = "level_{}.npy", "batches.npy"  # SIZES: (levels, batches) images in each batch


class SharedFeatures:
    """The levels that frozen encoders make of known images, as memory-mapped .npy files of float32.

    ``keep`` says of which images features are worth keeping. Each set of images has a folder of its own under each
    encoder, one file per level, which appears as a whole or not at all. Any number of processes may share the folder.
    Beyond ``limit_bytes`` features are computed each time.
    """

    def __init__(self, folder: str | Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = Path(folder).absolute(), limit_bytes
        self._kept: set[str] = set()
        self._encoders: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()

    def keep(self, images: Tensor) -> None:
        """Keep the features of these images (N,C,H,W), whichever encoder computes them."""
        self._kept.add(images_digest(images))

    def levels(
        self, encoder: nn.Module, images: Tensor, compute: Callable[[], Iterator[Levels]], device: torch.device
    ) -> Iterator[Levels] | None:
        """The levels of images in batches, from disk where they are, and else from ``compute``.

        Args:
            encoder: what ``compute`` runs: its weights and its layers are part of the key.
            images: (N,C,H,W) all images.
            compute: a pass over all images; gives batches of contiguous levels (n,d,h,w), fine to coarse.
            device: where the levels are wanted.
        Returns:
            The batches that ``compute`` gives, bit for bit; None for images whose features are not kept.
        """
        digest = images_digest(images)
        if digest not in self._kept:
            return None
        path = self.folder / self._encoder_digest(encoder, device) / digest
        arrays = self._open(path) or self._fill(path, len(images), compute)
        return compute() if arrays is None else _batches(arrays, device)

    def _encoder_digest(self, encoder: nn.Module, device: torch.device) -> str:
        if encoder not in self._encoders:
            self._encoders[encoder] = encoder_digest(encoder)
        # Devices and releases round differently, and what is shared must be what would be computed.
        return _digest(self._encoders[encoder], device.type, torch.__version__)

    def _open(self, path: Path) -> list[np.ndarray] | None:
        """What a folder holds: the size of each batch by level, then the levels; None where absent or damaged."""
        try:
            sizes = np.load(path / SIZES, allow_pickle=False)
            names = [path / LEVEL.format(i) for i in range(len(sizes))]
            return [sizes, *(np.load(name, mmap_mode="r", allow_pickle=False) for name in names)]
        except (OSError, ValueError, EOFError):
            return None

    def _fill(self, path: Path, n: int, compute: Callable[[], Iterator[Levels]]) -> list[np.ndarray] | None:
        """Compute features into a folder; None where there is no room for them."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{path.parent.name[:16]}.{path.name[:16]}.lock"):
                # Another process may have computed them while this one waited.
                if (arrays := self._open(path)) is not None:
                    return arrays
                draft = self.folder / f".{path.parent.name[:16]}.{path.name[:16]}.tmp"
                shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
                draft.mkdir()
                try:
                    if not self._write(draft, n, compute()):
                        return None
                    path.parent.mkdir(exist_ok=True)
                    shutil.rmtree(path, ignore_errors=True)
                    draft.rename(path)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        except OSError:  # a full disk, or a folder that can't be written to: features can be computed without it
            return None
        return self._open(path)

    def _write(self, draft: Path, n: int, batches: Iterator[Levels]) -> bool:
        """Write levels batch by batch; False, and no more than the first batch computed, where they don't fit."""
        first = next(batches)
        shapes = [(n, *level.shape[1:]) for level in first]
        needed = sum(4 * int(np.prod(shape)) for shape in shapes)
        if self._used() + needed > self.limit_bytes:
            return False
        # Written, and not mapped: a full disk is then an error, not a signal that ends the process.
        files = [(draft / LEVEL.format(i)).open("wb") for i in range(len(shapes))]
        sizes = []
        try:
            for file, shape in zip(files, shapes, strict=True):
                header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            batch: Levels | None = first
            while batch is not None:
                sizes.append(len(batch[0]))
                for file, level in zip(files, batch, strict=True):
                    file.write(level.detach().cpu().contiguous().numpy().astype("<f4", copy=False).data)
                batch = next(batches, None)
        finally:
            for file in files:
                file.close()
        np.save(draft / SIZES, np.tile(sizes, (len(shapes), 1)), allow_pickle=False)
        return True

    def _used(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("*/*/*.npy"))


def _batches(arrays: list[np.ndarray], device: torch.device) -> Iterator[Levels]:
    start = 0
    for size in arrays[0][0].tolist():
        part = slice(start, start + size)
        yield [torch.from_numpy(array[part].copy()).to(device) for array in arrays[1:]]
        start += size


def images_digest(images: Tensor) -> str:
    """What images (N,C,H,W) are, to the bit."""
    return _digest(str(tuple(images.shape)), str(images.dtype), images.detach())


def encoder_digest(encoder: nn.Module) -> str:
    """What an encoder is: its layers, how it reads images, and its weights to the bit."""
    parts: list[str | Tensor] = [repr(encoder)]
    for name, tensor in encoder.state_dict().items():
        parts += [name, tensor]
    return _digest(*parts)


def _digest(*parts: str | Tensor) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
        else:
            digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
