"""Networks over the signals: the space of candidates, their rows, training, and linear rivals.

Nominal space: hidden layers [], [8], [16], [32], [16, 8], [32, 16], [64, 32, 16] × dropout 0, .1,
.2, .3 × learning rate .001, .01, .1 × relu, tanh, elu: 252, of which 219 are distinct, since a
network without a hidden layer has neither dropout nor activation. All are trained by Adam on the
same shuffled minibatches, one compiled pass over all of them an epoch.

Two losses, both weighted: minus Pearson's r, computed within each minibatch, and the logistic
loss. Rows are a case–control sample: every relevant pair and a random sample of the others, each
with the inverse of its chance, so that weighted sums estimate those over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import Literal

import numpy as np
from jaxtyping import Float

from leray.memory.network_kernel import (
    LANES,
    LOGISTIC,
    PEARSON,
    POOL,
    STRIDE,
    scores_kernel,
    train_epoch,
)

Array = np.ndarray
Loss = Literal["pearson", "logistic"]
LOSSES: tuple[Loss, ...] = ("pearson", "logistic")
HIDDEN = ((), (8,), (16,), (32,), (16, 8), (32, 16), (64, 32, 16))
DROPOUT = (0.0, 0.1, 0.2, 0.3)
RATES = (0.001, 0.01, 0.1)
ACTIVATIONS = ("relu", "tanh", "elu")
KINDS = {"pearson": PEARSON, "logistic": LOGISTIC}
MINIBATCH = LANES - 4  # at most; the kernel has 512 places, and strata round up


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One architecture with how it is trained; dropout is rounded to a 256th."""

    hidden: tuple[int, ...]
    dropout: float
    learning_rate: float
    activation: str

    def __post_init__(self) -> None:
        if any(h % 4 or h <= 0 for h in self.hidden):
            raise ValueError(f"hidden layers need multiples of four units, got {self.hidden}")
        if self.activation not in ACTIVATIONS or not 0 <= self.dropout < 1:
            raise ValueError(
                f"dropout {self.dropout} must be in [0, 1) and activation {self.activation!r} "
                f"one of {', '.join(ACTIVATIONS)}"
            )

    @property
    def name(self) -> str:
        """Such as ``32-16 tanh, dropout 0.1, rate 0.01``."""
        if not self.hidden:
            return f"linear, rate {self.learning_rate:g}"
        layers = "-".join(map(str, self.hidden))
        return f"{layers} {self.activation}, dropout {self.dropout:g}, rate {self.learning_rate:g}"

    def num_params(self, num_inputs: int) -> int:
        """Weights and biases."""
        return sum((a + 1) * b for a, b in pairwise((num_inputs, *self.hidden, 1)))


def nominal_space() -> list[Candidate]:
    """The 252 combinations."""
    return [
        Candidate(hidden=h, dropout=p, learning_rate=rate, activation=phi)
        for h, p, rate, phi in product(HIDDEN, DROPOUT, RATES, ACTIVATIONS)
    ]


def distinct_space() -> tuple[Candidate, ...]:
    """The 219 that differ: without a hidden layer, dropout and activation have no effect."""
    return tuple(
        c
        for c in nominal_space()
        if c.hidden or (c.dropout == DROPOUT[0] and c.activation == ACTIVATIONS[0])
    )


