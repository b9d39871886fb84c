"""How much a run of the importance study computes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from leray.errors import LerayError, nearest

Method = Literal["genetic", "montecarlo", "bayes", "variational", "networks", "tensors", "ceiling"]

NEEDS: dict[Method, tuple[str, ...]] = {
    "genetic": (),
    "montecarlo": (),
    "bayes": ("jax", "numpyro", "arviz_base", "arviz_stats", "h5netcdf"),
    "variational": ("jax", "numpyro", "arviz_stats"),
    "networks": (),
    "tensors": ("tensorly",),
    "ceiling": (),
}
"""The packages of the extra ``stack`` that a method imports."""

MIN_CONVERSATIONS, MAX_CONVERSATIONS = 1_600, 10**9
"""The fewest that can be simulated, 160 batches of ten, and the most: a day of work on one core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The methods and the sizes of a run; bootstrap and permutation belong to every one.

    Args:
        methods: Which heavy methods, in the order of the report.
        num_resamples: Cluster bootstrap resamples.
        num_permutations: Elements of the group: rotations or sign flips of the labels.
        num_sign_flips: Paired sign flips, where they are too many to enumerate.
        num_gram, num_literal: Simulated conversations, from the exact law of their inner products
            and with every embedding drawn.
        num_warmup, num_draws: Of each of the four NUTS chains.
        num_vi_steps: Steps of variational inference.
        num_generations: Of each start of the genetic algorithm.
        num_rows: Training rows of a network in each fold.
        exhaustive_networks: Train all 219 candidates to the end instead of halving their number.
    """

    methods: tuple[Method, ...]
    num_resamples: int = 10_000
    num_permutations: int = 100_000
    num_sign_flips: int = 100_000
    num_gram: int = 1_000_000
    num_literal: int = 10_000
    num_warmup: int = 5_000
    num_draws: int = 20_000
    num_vi_steps: int = 10_000
    num_generations: int = 500
    num_rows: int = 20_000
    exhaustive_networks: bool = False


PRESETS = {
    "quick": Preset(methods=("genetic",)),
    "montecarlo": Preset(methods=("montecarlo",)),
    "bayes": Preset(methods=("bayes", "variational")),
    "full": Preset(
        methods=(
            "montecarlo",
            "bayes",
            "variational",
            "networks",
            "genetic",
            "tensors",
            "ceiling",
        )
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        LerayError: for an unknown name, with the nearest known one; where a package that it needs
            is not installed, with the command that installs it.
    """
    if name not in PRESETS:
        raise LerayError(
            f"no preset {name!r}; there is {', '.join(PRESETS)}{nearest(name, PRESETS)}"
        )
    chosen = PRESETS[name]
    needed = dict.fromkeys(package for m in chosen.methods for package in NEEDS[m])
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise LerayError(
            f"--preset {name} needs {', '.join(missing)}; install with: "
            "pip install -c constraints.txt -e '.[stack]'"
        )
    return chosen
