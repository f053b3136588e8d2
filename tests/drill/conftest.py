"""The drill: commands that are killed, interrupted, or run out of disk; and the table of what was tried.

Commands run as processes of their own, forked from one that has everything imported, because importing takes longer
than the commands do.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectors.checksums import CHECKSUM

ROOT = Path(__file__).parents[2]

DRIVER = '''
import errno, json, os, resource, signal, sys, time, traceback
from dataclasses import replace

import onnx, onnxruntime, onnxscript
import torch
import torch.export

import benchmarks
import benchmarks.command
import selector
from benchmarks.suites.definitions import SUITES, DataSet, Suite, classifiers
from benchmarks.tasks.task import Task
from detectors import PRESETS
from selector import command

torch.set_num_threads(1)
PRESETS["tiny"] = replace(PRESETS["quick"], steps=5, batch=8, image_size=32)


def load(name, root, image_size):
    source = torch.Generator().manual_seed(0)
    train, test = torch.rand(24, 1, 32, 32, generator=source), torch.rand(24, 1, 32, 32, generator=source)
    test[12:, :, 8:16, 8:16] = 1
    return Task(name, 0.4 + 0.2 * train, 0.4 + 0.2 * test, torch.tensor([0] * 12 + [1] * 12, dtype=torch.uint8))


benchmarks.LOADERS["drill"] = load
zoo = classifiers({"cutout": [{"area": 0.05}, {"area": 0.2}]})
data_sets = (DataSet(("drill",), "drill", image_size=32),)
SUITES["drill"] = Suite("drill", "For tests.", data_sets, zoo, seeds=(0,), preset="tiny", ratios=(0.5,))
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def fail_from(root, n, code, count):
    """Let everything that changes something below `root` fail from the n-th on; the steps are counted in a file."""
    steps = [0]

    def hook(event, arguments):
        if event in CHANGES and str(arguments[0]).startswith(root):
            if event == "open" and not (arguments[2] or 0) & WRITING:
                return
            steps[0] += 1
            if count:
                os.pwrite(count, b"%d" % steps[0], 0)
            if n and steps[0] >= n:
                raise OSError(code, os.strerror(code), str(arguments[0]))

    sys.addaudithook(hook)


def run(arguments, output, error, folder, fail, size, clock):
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, number in ((output, 1), (error, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if folder:
        os.chdir(folder)
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if clock:
        now, now_ns = time.time, time.time_ns
        time.time, time.time_ns = lambda: now() + clock, lambda: now_ns() + clock * 10**9
    if fail:
        count = os.open(fail["count"], os.O_WRONLY | os.O_CREAT) if "count" in fail else 0
        fail_from(fail["root"], fail.get("from", 0), fail.get("code", 0), count)
    sys.argv = ["ssad", *arguments]
    command.main()


for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, int):
        print(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(**request)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
'''

Ended = namedtuple("Ended", "code output error")


class Ssad:
    """`ssad` as processes: they can be killed, and disks and clocks can fail them."""

    def __init__(self, folder):
        script = folder / "driver.py"
        script.write_text(DRIVER)
        self.folder, self.tracebacks, self._n = folder, 0, 0
        self.process = subprocess.Popen(
            [sys.executable, script],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _request(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, arguments, folder=None, fail=None, size=None, clock=None):
        """Begin a command; returns its process id, which is also its group's."""
        self._n += 1
        output, error = (str(self.folder / f"{self._n}.{name}") for name in ("out", "err"))
        request = {"arguments": [str(argument) for argument in arguments], "output": output, "error": error}
        request |= {"folder": folder and str(folder), "fail": fail, "size": size, "clock": clock}
        process = self._request(request)
        self._files = {**getattr(self, "_files", {}), process: (Path(output), Path(error))}
        return process

    def error(self, process):
        """What a running command has said on standard error so far."""
        path = self._files[process][1]
        return path.read_text(errors="replace") if path.exists() else ""

    def ended(self, process):
        """Wait for the end of a command; returns its exit code, negative for a signal, and what it said."""
        code = self._request(process)
        said = [path.read_text(errors="replace") if path.exists() else "" for path in self._files.pop(process)]
        for text in said:
            if "Traceback (most" in text:
                self.tracebacks += 1
                print(text)
        return Ended(code, *said)

    def run(self, *arguments, **options):
        return self.ended(self.start(arguments, **options))

    def done(self, *arguments, **options):
        """A command that must succeed; returns what it wrote."""
        ended = self.run(*arguments, **options)
        assert ended.code == 0, ended
        return ended.output

    def signalled(self, arguments, seconds, number, **options):
        """A command that gets a signal, its workers too, after so many seconds; returns how it ended."""
        process = self.start(arguments, **options)
        time.sleep(seconds)
        for _ in range(100):  # it is too young to lead a group at first
            with suppress(ProcessLookupError):
                os.killpg(process, number)
                break
            time.sleep(0.01)
        return self.ended(process)


@pytest.fixture(scope="session")
def ssad(tmp_path_factory):
    commands = Ssad(tmp_path_factory.mktemp("driver"))
    yield commands
    commands.process.stdin.close()
    commands.process.stdout.close()
    commands.process.wait()


