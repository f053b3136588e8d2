"""One class against the rest, from folders and from CelebA's lists: which file ends where, and refusals."""

import pytest
import torch
from PIL import Image

from augmentations import InputError
from benchmarks.datasets.classes import LOADERS

SIZE = 8


def write(path, gray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIZE, SIZE), gray).save(path)


def load(name, root):
    (key,) = (key for key in LOADERS if name.startswith(key))
    return LOADERS[key](name, root, SIZE)


def refusal(name, root):
    with pytest.raises(InputError) as error:
        load(name, root)
    return str(error.value)


def grays(images):
    return [round(255 * float(image[0, 0, 0])) for image in images]


def labels_by_gray(task):
    return dict(zip(grays(task.test), zip(task.labels.tolist(), task.kinds, strict=True), strict=True))


class TestFolders:
    @pytest.fixture
    def pets(self, tmp_path):
        """Ten cats of gray 10 to 19, two dogs of 100 and 101, one bird of 200; stems that repeat and begin alike."""
        for place in range(10):
            write(tmp_path / "cat" / f"{place}.png", 10 + place)
        for stem, gray in (("1", 100), ("12", 101)):
            write(tmp_path / "dog" / "large" / f"{stem}.png", gray)
        write(tmp_path / "bird" / "1.png", 200)
        return tmp_path

    def test_undivided_the_normal_class_is_split(self, pets):
        task = load("classes-cat", pets)
        train, found = set(grays(task.train)), labels_by_gray(task)
        normal = {gray for gray, (label, _) in found.items() if label == 0}
        assert len(train) == 7
        assert train | normal == set(range(10, 20))
        assert not train & normal
        assert {gray: label for gray, label in found.items() if gray >= 100} == {
            100: (1, "dog"),
            101: (1, "dog"),
            200: (1, "bird"),
        }
        assert all(kind == "" for gray, (_, kind) in found.items() if gray < 100)
        assert task.name == "classes-cat"
        assert task.masks is None

    def test_the_split_is_random_and_the_same_each_time(self, pets):
        task, again = load("classes-cat", str(pets)), load("classes-cat", pets)
        assert torch.equal(task.train, again.train)
        assert torch.equal(task.test, again.test)
        assert set(grays(task.train)) != set(range(10, 17))

    def test_another_class_can_be_normal(self, pets):
        task = load("classes-dog", pets)
        assert labels_by_gray(task)[10] == (1, "cat")

    def test_divided_folders_are_kept(self, pets):
        write(pets / "train" / "cat" / "a.png", 50)
        write(pets / "train" / "dog" / "a.png", 51)
        write(pets / "test" / "cat" / "a.png", 60)
        write(pets / "test" / "dog" / "a.png", 61)
        write(pets / "test" / "fish" / "a.png", 62)
        task = load("classes-cat", pets)
        assert grays(task.train) == [50]
        assert labels_by_gray(task) == {60: (0, ""), 61: (1, "dog"), 62: (1, "fish")}

    def test_hidden_folders_are_no_classes(self, pets):
        write(pets / ".ipynb_checkpoints" / "1.png", 250)
        (pets / "cat" / ".DS_Store").write_bytes(b"x")
        assert 250 not in labels_by_gray(load("classes-cat", pets))

    @pytest.mark.parametrize("name", ["classes-cats", "classes-", "classes-.."])
    def test_an_unknown_class_is_refused_with_those_there_are(self, pets, name):
        said = refusal(name, pets)
        assert repr(name.removeprefix("classes-")) in said
        assert "cat" in said.partition("is not a known name")[2]
        assert "root must hold <class>/*.png" in said

    def test_an_image_in_no_class_is_named(self, pets):
        write(pets / "overview.png", 1)
        assert "overview.png: is not in a sub-folder" in refusal("classes-cat", pets)

    def test_one_class_alone_is_refused(self, tmp_path):
        write(tmp_path / "cat" / "1.png", 1)
        write(tmp_path / "cat" / "2.png", 2)
        assert "test images" in refusal("classes-cat", tmp_path)

    def test_a_wrong_root_says_what_belongs_where(self, tmp_path):
        for root in (None, tmp_path, tmp_path / "absent"):
            said = refusal("classes-cat", root)
            assert "root must hold <class>/*.png for each class, or train/<class>/*.png and test/<class>/*.png" in said


