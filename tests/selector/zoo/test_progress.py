"""What the user sees while the zoo is trained."""

import io
import re
import time

import pytest
import torch
from rich.console import Console

from detectors import Preset
from selector.zoo import progress
from selector.zoo.candidates import describe
from selector.zoo.plan import Plan
from selector.zoo.progress import display
from selector.zoo.result import Result, failure
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")
OK = {"status": "ok", "reason": ""}


def shown(zoo, n_pending=0):
    return display(zoo, lambda: n_pending, enabled=True)


def described(candidate):
    return describe(candidate.training.detector, candidate.augmentation, candidate.hyperparameters)


@pytest.fixture
def zoo(store, candidates):
    return Zoo(store, candidates, CPU)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_shown_by_default(zoo, capfd):
    with display(zoo, lambda: 0, enabled=False) as on_done:
        on_done(zoo.candidates[0])
    assert capfd.readouterr() == ("", "")


def test_elsewhere_than_on_a_terminal_it_is_one_line_per_candidate(zoo, capfd, clock):
    first, second = zoo.candidates
    with shown(zoo) as on_done:
        clock[0] = 20
        zoo.store.save(Result(first, OK))
        on_done(first)
        clock[0] = 240
        zoo.store.save(Result(second, OK))
        on_done(second)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"1 of 2 candidates, about 20 s left: {described(first)}",
        f"2 of 2 candidates after 4.0 min: {described(second)}",
    ]


def test_candidates_of_one_kind_can_be_distinguished(store, capfd):
    kinds = {"frozen": [{"score": "pooled"}, {"score": "locations"}], "pixels": [{}]}
    plan = Plan.of(("cutout",), kinds, ("gaussian", "knn"), Preset("small", 32, head=(8,), steps=2, batch=4))
    zoo = Zoo(store, [*plan.candidates(0), *plan.candidates(1)], CPU)
    with shown(zoo) as on_done:
        for candidate in zoo.candidates:
            store.save(Result(candidate, OK))
            on_done(candidate)
    names = [line.split(": ", 1)[1] for line in capfd.readouterr().err.splitlines()]
    assert len(set(names)) == len(zoo.candidates) == 12
    assert names[0] == "frozen (score pooled) [gaussian], seed 0"


def test_a_line_is_there_at_once(zoo, capfd):
    with shown(zoo) as on_done:
        zoo.store.save(Result(zoo.candidates[0], OK))
        on_done(zoo.candidates[0])
        assert capfd.readouterr().err.startswith("1 of 2")


def test_candidates_of_an_earlier_run_are_no_measure_of_what_is_left(zoo, capfd, clock):
    first, second = zoo.candidates
    zoo.store.save(Result(first, OK))
    with shown(zoo) as on_done:
        on_done(first)
        clock[0] = 30
        zoo.store.save(Result(second, OK))
        on_done(second)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"1 of 2 candidates: {described(first)}"
    assert lines[1].startswith("2 of 2 candidates after 30 s")


def test_a_failure_is_shown_with_its_reason(zoo, capfd):
    with shown(zoo) as on_done:
        for candidate in zoo.candidates:
            zoo.store.save(Result(candidate, failure("TrainingDivergedError: the loss was nan")))
            on_done(candidate)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith(", failed: TrainingDivergedError: the loss was nan")
    assert "2 of them failed" in lines[1]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal to write on, and what was written."""
    written = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=written, force_terminal=True, width=100))
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.01)
    return written


def test_a_terminal_shows_what_is_in_flight_and_then_one_line(zoo, terminal):
    first, second = zoo.candidates
    with shown(zoo) as on_done:
        Store(zoo.store.root).report_progress(first.training_id, 6, 0.5)
        deadline = time.monotonic() + 20
        while "step 6 of 12" not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for candidate in (first, second):
            zoo.store.save(Result(candidate, OK))
            on_done(candidate)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"step 6 of 12, loss 0\.500", text)
    assert "2 of 2 candidates after" in text.splitlines()[-1]


def test_a_terminal_is_left_in_order_after_an_error(zoo, terminal):
    with pytest.raises(KeyboardInterrupt), shown(zoo):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is shown again


def test_candidates_that_a_search_is_still_to_propose_are_counted(zoo, capfd):
    with shown(zoo, n_pending=5) as on_done:
        zoo.store.save(Result(zoo.candidates[0], OK))
        on_done(zoo.candidates[0])
    assert capfd.readouterr().err.startswith("1 of 7 candidates")
