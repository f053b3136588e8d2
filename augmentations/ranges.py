"""Hyperparameter ranges: what is accepted, what is refused, and how a value is drawn from one.

A range is ``(low, high)``; a scalar ``x`` is read as ``(x, x)`` and a list (JSON has no tuples) as a tuple.
Either end may be a 0-d tensor that wants gradients: a draw is a smooth function of noise and the ends.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, get_args

import torch
from torch import Tensor

from augmentations.errors import InputError

End = float | Tensor
Range = tuple[End, End]


@dataclass(frozen=True)
class Bounds:
    """What both ends of a range must obey, in words and as a test."""

    rule: str
    hold: Callable[[float], bool]


# Types of dataclass fields: a range, and what its ends must obey.
Area = Annotated[Range, Bounds("must be in (0, 1], a share of the image", lambda x: 0 < x <= 1)]
Aspect = Annotated[Range, Bounds("must be > 0", lambda x: x > 0)]
Angle = Annotated[Range, Bounds("must be in [-180, 180] degrees", lambda x: -180 <= x <= 180)]
Turn = Annotated[Range, Bounds("must be in [-360, 360] degrees", lambda x: -360 <= x <= 360)]
Step = Annotated[Range, Bounds("must be 0 (continuous) or in [1, 360] degrees", lambda x: x == 0 or 1 <= x <= 360)]
Jitter = Annotated[Range, Bounds("must be in [0, 0.5]", lambda x: 0 <= x <= 0.5)]


def floats(value: Range) -> tuple[float, float]:
    """Both ends as Python floats, without gradients."""
    low, high = (float(end.detach()) if isinstance(end, Tensor) else float(end) for end in value)
    return low, high


def text(value: Range) -> str:
    """``(0.02, 0.15)``, for messages."""
    return "({:g}, {:g})".format(*floats(value))


def normalise(thing: str, value: Any, kind: Any, default: Range) -> Range:
    """``value`` as a range of a ``kind`` (Area, Aspect, ...); the remedy in messages is ``default``.

    Raises InputError when it is not a number or a pair of numbers, when low > high, or out of bounds.
    """
    bounds: Bounds = get_args(kind)[1]
    pair = (value, value) if _is_number(value) else value
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair))):
        raise InputError(f"{thing}={value!r}", "must be a number or (low, high)", f"try {text(default)}")
    low, high = (end if isinstance(end, Tensor) else float(end) for end in pair)
    least, most = floats((low, high))
    shown = f"{thing}={least:g}" if _is_number(value) else f"{thing}={text((low, high))}"
    finite = math.isfinite(least) and math.isfinite(most)
    if not (finite and bounds.hold(least) and bounds.hold(most)):
        raise InputError(shown, bounds.rule if finite else "must be finite", f"try {text(default)}")
    if least > most:
        raise InputError(shown, "low must not exceed high", f"swap the ends: {text((high, low))}")
    return low, high


def uniform(value: Range, n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64 draws, uniform between the ends."""
    low, high = map(_double, value)
    return low + (high - low) * noise(n, generator)


def log_uniform(value: Range, n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64 draws whose logarithm is uniform: x and 1/x are equally likely in (1/a, a)."""
    low, high = (_double(end).log() for end in value)
    return (low + (high - low) * noise(n, generator)).exp()


def noise(n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64, uniform in [0, 1): in float32 a draw may round to 1 further down the line."""
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _double(end: End) -> Tensor:
    if isinstance(end, Tensor):
        return end.to("cpu", torch.float64)
    return torch.tensor(end, dtype=torch.float64)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() == 0
    return isinstance(value, Real) and not isinstance(value, bool)
