"""Canaries: small tests of a capability, and a sequential test that says when it is broken.

A canary is an input with its right answer; its margin m is the logit of the right answer less the
best wrong one. With m* a share of the mean margin at the start, its failure is

    y = min(1, max(0, 1 − m/m*)),

1 where the answer is wrong, 0 where it is safe, so that a capability is seen to weaken before it
answers wrongly. At every check canaries are drawn anew from a pool, with replacement, so that their
mean failure, given all that was seen, is the capability's own. **Intact** means: that is at most
μ = (mean failure at the start) + tolerance, at every check. Against it is bet at even odds: the
wealth

    E_t = Σ_{j ≤ t} w_j Π_{i = j…t} Π_y (1 + f (y/μ − 1)) + Σ_{j > t} w_j,   w_j = 1/(j (j + 1)),

averaged over a few f, is a nonnegative supermartingale that starts at 1, whatever training does in
between and whenever one looks or draws more. So it ever reaches K/α with a chance of at most α/K
(Ville), and of K intact capabilities any is called broken in a whole run, however long, with a
chance of at most α. Nothing is calibrated. The sum over j is for changes that come late.

Source: Ville (1939); Waudby-Smith and Ramdas, Estimating means of bounded random variables by
betting (arXiv 2010.09686); Shin, Ramdas and Rinaldo, E-detectors (arXiv 2203.03532), for the sum
over beginnings, there with equal weights, which bound the rate of false alarms, not their chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from leray.errors import LerayError

BETS = (0.1, 0.2, 0.4, 0.8)
"""f: the best of them is near (q − μ)/(1 − μ) where a share q fails."""
SAFE = 0.25
"""m*, as a share of the mean margin at the start."""


@dataclass(frozen=True)
class Canaries:
    """Tests of one capability.

    Args:
        inputs: What the model is called with.
        answers: The right class of each.
        places: Where in the output each answer stands; None where the output is ``[n, classes]``.
        choices: The classes among which the right one must win; None for all.

    Raises:
        LerayError: No tests; answers or places that are not as many or no whole numbers from 0 on;
            choices of which no other could win, or which lack an answer.
    """

    inputs: Tensor
    answers: Int[Tensor, " n"]
    places: Int[Tensor, " n"] | None = None
    choices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) == 0:
            raise LerayError("a canary set without tests watches nothing: give at least one input")
        for what, x in (("answers", self.answers), ("places", self.places)):
            if x is None:
                continue
            if x.shape != (len(self.inputs),):
                raise LerayError(
                    f"{len(self.inputs)} canaries need as many {what} in one row; got "
                    f"{list(x.shape)}"
                )
            if x.is_floating_point() or int(x.min()) < 0:
                raise LerayError(f"{what} of canaries must be whole numbers from 0 on")
        if self.choices is None:
            return
        if len(set(self.choices)) < 2 or min(self.choices) < 0:
            raise LerayError(
                f"choices must be two classes or more, none below 0; got {list(self.choices)}"
            )
        if not set(self.answers.tolist()) <= set(self.choices):
            raise LerayError(f"a canary's answer is none of the choices {list(self.choices)}")

    def __len__(self) -> int:
        return len(self.inputs)

    def taken(self, rows: Int[Tensor, " m"]) -> Canaries:
        """These of them, in this order."""
        places = None if self.places is None else self.places[rows]
        return Canaries(self.inputs[rows], self.answers[rows], places, self.choices)


def margins(model: nn.Module, canaries: Canaries) -> Float[Tensor, " n"]:
    """The logit of the right answer less the best wrong one; differentiable."""
    return _margins(model(canaries.inputs), canaries)


def margins_of(model: nn.Module, sets: Sequence[Canaries]) -> list[Float[Tensor, " n"]]:
    """Of several sets, each among its own choices, in one pass where their inputs allow.

    Where answers have places, shorter texts are padded behind: what stands there a causal model
    does not see.
    """
    inputs = [s.inputs for s in sets]
    if all(s.places is not None and s.inputs.ndim == 2 for s in sets):
        longest = max(x.shape[1] for x in inputs)
        inputs = [nn.functional.pad(x, (0, longest - x.shape[1])) for x in inputs]
    if len({(x.shape[1:], x.dtype) for x in inputs}) > 1:
        return [margins(model, s) for s in sets]
    logits = model(torch.cat(inputs)).split([len(s) for s in sets])
    return [_margins(x, s) for x, s in zip(logits, sets, strict=True)]


def _margins(logits: Tensor, canaries: Canaries) -> Float[Tensor, " n"]:
    rows = torch.arange(len(logits), device=logits.device)
    if canaries.places is not None:
        logits = logits[rows, canaries.places]
    answers = canaries.answers
    if canaries.choices is not None:
        choices = torch.tensor(canaries.choices, device=logits.device)
        logits = logits[:, choices]
        answers = (answers[:, None] == choices).int().argmax(dim=1)
    others = logits.scatter(1, answers[:, None], -torch.inf)
    return logits[rows, answers] - others.amax(dim=1)


def _check(name: str, logits: Tensor, tests: Canaries) -> None:
    """Refuse outputs in which the answers of these canaries have no place."""
    placed = tests.places is not None
    wanted = "[canaries, places, classes]" if placed else "[canaries, classes]"
    if logits.ndim != 2 + placed or len(logits) != len(tests):
        raise LerayError(
            f"on the canaries of {name!r} the model must put out {wanted}; got "
            f"{list(logits.shape)}{'' if placed else ': give places, where each answer stands'}"
        )
    largest = max(int(tests.answers.max()), *(tests.choices or (0,)), 0)
    if largest >= logits.shape[-1]:
        raise LerayError(
            f"the canaries of {name!r} name the class {largest}; the model has "
            f"{logits.shape[-1]}, from 0 on"
        )
    if tests.places is not None and int(tests.places.max()) >= logits.shape[1]:
        raise LerayError(
            f"the canaries of {name!r} name the place {int(tests.places.max())}; the model puts "
            f"out {logits.shape[1]}, from 0 on"
        )


def failures(margin: Float[Tensor, "*n"], safe: float | Tensor) -> Float[Tensor, "*n"]:
    """y: 0 where the margin is safe, 1 where the answer is wrong, or no number came."""
    return (1 - margin / safe).clamp(0, 1).nan_to_num(nan=1.0)


@dataclass(frozen=True)
class Limits:
    """What holds at the start.

    Args:
        safe: m* of each capability, by name.
        start: Mean failure of each.
    """

    safe: dict[str, float]
    start: dict[str, float]


@torch.no_grad()
def limits_of(model: nn.Module, canaries: Mapping[str, Canaries], least: float = 0.9) -> Limits:
    """Margins and failures of a model that has the capabilities.

    Args:
        least: The share of right answers that a capability must have.

    Raises:
        LerayError: No capability; one that the model does not have; outputs that are no numbers, or
            in which its answers have no place.
    """
    if not canaries:
        raise LerayError("no canaries: give tests of at least one capability")
    safe, start = {}, {}
    for name, tests in canaries.items():
        logits = model(tests.inputs)
        _check(name, logits, tests)
        found = _margins(logits, tests)
        if not found.isfinite().all():
            raise LerayError(f"the model's outputs on the canaries of {name!r} are not finite")
        right = float((found > 0).double().mean())
        if right < least:
            raise LerayError(
                f"the model fails its canaries at the start: {right:.3f} of {name!r} right, "
                f"{least:g} needed; train it further or watch another capability"
            )
        safe[name] = SAFE * float(found.mean())
        start[name] = float(failures(found, safe[name]).mean())
    return Limits(safe, start)


class Betting:
    """Bets against capabilities being intact; see the top of the file.

    Args:
        bounds: μ of each.
        level: α, the chance of any false alarm, over the whole run and all capabilities.

    After the a-th alarm `restart` begins anew with the level α/(a (a + 1)), which sum to α.
    """

    def __init__(self, bounds: Sequence[float], level: float) -> None:
        if not all(0 < b < 1 for b in bounds) or not 0 < level < 1:
            raise LerayError(f"bounds and level must lie in (0, 1); got {list(bounds)}, {level}")
        self.bounds = np.array(bounds)
        self.level, self.alarms = level, 0
        self._bets = np.array(BETS)
        self._clear()

    def _clear(self) -> None:
        self.checks = 0
        self.log_wealth = np.full((len(self.bounds), len(self._bets)), -np.inf)
        """Of every capability and f: the logarithm of the first sum."""

    def begin(self) -> None:
        """A check begins, and with it one more bet."""
        self.checks += 1
        weight = -math.log(self.checks * (self.checks + 1))
        self.log_wealth = np.logaddexp(self.log_wealth, weight)

    def read(self, capability: int, found: Float[np.ndarray, " n"]) -> float:
        """Failures drawn now; returns by how much they speak against it: log E's change or so."""
        odds = found[:, None] / self.bounds[capability] - 1
        gained = np.log1p(self._bets * odds).sum(axis=0)
        self.log_wealth[capability] += gained
        return float(gained.max())

    @property
    def evidence(self) -> Float[np.ndarray, " capabilities"]:
        """log E of each."""
        mean = np.logaddexp.reduce(self.log_wealth, axis=1) - math.log(len(self._bets))
        return np.logaddexp(mean, -math.log(self.checks + 1))

    @property
    def limit(self) -> float:
        """What log E must reach."""
        a = self.alarms + 1
        return math.log(len(self.bounds) * a * (a + 1) / self.level)

    def broken(self) -> list[int]:
        """The capabilities that are."""
        return np.flatnonzero(self.evidence >= self.limit).tolist()

    def restart(self) -> None:
        """After an alarm."""
        self.alarms += 1
        self._clear()
