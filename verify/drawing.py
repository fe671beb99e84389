"""How a picture looks, and how a figure becomes SVG text that is the same on every machine.

Inline pictures draw lines and letters in ``currentColor``, so that they follow a page's light or
dark theme; stand-alone ones have a white ground. The series colours are mid-tones, for both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK = "#010203"  # stands for currentColor until the SVG is written
GREY = "#8a8f98"
COLORS = {
    "plain": "#d9662b",
    "affine-like": "#3b82c4",
    "norm-like": "#2a9d72",
    "unit-gauge": "#3b82c4",
    "matrix-gauge": "#3b82c4",
    "value-mix": "#2a9d72",
    "LayerNorm": "#a35fb5",
    "BatchNorm": "#c2a02a",
}
MARKERS = {
    "plain": "o",
    "affine-like": "s",
    "norm-like": "^",
    "unit-gauge": "s",
    "matrix-gauge": "s",
    "value-mix": "^",
    "LayerNorm": "D",
    "BatchNorm": "v",
}
# So few levels that a colour bar is drawn as rectangles: the bytes of a bitmap differ by machine.
LEVELS = 48
SMALL_TO_LARGE = LinearSegmentedColormap.from_list(
    "size", ["#3b82c4", "#9a7bb0", "#d9662b"], N=LEVELS
)

STYLE = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.color": GREY,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}


@contextmanager
def styled(name: str) -> Iterator[None]:
    """Matplotlib's settings for one picture; ``name`` seeds the ids within its SVG."""
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]):
        yield


def panels(count: int, width: float = 3.4, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A row of axes; sizes in inches."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, count, squeeze=False)
    return figure, list(axes[0])


def svg(figure: Figure, name: str, title: str, *, inline: bool = True) -> str:
    """A figure as SVG text without dates, versions or hosts.

    Args:
        figure: What was drawn, within :func:`styled`.
        name: Prefix of every id, so that pictures can share a page.
        title: What a reader who cannot see the picture is told.
        inline: Transparent and in ``currentColor`` for a page; else white for a file.
    """
    stream = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    ground = "none" if inline else "white"
    figure.savefig(stream, format="svg", metadata=metadata, facecolor=ground)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{name}-", text)
    text = text.replace(INK, "currentColor" if inline else "#1f2328")
    opening, rest = text.split(">", 1)
    return f'{opening} role="img" aria-label="{title}">\n <title>{title}</title>{rest}'
