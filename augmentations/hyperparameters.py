"""Kinds of hyperparameters: how a field of an augmentation declares one, what it accepts, and its JSON form.

A field is annotated with a type and a check:

    area: Annotated[Range, Bounds("must be in (0, 1]", lambda x: 0 < x <= 1)] = (0.02, 0.15)
    step: Annotated[Number, Bounds("must be >= 0", lambda x: x >= 0)] = 90.0
    kernel: Annotated[int, Bounds("must be odd", lambda x: x % 2 == 1)] = 3
    blend: Annotated[str, Choice("mean", "black")] = "mean"
    folder: Annotated[str, Bounds("must be a folder", lambda x: Path(x).is_dir())] = "."
    flip: bool = False

A range is ``(low, high)``; a scalar ``x`` is read as ``(x, x)`` and a list (JSON has no tuples) as a tuple. A number
and either end of a range may be a 0-d tensor that wants gradients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_origin

from torch import Tensor

from augmentations.errors import InputError

Number = float | Tensor
Range = tuple[Number, Number]

# What is written to JSON: a range, a number, a whole number or a choice. In memory a range is a tuple.
Value = tuple[float, float] | float | int | bool | str
Hyperparameters = dict[str, Value]


@dataclass(frozen=True)
class Bounds:
    """What a number, both ends of a range, or a string must obey, in words and as a test."""

    rule: str
    allows: Callable[[Any], bool]


@dataclass(frozen=True, init=False)
class Choice:
    """The values that a hyperparameter may have: strings, or True and False."""

    options: tuple[str | bool, ...]

    def __init__(self, *options: str | bool) -> None:
        object.__setattr__(self, "options", options)


FINITE = Bounds("must be finite", math.isfinite)

# Annotations of fields: the type, and what its values must obey.
Area = Annotated[Range, Bounds("must be in (0, 1], a share of the image", lambda x: 0 < x <= 1)]
Aspect = Annotated[Range, Bounds("must be > 0", lambda x: x > 0)]
Angle = Annotated[Range, Bounds("must be in [-180, 180] degrees", lambda x: -180 <= x <= 180)]
Turn = Annotated[Range, Bounds("must be in [-360, 360] degrees", lambda x: -360 <= x <= 360)]
Step = Annotated[Number, Bounds("must be 0 (continuous) or in [1, 360] degrees", lambda x: x == 0 or 1 <= x <= 360)]
Jitter = Annotated[Range, Bounds("must be in [0, 0.5]", lambda x: 0 <= x <= 0.5)]


def to_float(value: Number) -> float:
    """A number as a Python float, without its gradient."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def floats(value: Range) -> tuple[float, float]:
    """Both ends as Python floats, without gradients."""
    low, high = map(to_float, value)
    return low, high


def plain(value: Any) -> Value:
    """A normalised value in its JSON form: tensors as floats, without gradients."""
    if isinstance(value, tuple):
        return floats(value)
    return to_float(value) if isinstance(value, Tensor) else value


