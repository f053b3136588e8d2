"""Features of frozen encoders on disk: the same bits as computed, whole or not there."""

import multiprocessing

import numpy as np
import pytest
import torch

from detectors.frozen import Frozen, FrozenSettings
from detectors.shared_features import SharedFeatures
from selector.testing.detector import stripes

PLENTY = 2**30


def detector(**settings):
    return Frozen(FrozenSettings(**{"image_size": 32, "channels": 20} | settings), device="cpu")


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr("detectors.images.BATCH_PIXELS", 7 * 32 * 32)  # several batches, the last one smaller
    return stripes(24)


@pytest.fixture
def shared(images, tmp_path):
    shared = SharedFeatures(tmp_path / "features", PLENTY)
    shared.keep(images)
    return shared


@pytest.fixture
def passes(monkeypatch):
    """Images that went through an encoder, batch by batch."""
    seen = []
    batches = Frozen.batches

    def watched(self, images):
        for batch in batches(self, images):
            seen.append(len(batch))
            yield batch

    monkeypatch.setattr(Frozen, "batches", watched)
    return seen


def outputs(fitted, images):
    return fitted.embed(images), fitted.score(images), fitted.score_map(images), *fitted.score_and_map(images)


def files_of(shared):
    return sorted(path for path in shared.folder.rglob("*") if path.suffix in (".npy", ".tmp"))


@pytest.mark.parametrize("score", ["pooled", "locations"])
def test_results_are_those_of_direct_computation_bit_for_bit(images, shared, score):
    direct = detector(score=score).fit(images)
    fitted = detector(score=score)
    fitted.shared = shared
    fitted.fit(images)
    for expected, actual in zip(outputs(direct, images), outputs(fitted, images), strict=True):
        assert torch.equal(expected, actual)
    assert direct.save(shared.folder / "a").read_bytes() == fitted.save(shared.folder / "b").read_bytes()


def test_images_go_through_the_encoder_once_for_all_detectors_and_scorers(images, shared, passes):
    for score in ("pooled", "locations"):
        fitted = detector(score=score)
        fitted.shared = shared
        fitted.fit(images)
        outputs(fitted.with_scorer("gaussian", images), images)
    assert sum(passes) == len(images)


def test_files_are_memory_mapped_and_hold_no_pickle(images, shared):
    fitted = detector()
    fitted.shared = shared
    fitted.fit(images)
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in files_of(shared)]
    assert [array.dtype for array in arrays[1:]] == [np.float32] * 4
    assert all(isinstance(array, np.memmap) for array in arrays)


def test_other_images_are_computed_and_not_kept(images, shared, passes):
    fitted = detector()
    fitted.shared = shared
    others = stripes(5, seed=1)
    fitted.fit(others)
    fitted.score(others)
    assert sum(passes) == 10
    assert not files_of(shared)


@pytest.mark.parametrize("change", ["seed", "image", "device_release"])
def test_another_encoder_or_another_image_has_features_of_its_own(images, shared, monkeypatch, change):
    first = detector()
    first.shared = shared
    first.fit(images)
    before = len(files_of(shared))
    second = Frozen(FrozenSettings(32, channels=20), seed=int(change == "seed"), device="cpu")
    second.shared = shared
    others = images.clone()
    if change == "image":
        others[3, 0, 0, 0] += 1 / 255
        shared.keep(others)
    if change == "device_release":
        monkeypatch.setattr(torch, "__version__", "0.0")
    expected = Frozen(FrozenSettings(32, channels=20), seed=int(change == "seed"), device="cpu").fit(others)
    assert torch.equal(second.fit(others).score(others), expected.score(others))
    assert len(files_of(shared)) == 2 * before


def test_beyond_the_limit_features_are_computed_without_being_kept(images, tmp_path, passes):
    shared = SharedFeatures(tmp_path / "features", limit_bytes=1000)
    shared.keep(images)
    fitted = detector()
    fitted.shared = shared
    fitted.fit(images)
    assert torch.equal(fitted.score(images), detector().fit(images).score(images))
    assert not files_of(shared)


def test_the_limit_counts_what_is_there(images, tmp_path):
    others = stripes(24, seed=1)
    one = 4 * 24 * (2 * 16 * 16 * 16 + 32 * 8 * 8 + 64 * 4 * 4)
    shared = SharedFeatures(tmp_path / "features", limit_bytes=one + one // 2)
    for each in (images, others):
        shared.keep(each)
        fitted = detector()
        fitted.shared = shared
        fitted.fit(each)
    assert len(files_of(shared)) == 5


@pytest.mark.parametrize("damage", ["truncated", "missing", "pickled", "empty"])
def test_damaged_features_are_made_again(images, shared, damage):
    fitted = detector()
    fitted.shared = shared
    fitted.fit(images)
    expected = fitted.score(images)
    path = files_of(shared)[2]
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    elif damage == "pickled":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(b"")
    assert torch.equal(fitted.score(images), expected)
    assert len(files_of(shared)) == 5


def test_a_full_disk_or_a_folder_without_permission_costs_time_only(images, shared, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    fitted = detector()
    fitted.shared = shared
    assert torch.equal(fitted.fit(images).score(images), detector().fit(images).score(images))
    assert not files_of(shared)


def test_what_a_killed_process_left_is_cleared(images, shared, monkeypatch):
    def killed(*args, **rest):
        raise KeyboardInterrupt

    fitted = detector()
    fitted.shared = shared
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *args, **rest: None)
        patched.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(images)
    assert [path.suffix for path in files_of(shared)].count(".tmp") == 1
    fitted.fit(images)
    assert [path.suffix for path in files_of(shared)] == [".npy"] * 5


def _fit(folder, results):
    torch.set_num_threads(1)
    images = stripes(24)
    shared = SharedFeatures(folder, PLENTY)
    shared.keep(images)
    fitted = detector()
    fitted.shared = shared
    results.put(fitted.fit(images).score(images).tolist())


def test_two_processes_share_one_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_fit, args=(tmp_path / "features", results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = (results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    assert first == second == detector().fit(stripes(24)).score(stripes(24)).tolist()
    assert len(files_of(SharedFeatures(tmp_path / "features", PLENTY))) == 5
