"""Fuzzing: whatever a file or a setting holds, the answer is the right value or one sentence.

Every input runs in this process, under a limit of time and of memory, and with everything that unpickles replaced by
what raises. `--fuzz 5000` (`make drill FUZZ=5000`) tries more inputs than the 500 that are the default.
"""

import csv
import io
import json
import pickle
import random
import resource
import shutil
import signal
import struct
import traceback
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

import augmentations
import detectors
from detectors import files, get_preset
from detectors.checksums import CHECKSUM, of_tensor, with_checksum
from selector import select_best
from selector.command import USER_ERRORS
from selector.detection.image_file import image_files
from selector.detection.output_folder import DetectionFolder
from selector.inputs.decoding import decode, is_gray
from selector.inputs.files import escaped
from selector.inputs.limits import LARGEST_VARIABLE
from selector.inputs.reader import files_of
from selector.inputs.unreadable import UnreadableError
from selector.selection import load
from selector.zoo.grid_file import read_grid_file
from selector.zoo.plan import Plan

pytestmark = pytest.mark.drill

SECONDS = 20  # that one input may take; the slowest whole selection takes two
MEMORY = 2**31  # bytes that one input may add to the process
KINDS = ("mutated", "forged")
MEGAPIXELS = "10"  # a lower limit than the default, so that a bomb within it needs little


class TooSlowError(BaseException):
    """Not an Exception, so that nothing that catches these takes a hang for an answer."""


@contextmanager
def limits():
    def stop(number, frame):
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_pickles(monkeypatch):
    """Nothing is unpickled: whatever tries fails, and by no exception that is caught."""

    class UnpickledError(BaseException):
        pass

    def refuse(*arguments, **options):
        raise UnpickledError

    torch_load = torch.load
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(
        torch,
        "load",
        lambda *arguments, weights_only=False, **options: (
            torch_load(*arguments, weights_only=True, **options) if weights_only else refuse()
        ),
    )


class Fuzz:
    """Tries inputs, and remembers what was neither a value nor a sentence."""

    def __init__(self, n, table):
        self.n, self.table = n, table

    def __call__(self, promise, trial, share=1.0, is_signed=False):
        """``trial`` is called with a source of randomness for each input.

        Of forged files, whose checksums are right, any Exception counts as a refusal: they must not hang, unpickle,
        fill memory or write elsewhere, and no more is promised.
        """
        n = max(1, round(self.n * share))
        faults = {}
        for seed in range(n):
            try:
                with limits():
                    trial(random.Random(seed))
            except (*USER_ERRORS, UnreadableError) as error:
                if (text := str(error)) != escaped(text) or not text:
                    faults.setdefault(f"unprintable: {text!r}", []).append(seed)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                if is_signed and isinstance(error, Exception) and not isinstance(error, MemoryError):
                    continue
                frames = traceback.extract_tb(error.__traceback__)
                ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "site-packages" not in f.filename]
                said = f"{type(error).__name__}: {str(error)[:200]} ({' < '.join(ours[:-6:-1])})"
                faults.setdefault(said, []).append(seed)
        self.table.record(promise, n, 0, sum(map(len, faults.values())))
        listed = "\n".join(f"{len(seeds)} of {n} (first: seed {seeds[0]}): {said}" for said, seeds in faults.items())
        assert not faults, f"{promise}\n{listed}"


@pytest.fixture
def fuzz(request, drill_table):
    return Fuzz(request.config.getoption("--fuzz"), drill_table)


# Bytes ---------------------------------------------------------------------------------------------------------------

INTERESTING = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**31 + 1,
]


