"""The look that all figures share, and the way from a figure to an SVG that can live in a page.

Text stays text (in the reader's own font), nothing depends on the time, and every id carries the
figure's name, so that several can stand in one page. Sizes are in inches at 72 points; a page
shows a figure about 1.4 times as large.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for the common kinds of colour blindness.
BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
)
INK, QUIET, RULE, PAPER = "#1f2933", "#5b6672", "#d9dee4", "#ffffff"
WIDTH = 5.4
FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": "#eceff2",
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "leray",
}

_OURS = {
    *("axes", "figure", "font", "grid", "hatch", "image", "legend", "lines", "markers", "patch"),
    *("path", "savefig", "svg", "text", "xtick", "ytick"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A finished figure.

    Args:
        name: Of its file, and the prefix of its ids; letters and hyphens.
        title: A few words.
        caption: What is drawn, from which data, n, and the kind and level of the intervals.
        alt: What a person who cannot see it should know.
        svg: A complete SVG document, without the XML declaration.
        png: The same in pixels, where it was asked for.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes = b""


def house_style() -> AbstractContextManager[None]:
    """The settings of every figure, in force while one is made; a person's own have no say."""
    ours: Any = {k: v for k, v in mpl.rcParamsDefault.items() if k.partition(".")[0] in _OURS}
    return mpl.rc_context(ours | _RC)


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def place(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with these margins, in inches, inside the figure."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )


def bare(axes: Axes, *, grid: str = "x") -> None:
    """No ticks and no left edge; quiet lines along one direction."""
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis=grid)  # pyright: ignore[reportArgumentType]


def smooth(name: str) -> Colormap:
    """A colour map in so few steps that its bar is drawn with lines, not as an embedded image."""
    return mpl.colormaps[name].resampled(48)


def to_picture(
    figure: Figure, *, name: str, title: str, caption: str, alt: str, pixels: bool = False
) -> Picture:
    """The figure as an SVG that a screen reader can name; call it inside `house_style`.

    Args:
        pixels: As a PNG too.
    """
    out, raster = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings():
        # The reader's own font draws the text: what the measuring font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", metadata=nothing)
        if pixels:
            about = {"Software": None, "Title": title, "Description": alt}
            figure.savefig(raster, format="png", dpi=200, metadata=about)
    svg = _self_contained(out.getvalue(), name, title, alt)
    png = raster.getvalue()
    return Picture(name=name, title=title, caption=caption, alt=alt, svg=svg, png=png)


def note(figure: Figure, text: str, *, left: float = 0.12, bottom: float = 0.1) -> None:
    """A caption on the figure itself, for one that leaves its page; lines as :func:`lines` cuts."""
    width, height = figure.get_size_inches()
    shown = lines(_NOT_XML.sub("\ufffd", text), width - 2 * left)
    figure.text(left / width, bottom / height, shown, color=QUIET,
                size=7.5, va="bottom", linespacing=1.35)  # fmt: skip


def lines(text: str, width: float) -> str:
    """Words in lines that fit into ``width`` inches at the size of a note."""
    return "\n".join(textwrap.wrap(text, max(20, int(width / 0.056))))


_ID = re.compile(r'\bid="([^"]+)"')
_LINK = re.compile(r'(xlink:href="|url\()#([^")]+)')
_HEAD = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
_UNWANTED = re.compile(
    r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>\s*|<defs>\s*</defs>\s*", re.DOTALL
)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _self_contained(svg: str, name: str, title: str, alt: str) -> str:
    """No global style, no metadata, ids of its own, a title and a description."""
    head = _HEAD.match(svg)
    assert head is not None, "matplotlib writes an <svg> with a viewBox"
    body = _UNWANTED.sub("", svg[head.end() :])
    body = _ID.sub(rf'id="{name}-\1"', body)
    body = _LINK.sub(rf"\1#{name}-\2", body)
    body = re.sub(r"'?DejaVu Sans'?", FONT_STACK, body)
    width, height = head.group(1).split()[2:]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{head.group(1)}" width="{width}pt" height="{height}pt" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" stroke-linejoin="round" '
        f'stroke-linecap="butt"><title id="{name}-title">{xml_text(title)}</title>'
        f'<desc id="{name}-desc">{xml_text(alt)}</desc>{body.rstrip()}\n'
    )


def xml_text(text: str) -> str:
    """Text as XML may hold it: escaped, and without the characters that XML forbids."""
    return escape(_NOT_XML.sub("\ufffd", text))