class Population:
    """All networks of a search as the kernel wants them: flat parameters and tables.

    Args:
        candidates: Their shapes.
        num_inputs: d, a multiple of four.
    """

    def __init__(self, candidates: Sequence[Candidate], num_inputs: int) -> None:
        if num_inputs % 4 or num_inputs <= 0:
            raise ValueError(f"the kernel takes inputs by fours, got {num_inputs}")
        self.candidates = tuple(candidates)
        self.num_inputs = num_inputs
        sizes = [c.num_params(num_inputs) for c in candidates]
        self.starts = np.array([0, *accumulate(sizes)])
        depth = 2 + max(len(c.hidden) for c in candidates)
        self.widths = np.zeros((len(candidates), depth), np.int64)
        for k, c in enumerate(candidates):
            self.widths[k, : 2 + len(c.hidden)] = (num_inputs, *c.hidden, 1)
        self.rates = np.array([c.learning_rate for c in candidates])
        self.dropped = np.array([round(256 * c.dropout) for c in candidates])
        self.activations = np.array([ACTIVATIONS.index(c.activation) for c in candidates])
        rows = 5 + max(sum(c.hidden) for c in candidates)
        self._work = np.zeros(rows * STRIDE, np.float32)
        self._slopes = np.zeros(max(sizes), np.float32)

    def own(self, k: int) -> slice:
        """The place of network k in the flat vectors."""
        return slice(int(self.starts[k]), int(self.starts[k + 1]))

    def draw(self, bias: float, rng: np.random.Generator) -> Float[Array, " total"]:
        """Initial parameters: U(−1/√in, 1/√in), as torch has it; the last bias as given."""
        pieces = []
        for c in self.candidates:
            for fan_in, units in pairwise((self.num_inputs, *c.hidden, 1)):
                bound = 1 / math.sqrt(fan_in)
                pieces.append(rng.uniform(-bound, bound, (fan_in + 1) * units))
            pieces[-1][-1] = bias
        return np.concatenate(pieces).astype(np.float32)

    def flops(self, num_rows: int) -> Float[Array, " candidates"]:
        """Arithmetic of an epoch: 2 operations a weight forward, 4 backward, a row."""
        return 6.0 * np.diff(self.starts) * num_rows

    def train(
        self,
        params: Array,
        first: Array,
        second: Array,
        alive: Array,
        sample: Sample,
        loss: Loss,
        epochs: range,
        rng: np.random.Generator,
    ) -> Float[Array, " candidates"]:
        """Train the networks in ``alive`` for the given epochs, in place.

        Args:
            params, first, second: Parameters and Adam's moments, float32, flat.
            alive: Indices.
            sample: The standardised rows.
            loss: Which.
            epochs: Their numbers, counted from 0 over the whole training.
            rng: Shuffles and dropout; the same for every network.

        Returns:
            The mean loss of the last epoch, NaN for networks that are not alive.
        """
        batches = Minibatches(sample)
        losses = np.full(len(self.candidates), np.nan)
        for epoch in epochs:
            data = batches.shuffled(rng)
            pool = rng.integers(0, 256, POOL, dtype=np.uint8)
            train_epoch(
                data.reshape(-1), len(data), params, first, second, self.starts, self.widths,
                self.rates, self.dropped, self.activations, alive, KINDS[loss],
                epoch * len(data), pool, epoch * len(data), self._work, self._slopes, losses,
            )  # fmt: skip
        return losses

    def scores(self, params: Array, k: int, x: Float[Array, "inputs rows"]) -> Array:
        """The output of network k, whose own parameters are given, on standardised rows."""
        out = np.empty(x.shape[1], np.float32)
        data = np.zeros(self.num_inputs * STRIDE, np.float32)
        rows = np.ascontiguousarray(x, dtype=np.float32)
        own = np.array(params, dtype=np.float32)  # a read-only one would be compiled for anew
        scores_kernel(
            rows, own, self.widths[k], self.activations[k], self._work, data, out
        )  # fmt: skip
        return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Rows to train or validate on: ``x [d, rows]``, truth, and weights of mean 1."""

    x: Array
    y: Array
    weight: Array

    @property
    def prevalence(self) -> float:
        """The share of relevant pairs, as the weights estimate it."""
        return float(self.weight[self.y].sum() / self.weight.sum())


class Minibatches:
    """A sample cut into minibatches, each with its share of the relevant pairs (±1).

    There are ⌈rows / 508⌉ of them, of nearly equal size; places beyond the rows have weight 0.
    """

    def __init__(self, sample: Sample) -> None:
        d, n = sample.x.shape
        self.num_batches = -(-n // MINIBATCH)
        self._table = np.zeros((d + 2, n + 1), np.float32)  # the last column fills the places
        self._table[:d, :n] = sample.x
        self._table[d, :n] = sample.y
        self._table[d + 1, :n] = sample.weight
        self._strata = [np.flatnonzero(sample.y), np.flatnonzero(~sample.y)]
        self._index = np.full((self.num_batches, LANES), n)
        self._data = np.zeros((self.num_batches, d + 2, STRIDE), np.float32)

    def shuffled(self, rng: np.random.Generator) -> Float[Array, "batches columns stride"]:
        """A fresh partition; the array is used again at the next call."""
        start, nothing = 0, self._table.shape[1] - 1
        for rows in self._strata:
            depth = -(-len(rows) // self.num_batches)
            dealt = np.full((depth, self.num_batches), nothing)
            dealt.flat[: len(rows)] = rng.permutation(rows)
            self._index[:, start : start + depth] = dealt.T
            start += depth
        for j, column in enumerate(self._table):
            np.take(column, self._index, out=self._data[:, j, :LANES])
        return self._data


def case_control(y: Array, rows: Array, num_rows: int, rng: np.random.Generator) -> Array:
    """Choose rows: all relevant ones (half of ``num_rows`` at most), the others at random.

    Args:
        y: Truth of the whole population, boolean.
        rows: Which rows may be chosen.
        num_rows: How many at most.

    Returns:
        Indices, sorted; see :func:`case_control_weights`.
    """
    ones, zeros = rows[y[rows]], rows[~y[rows]]
    num_ones = min(len(ones), num_rows // 2)
    num_zeros = min(len(zeros), num_rows - num_ones)
    chosen = [
        rng.choice(ones, num_ones, replace=False),
        rng.choice(zeros, num_zeros, replace=False),
    ]
    return np.sort(np.concatenate(chosen))


def case_control_weights(y: Array, rows: Array, chosen: Array) -> Float[Array, " chosen"]:
    """The inverse of each chosen row's chance, over their mean."""
    truth, weight = y[chosen], np.empty(len(chosen))
    for label in (False, True):
        drawn = int((truth == label).sum())
        weight[truth == label] = (y[rows] == label).sum() / max(drawn, 1)
    return weight / weight.mean()