def mutated(source, content, others):
    """Content with one to three faults of the kinds that disks, networks and malice make."""
    content = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        # Headers decide the most, so half of the faults are near the beginning.
        end = len(content) if source.random() < 0.5 else min(len(content), 200)
        place = source.randrange(max(end, 1))
        kind = source.randrange(7)
        if kind == 0 and content:  # bits flip
            for _ in range(source.choice((1, 1, 4, 32))):
                content[source.randrange(max(end, 1))] ^= 1 << source.randrange(8)
        elif kind == 1:  # the rest is missing
            del content[place:]
        elif kind == 2:  # a number is absurd
            size, order = source.choice((1, 2, 4, 8)), source.choice(("big", "little"))
            number = source.choice(INTERESTING) % 256**size
            content[place : place + size] = number.to_bytes(size, order)
        elif kind == 3:  # the beginning of one file, the end of another
            other = source.choice(others)
            content = content[:place] + other[source.randrange(max(len(other), 1)) :]
        elif kind == 4:  # a piece is doubled
            content[place:place] = content[place : place + source.choice((1, 8, 64, 512))]
        elif kind == 5:  # two pieces change places
            other = source.randrange(max(len(content), 1))
            length = source.choice((1, 4, 12, 64))
            first, second = content[place : place + length], content[other : other + length]
            content[place : place + length], content[other : other + length] = second, first
        else:  # a piece is zeroes
            length = source.choice((1, 4, 64, 512))
            content[place : place + length] = bytes(len(content[place : place + length]))
    return bytes(content)


