"""The scan compiled by numba, for machines without a C++ compiler; its backward is the slab's.

Threads share the tasks and run without the interpreter lock, so that no threading layer of numba is involved.
Legend: B batch, L pixels, C channels, N states, 4 orders, a task is one block of 16 channels of one image.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.orders import CHUNK, n_chunks
from radclear.backbones.scan.slab import backward as backward  # float32 states of this forward fit it
from radclear.errors import MissingDependencyError

KEEPS_STATES = True
CONSTANT_STATES = (1, 16)  # compiled for the number; others run a general loop
RANGES_PER_THREAD = 4


def probe(device_type: str) -> None:
    """Say without importing numba whether it can run.

    Raises:
        MissingDependencyError: numba is not installed.
        ScanUnavailableError: not the CPU.
    """
    if device_type != "cpu":
        raise ScanUnavailableError(f"the numba kernel runs on cpu, not on {device_type}")
    if importlib.util.find_spec("numba") is None:
        raise MissingDependencyError("numba", purpose="run the scan's numba tier", install="radclear[numba]")


def prepare(device_type: str) -> None:
    """Import numba; kernels are compiled at the first call with their number of states.

    Raises:
        ScanUnavailableError: as :func:`probe`, or numba does not import here.
    """
    probe(device_type)
    try:
        import radclear.backbones.scan.numba_loops  # noqa: F401
    except Exception as error:  # numba refuses unknown numpy versions with errors of several types
        raise ScanUnavailableError(f"numba is installed but does not import: {error}") from error


def forward(
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
    keep_states: bool,
) -> tuple[Tensor, Tensor]:
    """Scan; arguments and results as in :func:`radclear.backbones.scan.slab.forward`, float32 only."""
    from radclear.backbones.scan.numba_loops import LANES, LOG2_E, forward_blocks

    if x.dtype != torch.float32:
        raise TypeError(f"the numba kernel computes in float32, got {x.dtype}; the slab scan takes {x.dtype}")
    batch, _, channels = x.shape
    states = A.shape[2]
    padding = (0, -channels % LANES)  # channels of zeros, whose results are cut off again
    rates = F.pad(A.transpose(1, 2) * float(LOG2_E), padding)
    padded = [F.pad(tensor, padding) if padding[1] else tensor for tensor in (x, dts, D, bias)]
    x_padded = padded[0]
    y = torch.empty_like(x_padded, memory_format=torch.contiguous_format)
    shape = (n_chunks(height, width) if keep_states else 0, 4, batch, states, y.shape[2])
    saved = x.new_empty(shape)

    def array(tensor: Tensor):
        return tensor.detach().contiguous().numpy()

    arrays = [array(tensor) for tensor in (padded[0], padded[1], bc, rates, padded[2], padded[3])]
    scan = forward_blocks(states if states in CONSTANT_STATES else 0)
    tasks = batch * (y.shape[2] // LANES)
    threads = max(1, min(torch.get_num_threads(), tasks))
    edges = [tasks * i // (threads * RANGES_PER_THREAD) for i in range(threads * RANGES_PER_THREAD + 1)]

    def run(index: int) -> None:
        scan(edges[index], edges[index + 1], *arrays, height, width, CHUNK, y.numpy(), saved.numpy())

    if threads == 1:
        scan(0, tasks, *arrays, height, width, CHUNK, y.numpy(), saved.numpy())
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(len(edges) - 1)))
    y = y[..., :channels].contiguous()
    return y, saved[..., :channels].contiguous() if keep_states else x.new_empty(0)
