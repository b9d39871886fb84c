"""What the Bayesian methods hand on: the posterior's draws, and the file that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import arviz_base
import numpy as np

from leray.evidence.bayes import GaussianData
from leray.evidence.density import Array
from leray.evidence.laplace import Weighted
from leray.evidence.nuts import Chains

SITES = ("w", "b", "mu", "sigma", "tau")


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """The Gaussian model's posterior by NUTS, and beside it by importance sampling.

    Args:
        signals: Names of the d signals.
        data: The standardised moments.
        scales: What they were divided by: the signals' and the truth's standard deviations.
        chains: The draws on R^p.
        draws: The same on the model's own scale, ``[chains, draws, …]`` by site.
        laplace: Weighted draws around the mode.
        num_clusters: Conversations.
    """

    signals: tuple[str, ...]
    data: GaussianData
    scales: Array
    chains: Chains
    draws: dict[str, Array]
    laplace: Weighted
    num_clusters: int


def netcdf(posterior: Posterior, attributes: dict[str, Any]) -> bytes:
    """The draws as NetCDF bytes that ArviZ opens; float32, about 70 bytes a draw."""
    effects = ("intercept", *posterior.signals)
    chains = posterior.chains
    tree = arviz_base.from_dict(
        {
            "posterior": {s: posterior.draws[s].astype(np.float32) for s in SITES},
            "sample_stats": {
                "diverging": chains.diverging,
                "n_steps": chains.num_leapfrogs.astype(np.int16),
                "acceptance_rate": chains.acceptance.astype(np.float32),
                "lp": -chains.potential,
            },
        },
        coords={"signal": list(posterior.signals), "effect": list(effects)},
        dims={"w": ["signal"], "tau": ["effect"]},
        attrs={"posterior": attributes},
    )
    written = tree.to_netcdf(engine="h5netcdf")
    assert written is not None, "without a path the bytes come back"
    return bytes(written)