def png_with_checksums(content):
    """A PNG whose checksums match whatever its parts hold: what a checksum can't protect from."""
    signed, rest = content[:8], content[8:]
    while len(rest) >= 12:
        length = struct.unpack(">I", rest[:4])[0]
        if length > len(rest) - 12:
            break
        body = rest[4 : 8 + length]
        signed += rest[:4] + body + struct.pack(">I", zlib.crc32(body))
        rest = rest[12 + length :]
    return signed + rest


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One small file of every format and layout that the reader takes, by its name."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    colour, alpha = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    gray, palette, bits = colour.convert("L"), colour.convert("P"), colour.convert("1")
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20) * 100)
    saved = {
        "colour.png": (colour, {"exif": exif}),
        "gray.png": (gray, {"transparency": 3}),
        "alpha.png": (alpha, {}),
        "palette.png": (palette, {}),
        "deep.png": (deep, {}),
        "bits.png": (bits, {}),
        "frames.png": (gray, {"save_all": True, "append_images": [gray]}),
        "colour.jpg": (colour, {"exif": exif}),
        "gray.jpg": (gray, {"progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "colour.bmp": (colour, {}),
        "palette.bmp": (palette, {}),
        "palette.dib": (palette, {}),
        "bits.bmp": (bits, {}),
        "colour.webp": (colour, {"exif": exif}),
        "alpha.webp": (alpha, {"lossless": True}),
        "frames.webp": (colour, {"save_all": True, "append_images": [alpha.convert("RGB")]}),
        "palette.gif": (palette, {}),
        "frames.gif": (palette, {"save_all": True, "append_images": [gray.convert("P")]}),
        "colour.ppm": (colour, {}),
        "gray.pgm": (gray, {}),
        "deep.pgm": (deep, {}),
        "bits.pbm": (bits, {}),
        "palette.tif": (palette, {}),
        "cmyk.tif": (colour.convert("CMYK"), {}),
        "lab.tif": (colour.convert("LAB"), {}),
        "jpeg.tif": (colour, {"compression": "jpeg"}),
        "fax.tif": (bits, {"compression": "group4"}),
    }
    for name, (image, options) in saved.items():
        image.save(folder / name, **options)
    stored = {
        "contig.tif": (pixels[..., :3], {"photometric": "rgb"}),
        "planar.tif": (pixels[..., :3].transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        "zlib.tif": (pixels[..., 0], {"compression": "zlib", "predictor": True}),
        "lzw.tif": (pixels[..., 0].astype(np.uint16), {"compression": "lzw"}),
        "packbits.tif": (pixels[..., 0], {"compression": "packbits"}),
        "tiles.tif": (pixels[..., :3], {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
        "big.tif": (pixels[..., 0], {"bigtiff": True}),
        "float.tif": (pixels[..., 0].astype(np.float32) / 255, {}),
        "pages.tif": (pixels.transpose(2, 0, 1), {"photometric": "minisblack"}),
        "lzma.tif": (pixels[..., 0], {"compression": "lzma"}),
        "zstd.tif": (pixels[..., 0], {"compression": "zstd"}),
        "webp.tif": (pixels[..., :3], {"photometric": "rgb", "compression": "webp"}),
        "jpeg2000.tif": (pixels[..., :3], {"photometric": "rgb", "compression": "jpeg2000"}),
    }
    for name, (values, options) in stored.items():
        tifffile.imwrite(folder / name, values, **options)
    (folder / "plain.ppm").write_text("P3 4 3 255\n" + " ".join(str(i) for i in range(36)))
    (folder / "plain.pgm").write_text("P2 # comment\n4 3 65535\n" + " ".join(str(i) for i in range(12)))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def low_limit(monkeypatch):
    monkeypatch.setenv(LARGEST_VARIABLE, MEGAPIXELS)


def check_picture(path):
    gray = is_gray(path)
    decoded = decode(path, 16)
    assert isinstance(gray, bool)
    assert decoded.pixels.shape[1:] == (16, 16)
    assert len(decoded.pixels) in (1, 3)
    assert decoded.pixels.dtype == torch.float32
    assert 0 <= decoded.pixels.min() <= decoded.pixels.max() <= 1


def test_mutated_pictures(pictures, fuzz, tmp_path, low_limit):
    path, names = tmp_path / "picture", list(pictures)

    def trial(source):
        name = source.choice(names)
        content = mutated(source, pictures[name], list(pictures.values()))
        if content.startswith(b"\x89PNG") and source.random() < 0.7:
            content = png_with_checksums(content)
        path.write_bytes(content)
        check_picture(path)

    for name, content in pictures.items():  # none of the originals is refused
        path.write_bytes(content)
        check_picture(path)
        assert name
    fuzz("mutated pictures of 43 layouts", trial, share=4)


def test_pictures_that_coverage_finds(pictures, tmp_path, low_limit, request, drill_table):
    """atheris mutates by what code an input reaches; it takes over the process, and so has one of its own."""
    pytest.importorskip("atheris", reason="atheris is not installed: pip install atheris")
    import subprocess
    import sys

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, content in pictures.items():
        (corpus / name).write_bytes(content)
    runs = 4 * request.config.getoption("--fuzz")
    script = tmp_path / "target.py"
    script.write_text(
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['selector.inputs', 'PIL', 'tifffile']):\n"
        "    from selector.inputs.decoding import decode\n"
        "    from selector.inputs.unreadable import UnreadableError\n"
        "def one(content):\n"
        f"    path = {str(tmp_path / 'picture')!r}\n"
        "    with open(path, 'wb') as file:\n"
        "        file.write(content)\n"
        "    try:\n"
        "        decode(path, 16)\n"
        "    except UnreadableError:\n"
        "        pass\n"
        "atheris.Setup(sys.argv, one)\n"
        "atheris.Fuzz()\n"
    )
    options = [f"-runs={runs}", "-timeout=20", "-rss_limit_mb=3000", "-max_len=4096", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, script, corpus, *options],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=Path(__file__).parents[2],
    )
    drill_table.record("pictures that coverage-guided mutation finds", runs, 0, int(done.returncode != 0))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


# Settings ------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**70, 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.complex_numbers(),
    st.sampled_from(["auto", "cutout", "cutpaste", "classifier", "gaussian", "os:path", "json:JSONDecoder", ":", "a:"]),
    st.just(torch.zeros(2)),
    st.just(torch.tensor(float("nan"))),
    st.just(np.float64("nan")),
    st.just(np.zeros(3)),
    st.just(object()),
    st.just(int),
)
HASHABLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=6,
)


def run_hypothesis(fuzz, promise, share, trial, **strategies):
    """``trial`` on each example; every distinct fault is collected instead of the first one shrunk."""
    n = max(1, round(fuzz.n * share))
    faults, tried = {}, 0

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(**strategies)
    def every(**example):
        nonlocal tried
        tried += 1
        try:
            with limits():
                trial(**example)
        except USER_ERRORS as error:
            if not str(error):
                faults.setdefault("says nothing", example)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "site-packages" not in f.filename]
            said = f"{type(error).__name__}: {str(error)[:160]} ({' < '.join(ours[:-6:-1])})"
            faults.setdefault(said, repr(example)[:300])

    every()
    fuzz.table.record(promise, tried, 0, len(faults))
    listed = "\n".join(f"{said}\n    for {example}" for said, example in faults.items())
    assert not faults, f"{promise}\n{listed}"


