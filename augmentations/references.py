"""References to classes from outside this toolkit: ``module:QualName``, importable in every process."""

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from augmentations.errors import InputError

T = TypeVar("T")

MAIN = ("__main__", "__mp_main__")  # the script that runs, here and in a spawned worker


def reference_of(cls: type) -> str:
    """The reference ``module:QualName`` by which another process can import a class.

    Args:
        cls: a class that stands at the top level of an importable module, or inside such a class.
    Returns:
        The reference, which ``resolve`` turns into the same class again.
    Raises:
        InputError: for a class of the script that runs, for one that was defined inside a function, and for one that
            its module does not hold under its name.
    """
    thing = f"class {cls.__qualname__}"
    _refuse_main(thing, cls.__module__)
    if "<locals>" in cls.__qualname__:
        raise InputError(
            thing, "is defined inside a function, where other processes can't import it", "put it into a module"
        )
    reference = f"{cls.__module__}:{cls.__qualname__}"
    if _imported(reference, thing) is not cls:
        raise InputError(thing, f"is not what {reference} imports", "give it a name of its own in its module")
    return reference


def resolve(reference: str, base_class: type[T], what: str) -> type[T]:
    """The class that a reference names.

    Args:
        reference: ``module:QualName``, such as ``my_module:Mine``. Its module is imported, and so runs.
        base_class: what the class must be a subclass of.
        what: what it is, for messages, such as "augmentation".
    Returns:
        A subclass of ``base_class`` that has no abstract methods left.
    Raises:
        InputError: for a string that is not a reference, a missing module or class, a class of the script that runs,
            and a class that is not such a subclass.
    """
    return checked(_imported(reference, f"{what} {reference!r}"), base_class, what)


def checked(cls: Any, base_class: type[T], what: str) -> type[T]:
    """``cls``, if it is a subclass of ``base_class`` that has no abstract methods left; else raises InputError."""
    if not (isinstance(cls, type) and issubclass(cls, base_class)):
        raise InputError(f"{what} {cls!r}", f"must be a subclass of {base_class.__name__}", "derive it from that class")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise InputError(f"{what} {cls.__qualname__}", f"has no {missing}", "define what is missing")
    return cls


def _imported(reference: str, thing: str) -> Any:
    module_name, _, qualname = reference.partition(":")
    if not all(part.isidentifier() for name in (module_name, qualname) for part in name.split(".")):
        raise InputError(thing, "is not a reference to a class", "write module:Class, such as my_module:Mine")
    _refuse_main(thing, module_name)
    try:
        value: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        name = error.name or module_name
        is_own = module_name == name or module_name.startswith(f"{name}.")
        rule = f"there is no module {name}" if is_own else f"its module {module_name} imports {name}, which is missing"
        raise InputError(thing, rule, "install it, or add the folder that holds it to PYTHONPATH") from error
    for part in qualname.split("."):
        if not hasattr(value, part):
            near = get_close_matches(part, dir(value), n=1)
            remedy = f"did you mean {near[0]}?" if near else f"define {qualname} in {module_name}"
            raise InputError(thing, f"{module_name} has no {qualname}", remedy)
        value = getattr(value, part)
    return value


def _refuse_main(thing: str, module_name: str) -> None:
    if module_name in MAIN:
        raise InputError(
            thing, "is defined in the script that runs, which other processes can't import", "put it into a module"
        )
