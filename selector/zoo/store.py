"""The run folder: everything a selection made, each piece whole or absent at every instant.

    run.json                        settings, versions, names of the images, what was skipped
    images.safetensors              the images as read, by split
    validation_anomalies.safetensors  pseudo anomalies of the validation images by family, the same for all candidates
    trained/<training id>.safetensors
    encoders/<digest>.safetensors   encoders that stay as they were built, each once
    candidates/<candidate id>/      record.json, scorer.safetensors, evidence.safetensors, calibration.safetensors
    ensembles/<ensemble id>.safetensors  what is normal for its members, and its scores of the calibration images
    cross/<ensemble id>/               the folds of a cross-conformal calibration, where one was requested
    progress/<training id>.json     where a training in flight stands
    features/                       features of encoders that stay as they were built, while candidates are trained
    trials.json                     what was proposed, in order: parameters and candidates, before they are trained
    study.log                       the same and what became of it, for Optuna's tools
    selection.json, ranking.csv, index.html

A name that starts with a dot is the lock or a draft.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import detectors
from augmentations import InputError
from detectors import Kind, files
from detectors.checksums import parse_json, with_checksum, without_checksum
from selector.evidence.evidence import Evidence
from selector.zoo import result as results
from selector.zoo.candidates import Candidate, ensemble_id, is_named_as_candidate
from selector.zoo.disk import RUN_AGAIN, disk_errors, lock_folder
from selector.zoo.drafts import remove_drafts
from selector.zoo.result import PSEUDO_SCORES, Result, StoredEnsemble, nan_to_none
from selector.zoo.stored_encoders import encoder_file, lacks_encoder, save_encoder
from selector.zoo.validation_anomalies import RESAMPLED

SPLITS = ("train", "validation", "calibration", "test")
PARTS = ("scorer", "evidence", "calibration")  # of a candidate that was trained, beside its record
FORMAT = 1  # of run folders; others are refused
LONGEST_DIFFERENCE = 80  # characters of a message; a fingerprint or a list of candidates says nothing to a reader


class Store:
    """A run folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()  # it is the same folder wherever the process goes later

    # The run -------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.root / "run.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one writing process; the system lets go of it however that process ends."""
        with disk_errors(self.root):
            lock = lock_folder(self.root, by="selection")
        try:
            yield
        finally:
            lock.release()

    def require_format(self) -> None:
        """Refuse a run folder of another format. Raises InputError."""
        if (there := self.run.get("format")) != FORMAT:
            rule = f"is a run of another version of ssad (format {there!r}, this one reads {FORMAT})"
            raise InputError(str(self.root), rule, "select again in a new folder")

    def create(self, run: dict[str, Any], images: dict[str, Tensor]) -> None:
        """Begin the run, or resume it where it was begun with the same settings and images.

        Raises InputError when the folder holds another run or anything else.
        """
        if self.exists:
            self.require_same(run)
            remove_drafts(self.root)
            self._remove_candidates_in_part()
            if not self._holds(images):
                with disk_errors(self.root):
                    files.write(self.root / "images.safetensors", images)
            return
        present = (path.name for path in self.root.iterdir() if not path.name.startswith("."))
        foreign = sorted(name for name in present if name != "images.safetensors")
        if foreign:
            raise InputError(
                str(self.root), f"holds other files ({', '.join(foreign[:3])})", "choose a new or an empty folder"
            )
        remove_drafts(self.root)
        with disk_errors(self.root):
            files.write(self.root / "images.safetensors", images)
            self.write_json("run.json", {"format": FORMAT, **run})

    def require_same(self, run: dict[str, Any]) -> None:
        """Refuse to resume a run of another format, or of other settings. Raises InputError."""
        self.require_format()
        there, now = self.run["settings"], json.loads(json.dumps(run["settings"]))
        differing = [key for key in {**now, **there} if there.get(key) != now.get(key)]
        if differing:
            raise InputError(
                f"{self.root}: a run made with other settings",
                "; ".join(_difference(key, there.get(key), now.get(key)) for key in differing),
                "repeat those settings to resume it, or choose another folder",
            )

    def _holds(self, images: dict[str, Tensor]) -> bool:
        try:
            stored = files.read_own(self.root / "images.safetensors")[0]
        except InputError:
            return False
        return stored.keys() == images.keys() and all(torch.equal(stored[name], images[name]) for name in stored)

    def _remove_candidates_in_part(self) -> None:
        """Those that were trained and lack a file, their encoder's among them.

        As in a copy of a folder that was written to meanwhile. What is there but damaged is not deleted unasked, nor
        what has no name of a candidate: ``candidates`` may be a link to where other folders lie.
        """
        for folder in filter(is_named_as_candidate, self.root.glob("candidates/*")):
            if (folder / "record.json").is_file():
                record = self.record(folder.name)
                if record["status"] != "ok" or "candidate" not in record:
                    continue
                parts = (folder / f"{name}.safetensors" for name in PARTS)
                weights = self._weights(Candidate.from_json(record["candidate"]).training_id)
                if all(path.is_file() for path in (weights, *parts)) and not lacks_encoder(self.root, folder):
                    continue
            shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def run(self) -> dict[str, Any]:
        run = self.read_json("run.json", "choose another folder")
        if not (isinstance(run, dict) and isinstance(run.get("settings"), dict)):
            raise InputError(str(self.root / "run.json"), "is corrupt (no settings in it)", "choose another folder")
        return run

    @cached_property
    def images(self) -> dict[str, Tensor]:
        """The images as read, (n,C,S,S) by split."""
        return _read(self.root / "images.safetensors", RUN_AGAIN)[0]

    @cached_property
    def validation_anomalies(self) -> dict[str, Tensor]:
        """The validation anomalies, (n,C,S,S) by family."""
        anomalies, settings = _read(self._anomalies, self._redo_all)
        return {family: anomalies[family] for family in settings["families"]}

    @property
    def has_validation_anomalies(self) -> bool:
        return self._anomalies.is_file()

    @property
    def _anomalies(self) -> Path:
        return self.root / "validation_anomalies.safetensors"

    @property
    def _redo_all(self) -> str:
        """Other validation anomalies need not be the same, and what is known of candidates belongs to these."""
        return f"delete it and {self.root / 'candidates'}, and {RUN_AGAIN}"

    @cached_property
    def families(self) -> list[str]:
        """The families of validation anomalies, in the order in which they joined the run."""
        return _read(self._anomalies, self._redo_all, files.read_settings)["families"]

    def add_validation_anomalies(self, anomalies: Mapping[str, Tensor]) -> None:
        """Add families to those that are there, which stay as they are."""
        known = self.validation_anomalies if self.has_validation_anomalies else {}
        merged = {**anomalies, **known}
        if self.has_validation_anomalies and merged.keys() == known.keys():
            return
        order = [*known, *(family for family in anomalies if family not in known)]
        with disk_errors(self.root):
            files.write(self._anomalies, merged, {"families": order})
        for stale in ("validation_anomalies", "families"):
            vars(self).pop(stale, None)

    def names(self, split: str) -> list[str]:
        """What the images of a split are called; none where there are no test images."""
        return self.run["names"].get(split, [])

    def groups(self, split: str) -> list[int] | None:
        """The group of each image of a split of the normal images, where they were given."""
        groups = self.run["settings"].get("groups")
        return groups and groups[split]

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        with disk_errors(self.root):
            files.write_bytes(self.root / name, json.dumps(with_checksum(nan_to_none(value)), indent=1).encode())

    def read_json(self, name: str, remedy: str = f"delete it and {RUN_AGAIN}") -> dict[str, Any]:
        path = self.root / name
        if not path.is_file():
            raise InputError(str(self.root), f"holds no {name}", "name the folder that `ssad select --out` wrote")
        try:
            return without_checksum(parse_json(path.read_bytes()))
        except OSError as error:
            raise InputError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error
        except ValueError as error:
            raise InputError(str(path), f"is corrupt ({error})", remedy) from error

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What was proposed, in order; nothing where no trial was begun."""
        return self.read_json("trials.json")["trials"] if (self.root / "trials.json").is_file() else []

    # Candidates ----------------------------------------------------------------------------------------------

    def is_finished(self, candidate: Candidate) -> bool:
        """Whether a candidate was trained and evaluated, or failed for reasons of its own."""
        return self._record(candidate.id).is_file() and not self.record(candidate.id).get("retry", False)

    def retry_failed(self) -> None:
        """Let every candidate that failed be tried again, whatever the reason."""
        for path in self.root.glob("candidates/[!.]*/record.json"):
            if (record := self.record(path.parent.name))["status"] == "failed":
                with disk_errors(self.root):
                    _write_record(path.parent, {**record, "retry": True})

    def missing_families(self, candidate: Candidate) -> list[str]:
        """The families of validation anomalies that joined the run after a candidate was finished."""
        record = self.record(candidate.id)
        return [family for family in self.families if family not in record.get("families", self.families)]

    def is_complete(self, candidate: Candidate) -> bool:
        """Whether a candidate is finished, and was evaluated on all validation anomalies."""
        return self.is_finished(candidate) and not self.missing_families(candidate)

    def _folder(self, candidate_id: str) -> Path:
        return self.root / "candidates" / candidate_id

    def _record(self, candidate_id: str) -> Path:
        return self._folder(candidate_id) / "record.json"

    def record(self, candidate_id: str) -> dict[str, Any]:
        """status ("ok" or "failed"), reason, retry (whether that is no result), losses, seconds, device, families."""
        name = f"candidates/{candidate_id}/record.json"
        return results.require_record(self.read_json(name), str(self.root / name), self._redo(candidate_id))

    def finished_at(self, candidate_id: str) -> float:
        """When a candidate was finished, in seconds since the epoch."""
        return self._record(candidate_id).stat().st_mtime

    def save(self, result: Result) -> None:
        """Put a finished candidate on disk, all of it at once: its folder appears under its name when complete.

        What is finished already stays as it is.
        """
        candidate = result.candidate
        if result.weights is not None:
            with disk_errors(self.root):
                files.write(self._weights(candidate.training_id), result.weights)
        if self.is_finished(candidate):
            return
        final = self._folder(candidate.id)
        draft = final.with_name(f".{candidate.id}.{os.getpid()}")
        with disk_errors(self.root):
            shutil.rmtree(draft, ignore_errors=True)
            try:
                if result.detector is not None and result.evidence is not None and result.calibration is not None:
                    state = result.detector.state()
                    settings = state.settings | {"given": save_encoder(self.root, result.detector.given_state())}
                    files.write(draft / "scorer.safetensors", state.fitted, settings)
                    distance = {"score_is_distance": result.detector.score_is_distance}
                    files.write(draft / "evidence.safetensors", result.evidence, distance)
                    files.write(draft / "calibration.safetensors", result.calibration)
                _write_record(draft, {**result.record, "candidate": candidate.to_json()})
                shutil.rmtree(final, ignore_errors=True)
                self._forget_ensembles(candidate.id)
                draft.rename(final)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def extend_evidence(self, candidate: Candidate, tensors: dict[str, Tensor], families: Sequence[str]) -> None:
        """Add scores of validation anomalies to a finished candidate's evidence, which is then of these families."""
        folder = self._folder(candidate.id)
        evidence, settings = self._read(candidate.id, "evidence")
        with disk_errors(self.root):
            files.write(folder / "evidence.safetensors", evidence | tensors, settings)
            _write_record(folder, {**self.record(candidate.id), "families": list(families)})

    def withdraw(self, candidate: Candidate, record: Mapping[str, Any]) -> None:
        """Replace the record of a finished candidate by that of a failure."""
        with disk_errors(self.root):
            _write_record(self._folder(candidate.id), {**record, "candidate": candidate.to_json()})

    def evidence(self, candidate_id: str) -> list[Evidence]:
        """The candidate's evidence, one for each draw of its augmented images; one where it has none."""
        tensors, settings = self._read(candidate_id, "evidence")
        families = tuple(f for f in (*self.families, RESAMPLED) if f"{PSEUDO_SCORES}{f}" in tensors)
        if families:
            tensors["pseudo_scores"] = torch.cat([tensors.pop(f"{PSEUDO_SCORES}{family}") for family in families])
        draws = list(tensors.pop("augmented", ()))
        augmented = draws[0] if draws else None
        try:
            is_distance = settings["score_is_distance"]
            evidence = Evidence(**tensors, augmented=augmented, score_is_distance=is_distance, pseudo_families=families)
        except (KeyError, TypeError) as error:
            raise InputError(f"evidence of {candidate_id}", f"is corrupt: {error}", self._redo(candidate_id)) from error
        return [evidence, *(evidence.with_augmented(draw) for draw in draws[1:])]

    def calibration(self, candidate_id: str) -> dict[str, Tensor]:
        """Of the calibration images ``scores`` (h,) and ``map_maxima`` (h,), and ``maps`` (q,), quantiles of maps."""
        calibration = self._read(candidate_id, "calibration")[0]
        return results.require_calibration(calibration, f"calibration of {candidate_id}", self._redo(candidate_id))

    def detector(self, candidate: Candidate, device: torch.device) -> Kind:
        trained, _ = _read(self._weights(candidate.training_id), self._redo(candidate.id))
        fitted, settings = self._read(candidate.id, "scorer")
        if settings.get("given"):
            encoder = encoder_file(self.root, settings["given"])
            # Its candidates are made again where it is missing, and it is not written again where it is there.
            trained |= _read(encoder, f"delete it and {RUN_AGAIN}" if encoder.is_file() else RUN_AGAIN)[0]
        return detectors.get(candidate.training.detector).from_state(files.State(settings, trained, fitted), device)

    def _weights(self, training_id: str) -> Path:
        return self.root / "trained" / f"{training_id}.safetensors"

    def save_ensemble(self, members: Sequence[str], stored: StoredEnsemble) -> None:
        """Put what an ensemble adds to its members on disk."""
        with disk_errors(self.root):
            files.write(self._ensemble(members), stored.calibration, {"normalizations": stored.normalizations})

    def ensemble(self, members: Sequence[str]) -> StoredEnsemble | None:
        """What the ensemble of these candidates adds to them; None where it was not stored, or not whole."""
        try:
            calibration, settings = files.read_own(self._ensemble(members))
        except InputError:  # it is made again from its members
            return None
        normalizations = settings.get("normalizations", {})
        return StoredEnsemble(normalizations, calibration) if normalizations.keys() == set(members) else None

    def _forget_ensembles(self, candidate_id: str) -> None:
        """Those of a candidate that is trained again: they were normalised with the former."""
        for path in (self.root / "ensembles").glob("*.safetensors"):
            with suppress(InputError):  # a damaged one is made again when it is needed
                if candidate_id in files.read_settings(path).get("normalizations", {}):
                    path.unlink(missing_ok=True)

    def _ensemble(self, members: Sequence[str]) -> Path:
        return self.root / "ensembles" / f"{ensemble_id(members)}.safetensors"

    def _read(self, candidate_id: str, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return _read(self._folder(candidate_id) / f"{name}.safetensors", self._redo(candidate_id))

    def _redo(self, candidate_id: str) -> str:
        return f"delete {self._folder(candidate_id)} and {RUN_AGAIN}"

    # Progress ------------------------------------------------------------------------------------------------

    def report_progress(self, training_id: str, step: int, loss: float) -> None:
        path = self.root / "progress" / f"{training_id}.json"
        draft = path.with_suffix(f".{os.getpid()}")
        with disk_errors(self.root):
            path.parent.mkdir(exist_ok=True)
            draft.write_text(json.dumps({"step": step, "loss": loss}))
            draft.replace(path)

    def progress(self, training_id: str) -> dict[str, float] | None:
        try:
            return parse_json((self.root / "progress" / f"{training_id}.json").read_text())
        except (OSError, ValueError):
            return None

    @property
    def features(self) -> Path:
        """Where features that several candidates need are kept while they are trained."""
        return self.root / "features"

    def forget_features(self) -> None:
        """Remove them: what needs them again computes them again."""
        shutil.rmtree(self.features, ignore_errors=True)

    def forget_progress(self) -> None:
        shutil.rmtree(self.root / "progress", ignore_errors=True)


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    files.write_bytes(folder / "record.json", json.dumps(with_checksum(record), indent=1).encode())


def _read(path: Path, remedy: str, take: Callable[[Path], Any] = files.read_own) -> Any:
    try:
        return take(path)
    except InputError as error:
        raise InputError(error.thing, error.rule, remedy) from error


def _difference(key: str, there: object, now: object) -> str:
    shown = f"{key} {there!r} there, {now!r} now"
    return shown if len(shown) < LONGEST_DIFFERENCE else f"{key} differ"
