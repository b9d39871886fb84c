"""Losses by document, on a split that was held out."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.model import Model, Watch
from leray.train.tokens import windows_of

TOKENS = 4096
"""That go through the model together."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of every document.

    Args:
        nats: Summed over a document's tokens.
        counts: Tokens of it that were predicted.
    """

    nats: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """Nats a token, over all."""
        return float(self.nats.sum() / self.counts.sum())

    @property
    def perplexity(self) -> float:
        return math.exp(self.mean)

    def bits_per_byte(self, num_bytes: int) -> float:
        return float(self.nats.sum() / math.log(2) / num_bytes)


@torch.no_grad()
def document_losses(
    model: nn.Module,
    tokens: np.ndarray,
    starts: np.ndarray,
    context: int,
    max_windows: int | None = None,
    *,
    question: int | None = None,
) -> Losses:
    """Every token predicted once, from what its window shows before it.

    A document is read in windows of ``context`` tokens that follow each other, the first from its
    separator on: what training sees, so that losses compare; the mean token sees half a window.

    Args:
        max_windows: Stop after so many; None for all.
        question: Only what follows this token counts; None for everything.

    Cost: one forward pass over the tokens.
    """
    device = next(model.parameters()).device
    sequences = max(1, TOKENS // context)
    nats = np.zeros(len(starts) - 1)
    counts = np.zeros(len(starts) - 1, dtype=np.int64)
    done = 0
    for inputs, targets, owner in windows_of(tokens, starts, context, sequences, question=question):
        if max_windows is not None and done >= max_windows:
            break
        x, y = (torch.from_numpy(a).to(device) for a in (inputs, targets))
        losses = F.cross_entropy(model(x).flatten(0, 1).float(), y.flatten(), reduction="none")
        kept = owner.ravel() >= 0
        places = owner.ravel()[kept]
        np.add.at(nats, places, losses.double().cpu().numpy()[kept])
        np.add.at(counts, places, 1)
        done += len(inputs)
    return Losses(nats, counts)


@dataclass(frozen=True, slots=True)
class Look:
    """Where a model looks.

    Args:
        layers: Those of attention, by number.
        within: Distances in tokens, 1 for the token itself.
        shares: ``[layers, distances]``, of the weight that falls within: means over heads and over
            the tokens of the second half of every window.
        load: The mean gate to all before, by routed layer.
    """

    layers: tuple[int, ...]
    within: tuple[int, ...]
    shares: np.ndarray
    load: tuple[float, ...]


@torch.no_grad()
def look_of(model: Model, tokens: np.ndarray, starts: np.ndarray, context: int) -> Look:
    """Where a model looks in the first windows of a text, at distances 1, 2, 4, …, context / 2.

    Cost: one forward pass with dense attention.
    """
    device = next(model.parameters()).device
    inputs, _, _ = next(windows_of(tokens, starts, context, max(1, TOKENS // context)))
    watch: Watch = defaultdict(list, attention=[])
    model(torch.from_numpy(inputs).to(device), watch)
    within = tuple(2**i for i in range(int(math.log2(context))))
    at = torch.arange(context, device=device)
    shares = []
    for weights in watch["attention"]:
        late = weights[:, :, context // 2 :]
        near = [(at[context // 2 :, None] - at < d) * late for d in within]
        shares.append([float(x.sum(-1).mean()) for x in near])
    config = model.config
    return Look(
        layers=tuple(i for i in range(config.num_layers) if not config.recurs(i)),
        within=within,
        shares=np.array(shares),
        load=tuple(float(x) for x in watch["load"]),
    )


@torch.no_grad()
def level_losses(
    model: Model, tokens: np.ndarray, starts: np.ndarray, context: int, max_windows: int
) -> np.ndarray:
    """``[levels]``: mean nats a token where each level's stream is read out, the last one last."""
    device = next(model.parameters()).device
    sums, count, done = np.zeros(model.config.num_levels), 0, 0
    for inputs, targets, owner in windows_of(tokens, starts, context, max(1, TOKENS // context)):
        if done >= max_windows:
            break
        done += len(inputs)
        x, y = (torch.from_numpy(a).to(device) for a in (inputs, targets))
        watch: Watch = defaultdict(list)
        last = model(x, watch)
        kept = torch.from_numpy(owner.ravel() >= 0).to(device)
        for i, logits in enumerate([*(model.read(level) for level in watch["levels"]), last]):
            found = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none")
            sums[i] += float(found[kept].sum())
        count += int(kept.sum())
    return sums / count
