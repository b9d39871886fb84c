"""The decoder of 2019 on the architecture study's batches, beside the baseline of its headline.

    python benchmarks/gpt2.py --text "../shared/data/text/wikitext2.*.txt" \
        --beside docs/architecture/wikitext2-supported --out docs/benchmarks/gpt2.txt

GPT-2 of the baseline's width, layers and heads (its learned positions and norms make it a twentieth
larger), by AdamW with warm-up and a cosine to a tenth of the rate, which is chosen on the tuning
split with a seed of its own; then seeds 0, 1, …, whose batches are those of the study's, and the
report split once. Each run leaves a line of JSON beside the output, and is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from leray.data.cache import cache_home
from leray.evidence.paired import t_interval
from leray.lm.gpt2 import GPT2, GPT2Config
from leray.studies.architecture import SIZES, TUNE_SEED
from leray.train.evaluation import document_losses
from leray.train.text import read_texts
from leray.train.tokens import Batches, Split, TokenFiles, token_files
from leray.train.training import TUNE_WINDOWS, num_parameters

PART = SIZES["headline"].headline
assert PART is not None
SCALE = PART.scale
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
WARMUP, BETAS, DECAY, CLIP, LEAST = 0.05, (0.9, 0.95), 0.1, 1.0, 0.1


def trained(files: TokenFiles, rate: float, seed: int, device: str) -> GPT2:
    """A model after all its steps."""
    s = SCALE
    config = GPT2Config(
        num_tokens=files.vocabulary.size, context=s.context, width=s.width,
        num_layers=s.num_layers, num_heads=s.num_heads,
    )  # fmt: skip
    model = GPT2(config, torch.Generator().manual_seed(seed)).to(device)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
        lr=rate, betas=BETAS,
    )  # fmt: skip
    batches = Batches(files.splits["train"], s.context, s.num_sequences, seed)
    for k in range(s.num_steps):
        done, warm = k / s.num_steps, (k + 1) / (WARMUP * s.num_steps)
        cosine = LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * min(warm, cosine)
        x, y = (torch.from_numpy(a).to(device) for a in batches.at(k))
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return model


def loss_of(model: GPT2, files: TokenFiles, split: Split, windows: int | None = None) -> float:
    """Nats a token."""
    with torch.no_grad():
        found = document_losses(
            model, files.splits[split], files.starts[split], SCALE.context, windows
        )
    return found.mean


class Runs:
    """What was trained, by rate and seed."""

    def __init__(self, path: Path, files: TokenFiles, device: str) -> None:
        self.path, self.files, self.device = path, files, device
        rows = path.read_text().splitlines() if path.is_file() else []
        self.rows: list[dict[str, Any]] = [json.loads(x) for x in rows]

    def loss(self, rate: float, seed: int) -> float:
        """On the report split; of the tuning seed on the tuning split."""
        for row in self.rows:
            if (row["rate"], row["seed"]) == (rate, seed):
                return row["loss"]
        model = trained(self.files, rate, seed, self.device)
        if seed == TUNE_SEED:
            loss = loss_of(model, self.files, "tune", TUNE_WINDOWS)
        else:
            loss = loss_of(model, self.files, "report")
        row = {"rate": rate, "seed": seed, "loss": loss}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        return loss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", required=True)
    parser.add_argument("--beside", type=Path, required=True, help="a run of the study")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    torch.set_num_threads(1)
    files = token_files(read_texts(a.text), "bytes", cache_home() / "tokens")
    runs = Runs(a.out.with_suffix(".jsonl"), files, a.device)
    tried = {rate: runs.loss(rate, TUNE_SEED) for rate in RATES}
    rate = min(tried, key=lambda r: tried[r])
    losses = np.array([runs.loss(rate, seed) for seed in range(a.seeds)])
    shape = GPT2Config(
        num_tokens=files.vocabulary.size, context=SCALE.context, width=SCALE.width,
        num_layers=SCALE.num_layers, num_heads=SCALE.num_heads,
    )  # fmt: skip
    result = json.loads((a.beside / "result.json").read_text())
    told = [
        f"{a.text}: {SCALE.num_tokens:,} tokens; AdamW, on the tuning split "
        + ", ".join(f"{r:g}: {x:.4f}" for r, x in tried.items()),
        f"GPT-2, {num_parameters(GPT2(shape, torch.Generator())):,} parameters, rate {rate:g}: "
        f"{losses.mean():.4f} nats a byte on the report split, {len(losses)} seeds",
    ]
    for row in result["headline"]:
        if row["role"] != "ablation":
            gap = t_interval(np.array(row["by_seed"][: len(losses)]) - losses, 0.99)
            told.append(
                f"{row['method']} less it: {gap.estimate:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], "
                "99% over seeds"
            )
    a.out.write_text("\n".join(told) + "\n")
    print("\n".join(told))


if __name__ == "__main__":
    main()
