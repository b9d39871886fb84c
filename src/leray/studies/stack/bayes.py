"""The Bayesian posterior of the weights: NUTS, checked against importance sampling.

Two models. The Gaussian one takes all rows, through their moments; the logistic one takes a
case–control sample of rows. In both every conversation has its own intercept and slopes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from leray.data.preparation import Prepared
from leray.evidence.bayes import gaussian_data, gaussian_model
from leray.evidence.bootstrap import Interval
from leray.evidence.casecontrol import CaseControlStart, logistic_model
from leray.evidence.density import Array, constrained
from leray.evidence.diagnostics import (
    Sensitivity,
    mixing,
    posterior_interval,
    rank_counts,
    reweighted,
    weight_interval,
)
from leray.evidence.laplace import TRUSTED, LaplaceImportance
from leray.evidence.moments import covariances
from leray.evidence.nuts import Chains, NutsChains
from leray.evidence.predictive import Check, Parameters, PredictiveCheck
from leray.memory.blocks import FOUR, with_tau
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.posterior import SITES, Posterior, netcdf

GAUSSIAN, LOGISTIC, IMPORTANCE = "NUTS", "NUTS, logistic model", "importance sampling"
RATIO = 4  # negatives a positive in the case–control sample
COMPUTATIONS = ("laplace", "nuts", "case-control sample", "nuts logistic", "predictive check")
DENSITY_BINS = 200
_REPLICATES = 500
_RANK_BINS = 20
_EVEN = 20_000  # draws of equal weight that stand for the weighted ones


def run(
    prepared: Prepared,
    evidence: Evidence,
    drive: Drive,
    *,
    num_warmup: int = 5_000,
    num_draws: int = 20_000,
    logistic_warmup: int = 500,
    logistic_draws: int = 1_000,
    level: float,
) -> tuple[Outcome, Posterior]:
    """Sample both models, check them, and say where the weights are.

    Args:
        num_warmup, num_draws: Of each of four chains of the Gaussian model.
        logistic_warmup, logistic_draws: Of each of four chains of the logistic model.
        level: Of the intervals.
    """
    posterior = _sample(evidence, drive, num_warmup, num_draws)
    logistic = _Logistic(prepared, evidence, drive, logistic_warmup, logistic_draws)
    check = drive(_predictive(posterior))
    num_sets = len(prepared.clusters)
    even = constrained(gaussian_model, posterior.data, posterior.laplace.even(_EVEN))["w"]
    weights = {
        **_weights(posterior.signals, posterior.draws["w"], GAUSSIAN, level, num_sets),
        **_weights(posterior.signals, even, IMPORTANCE, level, num_sets),
        **_weights(logistic.signals, logistic.draws["w"], LOGISTIC, level, logistic.num_clusters),
    }
    sensitivity = _sensitivity(posterior)
    diagnostics = _diagnostics(posterior, logistic, check, sensitivity)
    outcome = Outcome(
        name="bayes",
        title="Bayesian posterior",
        paragraph=_paragraph(posterior, logistic, check, diagnostics, evidence, weights),
        estimates=_estimates(posterior, level),
        weights=weights,
        diagnostics=diagnostics,
        computations=COMPUTATIONS,
        details=_details(posterior, logistic, check, sensitivity, evidence),
        files={"posterior.nc": netcdf(posterior, _attributes(posterior, evidence))},
    )
    return outcome, posterior


def _sample(evidence: Evidence, drive: Drive, num_warmup: int, num_draws: int) -> Posterior:
    sums = evidence.moments_of(evidence.varying)
    data, scales = gaussian_data(sums)
    laplace = drive(LaplaceImportance(model=gaussian_model, data=data))
    chains = drive(
        NutsChains(
            model=gaussian_model,
            data=data,
            mode=laplace.mode,
            num_warmup=num_warmup,
            num_draws=num_draws,
            draws_per_step=_chunk(num_warmup, num_draws, 2_500),
        )
    )
    return Posterior(
        signals=evidence.varying,
        data=data,
        scales=scales,
        chains=chains,
        draws=constrained(gaussian_model, data, chains.z),
        laplace=laplace,
        num_clusters=len(sums),
    )


class _Logistic:
    """The logistic model's chains on the case–control sample."""

    def __init__(
        self, prepared: Prepared, evidence: Evidence, drive: Drive, num_warmup: int, num_draws: int
    ) -> None:
        self.signals = evidence.varying
        total = evidence.moments_of(self.signals).sum(axis=0)
        moments = covariances(total)
        columns = with_tau(self.signals, evidence.taus[evidence.tau])
        place = [evidence.table.signals.index(c) for c in columns]
        centre = evidence.table.origin[place] + total[1 : 1 + len(columns)] / total[0]
        data, mode = drive(
            CaseControlStart(
                rows=_rows(prepared, columns),
                centre=centre,
                scale=np.sqrt(np.diagonal(moments.S)),
                ratio=RATIO,
            )
        )
        self.num_clusters = len(data.clusters)
        self.num_positives = int((data.sign > 0).sum())
        self.num_rows = int(np.abs(data.sign).sum())
        data = data.astype(np.float32)
        self.chains: Chains = drive(
            NutsChains(
                model=logistic_model,
                data=data,
                mode=mode,
                num_warmup=num_warmup,
                num_draws=num_draws,
                draws_per_step=_chunk(num_warmup, num_draws, 250),
                dense=False,
                name="nuts logistic",
            )
        )
        self.draws = constrained(logistic_model, data, self.chains.z)


