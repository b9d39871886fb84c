r"""The logistic model of labels whose intercepts and slopes vary by conversation.

For row i of conversation c, signals x̃ in pooled standard deviations::

    P(y_i = 1) = logit⁻¹(a_c + x̃ᵢ·β_c),  a_c ~ N(μ, τ_0²),  β_ck ~ N(b w_k u_k, τ_k²),

with the priors of `leray.evidence.bayes` but b ~ HalfNormal(5) and μ ~ N(0, 10²), since logits
are not bounded. Positives are few, so the model
is fitted to a case–control sample: in every conversation all positives and ``ratio`` times as
many negatives, drawn at random. Given that a row was sampled its log odds only gain the known
constant −log(share of the conversation's negatives that were drawn), which enters as an offset:
slopes, and so the weights, mean what they mean in all rows.

A chain moves in standard normals ζ_c instead of the effects θ_c = (a_c, β_c). Near its top the
conversation's log likelihood is −½ θᵀHθ + gᵀθ, so that given m = (μ, b w u) and D = diag(τ) the
effects are about N(m + D M⁻¹ D(g − Hm), D M⁻¹ D), M = I + D H D. With M = LLᵀ,
θ = m + D [M⁻¹ D(g − Hm) + L⁻ᵀ ζ] makes the ζ about independent of all else. It is a change of
variables, exact whatever H and g are (both zero: the non-centred form).

Source: Prentice and Pyke, Logistic disease incidence models and case-control studies (Biometrika
1979); Papaspiliopoulos, Roberts and Sköld, A general framework for the parametrization of
hierarchical models (Statistical Science 2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float, Int

from leray.evidence.density import Array, Traced, constrained, coordinates
from leray.evidence.mode import Mode, climb, find_mode
from leray.evidence.resampling import RandomKey, Samples, Stateless

_HELD = 0.3  # τ while the other parameters are sought
_PIECES = (128, 64, 32, 16)  # rows that lie together: conversations are cut into such pieces
_PADDED = 1.5  # times as many places as rows, at most, if a length of piece allows it


class LogisticData(NamedTuple):
    """A sample of rows, in pieces of one conversation each.

    ``x [pieces, d + 1, R]`` ones and standardised signals; ``sign [pieces, R]`` +1 for a positive,
    −1 for a negative, 0 for padding; ``offset [pieces, R]``; ``owner [pieces]`` whose rows these
    are, an index below C; ``unit`` u ``[d]``; ``clusters [C]`` which conversations, by index;
    ``curvature`` H ``[C, d + 1, d + 1]`` and ``natural`` g ``[C, d + 1]``.
    """

    x: Array
    sign: Array
    offset: Array
    owner: Array
    unit: Array
    clusters: Array
    curvature: Array
    natural: Array

    def astype(self, dtype: Any) -> LogisticData:
        """The rows in another precision."""
        x, sign, offset = (a.astype(dtype) for a in (self.x, self.sign, self.offset))
        return self._replace(x=x, sign=sign, offset=offset)


def case_control(
    blocks: Iterable[tuple[int, Array, Array]],
    centre: Float[Array, " d"],
    scale: Float[Array, " d"],
    ratio: int,
    rng: np.random.Generator,
) -> LogisticData:
    """All positives and ``ratio`` random negatives for each, within every conversation.

    Args:
        blocks: Triples (index of the conversation, x ``[d, rows]``, labels), one a conversation.
        centre, scale: What standardises the signals, from all rows.
        ratio: Negatives a positive; all negatives are taken where there are fewer.
        rng: Draws the negatives.

    Raises:
        ValueError: if no conversation has both labels. Those that lack one are left out: with
            their intercept unknown they say nothing of the slopes.
    """
    drawn = []
    for index, signals, labels in blocks:
        positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels.astype(bool))
        num = min(ratio * len(positive), len(negative))
        if num:
            rows = np.append(positive, np.sort(rng.choice(negative, num, replace=False)))
            x = (signals[:, rows] - centre[:, None]) / scale[:, None]
            drawn.append((index, x, len(positive), -np.log(num / len(negative))))
    if not drawn:
        raise ValueError("a case-control sample needs a conversation with both labels")
    return _in_pieces(drawn, scale / scale.mean())


def _in_pieces(drawn: list[tuple[int, Array, int, float]], unit: Array) -> LogisticData:
    """Conversations (index, x, number of positives, which stand first, offset) cut and padded."""
    C, v = len(drawn), len(unit) + 1
    lengths = np.array([x.shape[1] for _, x, _, _ in drawn])
    piece = _piece_length(lengths)
    counts = -(-lengths // piece)
    rows = np.zeros((v + 2, C, max(counts) * piece))  # ones and signals, sign, offset
    for k, (_, x, num_positive, offset) in enumerate(drawn):
        n = x.shape[1]
        rows[0, k, :n], rows[1:v, k, :n], rows[v + 1, k, :n] = 1.0, x, offset
        rows[v, k, :n] = np.where(np.arange(n) < num_positive, 1.0, -1.0)
    pieces = rows.reshape(v + 2, C, -1, piece)
    kept = np.arange(pieces.shape[2]) < counts[:, None]
    return LogisticData(
        x=np.ascontiguousarray(np.moveaxis(pieces[:v, kept], 0, 1)),
        sign=pieces[v, kept],
        offset=pieces[v + 1, kept],
        owner=np.repeat(np.arange(C, dtype=np.int32), counts),
        unit=unit,
        clusters=np.array([index for index, _, _, _ in drawn]),
        curvature=np.zeros((C, v, v)),
        natural=np.zeros((C, v)),
    )


def _piece_length(lengths: Int[Array, " C"]) -> int:
    """The longest piece that wastes little on the padding of each conversation's last one."""
    for length in _PIECES:
        if (-(-lengths // length) * length).sum() <= _PADDED * lengths.sum():
            return length
    return _PIECES[-1]


def logistic_model(data: LogisticData) -> None:
    """The model above as NumPyro has it; rows are worked in the precision of ``data.x``."""
    d, C = len(data.unit), len(data.clusters)
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(d)))
    b = numpyro.sample("b", dist.HalfNormal(5.0))
    mu = jnp.asarray(numpyro.sample("mu", dist.Normal(0.0, 10.0)))
    tau = jnp.asarray(numpyro.sample("tau", dist.HalfNormal(jnp.ones(d + 1)).to_event(1)))
    zeta = jnp.asarray(numpyro.sample("zeta", dist.Normal(jnp.zeros((C, d + 1)), 1.0).to_event(2)))
    mean = jnp.concatenate([mu[None], b * w * data.unit])
    standard, log_det = standard_effects(data, mean, tau, zeta)
    numpyro.factor("y", log_likelihood(data, mean + tau * standard))
    # N(θ; m, D²) |dθ/dζ| in place of the N(ζ; 0, I) that the site has counted.
    numpyro.factor("effects", 0.5 * ((zeta**2).sum() - (standard**2).sum() - log_det))