def image(seed, spot=False):
    source = np.random.default_rng(seed)
    pixels = 110 + 30 * source.random((32, 32))
    if spot:
        pixels[8:16, 10:20] = 250
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """24 normal images in good/, 10 unlabeled ones in incoming/."""
    root = tmp_path_factory.mktemp("images")
    for name, count, seed in (("good", 24, 0), ("incoming", 10, 100)):
        (root / name).mkdir()
        for i in range(count):
            image(seed + i, spot=name == "incoming" and i < 3).save(root / name / f"{i:02}.png")
    (root / "grid.json").write_text(
        '{"augmentations": {"cutout": [{"area": 0.05}, {"area": 0.2}]}, "detectors": ["classifier"]}'
    )
    return root


@pytest.fixture(scope="session")
def commands(folders):
    """The arguments of each command that writes, for an output folder; run: the run folder of those that read one."""
    good, incoming = folders / "good", folders / "incoming"
    selects = ["select", "--train", good, "--test", incoming, "--grid", folders / "grid.json", "--preset", "tiny"]

    def make(name, out, run=None):
        return {
            "select": [*selects, "--device", "cpu", "--jobs", 1, "--out", out],
            "select, 2 workers": [*selects, "--device", "cpu", "--jobs", 2, "--out", out],
            "detect": ["detect", run, incoming, "--device", "cpu", "--out", out],
            "watch": ["detect", run, incoming, "--device", "cpu", "--out", out, "--watch"],
            "report": ["report", run, "--out", out],
            "export": ["export", run, "--out", out],
            "benchmark": ["benchmark", "run", "drill", "--out", out, "--jobs", 1, "--device", "cpu"],
        }[name]

    return make


@pytest.fixture(scope="session")
def undisturbed(ssad, commands, tmp_path_factory):
    """The output folders of commands that nobody disturbed, and their durations in seconds."""
    root = tmp_path_factory.mktemp("undisturbed")
    seconds = {}
    for name in ("select", "detect", "report", "export", "benchmark"):
        for out in (root / "warm-up" / name, root / name):
            started = time.monotonic()
            ssad.done(*commands(name, out, root / "select"))
            seconds[name] = time.monotonic() - started
    seconds["watch"] = 3.0 + seconds["detect"]  # two looks, and the images
    seconds["select, 2 workers"] = 12.0  # that import torch
    return root, seconds


def contents(out):
    """What a command leaves, but for the seconds and times that it notes: the same however often it was stopped."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name, content = str(path.relative_to(out)), path.read_bytes()
        if path.name == "record.json":
            content = {key: value for key, value in json.loads(content).items() if key not in ("seconds", CHECKSUM)}
        elif path.name == "detections.jsonl":
            rows = map(json.loads, content.splitlines())
            content = sorted(json.dumps({**row, "file": 0, CHECKSUM: 0}) for row in rows)
        elif path.name in ("study.log", "settings.json", "candidates.json", "model.pt2", "index.html", "report.json"):
            content = "there"  # they note seconds, dates or folders
        found[name] = content
    return found


@pytest.fixture(scope="session")
def same(undisturbed):
    """Asserts that an output folder is what the undisturbed command left: nothing lost, doubled or left over."""

    def check(name, out):
        name = {"watch": "detect", "select, 2 workers": "select"}.get(name, name)
        expected, found = contents(undisturbed[0] / name), contents(out)
        assert found.keys() == expected.keys()
        assert [key for key in found if found[key] != expected[key]] == []
        assert {path.name for path in out.rglob(".*")} <= {".lock"}

    return check


@pytest.fixture
def watched(ssad, commands):
    """Runs a watch until every image has its row, then ends it by Ctrl-C; returns how it ended."""

    def read(rows):
        """The names that have a row of an image that could be read: an interrupted watch left rows of the others."""
        lines = rows.read_bytes().split(b"\n")[:-1] if rows.is_file() else []
        return {row["name"] for row in map(json.loads, lines) if "score" in row}

    def run(out, run_folder, n=10, **options):
        process = ssad.start(commands("watch", out, run_folder), **options)
        deadline = time.monotonic() + 60
        while "watching" not in ssad.error(process) or len(read(out / "detections.jsonl")) < n:
            assert time.monotonic() < deadline, "not every image got a row"
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process, signal.SIGINT)
        return ssad.ended(process)

    return run


@pytest.fixture
def copied(undisturbed, tmp_path):
    """Copies a finished output, to change it."""
    return lambda name, to="copy": Path(shutil.copytree(undisturbed[0] / name, tmp_path / to))


# The table -----------------------------------------------------------------------------------------------------------


class Table:
    """What was tried of each promise, how often it was not kept, and how many tracebacks a user would have seen."""

    def __init__(self, rows):
        self.rows = rows

    def record(self, promise, tried, lost, tracebacks, note=""):
        # As plain numbers: a worker process that can't send one of numpy's loses all of its rows.
        self.rows.append([promise, int(tried), int(lost), int(tracebacks), note])


@pytest.fixture(scope="session")
def drill_table(request):
    return Table(request.config.drill_rows)
