"""Hostile data: names that try to run, to reach the network or to be computed, and files that try to fill memory."""

import csv
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from augmentations import InputError
from detectors.checksums import with_checksum, without_checksum
from selector import load, select_best
from selector.detection.image_file import image_files
from selector.detection.output_folder import DetectionFolder
from selector.inputs.limits import LARGEST_VARIABLE
from selector.inputs.reader import files_of

pytestmark = pytest.mark.drill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def server():
    """A web server on this machine, and the requests that it got."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    web = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", requests
    web.shutdown()


@pytest.fixture(scope="module")
def folders(stripes, tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    (root / "good").mkdir()
    (root / "incoming").mkdir()
    for i, image in enumerate(stripes(24)):
        Image.fromarray((255 * image[0].numpy()).astype(np.uint8)).save(root / "good" / f"{i}.png")
    names = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "<b onclick=x>", "\x1b[31mred", "\x1b]0;title\x07", 'a,b"c']
    for i, name in enumerate(names):
        image = 255 * stripes(1, seed=i + 9)[0, 0].numpy()
        Image.fromarray(image.astype(np.uint8)).save(root / "incoming" / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def run(folders, tiny):
    grid = {"cutout": [{"area": 0.05}]}
    return select_best(folders / "good", folders / "incoming", grid, preset=tiny, jobs=1, out=folders / "run")


def browsed(page, folder):
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    arguments += [f"--user-data-dir={folder}", page.as_uri()]
    return subprocess.run([CHROMIUM, *arguments], capture_output=True, text=True, timeout=120, check=True).stdout


def injected(page, url):
    """The page as it would be if escaping failed: its policy has to stop what was put into it."""
    attack = (
        f"<script>document.title='RAN'; fetch('{url}/fetch')</script>"
        f"<img src='{url}/image' onerror=\"document.title='RAN'\">"
        f"<script src='{url}/script'></script>"
        f"<link rel=stylesheet href='{url}/style'><iframe src='{url}/frame'></iframe>"
        f"<object data='{url}/object'></object><style>body{{background:url({url}/css)}}</style>"
    )
    return page.replace("<main", attack + "<main", 1)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("is_escaped", [True, False], ids=["names", "policy"])
def test_a_browser_runs_and_requests_nothing(run, server, tmp_path, is_escaped, drill_table):
    url, requests = server
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns(".lock"))
    described = without_checksum(json.loads((copy / "run.json").read_text()))
    attack = (
        f"</td><script>document.title='RAN';fetch('{url}/x')</script><img src={url}/y onerror=document.title='RAN'>"
    )
    described["names"]["test"] = [f"{attack}{i}" for i in range(len(described["names"]["test"]))]
    described["notes"], described["skipped"] = [attack], [{"role": "test", "name": attack, "reason": attack}]
    (copy / "run.json").write_text(json.dumps(with_checksum(described)))
    page = load(copy).report(tmp_path / "report")
    if not is_escaped:
        page.write_text(injected(page.read_text("utf-8"), url), "utf-8")
    shown = browsed(page, tmp_path / "profile")
    title = re.search("<title>(.*?)</title>", shown, re.DOTALL)[1]
    drill_table.record("hostile names in a report, in a browser", 1, int("RAN" in title or bool(requests)), 0)
    assert title.startswith("Selection report")
    assert requests == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_the_browser_would_show_it(server, tmp_path):
    """Without the policy the same attack succeeds, so that the test above can fail."""
    url, requests = server
    page = tmp_path / "page.html"
    page.write_text(injected("<!DOCTYPE html><title>Selection report</title><body><main></main>", url))
    assert "<title>RAN</title>" in browsed(page, tmp_path / "profile")
    assert "/image" in requests
    requests.clear()


def test_what_images_say_of_themselves_is_shown_nowhere(run, stripes, tmp_path, drill_table):
    """Descriptions and comments, in EXIF, text of PNG and tags of TIFF: markup, formulas and escapes of terminals."""
    said = "=PAYLOAD()<script>PAYLOAD</script>\x1b[31mPAYLOAD"
    exif, text = Image.Exif(), PngInfo()
    exif[0x010E] = exif[0x9286] = said
    for keyword in ("Description", "Comment", "XML:com.adobe.xmp"):
        text.add_itxt(keyword, said)
    folder = tmp_path / "images"
    folder.mkdir()
    picture = Image.fromarray((255 * stripes(1, seed=40)[0, 0].numpy()).astype(np.uint8))
    picture.save(folder / "a.png", pnginfo=text, exif=exif)
    picture.save(folder / "b.jpg", exif=exif, comment=said.encode())
    tifffile.imwrite(folder / "c.tif", np.asarray(picture), description=said.encode(), software=said)
    command = [sys.executable, "-m", "ssad", "detect", run.path, folder, "--out", tmp_path / "result"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    written = [file.read_bytes() for file in (tmp_path / "result").rglob("*") if file.is_file()]
    shown = sum(b"PAYLOAD" in content for content in (*written, done.stdout.encode(), done.stderr.encode()))
    drill_table.record("metadata of images that are markup, formulas or escapes", 3, shown, 0)
    assert len(written) > 3
    assert shown == 0


def test_no_cell_of_a_table_is_a_formula(run, folders, tmp_path, drill_table):
    images = {file.name: file for file in image_files(files_of(folders / "incoming"))}
    results = DetectionFolder(tmp_path / "result", {}, folders / "incoming")
    for detections, read in run.detect_batches(folders / "incoming", 0.5):
        results.add(detections, read, run.map_scale, images)
    rows = list(csv.DictReader(io.StringIO(results.finish().read_text())))
    cells = [cell for row in rows for name, cell in row.items() if name not in ("score", "p_value")]
    formulas = [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    drill_table.record("names that are formulas or steer terminals", len(rows), len(formulas), 0)
    assert len(rows) == len(images)
    assert formulas == []
    assert not any("\x1b" in cell for cell in cells)


# Bombs ---------------------------------------------------------------------------------------------------------------


def png_bomb(path, side, height=None):
    """A black PNG of side x side pixels, a thousandth of its size on disk."""
    height = side if height is None else height

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    content = b"".join([*(packer.compress(bytes(side + 1)) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def text_bomb(path):
    """A small PNG with 100 MB of compressed text, in which an orientation is looked for."""
    Image.new("L", (8, 8), 9).save(path, "PNG")
    content = path.read_bytes()
    body = b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(10**8), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    path.write_bytes(content[:33] + 20 * chunk + content[33:])


BOMBS = {
    "a PNG beyond the limit": (partial(png_bomb, side=8000), "megapixels"),
    "a PNG whose data exceed its header": (partial(png_bomb, side=8000, height=8), ""),
    "compressed text": (text_bomb, ""),
    "a deflated TIFF beyond the limit": (
        lambda path: tifffile.imwrite(path, np.zeros((8000, 8000), np.uint8), compression="zlib"),
        "megapixels",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name, tmp_path, monkeypatch, drill_table):
    monkeypatch.setenv(LARGEST_VARIABLE, "10")
    make, said = BOMBS[name]
    make(tmp_path / "bomb")
    script = f"""
