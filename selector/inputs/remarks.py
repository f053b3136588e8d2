"""Remarks on images, as "problem" or "problem: detail", counted over many images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from augmentations.errors import first_few
from selector.inputs.files import plural


def problem_of(remark: str) -> str:
    """The part of a remark that other images share: without the detail."""
    return remark.partition(": ")[0]


@dataclass
class Tally:
    """How many images each remark applies to, and the first of them, so that each is reported once."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, names: Sequence[str], sizes: Iterable[tuple[int, int]], remarks: Iterable[Sequence[str]]) -> None:
        """Count images, by what they are called, their height and width, and the remarks on each."""
        self.sizes.update(sizes)
        for name, texts in zip(names, remarks, strict=True):
            for problem in map(problem_of, texts):
                self.counts[problem] += 1
                self.first.setdefault(problem, name)

    def notes(self, image_size: int) -> list[str]:
        """One sentence per problem, without a full stop, and one on how sizes become one."""
        notes = [f"{plural(n, 'image')} {what} (first: {self.first[what]})" for what, n in self.counts.items()]
        return [*notes, *resizing(self.sizes, image_size)]


def resizing(sizes: Counter[tuple[int, int]], image_size: int) -> list[str]:
    """A sentence on how these heights and widths become one, without a full stop; none where the aspect is kept."""
    if len(sizes) < 2 and all(height == width for height, width in sizes):
        return []
    (height, width), _ = sizes.most_common(1)[0]
    which = f"all {height} x {width}" if len(sizes) == 1 else f"of {len(sizes)} sizes, most often {height} x {width}"
    return [f"images {which}, resized to {image_size} x {image_size} without keeping the aspect"]


def summary(remarks: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The remarks on many images, (name, remarks) each, in one sentence per problem, without a full stop."""
    images: dict[str, list[str]] = {}
    for name, texts in remarks:
        for text in texts:
            problem, _, detail = text.partition(": ")
            images.setdefault(problem, []).append(f"{name} ({detail})" if detail else name)
    return [f"{count_are(named)} {problem}: {first_few(named)}" for problem, named in images.items()]


def count_are(images: Sequence[str]) -> str:
    """``1 image is``, ``2 images are``."""
    return "1 image is" if len(images) == 1 else f"{len(images)} images are"
