"""Files of grids: the arguments of a selection, written down."""

import json

import pytest

from augmentations import InputError
from detectors import Preset
from selector.zoo.grid_file import ENCODER_EXAMPLE, EXAMPLE, parse_encoder, read_grid_file
from selector.zoo.plan import Plan

TOML = """
detectors = ["classifier"]
encoder = "unpadded"
[augmentations]
cutout = [{ area = [0.02, 0.1] }, {}]
[scorers]
gaussian = [{}]
"""


def test_toml_and_json_say_the_same(tmp_path):
    toml, text = tmp_path / "grid.toml", tmp_path / "grid.json"
    toml.write_text(TOML)
    grids = read_grid_file(toml)
    assert grids == {
        "detectors": ["classifier"],
        "encoder": "unpadded",
        "augmentations": {"cutout": [{"area": [0.02, 0.1]}, {}]},
        "scorers": {"gaussian": [{}]},
    }
    text.write_text(json.dumps(grids))
    assert read_grid_file(text) == grids
    plan = Plan.of(grids["augmentations"], grids["detectors"], grids["scorers"], Preset("small", 32, (8,), 3, 4))
    assert len(plan.candidates(0)) == 2


def test_the_example_of_the_messages_can_be_read(tmp_path):
    path = tmp_path / "grid.json"
    path.write_text(EXAMPLE)
    assert list(read_grid_file(path)) == ["augmentations"]


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("grid.json", b"{", "is neither JSON nor TOML"),
        ("grid.json", b"\xff\xfe", "is neither JSON nor TOML"),
        ("grid.toml", b"[augmentations", "is neither JSON nor TOML"),
        ("grid.json", b"[]", "must hold tables named"),
        ("grid.json", b"{}", "must hold tables named"),
        ("grid.json", b'{"augmentation": {}}', "must hold tables named"),
        ("grid.json", b'{"encoder": ["lite0"]}', "grid.json: encoder: must be a name, or a table"),
        ("grid.json", b'{"augmentations": "cutout"}', "grid.json: augmentations: must map names to lists"),
    ],
)
def test_what_is_no_file_of_grids_is_refused(tmp_path, name, content, rule):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rule):
        read_grid_file(tmp_path / name)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_grid_file(tmp_path / "grid.json")


def test_an_encoder_as_an_option_is_a_name_or_json(tmp_path):
    assert parse_encoder("torchvision/resnet18") == "torchvision/resnet18"
    given = {"name": "torchvision/resnet18", "weights": "resnet18.pth", "layers": ["layer2", "layer3"]}
    assert parse_encoder(ENCODER_EXAMPLE) == given
    (tmp_path / "grid.json").write_text(f'{{"encoder": {ENCODER_EXAMPLE}}}')
    assert read_grid_file(tmp_path / "grid.json") == {"encoder": given}


@pytest.mark.parametrize(("text", "rule"), [('{"name": ', "is no JSON"), ('["lite0"]', "must be a name or a JSON obj")])
def test_an_option_that_is_no_encoder_is_refused(text, rule):
    with pytest.raises(InputError, match=rule):
        parse_encoder(text)


@pytest.mark.parametrize(("name", "content"), [("grid.json", b"[" * 100_000), ("grid.toml", b"a = " + b"[" * 5000)])
def test_deep_nesting_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="nested too deeply"):
        read_grid_file(tmp_path / name)
