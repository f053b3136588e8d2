"""Images that arrive in a folder, change there, and are many."""

import os
from itertools import pairwise

import pytest

from augmentations import InputError
from selector.detection import watch
from selector.detection.watch import watch_folder


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """Run a watch while something happens after each look; returns the names that each look reported."""

    def run(*events, current=()):
        looks, handled = iter(events), set()
        monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(looks, lambda: None)())
        is_current = lambda file: file.name in current or (file.name, file.state) in handled  # noqa: E731
        found = []
        for files in watch_folder(tmp_path, is_current, looks=len(events) + 1):
            handled |= {(file.name, file.state) for file in files}
            found.append(sorted(file.name for file in files))
        return found

    return run


def nothing():
    pass


def test_a_file_is_complete_when_it_did_not_change_between_two_looks(tmp_path, reports):
    path = tmp_path / "a.png"
    grow = [lambda n=n: path.write_bytes(b"x" * n) for n in (1, 2, 3)]
    assert reports(*grow, nothing, nothing) == [["a.png"]]


def test_a_file_that_changes_later_is_reported_again(tmp_path, reports):
    path = tmp_path / "a.png"
    half, whole = (lambda: path.write_bytes(b"x" * 5)), (lambda: path.write_bytes(b"x" * 10))
    assert reports(half, nothing, nothing, whole, nothing, nothing) == [["a.png"], ["a.png"]]


def test_a_file_of_the_same_size_and_another_time_is_reported_again(tmp_path, reports):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    assert reports(nothing, nothing, lambda: os.utime(path, (1, 1)), nothing, nothing) == [["a.png"], ["a.png"]]


def test_what_was_handled_before_is_not_reported(tmp_path, reports):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    assert reports(nothing, nothing, current=("a.png",)) == [["b.png"]]


def test_an_empty_file_is_not_complete(tmp_path, reports):
    (tmp_path / "a.png").touch()
    assert reports(nothing, nothing) == []


@pytest.mark.parametrize("name", [b"\xff.png", b"a\rb.png", b"a\nb.png", b"a\\b.png", b"\x1b[31m.png"])
def test_any_name_is_watched(tmp_path, reports, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"x")
    (found,) = reports(nothing, nothing)
    assert len(found) == 1
    assert found[0].isprintable()


def test_a_look_handles_each_file_once(tmp_path, monkeypatch):
    """Nothing is quadratic: so many questions as there are files, in all looks together."""
    for i in range(200):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    questions = []
    list(watch_folder(tmp_path, lambda file: bool(questions.append(file.name)) or True, looks=6))
    assert len(questions) == 200


def looks_that_report(folder, monkeypatch, n, good_from, events=None):
    """At which looks a.png is reported, whose reading fails before a look, while something happens after some looks."""
    look, found = [0], []

    def sleep(seconds):
        (events or {}).get(look[0], lambda: None)()
        look[0] += 1

    monkeypatch.setattr(watch.time, "sleep", sleep)
    for _ in watch_folder(folder, lambda file: bool(found) and found[-1] >= good_from, looks=n):
        found.append(look[0])
    return found


def test_what_could_not_be_read_is_reported_again_at_growing_intervals(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x")
    assert looks_that_report(tmp_path, monkeypatch, 40, good_from=99) == [1, 2, 4, 8, 16, 32]
    assert looks_that_report(tmp_path, monkeypatch, 40, good_from=8) == [1, 2, 4, 8]
    found = looks_that_report(tmp_path, monkeypatch, 400, good_from=999)
    assert max(b - a for a, b in pairwise(found)) == watch.LONGEST_WAIT


def test_what_was_unreadable_and_changes_is_reported_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    grow = {look: lambda look=look: path.write_bytes(b"x" * look) for look in (9, 10, 11, 12, 13, 14, 15, 16)}
    found = looks_that_report(tmp_path, monkeypatch, 22, good_from=99, events=grow)
    assert found == [1, 2, 4, 8, 18, 19, 21]


def test_nothing_is_quadratic_where_no_file_can_be_read(tmp_path, monkeypatch):
    for i in range(100):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    questions = []
    found = list(watch_folder(tmp_path, lambda file: bool(questions.append(file.name)), looks=100))
    assert len(found) == 7
    assert len(questions) == 2 * 100 * len(found)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        next(watch_folder(tmp_path / "nowhere", lambda file: False))
