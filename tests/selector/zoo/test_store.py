"""The run folder: each piece whole or absent, one writer at a time, and what damage is reported as."""

import ast
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import detectors
import selector
from augmentations import InputError
from detectors import Kind, ScorerSpec, files
from detectors.checksums import with_checksum, without_checksum
from selector.execution import Serial
from selector.zoo.candidates import Candidate, Training
from selector.zoo.disk import StorageError
from selector.zoo.result import Result, StoredEnsemble, failure
from selector.zoo.store import FORMAT, Store
from selector.zoo.zoo import Zoo

CPU = torch.device("cpu")
NEW_SCORES = {"pseudo_scores.blur": torch.tensor([3.0, 1.0, 2.0])}


def failed(candidate, reason):
    return Result(candidate, failure(reason))


def snapshot(folder):
    """Every visible file's bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_a_candidate_that_is_trained_again_leaves_no_ensemble_normalised_by_the_former(trained, candidates):
    """Others' ensembles stay as they are, and damaged ones do no harm."""
    both, others = [candidate.id for candidate in candidates], ["a", "b"]
    Zoo(trained, candidates, CPU).ensemble(both)
    stored = trained.ensemble(both)
    assert stored.normalizations.keys() == set(both)
    normalizations = dict.fromkeys(others, ((1.0, 1.0), (1.0, 1.0)))
    trained.save_ensemble(others, StoredEnsemble(normalizations, stored.calibration))
    (trained.root / "ensembles" / "damaged.safetensors").write_bytes(b"no header")
    shutil.rmtree(trained.root / "candidates" / both[0])
    Zoo(trained, candidates, CPU).train(Serial())
    assert trained.ensemble(others) is not None
    assert trained.ensemble(both) is None


class TestCandidateFolders:
    def test_what_was_saved_comes_back(self, finished, candidates, images):
        for candidate in candidates:
            assert finished.is_finished(candidate)
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
        written = []
        write = files.write_bytes
        final = store.root / "candidates" / candidates[0].id

        def watched(path, content):
            written.append((path.name, final.exists()))
            return write(path, content)

        monkeypatch.setattr(files, "write_bytes", watched)
        detector = finished.detector(candidates[0], CPU)
        tensors = {"augmented": torch.zeros(1, 2, 3)}
        record = {"status": "ok"}
        store.save(Result(candidates[0], record, None, detector, tensors, {"scores": torch.zeros(3)}))
        names = ["scorer.safetensors", "evidence.safetensors", "calibration.safetensors", "record.json"]
        assert written == [(name, False) for name in names]
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
        tensors = {"a": torch.zeros(1)}
        with pytest.raises(StorageError):
            store.save(Result(candidates[0], {"status": "ok"}, None, detector, tensors, tensors))
        assert not store.is_finished(candidates[0])
        assert list(store.root.glob("candidates/*")) == []

    def test_a_failed_candidate_has_a_record_only(self, store, candidates):
        store.save(failed(candidates[0], "it diverged"))
        assert [path.name for path in (store.root / "candidates" / candidates[0].id).iterdir()] == ["record.json"]
        assert store.record(candidates[0].id)["reason"] == "it diverged"

    def test_what_is_finished_stays(self, store, candidates):
        store.save(failed(candidates[0], "first"))
        store.save(failed(candidates[0], "second"))
        assert store.record(candidates[0].id)["reason"] == "first"

    def test_a_folder_without_a_record_is_replaced(self, store, candidates):
        folder = store.root / "candidates" / candidates[0].id
        folder.mkdir(parents=True)
        (folder / "evidence.safetensors").write_bytes(b"half")
        assert not store.is_finished(candidates[0])
        store.save(failed(candidates[0], "again"))
        assert [path.name for path in folder.iterdir()] == ["record.json"]

    def test_a_record_holds_no_nan(self, store, candidates):
        with pytest.raises(ValueError, match="JSON"):
            store.save(Result(candidates[0], {"losses": [float("nan")]}))
        assert not store.is_finished(candidates[0])


