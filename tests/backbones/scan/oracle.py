"""The scan as a reader of its definition would write it: a pixel at a time, in float64, by autograd."""

from __future__ import annotations

import torch

TENSORS = ("x", "dts", "bc", "A", "D", "bias")


def pixel_orders(height, width):
    """The four lists of pixel indices."""
    grid = torch.arange(height * width).reshape(height, width)
    rows, columns = grid.flatten().tolist(), grid.T.flatten().tolist()
    return [rows, columns, rows[::-1], columns[::-1]]


def naive_scan_2d(x, dts, bc, A, D, bias, height, width):
    """(B, L, C) in the precision of the arguments."""
    states = A.shape[-1]
    result = torch.zeros_like(x)
    for k, order in enumerate(pixel_orders(height, width)):
        h = torch.zeros(x.shape[0], x.shape[2], states, dtype=x.dtype)
        pixels = []
        for p in order:
            d = torch.logaddexp(dts[k, :, p] + bias[k], torch.zeros((), dtype=x.dtype))
            b, c = bc[:, p, k, :states], bc[:, p, k, states:]
            h = torch.exp(d[..., None] * A[k]) * h + (d * x[:, p])[..., None] * b[:, None]
            pixels.append((h * c[:, None]).sum(-1) + D[k] * x[:, p])
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        result = result + torch.stack(pixels, dim=1)[:, back]
    return result


def scan_inputs(*, batch, height, width, channels, states, seed=0, dtype=torch.float32):
    """Random arguments of the scan, time steps and decays in the range that trained models have."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    length = height * width
    tensors = (
        normal(batch, length, channels),
        normal(4, batch, length, channels),
        normal(batch, length, 4, 2 * states),
        -torch.rand((4, channels, states), generator=generator, dtype=torch.float64) * states - 0.1,
        normal(4, channels),
        normal(4, channels) - 2,
    )
    return tuple(tensor.to(dtype) for tensor in tensors)


def factor_inputs(*, rank, seed=1, **shape):
    """x and a projection in bfloat16, the time steps' weight, A, D and bias: for the scan from factors."""
    x, _, bc, A, D, bias = scan_inputs(**shape)
    generator = torch.Generator().manual_seed(seed)
    low_rank = torch.randn(*bc.shape[:3], rank, generator=generator)
    weight = torch.randn(4, x.shape[2], rank, generator=generator) * rank**-0.5
    return x.bfloat16(), torch.cat([low_rank, bc], dim=-1).bfloat16(), weight, A, D, bias


def naive_scan_of_factors(x, projection, weight, A, D, bias, height, width):
    """The loop in float64 on the same values, time steps multiplied out before it."""
    x, projection, weight, A, D, bias = (tensor.double() for tensor in (x, projection, weight, A, D, bias))
    rank = weight.shape[2]
    dts = torch.einsum("blkr,kcr->kblc", projection[..., :rank], weight)
    return naive_scan_2d(x, dts, projection[..., rank:], A, D, bias, height, width)


def with_gradients(function, inputs, height, width, grad_y):
    """Result and the six gradients of a scan function."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y = function(*leaves, height, width)
    return y.detach(), torch.autograd.grad(y, leaves, grad_y.to(y.dtype))


def relative_error(value, reference):
    """Largest difference over the largest reference value."""
    return ((value.double() - reference.double()).abs().max() / reference.double().abs().max()).item()
