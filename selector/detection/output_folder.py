"""The folder that `ssad detect` fills batch by batch; a detection that was stopped is resumed there.

result.json        the request: detector, train images, false-alarm rate, calibration
detections.jsonl   one line per image, as soon as its pictures are written
heatmaps/, masks/  one PNG per image; masks of anomalous images only
detections.csv     the same rows, written last: where it exists, the result is complete
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from augmentations import InputError
from detectors import files
from selector.detection.detections import Detections
from selector.detection.heatmaps import picture_path, write_heatmap, write_mask
from selector.inputs.reader import Images

OURS = ("result.json", "detections.jsonl", "detections.csv", "heatmaps", "masks")


class DetectionFolder:
    """A result folder, new or resumed."""

    def __init__(self, root: Path, request: dict[str, Any], overwrite: bool = False) -> None:
        """Open the folder, which need not exist.

        Args:
            root: The folder.
            request: What decides on the result, as JSON: a result that another request began is not resumed.
            overwrite: Delete a result that is there.

        Raises:
            InputError: The folder holds a complete result, the result of another request, or anything else.
        """
        self.root = root
        self.request = request
        self.rows_path = root / "detections.jsonl"
        self.table_path = root / "detections.csv"
        present = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        if root.exists() and (not root.is_dir() or any(name not in OURS and name[0] != "." for name in present)):
            raise InputError(str(root), "already holds something else", "choose a new folder for the result")
        if overwrite:
            self._clear()
        elif "detections.csv" in present:
            raise InputError(
                str(root), "already holds a complete result", "choose a new folder, or replace it (--overwrite)"
            )
        elif present and self._stored_request() != request:
            raise InputError(
                str(root),
                "holds the unfinished result of another run or rate",
                "choose a new folder, or replace it (--overwrite)",
            )
        self.rows = self._complete_rows()

    def _clear(self) -> None:
        for name in OURS:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _stored_request(self) -> Any:
        try:
            return json.loads((self.root / "result.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _complete_rows(self) -> list[dict[str, Any]]:
        """The rows on disk; a line that was cut short is removed, and its image is detected again."""
        if not self.rows_path.is_file():
            return []
        lines = self.rows_path.read_bytes().splitlines(keepends=True)
        complete = [line for line in lines if line.endswith(b"\n")]
        if len(complete) < len(lines):
            files.write_bytes(self.rows_path, b"".join(complete))
        return [json.loads(line) for line in complete]

    @property
    def done(self) -> set[str]:
        """The names of the images that have a row."""
        return {row["name"] for row in self.rows}

    def add(self, detections: Detections, images: Images, scale: tuple[float, float]) -> None:
        """Write the pictures of a batch, then its rows.

        Args:
            detections: What was decided on the images.
            images: The same images as they were read.
            scale: The two ends of the colour scale of heatmaps.
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
            row = {"name": name, "score": float(f"{score:.6g}"), "p_value": float(f"{p:.6g}"), "verdict": verdict}
            pictures = {"heatmap": heatmap.as_posix(), "mask": mask.as_posix() if mask else ""}
            rows.append(row | {"boxes": boxes, "areas": areas, "remark": remark} | pictures)
        self._append(rows)

    def add_unreadable(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Add rows for images that could not be read: (name, reason) of each; the reason stands in the verdict."""
        self._begin()
        rows = [{"name": name, "verdict": f"unreadable: {reason}"} for name, reason in skipped]
        self._append([row for row in rows if row["name"] not in self.done])

    def _begin(self) -> None:
        """Write the request before any row, so that an interrupted result can be identified."""
        if not self.rows_path.exists():
            files.write_bytes(self.root / "result.json", json.dumps(self.request, indent=1).encode())

    def _append(self, rows: list[dict[str, Any]]) -> None:
        with self.rows_path.open("ab") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows

    def finish(self) -> Path:
        """Write the table, one row per image, sorted by name; returns its path."""
        columns = ["name", "score", "p_value", "verdict", "boxes", "areas", "remark", "heatmap", "mask"]
        table = pd.DataFrame(self.rows, columns=columns).sort_values("name")
        for column in ("boxes", "areas"):
            table[column] = [json.dumps(value) if isinstance(value, list) else "" for value in table[column]]
        content = table.to_csv(index=False).encode(errors="surrogateescape")
        return files.write_bytes(self.table_path, content)

    def n_anomalies(self) -> int:
        """How many images are called anomalous so far."""
        return sum(row["verdict"] == "anomaly" for row in self.rows)
