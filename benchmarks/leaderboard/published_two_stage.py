"""What others report of the two-stage family, to stand beside ours. Each number is AUROC, as published."""

import pandas as pd

SOURCE = "Sohn, Li, Yoon, Jin & Pfister, ICLR 2021"
SOURCE_SCORERS = f"{SOURCE}, table 7, as quoted by a reproduction"
SOURCE_CUTPASTE = "Li, Sohn, Yoon & Pfister, CVPR 2021 (CutPaste)"
DATA_SETS = ("CIFAR-10", "CIFAR-100", "Fashion-MNIST", "Cat-vs-Dog", "CelebA", "MVTec detection", "MVTec localization")
KDE, OWN = "kde", "own"
# Means over classes and five seeds, from the authors' slides; their article differs in the last digit here and there.
# Rows are kinds, as ours are named, and the scorer.
AUROC = pd.DataFrame.from_dict(
    {
        ("rotation, no head", OWN): (0.868, 0.803, 0.874, 0.861, 0.514, 0.710, 0.756),
        ("rotation, no head", KDE): (0.893, 0.819, 0.946, 0.864, 0.774, 0.835, 0.926),
        ("rotation, MLP head", KDE): (0.913, 0.841, 0.958, 0.864, 0.695, 0.863, 0.930),
        ("contrastive", KDE): (0.890, 0.824, 0.936, 0.877, 0.846, 0.802, 0.856),
        ("contrastive DA", KDE): (0.924, 0.865, 0.945, 0.896, 0.856, 0.865, 0.904),
    },
    orient="index",
    columns=list(DATA_SETS),
)
# One-class support vector machines on Fashion-MNIST and CIFAR-10; nan where no value is known.
NAN = float("nan")
BY_SCORER = pd.DataFrame.from_dict(
    {
        ("untrained", "ocsvm"): (0.898, 0.612),
        ("untrained", "ocsvm_linear"): (0.503, 0.501),
        ("rotation, MLP head", "ocsvm"): (0.946, 0.908),
        ("rotation, MLP head", "ocsvm_linear"): (0.890, 0.885),
        ("contrastive DA", "ocsvm"): (0.939, 0.925),
        ("contrastive DA", "ocsvm_linear"): (0.923, 0.907),
        ("denoising autoencoder", "ocsvm"): (0.939, 0.834),
    },
    orient="index",
    columns=["Fashion-MNIST", "CIFAR-10"],
)
# Means over the 15 classes of MVTec AD, by what the classifier is trained on; a Gaussian on the features.
CUTPASTE = pd.DataFrame.from_dict(
    {
        "rotation": (0.731, NAN),
        "Cutout": (0.713, NAN),
        "scar": (0.850, NAN),
        "CutPaste": (0.909, NAN),
        "CutPaste scar": (0.935, NAN),
        "CutPaste, 3-way": (0.952, 0.960),
    },
    orient="index",
    columns=["MVTec detection", "MVTec localization"],
)
# Our data sets, by what begins their names, and theirs.
NAMES = {
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "classes": "Cat-vs-Dog",
    "celeba": "CelebA",
    "mvtec": "MVTec detection",
}


def family(data_set: str) -> str:
    """The published name of the data set that one of ours belongs to; its own where nothing is published."""
    known = [name for name in NAMES if data_set == name or data_set.startswith(f"{name}-")]
    return NAMES[known[0]] if known else data_set


def value(family_name: str, kind: str, scorer: str) -> float:
    """The published mean AUROC of a data set, kind and scorer; nan where there is none."""
    for table in (AUROC, BY_SCORER):
        if family_name in table and (kind, scorer) in table.index:
            return float(table[family_name][kind, scorer])
    return NAN
