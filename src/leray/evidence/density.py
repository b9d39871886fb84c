"""The log density of a NumPyro model on R^p: what every sampler and approximation here works on.

A model is a module-level function ``model(data)`` of NumPyro primitives; ``data`` is a tuple of
arrays, passed as an argument and never baked in, so that one compiled program serves every data
set of a shape. Sites are mapped to R^p by their bijections, in the alphabetical order of their
names, and the Jacobian is part of the density: potential(z) = −log p(data, θ(z)) − log |dθ/dz|.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float
from numpyro.distributions import biject_to
from numpyro.handlers import seed, trace
from numpyro.infer.util import constrain_fn, potential_energy

jax.config.update("jax_enable_x64", True)

Array = np.ndarray
Traced = jax.Array | np.ndarray
"""An argument of a function that JAX may trace."""
Model = Callable[[Any], None]
Data = tuple[Any, ...]
ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}
"""Compiler options of long programs: chains are what runs in parallel, not their products."""
_BATCH = 250  # densities evaluated at once: what they touch stays in the cache


def unconstrained_shapes(model: Model, data: Data) -> dict[str, tuple[int, ...]]:
    """The shape of each unobserved site on R^p, by name, in the order of the coordinates."""
    shapes: dict[str, tuple[int, ...]] = {}

    def visit(data: Data) -> None:
        sites = trace(seed(model, jax.random.key(0))).get_trace(data)
        for name, site in sites.items():
            if site["type"] == "sample" and not site["is_observed"]:
                to_reals = biject_to(site["fn"].support)
                shapes[name] = tuple(to_reals.inverse_shape(jnp.shape(site["value"])))

    jax.eval_shape(visit, data)
    return dict(sorted(shapes.items()))


def dimension(model: Model, data: Data) -> int:
    """p, the number of unconstrained coordinates."""
    return sum(int(np.prod(s)) for s in unconstrained_shapes(model, data).values())


def coordinates(model: Model, data: Data) -> list[str]:
    """A name for each of the p coordinates, such as ``tau[2]``."""
    names = []
    for site, shape in unconstrained_shapes(model, data).items():
        names += [f"{site}[{k}]" for k in range(int(np.prod(shape)))] if shape else [site]
    return names


def by_site(model: Model, data: Data, z: jax.Array) -> dict[str, jax.Array]:
    """A point of R^p cut into its sites."""
    shapes = unconstrained_shapes(model, data)
    return ravel_pytree({name: jnp.zeros(shape) for name, shape in shapes.items()})[1](z)


def potential(model: Model, data: Data, z: jax.Array) -> jax.Array:
    """−log posterior density on R^p, up to the evidence; to be traced by JAX."""
    return jnp.asarray(potential_energy(model, (data,), {}, by_site(model, data, z)))


@partial(jax.jit, static_argnames="model")
def value_and_gradient(model: Model, data: Data, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The potential and its gradient at one point."""
    return jax.value_and_grad(lambda point: potential(model, data, point))(z)


@partial(jax.jit, static_argnames="model")
def _potentials(model: Model, data: Data, z: jax.Array) -> jax.Array:
    return jax.lax.map(lambda point: potential(model, data, point), z, batch_size=_BATCH)


@partial(jax.jit, static_argnames="model")
def _constrained(model: Model, data: Data, z: jax.Array) -> dict[str, jax.Array]:
    return jax.vmap(lambda point: constrain_fn(model, (data,), {}, by_site(model, data, point)))(z)


def potentials(model: Model, data: Data, z: Float[Array, "draws p"]) -> Float[Array, " draws"]:
    """The potential of every draw; infinite where the density is zero or not a number."""
    values = np.asarray(_potentials(model, data, z))
    return np.where(np.isnan(values), np.inf, values)


def constrained(model: Model, data: Data, z: Float[Array, "*batch p"]) -> dict[str, Array]:
    """The draws on the model's own scale, by site, ``[*batch, *shape of the site]``."""
    flat = _constrained(model, data, z.reshape(-1, z.shape[-1]))
    return {
        name: np.asarray(values).reshape(*z.shape[:-1], *values.shape[1:])
        for name, values in flat.items()
    }
