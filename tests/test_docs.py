"""The pages: generated tables are those of the results and the code, links lead somewhere, examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from augmentations import InputError
from benchmarks.leaderboard import documentation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_those_of_the_results_and_the_code(page):
    text = page.read_text("utf-8")
    assert documentation.fill(text) == text, "run: ssad benchmark docs"


def test_every_generated_table_stands_on_a_page():
    names = [name for page in PAGES for _, name, _ in documentation.BLOCK.findall(page.read_text("utf-8"))]
    assert sorted(names) == sorted(documentation.BLOCKS)


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="regrets"):
        documentation.fill("<!-- generated: ssad benchmark docs regret -->\n<!-- end -->")


def test_only_changed_pages_are_written(tmp_path):
    (tmp_path / "docs").mkdir()
    page = "<!-- generated: ssad benchmark docs presets -->\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(page)
    (tmp_path / "docs" / "other.md").write_text("nothing generated")
    assert documentation.write(tmp_path) == [tmp_path / "README.md"]
    assert "`quick`" in (tmp_path / "README.md").read_text()
    assert documentation.write(tmp_path) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text("utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_those_of_ssad(page):
    assert "python -m benchmarks" not in page.read_text("utf-8")


class TestExamples:
    """The files of docs/extend.md, as their readers would write them."""

    FILES = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "docs" / "extend.md").read_text("utf-8"), re.DOTALL)

    def test_there_are_some_and_they_are_short(self):
        assert len(self.FILES) >= 4
        assert max(text.count("\n") for _, text in self.FILES) <= 40

    @pytest.mark.slow
    def test_they_pass_their_own_tests(self, tmp_path):
        for name, text in self.FILES:
            (tmp_path / name).write_text(text, "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(name for name, _ in self.FILES)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
