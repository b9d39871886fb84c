"""Variational inference beside NUTS, on the same model: claim M6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leray.evidence.agreement import Agreement, PosteriorAgreement
from leray.evidence.bayes import gaussian_model
from leray.evidence.bootstrap import Interval
from leray.evidence.diagnostics import weight_interval
from leray.evidence.laplace import TRUSTED
from leray.evidence.variational import FAMILIES, Family, Fits, VariationalFits
from leray.studies.claims import LEVEL
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.bayes import densities, flattened
from leray.studies.stack.posterior import Posterior

NAMES: dict[Family, str] = {
    "full-rank": "variational, full rank",
    "mean-field": "variational, mean field",
}


def run(
    evidence: Evidence,
    posterior: Posterior,
    drive: Drive,
    *,
    num_steps: int = 10_000,
    level: float,
) -> Outcome:
    """Fit both families from three seeds and compare the weights with NUTS.

    Args:
        num_steps: Gradient steps of each fit.
        level: Of the interval of M6, which holds the Monte Carlo error of both sides.
    """
    fitting = VariationalFits(
        model=gaussian_model,
        data=posterior.data,
        mode=posterior.laplace.mode,
        num_gradient_steps=num_steps,
        gradient_steps_per_step=_chunk(num_steps),
    )
    fits: Fits = drive(fitting)
    comparing = PosteriorAgreement(
        model=gaussian_model,
        data=posterior.data,
        weights=posterior.draws["w"],
        locations=np.stack([[f.location for f in fits[k]] for k in FAMILIES]),
        roots=np.stack([[f.root for f in fits[k]] for k in FAMILIES]),
    )
    agreed: dict[Family, Agreement] = drive(comparing)
    chain = flattened(posterior.draws["w"])
    distances: dict[Family, Interval] = {
        k: _distance(agreed[k], level, len(chain)) for k in FAMILIES
    }
    diagnostics = _diagnostics(agreed, chain)
    return Outcome(
        name="variational",
        title="Variational inference",
        paragraph=_paragraph(agreed, distances, diagnostics, chain, posterior.signals),
        estimates={"M6": distances["full-rank"], "mean field": distances["mean-field"]},
        weights={
            f"{s} ({NAMES[k]})": weight_interval(
                agreed[k].draws[..., j].ravel().astype(float), LEVEL, posterior.num_clusters
            )
            for k in FAMILIES
            for j, s in enumerate(posterior.signals)
        },
        diagnostics=diagnostics,
        computations=(fitting.name, comparing.name),
        details=_details(agreed, fits, chain, evidence, posterior.signals),
    )


def _chunk(num_steps: int) -> int:
    return max(k for k in range(1, 2_501) if num_steps % k == 0)


def _distance(agreement: Agreement, level: float, num_draws: int) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(agreement.resampled, [tail, 1 - tail])
    return Interval(
        estimate=agreement.largest,
        low=min(float(low), agreement.largest),
        high=max(float(high), agreement.largest),
        level=level,
        kind="block bootstrap percentile",
        n=num_draws,
    )


def _diagnostics(agreed: dict[Family, Agreement], chain: np.ndarray) -> dict[str, Any]:
    mean, sd, correlation = chain.mean(axis=0), chain.std(axis=0), np.corrcoef(chain.T)
    out: dict[str, Any] = {}
    for family, a in agreed.items():
        ratio = a.sd / sd
        out |= {
            f"{family}: largest gap of means, in NUTS sds": float(
                (np.abs(a.mean - mean) / sd).max()
            ),
            f"{family}: smallest ratio of sds": float(ratio.min()),
            f"{family}: largest ratio of sds": float(ratio.max()),
            f"{family}: largest gap of correlations": float(
                np.abs(a.correlation - correlation).max()
            ),
            f"{family}: largest k-hat": float(a.k_hat.max()),
        }
    return out


def _details(
    agreed: dict[Family, Agreement],
    fits: Fits,
    chain: np.ndarray,
    evidence: Evidence,
    signals: Sequence[str],
) -> dict[str, Any]:
    return {
        "signals": list(signals),
        "optimum": evidence.optimum_of(signals).tolist(),
        "nuts": {"density": densities(chain), "draws": len(chain)},
        "families": {
            k: {
                "density": densities(flattened(a.draws)),
                "distance": a.each.tolist(),
                "seeds": len(a.draws),
                "bounds": [f.bound.tolist() for f in fits[k]],
            }
            for k, a in agreed.items()
        },
    }


def _paragraph(
    agreed: dict[Family, Agreement],
    distances: dict[Family, Interval],
    diagnostics: dict[str, Any],
    chain: np.ndarray,
    signals: Sequence[str],
) -> str:
    full, field = distances["full-rank"], distances["mean-field"]
    worst = signals[int(agreed["full-rank"].each.argmax())]
    k_hat = diagnostics["full-rank: largest k-hat"]
    reliable = "is" if k_hat <= TRUSTED else "is not"
    return (
        "Does the fast approximation, which fits one bell curve to the posterior, give what the "
        "slow sampling gives? "
        f"For the weights the full-rank fit lies at most {full.estimate:.2f} posterior "
        f"standard deviations from NUTS ({full.low:.2f} to {full.high:.2f}), furthest for {worst}; "
        f"the mean-field fit, which knows no correlations, at most {field.estimate:.2f}. "
        f"The standard deviations of the full-rank fit are "
        f"{diagnostics['full-rank: smallest ratio of sds']:.2f} to "
        f"{diagnostics['full-rank: largest ratio of sds']:.2f} times those of NUTS. "
        f"Its k-hat of {k_hat:.2f} says that it {reliable} a good enough approximation of all "
        f"parameters together to be corrected by reweighting (the bound is {TRUSTED}). "
        f"The interval holds the chance error of {len(chain):,} draws and of the fits' seeds; it "
        "says nothing about other data or other models."
    )