def standard_effects(
    data: LogisticData, mean: Traced, tau: Traced, zeta: Traced
) -> tuple[jax.Array, jax.Array]:
    """D⁻¹(θ − m) = M⁻¹ D(g − Hm) + L⁻ᵀ ζ for every conversation, and Σ log|M|."""
    M = jnp.eye(len(tau)) + tau[:, None] * tau * data.curvature
    L = jnp.linalg.cholesky(M)
    pull = tau * (data.natural - jnp.einsum("cij,j->ci", data.curvature, mean))
    half = solve_triangular(L, pull[..., None], lower=True)
    standard = solve_triangular(L, half + zeta[..., None], lower=True, trans="T")
    return standard[..., 0], 2 * jnp.log(jnp.diagonal(L, axis1=1, axis2=2)).sum()


def quadratic(
    data: LogisticData, effects: Float[Array, "C v"]
) -> tuple[Float[Array, "C v v"], Float[Array, "C v"]]:
    """H and g of each conversation's log likelihood about these effects: its second-order Taylor
    polynomial is −½ θᵀHθ + gᵀθ, up to a constant."""
    logit = np.einsum("pv,pvr->pr", effects[data.owner], data.x) + data.offset
    slope = data.sign / (1 + np.exp(data.sign * logit))
    small = np.exp(-np.abs(logit))
    weight = np.abs(data.sign) * small / (1 + small) ** 2
    H, gradient = np.zeros_like(data.curvature), np.zeros_like(effects)
    np.add.at(H, data.owner, np.einsum("pir,pr,pjr->pij", data.x, weight, data.x))
    np.add.at(gradient, data.owner, np.einsum("pvr,pr->pv", data.x, slope))
    return H, gradient + np.einsum("cij,cj->ci", H, effects)


