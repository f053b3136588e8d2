"""The picture of the README: a normal image, pseudo anomalies of it and a defect, from a photo of bricks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

import augmentations
import benchmarks
from augmentations.randomness import generator
from selector import select_best

AUGMENTATIONS = ("cutout", "cutpaste", "cutdiff")
SIDE = 64  # pixels


@dataclass(frozen=True, eq=False)
class Panels:
    """Images (C,H,W) in [0,1] of the picture.

    normal: a good part; pseudo_anomalies: by the name of their augmentation; anomalous: the test image with the highest
    score; score_map (H,W): the anomaly scores of its pixels.
    """

    normal: Tensor
    pseudo_anomalies: dict[str, Tensor]
    anomalous: Tensor
    score_map: Tensor


def gather(seed: int = 0, preset: str = "quick") -> Panels:
    """Select a detector on tiles of a photo of bricks without labels, and take what the picture shows.

    Args:
        seed: Of everything random.
        preset: How detectors are trained.

    Returns:
        The images of the picture.
    """
    task = benchmarks.load("brick", SIDE)
    selection = select_best(
        task.train,
        task.test,
        augmentations={name: [{}] for name in AUGMENTATIONS},
        detectors=("patch",),
        preset=preset,
        image_size=SIDE,
        seed=seed,
        jobs=1,
        device="cpu",
    )
    highest = int(selection.detector.score(task.test).argmax())
    normal, anomalous = task.train[:1], task.test[highest : highest + 1]
    return Panels(
        normal[0],
        {name: augmentations.make(name)(normal, generator(seed, "picture", name))[0] for name in AUGMENTATIONS},
        anomalous[0],
        selection.detector.score_map(anomalous)[0].cpu(),
    )


def draw(panels: Panels, out: Path) -> None:
    """Write the panels in a row as an image file.

    Args:
        panels: What is shown.
        out: The file; its suffix says the format.
    """
    from matplotlib.figure import Figure

    shown = {
        "a normal image": panels.normal,
        **{f"pseudo anomaly: {name}": image for name, image in panels.pseudo_anomalies.items()},
        "a new image": panels.anomalous,
        "what is anomalous in it": panels.anomalous,
    }
    figure = Figure(figsize=(2.1 * len(shown), 2.4), layout="constrained")
    axes = figure.subplots(1, len(shown))
    for axis, (title, image) in zip(axes, shown.items(), strict=True):
        axis.imshow(image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    axes[-1].imshow(panels.score_map.numpy(), cmap="inferno", alpha=0.6)
    figure.savefig(out, dpi=100, metadata={"Software": None})


def picture(
    out: Annotated[Path, typer.Option(help="The image file to write.")] = Path("docs/picture.png"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Draw the picture of the README; a selection of three candidates, about a minute.

    Example: ssad benchmark picture --out docs/picture.png
    """
    draw(gather(seed), out)
    print(f"picture      {out}")
