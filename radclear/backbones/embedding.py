"""Slices of a study through a backbone, in chunks, so that memory does not grow with the study."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from radclear.backbones.errors import DeviceMemoryError, EmbeddingError
from radclear.backbones.linear import keep_casts
from radclear.backbones.memory import told_when_memory_is_short
from radclear.backbones.precision import autocast, resolve_precision

logger = logging.getLogger(__name__)


def normalize_slices(x: Tensor) -> Tensor:
    """Grey slices to three channels with ImageNet's mean and standard deviation.

    Args:
        x: (n, S, S) or (n, 1, S, S) float in [0, 1].

    Returns:
        (n, 3, S, S) in the dtype of x, channels-last in memory.
    """
    if x.dim() == 4:
        x = x.squeeze(1)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=x.dtype, device=x.device)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=x.dtype, device=x.device)
    return ((x.unsqueeze(-1) - mean) / deviation).permute(0, 3, 1, 2)


def embed_slices(
    backbone: nn.Module,
    slices: Tensor,
    *,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    batch_size: int = 8,
    progress: Callable[[int], object] | None = None,
    on_smaller_batch: Callable[[int], object] | None = None,
) -> Tensor:
    """Embeddings of all windows of all slices; the backbone is moved to `device` and evaluated.

    Args:
        backbone: module with `embed`, `embedding_dim` and `image_size`; its training mode is restored.
        slices: (W, Z, S, S) uint8 grey levels of W windows of Z slices, on any device.
        device: where the backbone computes.
        precision: see `resolve_precision`.
        batch_size: instances per forward pass; halved, and logged, where memory does not suffice.
        progress: called with the number of instances done, after every chunk.
        on_smaller_batch: called with the new batch size, where memory did not suffice.

    Returns:
        (Z·W, d) float32 on the CPU; instance z·W + w is window w of slice z.

    Raises:
        EmbeddingError: slices of another shape or type, or embeddings that are not finite.
        DeviceMemoryError: a single slice does not fit the device, or the backbone's weights do not.
        PrecisionError: the device lacks the precision.
    """
    _check(backbone, slices, batch_size)
    dtype = resolve_precision(precision, device)
    windows, count = slices.shape[0], slices.shape[0] * slices.shape[1]
    ordered = slices.transpose(0, 1)
    embeddings = torch.empty(count, backbone.embedding_dim)
    with told_when_memory_is_short("the backbone", device):
        backbone.to(device)
    done = 0
    with _evaluating(backbone), torch.inference_mode(), autocast(device, dtype), keep_casts():
        while done < count:
            size = min(batch_size, count - done)
            instance = torch.arange(done, done + size, device=slices.device)
            try:
                with told_when_memory_is_short("one slice", device):
                    chunk = ordered[instance // windows, instance % windows]
                    embeddings[done : done + size] = _embed_chunk(backbone, chunk, device)
            except DeviceMemoryError:
                if size == 1:
                    raise
                batch_size = size // 2
                logger.warning(
                    "out of memory with %d slices at once on %s; going on with %d", size, device, batch_size
                )
                if on_smaller_batch is not None:
                    on_smaller_batch(batch_size)
            else:
                done += size
                if progress is not None:
                    progress(done)
                continue
            gc.collect()  # cycles through the error's traceback hold the tensors that were too many
    _check_finite(embeddings, windows, dtype)
    # A tensor of inference mode could not take part in training; this one was made outside.
    return embeddings


def _embed_chunk(backbone: nn.Module, chunk: Tensor, device: str | torch.device) -> Tensor:
    grey = chunk.to(device, non_blocking=True).float().div_(255)
    return backbone.embed(normalize_slices(grey)).float().cpu()


def _check(backbone: nn.Module, slices: Tensor, batch_size: int) -> None:
    if slices.dim() != 4 or slices.shape[2] != slices.shape[3] or slices.dtype != torch.uint8:
        raise EmbeddingError(
            f"expected uint8 slices of shape (windows, slices, side, side), found {slices.dtype} of shape "
            f"{tuple(slices.shape)}; make them with radclear.ct.slice_stack"
        )
    if slices.shape[2] != backbone.image_size:
        raise EmbeddingError(
            f"the backbone takes slices of side {backbone.image_size}, found {slices.shape[2]}; resize "
            f"with radclear.ct.slice_stack(study, size={backbone.image_size})"
        )
    if batch_size < 1:
        raise EmbeddingError(f"batch_size must be at least 1, found {batch_size}")


def _check_finite(embeddings: Tensor, windows: int, dtype: torch.dtype) -> None:
    broken = (~torch.isfinite(embeddings).all(dim=1)).nonzero().flatten()
    if len(broken):
        places = ", ".join(
            f"slice {index // windows} window {index % windows}" for index in broken[:5].tolist()
        )
        raise EmbeddingError(
            f"{len(broken)} of {len(embeddings)} embeddings are not finite in {dtype} ({places}); "
            + ("use precision='float32'" if dtype != torch.float32 else "the backbone's weights are damaged")
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every submodule's own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
