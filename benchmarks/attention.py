"""Attention in a window beside dense attention, forward and backward, and its memory by length.

    python benchmarks/attention.py --out docs/benchmarks/attention.txt

The peers are torch's fused attention with the window as a mask, the same work, and without a window
(causal), which is faster and does something else. Seconds by the clock, the least of five. Memory
is what a process of its own holds at most, less what it held before.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.lm.attention import causal_attention

HEADS, WIDTH, WINDOW, TIME = 6, 64, 256, 4096
FASTER, APART, REPEATS = 4.0, 1e-5, 5
LENGTHS = (4096, 8192, 16384, 32768)


def drawn(length: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    shape = (1, HEADS, length, WIDTH)
    return [torch.randn(shape, generator=g).requires_grad_() for _ in range(3)]


def least(attend: Callable[[], Tensor], inputs: list[Tensor]) -> tuple[float, list[Tensor]]:
    """Seconds for output and gradients, and these."""
    seconds, found = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        out = attend()
        found = [out.detach(), *torch.autograd.grad(out.sum(), inputs)]
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def megabytes(length: int) -> float:
    """Peak memory of one forward and backward pass, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory", str(length)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def _peak() -> float:
    """Of this process since it was last set anew, in megabytes; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1]) / 1024


def report() -> str:
    inputs = drawn(TIME)
    q, k, v = inputs
    t, s = torch.arange(TIME)[:, None], torch.arange(TIME)[None]
    mask = (s <= t) & (s > t - WINDOW)
    ours, found = least(lambda: causal_attention(q, k, v, WINDOW), inputs)
    dense, wanted = least(lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), inputs)
    causal, _ = least(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), inputs)
    apart = max(float((x - y).abs().max()) for x, y in zip(found, wanted, strict=True))
    memory = {length: megabytes(length) for length in LENGTHS}
    growth = memory[LENGTHS[-1]] / memory[LENGTHS[0]]
    longer = LENGTHS[-1] / LENGTHS[0]
    missed = []
    if dense < FASTER * ours:
        missed.append("speed")
    if apart > APART:
        missed.append("equal results")
    if growth > 1.25 * longer:
        missed.append("linear memory")
    lines = [
        "python benchmarks/attention.py",
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{HEADS} heads of {WIDTH}, window {WINDOW}, float32, forward and backward",
        "",
        f"{TIME:,} tokens            seconds   times ours",
        f"ours                {ours:12.3f}",
        f"dense, masked       {dense:12.3f}{dense / ours:13.2f}   asked: {FASTER:g}",
        f"causal, no window   {causal:12.3f}{causal / ours:13.2f}",
        f"largest difference of outputs and gradients {apart:.1e}; allowed {APART:g}",
        "",
        "tokens      megabytes",
        *(f"{length:<12,}{memory[length]:9.0f}" for length in LENGTHS),
        f"{longer:g} times the tokens take {growth:.1f} times the memory",
        "",
        f"missed: {', '.join(missed)}" if missed else "met in all three",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the output here")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        inputs = drawn(256)
        causal_attention(inputs[0], inputs[1], inputs[2], 128).sum().backward()  # warm
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _peak()
        q, k, v = drawn(args.memory)
        causal_attention(q, k, v, WINDOW).sum().backward()
        print(_peak() - before)
        return
    text = report()
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
