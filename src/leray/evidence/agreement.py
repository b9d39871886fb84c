"""Do variational inference and the Markov chain agree about the weights? One keyed computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from leray.evidence.density import Array, Model, constrained
from leray.evidence.diagnostics import largest_wasserstein
from leray.evidence.resampling import RandomKey, Samples, Stateless
from leray.evidence.variational import FAMILIES, Family, Fit, fit_draws, reliability


class Agreement(NamedTuple):
    """One family of fits against the chain, over the d weights.

    ``largest`` 1-Wasserstein distance in standard deviations of the chain, its bootstrap
    ``resampled [B]``, and ``each [d]``; ``mean [d]``, ``sd [d]``, ``correlation [d, d]`` of the
    fits' draws; ``k_hat`` of each fit, a seed a number; ``draws [fits, draws, d]``.
    """

    largest: float
    resampled: Array
    each: Array
    mean: Array
    sd: Array
    correlation: Array
    k_hat: Array
    draws: Array


@dataclass(frozen=True, kw_only=True)
class PosteriorAgreement(Stateless):
    """Compare the weights of NUTS with those of each variational family; a step a family.

    Args:
        model, data: The density.
        weights: The chain's weights, ``[chains, draws, d]``.
        locations, roots: Of the fits, ``[families, seeds, p]`` and ``[families, seeds, p, p]``.
        num_draws: From each fit.
        num_resamples: Of blocks of the chain, and of the fits' seeds.
    """

    model: Model
    data: Any
    weights: Float[Array, "chains draws d"]
    locations: Float[Array, "families seeds p"]
    roots: Float[Array, "families seeds p p"]
    num_draws: int = 20_000
    num_resamples: int = 1_000
    name: str = "agreement"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return len(self.locations)

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        places = zip(self.locations[step_index], self.roots[step_index], strict=True)
        fits = [Fit(location, root, np.zeros(0)) for location, root in places]
        z = np.stack([fit_draws(fit, self.num_draws, rng) for fit in fits])
        k_hat = [reliability(self.model, self.data, f, at) for f, at in zip(fits, z, strict=True)]
        w = constrained(self.model, self.data, z)["w"]
        distance = largest_wasserstein(self.weights, w, self.num_resamples, rng)
        return state, {
            "largest": np.array([distance.largest]),
            "resampled": distance.resampled,
            "each": distance.each,
            "k_hat": np.array(k_hat),
            "draws": w.astype(np.float32),
        }

    def result(self, samples: list[list[Samples]]) -> dict[Family, Agreement]:
        return {family: _agreement(s) for family, s in zip(FAMILIES, samples[0], strict=True)}


def _agreement(s: Samples) -> Agreement:
    w = s["draws"].reshape(-1, s["draws"].shape[-1]).astype(np.float64)
    return Agreement(
        largest=float(s["largest"][0]),
        resampled=s["resampled"],
        each=s["each"],
        mean=w.mean(axis=0),
        sd=w.std(axis=0),
        correlation=np.asarray(np.corrcoef(w.T)),
        k_hat=s["k_hat"],
        draws=s["draws"],
    )
