"""A run that is begun, resumed, or refused because the folder holds something else; and one that families join."""

import shutil

import pytest
import torch

import augmentations
from augmentations import InputError
from detectors import files
from selector.execution import Serial
from selector.zoo.prepare import prepare
from selector.zoo.store import Store
from selector.zoo.validation_anomalies import make_validation_anomalies
from selector.zoo.zoo import Zoo


def snapshot(folder):
    """Every visible file's bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.fixture
def cutout(candidates):
    return [candidate.training.make_augmentation() for candidate in candidates]


@pytest.fixture
def cutpaste():
    return [augmentations.make("cutpaste"), augmentations.make("cutpaste_scar")]


class TestValidationAnomalies:
    def test_they_are_made_once_by_all_augmentations(self, store, images, cutout):
        made = make_validation_anomalies(images["validation"], cutout, seed=0)
        assert store.families == list(made) == ["cutout"]
        assert torch.equal(store.validation_anomalies["cutout"], made["cutout"])

    def test_a_family_joins_and_those_that_are_there_stay_as_they_are(
        self, store, description, images, cutout, cutpaste
    ):
        before = store.validation_anomalies["cutout"]
        more = [augmentations.make("cutout", area=(0.3, 0.4)), *cutpaste, *cutout]
        prepare(store, description, images, more, seed=0)
        assert store.families == ["cutout", "cutpaste"]
        assert Store(store.root).families == ["cutout", "cutpaste"]
        assert torch.equal(store.validation_anomalies["cutout"], before)
        alone = make_validation_anomalies(images["validation"], cutpaste, seed=0)
        assert torch.equal(Store(store.root).validation_anomalies["cutpaste"], alone["cutpaste"])

    def test_a_call_with_fewer_augmentations_changes_nothing(self, store, description, images, cutpaste):
        prepare(store, description, images, cutpaste, seed=0)
        before = snapshot(store.root)
        prepare(Store(store.root), description, images, cutpaste[:1], seed=0)
        assert snapshot(store.root) == before

    def test_a_run_killed_before_they_were_made_gets_the_same(self, store, description, images, cutout):
        before = snapshot(store.root)
        (store.root / "validation_anomalies.safetensors").unlink()
        prepare(Store(store.root), description, images, cutout, seed=0)
        assert snapshot(store.root) == before

    def test_families_keep_the_order_in_which_they_joined(self, store):
        new = {"zoom": torch.zeros(2, 1, 4, 4), "blur": torch.ones(2, 1, 4, 4)}
        store.add_validation_anomalies(new)
        assert Store(store.root).families == ["cutout", "zoom", "blur"]
        assert list(Store(store.root).validation_anomalies) == ["cutout", "zoom", "blur"]

    def test_adding_what_is_there_writes_nothing(self, store, monkeypatch):
        before = store.validation_anomalies["cutout"]
        monkeypatch.setattr(files, "write_bytes", lambda *_: pytest.fail("written again"))
        store.add_validation_anomalies({"cutout": before + 1})
        assert torch.equal(store.validation_anomalies["cutout"], before)

    def test_a_kill_while_a_family_joins_loses_nothing(self, store, monkeypatch):
        before = snapshot(store.root)

        def killed(path):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", killed)
            with pytest.raises(KeyboardInterrupt):
                store.add_validation_anomalies({"blur": torch.zeros(2, 1, 4, 4)})
        assert snapshot(store.root) == before
        assert Store(store.root).families == ["cutout"]

    def test_damaged_ones_are_refused_and_the_way_out_works(self, trained, candidates, images):
        whole = snapshot(trained.root)
        path = trained.root / "validation_anomalies.safetensors"
        path.write_bytes(b"garbage")
        cutout = [candidate.training.make_augmentation() for candidate in candidates]
        run = {"settings": {"seed": 0}, "names": {}}
        with pytest.raises(InputError, match=r"corrupt.*delete it and .*candidates, and run the same command again"):
            prepare(trained, run, images, cutout, seed=0)
        path.unlink()
        shutil.rmtree(trained.root / "candidates")
        again = Store(trained.root)
        prepare(again, run, images, cutout, seed=0)
        Zoo(again, candidates, torch.device("cpu")).train(Serial())
        after = snapshot(trained.root)
        assert after.keys() == whole.keys()
        assert all(after[name] == whole[name] for name in whole if "record" not in name)


class TestResuming:
    def test_the_same_run_is_resumed(self, store, description, images):
        before = snapshot(store.root)
        Store(store.root).create(description, images)
        assert snapshot(store.root) == before

    def test_other_versions_of_libraries_are_the_same_run(self, store, description, images):
        Store(store.root).create({**description, "versions": {"python": "3.14"}}, images)

    @pytest.mark.parametrize(
        ("key", "value", "rule"),
        [
            ("seed", 1, "seed 0 there, 1 now"),
            ("preset", "quick", "preset 'tiny' there, 'quick' now"),
            ("train images", 64 * "c", "train images differ"),
            ("test images", 64 * "c", "test images differ"),
            ("something new", 3, "something new None there, 3 now"),
        ],
    )
    def test_another_run_is_refused_by_what_differs(self, store, description, images, key, value, rule):
        before = snapshot(store.root)
        other = {**description, "settings": {**description["settings"], key: value}}
        with pytest.raises(InputError, match="other settings") as error:
            Store(store.root).create(other, images)
        assert rule in str(error.value)
        assert len(str(error.value)) < 300 + len(str(store.root))
        assert snapshot(store.root) == before

    def test_a_setting_that_is_missing_is_a_difference(self, store, description, images):
        settings = {key: value for key, value in description["settings"].items() if key != "seed"}
        with pytest.raises(InputError, match="seed 0 there, None now"):
            Store(store.root).create({**description, "settings": settings}, images)

    def test_drafts_of_a_killed_process_are_forgotten(self, store, description, images):
        drafts = [
            store.root / "candidates" / ".abc.123" / "record.json",
            store.root / "candidates" / "abc" / ".record.json.123.tmp",
            store.root / "cross" / "abc" / ".0.safetensors.123.tmp",
            store.root / "trained" / ".abc.safetensors.123.tmp",
            store.root / ".images.safetensors.123.tmp",
            store.root / ".selection.json.123.tmp",
            store.root / ".validation_anomalies.safetensors.123.tmp",
            store.root / ".trials.json.123.tmp",
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
