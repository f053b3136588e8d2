import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from augmentations import InputError
from detectors.encoders import weights


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "wrapped", "legacy"])
def test_weights_are_read_from_what_people_save(network, suffix, tmp_path):
    path, tensors = tmp_path / f"weights.{suffix}", network.state_dict()
    if suffix == "safetensors":
        save_file(tensors, path)
    else:
        content = {"state_dict": tensors, "epoch": 3} if suffix == "wrapped" else tensors
        torch.save(content, path, _use_new_zipfile_serialization=suffix != "legacy")
    found = weights.read(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def truncated(path, network):
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


def truncated_legacy(path, network):
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-20])


def cut_safetensors(path, network):
    save_file(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-20])


def code(path, network):
    torch.save({"weights": Code()}, path)


def bare_pickle(path, network):
    path.write_bytes(pickle.dumps(Code()))


def whole_network(path, network):
    torch.save(network, path)


def web_page(path, network):
    path.write_text("<!DOCTYPE html><title>404</title>")


def numbers(path, network):
    torch.save({"epoch": 3}, path)


@pytest.mark.parametrize(
    ("make", "suffix", "message"),
    [
        (truncated, "pth", "can't be read as weights"),
        (truncated_legacy, "pth", "can't be read as weights"),
        (cut_safetensors, "safetensors", "can't be read as weights"),
        (code, "pth", "holds pickled code"),
        (bare_pickle, "pth", "holds pickled code"),
        (whole_network, "pth", "holds pickled code"),
        (web_page, "pth", "can't be read as weights"),
        (web_page, "safetensors", "can't be read as weights"),
        (numbers, "pth", "holds no tensors by name"),
        (lambda path, network: None, "pth", "does not exist"),
        (lambda path, network: path.mkdir(), "pth", "does not exist, or is no file"),
        (lambda path, network: path.touch(), "pth", "can't be read as weights"),
    ],
)
def test_files_that_are_no_weights(make, suffix, message, network, tmp_path, capsys):
    path = tmp_path / f"weights.{suffix}"
    make(path, network)
    with pytest.raises(InputError, match=message) as refused:
        weights.read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "never be printed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("0.bias"), "without 0.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "with unknown extra"),
        (lambda tensors: tensors.update({"0.bias": torch.zeros(3)}), "with 0.bias 3 instead of 2"),
    ],
)
def test_another_architecture_is_refused_and_changes_nothing(change, message, network, tmp_path):
    tensors = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change(tensors)
    with pytest.raises(InputError, match=f"another architecture than mine: {message}"):
        weights.load(network, tensors, tmp_path / "it.pth", "mine")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_count_of_batches_may_be_missing(network, tmp_path):
    tensors = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    weights.load(network, tensors, tmp_path / "it.pth", "mine")


def test_in_order_other_names_fit_and_other_shapes_do_not(network, tmp_path):
    tensors = {f"their.{i}": tensor + 1 for i, tensor in enumerate(list(network.state_dict().values())[:-1])}
    weights.load_in_order(network, tensors, tmp_path / "it.pth", "mine")
    assert network[1].running_mean.tolist() == [1, 1]
    with pytest.raises(InputError, match="5 tensors instead of 6"):
        weights.load_in_order(network, dict(list(tensors.items())[:-1]), tmp_path / "it.pth", "mine")
    with pytest.raises(InputError, match="instead of"):
        weights.load_in_order(network, dict(reversed(tensors.items())), tmp_path / "it.pth", "mine")


def test_a_changed_file_has_another_hash(tmp_path):
    path = tmp_path / "it.pth"
    path.write_bytes(b"weights")
    first = weights.sha256_of(path)
    assert weights.verify(path, first[:10].upper()) == first
    path.write_bytes(b"other weights")
    with pytest.raises(InputError, match="has the SHA-256"):
        weights.verify(path, first)


def test_hash_in_name(tmp_path):
    assert weights.hash_in_name(tmp_path / "resnet18-f37072fd.pth") == "f37072fd"
    assert weights.hash_in_name(tmp_path / "resnet18-best.pth") == ""
