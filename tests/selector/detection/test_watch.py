"""Images that arrive in a folder, change there, and are many."""

import os

import pytest

from augmentations import InputError
from selector.detection import watch
from selector.detection.watch import watch_folder


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """Run a watch while something happens after each look; returns the names that each look reported."""

    def run(*events, current=()):
        looks = iter(events)
        monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(looks, lambda: None)())
        found = watch_folder(tmp_path, lambda file: file.name in current, looks=len(events) + 1)
        return [sorted(file.name for file in files) for files in found]

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


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        next(watch_folder(tmp_path / "nowhere", lambda file: False))
