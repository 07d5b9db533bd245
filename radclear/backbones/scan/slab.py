"""The scan in plain torch, a slab of steps at a time, with its own backward. Runs everywhere torch runs.

All decays exp(d A) and inputs d B u of a slab are computed at once, the recurrence then costs one fused
multiply-add per step. Rows are gathered from and added to the images slab by slab, so that everything of a
slab stays in the cache; only the states between slabs are kept for the backward, which rebuilds each slab.
Works in the precision of its arguments, so that float64 serves gradient checks.

Legend: B batch, L = height * width pixels, C channels, N states, 4 orders, n <= S = CHUNK steps of a
slab. States are (4, B, N, C): channels last, because they are the long axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.backbones.scan.orders import CHUNK, n_chunks, sequence_rows

KEEPS_STATES = True


def probe(device_type: str) -> None:
    """The slab scan needs nothing but torch: never raises."""


def prepare(device_type: str) -> None:
    """Nothing to prepare."""


def _rows_of_bc(rows: Tensor, batch: int, length: int) -> Tensor:
    """Rows in a flattened (B, L, 4, 2N) tensor of the steps that ``rows`` names in a (4, B, L, C) one."""
    images = batch * length
    return rows % images * 4 + rows // images


def _gather(images: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, 4, B) of a flattened tensor (-1, C): (n, 4, B, C)."""
    n, orders, batch = rows.shape
    return images.index_select(0, rows.flatten()).view(n, orders, batch, images.shape[1])


def _states_first(A: Tensor) -> Tensor:
    """(4, C, N) to (4, 1, N, C)."""
    return A.transpose(1, 2).contiguous().unsqueeze(1)


def _rates(A: Tensor) -> Tensor:
    """A log2(e) as (4, 1, N, C): exp(d A) = 2^(d rates)."""
    return _states_first(A) * 1.4426950408889634


