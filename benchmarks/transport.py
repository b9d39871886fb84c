"""What transport by the data costs beside rotary positions, and how exact its maps are.

    python benchmarks/transport.py --out docs/benchmarks/transport.txt

Forward and backward on one thread, in float32. A layer is attention with its projections, as the
model has it; the core is what lies between the projections, of queries, keys, values and vectors
that are given. Seconds of the processor, the least of seven, all rows of a table taking turns. The
exactness is that of the maps, and of the gradients in the vectors, in float32, against the product
of reflections token by token in float64.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.lm.attention import causal_attention
from leray.lm.config import ModelConfig
from leray.lm.model import Attention, Carried
from leray.lm.pointwise import rotated, turns_of
from leray.lm.transport import transport_of

BATCH, TIME, REPEATS = 4, 512, 7
SHAPES = ((384, 6), (128, 4))
ASKED, APART = 1.5, 1e-5
JUDGED = (8, 16)
BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One way to attend; without a stalk, by rotary positions."""

    stalk: int | None = None
    num_transports: int = 1
    both: bool = False
    """Rotary positions on half of every head."""

    @property
    def label(self) -> str:
        if self.stalk is None:
            return "rotary"
        many = f"{self.num_transports} transports" if self.num_transports > 1 else "1 transport"
        return f"stalk {self.stalk}, {many}" + (" and rotary" if self.both else "")


def rows_of(width: int, num_heads: int) -> list[Row]:
    """The peer, the judged rows, then more transports, more dimensions, and both."""
    judged = [Row(k) for k in JUDGED]
    more = [Row(16, 2), Row(16, num_heads), Row(width // num_heads)]
    return [Row(), *judged, *more, Row(16, both=True)]


def least(runs: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Seconds of each, forward and backward, taking turns."""
    seconds = [float("inf")] * len(runs)
    for _ in range(REPEATS):
        for i, run in enumerate(runs):
            start = time.process_time()
            run().sum().backward()
            seconds[i] = min(seconds[i], time.process_time() - start)
    return seconds


def layer(width: int, num_heads: int, row: Row) -> Callable[[], Tensor]:
    """One pass of the model's attention."""
    torch.manual_seed(0)  # of torch's own drawing of the weights
    config = ModelConfig(
        num_tokens=2, width=width, num_heads=num_heads, stalk=row.stalk,
        positions="rotary" if row.stalk is None else "both" if row.both else "transport",
        num_transports=row.num_transports,
    )  # fmt: skip
    attention = Attention(config, 0)
    x = drawn(BATCH, TIME, width).requires_grad_()
    turns = turns_of(TIME, width // num_heads, BASE, x)  # once for all layers of a model
    return lambda: attention(x, Carried(turns)).square()


def core(width: int, num_heads: int, row: Row) -> Callable[[], Tensor]:
    """What lies between the projections, on ``[b, t, 3 · width]`` as they leave it."""
    qkv = drawn(BATCH, TIME, 3 * width).requires_grad_()
    groups, stalk = row.num_transports, row.stalk
    turns = turns_of(TIME, width // num_heads, BASE, qkv)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (num_heads // groups, -1)).transpose(2, 3).flatten(1, 2)

    def by_position() -> Tensor:
        q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in qkv.chunk(3, dim=-1))
        y = causal_attention(rotated(q, turns), rotated(k, turns), v)
        return y.transpose(1, 2).flatten(2).square()

    if stalk is None:
        return by_position
    vectors = drawn(BATCH, groups, TIME, 2, stalk).requires_grad_()

    def by_transport() -> Tensor:
        made = transport_of(vectors)
        parts = (x.unflatten(-1, (groups, -1)).transpose(1, 2) for x in qkv.chunk(3, dim=-1))
        q, k, v = (heads(made.to_start(x)) for x in parts)
        y = causal_attention(q, k, v).unflatten(1, (groups, -1)).transpose(2, 3).flatten(3)
        return made.from_start(y).square()

    return by_transport


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def apart(stalk: int, length: int) -> tuple[float, float]:
    """The largest difference of a map's entries, and of a gradient relative to the largest."""
    wide = drawn(length, 2, stalk, dtype=torch.float64).requires_grad_()
    weights = drawn(length, stalk, stalk, dtype=torch.float64) / length
    g, wanted = torch.eye(stalk, dtype=torch.float64), []
    for token in F.normalize(wide, dim=-1):
        for u in token:
            g = g - 2 * torch.outer(u, u @ g)
        wanted.append(g)
    by_token = torch.stack(wanted)
    (by_token * weights).sum().backward()
    narrow = wide.detach().float().requires_grad_()
    maps = transport_of(narrow).maps
    (maps * weights.float()).sum().backward()
    assert wide.grad is not None
    assert narrow.grad is not None
    gradient = (narrow.grad - wide.grad).abs().max() / wide.grad.abs().max()
    return float((maps - by_token).detach().abs().max()), float(gradient)


def table(title: str, made: Callable[[int, int, Row], Callable[[], Tensor]]) -> tuple[str, float]:
    """The lines, and the worst ratio of those that are judged."""
    lines, worst = [], 0.0
    for width, num_heads in SHAPES:
        rows = [row for row in rows_of(width, num_heads) if made is layer or not row.both]
        seconds = least([made(width, num_heads, row) for row in rows])
        lines.append(f"{title}, width {width}, {num_heads} heads of {width // num_heads}")
        for i, (row, s) in enumerate(zip(rows, seconds, strict=True)):
            ratio = s / seconds[0]
            judged = 0 < i <= len(JUDGED)
            worst = max(worst, ratio) if judged else worst
            asked = f"   asked: {ASKED:g}" if judged and made is layer else ""
            lines.append(f"  {row.label:32s}{1e3 * s:9.1f} ms{ratio:8.2f}{asked}")
    return "\n".join(lines) + "\n", worst


def report() -> str:
    layers, worst = table("layer", layer)
    cores, _ = table("core", core)
    errors = {(k, n): apart(k, n) for k in JUDGED for n in (TIME, 4 * TIME)}
    missed = []
    if worst > ASKED:
        missed.append("cost")
    if max(max(pair) for pair in errors.values()) > APART:
        missed.append("exactness")
    lines = [
        "python benchmarks/transport.py",
        f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}; "
        f"{BATCH} x {TIME} tokens, float32, forward and backward, 2 reflections a token",
        "",
        layers,
        cores,
        f"differences from the product token by token in float64; allowed {APART:g}",
        f"{'stalk':>7s}{'tokens':>8s}{'maps':>10s}{'gradients':>11s}",
        *(f"{k:7d}{n:8,}{a:10.1e}{b:11.1e}" for (k, n), (a, b) in errors.items()),
        "",
        f"missed: {', '.join(missed)}" if missed else "met in both",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = report()
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
