"""A pair of maps against its null: histograms of what chance gives, and where the pair stands."""

from __future__ import annotations

from leray.algebra.defects import ExactnessDefect
from leray.figures.style import (
    QUIET,
    SKY,
    VERMILLION,
    Picture,
    canvas,
    house_style,
    place,
    to_picture,
)

NAMES = {
    "composition": "composition defect",
    "violation": "violation v",
    "homology": "homology h",
}
_PANEL, _GAP = 1.6, 0.2  # inches


def defect_against_null(report: ExactnessDefect, *, data: str) -> Picture:
    """The three defects of one pair, each with its draws from the null.

    Args:
        data: Whose maps these are, in a few words that begin a sentence.
    """
    draws = len(report.null_composition)
    width = 3 * _PANEL + 2 * _GAP + 0.5
    with house_style():
        figure = canvas(2.1, width)
        said = []
        for k, (name, label) in enumerate(NAMES.items()):
            left = 0.25 + k * (_PANEL + _GAP)
            axes = place(figure, left, 0.55, width - left - _PANEL, 0.35)
            seen = float(getattr(report, name))
            axes.hist(getattr(report, f"null_{name}").tolist(), bins=24, color=SKY, alpha=0.6)
            axes.axvline(seen, color=VERMILLION, linewidth=2)
            axes.margins(x=0.08)
            axes.set_xlabel(label)
            axes.set_title(f"{seen:.2f}", color=VERMILLION, pad=6)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.tick_params(length=0, labelcolor=QUIET)
            said.append(f"{label} {seen:.2f}, as small in {float(report.p_value(name)):.3f}")
        return to_picture(
            figure,
            name="defects",
            title="How exact, beside chance",
            caption=f"{data}: the defects of U → V → W at V of dimension {report.dim} (red) beside "
            f"{draws} draws from the null “{report.null}” (blue); smaller is more exact. One pair, "
            "no interval.",
            alt=f"Three histograms of {draws} draws; {'; '.join(said)} of the draws.",
        )