def names_or(values, names):
    return st.one_of(st.sampled_from(names), values)


def test_settings_of_augmentations(fuzz):
    known = [(name, key) for name in augmentations.names() for key in augmentations.get(name).__dataclass_fields__]

    def trial(pair, value, size):
        name, key = pair
        augmentation = augmentations.make(name, **{key: value})
        json.dumps(augmentation.hyperparameters(), allow_nan=False)
        augmentation.check((size, size))

    sizes = st.sampled_from([8, 32, 64])
    numbers = st.floats(0, 1) | st.integers(0, 9) | st.tuples(st.floats(0, 1), st.floats(0, 1))
    run_hypothesis(
        fuzz, "settings of augmentations", 1, trial, pair=st.sampled_from(known), value=VALUES | numbers, size=sizes
    )


def test_names_of_parts(fuzz):
    makers = [augmentations.make, augmentations.grid, detectors.get, detectors.scorer, detectors.scorers.make]

    def trial(maker, name):
        maker(name)

    run_hypothesis(fuzz, "names of parts", 1, trial, maker=st.sampled_from(makers), name=VALUES)


def test_settings_of_kinds_and_scorers(fuzz):
    preset = get_preset("quick")
    known = [
        (name, key)
        for name in detectors.names()
        for key in detectors.get(name).settings_for(preset).__dataclass_fields__
    ]

    def trial(pair, value, scorer_settings, device):
        kind, key = pair
        plan = Plan.of(["cutout"], {kind: [{key: value}]}, {"gaussian": [scorer_settings]}, preset)
        for candidate in plan.candidates(0)[:1]:
            candidate.make_detector(device)

    scorer_settings = st.just({}) | st.dictionaries(st.text(max_size=4), VALUES, max_size=1) | VALUES
    numbers = st.floats(0, 1) | st.integers(0, 300) | st.lists(st.integers(0, 99), max_size=3)
    devices = st.just("cpu") | VALUES
    run_hypothesis(
        fuzz,
        "settings of kinds and scorers",
        1,
        trial,
        pair=st.sampled_from(known),
        value=VALUES | numbers,
        scorer_settings=scorer_settings,
        device=devices,
    )


def test_arguments_of_select_best(fuzz, stripes):
    """Whatever passes every check ends at the images, of which there are too few: nothing is trained."""
    train = stripes(4)
    arguments = ["augmentations", "detectors", "scorers", "criterion", "preset", "image_size", "seed", "device", "jobs"]
    arguments += ["groups", "seeds", "members", "search", "trials", "engine", "encoder", "train", "test", "out"]

    def trial(argument, value, other, second):
        select_best(**{"train": train, argument: value, other: second})
        raise AssertionError("four images are too few")

    names = st.sampled_from(arguments)
    run_hypothesis(fuzz, "arguments of select_best", 1, trial, argument=names, value=VALUES, other=names, second=VALUES)


