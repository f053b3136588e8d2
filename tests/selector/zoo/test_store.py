"""The run folder: each piece whole or absent, one writer, the same run or none, and disks that give out."""

import ast
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import detectors
import selector
from augmentations import InputError
from detectors import files
from selector.execution.execution import ThisProcess
from selector.zoo import store as storing_room
from selector.zoo.store import StorageError, Store, disk_errors
from selector.zoo.zoo import Zoo, failure

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, candidates, images):
    """A store whose candidates are trained; to be copied, not changed."""
    store = Store(tmp_path_factory.mktemp("finished") / "run")
    store.root.mkdir()
    store.create({"settings": {"seed": 0}}, images)
    Zoo(store, candidates, CPU).train(ThisProcess())
    return store


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of it, to break."""
    return Store(shutil.copytree(finished.root, tmp_path / "trained"))


def snapshot(folder):
    """Every visible file's bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def python(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def test_a_candidate_that_is_made_anew_leaves_no_ensemble_measured_by_the_former(trained, candidates):
    """Others' ensembles stay as they are, and damaged ones do no harm."""
    both, others = [candidate.id for candidate in candidates], ["a", "b"]
    kept = Zoo(trained, candidates, CPU).together(both) and trained.ensemble(both)
    trained.keep_ensemble(others, replace(kept, normal=dict.fromkeys(others, (1.0, 1.0))))
    (trained.root / "ensembles" / "damaged.safetensors").write_bytes(b"no header")
    shutil.rmtree(trained.root / "candidates" / both[0])
    Zoo(trained, candidates, CPU).train(ThisProcess())
    assert trained.ensemble(others) is not None
    assert trained.ensemble(both) is None


class TestCandidateFolders:
    def test_what_was_kept_comes_back(self, finished, candidates, images):
        for candidate in candidates:
            assert finished.finished(candidate)
            record = finished.record(candidate.id)
            assert record["status"] == "ok"
            assert record["candidate"] == candidate.to_json()
            assert len(record["losses"]) == candidate.training.settings.steps
            detector = finished.detector(candidate, CPU)
            evidence = finished.evidence(candidate.id)
            assert torch.equal(detector.score(images["test"]), evidence[0].test_scores)
            assert torch.equal(detector.score(images["calibration"]), finished.calibration(candidate.id)["scores"])

    def test_only_json_and_safetensors_are_there(self, finished):
        assert {Path(name).suffix for name in snapshot(finished.root)} == {".json", ".safetensors"}

    def test_a_folder_has_its_name_only_when_it_is_whole(self, store, candidates, finished, monkeypatch):
        """Looked at before every file is written and before every rename: the final name is never there in part."""
        seen = []
        write = files.write_bytes
        final = store.root / "candidates" / candidates[0].id

        def watched(path, content):
            seen.append((path.name, final.exists()))
            return write(path, content)

        monkeypatch.setattr(files, "write_bytes", watched)
        detector = finished.detector(candidates[0], CPU)
        tensors = {"augmented": torch.zeros(1, 2, 3)}
        store.keep(candidates[0], {"status": "ok"}, detector, tensors, {"scores": torch.zeros(3)})
        names = ["scorer.safetensors", "evidence.safetensors", "calibration.safetensors", "record.json"]
        assert seen == [(name, False) for name in names]
        assert sorted(path.name for path in final.iterdir()) == sorted(names)
        assert [path.name for path in final.parent.iterdir()] == [final.name]

    @pytest.mark.parametrize("at", range(4))
    def test_a_write_that_fails_leaves_nothing(self, store, candidates, finished, monkeypatch, at):
        left = [at]
        write = files.write_bytes

        def failing(path, content):
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left[0] -= 1
            return write(path, content)

        monkeypatch.setattr(files, "write_bytes", failing)
        detector = finished.detector(candidates[0], CPU)
        with pytest.raises(StorageError):
            store.keep(candidates[0], {"status": "ok"}, detector, {"a": torch.zeros(1)}, {"b": torch.zeros(1)})
        assert not store.finished(candidates[0])
        assert list(store.root.glob("candidates/*")) == []

    def test_a_failed_candidate_has_a_record_only(self, store, candidates):
        store.keep(candidates[0], failure("it diverged"))
        assert [path.name for path in (store.root / "candidates" / candidates[0].id).iterdir()] == ["record.json"]
        assert store.record(candidates[0].id)["reason"] == "it diverged"

    def test_what_is_finished_stays(self, store, candidates):
        store.keep(candidates[0], failure("first"))
        store.keep(candidates[0], failure("second"))
        assert store.record(candidates[0].id)["reason"] == "first"

    def test_a_folder_without_a_record_is_replaced(self, store, candidates):
        folder = store.root / "candidates" / candidates[0].id
        folder.mkdir(parents=True)
        (folder / "evidence.safetensors").write_bytes(b"half")
        assert not store.finished(candidates[0])
        store.keep(candidates[0], failure("again"))
        assert [path.name for path in folder.iterdir()] == ["record.json"]

    def test_a_record_holds_no_nan(self, store, candidates):
        with pytest.raises(ValueError, match="JSON"):
            store.keep(candidates[0], {"losses": [float("nan")]})
        assert not store.finished(candidates[0])


