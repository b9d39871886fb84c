"""The report of the architecture study: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from leray.figures import numbers
from leray.figures.architecture import draw
from leray.report.templates import style, template
from leray.runs.folder import RunFolder


def publish(folder: RunFolder, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write ``report.html`` and ``figures/*.svg`` into a run's folder."""
    for name, picture in draw(result, details).items():
        folder.write(f"figures/{name}.svg", picture.svg)
    folder.write("report.html", render(result, details))


def render(result: dict[str, Any], details: dict[str, Any]) -> str:
    """The page.

    Args:
        result: As in ``result.json``.
        details: As in ``details.json``.

    Returns:
        One HTML document that loads nothing.
    """
    return template("architecture.html").render(
        style=style(),
        result=result,
        advice=advice(result),
        figures=[(p, Markup(p.svg)) for p in draw(result, details).values()],
        verdicts=[verdict_cells(v) for v in result["verdicts"]],
        models=[model_cells(r) for r in result["table"]],
        headline=[model_cells(r) for r in result["headline"]],
        seconds=[(m["name"], numbers.seconds(m["seconds"])) for m in result["methods"]],
        count=numbers.count,
    )


def advice(result: dict[str, Any]) -> str:
    """What to take from it, in a sentence or two."""
    ranked = sorted(result["headline"], key=lambda r: r["metrics"]["loss"]["estimate"])
    general = next(v for v in result["verdicts"] if v["claim"] == "G1")
    best = f"{ranked[0]['method']} has the lowest loss, {_loss(ranked[0])} nats a token"
    return (
        f"At this scale {best}, then {ranked[1]['method']} with {_loss(ranked[1])}. That a "
        f"sheaf-structured model is better than every rival by .03 is {general['verdict']}."
    )


def verdict_cells(v: dict[str, Any]) -> list[str]:
    """A verdict as text."""
    return [
        f"{v['claim']} {v['statement']}",
        v["verdict"],
        numbers.MISSING if v["estimate"] is None else f"{v['estimate']:+.4f}",
        numbers.MISSING if v["interval"] is None else "[{:+.4f}, {:+.4f}]".format(*v["interval"]),
        f"−{v['margin']:g}",
        numbers.percent(v["level"]),
        v["method"],
        numbers.probability(v["p_value"]),
        v["note"],
    ]


def model_cells(row: dict[str, Any]) -> list[str]:
    """A model as text: its size, its rate, its loss."""
    ends = row["metrics"]["loss"]["interval"]
    tried = ", ".join(
        f"{t['rate']:g}: {numbers.MISSING if t['tune'] is None else format(t['tune'], '.3f')}"
        for t in row["tried"]
    )
    return [
        row["method"],
        row["what"],
        f"{row['parameters']:,}",
        f"{row['flops_per_token'] / 1e6:.2f}",
        f"{row['rate']:g} ({tried})",
        _loss(row),
        numbers.MISSING if ends is None else f"[{ends[0]:.4f}, {ends[1]:.4f}]",
    ]


def _loss(row: dict[str, Any]) -> str:
    return f"{row['metrics']['loss']['estimate']:.4f}"
