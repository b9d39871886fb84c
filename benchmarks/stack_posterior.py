"""The posterior by NUTS and by variational inference, for ``benchmarks/stack.py``.

Data are planted: 10 conversations, pairs of LoCoMo's number, intercepts and slopes that vary. Ours
works on the moment table with intercepts and slopes integrated out; PyMC's model is the same one
written over rows, with them as parameters, which is how a user writes it. PyMC sees the first
rows of every conversation and is extrapolated linearly in the number of rows; so many rows still
fit in the processor's cache, which favours PyMC.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, NamedTuple

import numpy as np

from leray.evidence.moments import moment_table
from leray.runs import Key
from stack_costs import Cost, Row, clocked, imported, warmed

Array = np.ndarray
CONVERSATIONS, ROWS = 10, 1_192_160
PART, ADVI_PART = 20_000, 100_000  # so many rows are measured of PyMC
CHAINS, WARMUP, DRAWS, ACCEPT = 4, 5_000, 20_000, 0.95
STEPS = 10_000
WEIGHTS, SLOPE, SPREAD = np.array([0.1, 0.6, 0.2, 0.1]), 0.2, 0.05
STACK = ("leray.evidence.bayes", "leray.evidence.nuts", "leray.evidence.variational")
WHERE = f"{ROWS:,} rows, {CONVERSATIONS} conversations"


class Planted(NamedTuple):
    """Signals ``[C, 4, rows]`` and truth ``[C, rows]``."""

    x: Array
    y: Array

    def first(self, num: int) -> Planted:
        """The first rows of every conversation, ``num`` in all."""
        return Planted(*(a[..., : num // CONVERSATIONS].copy() for a in self))


class Sampled(NamedTuple):
    """What a chain gave: its cost, its leapfrog steps a draw, and draws of the weights."""

    seconds: float
    leapfrogs: float
    weights: Array

    @property
    def effective(self) -> float:
        """The least bulk effective sample size among the weights."""
        stats = importlib.import_module("arviz_stats.base").array_stats
        return min(
            float(stats.ess(w[None], chain_axis=0, draw_axis=1, method="bulk"))
            for w in self.weights.T
        )


def planted() -> Planted:
    """Rows of the model itself; a signal is standard normal."""
    rng = np.random.default_rng(0)
    slopes = SLOPE * WEIGHTS + SPREAD * rng.standard_normal((CONVERSATIONS, 4))
    x = rng.standard_normal((CONVERSATIONS, 4, ROWS // CONVERSATIONS))
    noise = rng.standard_normal((CONVERSATIONS, ROWS // CONVERSATIONS))
    y = SPREAD * rng.standard_normal((CONVERSATIONS, 1)) + noise
    return Planted(x, y + np.einsum("ci,cir->cr", slopes, x))


def nuts(quick: bool) -> list[Row]:
    """4 × (5,000 + 20,000) of NUTS, in processor seconds for the same effective sample size."""
    rows = planted()
    importing = imported(*STACK, "arviz_stats.base")
    seconds, _, data = warmed(lambda: gaussian(rows))
    searching, mode_once, mode = warmed(lambda: mode_of(data), 1)
    warmup, draws = (500, 500) if quick else (WARMUP, DRAWS)
    once, _ = clocked(lambda: chain(data, mode, warmup, warmup, warmup))
    whole = chain(data, mode, warmup, draws, min(2_500, warmup))
    total = CHAINS * whole.seconds + seconds + searching
    target = CHAINS * whole.effective
    peer_once, compiled, own = compiled_by_nutpie(rows.first(PART))
    theirs = sampled_by_nutpie(compiled, 50 if quick else 500, 50 if quick else 1_000)
    each = theirs.seconds / theirs.effective
    part = gaussian(rows.first(PART))
    again = chain(part, mode_of(part), warmup, warmup, warmup)
    apart = np.abs(again.weights.mean(axis=0) - theirs.weights.mean(axis=0))
    faster = each / per_effective(again)
    by_draws = theirs.seconds / len(theirs.weights) * CHAINS * draws * ROWS / PART
    gradients = CHAINS * draws * whole.leapfrogs
    return [
        Row(
            name="posterior, NUTS",
            work=f"{WHERE}: {CHAINS} × ({WARMUP:,} + {DRAWS:,}), target acceptance {ACCEPT}; "
            f"{target:,.0f} effective draws of the weight that mixes worst",
            ours=Cost(
                seconds=total,
                once=importing + once + mode_once,
                part=f"1 of {CHAINS} chains, {whole.seconds:.2f} s, with its warm-up; moment "
                f"table {seconds:.3f} s and mode {searching:.2f} s added",
            ),
            naive=naive_gradients(rows, gradients, "as many as the chains' leapfrog steps"),
            library=Cost(
                seconds=each * target * ROWS / PART,
                once=own + peer_once,
                part=f"{len(theirs.weights):,} draws on {PART:,} rows, {theirs.seconds:.2f} s "
                f"(warm-up not counted), {theirs.effective:,.0f} effective; × "
                f"{target / theirs.effective:,.0f} × {ROWS / PART:.1f}",
            ),
            peer="PyMC, nutpie (numba)",
            notes=(
                f"on the same {PART:,} rows, nothing extrapolated: {faster:.0f} times the "
                "effective draws a second (neither warm-up counted); posterior means of the "
                f"weights differ by at most {(apart / again.weights.std(axis=0)).max():.2f} "
                "standard deviations",
                f"by draws a second instead, all rows: {by_draws / total:,.0f} times",
            ),
        )
    ]


def per_effective(sampled: Sampled) -> float:
    """Seconds an effective draw; the chain is half warm-up, of the same cost."""
    return sampled.seconds / 2 / sampled.effective


def variational(quick: bool) -> list[Row]:
    """10,000 gradient steps of a full-rank Gaussian."""
    rows = planted()
    importing = imported(*STACK)
    seconds, _, data = warmed(lambda: gaussian(rows))
    searching, mode_once, mode = warmed(lambda: mode_of(data), 1)
    fitting, once, _ = warmed(lambda: full_rank(data, mode, 8), 1)
    single, _, _ = warmed(lambda: full_rank(data, mode, 1), 1)
    own, pm = clocked(lambda: importlib.import_module("pymc"))
    num = 20 if quick else 200
    peer_once, inference = clocked(lambda: started_advi(pm, rows.first(ADVI_PART)))
    theirs, _ = clocked(lambda: inference.refine(num, progressbar=False))
    peer = theirs * STEPS / num * ROWS / ADVI_PART
    on_part = peer * ADVI_PART / ROWS
    total = fitting + seconds + searching
    return [
        Row(
            name="variational inference",
            work=f"{WHERE}: {STEPS:,} gradient steps of a full-rank Gaussian",
            ours=Cost(
                seconds=total,
                once=importing + once + mode_once,
                part=f"all, 8 draws a gradient; moment table {seconds:.3f} s and mode "
                f"{searching:.2f} s of it",
            ),
            naive=naive_gradients(rows, STEPS, "one draw a gradient"),
            library=Cost(
                seconds=peer,
                once=own + peer_once,
                part=f"{num:,} steps of one draw on {ADVI_PART:,} rows, {theirs:.2f} s; × "
                f"{STEPS / num:.0f} × {ROWS / ADVI_PART:.1f}",
            ),
            peer="PyMC full-rank ADVI (numba)",
            notes=(
                f"with one draw a gradient ours takes {total - fitting + single:.2f} s, a ratio of "
                f"{peer / (total - fitting + single):,.0f}",
                f"on {ADVI_PART:,} rows, nothing extrapolated but the steps: {on_part:.1f} s, "
                f"{on_part / total:.1f} times ours",
            ),
        )
    ]


def gaussian(rows: Planted) -> Any:
    """The moments that the model sees."""
    from leray.evidence.bayes import gaussian_data

    table = moment_table(
        ((str(k), x, y) for k, (x, y) in enumerate(zip(*rows, strict=True))), tuple("abcd")
    )
    return gaussian_data(table.sums)[0]


def mode_of(data: Any) -> Any:
    from leray.evidence.bayes import gaussian_model
    from leray.evidence.laplace import find_mode

    return find_mode(gaussian_model, data)


def chain(data: Any, mode: Any, warmup: int, draws: int, per_step: int) -> Sampled:
    """One chain of ours."""
    from leray.evidence.bayes import gaussian_model
    from leray.evidence.density import constrained
    from leray.evidence.nuts import NutsChains

    chains = NutsChains(
        model=gaussian_model, data=data, mode=mode, num_warmup=warmup, num_draws=draws,
        draws_per_step=per_step, target_accept=ACCEPT, num_chains=1,
    )  # fmt: skip

    def work() -> Any:
        state, samples = chains.init(0, Key.root(0)), []
        for k in range(chains.num_steps):
            state, made = chains.step(state, k, Key.root(0))
            samples.append(made)
        return chains.result([samples])

    seconds, drawn = clocked(work)
    weights = constrained(gaussian_model, data, drawn.z[0])["w"]
    return Sampled(seconds, float(drawn.num_leapfrogs.mean()), weights)


def full_rank(data: Any, mode: Any, num_particles: int) -> None:
    """One fit of ours."""
    from leray.evidence.bayes import gaussian_model
    from leray.evidence.variational import VariationalFits

    fits = VariationalFits(
        model=gaussian_model, data=data, mode=mode, num_gradient_steps=STEPS, num_seeds=1,
        num_particles=num_particles,
    )  # fmt: skip
    state = fits.init(0, Key.root(0))
    for k in range(fits.num_steps):
        state, _ = fits.step(state, k, Key.root(0))


def pymc_model(pm: Any, rows: Planted) -> Any:
    """The model over rows, in pooled standard deviations.

    Sums of products of whole arrays: of four ways to write the mean this ran fastest under numba
    (indexing the slopes by the row's conversation took five times as long).
    """
    scale = rows.x.std(axis=(0, 2))
    x, y = rows.x / scale[:, None], rows.y / rows.y.std()
    pt = importlib.import_module("pytensor.tensor")
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(4))
        b = pm.HalfNormal("b", 1.0)
        mu = pm.Normal("mu", 0.0, 1.0)
        sigma = pm.HalfNormal("sigma", 1.0)
        tau = pm.HalfNormal("tau", 1.0, shape=5)
        centre = pt.concatenate([mu[None], b * w * (scale / scale.mean())])
        own = pm.Normal("own", centre, tau, shape=(CONVERSATIONS, 5))
        mean = own[:, :1] + sum(x[:, j] * own[:, j + 1 : j + 2] for j in range(4))
        pm.Normal("y", mean, sigma, observed=y)
    return model


def compiled_by_nutpie(rows: Planted) -> tuple[float, Any, float]:
    """Seconds of compiling, the compiled model, and seconds of importing PyMC and nutpie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importing = imported("pymc", "nutpie")
        pm, nutpie = map(importlib.import_module, ("pymc", "nutpie"))
        model = pymc_model(pm, rows)
        seconds, compiled = clocked(lambda: nutpie.compile_pymc_model(model, backend="numba"))
    return seconds, compiled, importing


def sampled_by_nutpie(compiled: Any, tune: int, draws: int) -> Sampled:
    """One chain; the seconds are those of its draws, by their share of the leapfrog steps."""
    nutpie = importlib.import_module("nutpie")

    def work(draws: int) -> Any:
        return nutpie.sample(
            compiled, draws=draws, tune=tune, chains=1, cores=1, seed=1, target_accept=ACCEPT,
            progress_bar=False, save_warmup=True,
        )  # fmt: skip

    seconds, trace = clocked(lambda: work(draws))
    steps = np.asarray(trace.sample_stats.n_steps)[0]
    before = np.asarray(trace.warmup_sample_stats.n_steps)[0]
    share = float(steps.sum() / (steps.sum() + before.sum()))
    weights = np.asarray(trace.posterior["w"])[0]
    return Sampled(seconds * share, float(steps.mean()), weights)


def started_advi(pm: Any, rows: Planted) -> Any:
    """ADVI with its step compiled (by numba: a third of the default's time) and ten steps done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pymc_model(pm, rows):
            inference = pm.FullRankADVI()
            inference.fit(10, progressbar=False, obj_n_mc=1, compile_kwargs={"mode": "NUMBA"})
    return inference


def naive_gradients(rows: Planted, num: float, why: str) -> Cost:
    """Gradients of the log density over rows, in a loop over conversations."""
    seconds, _, _ = warmed(lambda: row_gradient(rows, np.full((CONVERSATIONS, 5), 0.1), 1.0), 1)
    return Cost(
        seconds=seconds * num,
        part=f"1 gradient, {seconds:.3f} s; × {num:,.0f}, {why}",
    )


def row_gradient(rows: Planted, effects: Array, sigma: float) -> tuple[float, Array, float]:
    """Of Σ log N(y | a_c + β_c·x, σ²): its value, and by the effects and log σ."""
    value, by_effects, by_sigma = 0.0, np.empty_like(effects), 0.0
    for c in range(CONVERSATIONS):
        left = rows.y[c] - effects[c, 0] - effects[c, 1:] @ rows.x[c]
        squares = float(left @ left) / sigma**2
        value -= len(left) * np.log(sigma) + squares / 2
        by_effects[c] = np.append(left.sum(), rows.x[c] @ left) / sigma**2
        by_sigma += squares - len(left)
    return value, by_effects, by_sigma
