"""A linear map in 16-bit integers: twice the multiplications per instruction of single precision.

Each row x of the input and each output channel w of the weight is scaled to 12-bit integers,

    q(x) = round(2047 x / max|x|),      y = (max|x| / 2047) (max|w| / 2047) q(x)·q(w) + b,

and the inner products are taken exactly in 32-bit integers, in blocks of at most 512 terms, since
2047² · 512 < 2³¹: they cannot overflow. The relative error of a product is about 1e-3; through the
six layers of MiniLM that leaves 1 − cos below 1e-4 (8-bit integers leave up to 8e-3, too much).

Because a row is quantised on its own and integer sums have no rounding, **a row's result does not
depend on the other rows in its batch**, bit for bit.

The inner loop is one x86 instruction, ``vpmaddwd`` (AVX2: sixteen products and eight sums), which
no array library offers; it is written here as LLVM code that numba compiles. Where the processor
has no AVX2, or has AVX-512 (single precision is then as fast), `is_worthwhile` says so and callers
use single precision.

Tiles: 6 rows × 16 channels are twelve registers of sums, two of weights, one of input. Weights lie
as panels of 16 channels, ``panels[panel, term, :]`` with pairs of terms interleaved, 32 bytes to a
register.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

LEVELS = 2047  # the largest integer that a value becomes: 12 bits with the sign
BLOCK = 512  # terms summed in 32-bit integers: LEVELS² · BLOCK < 2³¹
ROWS, CHANNELS = 6, 16  # one tile
NEAR_ROWS = 48  # rows that meet every panel before the next rows do: their memory pages stay near


@functools.cache
def is_worthwhile() -> bool:
    """Whether this processor multiplies 16-bit integers faster than single precision."""
    if binding.get_process_triple().split("-")[0] != "x86_64":
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avx2")) and not features.get("avx512f")


class Int16Linear:
    """y = x Wᵀ + b with W held as 12-bit integers.

    Args:
        weight: float32 ``[channels, terms]``; channels a multiple of 16, terms a multiple of 4.
        bias: float32 ``[channels]``.

    Raises:
        ValueError: Where the shape does not fit whole tiles (`fits` tells beforehand).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        if not self.fits(weight):
            raise ValueError(
                f"an Int16Linear needs channels in 16s and terms in 4s, not {tuple(weight.shape)}"
            )
        w = weight.detach().numpy()
        scale = np.maximum(np.abs(w).max(axis=1), np.float32(1e-30)) / np.float32(LEVELS)
        self.panels = _panels(np.rint(w / scale[:, None]).astype(np.int16))
        self.scale = scale
        self.bias = np.ascontiguousarray(bias.detach().numpy())

    @staticmethod
    def fits(weight: Tensor) -> bool:
        """Whether a weight of this shape divides into whole tiles."""
        channels, terms = weight.shape
        return channels % CHANNELS == 0 and terms % 4 == 0

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to float32 rows ``[rows, terms]`` (contiguous); returns ``[rows, channels]``.

        Cost: rows · channels · terms / 16 multiply instructions; releases the interpreter lock.
        """
        out = _linear(x.numpy(), self.panels, self.scale, self.bias)
        return torch.from_numpy(out)[: len(x)]


def _panels(q: np.ndarray) -> np.ndarray:
    """Reorder ``[channels, terms]`` to ``[panels, terms / 2, 16, 2]``, aligned to 64 bytes."""
    channels, terms = q.shape
    buffer = np.empty(q.size + 32, np.int16)
    start = (-buffer.ctypes.data % 64) // 2
    panels = buffer[start : start + q.size].reshape(channels // CHANNELS, terms // 2, CHANNELS, 2)
    panels[...] = q.reshape(channels // CHANNELS, CHANNELS, terms // 2, 2).transpose(0, 2, 1, 3)
    return panels


def _type_tile(typingctx: Any, numbers: Any) -> Any:  # noqa: ARG001
    """One tile of y: for 6 rows r and 16 channels c,

        out[r, c] = base[r, c] + scales[r] · channel_scales[c] · Σ_k rows[r, k] panel[k, c].

    Its argument is a tuple of int64, addresses and strides in elements: rows, row stride, panel,
    number of pairs of terms (even), scales, channel_scales, base, base stride, out, out stride.
    """
    return types.void(numbers), _emit_tile


def _emit_tile(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
    """The LLVM code of `_tile`: a loop over pairs of terms, unrolled twice, then the scaling."""
    del signature
    numbers = [b.extract_value(arguments[0], i) for i in range(10)]
    rows, terms, panel, pairs, scales, channel_scales, base, base_stride, out, stride = numbers
    i16, i32, i64, f32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
    words, sums, floats = ir.VectorType(i16, 16), ir.VectorType(i32, 8), ir.VectorType(f32, 8)
    num_vectors = CHANNELS // 8
    multiply_add = b.module.declare_intrinsic(
        "llvm.x86.avx2.pmadd.wd", (), ir.FunctionType(sums, [words, words])
    )

    def at(address: Any, offset: Any, kind: Any) -> Any:
        """A pointer to ``kind`` at the address plus an offset in bytes."""
        return b.inttoptr(b.add(address, offset), kind.as_pointer())

    def times(value: Any, factor: int) -> Any:
        return b.mul(value, ir.Constant(i64, factor))

    def spread(value: Any, kind: Any) -> Any:
        """A vector whose eight elements are all the value."""
        undefined = ir.Constant(kind, ir.Undefined)
        one = b.insert_element(undefined, value, ir.Constant(i32, 0))
        return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(i32, 8), [0] * 8))

    row_pointers = [at(rows, times(terms, 2 * r), i32) for r in range(ROWS)]
    weights = b.inttoptr(panel, words.as_pointer())
    entry = b.block
    loop, done = b.append_basic_block("pairs"), b.append_basic_block("scale")
    b.branch(loop)

    b.position_at_end(loop)
    k = b.phi(i64)
    k.add_incoming(ir.Constant(i64, 0), entry)
    totals = [b.phi(sums) for _ in range(ROWS * num_vectors)]
    running = list(totals)
    for step in range(2):
        pair = b.add(k, ir.Constant(i64, step))
        first = times(pair, num_vectors)
        w = [
            b.load(b.gep(weights, [b.add(first, ir.Constant(i64, v))]), align=32)
            for v in range(num_vectors)
        ]
        for r in range(ROWS):
            x = b.bitcast(spread(b.load(b.gep(row_pointers[r], [pair]), align=4), sums), words)
            for v in range(num_vectors):
                i = r * num_vectors + v
                running[i] = b.add(running[i], b.call(multiply_add, [x, w[v]]))
    following = b.add(k, ir.Constant(i64, 2))
    k.add_incoming(following, loop)
    for total, value in zip(totals, running, strict=True):
        total.add_incoming(ir.Constant(sums, [0] * 8), entry)
        total.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, pairs), loop, done)

    b.position_at_end(done)
    for r in range(ROWS):
        scale = spread(b.load(at(scales, ir.Constant(i64, 4 * r), f32), align=4), floats)
        for v in range(num_vectors):
            here = ir.Constant(i64, 32 * v)
            both = b.fmul(scale, b.load(at(channel_scales, here, floats), align=4))
            start = b.load(at(base, b.add(times(base_stride, 4 * r), here), floats), align=4)
            product = b.fmul(b.sitofp(running[r * num_vectors + v], floats), both)
            b.store(
                b.fadd(start, product),
                at(out, b.add(times(stride, 4 * r), here), floats),
                align=4,
            )
    return context.get_dummy_value()


def _compiled(function: Any) -> Any:
    """Compile with numba, kept on disk where there is a place to keep it.

    A shape checker that wraps every function (as the test run does) is looked through.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": True}
    original = inspect.unwrap(function)
    try:
        return njit(cache=True, **options)(original)
    except RuntimeError:  # no writable place for the compiled code
        return njit(**options)(original)


