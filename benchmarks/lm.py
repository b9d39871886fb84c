"""Tokens a second of a training step: the baseline beside a small GPT-2 and x-transformers.

    python benchmarks/lm.py --out docs/benchmarks/lm.txt

A step is forward, cross-entropy of the next token, backward and AdamW, in float32 on the CPU, on
tokens drawn at random. All have the same layers, width, heads, vocabulary, context and batch, and
embeddings tied to the output. The peers at their best: each takes the quickest of AdamW's three
implementations, and each runs as it is and through torch.compile, loss included. They take turns,
one step each a round, in an order that is drawn anew every round. Tokens a second are of the median
step; a ratio is the median over rounds of the ratio in a round, so that what slows the machine for
a while slows both; its range holds the middle half of the rounds. One thread is timed by the
processor's clock, which stands while others have the core; more by the clock on the wall.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.config import ModelConfig
from leray.lm.gpt2 import GPT2, GPT2Config
from leray.lm.model import Model

OURS = "leray, rotary"
FORMS = ("as it is", "compiled")
STEPS_FIRST = 2
# Memory given back to the system between steps is fetched again page by page: so nobody gives back.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


def now() -> float:
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass(frozen=True, kw_only=True)
class Shape:
    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.layers} layers of {self.width}, {self.heads} heads, {self.vocabulary:,} words, "
            f"{self.batch} texts of {self.context}"
        )


SHAPES = {
    "small": Shape(layers=4, width=128, heads=4, vocabulary=256, context=256, batch=8),
    "middle": Shape(layers=6, width=384, heads=6, vocabulary=4096, context=512, batch=4),
}


def baseline(shape: Shape) -> nn.Module:
    config = ModelConfig(
        num_tokens=shape.vocabulary, width=shape.width, num_layers=shape.layers,
        num_heads=shape.heads,
    )  # fmt: skip
    return Model(config, torch.Generator().manual_seed(0))


def gpt2(shape: Shape) -> nn.Module:
    config = GPT2Config(
        num_tokens=shape.vocabulary, context=shape.context, width=shape.width,
        num_layers=shape.layers, num_heads=shape.heads, bias=False,
    )  # fmt: skip
    return GPT2(config, torch.Generator().manual_seed(0))


NEAREST = {
    "use_abs_pos_emb": False,
    "rotary_pos_emb": True,
    "use_rmsnorm": True,
    "ff_relu_squared": True,
    "ff_no_bias": True,
    "attn_qk_norm": True,
}


def x_transformers(shape: Shape, **options: bool) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    dim_head = shape.width // shape.heads
    positions = options.pop("use_abs_pos_emb", True)
    decoder = Decoder(
        dim=shape.width, depth=shape.layers, heads=shape.heads, attn_dim_head=dim_head,
        rotary_emb_dim=dim_head, attn_flash=True, **options,
    )  # fmt: skip
    return TransformerWrapper(
        num_tokens=shape.vocabulary, max_seq_len=shape.context, attn_layers=decoder,
        tie_embedding=True, use_abs_pos_emb=positions,
    )  # fmt: skip


MAKERS: dict[str, Callable[[Shape], nn.Module]] = {
    OURS: baseline,
    "GPT-2, no biases": gpt2,
    "x-transformers, nearest": lambda shape: x_transformers(shape, **NEAREST),
    "x-transformers, plain": x_transformers,
}


class Objective(nn.Module):
    """The loss as a module, so that it is compiled with the model; ours brings its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        before, after = tokens[:, :-1], tokens[:, 1:]
        if isinstance(self.model, Model):
            return self.model.loss(before, after)
        return F.cross_entropy(self.model(before).flatten(0, 1), after.flatten())


