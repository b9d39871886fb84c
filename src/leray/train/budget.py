"""What a training run will cost, before it is run: weights, memory by part, operations, hours.

    python -m leray.train.budget configs/gpt2.toml --processes 8

With N weights, M of them in matrices that Muon moves, P processes and bytes by float32:

    weights      4 N
    gradients    4 N
    moments      4 M (momentum) + 8 (N − M) (AdamW's two)
    Muon's work  8 M (what is orthogonalised, and the steps)
    activations  a · tokens of one part + b
    logits       12 · min(2²⁶, tokens of one part · classes)

The part is of context · num_sequences / (accumulate · P) tokens. What a pass keeps for the way back
is counted, not assumed: autograd's hooks see every tensor that it saves, at two lengths of a text,
and the line through both has the slope a and the height b, in which are copies of the weights in
bfloat16 and the head's gradient. For a layer of the baseline of width w and h heads it comes to
19 w + 3 h + 2 numbers a token: inputs of both branches 2 w, queries, keys and values 3 w, the first
two also by themselves and turned 4 w, what attention gives 2 w, the squared ReLU 8 w.

Logits are those of `leray.lm.cross_entropy`, three copies of a chunk. Sharded, the first three are
divided by P. Activations and Muon's work are not held at the same time. What the allocator and the
libraries take is not in it.

Training costs F operations a token (`leray.lm.flops`), so that D tokens take

    F · D / (P · peak · utilisation)    seconds.

The peaks are dense bfloat16 of the makers' data sheets: NVIDIA A100 312, H100 989 TFLOP/s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from leray.lm.cross_entropy import LOGITS_ELSEWHERE
from leray.lm.flops import train_flops_per_token
from leray.lm.losses import training_loss
from leray.lm.model import Model
from leray.lm.optimizer import Muon, optimizers_of
from leray.train.configuration import TrainingConfig, configuration_of, read_configuration
from leray.train.distributed import check_shares
from leray.train.tokens import vocabulary_size
from leray.train.training import num_parameters, weightless

PEAKS = {"A100": 312e12, "H100": 989e12}
"""Operations a second, bfloat16."""
LENGTHS = (32, 64)
"""At which activations are counted."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one process, in bytes; tokens of one part of a step, and operations of one token.

    Args:
        weights: How many there are, of the whole model.
        matrices: How many of them Muon moves.
    """

    weights: int
    matrices: int
    flops: float
    part: int
    held: dict[str, float]
    passing: dict[str, float]

    @property
    def peak(self) -> float:
        """Bytes at the worst moment of a step: a pass, or Muon's step."""
        muon = self.passing["Muon's work"]
        return sum(self.held.values()) + max(sum(self.passing.values()) - muon, muon)


def budget_of(config: TrainingConfig, processes: int) -> Budget:
    """What a run of this configuration needs.

    Raises:
        LerayError: Windows that the processes cannot share.

    Cost: two passes over a few dozen tokens, on the CPU.
    """
    check_shares(config, processes)
    model = weightless(config.model)
    num = num_parameters(model)
    matrices = sum(
        p.numel()
        for o in optimizers_of(model, config.optimizer)
        if isinstance(o, Muon)
        for group in o.param_groups
        for p in group["params"]
    )
    data = config.data
    part = data.context * data.num_sequences // (config.schedule.accumulate * processes)
    shares = processes if config.schedule.parallel == "sharded" else 1
    slope, height = activations(config)
    return Budget(
        weights=num,
        matrices=matrices,
        flops=train_flops_per_token(model, data.context, pages=config.loss.pages > 0),
        part=part,
        held={
            "weights": 4 * num / shares,
            "gradients": 4 * num / shares,
            "moments": (4 * matrices + 8 * (num - matrices)) / shares,
        },
        passing={
            "activations": slope * part + height,
            "logits": 12.0 * min(LOGITS_ELSEWHERE, part * config.model.num_tokens),
            "Muon's work": 8.0 * matrices,
        },
    )


def activations(config: TrainingConfig) -> tuple[float, float]:
    """Bytes that a pass keeps for the way back: for every token, and beside that."""
    model = Model(config.model, torch.Generator(), draw=False)
    half = config.schedule.precision == "bfloat16"
    kept = [_kept(model, config, length, half) for length in LENGTHS]
    slope = (kept[1] - kept[0]) / (LENGTHS[1] - LENGTHS[0])
    return slope, kept[0] - slope * LENGTHS[0]


def _kept(model: Model, config: TrainingConfig, length: int, half: bool) -> int:
    """Bytes of the storages that autograd saves, each once, the weights left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Tensor] = {}

    def save(x: Tensor) -> Tensor:
        place = x.untyped_storage().data_ptr()
        if place not in own:
            found[place] = x  # kept alive, so that no place is taken twice
        return x

    tokens = torch.zeros(1, length, dtype=torch.int64)
    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        training_loss(model, tokens, tokens, config.loss)
    return sum(x.untyped_storage().nbytes() for x in found.values())


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `python -m leray.train.budget` is asked.

    Args:
        config: A TOML file, as `leray lm train` takes it; its text is not read.
        processes: One for each GPU.
        accumulate: In place of the file's own.
        tokens: To train on, in billions.
        utilisation: The fraction of the peak that is reached.
    """

    config: Annotated[Path, tyro.conf.Positional]
    processes: int = 1
    accumulate: int | None = None
    tokens: tuple[float, ...] = (2.5, 10.0)
    utilisation: float = 0.4


def lines(options: Options) -> list[str]:
    """The table.

    Raises:
        LerayError: A configuration that cannot be.
    """
    tables = read_configuration(options.config)
    name = tables.get("data", {}).get("tokens")
    config = configuration_of(tables, vocabulary_size(name), str(options.config))
    if options.accumulate is not None:
        schedule = replace(config.schedule, accumulate=options.accumulate)
        config = replace(config, schedule=schedule)
    found = budget_of(config, options.processes)
    made = [
        f"{options.config}, {options.processes} processes, {config.schedule.parallel}: "
        f"{found.weights:,} weights, {found.matrices:,} of them Muon's",
        f"{found.part:,} tokens at a time in each process; {found.flops / 1e6:,.0f} MFLOP a token",
        "",
        "GB in each process",
    ]
    made += [f"  {k:12} {v / 1e9:8.2f}" for k, v in (found.held | found.passing).items()]
    made += [f"  {'at most':12} {found.peak / 1e9:8.2f}", ""]
    made.append(f"hours at {options.utilisation:.0%} of the peak{'EFLOP':>8}" + _columns(PEAKS))
    for billions in options.tokens:
        flops = found.flops * billions * 1e9
        hours = [
            flops / (options.processes * peak * options.utilisation) / 3600
            for peak in PEAKS.values()
        ]
        made.append(
            f"  {billions:g}e9 tokens".ljust(25) + f"{flops / 1e18:8,.1f}" + _columns(hours)
        )
    return made


def _columns(values: object) -> str:
    assert isinstance(values, dict | list), "names or hours"
    return "".join(f"{v:>10}" if isinstance(v, str) else f"{v:10.2f}" for v in values)


if __name__ == "__main__":
    print("\n".join(lines(tyro.cli(Options))))