def from_json(values: Mapping[str, Any]) -> Hyperparameters:
    """Hyperparameters as read from JSON in the form they have in memory: lists become tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def numbers_and_choices(values: Mapping[str, Value]) -> dict[str, float | bool | str]:
    """Hyperparameters one by one: a range is two numbers, ``area_low`` and ``area_high``; all else is itself."""
    parts: dict[str, float | bool | str] = {}
    for name, value in values.items():
        parts |= {f"{name}_low": value[0], f"{name}_high": value[1]} if isinstance(value, tuple) else {name: value}
    return parts


def text(value: Any) -> str:
    """``(0.02, 0.15)``, ``90`` or ``'mean'``, for messages."""
    value = plain(value)
    if isinstance(value, tuple):
        return "({:g}, {:g})".format(*value)
    return f"{value:g}" if _is_number(value) else repr(value)


def normalise(thing: str, value: Any, declared: Any, default: Any) -> Any:
    """A checked hyperparameter in the form it has in memory.

    Args:
        thing: the name of the hyperparameter, for messages.
        value: what a user, or JSON, gives for it.
        declared: the annotation of its field: Area, Annotated[int, Bounds(...)], bool, ...
        default: the remedy in messages.
    Returns:
        A range as a tuple of floats or tensors, a number as a float or a tensor, a whole number as an int, or the
        choice itself.
    Raises:
        InputError: for a value of another type, out of bounds, not among the choices, or a range with low > high; and
            for an annotation that declares no hyperparameter.
    """
    base, check = _parsed(thing, declared)
    if isinstance(check, Choice):
        return _choice(thing, value, check, default)
    if get_origin(base) is tuple:
        return _range(thing, value, check, default)
    if base is str:
        return _text(thing, value, check, default)
    if base is int:
        return _whole(thing, value, check, default)
    return _number(thing, value, check, default)


def _parsed(thing: str, declared: Any) -> tuple[Any, Bounds | Choice]:
    base, *checks = get_args(declared) if get_origin(declared) is Annotated else (declared,)
    if base is bool:
        return base, Choice(True, False)
    known = get_origin(base) is tuple or base in (Number, float, int, str)
    check = next((check for check in checks if isinstance(check, (Bounds, Choice))), None)
    if known and base is not str and check is None:
        check = FINITE
    if not known or check is None:
        raise InputError(
            f"{thing}: {declared}",
            "declares no hyperparameter",
            'annotate it as a Range, Number, int, bool, or as Annotated[str, Choice("a", "b")]',
        )
    return base, check


def _range(thing: str, value: Any, bounds: Bounds, default: Any) -> Range:
    pair = (value, value) if _is_number(value) else value
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair))):
        raise InputError(f"{thing}={value!r}", "must be a number or (low, high)", f"try {text(default)}")
    low, high = (end if isinstance(end, Tensor) else float(end) for end in pair)
    shown = f"{thing}={text(value if _is_number(value) else (low, high))}"
    least, most = floats((low, high))
    _check_bounds(shown, (least, most), bounds, default)
    if least > most:
        raise InputError(shown, "low must not exceed high", f"swap the ends: {text((high, low))}")
    return low, high


def _number(thing: str, value: Any, bounds: Bounds, default: Any) -> Number:
    if not _is_number(value):
        raise InputError(f"{thing}={value!r}", "must be one number", f"try {text(default)}")
    _check_bounds(f"{thing}={text(value)}", (to_float(value),), bounds, default)
    return value if isinstance(value, Tensor) else float(value)


def _whole(thing: str, value: Any, bounds: Bounds, default: Any) -> int:
    is_whole = _is_number(value) and (isinstance(value, Integral) or to_float(value).is_integer())
    if not is_whole:
        raise InputError(f"{thing}={value!r}", "must be a whole number", f"try {text(default)}")
    _check_bounds(f"{thing}={int(value)}", (int(value),), bounds, default)
    return int(value)


def _text(thing: str, value: Any, bounds: Bounds, default: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{thing}={value!r}", "must be a string", f"try {text(default)}")
    if not bounds.allows(value):
        raise InputError(f"{thing}={value!r}", bounds.rule, f"try {text(default)}")
    return value


def _choice(thing: str, value: Any, choice: Choice, default: Any) -> str | bool:
    for option in choice.options:
        if type(value) is type(option) and value == option:  # 1 == True, and is no choice of True
            return option
    options = " or ".join(map(repr, choice.options))
    raise InputError(f"{thing}={value!r}", f"must be {options}", f"try {text(default)}")


def _check_bounds(shown: str, values: Sequence[float], bounds: Bounds, default: Any) -> None:
    finite = all(map(math.isfinite, values))
    if not (finite and all(map(bounds.allows, values))):
        raise InputError(shown, bounds.rule if finite else FINITE.rule, f"try {text(default)}")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() == 0
    return isinstance(value, Real) and not isinstance(value, bool)
