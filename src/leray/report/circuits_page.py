"""The report of the circuits study: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

import numpy as np

from leray.figures import numbers
from leray.report.templates import style, template
from leray.runs.folder import RunFolder

HEADS = ("form", "score", "ours", "EAP-IG", "ACDC", "random", "by chance", "elsewhere", "later")


def publish(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write ``report.html`` into a run's folder."""
    folder.write("report.html", render(result))


def render(result: dict[str, Any]) -> str:
    """The page: one HTML document that loads nothing.

    Args:
        result: As in ``result.json``.
    """
    return template("circuits.html").render(
        style=style(),
        result=result,
        advice=advice(result),
        verdicts=[verdict_cells(v) for v in result["verdicts"]],
        heads=HEADS,
        circuits=[row_cells(row) for row in result["table"]],
        seconds=[(m["name"], numbers.seconds(m["seconds"])) for m in result["methods"]],
    )


def advice(result: dict[str, Any]) -> str:
    """What to take from it, in a sentence."""
    able = [row for row in result["table"] if row["parameters"]]
    if not able:
        return "No model can do any of the forms, so that nothing is said of their circuits."
    share = np.mean([np.mean(row["methods"][0]["edges"]) for row in able])
    alone = np.mean([np.mean(row["parameters"]) for row in able])
    return (
        f"A circuit that keeps .9 has {share / result['edges']:.0%} of the edges, and a form "
        f"survives on {alone:.0%} of the parameters with all others zero."
    )


def verdict_cells(v: dict[str, Any]) -> list[str]:
    """A verdict as text."""
    return [
        f"{v['claim']} {v['statement']}",
        v["verdict"],
        numbers.MISSING if v["estimate"] is None else f"{v['estimate']:.4f}",
        numbers.MISSING if v["interval"] is None else "[{:.4f}, {:.4f}]".format(*v["interval"]),
        f"{v['null']:g}, {v['margin']:g}",
        numbers.percent(v["level"]),
        v["method"],
        numbers.probability(v["p_value"]),
        v["note"],
    ]


def row_cells(row: dict[str, Any]) -> list[str]:
    """A form as text: how many edges each method needs, and what ours keep elsewhere."""
    sizes = [_sizes(m["edges"]) for m in row["methods"]]
    return [
        row["form"],
        _range(row["scores"], 3),
        *sizes,
        _range(row["by_chance"], 2),
        _range(row["carried"], 2),
        ", ".join(_range(found, 2) for found in row["drifted"]),
    ]


def _sizes(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return f"{numbers.MISSING} (none of {len(values)})"
    missing = len(values) - len(known)
    return _range(known, 0) + (f" (none of {missing})" if missing else "")


def _range(values: list[float], digits: int) -> str:
    if not values:
        return numbers.MISSING
    mean, low, high = np.mean(values), min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