def weighted_moments(sample: Sample) -> tuple[Array, Array, Array]:
    """Mean of x ``[d]``, covariance S ``[d, d]`` and covariance with y ``[d]``."""
    share = sample.weight / sample.weight.sum()
    x = sample.x.astype(np.float64)
    centred = x - (x @ share)[:, None]
    y = sample.y - sample.y @ share
    return x @ share, (centred * share) @ centred.T, centred @ (share * y)


def linear_pearson(sample: Sample) -> Float[Array, " coefficients"]:
    """Weighted least squares, the direction of largest r (signs free); the intercept first."""
    mean, S, b = weighted_moments(sample)
    slopes = np.linalg.pinv(S, hermitian=True) @ b
    return np.append(sample.prevalence - slopes @ mean, slopes)


def linear_logistic(sample: Sample) -> Float[Array, " coefficients"]:
    """The weighted logistic regression (intercept first), by Newton's method.

    Minimises Σ w_t [log(1 + e^z) − y z] + ½‖β‖² with weights of mean 1; the ridge, one part in
    rows, makes the optimum exist.

    Raises:
        ArithmeticError: if it does not converge, which finite input does not cause.
    """
    w = sample.weight / sample.weight.mean()
    v = np.vstack([np.ones(sample.x.shape[1]), sample.x.astype(np.float64)])
    ridge = np.append(0.0, np.ones(len(v) - 1))
    beta = np.append(_log_odds(sample.prevalence), np.zeros(len(v) - 1))
    before, step = math.inf, np.zeros_like(beta)
    for _ in range(100):
        z = beta @ v
        value = w @ (np.logaddexp(0, z) - sample.y * z) + 0.5 * ridge @ beta**2
        if value > before + 1e-9 * abs(before):  # too far: go half the way
            step /= 2
            beta = beta - step
            continue
        p = 1 / (1 + np.exp(-z))
        slope = v @ (w * (p - sample.y)) + ridge * beta
        if np.abs(slope).max() <= 1e-8 * len(w):
            return beta
        hessian = (v * (w * p * (1 - p))) @ v.T + np.diag(ridge)
        before, step = value, -np.linalg.solve(hessian, slope)
        beta = beta + step
    raise ArithmeticError("a weighted logistic regression did not converge in 100 passes")


LINEAR = {"pearson": linear_pearson, "logistic": linear_logistic}


def least_squares_line(scores: Array, sample: Sample) -> Float[Array, " 2"]:
    """(a, b) of the weighted least-squares line y ≈ a + b f, which leaves r as it is.

    Minus r does not fix a network's scale: without this line, scores of networks that were trained
    on different folds could not be pooled. A constant score has slope 0.
    """
    share = sample.weight / sample.weight.sum()
    f = scores.astype(np.float64)
    centred = f - share @ f
    variance = float(share @ centred**2)
    slope = float((share * sample.y) @ centred) / variance if variance > 0 else 0.0
    return np.array([sample.prevalence - slope * (share @ f), slope])


def first_bias(loss: Loss, sample: Sample) -> float:
    """Where the output's bias starts: at the log-odds for the logistic loss, else at 0."""
    return _log_odds(sample.prevalence) if loss == "logistic" else 0.0


def goodness(loss: Loss, scores: Array, sample: Sample) -> float:
    """What candidates are compared by, higher is better: weighted r, or minus the log-loss."""
    share = sample.weight / sample.weight.sum()
    f, y = scores.astype(np.float64), sample.y.astype(np.float64)
    if not np.isfinite(f).all():
        return -math.inf
    if loss == "logistic":
        return float(-share @ (np.logaddexp(0, f) - y * f))
    mean = float(share @ f)
    f, y = f - mean, y - share @ y
    variance = float(share @ f**2)
    if variance <= 1e-12 * (mean**2 + variance) or not share @ y**2 > 0:  # constant, to rounding
        return 0.0
    return float(share @ (f * y)) / math.sqrt(variance * (share @ y**2))


def _log_odds(p: float) -> float:
    return math.log(p / (1 - p))
