"""What the report says of how candidates are trained: through which encoders, and against what."""

from collections.abc import Iterator

from selector.outcome import Outcome
from selector.zoo.candidates import NO_AUGMENTATION


def training_facts(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    """Label, value and remark of each fact."""
    for encoder in outcome.zoo.store.run.get("encoders", []):
        parts = [f"weights: {encoder['origin']}"]
        if "sha256" in encoder:
            parts.append(f"SHA-256 {encoder['sha256']}")
        if "layers" in encoder:
            parts.append(f"layers {', '.join(encoder['layers'])}")
        if "input_size" in encoder:
            parts.append(f"images brought to {encoder['input_size']} px")
        yield "Encoder", encoder["name"], "; ".join(parts)
    without = {c.training.detector: None for c in outcome.zoo.candidates if c.augmentation == NO_AUGMENTATION}
    if without:
        kinds = ", ".join(kind.rpartition(":")[2] for kind in without)
        remark = "what they change in images, if anything, is a setting of theirs: trained once per setting"
        yield "Without augmentations", kinds, remark
