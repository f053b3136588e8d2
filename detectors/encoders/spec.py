"""Which encoder a detector has: what is known of each by name, and a specification as JSON."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations.errors import InputError, first_few, unknown_name
from augmentations.references import reference_of
from detectors.encoders.architectures import (
    LITE0,
    LITE0_DISTRIBUTION,
    LITE0_LAYERS,
    LITE0_MEAN,
    LITE0_SIZE,
    LITE0_STD,
    LITE0_WIDTHS,
    architecture,
    is_known,
)
from detectors.encoders.architectures import places as places_of
from detectors.encoders.capture import capture
from detectors.encoders.networks import UNPADDED_SEES, UNPADDED_STRIDES, resnet18, small, unpadded
from detectors.encoders.pretrained import PretrainedEncoder
from detectors.encoders.weights import (
    RANDOM,
    SHORTEST_HASH,
    are_skipped,
    hash_in_name,
    keep,
    load,
    load_in_order,
    read,
    sha256_of_tensors,
    verify,
)

TRIAL_SIZE = 64  # px of the image that shows how many channels layers have, if the encoder takes any size


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before it is built.

    build: (channels, side of the images in px) to the network. width: d. smallest: px a patch must have.
    dense_strides: px between two locations of each of its ``stages``, if the features of a crop are a window of the
    features of the whole image (crops then lie on multiples of the last); None where padding lets borders in.
    """

    build: Callable[[int, int], nn.Sequential]
    width: int
    smallest: int
    dense_strides: tuple[int, ...] | None = None