# Run folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(stripes, scratched, tiny, tmp_path_factory):
    """A finished run of two candidates, with a report."""
    root = tmp_path_factory.mktemp("finished")
    for name, images in (("good", stripes(24)), ("incoming", torch.cat([stripes(4, 5), scratched(2)]))):
        (root / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray((255 * image[0].numpy()).astype(np.uint8)).save(root / name / f"{i}.png")
    arguments = {"augmentations": {"cutout": [{"area": 0.05}, {"area": 0.2}]}, "preset": tiny, "jobs": 1, "members": 2}

    def again(out):
        return select_best(root / "good", root / "incoming", **arguments, out=out)

    selection = again(root / "run")
    selection.report()
    expected = selection.detect(root / "incoming").table.to_json(orient="records")
    return root, again, expected


JSON_VALUES = [
    None,
    True,
    -1,
    0,
    1e400,
    2**70,
    "",
    "../../x",
    [],
    {},
    [[]],
    {"a": []},
    "ok",
    "failed",
    [1, "2"],
    [None],
]


def changed_json(source, value):
    """A JSON value with one part replaced, removed or added."""
    places = []

    def walk(part):
        if isinstance(part, (dict, list)) and part:
            for key in part if isinstance(part, dict) else range(len(part)):
                places.append((part, key))
                walk(part[key])

    walk(value)
    if not places or source.random() < 0.03:
        return source.choice(JSON_VALUES)
    part, key = source.choice(places)
    kind = source.randrange(4)
    if kind == 0:
        del part[key]
    elif kind == 1 and isinstance(part, list):
        part.insert(key, source.choice(JSON_VALUES))
    else:
        part[key] = source.choice(JSON_VALUES)
    return value


def changed_file(source, path, others, is_signed):
    content = path.read_bytes()
    kind = source.random()
    if path.suffix == ".json" and kind < 0.6:
        value = json.loads(content)
        if isinstance(value, dict):
            value.pop(CHECKSUM, None)  # the report has none
        value = changed_json(source, value)
        if isinstance(value, dict) and is_signed:
            value = with_checksum(json.loads(json.dumps(value).replace("Infinity", "null")))
        content = json.dumps(value).encode()
    elif path.suffix == ".safetensors" and kind < 0.5:
        with safetensors.safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            meta = json.loads((opened.metadata() or {})["settings"])["settings"]
        write_changed(source, path, tensors, meta, is_signed)
        return
    elif path.suffix == ".json" and kind < 0.65:
        content = source.choice([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"NaN", b"\xff\xfe", b"1e999"])
    else:
        content = mutated(source, content, others)
    path.write_bytes(content)


def write_changed(source, path, tensors, meta, is_signed):
    checksums = {name: of_tensor(tensor) for name, tensor in tensors.items()}
    header = with_checksum({"settings": meta, "tensors": checksums})
    tensors, meta = changed_tensors(source, tensors, meta)
    if is_signed:
        files.write(path, tensors, json.loads(json.dumps(meta).replace("Infinity", "null")))
    else:
        path.write_bytes(safetensors.torch.save(tensors, {"settings": json.dumps({**header, "settings": meta})}))


def changed_tensors(source, tensors, meta):
    kind = source.randrange(6)
    name = source.choice(list(tensors)) if tensors else ""
    if kind == 0:
        tensors.pop(name, None)
    elif kind == 1 and name:
        tensors[name] = tensors[name].flatten()[: source.choice((0, 1, 3))].clone()
    elif kind == 2 and name:
        tensors[name] = tensors[name].to(source.choice((torch.uint8, torch.float64, torch.int64, torch.bool)))
    elif kind == 3 and name and tensors[name].is_floating_point():
        tensors[name] = torch.full_like(tensors[name], source.choice((float("nan"), float("inf"), -1.0, 1e30)))
    elif kind == 4:
        tensors["../../x"] = torch.zeros(3)
    else:
        meta = changed_json(source, meta)
    return tensors, meta


@pytest.mark.parametrize("is_signed", [False, True], ids=["changed", "with right checksums"])
def test_mutated_run_folders(finished, fuzz, tmp_path, is_signed):
    root, again, expected = finished
    named = sorted(path.relative_to(root / "run") for path in (root / "run").rglob("*") if path.is_file())
    named = [path for path in named if not path.name.startswith(".") and path.suffix != ".html"]
    contents = [(root / "run" / path).read_bytes() for path in named]
    small = [path for path in named if path.suffix == ".json"]
    copy = tmp_path / "copy"
    outside = {path.name for path in tmp_path.parent.iterdir()}

    def trial(source):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root / "run", copy, ignore=shutil.ignore_patterns(".lock"))
        changed_file(source, copy / source.choice(small if source.random() < 0.5 else named), contents, is_signed)
        action = source.choice(("load", "load", "detect", "detect", "report", "why", "again"))
        if action == "again":
            again(copy).detect(root / "incoming")
            return
        selection = load(copy)
        if action == "detect":
            selection.detect(root / "incoming")
        elif action == "report":
            selection.report(tmp_path / "report")
        elif action == "why":
            assert selection.verdict
            assert selection.why().summary is not None
        else:
            assert len(selection.ranking)
            assert selection.test_p_values.isfinite().all()

    assert load(root / "run").detect(root / "incoming").table.to_json(orient="records") == expected
    promise = f"{KINDS[is_signed]} files of a run, then load, detect, report, why and select"
    fuzz(promise, trial, share=0.2 if is_signed else 1, is_signed=is_signed)
    assert {path.name for path in tmp_path.parent.iterdir()} == outside


