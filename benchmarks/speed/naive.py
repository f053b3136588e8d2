"""The usual ways of doing what this project does, written plainly: what `benchmarks.speed` compares it with.

What the code released with papers does: PIL augmentation one image at a time, one model after another, tensors of all
pairs of rows, pairs of candidates by scipy. They do the same work as what they are compared with.
"""

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ColorJitter
from torchvision.transforms.functional import to_tensor

from detectors import Classifier, ClassifierSettings
from detectors.encoders import EncoderSpec, pool
from detectors.scorers import Gaussian

BATCH = 64  # images that are embedded at a time
ASPECT = (0.3, 3.3)  # Li et al., CVPR 2021 (CutPaste), appendix A.2

Picture = Image.Image
Change = Callable[[Picture], Picture]


class PerImage(Dataset):
    """Each of (n,) pictures as tensors (C,H,W) in [0,1], one for each way of looking at it."""

    def __init__(self, pictures: list[Picture], views: tuple[Change, ...]) -> None:
        self.pictures = pictures
        self.views = views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> list[Tensor]:
        return [to_tensor(view(self.pictures[i])) for view in self.views]


def unchanged(picture: Picture) -> Picture:
    """The picture itself."""
    return picture


def cut_out(picture: Picture, corner: tuple[int, int], size: tuple[int, int]) -> Picture:
    """A copy with a black patch: ``corner`` its left and top, ``size`` its width and height in px."""
    changed = picture.copy()
    changed.paste((0, 0, 0), (*corner, corner[0] + size[0], corner[1] + size[1]))
    return changed


def cut_paste(
    picture: Picture, source: tuple[int, int], corner: tuple[int, int], size: tuple[int, int], jitter: Change
) -> Picture:
    """A copy with the patch at ``source`` (left, top), its colours jittered, pasted at ``corner``."""
    patch = picture.crop((*source, source[0] + size[0], source[1] + size[1]))
    changed = picture.copy()
    changed.paste(jitter(patch), corner)
    return changed


class PerImageAugmentation:
    """``cutout`` or ``cutpaste`` of one PIL picture, drawn as this project draws them at angle 0."""

    def __init__(self, name: str, area: tuple[float, float], jitter: float = 0.0, seed: int = 0) -> None:
        self.name = name
        self.area = area
        self.jitter = ColorJitter(jitter, jitter, jitter, jitter)
        self.random = random.Random(seed)

    def __call__(self, picture: Picture) -> Picture:
        size = self.draw_size(picture)
        corner = self._draw_corner(picture, size)
        if self.name == "cutout":
            return cut_out(picture, corner, size)
        return cut_paste(picture, self._draw_corner(picture, size), corner, size, self.jitter)

    def draw_size(self, picture: Picture) -> tuple[int, int]:
        """Width and height in px of a patch."""
        pixels = self.random.uniform(*self.area) * picture.width * picture.height
        ratio = math.exp(self.random.uniform(*map(math.log, ASPECT)))
        return max(1, round(math.sqrt(pixels * ratio))), max(1, round(math.sqrt(pixels / ratio)))

    def _draw_corner(self, picture: Picture, size: tuple[int, int]) -> tuple[int, int]:
        return self.random.randint(0, picture.width - size[0]), self.random.randint(0, picture.height - size[1])


def plain_criteria(x: Tensor, y: Tensor, z: Tensor) -> dict[str, float]:
    """The embedding criteria of train (n,d), augmented (m,d) and test (k,d) rows, by differences of all pairs.

    Each tensor of distances is made once, where the released code makes it again for every criterion.
    """
    both, d = torch.cat([x, y]), x.shape[1]
    to_test = (both[:, None] - z).norm(dim=2)
    gap = (x[:, None] - y).norm(dim=2).mean() / 2
    discordance = to_test.mean() / 2 / (gap + 1e-8)
    rays = nn.functional.normalize(y - x.mean(0), dim=1)
    separability = ((z - x.mean(0)) @ rays.T).std(correction=0) / gap
    scaled = torch.cat([both, z])
    scaled = scaled - scaled.mean(0)
    scaled = scaled * math.sqrt(len(scaled)) / scaled.norm()
    x_scaled, y_scaled, z_scaled = scaled.split([len(x), len(y), len(z)])
    to_means = [(z_scaled - rows.mean(0)).norm(dim=1).mean() for rows in (x_scaled, y_scaled)]

    def mmd(kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        within = kernel(both, both).mean() + kernel(z, z).mean()
        return (within - 2 * kernel(both, z).mean()).clamp(min=0)

    values = {
        "mmd_linear": (both.mean(0) - z.mean(0)).square().sum(),
        "mmd_rbf": mmd(lambda a, b: torch.exp(-torch.cdist(a, b).square() / d)),
        "mmd_poly": mmd(lambda a, b: (a @ b.T / d + 1) ** 3),
        "mean_distance": to_test.mean() / 2,
        "negative_std": -to_test.std(correction=0),
        "discordance": discordance,
        "separability_clamped": separability.clamp(max=0.5),
        "negative_separability_unclamped": -separability,
        "dsv": discordance - separability.clamp(max=0.5) / discordance,
        "alignment": sum(to_means) / 2,
    }
    return {name: float(value) for name, value in values.items()}


def plain_candidate(
    train: list[Picture], test: list[Picture], augment: Change, settings: ClassifierSettings
) -> tuple[nn.Module, Tensor]:
    """A trained encoder and its scores (k,) of the test pictures: the same network, steps and optimiser as ours.

    Augmented one image at a time, in float32. Embeds what a selection looks at: train, augmented and test images.
    """
    network = EncoderSpec.of(settings.encoder)
    encoder = network.build(3, settings.image_size)
    (hidden,) = settings.head
    head = (nn.Linear(network.width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 2))
    model = nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)
    optimizer = torch.optim.SGD(
        model.parameters(),
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    loader = DataLoader(PerImage(train, (unchanged, augment)), settings.batch, shuffle=True, drop_last=True)
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    classes = torch.arange(2).repeat_interleave(settings.batch)
    for clean, drawn in itertools.islice(endless, settings.steps):
        loss = nn.functional.cross_entropy(model(torch.cat([clean, drawn])), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()

    def embed(pictures: list[Picture], view: Change) -> Tensor:
        batches = DataLoader(PerImage(pictures, (view,)), BATCH)
        return torch.cat([pool(encoder(batch)) for (batch,) in batches])

    encoder.eval()
    with torch.no_grad():
        scorer = Gaussian().fit(embed(train, unchanged))
        embed(train, augment)
        return encoder, scorer.score(embed(test, unchanged))


def one_at_a_time(detector: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) scores and (N,H,W) maps, image by image, each of the two by a pass of its own."""
    scores = [detector.score(image[None]) for image in images]
    maps = [detector.score_map(image[None]) for image in images]
    return torch.cat(scores), torch.cat(maps)


@torch.no_grad()
def forward(detector: Classifier, images: Tensor) -> Tensor:
    """(N,d,h,w): the encoder alone, in the batches that detection takes."""
    return torch.cat([detector.encoder(batch) for batch in detector.batches(images)])


def pair_by_pair(scores: np.ndarray) -> np.ndarray:
    """Model centrality (m,) of scores (k images, m candidates): mean tau-b to the others, each pair by scipy."""
    m = scores.shape[1]
    total = np.zeros(m)
    for i, j in itertools.combinations(range(m), 2):
        tau = kendalltau(scores[:, i], scores[:, j]).statistic
        total[[i, j]] += tau
    return total / (m - 1)
