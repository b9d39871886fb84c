"""The landscape of all configurations over decay and surprise."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from leray.figures import numbers
from leray.figures.captions import data_line
from leray.figures.style import (
    INK,
    QUIET,
    VERMILLION,
    Picture,
    canvas,
    house_style,
    place,
    smooth,
    to_picture,
)
from leray.memory.methods import INTUITIVE, OPTIMAL


def landscape(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """r of every grid point, the best of them, the exact optimum, and the source's weights.

    The axes start at 0 and the grid at .10: an optimum outside the grid is seen to be outside.
    """
    field = details.get("landscape")
    if not field:
        return None
    fitted = result["weights"]
    best = fitted["grid"]
    exact = {row["signal"]: row["estimate"] for row in fitted["values"]}
    # The first row and column are never renormalised: they hold the coordinates of the grid.
    xs = [w[0][0] for w in field["weights"]]
    ys = [w[1] for w in field["weights"][0]]
    half = (xs[1] - xs[0]) / 2
    with house_style():
        figure = canvas(5.25)
        axes = place(figure, 0.62, 1.3, 0.95, 0.12)
        r = [[row[j] for row in field["r"]] for j in range(len(ys))]
        mesh = axes.pcolormesh(xs, ys, r, shading="nearest", cmap=smooth("cividis"), linewidth=0)
        _hatch(axes, xs, ys, field["renormalised"], half)
        _mark(axes, best["best"]["decay"], best["best"]["surprise"], "o", "best of the grid")
        _mark(axes, exact["decay"], exact["surprise"], "*", "exact optimum")
        _mark(axes, OPTIMAL[0], OPTIMAL[1], "D", "source's “optimal”")
        _mark(axes, INTUITIVE[0], INTUITIVE[1], "s", "source's “intuitive”")
        axes.set(xlim=(-0.02, xs[-1] + half), ylim=(-0.02, ys[-1] + half), aspect="equal")
        axes.set(xlabel="weight of decay", ylabel="weight of surprise")
        axes.tick_params(length=0, labelcolor=QUIET)
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0.0), labelspacing=0.6)
        bar = figure.colorbar(mesh, cax=figure.add_axes((0.85, 0.27, 0.022, 0.65)))
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.tick_params(length=0, labelcolor=QUIET)
        bar.ax.set_title("r", fontsize=9, loc="left")
        return to_picture(
            figure,
            name="landscape",
            title=f"The landscape of the {best['configurations']} configurations",
            caption=_caption(result, exact),
            alt=f"Heat map of r over the weights of decay and surprise. {_found(result, exact)}",
        )


def _mark(axes: Axes, x: float, y: float, marker: str, label: str) -> None:
    hollow, size = marker in "os", 14 if marker == "*" else 7.5
    axes.plot(
        x, y, marker, markersize=size, color=VERMILLION, zorder=4, label=label,
        markerfacecolor="white" if hollow else VERMILLION, markeredgewidth=1.6 if hollow else 0.8,
        markeredgecolor=VERMILLION if hollow else "white", linestyle="none", clip_on=False,
    )  # fmt: skip


def _hatch(
    axes: Axes, xs: list[float], ys: list[float], renormalised: list[list[bool]], half: float
) -> None:
    """Stripes over the renormalised cells, and a patch out of sight that names them."""
    cells = [
        (x - half, y - half)
        for x, row in zip(xs, renormalised, strict=True)
        for y, marked in zip(ys, row, strict=True)
        if marked
    ]
    stripes: dict[str, Any] = {"hatch": "////", "edgecolor": "white", "linewidth": 0}
    for corner in cells:
        axes.add_patch(Rectangle(corner, 2 * half, 2 * half, fill=False, **stripes))
    if cells:
        label = "sums beyond 1, renormalised"
        axes.add_patch(Rectangle((9, 9), 1, 1, facecolor=INK, label=label, **stripes))


def _found(result: dict[str, Any], exact: dict[str, float]) -> str:
    fitted = result["weights"]
    best = fitted["grid"]
    return (
        f"Best of the grid: r {numbers.decimal(best['best_r'], 4)} at decay "
        f"{numbers.decimal(best['best']['decay'], 2)}, surprise "
        f"{numbers.decimal(best['best']['surprise'], 2)}. Exact optimum: r "
        f"{numbers.decimal(fitted['r'], 4)} at decay {numbers.decimal(exact['decay'])}, surprise "
        f"{numbers.decimal(exact['surprise'])}."
    )


def _caption(result: dict[str, Any], exact: dict[str, float]) -> str:
    best = result["weights"]["grid"]
    return (
        f"{data_line(result)} Each cell is one configuration; what decay and surprise leave is "
        f"split 2:1 between relevance and habituation, as the source has it. "
        f"{best['renormalised']} cells (hatched) would sum beyond 1 and were divided by their "
        f"sum. {_found(result, exact)} The exact optimum shares the rest freely, so it need not "
        "lie on the grid. Values are estimates on all conversations, without intervals."
    )