class TestCelebA:
    FACES = (
        # gray, partition, Bald, Smiling
        (10, 0, -1, -1),
        (20, 0, -1, 1),
        (30, 0, 1, -1),
        (40, 1, -1, -1),
        (50, 1, 1, 1),
        (60, 2, -1, -1),
        (70, 2, 1, 1),
        (80, 2, -1, 1),
    )

    @pytest.fixture
    def faces(self, tmp_path):
        attributes, partition = [str(len(self.FACES)), "Bald Smiling "], []
        for place, (gray, number, *values) in enumerate(self.FACES):
            file = f"{place + 1:06d}.jpg"
            write(tmp_path / "img_align_celeba" / file, gray)
            attributes.append(f"{file} " + " ".join(f"{value:2d}" for value in values))
            partition.append(f"{file} {number}")
        (tmp_path / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
        (tmp_path / "list_eval_partition.txt").write_text("\n".join(reversed(partition)) + "\n")
        return tmp_path

    @pytest.mark.parametrize(
        ("attribute", "train", "test"),
        [
            ("Bald", [10, 20], {60: (0, ""), 70: (1, "Bald"), 80: (0, "")}),
            ("Smiling", [10, 30], {60: (0, ""), 70: (1, "Smiling"), 80: (1, "Smiling")}),
        ],
    )
    def test_partitions_are_kept(self, faces, attribute, train, test):
        task = load(f"celeba-{attribute}", faces)
        assert grays(task.train) == train
        assert labels_by_gray(task) == test

    def test_without_partitions_faces_without_the_attribute_are_split(self, faces):
        (faces / "list_eval_partition.txt").unlink()
        task = load("celeba-Bald", faces)
        train, found = set(grays(task.train)), labels_by_gray(task)
        assert len(train) == round(0.7 * 6)
        assert not train & found.keys()
        assert train | found.keys() == {gray for gray, *_ in self.FACES}
        assert {gray for gray, (label, _) in found.items() if label} == {30, 50, 70}
        assert {gray for gray, (_, kind) in found.items() if kind == "Bald"} == {30, 50, 70}
        assert torch.equal(task.train, load("celeba-Bald", faces).train)

    def test_an_unknown_attribute_is_refused_with_the_nearest(self, faces):
        assert "did you mean Smiling?" in refusal("celeba-Smile", faces)

    def test_a_face_that_is_not_there_is_named(self, faces):
        (faces / "img_align_celeba/000006.jpg").unlink()
        assert "000006.jpg" in refusal("celeba-Bald", faces)

    def test_a_face_without_partition_is_named(self, faces):
        path = faces / "list_eval_partition.txt"
        path.write_text(path.read_text().replace("000003.jpg 0\n", ""))
        assert "000003.jpg: is not in list_eval_partition.txt" in refusal("celeba-Bald", faces)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [("000002.jpg", "000001.jpg", "000001.jpg is listed twice"), (" 1", " 0", "values that are not -1 or 1")],
    )
    def test_damaged_attributes_are_refused(self, faces, old, new, said):
        path = faces / "list_attr_celeba.txt"
        path.write_text(path.read_text().replace(old, new))
        assert said in refusal("celeba-Bald", faces)

    def test_a_wrong_root_says_what_belongs_where(self, tmp_path):
        for root in (None, tmp_path, tmp_path / "absent"):
            said = refusal("celeba-Bald", root)
            assert "root must hold img_align_celeba/*.jpg, list_attr_celeba.txt and" in said
            assert "list_eval_partition.txt" in said
