"""Too little memory: known by the words of each library, and met for real under a limit of the system."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from radclear.backbones import DeviceMemoryError, told_when_memory_is_short
from radclear.backbones.memory import is_out_of_memory

#: As torch 2.4 to 2.9 print them.
SAID = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("could not create a primitive"),
    MemoryError("std::bad_alloc"),
)
OTHERS = (
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    RuntimeError("could not create a primitive descriptor for the matmul primitive"),
    ValueError("out of memory"),
)


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:40])
def test_too_little_memory_is_one_error_with_advice(error):
    assert is_out_of_memory(error)
    with (
        pytest.raises(DeviceMemoryError, match="^one slice does not fit the memory of cpu; .*another device"),
        told_when_memory_is_short("one slice", "cpu"),
    ):
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:40])
def test_other_errors_stay_what_they_are(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, told_when_memory_is_short("one slice", "cpu"):
        raise error
    assert caught.value is error


def test_what_was_told_already_is_not_told_again():
    first = DeviceMemoryError("one slice does not fit the memory of cpu")
    with pytest.raises(DeviceMemoryError) as caught, told_when_memory_is_short("the study", "cpu"):
        raise first
    assert caught.value is first


def test_torch_says_what_the_list_says():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


#: After one slice, the process may take 64 MiB more.
LIMITED = """
import json, resource, sys
import torch
from radclear.backbones import build, embed_slices

torch.manual_seed(0)
torch.set_num_threads(1)
backbone = build(sys.argv[1], image_size=112).eval()
slices = torch.randint(0, 256, (1, 128, 112, 112), dtype=torch.uint8)
expected = embed_slices(backbone, slices, precision="float32", batch_size=1)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sizes = []
found = embed_slices(backbone, slices, precision="float32", batch_size=128, on_smaller_batch=sizes.append)
print(json.dumps([sizes, float((found - expected).abs().max() / expected.abs().max())]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("name", ["vit_nano", "vssm_nano", "mambaout_nano"])
def test_a_real_lack_of_memory_is_met_with_smaller_batches(name):
    done = subprocess.run([sys.executable, "-c", LIMITED, name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    sizes, difference = json.loads(done.stdout)
    assert sizes[0] == 64 and difference < 1e-5, (sizes, difference)
