"""Too little memory on a device, in whatever words its libraries say it, as one error with advice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from radclear.backbones.errors import DeviceMemoryError

# torch has a class of its own only for its CUDA allocator. Its CPU allocator, cuBLAS, cuDNN, the CUDA driver
# and our kernel say it in the text of a RuntimeError; oneDNN only says what it could not create, after it has
# accepted the shapes and types (which it would refuse as "a primitive descriptor").
_WORDS = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOC\w*|could not create a (primitive|memory object)$",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


@contextmanager
def told_when_memory_is_short(what: str, device: str | torch.device) -> Iterator[None]:
    """Say what did not fit where, and what to do, if memory runs short inside.

    Args:
        what: begins the sentence "… does not fit the memory of cuda:0".
        device: whose memory.

    Raises:
        DeviceMemoryError: in place of what the device's libraries raise; other errors are left alone.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, DeviceMemoryError) or not is_out_of_memory(error):
            raise
        if torch.device(device).type == "cuda":  # what torch holds for later use, others can take then
            torch.cuda.empty_cache()
        raise DeviceMemoryError(
            f"{what} does not fit the memory of {torch.device(device)}; free memory on it, choose a smaller "
            "backbone or a lower precision, or use another device"
        ) from error
