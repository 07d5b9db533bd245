"""The scan as a torch operator, so that autograd, torch.compile and export see one opaque step.

The operators choose their tier when they run. All tiers keep the same states for the backward, so that any
tier's backward can follow any tier's forward.
"""

# No postponed annotations here: torch.library reads the signatures.
import torch
from torch import Tensor

from radclear.backbones.scan import dispatch
from radclear.backbones.scan.orders import n_chunks


@torch.library.custom_op("radclear::selective_scan_2d", mutates_args=())
def scan_forward(
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
    """Forward of the chosen tier; shapes as in :func:`radclear.backbones.scan.slab.forward`."""
    with torch.autocast(x.device.type, enabled=False):
        return dispatch.choose(x.device.type).forward(x, dts, bc, A, D, bias, height, width, keep_states)


@scan_forward.register_fake
def _(x, dts, bc, A, D, bias, height, width, keep_states):
    batch, _, channels = x.shape
    shape = (n_chunks(height, width), 4, batch, A.shape[2], channels) if keep_states else (0,)
    return A.new_empty(x.shape), A.new_empty(shape)


@torch.library.custom_op("radclear::selective_scan_2d_backward", mutates_args=())
def scan_backward(
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
    """Backward of the chosen tier; shapes as in :func:`radclear.backbones.scan.slab.backward`."""
    tier = dispatch.choose(x.device.type)
    if tier.KEEPS_STATES and saved.numel() == 0 and x.numel() > 0:
        raise RuntimeError(
            "the scan's forward kept no states for this backward: call it with keep_states=True"
        )
    with torch.autocast(x.device.type, enabled=False):
        return tier.backward(grad_y, x, dts, bc, A, D, bias, saved, height, width)


@scan_backward.register_fake
def _(grad_y, x, dts, bc, A, D, bias, saved, height, width):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (x, dts, bc, A, D, bias))


def _setup_context(ctx, inputs, output):
    x, dts, bc, A, D, bias, ctx.height, ctx.width, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, dts, bc, A, D, bias, output[1])


def _backward(ctx, grad_y, grad_states):
    if grad_y is None:
        return (None,) * 9
    *inputs, saved = ctx.saved_tensors
    return (*scan_backward(grad_y, *inputs, saved, ctx.height, ctx.width), None, None, None)


scan_forward.register_autograd(_backward, setup_context=_setup_context)
