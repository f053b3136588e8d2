"""A shape at a random place of an image, turned and zoomed a little, its contrast low: digits and letters.

Where it stands says nothing, so that features of a place do not help; which shape it is, and which way round, does.

``digits-<k>``: the handwritten digits of scikit-learn, 8 x 8 px (UCI, "Optical Recognition of Handwritten Digits",
Alpaydin and Kaynak 1998, CC BY 4.0), one against the others. ``letters-R``: a letter in the typefaces that matplotlib
ships (DejaVu, STIX, Computer Modern, each under its own free licence), against the same mirrored and other letters.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from augmentations.randomness import generator
from benchmarks.datasets.resampled import SIDE, assemble, refuse_root, resample, uniform
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task

SHAPE = 16  # px of an image that a shape and its margin take up, before it is zoomed
ZOOM = (0.85, 1.15)  # px of a shape's own picture for each px of an image, times what makes it SHAPE px large
TURN = (-10.0, 10.0)  # degrees
DARK, BRIGHT = 0.12, 0.87  # of the ground and of the shape
NOISE = 0.04  # standard deviation
TRAIN_SHARE = 0.6  # of the digits that are normal
MARGIN = 1  # px around a digit

MIRRORED = "mirrored"
OTHERS = {"R": ("B", "K", "P")}  # the letters that are anomalies, by the normal one
N_TRAIN, N_TEST = 300, 150  # images of letters; normal ones, and as many of each kind of anomaly
FINE = 3 * SHAPE  # px of a letter's own picture
POINTS = 33  # of a letter in it, so that the widest fits in
TYPEFACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmss10", "cmtt10", "cmb10", "cmti10"),
)


def load_digits(name: str, root: str | Path | None, image_size: int) -> Task:
    """The digit in ``name`` against the others, which are the kinds: train on 60% of its images, test on all others.

    Raises InputError for a root.
    """
    from sklearn import datasets

    refuse_root(name, root, "comes with the package scikit-learn")
    scans = datasets.load_digits()
    shapes = torch.from_numpy(scans.images).float()[:, None] / 16
    shapes = functional.pad(shapes, [MARGIN] * 4)
    of_digit = [shapes[torch.from_numpy(scans.target == k)] for k in range(10)]
    normal = int(name.rpartition("-")[2])
    own = of_digit[normal]
    own = own[torch.randperm(len(own), generator=generator(SPLIT_SEED, "benchmarks", name))]
    train, held_out = own.tensor_split([round(TRAIN_SHARE * len(own))])
    anomalies = {f"{k}": _placed(name, f"{k}", of_digit[k]) for k in range(10) if k != normal}
    return assemble(name, image_size, _placed(name, "train", train), _placed(name, "normal", held_out), anomalies)


def load_letters(name: str, root: str | Path | None, image_size: int) -> Task:
    """A letter in a random typeface against itself mirrored and against other letters, which are the kinds.

    Raises InputError for a root.
    """
    refuse_root(name, root, "comes with the package matplotlib")
    letter = name.rpartition("-")[2]
    written = {
        "train": _written(name, "train", letter, N_TRAIN),
        "normal": _written(name, "normal", letter, N_TEST),
        MIRRORED: _written(name, MIRRORED, letter, N_TEST).flip(-1),
        **{other: _written(name, other, other, N_TEST) for other in OTHERS[letter]},
    }
    placed = {part: _placed(name, part, shapes) for part, shapes in written.items()}
    return assemble(name, image_size, placed.pop("train"), placed.pop("normal"), placed)


LOADERS: dict[str, Loader] = {
    **{f"digits-{k}": load_digits for k in range(10)},
    **{f"letters-{letter}": load_letters for letter in OTHERS},
}


def _placed(name: str, part: str, shapes: Tensor) -> Tensor:
    """Each shape (n,1,s,s), bright on black, in an image (n,1,SIDE,SIDE) of its own."""
    source = generator(SPLIT_SEED, "benchmarks", name, part, "placed")
    n, side = len(shapes), shapes.shape[-1]
    zoom = side / SHAPE * uniform(*ZOOM, n, source)  # the larger, the smaller the shape
    turn = uniform(*TURN, n, source)
    margin = (SIDE - SHAPE / ZOOM[0]) / 2 * zoom  # px of the shape's picture, that its middle may be off
    centres = (side - 1) / 2 + margin[:, None] * uniform(-1, 1, (n, 2), source)
    shown = DARK + (BRIGHT - DARK) * resample(shapes, centres, zoom, turn)
    return (shown + NOISE * torch.randn(shown.shape, generator=source)).clamp(0, 1)


def _written(name: str, part: str, letter: str, n: int) -> Tensor:
    """(n,1,FINE,FINE) a letter in random typefaces."""
    source = generator(SPLIT_SEED, "benchmarks", name, part, "typefaces")
    chosen = torch.randint(len(TYPEFACES), (n,), generator=source)
    return torch.stack([_glyph(letter, TYPEFACES[i]) for i in chosen.tolist()])


@cache
def _glyph(letter: str, typeface: str) -> Tensor:
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    picture = Image.new("L", (FINE, FINE))
    font = ImageFont.truetype(str(file), POINTS)
    ImageDraw.Draw(picture).text((FINE / 2, FINE / 2), letter, font=font, fill=255, anchor="mm")
    return torch.from_numpy(np.array(picture)).float()[None] / 255
