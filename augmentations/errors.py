"""What a refusal must say."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


class InputError(ValueError):
    """Bad input, refused before any work: the thing, the rule it breaks, and the remedy.

    Reads as ``aspect=0: must be > 0; try (0.3, 3.3)``.
    """

    def __init__(self, thing: str, rule: str, remedy: str) -> None:
        super().__init__(thing, rule, remedy)
        self.thing, self.rule, self.remedy = thing, rule, remedy

    def __str__(self) -> str:
        return f"{self.thing}: {self.rule}; {self.remedy}"


def whole_number(name: str, value: object, minimum: int, remedy: str) -> None:
    """Refuse an argument that is not a whole number of at least a minimum.

    Args:
        name: The argument's name, which begins the message.
        value: What the user gave.
        minimum: The smallest number allowed.
        remedy: What to do instead, such as ``try 3``.

    Raises:
        InputError: The value is a bool, is not an int, or is below the minimum.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InputError(f"{name}={value!r}", f"must be a whole number of at least {minimum}", remedy)


def require_json(thing: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that JSON can't hold: what is not finite, and what is neither number, text, list nor dict.

    Args:
        thing: what they are settings of, which begins the message.
        settings: their values by name.

    Raises:
        InputError: The message names the first that is none.
    """
    for name, value in settings.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{thing}: {name}={value!r}", f"is no JSON ({error})", "give finite numbers, texts, lists or dicts"
            ) from error


def unknown_name(kind: str, name: object, known: list[str]) -> InputError:
    """The refusal of a name that is not registered, with the nearest registered ones suggested."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), known, n=2, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return InputError(f"{kind} {name!r}", "is not a known name", remedy)


def first_few(names: Sequence[str], limit: int = 3) -> str:
    """The first names of a list that may be long: ``a, b, c and 5 more``."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