class TestGoingOn:
    def test_the_same_run_goes_on(self, store, description, images):
        before = snapshot(store.root)
        Store(store.root).create(description, images)
        assert snapshot(store.root) == before

    def test_other_versions_of_libraries_are_the_same_run(self, store, description, images):
        Store(store.root).create({**description, "versions": {"python": "3.14"}}, images)

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("seed", 1, "seed 0 there, 1 now"),
            ("preset", "quick", "preset 'tiny' there, 'quick' now"),
            ("candidates", [], "candidates differ"),
            ("train images", 64 * "c", "train images differ"),
            ("test images", 64 * "c", "test images differ"),
            ("something new", 3, "something new None there, 3 now"),
        ],
    )
    def test_another_run_is_refused_by_what_differs(self, store, description, images, key, value, said):
        before = snapshot(store.root)
        other = {**description, "settings": {**description["settings"], key: value}}
        with pytest.raises(InputError, match="other settings") as error:
            Store(store.root).create(other, images)
        assert said in str(error.value)
        assert len(str(error.value)) < 300 + len(str(store.root))
        assert snapshot(store.root) == before

    def test_a_setting_that_is_no_more_is_a_difference(self, store, description, images):
        settings = {key: value for key, value in description["settings"].items() if key != "seed"}
        with pytest.raises(InputError, match="seed 0 there, None now"):
            Store(store.root).create({**description, "settings": settings}, images)

    def test_drafts_of_a_killed_process_are_forgotten(self, store, description, images):
        drafts = [
            store.root / "candidates" / ".abc.123" / "record.json",
            store.root / "trained" / ".abc.safetensors.123.tmp",
            store.root / ".images.safetensors.123.tmp",
            store.root / ".selection.json.123.tmp",
            store.root / "progress" / "abc.json",
            store.root / "progress" / "abc.123",
        ]
        for draft in drafts:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(b"half")
        mine = store.root / ".mine"
        mine.write_text("a user's hidden file")
        before = snapshot(store.root).keys()
        Store(store.root).create(description, images)
        assert not any(draft.exists() for draft in drafts)
        assert not drafts[0].parent.exists()
        assert mine.exists()
        assert snapshot(store.root).keys() == {name for name in before if not name.startswith("progress")}

    def test_a_run_killed_before_it_began_begins(self, tmp_path, description, images):
        (tmp_path / ".run.json.123.tmp").write_bytes(b"ha")
        (tmp_path / "images.safetensors").write_bytes(b"from before")
        store = Store(tmp_path)
        store.create(description, images)
        assert not (tmp_path / ".run.json.123.tmp").exists()
        assert torch.equal(store.images["train"], images["train"])

    @pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
    def test_damaged_images_are_written_again(self, store, description, images, damage):
        path = store.root / "images.safetensors"
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:-1000])
        else:
            files.write(path, {name: 1 - values for name, values in images.items()})
        again = Store(store.root)
        again.create(description, images)
        assert all(torch.equal(again.images[name], images[name]) for name in images)

    @pytest.mark.parametrize("name", ["holiday.jpg", "candidates", "README"])
    def test_foreign_files_are_refused_and_left(self, tmp_path, description, images, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match=name):
            Store(tmp_path).create(description, images)
        assert snapshot(tmp_path) == {name: b"mine"}

    def test_a_store_is_the_same_folder_wherever_the_process_goes(self, store, monkeypatch, tmp_path):
        monkeypatch.chdir(store.root.parent)
        relative = Store("run")
        monkeypatch.chdir("/")
        assert relative.exists


