"""Data sets as tasks, one file for each way that they are laid out.

``elpv``: solar cells. ``generated``: the same and photos, with defects drawn on normal images. ``photos``: tiles of
photos that packages ship. ``textures`` and ``shapes``: faults of a whole image, resampled as the normal ones are.
``packaged``: MNIST-5k and faces, which packages ship as arrays. ``defects``: MVTec AD, MPDD, VisA, BTech, and a folder
of one's own, with masks. ``classes``: folders of classes, and CelebA. ``idx``: MNIST and Fashion-MNIST. ``arrays``:
CIFAR-10, CIFAR-100, SVHN.
``controlled`` makes testbeds whose anomalies come from a known generator; ``registry`` loads all of these by name.
"""

from benchmarks.datasets.registry import LOADERS, load, names

__all__ = ["LOADERS", "load", "names"]
