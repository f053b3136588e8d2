"""The preparation of a run: its folder, its images, and the validation anomalies that all candidates share."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from augmentations import Augmentation
from selector.zoo.store import Store
from selector.zoo.validation_anomalies import make_validation_anomalies


def prepare(
    store: Store,
    run: Mapping[str, Any],
    images: Mapping[str, Tensor],
    augmentations: Sequence[Augmentation],
    seed: int,
) -> None:
    """Begin a run, or resume it; the caller holds the lock of its folder.

    Args:
        store: the run folder.
        run: what is written to run.json; its "settings" must be those of the run that is resumed. Its "encoders" are
            written again, for a run that grows may have more of them.
        images: (n,C,S,S) by split: train, validation, calibration, and test where there are any.
        augmentations: those that validation anomalies are made by. A family that joins a run is added to it, and
            families that are there stay as they are.
        seed: of the validation anomalies.
    Raises:
        InputError: where the folder holds another run, or anything else.
        StorageError: where it can't be written to.
    """
    store.create(dict(run), dict(images))
    encoders = json.loads(json.dumps(run.get("encoders", [])))
    if encoders != store.run.get("encoders", []):
        store.write_json("run.json", {**store.run, "encoders": encoders})
        del store.run  # read again
    known = set(store.families) if store.has_validation_anomalies else set()
    joining = [augmentation for augmentation in augmentations if augmentation.family not in known]
    if joining:
        store.add_validation_anomalies(make_validation_anomalies(images["validation"], joining, seed))
