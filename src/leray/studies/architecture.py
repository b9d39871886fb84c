"""The architecture study: models of equal size, each at its best rate, on text none has seen.

Protocol, the same for every variant:

1. *Rates.* The same few multiples of one pair of learning rates are tried, one run of the whole
   length each, with a seed of its own; the least loss on the tuning split wins.
2. *Runs.* That rate, the whole length, seeds 0, 1, …; equal seeds see equal batches in every
   variant, so that differences are paired.
3. *Report.* After the last step, and never before, the loss of every document of the report split.
4. *Headline*: the default, the baseline, and the rival with the least loss in step 1, with more
   seeds at a larger scale; shorter runs of them, each with its own whole schedule and rate: the
   loss against compute, and how much of it the default needs to reach the baseline's final loss.

What comes out is compared in :mod:`leray.studies.architecture_differences`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import torch

from leray.errors import LerayError
from leray.evidence.paired import by_seed
from leray.lm.flops import train_flops_per_token
from leray.runs.computation import Computation, State
from leray.studies.variants import Tables, Variant, configured, variants
from leray.train.configuration import TrainingConfig
from leray.train.evaluation import Look, look_of
from leray.train.graphs import own_stream
from leray.train.live import Live
from leray.train.tokens import Batches, TokenFiles
from leray.train.training import Curve, Training, loaded, num_parameters, weightless

Drive = Callable[[Computation[Any]], Any]
Final = Callable[[Computation[Any], int], State | None]

TUNE_SEED = 1_000_000
"""Of the runs that choose a rate; no run that is reported has it."""
MOVED_SEED = 1_000
"""The first of the runs that begin with another's levels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How large the models are and how long they train."""

    width: int
    num_layers: int
    num_heads: int
    context: int
    num_sequences: int
    num_steps: int

    def tables(self) -> Tables:
        """The baseline's tables."""
        return {
            "model": {
                "width": self.width, "num_layers": self.num_layers, "num_heads": self.num_heads,
            },
            "data": {"context": self.context, "num_sequences": self.num_sequences},
            "schedule": {"num_steps": self.num_steps, "interval": min(50, self.num_steps)},
        }  # fmt: skip

    def shorter(self, frac: float) -> Scale:
        """With this fraction of the steps."""
        return replace(self, num_steps=max(1, round(frac * self.num_steps)))

    @property
    def num_tokens(self) -> int:
        """Of a training run."""
        return self.num_steps * self.num_sequences * self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Models of one scale: how many seeds, and how their rates are chosen.

    Args:
        rates: Multiples of both learning rates that are tried, in runs of the whole length.
    """

    scale: Scale
    num_seeds: int
    rates: tuple[float, ...] = (1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much a run of the study computes.

    Args:
        screen: All variants, where they are asked for.
        headline: The models compared with the default; None for those of the screen.
        fractions: Of the steps, in the shorter runs of the headline models.
        num_short_seeds: Of these.
        others: More scales for the headline models.
        defects: More scales at which the transitions of the screen are trained.
        ablations: Whether the default is also trained without each of its parts, at the scale of
            the headline, without one at the screen's.
        report_windows: Of the report split that are read; None for all.
    """

    screen: Part | None
    headline: Part | None = None
    fractions: tuple[float, ...] = ()
    num_short_seeds: int = 4
    others: tuple[Part, ...] = ()
    defects: tuple[Part, ...] = ()
    ablations: bool = False
    report_windows: int | None = None


