"""Which failures are the machine's."""

import errno

import numpy as np
import pytest
import torch

from selector.zoo.machine import is_machine_failure


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((9, 9), np.dtype(float)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("can't start new thread"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_shortages_and_faults_of_devices_are_the_machines(error):
    assert is_machine_failure(error)
    wrapped = ValueError("could not be trained")
    wrapped.__cause__ = error
    assert is_machine_failure(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory, as a user's own part may say"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FloatingPointError("scores of the trained detector are not finite"),
        torch.linalg.LinAlgError("singular"),
    ],
)
def test_what_a_candidates_numbers_raise_is_its_own(error):
    assert not is_machine_failure(error)