def test_flipped_bits_of_a_run_never_change_an_answer(finished, fuzz, tmp_path):
    """What detection reads is protected by checksums: the same answer or a refusal."""
    root, _, expected = finished
    named = [path.relative_to(root / "run") for path in (root / "run").rglob("*")]
    named = sorted(path for path in named if path.suffix in (".json", ".safetensors") and path.name != "report.json")
    copy = tmp_path / "copy"

    def trial(source):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root / "run", copy, ignore=shutil.ignore_patterns(".lock"))
        path = copy / source.choice(named)
        content = bytearray(path.read_bytes())
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
        path.write_bytes(content)
        selection = load(copy)
        table = selection.detect(root / "incoming").table.to_json(orient="records")
        assert table == expected, path.relative_to(copy)

    fuzz("one flipped bit in a run, then detect", trial, share=0.4)


# Other files ---------------------------------------------------------------------------------------------------------


def test_lines_that_a_detection_resumes_from(finished, fuzz, tmp_path):
    root, _, _ = finished
    selection = load(root / "run")
    request = {"detector": selection.detector_id}
    images = {file.name: file for file in image_files(files_of(root / "incoming"))}
    [(detections, read)] = selection.detect_batches(root / "incoming", 0.5)
    with DetectionFolder(tmp_path / "complete", request, root / "incoming") as complete:
        complete.add(detections, read, selection.map_scale, images)
        complete.finish()
    expected = (tmp_path / "complete" / "detections.csv").read_bytes()
    lines = (tmp_path / "complete" / "detections.jsonl").read_bytes().splitlines(keepends=True)
    copy = tmp_path / "copy"

    def trial(source):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / "complete", copy, ignore=shutil.ignore_patterns(".lock"))
        if source.random() < 0.5:
            index = source.randrange(len(lines))
            row = changed_json(source, json.loads(lines[index]))
            content = b"".join([*lines[:index], json.dumps(row).encode() + b"\n", *lines[index + 1 :]])
        else:
            content = mutated(source, b"".join(lines), lines)
        target = source.choice(("detections.jsonl", "detections.jsonl", "result.json", "detections.csv"))
        if target != "detections.jsonl":
            content = mutated(source, (copy / target).read_bytes(), lines)
        (copy / target).write_bytes(content)
        with DetectionFolder(copy, request, root / "incoming", extend=True) as results:
            results.drop([row["name"] for row in results.rows if row["name"] not in images])
            current = {name for name, file in images.items() if results.is_current(file)}
            batches = selection.detect_batches(root / "incoming", 0.5, wanted=lambda name: name not in current)
            for found, pixels in batches:
                results.add(found, pixels, selection.map_scale, images)
            table = results.finish(results.resizing(32))
        assert sorted(name for name, *_ in list(csv.reader(io.StringIO(table.read_text())))[1:]) == sorted(images)
        assert len(expected)

    fuzz("mutated lines and tables of a detection, then resume", trial)