ENCODERS = {
    "small": Encoder(small, width=64, smallest=8),
    "resnet18": Encoder(resnet18, width=512, smallest=8),
    "unpadded": Encoder(unpadded, width=64, smallest=UNPADDED_SEES, dense_strides=UNPADDED_STRIDES),
}


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder as JSON: enough to build an equal one, its weights included.

    ``of`` makes one from what a user gives, finds the weights, and fills in what they decide. A saved detector brings
    its own weights and needs the file no more.

    Args:
        name: of ``ENCODERS``, which start from random weights; "lite0"; "torchvision/<architecture>" or
            "timm/<architecture>"; or "module:Class" of a user's ``nn.Module``, built without arguments.
        weights: the path of a file (safetensors, or what torch.save wrote of a state dict); the name that torchvision
            has for weights in its cache, such as "IMAGENET1K_V1"; "random"; or nothing: what a package or a cache on
            this machine holds.
        layers: names of modules whose outputs are the levels, fine to coarse.
        input_size: px that the shorter side of an image is brought to; None: as the weights were trained, and for
            a user's module as the image is.
        mean, std: of the channels of images in [0,1]; nothing: as the weights were trained.
        sha256: of the file of weights, or its beginning; nothing: not checked, and filled in.
        widths: channels of each level; filled in.

    Raises:
        InputError: for an unknown name, and a value that can't be.
    """

    name: str
    weights: str = ""
    layers: tuple[str, ...] = ()
    input_size: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not (self.name in ENCODERS or is_known(self.name)):
            forms = [*ENCODERS, LITE0, "torchvision/<architecture>", "timm/<architecture>", "module:Class"]
            raise unknown_name("encoder", self.name, forms)
        thing = f"encoder {self.name!r}"
        for name in ("layers", "mean", "std", "widths"):
            value = getattr(self, name)
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise InputError(f"{thing}: {name}={value!r}", "must be a list", f"try [{value!r}]")
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "weights", str(self.weights or ""))
        object.__setattr__(self, "sha256", str(self.sha256 or "").lower())
        self._check(thing)

    def _check(self, thing: str) -> None:
        if self.name in ENCODERS:
            for field in fields(self):
                if field.name != "name" and getattr(self, field.name) != field.default:
                    remedy = f"leave it out, or try {LITE0!r} or 'torchvision/resnet18'"
                    raise InputError(f"{thing}: {field.name}", "it starts from random weights alone", remedy)
        size = self.input_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise InputError(f"{thing}: input_size={size!r}", "must be at least 1 px", "try 128")
        if not all(isinstance(layer, str) and layer for layer in self.layers) or len(set(self.layers)) < len(
            self.layers
        ):
            raise InputError(
                f"{thing}: layers={list(self.layers)}", "must be different names of modules", "name each once"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            finite = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
            if not finite or len(values) not in (0, 1, 3) or (name == "std" and not all(value > 0 for value in values)):
                raise InputError(
                    f"{thing}: {name}={list(values)}", "must be a finite number per channel", "leave it out"
                )
        digits = self.sha256
        if digits and (not SHORTEST_HASH <= len(digits) <= 64 or set(digits) - set("0123456789abcdef")):
            rule = f"must be {SHORTEST_HASH} to 64 hexadecimal digits"
            raise InputError(f"{thing}: sha256={digits!r}", rule, "copy what `sha256sum` prints")

    @classmethod
    def of(cls, encoder: "str | Mapping[str, Any] | nn.Module | EncoderSpec") -> Self:
        """The specification of a name, of JSON, of a user's module, or the specification itself, all filled in.

        Cheap when called again: files are read once until they change.

        Args:
            encoder: a name; a mapping of the arguments above, where ``name`` may be a module; a module, whose class
                other processes can import and build without arguments; or a specification.
        Raises:
            InputError: for an unknown name, layer or argument; for weights that are missing, can't be read, hold code,
                are of another architecture or have another SHA-256.
        """
        if isinstance(encoder, EncoderSpec):
            given = asdict(encoder)
        elif isinstance(encoder, (str, nn.Module)):
            given = {"name": encoder}
        elif isinstance(encoder, Mapping):
            given = dict(encoder)
        else:
            raise InputError(f"encoder={encoder!r}", "is no encoder", "give a name, a mapping or an nn.Module")
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise unknown_name("argument of an encoder", name, known)
        if "name" not in given:
            raise InputError(f"encoder={given!r}", "has no name", 'add one, such as {"name": "lite0"}')
        if isinstance(given["name"], nn.Module):
            given |= _kept(given["name"])
        spec = cls(**given)
        return spec if spec.name in ENCODERS or spec.widths else cls(**asdict(_resolved(spec)))

    @classmethod
    def canonical(cls, encoder: "str | Mapping[str, Any] | nn.Module | EncoderSpec") -> "str | EncoderSpec":
        """What settings hold of an encoder: a plain name where it starts from random weights, else ``of`` it."""
        spec = cls.of(encoder)
        return spec.name if spec.name in ENCODERS else spec

    @property
    def is_pretrained(self) -> bool:
        """Whether it starts from weights that someone trained, or a user gave."""
        return self.name not in ENCODERS and self.weights != RANDOM

    @property
    def origin(self) -> str:
        """Where its weights are from, in words."""
        if not self.is_pretrained:
            return "random"
        if self.name == LITE0 and not self.weights:
            return f"the package {LITE0_DISTRIBUTION}"
        if self.weights:
            return self.weights if Path(self.weights).is_absolute() else f"{self.weights} in torch's cache"
        return "its class" if ":" in self.name else "a cache on this machine"

    def to_json(self) -> dict[str, Any]:
        """All of it but what is as by default, and the origin of its weights: for a reader of a run."""
        values = {name: value for name, value in asdict(self).items() if value or name == "name"}
        return values | {"origin": self.origin}

    @property
    def width(self) -> int:
        """d of its features (N,d,h,w)."""
        return ENCODERS[self.name].width if self.name in ENCODERS else self._filled.widths[-1]

    @property
    def smallest(self) -> int:
        """Side in px that a patch must have at least."""
        return ENCODERS[self.name].smallest if self.name in ENCODERS else 1

    @property
    def dense_strides(self) -> tuple[int, ...] | None:
        """As of ``Encoder``: None where patches are embedded one by one."""
        return ENCODERS[self.name].dense_strides if self.name in ENCODERS else None

    @property
    def _filled(self) -> "EncoderSpec":
        return type(self).of(self)

    def build(self, channels: int, image_size: int) -> nn.Module:
        """The network for images of so many channels and ``image_size`` px, with its first weights.

        Random weights come from torch's global generator. Raises InputError as ``of``.
        """
        if self.name in ENCODERS:
            return ENCODERS[self.name].build(channels, image_size)
        spec = self._filled
        with nullcontext() if spec.weights == RANDOM else _fixed_seed():
            known = architecture(spec.name)
            if spec.is_pretrained and not are_skipped():
                _load(known.network, known.in_order, spec)
            return _wrapped(known.network, known.channels, spec)


# Filling in ------------------------------------------------------------------------------------------------


def _kept(module: nn.Module) -> dict[str, str]:
    """A user's module as what other processes can build: its class, and its weights in a file."""
    return {"name": reference_of(type(module)), "weights": str(keep(module.state_dict()))}


def _resolved(spec: EncoderSpec) -> EncoderSpec:
    """The specification with everything filled in that its weights decide, after they were found to fit."""
    if spec.weights == RANDOM:
        return _filled_in(spec)
    found = _file(spec)
    if found is None:
        return _filled_in(spec)
    weights, path, expected = found
    spec = replace(spec, weights=weights, sha256=verify(path, spec.sha256 or expected))
    is_lite0 = spec.name == LITE0 and not (spec.weights or spec.mean or spec.std)
    if is_lite0 and set(spec.layers) <= set(LITE0_LAYERS):
        # What is known of these very weights, and saves the import of timm.
        widths = dict(zip(LITE0_LAYERS, LITE0_WIDTHS, strict=True))
        layers = spec.layers or LITE0_LAYERS
        size = spec.input_size or LITE0_SIZE
        return replace(
            spec,
            layers=layers,
            input_size=size,
            mean=LITE0_MEAN,
            std=LITE0_STD,
            widths=tuple(widths[layer] for layer in layers),
        )
    return _filled_in(spec)


