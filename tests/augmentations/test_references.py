import collections
import sys
from collections import OrderedDict
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from augmentations import InputError
from augmentations.references import reference_of, resolve


class Outer:
    class Inner(dict):
        pass


class Shadowed:
    pass


FIRST = Shadowed


class Shadowed:
    pass


def test_a_reference_finds_the_class_again():
    assert reference_of(OrderedDict) == "collections:OrderedDict"
    assert resolve("collections:OrderedDict", dict, "mapping") is collections.OrderedDict
    assert resolve(reference_of(Outer.Inner), dict, "mapping") is Outer.Inner


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine", "mapping 'mine': is not a reference to a class; write module:Class, such as my_module:Mine"),
        ("mine:", "is not a reference to a class"),
        (":Mine", "is not a reference to a class"),
        (".mine:Mine", "is not a reference to a class"),
        ("a/b:Mine", "is not a reference to a class"),
        ("no_such_module:Mine", "there is no module no_such_module; install it, or add the folder that holds it"),
        ("collections.nothing:Mine", "there is no module collections.nothing"),
        ("collections:OrderdDict", "collections has no OrderdDict; did you mean OrderedDict?"),
        ("collections:Zzzz.Yyyy", "collections has no Zzzz.Yyyy; define Zzzz.Yyyy in collections"),
        ("collections:deque", "must be a subclass of dict"),
        ("collections:namedtuple", "must be a subclass of dict"),
        (
            "__main__:Mine",
            "is defined in the script that runs, which other processes can't import; put it into a module",
        ),
    ],
)
def test_a_refusal_says_what_is_missing_and_what_to_do(reference, message):
    with pytest.raises(InputError) as refusal:
        resolve(reference, dict, "mapping")
    assert message in str(refusal.value)


def test_abstract_classes_are_refused():
    with pytest.raises(InputError, match="has no __getitem__, __iter__, __len__; define what is missing"):
        resolve("collections.abc:Mapping", Mapping, "mapping")


def test_a_module_that_lacks_another_says_which(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="module needs_more imports no_such_dependency, which is missing; install it"):
        resolve("needs_more:Mine", dict, "mapping")


def test_a_class_that_its_module_does_not_hold_is_refused():
    with pytest.raises(InputError, match=r"is not what .*:Shadowed imports; give it a name of its own"):
        reference_of(FIRST)


def test_a_local_class_has_no_reference():
    class Local:
        pass

    with pytest.raises(InputError, match="is defined inside a function"):
        reference_of(Local)


@pytest.mark.parametrize("script", ["__main__", "__mp_main__"])
def test_a_class_of_the_running_script_has_no_reference(monkeypatch, script):
    mine = type("Mine", (), {"__module__": script})
    monkeypatch.setitem(sys.modules, script, SimpleNamespace(Mine=mine))
    with pytest.raises(InputError, match=r"class Mine: is defined in the script that runs.*put it into a module"):
        reference_of(mine)
