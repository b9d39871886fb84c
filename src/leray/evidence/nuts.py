"""The No-U-Turn sampler as a computation: a shard is a chain, a step is a chunk of its draws.

The state between chunks is NumPyro's whole ``HMCState`` (position, gradient, adaptation, key) as
arrays, so that a chain that was stopped and resumed gives the bits of one that was not. A chain
starts at its own draw from a normal around the mode with twice the posterior's standard
deviations: far enough apart that R-hat can see chains that have not met.

Source: Hoffman and Gelman, The No-U-Turn Sampler (JMLR 2014); NumPyro's implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.util import ParamInfo

from leray.evidence.density import (
    ONE_THREAD,
    Array,
    Data,
    Model,
    potential,
    value_and_gradient,
)
from leray.evidence.mode import Mode
from leray.evidence.resampling import RandomKey, Samples

WIDENING = 2.0
"""How many posterior standard deviations the starting points are spread by."""
_FIRST_STEP = 0.25
# Doublings in warm-up and after it: while the step size is searched, long trees are waste.
_DEPTHS: Any = (7, 10)


class Chains(NamedTuple):
    """The draws after warm-up, ``z [chains, draws, p]``, and what the sampler says of each.

    ``diverging``, ``num_leapfrogs``, ``acceptance`` and ``potential`` are ``[chains, draws]``.
    """

    z: Float[Array, "chains draws p"]
    diverging: Bool[Array, "chains draws"]
    num_leapfrogs: Int[Array, "chains draws"]
    acceptance: Float[Array, "chains draws"]
    potential: Float[Array, "chains draws"]


@dataclass(frozen=True, kw_only=True)
class NutsChains:
    """Chains of NUTS on a model's density, warmed up and drawn in chunks.

    Args:
        model: A module-level NumPyro model of one argument.
        data: That argument, a tuple of arrays.
        mode: Where the chains start around; its covariance is the first mass matrix.
        num_warmup, num_draws: Of each chain; both multiples of ``draws_per_step``.
        target_accept: The acceptance that the step size is tuned to.
        dense: A dense mass matrix (for few parameters), else a diagonal one.
    """

    model: Model
    data: Any
    mode: Mode
    num_warmup: int = 5_000
    num_draws: int = 20_000
    target_accept: float = 0.95
    dense: bool = True
    num_chains: int = 4
    draws_per_step: int = 2_500
    name: str = "nuts"

    def __post_init__(self) -> None:
        if self.num_warmup % self.draws_per_step or self.num_draws % self.draws_per_step:
            raise ValueError(
                f"warm-up ({self.num_warmup}) and draws ({self.num_draws}) must be multiples of "
                f"draws_per_step ({self.draws_per_step})"
            )

    @property
    def num_shards(self) -> int:
        return self.num_chains

    @property
    def num_steps(self) -> int:
        return (self.num_warmup + self.num_draws) // self.draws_per_step

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """The chain's state before its first draw."""
        rng = key.generator()
        z = self.mode.draw(1, WIDENING, rng)[0]
        value, gradient = value_and_gradient(self.model, self.data, z)
        covariance = self.mode.covariance
        mass = covariance if self.dense else np.diagonal(covariance)
        random_key = jax.random.key(int(rng.integers(2**31)))
        return flatten(_begin(*self._static, z, value, gradient, jnp.asarray(mass), random_key))

    def step(
        self,
        state: dict[str, Any],
        step_index: int,
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        whole = unflatten(state, self._layout())
        whole, drawn = _advance(self.model, *self._static, self.draws_per_step, self.data, whole)
        warm = (step_index + 1) * self.draws_per_step <= self.num_warmup
        kept = {
            k: np.asarray(v)[: 0 if warm else None]
            for k, v in zip(Chains._fields, drawn, strict=True)
        }
        return flatten(whole), kept

    def result(self, samples: list[list[Samples]]) -> Chains:
        return Chains(
            *(
                np.stack([np.concatenate([s[k] for s in shard]) for shard in samples])
                for k in Chains._fields
            )
        )

    @property
    def _static(self) -> tuple[int, bool, float]:
        return self.num_warmup, self.dense, self.target_accept

    def _layout(self) -> Any:
        """The tree that a state has, without computing one."""
        p = len(self.mode.location)
        mass = jnp.zeros((p, p) if self.dense else p)
        return jax.eval_shape(
            partial(_begin, *self._static),
            jnp.zeros(p), jnp.zeros(()), jnp.zeros(p), mass, jax.random.key(0),
        )  # fmt: skip


def flatten(tree: Any) -> dict[str, Array]:
    """The leaves of a tree as numpy arrays; a random key as its bits."""
    leaves = jax.tree.leaves(tree)
    return {
        f"leaf_{k:02d}": np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for k, leaf in enumerate(leaves)
    }


def unflatten(arrays: dict[str, Any], layout: Any) -> Any:
    """The tree of this layout whose leaves :func:`flatten` gave."""
    wanted, tree = jax.tree.flatten(layout)
    leaves = [arrays[f"leaf_{k:02d}"] for k in range(len(wanted))]
    return jax.tree.unflatten(
        tree,
        [
            jax.random.wrap_key_data(jnp.asarray(a)) if _is_key(w) else jnp.asarray(a, w.dtype)
            for a, w in zip(leaves, wanted, strict=True)
        ],
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(
    num_warmup: int,
    dense: bool,
    target_accept: float,
    z: jax.Array,
    value: jax.Array,
    gradient: jax.Array,
    mass: jax.Array,
    key: jax.Array,
) -> HMCState:
    begin, _ = hmc(potential_fn=lambda _: 0.0, algo="NUTS")
    return begin(
        ParamInfo(z, value, gradient),
        num_warmup,
        step_size=_FIRST_STEP,
        inverse_mass_matrix=mass,
        dense_mass=dense,
        target_accept_prob=target_accept,
        rng_key=key,
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), compiler_options=ONE_THREAD)
def _advance(
    model: Model,
    num_warmup: int,
    dense: bool,
    target_accept: float,
    num_draws: int,
    data: Data,
    state: HMCState,
) -> tuple[HMCState, tuple[jax.Array, ...]]:
    begin, kernel = hmc(potential_fn=partial(potential, model, data), algo="NUTS")
    # NumPyro's kernel learns its settings where a state is begun; that state is not used.
    begin(
        ParamInfo(state.z, state.potential_energy, state.z_grad),
        num_warmup,
        inverse_mass_matrix=state.adapt_state.inverse_mass_matrix,
        dense_mass=dense,
        target_accept_prob=target_accept,
        max_tree_depth=_DEPTHS,
        rng_key=state.rng_key,
    )

    def draw(state: HMCState, _: None) -> tuple[HMCState, tuple[jax.Array, ...]]:
        state = kernel(state)
        kept = (state.z, state.diverging, state.num_steps, state.accept_prob)
        return state, (*kept, state.potential_energy)

    state, drawn = jax.lax.scan(draw, state, None, length=num_draws)
    return state, drawn
