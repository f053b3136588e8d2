"""What every augmentation is: random choices drawn on the CPU, then a deterministic batched function."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Protocol, get_type_hints

import torch
from torch import Tensor

from augmentations.errors import InputError
from augmentations.hyperparameters import Hyperparameters, normalise, plain

Parameters = dict[str, Tensor]
SPACES = IMAGES, FEATURES = "images", "features"


class Trial(Protocol):
    """The part of an Optuna trial that is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Augmentation(ABC):
    """A way to turn normal images into pseudo anomalies; its fields are its hyperparameters.

    A subclass is a frozen dataclass whose fields are annotated as ``hyperparameters`` says, each with a default. It
    declares ``name``, which messages, tables and search spaces show; ``family``, which variants of one idea have in
    common; and ``is_local``, whether it changes a part of an image (or the image as a whole). One that takes from
    other images of the batch also declares ``uses_batch``; one of features (N,C,h,w), of any C and any range, rather
    than images, declares ``space = "features"``.

    Raises InputError at construction for hyperparameters that no image could obey, and in ``check`` (which ``sample``
    calls) for those that images of one size cannot.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    is_local: ClassVar[bool]
    uses_batch: ClassVar[bool] = False
    space: ClassVar[str] = IMAGES

    def __post_init__(self) -> None:
        cls = type(self)
        check_declarations(cls)
        for name, declared in _annotations(cls).items():
            value = normalise(name, getattr(self, name), declared, getattr(cls, name))
            object.__setattr__(self, name, value)

    @property
    def parts(self) -> "tuple[Augmentation, ...]":
        """The pseudo-anomaly classes that a classifier should distinguish: itself alone, unless overridden."""
        return (self,)

    def hyperparameters(self) -> Hyperparameters:
        """Every hyperparameter without tensors: JSON-able, and enough to make an equal augmentation."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    def check(self, size: tuple[int, int]) -> None:
        """Raise InputError where images of ``size`` (height, width) in pixels are too small for the hyperparameters."""
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"size={size!r}", "must be (height, width), both >= 1", "try (64, 64)")

    def sample(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        """Every random choice for ``n`` images, each drawn image by image.

        Args:
            n: how many images.
            size: their (height, width) in pixels.
            generator: a CPU generator, see ``randomness.generator``.
        Returns:
            CPU tensors with leading dimension n by name; float32, or float64 when a hyperparameter is a float64 tensor.
        Raises:
            InputError: as ``check`` does.
        """
        self.check(size)
        values = [getattr(self, field.name) for field in fields(self)]
        numbers = [number for value in values for number in (value if isinstance(value, tuple) else (value,))]
        double = any(isinstance(number, Tensor) and number.dtype == torch.float64 for number in numbers)
        # Drawn in float64 whatever the outcome, so that the stream does not depend on it.
        return cast(self._draw(n, size, generator), torch.float64 if double else torch.float32)

    def apply(self, images: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """The augmented images: deterministic, of static shapes, and without the host waiting for the device.

        Args:
            images: (N,C,H,W) floats in [0, 1], C of 1 or 3; or features of any C and range, see ``space``.
            parameters: what ``sample`` drew for N images of this size.
        Returns:
            (N,C,H,W), images in [0, 1], on the device of the images and of their dtype.
        Raises:
            InputError: when images are not so shaped, or parameters were drawn for another N.
        """
        working, parameters = prepare(images, parameters, self.space)
        # Half-precision products would move colours and, worse, pixel coordinates.
        with torch.autocast(images.device.type, enabled=False):
            return self._transform(working, parameters).to(images.dtype)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """``apply`` with freshly drawn parameters."""
        check_images(images, self.space)
        height, width = images.shape[-2:]
        return self.apply(images, self.sample(len(images), (height, width), generator))

    @classmethod
    @abstractmethod
    def grid(cls) -> list[Hyperparameters]:
        """4 to 16 distinct settings worth comparing, each feasible on square images."""

    @classmethod
    @abstractmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        """A setting drawn by ``trial`` (Optuna's interface), always feasible on square images."""

    @abstractmethod
    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        """The float64 draws behind ``sample``."""

    @abstractmethod
    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The computation behind ``apply``, in at least float32."""


def cast(parameters: Mapping[str, Tensor], dtype: torch.dtype) -> Parameters:
    """Floating parameters as ``dtype``, the others untouched."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in parameters.items()}


def check_images(images: Any, space: str = IMAGES) -> None:
    """Raise InputError unless ``images`` is a floating (N,C,H,W) tensor, with 1 or 3 channels if it holds images."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images of {kind}", "must be a floating tensor in [0, 1]", "divide uint8 by 255")
    shape = tuple(images.shape)
    if len(shape) != 4:
        raise InputError(f"images of shape {shape}", "must be (N, C, H, W)", "add the missing dimensions")
    if space == IMAGES and shape[1] not in (1, 3):
        raise InputError(f"images of shape {shape}", "must have 1 or 3 channels", "put channels second")


def prepare(images: Tensor, parameters: Mapping[str, Tensor], space: str = IMAGES) -> tuple[Tensor, Parameters]:
    """Checked images and parameters on one device, in the images' precision but at least float32."""
    check_images(images, space)
    for key, value in parameters.items():
        if value.shape[:1] != images.shape[:1]:
            thing = f"parameters[{key!r}] of shape {tuple(value.shape)}"
            remedy = f"sample({len(images)}, ...) for these images"
            raise InputError(thing, f"must be drawn for {len(images)} images", remedy)
    dtype = torch.promote_types(images.dtype, torch.float32)
    # The dtype first: not every device knows float64.
    moved = {key: value.to(images.device, non_blocking=True) for key, value in cast(parameters, dtype).items()}
    return images.to(dtype), moved


def cell(augmentation: type[Augmentation], **hyperparameters: Any) -> Hyperparameters:
    """The full hyperparameters of one grid cell, defaults written out."""
    return augmentation(**hyperparameters).hyperparameters()


def check_declarations(cls: type[Augmentation]) -> None:
    """Raise InputError unless a class declares all that a subclass of Augmentation must."""
    thing = f"augmentation {cls.__qualname__}"
    for attribute, kind, example in (("name", str, '"mine"'), ("family", str, '"mine"'), ("is_local", bool, "True")):
        if not isinstance(getattr(cls, attribute, None), kind):
            remedy = f"add `{attribute}: ClassVar[{kind.__name__}] = {example}` to it"
            raise InputError(thing, f"must declare {attribute}", remedy)
    if cls.space not in SPACES:
        raise InputError(f"space={cls.space!r} of {thing}", f"must be {' or '.join(map(repr, SPACES))}", "leave it out")
    if "__dataclass_fields__" not in cls.__dict__:
        raise InputError(thing, "must be a frozen dataclass", "write @dataclass(frozen=True) above it")
    for field in fields(cls):
        if not hasattr(cls, field.name):
            raise InputError(f"{field.name} of {thing}", "must have a default", "give it one")


@cache
def _annotations(cls: type[Augmentation]) -> dict[str, Any]:
    """How each field is annotated, by name; resolved where ``from __future__ import annotations`` made it a string."""
    declared = {field.name: field.type for field in fields(cls)}
    if not any(isinstance(annotation, str) for annotation in declared.values()):
        return declared
    hints = get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in declared}
