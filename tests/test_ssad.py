"""The command from its first instant on: what Ctrl-C does while Python still loads the libraries."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ssad
from selector import command

ROOT = Path(__file__).parents[1]
STOP = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
# Libraries report it as a failed import, or go on.
SWALLOWED = f"try:\n    exec({STOP!r})\nexcept BaseException as error:\n    raise ImportError('failed') from error\n"


# A shell's background jobs ignore Ctrl-C, and so would what they start.
CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start(code, folder, *arguments):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", CTRL_C + code, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def entry_point():
    """What the installed script runs."""
    module, _, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["ssad"].partition(
        ":"
    )
    return f"import sys\nfrom {module} import {function}\nsys.exit({function}())"


@pytest.mark.parametrize("torch", [STOP, SWALLOWED], ids=["at once", "swallowed"])
def test_ctrl_c_while_torch_loads_is_one_line(tmp_path, torch):
    (tmp_path / "torch.py").write_text(torch)
    done = start(entry_point(), tmp_path, "report", "run")
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    assert done.stderr == "ssad: stopped before anything was begun\n"


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch):
    """As of a program that Python is embedded in; Python can't set it again."""
    ran = []
    monkeypatch.setattr(command, "main", lambda: ran.append(True))
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    ssad.main()
    assert ran == [True]


def test_ctrl_c_is_the_commands_own_once_it_is_loaded(tmp_path):
    code = "import atexit, signal\natexit.register(lambda: print(signal.getsignal(signal.SIGINT).__name__))\n"
    done = start(code + entry_point(), tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "default_int_handler"


def test_a_command_that_was_started_to_ignore_ctrl_c_ignores_it(tmp_path):
    """As in the background of a script."""
    (tmp_path / "torch.py").write_text(STOP.replace("20", "0") + "raise SystemExit(7)")
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    assert start(code + entry_point(), tmp_path, "report", "run").returncode == 7
