"""Disks that give out: one clear sentence, what was there stays, and the same call again succeeds."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detectors import files
from selector.execution import Serial
from selector.zoo.disk import StorageError, disk_errors
from selector.zoo.prepare import prepare
from selector.zoo.result import Result, failure
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")


def snapshot(folder):
    """Every visible file's bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]


class TestDisk:
    @pytest.mark.parametrize("code", ERRORS)
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
        message = str(error.value)
        assert str(store.root) in message
        assert os.strerror(code) in message
        assert "run the same command again" in message
        assert "\n" not in message
        assert snapshot(store.root) == before
        assert not list(store.root.glob(".*.tmp"))

    def test_progress_on_a_full_disk_is_reported_too(self, store, monkeypatch):
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
                zoo.train(Serial())
        assert [candidate.id for candidate in zoo.unfinished()] == [candidates[1].id]
        before = snapshot(store.root / "candidates")
        zoo.train(Serial())
        assert zoo.unfinished() == []
        assert before.items() <= snapshot(store.root / "candidates").items()

    @pytest.fixture
    def files_of_20_kb(self):
        """No file of this process may grow beyond that: the system itself says no, half way through a write."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_files_that_may_not_grow(self, tmp_path, files_of_20_kb):
        store = Store(tmp_path)
        store.create({"settings": {"seed": 0}}, {"train": torch.zeros(100)})
        large = Result(SimpleNamespace(training_id="abc"), {}, {"weights": torch.zeros(100_000)})
        with pytest.raises(StorageError, match=os.strerror(errno.EFBIG)) as error:
            store.save(large)
        assert "free space" in str(error.value)
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
            prepare(store, description, small, [candidates[0].training.make_augmentation()], seed=0)
            with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            before = snapshot(small_disk)
            with pytest.raises(StorageError, match=r"No space left on device.*free space"):
                store.save(Result(candidates[0], {}, {"weights": torch.zeros(20_000)}))
            with pytest.raises(StorageError):
                Zoo(store, candidates, CPU).train(Serial())
            assert {n: c for n, c in snapshot(small_disk).items() if "progress" not in n} == before
            (small_disk / "filler").unlink()
            store.save(Result(candidates[0], failure("space was freed")))
        assert store.is_finished(candidates[0])

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
