"""A model whose posterior is known in closed form: the mean of a Gaussian with known covariance."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


class Bell(NamedTuple):
    """The posterior N(``mean``, ``covariance``) on R^p."""

    mean: np.ndarray
    covariance: np.ndarray


def bell_model(data: Bell) -> None:
    numpyro.sample("z", dist.MultivariateNormal(jnp.asarray(data.mean), data.covariance))


def bell() -> Bell:
    correlation = np.array([[1.0, 0.8, 0.2], [0.8, 1.0, 0.1], [0.2, 0.1, 1.0]])
    sd = np.array([0.5, 2.0, 1.0])
    return Bell(np.array([1.0, -2.0, 0.3]), correlation * np.outer(sd, sd))
