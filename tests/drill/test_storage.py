"""Disks that are full or read-only, clocks that are set back, two processes on one folder, copies made meanwhile."""

import errno
import os
import random
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1200)]

SEED = 20251104
FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}
COMMANDS = ("select", "detect", "report", "export", "benchmark")
INSTANTS = 2  # of each fault and command, spread over all that the command does to its folder


def assert_one_sentence(ended):
    """Exit code 2 and one line that says what can't be written, and what to do."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.output + ended.error
    lines = [line for line in ended.error.splitlines() if line.startswith("ssad:")]
    assert len(lines) == 1, ended.error
    assert "can't be written to" in lines[0]
    assert "again" in lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fails_from_some_step_on(name, ssad, commands, undisturbed, same, drill_table, tmp_path):
    """Every change below the output folder fails from the n-th on; afterwards the same command ends."""
    run = undisturbed[0] / "select"
    count = tmp_path / "count"
    ssad.done(*commands(name, tmp_path / "counted", run), fail={"root": str(tmp_path / "counted"), "count": str(count)})
    steps = int(count.read_text())
    chance = random.Random(f"{SEED} {name}")
    before, tried = ssad.tracebacks, dict.fromkeys(FAULTS, 0)
    for fault, code in FAULTS.items():
        parts = [round(1 + steps * i / INSTANTS) for i in range(INSTANTS + 1)]
        for n in [1, *(chance.randrange(a, max(b, a + 1)) for a, b in pairwise(parts))]:
            out = tmp_path / f"{fault} {n}"
            ended = ssad.run(*commands(name, out, run), fail={"root": str(out), "from": n, "code": code})
            assert_one_sentence(ended)
            ended = ssad.run(*commands(name, out, run))
            assert ended.code == 0 or "already holds" in ended.error, ended
            same(name, out)
            tried[fault] += 1
    for fault, times in tried.items():
        drill_table.record(f"a {fault} disk, from some step of {name} on", times, 0, ssad.tracebacks - before)
    assert ssad.tracebacks == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_of_file_size(name, ssad, commands, undisturbed, same, drill_table, tmp_path):
    """The system's own refusal: files may be no larger than some that the command writes."""
    root = undisturbed[0]
    sizes = sorted({path.stat().st_size for path in (root / name).rglob("*") if path.is_file()})
    sizes = [size for size in sizes if size > 1024]  # what the command says has to fit in, too
    before, tried = ssad.tracebacks, 0
    for size in (sizes[0] - 1, sizes[len(sizes) // 2] - 1, sizes[-1] - 1):
        out = tmp_path / f"{size}"
        ended = ssad.run(*commands(name, out, root / "select"), size=max(size, 1))
        assert_one_sentence(ended)
        ended = ssad.run(*commands(name, out, root / "select"))
        assert ended.code == 0 or "already holds" in ended.error, ended
        same(name, out)
        tried += 1
    drill_table.record(f"a limit of file size in {name}", tried, 0, ssad.tracebacks - before)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many bytes, and changes it; where mounting is not allowed the test is skipped."""
    mounted = []

    def mount(options):
        disk = tmp_path / "disk"
        disk.mkdir(exist_ok=True)
        options = f"remount,{options}" if mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            if mounted:
                raise AssertionError(f"the disk can't be mounted again with {options}")
            pytest.skip("mounting needs more rights than this process has")
        mounted.append(disk)
        return disk

    yield mount
    if mounted:
        subprocess.run(["umount", str(mounted[0])], check=True)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("share", [0.02, 0.4, 0.8])
def test_a_small_disk(name, share, small_disk, ssad, commands, undisturbed, same, drill_table):
    """A real one that is full after a part of the output; it ends once there is space."""
    root = undisturbed[0]
    total = sum(path.stat().st_size for path in (root / name).rglob("*") if path.is_file())
    disk = small_disk(f"size={max(8192, int(share * total) // 4096 * 4096)}")
    before = ssad.tracebacks
    ended = ssad.run(*commands(name, disk / "out", root / "select"))
    assert_one_sentence(ended)
    small_disk("size=64m")
    assert ssad.run(*commands(name, disk / "out", root / "select")).code == 0
    same(name, disk / "out")
    drill_table.record(f"a small disk under {name}", 1, 0, ssad.tracebacks - before)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_mounted_read_only(name, small_disk, ssad, commands, undisturbed, same, drill_table):
    root = undisturbed[0]
    disk = small_disk("size=64m")
    small_disk("ro")
    before = ssad.tracebacks
    assert_one_sentence(ssad.run(*commands(name, disk / "out", root / "select")))
    small_disk("rw")
    ssad.done(*commands(name, disk / "out", root / "select"))
    same(name, disk / "out")
    drill_table.record(f"a disk mounted read-only under {name}", 1, 0, ssad.tracebacks - before)


def test_a_finished_run_on_a_read_only_disk_is_used(
    small_disk, ssad, commands, undisturbed, same, drill_table, tmp_path
):
    """Reading needs no writing."""
    disk = small_disk("size=64m")
    shutil.copytree(undisturbed[0] / "select", disk / "run")
    small_disk("ro")
    before = ssad.tracebacks
    for name in ("detect", "report", "export"):
        ssad.done(*commands(name, tmp_path / name, disk / "run"))
        same(name, tmp_path / name)
    drill_table.record("reading a run on a read-only disk", 3, 0, ssad.tracebacks - before)


@pytest.mark.parametrize("name", ["select", "detect", "benchmark"])
def test_a_clock_that_is_set_back(name, ssad, commands, undisturbed, same, drill_table, tmp_path):
    """Stopped in the middle; what is on disk then comes from a day that is still to come."""
    root, seconds = undisturbed
    before, day = ssad.tracebacks, 86400
    for i, share in enumerate((0.4, 0.7, 0.9)):
        out = tmp_path / str(i)
        ssad.signalled(commands(name, out, root / "select"), share * seconds[name], 9, clock=day)
        for path in out.rglob("*"):
            os.utime(path, (time.time() + day,) * 2)
        ended = ssad.run(*commands(name, out, root / "select"), clock=-day)
        assert ended.code == 0 or "already holds" in ended.error, ended
        same(name, out)
    drill_table.record(f"a clock set back between two runs of {name}", 3, 0, ssad.tracebacks - before)


@pytest.mark.parametrize("name", ["select", "detect", "benchmark", "report"])
def test_two_processes_on_one_folder(name, ssad, commands, undisturbed, same, drill_table, tmp_path):
    """One of them is refused in one sentence, or comes when the other is done; the output is that of one."""
    root, seconds = undisturbed
    before, tried = ssad.tracebacks, 5
    for i in range(tried):
        out = tmp_path / str(i)
        first = ssad.start(commands(name, out, root / "select"))
        time.sleep(seconds[name] * i / tried / 2)
        second = ssad.start(commands(name, out, root / "select"))
        ends = [ssad.ended(process) for process in (first, second)]
        assert 0 in [ended.code for ended in ends], ends
        for ended in ends:
            refused = "is in use by another" in ended.error or "already holds" in ended.error
            assert ended.code == 0 or (ended.code == 2 and refused), ended
            assert "Traceback" not in ended.error
        same(name, out)
    drill_table.record(f"two processes of {name} on one folder", tried, 0, ssad.tracebacks - before)


def test_a_lock_of_a_process_that_is_no_more(ssad, commands, undisturbed, same, drill_table, tmp_path):
    """The file stays, the lock does not."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    ssad.done(*commands("select", tmp_path / "out"))
    same("select", tmp_path / "out")
    with FileLock(tmp_path / "out" / ".lock").acquire(timeout=0):
        pass
    drill_table.record("a lock file that was left", 1, 0, 0)


def test_a_run_folder_copied_while_it_is_written(ssad, commands, undisturbed, same, drill_table, tmp_path):
    """Loading the copy works or is refused in one sentence, and the same command resumes it."""
    seconds, before, tried = undisturbed[1]["select"], ssad.tracebacks, 12
    chance = random.Random(SEED)
    for i in range(tried):
        out, copy = tmp_path / f"run {i}", tmp_path / f"copy {i}"
        process = ssad.start(commands("select", out))
        time.sleep(chance.uniform(0.1, 0.95) * seconds)
        for path in sorted(out.rglob("*"), reverse=i % 2 == 0):  # in either order: weights before records, and after
            to = copy / path.relative_to(out)
            if path.is_dir():
                to.mkdir(parents=True, exist_ok=True)
            elif path.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(path, to)
                except FileNotFoundError:
                    to.unlink(missing_ok=True)
            time.sleep(chance.uniform(0, 0.02))
        assert ssad.ended(process).code == 0
        same("select", out)
        copy.mkdir(exist_ok=True)
        loaded = ssad.run("report", copy, "--out", tmp_path / f"report {i}")
        assert loaded.code == 0 or (loaded.code == 2 and loaded.error.startswith("ssad: ")), loaded
        ssad.done(*commands("select", copy))
        same("select", copy)
    drill_table.record("a run folder copied while it is written", tried, 0, ssad.tracebacks - before)


def test_a_copy_without_the_weights(ssad, commands, copied, same, drill_table):
    """As a copy that took the folder of weights first: those candidates are trained again."""
    copy = copied("select")
    for path in Path(copy / "trained").glob("*"):
        path.unlink()
    before = ssad.tracebacks
    assert ssad.run("report", copy).code == 2
    ssad.done(*commands("select", copy))
    same("select", copy)
    drill_table.record("a copy that lacks weights", 1, 0, ssad.tracebacks - before)
