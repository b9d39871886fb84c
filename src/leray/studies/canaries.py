"""The canary study: does undoing only what broke a capability keep nearly all other progress?

1. *Bases.* Small decoders learn four forms of argument, through `leray.train`.
2. *Episodes* (:mod:`leray.studies.canaries_episodes`): each goes on from one of them to two more
   forms, watched; beside its healthy twin every kind of fault is planted once.
3. *Dependencies*: which module hurts which capability, as the alarms of all episodes showed,
   against what noise in each module by itself does.

Strengths of faults, limits and the claim were fixed on other seeds than those that are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from leray.circuits.canaries import limits_of
from leray.circuits.faults import KINDS, Fault, Injected
from leray.lm.config import ModelConfig
from leray.lm.losses import LossConfig
from leray.lm.model import Model
from leray.lm.optimizer import OptimizerConfig
from leray.runs.computation import Samples, State
from leray.runs.seeds import Key
from leray.studies.canaries_data import KNOWN, QUESTION, WORDS, Corpus, CorpusSize
from leray.studies.canaries_episodes import (
    STRENGTHS,
    Episode,
    EpisodeConfig,
    Found,
    drawn_faults,
    parts_of,
    reported,
)
from leray.train.configuration import DataConfig, ScheduleConfig, TrainingConfig
from leray.train.training import Training

NUM_PLANTED = 3
"""Draws of noise in every module, that say what it hurts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much a run computes.

    Args:
        num_episodes: Spread over the bases; in each one fault of every kind.
        width, num_layers, num_steps: Of the bases.
    """

    num_bases: int
    num_episodes: int
    width: int = 48
    num_layers: int = 3
    num_steps: int = 1600
    corpus: CorpusSize = field(default_factory=lambda: CorpusSize(known=16_000, new=4_000))
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)


SIZES = {
    "quick": Size(num_bases=1, num_episodes=6),
    "full": Size(num_bases=2, num_episodes=34),
}


def base_training(size: Size, data: Corpus, seeds: Sequence[int]) -> Training:
    """What the bases learn, short texts first."""
    ends = (data.known > 0).sum(axis=1) + 1
    texts = [row[:end] for row, end in zip(data.known, ends, strict=True)]
    tokens = np.concatenate(texts).astype(np.int16)
    tune = slice(-64, None)
    config = TrainingConfig(
        model=ModelConfig(
            num_tokens=len(WORDS),
            width=size.width,
            num_layers=size.num_layers,
            num_heads=4,
            mixing="coboundary",
            feedforward="cup",
        ),
        data=DataConfig(context=int(ends.max()), num_sequences=48, growing=0.4),
        optimizer=OptimizerConfig(matrix_rate=0.02, rate=0.005),
        loss=LossConfig(answers=True),
        schedule=ScheduleConfig(num_steps=size.num_steps, interval=min(100, size.num_steps)),
    )
    return Training(
        configs=(config,) * len(seeds),
        seeds=tuple(seeds),
        tokens=tokens,
        tune=np.concatenate(texts[tune]).astype(np.int16),
        tune_starts=_starts(texts[tune]),
        starts=_starts(texts),
        question=QUESTION,
        name="bases",
    )


def _starts(texts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(x) for x in texts])])


@dataclass(frozen=True)
class Episodes:
    """Episodes as a computation: a shard each, of one step.

    Args:
        bases: Trained models, and ``bases_from``: the computation that made them, which decides
            them; ``data`` follows from ``corpus`` and the root seed.
    """

    num_shards: int
    config: EpisodeConfig
    corpus: CorpusSize
    bases_from: str
    bases: tuple[Model, ...] = field(metadata={"counts": False})
    data: Corpus = field(metadata={"counts": False})
    name: str = "episodes"

    @property
    def num_steps(self) -> int:
        return 1

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002, the step draws
        return {"shard": shard}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        model = self.bases[int(state["shard"]) % len(self.bases)]
        episode = Episode(model, self.data, self.config, key)
        found = episode.twin(drawn_faults(self.config, key, parts_of(model)))
        return state, _samples(episode, found)

    def result(self, samples: list[list[Samples]]) -> list[Samples]:
        return [shard[0] for shard in samples]


def _samples(episode: Episode, found: Sequence[Found]) -> Samples:
    """Arrays over the faults of an episode; parts and capabilities by their place."""
    start, interval = episode.losses[0], episode.config.monitor.interval
    monitor = episode.run.monitor
    parts = list(monitor.flat.parts)
    rows = []
    lost, seen = np.zeros((len(parts), len(KNOWN))), np.zeros((len(parts), len(KNOWN)))
    for f in found:
        fault, alarm = f.fault, f.alarms[0] if f.alarms else None
        ends = fault.start + fault.length
        row = {
            "kind": KINDS.index(fault.kind),
            "start": fault.start,
            "end": f.end,
            "harm": f.harm,
            "left": f.left,
            "kept": (start - f.loss) / (start - episode.losses[f.end]),
            "kept_damaged": (start - f.damaged) / (start - episode.losses[f.measured]),
            "kept_before": (start - episode.losses[fault.start // interval * interval])
            / (start - episode.losses[f.end]),
            "found": alarm is not None,
            "in_time": alarm is not None and alarm.step <= -(-ends // interval) * interval,
            "at_once": alarm is not None and f.broke >= 0 and alarm.step <= f.broke,
            "ranked": False,
            "part": -1,
            "undone": 0,
            "undone_healthy": 0,
            "all": False,
            "tried": 0,
        }
        if alarm is not None:
            culprits = alarm.culprits
            first = culprits.ranked[0]
            right = fault.touches(alarm.steps[first][0])
            if fault.kind == "corruption":
                part = int(culprits.blame[first].argmax())
                row["part"] = int(parts[part] == fault.target)
                right = right and bool(row["part"])
            healthy = [not fault.touches(a) for a, _ in alarm.undone]
            row |= {
                "ranked": right,
                "undone": len(alarm.undone),
                "undone_healthy": sum(healthy),
                "all": culprits.way == "all",
                "tried": culprits.tried,
            }
        for a in f.alarms:
            if a.part is not None:
                lost[a.part] += a.lost
                seen[a.part] += 1
        rows.append(row)
    columns = {k: np.array([r[k] for r in rows]) for k in rows[0]}
    twin = {
        "twin_alarms": len(monitor.alarms),
        "twin_checks": episode.config.num_steps // interval,
        "progress": start - min(episode.losses.values()),
        "ring_bytes": monitor.ring.num_bytes,
    }
    return columns | {k: np.array(v) for k, v in twin.items()} | {"lost": lost, "seen": seen}


@torch.no_grad()
def planted_edges(model: Model, data: Corpus, key: Key) -> np.ndarray:
    """``[parts, capabilities]``: what noise in each part, as a fault has it, adds to the mean
    failure of each capability on canaries that report."""
    limits = limits_of(model, data.reporting)
    before = reported(model, data, limits)
    length, strength = STRENGTHS["corruption"]
    own = {k: v.clone() for k, v in model.state_dict().items()}
    rows = []
    for part in parts_of(model):
        added = []
        for i in range(NUM_PLANTED):
            seed = int(key.child(part).child(i).generator().integers(2**62))
            fault = Fault(kind="corruption", start=0, length=length, strength=strength, target=part)
            generator = torch.Generator().manual_seed(seed)
            Injected(fault, model, [], [], generator).before(0)
            added.append(reported(model, data, limits) - before)
            model.load_state_dict(own)
        rows.append(np.mean(added, axis=0))
    return np.array(rows)


def auroc(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """The chance that a true edge has the larger score, ties half; None where all are alike."""
    yes, no = scores[truth], scores[~truth]
    if not len(yes) or not len(no):
        return None
    gap = yes[:, None] - no[None, :]
    return float((gap > 0).mean() + (gap == 0).mean() / 2)
