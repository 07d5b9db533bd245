"""The scan through mamba-ssm's CUDA extension, one call for the four orders.

The probe is ``import selective_scan_cuda``, since the package mamba_ssm can be installed without its
kernel. The extension is called directly, as mamba_ssm 2.2 and 2.3 call it; in float32, since 16 bits in and
out give NaN. Legend: B batch, L pixels, C channels, N states, 4 orders; the extension's layout is (B, 4C,
L), groups of C channels.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.orders import n_chunks, to_images, to_sequences
from radclear.errors import MissingDependencyError

KEEPS_STATES = False  # the extension keeps others, every 2048 steps: its forward is run again in the backward
EXTENSION = "selective_scan_cuda"


def probe(device_type: str) -> None:
    """Say whether the extension can run.

    Raises:
        MissingDependencyError: the extension is not installed.
        ScanUnavailableError: not CUDA, or the extension does not import.
    """
    if device_type != "cuda":
        raise ScanUnavailableError(f"mamba-ssm's kernel runs on cuda, not on {device_type}")
    if not torch.cuda.is_available():
        raise ScanUnavailableError("torch sees no CUDA device")
    if importlib.util.find_spec(EXTENSION) is None:
        raise MissingDependencyError(
            EXTENSION,
            purpose="run the scan's mamba tier (install torch first, and add --no-build-isolation)",
            install="radclear[mamba]",
        )
    try:
        import selective_scan_cuda  # noqa: F401
    except ImportError as error:  # built for another torch
        raise ScanUnavailableError(f"{EXTENSION} is installed but does not import: {error}") from error


def prepare(device_type: str) -> None:
    """Nothing beyond :func:`probe`."""
    probe(device_type)


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
    """Scan; arguments and results as in :func:`radclear.backbones.scan.slab.forward`.

    With keep_states (only torch.compile asks) the states have their shape and no meaning: this tier's
    backward does not read them.
    """
    import selective_scan_cuda

    y = selective_scan_cuda.fwd(*_arguments(x, dts, bc, A, D, bias, height, width), True)[0]
    batch, _, channels = x.shape
    shape = (n_chunks(height, width), 4, batch, A.shape[2], channels) if keep_states else (0,)
    return to_images(_to_steps(y, batch), height, width).sum(0), x.new_empty(shape)


def backward(
    grad_y: Tensor,
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    saved: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients; arguments and results as in :func:`radclear.backbones.scan.slab.backward`; saved unread."""
    import selective_scan_cuda

    batch, length, channels = x.shape
    arguments = _arguments(x, dts, bc, A, D, bias, height, width)
    states = selective_scan_cuda.fwd(*arguments, True)[1]
    dy = _to_channels(to_sequences(grad_y.unsqueeze(0).expand(4, -1, -1, -1), height, width))
    du, dz, dA, dB, dC, dD, dbias, *_ = selective_scan_cuda.bwd(
        *arguments, dy, states, None, None, True, False
    )  # (no gate's output, no gate's gradient, softplus on the time steps, do not recompute the gate)
    grad_bc = torch.cat([dB, dC], dim=2).permute(3, 1, 0, 2)  # (B, 4, 2N, L) to (L, 4, B, 2N)
    return (
        to_images(_to_steps(du, batch), height, width).sum(0),
        to_images(_to_steps(dz, batch), height, width),
        to_images(grad_bc, height, width).permute(1, 2, 0, 3).contiguous(),
        dA.view(4, channels, -1),
        dD.view(4, channels),
        dbias.view(4, channels),
    )


def _arguments(
    x: Tensor, dts: Tensor, bc: Tensor, A: Tensor, D: Tensor, bias: Tensor, height: int, width: int
) -> tuple[Tensor | None, ...]:
    """u, delta, A, B, C, D, no gate, bias in the extension's layout."""
    u = to_sequences(x.unsqueeze(0).expand(4, -1, -1, -1), height, width)
    delta = to_sequences(dts, height, width)
    b, c = (
        to_sequences(bc.permute(2, 0, 1, 3), height, width).permute(2, 1, 3, 0).chunk(2, dim=2)
    )  # (B, 4, N, L)
    return (
        _to_channels(u),
        _to_channels(delta),
        A.flatten(0, 1).contiguous(),
        b.contiguous(),
        c.contiguous(),
        D.flatten().contiguous(),
        None,
        bias.flatten().contiguous(),
    )


def _to_channels(sequences: Tensor) -> Tensor:
    """(L, 4, B, C) to (B, 4C, L), contiguous."""
    return sequences.permute(2, 1, 3, 0).flatten(1, 2).contiguous()


def _to_steps(channels: Tensor, batch: int) -> Tensor:
    """(B, 4C, L) to (L, 4, B, C)."""
    return channels.view(batch, 4, -1, channels.shape[-1]).permute(3, 1, 0, 2)
