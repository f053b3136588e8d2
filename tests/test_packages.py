"""What a machine can check of the packages: who imports whom, how long a file is, that no label can reach selection.

The order of packages and of the folders inside them is a contract of import-linter, in pyproject.toml (`make lint`).
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Every package may import itself and the packages before it.
PACKAGES = ("augmentations", "detectors", "selector", "benchmarks")
MAX_ENTRIES = {"selector": 18, "benchmarks": 12}
MAX_LINES = 400
LABEL_WORDS = {"label", "labels", "target", "targets", "mask", "masks", "y_true", "ground_truth", "anomaly_ratio"}
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported, inside functions and for type checkers too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its package"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_graph(texts: dict[str, str]) -> dict[str, set[str]]:
    """For each module the modules that it names in an import; ``from package import name`` is the module ``name`` where
    there is one, and the package otherwise."""
    return {
        module: {
            name if name in texts else name.rpartition(".")[0]
            for name in imported_names(ast.parse(text))
            if name in texts or name.rpartition(".")[0] in texts
        }
        - {module}
        for module, text in texts.items()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A path that comes back to where it began, or an empty list."""
    is_done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in is_done:
            return []
        for imported in sorted(graph[module]):
            if closed := visit(imported, [*path, module]):
                return closed
        is_done.add(module)
        return []

    return next((closed for module in sorted(graph) if (closed := visit(module, []))), [])


def test_a_circle_is_seen_wherever_its_imports_stand():
    texts = {
        "p": "",
        "p.a": "def f():\n    from p import b",
        "p.b": "if TYPE_CHECKING:\n    from p.c import name",
        "p.c": "import p.a",
    }
    assert circle(import_graph(texts)) == ["p.a", "p.b", "p.c", "p.a"]
    assert circle(import_graph(texts | {"p.c": "import os"})) == []


def test_no_circle_between_files():
    texts = {module_name(path): (ROOT / path).read_text("utf-8") for path in SOURCES}
    assert circle(import_graph(texts)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_before_them(package):
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1])
    assert sources(package)
    for path in sources(package):
        imported = {name.split(".")[0] for name in imported_names(ast.parse(path.read_text("utf-8")))}
        assert imported & set(PACKAGES) <= allowed, path


def test_the_contracts_of_import_linter_hold():
    """As `make lint` runs them: the order of the folders inside packages, too."""
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", MAX_ENTRIES)
def test_a_listing_fits_on_a_screen(package):
    entries = [path.name for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MAX_ENTRIES[package]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_is_short(path):
    n_lines = (ROOT / path).read_text("utf-8").count("\n")
    assert n_lines <= MAX_LINES


@pytest.mark.parametrize("package", ["augmentations", "detectors", "selector"])
def test_no_parameter_outside_benchmarks_can_carry_a_label(package):
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.arguments):
                names = {argument.arg for argument in [*node.args, *node.kwonlyargs, *node.posonlyargs]}
                assert not names & LABEL_WORDS, f"{path}: {names & LABEL_WORDS}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_pickled(package):
    for path in sources(package):
        text = path.read_text("utf-8")
        # Weights that the user has are read by torch's reader that runs no code.
        text = re.sub(r"torch\.load\([^()]*, weights_only=True\)", "", text)
        for forbidden in ("import pickle", "torch.save(", "torch.load(", "joblib.dump(", "joblib.load("):
            assert forbidden not in text, f"{path}: {forbidden}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_and_class_has_a_docstring(package):
    for path in sources(package):
        tree = ast.parse(path.read_text("utf-8"))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and len(node.body) > 1:
                assert ast.get_docstring(node), f"{path}: {node.name}"
