"""The law of synthetic conversations: what a simulated million is a million of.

A conversation has T turns and then one query. Every turn continues one earlier turn (or, the first
one, none): with unit-variance Gaussian vectors v_t in R^dim,

    v_t = a_t v_{p(t)} + √(1 − a_t²) z_t,                 z_t ~ N(0, I), independent

- *topic drift*: p(t) = t − 1, a_t uniform in ``drift``;
- *sessions*: with probability ``session_rate`` a turn opens a session after a long silence, and
  takes up the conversation's first turn, a_t uniform in ``reopening``;
- *repetition*: with probability ``repeat_rate`` it repeats any turn before the last,
  a_t uniform in ``repetition``.

The query is about one turn, chosen uniformly, a uniform in ``asking``. Embeddings are the v's at
unit length; silences are exponential. The four signals follow from embeddings and times exactly
as in :mod:`leray.memory.signals`. The truth is planted: for turn t

    y_t = α + Σ_j (w_j + b_j) x_jt + σ e_t,        α ~ N(0, σ_α²), b_j ~ N(0, σ_b²),

e an AR(1) along the turns with variance 1. Since α, b and e are independent of the signals and have
mean zero, E[y | x] − const = w·x: the weights of the largest pooled correlation are exactly w. The
relevant turns are the ``num_relevant`` of the largest y.

None of the numbers below was measured on people: a result about this law is about this law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leray.evidence.compiled import compiled
from leray.memory.blocks import DAY, FOUR
from leray.memory.gram import STRUCTURE, TRUTH, F, fill_normals, fill_uniforms
from leray.memory.signals import HABITUATION_COSINE, SURPRISE_WINDOW

Range = tuple[float, float]
_PER_TURN = 4  # uniforms: which kind, how strongly, which parent, how long a silence


class Parameters(NamedTuple):
    """The law as the compiled kernels take it: numbers and arrays only."""

    num_turns: int
    dim: int
    session_rate: float
    repeat_rate: float
    drift: Range
    reopening: Range
    repetition: Range
    asking: Range
    turn_gap: float
    session_gap: float
    query_gap: float
    tau: float
    weights: np.ndarray
    slope_sd: float
    intercept_sd: float
    noise_sd: float
    noise_rho: float
    num_relevant: int
    window: int
    threshold: float


@dataclass(frozen=True, kw_only=True)
class ConversationLaw:
    """What synthetic conversations are drawn from; see the head of this module.

    Args:
        num_turns: T, at least 2.
        dim: Of the embeddings; even, at least T + 2.
        session_rate, repeat_rate: Probabilities of a turn, together at most 1.
        drift, reopening, repetition, asking: Ranges of a_t, within [0, 1].
        turn_gap, session_gap, query_gap: Mean silences before a turn, a session and the query, in
            seconds.
        tau: The decay time of the signal, in seconds.
        weights: w, in the order of :data:`leray.memory.blocks.FOUR`; not negative, of sum 1.
        slope_sd: σ_b, by how much a conversation's weights differ from w.
        intercept_sd: σ_α.
        noise_sd: σ.
        noise_rho: The AR(1) coefficient of the noise, in [0, 1).
        num_relevant: Relevant turns of a conversation, fewer than T.
    """

    num_turns: int = 50
    dim: int = 768
    session_rate: float = 0.1
    repeat_rate: float = 0.2
    drift: Range = (0.2, 0.8)
    reopening: Range = (0.1, 0.5)
    repetition: Range = (0.6, 0.95)
    asking: Range = (0.3, 0.9)
    turn_gap: float = 60.0
    session_gap: float = 3 * DAY
    query_gap: float = DAY
    tau: float = 30 * DAY
    weights: tuple[float, ...] = (0.10, 0.60, 0.20, 0.10)
    slope_sd: float = 0.1
    intercept_sd: float = 0.1
    noise_sd: float = 0.2
    noise_rho: float = 0.5
    num_relevant: int = 3

    def __post_init__(self) -> None:
        if self.num_turns < 2 or self.dim < self.num_turns + 2 or self.dim % 2:
            raise ValueError(
                f"num_turns must be at least 2 and dim even and at least num_turns + 2; got "
                f"{self.num_turns} turns in {self.dim} dimensions"
            )
        rates = (self.session_rate, self.repeat_rate)
        if min(rates) < 0 or sum(rates) > 1:
            raise ValueError(f"session_rate and repeat_rate are probabilities, sum <= 1: {rates}")
        for name in ("drift", "reopening", "repetition", "asking"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name} must be a range within [0, 1]; got ({low}, {high})")
        for name in ("turn_gap", "session_gap", "query_gap", "tau"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive seconds; got {getattr(self, name)}")
        w = self.weights
        if len(w) != len(FOUR) or min(w) < 0 or abs(sum(w) - 1) > 1e-9:
            raise ValueError(f"weights: {len(FOUR)} values, not negative, of sum 1; got {w}")
        if min(self.slope_sd, self.intercept_sd) < 0 or self.noise_sd <= 0:
            raise ValueError("slope_sd and intercept_sd must not be negative, noise_sd positive")
        if not 0 <= self.noise_rho < 1 or not 0 < self.num_relevant < self.num_turns:
            raise ValueError(
                f"noise_rho must be in [0, 1) and num_relevant in 1 .. {self.num_turns - 1}; got "
                f"{self.noise_rho} and {self.num_relevant}"
            )

    @property
    def parameters(self) -> Parameters:
        """The law as the kernels take it, with the library's window and threshold."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        ranges = ("drift", "reopening", "repetition", "asking")
        given |= {name: (float(given[name][0]), float(given[name][1])) for name in ranges}
        whole = ("num_turns", "dim", "num_relevant")
        given |= {
            name: float(given[name]) for name in given if name not in (*ranges, *whole, "weights")
        }
        given["weights"] = np.array(self.weights, dtype=np.float64)
        return Parameters(**given, window=SURPRISE_WINDOW, threshold=HABITUATION_COSINE)


