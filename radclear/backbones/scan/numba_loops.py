"""The forward scan as loops that numba compiles; imported only where numba is installed.

Legend: as in numba_kernel.py. Loops over LANES channels and over a constant number of states have constant
trip counts, which is what lets LLVM turn them into vector code.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LANES = 16
LOG2_E = np.float32(1.4426950408889634)
LN_2 = np.float32(0.6931471805599453)


def _reinterpret(result_type, llvm_type):
    """An intrinsic that reads the bits of a 32-bit number as another type."""

    @intrinsic
    def read_bits(typing_context, value):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], llvm_type)

        return result_type(value), generate

    return read_bits


_float_of_bits = _reinterpret(types.float32, ir.FloatType())
_bits_of_float = _reinterpret(types.int32, ir.IntType(32))

compiled = functools.partial(njit, nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")


@compiled
def exp2_of_negative(p):
    """2^p for p <= 0: nearest integer, polynomial on [-1/2, 1/2] (relative error 7.5e-8), exponent added."""
    p = np.float32(-126.0) if p < np.float32(-126.0) else p
    shifted = p + np.float32(12582912.0)  # 1.5 * 2^23 leaves round(p) in the low bits of the mantissa
    f = p - (shifted - np.float32(12582912.0))
    q = np.float32(1.327647203e-3) * f + np.float32(9.675541480e-3)
    q = q * f + np.float32(5.550713275e-2)
    q = q * f + np.float32(2.402211972e-1)
    q = q * f + np.float32(6.931469671e-1)
    q = q * f + np.float32(1.0)
    return _float_of_bits(np.int32(_bits_of_float(q) + np.int32(_bits_of_float(shifted) << 23)))


@compiled
def log1p_of_fraction(e):
    """log(1 + e) for 0 <= e <= 1, polynomial after Cephes logf; what 1 + e rounds away is put back."""
    one = np.float32(1.0)
    s = one + e
    lost = e - (s - one)
    exponent = np.int32((_bits_of_float(s) - np.int32(0x3F3504F3)) >> 23)
    m = _float_of_bits(np.int32(_bits_of_float(s) - np.int32(exponent << 23))) - one
    q = np.float32(7.0376836292e-2) * m + np.float32(-1.1514610310e-1)
    q = q * m + np.float32(1.1676998740e-1)
    q = q * m + np.float32(-1.2420140846e-1)
    q = q * m + np.float32(1.4249322787e-1)
    q = q * m + np.float32(-1.6668057665e-1)
    q = q * m + np.float32(2.0000714765e-1)
    q = q * m + np.float32(-2.4999993993e-1)
    q = q * m + np.float32(3.3333331174e-1)
    square = m * m
    log_m = m + (q * m * square - np.float32(0.5) * square)
    return log_m + np.float32(exponent) * LN_2 + lost * (one - np.float32(0.5) * e)


@compiled
def softplus(v):
    """max(v, 0) + log(1 + exp(-|v|))"""
    positive = np.float32(0.0) if v < np.float32(0.0) else v
    return positive + log1p_of_fraction(exp2_of_negative(-abs(v) * LOG2_E))


@functools.cache
def forward_blocks(constant_states: int):
    """The compiled scan for a number of states; 0 makes one for any number, at half the speed."""

    @compiled
    def scan(first_task, last_task, x, z, bc, rates, D, bias, height, width, chunk, y, saved):
        # One task is one channel block of one image. x, y (B, L, C), z (4, B, L, C), bc (B, L, 4, 2N), rates
        # (4, N, C) = A log2(e), saved (chunks or 0, 4, B, N, C). C is a multiple of LANES.
        length = height * width
        states = constant_states if constant_states > 0 else rates.shape[1]
        blocks = x.shape[2] // LANES
        h = np.empty((states, LANES), np.float32)
        rate = np.empty((states, LANES), np.float32)
        u = np.empty(chunk * LANES, np.float32)
        d = np.empty(chunk * LANES, np.float32)
        pixel = np.empty(chunk, np.int64)
        total = np.empty(LANES, np.float32)
        for task in range(first_task, last_task):
            b = task // blocks
            c = task % blocks * LANES
            for order in range(4):
                h[:] = np.float32(0.0)
                rate[:] = rates[order, :, c : c + LANES]
                for first in range(0, length, chunk):
                    count = min(chunk, length - first)
                    if saved.shape[0] > 0:
                        saved[first // chunk, order, b, :, c : c + LANES] = h
                    for s in range(count):
                        t = first + s if order < 2 else length - 1 - first - s
                        p = t if order % 2 == 0 else t % height * width + t // height
                        pixel[s] = p
                        for i in range(LANES):
                            u[s * LANES + i] = x[b, p, c + i]
                        for i in range(LANES):
                            d[s * LANES + i] = z[order, b, p, c + i] + bias[order, c + i]
                    for i in range(count * LANES):
                        d[i] = softplus(d[i])
                    for s in range(count):
                        p = pixel[s]
                        for i in range(LANES):
                            total[i] = u[s * LANES + i] * D[order, c + i]
                        for n in range(constant_states if constant_states > 0 else states):
                            b_n = bc[b, p, order, n]
                            c_n = bc[b, p, order, states + n]
                            for i in range(LANES):
                                d_i = d[s * LANES + i]
                                h_i = (
                                    exp2_of_negative(d_i * rate[n, i]) * h[n, i]
                                    + d_i * u[s * LANES + i] * b_n
                                )
                                h[n, i] = h_i
                                total[i] += h_i * c_n
                        if order == 0:
                            for i in range(LANES):
                                y[b, p, c + i] = total[i]
                        else:
                            for i in range(LANES):
                                y[b, p, c + i] += total[i]

    return scan
