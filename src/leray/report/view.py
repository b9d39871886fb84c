"""The page's tables: rows of words and numbers, ready to be set; nothing is computed here."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Any

from leray.figures import numbers, words
from leray.figures.weights import CLAIMED
from leray.memory.methods import INTUITIVE, OPTIMAL

Row = dict[str, Any]
_FOUND = {
    "conversations": "conversations",
    "histories": "histories (what a query may look back on)",
    "turns": "turns",
    "queries": "queries that could be used",
    "pairs": "pairs of a query and a turn",
    "positives": "pairs marked relevant",
}
_PACKAGES = ("leray", "numpy", "scipy", "numba", "torch", "scikit-learn", "matplotlib")


def weight_rows(result: Row) -> list[Row]:
    """The exact Pearson weights with their intervals."""
    return [
        {
            "name": words.signal(row["signal"]).name,
            "what": words.signal(row["signal"]).what,
            "estimate": numbers.decimal(row["estimate"]),
            "share": _share(row["estimate"]),
            "interval": numbers.between(row["interval"]),
            "kind": interval_kind(row),
            "claimed": numbers.decimal(CLAIMED.get(row["signal"]), 2),
        }
        for row in result["weights"]["values"]
    ]


def interval_kind(row: Row) -> str:
    """Level and kind of one interval, or why there is none."""
    if row["interval"] is None:
        return str(row["interval_kind"] or "none")
    return f"{numbers.percent(row['level'])}, {row['interval_kind']}"


def fitted_rows(result: Row) -> tuple[list[str], list[Row]]:
    """The weights of every fitted method that has the signals of the widest simplex, and these."""
    fitted = result["weights"]["fitted"]
    simplex = {m: f for m, f in fitted.items() if m != "logistic"}
    signals = list(dict.fromkeys(s for f in simplex.values() for s in f["signals"]))
    rows = []
    for m, f in simplex.items():
        values = dict(zip(f["signals"], f["values"], strict=True))
        rows.append(
            {
                "name": words.method(m).name,
                "what": words.method(m).what,
                "recommended": m == result["weights"]["recommended"],
                "tau": numbers.span(f["tau_seconds"]) if "decay" in values else numbers.MISSING,
                "cells": [
                    {"text": numbers.decimal(values.get(s)), "share": _share(values.get(s))}
                    for s in signals
                ],
            }
        )
    return [words.signal(s).name for s in signals], rows


def logistic_rows(result: Row) -> list[Row]:
    """The coefficients of the logistic regression, the largest first."""
    fitted = result["weights"]["fitted"].get("logistic")
    if not fitted:
        return []
    pairs = sorted(zip(fitted["signals"], fitted["values"], strict=True), key=lambda p: -abs(p[1]))
    return [
        {"name": words.signal(s).name, "what": words.signal(s).what, "value": numbers.decimal(v)}
        for s, v in pairs
    ]


def landscape_rows(result: Row, details: Row) -> list[Row]:
    """The named points of the landscape: where they lie and their r on all conversations."""
    weights, field = result["weights"], details.get("landscape") or {"weights": [], "r": []}
    exact = {row["signal"]: row["estimate"] for row in weights["values"]}
    best = weights["grid"]["best"]
    points = [
        ("exact optimum", exact["decay"], exact["surprise"], weights["r"]),
        ("best of the grid", best["decay"], best["surprise"], weights["grid"]["best_r"]),
    ]
    for name, wanted in (("optimal", OPTIMAL), ("intuitive", INTUITIVE)):
        points += [
            (words.method(name).name, wanted[0], wanted[1], r)
            for row, values in zip(field["weights"], field["r"], strict=True)
            for w, r in zip(row, values, strict=True)
            if all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(w, wanted, strict=True))
        ]
    return [
        {
            "name": name,
            "decay": numbers.decimal(decay),
            "surprise": numbers.decimal(surprise),
            "r": numbers.decimal(r, 4),
        }
        for name, decay, surprise, r in points
    ]


def comparison(result: Row) -> tuple[list[words.Term], list[Row]]:
    """Methods by metrics, the best of each metric marked."""
    table = result["table"]
    metrics = list(dict.fromkeys(k for row in table for k in row["metrics"]))
    best = {
        k: max(row["metrics"][k]["estimate"] for row in table if k in row["metrics"])
        for k in metrics
    }
    rows = [
        {
            "id": row["method"],
            "term": words.method(row["method"]),
            "held_out": row["held_out"],
            "cells": [_cell(row["metrics"].get(k), best[k]) for k in metrics],
        }
        for row in table
    ]
    return [words.metric(k) for k in metrics], rows


def _cell(value: Row | None, best: numbers.Number) -> Row:
    if value is None:
        return {"estimate": numbers.MISSING, "interval": "", "best": False}
    return {
        "estimate": numbers.decimal(value["estimate"]),
        "interval": "" if value["interval"] is None else numbers.between(value["interval"]),
        "best": value["estimate"] == best,
    }


def correlation_rows(details: Row) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The matrix of correlations, to two decimals."""
    field = details.get("correlation") or {"signals": [], "matrix": []}
    names = [words.signal(s).short for s in field["signals"]]
    rows = [[numbers.decimal(v, 2) for v in row] for row in field["matrix"]]
    return names, list(zip(names, rows, strict=True))