def _rows(prepared: Prepared, columns: list[str]) -> tuple[tuple[Array, Array], ...]:
    """Signals and labels of every conversation, in the order of the clusters."""
    pieces: dict[str, list[tuple[Array, Array]]] = {c: [] for c in prepared.clusters}
    for block in prepared.blocks:
        x = block.rows(columns)
        for cluster, _, span in block.by_cluster():
            pieces[cluster].append((x[:, span], block.relevant[span]))
    return tuple(
        (np.concatenate([x for x, _ in p], axis=1), np.concatenate([y for _, y in p]))
        for p in pieces.values()
    )


def _chunk(num_warmup: int, num_draws: int, largest: int) -> int:
    """The largest common divisor of both that is at most ``largest``."""
    common = math.gcd(num_warmup, num_draws)
    return max(k for k in range(1, largest + 1) if common % k == 0)


def _predictive(posterior: Posterior) -> PredictiveCheck:
    flat = {s: v.reshape(-1, *v.shape[2:]) for s, v in posterior.draws.items()}
    chosen = np.linspace(0, len(flat["b"]) - 1, _REPLICATES).astype(int)
    return PredictiveCheck(
        data=posterior.data,
        parameters=Parameters(**{s: flat[s][chosen] for s in Parameters._fields}),
        weights=flat["w"].mean(axis=0),
    )


def _sensitivity(posterior: Posterior) -> dict[str, Sensitivity]:
    """The weights under other priors, from the same draws."""
    flat = {s: v.reshape(-1, *v.shape[2:]) for s, v in posterior.draws.items()}
    log_w = np.log(np.maximum(flat["w"], np.finfo(float).tiny)).sum(axis=1)
    squares = flat["b"] ** 2 + flat["sigma"] ** 2 + (flat["tau"] ** 2).sum(axis=1)
    # HalfNormal(s) at θ, against s = 1: −θ²/2 (1/s² − 1), up to a constant.
    ratios = {
        "Dirichlet of ½": -0.5 * log_w,
        "Dirichlet of 2": log_w,
        "scales halved": -1.5 * squares,
        "scales doubled": 0.375 * squares,
    }
    return {name: reweighted(flat["w"], ratio) for name, ratio in ratios.items()}


def _weights(
    signals: Sequence[str], w: Array, method: str, level: float, n: int
) -> dict[str, Interval]:
    flat = flattened(w)
    return {f"{s} ({method})": weight_interval(flat[:, k], level, n) for k, s in enumerate(signals)}