def test_grid_files(fuzz, tmp_path):
    good = [
        b'{"augmentations": {"cutpaste": [{"area": [0.02, 0.15]}]}, "scorers": ["gaussian"]}',
        b'{"detectors": {"patch": [{"steps": 3, "batch": 4}]}}',
        b'detectors = ["classifier"]\n[augmentations]\ncutout = [{area = [0.1, 0.2]}]\n',
    ]
    absurd = [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"a = " + b"[" * 5000,
        b"a." * 5000,
        b"9" * 9999,
        b"a = " + b"9" * 9999,
    ]

    def trial(source):
        path = tmp_path / source.choice(("grid.json", "grid.toml"))
        if source.random() < 0.5:
            path = tmp_path / "grid.json"
            value = changed_json(source, json.loads(source.choice(good[:2])))
            path.write_text(json.dumps(value))
        else:
            path.write_bytes(
                source.choice(absurd) if source.random() < 0.1 else mutated(source, source.choice(good), good)
            )
        parts = {"augmentations": ["cutout"], "detectors": ["classifier"], "scorers": ["gaussian"]} | read_grid_file(
            path
        )
        plan = Plan.of(parts["augmentations"], parts["detectors"], parts["scorers"], get_preset("quick"))
        json.dumps([candidate.to_json() for candidate in plan.candidates(0)], allow_nan=False)

    fuzz("grid files", trial)


@pytest.mark.parametrize("is_signed", [False, True], ids=["changed", "with right checksums"])
def test_detectors_of_other_origin(finished, fuzz, tmp_path, is_signed):
    """safetensors of other programs, pickles, and detectors that were changed, given to detectors.load."""
    root, _, _ = finished
    saved = load(root / "run").detector.save(tmp_path / "saved.safetensors")
    content = saved.read_bytes()
    path = tmp_path / "detector.safetensors"
    header = struct.unpack("<Q", content[:8])[0]
    foreign = safetensors.torch.save({"weight": torch.zeros(4, 4)}, {"format": "pt"})
    weights = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, weights)
    whole = [
        foreign,
        weights.getvalue(),
        b"\x80\x04cos\nsystem\n",
        b"PK\x03\x04",
        b"\x08\x07",
        struct.pack("<Q", 2**63),
    ]

    def trial(source):
        kind = source.random()
        if kind < 0.1:
            path.write_bytes(source.choice(whole))
        elif kind < 0.5:
            with safetensors.safe_open(saved, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                meta = json.loads(opened.metadata()["settings"])["settings"]
            write_changed(source, path, tensors, meta, is_signed)
        elif kind < 0.7:
            value = json.loads(content[8 : 8 + header])
            text = json.dumps(changed_json(source, value)).encode()
            path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + header :])
        else:
            path.write_bytes(mutated(source, content, [*whole, content]))
        detector = detectors.load(path, "cpu")
        detector.score_and_map(torch.rand(2, 1, 32, 32))

    promise = f"{KINDS[is_signed]} files given as detectors"
    fuzz(promise, trial, share=0.2 if is_signed else 1, is_signed=is_signed)
