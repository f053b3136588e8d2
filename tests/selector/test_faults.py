"""Kills in earnest: whatever is killed and whenever, the same call again ends with the same answer.

The runs are made by one process of their own that has everything imported and forks one child for each run, because
importing takes longer than such a run.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from detectors import files
from detectors.checksums import CHECKSUM

ROOT = Path(__file__).parents[2]
SEED = 20240617

pytestmark = pytest.mark.slow

DRIVER = '''
import json, os, signal, sys, traceback
from dataclasses import replace
from pathlib import Path

import torch

import selector
from detectors import PRESETS
from selector.search import optuna

PRESETS["tiny"] = replace(PRESETS["quick"], steps=5, batch=8, image_size=32)
optuna.STARTUP = optuna.BATCH = 2
AREAS = [(0.02, 0.1), (0.1, 0.2), (0.2, 0.25), (0.25, 0.3)]


def fatal_at(out, n):
    """Kill this process right before the n-th time that it opens or changes something below `out`."""
    left = [n]

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            if str(arguments[0]).startswith(out):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def select(out, answer, jobs=1, fatal=None, areas=4, others=(), **search):
    if fatal is not None:
        fatal_at(out, fatal)
    torch.set_num_threads(2)
    source = torch.Generator().manual_seed(0)
    good = 0.5 + 0.1 * torch.rand(24, 1, 32, 32, generator=source)
    test = 0.5 + 0.1 * torch.rand(12, 1, 32, 32, generator=source)
    test[:4, :, 8:14, 8:14] = 1.0
    grids = {"cutout": [{"area": area} for area in AREAS[:areas]]} | {name: [{}] for name in others}
    grids = ["cutout", "cutpaste"] if search else grids
    run = {"detectors": "classifier", "preset": "tiny", "jobs": jobs, "out": out, "seed": 3, "device": "cpu"}
    selection = selector.select_best(good, test, grids, **run, **search)
    Path(answer).write_text(selection.ranking.to_json())


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            select(**json.loads(line))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


class Driver:
    """Runs of select_best that may be killed, one at a time."""

    def __init__(self, folder):
        script = folder / "driver.py"
        script.write_text(DRIVER)
        # One thread before the fork: libraries for many threads do not survive one.
        self.process = subprocess.Popen(
            [sys.executable, script],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, out, **options):
        """Begin a run; returns its process id, which is also its group's."""
        request = {"out": str(out), "answer": f"{out}.json", **options}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self):
        """Wait for the end of the run; returns its exit code, negative for a signal."""
        return int(self.process.stdout.readline())

    def select(self, out, **options):
        """A whole run; returns its ranking."""
        self.start(out, **options)
        assert self.ended() == 0
        return json.loads(Path(f"{out}.json").read_text())


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = Driver(tmp_path_factory.mktemp("driver"))
    yield driver
    driver.process.stdin.close()
    driver.process.stdout.close()
    driver.process.wait()