def flattened(w: Array) -> Float[Array, "draws d"]:
    """The draws of all chains together."""
    return w.reshape(-1, w.shape[-1])


def _estimates(posterior: Posterior, level: float) -> dict[str, Interval]:
    n, draws = posterior.num_clusters, posterior.draws
    named = {"slope of the weighted signals": draws["b"]}
    named["spread of the intercept between conversations"] = draws["tau"][..., 0]
    for k, s in enumerate(posterior.signals):
        named[f"spread of the slope of {s} between conversations"] = draws["tau"][..., 1 + k]
    return {name: posterior_interval(v.ravel(), level, n) for name, v in named.items()}


def _diagnostics(
    posterior: Posterior,
    logistic: _Logistic,
    check: Check,
    sensitivity: dict[str, Sensitivity],
) -> dict[str, Any]:
    chains, laplace = posterior.chains, posterior.laplace
    mixed = [mixing(v) for v in columns(posterior.signals, posterior.draws).values()]
    rough = [mixing(v) for v in columns(logistic.signals, logistic.draws).values()]
    flat = flattened(posterior.draws["w"])
    other = constrained(gaussian_model, posterior.data, laplace.even(_EVEN))["w"]
    gap = np.abs(other.mean(axis=0) - flat.mean(axis=0)) / flat.std(axis=0)
    ratio = other.std(axis=0) / flat.std(axis=0)
    return {
        "largest R-hat": max(m.r_hat for m in mixed),
        "smallest bulk ESS": min(m.bulk for m in mixed),
        "smallest tail ESS": min(m.tail for m in mixed),
        "divergences": int(chains.diverging.sum()),
        "draws": chains.diverging.size,
        "leapfrog steps a draw": float(chains.num_leapfrogs.mean()),
        "mean acceptance": float(chains.acceptance.mean()),
        "importance sampling k-hat": laplace.k_hat,
        "importance sampling effective draws": laplace.effective,
        "largest gap of importance sampling from NUTS, in posterior sds": float(gap.max()),
        "largest ratio of their sds, either way": float(np.maximum(ratio, 1 / ratio).max()),
        "largest shift under another prior, in posterior sds": max(
            float(np.abs(s.shift).max()) for s in sensitivity.values()
        ),
        "largest k-hat under another prior": max(s.k_hat for s in sensitivity.values()),
        **{f"predictive p: {name}": row[1] for name, row in check.statistics.items()},
        "logistic: rows": logistic.num_rows,
        "logistic: positives": logistic.num_positives,
        "logistic: conversations": logistic.num_clusters,
        "logistic: largest R-hat": max(m.r_hat for m in rough),
        "logistic: smallest bulk ESS": min(m.bulk for m in rough),
        "logistic: smallest tail ESS": min(m.tail for m in rough),
        "logistic: divergences": int(logistic.chains.diverging.sum()),
        "logistic: draws": logistic.chains.diverging.size,
    }


def columns(signals: Sequence[str], draws: dict[str, Array]) -> dict[str, Array]:
    """Every scalar parameter by name, ``[chains, draws]``: sites cut into their entries."""
    out = {}
    for site in (s for s in SITES if s in draws):
        values = draws[site]
        labels = {"w": signals, "tau": ("intercept", *signals)}.get(site)
        if labels is None:
            out[site] = values
        else:
            out |= {f"{site} {name}": values[..., k] for k, name in enumerate(labels)}
    return out


