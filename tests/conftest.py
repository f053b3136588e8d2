"""What the tests of all packages share."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detectors import presets
from selector.zoo import auto
from selector.zoo.plan import Request

RELIABILITY = Path(__file__).parents[1] / "docs" / "reliability.md"
DRILL = ("<!-- generated: make drill -->\n", "<!-- end -->")


@pytest.fixture(autouse=True, scope="session")
def small_zoos():
    """Where a test names no kind it gets a classifier; what "auto" trains otherwise has tests of its own."""
    classifiers = (Request(auto.AUGMENTATIONS, ("classifier",), auto.SCORERS),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "CHOSEN", {True: classifiers, False: classifiers})
        yield


@pytest.fixture(autouse=True, scope="session")
def one_job():
    """Where a test names no number of jobs it works in its own process, as with one core: workers that import
    torch first cost more than what they do here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        yield


@pytest.fixture(autouse=True)
def fixed_seed():
    """What a test draws without a generator of its own is the same in every run, so that none fails by chance."""
    torch.manual_seed(0)


def pytest_addoption(parser):
    parser.addoption("--drill-table", action="store_true", help="write what was tried into docs/reliability.md")
    parser.addoption("--fuzz", type=int, default=500, help="how many inputs the drill tries of each kind")


# The drill's tests run in several processes; the one that started these prints the table of what all of them tried.


def pytest_configure(config):
    config.drill_rows = []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["drill"] = session.config.drill_rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.drill_rows += getattr(node, "workeroutput", {}).get("drill", [])


def pytest_terminal_summary(terminalreporter, config):
    if not config.drill_rows:
        return
    table = drill_table(config.drill_rows)
    terminalreporter.section("drill")
    terminalreporter.write(table)
    if config.getoption("--drill-table"):
        before, _, rest = RELIABILITY.read_text("utf-8").partition(DRILL[0])
        known, _, after = rest.partition(DRILL[1])
        table = drill_table(config.drill_rows, known.splitlines())
        RELIABILITY.write_text(f"{before}{DRILL[0]}\n{table}\n{DRILL[1]}{after}", "utf-8")


def drill_table(rows, earlier=()):
    """One row per promise, in Markdown, counts of the same promise added up; an earlier one's of what was not tried."""
    sums = {}
    for promise, *counts, note in rows:
        known, notes = sums.get(promise, ([0, 0, 0], []))
        sums[promise] = [a + b for a, b in zip(known, counts, strict=True)], [*notes, *[note] * bool(note)]
    head = ["| what was tried | times | lost or wrong | tracebacks | |", "|---|--:|--:|--:|---|"]
    kept = [line for line in earlier if line.startswith("| ") and line != head[0]]
    lines = [line for line in kept if line[2:].split(" | ")[0] not in sums]
    for promise, (counts, notes) in sorted(sums.items()):
        lines.append(
            f"| {promise} | {' | '.join(f'{count:,}' for count in counts)} | {'; '.join(dict.fromkeys(notes))} |"
        )
    return "\n".join([*head, *sorted(lines)]) + "\n"


@pytest.fixture(scope="session", autouse=True)
def tiny():
    """A preset of a few steps on 32 px images, beside the real ones: a candidate in a second."""
    presets.PRESETS["tiny"] = replace(presets.PRESETS["quick"], steps=12, batch=8, image_size=32)
    yield "tiny"
    del presets.PRESETS["tiny"]


@pytest.fixture(scope="session")
def stripes():
    """Normal images (n,1,32,32): vertical stripes of varying phase and brightness, with a little noise."""

    def make(n: int, seed: int = 0) -> torch.Tensor:
        source = torch.Generator().manual_seed(seed)
        columns = torch.arange(32.0).expand(n, 1, 32, 32)
        phase = 6 * torch.rand(n, 1, 1, 1, generator=source)
        noise = 0.05 * torch.randn(n, 1, 32, 32, generator=source)
        return (0.5 + 0.3 * torch.sin(columns + phase) + noise).clamp(0, 1)

    return make


@pytest.fixture(scope="session")
def scratched(stripes):
    """Images like the normal ones with a bright blot in each."""

    def make(n: int, seed: int = 1) -> torch.Tensor:
        images = stripes(n, seed)
        images[:, :, 10:18, 12:20] = 1.0
        return images

    return make
