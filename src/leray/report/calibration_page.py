"""The report of a calibration: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from leray.figures import numbers
from leray.figures.calibration import draw
from leray.report.templates import style, template
from leray.runs.folder import RunFolder


def publish(folder: RunFolder, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write ``report.html``, ``calibrate.txt`` and ``figures/*.svg`` into a run's folder."""
    pictures = draw(result, details)
    for name, picture in pictures.items():
        folder.write(f"figures/{name}.svg", picture.svg)
    folder.write("calibrate.txt", table(result))
    folder.write("report.html", render(result, details))


def render(result: dict[str, Any], details: dict[str, Any]) -> str:
    """The page.

    Args:
        result: As in ``result.json``.
        details: As in ``details.json``.

    Returns:
        One HTML document that loads nothing.
    """
    pictures = draw(result, details)
    return template("calibration.html").render(
        style=style(),
        result=result,
        figures=[(p, Markup(p.svg)) for p in pictures.values()],
        coverage=[coverage_cells(r) for r in result["rows"]],
        rejections=[rejection_cells(r) for r in result["false_positives"]],
        parameters=[
            (p["name"], numbers.probability(p["p_ecdf"]), numbers.probability(p["p_chi_square"]))
            for p in result["sbc"]["parameters"]
        ],
        unmet=unmet(result),
        nuts=numbers.percent(round(result["sbc"]["k_hat_above"], 3)),
        seconds=[(m["name"], numbers.seconds(m["seconds"])) for m in result["methods"]],
        count=numbers.count,
    )


def coverage_cells(row: dict[str, Any]) -> list[str]:
    """A coverage as text: what, where, how many, how often, and whether that was promised."""
    return [
        row["method"],
        row["quantity"],
        row["setting"],
        str(row["conversations"]),
        numbers.percent(row["level"]),
        _rate(row["coverage"], row["mc_error"]),
        f"{row['num_datasets']:,}",
        row["criterion"] or numbers.MISSING,
        row["met"] or numbers.MISSING,
    ]


def rejection_cells(row: dict[str, Any]) -> list[str]:
    """A false-positive rate as text."""
    return [
        row["method"],
        row["setting"],
        str(row["conversations"]),
        numbers.percent(row["level"]),
        _rate(row["rate"], row["mc_error"]),
        f"{row['num_datasets']:,}",
        row["criterion"] or numbers.MISSING,
        row["met"] or numbers.MISSING,
    ]


def unmet(result: dict[str, Any]) -> list[str]:
    """Everything that was missed, a line each."""
    lines = [
        f"{r['method']}, {r['quantity']}, {r['conversations']} conversations: "
        f"{_rate(r['coverage'], r['mc_error'])} where {r['criterion']} was asked"
        for r in result["rows"]
        if r["met"] == "missed"
    ]
    lines += [
        f"{r['method']}, {r['conversations']} conversations: {_rate(r['rate'], r['mc_error'])} "
        f"where {r['criterion']} was asked"
        for r in result["false_positives"]
        if r["met"] == "missed"
    ]
    sbc = result["sbc"]
    if sbc["met"] == "missed":
        least = min(sbc["parameters"], key=lambda p: p["p_ecdf"])
        lines.append(
            f"{sbc['method']}: {least['name']} has p = {numbers.probability(least['p_ecdf'])}, "
            f"where {sbc['criterion']} was asked"
        )
    return lines


def table(result: dict[str, Any]) -> str:
    """Everything as plain text."""
    summary, sbc = result["summary"], result["sbc"]
    lines = [
        f"leray calibrate --datasets {result['datasets']} --seed {result['seed']}",
        f"{summary['met']} criteria met, {summary['missed']} missed, {summary['undecided']} "
        "undecided at this number of data sets.",
        "± is the Monte Carlo standard error. Met: the 95% Monte Carlo interval lies within the "
        "criterion.",
        "",
        *_columns([coverage_cells(r) for r in result["rows"]]),
        "",
        *_columns([rejection_cells(r) for r in result["false_positives"]]),
        "",
        f"{sbc['method']}: {sbc['num_datasets']:,} data sets of {sbc['conversations']} "
        f"conversations, {sbc['by_nuts']} by NUTS, none discarded; {sbc['criterion']}: "
        f"{sbc['met']}",
        *_columns(
            [
                [
                    p["name"],
                    numbers.probability(p["p_ecdf"]),
                    numbers.probability(p["p_chi_square"]),
                ]
                for p in sbc["parameters"]
            ]
        ),
        "",
        *(f"missed: {line}" for line in unmet(result)),
    ]
    return "\n".join(lines) + "\n"


def _rate(value: float, error: float) -> str:
    return f"{100 * value:.1f}% ± {100 * error:.2f}"


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
