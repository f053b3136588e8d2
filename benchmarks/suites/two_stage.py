"""The two-stage family: which kinds and scorers are compared, on a CPU and as published.

Sohn, Li, Yoon, Jin & Pfister, "Learning and Evaluating Representations for Deep One-Class Classification", ICLR 2021.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selector.zoo.plan import Request

SCORERS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "kde": [{}],
    "ocsvm": [{}],
    "ocsvm_linear": [{}],
    "gaussian": [{}],
    "knn": [{"k": 1}],
}
FEATURES = "scorer"  # the value of a setting ``score`` that leaves scores to a scorer on the features
NOISE = {"sigma": (0.1, 0.1)}  # Yoo et al., TMLR 2023
# What validation anomalies are made of; of these kinds, the autoencoder alone is trained on any, and on noise.
ANOMALIES: Mapping[str, Sequence[Mapping[str, Any]]] = {"cutpaste": [{}], "rotation": [{}]}


@dataclass(frozen=True)
class Compared:
    """A kind of detector as one row of the comparison.

    detector: its name. settings: those that differ from the preset's. own_score: the value of its setting ``score``
    with which it scores images itself, without a scorer; "" for a kind that has none. augmentation: name of what it
    is trained on, if any, and hyperparameters.
    """

    detector: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_score: str = ""
    augmentation: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def requests(self) -> Iterator[Request]:
        """The same as parts of a zoo: with every scorer, and with its own score."""
        anomalies = {self.augmentation: [self.hyperparameters]} if self.augmentation else ANOMALIES
        settings = {**self.settings, "score": FEATURES} if self.own_score else self.settings
        yield Request(anomalies, {self.detector: [settings]}, SCORERS)
        if self.own_score:
            own = {self.detector: [{**self.settings, "score": self.own_score}]}
            yield Request(anomalies, own, ("gaussian",))


def kinds(
    encoder: str,
    rotation: Mapping[str, Any] | None = None,
    contrastive: Mapping[str, Any] | None = None,
    autoencoder: Mapping[str, Any] | None = None,
) -> dict[str, Compared]:
    """The kinds by the names of their rows, with the settings that differ from the preset's.

    encoder: with random weights, of the untrained row, whose last level is scored as of a trained encoder.
    """
    turns = dict(rotation or {})
    return {
        "rotation, MLP head": Compared("rotation", turns, "classifier"),
        "contrastive DA": Compared("contrastive_da", contrastive or {}),
        "contrastive": Compared("contrastive", contrastive or {}),
        "pixels": Compared("pixels"),
        "untrained": Compared("frozen", {"encoder": encoder, "image_levels": (-1,)}),
        "rotation, no head": Compared("rotation", turns | {"head": ()}, "classifier"),
        "denoising autoencoder": Compared("autoencoder", autoencoder or {}, "error", "noise", NOISE),
    }


# For two CPU cores: the preset's small encoder. Every training shows it 32,000 images: a step of rotation has four
# views of 16 images, a contrastive one two of 16, and the autoencoder gives back 32.
STEPS = 1_000
ON_CPU = kinds(
    "small",
    rotation={"head": (128, 128), "batch": 16, "steps": STEPS // 2},
    contrastive={"batch": 16, "steps": STEPS},
    autoencoder={"batch": 32, "steps": STEPS},
)
AS_PUBLISHED = kinds("resnet18")


def zoo(rows: Mapping[str, Compared]) -> tuple[Request, ...]:
    """What a suite trains of these rows."""
    return tuple(request for row in rows.values() for request in row.requests())
