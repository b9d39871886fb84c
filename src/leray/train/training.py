"""Training as a computation: weights and optimiser are its state, losses its samples.

One step of the driver is an interval of training steps. A step's batch follows from the seed and
the step's number, so that a run that was stopped goes on bit for bit on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from leray.algebra.defects import composition_defect
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.lm.sharding import whole
from leray.runs.computation import Samples, State
from leray.runs.seeds import Key
from leray.train.configuration import TrainingConfig
from leray.train.evaluation import Losses, document_losses, level_losses
from leray.train.graphs import own_stream
from leray.train.live import Live, arrays_of, live_model, tensor_of
from leray.train.tokens import Answers, Batches

TUNE_WINDOWS = 48
"""How many windows of the tuning split are read at every interval."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one run.

    Args:
        train: Nats a token, one a step.
        tune: Nats a token on the tuning split, one an interval.
        steps: After how many steps each was read.
        report: The losses of the documents for the report, where these were asked for.
        levels: ``[intervals, levels]``, the tuning loss of every level's readout, where these are
            trained.
        composition: By interval, how far successive transitions are from d d = 0, where there are
            any: 1 is what chance gives (:func:`leray.algebra.defects.composition_defect`).
    """

    train: np.ndarray
    tune: np.ndarray
    steps: np.ndarray
    report: Losses | None = None
    levels: np.ndarray | None = None
    composition: np.ndarray | None = None


@dataclass(frozen=True)
class Training:
    """Training runs, which may differ in everything but their length.

    Args:
        configs: What is trained, and how: one shard each, of equally many steps and intervals.
        seeds: Of the shards: equal seeds see equal batches, whatever the model.
        tokens: The training split; if only answers count, ``starts``: where its documents begin,
            and ``question``: the token of a question mark.
        tune: The tuning split, and where its documents begin.
        report: Documents whose losses are read once, after the last step, where they begin, and
            how many windows of them are read (None for all).
        device: Where it runs; a run may go on elsewhere.
        given: Of the shards, weights by name that are not drawn but begin as these.
        given_from: The computation and the layers that they are of, which decides them. Samples
            of finished shards need no weights.
    """

    configs: tuple[TrainingConfig, ...]
    seeds: tuple[int, ...]
    tokens: np.ndarray
    tune: np.ndarray
    tune_starts: np.ndarray
    report: np.ndarray | None = None
    report_starts: np.ndarray | None = None
    report_windows: int | None = None
    device: str = field(default="cpu", metadata={"counts": False})
    given: tuple[dict[str, np.ndarray], ...] = field(default=(), metadata={"counts": False})
    given_from: str = field(default="", metadata={"added": True})
    name: str = "training"
    starts: np.ndarray | None = field(default=None, metadata={"added": True})
    question: int | None = field(default=None, metadata={"added": True})

    def __post_init__(self) -> None:
        if self.given and not self.given_from:
            raise ValueError("weights that are given are of a computation: given_from says which")
        if self.given and len(self.given) != len(self.seeds):
            raise ValueError("weights are given to every shard or to none")
        lengths = {(c.schedule.num_steps, c.schedule.interval) for c in self.configs}
        if len(self.configs) != len(self.seeds) or len(lengths) != 1:
            raise ValueError("every shard needs a seed, and all the same steps and interval")

    @property
    def in_threads(self) -> bool:
        """A device is fed by threads: processes would take turns on it."""
        return torch.device(self.device).type == "cuda"

    @property
    def num_shards(self) -> int:
        return len(self.seeds)

    @property
    def num_steps(self) -> int:
        s = self.configs[0].schedule
        return -(-s.num_steps // s.interval)

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002, the seed says which run it is
        if self.given_from and not self.given:
            raise LerayError(f"the weights of {self.given_from!r} are gone: start a new run")
        seed = self.seeds[shard]
        model = Model(self.configs[shard].model, torch.Generator().manual_seed(seed))
        weights = model.state_dict()
        for name, array in (self.given[shard] if self.given else {}).items():
            weights[name].copy_(tensor_of(array))
        return {"shard": shard, **arrays_of("weights", weights)}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        shard = int(state["shard"])
        config = self.configs[shard]
        with own_stream(torch.device(self.device)):
            live = self.live(config)
            live.config = config
            live.load(state)
            samples = self._interval(live, step_index, self.seeds[shard])
            return {"shard": shard, **live.state()}, samples

    def _interval(self, live: Live, step_index: int, seed: int) -> Samples:
        """The steps of an interval, and what is measured after them."""
        config = live.config
        s, data = config.schedule, config.data
        batches = self.batches(config, seed)
        first = step_index * s.interval
        steps = range(first, min(first + s.interval, s.num_steps))
        told = live.train_all(batches, steps)
        live.open_windows()  # what is measured, and kept, sees all that it may
        tune = document_losses(
            live.model,
            self.tune,
            self.tune_starts,
            data.context,
            TUNE_WINDOWS,
            question=self.question,
        )
        samples = {"loss": told[:, 0], "norm": told[:, 1], "tune": np.array([tune.mean])}
        if config.loss.pages:
            samples["levels"] = level_losses(
                live.model, self.tune, self.tune_starts, data.context, TUNE_WINDOWS
            )
        if live.model.transitions is not None and config.model.num_levels > 2:
            maps = whole(live.model.transitions.maps().detach())
            found = composition_defect(maps[:-1], maps[1:]).mean()
            samples["composition"] = np.array([float(found)])
        if step_index == self.num_steps - 1 and self.report is not None:
            assert self.report_starts is not None, "documents have beginnings"
            read = document_losses(
                live.model,
                self.report,
                self.report_starts,
                data.context,
                self.report_windows,
                question=self.question,
            )
            samples |= {"report_nats": read.nats, "report_tokens": read.counts}
        return samples

    def batches(self, config: TrainingConfig, seed: int) -> Batches | Answers:
        """Of all the text, or of documents whose ends are asked for."""
        data = config.data
        if not config.loss.answers:
            return Batches(self.tokens, data.context, data.num_sequences, seed)
        assert self.starts is not None, "documents have beginnings"
        assert self.question is not None, "answers follow questions"
        growing = round(data.growing * config.schedule.num_steps)
        return Answers(
            self.tokens,
            self.starts,
            self.question,
            data.context,
            data.num_sequences,
            seed,
            growing,
        )

    def live(self, config: TrainingConfig) -> Live:
        """What makes the steps of a shard."""
        return live_model(config, self.device)

    def result(self, samples: list[list[Samples]]) -> list[Curve]:
        s = self.configs[0].schedule
        ends = np.minimum((1 + np.arange(self.num_steps)) * s.interval, s.num_steps)
        return [
            Curve(
                np.concatenate([x["loss"] for x in shard]),
                np.concatenate([x["tune"] for x in shard]),
                ends,
                Losses(shard[-1]["report_nats"], shard[-1]["report_tokens"])
                if "report_nats" in shard[-1]
                else None,
                np.stack([x["levels"] for x in shard]) if "levels" in shard[0] else None,
                np.concatenate([x["composition"] for x in shard])
                if "composition" in shard[0]
                else None,
            )
            for shard in samples
        ]


def loaded(config: TrainingConfig, state: State, device: str = "cpu") -> Model:
    """The model of a state."""
    model = weightless(config.model)
    names = model.state_dict()
    model.load_state_dict({k: tensor_of(state[f"weights.{k}"]) for k in names}, assign=True)
    return model.to(device)


@lru_cache(maxsize=4096)
def size_of(config: ModelConfig) -> int:
    """How many parameters a model has, without making it; remembered."""
    return num_parameters(weightless(config))


def weightless(config: ModelConfig) -> Model:
    """A model that takes no memory: to be counted, or to be given weights."""
    with torch.device("meta"):
        return Model(config, torch.Generator(device="cpu"), draw=False)


def num_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def check_device(name: str, precision: str) -> None:
    """Refuse a device that is not there, and bfloat16 where it is emulated.

    Raises:
        LerayError: Either.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of a device without memory, as "meta", there is none
    except (RuntimeError, AssertionError) as error:
        raise LerayError(
            f"no device {name!r} here: give cpu, or cuda where there is one"
        ) from error
    if precision != "float32" and device.type != "cuda":
        raise LerayError(
            f"precision {precision!r} is emulated on {name}, many times slower: leave it out"
        )
