"""All figures of the importance study, in the order of the page."""

from __future__ import annotations

from typing import Any

from leray.figures.agreement import agreement
from leray.figures.ceiling import ceiling
from leray.figures.forest import forest
from leray.figures.genetic import genetic
from leray.figures.landscape import landscape
from leray.figures.montecarlo import modes, montecarlo
from leray.figures.networks import network_candidates, network_differences, network_effects
from leray.figures.null import null_distribution
from leray.figures.posterior import posterior, ranks, variational
from leray.figures.signals import correlations, distributions
from leray.figures.style import Picture
from leray.figures.tensors import tensors
from leray.figures.weights import decay_times, weights

FIGURES = (
    weights,
    null_distribution,
    decay_times,
    landscape,
    forest,
    distributions,
    correlations,
    agreement,
    montecarlo,
    modes,
    posterior,
    ranks,
    variational,
    network_differences,
    network_candidates,
    network_effects,
    genetic,
    tensors,
    ceiling,
)


def draw(result: dict[str, Any], details: dict[str, Any]) -> dict[str, Picture]:
    """Every figure that these details allow, by its name."""
    pictures = (figure(result, details) for figure in FIGURES)
    return {p.name: p for p in pictures if p is not None}