def data_rows(result: Row) -> Row:
    """What the data are, and what became of them on the way."""
    data = result["data"]
    truth = str(data["truth"])
    return {
        "name": data["name"],
        "description": data["description"],
        "truth": words.TRUTHS.get(truth, truth),
        "seen": data["seen"],
        "unit": data["cluster_unit"],
        "clusters": numbers.count(data["clusters"], data["cluster_unit"]),
        "counts": [(what, numbers.count(data.get(k))) for k, what in _FOUND.items()],
        "repaired": [(k, numbers.count(v)) for k, v in data["repaired"].items()],
        "dropped": [(k, numbers.count(v)) for k, v in data["dropped"].items()],
    }


def time_rows(result: Row) -> list[Row]:
    """Seconds of each computation beside what the source claims for it."""
    return [
        {
            "name": row["name"],
            "what": words.COMPUTATIONS.get(row["name"], ""),
            "seconds": numbers.seconds(row["seconds"]),
            "claimed": numbers.seconds(row["claimed"]),
        }
        for row in result["methods"]
    ]


def stack_rows(result: Row, pictures: Iterable[str]) -> list[Row]:
    """The heavy methods: what each found, its figures (named after it), and whether to trust it."""
    times = {row["name"]: row for row in result["methods"]}
    return [
        {
            "name": o["name"],
            "title": o["title"],
            "paragraph": o["paragraph"],
            "seconds": numbers.seconds(times[o["name"]]["seconds"]),
            "claimed": numbers.seconds(times[o["name"]]["claimed"]),
            "figures": [p for p in pictures if p == o["name"] or p.startswith(f"{o['name']}-")],
            "estimates": [
                {
                    "name": row["name"],
                    "estimate": _any_size(row["estimate"]),
                    "interval": _between(row["interval"]),
                    "kind": interval_kind(row),
                    "n": numbers.count(row["n"]),
                }
                for row in o["estimates"]
            ],
            "verdicts": [
                {
                    "claim": v["claim"],
                    "statement": v["statement"],
                    "verdict": v["verdict"],
                    "estimate": _any_size(v["estimate"]),
                    "interval": _between(v["interval"]),
                }
                for v in result["simulated"]
                if o["name"] == "montecarlo"
            ],
            "diagnostics": [(k, _diagnostic(v)) for k, v in o["diagnostics"].items()],
        }
        for o in result["stack"]
    ]


def _any_size(value: numbers.Number) -> str:
    """Three decimals, or a power of ten where they would show nothing."""
    return numbers.scientific(value) if 0 < abs(value) < 5e-4 else numbers.decimal(value)


def _between(interval: list[float] | None) -> str:
    if interval is None:
        return numbers.MISSING
    return " to ".join(_any_size(v) for v in interval)


def _diagnostic(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return numbers.MISSING
    if isinstance(value, float) and not value.is_integer():
        return _any_size(value)
    return str(value) if isinstance(value, str) else numbers.count(int(value))


def command(result: Row, config: Row) -> str:
    """The command that makes this run again.

    >>> command({"study": "importance", "data": {"name": "jsonl:my chats"}, "preset": "quick",
    ...          "seed": 3}, {"include_text": True})
    "leray study importance --data 'jsonl:my chats' --preset quick --seed 3 --include-text"
    """
    words_ = ["leray", "study", result["study"]]
    words_ += ["--data", config.get("data", result["data"]["name"])]
    words_ += ["--preset", result["preset"], "--seed", str(result["seed"])]
    if config.get("embedder"):
        words_ += ["--embedder", config["embedder"]]
    if config.get("device", "cpu") != "cpu":
        words_ += ["--device", config["device"]]
    if config.get("include_text"):
        words_.append("--include-text")
    if config.get("literal"):
        words_ += ["--literal", str(config["literal"])]
    if config.get("exhaustive_networks"):
        words_.append("--exhaustive-networks")
    return shlex.join(words_)


def environment_rows(environment: Row) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The computer and the packages that the numbers rest on; then every package."""
    packages = environment.get("packages", {})
    lower = {k.lower(): (k, v) for k, v in packages.items()}
    chief = [
        (k, str(environment[k])) for k in sorted(environment) if k not in {"packages", "python"}
    ]
    if "python" in environment:
        chief.insert(0, ("python", environment["python"]))
    chief = [(k.replace("_", " "), v) for k, v in chief]
    chief += [lower[p] for p in _PACKAGES if p in lower]
    return chief, sorted(packages.items(), key=lambda item: item[0].lower())


def _share(value: numbers.Number | None) -> numbers.Number | None:
    """A weight as the percentage that its bar is wide; None for no bar."""
    return None if value is None or not 0 <= value <= 1 else round(100 * value, 1)
