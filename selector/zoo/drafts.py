"""What a process that was killed while writing has left in a run folder."""

import shutil
from contextlib import suppress
from pathlib import Path

# By the names that this file and files.write give.
DRAFTS = (
    *(".run.json.*.tmp", ".images.safetensors.*.tmp", ".selection.json.*.tmp", ".ranking.csv.*.tmp"),
    *(
        ".index.html.*.tmp",
        ".report.json.*.tmp",
        "trained/.*",
        "encoders/.*",
        "candidates/.*",
        "ensembles/.*",
        "progress/*",
    ),
    *("candidates/*/.*.tmp", "cross/*/.*.tmp", "encoders/.*"),
    *(".trials.json.*.tmp", ".study.log.*.tmp", ".validation_anomalies.safetensors.*.tmp"),
)


def remove_drafts(root: Path) -> None:
    """Remove them; the caller holds the lock of the folder."""
    for draft in [path for pattern in DRAFTS for path in root.glob(pattern)]:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            with suppress(OSError):
                draft.unlink()