@jax.custom_vjp
def log_likelihood(data: LogisticData, effects: Traced) -> jax.Array:
    """Σ −log(1 + exp(−sign · logit)) over the rows; ``effects [C, d + 1]`` by conversation."""
    return _value_and_gradient(data, effects)[0]


def _forward(data, effects):
    return _value_and_gradient(data, effects)


def _backward(gradient, cotangent):
    return None, cotangent * gradient


log_likelihood.defvjp(_forward, _backward)


def _value_and_gradient(data: LogisticData, effects: Traced) -> tuple[jax.Array, jax.Array]:
    own = effects.astype(data.x.dtype)[data.owner]
    logit = jnp.einsum("pv,pvr->pr", own, data.x) + data.offset
    against = -data.sign * logit
    small = jnp.exp(-jnp.abs(against))
    loss = (jnp.log1p(small) + jnp.maximum(against, 0)) * jnp.abs(data.sign)
    slope = jnp.where(against >= 0, 1, small) / (1 + small) * data.sign
    pieces = jnp.einsum("pvr,pr->pv", data.x, slope).astype(effects.dtype)
    gradient = jax.ops.segment_sum(pieces, data.owner, len(effects), indices_are_sorted=True)
    return -loss.astype(effects.dtype).sum(), gradient


@dataclass(frozen=True, kw_only=True)
class CaseControlStart(Stateless):
    """Draw the case–control sample, and find where its posterior's chains may start.

    The mode is sought at τ = 0.3, H = 0 and g = 0: the joint mode of scales and the effects that
    they scale lies far from the posterior. H and g are taken at the effects found there; in their
    coordinates the effects are about standard normal, and only w, b and μ need a curvature.

    Args:
        rows: For each conversation its signals ``[d, rows]`` and labels ``[rows]``.
        centre, scale: What standardises the signals.
        ratio: Negatives a positive.
    """

    rows: tuple[tuple[Array, Array], ...]
    centre: Float[Array, " d"]
    scale: Float[Array, " d"]
    ratio: int = 4
    name: str = "case-control sample"
    num_shards: int = 1
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        blocks = ((k, x, y) for k, (x, y) in enumerate(self.rows))
        data = case_control(blocks, self.centre, self.scale, self.ratio, key.generator())
        names = coordinates(logistic_model, data)
        scales, moved = (
            np.array([name.startswith(site) for name in names]) for site in ("tau", "zeta")
        )
        top = climb(logistic_model, data, np.where(scales, np.log(_HELD), 0.0), scales)
        at = {k: v[0] for k, v in constrained(logistic_model, data, top[None]).items()}
        mean = np.append(at["mu"], at["b"] * at["w"] * data.unit)
        curvature, natural = quadratic(data, mean + at["tau"] * at["zeta"])
        data = data._replace(curvature=curvature, natural=natural)
        mode = find_mode(logistic_model, data, np.where(moved, 0.0, top), scales | moved)
        mode.covariance[moved, moved] = 1.0  # the entries of their diagonal
        return state, data._asdict() | mode._asdict()

    def result(self, samples: list[list[Samples]]) -> tuple[LogisticData, Mode]:
        s = samples[0][0]
        data = LogisticData(*(s[k] for k in LogisticData._fields))
        return data, Mode(s["location"], s["covariance"])
