"""Checksums of JSON and tensors."""

import json

import pytest
import torch

from augmentations import InputError
from detectors import files
from detectors.checksums import parse_json, with_checksum, without_checksum


def test_round_trip():
    value = {"b": [1.5, None], "a": {"c": "ä"}}
    assert without_checksum(json.loads(json.dumps(with_checksum(value)))) == value
    assert with_checksum(with_checksum(value)) == with_checksum(value)


@pytest.mark.parametrize("change", [{"a": 2}, {"b": 1}])
def test_what_changed_is_refused(change):
    with pytest.raises(ValueError, match="does not match"):
        without_checksum({**with_checksum({"a": 1}), **change})


@pytest.mark.parametrize("value", [[], {}, {"a": 1}, None])
def test_what_has_none_is_refused(value):
    with pytest.raises(ValueError, match="no checksum"):
        without_checksum(value)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000])
def test_deep_nesting_is_an_error_of_the_text(content):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(content)


def test_every_flipped_byte_of_a_file_is_noticed(tmp_path):
    path = files.write(tmp_path / "file", {"a": torch.arange(3.0), "b": torch.tensor(7)}, {"name": "x"})
    whole = path.read_bytes()
    expected, settings = files.read_own(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            tensors, read = files.read_own(path)
        except InputError:
            continue
        assert read == settings  # a space of padding, and nothing that was read
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
