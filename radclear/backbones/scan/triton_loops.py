"""The scan's Triton kernels; imported only where Triton is.

A program is one order of one image (axis 0: order * B + image) and one block of channels (axis 1), and
walks all pixels. Legend: B batch, L pixels, C channels, N states (STATES is N rounded up to a power of
two), BLOCK channels. Arrays are those of ss2d_scan.cpp: x, dy (B, L, C), z (4, B, L, C), bc (B, L, 4, 2N)
with strides, A (4, C, N).
"""

import triton
import triton.language as tl


@triton.jit
def _softplus(v):
    """max(v, 0) + log(1 + exp(-|v|)); what 1 + e rounds away is put back."""
    e = tl.exp(-tl.abs(v))
    s = 1.0 + e
    return tl.maximum(v, 0.0) + tl.log(s) + (e - (s - 1.0)) / s


@triton.jit
def _pixel(step, order, height, width):
    """Pixel at a step of an order."""
    t = tl.where(order >= 2, height * width - 1 - step, step)
    return tl.where(order % 2 == 1, (t % height) * width + t // height, t)


@triton.jit
def scan_forward(
    x, z, bc, A, D, bias, y, saved, batch, height, width, channels, states, bc_batch, bc_pixel, bc_order,
    KEEP: tl.constexpr, CHUNK: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y (4, B, L, C) of each order on its own; saved (chunks, 4, B, N, C) where KEEP."""
    part = tl.program_id(0).to(tl.int64)
    order = part // batch
    b = part % batch
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    in_c = c < channels
    in_n = n < states
    in_cn = in_c[:, None] & in_n[None, :]
    length = height * width
    rate = tl.load(A + (order * channels + c)[:, None] * states + n[None, :], mask=in_cn, other=0.0)
    rate = rate * 1.4426950408889634
    skip = tl.load(D + order * channels + c, mask=in_c, other=0.0)
    shift = tl.load(bias + order * channels + c, mask=in_c, other=0.0)
    at_states = n[None, :] * channels + c[:, None]
    h = tl.zeros((BLOCK, STATES), tl.float32)
    for step in range(0, length):
        if KEEP:
            if step % CHUNK == 0:
                chunk = saved + ((step // CHUNK) * 4 * batch + part) * states * channels
                tl.store(chunk + at_states, h, mask=in_cn)
        p = _pixel(step, order, height, width)
        u = tl.load(x + (b * length + p) * channels + c, mask=in_c, other=0.0)
        d = _softplus(tl.load(z + (part * length + p) * channels + c, mask=in_c, other=0.0) + shift)
        row = bc + b * bc_batch + p * bc_pixel + order * bc_order
        b_n = tl.load(row + n, mask=in_n, other=0.0)
        c_n = tl.load(row + states + n, mask=in_n, other=0.0)
        h = tl.exp2(d[:, None] * rate) * h + (d * u)[:, None] * b_n[None, :]
        total = tl.sum(h * c_n[None, :], 1) + u * skip
        tl.store(y + (part * length + p) * channels + c, total, mask=in_c)


@triton.jit
def scan_backward(
    x, z, bc, A, D, bias, dy, saved, before, dx, dz, dbc, dA, dD, dbias,
    batch, height, width, channels, states, bc_batch, bc_pixel, bc_order,
    CHUNK: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Chunks from the last to the first: rebuild the states of a chunk, then walk it backwards.

    Scratch: before (4B, blocks, CHUNK, BLOCK, STATES), the state before each step of the chunk.
    Out, each a part that the caller adds up: dx, dz (4, B, L, C), dbc (blocks, B, L, 4, 2N), dA (4, B, C, N),
    dD and dbias (4, B, C).
    """
    part = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    order = part // batch
    b = part % batch
    lane = tl.arange(0, BLOCK)
    c = block * BLOCK + lane
    n = tl.arange(0, STATES)
    in_c = c < channels
    in_n = n < states
    in_cn = in_c[:, None] & in_n[None, :]
    length = height * width
    a_at = (order * channels + c)[:, None] * states + n[None, :]
    a = tl.load(A + a_at, mask=in_cn, other=0.0)
    rate = a * 1.4426950408889634
    skip = tl.load(D + order * channels + c, mask=in_c, other=0.0)
    shift = tl.load(bias + order * channels + c, mask=in_c, other=0.0)
    at_states = n[None, :] * channels + c[:, None]
    scratch = before + (part * tl.num_programs(1) + block) * CHUNK * BLOCK * STATES
    scratch = scratch + lane[:, None] * STATES + n[None, :]
    g = tl.zeros((BLOCK, STATES), tl.float32)
    sum_a = tl.zeros((BLOCK, STATES), tl.float32)
    sum_d = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    chunks = (length + CHUNK - 1) // CHUNK
    for turn in range(0, chunks):
        chunk = chunks - 1 - turn
        first = chunk * CHUNK
        count = tl.minimum(length - first, CHUNK)
        h = tl.load(saved + (chunk * 4 * batch + part) * states * channels + at_states, mask=in_cn, other=0.0)
        for i in range(0, count):
            tl.store(scratch + i * BLOCK * STATES, h)
            p = _pixel(first + i, order, height, width)
            u = tl.load(x + (b * length + p) * channels + c, mask=in_c, other=0.0)
            d = _softplus(tl.load(z + (part * length + p) * channels + c, mask=in_c, other=0.0) + shift)
            row = bc + b * bc_batch + p * bc_pixel + order * bc_order
            b_n = tl.load(row + n, mask=in_n, other=0.0)
            h = tl.exp2(d[:, None] * rate) * h + (d * u)[:, None] * b_n[None, :]
        tl.debug_barrier()  # the loads below may give an element to another thread than the stores above
        for back in range(0, count):
            i = count - 1 - back
            p = _pixel(first + i, order, height, width)
            u = tl.load(x + (b * length + p) * channels + c, mask=in_c, other=0.0)
            v = tl.load(z + (part * length + p) * channels + c, mask=in_c, other=0.0) + shift
            grad = tl.load(dy + (b * length + p) * channels + c, mask=in_c, other=0.0)
            row = bc + b * bc_batch + p * bc_pixel + order * bc_order
            b_n = tl.load(row + n, mask=in_n, other=0.0)
            c_n = tl.load(row + states + n, mask=in_n, other=0.0)
            d = _softplus(v)
            decay = tl.exp2(d[:, None] * rate)
            old = tl.load(scratch + i * BLOCK * STATES)
            new = decay * old + (d * u)[:, None] * b_n[None, :]
            g = g + grad[:, None] * c_n[None, :]  # dL / dh_t
            out = dbc + (((block * batch + b) * length + p) * 4 + order) * 2 * states + n
            tl.store(out, tl.sum(g * (d * u)[:, None], 0), mask=in_n)
            tl.store(out + states, tl.sum(grad[:, None] * new, 0), mask=in_n)
            g_b = tl.sum(g * b_n[None, :], 1)
            g = g * decay  # its part for h_{t-1}
            w = g * old
            sum_a += w * d[:, None]
            e = tl.exp(-tl.abs(v))
            sigmoid = tl.where(v > 0, 1.0, e) / (1.0 + e)
            grad_z = (tl.sum(w * a, 1) + g_b * u) * sigmoid
            tl.store(dz + (part * length + p) * channels + c, grad_z, mask=in_c)
            tl.store(dx + (part * length + p) * channels + c, g_b * d + grad * skip, mask=in_c)
            sum_bias += grad_z
            sum_d += grad * u
        tl.debug_barrier()  # before the next chunk overwrites the scratch
    tl.store(dA + (part * channels + c)[:, None] * states + n[None, :], sum_a, mask=in_cn)
    tl.store(dD + part * channels + c, sum_d, mask=in_c)
    tl.store(dbias + part * channels + c, sum_bias, mask=in_c)
