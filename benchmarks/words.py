"""Word problems: rotary positions beside transport by the data, at equal shape and steps.

    python benchmarks/words.py --out docs/benchmarks/words.txt

Two layers of width 64 are trained on random words of length 32 to say the running product after
every letter, and tested on fresh words of lengths 32, 64 and 128: the accuracy over the last
quarter of the positions. One seed for each row: an illustration, not a verdict.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F  # noqa: N812

from leray.lm.model import Model, ModelConfig
from leray.lm.words import Group, drawn_words, group_of

LENGTH, TESTED, WORDS = 32, (32, 64, 128), 512
RATE = 3e-3


def trained(group: Group, config: ModelConfig, num_steps: int, seed: int) -> Model:
    """By AdamW with a linear decay, on fresh words at every step."""
    generator = torch.Generator().manual_seed(seed)
    model = Model(config, generator)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / num_steps)
    for _ in range(num_steps):
        letters, products = drawn_words(group, 64, LENGTH, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(letters).flatten(0, 1), products.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def accuracy(model: Model, group: Group, length: int, seed: int) -> float:
    """Over the last quarter of fresh words."""
    letters, products = drawn_words(group, WORDS, length, torch.Generator().manual_seed(seed))
    last = slice(length - length // 4, None)
    return float((model(letters).argmax(-1) == products)[:, last].double().mean())


ROWS: tuple[tuple[str, Literal["rotary", "transport"], int, int | None], ...] = (
    ("rotary", "rotary", 2, None),
    ("transport, 1 reflection, stalk 16", "transport", 1, 16),
    ("transport, 2 reflections, stalk 8", "transport", 2, 8),
    ("transport, 2 reflections, stalk 16", "transport", 2, 16),
)
"""A label, positions, reflections a token, and the stalk on which one transport a layer acts."""


def report(num_steps: dict[str, int], seed: int) -> str:
    lines = [
        "python benchmarks/words.py",
        f"{platform.machine()}, torch {torch.__version__}; accuracy over the last quarter of "
        f"{WORDS} fresh words; trained to length {LENGTH}; seed {seed}",
        "",
        f"{'group':8s}{'positions':36s}{'parameters':>11s}{'steps':>7s}{'CPU-s':>7s}"
        + "".join(f"{length:>8d}" for length in TESTED)
        + f"{'chance':>9s}",
    ]
    for name, steps in num_steps.items():
        group = group_of(name)
        for label, positions, reflections, stalk in ROWS:
            config = ModelConfig(
                num_tokens=len(group.letters), num_classes=group.order, positions=positions,
                num_reflections=reflections, stalk=stalk,
            )  # fmt: skip
            start = time.process_time()
            model = trained(group, config, steps, seed)
            seconds = time.process_time() - start
            found = [accuracy(model, group, length, seed + 1) for length in TESTED]
            size = sum(p.numel() for p in model.parameters())
            lines.append(
                f"{name:8s}{label:36s}{size:11,}{steps:7,}{seconds:7.0f}"
                + "".join(f"{x:8.3f}" for x in found)
                + f"{1 / group.order:9.3f}"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=400, help="of S3; A5 takes twice as many")
    parser.add_argument("--groups", nargs="+", default=["S3"], help="S3, A5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small
    steps = {name: args.steps * (1 + (name == "A5")) for name in args.groups}
    text = report(steps, args.seed)
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
