"""kill -9 and Ctrl-C at random instants: the same command again ends as if nothing had happened."""

import random
import signal
import time

import pytest

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1200)]

SEED = 20251104
# 100 in all, and 4 of a command with workers.
KILLS = {"select": 30, "detect": 20, "watch": 12, "report": 10, "export": 10, "benchmark": 18, "select, 2 workers": 4}
INTERRUPTS = {"select": 6, "detect": 6, "report": 3, "export": 4, "benchmark": 5, "select, 2 workers": 2}
COMPLETE = ("already holds a complete result", "already holds something")  # what says that it had got through


@pytest.fixture
def again(ssad, commands, undisturbed, watched, same):
    """The same command again: it ends, and with what the undisturbed one left."""

    def finish(name, out):
        if name == "watch":
            ended = watched(out, undisturbed[0] / "select")
        else:
            ended = ssad.run(*commands(name, out, undisturbed[0] / "select"))
        assert ended.code == 0 or any(words in ended.error for words in COMPLETE), ended
        assert "Traceback" not in ended.output + ended.error
        same(name, out)

    return finish


@pytest.mark.parametrize("name", KILLS)
def test_killed_at_random_instants(name, ssad, commands, undisturbed, again, drill_table, tmp_path):
    root, seconds = undisturbed
    chance = random.Random(f"{SEED} {name}")
    kills, lost, before, started = 0, 0, ssad.tracebacks, time.monotonic()
    for n in range(3 * KILLS[name]):
        out = tmp_path / f"out {n}"
        arguments = commands(name, out, root / "select")
        instant = chance.uniform(0, seconds[name])
        ended = ssad.signalled(arguments, instant, signal.SIGKILL)
        if ended.code != -signal.SIGKILL:  # it got through before
            continue
        kills += 1
        try:
            again(name, out)
        except AssertionError as error:
            lost += 1
            print(f"kill {n} at {instant:.3f} s of {name}: {error}")
        if kills == KILLS[name]:
            break
    tracebacks = ssad.tracebacks - before
    drill_table.record(f"kill -9 of {name}", kills, lost, tracebacks)
    print(f"{name}: {time.monotonic() - started:.0f} s")
    assert (kills, lost, tracebacks) == (KILLS[name], 0, 0)


@pytest.mark.parametrize("name", INTERRUPTS)
def test_interrupted_at_random_instants(name, ssad, commands, undisturbed, again, drill_table, tmp_path):
    """Ctrl-C reaches the command and its workers."""
    root, seconds = undisturbed
    chance = random.Random(f"{SEED} {name}")
    tried, lost, before = 0, 0, ssad.tracebacks
    for n in range(INTERRUPTS[name]):
        out = tmp_path / f"out {n}"
        instant = chance.uniform(0, seconds[name])
        ended = ssad.signalled(commands(name, out, root / "select"), instant, signal.SIGINT)
        tried += 1
        try:
            assert ended.code in (0, 1, 130, -signal.SIGINT), ended
            again(name, out)
        except AssertionError as error:
            lost += 1
            print(f"interrupt {n} at {instant:.3f} s of {name}: {error}")
    tracebacks = ssad.tracebacks - before
    drill_table.record(f"Ctrl-C of {name}", tried, lost, tracebacks)
    assert (lost, tracebacks) == (0, 0)


def test_a_watch_that_is_interrupted_at_random_instants(ssad, commands, undisturbed, again, drill_table, tmp_path):
    """It ends with a table of what was complete by then, and the next watch resumes it."""
    chance = random.Random(SEED)
    before = ssad.tracebacks
    for n in range(4):
        out = tmp_path / f"out {n}"
        arguments = commands("watch", out, undisturbed[0] / "select")
        ended = ssad.signalled(arguments, chance.uniform(0.5, undisturbed[1]["watch"]), signal.SIGINT)
        assert ended.code in (0, 1, 130), ended
        again("watch", out)
    drill_table.record("Ctrl-C of watch", 4, 0, ssad.tracebacks - before)
    assert ssad.tracebacks == before