class TestLock:
    HOLD = (
        "import sys; from filelock import FileLock; "
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); input()"
    )

    def test_one_process_holds_it_and_a_kill_releases_it(self, store):
        command = [sys.executable, "-c", self.HOLD, str(store.root / ".lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(InputError, match="in use"), store.locked():
                pass
            other.kill()
        with store.locked():
            pass

    def test_it_is_held_against_this_process_too(self, store):
        with store.locked(), pytest.raises(InputError, match="in use"), Store(store.root).locked():
            pass

    def test_it_is_released_after_an_error(self, store):
        with pytest.raises(KeyError), store.locked():
            raise KeyError
        with store.locked():
            pass

    def test_workers_do_not_inherit_it(self, store):
        """Else an orphan would keep a killed run's folder locked."""
        with store.locked():
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        with child, Store(store.root).locked():
            child.kill()


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b'{"settings": ', b"\xff\xfe\x00", b"[]", b"{}", b'{"settings": 3}'])
    def test_a_corrupt_run_json_is_refused(self, store, description, images, content):
        (store.root / "run.json").write_bytes(content)
        with pytest.raises(InputError, match=r"run\.json"):
            Store(store.root).create(description, images)
        with pytest.raises(InputError, match=r"run\.json"):
            selector.load(store.root)
        assert (store.root / "run.json").read_bytes() == content

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
    def test_a_corrupt_record_is_refused_with_a_way_out(self, trained, candidates, content):
        path = trained.root / "candidates" / candidates[0].id / "record.json"
        path.write_bytes(content)
        with pytest.raises(InputError, match="delete it and run the same command again"):
            trained.record(candidates[0].id)

    def test_an_empty_folder_is_no_run(self, tmp_path):
        with pytest.raises(InputError, match=r"holds no run\.json"):
            selector.load(tmp_path)

    @pytest.mark.parametrize("name", ["scorer", "evidence", "calibration"])
    @pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
    def test_damaged_tensors_are_refused_and_the_way_out_works(self, trained, candidates, images, name, damage):
        candidate = candidates[0]
        whole = snapshot(trained.root)
        path = trained.root / "candidates" / candidate.id / f"{name}.safetensors"
        hurt(path, damage)
        read = {
            "scorer": lambda: trained.detector(candidate, CPU),
            "evidence": lambda: trained.evidence(candidate.id),
            "calibration": lambda: trained.calibration(candidate.id),
        }[name]
        with pytest.raises(InputError, match=f"{name}.*delete .*{candidate.id} and run the same command again"):
            read()
        shutil.rmtree(path.parent)
        Zoo(trained, candidates, CPU).train(ThisProcess())
        read()
        after = snapshot(trained.root)
        assert {n: c for n, c in whole.items() if "record" not in n} == {
            n: c for n, c in after.items() if "record" not in n
        }

    def test_damaged_images_are_no_candidates_failure(self, store, candidates):
        """A record says failed for good; a folder that can't be read must not be told as that."""
        hurt(store.root / "images.safetensors", "truncated")
        with pytest.raises(InputError, match=r"images\.safetensors.*run the same command again"):
            Zoo(store, candidates, CPU).train(ThisProcess())
        assert not any(store.finished(candidate) for candidate in candidates)

    def test_damaged_weights_are_refused(self, trained, candidates):
        hurt(trained.root / "trained" / f"{candidates[0].training_id}.safetensors", "garbage")
        with pytest.raises(InputError, match="corrupt"):
            trained.detector(candidates[0], CPU)


def hurt(path, damage):
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-100], "garbage": b"\x80\x04garbage" * 50}[damage])


GONE = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]


