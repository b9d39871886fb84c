"""The report of the protection study: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from leray.figures import numbers
from leray.figures.protection import draw
from leray.report.architecture_page import verdict_cells
from leray.report.templates import style, template
from leray.runs.folder import RunFolder
from leray.studies.protection_methods import METHODS


def publish(folder: RunFolder, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write ``report.html`` and ``figures/*.svg`` into a run's folder."""
    for name, picture in draw(result, details).items():
        folder.write(f"figures/{name}.svg", picture.svg)
    folder.write("report.html", render(result, details))


def render(result: dict[str, Any], details: dict[str, Any]) -> str:
    """The page: one HTML document that loads nothing.

    Args:
        result: As in ``result.json``.
        details: As in ``details.json``.
    """
    return template("protection.html").render(
        style=style(),
        result=result,
        advice=advice(result),
        scores=lambda found: ", ".join(f"{x:.3f}" for x in found),
        figures=[(p, Markup(p.svg)) for p in draw(result, details).values()],
        verdicts=[verdict_cells(v) for v in result["verdicts"]],
        methods=[row_cells(row) for row in result["table"]],
        meanings=[
            (row["method"], row["what"]) for row in result["table"] if row["method"] in METHODS
        ],
        seconds=[(m["name"], numbers.seconds(m["seconds"])) for m in result["methods"]],
    )


def advice(result: dict[str, Any]) -> str:
    """What to take from it, in a sentence or two."""
    uniform = next(row for row in result["table"] if row["method"] == "uniform")
    theirs, ours = uniform["matched"]
    return (
        f"At the same new loss {result['ours']} have forgotten {ours:.3f} of the score where a "
        f"uniform rate has forgotten {theirs:.3f}; {_short(result, result['ours'])} of "
        f"{len(uniform['by_seed'])} runs of zones and {_short(result, 'uniform')} of the uniform "
        "rate fall short of the target in the steps that there are."
    )


def _short(result: dict[str, Any], method: str) -> int:
    return next(row["short"] for row in result["table"] if row["method"] == method)


def row_cells(row: dict[str, Any]) -> list[str]:
    """A method as text: its setting, and what it forgot at the target."""
    return [
        row["method"],
        f"{row['rate']:g}",
        numbers.MISSING if row["strength"] == 0 else f"{row['strength']:g}",
        _points(row),
        f"{row['metrics']['nats']['estimate']:+.4f}",
        f"{row['metrics']['steps']['estimate']:.0f}",
        str(row["short"]),
        f"{row['last']:.3f}",
        "{:.4f}, {:.4f}".format(*row["matched"]),
    ]


def _points(row: dict[str, Any]) -> str:
    return f"{row['metrics']['forgotten']['estimate']:.4f}"