@compiled
def draw_structure(law, k0, k1, conversation, uniforms, parent, strength, age):
    """Who continues whom, how strongly, and when.

    Args:
        uniforms: Room for 4(T + 1) float64.
        parent, strength: ``[T + 1]``, filled: the turns, then the query; −1 for no parent.
        age: ``[T]``, filled: seconds from each turn to the query.
    """
    T = law.num_turns
    fill_uniforms(k0, k1, conversation, STRUCTURE, uniforms)
    time = 0.0
    for t in range(T + 1):
        kind, how = uniforms[_PER_TURN * t], uniforms[_PER_TURN * t + 1]
        which, silence = uniforms[_PER_TURN * t + 2], uniforms[_PER_TURN * t + 3]
        gap, span = law.turn_gap, law.drift
        parent[t] = t - 1
        if t == T:
            gap, span, parent[t] = law.query_gap, law.asking, int(which * T)
        elif kind < law.session_rate:
            gap, span, parent[t] = law.session_gap, law.reopening, 0
        elif kind < law.session_rate + law.repeat_rate and t >= 2:
            span, parent[t] = law.repetition, int(which * (t - 1))
        strength[t] = span[0] + how * (span[1] - span[0])
        if t == 0:
            parent[t], strength[t] = -1, 0.0
        time -= gap * math.log(silence)
        if t < T:
            age[t] = time
    for t in range(T):
        age[t] = time - age[t]


@compiled
def signals_of_gram(G, age, tau, window, threshold, x):
    """The four signals of T turns from the Gram matrix of turns and query: ``x [4, T]``.

    Cosines are G_ij/√(G_ii G_jj), of which only the upper triangle is read; the definitions are
    those of :mod:`leray.memory.signals`.
    """
    T = len(age)
    scale = np.empty(T + 1, dtype=F)
    nearest, echoes = np.full(T, F(-np.inf)), np.zeros(T, dtype=np.int32)
    for i in range(T + 1):
        scale[i] = F(1) / math.sqrt(G[i, i])
    nearest[0] = F(0)
    for j in range(T):
        row, s = G[j], scale[j]
        stop = min(T, j + 1 + window)
        for i in range(j + 1, stop):
            cosine = row[i] * s * scale[i]
            nearest[i] = cosine if cosine > nearest[i] else nearest[i]
        for i in range(j + 1, T):
            echoes[i] += np.int32(row[i] * s * scale[i] >= threshold)
    for t in range(T):
        x[0, t] = math.exp(-max(age[t], 0.0) / tau)
        x[1, t] = 1.0 - nearest[t]
        x[2, t] = G[t, T] * scale[T] * scale[t]
        x[3, t] = 1.0 / (1.0 + echoes[t])


@compiled
def draw_truth(law, k0, k1, conversation, x, normals, y):
    """The planted truth of one conversation's signals ``x [4, T]`` into ``y [T]``.

    Args:
        normals: Room for T + 5 float32, rounded up to an even number.
    """
    T = law.num_turns
    fill_normals(k0, k1, conversation, TRUTH, normals)
    y[:] = law.intercept_sd * normals[T]
    for j in range(len(x)):
        slope = law.weights[j] + law.slope_sd * normals[T + 1 + j]
        for t in range(T):
            y[t] += slope * x[j, t]
    e = float(normals[0])
    own = math.sqrt(1.0 - law.noise_rho**2)
    y[0] += law.noise_sd * e
    for t in range(1, T):
        e = law.noise_rho * e + own * normals[t]
        y[t] += law.noise_sd * e
