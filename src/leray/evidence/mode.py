"""The top of a density on R^p and its curvature there: where samplers and fits begin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize

from leray.evidence.density import Array, Data, Model, dimension, value_and_gradient

_FAR = 12.0  # on R^p; a scale of e¹²
_DIFFERENCE = 1e-4  # of a posterior standard deviation, for the curvature


class Mode(NamedTuple):
    """ẑ ``[p]`` and H⁻¹ ``[p, p]``: the Gaussian that touches the posterior at its top."""

    location: Array
    covariance: Array

    def draw(self, num: int, widening: float, rng: np.random.Generator) -> Float[Array, "num p"]:
        """Normal draws, their standard deviations widened."""
        root = np.linalg.cholesky(self.covariance)
        return self.location + widening * rng.normal(size=(num, len(self.location))) @ root.T


def climb(
    model: Model, data: Data, start: Float[Array, " p"], held: Bool[Array, " p"]
) -> Float[Array, " p"]:
    """Where the density is highest, by L-BFGS: for many coordinates, without their curvature.

    Args:
        model, data: The density.
        start: Where the search begins.
        held: Coordinates that stay there.
    """
    z, free = start.copy(), ~held

    def f(point: Array) -> tuple[float, Array]:
        z[free] = point
        value, gradient = value_and_gradient(model, data, z)
        return float(value), np.asarray(gradient)[free]

    box = optimize.Bounds(-_FAR, _FAR)  # beyond, exponentials overflow and the search is lost
    found = optimize.minimize(
        f, z[free], jac=True, method="L-BFGS-B", bounds=box, options={"maxcor": 30}
    )
    z[free] = found.x
    return z


def find_mode(
    model: Model,
    data: Data,
    start: Float[Array, " p"] | None = None,
    held: Bool[Array, " p"] | None = None,
) -> Mode:
    """The mode by BFGS, polished by Newton steps, and the inverse curvature there.

    The curvature is made of central differences of the exact gradient, a column a coordinate, at
    steps that are small against each coordinate's own posterior standard deviation.

    Args:
        model, data: The density.
        start: Where the search begins; by default 0.
        held: Coordinates that stay at ``start`` and get standard deviation ½, uncorrelated with
            the rest; for scales whose joint mode with the effects that they scale lies far from
            where the posterior is.

    Raises:
        ArithmeticError: if the curvature is not positive definite where the search ended.
    """
    z = np.zeros(dimension(model, data)) if start is None else start.copy()
    free = np.ones(len(z), dtype=bool) if held is None else ~held

    def f(point: Array) -> tuple[float, Array]:
        whole = z.copy()
        whole[free] = point
        value, gradient = value_and_gradient(model, data, whole)
        return float(value), np.asarray(gradient)[free]

    found = optimize.minimize(f, z[free], jac=True, method="BFGS", options={"maxiter": 2000})
    point, scale = found.x, np.sqrt(np.clip(np.diagonal(found.hess_inv), 1e-12, 1.0))
    inverse = np.eye(len(point))
    for _ in range(3):
        inverse = _inverse_curvature(lambda at: f(at)[1], point, scale)
        scale = np.sqrt(np.diagonal(inverse))
        step = -inverse @ f(point)[1]
        if f(point + step)[0] >= f(point)[0]:
            break
        point = point + step
    covariance = 0.25 * np.eye(len(z))
    covariance[np.ix_(free, free)] = inverse
    z[free] = point
    return Mode(z, covariance)


def _inverse_curvature(gradient: Any, z: Array, scale: Array) -> Array:
    width = _DIFFERENCE * scale
    columns = [
        (gradient(z + h * e) - gradient(z - h * e)) / (2 * h)
        for h, e in zip(width, np.eye(len(z)), strict=True)
    ]
    H = np.stack(columns) * np.outer(scale, scale)
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    if not values.min() > 0:
        raise ArithmeticError(
            f"no mode: the curvature's smallest eigenvalue is {values.min():.3g} where the search "
            "ended"
        )
    return ((vectors / values) @ vectors.T) * np.outer(scale, scale)
