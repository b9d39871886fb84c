"""The tensor of conversations × positions × signals × outcomes: PARAFAC, Tucker, and interactions.

Every number of the paragraph is read off three things: PARAFAC of rank 1 to 6 with restarts and
random halves, rank-3 factors on conversations left out beside permuted tensors, and the moment
table with products of signals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leray.data.preparation import Prepared
from leray.evidence.bootstrap import Interval
from leray.evidence.permutation import p_value
from leray.memory.blocks import FOUR, with_tau
from leray.memory.interactions import (
    Interactions,
    interaction_table,
    interactions,
    share_interval,
)
from leray.memory.parafac import Tucker, refine_with_tensorly, tucker
from leray.memory.tensors import (
    OUTCOMES,
    HeldOut,
    HeldOutFactors,
    RankFit,
    RankSearch,
    data_tensor,
    describe,
    lists_of,
)
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome

RANK = 3
TUCKER_RANKS = (10, 5, 3, 2)
_CONSISTENT = 50.0  # percent: below, the factors' products explain what the factors should
_STABLE = 0.85  # congruence from which factors of two halves count as the same


def run(
    prepared: Prepared,
    evidence: Evidence,
    drive: Drive,
    *,
    level: float,
    rng: np.random.Generator,
    num_restarts: int = 20,
    num_null: int = 19,
) -> Outcome:
    """Decompose the data tensor, judge how low its rank is, and look beyond linear weights.

    Args:
        level: Of the interval of claim M8, and of the others.
        rng: Draws the sign flips of the interactions, where they are too many to enumerate.
        num_restarts: Starts of each rank's PARAFAC.
        num_null: Permuted tensors.

    Raises:
        ValueError: for fewer than two conversations: nothing can be left out.
    """
    if len(prepared.clusters) < 2:
        raise ValueError("the tensor method leaves conversations out: it needs at least two")
    tau = evidence.taus[evidence.tau]
    built = data_tensor(lists_of(prepared.blocks, prepared.clusters, tau), len(prepared.clusters))
    values = built.values
    searches = (
        RankSearch(values=values, num_restarts=num_restarts),
        HeldOutFactors(values=values, rank=RANK, num_null=num_null),
        HeldOutFactors(
            values=equal_outcomes(values), rank=RANK, num_null=1, name="tensor-equal-outcomes"
        ),
    )
    ranks, held_out, equal = (drive(search) for search in searches)
    share = share_interval(held_out.explained, held_out.total, level)
    beyond = share_interval(held_out.explained - held_out.null.mean(axis=0), held_out.total, level)
    products = _interactions(prepared, evidence, level, rng)
    ours = ranks[RANK - 1].fitted
    refined = refine_with_tensorly(values, ours)
    ranks[RANK - 1] = ranks[RANK - 1]._replace(fitted=refined)
    compact = tucker(values, TUCKER_RANKS)
    chosen = choose_rank(ranks)
    return Outcome(
        name="tensors",
        title="Tensors and interactions",
        paragraph=_paragraph(values.shape, ranks, chosen, share, beyond, held_out, equal, products),
        estimates={
            "M8": share,
            "share explained beyond permuted tensors": beyond,
            "held-out R² of the linear fit": products.linear,
            "held-out R² gained by products": products.products,
            "held-out R² gained by products and squares": products.with_squares,
        },
        diagnostics=_diagnostics(
            ranks, chosen, held_out, equal, compact, refined.fit - ours.fit, built.counts
        ),
        computations=tuple(search.name for search in searches),
        details=_details(ranks, held_out, compact.fit, products, chosen),
    )


def equal_outcomes(values: np.ndarray) -> np.ndarray:
    """The tensor with every outcome scaled to the same sum of squares.

    Ranking in the first ten varies far more than being relevant does, so it weighs most in the
    tensor as the claim has it; this shows what that decides.
    """
    size = (values**2).sum(axis=(0, 1, 2))
    return values / np.sqrt(np.where(size > 0, size, 1.0))


def choose_rank(ranks: list[RankFit]) -> int:
    """The largest rank that is consistent, and whose factors all return in other halves; 0 if none.

    All ranks are looked at: the core consistency may fall and rise again.
    """
    good = [
        len(r.fitted.weights)
        for r in ranks
        if r.core_consistency >= _CONSISTENT
        and r.agreement.size
        and np.median(r.agreement.min(axis=1)) >= _STABLE
    ]
    return max(good, default=0)


def _interactions(
    prepared: Prepared, evidence: Evidence, level: float, rng: np.random.Generator
) -> Interactions:
    columns = with_tau(FOUR, evidence.taus[evidence.tau])
    rows = (
        (cluster, x[:, r], b.relevant[r])
        for b in prepared.blocks
        for x in [b.rows(columns)]
        for cluster, _, r in b.by_cluster()
    )
    table = interaction_table(rows, evidence.table.select(columns))
    return interactions(table, FOUR, level, rng)


def _diagnostics(
    ranks: list[RankFit],
    chosen: int,
    held_out: HeldOut,
    equal: HeldOut,
    compact: Tucker,
    gained: float,
    counts: np.ndarray,
) -> dict[str, float | int | str | bool | None]:
    three = ranks[RANK - 1].fitted
    near = three.start_fits >= three.start_fits.max() - 1e-3
    out: dict[str, float | int | str | bool | None] = {
        "rank chosen by core consistency and halves": chosen,
        "restarts within .001 of the best fit, rank 3": f"{near.sum()} of {len(near)}",
        "TensorLy improves our rank-3 fit by": gained,
        "Tucker, share explained": compact.fit,
        "Tucker, ranks": " × ".join(map(str, compact.core.shape)),
        "share explained in permuted tensors, mean": float(held_out.null_shares.mean()),
        "share explained in permuted tensors, p": p_value(
            held_out.null_shares, held_out.share, identity_in_null=False
        ),
        "share explained, outcomes of equal size": equal.share,
        "share explained, outcomes of equal size, permuted": float(equal.null_shares.mean()),
        "cells without a pair": int((counts == 0).sum()),
    }
    for r in ranks:
        k = len(r.fitted.weights)
        out[f"rank {k}: share explained"] = r.fitted.fit
        out[f"rank {k}: core consistency, percent"] = r.core_consistency
        out[f"rank {k}: least congruence of halves, median"] = _least(r)
    return out


def _least(r: RankFit) -> float | None:
    return float(np.median(r.agreement.min(axis=1))) if r.agreement.size else None


def _paragraph(
    shape: tuple[int, ...],
    ranks: list[RankFit],
    chosen: int,
    share: Interval,
    beyond: Interval,
    held_out: HeldOut,
    equal: HeldOut,
    products: Interactions,
) -> str:
    percent = f"{100 * share.level:.6g}%"
    factor = describe(ranks[max(chosen, 1) - 1].fitted, FOUR)[0]
    tested = min(products.terms, key=lambda t: t.p_value)
    gain, squares = products.products, products.with_squares
    return (
        f"Do the signals follow a few common patterns? How each of {shape[2]} signals goes with "
        f"each of {shape[3]} outcomes, at {shape[1]} places of the list in {shape[0]} "
        f"conversations, was described by {RANK} patterns. Patterns learnt on other conversations "
        f"explain {100 * share.estimate:.0f}% of a conversation left out ({percent} interval "
        f"{100 * share.low:.0f}% to {100 * share.high:.0f}%); in shuffled data the same procedure "
        f"explains {100 * held_out.null_shares.mean():.0f}%, so {100 * beyond.estimate:.0f}% is "
        f"beyond chance. {_how_stable(chosen)} The strongest is {factor['signal']}, "
        f"{factor['position']}, with {factor['outcome']}. Much of this is by construction, since "
        "what is retrieved is ranked by relevance and word match: with the three outcomes weighed "
        f"equally the share is {100 * equal.share:.0f}%. Beyond a weighted sum, which explains "
        f"{100 * products.linear.estimate:.2f}% of the truth on conversations left out, products "
        f"of two signals add {_points(gain.estimate)} percentage points ({percent} interval "
        f"{_points(gain.low)} to {_points(gain.high)}), products and squares together "
        f"{_points(squares.estimate)} ({_points(squares.low)} to {_points(squares.high)}); the "
        "clearest single term is "
        f"{' × '.join(tested.signals)}, p = {tested.p_value:.2g}, corrected for all "
        f"{len(products.terms)}. This describes these conversations; it does not say why the "
        "patterns are there."
    )


def _how_stable(chosen: int) -> str:
    if chosen >= RANK:
        return f"As many as {chosen} patterns return when the conversations are halved at random."
    some = {0: "None of them is", 1: "Only one of them is"}.get(chosen, f"Only {chosen} are")
    return f"{some} well determined: the others change with the conversations they are learnt on."


def _points(share: float) -> str:
    return f"{100 * share:.3f}".replace("-", "−")


def _details(
    ranks: list[RankFit],
    held_out: HeldOut,
    tucker_fit: float,
    products: Interactions,
    chosen: int,
) -> dict[str, Any]:
    three = ranks[RANK - 1].fitted
    _, position, signal, outcome = three.factors
    return {
        "signals": list(FOUR),
        "outcomes": list(OUTCOMES),
        "named": describe(three, FOUR),
        "factors": {
            "position": position.T.round(5).tolist(),
            "signal": signal.T.round(5).tolist(),
            "outcome": outcome.T.round(5).tolist(),
        },
        "ranks": [
            {
                "rank": len(r.fitted.weights),
                "fit": r.fitted.fit,
                "core_consistency": r.core_consistency,
                "agreement": np.median(r.agreement, axis=0).tolist() if r.agreement.size else None,
            }
            for r in ranks
        ],
        "chosen": chosen,
        "share": held_out.share,
        "null_shares": held_out.null_shares.tolist(),
        "tucker_fit": tucker_fit,
        "terms": [
            {
                "signals": list(t.signals),
                "coefficient": t.coefficient,
                "statistic": t.statistic,
                "p_value": t.p_value,
            }
            for t in products.terms
        ],
    }