def _add_rows(images: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add (n, 4, B, C) to rows (n, 4, B) of (-1, C), one order at a time: it meets each row once, so that the
    sum is the same in every run, on CUDA too."""
    channels = values.shape[3]
    for order in range(4):
        images.index_add_(0, rows[:, order].flatten(), values[:, order].reshape(-1, channels))


def _fill(
    decay: Tensor, state: Tensor, d: Tensor, du: Tensor, rates: Tensor, b: Tensor, before: Tensor
) -> None:
    """Compute one slab of decays and states.

    Args:
        decay: out, (n, 4, B, N, C): exp(d A).
        state: out, (n, 4, B, N, C): h after each step.
        d: (n, 4, B, C) time steps.
        du: (n, 4, B, C) time steps times input.
        rates: (4, 1, N, C): A log2(e), since torch's exp2 is four times as fast as its exp.
        b: (n, 4, B, N).
        before: (4, B, N, C) state before the slab.
    """
    torch.mul(d.unsqueeze(-2), rates, out=decay)
    decay.exp2_()
    torch.mul(du.unsqueeze(-2), b.unsqueeze(-1), out=state)
    decays = decay.unbind(0)
    states = state.unbind(0)
    states[0].addcmul_(decays[0], before)
    for i in range(1, len(states)):
        states[i].addcmul_(decays[i], states[i - 1])


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
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Scan; scriptable.

    Args:
        x: (B, L, C).
        dts: (4, B, L, C) before bias and softplus.
        bc: (B, L, 4, 2N): B, then C.
        A: (4, C, N), negative.
        D: (4, C).
        bias: (4, C).
        height: H.
        width: W.
        keep_states: return the states between chunks too.
        chunk: S; a parameter only because TorchScript reads no globals.

    Returns:
        y (B, L, C), and the state before each chunk (chunks, 4, B, N, C), empty (0,) unless asked for.
    """
    batch, length, channels = x.shape[0], x.shape[1], x.shape[2]
    n = A.shape[2]
    rows = sequence_rows(batch, height, width, x.device)
    x_rows = rows % (batch * length)
    bc_rows = _rows_of_bc(rows, batch, length)
    xs, zs, bcs = x.reshape(-1, channels), dts.reshape(-1, channels), bc.reshape(-1, 2 * n)
    rates = _rates(A)
    y = x.new_zeros([batch * length, channels])
    decay = x.new_empty([chunk, 4, batch, n, channels])
    state = torch.empty_like(decay)
    before = x.new_zeros([4, batch, n, channels])
    saved = x.new_empty([n_chunks(height, width), 4, batch, n, channels] if keep_states else [0])
    for first in range(0, length, chunk):
        last = min(first + chunk, length)
        if keep_states:
            saved[first // chunk] = before
        u = _gather(xs, x_rows[first:last])
        d = F.softplus(_gather(zs, rows[first:last]).add_(bias.unsqueeze(1)))
        b, c = _gather(bcs, bc_rows[first:last]).split(n, dim=-1)
        h = state[: last - first]
        _fill(decay[: last - first], h, d, d * u, rates, b, before)
        out = torch.matmul(c.unsqueeze(-2), h).squeeze(-2).addcmul_(u, D.unsqueeze(1))
        _add_rows(y, x_rows[first:last], out)
        before = h[last - first - 1].clone()
    return y.view(batch, length, channels), saved


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
    """Gradients of the scan, slab by slab from the last to the first.

    With g_t = dL/dh_t = dy_t C_t + exp(d_{t+1} A) g_{t+1} and w_t = g_t exp(d_t A) h_{t-1}:
    dC = dy h, dB = g d u, dA = sum w d, dd = sum_n (w A + g B u), du = sum_n g B d + dy D.

    Args:
        grad_y: (B, L, C).
        x, dts, bc, A, D, bias, height, width: as in :func:`forward`.
        saved: (chunks, 4, B, N, C) from any tier's forward with keep_states.

    Returns:
        Gradients of x, dts, bc, A, D, bias.
    """
    batch, length, channels = x.shape
    n = A.shape[2]
    rows = sequence_rows(batch, height, width, x.device)
    x_rows = rows % (batch * length)
    bc_rows = _rows_of_bc(rows, batch, length)
    xs, zs, bcs = x.reshape(-1, channels), dts.reshape(-1, channels), bc.reshape(-1, 2 * n)
    dys = grad_y.reshape(-1, channels)
    rates = _rates(A)
    grad_x, grad_z = torch.zeros_like(xs), torch.empty_like(zs)
    grad_bc = x.new_empty(batch * length * 4, 2 * n)
    grad_rates = x.new_zeros(4, n, channels)
    grad_D, grad_bias = torch.zeros_like(D), torch.zeros_like(bias)
    decay = x.new_empty(CHUNK, 4, batch, n, channels)
    state, grad = torch.empty_like(decay), torch.empty_like(decay)
    carried = x.new_zeros(4, batch, n, channels)
    for chunk in reversed(range(saved.shape[0])):
        first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, length)
        here = rows[first:last]
        u, dy = _gather(xs, x_rows[first:last]), _gather(dys, x_rows[first:last])
        z = _gather(zs, here).add_(bias.unsqueeze(1))
        b, c = _gather(bcs, bc_rows[first:last]).split(n, dim=-1)
        d = F.softplus(z)
        du = d * u
        a, h, g = decay[: last - first], state[: last - first], grad[: last - first]
        _fill(a, h, d, du, rates, b, saved[chunk])
        torch.mul(dy.unsqueeze(-2), c.unsqueeze(-1), out=g)
        decays, grads = a.unbind(0), g.unbind(0)
        grads[-1].add_(carried)
        for i in range(last - first - 2, -1, -1):
            grads[i].addcmul_(decays[i + 1], grads[i + 1])
        carried = decays[0] * grads[0]
        grad_c = torch.matmul(h, dy.unsqueeze(-1)).squeeze(-1)
        grad_b = torch.matmul(g, du.unsqueeze(-1)).squeeze(-1)
        grad_bc.index_copy_(
            0, bc_rows[first:last].flatten(), torch.cat([grad_b, grad_c], dim=-1).view(-1, 2 * n)
        )
        g_b = torch.matmul(b.unsqueeze(-2), g).squeeze(-2)
        a[1:].mul_(h[:-1])
        a[0].mul_(saved[chunk])
        w = a.mul_(g)
        grad_rates += torch.mul(w, d.unsqueeze(-2), out=h).sum((0, 2))
        grad_d = w.mul_(_states_first(A)).sum(-2).addcmul_(g_b, u)
        grad_z_here = grad_d.mul_(torch.sigmoid(z))
        grad_bias += grad_z_here.sum((0, 2))
        grad_D += (dy * u).sum((0, 2))
        grad_z.index_copy_(0, here.flatten(), grad_z_here.view(-1, channels))
        _add_rows(grad_x, x_rows[first:last], g_b.mul_(d).addcmul_(dy, D.unsqueeze(1)))
    return (
        grad_x.view_as(x),
        grad_z.view_as(dts),
        grad_bc.view(batch, length, 4, 2 * n),
        grad_rates.transpose(1, 2).contiguous(),
        grad_D,
        grad_bias,
    )