def _file(spec: EncoderSpec) -> tuple[str, Path, str] | None:
    """The file of weights: how a specification names it, its path, and how its SHA-256 must begin, if known.

    None where a user's class makes its own weights. Raises InputError where the file is missing.
    """
    places = places_of(spec.name)
    thing = f"the weights of encoder {spec.name!r}"
    if spec.weights and spec.weights not in [name for name, _ in places.files]:
        path = Path(spec.weights).expanduser().absolute()
        names = [name for name, _ in places.files if name]
        if not path.is_file() and names and not path.suffix and len(Path(spec.weights).parts) == 1:
            raise unknown_name(f"weights of encoder {spec.name!r}", spec.weights, [*names, "the path of a file"])
        if not path.is_file():
            remedy = f"give the path of a file that is there; {places.remedy}"
            raise InputError(f"{thing}: {path}", "does not exist, or is no file", remedy)
        return str(path), path, ""
    if not places.files and ":" in spec.name:
        return None
    candidates = [(name, path) for name, path in places.files if spec.weights in ("", name)]
    for name, path in candidates:
        if path.is_file():
            return name, path, hash_in_name(path)
    files = first_few(list(dict.fromkeys(path.name for _, path in candidates))) or "files known"
    folders = first_few(list(dict.fromkeys(str(path.parent) for _, path in candidates))) or "any cache"
    raise InputError(
        thing, f"are not on this machine (there is no {files} in {folders}), and nothing is downloaded", places.remedy
    )


@lru_cache(maxsize=64)
def _filled_in(spec: EncoderSpec) -> EncoderSpec:
    """The specification, its file found and hashed, with what loading it and looking at an image show."""
    with _fixed_seed():
        known = architecture(spec.name)
        spec = replace(
            spec,
            layers=spec.layers or known.layers,
            input_size=spec.input_size or known.input_size,
            mean=spec.mean or known.mean,
            std=spec.std or known.std,
        )
        if known.channels and {len(spec.mean), len(spec.std)} - {1, known.channels}:
            thing = f"encoder {spec.name!r}: mean={list(spec.mean)}, std={list(spec.std)}"
            raise InputError(thing, f"it sees {known.channels} channels", "give one number, or one per channel")
        if spec.weights != RANDOM:
            spec = replace(spec, sha256=_load(known.network, known.in_order, spec))
        network = known.network
        encoder = _wrapped(network, known.channels, spec).eval()
        return replace(spec, widths=_widths(encoder, known.channels or 3, spec))


def _load(network: nn.Module, in_order: bool, spec: EncoderSpec) -> str:
    """Give a network the weights of a specification; their SHA-256. Raises InputError where they don't fit."""
    found = _file(spec)
    if found is None:
        digest = sha256_of_tensors(network.state_dict())
        if not digest.startswith(spec.sha256):
            rule = f"has weights with the SHA-256 {digest[:16]}..., not {spec.sha256[:16]}..."
            remedy = "its class changed, or draws weights of its own each time: save them and give weights="
            raise InputError(f"encoder {spec.name!r}", rule, remedy)
        return digest
    _, path, expected = found
    digest = verify(path, spec.sha256 or expected)
    tensors = read(path)
    if in_order and not set(tensors) & {name for name, _ in network.named_parameters()}:
        load_in_order(network, tensors, path, repr(spec.name))
    else:
        load(network, tensors, path, repr(spec.name))
    return digest


def _wrapped(network: nn.Module, channels: int, spec: EncoderSpec) -> PretrainedEncoder:
    return PretrainedEncoder(
        capture(network.eval(), spec.layers, spec.name),
        channels=channels,
        input_size=spec.input_size,
        mean=spec.mean,
        std=spec.std,
        layers=spec.layers,
        keeps_norms=spec.is_pretrained,
    )


@torch.no_grad()
def _widths(encoder: PretrainedEncoder, channels: int, spec: EncoderSpec) -> tuple[int, ...]:
    """Channels of each level. Raises InputError where levels are not (N,d,h,w)."""
    side = spec.input_size or TRIAL_SIZE
    thing = f"encoder {spec.name!r}"
    try:
        levels = encoder.levels(torch.zeros(1, channels, side, side))
    except Exception as error:  # whatever its code raises
        reason = " ".join(str(error).split())[:120]
        rule = f"fails on an image of {channels}x{side}x{side} ({type(error).__name__}: {reason})"
        raise InputError(thing, rule, "give the input_size that it was made for") from error
    for place, level in enumerate(levels):
        layer = f"layer {spec.layers[place]!r}" if spec.layers else f"output {place}"
        is_spatial = isinstance(level, Tensor) and level.ndim == 4
        if not is_spatial or level.shape[1] == level.shape[2] != level.shape[3]:
            shape = tuple(level.shape) if isinstance(level, Tensor) else type(level).__name__
            rule = f"gives features of shape {shape}, which must be (N,d,h,w), and square for a square image"
            raise InputError(f"{thing}: {layer}", rule, "name layers= that are maps of features")
    return tuple(level.shape[1] for level in levels)


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """What a network draws before it has its weights neither depends on the global generator nor moves it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
