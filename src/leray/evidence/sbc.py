"""Simulation-based calibration: is the posterior right, on average over its own prior?

Parameters are drawn from the prior, data from the parameters, and a posterior sample from the
data; the rank of the true parameter among L independent posterior draws is then uniform on
0, …, L. No data set is discarded: where the importance sampler's k̂ exceeds 0.7, NUTS takes over.

Source: Talts, Betancourt, Simpson, Vehtari and Gelman (arXiv:1804.06788); Säilynoja, Bürkner and
Vehtari, Graphical test for discrete uniformity (Statistics and Computing 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from leray.evidence.bayes import GaussianData, Priors, gaussian_model, moments_data
from leray.evidence.density import Array, Model, constrained, dimension
from leray.evidence.laplace import TRUSTED, Weighted, importance_sample
from leray.evidence.mode import Mode, find_mode
from leray.evidence.nuts import NutsChains
from leray.evidence.resampling import RandomKey, Samples, Stateless

INFORMATIVE = Priors(concentration=1.0, slope=0.5, noise=1.0, centre=0.5, spread=0.3)
"""The model's priors with scales that simulated data can have."""
_SITES = ("w", "b", "mu", "sigma", "tau")
_BINS = 20
_NUM_NUTS = 2_000


class Ranks(NamedTuple):
    """Ranks of the truth, and what made them.

    ``ranks [datasets, parameters]`` among ``num_draws`` draws; ``k_hat [datasets]`` of the
    importance sampler (infinite where it found no mode); ``by_nuts [datasets]``.
    """

    names: tuple[str, ...]
    ranks: Int[Array, "datasets parameters"]
    num_draws: int
    k_hat: Float[Array, " datasets"]
    by_nuts: Bool[Array, " datasets"]

    def chi_square(self) -> Float[Array, " parameters"]:
        """p of evenness over 20 bins, a parameter a number."""
        place = self.ranks * _BINS // (self.num_draws + 1)
        counts = [np.bincount(column, minlength=_BINS) for column in place.T]
        return np.array([stats.chisquare(c).pvalue for c in counts])

    def ecdf(self, num_simulations: int, rng: np.random.Generator) -> Float[Array, " parameters"]:
        """p of the simultaneous band of the ranks' distribution function, by simulation."""
        uniform = rng.integers(self.num_draws + 1, size=(num_simulations, len(self.ranks)))
        null = np.sort(ecdf_depth(uniform, self.num_draws))
        depth = ecdf_depth(self.ranks.T, self.num_draws)
        return (1 + np.searchsorted(null, depth, side="right")) / (1 + num_simulations)


def ecdf_depth(ranks: Int[Array, "sets n"], num_draws: int) -> Float[Array, " sets"]:
    """The smallest pointwise binomial tail over the distribution function of each set of ranks.

    γ = 2 min_k min(F(R_k; n, z_k), 1 − F(R_k − 1; n, z_k)), R_k the ranks below k and z_k = k /
    (L + 1), k = 1, …, L. Small where the ranks leave the band somewhere.
    """
    n = ranks.shape[1]
    levels = np.arange(1, num_draws + 1)
    below = np.stack([np.searchsorted(np.sort(r), levels) for r in ranks])
    z = levels / (num_draws + 1)
    tails = np.minimum(stats.binom.cdf(below, n, z), stats.binom.sf(below - 1, n, z))
    return 2 * tails.min(axis=1)


class Truth(NamedTuple):
    """Parameters drawn from the prior."""

    w: Array
    b: float
    mu: float
    sigma: float
    tau: Array


