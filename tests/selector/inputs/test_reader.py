"""What a user may hand in, and what comes out: values, names, order, notes and refusals."""

import os
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augmentations.errors import InputError
from selector.inputs import arrays, reader
from selector.inputs.files import printable
from selector.inputs.reader import Images, fingerprint, iterate_batches, read_images

SIZE = 8


def write(path, colour=128, size=(SIZE, SIZE), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five gray images, whose gray value is ten times their place in the order."""
    for place, name in enumerate(["a.png", "b/x.png", "b/y.png", "c.png", "d.png"]):
        write(tmp_path / "data" / name, 10 * place)
    return tmp_path / "data"


def refusal(source, **settings):
    with pytest.raises(InputError) as error:
        read_images(source, **{"image_size": SIZE, **settings})
    return str(error.value)


def grays(found):
    return [round(255 * float(pixel)) for pixel in found.pixels[:, 0, 0, 0]]


class TestFolder:
    def test_is_read_recursively_in_the_order_of_relative_paths(self, folder):
        found = read_images(folder, image_size=SIZE)
        assert found.names == ("a.png", "b/x.png", "b/y.png", "c.png", "d.png")
        assert grays(found) == [0, 10, 20, 30, 40]
        assert found.pixels.shape == (5, 1, SIZE, SIZE)
        assert found.pixels.dtype == torch.float32
        assert found.pixels.is_contiguous()
        assert found.sizes == ((SIZE, SIZE),) * 5
        assert found.skipped == found.notes == ()
        assert len(found) == 5

    def test_may_be_named_by_a_string(self, folder):
        assert torch.equal(
            read_images(str(folder), image_size=SIZE).pixels, read_images(folder, image_size=SIZE).pixels
        )

    def test_a_sub_folder_that_sounds_like_a_label_changes_only_names(self, tmp_path):
        for sub in ("good", "part"):
            write(tmp_path / sub / "m" / "1.png", 10)
            write(tmp_path / sub / ("defect" if sub == "good" else "n") / "2.png", 20)
            write(tmp_path / sub / "z" / "3.png", 30)
        one = read_images(tmp_path / "good", image_size=SIZE)
        other = read_images(tmp_path / "part", image_size=SIZE)
        assert one.names == ("defect/2.png", "m/1.png", "z/3.png")
        assert sorted(grays(one)) == sorted(grays(other)) == [10, 20, 30]
        assert one.notes == other.notes == ()

    def test_hidden_files_and_those_of_archivers_are_left_out(self, folder):
        hidden = (".ipynb_checkpoints/a.png", ".DS_Store", "b/._x.png", "__MACOSX/a.png", ".git/o/a.png")
        for name in hidden:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"no image")
        found = read_images(folder, image_size=SIZE)
        assert found.names == ("a.png", "b/x.png", "b/y.png", "c.png", "d.png")
        assert found.notes == ()

    def test_a_hidden_folder_can_be_the_source_itself(self, tmp_path):
        write(tmp_path / ".data" / "a.png")
        assert read_images(tmp_path / ".data", image_size=SIZE).names == ("a.png",)

    def test_suffixes_of_any_case_and_kind(self, tmp_path):
        names = ["a.PNG", "b.Jpg", "c.JPEG", "d.bmp", "e.TIF", "f.tiff", "g.webp", "h.jfif", "i.GIF"]
        for name in names:
            write(tmp_path / name, 255)
        found = read_images(tmp_path, image_size=SIZE)
        assert found.names == tuple(names)
        assert found.pixels.min() > 0.98

    def test_other_files_are_counted_and_named(self, folder):
        (folder / "notes.txt").touch()
        assert read_images(folder, image_size=SIZE).notes == ("1 file that is not an image was left out: notes.txt",)
        for place in range(6):
            (folder / "b" / f"{place}.csv").touch()
        (note,) = read_images(folder, image_size=SIZE).notes
        assert note.startswith("7 files that are not images were left out: b/0.csv, b/1.csv")
        assert note.endswith("and 2 more")

    def test_names_may_be_long_and_of_any_script(self, tmp_path):
        names = ("x" * 240 + ".png", "Ärger/ß 部品 №1.png")
        for name in names:
            write(tmp_path / name, 51)
        found = read_images(tmp_path, image_size=SIZE)
        assert found.names == names
        assert grays(found) == [51, 51]

    def test_a_name_that_is_no_utf_8_becomes_printable(self, tmp_path):
        write(tmp_path / "a.png")
        try:
            os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
        except OSError:
            pytest.skip("this file system takes UTF-8 only")
        found = read_images(tmp_path, image_size=SIZE)
        assert found.names == ("\\xff.png",)
        assert fingerprint(found)

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("a\\xff.png", "a\\\\xff.png"),
            ("a\rb.png", "a\\rb.png"),
            ("\x1b[2J.png", "\\x1b[2J.png"),
            ("a\u2028b.png", "a\\u2028b.png"),
            ("a\u202egnp.png", "a\\u202egnp.png"),
            ("部品 ü.png", "部品 ü.png"),
        ],
    )
    def test_a_name_breaks_no_line_steers_no_terminal_and_is_no_other_files(self, path, name):
        assert printable(path) == name

    @pytest.mark.parametrize("marks", [("result.json", "detections.jsonl"), ("run.json", "images.safetensors")])
    def test_results_below_the_images_are_left_out_and_said(self, folder, marks):
        for name in ("heatmaps/a.png", *marks):
            (folder / "b" / "result" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "b" / "result" / name).write_bytes((folder / "a.png").read_bytes())
        found = read_images(folder, image_size=SIZE)
        assert not any("result" in name for name in found.names)
        assert found.notes == ("1 folder left out, which holds results of ssad: b/result",)

    def test_loops_of_links_end_and_are_said(self, folder):
        (folder / "b" / "up").symlink_to(folder)
        (folder / "z").symlink_to(folder / "z")
        found = read_images(folder, image_size=SIZE)
        assert len(found) == 5
        assert "1 folder reached a second time through a link, read once: b/up" in found.notes

    def test_a_linked_folder_is_followed(self, folder, tmp_path):
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "to").symlink_to(folder)
        assert read_images(tmp_path / "links", image_size=SIZE).names[0] == "to/a.png"

    def test_without_images_is_refused(self, tmp_path):
        said = refusal(tmp_path)
        assert said.startswith(f"train: {tmp_path}: holds no images; put images there (.png, ")
        (tmp_path / "notes.txt").touch()
        assert "notes.txt" in refusal(tmp_path, role="test")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_closed_sub_folder_is_not_passed_over(self, folder):
        (folder / "b").chmod(0)
        try:
            assert "b (Permission denied)" in refusal(folder)
        finally:
            (folder / "b").chmod(0o700)


class TestFiles:
    def test_keep_the_given_order_and_names(self, folder):
        paths = [folder / "d.png", str(folder / "a.png")]
        found = read_images(paths, image_size=SIZE)
        assert found.names == (str(folder / "d.png"), str(folder / "a.png"))
        assert grays(found) == [40, 0]

    def test_a_single_file(self, folder):
        found = read_images(folder / "c.png", image_size=SIZE)
        assert (found.names, grays(found)) == ((str(folder / "c.png"),), [30])

    def test_a_single_file_that_is_no_image(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no image")
        assert "1 of 1 file cannot be read: " in refusal(tmp_path / "notes.txt")
        assert "fix or replace them" in refusal(tmp_path / "notes.txt", skip_unreadable=True)

    def test_a_missing_path(self, tmp_path):
        said = refusal(tmp_path / "absent", role="test")
        assert said.startswith(f"test: {tmp_path / 'absent'}: does not exist; give a folder")
        assert "absent.png (No such file or directory)" in refusal([tmp_path / "absent.png"])

    def test_lists_that_are_refused(self, folder):
        a = folder / "a.png"
        assert "the list of files is empty" in refusal([])
        assert "is listed twice (items 0 and 2)" in refusal([a, folder / "c.png", str(a)])
        assert "is listed twice" in refusal([a, folder / "b" / ".." / "a.png"])
        assert "(a folder, not an image)" in refusal([a, folder / "b"])
        assert "train[1]=3: is not a path" in refusal([a, 3])
        assert "stack them into one array" in refusal([np.zeros((8, 8))])

    @pytest.mark.parametrize("source", [None, 3, "", {"a.png"}, b"a.png"])
    def test_other_sources_are_refused(self, source):
        assert "is not a source of images; give a folder, a list of image files, or an array" in refusal(source)


class TestUnreadable:
    @pytest.fixture
    def broken(self, folder):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for name in ("cut.jpg", "cut.png"):
            Image.fromarray(noise).save(folder / name)
            (folder / name).write_bytes((folder / name).read_bytes()[:2000])
        (folder / "empty.png").touch()
        write(folder / "one.png", 0, (1, 1))
        (folder / "text.png").write_text("no image")
        (folder / "x.png").mkdir()
        write(folder / "x.png" / "inside.png")
        return folder

    bad = ("cut.jpg", "cut.png", "empty.png", "one.png", "text.png", "x.png")

    def test_files_are_all_named_in_one_refusal(self, broken):
        said = refusal(broken)
        assert said.startswith("train: 6 of 11 files cannot be read: ")
        assert said.endswith("; fix or remove them, or pass skip_unreadable=True (--skip-unreadable)")
        assert "truncated" in said
        assert "empty.png (an empty file)" in said
        assert "one.png (1 x 1: smaller than 2 pixels on a side)" in said
        assert "text.png (not an image, or of a kind that cannot be read: save it as PNG, TIFF or JPEG)" in said
        assert "x.png (a folder, not an image)" in said
        for name in self.bad:
            assert f"{name} (" in said

    def test_files_are_skipped_on_request_and_listed(self, broken):
        found = read_images(broken, image_size=SIZE, channels=1, skip_unreadable=True)
        assert found.names == ("a.png", "b/x.png", "b/y.png", "c.png", "d.png")
        assert grays(found) == [0, 10, 20, 30, 40]
        assert tuple(name for name, _ in found.skipped) == self.bad
        assert all(reason for _, reason in found.skipped)
        assert found.pixels.untyped_storage().nbytes() == found.pixels.nbytes

    def test_only_ten_are_named(self, tmp_path):
        for place in range(13):
            (tmp_path / f"{place:02}.png").touch()
        said = refusal(tmp_path)
        assert "13 of 13 files" in said
        assert "09.png" in said
        assert "10.png" not in said
        assert "and 3 more" in said

    def test_nothing_readable_is_refused_even_when_skipping(self, tmp_path):
        (tmp_path / "a.png").touch()
        assert "1 of 1 file cannot be read: a.png (an empty file); fix or replace them" in refusal(
            tmp_path, skip_unreadable=True
        )

    def test_too_few_images(self, broken):
        (broken / "x.png" / "inside.png").unlink()
        said = refusal(broken, skip_unreadable=True, minimum=6)
        assert said == (
            "train: 5 images (6 more could not be read): at least 6 are needed"
            " (three splits are made from them); add more normal images"
        )
        said = refusal(np.zeros((12, 8, 8), np.uint8), minimum=20)
        assert said == (
            "train: 12 images: at least 20 are needed (three splits are made from them); add more normal images"
        )
        said = refusal(np.zeros((1, 8, 8), np.uint8), minimum=2, role="test")
        assert said == "test: 1 image: at least 2 are needed; add more images"


class TestArray:
    def test_bytes_and_floats_of_both_libraries_agree(self):
        values = np.random.default_rng(0).integers(0, 256, (3, 3, SIZE, SIZE), dtype=np.uint8)
        expected = torch.from_numpy(values).float() / 255
        floats = (values / 255).astype(np.float32)
        for source in (values, torch.from_numpy(values), floats, torch.from_numpy(floats), values / 255):
            found = read_images(source, image_size=SIZE)
            torch.testing.assert_close(found.pixels, expected, rtol=0, atol=1e-7)
            assert found.names == ("0000", "0001", "0002")
            assert found.sizes == ((SIZE, SIZE),) * 3
            assert found.pixels.is_contiguous()

    def test_three_axes_are_gray_images(self):
        found = read_images(np.full((4, SIZE, SIZE), 51, np.uint8), image_size=SIZE)
        assert found.pixels.shape == (4, 1, SIZE, SIZE)
        assert grays(found) == [51] * 4

    def test_names_are_padded_to_sort(self):
        names = read_images(np.zeros((10001, 2, 2), np.uint8), image_size=SIZE).names
        assert (names[0], names[-1]) == ("00000", "10000")

    def test_odd_memory_is_read(self):
        values = np.linspace(0, 1, 2 * SIZE * SIZE).reshape(2, SIZE, SIZE)
        expected = read_images(values, image_size=SIZE).pixels
        readonly = values.copy()
        readonly.setflags(write=False)
        wanting = torch.tensor(values, requires_grad=True)
        for source in (
            values.astype(">f8"),
            values[::-1][::-1],
            np.asfortranarray(values),
            readonly,
            wanting,
        ):
            found = read_images(source, image_size=SIZE).pixels
            assert torch.equal(found, expected)
            assert not found.requires_grad

    def test_the_result_is_a_copy(self):
        source = torch.zeros(2, 1, SIZE, SIZE)
        found = read_images(source, image_size=SIZE)
        source += 1
        assert found.pixels.max() == 0

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.zeros((SIZE, SIZE)), "must have 4 axes (N, C, H, W), or 3 (N, H, W)"),
            (np.zeros((1, 1, 1, SIZE, SIZE)), "must have 4 axes"),
            (np.zeros((2, SIZE, SIZE, 3)), "move channels to axis 1: array.transpose(0, 3, 1, 2)"),
            (torch.zeros((2, SIZE, SIZE, 1)), "move channels to axis 1: array.permute(0, 3, 1, 2)"),
            (np.zeros((SIZE, SIZE, 3)), "looks like one image with its channels last"),
            (np.zeros((2, 4, SIZE, SIZE)), "must have 1 or 3 channels on axis 1"),
            (np.zeros((0, 3, SIZE, SIZE)), "holds no images"),
            (np.zeros((2, 3, SIZE, 1), np.uint8), "smaller than 2 pixels"),
            (np.full((2, SIZE, SIZE), np.nan), "holds NaN or infinity"),
            (np.full((2, SIZE, SIZE), np.inf), "holds NaN or infinity"),
            (torch.full((2, SIZE, SIZE), torch.nan), "holds NaN or infinity"),
            (np.linspace(-1, 255, 128).reshape(2, 8, 8), "these go from -1 to 255; scale them"),
            (np.full((2, SIZE, SIZE), 1.01), "divide by 255"),
            (np.zeros((2, SIZE, SIZE), bool), "has type bool"),
            (np.zeros((2, SIZE, SIZE), np.int64), "has type int64"),
            (np.zeros((2, SIZE, SIZE), np.uint16), "has type uint16"),
            (torch.zeros((2, SIZE, SIZE), dtype=torch.bool), "has type bool"),
            (np.zeros((2, SIZE, SIZE), complex), "has type complex128"),
            (np.zeros((2, SIZE, SIZE), object), "has type object"),
        ],
    )
    def test_what_is_refused(self, array, said):
        assert said in refusal(array)

    def test_one_bad_value_in_a_late_chunk_is_found(self):
        values = np.zeros((3 * arrays.CHUNK, 2, 2))
        values[-1, 1, 1] = np.nan
        assert "NaN" in refusal(values)

    def test_float_rounding_is_forgiven(self):
        found = read_images(np.full((2, SIZE, SIZE), 1 + 1e-7), image_size=SIZE)
        assert found.pixels.max() == 1

    def test_values_divided_twice_are_noted(self):
        (note,) = read_images(np.full((2, SIZE, SIZE), 1 / 255 / 2), image_size=SIZE).notes
        assert "perhaps divided by 255 twice" in note

    @settings(max_examples=25, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(2, 20), st.integers(2, 20)),
        size=st.integers(8, 16),
        seed=st.integers(0, 99),
    )
    def test_any_array_gives_pixels_in_its_own_range(self, shape, size, seed):
        values = np.random.default_rng(seed).random(shape)
        found = read_images(values, image_size=size)
        assert found.pixels.shape == (*shape[:2], size, size)
        assert found.pixels.min() >= values.min() - 1e-6
        assert found.pixels.max() <= values.max() + 1e-6


class TestImagesAgain:
    def test_pass_through(self, folder):
        found = read_images(folder, image_size=SIZE)
        assert read_images(found, image_size=SIZE) is found
        assert read_images(found, image_size=SIZE, channels=1) is found

    def test_of_another_size_are_refused(self, folder):
        found = read_images(folder, image_size=SIZE)
        assert "were read at 8 x 8, not 16 x 16; read them with image_size=16" in refusal(found, image_size=16)
        assert "at least 6" in refusal(found, minimum=6)

    def test_keep_names_and_notes_when_channels_change(self, folder):
        (folder / "notes.txt").touch()
        found = read_images(read_images(folder, image_size=SIZE), image_size=SIZE, channels=3)
        assert found.names[1] == "b/x.png"
        assert found.pixels.shape[1] == 3
        assert [note[:6] for note in found.notes] == ["1 file", "5 imag"]

    def test_what_was_skipped_once_stays_skipped(self, folder):
        (folder / "c.png").write_bytes(b"x")
        found = read_images(folder, image_size=SIZE, skip_unreadable=True)
        (part,) = iterate_batches(found, image_size=SIZE)
        assert part.skipped == found.skipped != ()
        assert read_images(found, image_size=SIZE, channels=3).skipped == found.skipped


class TestChannels:
    def test_gray_files_stay_gray(self, folder):
        assert read_images(folder, image_size=SIZE).pixels.shape[1] == 1

    def test_one_colour_image_makes_all_colour_and_is_said_once(self, folder):
        write(folder / "e.png", (255, 0, 51), mode="RGB")
        found = read_images(folder, image_size=SIZE)
        assert found.pixels[-1, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
        assert found.pixels[3, :, 0, 0].tolist() == pytest.approx([30 / 255] * 3)
        assert found.notes == ("5 images in gray, repeated to 3 channels (first: a.png)",)

    def test_colour_becomes_luma(self, tmp_path):
        for name, colour in (("b", (0, 0, 255)), ("g", (0, 255, 0)), ("r", (255, 0, 0)), ("w", (255,) * 3)):
            write(tmp_path / f"{name}.png", colour, mode="RGB")
        found = read_images(tmp_path, image_size=SIZE, channels=1)
        # ITU-R BT.601
        assert found.pixels[:, 0, 0, 0].tolist() == pytest.approx([0.114, 0.587, 0.299, 1])
        assert found.notes == ("4 images in colour, turned to gray (luma) (first: b.png)",)

    def test_arrays_too(self):
        gray = read_images(np.full((2, SIZE, SIZE), 0.2), image_size=SIZE, channels=3)
        assert gray.pixels.shape == (2, 3, SIZE, SIZE)
        colour = read_images(np.full((2, 3, SIZE, SIZE), 0.2), image_size=SIZE, channels=1)
        assert colour.pixels.shape == (2, 1, SIZE, SIZE)
        assert colour.pixels.unique().tolist() == pytest.approx([0.2])
        assert "first: 0000" in colour.notes[0]

    def test_what_was_done_to_files_is_said_once(self, folder):
        write(folder / "p.png", (255, 0, 0, 51), mode="RGBA")
        write(folder / "q.png", (0, 0, 0, 0), mode="RGBA")
        found = read_images(folder, image_size=SIZE)
        assert found.pixels[-2, :, 0, 0].tolist() == pytest.approx([1, 0.8, 0.8])
        assert found.pixels[-1].max() == 0
        assert "1 image transparent in places, laid over white (first: p.png)" in found.notes
        assert "1 image invisible by an alpha channel, which is left out (first: q.png)" in found.notes


class TestResize:
    def test_matching_sizes_are_untouched(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "a.png")
        found = read_images(tmp_path, image_size=SIZE)
        assert torch.equal(found.pixels[0, 0], torch.from_numpy(values).float() / 255)

    def test_halving_averages_instead_of_picking(self):
        board = np.indices((64, 64)).sum(0) % 2 * 255
        found = read_images(board[None].astype(np.uint8), image_size=SIZE)
        np.testing.assert_allclose(found.pixels, 0.5, atol=0.02)

    def test_agrees_with_pillow(self):
        values = np.random.default_rng(0).random((30, 50)).astype(np.float32)
        expected = np.asarray(Image.fromarray(values).resize((16, 16), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(read_images(values[None], image_size=16).pixels[0, 0], expected, atol=1e-5)

    def test_a_file_and_an_array_of_the_same_values_agree(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 256, (2, 3, 21, 30), dtype=np.uint8)
        for place, value in enumerate(values):
            Image.fromarray(value.transpose(1, 2, 0)).save(tmp_path / f"{place}.png")
        ours, theirs = read_images(tmp_path, image_size=SIZE), read_images(values, image_size=SIZE)
        assert torch.equal(ours.pixels, theirs.pixels)
        assert ours.sizes == theirs.sizes == ((21, 30),) * 2

    def test_range_of_16_bits_survives(self, tmp_path):
        ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
        Image.fromarray(ramp).save(tmp_path / "a.png")
        found = read_images(tmp_path, image_size=32)
        assert len(found.pixels.unique()) > 256
        assert read_images(tmp_path, image_size=64).pixels.max() == 1

    def test_lost_aspect_and_mixed_sizes_are_said_once(self, tmp_path):
        write(tmp_path / "a.png", size=(12, 10))
        write(tmp_path / "b.png", size=(12, 10))
        found = read_images(tmp_path, image_size=SIZE)
        assert found.sizes == ((10, 12),) * 2
        assert found.notes == ("images all 10 x 12, resized to 8 x 8 without keeping the aspect",)
        write(tmp_path / "c.png", size=(9, 9))
        (note,) = read_images(tmp_path, image_size=SIZE).notes
        assert note == "images of 2 sizes, most often 10 x 12, resized to 8 x 8 without keeping the aspect"

    def test_size_is_that_after_exif_orientation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("L", (32, 16)).save(tmp_path / "a.jpg", exif=exif)
        assert read_images(tmp_path, image_size=SIZE).sizes == ((32, 16),)


class TestSettings:
    @pytest.mark.parametrize("value", [7, 0, -8, 64.0, True, "64", None])
    def test_image_size(self, value):
        assert "must be a whole number of at least 8; try image_size=64" in refusal(
            np.zeros((2, 8, 8)), image_size=value
        )

    @pytest.mark.parametrize("value", [2, 0, True, "rgb"])
    def test_channels(self, value):
        assert "must be 1 (gray), 3 (colour) or None" in refusal(np.zeros((2, 8, 8)), channels=value)

    def test_batch_and_minimum(self):
        assert "minimum=0: must be" in refusal(np.zeros((2, 8, 8)), minimum=0)
        with pytest.raises(InputError, match="batch=0: must be"):
            iterate_batches(np.zeros((2, 8, 8)), image_size=SIZE, batch=0)


class TestIterate:
    @pytest.mark.parametrize("batch", [1, 2, 5, 9])
    def test_gives_what_read_gives(self, folder, batch):
        (folder / "notes.txt").touch()
        whole = read_images(folder, image_size=SIZE, channels=3)
        parts = list(iterate_batches(folder, image_size=SIZE, channels=3, batch=batch))
        assert [len(part) for part in parts[:-1]] == [batch] * (len(parts) - 1)
        assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
        assert sum((part.names for part in parts), ()) == whole.names
        assert sum((part.sizes for part in parts), ()) == whole.sizes
        assert parts[-1].notes == whole.notes
        assert all(part.notes == () for part in parts[:-1])

    def test_arrays_and_images(self, folder):
        for source in (np.random.default_rng(0).random((5, 9, 9)), read_images(folder, image_size=SIZE)):
            whole = read_images(source, image_size=SIZE)
            parts = list(iterate_batches(source, image_size=SIZE, batch=2))
            assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
            assert sum((part.names for part in parts), ()) == whole.names

    def test_refuses_a_wrong_source_before_the_first_batch(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            iterate_batches(tmp_path / "absent", image_size=SIZE)

    def test_names_all_failures_after_the_last_whole_batch(self, folder):
        (folder / "b/y.png").write_bytes(b"x")
        (folder / "d.png").write_bytes(b"x")
        parts = iterate_batches(folder, image_size=SIZE, channels=1, batch=1)
        assert next(parts).names == ("a.png",)
        with pytest.raises(InputError, match=r"test: 2 of 5 files cannot be read: b/y.png, d.png \(not an image"):
            list(parts)

    def test_a_batch_without_a_readable_file_is_passed_over(self, folder):
        for name in ("b/y.png", "c.png", "d.png"):
            (folder / name).write_bytes(b"x")
        parts = list(iterate_batches(folder, image_size=SIZE, channels=1, batch=1, skip_unreadable=True))
        assert [part.names for part in parts] == [("a.png",), ("b/x.png",)]
        assert [name for name, _ in parts[-1].skipped] == ["b/y.png", "c.png", "d.png"]

    def test_reads_no_further_ahead_than_a_batch(self, folder, monkeypatch):
        seen = []
        decode = reader.decode
        monkeypatch.setattr(reader, "decode", lambda path, *rest: seen.append(path) or decode(path, *rest))
        parts = iterate_batches(folder, image_size=SIZE, channels=1, batch=1)
        next(parts)
        assert len(seen) <= 2
        parts.close()

    def test_memory_is_bounded_by_the_batch(self):
        tracemalloc.start()
        source = np.broadcast_to(np.float32(0.5), (4000, 64, 64))
        for _ in iterate_batches(source, image_size=64, batch=8):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < source.size  # a quarter of the bytes of all images as float32


class TestFingerprint:
    def test_is_the_same_for_the_same_data_and_depends_on_pixels_names_and_shape(self, folder):
        found = read_images(folder, image_size=SIZE)
        known = fingerprint(found)
        assert len(known) == 64
        assert fingerprint(read_images(str(folder), image_size=SIZE)) == known
        changed = found.pixels.clone()
        changed[2, 0, 3, 3] += 1 / 255
        others = [
            Images(changed, found.names, found.sizes),
            Images(found.pixels, (*found.names[:-1], "z.png"), found.sizes),
            Images(found.pixels.reshape(5, 1, 4, 16), found.names, found.sizes),
        ]
        assert len({known, *map(fingerprint, others)}) == 4

    def test_the_same_whatever_the_threads(self, folder, monkeypatch):
        known = fingerprint(read_images(folder, image_size=16))
        monkeypatch.setattr(reader, "THREADS", 1)
        assert fingerprint(read_images(folder, image_size=16)) == known
