"""The house rules that a machine can check: who imports whom, and that no label can reach selection."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Every room may import itself and the rooms to its left.
ROOMS = ("augmentations", "detectors", "selector", "benchmarks")
LABEL_WORDS = {"label", "labels", "target", "targets", "mask", "masks", "y_true", "ground_truth", "anomaly_ratio"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            found.add((node.module or "").split(".")[0])
    return found & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_the_left_only(room):
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert sources(room)
    for path in sources(room):
        assert imported_rooms(path) <= allowed, path


@pytest.mark.parametrize("room", ["augmentations", "detectors", "selector"])
def test_no_parameter_outside_benchmarks_can_carry_a_label(room):
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arguments):
                names = {argument.arg for argument in [*node.args, *node.kwonlyargs, *node.posonlyargs]}
                assert not names & LABEL_WORDS, f"{path}: {names & LABEL_WORDS}"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_pickled(room):
    for path in sources(room):
        text = path.read_text()
        for forbidden in ("import pickle", "torch.save(", "torch.load(", "joblib.dump(", "joblib.load("):
            assert forbidden not in text, f"{path}: {forbidden}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_and_class_says_what_it_is(room):
    for path in sources(room):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and len(node.body) > 1:
                assert ast.get_docstring(node), f"{path}: {node.name}"
