"""A result and its details, written by hand in the shape that the importance study gives them."""

from __future__ import annotations

from typing import Any

from leray.studies.claims import CLAIMS

FOUR = ("decay", "surprise", "relevance", "habituation")
METRICS = ("r", "auc", "ndcg_10", "recall_5", "recall_10", "recall_20", "mrr")
SCORES = {"random": 0.01, "relevance": 0.28, "bm25": 0.39, "intuitive": 0.03, "optimal": 0.05}
HELD_OUT = {"pearson": 0.27, "ndcg": 0.285, "hybrid": 0.44, "logistic": 0.57}
MONTH = 30 * 86400.0
JUDGED = ("M1", "M2", "M3", "M9")


def written_result(*, one: bool = False, truth: str = "evidence") -> dict[str, Any]:
    """What `leray study importance --json` prints; ``one``: of a single conversation."""
    scores = SCORES | ({} if one else HELD_OUT)
    return {
        "study": "importance",
        "run": "runs/example",
        "preset": "quick",
        "seed": 7,
        "data": _data(one, truth),
        "table": [_method(m, v, one) for m, v in scores.items()],
        "weights": _weights(one),
        "methods": [
            {"name": "logistic", "seconds": 28.03, "claimed": None},
            {"name": "bootstrap", "seconds": 0.48, "claimed": 1800.0},
        ],
        "verdicts": [_verdict(k, one) for k in range(len(JUDGED))],
        "stack": [],
        "left_out": {},
        "simulated": [],
        "advice": "Use relevance alone: nothing beat it.",
    }


def written_details(*, one: bool = False, taus: tuple[float, ...] = (MONTH,)) -> dict[str, Any]:
    """What the figures are drawn from."""
    grid = (0.1, 0.4, 0.6)
    return {
        "landscape": {
            "signals": list(FOUR),
            "weights": [[_split(d, s) for s in grid] for d in grid],
            "r": [[0.06 - 0.05 * d - 0.02 * s for s in grid] for d in grid],
            "renormalised": [[d + s > 1 for s in grid] for d in grid],
        },
        "taus": [{"tau_seconds": t, "r": 0.05 + 0.01 * k} for k, t in enumerate(taus)],
        "histograms": {
            s: {"edges": [0, 0.5, 1], "irrelevant": [900.0, 80.0], "relevant": [3.0, 17.0]}
            for s in (*FOUR, "lexical")
        },
        "correlation": {
            "signals": ["decay", "surprise", "relevance-1"],
            "matrix": [[1.0, 0.2, -0.1], [0.2, 1.0, 0.0], [-0.1, 0.0, 1.0]],
        },
        "null": {
            "edges": [-0.01, 0.0, 0.01],
            "counts": [40, 60],
            "num_permutations": 100,
            "observed": 0.08,
            "group": "rotations" if len(taus) == 1 else "sign flips",
        },
        "resampled_weights": {} if one else {s: [0, 3, 5, 2] for s in FOUR},
    }


def _data(one: bool, truth: str) -> dict[str, Any]:
    num = 1 if one else 10
    return {
        "name": "jsonl:chats.jsonl",
        "sha256": "0" * 64,
        "description": "Chats of a person.",
        "truth": truth,
        "seen": truth == "evidence",
        "conversations": num,
        "histories": num,
        "clusters": num,
        "cluster_unit": "conversations",
        "turns": 5882,
        "queries": 1982,
        "pairs": 1192166,
        "positives": 2820,
        "repaired": {"evidence id misspelt": 2},
        "dropped": {},
    }


def _interval(value: float, one: bool, kind: str = "jackknife-t") -> dict[str, Any]:
    ends = None if one else [max(0.0, value - 0.03), value + 0.03]
    kind = "none: one conversation" if one else kind
    return {"estimate": value, "interval": ends, "level": 0.95, "interval_kind": kind}


def _method(name: str, value: float, one: bool) -> dict[str, Any]:
    metrics = {k: _interval(value, one, "studentised") for k in METRICS}
    return {"method": name, "held_out": name in HELD_OUT, "metrics": metrics}


def _split(decay: float, surprise: float) -> list[float]:
    rest = max(0.0, 1 - decay - surprise)
    total = decay + surprise + rest
    return [decay / total, surprise / total, rest * 2 / 3 / total, rest / 3 / total]


def _weights(one: bool) -> dict[str, Any]:
    values = (0.003, 0.143, 0.757, 0.097)
    fitted = {"signals": list(FOUR), "values": list(values), "tau_seconds": MONTH}
    hybrid = {"signals": [*FOUR, "lexical"], "values": [0, 0.1, 0.5, 0, 0.4], "tau_seconds": MONTH}
    logistic = {"signals": ["decay", "named"], "values": [-0.2, 0.9], "tau_seconds": MONTH}
    alone = {"signals": ["relevance"], "values": [1.0], "tau_seconds": MONTH}
    return {
        "method": "pearson",
        "signals": list(FOUR),
        "tau_seconds": MONTH,
        "r": 0.0838,
        "optimality_residual": 1.6e-16,
        "p_value": 1 / 101,
        "p_value_is": "one-sided, rotations by conversation",
        "values": [
            {"signal": s, **_interval(v, one, "upper" if v < 0.01 else "jackknife-t")}
            for s, v in zip(FOUR, values, strict=True)
        ],
        "grid": {
            "configurations": 9,
            "renormalised": 3,
            "best_r": 0.053,
            "best": dict(zip(FOUR, _split(0.1, 0.1), strict=True)),
        },
        "fitted": {"pearson": fitted, "hybrid": hybrid, "relevance": alone}
        | ({} if one else {"logistic": logistic}),
        "recommended": "relevance",
    }


def _verdict(k: int, one: bool) -> dict[str, Any]:
    claim = next(c for c in CLAIMS if c.id == JUDGED[k])
    judged = not one and k != 1
    ends = ([0.002, 0.283], None, [-0.32, -0.22], [-0.005, 0.357])[k]
    return {
        "claim": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "estimand": claim.estimand,
        "direction": claim.direction,
        "data": "jsonl:chats.jsonl",
        "status": "replication",
        "verdict": ("refuted", "undecided", "refuted", "undecided")[k] if judged else "undecided",
        "estimate": (ends[0] + ends[1]) / 2 if judged and ends else None,
        "interval": ends if judged else None,
        "level": 0.95,
        "interval_kind": "jackknife-t, simultaneous over 9 claims" if judged else None,
        "margin": claim.margin,
        "null": claim.null,
        "p_value": 0.25 if judged and k > 1 else None,
        "p_value_is": "two-sided, sign flips by conversation" if judged and k > 1 else None,
        "n": 1 if one else 10,
        "n_needed": 34 if judged and k == 3 else None,
        "method": "paired by conversation" if judged else "not judged",
        "note": "" if judged else "these data have no times",
        "claim_hash": claim.hash,
    }