import resource
from selector.inputs.decoding import decode
from selector.inputs.unreadable import UnreadableError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode({str(tmp_path / "bomb")!r}, 16)
    print("read")
except UnreadableError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    *answer, megabytes = done.stdout.splitlines()
    drill_table.record("decompression bombs", 1, int(int(megabytes) > 200), 0)
    assert said in " ".join(answer)
    assert int(megabytes) < 200


# Paths ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["candidates", "trained", "validation_anomalies.safetensors"])
def test_links_in_a_run_folder_change_nothing_outside(run, folders, tmp_path, tiny, target, drill_table):
    copy, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns(".lock"))
    (copy / target).rename(outside)
    (copy / target).symlink_to(outside)
    if outside.is_dir():
        (outside / "precious").mkdir()
        (outside / "precious/thesis.txt").write_text("mine")
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    select_best(folders / "good", folders / "incoming", {"cutout": [{"area": 0.05}]}, preset=tiny, jobs=1, out=copy)
    load(copy).detect(folders / "incoming")
    after = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    drill_table.record("links in a run folder", 1, int(after != before), 0)
    assert after == before


@pytest.mark.parametrize("linked", ["heatmaps", "masks", "detections.jsonl"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_in_a_result_folder_change_nothing_outside(folders, tmp_path, linked, overwrite, drill_table):
    result, outside = tmp_path / "result", tmp_path / "outside"
    result.mkdir()
    if linked == "detections.jsonl":
        outside.write_text("mine")
    else:
        (outside / "deeper").mkdir(parents=True)
        (outside / "deeper" / "mine.txt").write_text("mine")
    (result / linked).symlink_to(outside)
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    with pytest.raises(InputError, match="is a link"):
        DetectionFolder(result, {}, folders / "incoming", overwrite)
    after = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    drill_table.record("links in a result folder", 1, int(after != before), 0)
    assert after == before
    assert [path.name for path in result.iterdir()] == [linked]


def test_ids_that_are_paths_lead_nowhere(run, tmp_path, drill_table):
    """Ids are hashes of what a candidate is, so no file can state one."""
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns(".lock"))
    saved = without_checksum(json.loads((copy / "selection.json").read_text()))
    saved["members"] = ["../../../../tmp/x"]
    (copy / "selection.json").write_text(json.dumps(with_checksum(saved)))
    with pytest.raises(ValueError, match="is not a known name"):
        load(copy).detect(torch.zeros(1, 1, 32, 32))
    drill_table.record("ids that are paths", 1, 0, 0)
