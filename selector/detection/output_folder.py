"""The folder that `ssad detect` fills, a batch at a time: whatever stops it, it goes on where it was.

result.json        what was asked for: run, candidate, false-alarm rate
detections.jsonl   a line an image, as soon as its pictures are written
heatmaps/, masks/  a PNG an image; masks of anomalous images only
detections.csv     the same rows, written last: where it is, the result is complete
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
from selector.detection.detections import Detections, picture_path, write_heatmap, write_mask
from selector.inputs.reader import Images

OURS = ("result.json", "detections.jsonl", "detections.csv", "heatmaps", "masks")


class Results:
    """A result folder, new or gone on with."""

    def __init__(self, root: Path, asked: dict[str, Any], overwrite: bool = False) -> None:
        """Raises InputError when the folder holds a complete result, one of other settings, or anything else."""
        self.root = root
        self.asked = asked
        self.rows_path = root / "detections.jsonl"
        self.table_path = root / "detections.csv"
        held = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        if root.exists() and (not root.is_dir() or any(name not in OURS and name[0] != "." for name in held)):
            raise InputError(str(root), "already holds something else", "choose a new folder for the result")
        if overwrite:
            self._clear()
        elif "detections.csv" in held:
            raise InputError(
                str(root), "already holds a complete result", "choose a new folder, or write over it (--overwrite)"
            )
        elif held and self._asked_before() != asked:
            raise InputError(
                str(root),
                "holds a result begun with another run or rate",
                "choose a new folder, or write over it (--overwrite)",
            )
        self.rows = self._whole_rows()

    def _clear(self) -> None:
        for name in OURS:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _asked_before(self) -> Any:
        try:
            return json.loads((self.root / "result.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _whole_rows(self) -> list[dict[str, Any]]:
        """The rows on disk; a line that a stop cut short is taken away, for its image is done again."""
        if not self.rows_path.is_file():
            return []
        lines = self.rows_path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            files.write_bytes(self.rows_path, b"".join(whole))
        return [json.loads(line) for line in whole]

    @property
    def done(self) -> set[str]:
        """The names of the images that need not be looked at again."""
        return {row["name"] for row in self.rows}

    def add(self, found: Detections, images: Images, scale: tuple[float, float]) -> None:
        """Write the pictures of a batch, then its rows."""
        self._begin()
        rows = []
        for i, (name, score, p, verdict, boxes, areas) in enumerate(found.table.itertuples(index=False, name=None)):
            heatmap = Path("heatmaps") / picture_path(name)
            write_heatmap(self.root / heatmap, images.pixels[i], found.maps[i], scale)
            mask = Path("masks") / picture_path(name) if verdict == "anomaly" else None
            if mask is not None:
                write_mask(self.root / mask, found.maps[i], found.map_threshold, found.sizes[i])
            row = {"name": name, "score": float(f"{score:.6g}"), "p_value": float(f"{p:.6g}"), "verdict": verdict}
            pictures = {"heatmap": heatmap.as_posix(), "mask": mask.as_posix() if mask else ""}
            rows.append(row | {"boxes": boxes, "areas": areas} | pictures)
        self._append(rows)

    def add_unreadable(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Rows for images that could not be read: no score, and the reason as the verdict."""
        self._begin()
        rows = [{"name": name, "verdict": f"unreadable: {reason}"} for name, reason in skipped]
        self._append([row for row in rows if row["name"] not in self.done])

    def _begin(self) -> None:
        """Say what was asked for before anything else is there, so that a stop leaves nothing unexplained."""
        if not self.rows_path.exists():
            files.write_bytes(self.root / "result.json", json.dumps(self.asked, indent=1).encode())

    def _append(self, rows: list[dict[str, Any]]) -> None:
        with self.rows_path.open("ab") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows

    def finish(self) -> Path:
        """Write the table, a row an image, sorted by name; returns its path."""
        columns = ["name", "score", "p_value", "verdict", "boxes", "areas", "heatmap", "mask"]
        table = pd.DataFrame(self.rows, columns=columns).sort_values("name")
        for column in ("boxes", "areas"):
            table[column] = [json.dumps(value) if isinstance(value, list) else "" for value in table[column]]
        content = table.to_csv(index=False).encode(errors="surrogateescape")
        return files.write_bytes(self.table_path, content)

    def anomalies(self) -> int:
        """How many images are anomalous so far."""
        return sum(row["verdict"] == "anomaly" for row in self.rows)
