"""Small computations that the tests drive, importable by worker processes and scripts."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leray.runs import Key, Samples, State


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoregressiveChain:
    """x ← ρx + noise with a running count: each shard's state carries over its steps."""

    rho: float = 0.9
    num_shards: int = 3
    num_steps: int = 6
    size: int = 5
    seconds: float = 0.0
    name: str = "chain"

    def init(self, shard: int, key: Key) -> State:
        start = key.generator().standard_normal((self.size, 2))
        return {"x": np.asfortranarray(start), "count": 0, "scale": 1.0 + shard / 3}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:
        time.sleep(self.seconds)
        x, count, scale = state["x"], state["count"], state["scale"]
        assert isinstance(x, np.ndarray)
        assert count == step_index
        moved = self.rho * x + key.generator().standard_normal(x.shape) * scale
        after: State = {"x": np.asfortranarray(moved), "count": count + 1, "scale": scale * 1.1}
        return after, {"mean": np.asarray(moved.mean(axis=0)), "sum": np.asarray(moved.sum())}

    def result(self, samples: list[list[Samples]]) -> np.ndarray:
        return np.array([[np.append(s["mean"], s["sum"]) for s in shard] for shard in samples])


@dataclass(frozen=True, kw_only=True, slots=True)
class ResampledMean:
    """Bootstrap means in chunks: no state, the data in a field."""

    data: np.ndarray
    chunk: int = 50
    num_shards: int = 3
    num_steps: int = 4
    name: str = "resample"

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002
        return {}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        n = len(self.data)
        counts = key.generator().multinomial(n, np.full(n, 1 / n), size=self.chunk)
        return {}, {"means": counts @ self.data / n}

    def result(self, samples: list[list[Samples]]) -> np.ndarray:
        return np.concatenate([s["means"] for shard in samples for s in shard])


@dataclass(frozen=True, kw_only=True, slots=True)
class Troubled:
    """Does something bad at one step of shard 1: ``trouble`` is "kill", "error" or "mutate"."""

    trouble: str
    at_step: int = 2
    num_shards: int = 2
    num_steps: int = 4
    name: str = "troubled"

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002
        return {"shard": shard, "x": np.zeros(2)}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        if state["shard"] == 1 and step_index == self.at_step:
            self.act(state)
        return state, {"step": np.asarray(step_index)}

    def act(self, state: State) -> None:
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "mutate":
            x = state["x"]
            assert isinstance(x, np.ndarray)
            x += 1
        raise ZeroDivisionError("step 2 divides by zero")

    def result(self, samples: list[list[Samples]]) -> int:
        return sum(map(len, samples))


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """Two shards whose only step waits until the other one has come."""

    folder: str
    num_shards: int = 2
    num_steps: int = 1
    name: str = "meeting"

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002
        return {"shard": shard}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        Path(self.folder, str(state["shard"])).touch()
        deadline = time.monotonic() + 30
        while not Path(self.folder, str(1 - int(state["shard"]))).exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return state, {}

    def result(self, samples: list[list[Samples]]) -> int:
        return len(samples)
