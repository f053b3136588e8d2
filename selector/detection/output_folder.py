"""The folder that `ssad detect` fills batch by batch; a detection that was stopped is resumed there.

result.json        the request: detector, train images, false-alarm rate, calibration; where the images are; and, when
                   the result is complete, what was noticed about them together
detections.jsonl   one line per image, as soon as its pictures are written, with the size, times and digest of its file:
                   an image that changed is detected again, and its last line counts. A line that was copied for
                   another name counts where the file of that name has the content that the line is of
heatmaps/, masks/  one PNG per image; masks of anomalous images only
detections.csv     the same rows, written last: where it exists, the result is complete

A name that starts with a dot is the lock or a draft.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch

from augmentations import InputError
from detectors import files
from detectors.checksums import CHECKSUM, of_json, parse_json, with_checksum, without_checksum
from selector.detection.conformal import benjamini_hochberg
from selector.detection.detections import Detections
from selector.detection.heatmaps import picture_path, write_heatmap, write_mask
from selector.detection.image_file import ImageFile, image_files
from selector.detection.watch import files_now
from selector.inputs.files import printable
from selector.inputs.reader import Images
from selector.inputs.remarks import resizing, summary
from selector.zoo.disk import lock_folder

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that spreadsheets compute
ROUNDING = 1e-5  # p-values are stored with six digits
UNREADABLE = "unreadable: "  # begins a verdict, before the reason
VALUES = "values_crc32"  # the checksum of a row without its name
PICTURES = ("heatmaps", "masks")
OURS = ("result.json", "detections.jsonl", "detections.csv", *PICTURES)


class DetectionFolder:
    """A result folder, new or resumed; used in a ``with``, at whose end it may be opened again."""

    def __init__(
        self, root: Path, request: dict[str, Any], source: Path, overwrite: bool = False, extend: bool = False
    ) -> None:
        """Open the folder, which need not exist.

        Args:
            root: The folder.
            request: What decides on the result, as JSON: a result that another request began is not resumed.
            source: The folder of the images, or one image.
            overwrite: Delete a result that is there.
            extend: Resume a complete result too, as a watch does.

        Raises:
            InputError: The images lie in it, another process writes to it, or it holds a complete result, that of
                another request, a link to where it would write, or anything else.
        """
        images, results = os.path.realpath(source), os.path.realpath(root)
        if images == results or images.startswith(os.path.join(results, "")):
            raise InputError(str(root), "is where the images are", "choose a folder of its own for the result")
        self.root = root
        self.request = request
        self._images = source
        self.source = printable(images)
        self._is_begun = False
        self.rows_path = root / "detections.jsonl"
        self.table_path = root / "detections.csv"
        present = sorted(path.name for path in root.iterdir() if path.name[0] != ".") if root.is_dir() else []
        if root.exists() and (not root.is_dir() or any(name not in OURS for name in present)):
            raise InputError(str(root), "already holds something else", "choose a new folder for the result")
        _refuse_links(root)
        self._lock = lock_folder(root, by="detection")
        try:
            self._open(present, overwrite, extend)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder, so that another detection may write to it."""
        self._lock.release()

    def _open(self, present: Collection[str], overwrite: bool, extend: bool) -> None:
        root = self.root
        if overwrite:
            self._clear()
        elif "detections.csv" in present and not extend:
            raise InputError(
                str(root), "already holds a complete result", "choose a new folder, or replace it (--overwrite)"
            )
        elif present and self._stored().get("request") != self.request:
            raise InputError(
                str(root),
                "holds the unfinished result of another run or rate",
                "choose a new folder, or replace it (--overwrite)",
            )
        self.is_same_source = self._stored().get("images") == self.source
        files.remove_drafts(root)
        self._read_rows()

    def _clear(self) -> None:
        for name in OURS:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _stored(self) -> dict[str, Any]:
        try:
            stored = parse_json((self.root / "result.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    def _read_rows(self) -> None:
        """The rows on disk; one that is not as it was written is left out, and its image is detected again."""
        self._rows: dict[str, dict[str, Any]] = {}
        copies: dict[str, dict[str, Any]] = {}
        for stored in map(_stored_row, self._complete_lines()):
            if stored is not None:
                row, is_whole = stored
                (self._rows if is_whole else copies)[row["name"]] = row
        confirmed = {
            file.name: copies[file.name] | {"file": list(file.state)}
            for file in (image_files(files_now(self._images)) if copies else ())
            if file.name in copies and file.name not in self._rows and _is_of(copies[file.name], file)
        }
        if confirmed:
            self._rows |= confirmed
            self._rewrite()

    def _complete_lines(self) -> list[bytes]:
        """The lines of rows on disk; one that was cut short is removed."""
        self._n_lines = 0
        if not self.rows_path.is_file():
            return []
        lines = self.rows_path.read_bytes().splitlines(keepends=True)
        complete = [line for line in lines if line.endswith(b"\n")]
        if len(complete) < len(lines):
            files.write_bytes(self.rows_path, b"".join(complete))
        self._n_lines = len(complete)
        return complete

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One per image: of several lines the last."""
        return list(self._rows.values())

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def is_current(self, file: ImageFile) -> bool:
        """Whether the row of an image is of the content that its file has now; an unreadable one never is."""
        row = self._rows.get(file.name)
        if row is None or not row.get("sha256"):
            return False
        return row.get("file") == list(file.state) or _is_of(row, file)

    def keep(self, names: Container[str], largest_rejected: float | None = None) -> None:
        """Drop the images that a detection is not of, and those whose verdict is another by now.

        Args:
            names: The images that it is of.
            largest_rejected: The largest p-value of an anomaly, where all images are decided on together.
        """
        limit = None if largest_rejected is None else largest_rejected * (1 + ROUNDING)
        self.drop(
            [
                row["name"]
                for row in self.rows
                if row["name"] not in names
                or (
                    limit is not None
                    and "p_value" in row
                    and (row["verdict"] == "anomaly") != (row["p_value"] <= limit)
                )
            ]
        )

    def drop(self, names: Collection[str]) -> None:
        """Remove the rows and pictures of these images."""
        for name in names:
            self._rows.pop(name, None)
            self._remove_pictures(name, {})
        if names:
            self._rewrite()

    def add(
        self,
        detections: Detections,
        images: Images,
        scale: tuple[float, float],
        listed: Mapping[str, ImageFile],
    ) -> None:
        """Write the pictures of a batch, then its rows.

        Args:
            detections: What was decided on the images.
            images: The same images as they were read.
            scale: The two ends of the colour scale of heatmaps.
            listed: The files by name, as they were before they were read.
        """
        self._begin()
        rows = []
        for i, (name, score, p, verdict, boxes, areas, remark) in enumerate(
            detections.table.itertuples(index=False, name=None)
        ):
            heatmap = Path("heatmaps") / picture_path(name)
            write_heatmap(
                self.root / heatmap, images.pixels[i], detections.maps[i], scale, original=detections.sizes[i]
            )
            mask = Path("masks") / picture_path(name) if verdict == "anomaly" else None
            if mask is not None:
                write_mask(self.root / mask, detections.maps[i], detections.map_threshold, detections.sizes[i])
            noticed = list(detections.noticed[i]) if detections.noticed else []
            row = {"name": name, "score": float(f"{score:.6g}"), "p_value": float(f"{p:.6g}"), "verdict": verdict}
            row["size"] = list(detections.sizes[i])
            pictures = {"heatmap": heatmap.as_posix(), "mask": mask.as_posix() if mask else ""}
            row |= {"boxes": boxes, "areas": areas, "remark": remark, "noticed": noticed}
            rows.append(row | pictures | listed[name].identity())
        self._append(rows)

    def add_unreadable(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Add rows for images that could not be read: (name, reason) of each; the reason stands in the verdict.

        One that is there already is not added again: a watch tries such an image many times.
        """
        self._begin()
        rows = [{"name": name, "verdict": f"{UNREADABLE}{' '.join(reason.split())}"} for name, reason in skipped]
        self._append([row for row in rows if self._rows.get(row["name"]) != row])

    def _begin(self) -> None:
        """Write the request before any row, so that an interrupted result can be identified.

        The empty list of rows comes before any picture, so that readers know the folder for a result.
        """
        if self._is_begun:
            return
        self.table_path.unlink(missing_ok=True)
        self._write_request({})
        self.rows_path.touch()
        self._is_begun = True

    def _write_request(self, more: Mapping[str, Any]) -> None:
        stored = {"request": self.request, "images": self.source, **more}
        files.write_bytes(self.root / "result.json", json.dumps(stored, indent=1).encode())

    def _append(self, rows: list[dict[str, Any]]) -> None:
        with self.rows_path.open("ab") as file:
            for row in rows:
                file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        for row in rows:
            if row["name"] in self._rows:
                self._remove_pictures(row["name"], row)
            self._rows[row["name"]] = row
        self._n_lines += len(rows)

    def _remove_pictures(self, name: str, row: Mapping[str, Any]) -> None:
        """Those of a former row that the row has not."""
        for kind in ("heatmap", "mask"):
            if not row.get(kind):
                (self.root / f"{kind}s" / picture_path(name)).unlink(missing_ok=True)

    def _rewrite(self) -> None:
        files.write_bytes(self.rows_path, b"".join(map(_line, self._rows.values())))
        self._n_lines = len(self._rows)

    def notes(self) -> list[str]:
        """What was noticed about images, in one sentence per problem, without a full stop."""
        return summary((row["name"], row.get("noticed", ())) for row in self.rows)

    def resizing(self, image_size: int) -> list[str]:
        """How the images' sizes became one, in a sentence without a full stop."""
        return resizing(Counter(tuple(row["size"]) for row in self.rows if "size" in row), image_size)

    def finish(self, notes: Sequence[str] = ()) -> Path:
        """Write the table, one row per image, sorted by name.

        Lines of former rows are removed, and pictures that belong to no row, such as those of a batch that was cut
        short and whose images were then moved away.

        Args:
            notes: On all images together; result.json gets them and ``notes()``.

        Returns:
            The path of the table.
        """
        self._begin()
        self._write_request({"notes": [*notes, *self.notes()]})
        pictures = {row.get(kind) for row in self.rows for kind in ("heatmap", "mask")}
        for path in [path for folder in PICTURES for path in (self.root / folder).rglob("*")]:
            if path.is_file() and path.relative_to(self.root).as_posix() not in pictures:
                path.unlink()
        if self._n_lines > len(self._rows):
            self._rewrite()
        columns = ["name", "score", "p_value", "verdict", "boxes", "areas", "remark", "heatmap", "mask"]
        table = pd.DataFrame(self.rows, columns=columns).sort_values("name")
        for column in ("boxes", "areas"):
            table[column] = [json.dumps(value) if isinstance(value, list) else "" for value in table[column]]
        table["name"] = [no_formula(name) for name in table["name"]]
        content = table.to_csv(index=False).encode(errors="backslashreplace")
        files.write_bytes(self.table_path, content)
        return self.table_path

    def unreadable(self) -> list[tuple[str, str]]:
        """The images that could not be read, and why."""
        return [
            (row["name"], row["verdict"].removeprefix(UNREADABLE))
            for row in self.rows
            if row["verdict"].startswith(UNREADABLE)
        ]

    def n_tested(self) -> int:
        """How many images have a p-value: those that could be read."""
        return sum("p_value" in row for row in self.rows)

    def n_anomalies(self) -> int:
        """How many images are called anomalous so far."""
        return sum(row["verdict"] == "anomaly" for row in self.rows)


def largest_rejected(batches: Iterable[tuple[Detections, Images]], fdr: float) -> float:
    """The largest p-value that Benjamini and Hochberg reject among all images; -1 where it is none."""
    p = torch.cat([detections.p_values for detections, _ in batches])
    rejected = p[benjamini_hochberg(p, fdr)]
    return rejected.max().item() if len(rejected) else -1.0


def no_formula(text: str) -> str:
    """A text that spreadsheets show: one that they would compute gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _refuse_links(root: Path) -> None:
    """Refuse links to where other files may lie, which this folder would add to or remove; links to pictures are
    replaced."""
    below = [Path(at, name) for kind in PICTURES for at, names, _ in os.walk(root / kind) for name in names]
    for path in (root / "detections.jsonl", *(root / kind for kind in PICTURES), *below):
        if path.is_symlink():
            raise InputError(str(path), "is a link", "remove the link, or choose a new folder for the result")


def _line(row: Mapping[str, Any]) -> bytes:
    content = with_checksum({**row, VALUES: _values_checksum(row)})
    return json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def _stored_row(line: bytes) -> tuple[dict[str, Any], bool] | None:
    """A row, and whether it is as it was written or only without its name; None for any other line."""
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("name", "verdict")):
        return None
    row = _without(value, VALUES, CHECKSUM)
    try:
        without_checksum(value)
    except ValueError:
        return (row, False) if value.get(VALUES) == _values_checksum(row) else None
    return row, True


def _is_of(row: Mapping[str, Any], file: ImageFile) -> bool:
    """Whether a row is of the content that a file has now."""
    return bool(row.get("sha256")) and row["sha256"] == file.digest()


def _values_checksum(row: Mapping[str, Any]) -> str:
    return of_json(_without(row, "name"))


def _without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