class TestDisk:
    @pytest.mark.parametrize("code", GONE)
    @pytest.mark.parametrize("call", ["fsync", "replace", "open"])
    def test_a_failing_disk_is_one_sentence_and_old_content_stays(self, store, monkeypatch, code, call):
        before = snapshot(store.root)

        def failing(*arguments, **options):
            raise OSError(code, os.strerror(code))

        where, name = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "open": (Path, "open")}[call]
        with monkeypatch.context() as patch:
            patch.setattr(where, name, failing)
            with pytest.raises(StorageError) as error:
                store.write_json("run.json", {"settings": "new"})
        said = str(error.value)
        assert str(store.root) in said
        assert os.strerror(code) in said
        assert "run the same command again" in said
        assert "\n" not in said
        assert snapshot(store.root) == before
        assert not list(store.root.glob(".*.tmp"))

    def test_progress_on_a_full_disk_is_told_too(self, store, monkeypatch):
        def failing(*arguments, **options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_text", failing)
        with pytest.raises(StorageError):
            store.report_progress("abc", 3, 0.5)

    def test_other_errors_pass(self, store):
        with pytest.raises(BlockingIOError), disk_errors(store.root):
            raise BlockingIOError(errno.EAGAIN, "again")

    @pytest.mark.parametrize("below", ["", "run", "a/b"])
    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path, below):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(StorageError, match="choose another folder"), Store(tmp_path / "file" / below).locked():
            pass
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_store_error_stops_the_zoo_and_keeps_what_was_finished(self, store, candidates, monkeypatch):
        write = files.write_bytes

        def failing(path, content):
            if candidates[1].training_id in path.name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, content)

        zoo = Zoo(store, candidates, CPU)
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", failing)
            with pytest.raises(StorageError, match="free space"):
                zoo.train(ThisProcess())
        assert [candidate.id for candidate in zoo.unfinished()] == [candidates[1].id]
        before = snapshot(store.root / "candidates")
        zoo.train(ThisProcess())
        assert zoo.unfinished() == []
        assert before.items() <= snapshot(store.root / "candidates").items()

    LIMITED = """
import resource, sys, torch
from selector.zoo.store import StorageError, Store
store = Store(sys.argv[1])
store.create({"settings": {"seed": 0}}, {"train": torch.zeros(100)})
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
try:
    store.keep_training("abc", {"weights": torch.zeros(100_000)})
except StorageError as error:
    print(error)
"""

    def test_files_that_may_not_grow(self, tmp_path):
        """RLIMIT_FSIZE: the system itself says no, half way through a write."""
        done = python(self.LIMITED, tmp_path)
        assert done.returncode == 0, done.stderr
        assert os.strerror(errno.EFBIG) in done.stdout
        assert "free space" in done.stdout
        assert sorted(snapshot(tmp_path)) == ["images.safetensors", "run.json"]
        assert list((tmp_path / "trained").iterdir()) == []

    @pytest.fixture
    def small_disk(self, tmp_path):
        """A file system of its own, of 300 KiB."""
        if os.geteuid() != 0 or sys.platform != "linux":
            pytest.skip("only root can mount a file system, and this mounts a tmpfs")
        place = tmp_path / "disk"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
        yield place
        subprocess.run(["umount", "--lazy", place], check=True)

    def test_a_disk_that_is_really_full(self, small_disk, candidates, description, images):
        small = {name: values[:3] for name, values in images.items()}
        store = Store(small_disk / "run")
        with store.locked():
            store.create(description, small)
            with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            before = snapshot(small_disk)
            with pytest.raises(StorageError, match=r"No space left on device.*free space"):
                store.keep_training("abc", {"weights": torch.zeros(20_000)})
            with pytest.raises(StorageError):
                Zoo(store, candidates, CPU).train(ThisProcess())
            assert {n: c for n, c in snapshot(small_disk).items() if "progress" not in n} == before
            (small_disk / "filler").unlink()
            store.keep(candidates[0], failure("there is room again"))
        assert store.finished(candidates[0])

    def test_a_disk_that_is_really_read_only(self, small_disk):
        store = Store(small_disk / "run")
        with store.locked():
            store.write_json("run.json", {"settings": {}})
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        with pytest.raises(StorageError, match="Read-only file system"), Store(small_disk / "run").locked():
            pass
        with pytest.raises(StorageError, match="Read-only file system"), Store(small_disk / "other").locked():
            pass
        assert Store(small_disk / "run").run == {"settings": {}}


def test_the_limit_of_this_process_is_untouched():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def sources():
    for package in (selector, detectors):
        yield from Path(package.__file__).parent.rglob("*.py")


def test_nothing_is_pickled_to_disk_and_nothing_on_disk_is_unpickled():
    banned_modules = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    banned_calls = {("torch", "load"), ("torch", "save"), ("joblib", "load"), ("joblib", "dump"), ("np", "load")}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not banned_modules & {alias.name for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in banned_modules, path
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in banned_calls, path
                assert node.attr not in ("to_pickle", "read_pickle"), path


def test_a_pickle_in_place_of_tensors_is_not_opened(trained, candidates, tmp_path):
    """What unpickling would start must not start."""
    import pickle

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("scorer", "evidence", "calibration"):
        path = trained.root / "candidates" / candidates[0].id / f"{name}.safetensors"
        path.write_bytes(pickle.dumps(Bomb()))
    for read in (trained.evidence, trained.calibration, lambda _: trained.detector(candidates[0], CPU)):
        with pytest.raises(InputError, match="corrupt"):
            read(candidates[0].id)
    assert not (tmp_path / "exploded").exists()


def test_progress_is_seen_and_forgotten(store):
    assert store.progress("abc") is None
    store.report_progress("abc", 3, 0.5)
    assert store.progress("abc") == {"step": 3, "loss": 0.5}
    (store.root / "progress" / "abc.json").write_bytes(b"\xff{")
    assert store.progress("abc") is None
    store.forget_progress()
    assert not (store.root / "progress").exists()


def test_json_is_written_without_nan(store):
    """NaN is no JSON: what has no number is null, however deep it lies."""
    store.write_json("selection.json", {"margin": float("nan"), "rows": [{"value": float("inf")}, (1.5, "NaN")]})
    kept = json.loads((store.root / "selection.json").read_text(), parse_constant=pytest.fail)
    assert kept == {"margin": None, "rows": [{"value": None}, [1.5, "NaN"]]}
    assert storing_room.SPLITS == ("train", "validation", "calibration", "test")