class TestExtendedEvidence:
    """A family of validation anomalies joins a run whose candidates are finished."""

    @pytest.fixture
    def grown(self, trained):
        trained.add_validation_anomalies({"blur": torch.zeros(3, 1, 32, 32)})
        return trained

    def test_candidates_are_finished_but_not_complete(self, grown, candidates):
        for candidate in candidates:
            assert grown.is_finished(candidate)
            assert not grown.is_complete(candidate)
            assert grown.missing_families(candidate) == ["blur"]

    def test_one_that_failed_is_complete(self, store, candidates):
        store.save(failed(candidates[0], "it diverged"))
        store.add_validation_anomalies({"blur": torch.zeros(3, 1, 32, 32)})
        assert store.is_complete(candidates[0])

    def test_its_scores_join_in_the_order_of_the_families(self, grown, candidates):
        before = grown.evidence(candidates[0].id)
        grown.extend_evidence(candidates[0], NEW_SCORES, grown.families)
        after = grown.evidence(candidates[0].id)
        assert grown.is_complete(candidates[0])
        assert not grown.is_complete(candidates[1])
        assert len(after) == len(before)
        # Of its own family there are none, and those of resampled embeddings come last.
        assert torch.equal(
            after[0].pseudo_scores, torch.cat([NEW_SCORES["pseudo_scores.blur"], before[0].pseudo_scores])
        )
        for name in before[0].available - {"pseudo_scores"}:
            assert torch.equal(getattr(after[0], name), getattr(before[0], name))
        assert after[0].score_is_distance == before[0].score_is_distance

    def test_the_rest_of_its_record_stays(self, grown, candidates):
        before = grown.record(candidates[0].id)
        grown.extend_evidence(candidates[0], NEW_SCORES, grown.families)
        assert grown.record(candidates[0].id) == {**before, "families": ["cutout", "blur"]}

    def test_a_kill_between_the_two_writes_loses_nothing(self, grown, candidates, monkeypatch):
        """The evidence is written before the record says that it is there."""
        expected = Store(shutil.copytree(grown.root, grown.root.with_name("expected")))
        expected.extend_evidence(candidates[0], NEW_SCORES, expected.families)
        before, written = snapshot(grown.root), []
        write = files.write_bytes

        def killed(path, content):
            if len(written) == 1:
                raise KeyboardInterrupt
            written.append(path.name)
            return write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", killed)
            with pytest.raises(KeyboardInterrupt):
                grown.extend_evidence(candidates[0], NEW_SCORES, grown.families)
        assert written == ["evidence.safetensors"]
        after = snapshot(grown.root)
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {f"candidates/{candidates[0].id}/evidence.safetensors"}
        assert not grown.is_complete(candidates[0])
        grown.extend_evidence(candidates[0], NEW_SCORES, grown.families)
        assert grown.is_complete(candidates[0])
        assert snapshot(grown.root) == snapshot(expected.root)


def without_records(contents):
    """Records hold the seconds that a training took."""
    return {name: content for name, content in contents.items() if "record" not in name}


class TestFormat:
    def test_a_run_says_which_it_has(self, store):
        assert json.loads((store.root / "run.json").read_text())["format"] == FORMAT
        store.require_format()

    @pytest.mark.parametrize("there", [0, 2, "1", None])
    def test_another_one_is_refused(self, store, description, images, there):
        run = json.loads((store.root / "run.json").read_text())
        changed = {key: value for key, value in run.items() if key != "format"}
        if there is not None:
            changed["format"] = there
        (store.root / "run.json").write_text(json.dumps(with_checksum(changed)))
        rule = f"is a run of another version of ssad .format {there!r}, this one reads {FORMAT}"
        with pytest.raises(InputError, match=rule):
            Store(store.root).require_format()
        with pytest.raises(InputError, match=rule):
            Store(store.root).create(description, images)
        with pytest.raises(InputError, match=rule):
            selector.load(store.root)


class TestLock:
    LOCK = (
        "import sys; from filelock import FileLock; "
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('locked', flush=True); input()"
    )

    def test_one_process_has_it_and_a_kill_releases_it(self, store):
        command = [sys.executable, "-c", self.LOCK, str(store.root / ".lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(InputError, match="in use"), store.locked():
                pass
            other.kill()
        with store.locked():
            pass

    def test_it_keeps_this_process_out_too(self, store):
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
        Zoo(trained, candidates, CPU).train(Serial())
        read()
        after = snapshot(trained.root)
        assert without_records(after) == without_records(whole)

    def test_damaged_images_are_no_candidates_failure(self, store, candidates):
        """A record says failed for good; a folder that can't be read must not be reported as that."""
        hurt(store.root / "images.safetensors", "truncated")
        with pytest.raises(InputError, match=r"images\.safetensors.*run the same command again"):
            Zoo(store, candidates, CPU).train(Serial())
        assert not any(store.is_finished(candidate) for candidate in candidates)

    def test_damaged_weights_are_refused(self, trained, candidates):
        hurt(trained.root / "trained" / f"{candidates[0].training_id}.safetensors", "garbage")
        with pytest.raises(InputError, match="corrupt"):
            trained.detector(candidates[0], CPU)


def hurt(path, damage):
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-100], "garbage": b"\x80\x04garbage" * 50}[damage])


def sources():
    for package in (selector, detectors):
        yield from Path(package.__file__).parent.rglob("*.py")