_tile: Any = intrinsic(inspect.unwrap(_type_tile))


@_compiled
def _quantise(x, q, scales):  # pragma: no cover
    """Round each row of x to ±LEVELS in q, and keep what one level is worth in scales."""
    for i in range(x.shape[0]):
        largest = np.float32(1e-30)
        for j in range(x.shape[1]):
            largest = max(largest, abs(x[i, j]))
        factor = np.float32(LEVELS) / largest
        scales[i] = largest / np.float32(LEVELS)
        for j in range(x.shape[1]):
            q[i, j] = np.int16(np.rint(x[i, j] * factor))


@_compiled
def _linear(x, panels, channel_scales, bias):  # pragma: no cover
    """Quantise the rows of x and multiply, tile by tile; rows are padded to whole tiles."""
    num_rows, terms = x.shape
    padded = -(-num_rows // ROWS) * ROWS
    channels = panels.shape[0] * CHANNELS
    q = np.zeros((padded, terms), np.int16)
    scales = np.zeros(padded, np.float32)
    _quantise(x, q, scales)
    out = np.empty((padded, channels), np.float32)
    for start in range(0, padded, NEAR_ROWS):
        for p in range(panels.shape[0]):
            column = p * CHANNELS
            for r in range(start, min(start + NEAR_ROWS, padded), ROWS):
                here = out.ctypes.data + (r * channels + column) * 4
                for k in range(0, terms, BLOCK):
                    first = k == 0
                    _tile(
                        (
                            q.ctypes.data + (r * terms + k) * 2,
                            terms,
                            panels.ctypes.data + (p * terms + k) * CHANNELS * 2,
                            min(BLOCK, terms - k) // 2,
                            scales.ctypes.data + r * 4,
                            channel_scales.ctypes.data + column * 4,
                            bias.ctypes.data + column * 4 if first else here,
                            0 if first else channels,
                            here,
                            channels,
                        )
                    )
    return out