_SMALL = Scale(width=64, num_layers=4, num_heads=2, context=128, num_sequences=4, num_steps=40)
_MIDDLE = Scale(width=96, num_layers=4, num_heads=3, context=256, num_sequences=8, num_steps=250)
_LARGE = Scale(width=128, num_layers=4, num_heads=4, context=256, num_sequences=8, num_steps=1500)
_SCREEN = Part(scale=_MIDDLE, num_seeds=8)
_DEFECTS = tuple(
    replace(_SCREEN, scale=replace(_MIDDLE, width=w, num_heads=h), rates=(1.0, 2.0))
    for w, h in ((48, 3), (144, 3))
)
_HEADLINE = Size(
    screen=None,
    headline=Part(scale=_LARGE, num_seeds=8, rates=(0.6, 1.0, 1.6)),
    fractions=(1 / 12, 1 / 6, 1 / 3, 2 / 3),
)
_NARROW, _WIDE = (
    Part(scale=replace(_MIDDLE, width=w, num_heads=w // 32), num_seeds=4) for w in (64, 192)
)
SIZES = {
    "quick": Size(
        screen=Part(scale=_SMALL, num_seeds=3, rates=(1.0, 3.0)),
        fractions=(0.5, 0.75),
        num_short_seeds=3,
        report_windows=128,
    ),
    "screen": Size(screen=_SCREEN, fractions=(0.5,), defects=_DEFECTS),
    "headline": _HEADLINE,
    "parts": replace(_HEADLINE, ablations=True),
    "narrow": Size(screen=None, headline=_NARROW),
    "wide": Size(screen=None, headline=_WIDE),
    "full": Size(
        screen=_SCREEN,
        headline=_HEADLINE.headline,
        fractions=_HEADLINE.fractions,
        others=(_NARROW, _WIDE),
        defects=_DEFECTS,
        ablations=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a variant's runs came to.

    Args:
        rate: The multiple of the rates that was chosen, and ``tried`` what each gave.
        nats: ``[seeds, documents]`` on the report split, and the documents' ``tokens``.
        flops: Of a token.
        curves: By seed.
    """

    variant: Variant
    parameters: int
    flops: float
    rate: float
    tried: dict[float, float]
    nats: np.ndarray
    tokens: np.ndarray
    curves: tuple[Curve, ...]

    @property
    def losses(self) -> np.ndarray:
        """Nats a token of every seed."""
        return by_seed(self.nats, self.tokens)


@dataclass(frozen=True)
class Protocol:
    """Trains variants on one text, at one scale, through the driver.

    Args:
        drive: Makes the steps of a computation, and returns its result.
        final: The last state of a shard of one.
        label: Part of the names of its computations.
        report_windows: Of the report split that are read; None for all.
    """

    files: TokenFiles
    part: Part
    drive: Drive
    final: Final
    label: str
    report_windows: int | None = None
    device: str = "cpu"

    def train(self, variant: Variant, frac: float = 1.0, num_seeds: int | None = None) -> Trained:
        """Choose its rate at this fraction of the steps, then train every seed."""
        tried = self.tried(variant, frac)
        # Of equal losses the smaller rate; a rate that diverged has infinite loss.
        rate = min(tried, key=lambda r: (tried[r], r))
        if not np.isfinite(tried[rate]):
            raise LerayError(f"{variant.name!r} diverged at every rate: {sorted(tried)}")
        config = self._config(variant, self.part.scale.shorter(frac))
        rates = (rate,) * (num_seeds or self.part.num_seeds)
        curves = self._runs(_named("train", variant, frac), config, rates)
        return self._trained(variant, config, rate, tried, curves)

    def moved(self, trained: Trained, name: str, layers: Sequence[int]) -> Trained:
        """Trained once more from other seeds, the embedding and the first layers from its own runs.

        Args:
            layers: Which of the trained layers stand in the places of the first ones.
        """
        config = self._config(trained.variant, self.part.scale)
        source = self._training(
            f"train-{trained.variant.name}", config, (trained.rate,) * self.part.num_seeds
        )
        states = [self.final(source, shard) for shard in range(self.part.num_seeds)]
        found = [s for s in states if s is not None]
        given, origin = (), ""
        if layers:
            origin = f"{source.name}, layers {', '.join(map(str, layers))}"
            if len(found) == len(states):
                given = tuple(_weights_of_layers(s, layers) for s in found)
        seeds = tuple(range(MOVED_SEED, MOVED_SEED + self.part.num_seeds))
        rates = (trained.rate,) * self.part.num_seeds
        training = self._training(f"moved-{name}", config, rates, seeds)
        curves = self.drive(replace(training, given=given, given_from=origin))
        variant = replace(trained.variant, name=name, claim=None)
        return self._trained(variant, config, trained.rate, trained.tried, curves)

    def look(self, trained: Trained) -> Look | None:
        """Where the first seed's model looks on the tuning split; None where its weights are gone.

        That is so in an archive of samples alone.
        """
        config = self._config(trained.variant, self.part.scale)
        rates = (trained.rate,) * self.part.num_seeds
        state = self.final(self._training(f"train-{trained.variant.name}", config, rates), 0)
        if state is None:
            return None
        model = loaded(config, state)
        split, starts = self.files.splits["tune"], self.files.starts["tune"]
        return look_of(model, split, starts, self.part.scale.context)

    def seconds_a_step(self, trained: Sequence[Trained], num_rounds: int = 5) -> dict[str, float]:
        """Medians of steps taken in turn, after one each that is not counted.

        Seconds of the processor where it does the work, else by the clock.
        """
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        configs = [self._config(t.variant, self.part.scale) for t in trained]
        data = configs[0].data
        batches = Batches(self.files.splits["train"], data.context, data.num_sequences, TUNE_SEED)
        found = np.empty((num_rounds + 1, len(configs)))
        with own_stream(torch.device(self.device)):
            lives = [Live(c, self.device) for c in configs]
            for k, (i, live) in product(range(num_rounds + 1), enumerate(lives)):
                started = clock()
                live.train_all(batches, range(k, k + 1))
                found[k, i] = clock() - started
        return {
            t.variant.name: float(s)
            for t, s in zip(trained, np.median(found[1:], axis=0), strict=True)
        }

    def tried(self, variant: Variant, frac: float = 1.0) -> dict[float, float]:
        """The loss on the tuning split at every rate: the fewer the steps, the larger these are."""
        rates = tuple(r / sqrt(frac) for r in self.part.rates)
        config = self._config(variant, self.part.scale.shorter(frac))
        seeds = (TUNE_SEED,) * len(rates)
        curves = self._runs(_named("tune", variant, frac), config, rates, seeds, report=False)
        losses = (float(c.tune[-1]) for c in curves)
        return dict(zip(rates, losses, strict=True))

    def best_rival(self) -> str:
        """The name of the baseline or rival with the least loss on the tuning split."""
        rivals = [v for v in all_variants(self.part.scale) if v.role in ("baseline", "rival")]
        return min(rivals, key=lambda v: min(self.tried(v).values())).name

    def _runs(self, *args: Any, **more: Any) -> list[Curve]:
        return self.drive(self._training(*args, **more))

    def _training(
        self,
        name: str,
        config: TrainingConfig,
        rates: Sequence[float],
        seeds: Sequence[int] | None = None,
        *,
        report: bool = True,
    ) -> Training:
        files = self.files
        return Training(
            configs=tuple(at_rate(config, r) for r in rates),
            seeds=tuple(range(len(rates)) if seeds is None else seeds),
            tokens=files.splits["train"],
            tune=files.splits["tune"],
            tune_starts=files.starts["tune"],
            report=files.splits["report"] if report else None,
            report_starts=files.starts["report"] if report else None,
            report_windows=self.report_windows,
            device=self.device,
            name=f"{self.label}-{name}".replace(" ", "_"),
        )

    def _trained(
        self, variant: Variant, config: TrainingConfig, rate: float, tried: dict[float, float],
        curves: list[Curve],
    ) -> Trained:  # fmt: skip
        model = weightless(config.model)
        reports = [c.report for c in curves if c.report is not None]
        return Trained(
            variant=variant,
            parameters=num_parameters(model),
            flops=train_flops_per_token(
                model, self.part.scale.context, pages=config.loss.pages > 0
            ),
            rate=rate,
            tried=tried,
            nats=np.stack([r.nats for r in reports]),
            tokens=reports[0].counts,
            curves=tuple(curves),
        )

    def _config(self, variant: Variant, scale: Scale) -> TrainingConfig:
        return configured(variant, scale.tables(), self.files.vocabulary.size)


def _weights_of_layers(state: State, layers: Sequence[int]) -> dict[str, np.ndarray]:
    """The embedding, and the weights of these layers under the names of the first ones."""
    weights = {k.removeprefix("weights."): v for k, v in state.items() if k.startswith("weights.")}
    found = {"embedding.weight": weights["embedding.weight"]}
    for place, layer in enumerate(layers):
        start = f"blocks.{layer}."
        found |= {
            f"blocks.{place}.{k.removeprefix(start)}": v
            for k, v in weights.items()
            if k.startswith(start)
        }
    return {k: np.asarray(v) for k, v in found.items()}


def _named(what: str, variant: Variant, frac: float) -> str:
    return f"{what}-{variant.name}" + (f"-{frac:.3g}" if frac < 1 else "")


def at_rate(config: TrainingConfig, times: float) -> TrainingConfig:
    """With both learning rates multiplied."""
    o = config.optimizer
    faster = replace(o, rate=o.rate * times, matrix_rate=o.matrix_rate * times)
    return replace(config, optimizer=faster)


def all_variants(scale: Scale) -> tuple[Variant, ...]:
    """Of the study, at a scale."""
    return variants(scale.width, scale.num_layers, scale.context, scale.num_steps)
