"""The page in a real browser: what axe finds, what the console says, and sorting by keyboard."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.leaderboard import write

SCRIPT = Path(__file__).with_name("axe.mjs")
PACKAGES = ("axe-core", "puppeteer-core")


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    """What ``axe.mjs`` prints of the page."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    for program, path in {"chromium": chromium, "node": shutil.which("node"), "npm": shutil.which("npm")}.items():
        if path is None:
            pytest.skip(f"{program} is not installed")
    modules = tmp_path_factory.mktemp("npm")
    (modules / "package.json").write_text("{}")
    try:
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        subprocess.run(command, cwd=modules, check=True, capture_output=True, timeout=200)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"npm can't install {' and '.join(PACKAGES)}: {error}")
    page = write(run, tmp_path_factory.mktemp("seen"))
    done = subprocess.run(
        ["node", SCRIPT, modules, chromium, page], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_axe_finds_nothing_serious_at_both_widths_in_both_schemes(found):
    assert found["passes"] > 4 * 20  # it did look
    assert [each for each in found["violations"] if each["impact"] in ("serious", "critical")] == []


@pytest.mark.slow
def test_the_console_is_silent_and_nothing_is_loaded(found):
    assert found["messages"] == []
    assert {request.rsplit("/", 1)[-1] for request in found["requests"]} == {"index.html"}


@pytest.mark.slow
def test_only_tables_scroll_sideways(found):
    assert found["overflows"] == []


@pytest.mark.slow
def test_a_heading_is_reached_and_sorted_by_keyboard(found):
    sorting = found["sorting"]
    assert sorting["skip"] == "#main"
    assert sorting["outline"] == "solid"
    for press, direction in (("first", "descending"), ("second", "ascending")):
        values = [float(key) for key in sorting[press]["keys"]]
        assert sorting[press]["sort"] == direction
        assert values == sorted(values, reverse=direction == "descending")
        assert len(values) == 10


@pytest.mark.slow
def test_all_is_unfolded_on_paper_and_folded_again_after(found):
    assert found["printing"] == {"before": [True, False], "during": [True, True], "after": [True, False]}
