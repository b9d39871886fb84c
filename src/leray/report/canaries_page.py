"""The report of the canary study: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

from leray.figures import numbers
from leray.report.templates import style, template
from leray.runs.folder import RunFolder

RATES = ("in_time", "at_once", "ranked_first", "restored")
"""Those of a kind of fault that are shown."""


def publish(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write ``report.html`` into a run's folder."""
    folder.write("report.html", render(result))


def render(result: dict[str, Any]) -> str:
    """The page.

    Args:
        result: As in ``result.json``.

    Returns:
        One HTML document that loads nothing.
    """
    learned = result["dependencies"]
    return template("canaries.html").render(
        style=style(),
        result=result,
        advice=advice(result),
        verdicts=[verdict_cells(v) for v in result["verdicts"]],
        faults=[fault_cells(row) for row in result["table"]],
        facts=facts(result),
        dependency_heads=["module", *learned["capabilities"]],
        dependencies=[
            [part, *(f"{one:.2f} ({other:.2f})" for one, other in zip(ours, its, strict=True))]
            for part, ours, its in zip(
                learned["parts"], learned["learned"], learned["planted"], strict=True
            )
        ],
        seconds=[(m["name"], numbers.seconds(m["seconds"])) for m in result["methods"]],
    )


def advice(result: dict[str, Any]) -> str:
    """What came of it, in a sentence or two."""
    row, (verdict,) = result["table"][-1], result["verdicts"]
    kept = row["metrics"]["kept"]
    if kept is None:
        return "No fault broke a capability, so nothing is concluded."
    return (
        f"Of {row['broke']} faults that broke a capability {row['in_time']['hits']} were found by "
        f"the first check behind them, {row['at_once']['hits']} by the first at which a "
        f"capability was broken, and {row['restored']['hits']} undone; {kept['estimate']:.1%} of "
        "the other "
        f"progress was kept. That it is at least 95% is {verdict['verdict']}."
    )


def verdict_cells(v: dict[str, Any]) -> list[str]:
    """A verdict as text."""
    return [
        f"{v['claim']} {v['statement']}",
        v["verdict"],
        numbers.decimal(v["estimate"]),
        numbers.between(v["interval"]),
        numbers.percent(v["level"]),
        v["interval_kind"] or numbers.MISSING,
        str(v["n"]),
        v["status"],
    ]


def fault_cells(row: dict[str, Any]) -> list[str]:
    """A kind of fault as text."""
    kept = row["metrics"]["kept"]
    others = [row["metrics"][k] for k in ("kept_last_check", "kept_without")]
    return [
        row["method"],
        str(row["planted"]),
        str(row["broke"]),
        *(share(row[name]) for name in RATES),
        numbers.decimal(None if kept is None else kept["estimate"]),
        numbers.between(None if kept is None else kept["interval"]),
        *(numbers.decimal(None if x is None else x["estimate"]) for x in others),
    ]


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What else was measured."""
    h, c, d = result["healthy"], result["cost"], result["dependencies"]
    low, high = c["overhead_quartiles"]
    return [
        ("healthy runs with an alarm", share(h["runs"])),
        ("their checks", f"{h['checks']:,}"),
        (
            "processor time of a watched step",
            f"{c['overhead']:+.1%} (quartiles {low:+.1%}, {high:+.1%})",
        ),
        ("memory of the ring, in weights", f"{c['ring_bytes'] / c['weight_bytes']:.1f}"),
        ("corrupted module named first", share(d["module_first"])),
        ("AUROC of learned edges", numbers.decimal(d["auroc"])),
    ]


def share(rate: dict[str, Any] | None) -> str:
    """A count and its interval."""
    if rate is None:
        return numbers.MISSING
    low, high = rate["wilson"]
    return f"{rate['hits']}/{rate['trials']} [{low:.2f}, {high:.2f}]"