@dataclass(frozen=True, kw_only=True)
class SimulationBasedCalibration(Stateless):
    """Rank the truth in the posteriors of data simulated from the Gaussian model; a step some sets.

    Args:
        num_datasets: A multiple of shards times ``datasets_per_step``.
        num_clusters, num_rows: Conversations, and rows in each.
        unit: u of the model, one a signal, with mean 1.
        priors: From which the parameters are drawn and under which they are inferred.
        num_importance: Draws of the importance sampler.
        num_ranked: L, the posterior draws a truth is ranked among; L + 1 a multiple of 20.
    """

    num_datasets: int = 256
    num_clusters: int = 20
    num_rows: int = 60
    unit: tuple[float, ...] = (1.3, 0.5, 0.6, 1.6)
    priors: Priors = INFORMATIVE
    num_importance: int = 4_000
    num_ranked: int = 99
    datasets_per_step: int = 16
    name: str = "sbc"
    num_shards: int = 4

    def __post_init__(self) -> None:
        if self.num_datasets % (self.num_shards * self.datasets_per_step):
            raise ValueError(
                f"{self.num_datasets} data sets are not a multiple of "
                f"{self.num_shards} × {self.datasets_per_step}"
            )
        if (self.num_ranked + 1) % _BINS:
            raise ValueError(f"num_ranked + 1 must be a multiple of {_BINS}")

    @property
    def num_steps(self) -> int:
        return self.num_datasets // (self.num_shards * self.datasets_per_step)

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        rows = [self._one(rng) for _ in range(self.datasets_per_step)]
        ranks, k_hat, by_nuts = zip(*rows, strict=True)
        return state, {
            "ranks": np.stack(ranks),
            "k_hat": np.array(k_hat),
            "by_nuts": np.array(by_nuts),
        }

    def result(self, samples: list[list[Samples]]) -> Ranks:
        flat = [s for shard in samples for s in shard]
        ranks, k_hat, by_nuts = (
            np.concatenate([s[k] for s in flat]) for k in ("ranks", "k_hat", "by_nuts")
        )
        d = len(self.unit)
        names = [f"w[{k}]" for k in range(d)] + ["b", "mu", "sigma"]
        names += [f"tau[{k}]" for k in range(d + 1)]
        return Ranks(tuple(names), ranks, self.num_ranked, k_hat, by_nuts)

    def truth(self, rng: np.random.Generator) -> Truth:
        """Parameters from the prior."""
        alpha, slope, noise, centre, spread = self.priors
        d = len(self.unit)
        return Truth(
            w=rng.dirichlet(np.full(d, alpha)),
            b=abs(rng.normal(0, slope)),
            mu=rng.normal(0, centre),
            sigma=abs(rng.normal(0, noise)),
            tau=np.abs(rng.normal(0, spread, size=d + 1)),
        )

    def simulate(self, truth: Truth, rng: np.random.Generator) -> GaussianData:
        """Moments of data with these parameters; signals share half of their variance."""
        d, C, n = len(self.unit), self.num_clusters, self.num_rows
        unit = np.array(self.unit)
        x = (rng.normal(size=(C, n, d)) + rng.normal(size=(C, n, 1))) / np.sqrt(2)
        Z = np.concatenate([np.ones((C, n, 1)), x], axis=2)
        mean = np.append(truth.mu, truth.b * truth.w * unit)
        effects = mean + truth.tau * rng.normal(size=(C, d + 1))
        y = np.einsum("cni,ci->cn", Z, effects) + truth.sigma * rng.normal(size=(C, n))
        V = np.concatenate([Z, y[..., None]], axis=2)
        return moments_data(np.einsum("cni,cnj->cij", V, V), unit, self.priors)

    def _one(self, rng: np.random.Generator) -> tuple[Array, float, bool]:
        truth = self.truth(rng)
        data = self.simulate(truth, rng)
        drawn = posterior_draws(gaussian_model, data, self.num_importance, rng)
        sites = constrained(gaussian_model, data, drawn.even(self.num_ranked))
        flat = np.concatenate([sites[s].reshape(self.num_ranked, -1) for s in _SITES], axis=1)
        true = np.concatenate([np.ravel(getattr(truth, s)) for s in _SITES])
        return (flat < true).sum(axis=0), drawn.k_hat, drawn.k_hat > TRUSTED


def posterior_draws(
    model: Model, data: GaussianData, num_importance: int, rng: np.random.Generator
) -> Weighted:
    """Draws by importance sampling where its k̂ allows it, else by one NUTS chain, equally weighted.

    k̂ stays that of the importance sampler; it is infinite where no proposal could be made.
    """
    k_hat = np.inf
    try:
        mode = find_mode(model, data)
        drawn = importance_sample(model, data, mode, num_importance, rng)
        if drawn.k_hat <= TRUSTED:
            return drawn
        k_hat = drawn.k_hat
    except (ArithmeticError, np.linalg.LinAlgError):
        mode = flat_start(model, data)
    chain = NutsChains(
        model=model,
        data=data,
        mode=mode,
        num_warmup=500,
        num_draws=_NUM_NUTS,
        num_chains=1,
        draws_per_step=500,
    )
    key = Seeded(int(rng.integers(2**62)))
    state, pieces = chain.init(0, key), []
    for k in range(chain.num_steps):
        state, samples = chain.step(state, k, key)
        pieces.append(samples["z"])
    even = np.full(_NUM_NUTS, -np.log(_NUM_NUTS))
    return Weighted(np.concatenate(pieces), even, k_hat, k_hat, mode)


def flat_start(model: Model, data: GaussianData) -> Mode:
    """Where to start where no mode was found: the origin, half a unit wide in every direction."""
    p = dimension(model, data)
    return Mode(np.zeros(p), 0.25 * np.eye(p))


@dataclass(frozen=True)
class Seeded:
    """A key for a computation inside a step: a seed drawn from the step's own stream."""

    seed: int

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)
