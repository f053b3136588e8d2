"""Data sets as tasks, a file for each way that they are laid out.

``elpv``: solar cells. ``generated``: the same and photos, with defects drawn on normal images. ``photos``: tiles of
the photos that scikit-image ships. ``defects``: MVTec AD, MPDD, VisA, BTech, and a folder of one's own, with masks.
``classes``: folders of classes, and CelebA. ``idx``: MNIST and Fashion-MNIST. ``arrays``: CIFAR-10, CIFAR-100, SVHN.
"""

from benchmarks.datasets import arrays, classes, defects, elpv, generated, idx, photos
from benchmarks.tasks.task import Loader

# Called with the full name; a key that ends in a dash serves every name that starts with it.
LOADERS: dict[str, Loader] = {
    **elpv.LOADERS,
    **generated.LOADERS,
    **photos.LOADERS,
    **idx.LOADERS,
    **defects.LOADERS,
    **classes.LOADERS,
    **arrays.LOADERS,
}