def _details(
    posterior: Posterior,
    logistic: _Logistic,
    check: Check,
    sensitivity: dict[str, Sensitivity],
    evidence: Evidence,
) -> dict[str, Any]:
    flat = flattened(posterior.draws["w"])
    even = constrained(gaussian_model, posterior.data, posterior.laplace.even(_EVEN))["w"]
    return {
        "signals": list(posterior.signals),
        "draws": len(flat),
        "optimum": evidence.optimum_of(posterior.signals).tolist(),
        "densities": {
            GAUSSIAN: densities(flat),
            IMPORTANCE: densities(even),
            LOGISTIC: densities(flattened(logistic.draws["w"])),
        },
        "ranks": {
            s: rank_counts(posterior.draws["w"][..., k], _RANK_BINS).tolist()
            for k, s in enumerate(posterior.signals)
        },
        "sensitivity": [
            {"prior": name, "mean": s.mean.tolist(), "shift": s.shift.tolist(), "k_hat": s.k_hat}
            for name, s in sensitivity.items()
        ],
        "predictive": {
            "r": check.r.tolist(),
            "ends": check.ends.tolist(),
            "statistics": [
                {"name": name, "observed": o, "p": p, "ends": [low, high]}
                for name, (o, p, low, high) in check.statistics.items()
            ],
        },
    }


def densities(w: Array) -> list[list[float]]:
    """Histograms of each weight on (0, 1) that sum to 1, a row a signal."""
    edges = np.linspace(0.0, 1.0, DENSITY_BINS + 1)
    return [(np.histogram(column, edges)[0] / len(column)).tolist() for column in w.T]


def _attributes(posterior: Posterior, evidence: Evidence) -> dict[str, Any]:
    return {
        "model": "y ~ N(a_c + x b_c, sigma^2), a_c ~ N(mu, tau_0^2), b_ck ~ N(b w_k u_k, tau_k^2)",
        "tau_seconds": evidence.taus[evidence.tau],
        "scale_truth": float(posterior.scales[-1]),
        "scale_signals": posterior.scales[:-1],
        "conversations": posterior.num_clusters,
    }


def _paragraph(
    posterior: Posterior,
    logistic: _Logistic,
    check: Check,
    diagnostics: dict[str, Any],
    evidence: Evidence,
    weights: dict[str, Interval],
) -> str:
    means = flattened(posterior.draws["w"]).mean(axis=0)
    said = _listed(posterior.signals, means)
    exact = _listed(FOUR, evidence.optimum)
    by_label = _listed(logistic.signals, flattened(logistic.draws["w"]).mean(axis=0))
    bounds = [s for s in posterior.signals if weights[f"{s} ({GAUSSIAN})"].kind == "upper"]
    agreed = diagnostics["importance sampling k-hat"] <= TRUSTED
    gap = diagnostics["largest gap of importance sampling from NUTS, in posterior sds"]
    met = diagnostics["largest R-hat"] < 1.01 and not diagnostics["divergences"]
    odd = [name for name, row in check.statistics.items() if not 0.025 <= row[1] <= 0.975]
    return " ".join(
        [
            "Where are the weights, and how sure can one be, if every conversation may have "
            "its own level and its own slopes?",
            f"The posterior means are {said}; the weights with the largest correlation are "
            f"{exact}.",
            *(
                [f"The weight of {' and '.join(bounds)} cannot be told from zero."]
                if bounds
                else []
            ),
            f"A logistic model of which turns are relevant, on {logistic.num_positives:,} "
            f"positives and {logistic.num_rows - logistic.num_positives:,} sampled negatives, "
            f"says {by_label}.",
            f"Four chains of {posterior.chains.z.shape[1]:,} draws "
            + ("agree with each other" if met else "do not agree well enough with each other")
            + f" (R-hat at most {diagnostics['largest R-hat']:.3f}, "
            f"{diagnostics['divergences']} divergences), and importance sampling, which shares "
            "nothing with them but the model, "
            + (
                f"gives means within {gap:.2f} posterior standard deviations of theirs."
                if agreed
                else "was not reliable enough here to confirm them."
            ),
            "Data made by the fitted model differ from the real data in "
            + f"{'; '.join(odd)}: there the model is wrong."
            if odd
            else "Data made by the fitted model look like the real data in all that was compared.",
            "It cannot show what conversations unlike these would say, and it takes the turns of a "
            "conversation as independent once its level and slopes are known.",
        ]
    )


def _listed(signals: Sequence[str], weights: Array) -> str:
    return ", ".join(f"{s} {v:.2f}" for s, v in zip(signals, weights, strict=True))