class Contender:
    """A model in one form, with its optimiser."""

    def __init__(self, name: str, shape: Shape, form: str) -> None:
        objective = Objective(MAKERS[name](shape))
        self.num_parameters = sum(p.numel() for p in objective.parameters())
        self.objective = torch.compile(objective) if form == "compiled" else objective
        self.weights = list(objective.parameters())
        self.kind = "fused"
        self.optimizer = self._optimizer(self.kind)

    def settle(self, tokens: Tensor) -> float:
        """Choose the optimiser by its own time, after a first step; return that step's seconds."""
        first = self.step(tokens)
        seconds = {}
        for kind in ("fused", "foreach", "for loop"):
            self.optimizer, taken = self._optimizer(kind), []
            for _ in range(5):
                start = now()
                self.optimizer.step()
                taken.append(now() - start)
            seconds[kind] = min(taken)
        self.kind = min(seconds, key=lambda kind: seconds[kind])
        self.optimizer = self._optimizer(self.kind)
        return first

    def step(self, tokens: Tensor) -> float:
        """Seconds of one."""
        start = now()
        self.optimizer.zero_grad()
        self.objective(tokens).backward()
        self.optimizer.step()
        return now() - start

    def _optimizer(self, kind: str) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            self.weights, 1e-3, betas=(0.9, 0.95), weight_decay=0.01,
            fused=kind == "fused", foreach=kind == "foreach",
        )  # fmt: skip


def measured(shape: Shape, forms: tuple[str, ...], rounds: int) -> list[str]:
    """The lines of one shape at the threads that torch has now."""
    tokens = torch.randint(
        shape.vocabulary, (shape.batch, shape.context + 1),
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    made = {(n, f): Contender(n, shape, f) for f in forms for n in MAKERS}
    first = {who: contender.settle(tokens) for who, contender in made.items()}
    for contender in made.values():
        for _ in range(STEPS_FIRST):
            contender.step(tokens)
    taken: dict[tuple[str, str], list[float]] = {who: [] for who in made}
    order, turns = list(made), random.Random(0)
    for _ in range(rounds):
        turns.shuffle(order)
        for who in order:
            taken[who].append(made[who].step(tokens))
    best = {n: min(forms, key=lambda f: statistics.median(taken[n, f])) for n in MAKERS}
    per_step = shape.batch * shape.context
    lines = [
        f"{shape}; {torch.get_num_threads()} thread(s), median of {rounds} steps",
        f"{'':26s}{'parameters':>11s}{'form':>10s}{'AdamW':>10s}{'first step':>12s}"
        f"{'tokens/s':>10s}",
    ]
    for (name, form), contender in made.items():
        speed = per_step / statistics.median(taken[name, form])
        mark = " *" if best[name] == form else ""
        lines.append(
            f"{name:26s}{contender.num_parameters:11,}{form:>10s}{contender.kind:>10s}"
            f"{first[name, form]:10.1f} s{speed:10,.0f}{mark}"
        )
    ours = {form: taken[OURS, form] for form in forms}
    for name in MAKERS:
        if name != OURS:
            pairs = {form: (ours[form], taken[name, form]) for form in forms}
            pairs["each at its best"] = (ours[best[OURS]], taken[name, best[name]])
            parts = [f"{label} {ratio(*pair)}" for label, pair in pairs.items()]
            lines.append(f"ours to {name}: {'; '.join(parts)}")
    return [*lines, ""]


def ratio(ours: list[float], peer: list[float]) -> str:
    """Of speeds, above one where ours is quicker: the median of rounds and their middle half."""
    found = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def report(shapes: list[str], threads: list[int], rounds: int, forms: tuple[str, ...]) -> str:
    """Each shape and number of threads in a process of its own."""
    text = (
        f"python benchmarks/lm.py --shapes {' '.join(shapes)} --threads "
        f"{' '.join(map(str, threads))} --rounds {rounds} --forms {shlex.join(forms)}\n"
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, x-transformers "
        f"{version('x-transformers')}; float32; memory is kept between steps\n"
        f"nearest: {', '.join(f'{k}={v}' for k, v in NEAREST.items())}\n"
        "* the better form of a contender; ratios above one: ours is quicker\n\n"
    )
    for name in shapes:
        for count in threads:
            command = [sys.executable, __file__, "--one", name, "--threads", str(count)]
            command += ["--rounds", str(rounds), "--forms", *forms]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=os.environ | MEMORY
            )
            print(done.stdout, end="", flush=True)
            text += done.stdout
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--out", type=Path, help="also write the output here")
    parser.add_argument("--one", choices=list(SHAPES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(args.threads[0])
        print("\n".join(measured(SHAPES[args.one], tuple(args.forms), args.rounds)))
        return
    text = report(args.shapes, args.threads, args.rounds, tuple(args.forms))
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
