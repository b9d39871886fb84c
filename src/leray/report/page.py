"""The report: one HTML file that needs no network and no script.

Everything that comes from data is escaped by the template; the only markup that is trusted is
the figures, whose text is escaped where they are made. No text of a conversation enters unless
``details["texts"]`` holds it, which only ``--include-text`` puts there.
"""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from leray.figures import numbers, words
from leray.figures.captions import clusters
from leray.figures.catalogue import draw
from leray.figures.style import Picture
from leray.report import view
from leray.report.judged import card
from leray.report.templates import style, template
from leray.runs.folder import RunFolder


def publish(folder: RunFolder, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write ``report.html`` and ``figures/*.svg`` into a run's folder.

    Args:
        folder: The run; its configuration and environment are shown.
        result: As in ``result.json``.
        details: As in ``details.json``.
    """
    pictures = draw(result, details)
    for name, picture in pictures.items():
        folder.write(f"figures/{name}.svg", picture.svg)
    environment = json.loads((folder.path / "env.json").read_bytes())
    details = {**details, "config": folder.config, "environment": environment}
    folder.write("report.html", _typeset(result, details, pictures))


def render(result: dict[str, Any], details: dict[str, Any]) -> str:
    """The page.

    Args:
        result: As in ``result.json``.
        details: As in ``details.json``; ``config`` and ``environment`` are shown where given, and
            ``texts`` (``[{conversation, query, relevant}]``) is quoted.

    Returns:
        One HTML document, valid UTF-8, that loads nothing.
    """
    return _typeset(result, details, draw(result, details))


def _typeset(result: dict[str, Any], details: dict[str, Any], pictures: dict[str, Picture]) -> str:
    html = template("page.html").render(
        **_words(result, details, pictures), figures=pictures, svg=_inline(pictures)
    )
    # JSON can hold lone surrogates and NUL, which are no characters of an HTML document.
    return html.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _inline(pictures: dict[str, Picture]) -> dict[str, Markup]:
    return {name: Markup(picture.svg) for name, picture in pictures.items()}


def _words(
    result: dict[str, Any], details: dict[str, Any], pictures: dict[str, Picture]
) -> dict[str, Any]:
    """All that the template names: text and formatted numbers, still unescaped."""
    fitted_signals, fitted = view.fitted_rows(result)
    metrics, methods = view.comparison(result)
    correlated, correlations = view.correlation_rows(details)
    config, environment = details.get("config") or {}, details.get("environment") or {}
    chief, packages = view.environment_rows(environment)
    weights, num_clusters = result["weights"], result["data"]["clusters"]
    return {
        "style": style(),
        "study": result["study"],
        "preset": result["preset"],
        "seed": result["seed"],
        "run": result["run"],
        "advice": result["advice"],
        "clusters": clusters(result),
        "num_clusters": num_clusters,
        "num_taus": len(details.get("taus") or []),
        "cards": [card(row, result["data"]["cluster_unit"]) for row in result["verdicts"]],
        "weights": view.weight_rows(result),
        "facts": _weight_facts(weights, details),
        "points": view.landscape_rows(result, details),
        "fitted_signals": fitted_signals,
        "fitted": fitted,
        "logistic": view.logistic_rows(result),
        "logistic_recommended": weights["recommended"] == "logistic",
        "recommended": words.method(weights["recommended"]).name,
        "metrics": metrics,
        "methods": methods,
        "stack": view.stack_rows(result, pictures),
        "left_out": list(result["left_out"].items()),
        "correlated": correlated,
        "correlations": correlations,
        "data": view.data_rows(result),
        "times": view.time_rows(result),
        "command": view.command(result, config),
        "config": [(k, str(v)) for k, v in config.items()],
        "environment": chief,
        "packages": packages,
        "files": words.FILES,
        "texts": details.get("texts") or [],
        "glossary": words.INTERVALS,
        "terms": words.VERDICTS,
        "statuses": words.STATUSES,
        "missing": numbers.MISSING,
    }


def _weight_facts(weights: dict[str, Any], details: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of what is known about the exact weights."""
    return [
        (
            "r",
            numbers.decimal(weights["r"], 4),
            "correlation of the weighted sum with the truth, over all pairs; small numbers are to "
            "be expected where few turns are relevant",
        ),
        (
            "permutation p",
            numbers.probability(weights["p_value"]),
            f"{weights['p_value_is']}: how often labels that mean nothing reach the r of the "
            "figure, in which every list of candidates is centred first"
            + _smallest(weights["p_value"], details.get("null") or {}),
        ),
        (
            "decay time τ",
            numbers.span(weights["tau_seconds"]),
            "after this time the decay signal has fallen to 37%",
        ),
        (
            "optimality residual",
            numbers.scientific(weights["optimality_residual"]),
            "how far these weights are from satisfying the conditions of the optimum; 0 is exact",
        ),
    ]


def _smallest(p_value: float, null: dict[str, Any]) -> str:
    """That no smaller p-value was possible, where it is so: none of the draws reached r."""
    drawn = null.get("num_permutations")
    if not drawn or p_value * (drawn + 1) > 1 + 1e-9:
        return ""
    return f" (never, in {numbers.count(drawn)} draws)"