def test_nothing_is_pickled_to_disk_and_nothing_on_disk_is_unpickled():
    """But weights, by torch's reader of weights alone, and arrays, by numpy's that refuses objects."""
    banned_modules = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    banned_calls = {("torch", "load"), ("torch", "save"), ("joblib", "load"), ("joblib", "dump"), ("np", "load")}
    safe_if = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        safe = {
            id(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and (named := _called(node.func)) in safe_if
            for keyword in node.keywords
            if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) == safe_if[named]
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not banned_modules & {alias.name for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in banned_modules, path
            elif isinstance(node, ast.Attribute):
                assert node.attr not in ("to_pickle", "read_pickle"), path
                assert _called(node) not in banned_calls or id(node) in safe, path


def _called(node):
    is_attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return (node.value.id, node.attr) if is_attribute else None


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


def test_progress_is_read_and_forgotten(store):
    assert store.progress("abc") is None
    store.report_progress("abc", 3, 0.5)
    assert store.progress("abc") == {"step": 3, "loss": 0.5}
    (store.root / "progress" / "abc.json").write_bytes(b"\xff{")
    assert store.progress("abc") is None
    store.forget_progress()
    assert not (store.root / "progress").exists()


def test_json_is_written_without_nan(store):
    """NaN is not JSON: what is not a number is null, however deep it lies."""
    store.write_json("selection.json", {"margin": float("nan"), "rows": [{"value": float("inf")}, (1.5, "NaN")]})
    stored = json.loads((store.root / "selection.json").read_text(), parse_constant=pytest.fail)
    assert without_checksum(stored) == {"margin": None, "rows": [{"value": None}, [1.5, "NaN"]]}


def test_a_candidate_that_lacks_a_file_is_unfinished_when_its_run_is_resumed(store, candidates, description, images):
    """As in a copy of a run folder that was written to meanwhile; what failed has no files."""
    store.save(Result(candidates[0], {"status": "ok", "reason": "", "losses": [], "seconds": 1.0}))
    store.save(failed(candidates[1], "for its own reasons"))
    with store.locked():
        store.create(description, images)
    assert [store.is_finished(candidate) for candidate in candidates] == [False, True]


def test_what_is_no_candidate_is_not_removed_as_one_in_part(store, candidates, description, images):
    foreign, in_part = store.root / "candidates/precious", store.root / "candidates" / candidates[0].id
    for folder in (foreign, in_part):
        folder.mkdir(parents=True)
        (folder / "file").write_text("mine")
    with store.locked():
        store.create(description, images)
    assert (foreign / "file").is_file()
    assert not in_part.exists()


@dataclass(frozen=True)
class FixedSettings:
    image_size: int
    turn: int = 0


class Fixed(Kind):
    """Random weights that nothing trains."""

    name = "fixed"
    Settings = FixedSettings
    uses_augmentation = False
    learns_encoder = False

    def build_encoder(self, channels):
        return torch.nn.Conv2d(channels, 4, 5, 2)


class TestEncodersThatStayAsBuilt:
    """Several candidates share one, so that it is stored once."""

    @pytest.fixture
    def fixed(self, store):
        return [
            Candidate(Training(Fixed.reference(), FixedSettings(32, turn), None, (), 0), ScorerSpec("gaussian"))
            for turn in (0, 1)
        ]

    def test_it_is_on_disk_once_and_comes_back(self, store, fixed, images):
        Zoo(store, fixed, CPU).train(Serial())
        assert len(list(store.root.glob("encoders/*.safetensors"))) == 1
        for candidate in fixed:
            fitted = candidate.make_detector("cpu").fit(images["train"])
            assert torch.equal(store.detector(candidate, CPU).score(images["test"]), fitted.score(images["test"]))

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda file: file.unlink(), "does not exist; run the same command again"),
            (lambda file: file.write_bytes(b"garbage"), "delete it and run the same command again"),
        ],
        ids=["lost", "damaged"],
    )
    def test_one_that_is_no_more_is_named_and_the_way_out_works(
        self, store, fixed, candidates, description, images, damage, words
    ):
        """Whoever follows the advice has the same candidates again; the others stay."""
        Zoo(store, fixed, CPU).train(Serial())
        before = store.detector(fixed[0], CPU).score(images["test"])
        store.save(failed(candidates[0], "for its own reasons"))
        encoder = next(store.root.glob("encoders/*.safetensors"))
        damage(encoder)
        with pytest.raises(InputError, match=rf"encoders.*{words}"):
            store.detector(fixed[0], CPU)
        encoder.unlink(missing_ok=True)
        with store.locked():
            store.create(description, images)
            assert [store.is_finished(candidate) for candidate in (*fixed, candidates[0])] == [False, False, True]
            Zoo(store, fixed, CPU).train(Serial())
        assert torch.equal(store.detector(fixed[0], CPU).score(images["test"]), before)

    def test_a_scorer_that_cannot_be_read_is_not_removed_with_its_candidate(self, store, fixed, description, images):
        """A run folder that is only damaged is refused with a way out: nothing of it is deleted unasked."""
        Zoo(store, fixed, CPU).train(Serial())
        (store.root / "candidates" / fixed[0].id / "scorer.safetensors").write_bytes(b"garbage")
        with store.locked():
            store.create(description, images)
        assert store.is_finished(fixed[0])
        with pytest.raises(InputError, match=r"scorer\.safetensors.* delete .*candidates"):
            store.detector(fixed[0], CPU)
