"""The words of the project: those that docs/glossary.md rules out are used nowhere."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
SUFFIXES = {".py", ".md", ".jinja", ".toml", ".js", ".css", ""}
CODE = re.compile(r"`([^`]+)`")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the glossary, without its header."""
    section = GLOSSARY.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


PHRASES = [phrase for row in rows("Phrases that are not used") for phrase in CODE.findall(row[0])]
WORDS = {word: CODE.findall(row[1]) for row in rows("Words that are not identifiers") for word in CODE.findall(row[0])}


def files() -> list[Path]:
    """What is written by people, but the list itself and its test."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"the files of the project are those that git knows: {listed.stderr.strip()}")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    others = {GLOSSARY, Path(__file__).resolve()}
    return [
        path
        for path in paths
        if path.is_file()
        and path.suffix in SUFFIXES
        and path not in others
        and ROOT / "benchmarks" / "results" not in path.parents
    ]


def flowing(text: str) -> str:
    """Text on one line: without the breaks of comments and of strings that are continued."""
    text = re.sub(r"\"\s*\n\s*[frb]?\"", "", text)
    return " ".join(re.sub(r"^\s*#+", "", line).strip() for line in text.splitlines())


def phrases_in(text: str) -> list[str]:
    line = flowing(text)
    return [phrase for phrase in PHRASES if re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", line, re.IGNORECASE)]


def identifiers(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives: not those of libraries that it uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(asname=str(name)):
                yield name


def words_in(name: str) -> list[str]:
    """The words of the list that are a whole part of an identifier: `held` of `held_by`, but not of `held_out`."""
    parts = "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"
    found = []
    for word, exceptions in WORDS.items():
        rest = parts
        for exception in exceptions:
            rest = rest.replace(f"_{exception}_", "_")
        if f"_{word}_" in rest:
            found.append(word)
    return found


def test_the_lists_are_read_from_the_glossary():
    assert {"anew", "held against", "a row a"} <= set(PHRASES)
    assert WORDS["held"] == ["held_out", "hold_out"]
    assert "told" in WORDS


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("It is chosen\n    # anew each time", ["anew"]),
        ('"is held "\n    "against it"', ["held against"]),
        ("a renewed lease, a row apart", []),
    ],
)
def test_a_phrase_is_noticed_across_lines(text, phrases):
    assert phrases_in(text) == phrases


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("held", ["held"]),
        ("held_by", ["held"]),
        ("HELD_OUT_SHARE", []),
        ("TOLD_TEST", ["told"]),
        ("WasTold", ["told"]),
        ("seen_by", ["seen_by"]),
        ("withheld", []),
        ("floor_divide", []),
    ],
)
def test_a_word_is_a_whole_part_of_a_name(name, words):
    assert words_in(name) == words


def test_names_of_libraries_are_not_ours():
    tree = ast.parse("def f(held):\n    self.told = torch.floor(held)\n    import a as met")
    assert set(identifiers(tree)) == {"f", "held", "told", "met"}


def test_no_phrase_of_the_list_is_used():
    used = {str(path.relative_to(ROOT)): phrases_in(path.read_text("utf-8")) for path in files()}
    assert {name: phrases for name, phrases in used.items() if phrases} == {}


def test_no_word_of_the_list_is_an_identifier_or_the_name_of_a_file():
    used: dict[str, set[str]] = {}
    for path in files():
        names = {path.stem}
        if path.suffix == ".py":
            names |= set(identifiers(ast.parse(path.read_text("utf-8"))))
        if listed := {name for name in names if words_in(name)}:
            used[str(path.relative_to(ROOT))] = listed
    assert used == {}
