"""Photographed defects: which file ends where, masks beside their own images, and refusals that name the file."""

import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augmentations import InputError
from benchmarks.datasets.defects import LOADERS, shrunk

SIZE = 16
MVTEC_KINDS = {"bent": {"000": 100, "001": 110}, "cut/deep": {"000": 120}, "cut": {"1": 130, "12": 140}}


def write(path, gray=128, size=(SIZE, SIZE), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, gray).save(path)


def write_mask(path, row, value=255, size=(SIZE, SIZE)):
    """One anomalous row, which says which mask this is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size[::-1], np.uint8)
    mask[row] = value
    Image.fromarray(mask).save(path)


def write_category(home, train="train/good", normal="good", masks="ground_truth", ending="_mask", mask_suffix=".png"):
    """Train images of gray 10 and 20, normal test images of 30 and 40, anomalies from 100, whose mask is the row that
    is a tenth of their gray, less 10."""
    for stem, gray in (("000", 10), ("001", 20)):
        write(home / train / f"{stem}.png", gray)
    for stem, gray in (("000", 30), ("001", 40)):
        write(home / "test" / normal / f"{stem}.png", gray)
    for kind, stems in MVTEC_KINDS.items():
        for stem, gray in stems.items():
            write(home / "test" / kind / f"{stem}.png", gray)
            write_mask(home / masks / kind / f"{stem}{ending}{mask_suffix}", gray // 10 - 10)
    return home


def write_visa(root):
    rows = ["object,split,label,image,mask"]

    def add(split, label, file, gray, mask=""):
        write(root / "candle/Data/Images" / file, gray, mode="RGB")
        rows.append(f"candle,{split},{label},candle/Data/Images/{file},{mask}")

    add("train", "normal", "Normal/0001.JPG", (10,) * 3)
    add("test", "normal", "Normal/0000.JPG", (30,) * 3)
    for stem, row in (("000", 0), ("001", 1), ("010", 2)):
        mask = f"candle/Data/Masks/Anomaly/{stem}.png"
        add("test", "anomaly", f"Anomaly/{stem}.JPG", (100 + 10 * row,) * 3, mask)
        write_mask(root / mask, row, value=row + 1)
    rows.append("pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root


def load(name, root, image_size=SIZE):
    return LOADERS[name](name, root, image_size)


def refusal(name, root):
    with pytest.raises(InputError) as error:
        load(name, root)
    return str(error.value)


def grays(images):
    return [round(255 * float(image[0, 0, 0])) for image in images]


def labels_by_gray(task):
    """What a task says of each test image, by its gray: label, kind, and the rows that its mask covers."""
    masks = task.masks if task.masks is not None else [None] * len(task.test)
    rows = [None if mask is None else mask.any(1).nonzero()[:, 0].tolist() for mask in masks]
    return dict(
        zip(grays(task.test), zip(task.labels.tolist(), task.kinds or (), rows, strict=True), strict=True),
    )


EXPECTED = {
    30: (0, "", []),
    40: (0, "", []),
    100: (1, "bent", [0]),
    110: (1, "bent", [1]),
    120: (1, "cut", [2]),
    130: (1, "cut", [3]),
    140: (1, "cut", [4]),
}


def test_the_categories_are_those_that_were_published():
    families = {name.partition("-")[0] for name in LOADERS}
    counts = {family: sum(name.partition("-")[0] == family for name in LOADERS) for family in families}
    assert counts == {"mvtec": 15, "mpdd": 6, "btech": 3, "visa": 12, "folder": 1}


@pytest.mark.parametrize("name", ["mvtec-bottle", "mpdd-bracket_black"])
def test_mvtec_layout(tmp_path, name):
    write_category(tmp_path / name.partition("-")[2])
    task = load(name, str(tmp_path))
    assert task.name == name
    assert sorted(grays(task.train)) == [10, 20]
    assert labels_by_gray(task) == EXPECTED
    assert task.train.shape == (2, 1, SIZE, SIZE)
    assert task.train.dtype == task.test.dtype == torch.float32
    assert task.labels.dtype == task.masks.dtype == torch.uint8
    assert task.masks.shape == (7, SIZE, SIZE)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_btech_layout(tmp_path, suffix):
    write_category(tmp_path / "03", "train/ok", "ok", ending="", mask_suffix=suffix)
    assert labels_by_gray(load("btech-03", tmp_path)) == EXPECTED


def test_folder_layout(tmp_path):
    write_category(tmp_path, "train/monday", "normal", "masks", ending="")
    task = load("folder", tmp_path)
    assert grays(task.train) == [10, 20]
    assert labels_by_gray(task) == EXPECTED


def test_a_folder_without_masks_has_none(tmp_path):
    write_category(tmp_path, "train", "normal", "elsewhere")
    task = load("folder", tmp_path)
    assert task.masks is None
    assert {gray: found[:2] for gray, found in labels_by_gray(task).items()} == {
        gray: found[:2] for gray, found in EXPECTED.items()
    }


def test_visa_layout(tmp_path):
    task = load("visa-candle", write_visa(tmp_path))
    assert grays(task.train) == [10]
    assert task.train.shape[1] == 3
    assert labels_by_gray(task) == {
        30: (0, "", []),
        100: (1, "anomaly", [0]),
        110: (1, "anomaly", [1]),
        120: (1, "anomaly", [2]),
    }


def test_hidden_files_are_left_out(tmp_path):
    home = write_category(tmp_path / "bottle")
    for path in ("train/good", "test", "test/bent", "ground_truth", "ground_truth/bent"):
        write(home / path / ".ipynb_checkpoints" / "000.png")
        (home / path / ".DS_Store").write_bytes(b"x")
    assert labels_by_gray(load("mvtec-bottle", tmp_path)) == EXPECTED


def test_colour_and_gray_are_brought_to_the_same_channels(tmp_path):
    home = write_category(tmp_path / "bottle")
    write(home / "test/good/002.png", (50, 60, 70), mode="RGB")
    task = load("mvtec-bottle", tmp_path)
    assert task.train.shape[1] == task.test.shape[1] == 3


def test_test_images_are_in_random_order_the_same_each_time(tmp_path):
    home = write_category(tmp_path / "bottle")
    for place in range(20):
        write(home / "test/good" / f"{100 + place}.png", 200 + place)
    task, again = load("mvtec-bottle", tmp_path), load("mvtec-bottle", tmp_path)
    assert torch.equal(task.test, again.test)
    assert torch.equal(task.masks, again.masks)
    assert task.kinds == again.kinds
    assert grays(task.test) != sorted(grays(task.test))
    assert 0 < task.labels[:14].sum() < 5


def test_a_missing_mask_is_named(tmp_path):
    home = write_category(tmp_path / "bottle")
    os.remove(home / "ground_truth/cut/1_mask.png")
    said = refusal("mvtec-bottle", tmp_path)
    assert "cut/1.png: has no mask cut/1_mask.*" in said
    assert "bottle/ground_truth/<kind>/<stem>_mask.png" in said


def test_a_mask_without_the_ending_is_none(tmp_path):
    home = write_category(tmp_path / "bottle")
    os.rename(home / "ground_truth/cut/1_mask.png", home / "ground_truth/cut/1.png")
    assert "cut/1.png: has no mask" in refusal("mvtec-bottle", tmp_path)


@pytest.mark.parametrize("left_over", ["bent/002_mask.png", "scratch/000_mask.png", "good/000_mask.png"])
def test_a_mask_without_an_image_is_named(tmp_path, left_over):
    home = write_category(tmp_path / "bottle")
    write_mask(home / "ground_truth" / left_over, 0)
    assert f"mask {left_over}: has no image" in refusal("mvtec-bottle", tmp_path)


def test_masks_of_a_folder_are_all_or_none(tmp_path):
    write_category(tmp_path, "train", "normal", "masks", ending="")
    os.remove(tmp_path / "masks/bent/001.png")
    assert "bent/001.png: has no mask" in refusal("folder", tmp_path)


def test_two_images_of_one_stem_are_refused(tmp_path):
    home = write_category(tmp_path / "bottle")
    write(home / "test/bent/000.bmp")
    said = refusal("mvtec-bottle", tmp_path)
    assert "bent/000.png: has the stem of 000.bmp" in said


def test_a_mask_of_another_size_is_refused(tmp_path):
    home = write_category(tmp_path / "bottle")
    write_mask(home / "ground_truth/bent/000_mask.png", 0, size=(SIZE, SIZE + 2))
    said = refusal("mvtec-bottle", tmp_path)
    assert "bent/000_mask.png: is 18 x 16 px, its image 16 x 16" in said


def test_an_unreadable_mask_is_named(tmp_path):
    home = write_category(tmp_path / "bottle")
    (home / "ground_truth/bent/000_mask.png").write_bytes(b"")
    assert "bent/000_mask.png: cannot be read (an empty file)" in refusal("mvtec-bottle", tmp_path)


def test_an_image_in_no_kind_is_named(tmp_path):
    home = write_category(tmp_path / "bottle")
    write(home / "test" / "stray.png")
    assert "stray.png: is not in a sub-folder" in refusal("mvtec-bottle", tmp_path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mvtec-metal_nut", "metal_nut/train/good/*.png, metal_nut/test/good/*.png, metal_nut/test/<kind>/<stem>.png"),
        ("mpdd-tubes", "tubes/ground_truth/<kind>/<stem>_mask.png"),
        (
            "btech-01",
            "01/train/ok/*.png, 01/test/ok/*.png, 01/test/<kind>/<stem>.png, 01/ground_truth/<kind>/<stem>.png",
        ),
        ("folder", "train/*.png, test/normal/*.png, test/<kind>/<stem>.png, masks/<kind>/<stem>.png (or no masks"),
        ("visa-pcb4", "pcb4/Data/Images/Anomaly and pcb4/Data/Masks/Anomaly, and split_csv/1cls.csv with"),
    ],
)
def test_a_wrong_root_says_what_belongs_where(tmp_path, name, line):
    for root in (None, tmp_path, tmp_path / "absent"):
        said = refusal(name, root)
        assert f"root must hold {line}" in said or line in said.partition("root must hold ")[2]
        assert "None" in said if root is None else str(root) in said


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("train/good", "train/good: is not a folder"), ("test/good", "no normal test"), ("test", "test: is not a folder")],
)
def test_what_a_category_lacks_is_said(tmp_path, lacks, said):
    home = write_category(tmp_path / "bottle")
    os.rename(home / lacks, tmp_path / "away")
    assert said in refusal("mvtec-bottle", tmp_path)


def test_no_anomalies_are_refused(tmp_path):
    for sub in ("train", "test/normal"):
        write(tmp_path / sub / "0.png")
    assert "no anomalous test images" in refusal("folder", tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: os.remove(root / "candle/Data/Masks/Anomaly/010.png"), "Anomaly/010.JPG: has no mask"),
        (lambda root: write_mask(root / "candle/Data/Masks/Anomaly/9.png", 0), "Masks/Anomaly/9.png: has no image"),
        (lambda root: os.remove(root / "candle/Data/Images/Normal/0000.JPG"), "Normal/0000.JPG"),
        (lambda root: (root / "split_csv/1cls.csv").write_text("object,split\n"), "1cls.csv: cannot be read"),
        (lambda root: (root / "split_csv/1cls.csv").write_text(""), "1cls.csv: cannot be read"),
        (
            lambda root: (root / "split_csv/1cls.csv").write_text(
                "object,split,label,image,mask\ncandle,train,anomaly,candle/Data/Images/Anomaly/000.JPG,\n"
            ),
            "split 'train' with label 'anomaly'",
        ),
    ],
)
def test_what_is_wrong_with_visa_is_named(tmp_path, change, said):
    write_visa(tmp_path)
    change(tmp_path)
    assert said in refusal("visa-candle", tmp_path)


def naive_area(mask, size, row, column):
    """The anomalous share of one output pixel, in exact fractions."""
    height, width = mask.shape

    def overlap(i, part, side):
        return max(
            0, min(Fraction(part + 1, size), Fraction(i + 1, side)) - max(Fraction(part, size), Fraction(i, side))
        )

    shares = (overlap(i, row, height) * overlap(j, column, width) for i, j in zip(*np.nonzero(mask), strict=True))
    return sum(shares, Fraction(0)) * size**2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_shrink_by_exact_area(data):
    height, width, size = (data.draw(st.integers(1, 7)) for _ in range(3))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    areas = np.array([[naive_area(mask, size, i, j) for j in range(size)] for i in range(size)])
    found = shrunk(torch.from_numpy(mask), size).numpy().astype(bool)
    expected = areas >= Fraction(1, 2)
    if mask.any() and not expected.any():
        assert found.sum() == 1
        assert areas[found] == areas.max()
    else:
        np.testing.assert_array_equal(found, expected)


def test_a_tiny_defect_is_kept_and_an_empty_mask_stays_empty():
    mask = torch.zeros(100, 100, dtype=torch.bool)
    assert shrunk(mask, 10).sum() == 0
    mask[47, 83] = True
    assert shrunk(mask, 10).nonzero().tolist() == [[4, 8]]


def test_half_of_an_area_is_enough():
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, :2] = True
    mask[2, 2] = True
    assert shrunk(mask, 2).tolist() == [[1, 0], [0, 0]]
