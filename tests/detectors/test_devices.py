from contextlib import nullcontext

import pytest
import torch

from augmentations import InputError
from detectors import devices


def have(monkeypatch, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, taken):
    have(monkeypatch, cuda, mps)
    assert devices.resolve_device("auto") == devices.resolve_device() == torch.device(taken)


def test_a_named_device_is_taken():
    assert devices.resolve_device("cpu") == torch.device("cpu")
    assert devices.resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:4711", 1.5, None], ids=str)
def test_refuses_what_this_machine_lacks(device):
    with pytest.raises(InputError, match="auto"):
        devices.resolve_device(device)


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_supports_bf16_on_a_cpu_that_has_it(monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert devices.supports_bf16(torch.device("cpu")) == (avx512 or amx)


def test_bf16_on_a_gpu_is_not_emulated(monkeypatch):
    requested = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: requested.append(including_emulation)
    )
    devices.supports_bf16(torch.device("cuda"))
    assert requested == [False]
    assert not devices.supports_bf16(torch.device("mps"))


@pytest.mark.parametrize("pays", [True, False])
def test_autocast_is_bf16_where_it_pays(monkeypatch, pays):
    monkeypatch.setattr(devices, "supports_bf16", lambda device: pays)
    with devices.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if pays else torch.float32)


def test_deterministic_holds_cudnn_to_it_and_lets_go():
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    with devices.deterministic(torch.device("cuda")):
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (
            True,
            False,
            True,
            False,
        )
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before
    assert isinstance(devices.deterministic(torch.device("cpu")), nullcontext)