@pytest.fixture(scope="module")
def undisturbed(driver, tmp_path_factory):
    """The folder, the ranking and the seconds of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    driver.select(out.with_name("warm-up"))
    started = time.monotonic()
    ranking = driver.select(out)
    return out, ranking, time.monotonic() - started


def finished(out):
    """All files of the candidates that are finished: content and time of the last change."""
    folders = [path.parent for path in out.glob("candidates/*/record.json") if not path.parent.name.startswith(".")]
    paths = [path for folder in folders for path in folder.iterdir()]
    return {str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def assert_whole(out):
    """Whatever is visible is complete."""
    for path in out.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(out).parts):
            if path.suffix == ".safetensors":
                files.read(path)
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
    for folder in out.glob("candidates/[!.]*"):
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        assert names == {"record.json", "scorer.safetensors", "evidence.safetensors", "calibration.safetensors"}


def results(out):
    """What a run leaves, but for the seconds it took."""
    contents = {}
    for path in [*out.glob("candidates/*/*"), *out.glob("trained/*"), *out.glob("*.*")]:
        content = path.read_bytes()
        if path.name == "record.json":
            content = {key: value for key, value in json.loads(content).items() if key not in ("seconds", CHECKSUM)}
        if path.name == "study.log":
            trials = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path)))).trials
            content = [(trial.state, trial.value, trial.params, trial.user_attrs) for trial in trials]
        contents[str(path.relative_to(out))] = content
    return contents


def test_twice_is_the_same(driver, undisturbed, tmp_path):
    out, ranking, _ = undisturbed
    assert driver.select(tmp_path / "run") == ranking
    assert results(tmp_path / "run") == results(out)


def test_two_workers_give_the_same_answer_as_none(driver, undisturbed, tmp_path):
    out, ranking, _ = undisturbed
    assert driver.select(tmp_path / "run", jobs=2) == ranking
    assert results(tmp_path / "run") == results(out)


def test_killed_at_random_instants(driver, undisturbed, tmp_path):
    """kill -9 of the whole group, again and again, until a run gets through."""
    _, ranking, seconds = undisturbed
    chance = random.Random(SEED)
    kills = 0
    for life in range(12):
        out = tmp_path / f"run {life}"
        for _ in range(4):
            before = finished(out)
            group = driver.start(out)
            time.sleep(chance.uniform(0, 0.6 * seconds))
            with suppress(ProcessLookupError):  # it got through, or is too young to lead a group
                os.killpg(group, signal.SIGKILL)
            if driver.ended() == 0:
                break
            kills += 1
            assert_whole(out)
            assert before.items() <= finished(out).items()
        before = finished(out)
        assert driver.select(out) == ranking
        assert before.items() <= finished(out).items()
        assert results(out).keys() == results(undisturbed[0]).keys()
        assert results(out) == results(undisturbed[0])
        assert [path.name for path in out.rglob(".*")] == [".lock"]
        if kills >= 5:
            break
    assert kills >= 5


def test_killed_before_any_step_on_disk(driver, undisturbed, tmp_path):
    """Every so often among all openings, renames and removals below the run folder, right before it happens."""
    expected = driver.select(tmp_path / "expected", areas=2)
    chance = random.Random(SEED)
    step, killed = 1, 0
    while True:
        out = tmp_path / f"run {step}"
        driver.start(out, fatal=step, areas=2)
        code = driver.ended()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        assert_whole(out)
        before = finished(out)
        assert driver.select(out, areas=2) == expected
        assert before.items() <= finished(out).items()
        assert results(out) == results(tmp_path / "expected")
        assert [path.name for path in out.rglob(".*")] == [".lock"]
        step += chance.randint(4, 14)
    assert killed > 5


@pytest.mark.drill
def test_a_run_that_grows_killed_before_any_step_on_disk(driver, tmp_path):
    """A family of augmentations joins a finished run: its candidates are trained, and the others are completed."""
    begun = tmp_path / "begun"
    driver.select(begun, areas=2)
    expected_out = Path(shutil.copytree(begun, tmp_path / "expected"))
    weights = {path: path.stat().st_mtime_ns for path in expected_out.glob("trained/*")}
    expected = driver.select(expected_out, areas=2, others=["cutpaste"])
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    chance = random.Random(SEED)
    step, killed = 1, 0
    while True:
        out = Path(shutil.copytree(begun, tmp_path / f"run {step}"))
        driver.start(out, fatal=step, areas=2, others=["cutpaste"])
        code = driver.ended()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        assert_whole(out)
        assert driver.select(out, areas=2, others=["cutpaste"]) == expected
        assert results(out) == results(expected_out)
        assert [path.name for path in out.rglob(".*")] == [".lock"]
        step += chance.randint(6, 16)
    assert killed > 5


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.drill)])
def test_a_search_killed_at_random_instants(driver, tmp_path, jobs):
    """Batches of two trials: the kills fall before, between and in them."""
    search = {"search": "tpe", "trials": 7}
    started = time.monotonic()
    ranking = driver.select(tmp_path / "expected", **search)
    seconds = time.monotonic() - started
    chance = random.Random(SEED)
    out, kills = tmp_path / "run", 0
    for _ in range(4):
        before = finished(out)
        group = driver.start(out, jobs=jobs, **search)
        time.sleep(chance.uniform(0.1, 0.4) * seconds)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        if driver.ended() == 0:
            break
        kills += 1
        assert_whole(out)
        assert before.items() <= finished(out).items()
    before = finished(out)
    assert kills
    assert driver.select(out, jobs=jobs, **search) == ranking
    assert before.items() <= finished(out).items()
    assert results(out) == results(tmp_path / "expected")


@pytest.mark.drill
def test_a_parent_killed_and_then_a_worker(driver, undisturbed, tmp_path):
    """With two workers: first the parent alone is killed, whose workers must end too; then one of the next two."""
    out = tmp_path / "run"
    _, ranking, _ = undisturbed
    parent = driver.start(out, jobs=2)
    until(lambda: len(workers(parent)) == 2 and any(out.glob("progress/*.json")))
    orphans = workers(parent)
    os.kill(parent, signal.SIGKILL)
    assert driver.ended() == -signal.SIGKILL
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    assert_whole(out)
    before = finished(out)
    shutil.rmtree(out / "progress", ignore_errors=True)

    parent = driver.start(out, jobs=2)
    until(lambda: len(workers(parent)) == 2 and any(out.glob("progress/*.json")))
    os.kill(workers(parent)[0], signal.SIGKILL)
    assert driver.ended() == 0
    assert json.loads(Path(f"{out}.json").read_text()) == ranking
    assert before.items() <= finished(out).items()
    assert results(out) == results(undisturbed[0])


def workers(parent):
    """The loky workers of a process, by /proc."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                command = (stat.parent / "cmdline").read_bytes()
                if b"popen_loky" in command:
                    pids.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pids


def until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
